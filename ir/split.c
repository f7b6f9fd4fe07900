/* See split.h: one switch for each question. */
#include "ir/split.h"

#include <stddef.h>

static uint32_t at_least_one(uint32_t n)
{
    return n ? n : 1;
}

/* ---- which splits there are ---------------------------------------------------------------------------------------- */

static bool has_split(enum ir_op op, enum ir_split split)
{
    switch (op) {
    case IR_OP_LINEAR:
        return split == IR_ROWS_OF_W || split == IR_COLUMNS_OF_W;
    case IR_OP_ATTENTION:
        return split == IR_HEADS || split == IR_TURNED || split == IR_RING;
    case IR_OP_ROPE:
    case IR_OP_JOIN_HEADS:
    case IR_OP_LAYERNORM:
        return split == IR_HEADS;
    case IR_OP_RMSNORM:
        return split == IR_HEADS || split == IR_WIDTH;
    case IR_OP_GELU:
    case IR_OP_ACT:
    case IR_OP_SWIGLU:
    case IR_OP_ADD:
    case IR_OP_SCALE:
    case IR_OP_CLAMP:
        return split == IR_WIDTH;
    case IR_OP_EMBED:
    case IR_OP_HEAD_LOSS:
        return split == IR_WORDS;
    case IR_OP_ROUTER:
    case IR_OP_DISPATCH:
    case IR_OP_EXPERTS:
    case IR_OP_COMBINE:
        return split == IR_COUNTS;
    default:
        return false;
    }
}

/* Each part has as many, or each of few has as many parts. */
static bool heads_split(uint32_t heads, uint32_t parts)
{
    return heads % parts == 0 || parts % at_least_one(heads) == 0;
}

bool ir_op_splits(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t parts)
{
    if (split == IR_WHOLE)
        return true;
    if (!has_split(op, split) || parts == 0)
        return false;
    switch (split) {
    case IR_ROWS_OF_W:
        return a->out_features % parts == 0;
    case IR_COLUMNS_OF_W:
        return a->in_features % parts == 0;
    case IR_HEADS:
    case IR_RING:
        return op == IR_OP_ATTENTION ? a->heads % parts == 0 && heads_split(a->kv_heads, parts)
                                     : heads_split(a->heads, parts);
    case IR_TURNED:
        return a->heads % parts == 0 && a->kv_heads % parts == 0;
    case IR_WIDTH:
        return a->features % parts == 0 && (op != IR_OP_RMSNORM || ir_op_norm_groups(a) == 1);
    case IR_WORDS: /* the last block is not empty */
        return (uint64_t)((a->vocab + parts - 1) / parts) * (parts - 1) < a->vocab;
    default:
        return true;
    }
}

struct ir_attrs ir_op_local(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t parts)
{
    struct ir_attrs l = *a;
    switch (split) {
    case IR_ROWS_OF_W:
        l.out_features /= parts;
        break;
    case IR_COLUMNS_OF_W:
        l.in_features /= parts;
        break;
    case IR_HEADS:
    case IR_TURNED:
    case IR_RING:
        if (a->heads)
            l.heads = at_least_one(a->heads / parts);
        if (op == IR_OP_ATTENTION)
            l.kv_heads = at_least_one(a->kv_heads / parts);
        break;
    case IR_WIDTH:
        l.features /= parts;
        break;
    case IR_WORDS:
        l.vocab = (a->vocab + parts - 1) / parts;
        break;
    case IR_COUNTS:
        l.capacity = 0;
        break;
    default:
        break;
    }
    return l;
}

static void fill(enum ir_layout *at, enum ir_layout layout, int n)
{
    for (int i = 0; i < n; i++)
        at[i] = layout;
}

void ir_op_layouts(enum ir_op op, enum ir_split split, enum ir_layout in[IR_MAX_IN], enum ir_layout out[IR_MAX_OUT])
{
    const bool rows = split == IR_ROWS_OF_W, words = split == IR_WORDS, columns = split == IR_COLUMNS_OF_W;
    const bool inner = split == IR_HEADS || split == IR_WIDTH || split == IR_RING;
    const bool turned = split == IR_TURNED;
    fill(in,
         turned             ? IR_LAYOUT_HEADS
         : rows || words    ? IR_LAYOUT_WHOLE
         : columns || inner ? IR_LAYOUT_COLUMNS
                            : IR_LAYOUT_TOKENS,
         IR_MAX_IN);
    fill(out,
         turned             ? IR_LAYOUT_HEADS
         : columns || words ? IR_LAYOUT_TERMS
         : rows || inner    ? IR_LAYOUT_COLUMNS
                            : IR_LAYOUT_TOKENS,
         IR_MAX_OUT);
    if (op == IR_OP_ATTENTION && !turned && split != IR_RING)
        in[1] = in[2] = IR_LAYOUT_KEYS;
    if (op == IR_OP_JOIN_HEADS && inner) /* what all heads share */
        in[1] = IR_LAYOUT_WHOLE;
}

int ir_op_param_cut(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t i)
{
    const bool turned = (a->flags & IR_TRANSPOSED) != 0;
    switch (split) {
    case IR_ROWS_OF_W:
        return i == 0 && turned ? 1 : 0;
    case IR_COLUMNS_OF_W:
        return i > 0 ? -1 : turned ? 0 : 1;
    case IR_TURNED:
    case IR_RING:
    case IR_HEADS: /* sinks; norms have weights of each head, or the same for all */
        return op == IR_OP_ATTENTION || a->flags & IR_PER_HEAD ? 0 : -1;
    case IR_WIDTH:
    case IR_WORDS:
        return 0;
    default:
        return -1;
    }
}

/* ---- sizes --------------------------------------------------------------------------------------------------------- */

static void attention_shapes(const struct ir_attrs *a, uint32_t t, const struct ir_share *share, struct ir_op_shapes *s)
{
    const uint32_t keys = share->keys ? share->keys : t;
    for (int i = 1; i < 3; i++)
        if (s->in[i].ndim)
            s->in[i].dim[0] = keys;
    if (!share->ring)
        return;
    s->save[1] = s->out[0];
    s->stash[0] = s->in[0];
    s->stash[1] = s->in[1];
    s->stash[1].dim[1] = a->kv_heads * (a->head_dim + ir_op_v_dim(a));
    s->save[1].dtype = s->stash[0].dtype = s->stash[1].dtype = IR_F32;
}

struct ir_share ir_share_of(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t parts,
                            const struct ir_sharing *all)
{
    const bool ring = split == IR_RING, keys = op == IR_OP_ATTENTION || a->flags & IR_DOCUMENTS;
    return (struct ir_share){ .split = split,
                              .parts = op == IR_OP_RMSNORM && split == IR_WIDTH ? all->tensor : parts,
                              .keys = !keys  ? 0
                                      : ring ? all->t / all->context
                                             : all->t,
                              .ring = ring ? all->context : 0,
                              .sets = all->sets };
}

void ir_op_part_shapes(enum ir_op op, const struct ir_attrs *a, uint32_t t, const struct ir_share *share,
                       struct ir_op_shapes *s)
{
    const uint32_t parts = at_least_one(share->parts), runs = 2 * at_least_one(share->sets);
    ir_op_shapes(op, a, t, s);
    if (a->flags & IR_DOCUMENTS && share->keys)
        s->in[ir_op_inputs(op, a) - 1].dim[0] = share->keys;
    if (op == IR_OP_ATTENTION)
        attention_shapes(a, t, share, s);
    else if (op == IR_OP_RMSNORM && share->split == IR_WIDTH)
        s->save[1] = s->stash[0] = (struct ir_shape){ IR_F32, 2, { parts, t, 0 } };
    else if (op == IR_OP_HEAD_LOSS && share->split == IR_WORDS)
        s->save[1] = (struct ir_shape){ IR_F32, 3, { parts, t, 3 } };
    else if (op == IR_OP_ROUTER && share->split == IR_COUNTS)
        s->save[1] = (struct ir_shape){ IR_I32, 3, { parts, runs, a->experts } };
    else if (op == IR_OP_DISPATCH && share->split == IR_COUNTS)
        s->in[2] = (struct ir_shape){ IR_I32, 3, { parts, runs, a->experts } };
}

uint32_t ir_op_phases(enum ir_op op, enum ir_pass kernel, const struct ir_share *share)
{
    const bool f = kernel == IR_PASS_F, bi = kernel == IR_PASS_BI;
    switch (op) {
    case IR_OP_ATTENTION:
        return share->ring && f ? share->ring : share->ring && bi ? share->ring + 1 : 1;
    case IR_OP_RMSNORM:
        return share->split == IR_WIDTH && (f || bi) ? 2 : 1;
    case IR_OP_HEAD_LOSS:
        return share->split == IR_WORDS && f ? 2 : 1;
    case IR_OP_ROUTER:
        return share->split == IR_COUNTS && f ? 2 : 1;
    default:
        return 1;
    }
}

/* Pairs of a query that stands in the run, and a key. */
static double run_pairs(const struct ir_attrs *a, const struct ir_run *run)
{
    const double from = run->first;
    return ir_op_attention_pairs(a, from + run->count) - ir_op_attention_pairs(a, from);
}

double ir_kernel_flops(const struct ir_kernel *k, const struct ir_run run[2])
{
    const struct ir_attrs *a = k->attrs;
    const double whole = ir_op_info[k->op].flops(a, k->pass, k->b, k->t);
    if (k->op == IR_OP_ATTENTION && run)
        return whole / ir_op_attention_pairs(a, k->t) * (run_pairs(a, &run[0]) + run_pairs(a, &run[1]));
    if (k->op == IR_OP_LINEAR && k->share.split == IR_COLUMNS_OF_W && a->flags & IR_BIAS && k->pass != IR_PASS_BI) {
        const double bias = (double)k->b * k->t * a->out_features;
        return whole - bias + bias / k->share.parts;
    }
    return whole;
}

double ir_kernel_bytes(const struct ir_kernel *k)
{
    struct ir_op_shapes s;
    ir_op_part_shapes(k->op, k->attrs, k->t, &k->share, &s);
    return ir_op_shape_bytes(k->op, k->pass, &s, k->b, k->compute);
}
