/* Output head and cross-entropy in one: the logits turn into their gradient in place.
 *
 * work of F: the loss of each row (rows) float64; then, when not training, a slice of logits in float32, because nobody wants
 * all of them: HEAD_ROWS rows by HEAD_COLUMNS words at a time, with a running log-sum-exp. In training bfloat16 logits are
 * rounded before the loss, as on a device.
 *
 * Where the words are split, phase 0 makes the logits of the words that are here, and of each row three numbers: struct told; phase 1 has
 * those of all parts. */
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

static float gradient_scale(const struct op_args *a)
{
    return (float)(a->weight ? a->loss_scale * *a->weight : a->loss_scale);
}

static bool shaped(const struct ir_attrs *at)
{
    return at->flags & IR_BIAS || at->scale > 0 || at->score_cap > 0;
}

enum { PIECE = CPU_HEAD_COLUMNS };

/* n logits from word j on, of products: with bias, scale and bound. slope: the derivative of the bound, or NULL. */
static void shape(const struct op_args *a, float *z, float *slope, size_t j, size_t n)
{
    const struct vec *v = cpu_vec();
    const struct ir_attrs *at = a->attrs;
    float wide[PIECE];
    if (at->flags & IR_BIAS && cpu_half(a))
        v->widen(wide, (const uint16_t *)a->param[1] + j, n);
    if (at->flags & IR_BIAS)
        v->add(z, z, cpu_half(a) ? wide : (const float *)a->param[1] + j, n);
    if (at->scale > 0)
        v->scale(z, at->scale, z, n);
    if (at->score_cap > 0)
        v->cap(z, slope, at->score_cap, n);
}

/* Logits j.. of a row of products, in float32. */
static void load(const struct op_args *a, float *z, float *slope, const void *row, size_t j, size_t n)
{
    if (cpu_half(a))
        cpu_vec()->widen(z, (const uint16_t *)row + j, n);
    else
        memcpy(z, (const float *)row + j, n * sizeof *z);
    if (shaped(a->attrs))
        shape(a, z, slope, j, n);
}

static void store(const struct op_args *a, void *row, const float *z, size_t j, size_t n)
{
    if (cpu_half(a))
        cpu_vec()->round((uint16_t *)row + j, z, n);
    else
        memcpy((float *)row + j, z, n * sizeof *z);
}

/* A row of products in the job's type, a piece in float32 at a time. target: among the words here, or none of them. */
static struct running row_numbers(const struct op_args *a, const void *row, size_t words, int32_t target)
{
    const struct vec *v = cpu_vec();
    float z[PIECE];
    struct running run = { 0 };
    for (size_t j = 0; j < words; j += PIECE) {
        const size_t n = words - j < PIECE ? words - j : PIECE;
        load(a, z, NULL, row, j, n);
        run_slice(v, &run, z, j, n, target);
    }
    return run;
}

/* The row becomes the gradient. run: of all words, wherever they are. */
static void row_gradient(const struct op_args *a, void *row, size_t words, int32_t target, struct running run)
{
    const struct vec *v = cpu_vec();
    const struct ir_attrs *at = a->attrs;
    const float scale = gradient_scale(a), by = at->scale > 0 ? at->scale : 1;
    float z[PIECE], slope[PIECE];
    for (size_t j = 0; j < words; j += PIECE) {
        const size_t n = words - j < PIECE ? words - j : PIECE;
        load(a, z, slope, row, j, n);
        v->exp_sum(z, z, run.max, n);
        v->scale(z, (float)(scale / run.sum), z, n);
        if (target >= 0 && (size_t)target >= j && (size_t)target < j + n)
            z[(size_t)target - j] -= scale;
        for (size_t i = 0; at->score_cap > 0 && i < n; i++)
            z[i] *= slope[i];
        if (by != 1)
            v->scale(z, by, z, n);
        store(a, row, z, j, n);
    }
}

static double cross_entropy(struct running run)
{
    return log(run.sum) + run.max - run.at_target;
}

/* Logits [from, to) of a row are 0. */
static void clear(const struct op_args *a, void *row, size_t from, size_t to)
{
    const size_t size = cpu_half(a) ? sizeof(uint16_t) : sizeof(float);
    memset((char *)row + from * size, 0, (to - from) * size);
}

/* row_loss() in pieces: everything but the loss is computed twice. */
static double row_loss_pieces(const struct op_args *a, void *row, int32_t target)
{
    const size_t words = a->attrs->vocab;
    if (target < 0) {
        clear(a, row, 0, words);
        return 0;
    }
    const struct running run = row_numbers(a, row, words, target);
    row_gradient(a, row, words, target, run);
    return cross_entropy(run);
}

/* Logits of `rows` rows of x for n words of w, rows n apart; not to be kept they are float32. */
static void product(const struct op_args *a, const void *x, size_t rows, const void *w, size_t n, void *logits)
{
    const size_t c = a->attrs->features;
    cpu_gemm(&(struct gemm){ .m = rows,
                             .n = n,
                             .k = c,
                             .a = as_is(x, c),
                             .b = turned(w, c),
                             .c = logits,
                             .ldc = n,
                             .half = cpu_half(a),
                             .half_b = a->weights == IR_BF16,
                             .few = a->generates,
                             .wide = !a->train });
}

static void train_losses(const struct op_args *a, double *loss)
{
    const struct vec *v = cpu_vec();
    const size_t n = a->attrs->vocab, rows = cpu_rows(a);
    const int32_t *target = a->in[1];
    const float scale = gradient_scale(a);
    product(a, a->in[0], rows, a->param[0], n, a->save[0]);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, n))
    for (size_t r = 0; r < rows; r++)
        loss[r] = cpu_half(a)        ? row_loss_pieces(a, (uint16_t *)a->save[0] + r * n, target[r])
                  : shaped(a->attrs) ? row_loss_pieces(a, (float *)a->save[0] + r * n, target[r])
                                     : row_loss(v, (float *)a->save[0] + r * n, n, target[r], scale);
}

/* The words here: their number, and where a target is among them. */
static int32_t target_here(const struct op_args *a, size_t r, struct ir_run words)
{
    const int32_t target = ((const int32_t *)a->in[1])[r];
    const uint32_t at = (uint32_t)target - words.first;
    return target >= 0 && at < words.count ? (int32_t)at : -1;
}

/* Of m rows from r0 on; no logits stay. */
static void slice_numbers(const struct op_args *a, size_t r0, size_t m, float *slice, struct running *run)
{
    const struct vec *v = cpu_vec();
    const struct ir_run words = op_words(a);
    const size_t c = a->attrs->features, size = cpu_half(a) ? sizeof(uint16_t) : sizeof(float), n = words.count;
    const char *x = a->in[0], *w = a->param[0];
    for (size_t r = 0; r < m; r++)
        run[r].at_target = 0;
    for (size_t j0 = 0; j0 < n; j0 += CPU_HEAD_COLUMNS) {
        const size_t nj = n - j0 < CPU_HEAD_COLUMNS ? n - j0 : CPU_HEAD_COLUMNS;
        product(a, x + r0 * c * size, m, w + j0 * c * size, nj, slice);
#pragma omp parallel for schedule(static) num_threads(cpu_team(m, nj))
        for (size_t r = 0; r < m; r++) {
            if (shaped(a->attrs))
                shape(a, slice + r * nj, NULL, j0, nj);
            run_slice(v, &run[r], slice + r * nj, j0, nj, target_here(a, r0 + r, words));
        }
    }
}

static void eval_losses(const struct op_args *a, double *loss, float *slice)
{
    const size_t rows = cpu_rows(a);
    const int32_t *target = a->in[1];
    struct running run[CPU_HEAD_ROWS];
    for (size_t r0 = 0; r0 < rows; r0 += CPU_HEAD_ROWS) {
        const size_t m = rows - r0 < CPU_HEAD_ROWS ? rows - r0 : CPU_HEAD_ROWS;
        slice_numbers(a, r0, m, slice, run);
        for (size_t r = 0; r < m; r++)
            loss[r0 + r] = target[r0 + r] < 0 ? 0 : cross_entropy(run[r]);
    }
}

/* ---- split words -------------------------------------------------------------------------------------------------- */

/* What a part tells of a row: save[1] is (parts, rows) of it. */
struct told {
    float max, sum, at_target;
};

static struct told tell(struct running run)
{
    return (struct told){ run.max, (float)run.sum, run.at_target };
}

/* Phase 0. */
static void tell_words(const struct op_args *a, float *slice)
{
    const struct ir_run words = op_words(a);
    const size_t n = a->attrs->vocab, rows = cpu_rows(a), size = cpu_half(a) ? sizeof(uint16_t) : sizeof(float);
    struct told *own = (struct told *)a->save[1] + a->positions->part * rows;
    struct running run[CPU_HEAD_ROWS];
    if (a->train) {
        product(a, a->in[0], rows, a->param[0], n, a->save[0]);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, n))
        for (size_t r = 0; r < rows; r++)
            own[r] = tell(row_numbers(a, (char *)a->save[0] + r * n * size, words.count, target_here(a, r, words)));
        return;
    }
    for (size_t r0 = 0; r0 < rows; r0 += CPU_HEAD_ROWS) {
        const size_t m = rows - r0 < CPU_HEAD_ROWS ? rows - r0 : CPU_HEAD_ROWS;
        slice_numbers(a, r0, m, slice, run);
        for (size_t r = 0; r < m; r++)
            own[r0 + r] = tell(run[r]);
    }
}

/* What all parts told of row r, in their order. */
static struct running heard(const struct op_args *a, size_t r)
{
    const size_t rows = cpu_rows(a), parts = a->positions->parts;
    const struct told *told = (const struct told *)a->save[1] + r;
    struct running all = { .max = told->max };
    for (size_t p = 1; p < parts; p++)
        all.max = told[p * rows].max > all.max ? told[p * rows].max : all.max;
    for (size_t p = 0; p < parts; p++) {
        all.sum += (double)told[p * rows].sum * exp((double)told[p * rows].max - (double)all.max);
        all.at_target += told[p * rows].at_target;
    }
    return all;
}

/* Phase 1: the gradient of all rows, the loss of those whose tokens are here. */
static void hear_words(const struct op_args *a, double *loss)
{
    const struct ir_run words = op_words(a);
    const size_t n = a->attrs->vocab, rows = cpu_rows(a), size = cpu_half(a) ? sizeof(uint16_t) : sizeof(float);
    const struct ir_run own = op_own_rows(a, (uint32_t)rows);
    const int32_t *target = a->in[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, n))
    for (size_t r = 0; r < rows; r++) {
        const struct running run = heard(a, r);
        const bool counts = target[r] >= 0, mine = r >= own.first && r < own.first + own.count;
        loss[r] = counts && mine ? cross_entropy(run) : 0;
        if (!a->train)
            continue;
        char *row = (char *)a->save[0] + r * n * size;
        if (counts)
            row_gradient(a, row, words.count, target_here(a, r, words), run);
        clear(a, row, counts ? words.count : 0, n); /* padding */
    }
}

static void split_losses(const struct op_args *a, double *loss, float *slice)
{
    if (a->phase == 0)
        tell_words(a, slice);
    else
        hear_words(a, loss);
}

/* Logits that are asked for: all of them. */
static void all_logits(const struct op_args *a)
{
    const size_t rows = cpu_rows(a), n = a->attrs->vocab;
    product(a, a->in[0], rows, a->param[0], n, a->logits);
    for (size_t r = 0; r < rows && shaped(a->attrs); r++)
        for (size_t j = 0; j < n; j += PIECE)
            shape(a, a->logits + r * n + j, NULL, j, n - j < PIECE ? n - j : PIECE);
}

void cpu_head_loss_f(const struct op_args *a)
{
    const size_t rows = cpu_rows(a);
    if (a->logits) {
        all_logits(a);
        return;
    }
    double *loss = a->work, sum = 0;
    float *slice = (float *)((char *)a->work + round_up(rows * sizeof *loss, 64));
    const bool split = a->positions && a->positions->split == IR_WORDS;
    if (split)
        split_losses(a, loss, slice);
    else if (a->train)
        train_losses(a, loss);
    else
        eval_losses(a, loss, slice);
    if (split && a->phase == 0)
        return;
    for (size_t r = 0; r < rows; r++)
        sum += loss[r];
    a->scalars[SCALAR_LOSS] += sum;
}

void cpu_head_loss_bi(const struct op_args *a)
{
    const size_t c = a->attrs->features, n = a->attrs->vocab;
    cpu_gemm(&(struct gemm){ .m = cpu_rows(a),
                             .n = c,
                             .k = n,
                             .a = as_is(a->save[0], n),
                             .b = as_is(a->param[0], c),
                             .c = a->din[0],
                             .ldc = c,
                             .start = a->acc[0],
                             .half = cpu_half(a) });
}

void cpu_head_loss_bw(const struct op_args *a)
{
    const size_t c = a->attrs->features, n = a->attrs->vocab;
    cpu_gemm(&(struct gemm){ .m = n,
                             .n = c,
                             .k = cpu_rows(a),
                             .a = turned(a->save[0], n),
                             .b = as_is(a->in[0], c),
                             .c = a->dparam[0],
                             .ldc = c,
                             .start = a->dparam_add & 1 ? a->dparam[0] : NULL,
                             .half = cpu_half(a),
                             .wide = true,
                             .far = true });
    if (a->attrs->flags & IR_BIAS)
        cpu_column_sums(a->save[0], cpu_half(a), cpu_rows(a), n, a->dparam[1], a->dparam_add & 2);
}
