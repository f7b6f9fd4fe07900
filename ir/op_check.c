/* Which attributes are possible: asked before shapes or kernels are, because a job file may come from anywhere. */
#include <math.h>
#include <stddef.h>

#include "ir/op.h"

enum { DIM_MAX = INT32_MAX }; /* kernels and BLAS count in int */
#define ELEMENTS_MAX ((uint64_t)1 << 48)

static uint32_t attr_u32(const struct ir_attrs *a, uint32_t i)
{
    return *(const uint32_t *)(const void *)((const char *)a + ir_attr_info[i].offset);
}

static float attr_f32(const struct ir_attrs *a, uint32_t i)
{
    return *(const float *)(const void *)((const char *)a + ir_attr_info[i].offset);
}

bool ir_op_attr_may_be_zero(enum ir_op op, uint32_t attr)
{
    uint16_t offset = ir_attr_info[attr].offset;
    return offset == offsetof(struct ir_attrs, flags) || offset == offsetof(struct ir_attrs, capacity) ||
           offset == offsetof(struct ir_attrs, aux_coef) || offset == offsetof(struct ir_attrs, v_head_dim) ||
           offset == offsetof(struct ir_attrs, window) || offset == offsetof(struct ir_attrs, score_cap) ||
           (op == IR_OP_RMSNORM && offset == offsetof(struct ir_attrs, heads));
}

/* Each attribute alone. */
static const char *attr_wrong(enum ir_op op, const struct ir_attrs *a, uint32_t i)
{
    bool used = ir_op_info[op].attrs >> i & 1;
    bool zero_ok = !used || ir_op_attr_may_be_zero(op, i);
    if (ir_attr_info[i].type == 'f') {
        float x = attr_f32(a, i);
        if (!isfinite(x) || x < 0)
            return "an attribute is negative or not a number";
        if (x == 0 && !zero_ok)
            return "an attribute that the operator needs (eps, theta or scale) is 0 or missing";
        return x != 0 && !used ? "an attribute is set that the operator does not use" : NULL;
    }
    uint32_t x = attr_u32(a, i);
    if (x > DIM_MAX)
        return "an attribute is above 2^31 - 1";
    if (x == 0 && !zero_ok)
        return "a size that the operator needs is 0 or missing";
    return x != 0 && !used ? "an attribute is set that the operator does not use" : NULL;
}

uint32_t ir_op_flags(enum ir_op op)
{
    switch (op) {
    case IR_OP_LINEAR:
        return IR_TRANSPOSED | IR_BIAS;
    case IR_OP_ATTENTION:
        return IR_PACKED | IR_SINKS;
    case IR_OP_GELU:
        return IR_EXACT;
    case IR_OP_ROUTER:
        return IR_NORM_TOPK;
    default:
        return 0;
    }
}

/* Products that ir_op_shapes() forms in 32 bits. */
static bool products_fit(const struct ir_attrs *a, uint32_t t)
{
    const uint64_t products[] = {
        (uint64_t)ir_op_norm_groups(a) * a->features,
        (uint64_t)a->heads * a->head_dim,
        ((uint64_t)a->heads + a->kv_heads) * a->head_dim,
        ((uint64_t)a->heads + a->kv_heads) * ir_op_v_dim(a),
        (a->heads + 2 * (uint64_t)a->kv_heads) * (a->head_dim > a->v_head_dim ? a->head_dim : a->v_head_dim),
        (uint64_t)a->experts * a->capacity,
        (uint64_t)t * a->top_k,
    };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (products[i] > DIM_MAX)
            return false;
    return true;
}

static bool shapes_fit(const struct ir_shape *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t elements = 1;
        for (uint32_t k = 0; k < s[i].ndim; k++) {
            if (s[i].dim[k] == 0 || elements > ELEMENTS_MAX / s[i].dim[k])
                return false;
            elements *= s[i].dim[k];
        }
    }
    return true;
}

const char *ir_op_attrs_wrong(enum ir_op op, const struct ir_attrs *a, uint32_t t)
{
    for (uint32_t i = 0; i < IR_ATTR_COUNT; i++) {
        const char *wrong = attr_wrong(op, a, i);
        if (wrong)
            return wrong;
    }
    if (t == 0 || t > DIM_MAX)
        return "the sequence length is 0 or above 2^31 - 1";
    if (a->flags & ~ir_op_flags(op))
        return "flags has a bit that the operator does not know";
    if (op == IR_OP_ATTENTION && a->heads % a->kv_heads != 0)
        return "heads is not a multiple of kv_heads";
    if (op == IR_OP_ROPE && a->head_dim % 2 != 0)
        return "head_dim is odd; rotary embedding rotates pairs";
    if (a->experts && a->top_k > a->experts)
        return "top_k is larger than the number of experts";
    if (op == IR_OP_POS_EMBED && a->positions < t)
        return "the sequence is longer than the table of positions";
    struct ir_op_shapes s;
    if (products_fit(a, t)) {
        ir_op_shapes(op, a, t, &s);
        if (shapes_fit(s.in, IR_MAX_IN) && shapes_fit(s.out, IR_MAX_OUT) && shapes_fit(s.param, IR_MAX_PARAM) &&
            shapes_fit(s.save, IR_MAX_SAVE) && shapes_fit(s.stash, IR_MAX_STASH))
            return NULL;
    }
    return "the sizes multiply to more than 2^31 - 1 in a dimension or 2^48 elements in all";
}
