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

static void product(const struct op_args *a, size_t row, size_t rows, const void *bias)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features,
                 size = cpu_half(a) ? sizeof(uint16_t) : sizeof(float);
    if (rows > 0)
        cpu_gemm(&(struct gemm){ .m = rows,
                                 .n = out,
                                 .k = in,
                                 .a = as_is((const char *)a->in[0] + row * in * size, in),
                                 .b = weight(a, true),
                                 .c = (char *)a->out[0] + row * out * size,
                                 .ldc = out,
                                 .bias = bias,
                                 .half = cpu_half(a),
                                 .half_b = a->weights == IR_BF16,
                                 .few = a->generates });
}

struct rows {
    size_t first, count;
};

/* Rows that the bias acts on: where each device has some columns of W, those of its own tokens. */
static struct rows bias_rows(const struct op_args *a)
{
    if (!a->positions || a->positions->split != IR_COLUMNS_OF_W)
        return (struct rows){ 0, cpu_rows(a) };
    const struct ir_run own = op_own_rows(a, (uint32_t)cpu_rows(a));
    return (struct rows){ own.first, own.count };
}

void cpu_linear_f(const struct op_args *a)
{
    const struct rows own = bias_rows(a);
    const size_t rows = cpu_rows(a), end = own.first + own.count;
    if (!(a->attrs->flags & IR_BIAS)) {
        product(a, 0, rows, NULL);
        return;
    }
    product(a, 0, own.first, NULL);
    product(a, own.first, own.count, a->param[1]);
    product(a, end, rows - end, NULL);
}

void cpu_linear_bi(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features;
    cpu_gemm(&(struct gemm){ .m = cpu_rows(a),
                             .n = in,
                             .k = out,
                             .a = as_is(a->dout[0], out),
                             .b = weight(a, false),
                             .c = a->din[0],
                             .ldc = in,
                             .start = a->acc[0],
                             .half = cpu_half(a) });
}

/* Adds up the strip's columns as bfloat16: widened in the runs of rows that norm_params() adds up by itself. */
static void sum_narrow(const struct vec *v, const uint16_t *dy, struct vec_strip s)
{
    enum { RUN = 128 };
    float wide[RUN * VEC_STRIP];
    const size_t rows = s.rows, ld = s.ld;
    s.dy = wide;
    s.ld = VEC_STRIP;
    for (size_t r = 0; r < rows; r += RUN) {
        s.rows = rows - r < RUN ? rows - r : RUN;
        for (size_t i = 0; i < s.rows; i++)
            v->widen(wide + i * VEC_STRIP, dy + (r + i) * ld, s.width);
        v->norm_params(&s);
        s.add_db = 1;
    }
}

void cpu_column_sums(const void *dy, bool half, size_t rows, size_t n, float *db, bool add)
{
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, n))
    for (size_t j = 0; j < n; j += VEC_STRIP) {
        const struct vec_strip s = { .dy = half ? NULL : (const float *)dy + j,
                                     .db = db + j,
                                     .rows = rows,
                                     .ld = n,
                                     .width = n - j < VEC_STRIP ? n - j : VEC_STRIP,
                                     .add_db = add };
        if (half)
            sum_narrow(v, (const uint16_t *)dy + j, s);
        else
            v->norm_params(&s);
    }
}

void cpu_linear_bw(const struct op_args *a)
{
    const size_t in = a->attrs->in_features, out = a->attrs->out_features;
    const bool transposed = (a->attrs->flags & IR_TRANSPOSED) != 0;
    const void *x = a->in[0], *dy = a->dout[0];
    cpu_gemm(&(struct gemm){ .m = transposed ? in : out,
                             .n = transposed ? out : in,
                             .k = cpu_rows(a),
                             .a = transposed ? turned(x, in) : turned(dy, out),
                             .b = transposed ? as_is(dy, out) : as_is(x, in),
                             .c = a->dparam[0],
                             .ldc = transposed ? out : in,
                             .start = a->dparam_add & 1 ? a->dparam[0] : NULL,
                             .half = cpu_half(a),
                             .wide = true,
                             .far = true });
    if (a->attrs->flags & IR_BIAS) {
        const struct rows own = bias_rows(a);
        const size_t size = cpu_half(a) ? sizeof(uint16_t) : sizeof(float);
        cpu_column_sums((const char *)dy + own.first * out * size, cpu_half(a), own.count, out, a->dparam[1],
                        a->dparam_add & 2);
    }
}
