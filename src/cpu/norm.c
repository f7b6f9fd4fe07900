/* LayerNorm and RMSNorm. Ba, Kiros, Hinton 2016; Zhang, Sennrich 2019. Statistics are float32. */
#include "cpu/cpu.h"

void cpu_layernorm_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const float *x = a->in[0];
    float *y = a->out[0], *mean = a->save[0], *rstd = a->save[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        float stat[2];
        v->layernorm(y + r * c, x + r * c, a->param[0], a->param[1], c, a->attrs->eps, stat);
        if (mean && rstd) {
            mean[r] = stat[0];
            rstd[r] = stat[1];
        }
    }
}

void cpu_layernorm_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const float *x = a->in[0], *dy = a->dout[0], *acc = a->acc[0], *mean = a->save[0], *rstd = a->save[1];
    float *dx = a->din[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * c;
        const float stat[2] = { mean[r], rstd[r] };
        v->layernorm_grad(dx + i, acc ? acc + i : NULL, x + i, a->param[0], dy + i, c, stat);
    }
}

/* All strips of columns of a norm over `rows` groups of `width`. */
static void norm_params(const struct op_args *a, size_t rows, const float *mean, const float *rstd, float *db)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features;
    const float *x = a->in[0], *dy = a->dout[0];
    float *dw = a->dparam[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t j = 0; j < c; j += VEC_STRIP) {
        const struct vec_strip s = { .x = x + j,
                                     .dy = dy + j,
                                     .mean = mean,
                                     .rstd = rstd,
                                     .dw = dw + j,
                                     .db = db ? db + j : NULL,
                                     .rows = rows,
                                     .ld = c,
                                     .width = c - j < VEC_STRIP ? c - j : VEC_STRIP,
                                     .add_dw = a->dparam_add & 1,
                                     .add_db = a->dparam_add >> 1 & 1 };
        v->norm_params(&s);
    }
}

void cpu_layernorm_bw(const struct op_args *a)
{
    norm_params(a, cpu_rows(a), a->save[0], a->save[1], a->dparam[1]);
}

/* A row holds one group, or one for each head. */
void cpu_rmsnorm_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a) * ir_op_norm_groups(a->attrs);
    const float *x = a->in[0];
    float *y = a->out[0], *rstd = a->save[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        float s;
        v->rmsnorm(y + r * c, x + r * c, a->param[0], c, a->attrs->eps, &s);
        if (rstd)
            rstd[r] = s;
    }
}

void cpu_rmsnorm_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a) * ir_op_norm_groups(a->attrs);
    const float *x = a->in[0], *dy = a->dout[0], *acc = a->acc[0], *rstd = a->save[0];
    float *dx = a->din[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * c;
        v->rmsnorm_grad(dx + i, acc ? acc + i : NULL, x + i, a->param[0], dy + i, c, rstd[r]);
    }
}

void cpu_rmsnorm_bw(const struct op_args *a)
{
    norm_params(a, cpu_rows(a) * ir_op_norm_groups(a->attrs), NULL, a->save[0], NULL);
}
