/* Sides: layouts of tensors and shapes of operators where sequences are shared (sched/directives/region.c says who has what). */
#include "sched/compile.h"

uint32_t side_tokens(const struct sched *s, enum ir_layout layout)
{
    switch (layout) {
    case IR_LAYOUT_KEYS:
    case IR_LAYOUT_KEY_TERMS:
    case IR_LAYOUT_HEADS:
    case IR_LAYOUT_STARTS:
        return s->g->seq_len;
    case IR_LAYOUT_TOKENS:
        return s->g->seq_len / s->share.n;
    default:
        return s->g->seq_len / s->share.n * s->share.tensor;
    }
}

enum ir_layout side_dual(enum ir_layout layout)
{
    static const uint8_t dual[IR_LAYOUTS] = {
        [IR_LAYOUT_TOKENS] = IR_LAYOUT_TOKENS,   [IR_LAYOUT_WHOLE] = IR_LAYOUT_TERMS,
        [IR_LAYOUT_COLUMNS] = IR_LAYOUT_COLUMNS, [IR_LAYOUT_TERMS] = IR_LAYOUT_WHOLE,
        [IR_LAYOUT_KEYS] = IR_LAYOUT_KEY_TERMS,  [IR_LAYOUT_KEY_TERMS] = IR_LAYOUT_KEYS,
        [IR_LAYOUT_HEADS] = IR_LAYOUT_HEADS,     [IR_LAYOUT_BLOCKS] = IR_LAYOUT_BLOCKS,
        [IR_LAYOUT_STARTS] = IR_LAYOUT_STARTS,
    };
    return (enum ir_layout)dual[layout];
}

/* Rows of an operator: as what it makes has them, or reads where it makes nothing. */
uint32_t side_op_tokens(const struct sched *s, uint32_t op)
{
    const struct ir_node_op *o = &s->g->ops.at[op];
    if (!s->sides)
        return s->g->seq_len;
    const struct op_side *side = &s->sides[op];
    return side_tokens(s, (enum ir_layout)(o->out[0] != IR_NONE ? side->out[0] : side->in[0]));
}

struct ir_share side_share(const struct sched *s, uint32_t op)
{
    if (!s->sides)
        return (struct ir_share){ 0 };
    const struct ir_node_op *o = &s->g->ops.at[op];
    const struct ir_sharing all = { s->g->seq_len, s->share.context, s->share.tensor,
                                    s->sides[op].split == IR_COUNTS ? ir_graph_count_sets(s->g, op) : 1 };
    return ir_share_of((enum ir_op)o->op, &o->attrs, (enum ir_split)s->sides[op].split, s->sides[op].parts, &all);
}

struct ir_attrs side_attrs(const struct sched *s, uint32_t op)
{
    const struct ir_node_op *o = &s->g->ops.at[op];
    return s->sides ? ir_op_local((enum ir_op)o->op, &o->attrs, (enum ir_split)s->sides[op].split, s->sides[op].parts)
                    : o->attrs;
}

void side_shapes(const struct sched *s, uint32_t op, struct ir_op_shapes *shapes)
{
    const struct ir_node_op *o = &s->g->ops.at[op];
    if (!s->sides) {
        ir_op_shapes((enum ir_op)o->op, &o->attrs, s->g->seq_len, shapes);
        return;
    }
    const struct ir_attrs local = side_attrs(s, op);
    const struct ir_share share = side_share(s, op);
    ir_op_part_shapes((enum ir_op)o->op, &local, side_op_tokens(s, op), &share, shapes);
}

/* The operator of a sub-chunk that makes a tensor, or the first that reads it, and where. */
static uint32_t find_op(const struct sched *s, const struct ir_sub *sub, uint32_t tensor, int *input)
{
    const struct ir_tensor *t = &s->g->tensors.at[tensor];
    *input = -1;
    if (t->producer != IR_NONE && &s->chunks.subs.at[s->chunks.sub_of[t->producer]] == sub)
        return t->producer;
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        uint32_t o = s->chunks.ops.at[sub->first_op + i];
        for (int k = 0; k < IR_MAX_IN; k++)
            if (s->g->ops.at[o].in[k] == tensor) {
                *input = k;
                return o;
            }
    }
    CHECK(!"a sub-chunk makes or reads its tensors");
    return IR_NONE;
}

enum ir_layout side_layout(const struct sched *s, const struct ir_sub *sub, uint32_t tensor)
{
    int input;
    if (!s->sides)
        return IR_LAYOUT_TOKENS;
    uint32_t o = find_op(s, sub, tensor, &input);
    const struct op_side *side = &s->sides[o];
    return (enum ir_layout)(input >= 0 ? side->in[input] : side->out[s->g->tensors.at[tensor].output]);
}

struct ir_shape side_tensor(const struct sched *s, const struct ir_sub *sub, uint32_t tensor)
{
    int input;
    struct ir_op_shapes shapes;
    if (!s->sides)
        return s->g->tensors.at[tensor].shape;
    uint32_t o = find_op(s, sub, tensor, &input);
    side_shapes(s, o, &shapes);
    return input >= 0 ? shapes.in[input] : shapes.out[s->g->tensors.at[tensor].output];
}

/* The first dimension of a tensor is its tokens; of rows by expert as many as the tokens take; counts by expert have none. */
struct ir_shape side_whole_rows(const struct sched *s, uint32_t tensor, enum ir_layout layout)
{
    const struct ir_tensor *t = &s->g->tensors.at[tensor];
    struct ir_shape shape = t->shape;
    struct ir_op_shapes shapes;
    if (!s->sides)
        return shape;
    if (t->producer == IR_NONE) {
        shape.dim[0] = side_tokens(s, layout);
        return shape;
    }
    const struct ir_node_op *o = &s->g->ops.at[t->producer];
    struct ir_attrs rows = o->attrs;
    if (s->sides[t->producer].split == IR_COUNTS)
        rows = side_attrs(s, t->producer);
    ir_op_shapes((enum ir_op)o->op, &rows, side_tokens(s, layout), &shapes);
    return shapes.out[t->output];
}

uint32_t side_program_tokens(const struct sched *s, const struct ir_sub *sub)
{
    return s->sides ? side_op_tokens(s, s->chunks.ops.at[sub->first_op]) : 0;
}

uint32_t side_counts(const struct sched *s, uint32_t op)
{
    const struct ir_node_op *o = &s->g->ops.at[op];
    if (!s->sides || o->op != IR_OP_DISPATCH || s->sides[op].split != IR_COUNTS)
        return IR_NONE;
    return s->g->tensors.at[o->in[1]].producer;
}

bool side_tells(const struct sched *s, uint32_t op)
{
    const struct ir_share share = side_share(s, op);
    return !share.ring && ir_op_phases((enum ir_op)s->g->ops.at[op].op, IR_PASS_F, &share) > 1;
}

bool side_knows(const struct sched *s, uint32_t op)
{
    return s->g->ops.at[op].op == IR_OP_RMSNORM && side_tells(s, op);
}

bool side_is_kept(const struct sched *s, uint32_t op, uint32_t save)
{
    return side_tells(s, op) && save == (side_knows(s, op) ? 0 : 1);
}

uint32_t side_ring(const struct sched *s, const struct ir_sub *sub)
{
    const uint32_t first = s->chunks.ops.at[sub->first_op];
    return s->sides && s->sides[first].split == IR_RING ? first : IR_NONE;
}

bool side_recomputes(const struct sched *s, const struct ir_sub *sub, uint32_t mb)
{
    const uint32_t first = s->chunks.ops.at[sub->first_op];
    const bool words = s->sides && s->g->ops.at[first].op == IR_OP_HEAD_LOSS && s->sides[first].split == IR_WORDS;
    return recomputes(s, sub, mb) && !words && side_ring(s, sub) == IR_NONE;
}
