/* Names of the operands of a program: a forward tensor, a saved or stashed tensor of an operator, the gradient of a tensor, or a
 * workspace, each with its extent. */
#include "sched/check/values.h"

#include <inttypes.h>

static struct item named(const struct values *v, uint32_t name, uint32_t id, const struct ir_shape *s)
{
    uint64_t elements = ir_shape_elements(s) * v->microbatch_size;
    return (struct item){ .name = (uint8_t)name,
                          .id = id,
                          .bytes = elements * ir_dtype_size((enum ir_dtype)s->dtype, v->p->h->compute),
                          .elements = elements };
}

/* Operand number `which` of a kernel of the graph; NAME_NONE: a parameter or the gradient of one. */
static struct item name_operand(const struct values *v, const struct plan_program *g, const struct plan_kernel *k,
                                uint32_t which)
{
    const struct ir_node_op *op = &v->c->g->ops.at[k->graph_op];
    struct ir_op_shapes s;
    struct ir_attrs local;
    struct ir_kernel kernel = check_kernel_part(v->c, g, k, &local);
    if (which == OPERAND_WORK) {
        kernel.b = v->microbatch_size;
        kernel.compute = v->p->h->compute;
        uint64_t bytes = v->c->target->workspace(&kernel);
        return (struct item){ .name = NAME_WORK, .bytes = bytes, .elements = bytes };
    }
    ir_op_part_shapes(kernel.op, &local, kernel.t, &kernel.share, &s);
    if (which == OPERAND_IN + CHECK_TOLD && k->split == IR_COUNTS && op->op == IR_OP_DISPATCH)
        return named(v, NAME_SAVE, v->c->g->tensors.at[op->in[1]].producer * IR_MAX_SAVE + 1, &s.in[CHECK_TOLD]);
    if (which < OPERAND_OUT)
        return named(v, NAME_TENSOR, op->in[which - OPERAND_IN], &s.in[which - OPERAND_IN]);
    if (which < OPERAND_SAVE)
        return named(v, NAME_TENSOR, op->out[which - OPERAND_OUT], &s.out[which - OPERAND_OUT]);
    if (which < OPERAND_STASH)
        return named(v, NAME_SAVE, k->graph_op * IR_MAX_SAVE + which - OPERAND_SAVE, &s.save[which - OPERAND_SAVE]);
    if (which < OPERAND_PARAM)
        return named(v, NAME_STASH, k->graph_op * IR_MAX_STASH + which - OPERAND_STASH,
                     &s.stash[which - OPERAND_STASH]);
    if (which >= OPERAND_DOUT && which < OPERAND_DIN)
        return named(v, NAME_GRADIENT, op->out[which - OPERAND_DOUT], &s.out[which - OPERAND_DOUT]);
    if (which >= OPERAND_DIN && which < OPERAND_DPARAM)
        return named(v, NAME_GRADIENT, op->in[(which - OPERAND_DIN) % IR_MAX_IN],
                     &s.in[(which - OPERAND_DIN) % IR_MAX_IN]);
    return (struct item){ .name = NAME_NONE };
}

bool values_may_stand(const struct item *item, uint32_t kind)
{
    switch (item->name) {
    case NAME_WORK:
        return kind == SLOT_TEMP;
    case NAME_TENSOR:
        return kind == SLOT_TENSOR || kind == SLOT_KEEP || kind == SLOT_STASH || /* stash: computed again by BI */
               (item->write && kind == SLOT_TEMP);
    case NAME_SAVE:
        return kind == SLOT_KEEP || kind == SLOT_STASH || (item->write && kind == SLOT_TEMP);
    case NAME_STASH:
        return kind == SLOT_STASH || (item->write && (kind == SLOT_TEMP || kind == SLOT_RING));
    default:
        return kind == SLOT_GRADIENT || kind == SLOT_STASH || (item->write && kind == SLOT_TEMP);
    }
}

/* Checks one operand against its slot, and appends it. */
static enum status add_item(const struct values *v, uint32_t program, struct item item, struct items *items)
{
    const struct plan *p = v->p;
    const struct plan_program *g = &p->programs[program];
    const struct plan_slot *s = &p->slots[g->first_slot + item.slot];
    struct check_place at = { .cls = v->cls };
    uint32_t number = item.kernel - g->first_kernel;
    const char *op = ir_op_info[p->kernels[item.kernel].op].name;
    if (item.offset > s->bytes || item.bytes > s->bytes - item.offset)
        return check_wrong(v->c, RULE_PROGRAM, at,
                           "program %u, kernel %u (%s): %" PRIu64 " elements, %" PRIu64 " bytes, at %" PRIu64
                           " of slot %u, which has %" PRIu64 " bytes",
                           program, number, op, item.elements, item.bytes, item.offset, item.slot, s->bytes);
    if (item.offset % v->c->target->alignment)
        return check_wrong(
            v->c, RULE_ALIGN, at,
            "program %u, kernel %u (%s): operand %s at byte %" PRIu64 " of slot %u, not a multiple of %u", program,
            number, op, plan_operand_name(item.which), item.offset, item.slot, v->c->target->alignment);
    if (item.write && !values_may_stand(&item, s->kind))
        return check_wrong(v->c, RULE_PROGRAM, at,
                           "program %u, kernel %u (%s): writes %s into slot %u, which is for something else", program,
                           number, op, plan_operand_name(item.which), item.slot);
    vec_add(items, item);
    return ST_OK;
}

/* Does a kernel write what it reads? At the same place a gradient may be added to, and one term of a sum take the sum. */
static enum status check_overlap(const struct values *v, uint32_t program, const struct items *items, uint32_t first)
{
    const struct item *w = &items->at[items->n - 1];
    const struct plan_kernel *k = &v->p->kernels[w->kernel];
    for (uint32_t i = first; i + 1 < items->n; i++) {
        const struct item *r = &items->at[i];
        if (w->bytes == 0 || r->bytes == 0 || r->slot != w->slot || r->offset >= w->offset + w->bytes ||
            w->offset >= r->offset + r->bytes)
            continue;
        bool in_place = k->op == IR_OP_SUM ||
                        (w->which >= OPERAND_DIN && r->which == w->which - OPERAND_DIN + OPERAND_ACC);
        if (!r->write && in_place && r->offset == w->offset && r->bytes == w->bytes)
            continue;
        return check_wrong(v->c, RULE_VALUE, (struct check_place){ .cls = v->cls },
                           "program %u, kernel %u (%s): %s and %s share byte %" PRIu64 " of slot %u", program,
                           w->kernel - v->p->programs[program].first_kernel, ir_op_info[k->op].name,
                           plan_operand_name(r->which), plan_operand_name(w->which),
                           r->offset > w->offset ? r->offset : w->offset, w->slot);
    }
    return ST_OK;
}

static enum status list_kernel(const struct values *v, uint32_t program, uint32_t i, struct items *items)
{
    const struct plan_kernel *k = &v->p->kernels[i];
    const uint32_t first = items->n;
    TRY(layouts_check_kernel(v, program, i));
    for (int write = 0; write < 2; write++) {
        const struct plan_operand *o = &v->p->operands[k->first_operand];
        for (uint64_t rest = k->mask; rest; rest &= rest - 1, o++) {
            uint32_t which = (uint32_t)__builtin_ctzll(rest);
            if (plan_kernel_writes(k, which) != write)
                continue;
            struct item item = { .name = NAME_GRADIENT,
                                 .id = k->tensor,
                                 .elements = k->n,
                                 .bytes = k->n * ir_dtype_size((enum ir_dtype)k->type, v->p->h->compute) };
            if (k->op == IR_OP_TO_BLOCKS || k->op == IR_OP_FROM_BLOCKS)
                item.name = v->p->slots[v->p->programs[program].first_slot + o->slot].kind == SLOT_TENSOR
                                ? NAME_TENSOR
                                : NAME_GRADIENT;
            if (k->op < IR_OP_GRAPH_COUNT)
                item = name_operand(v, &v->p->programs[program], k, which);
            if (item.name == NAME_NONE)
                continue;
            item.which = (uint8_t)which;
            item.layout = layouts_of(v, k, which);
            item.write = write;
            item.slot = o->slot;
            item.offset = o->offset;
            item.kernel = i;
            TRY(add_item(v, program, item, items));
            if (write)
                TRY(check_overlap(v, program, items, first));
        }
    }
    const struct item work = k->op < IR_OP_GRAPH_COUNT ? name_operand(v, &v->p->programs[program], k, OPERAND_WORK)
                                                       : (struct item){ 0 };
    if (work.bytes && !(k->mask >> OPERAND_WORK & 1))
        return check_wrong(v->c, RULE_PROGRAM, (struct check_place){ .cls = v->cls },
                           "program %u, kernel %u (%s) lacks its workspace of %" PRIu64 " bytes", program,
                           i - v->p->programs[program].first_kernel, ir_op_info[k->op].name, work.bytes);
    return ST_OK;
}

enum status values_list(const struct values *v, uint32_t program, struct items *items)
{
    const struct plan_program *g = &v->p->programs[program];
    for (uint32_t i = g->first_kernel; i < g->first_kernel + g->n_kernels; i++)
        TRY(list_kernel(v, program, i, items));
    layouts_of_sums(v, program, items);
    return ST_OK;
}
