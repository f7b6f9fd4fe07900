/* Layouts: what of a tensor a device has where sequences are shared (ir/split.h). A kernel's operands are in the layouts that its
 * operator's equations take and give; a gather or a sum turns one into another over the groups of that layout. So nothing reads terms, and
 * what is in terms is summed before it is read. */
#include "sched/check/values.h"

#include <inttypes.h>

enum ir_layout layouts_of_operand(const struct check *c, uint32_t cls, const struct plan_kernel *k, uint32_t which)
{
    static const uint8_t dual[IR_LAYOUTS] = {
        [IR_LAYOUT_TOKENS] = IR_LAYOUT_TOKENS, [IR_LAYOUT_WHOLE] = IR_LAYOUT_TERMS,
        [IR_LAYOUT_COLUMNS] = IR_LAYOUT_COLUMNS, [IR_LAYOUT_TERMS] = IR_LAYOUT_WHOLE,
        [IR_LAYOUT_KEYS] = IR_LAYOUT_KEY_TERMS, [IR_LAYOUT_KEY_TERMS] = IR_LAYOUT_KEYS,
    };
    const struct plan_header *h = c->classes[cls].p->h;
    const struct ir_node_op *op = &c->g->ops.at[k->graph_op];
    enum ir_layout in[IR_MAX_IN], out[IR_MAX_OUT];
    if (!h->share)
        return IR_LAYOUT_TOKENS;
    ir_op_layouts((enum ir_op)op->op, (enum ir_split)k->split, in, out);
    if (op->op == IR_OP_ATTENTION && op->attrs.flags & IR_PACKED)
        in[0] = IR_LAYOUT_KEYS;
    for (int i = 0; i < IR_MAX_IN; i++)
        if (in[i] == IR_LAYOUT_KEYS && h->context == 1)
            in[i] = IR_LAYOUT_COLUMNS;
    if (which < OPERAND_OUT)
        return in[which - OPERAND_IN];
    if (which < OPERAND_SAVE)
        return out[which - OPERAND_OUT];
    if (which >= OPERAND_DOUT && which < OPERAND_DIN)
        return (enum ir_layout)dual[out[which - OPERAND_DOUT]];
    if (which >= OPERAND_DIN && which < OPERAND_DPARAM)
        return (enum ir_layout)dual[in[(which - OPERAND_DIN) % IR_MAX_IN]];
    return IR_LAYOUTS;
}

/* What a gather or a sum of a tensor turns into what: layouts of base 0 and base 1. */
static bool turns(uint32_t op, uint32_t from, uint32_t to)
{
    if (op == PLAN_ALL_GATHER)
        return (from == IR_LAYOUT_TOKENS && to == IR_LAYOUT_WHOLE) ||
               ((from == IR_LAYOUT_TOKENS || from == IR_LAYOUT_COLUMNS) && to == IR_LAYOUT_KEYS);
    return op == PLAN_REDUCE_SCATTER &&
           ((from == IR_LAYOUT_TERMS && to == IR_LAYOUT_TOKENS) ||
            (from == IR_LAYOUT_KEY_TERMS && (to == IR_LAYOUT_TOKENS || to == IR_LAYOUT_COLUMNS)));
}

/* The place, among those that share a sequence, of member i of the group of the first device; PLAN_NONE: of another replica. */
static uint32_t place_of(const struct plan *p, uint32_t group, uint32_t i)
{
    const uint32_t me = plan_set_at(p, p->h->devices, 0), other = plan_group_at(p, group, me, i);
    const uint32_t mine = p->h->share_group;
    for (uint32_t k = 0; k < p->h->share; k++)
        if (plan_group_at(p, mine, me, k) == other)
            return k;
    return PLAN_NONE;
}

/* The members stand in the order of their tokens: neighbours for a tensor group; for a context group one of each part of the sequence, in
 * their order, or, back, the other way round. */
static enum status check_members(const struct values *v, struct check_place at, uint32_t group, bool keys, bool back)
{
    const struct plan_header *h = v->p->h;
    const uint32_t n = check_group_size(v->c, v->cls, group), step = keys ? h->share / h->context : 1;
    if (keys && n != h->context)
        return check_wrong(v->c, RULE_LAYOUT, at, "%u members gather keys of %u parts of a sequence", n, h->context);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = place_of(v->p, group, i), first = place_of(v->p, group, back ? n - 1 : 0);
        uint32_t want = first + (back ? n - 1 - i : i) * step;
        if (k == PLAN_NONE || k != want || (keys ? first >= step : first % n != 0))
            return check_wrong(v->c, RULE_LAYOUT, at, "member %u of group %u is not the one whose tokens stand there", i,
                               group);
    }
    return ST_OK;
}

enum status values_border(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    const struct plan_base *b = &v->p->bases[in->first_base];
    const struct plan_buffer *f[2];
    for (uint32_t k = 0; k < 2; k++) {
        f[k] = b[k].arena == ARENA_WORK ? &v->p->buffers[b[k].buffer] : NULL;
        if (!f[k] || f[k]->mb != in->mb || f[k]->what != in->tensor || in->tensor >= v->c->g->tensors.n)
            return check_wrong(v->c, RULE_VALUE, at, "base %u is not tensor %u of this microbatch", k, in->tensor);
    }
    if (f[0]->role != f[1]->role || !v->p->h->share || !turns(in->op, f[0]->layout, f[1]->layout))
        return check_wrong(v->c, RULE_LAYOUT, at, "turns layout %u into %u", f[0]->layout, f[1]->layout);
    const bool keys = f[0]->layout == IR_LAYOUT_KEY_TERMS || f[1]->layout == IR_LAYOUT_KEYS;
    const uint64_t calls = keys && v->p->h->zigzag ? 2 : 1;
    const uint32_t small = in->op == PLAN_REDUCE_SCATTER, group = v->p->channels[in->channel].group,
                   members = check_group_size(v->c, v->cls, group);
    const struct ir_shape *s = &v->c->g->tensors.at[in->tensor].shape;
    const uint64_t bytes = in->count * ir_dtype_size((enum ir_dtype)in->type, v->p->h->compute);
    const bool first = b[0].offset == f[0]->offset && b[1].offset == f[1]->offset;
    const bool second = calls == 2 && b[0].offset == f[0]->offset + f[0]->bytes / 2 &&
                        b[1].offset == f[1]->offset + f[1]->bytes / 2;
    if ((!first && !second) || f[small]->bytes != bytes * calls || f[!small]->bytes != bytes * calls * members ||
        in->type != (s->dtype == IR_COMPUTE ? v->p->h->compute : s->dtype))
        return check_wrong(v->c, RULE_VALUE, at, "%" PRIu64 " bytes of each of %u members are not all of buffers %u, %u",
                           bytes, members, b[0].buffer, b[1].buffer);
    v->held[b[1].buffer].sum = v->held[b[0].buffer].sum;
    v->held[b[1].buffer].away = v->held[b[0].buffer].away;
    return check_members(v, at, group, keys, second);
}
