/* y = x W' + bias; W is (out,in), or (in,out) when transposed. The bias is added in the product; weight gradients accumulate in
 * it, in float32. GELU on either side of it may be its epilogue: the library's is the tanh form, like ours, of sums that
 * are not rounded before. */
#include "cuda/cuda.h"
#include "cuda/libs_private.h"
#include "ir/target_cuda.h"

/* W' (in,out), or W itself (out,in), however it is stored. */
static struct cuda_matrix weight(const struct op_args *a, bool transpose)
{
    const bool stored_transposed = (a->attrs->flags & IR_TRANSPOSED) != 0;
    const uint64_t ld = stored_transposed ? a->attrs->out_features : a->attrs->in_features;
    return (struct cuda_matrix){ .at = a->param[0], .ld = ld, .turned = transpose != stored_transposed };
}

/* The bias acts on the rows of the device's own tokens alone. */
static bool some_rows(const struct op_args *a)
{
    return a->positions && a->positions->split == IR_COLUMNS_OF_W;
}

static struct cuda_matmul forward(const struct op_args *a)
{
    struct cuda_matmul p = cuda__product_of(a, IR_OP_LINEAR, IR_PASS_F);
    p.m = cuda__rows(a);
    p.n = p.ldc = a->attrs->out_features;
    p.k = a->attrs->in_features;
    p.a = (struct cuda_matrix){ .at = a->in[0], .ld = p.k };
    p.b = weight(a, true);
    p.c = a->out[0];
    p.bias = a->attrs->flags & IR_BIAS ? a->param[1] : NULL;
    if (p.bias && some_rows(a)) { /* the product is added to what bias_rows() puts there */
        p.bias = NULL;
        p.start = p.c;
    }
    return p;
}

static void bias_rows(const struct op_args *a)
{
    if (a->attrs->flags & IR_BIAS && some_rows(a))
        cuda_bias_rows(&(struct cuda_bias_rows){ .y = a->out[0],
                                                 .bias = a->param[1],
                                                 .rows = cuda__rows(a),
                                                 .biased = op_own_rows(a, (uint32_t)cuda__rows(a)),
                                                 .width = a->attrs->out_features,
                                                 .compute = a->compute,
                                                 .stream = a->stream });
}

static struct cuda_matmul inputs(const struct op_args *a)
{
    struct cuda_matmul p = cuda__product_of(a, IR_OP_LINEAR, IR_PASS_BI);
    p.m = cuda__rows(a);
    p.n = p.ldc = a->attrs->in_features;
    p.k = a->attrs->out_features;
    p.a = (struct cuda_matrix){ .at = a->dout[0], .ld = p.k };
    p.b = weight(a, false);
    p.c = a->din[0];
    p.start = a->acc[0];
    return p;
}

static void weights(const struct op_args *a, struct cuda__products *to)
{
    const uint64_t in = a->attrs->in_features, out = a->attrs->out_features;
    const struct cuda_matrix x = { .at = a->in[0], .ld = in }, dy = { .at = a->dout[0], .ld = out };
    const bool transposed = (a->attrs->flags & IR_TRANSPOSED) != 0;
    struct cuda_matmul p = cuda__product_of(a, IR_OP_LINEAR, IR_PASS_BW);
    p.m = transposed ? in : out;
    p.n = p.ldc = transposed ? out : in;
    p.k = cuda__rows(a);
    p.a = transposed ? x : dy;
    p.a.turned = true;
    p.b = transposed ? dy : x;
    p.c = a->dparam[0];
    p.start = a->dparam_add & 1 ? p.c : NULL;
    p.out = IR_F32;
    cuda__product(to, &p);
    if (!(a->attrs->flags & IR_BIAS) || to->prepare)
        return;
    const uint64_t row = out * ir_dtype_size(IR_COMPUTE, (enum ir_dtype)a->compute);
    const struct ir_run own = some_rows(a) ? op_own_rows(a, (uint32_t)cuda__rows(a)) : (struct ir_run){ 0, 0 };
    cuda_column_sums(&(struct cuda_columns){ .dy = (const char *)a->dout[0] + own.first * row,
                                             .db = a->dparam[1],
                                             .add_db = a->dparam_add >> 1 & 1,
                                             .rows = some_rows(a) ? own.count : cuda__rows(a),
                                             .width = (uint32_t)out,
                                             .compute = a->compute,
                                             .work = cuda__work_after(a, IR_OP_LINEAR, IR_PASS_BW),
                                             .stream = a->stream });
}

void cuda__linear(const struct op_args *a, enum ir_pass pass, struct cuda__products *to)
{
    if (pass == IR_PASS_BW) {
        weights(a, to);
        return;
    }
    if (pass == IR_PASS_F && !to->prepare)
        bias_rows(a);
    const struct cuda_matmul p = pass == IR_PASS_F ? forward(a) : inputs(a);
    cuda__product(to, &p);
}

static struct cuda_matmul with_gelu(const struct op_args *linear, const struct op_args *gelu)
{
    struct cuda_matmul p = forward(linear);
    p.epilogue = CUDA_GELU;
    p.aux = p.c;
    p.c = gelu->out[0];
    return p;
}

/* The gradient that is not written leaves its memory to the product. */
static struct cuda_matmul with_gelu_grad(const struct op_args *linear, const struct op_args *gelu)
{
    struct cuda_matmul p = inputs(linear);
    p.epilogue = CUDA_GELU_GRAD;
    p.aux = gelu->in[0];
    p.c = gelu->din[0];
    if (!linear->work) {
        p.work = linear->din[0];
        p.work_bytes = p.m * p.n * ir_dtype_size(IR_COMPUTE, p.type);
    }
    return p;
}

bool cuda__linear_gelu_pays(const struct op_args *linear, const struct op_args *gelu, enum ir_pass pass, void *work)
{
    const bool f = pass == IR_PASS_F;
    struct op_args apart = *linear;
    apart.work = work;
    const struct cuda_matmul plain = f ? forward(&apart) : inputs(&apart);
    const struct cuda_matmul p = f ? with_gelu(linear, gelu) : with_gelu_grad(linear, gelu);
    return cuda_matmul_pays(&p, &plain, f ? cuda_act_f : cuda_act_bi, gelu);
}

void cuda_linear_gelu_f(const struct op_args *linear, const struct op_args *gelu)
{
    const struct cuda_matmul p = with_gelu(linear, gelu);
    cuda_matmul(&p);
}

void cuda_linear_gelu_bi(const struct op_args *linear, const struct op_args *gelu)
{
    const struct cuda_matmul p = with_gelu_grad(linear, gelu);
    cuda_matmul(&p);
}

void cuda_linear_f(const struct op_args *a)
{
    cuda__linear(a, IR_PASS_F, &(struct cuda__products){ 0 });
}

void cuda_linear_bi(const struct op_args *a)
{
    cuda__linear(a, IR_PASS_BI, &(struct cuda__products){ 0 });
}

void cuda_linear_bw(const struct op_args *a)
{
    cuda__linear(a, IR_PASS_BW, &(struct cuda__products){ 0 });
}
