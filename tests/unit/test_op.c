/* The operator table: attributes, shapes, what backward kernels read, work and bytes, targets. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "ir/op.h"
#include "ir/rope.h"
#include "ir/target.h"
#include "tests/unit/data/rope_table.h"
#include "tests/unit/suite.h"

static const float two_freqs[] = { 1, 0.5f };
/* Attributes that are possible, one set per operator of a model graph. */
static const struct ir_attrs good[IR_OP_GRAPH_COUNT] = {
    [IR_OP_EMBED] = { .vocab = 11, .features = 6 },
    [IR_OP_POS_EMBED] = { .positions = 9, .features = 6 },
    [IR_OP_LAYERNORM] = { .features = 6, .heads = 3, .eps = 1e-5f, .flags = IR_PER_HEAD },
    [IR_OP_RMSNORM] = { .features = 4, .heads = 3, .eps = 1e-6f },
    [IR_OP_LINEAR] = { .in_features = 6, .out_features = 10, .flags = IR_BIAS | IR_TRANSPOSED },
    [IR_OP_ROPE] = { .heads = 3, .head_dim = 4, .inv_freq = &(const struct ir_freqs){ 2, two_freqs } },
    [IR_OP_ATTENTION] = { .heads = 6, .kv_heads = 2, .head_dim = 4, .scale = 0.5f, .flags = IR_SINKS },
    [IR_OP_GELU] = { .features = 10, .flags = IR_EXACT },
    [IR_OP_ACT] = { .features = 10, .act = IR_ACT_RELU2 },
    [IR_OP_SWIGLU] = { .features = 10, .clamp = 7, .alpha = 1.702f, .flags = IR_ONE_PLUS },
    [IR_OP_ADD] = { .features = 6 },
    [IR_OP_SCALE] = { .features = 6, .scale = 12, .flags = IR_ROUND_FIRST },
    [IR_OP_CLAMP] = { .features = 6, .clamp = 8 },
    [IR_OP_ROW_GATE] = { .features = 6 },
    [IR_OP_JOIN_HEADS] = { .heads = 3, .head_dim = 10, .rotary_dim = 4 },
    [IR_OP_ROUTER] = { .features = 6,
                       .experts = 6,
                       .top_k = 2,
                       .flags = IR_NORM_TOPK | IR_BIAS | IR_SELECT_BIAS,
                       .scale = 2.5f,
                       .eps = 1e-20f },
    [IR_OP_DISPATCH] = { .features = 6, .experts = 5, .top_k = 2, .capacity = 3 },
    [IR_OP_EXPERTS] = { .features = 6, .experts = 5, .top_k = 2, .ffn = 8, .clamp = 7, .flags = IR_BIAS },
    [IR_OP_COMBINE] = { .features = 6, .experts = 5, .top_k = 2, .capacity = 3 },
    [IR_OP_HEAD_LOSS] = { .features = 6, .vocab = 11, .scale = 0.5f, .score_cap = 30, .flags = IR_BIAS },
};
enum { T = 8 };

static void is_shape(const struct ir_shape *s, enum ir_dtype t, uint32_t a, uint32_t b, uint32_t c)
{
    ck_assert_int_eq(s->dtype, t);
    ck_assert_uint_eq(s->ndim, c ? 3 : b ? 2 : a ? 1 : 0);
    ck_assert_uint_eq(s->dim[0], a);
    ck_assert_uint_eq(s->dim[1], b);
    ck_assert_uint_eq(s->dim[2], c);
}

START_TEST(rows_are_whole)
{
    for (uint32_t i = 0; i < IR_OP_COUNT; i++) {
        const struct ir_op_info *o = &ir_op_info[i];
        ck_assert_ptr_nonnull(o->name);
        ck_assert_int_eq(ir_op_by_name(o->name), i);
        ck_assert(o->shapes && o->flops);
        ck_assert_uint_eq(o->grad_in >> o->n_in, 0);
        ck_assert_uint_eq(o->alias_in & ~o->grad_in, 0);
        ck_assert_uint_eq(o->attrs >> IR_ATTR_COUNT, 0);
        ck_assert(o->n_in <= IR_MAX_IN && o->n_out <= IR_MAX_OUT && o->n_param <= IR_MAX_PARAM);
        ck_assert(o->n_save <= IR_MAX_SAVE && o->n_stash <= IR_MAX_STASH);
        ck_assert(!o->n_param == !o->bw_reads); /* a BW kernel is for parameters */
        ck_assert(!(o->bi_reads && !ir_op_has_kernel((enum ir_op)i, IR_PASS_BI)));
        ck_assert(!o->n_stash || o->bw_reads & IR_STASH(0));
    }
    ck_assert_int_eq(ir_op_by_name("relu"), IR_OP_COUNT);
    ck_assert(ir_act_names[IR_ACT_SIGMOID] && !ir_act_names[IR_ACT_COUNT]);
}
END_TEST

/* Every bit of bi_reads and bw_reads names something that exists. */
START_TEST(reads_exist)
{
    for (uint32_t i = 0; i < IR_OP_GRAPH_COUNT; i++) {
        struct ir_op_shapes s;
        struct ir_attrs a = good[i];
        if (i == IR_OP_ATTENTION || i == IR_OP_POS_EMBED)
            a.flags |= IR_DOCUMENTS;
        ir_op_shapes((enum ir_op)i, &a, T, &s);
        const uint32_t reads = ir_op_info[i].bi_reads | ir_op_info[i].bw_reads;
        for (uint32_t k = 0; k < IR_MAX_IN; k++)
            ck_assert_int_eq(k<ir_op_inputs((enum ir_op)i, &a), s.in[k].ndim> 0);
        for (uint32_t k = 3; k < IR_MAX_PARAM; k++) {
            ck_assert(!(reads & IR_PARAM(k)) || s.param[k].ndim);
            ck_assert_int_eq(k<ir_op_info[i].n_param, s.param[k].ndim> 0);
        }
        for (uint32_t k = 0; k < 3; k++) {
            ck_assert(!(reads & IR_IN(k)) || s.in[k].ndim);
            ck_assert(!(reads & IR_OUT(k)) || s.out[k].ndim);
            ck_assert(!(reads & IR_DOUT(k)) || (s.out[k].ndim && s.out[k].dtype != IR_I32));
            ck_assert(!(reads & IR_PARAM(k)) || s.param[k].ndim);
            const bool told = i == IR_OP_ROUTER && k == 1; /* where sequences are shared: ir/split.h */
            ck_assert(k >= 2 || !(reads & IR_SAVE(k)) || s.save[k].ndim || told);
            ck_assert(k >= 2 || !(reads & IR_STASH(k)) || s.stash[k].ndim);
            ck_assert_int_eq(k<ir_op_info[i].n_out, s.out[k].ndim> 0);
            ck_assert_int_eq(k<ir_op_info[i].n_param, s.param[k].ndim> 0);
            ck_assert(k >= 2 || (k < ir_op_info[i].n_save) == (s.save[k].ndim > 0));
            ck_assert(k >= 2 || (k < ir_op_info[i].n_stash) == (s.stash[k].ndim > 0));
            if (ir_op_info[i].grad_in >> k & 1)
                ck_assert(s.in[k].dtype != IR_I32);
        }
    }
}
END_TEST

START_TEST(kernels)
{
    static const struct {
        enum ir_op op;
        bool bi, bw;
    } want[] = {
        { IR_OP_EMBED, false, true },    { IR_OP_POS_EMBED, false, true },  { IR_OP_LAYERNORM, true, true },
        { IR_OP_RMSNORM, true, true },   { IR_OP_LINEAR, true, true },      { IR_OP_ROPE, true, false },
        { IR_OP_ATTENTION, true, true }, { IR_OP_GELU, true, false },       { IR_OP_SWIGLU, true, false },
        { IR_OP_ACT, true, false },      { IR_OP_SCALE, true, false },      { IR_OP_CLAMP, true, false },
        { IR_OP_ROW_GATE, true, false }, { IR_OP_JOIN_HEADS, true, false }, { IR_OP_ADD, false, false },
        { IR_OP_ROUTER, true, true },    { IR_OP_DISPATCH, true, false },   { IR_OP_EXPERTS, true, true },
        { IR_OP_COMBINE, true, false },  { IR_OP_HEAD_LOSS, true, true },   { IR_OP_SUM, false, false },
        { IR_OP_COPY, false, false },    { IR_OP_TO_BLOCKS, false, false }, { IR_OP_FROM_BLOCKS, false, false },
    };
    ck_assert_uint_eq(sizeof want / sizeof *want, IR_OP_COUNT);
    for (size_t i = 0; i < IR_OP_COUNT; i++) {
        ck_assert(ir_op_has_kernel(want[i].op, IR_PASS_F));
        ck_assert_int_eq(ir_op_has_kernel(want[i].op, IR_PASS_BI), want[i].bi);
        ck_assert_int_eq(ir_op_has_kernel(want[i].op, IR_PASS_BW), want[i].bw);
        ck_assert(!ir_op_has_kernel(want[i].op, IR_PASS_B));
    }
    ck_assert_str_eq(ir_pass_name(IR_PASS_BW), "BW");
    ck_assert_str_eq(ir_pass_name(IR_PASS_NONE), "-");
}
END_TEST

START_TEST(shapes_dense)
{
    struct ir_op_shapes s;
    ir_op_shapes(IR_OP_LINEAR, &good[IR_OP_LINEAR], T, &s);
    is_shape(&s.in[0], IR_COMPUTE, T, 6, 0);
    is_shape(&s.out[0], IR_COMPUTE, T, 10, 0);
    is_shape(&s.param[0], IR_COMPUTE, 6, 10, 0);
    is_shape(&s.param[1], IR_COMPUTE, 10, 0, 0);
    struct ir_attrs plain = { .in_features = 6, .out_features = 10 };
    ir_op_shapes(IR_OP_LINEAR, &plain, T, &s);
    is_shape(&s.param[0], IR_COMPUTE, 10, 6, 0);
    ck_assert_uint_eq(s.param[1].ndim, 0);
    ck_assert_uint_eq(ir_op_params(IR_OP_LINEAR, &plain), 1);
    ck_assert_uint_eq(ir_op_params(IR_OP_LINEAR, &good[IR_OP_LINEAR]), 2);

    ir_op_shapes(IR_OP_ATTENTION, &good[IR_OP_ATTENTION], T, &s);
    is_shape(&s.in[0], IR_COMPUTE, T, 24, 0);
    is_shape(&s.in[2], IR_COMPUTE, T, 8, 0);
    is_shape(&s.save[0], IR_F32, 6, T, 0);
    is_shape(&s.param[0], IR_COMPUTE, 6, 0, 0);
    struct ir_attrs packed = good[IR_OP_ATTENTION];
    packed.flags = IR_PACKED;
    ir_op_shapes(IR_OP_ATTENTION, &packed, T, &s);
    is_shape(&s.in[0], IR_COMPUTE, T, 40, 0);
    ck_assert_uint_eq(s.in[1].ndim, 0);
    ck_assert_uint_eq(ir_op_inputs(IR_OP_ATTENTION, &packed), 1);
    ck_assert_uint_eq(ir_op_params(IR_OP_ATTENTION, &packed), 0);
    ck_assert(!ir_op_runs(IR_OP_ATTENTION, &packed, IR_PASS_BW));
    ck_assert(ir_op_runs(IR_OP_ATTENTION, &good[IR_OP_ATTENTION], IR_PASS_BW));
    packed.v_head_dim = 5;
    ir_op_shapes(IR_OP_ATTENTION, &packed, T, &s);
    is_shape(&s.in[0], IR_COMPUTE, T, 24 + 8 + 10, 0);
    is_shape(&s.out[0], IR_COMPUTE, T, 30, 0);
    ck_assert_uint_eq(ir_op_inputs(IR_OP_ATTENTION, &good[IR_OP_ATTENTION]), 3);

    ir_op_shapes(IR_OP_RMSNORM, &good[IR_OP_RMSNORM], T, &s);
    is_shape(&s.in[0], IR_COMPUTE, T, 12, 0);
    is_shape(&s.param[0], IR_COMPUTE, 4, 0, 0);
    is_shape(&s.save[0], IR_F32, T, 3, 0);
    ir_op_shapes(IR_OP_JOIN_HEADS, &good[IR_OP_JOIN_HEADS], T, &s);
    is_shape(&s.in[0], IR_COMPUTE, T, 18, 0);
    is_shape(&s.in[1], IR_COMPUTE, T, 4, 0);
    is_shape(&s.out[0], IR_COMPUTE, T, 30, 0);
    ir_op_shapes(IR_OP_LAYERNORM, &good[IR_OP_LAYERNORM], T, &s);
    is_shape(&s.in[0], IR_COMPUTE, T, 18, 0);
    is_shape(&s.param[1], IR_COMPUTE, 3, 6, 0);
    is_shape(&s.save[1], IR_F32, T, 3, 0);
    struct ir_attrs bare = { .features = 6, .eps = 1e-5f, .flags = IR_NO_BIAS };
    ir_op_shapes(IR_OP_LAYERNORM, &bare, T, &s);
    is_shape(&s.param[0], IR_COMPUTE, 6, 0, 0);
    ck_assert(!s.param[1].ndim && ir_op_params(IR_OP_LAYERNORM, &bare) == 1);
    bare.flags = IR_NO_WEIGHT;
    ck_assert(ir_op_params(IR_OP_LAYERNORM, &bare) == 0 && !ir_op_runs(IR_OP_LAYERNORM, &bare, IR_PASS_BW));
    ir_op_shapes(IR_OP_HEAD_LOSS, &good[IR_OP_HEAD_LOSS], T, &s);
    is_shape(&s.in[1], IR_I32, T, 0, 0);
    is_shape(&s.param[1], IR_COMPUTE, 11, 0, 0);
    is_shape(&s.save[0], IR_COMPUTE, T, 11, 0);
    ck_assert_uint_eq(ir_op_params(IR_OP_HEAD_LOSS, &(struct ir_attrs){ .features = 6, .vocab = 11 }), 1);
}
END_TEST

/* Parts of BW: each parameter with a gradient is of one, and together they read what BW reads. */
START_TEST(parts_of_weights)
{
    for (uint32_t o = 0; o < IR_OP_GRAPH_COUNT; o++)
        for (uint32_t flags = 0; flags <= IR_BIAS; flags += IR_BIAS) {
            const enum ir_op op = (enum ir_op)o;
            struct ir_attrs a = good[o];
            a.flags = (a.flags & ~(uint32_t)IR_BIAS) | (ir_op_flags(op) & flags);
            uint32_t params = 0, reads = 0, all = 0;
            for (uint32_t i = 0; i < ir_op_params(op, &a); i++)
                all |= ir_op_param_is_state(op, &a, i) ? 0 : 1u << i;
            for (uint32_t part = 0; part < ir_op_bw_parts(op); part++) {
                const uint32_t of = ir_op_bw_params(op, &a, part);
                ck_assert(!(params & of) && (of || !all));
                params |= of;
                reads |= ir_op_bw_reads(op, of);
            }
            ck_assert_uint_eq(params, all);
            ck_assert_uint_eq(reads, ir_op_info[op].bw_reads);
        }
    ck_assert_uint_eq(ir_op_bw_parts(IR_OP_EXPERTS), 3);
    ck_assert_uint_eq(ir_op_bw_reads(IR_OP_EXPERTS, 2), IR_IN(0) | IR_IN(1) | IR_STASH(1));
}
END_TEST

START_TEST(shapes_routed)
{
    struct ir_op_shapes s;
    ir_op_shapes(IR_OP_ROUTER, &good[IR_OP_ROUTER], T, &s);
    is_shape(&s.out[0], IR_F32, T, 2, 0);
    is_shape(&s.out[1], IR_I32, T, 2, 0);
    is_shape(&s.save[0], IR_F32, T, 6, 0);
    is_shape(&s.stash[0], IR_F32, T, 6, 0);
    is_shape(&s.param[0], IR_COMPUTE, 6, 6, 0);
    is_shape(&s.param[2], IR_F32, 6, 0, 0);
    ck_assert_uint_eq(ir_op_params(IR_OP_ROUTER, &(struct ir_attrs){ .flags = IR_SELECT_BIAS }), 2);
    ck_assert_uint_eq(ir_op_params(IR_OP_ROUTER, &(struct ir_attrs){ .flags = IR_SIGMOID }), 1);
    ir_op_shapes(IR_OP_DISPATCH, &good[IR_OP_DISPATCH], T, &s);
    is_shape(&s.out[0], IR_COMPUTE, 15, 6, 0); /* experts * capacity */
    is_shape(&s.out[1], IR_I32, T, 2, 0);
    is_shape(&s.out[2], IR_I32, 5, 0, 0);
    ir_op_shapes(IR_OP_EXPERTS, &good[IR_OP_EXPERTS], T, &s);
    is_shape(&s.in[0], IR_COMPUTE, 16, 6, 0); /* dropless: T * k */
    is_shape(&s.param[0], IR_COMPUTE, 5, 8, 6);
    is_shape(&s.param[2], IR_COMPUTE, 5, 6, 8);
    is_shape(&s.param[4], IR_COMPUTE, 5, 8, 0);
    is_shape(&s.param[5], IR_COMPUTE, 5, 6, 0);
    ck_assert_uint_eq(ir_op_params(IR_OP_EXPERTS, &(struct ir_attrs){ .ffn = 8 }), 3);
    is_shape(&s.save[1], IR_COMPUTE, 16, 8, 0);
    is_shape(&s.stash[0], IR_COMPUTE, 16, 8, 0);
    ir_op_shapes(IR_OP_COMBINE, &good[IR_OP_COMBINE], T, &s);
    is_shape(&s.in[0], IR_COMPUTE, 15, 6, 0);
    is_shape(&s.in[2], IR_F32, T, 2, 0);
}
END_TEST

static void put(struct ir_attrs *a, uint32_t i, uint32_t bits)
{
    memcpy((char *)a + ir_attr_info[i].offset, &bits, 4);
}

/* Every attribute that is used is needed (but the few that may be 0); every one that is not used must be 0. */
START_TEST(attributes_are_checked)
{
    for (uint32_t op = 0; op < IR_OP_GRAPH_COUNT; op++) {
        ck_assert_ptr_null(ir_op_attrs_wrong((enum ir_op)op, &good[op], T));
        ck_assert_ptr_nonnull(ir_op_attrs_wrong((enum ir_op)op, &good[op], 0));
        for (uint32_t i = 0; i < IR_ATTR_COUNT; i++) {
            struct ir_attrs a = good[op];
            bool used = ir_op_info[op].attrs >> i & 1;
            put(&a, i, 0);
            ck_assert_int_eq(ir_op_attrs_wrong((enum ir_op)op, &a, T) == NULL,
                             !used || ir_op_attr_may_be_zero((enum ir_op)op, i));
            put(&a, i, ir_attr_info[i].type == 'f' ? 0x7fc00000u /* NaN */ : UINT32_MAX);
            ck_assert_ptr_nonnull(ir_op_attrs_wrong((enum ir_op)op, &a, T));
            ck_assert(strlen(ir_attr_info[i].name) > 2 && strchr("ufa", ir_attr_info[i].type));
            put(&a, i, ir_attr_info[i].type == 'f' ? 0x3f800000u /* 1.0 */ : 1);
            if (!used)
                ck_assert_ptr_nonnull(ir_op_attrs_wrong((enum ir_op)op, &a, T));
        }
    }
}
END_TEST

START_TEST(attributes_that_do_not_go_together)
{
    struct ir_attrs a = good[IR_OP_ATTENTION];
    a.kv_heads = 4;
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_ATTENTION, &a, T));
    static const float not_numbers[] = { 1, NAN };
    static const struct ir_freqs nan_freqs = { 2, not_numbers };
    const struct ir_attrs rope[] = {
        { .heads = 3, .head_dim = 5, .theta = 10 },
        { .heads = 3, .head_dim = 4 },
        { .heads = 3, .head_dim = 4, .theta = 10, .inv_freq = good[IR_OP_ROPE].inv_freq },
        { .heads = 3, .head_dim = 6, .inv_freq = good[IR_OP_ROPE].inv_freq },
        { .heads = 3, .head_dim = 4, .inv_freq = &nan_freqs },
        { .heads = 3, .head_dim = 6, .theta = 10, .rotary_dim = 3 },
        { .heads = 3, .head_dim = 6, .theta = 10, .rotary_dim = 8 },
        { .heads = 3, .head_dim = 6, .theta = 10, .rotary_dim = 4, .rotary_offset = 3 },
    };
    for (size_t i = 0; i < sizeof rope / sizeof *rope; i++)
        ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_ROPE, &rope[i], T));
    ck_assert_ptr_null(ir_op_attrs_wrong(
        IR_OP_ROPE, &(struct ir_attrs){ .heads = 3, .head_dim = 5, .rotary_dim = 4, .rotary_offset = 1, .theta = 10 },
        T));
    a = good[IR_OP_SWIGLU];
    a.act = IR_ACT_GELU;
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_SWIGLU, &a, T));
    a = good[IR_OP_LINEAR];
    a.inv_freq = good[IR_OP_ROPE].inv_freq;
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_LINEAR, &a, T));
    const struct ir_attrs routers[] = {
        { .features = 6, .experts = 6, .top_k = 7 },
        { .features = 6, .experts = 6, .top_k = 2, .groups = 3 },
        { .features = 6, .experts = 6, .top_k = 2, .top_groups = 3 },
        { .features = 6, .experts = 6, .top_k = 2, .groups = 4, .top_groups = 2 },
        { .features = 6, .experts = 6, .top_k = 2, .groups = 2, .top_groups = 3 },
        { .features = 6, .experts = 6, .top_k = 3, .groups = 3, .top_groups = 1 },
        { .features = 6, .experts = 6, .top_k = 2, .groups = 6, .top_groups = 3 },
        { .features = 6, .experts = 6, .top_k = 2, .flags = IR_GROUP_BEST },
        { .features = 6, .experts = 6, .top_k = 2, .flags = IR_SIGMOID, .aux_coef = 0.1f },
        { .features = 6, .experts = 4096, .top_k = 2, .groups = 2048, .top_groups = 3 },
    };
    for (size_t i = 0; i < sizeof routers / sizeof *routers; i++)
        ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_ROUTER, &routers[i], T));
    a = good[IR_OP_LINEAR];
    a.flags |= IR_PACKED;
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_LINEAR, &a, T));
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_POS_EMBED, &good[IR_OP_POS_EMBED], 10));
    a = (struct ir_attrs){ .features = 6, .experts = 1 << 20, .top_k = 2, .capacity = 1 << 20 };
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_DISPATCH, &a, T)); /* 2^40 rows */
    a = (struct ir_attrs){ .features = INT32_MAX, .experts = INT32_MAX, .top_k = 1, .ffn = INT32_MAX };
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_EXPERTS, &a, T)); /* 2^93 elements: wraps 64 bits */
    a = (struct ir_attrs){ .heads = 1 << 30, .kv_heads = 1 << 30, .head_dim = 8, .scale = 1 };
    ck_assert_ptr_nonnull(ir_op_attrs_wrong(IR_OP_ATTENTION, &a, T));
}
END_TEST

START_TEST(work_and_bytes)
{
    const struct ir_attrs *l = &good[IR_OP_LINEAR];
    ck_assert_double_eq(ir_op_info[IR_OP_LINEAR].flops(l, IR_PASS_BI, 2, T), 2.0 * 2 * T * 6 * 10);
    ck_assert_double_eq(ir_op_info[IR_OP_EXPERTS].flops(&good[IR_OP_EXPERTS], IR_PASS_F, 1, T),
                        6.0 * 16 * 6 * 8 + 6.0 * 16 * 8 + 16.0 * (2 * 8 + 6));
    /* linear: x, weights, bias read, y written; BW: x and dy read, float32 gradients written */
    double f = 2 * T * 6 + 60 + 10 + 2 * T * 10;
    ck_assert_double_eq(ir_op_bytes(IR_OP_LINEAR, l, IR_PASS_F, 2, T, IR_F32), 4 * f);
    ck_assert_double_eq(ir_op_bytes(IR_OP_LINEAR, l, IR_PASS_F, 2, T, IR_BF16), 2 * f);
    ck_assert_double_eq(ir_op_bytes(IR_OP_LINEAR, l, IR_PASS_BI, 2, T, IR_F32), 4.0 * (2 * T * 10 + 60 + 2 * T * 6));
    ck_assert_double_eq(ir_op_bytes(IR_OP_LINEAR, l, IR_PASS_BW, 2, T, IR_F32), 4.0 * (2 * T * 6 + 2 * T * 10 + 70));
    /* embedding: T rows of the table, not all of it */
    ck_assert_double_eq(ir_op_bytes(IR_OP_EMBED, &good[IR_OP_EMBED], IR_PASS_F, 1, T, IR_F32),
                        4.0 * (T + T * 6 + T * 6));
    /* router, BI: index, probabilities, weights W, gradient of the weights read; dx and the stash written */
    ck_assert_double_eq(ir_op_bytes(IR_OP_ROUTER, &good[IR_OP_ROUTER], IR_PASS_BI, 1, T, IR_F32),
                        4.0 * (T * 2 + T * 6 + 36 + T * 2 + T * 6 + T * 6));
    ck_assert_uint_eq(ir_dtype_size(IR_COMPUTE, IR_BF16), 2);
    ck_assert_uint_eq(ir_dtype_size(IR_F32, IR_BF16), 4);
    ck_assert_uint_eq(ir_dtype_size(IR_BYTE, IR_F32), 1);
}
END_TEST

/* What CUDA has no kernel for is refused by the operator's name, the rest of the operator is taken. */
START_TEST(cuda_refuses_by_name)
{
    static const struct {
        enum ir_op op;
        struct ir_attrs a;
        bool taken;
    } cases[] = {
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .flags = IR_NORM_TOPK, .aux_coef = 1 }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .flags = IR_SIGMOID }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .flags = IR_SELECT_BIAS }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .flags = IR_BIAS }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .groups = 3, .top_groups = 2 }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .scale = 2 }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .eps = 1 }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .flags = IR_FLOAT32 }, true },
        { IR_OP_ROUTER, { .features = 6, .experts = 6, .top_k = 2, .z_coef = 1 }, true },
        { IR_OP_ROUTER,
          { .features = 6, .experts = 6, .top_k = 2, .flags = IR_SIGMOID | IR_SEQUENCE_LOSS, .aux_coef = 1 },
          true },
        { IR_OP_ROPE, { .heads = 2, .head_dim = 514, .theta = 1 }, false },
        { IR_OP_EXPERTS, { .features = 6, .experts = 6, .top_k = 2, .ffn = 8 }, true },
        { IR_OP_EXPERTS, { .features = 6, .experts = 6, .top_k = 2, .ffn = 8, .flags = IR_BIAS }, true },
        { IR_OP_EXPERTS, { .features = 6, .experts = 6, .top_k = 2, .ffn = 8, .act = IR_ACT_RELU }, true },
        { IR_OP_EXPERTS, { .features = 6, .experts = 6, .top_k = 2, .ffn = 8, .clamp = 7 }, true },
        { IR_OP_HEAD_LOSS, { .features = 6, .vocab = 8, .scale = 2, .score_cap = 30 }, true },
        { IR_OP_HEAD_LOSS, { .features = 6, .vocab = 8, .flags = IR_BIAS }, true },
        { IR_OP_LAYERNORM, { .features = 6, .heads = 2, .eps = 1, .flags = IR_NO_BIAS }, true },
        { IR_OP_LAYERNORM, { .features = 6, .heads = 2, .eps = 1, .flags = IR_PER_HEAD }, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *says = ir_target_cuda.unsupported(cases[i].op, &cases[i].a, T, IR_BF16);
        ck_assert_ptr_null(ir_op_attrs_wrong(cases[i].op, &cases[i].a, T));
        ck_assert_int_eq(!says, cases[i].taken);
        ck_assert(!says || (strstr(says, ir_op_info[cases[i].op].name) && strstr(says, "--device cpu")));
    }
}
END_TEST

/* The numbers of transformers; those of float32 there, of float64 here. */
START_TEST(rope_frequencies)
{
    for (size_t i = 0; i < sizeof rope_cases / sizeof *rope_cases; i++) {
        const struct rope_case *c = &rope_cases[i];
        float f[16];
        double scale;
        const char *wrong = ir_rope_frequencies(&c->r, c->t, f, &scale);
        ck_assert_msg(!wrong, "%s", wrong);
        ck_assert_double_eq_tol(scale, c->scale, 1e-8);
        for (uint32_t k = 0; k < c->r.dim / 2; k++)
            ck_assert_msg(fabsf(f[k] - c->inv_freq[k]) <= 2e-6f * c->inv_freq[k], "case %zu pair %u: %.9g, not %.9g", i,
                          k, (double)f[k], (double)c->inv_freq[k]);
    }
}
END_TEST

START_TEST(rope_numbers_are_checked)
{
    const struct ir_rope wrong[] = {
        { .theta = 1, .dim = 8 },
        { .theta = 100, .dim = 7 },
        { .theta = 100 },
        { .theta = 100, .dim = 8, .kind = IR_ROPE_LINEAR },
        { .theta = 100, .dim = 2, .kind = IR_ROPE_DYNAMIC, .factor = 2, .max_positions = 8 },
        { .theta = 100, .dim = 8, .kind = IR_ROPE_DYNAMIC, .factor = 2 },
        { .theta = 100,
          .dim = 8,
          .kind = IR_ROPE_LLAMA3,
          .factor = 2,
          .original = 8,
          .low_freq_factor = 4,
          .high_freq_factor = 4 },
        { .theta = 100, .dim = 8, .kind = IR_ROPE_YARN, .factor = 2 },
        { .theta = 100, .dim = 8, .kind = IR_ROPE_YARN, .original = 8 },
        { .theta = 100, .dim = 8, .kind = IR_ROPE_LONGROPE, .factor = 2, .original = 8, .short_factor = rope_short },
        { .theta = 100,
          .dim = 8,
          .kind = IR_ROPE_LONGROPE,
          .factor = 2,
          .short_factor = rope_short,
          .long_factor = rope_long },
    };
    float f[4] = { 7 };
    double scale = 7;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_ptr_nonnull(ir_rope_frequencies(&wrong[i], 8, f, &scale));
    ck_assert(f[0] == 7 && scale == 7);
    ck_assert_ptr_null(ir_rope_frequencies(&(struct ir_rope){ .theta = 100, .dim = 8 }, 8, f, &scale));
    ck_assert(f[0] == 1 && f[3] == (float)pow(100, -0.75) && scale == 1);
    ck_assert_uint_eq(ir_rope_kind_by_name("llama3"), IR_ROPE_LLAMA3);
    ck_assert_uint_eq(ir_rope_kind_by_name("su"), IR_ROPE_LONGROPE + 1);
    ck_assert_double_eq_tol(ir_rope_mscale(40, 1), 1.3688879454, 1e-9);
}
END_TEST

START_TEST(targets)
{
    ck_assert_ptr_eq(ir_target_by_name("cpu"), &ir_target_cpu);
    ck_assert_ptr_eq(ir_target_by_name("emulate"), &ir_target_emulate);
    ck_assert_ptr_null(ir_target_by_name("abacus"));
    ck_assert_uint_eq(ir_target_cpu.alignment, 64);
    ck_assert_ptr_null(ir_target_cpu.unsupported(IR_OP_LINEAR, &good[IR_OP_LINEAR], T, IR_F32));
    ck_assert_ptr_null(ir_target_cpu.unsupported(IR_OP_LINEAR, &good[IR_OP_LINEAR], T, IR_BF16));
    ck_assert_ptr_eq(ir_target_by_name("cuda"), &ir_target_cuda);
    ck_assert_ptr_null(ir_target_cuda.unsupported(IR_OP_LINEAR, &good[IR_OP_LINEAR], T, IR_BF16));
    ck_assert_ptr_nonnull(ir_target_cuda.unsupported(IR_OP_LINEAR, &good[IR_OP_LINEAR], T, IR_F64));
    const struct ir_attrs narrow = { .heads = 2, .kv_heads = 2, .head_dim = 64 },
                          odd = { .heads = 2, .kv_heads = 2, .head_dim = 84 },
                          window = { .heads = 2, .kv_heads = 2, .head_dim = 80, .window = 100, .flags = IR_SINKS },
                          wide = { .heads = 1, .kv_heads = 1, .head_dim = 1024 },
                          wider = { .heads = 1, .kv_heads = 1, .head_dim = 1025 };
    ck_assert_ptr_null(ir_target_cuda.unsupported(IR_OP_ATTENTION, &narrow, 8192, IR_BF16));
    ck_assert_ptr_null(ir_target_cuda.unsupported(IR_OP_ATTENTION, &narrow, 4096, IR_F32));
    ck_assert_ptr_nonnull(ir_target_cuda.unsupported(IR_OP_ATTENTION, &narrow, 4097, IR_F32));
    ck_assert_ptr_nonnull(ir_target_cuda.unsupported(IR_OP_ATTENTION, &odd, 4097, IR_BF16));
    ck_assert_ptr_null(ir_target_cuda.unsupported(IR_OP_ATTENTION, &window, 131072, IR_BF16));
    ck_assert_ptr_nonnull(ir_target_cuda.unsupported(IR_OP_ATTENTION, &window, 131072, IR_F32));
    /* no T x T in memory: twice the tokens, about twice the scratch, however long */
    ck_assert_uint_le(ir_target_cuda.workspace(
                          &(struct ir_kernel){ IR_OP_ATTENTION, IR_PASS_BI, &narrow, 1, 1 << 20, 1, IR_BF16, { 0 } }),
                      256 << 20);
    ck_assert_ptr_null(ir_target_cuda.unsupported(IR_OP_ATTENTION, &wide, 4096, IR_BF16));
    ck_assert_ptr_nonnull(ir_target_cuda.unsupported(IR_OP_ATTENTION, &wider, 1, IR_BF16));
    ck_assert_uint_gt(ir_target_cuda.workspace(
                          &(struct ir_kernel){ IR_OP_LINEAR, IR_PASS_F, &good[IR_OP_LINEAR], 2, T, 1, IR_BF16, { 0 } }),
                      0);
    ck_assert_uint_eq(ir_op_logit_columns(&(struct ir_attrs){ .vocab = 100 }), 100);
    ck_assert_uint_eq(ir_op_logit_columns(&(struct ir_attrs){ .vocab = 50257 }), 50304);
    ck_assert_uint_gt(ir_target_cpu.outside(1, 0), ir_target_cpu.outside(0, 0));
    for (uint32_t op = 0; op < IR_OP_GRAPH_COUNT; op++) { /* pure: the same answer twice */
        const struct ir_kernel k = { (enum ir_op)op, IR_PASS_F, &good[op], 2, T, 1, IR_F32, { 0 } };
        ck_assert_uint_eq(ir_target_cpu.workspace(&k), ir_target_emulate.workspace(&k));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("op");
    TCase *c = tcase_create("op");
    tcase_add_test(c, rows_are_whole);
    tcase_add_test(c, reads_exist);
    tcase_add_test(c, kernels);
    tcase_add_test(c, shapes_dense);
    tcase_add_test(c, parts_of_weights);
    tcase_add_test(c, shapes_routed);
    tcase_add_test(c, attributes_are_checked);
    tcase_add_test(c, attributes_that_do_not_go_together);
    tcase_add_test(c, work_and_bytes);
    tcase_add_test(c, cuda_refuses_by_name);
    tcase_add_test(c, rope_frequencies);
    tcase_add_test(c, rope_numbers_are_checked);
    tcase_add_test(c, targets);
    suite_add_tcase(s, c);
    return suite_run(s);
}
