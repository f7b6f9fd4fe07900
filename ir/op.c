/* The operator table: one row each, and the questions that other modules ask of it. Shapes and equations: ir/op.h. */
#include "ir/op.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Bit of ir_op_info.attrs, field of struct ir_attrs, type: the one list of attributes. New ones come last: files have the order. */
/* clang-format off */
#define ATTRIBUTES(X) \
    X(A_IN, in_features, 'u') X(A_OUT, out_features, 'u') X(A_FEATURES, features, 'u') X(A_HEADS, heads, 'u') \
    X(A_KV_HEADS, kv_heads, 'u') X(A_HEAD_DIM, head_dim, 'u') X(A_VOCAB, vocab, 'u') X(A_POSITIONS, positions, 'u') \
    X(A_EXPERTS, experts, 'u') X(A_TOP_K, top_k, 'u') X(A_CAPACITY, capacity, 'u') X(A_FFN, ffn, 'u') \
    X(A_FLAGS, flags, 'u') X(A_EPS, eps, 'f') X(A_THETA, theta, 'f') X(A_SCALE, scale, 'f') X(A_AUX, aux_coef, 'f') \
    X(A_V_HEAD_DIM, v_head_dim, 'u') X(A_WINDOW, window, 'u') X(A_SCORE_CAP, score_cap, 'f') \
    X(A_ROTARY_DIM, rotary_dim, 'u') X(A_ROTARY_OFFSET, rotary_offset, 'u') X(A_ACT, act, 'a') \
    X(A_CLAMP, clamp, 'f') X(A_ALPHA, alpha, 'f') X(A_GROUPS, groups, 'u') X(A_TOP_GROUPS, top_groups, 'u') \
    X(A_Z, z_coef, 'f') X(A_FIRST, first_position, 'u')
/* clang-format on */
enum {
#define NUMBER(bit, field, type) bit##_NUMBER,
    ATTRIBUTES(NUMBER)
#undef NUMBER
};
enum {
#define BIT(bit, field, type) bit = 1 << bit##_NUMBER,
    ATTRIBUTES(BIT)
#undef BIT
};
const struct ir_attr_info ir_attr_info[IR_ATTR_COUNT] = {
#define INFO(bit, field, type) { #field, offsetof(struct ir_attrs, field), type },
    ATTRIBUTES(INFO)
#undef INFO
};
_Static_assert(sizeof(struct ir_attrs) == (sizeof(void *) + 4 * IR_ATTR_COUNT + 7) / 8 * 8,
               "a field of struct ir_attrs has no row in ir_attr_info");

enum { A_ROUTED = A_FEATURES | A_EXPERTS | A_TOP_K | A_CAPACITY, A_GATED = A_ACT | A_CLAMP | A_ALPHA | A_FLAGS };

const char *const ir_act_names[IR_ACT_COUNT + 1] = { "silu", "gelu", "gelu_tanh", "relu", "relu2", "sigmoid", NULL };

static const char *const pass_names[IR_PASS_COUNT + 1] = { "F", "B", "BI", "BW", "-" };

const char *ir_pass_name(enum ir_pass pass)
{
    return (unsigned)pass <= IR_PASS_NONE ? pass_names[pass] : "?";
}

/* ---- element types and shapes --------------------------------------------------------------------------------- */

uint32_t ir_dtype_size(enum ir_dtype t, enum ir_dtype compute)
{
    switch (t == IR_COMPUTE ? compute : t) {
    case IR_BF16:
        return 2;
    case IR_F64:
        return 8;
    case IR_BYTE:
        return 1;
    default:
        return 4;
    }
}

const char *ir_dtype_name(enum ir_dtype t)
{
    static const char *const names[] = { "compute", "float32", "int32", "bfloat16", "float64", "byte" };
    return (unsigned)t <= IR_BYTE ? names[t] : "?";
}

uint64_t ir_shape_elements(const struct ir_shape *s)
{
    uint64_t n = s->ndim ? 1 : 0;
    for (uint32_t i = 0; i < s->ndim; i++)
        n *= s->dim[i];
    return n;
}

bool ir_shape_same(const struct ir_shape *a, const struct ir_shape *b)
{
    if (a->dtype != b->dtype || a->ndim != b->ndim)
        return false;
    for (uint32_t i = 0; i < a->ndim; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

const char *ir_shape_text(const struct ir_shape *s, char text[IR_SHAPE_TEXT])
{
    size_t n = (size_t)snprintf(text, IR_SHAPE_TEXT, "(");
    for (uint32_t i = 0; i < s->ndim && i < 3; i++)
        n += (size_t)snprintf(text + n, IR_SHAPE_TEXT - n, "%s%u", i ? "," : "", s->dim[i]);
    snprintf(text + n, IR_SHAPE_TEXT - n, ") %s", ir_dtype_name((enum ir_dtype)s->dtype));
    return text;
}

static struct ir_shape shape1(enum ir_dtype t, uint32_t a)
{
    return (struct ir_shape){ (uint8_t)t, 1, { a, 0, 0 } };
}

static struct ir_shape shape2(enum ir_dtype t, uint32_t a, uint32_t b)
{
    return (struct ir_shape){ (uint8_t)t, 2, { a, b, 0 } };
}

static struct ir_shape shape3(enum ir_dtype t, uint32_t a, uint32_t b, uint32_t c)
{
    return (struct ir_shape){ (uint8_t)t, 3, { a, b, c } };
}

static struct ir_shape shape_document(const struct ir_attrs *a, uint32_t t)
{
    return a->flags & IR_DOCUMENTS ? shape1(IR_I32, t) : (struct ir_shape){ 0 };
}

/* Expert rows per sequence. */
static uint32_t routed_rows(const struct ir_attrs *a, uint32_t t)
{
    return a->capacity ? a->experts * a->capacity : t * a->top_k;
}

uint32_t ir_op_norm_groups(const struct ir_attrs *a)
{
    return a->heads ? a->heads : 1;
}

uint32_t ir_op_logit_columns(const struct ir_attrs *a)
{
    return a->vocab <= 128 ? a->vocab : (a->vocab + 127) / 128 * 128;
}

static void shapes_embed(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = shape1(IR_I32, t);
    s->out[0] = shape2(IR_COMPUTE, t, a->features);
    s->param[0] = shape2(IR_COMPUTE, a->vocab, a->features);
}

static void shapes_pos_embed(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = s->out[0] = shape2(IR_COMPUTE, t, a->features);
    s->in[1] = shape_document(a, t);
    s->param[0] = shape2(IR_COMPUTE, a->positions, a->features);
}

static void shapes_layernorm(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    const uint32_t groups = ir_op_norm_groups(a), params = ir_op_params(IR_OP_LAYERNORM, a);
    s->in[0] = s->out[0] = shape2(IR_COMPUTE, t, groups * a->features);
    for (uint32_t i = 0; i < params; i++)
        s->param[i] = a->flags & IR_PER_HEAD ? shape2(IR_COMPUTE, groups, a->features)
                                             : shape1(IR_COMPUTE, a->features);
    s->save[0] = s->save[1] = shape2(IR_F32, t, groups);
}

static void shapes_rmsnorm(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    uint32_t groups = ir_op_norm_groups(a);
    s->in[0] = s->out[0] = shape2(IR_COMPUTE, t, groups * a->features);
    s->param[0] = shape1(IR_COMPUTE, a->features);
    s->save[0] = shape2(IR_F32, t, groups);
}

static void shapes_linear(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = shape2(IR_COMPUTE, t, a->in_features);
    s->out[0] = shape2(IR_COMPUTE, t, a->out_features);
    s->param[0] = a->flags & IR_TRANSPOSED ? shape2(IR_COMPUTE, a->in_features, a->out_features)
                                           : shape2(IR_COMPUTE, a->out_features, a->in_features);
    if (a->flags & IR_BIAS)
        s->param[1] = shape1(IR_COMPUTE, a->out_features);
}

static void shapes_rope(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = s->out[0] = shape2(IR_COMPUTE, t, a->heads * a->head_dim);
}

static void shapes_attention(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    const uint32_t q = a->heads * a->head_dim, k = a->kv_heads * a->head_dim, v = a->kv_heads * ir_op_v_dim(a);
    if (a->flags & IR_PACKED) {
        s->in[0] = shape2(IR_COMPUTE, t, q + k + v);
        s->in[1] = shape_document(a, t);
    } else {
        s->in[0] = shape2(IR_COMPUTE, t, q);
        s->in[1] = shape2(IR_COMPUTE, t, k);
        s->in[2] = shape2(IR_COMPUTE, t, v);
        s->in[3] = shape_document(a, t);
    }
    s->out[0] = shape2(IR_COMPUTE, t, a->heads * ir_op_v_dim(a));
    s->save[0] = shape2(IR_F32, a->heads, t);
    if (a->flags & IR_SINKS)
        s->param[0] = shape1(IR_COMPUTE, a->heads);
}

static void shapes_gelu(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = s->out[0] = shape2(IR_COMPUTE, t, a->features);
}

static void shapes_two_to_one(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = s->in[1] = s->out[0] = shape2(IR_COMPUTE, t, a->features);
}

static void shapes_row_gate(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = s->out[0] = shape2(IR_COMPUTE, t, a->features);
    s->in[1] = shape2(IR_COMPUTE, t, 1);
}

static void shapes_join_heads(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = shape2(IR_COMPUTE, t, a->heads * (a->head_dim - a->rotary_dim));
    s->in[1] = shape2(IR_COMPUTE, t, a->rotary_dim);
    s->out[0] = shape2(IR_COMPUTE, t, a->heads * a->head_dim);
}

static void shapes_router(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = shape2(IR_COMPUTE, t, a->features);
    s->out[0] = shape2(IR_F32, t, a->top_k);
    s->out[1] = shape2(IR_I32, t, a->top_k);
    s->param[0] = shape2(ir_op_param_type(IR_OP_ROUTER, a, 0), a->experts, a->features);
    for (uint32_t i = 1; i < ir_op_params(IR_OP_ROUTER, a); i++)
        s->param[i] = shape1(ir_op_param_type(IR_OP_ROUTER, a, i), a->experts);
    s->stash[0] = shape2(IR_F32, t, a->experts);
    s->save[0] = shape2(IR_F32, t, a->z_coef > 0 ? 2 * a->experts : a->experts);
}

static void shapes_dispatch(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = shape2(IR_COMPUTE, t, a->features);
    s->in[1] = shape2(IR_I32, t, a->top_k);
    s->out[0] = shape2(IR_COMPUTE, routed_rows(a, t), a->features);
    s->out[1] = shape2(IR_I32, t, a->top_k);
    s->out[2] = shape1(IR_I32, a->experts);
}

static void shapes_experts(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    uint32_t rows = routed_rows(a, t);
    s->in[0] = s->out[0] = shape2(IR_COMPUTE, rows, a->features);
    s->in[1] = shape1(IR_I32, a->experts);
    s->param[0] = s->param[1] = shape3(IR_COMPUTE, a->experts, a->ffn, a->features);
    s->param[2] = shape3(IR_COMPUTE, a->experts, a->features, a->ffn);
    if (a->flags & IR_BIAS) {
        s->param[3] = s->param[4] = shape2(IR_COMPUTE, a->experts, a->ffn);
        s->param[5] = shape2(IR_COMPUTE, a->experts, a->features);
    }
    s->save[0] = s->save[1] = s->stash[0] = s->stash[1] = shape2(IR_COMPUTE, rows, a->ffn);
}

static void shapes_combine(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = shape2(IR_COMPUTE, routed_rows(a, t), a->features);
    s->in[1] = shape2(IR_I32, t, a->top_k);
    s->in[2] = shape2(IR_F32, t, a->top_k);
    s->out[0] = shape2(IR_COMPUTE, t, a->features);
}

static void shapes_head_loss(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    s->in[0] = shape2(IR_COMPUTE, t, a->features);
    s->in[1] = shape1(IR_I32, t);
    s->param[0] = shape2(IR_COMPUTE, a->vocab, a->features);
    if (a->flags & IR_BIAS)
        s->param[1] = shape1(IR_COMPUTE, a->vocab);
    s->save[0] = shape2(IR_COMPUTE, t, ir_op_logit_columns(a));
}

static void shapes_any(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    (void)a;
    (void)t;
    (void)s; /* of the operands */
}

/* ---- floating-point operations -------------------------------------------------------------------------------- */

/* Elementwise kernels: operations per element, an estimate (exp, tanh, rsqrt count as a few). */
static double per_element(double elements, enum ir_pass kernel, double f, double bi, double bw)
{
    return elements * (kernel == IR_PASS_F ? f : kernel == IR_PASS_BI ? bi : bw);
}

static double flops_embed(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features, kernel, 0, 0, 1);
}

static double flops_pos_embed(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features, kernel, 1, 0, 1);
}

static double flops_norm(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features * ir_op_norm_groups(a), kernel, 7, 11, 4);
}

static double flops_linear(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    double bias = a->flags & IR_BIAS && kernel != IR_PASS_BI ? b * t * a->out_features : 0;
    return 2 * b * t * a->in_features * a->out_features + bias;
}

static double flops_rope(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->heads * ir_op_rotary(a), kernel, 3, 3, 0);
}

double ir_op_attention_pairs(const struct ir_attrs *a, double t)
{
    const double w = a->window && a->window < t ? a->window : t;
    return w * (t - w / 2);
}

/* 2 products forward; backward 5, the scores once more among them. */
static double flops_attention(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    const double pairs = 2 * b * a->heads * ir_op_attention_pairs(a, t), d = a->head_dim, dv = ir_op_v_dim(a);
    return kernel == IR_PASS_F ? pairs * (d + dv) : kernel == IR_PASS_BI ? pairs * (3 * d + 2 * dv) : 0;
}

static double flops_gelu(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features, kernel, 10, 16, 0);
}

static double flops_swiglu(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features, kernel, 6, 12, 0);
}

static double flops_add(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features, kernel, 1, 0, 0);
}

static double flops_scale(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features, kernel, 1, 1, 0);
}

static double flops_row_gate(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->features, kernel, 1, 3, 0);
}

static double flops_join_heads(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->heads * a->rotary_dim, kernel, 0, 1, 0);
}

static double flops_router(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return 2 * b * t * a->features * a->experts +
           per_element(b * t * a->experts, kernel, 6.0 + a->top_k, 6.0 + a->top_k, a->flags & IR_BIAS ? 1 : 0);
}

static double flops_dispatch(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->top_k * a->features, kernel, 0, 1, 0);
}

/* Three products in every kernel, on all planned rows. */
static double flops_experts(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    double rows = b * (a->capacity ? (double)a->experts * a->capacity : t * a->top_k);
    const double bias = a->flags & IR_BIAS && kernel != IR_PASS_BI ? rows * (2.0 * a->ffn + a->features) : 0;
    return 6 * rows * a->features * a->ffn + per_element(rows * a->ffn, kernel, 6, 12, 6) + bias;
}

static double flops_combine(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    return per_element(b * t * a->top_k * a->features, kernel, 2, 3, 0);
}

static double flops_head_loss(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    const double bias = a->flags & IR_BIAS ? 1 : 0, bound = a->score_cap > 0 ? 10 : 0;
    return 2 * b * t * a->features * a->vocab + per_element(b * t * a->vocab, kernel, 8 + bias + bound, 0, bias);
}

static double flops_none(const struct ir_attrs *a, enum ir_pass kernel, double b, double t)
{
    (void)a;
    (void)kernel;
    (void)b;
    (void)t;
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

/* clang-format off */
const struct ir_op_info ir_op_info[IR_OP_COUNT] = {
    [IR_OP_EMBED] = { .name = "embed", .n_in = 1, .n_out = 1, .n_param = 1,
                      .bw_reads = IR_IN(0) | IR_DOUT(0),
                      .attrs = A_VOCAB | A_FEATURES, .shapes = shapes_embed, .flops = flops_embed },
    [IR_OP_POS_EMBED] = { .name = "pos_embed", .n_in = 1, .n_out = 1, .n_param = 1, .grad_in = 1, .alias_in = 1,
                          .bw_reads = IR_IN(1) | IR_DOUT(0),
                          .attrs = A_POSITIONS | A_FEATURES | A_FIRST, .shapes = shapes_pos_embed, .flops = flops_pos_embed },
    [IR_OP_LAYERNORM] = { .name = "layernorm", .n_in = 1, .n_out = 1, .n_param = 2, .n_save = 2, .grad_in = 1,
                          .bi_reads = IR_IN(0) | IR_SAVE(0) | IR_SAVE(1) | IR_PARAM(0),
                          .bw_reads = IR_IN(0) | IR_SAVE(0) | IR_SAVE(1) | IR_DOUT(0),
                              .attrs = A_FEATURES | A_HEADS | A_FLAGS | A_EPS, .shapes = shapes_layernorm, .flops = flops_norm },
    [IR_OP_RMSNORM] = { .name = "rmsnorm", .n_in = 1, .n_out = 1, .n_param = 1, .n_save = 1, .grad_in = 1,
                        .bi_reads = IR_IN(0) | IR_SAVE(0) | IR_PARAM(0),
                        .bw_reads = IR_IN(0) | IR_SAVE(0) | IR_DOUT(0),
                        .attrs = A_FEATURES | A_HEADS | A_FLAGS | A_EPS, .shapes = shapes_rmsnorm, .flops = flops_norm },
    [IR_OP_LINEAR] = { .name = "linear", .n_in = 1, .n_out = 1, .n_param = 2, .grad_in = 1,
                       .bi_reads = IR_PARAM(0), .bw_reads = IR_IN(0) | IR_DOUT(0),
                       .attrs = A_IN | A_OUT | A_FLAGS, .shapes = shapes_linear, .flops = flops_linear },
    [IR_OP_ROPE] = { .name = "rope", .n_in = 1, .n_out = 1, .grad_in = 1,
                     .attrs = A_HEADS | A_HEAD_DIM | A_THETA | A_SCALE | A_FLAGS | A_ROTARY_DIM | A_ROTARY_OFFSET,
                     .shapes = shapes_rope, .flops = flops_rope },
    [IR_OP_ATTENTION] = { .name = "attention", .n_in = 3, .n_out = 1, .n_param = 1, .n_save = 1, .grad_in = 7,
                          .bi_reads = IR_IN(0) | IR_IN(1) | IR_IN(2) | IR_IN(3) | IR_OUT(0) | IR_SAVE(0),
                          .bw_reads = IR_OUT(0) | IR_SAVE(0) | IR_DOUT(0) | IR_PARAM(0),
                          .attrs = A_HEADS | A_KV_HEADS | A_HEAD_DIM | A_FLAGS | A_SCALE | A_V_HEAD_DIM | A_WINDOW |
                                   A_SCORE_CAP,
                          .shapes = shapes_attention, .flops = flops_attention },
    [IR_OP_GELU] = { .name = "gelu", .n_in = 1, .n_out = 1, .grad_in = 1, .bi_reads = IR_IN(0),
                     .attrs = A_FEATURES | A_FLAGS, .shapes = shapes_gelu, .flops = flops_gelu },
    [IR_OP_ACT] = { .name = "act", .n_in = 1, .n_out = 1, .grad_in = 1, .bi_reads = IR_IN(0),
                    .attrs = A_FEATURES | A_ACT, .shapes = shapes_gelu, .flops = flops_gelu },
    [IR_OP_SWIGLU] = { .name = "swiglu", .n_in = 2, .n_out = 1, .grad_in = 3, .bi_reads = IR_IN(0) | IR_IN(1),
                       .attrs = A_FEATURES | A_GATED, .shapes = shapes_two_to_one, .flops = flops_swiglu },
    [IR_OP_ADD] = { .name = "add", .n_in = 2, .n_out = 1, .grad_in = 3, .alias_in = 3,
                    .attrs = A_FEATURES, .shapes = shapes_two_to_one, .flops = flops_add },
    [IR_OP_SCALE] = { .name = "scale", .n_in = 1, .n_out = 1, .grad_in = 1,
                      .attrs = A_FEATURES | A_SCALE | A_FLAGS, .shapes = shapes_gelu, .flops = flops_scale },
    [IR_OP_CLAMP] = { .name = "clamp", .n_in = 1, .n_out = 1, .grad_in = 1, .bi_reads = IR_IN(0),
                      .attrs = A_FEATURES | A_CLAMP, .shapes = shapes_gelu, .flops = flops_scale },
    [IR_OP_ROW_GATE] = { .name = "row_gate", .n_in = 2, .n_out = 1, .grad_in = 3, .bi_reads = IR_IN(0) | IR_IN(1),
                         .attrs = A_FEATURES, .shapes = shapes_row_gate, .flops = flops_row_gate },
    [IR_OP_JOIN_HEADS] = { .name = "join_heads", .n_in = 2, .n_out = 1, .grad_in = 3,
                           .attrs = A_HEADS | A_HEAD_DIM | A_ROTARY_DIM,
                           .shapes = shapes_join_heads, .flops = flops_join_heads },
    [IR_OP_ROUTER] = { .name = "router", .n_in = 1, .n_out = 2, .n_param = 3, .n_save = 1, .n_stash = 1, .grad_in = 1,
                       .bi_reads = IR_OUT(1) | IR_SAVE(0) | IR_SAVE(1) | IR_PARAM(0), .bw_reads = IR_IN(0) | IR_STASH(0),
                       .attrs = A_FEATURES | A_EXPERTS | A_TOP_K | A_FLAGS | A_AUX | A_EPS | A_SCALE | A_GROUPS | A_TOP_GROUPS |
                                A_Z,
                       .shapes = shapes_router, .flops = flops_router },
    [IR_OP_DISPATCH] = { .name = "dispatch", .n_in = 2, .n_out = 3, .grad_in = 1, .bi_reads = IR_OUT(1),
                         .attrs = A_ROUTED, .shapes = shapes_dispatch, .flops = flops_dispatch },
    [IR_OP_EXPERTS] = { .name = "experts", .n_in = 2, .n_out = 1, .n_param = 6, .n_save = 2, .n_stash = 2, .grad_in = 1,
                        .bi_reads = IR_IN(1) | IR_PARAM(0) | IR_PARAM(1) | IR_PARAM(2) | IR_SAVE(0) | IR_SAVE(1),
                        .bw_reads = IR_IN(0) | IR_IN(1) | IR_SAVE(0) | IR_SAVE(1) | IR_STASH(0) | IR_STASH(1) |
                                    IR_DOUT(0),
                        .attrs = A_ROUTED | A_FFN | A_GATED, .shapes = shapes_experts, .flops = flops_experts },
    [IR_OP_COMBINE] = { .name = "combine", .n_in = 3, .n_out = 1, .grad_in = 5,
                        .bi_reads = IR_IN(0) | IR_IN(1) | IR_IN(2),
                        .attrs = A_ROUTED, .shapes = shapes_combine, .flops = flops_combine },
    [IR_OP_HEAD_LOSS] = { .name = "head_loss", .n_in = 2, .n_param = 2, .n_save = 1, .grad_in = 1,
                          .bi_reads = IR_PARAM(0) | IR_SAVE(0), .bw_reads = IR_IN(0) | IR_SAVE(0),
                          .attrs = A_FEATURES | A_VOCAB | A_FLAGS | A_SCALE | A_SCORE_CAP, .shapes = shapes_head_loss, .flops = flops_head_loss },
    [IR_OP_SUM] = { .name = "sum", .n_in = 2, .n_out = 1, .shapes = shapes_any, .flops = flops_none },
    [IR_OP_COPY] = { .name = "copy", .n_in = 1, .n_out = 1, .shapes = shapes_any, .flops = flops_none },
    [IR_OP_TO_BLOCKS] = { .name = "to_blocks", .n_in = 1, .n_out = 1, .shapes = shapes_any, .flops = flops_none },
    [IR_OP_FROM_BLOCKS] = { .name = "from_blocks", .n_in = 1, .n_out = 1, .shapes = shapes_any, .flops = flops_none },
};
/* clang-format on */

/* ---- questions ------------------------------------------------------------------------------------------------ */

uint32_t ir_op_inputs(enum ir_op op, const struct ir_attrs *a)
{
    const uint32_t n = op == IR_OP_ATTENTION && a->flags & IR_PACKED ? 1 : ir_op_info[op].n_in;
    return n + (a->flags & IR_DOCUMENTS ? 1 : 0);
}

uint32_t ir_op_params(enum ir_op op, const struct ir_attrs *a)
{
    if (op == IR_OP_LINEAR || op == IR_OP_HEAD_LOSS)
        return a->flags & IR_BIAS ? 2 : 1;
    if (op == IR_OP_LAYERNORM)
        return a->flags & IR_NO_WEIGHT ? 0 : a->flags & IR_NO_BIAS ? 1 : 2;
    if (op == IR_OP_ATTENTION)
        return a->flags & IR_SINKS ? 1 : 0;
    if (op == IR_OP_EXPERTS)
        return a->flags & IR_BIAS ? 6 : 3;
    if (op == IR_OP_ROUTER)
        return 1u + (a->flags & IR_BIAS ? 1 : 0) + (a->flags & IR_SELECT_BIAS ? 1 : 0);
    return ir_op_info[op].n_param;
}

/* A weight of the experts each, and its bias. */
static const struct {
    uint32_t params, reads;
} parts_of_experts[] = {
    { 1u << 0 | 1u << 3, IR_IN(0) | IR_IN(1) | IR_STASH(0) },
    { 1u << 1 | 1u << 4, IR_IN(0) | IR_IN(1) | IR_STASH(1) },
    { 1u << 2 | 1u << 5, IR_IN(1) | IR_SAVE(0) | IR_SAVE(1) | IR_DOUT(0) },
};

uint32_t ir_op_bw_parts(enum ir_op op)
{
    return op == IR_OP_EXPERTS ? sizeof parts_of_experts / sizeof *parts_of_experts : 1;
}

uint32_t ir_op_bw_params(enum ir_op op, const struct ir_attrs *a, uint32_t part)
{
    uint32_t params = 0;
    for (uint32_t i = 0; i < ir_op_params(op, a); i++)
        params |= ir_op_param_is_state(op, a, i) ? 0 : 1u << i;
    return ir_op_bw_parts(op) > 1 ? params & parts_of_experts[part].params : params;
}

uint32_t ir_op_bw_reads(enum ir_op op, uint32_t params)
{
    uint32_t reads = 0;
    if (ir_op_bw_parts(op) == 1)
        return ir_op_info[op].bw_reads;
    for (uint32_t i = 0; i < ir_op_bw_parts(op); i++)
        reads |= params & parts_of_experts[i].params ? parts_of_experts[i].reads : 0;
    return reads;
}

uint32_t ir_attr_bits(const struct ir_attrs *a, uint32_t attr)
{
    uint32_t bits;
    memcpy(&bits, (const char *)a + ir_attr_info[attr].offset, sizeof bits);
    return ir_attr_info[attr].offset == offsetof(struct ir_attrs, flags)
               ? bits & ~(uint32_t)(IR_ROUND_FIRST | IR_FLOAT32 | IR_DOCUMENTS)
               : bits;
}

bool ir_op_param_decays(enum ir_op op, uint32_t i)
{
    if (op == IR_OP_LAYERNORM || op == IR_OP_RMSNORM || op == IR_OP_ATTENTION)
        return false;
    return op == IR_OP_EXPERTS ? i < 3 : i == 0;
}

bool ir_op_param_is_state(enum ir_op op, const struct ir_attrs *a, uint32_t i)
{
    return op == IR_OP_ROUTER && a->flags & IR_SELECT_BIAS && i == ir_op_params(op, a) - 1;
}

enum ir_dtype ir_op_param_type(enum ir_op op, const struct ir_attrs *a, uint32_t i)
{
    const bool weights = op == IR_OP_ROUTER && a->flags & IR_FLOAT32 && i == 0;
    return weights || ir_op_param_is_state(op, a, i) ? IR_F32 : IR_COMPUTE;
}

bool ir_op_has_loss(enum ir_op op, const struct ir_attrs *a)
{
    return op == IR_OP_HEAD_LOSS || (op == IR_OP_ROUTER && (a->aux_coef > 0 || a->z_coef > 0));
}

void ir_op_shapes(enum ir_op op, const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s)
{
    *s = (struct ir_op_shapes){ 0 };
    ir_op_info[op].shapes(a, t, s);
}

bool ir_op_has_kernel(enum ir_op op, enum ir_pass kernel)
{
    const struct ir_op_info *o = &ir_op_info[op];
    switch (kernel) {
    case IR_PASS_F:
        return true;
    case IR_PASS_BI:
        return (o->grad_in & ~o->alias_in) != 0;
    case IR_PASS_BW:
        return o->bw_reads != 0;
    default:
        return false;
    }
}

bool ir_op_runs(enum ir_op op, const struct ir_attrs *a, enum ir_pass kernel)
{
    return ir_op_has_kernel(op, kernel) && (kernel != IR_PASS_BW || ir_op_params(op, a) > 0);
}

enum ir_op ir_op_by_name(const char *name)
{
    for (uint32_t i = 0; i < IR_OP_COUNT; i++)
        if (strcmp(name, ir_op_info[i].name) == 0)
            return (enum ir_op)i;
    return IR_OP_COUNT;
}

static double shape_bytes(const struct ir_shape *s, double b, enum ir_dtype compute)
{
    return b * (double)ir_shape_elements(s) * ir_dtype_size((enum ir_dtype)s->dtype, compute);
}

/* Bytes of the n shapes at s whose bit is set. */
static double group_bytes(const struct ir_shape *s, uint32_t n, uint32_t bits, double b, enum ir_dtype compute)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if (bits >> i & 1)
            sum += shape_bytes(&s[i], b, compute);
    return sum;
}

double ir_op_bytes(enum ir_op op, const struct ir_attrs *a, enum ir_pass kernel, double b, uint32_t t,
                   enum ir_dtype compute)
{
    struct ir_op_shapes s;
    ir_op_shapes(op, a, t, &s);
    for (uint32_t i = 0; i < IR_MAX_PARAM && kernel == IR_PASS_BW; i++)
        if (ir_op_param_is_state(op, a, i)) /* no gradient, and none is read */
            s.param[i].ndim = 0;
    return ir_op_shape_bytes(op, kernel, &s, b, compute);
}

double ir_op_shape_bytes(enum ir_op op, enum ir_pass kernel, const struct ir_op_shapes *shapes, double b,
                         enum ir_dtype compute)
{
    const struct ir_op_info *o = &ir_op_info[op];
    struct ir_op_shapes s = *shapes;
    if (op == IR_OP_EMBED || op == IR_OP_POS_EMBED) /* only the rows in use of the table */
        s.param[0] = shape2(IR_COMPUTE, s.out[0].dim[0], s.out[0].dim[1]);
    const uint32_t all = 0xf, params = (1u << IR_MAX_PARAM) - 1;
    uint32_t reads = kernel == IR_PASS_F    ? IR_IN(0) * all | IR_PARAM(0) * params
                     : kernel == IR_PASS_BI ? o->bi_reads | IR_DOUT(0) * all
                                            : o->bw_reads;
    double sum = group_bytes(s.in, IR_MAX_IN, reads & all, b, compute) +
                 group_bytes(s.out, IR_MAX_OUT, reads >> 4 & all, b, compute) +
                 group_bytes(s.save, IR_MAX_SAVE, reads >> 8 & all, b, compute) +
                 group_bytes(s.stash, IR_MAX_STASH, reads >> 16 & all, b, compute) +
                 group_bytes(s.param, IR_MAX_PARAM, reads >> 20 & params, 1, compute);
    for (uint32_t i = 0; i < IR_MAX_OUT; i++)
        if (reads & IR_DOUT(i) && s.out[i].dtype != IR_I32)
            sum += shape_bytes(&s.out[i], b, compute);
    if (kernel == IR_PASS_F)
        return sum + group_bytes(s.out, IR_MAX_OUT, all, b, compute) +
               group_bytes(s.save, IR_MAX_SAVE, all, b, compute);
    if (kernel == IR_PASS_BI)
        return sum + group_bytes(s.in, IR_MAX_IN, o->grad_in & ~o->alias_in, b, compute) +
               group_bytes(s.stash, IR_MAX_STASH, all, b, compute);
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++) /* gradients are float32 */
        sum += 4.0 * (double)ir_shape_elements(&s.param[i]);
    return sum;
}
