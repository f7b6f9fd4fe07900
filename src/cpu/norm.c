/* LayerNorm and RMSNorm. Ba, Kiros, Hinton 2016; Zhang, Sennrich 2019. Statistics are float32.
 *
 * A row holds one group, or one for each head; group g of all rows has the weights of head g % heads where each head has its
 * own. A row that several devices have (IR_WIDTH) is normed in two phases: in between they tell each other their sums. Where the
 * statistics of a forward are known (no save[1]), it has the second only. */
#include <math.h>

#include "cpu/cpu.h"

static size_t groups_of(const struct op_args *a)
{
    return cpu_rows(a) * ir_op_norm_groups(a->attrs);
}

/* Sets of weights: 1, or a set for each head. */
static size_t sets_of(const struct op_args *a)
{
    return a->attrs->flags & IR_PER_HEAD ? ir_op_norm_groups(a->attrs) : 1;
}

static struct vec_norm norm_of(const struct op_args *a, size_t group)
{
    const float *w = a->param[0], *b = a->param[1];
    const size_t at = group % sets_of(a) * a->attrs->features;
    return (struct vec_norm){ .w = w ? w + at : NULL,
                              .b = b ? b + at : NULL,
                              .plus = a->attrs->flags & IR_ONE_PLUS ? 1.0f : 0.0f,
                              .eps = a->attrs->eps,
                              .round = a->widened && a->attrs->flags & IR_ROUND_FIRST };
}

void cpu_layernorm_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, n = groups_of(a);
    const float *x = a->in[0];
    float *y = a->out[0], *mean = a->save[0], *rstd = a->save[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, c))
    for (size_t g = 0; g < n; g++) {
        const struct vec_norm p = norm_of(a, g);
        float stat[2];
        v->layernorm(y + g * c, x + g * c, &p, c, stat);
        if (mean && rstd) {
            mean[g] = stat[0];
            rstd[g] = stat[1];
        }
    }
}

void cpu_layernorm_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, n = groups_of(a);
    const float *x = a->in[0], *dy = a->dout[0], *acc = a->acc[0], *mean = a->save[0], *rstd = a->save[1];
    float *dx = a->din[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, c))
    for (size_t g = 0; g < n; g++) {
        const size_t i = g * c;
        const float stat[2] = { mean[g], rstd[g] };
        const struct vec_norm p = norm_of(a, g);
        v->layernorm_grad(dx + i, acc ? acc + i : NULL, x + i, &p, dy + i, c, stat);
    }
}

/* All strips of columns, of each set of weights. */
static void norm_params(const struct op_args *a, const float *mean, const float *rstd)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, sets = sets_of(a), rows = groups_of(a) / sets,
                 strips = (c + VEC_STRIP - 1) / VEC_STRIP;
    const float *x = a->in[0], *dy = a->dout[0];
    float *dw = a->dparam[0], *db = a->dparam[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c *sets))
    for (size_t i = 0; i < sets * strips; i++) {
        const size_t set = i / strips, j = i % strips * VEC_STRIP, at = set * c + j;
        const struct vec_strip s = { .x = x + at,
                                     .dy = dy + at,
                                     .mean = mean ? mean + set : NULL,
                                     .rstd = rstd + set,
                                     .every = sets,
                                     .dw = dw + at,
                                     .db = db ? db + at : NULL,
                                     .rows = rows,
                                     .ld = c * sets,
                                     .width = c - j < VEC_STRIP ? c - j : VEC_STRIP,
                                     .add_dw = a->dparam_add & 1,
                                     .add_db = a->dparam_add >> 1 & 1 };
        v->norm_params(&s);
    }
}

void cpu_layernorm_bw(const struct op_args *a)
{
    norm_params(a, a->save[0], a->save[1]);
}

/* ---- a row on several devices -------------------------------------------------------------------------------------- */

static bool shared_rows(const struct op_args *a)
{
    return a->positions && a->positions->split == IR_WIDTH;
}

/* Of each row the sum of what the parts told, in their order. told: (parts, rows). */
static float told_sum(const struct op_args *a, const float *told, size_t r)
{
    const size_t rows = cpu_rows(a), parts = a->positions->parts;
    float sum = 0;
    for (size_t p = 0; p < parts; p++)
        sum += told[p * rows + r];
    return sum;
}

static void shared_rmsnorm_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const struct vec_norm p = norm_of(a, 0);
    const float width = (float)(c * a->positions->parts), *x = a->in[0];
    float *y = a->out[0], *rstd = a->save[0], *told = a->save[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        if (a->phase == 0) {
            told[a->positions->part * rows + r] = v->dot(x + r * c, x + r * c, c);
            continue;
        }
        const float s = told ? 1.0f / sqrtf(told_sum(a, told, r) / width + p.eps) : rstd[r];
        v->rmsnorm_apply(y + r * c, x + r * c, &p, c, s);
        if (rstd && told)
            rstd[r] = s;
    }
}

static void shared_rmsnorm_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const struct vec_norm p = norm_of(a, 0);
    const float width = (float)(c * a->positions->parts), *x = a->in[0], *dy = a->dout[0], *rstd = a->save[0];
    float *dx = a->din[0], *acc = a->acc[0], *told = a->stash[0], *own = told + a->positions->part * rows;
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * c;
        if (a->phase == 0) {
            own[r] = v->rmsnorm_dot(x + i, &p, dy + i, c);
            continue;
        }
        float *const to[2] = { dx + i, acc ? acc + i : NULL };
        v->rmsnorm_grad_apply(to, x + i, &p, dy + i, c,
                              (float[2]){ rstd[r], told_sum(a, told, r) / width * rstd[r] * rstd[r] });
    }
}

/* ---- rmsnorm ------------------------------------------------------------------------------------------------------- */

void cpu_rmsnorm_f(const struct op_args *a)
{
    if (shared_rows(a)) {
        shared_rmsnorm_f(a);
        return;
    }
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, n = groups_of(a);
    const struct vec_norm p = norm_of(a, 0);
    const float *x = a->in[0];
    float *y = a->out[0], *rstd = a->save[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, c))
    for (size_t g = 0; g < n; g++) {
        float s;
        v->rmsnorm(y + g * c, x + g * c, &p, c, &s);
        if (rstd)
            rstd[g] = s;
    }
}

void cpu_rmsnorm_bi(const struct op_args *a)
{
    if (shared_rows(a)) {
        shared_rmsnorm_bi(a);
        return;
    }
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, n = groups_of(a);
    const struct vec_norm p = norm_of(a, 0);
    const float *x = a->in[0], *dy = a->dout[0], *acc = a->acc[0], *rstd = a->save[0];
    float *dx = a->din[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, c))
    for (size_t g = 0; g < n; g++) {
        const size_t i = g * c;
        v->rmsnorm_grad(dx + i, acc ? acc + i : NULL, x + i, &p, dy + i, c, rstd[g]);
    }
}

void cpu_rmsnorm_bw(const struct op_args *a)
{
    norm_params(a, NULL, a->save[0]);
}
