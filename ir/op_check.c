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

/* Attributes that may be 0, in any operator or in one. */
enum { ANY = IR_OP_COUNT };
#define MAY(field, operator)                       \
    {                                              \
        offsetof(struct ir_attrs, field), operator \
    }
static const struct {
    uint16_t offset, op;
} zeros[] = {
    MAY(flags, ANY),
    MAY(capacity, ANY),
    MAY(aux_coef, ANY),
    MAY(v_head_dim, ANY),
    MAY(window, ANY),
    MAY(score_cap, ANY),
    MAY(rotary_dim, IR_OP_ROPE),
    MAY(rotary_offset, ANY),
    MAY(act, ANY),
    MAY(alpha, ANY),
    MAY(clamp, IR_OP_SWIGLU),
    MAY(clamp, IR_OP_EXPERTS),
    MAY(theta, IR_OP_ROPE),
    MAY(scale, IR_OP_ROPE),
    MAY(scale, IR_OP_HEAD_LOSS),
    MAY(heads, IR_OP_RMSNORM),
    MAY(heads, IR_OP_LAYERNORM),
    MAY(scale, IR_OP_ROUTER),
    MAY(eps, IR_OP_ROUTER),
    MAY(groups, ANY),
    MAY(top_groups, ANY),
    MAY(z_coef, ANY),
    MAY(first_position, ANY),
};

bool ir_op_attr_may_be_zero(enum ir_op op, uint32_t attr)
{
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++)
        if (zeros[i].offset == ir_attr_info[attr].offset && (zeros[i].op == ANY || zeros[i].op == op))
            return true;
    return false;
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
            return "an attribute that the operator needs (eps, scale or clamp) is 0 or missing";
        return x != 0 && !used ? "an attribute is set that the operator does not use" : NULL;
    }
    uint32_t x = attr_u32(a, i);
    if (x > DIM_MAX)
        return "an attribute is above 2^31 - 1";
    if (ir_attr_info[i].type == 'a' && x >= IR_ACT_COUNT)
        return "act is no activation that there is";
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
    case IR_OP_LAYERNORM:
        return IR_NO_WEIGHT | IR_NO_BIAS | IR_PER_HEAD;
    case IR_OP_RMSNORM:
        return IR_ONE_PLUS | IR_ROUND_FIRST;
    case IR_OP_ROPE:
        return IR_PAIRS;
    case IR_OP_SWIGLU:
        return IR_ONE_PLUS;
    case IR_OP_EXPERTS:
        return IR_ONE_PLUS | IR_BIAS;
    case IR_OP_SCALE:
        return IR_ROUND_FIRST;
    case IR_OP_HEAD_LOSS:
        return IR_BIAS;
    case IR_OP_GELU:
        return IR_EXACT;
    case IR_OP_ROUTER:
        return IR_NORM_TOPK | IR_BIAS | IR_SIGMOID | IR_SELECT_BIAS | IR_GROUP_BEST | IR_FLOAT32 | IR_SEQUENCE_LOSS;
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

static const char *rope_wrong(const struct ir_attrs *a)
{
    if (ir_op_rotary(a) % 2 != 0)
        return a->rotary_dim ? "rotary_dim is odd; rotary embedding rotates pairs"
                             : "head_dim is odd; rotary embedding rotates pairs";
    if ((uint64_t)a->rotary_offset + ir_op_rotary(a) > a->head_dim)
        return "rotary_offset + rotary_dim is more than head_dim";
    if ((a->theta > 0) == (a->inv_freq != NULL))
        return "rope takes theta or inv_freq, one of the two";
    if (a->inv_freq && (a->inv_freq->n != ir_op_rotary(a) / 2 || a->inv_freq->n > IR_FREQS_MAX))
        return "inv_freq must have a number for each pair that turns, rotary_dim / 2 (head_dim / 2)";
    for (uint32_t i = 0; a->inv_freq && i < a->inv_freq->n; i++)
        if (!isfinite(a->inv_freq->at[i]) || a->inv_freq->at[i] < 0)
            return "a number of inv_freq is negative or not finite";
    return NULL;
}

static const char *router_wrong(const struct ir_attrs *a)
{
    const uint32_t size = a->groups ? a->experts / a->groups : 0;
    if ((a->groups > 0) != (a->top_groups > 0) || (a->flags & IR_GROUP_BEST && !a->groups))
        return "groups and top_groups go together, and group_best with them";
    if (a->groups && (a->groups > IR_GROUPS_MAX || a->experts % a->groups != 0 || a->top_groups > a->groups))
        return "groups is not at most 1024 equal parts of the experts, or below top_groups";
    if (a->groups && (uint64_t)a->top_groups * size < a->top_k)
        return "top_groups groups have fewer experts than top_k";
    if (a->groups && size < 2 && !(a->flags & IR_GROUP_BEST))
        return "a group has one expert, and is as good as its two best";
    if (a->flags & IR_SEQUENCE_LOSS ? a->aux_coef == 0 : a->aux_coef > 0 && a->flags & (IR_SIGMOID | IR_SELECT_BIAS))
        return a->aux_coef > 0 ? "aux_coef goes with softmax and without select_bias, or with sequence_loss"
                               : "sequence_loss says what aux_coef is of, and there is none";
    return NULL;
}

const char *ir_op_attrs_wrong(enum ir_op op, const struct ir_attrs *a, uint32_t t)
{
    const char *wrong = NULL;
    for (uint32_t i = 0; i < IR_ATTR_COUNT && !wrong; i++)
        wrong = attr_wrong(op, a, i);
    if (wrong)
        return wrong;
    if (t == 0 || t > DIM_MAX)
        return "the sequence length is 0 or above 2^31 - 1";
    if (a->flags & ~ir_op_flags(op))
        return "flags has a bit that the operator does not know";
    if (op == IR_OP_ATTENTION && a->heads % a->kv_heads != 0)
        return "heads is not a multiple of kv_heads";
    wrong = op == IR_OP_ROPE ? rope_wrong(a) : a->inv_freq ? "inv_freq is set and the operator is no rope" : NULL;
    if (wrong)
        return wrong;
    if (a->alpha > 0 && a->act != IR_ACT_SILU)
        return "alpha is of silu, and act says another activation";
    if (op == IR_OP_JOIN_HEADS && a->rotary_dim >= a->head_dim)
        return "rotary_dim is not below head_dim";
    if (a->experts && a->top_k > a->experts)
        return "top_k is larger than the number of experts";
    wrong = op == IR_OP_ROUTER ? router_wrong(a) : NULL;
    if (wrong)
        return wrong;
    if (op == IR_OP_POS_EMBED && a->positions < (uint64_t)a->first_position + t)
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
