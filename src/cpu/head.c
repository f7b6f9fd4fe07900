/* Output head and cross-entropy in one: the logits turn into their gradient in place.
 *
 * work of F: the loss of each row (rows) float64; then, when not training, a slice of logits, because nobody wants all
 * of them: HEAD_ROWS rows by HEAD_COLUMNS words at a time, with a running log-sum-exp. */
#include <math.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"
#include "ir/target_cpu.h"

/* Row r of logits (V) becomes the gradient of its cross-entropy times scale; returns the cross-entropy. */
static double row_loss(const struct vec *v, float *logits, size_t n, int32_t target, float scale)
{
    if (target < 0) {
        memset(logits, 0, n * sizeof *logits);
        return 0;
    }
    const float most = v->max(logits, n), at_target = logits[target];
    const double sum = v->exp_sum(logits, logits, most, n);
    v->scale(logits, (float)(scale / sum), logits, n);
    logits[target] -= scale;
    return log(sum) + most - at_target;
}

static void train_losses(const struct op_args *a, double *loss)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, n = a->attrs->vocab, rows = cpu_rows(a);
    const int32_t *target = a->in[1];
    float *logits = a->save[0];
    cpu_gemm(&(struct gemm){ rows, n, c, as_is(a->in[0], c), turned(a->param[0], c), logits, n, NULL, NULL });
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, n))
    for (size_t r = 0; r < rows; r++)
        loss[r] = row_loss(v, logits + r * n, n, target[r], (float)a->loss_scale);
}

/* What is known of a row after some slices: maximum, sum of exponentials against it, the target's logit. */
struct running {
    double sum;
    float max, at_target;
};

static void run_slice(const struct vec *v, struct running *run, const float *logits, size_t j0, size_t n,
                      int32_t target)
{
    const float here = v->max(logits, n), most = j0 > 0 && run->max > here ? run->max : here;
    const double before = j0 > 0 ? run->sum * exp((double)run->max - most) : 0;
    run->sum = before + v->sum_exp(logits, most, n);
    run->max = most;
    if (target >= 0 && (size_t)target >= j0 && (size_t)target < j0 + n)
        run->at_target = logits[(size_t)target - j0];
}

static void eval_losses(const struct op_args *a, double *loss, float *slice)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, n = a->attrs->vocab, rows = cpu_rows(a);
    const float *x = a->in[0], *w = a->param[0];
    const int32_t *target = a->in[1];
    struct running run[CPU_HEAD_ROWS];
    for (size_t r0 = 0; r0 < rows; r0 += CPU_HEAD_ROWS) {
        const size_t m = rows - r0 < CPU_HEAD_ROWS ? rows - r0 : CPU_HEAD_ROWS;
        for (size_t j0 = 0; j0 < n; j0 += CPU_HEAD_COLUMNS) {
            const size_t nj = n - j0 < CPU_HEAD_COLUMNS ? n - j0 : CPU_HEAD_COLUMNS;
            cpu_gemm(&(struct gemm){ m, nj, c, as_is(x + r0 * c, c), turned(w + j0 * c, c), slice, nj, NULL, NULL });
#pragma omp parallel for schedule(static) num_threads(cpu_team(m, nj))
            for (size_t r = 0; r < m; r++)
                run_slice(v, &run[r], slice + r * nj, j0, nj, target[r0 + r]);
        }
        for (size_t r = 0; r < m; r++)
            loss[r0 + r] = target[r0 + r] < 0 ? 0 : log(run[r].sum) + run[r].max - run[r].at_target;
    }
}

void cpu_head_loss_f(const struct op_args *a)
{
    const size_t rows = cpu_rows(a);
    double *loss = a->work, sum = 0;
    if (a->train)
        train_losses(a, loss);
    else
        eval_losses(a, loss, (float *)((char *)a->work + round_up(rows * sizeof *loss, 64)));
    for (size_t r = 0; r < rows; r++)
        sum += loss[r];
    a->scalars[SCALAR_LOSS] += sum;
}

void cpu_head_loss_bi(const struct op_args *a)
{
    const size_t c = a->attrs->features, n = a->attrs->vocab;
    cpu_gemm(&(struct gemm){ cpu_rows(a), c, n, as_is(a->save[0], n), as_is(a->param[0], c), a->din[0], c, a->acc[0],
                             NULL });
}

void cpu_head_loss_bw(const struct op_args *a)
{
    const size_t c = a->attrs->features, n = a->attrs->vocab;
    float *dw = a->dparam[0];
    cpu_gemm(&(struct gemm){ n, c, cpu_rows(a), turned(a->save[0], n), as_is(a->in[0], c), dw, c,
                             a->dparam_add & 1 ? dw : NULL, NULL });
}
