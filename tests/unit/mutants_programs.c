/* Mutants of what kernels read and write, of experts' rows, and of the memory beside them: see mutants.h. */
#include "mutants.h"

static bool is_gradient(const struct plan_kernel *k, uint32_t which)
{
    return (which >= OPERAND_DOUT && which < OPERAND_DPARAM) || (k->op >= IR_OP_GRAPH_COUNT && which != OPERAND_WORK);
}

/* The program of a kernel. */
static const struct plan_program *program_of(const struct plan_builder *b, uint32_t kernel)
{
    uint32_t i = 0;
    while (kernel >= b->programs.at[i].first_kernel + b->programs.at[i].n_kernels)
        i++;
    return &b->programs.at[i];
}

/* Elements of the gradient that operand `which` is; 0: of none. */
static uint64_t gradient_elements(const struct compiled *c, const struct plan_kernel *k, uint32_t which)
{
    const struct ir_node_op *op = k->op < IR_OP_GRAPH_COUNT ? &c->g.ops.at[k->graph_op] : NULL;
    if (!is_gradient(k, which))
        return 0;
    const uint32_t t = !op                   ? k->tensor
                       : which < OPERAND_DIN ? op->out[which - OPERAND_DOUT]
                                             : op->in[(which - OPERAND_DIN) % IR_MAX_IN];
    return ir_shape_elements(&c->g.tensors.at[t].shape);
}

/* Puts the gradient operand number *nth of kind [from, to) in the place of an earlier one of the same size in its program, of another
 * tensor: every such pair is a variant. False: there are no more. */
static bool take_other(const struct compiled *c, struct plan_builder *b, uint32_t from, uint32_t to, uint32_t nth)
{
    for (uint32_t i = 0; i < b->kernels.n; i++)
        for (uint32_t w = from; w < to; w++) {
            const struct plan_kernel *k = &b->kernels.at[i];
            struct plan_operand *o = mutant_operand(b, k, w);
            const uint64_t n = o ? gradient_elements(c, k, w) : 0;
            for (uint32_t j = program_of(b, i)->first_kernel; n && j < i; j++)
                for (uint32_t x = OPERAND_DOUT; x < OPERAND_DPARAM; x++) {
                    const struct plan_operand *other = mutant_operand(b, &b->kernels.at[j], x);
                    if (!other || gradient_elements(c, &b->kernels.at[j], x) != n ||
                        (other->slot == o->slot && other->offset == o->offset) || nth-- > 0)
                        continue;
                    *o = *other;
                    return true;
                }
        }
    return false;
}

/* acc0=10+0 -> acc0=0+0: trained to other bits */
EXAMPLE(adds_to_other_gradient)
{
    return take_other(c, b, OPERAND_ACC, OPERAND_DPARAM, nth);
}
EXAMPLE(takes_other_gradient)
{
    return take_other(c, b, OPERAND_DOUT, OPERAND_DIN, nth);
}
/* A part of a gradient that is read twice, another that is left out. */
EXAMPLE(sums_one_part_twice)
{
    for (uint32_t i = 0; i < b->kernels.n; i++)
        if (b->kernels.at[i].op == IR_OP_SUM && nth-- == 0) {
            *mutant_operand(b, &b->kernels.at[i], OPERAND_IN + 1) = *mutant_operand(b, &b->kernels.at[i], OPERAND_IN);
            return true;
        }
    return false;
}
/* A router's incoming gradient at another offset, in the frame that BI leaves for BW too. */
EXAMPLE(gradient_of_router_elsewhere)
{
    for (uint32_t i = 0; i < b->kernels.n; i++) {
        const struct plan_kernel *k = &b->kernels.at[i];
        struct plan_operand *o = k->op == IR_OP_ROUTER ? mutant_operand(b, k, OPERAND_DOUT) : NULL;
        if (!o || nth-- > 0)
            continue;
        o->offset += ir_target_cpu.alignment;
        return true;
    }
    return false;
}
/* A workspace over what its kernel reads or writes: not its first byte. */
EXAMPLE(work_over_live_data)
{
    for (uint32_t i = 0; i < b->kernels.n; i++) {
        const struct plan_kernel *k = &b->kernels.at[i];
        struct plan_operand *work = mutant_operand(b, k, OPERAND_WORK);
        const bool small = k->op == IR_OP_DISPATCH && b->h.share; /* without a capacity no more than a place */
        for (uint32_t w = 0; w < OPERAND_WORK && work && !small; w++) {
            const struct plan_operand *o = mutant_operand(b, k, w);
            if (!o || o->slot != work->slot || o->offset < ir_target_cpu.alignment || nth-- > 0)
                continue;
            work->offset = o->offset - ir_target_cpu.alignment;
            return true;
        }
    }
    return false;
}
/* Operand `which` of kernel i goes; false: it has none such. */
static bool drop_operand(struct plan_builder *b, uint32_t i, uint32_t which)
{
    struct plan_operand *o = mutant_operand(b, &b->kernels.at[i], which);
    if (!o)
        return false;
    b->kernels.at[i].mask &= ~(UINT64_C(1) << which);
    memmove(o, o + 1, (b->operands.n - 1 - (uint32_t)(o - b->operands.at)) * sizeof *o);
    b->operands.n--;
    for (uint32_t j = i + 1; j < b->kernels.n; j++)
        b->kernels.at[j].first_operand--;
    return true;
}
EXAMPLE(no_workspace)
{
    for (uint32_t i = 0; i < b->kernels.n; i++)
        if (mutant_operand(b, &b->kernels.at[i], OPERAND_WORK) && nth-- == 0)
            return drop_operand(b, i, OPERAND_WORK);
    return false;
}
/* The sums of the parts before, which a kernel of a ring goes on with. */
EXAMPLE(no_sums_so_far)
{
    for (uint32_t i = 0; i < b->kernels.n; i++)
        for (uint32_t w = OPERAND_SAVE; w < OPERAND_PARAM; w++) {
            const struct plan_kernel *k = &b->kernels.at[i];
            const bool made = w < OPERAND_STASH ? k->pass == IR_PASS_F : k->pass == IR_PASS_BI;
            if (k->split == IR_RING && made && mutant_operand(b, k, w) && nth-- == 0)
                return drop_operand(b, i, w);
        }
    return false;
}
/* Experts compute with the rows of this device instead of those that came to it. */
EXAMPLE(rows_that_did_not_travel)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if (in->op != PLAN_ALL_TO_ALL && in->op != PLAN_ALL_TO_ALL_V)
            continue;
        const struct plan_base *from = &b->bases.at[in->first_base], *to = from + 1;
        for (uint32_t k = i + 1; k < b->instrs.n; k++)
            for (uint32_t x = 0; x < b->instrs.at[k].n_bases && b->instrs.at[k].op == PLAN_RUN; x++) {
                struct plan_base *base = &b->bases.at[b->instrs.at[k].first_base + x];
                if (base->arena != ARENA_WORK || base->buffer != to->buffer || nth-- > 0)
                    continue;
                base->buffer = from->buffer;
                base->offset = from->offset;
                return true;
            }
    }
    return false;
}
EXAMPLE(counts_exchanged)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ALL_TO_ALL_V && nth-- == 0) {
            struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base], t = base[2];
            base[2] = base[3];
            base[3] = t;
            return true;
        }
    return false;
}
/* First and last instruction of a list that use a buffer, and the last before `until`; PLAN_NONE: none does. */
struct uses {
    uint32_t first, last, before;
};
static struct uses uses_of(const struct plan_builder *b, const struct plan_list *l, uint32_t buffer, uint32_t until)
{
    struct uses u = { PLAN_NONE, PLAN_NONE, PLAN_NONE };
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++)
        for (uint32_t k = b->instrs.at[i].first_base; k < b->instrs.at[i].first_base + b->instrs.at[i].n_bases; k++) {
            if (b->bases.at[k].arena != ARENA_WORK || b->bases.at[k].buffer != buffer)
                continue;
            u.first = u.first == PLAN_NONE ? i : u.first;
            u.last = i;
            u.before = i < until ? i : u.before;
        }
    return u;
}
/* A buffer that lives between the last two uses of counts stands on them: the exchange of rows then reads something else. */
EXAMPLE(counts_overwritten)
{
    if (nth >= 8)
        return false;
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr in = b->instrs.at[i];
        const struct plan_list *l = &b->lists.at[mutant_list(b, i)];
        for (uint32_t k = 2; k < 4 && in.op == PLAN_ALL_TO_ALL_V; k++) {
            const uint32_t counts = b->bases.at[in.first_base + k].buffer;
            const uint32_t before = uses_of(b, l, counts, i).before;
            for (uint32_t x = 0; x < b->buffers.n; x++) {
                const struct uses u = uses_of(b, l, x, i);
                if (u.first == PLAN_NONE || u.first <= before || u.last >= i || nth-- > 0)
                    continue;
                const uint64_t move = b->buffers.at[counts].offset - b->buffers.at[x].offset;
                b->buffers.at[x].offset += move;
                for (uint32_t at = 0; at < b->bases.n; at++)
                    if (b->bases.at[at].arena == ARENA_WORK && b->bases.at[at].buffer == x)
                        b->bases.at[at].offset += move;
                return true;
            }
        }
    }
    return false;
}
/* Then one rank or the network "was lost", or a rank divided by 0. */
EXAMPLE(scratch_of_other_size)
{
    for (uint32_t i = 0; i < b->instrs.n && c->out.n_classes > 1; i++)
        if (b->instrs.at[i].op == PLAN_SCALARS && nth-- == 0) {
            b->streams.at[b->instrs.at[i].stream].scratch_bytes -= ir_target_cpu.alignment;
            return true;
        }
    return false;
}
EXAMPLE(scratch_of_nothing)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if ((in->op != PLAN_ALL_REDUCE && in->op != PLAN_REDUCE_SCATTER) || nth-- > 0)
            continue;
        b->streams.at[in->stream].scratch_bytes = 0;
        return true;
    }
    return false;
}
EXAMPLE(scratch_misaligned)
{
    for (uint32_t i = 0; i < b->streams.n; i++)
        if (b->streams.at[i].scratch_bytes && nth-- == 0) {
            b->streams.at[i].scratch += 4;
            b->streams.at[i].scratch_bytes -= 4;
            return true;
        }
    return false;
}
/* m and v of all buckets: on other state, not where the target asks, or only one of the two. */
EXAMPLE(moments_elsewhere)
{
    struct plan_bucket *u = NULL;
    for (uint32_t i = 0, n = nth / 6; i < b->buckets.n && !u; i++)
        if (b->buckets.at[i].rule == PLAN_RULE_OPTIMIZER && n-- == 0)
            u = &b->buckets.at[i];
    if (!u)
        return false;
    uint64_t *at = nth % 2 ? &u->v : &u->m, *other = nth % 2 ? &u->m : &u->v;
    *at = nth % 6 < 2 ? *other : nth % 6 < 4 ? *at + 4 : UINT64_MAX;
    return true;
}

/* ---- rows that are received again ---- */

/* Is an instruction a dispatch that runs again? */
static bool permutes_again(const struct plan_builder *b, const struct plan_instr *in)
{
    const struct plan_program *g = &b->programs.at[in->program];
    return in->op == PLAN_RUN && g->pass == IR_PASS_NONE && b->kernels.at[g->first_kernel].op == IR_OP_DISPATCH;
}

/* Number nth of the all-to-alls that send what such a one made, and the one of the forward that sent it before; false: there are no more. */
static bool sent_again(const struct plan_builder *b, uint32_t nth, uint32_t *again, uint32_t *before)
{
    for (*again = 0; *again < b->instrs.n; ++*again) {
        const struct plan_instr *in = &b->instrs.at[*again];
        if ((in->op != PLAN_ALL_TO_ALL && in->op != PLAN_ALL_TO_ALL_V) || in->pass != IR_PASS_B ||
            b->buffers.at[b->bases.at[in->first_base].buffer].role != SLOT_TENSOR || nth-- > 0)
            continue;
        for (*before = 0; *before < *again; ++*before) {
            const struct plan_instr *first = &b->instrs.at[*before];
            if (first->op == in->op && first->tensor == in->tensor && first->mb == in->mb)
                return true;
        }
    }
    return false;
}

EXAMPLE(dispatch_not_again)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (permutes_again(b, &b->instrs.at[i]) && nth-- == 0)
            return mutant_drop(b, i);
    return false;
}
EXAMPLE(rows_not_sent_again)
{
    uint32_t again, before;
    return sent_again(b, nth, &again, &before) && mutant_drop(b, again);
}
/* What the forward has sent, in place of what is made again: it has been given up. */
EXAMPLE(sends_rows_of_forward)
{
    uint32_t again, before;
    if (!sent_again(b, nth, &again, &before))
        return false;
    b->bases.at[b->instrs.at[again].first_base] = b->bases.at[b->instrs.at[before].first_base];
    return true;
}
/* What the forward has received. */
EXAMPLE(reads_rows_of_forward)
{
    uint32_t again, before;
    if (!sent_again(b, nth, &again, &before))
        return false;
    const struct plan_base to = b->bases.at[b->instrs.at[again].first_base + 1],
                           was = b->bases.at[b->instrs.at[before].first_base + 1];
    for (uint32_t i = again + 1; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < b->instrs.at[i].n_bases; k++) {
            struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base + k];
            if (base->arena != ARENA_WORK || base->buffer != to.buffer)
                continue;
            base->buffer = was.buffer;
            base->offset = was.offset;
            return true;
        }
    return false;
}
/* Of another microbatch. */
EXAMPLE(sends_rows_of_other)
{
    uint32_t again, before, other;
    if (!sent_again(b, nth, &again, &before))
        return false;
    for (uint32_t k = 0; sent_again(b, k, &other, &before); k++) {
        const struct plan_instr *x = &b->instrs.at[again], *y = &b->instrs.at[other];
        if (x->tensor != y->tensor || x->mb == y->mb)
            continue;
        b->bases.at[x->first_base] = b->bases.at[y->first_base];
        return true;
    }
    return false;
}
/* ---- weights whose gradients are computed apart ---- */

/* Is it a BW that gives gradients of some weights of experts, but not of all? */
static bool is_part(const struct plan_kernel *k)
{
    const uint64_t weights = k->mask >> OPERAND_DPARAM & 7;
    return k->op == IR_OP_EXPERTS && k->pass == IR_PASS_BW && weights != 7;
}

static uint32_t nth_part(const struct plan_builder *b, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if (in->op == PLAN_RUN && is_part(&b->kernels.at[b->programs.at[in->program].first_kernel]) && nth-- == 0)
            return i;
    }
    return PLAN_NONE;
}

EXAMPLE(weight_forgotten)
{
    return mutant_drop(b, nth_part(b, nth));
}
EXAMPLE(weight_twice)
{
    return mutant_repeat(b, nth_part(b, nth));
}
/* What one part reads, for the gradient of the weight of another. */
EXAMPLE(weight_of_other_part)
{
    for (uint32_t i = 0; i < b->kernels.n; i++) {
        struct plan_kernel *k = &b->kernels.at[i];
        if (!is_part(k) || nth-- > 0)
            continue;
        const uint64_t weights = k->mask >> OPERAND_DPARAM & 7;
        k->mask ^= (weights | (weights == 4 ? 1 : weights << 1)) << OPERAND_DPARAM;
        return true;
    }
    return false;
}
/* A gradient is added to what nobody has written, or written over. */
EXAMPLE(weight_first)
{
    const uint32_t i = nth_part(b, nth);
    for (uint32_t k = 0; i != PLAN_NONE && k < b->instrs.at[i].n_bases; k++)
        if (b->slots.at[b->programs.at[b->instrs.at[i].program].first_slot + k].kind == SLOT_GRAD)
            b->bases.at[b->instrs.at[i].first_base + k].first ^= 1;
    return i != PLAN_NONE;
}

/* It would count dropped choices twice. */
EXAMPLE(again_as_the_first_time)
{
    for (uint32_t i = 0; i < b->kernels.n; i++)
        if (b->kernels.at[i].op == IR_OP_DISPATCH && b->kernels.at[i].again && nth-- == 0) {
            b->kernels.at[i].again = 0;
            return true;
        }
    return false;
}

const struct mutant mutants_of_programs[] = {
    MUTANT(adds_to_other_gradient, "gradient", 100),
    MUTANT(takes_other_gradient, "gradient", 100),
    MUTANT(sums_one_part_twice, "gradient", 2),
    MUTANT(gradient_of_router_elsewhere, "program", 4),
    MUTANT(work_over_live_data, "value", 20),
    MUTANT(no_workspace, "program", 20),
    MUTANT(no_sums_so_far, "program", 4),
    MUTANT(rows_that_did_not_travel, "layout", 8),
    MUTANT(counts_exchanged, "layout", 4),
    MUTANT(counts_overwritten, "value", 1),
    MUTANT(scratch_of_other_size, "scratch", 2),
    MUTANT(scratch_of_nothing, "scratch", 10),
    MUTANT(scratch_misaligned, "alignment", 4),
    MUTANT(moments_elsewhere, "shards", 50),
    MUTANT(moments_elsewhere, "alignment", 50),
    MUTANT(dispatch_not_again, "value", 8),
    MUTANT(rows_not_sent_again, "value", 8),
    MUTANT(sends_rows_of_forward, "value", 8),
    MUTANT(reads_rows_of_forward, "value", 8),
    MUTANT(sends_rows_of_other, "value", 8),
    MUTANT(again_as_the_first_time, "program", 4),
    MUTANT(weight_forgotten, "cover", 20),
    MUTANT(weight_twice, "cover", 20),
    MUTANT(weight_of_other_part, "program", 6),
    MUTANT(weight_first, "value", 20),
    { 0 },
};
