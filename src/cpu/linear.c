/* y = x W' + bias; W is (out,in), or (in,out) when transposed. */
#include "cpu/blas.h"
#include "cpu/cpu.h"

/* W' (in,out), or W itself (out,in), however it is stored. */
static struct matrix weight(const struct op_args *a, bool transpose)
{
    const bool stored_transposed = (a->attrs->flags & IR_TRANSPOSED) != 0;
    const size_t ld = stored_transposed ? a->attrs->out_features : a->attrs->in_features;
    return (struct matrix){ a->param[0], ld, transpose != stored_transposed };
}

void cpu_linear_f(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features;
    const float *bias = a->attrs->flags & IR_BIAS ? a->param[1] : NULL;
    cpu_gemm(&(struct gemm){ cpu_rows(a), out, in, as_is(a->in[0], in), weight(a, true), a->out[0], out, NULL, bias });
}

void cpu_linear_bi(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features;
    cpu_gemm(&(struct gemm){ cpu_rows(a), in, out, as_is(a->dout[0], out), weight(a, false), a->din[0], in, a->acc[0],
                             NULL });
}

static void bias_grad(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = a->attrs->out_features, rows = cpu_rows(a);
    const float *dy = a->dout[0];
    float *db = a->dparam[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, n))
    for (size_t j = 0; j < n; j += VEC_STRIP) {
        const struct vec_strip s = { .dy = dy + j,
                                     .db = db + j,
                                     .rows = rows,
                                     .ld = n,
                                     .width = n - j < VEC_STRIP ? n - j : VEC_STRIP,
                                     .add_db = a->dparam_add >> 1 & 1 };
        v->norm_params(&s);
    }
}

void cpu_linear_bw(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features, rows = cpu_rows(a);
    float *dw = a->dparam[0];
    const float *start = a->dparam_add & 1 ? dw : NULL;
    if (a->attrs->flags & IR_TRANSPOSED)
        cpu_gemm(&(struct gemm){ in, out, rows, turned(a->in[0], in), as_is(a->dout[0], out), dw, out, start, NULL });
    else
        cpu_gemm(&(struct gemm){ out, in, rows, turned(a->dout[0], out), as_is(a->in[0], in), dw, in, start, NULL });
    if (a->attrs->flags & IR_BIAS)
        bias_grad(a);
}
