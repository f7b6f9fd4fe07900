/* y = x W' + bias; W is (out,in), or (in,out) when transposed. */
#include "cpu/blas.h"
#include "cpu/cpu.h"

void cpu_linear_f(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features;
    const int turned = (a->attrs->flags & IR_TRANSPOSED) != 0;
    cpu_gemm(&(struct gemm){ .ta = 'N', .tb = turned ? 'N' : 'T', .m = cpu_rows(a), .n = out, .k = in,
                             .a = a->in[0], .lda = in, .b = a->param[0], .ldb = turned ? out : in,
                             .c = a->out[0], .ldc = out, .bias = a->attrs->flags & IR_BIAS ? a->param[1] : NULL });
}

void cpu_linear_bi(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features;
    const int turned = (a->attrs->flags & IR_TRANSPOSED) != 0;
    cpu_gemm(&(struct gemm){ .ta = 'N', .tb = turned ? 'T' : 'N', .m = cpu_rows(a), .n = in, .k = out,
                             .a = a->dout[0], .lda = out, .b = a->param[0], .ldb = turned ? out : in,
                             .c = a->din[0], .ldc = in, .start = a->acc[0] });
}

static void bias_grad(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = a->attrs->out_features, rows = cpu_rows(a);
    const float *dy = a->dout[0];
    float *db = a->dparam[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows * n))
    for (size_t j = 0; j < n; j += VEC_STRIP) {
        const struct vec_strip s = { .dy = dy + j, .db = db + j, .rows = rows, .ld = n,
                                     .width = n - j < VEC_STRIP ? n - j : VEC_STRIP, .add_db = a->dparam_add >> 1 & 1 };
        v->norm_params(&s);
    }
}

void cpu_linear_bw(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features;
    const int turned = (a->attrs->flags & IR_TRANSPOSED) != 0;
    float *dw = a->dparam[0];
    cpu_gemm(&(struct gemm){ .ta = 'T', .tb = 'N', .m = turned ? in : out, .n = turned ? out : in, .k = cpu_rows(a),
                             .a = turned ? a->in[0] : a->dout[0], .lda = turned ? in : out,
                             .b = turned ? a->dout[0] : a->in[0], .ldb = turned ? out : in,
                             .c = dw, .ldc = turned ? out : in, .start = a->dparam_add & 1 ? dw : NULL });
    if (a->attrs->flags & IR_BIAS)
        bias_grad(a);
}
