/* Plans that were accepted once though they computed something else, or stopped a run with the wrong advice: each is refused, by the rule
 * that is about it. An example is a way to change a compiled plan; it is tried wherever the plan has such a thing, and no place of it may
 * pass. Random single-field mutants, run where they are accepted: tests/mutants. */
#include "compiled.h"

#include "plan_edit.h"

/* ---- places of a plan ------------------------------------------------------------------------------------------- */

static struct plan_operand *operand(struct plan_builder *b, const struct plan_kernel *k, uint32_t which)
{
    const uint32_t before = k->mask & ((1u << which) - 1);
    return k->mask >> which & 1 ? &b->operands.at[k->first_operand + (uint32_t)__builtin_popcount(before)] : NULL;
}

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
            struct plan_operand *o = operand(b, k, w);
            const uint64_t n = o ? gradient_elements(c, k, w) : 0;
            for (uint32_t j = program_of(b, i)->first_kernel; n && j < i; j++)
                for (uint32_t x = OPERAND_DOUT; x < OPERAND_DPARAM; x++) {
                    const struct plan_operand *other = operand(b, &b->kernels.at[j], x);
                    if (!other || gradient_elements(c, &b->kernels.at[j], x) != n ||
                        (other->slot == o->slot && other->offset == o->offset) || nth-- > 0)
                        continue;
                    *o = *other;
                    return true;
                }
        }
    return false;
}

/* ---- examples --------------------------------------------------------------------------------------------------- */

/* Each changes variant number nth of what it changes: false where there are no more. */
#define EXAMPLE(name)                                                                 \
    static bool name(const struct compiled *c, struct plan_builder *b, uint32_t nth); \
    static bool name(const struct compiled *c, struct plan_builder *b, uint32_t nth)

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
            *operand(b, &b->kernels.at[i], OPERAND_IN + 1) = *operand(b, &b->kernels.at[i], OPERAND_IN);
            return true;
        }
    (void)c;
    return false;
}
/* A router's incoming gradient at another offset, in the frame that BI leaves for BW too. */
EXAMPLE(gradient_of_router_elsewhere)
{
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n; i++) {
        const struct plan_kernel *k = &b->kernels.at[i];
        struct plan_operand *o = k->op == IR_OP_ROUTER ? operand(b, k, OPERAND_DOUT) : NULL;
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
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n; i++) {
        const struct plan_kernel *k = &b->kernels.at[i];
        struct plan_operand *work = operand(b, k, OPERAND_WORK);
        const bool small = k->op == IR_OP_DISPATCH && b->h.share; /* without a capacity no more than a place */
        for (uint32_t w = 0; w < OPERAND_WORK && work && !small; w++) {
            const struct plan_operand *o = operand(b, k, w);
            if (!o || o->slot != work->slot || o->offset < ir_target_cpu.alignment || nth-- > 0)
                continue;
            work->offset = o->offset - ir_target_cpu.alignment;
            return true;
        }
    }
    return false;
}
EXAMPLE(no_workspace)
{
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n; i++) {
        struct plan_kernel *k = &b->kernels.at[i];
        struct plan_operand *o = operand(b, k, OPERAND_WORK);
        if (!o || nth-- > 0)
            continue;
        k->mask &= ~(UINT64_C(1) << OPERAND_WORK);
        memmove(o, o + 1, (b->operands.n - 1 - (uint32_t)(o - b->operands.at)) * sizeof *o);
        b->operands.n--;
        for (uint32_t j = i + 1; j < b->kernels.n; j++)
            b->kernels.at[j].first_operand--;
        return true;
    }
    return false;
}
/* Experts compute with the rows of this device instead of those that came to it. */
EXAMPLE(rows_that_did_not_travel)
{
    (void)c;
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
    (void)c;
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ALL_TO_ALL_V && nth-- == 0) {
            struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base], t = base[2];
            base[2] = base[3];
            base[3] = t;
            return true;
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
    (void)c;
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
    (void)c;
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
    (void)c;
    struct plan_bucket *u = nth / 6 < b->buckets.n ? &b->buckets.at[nth / 6] : NULL;
    if (!u)
        return false;
    uint64_t *at = nth % 2 ? &u->v : &u->m, *other = nth % 2 ? &u->m : &u->v;
    *at = nth % 6 < 2 ? *other : nth % 6 < 4 ? *at + 4 : UINT64_MAX;
    return true;
}

/* ZeRO and snapshots: rules that could be switched off. */
static struct plan_base *nth_base(struct plan_builder *b, enum plan_op op, uint32_t which, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == op && b->bases.at[b->instrs.at[i].first_base + which].access & PLAN_OWN && nth-- == 0)
            return &b->bases.at[b->instrs.at[i].first_base + which];
    return NULL;
}
EXAMPLE(scatters_into_the_first_part)
{
    struct plan_base *base = nth_base(b, PLAN_REDUCE_SCATTER, 1, nth);
    (void)c;
    if (base)
        base->access &= (uint16_t)~PLAN_OWN;
    return base != NULL;
}
EXAMPLE(gathers_the_first_part)
{
    struct plan_base *base = nth_base(b, PLAN_ALL_GATHER, 0, nth);
    (void)c;
    if (base)
        base->access &= (uint16_t)~PLAN_OWN;
    return base != NULL;
}
static bool drop_nth(struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    struct plan_edit e;
    bool found = false;
    plan_edit_begin(b, &e);
    for (uint32_t i = 0; i < e.lists[0].n && !found; i++)
        if (e.lists[0].at[i].in.op == op && nth-- == 0) {
            plan_edit_drop(&e.lists[0], i);
            found = true;
        }
    plan_edit_end(&e);
    return found;
}
EXAMPLE(an_add_is_left_out)
{
    (void)c;
    return drop_nth(b, PLAN_ADD, nth);
}
EXAMPLE(a_gather_is_left_out)
{
    (void)c;
    return drop_nth(b, PLAN_ALL_GATHER, nth);
}
EXAMPLE(snapshots_overlap)
{
    (void)c;
    if (nth + 1 >= b->buckets.n)
        return false;
    b->buckets.at[nth + 1].snapshot = b->buckets.at[nth].snapshot;
    return true;
}

/* Zero groups. The reduction over copies number nth; PLAN_NONE: there are not so many. */
static uint32_t nth_copies(const struct plan_builder *b, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if ((in->op != PLAN_ALL_REDUCE && in->op != PLAN_REDUCE_SCATTER) ||
            b->bases.at[in->first_base].arena != ARENA_GRADS)
            continue;
        const struct plan_bucket *u = &b->buckets.at[in->bucket];
        if (u->zero_group && b->channels.at[in->channel].group == u->copies && nth-- == 0)
            return i;
    }
    return PLAN_NONE;
}
static void drop_at(struct plan_builder *b, uint32_t i)
{
    struct plan_edit e;
    const uint32_t list = i >= b->lists.at[0].first_instr + b->lists.at[0].n_instr;
    plan_edit_begin(b, &e);
    plan_edit_drop(&e.lists[list], i - b->lists.at[list].first_instr);
    plan_edit_end(&e);
}
EXAMPLE(copies_are_not_reduced)
{
    const uint32_t i = nth_copies(b, nth);
    (void)c;
    if (i != PLAN_NONE)
        drop_at(b, i);
    return i != PLAN_NONE;
}
/* Each gradient counts as often as there are copies. */
EXAMPLE(copies_are_reduced_twice)
{
    struct plan_edit e;
    const uint32_t i = nth_copies(b, nth);
    (void)c;
    if (i == PLAN_NONE)
        return false;
    const uint32_t at = i - b->lists.at[0].first_instr;
    plan_edit_begin(b, &e);
    struct plan_record x = e.lists[0].at[at];
    x.in.node += 1u << 30;
    plan_edit_insert(&e.lists[0], at + 1, x);
    plan_edit_end(&e);
    return true;
}
/* Before the group has reduced the gradients of the last microbatch, or before these are added. */
EXAMPLE(copies_are_reduced_early)
{
    struct plan_edit e;
    const uint32_t i = nth_copies(b, nth);
    (void)c;
    if (i == PLAN_NONE)
        return false;
    uint32_t before = i - 1;
    while ((b->instrs.at[before].op != PLAN_ADD && b->instrs.at[before].op != PLAN_REDUCE_SCATTER) ||
           b->instrs.at[before].bucket != b->instrs.at[i].bucket)
        before--;
    plan_edit_begin(b, &e);
    struct plan_record x = e.lists[0].at[i - b->lists.at[0].first_instr];
    plan_edit_drop(&e.lists[0], i - b->lists.at[0].first_instr);
    plan_edit_insert(&e.lists[0], before - b->lists.at[0].first_instr, x);
    plan_edit_end(&e);
    return true;
}
/* Within the group a second time, instead of over copies; or what a group reduces, over copies. */
EXAMPLE(reduces_over_the_other_group)
{
    const uint32_t i = nth_copies(b, nth / 2);
    (void)c;
    if (i == PLAN_NONE)
        return false;
    const struct plan_bucket *u = &b->buckets.at[b->instrs.at[i].bucket];
    for (uint32_t k = 0; k < b->channels.n; k++)
        if (b->channels.at[k].group == (nth % 2 ? u->shard : u->copies))
            b->channels.at[k].group = nth % 2 ? u->copies : u->shard;
    return true;
}
/* Both reductions over the same holders, and the shard map says so too: the gradients of the others are lost. */
EXAMPLE(copies_are_the_group_itself)
{
    (void)c;
    for (uint32_t i = 0; i < b->buckets.n; i++) {
        const struct plan_bucket u = b->buckets.at[i];
        if (!u.zero_group || nth-- > 0)
            continue;
        b->groups.at[u.copies] = b->groups.at[u.shard];
        return true;
    }
    return false;
}
/* Shards of a group in another order than in the others: sums of unlike elements. */
EXAMPLE(a_group_in_another_order)
{
    (void)c;
    for (uint32_t i = 0; i < b->buckets.n; i++) {
        const struct plan_bucket *u = &b->buckets.at[i];
        if (!u->zero_group || nth-- > 0)
            continue;
        /* its last two devices change places: each is a range of its own */
        const uint32_t set = b->groups.at[u->shard].first_set + b->groups.at[u->shard].n_sets - 1;
        struct plan_set *s = &b->sets.at[set];
        const struct plan_range was = b->ranges.at[s->first_range];
        if (s->n_ranges != 1 || was.count != 2)
            return false;
        *vec_push(&b->ranges) = was;
        memmove(&b->ranges.at[s->first_range + 1], &b->ranges.at[s->first_range],
                (b->ranges.n - 1 - s->first_range) * sizeof was);
        b->ranges.at[s->first_range] = (struct plan_range){ was.start + was.stride, 1, 1 };
        b->ranges.at[s->first_range + 1] = (struct plan_range){ was.start, 1, 1 };
        s->n_ranges = 2;
        for (uint32_t k = set + 1; k < b->sets.n; k++)
            b->sets.at[k].first_range++;
        return true;
    }
    return false;
}
EXAMPLE(takes_the_first_part_of_a_shard)
{
    (void)c;
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < b->instrs.at[i].n_bases; k++) {
            struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base + k];
            if (!(base->access & PLAN_PART) || nth-- > 0)
                continue;
            base->access &= (uint16_t)~PLAN_PART;
            return true;
        }
    return false;
}

/* Shared sequences. A gather or a sum of a tensor, number nth of the plan. */
static struct plan_instr *nth_border(struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n && b->h.share; i++) {
        const struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base];
        if ((b->instrs.at[i].op != PLAN_ALL_GATHER && b->instrs.at[i].op != PLAN_REDUCE_SCATTER) ||
            (op != PLAN_OP_COUNT && b->instrs.at[i].op != op) || base->arena != ARENA_WORK || base->access & PLAN_OWN ||
            b->buffers.at[base->buffer].role == SLOT_GRAD || nth-- > 0)
            continue;
        return &b->instrs.at[i];
    }
    return NULL;
}
EXAMPLE(a_sum_of_terms_is_left_out)
{
    struct plan_instr *in = nth_border(b, PLAN_REDUCE_SCATTER, nth);
    struct plan_edit e;
    (void)c;
    if (!in)
        return false;
    uint32_t i = (uint32_t)(in - b->instrs.at), list = i >= b->lists.at[0].first_instr + b->lists.at[0].n_instr;
    plan_edit_begin(b, &e);
    plan_edit_drop(&e.lists[list], i - b->lists.at[list].first_instr);
    plan_edit_end(&e);
    return true;
}
/* Before everything else of the list: so before the forward of its microbatch. */
EXAMPLE(a_gather_comes_too_early)
{
    struct plan_instr *in = nth_border(b, PLAN_ALL_GATHER, nth);
    struct plan_edit e;
    (void)c;
    if (!in)
        return false;
    uint32_t i = (uint32_t)(in - b->instrs.at), list = i >= b->lists.at[0].first_instr + b->lists.at[0].n_instr;
    plan_edit_begin(b, &e);
    i -= b->lists.at[list].first_instr;
    struct plan_record x = e.lists[list].at[i];
    plan_edit_drop(&e.lists[list], i);
    plan_edit_insert(&e.lists[list], 0, x);
    plan_edit_end(&e);
    return true;
}
/* Member k of set s of a group; PLAN_NONE: it has not so many. */
static uint32_t member(const struct plan_builder *b, uint32_t group, uint32_t s, uint32_t k)
{
    const struct plan_group *g = &b->groups.at[group];
    const struct plan_set *set = s < g->n_sets ? &b->sets.at[g->first_set + s] : NULL;
    for (uint32_t i = 0; set && i < set->n_ranges; k -= b->ranges.at[set->first_range + i++].count)
        if (k < b->ranges.at[set->first_range + i].count)
            return b->ranges.at[set->first_range + i].start + k * b->ranges.at[set->first_range + i].stride;
    return PLAN_NONE;
}
/* The next group from `nth` on that has other members than `group`, or in another order. */
static uint32_t other_group(const struct plan_builder *b, uint32_t group, uint32_t nth)
{
    for (uint32_t i = 0; i < b->groups.n; i++) {
        const uint32_t g = (nth + i) % b->groups.n;
        bool same = b->groups.at[g].n_sets == b->groups.at[group].n_sets;
        for (uint32_t s = 0; s < b->groups.at[g].n_sets && same; s++)
            for (uint32_t k = 0; k < b->h.world && same; k++)
                same = member(b, g, s, k) == member(b, group, s, k);
        if (!same)
            return g;
    }
    return group;
}
/* Over all groups of the plan instead of its own: the sequence group, the tensor group, a context group turned round. */
EXAMPLE(border_over_other_group)
{
    struct plan_instr *in = nth_border(b, PLAN_OP_COUNT, nth / b->groups.n);
    (void)c;
    if (!in)
        return false;
    uint32_t *group = &b->channels.at[in->channel].group, was = *group;
    *group = other_group(b, was, nth % b->groups.n);
    return *group != was;
}
EXAMPLE(buffer_of_other_layout)
{
    (void)c;
    for (uint32_t i = 0; i < b->buffers.n && b->h.share; i++)
        if ((b->buffers.at[i].role == SLOT_TENSOR || b->buffers.at[i].role == SLOT_GRADIENT) && nth-- == 0) {
            b->buffers.at[i].layout = (uint16_t)((b->buffers.at[i].layout + 1 + i % (IR_LAYOUTS - 1)) % IR_LAYOUTS);
            return true;
        }
    return false;
}
EXAMPLE(program_of_other_tokens)
{
    for (uint32_t i = 0; i < b->programs.n && b->h.share; i++) {
        struct plan_program *g = &b->programs.at[i];
        if (!g->n_kernels || b->kernels.at[g->first_kernel].op >= IR_OP_GRAPH_COUNT || nth-- > 0)
            continue; /* sums have no rows */
        g->tokens = g->tokens == c->g.seq_len ? 1 : c->g.seq_len;
        return true;
    }
    return false;
}
EXAMPLE(kernel_of_other_split)
{
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n && b->h.share; i++)
        if (b->kernels.at[i].split && nth-- == 0) {
            b->kernels.at[i].split = b->kernels.at[i].split % 3 + 1;
            return true;
        }
    return false;
}
/* The block that a device has of a piece whose owners are such a group; PLAN_NONE: it is none of them. */
static uint64_t block_of(const struct plan_builder *b, const struct plan_piece *piece, uint32_t group, uint32_t device)
{
    for (uint32_t s = 0; s < b->groups.at[group].n_sets; s++)
        for (uint32_t k = 0; k < b->h.world; k++)
            if (member(b, group, s, k) == device)
                return (uint64_t)k * piece->split / b->sets.at[b->groups.at[group].first_set + s].size;
    return PLAN_NONE;
}
/* The next group from `nth` on by which some device has another block; that of the piece: there is none. */
static uint32_t other_blocks(const struct plan_builder *b, const struct plan_piece *piece, uint32_t nth)
{
    for (uint32_t i = 0; i < b->groups.n; i++)
        for (uint32_t d = 0, g = (nth + i) % b->groups.n; d < b->h.world; d++)
            if (block_of(b, piece, g, d) != block_of(b, piece, piece->owners, d))
                return g;
    return piece->owners;
}
/* A block of another member; all members, or one, instead of those with the block. */
EXAMPLE(block_of_other_member)
{
    (void)c;
    for (uint32_t i = 0; i < b->pieces.n && b->h.share; i++)
        if (b->pieces.at[i].split > 1 && nth < b->groups.n) {
            const uint32_t was = b->pieces.at[i].owners;
            b->pieces.at[i].owners = other_blocks(b, &b->pieces.at[i], nth);
            return b->pieces.at[i].owners != was;
        }
    return false;
}
EXAMPLE(holders_of_a_block)
{
    (void)c;
    for (uint32_t i = 0; i < b->buckets.n && b->h.share; i++)
        for (uint32_t g = 0; g < b->groups.n; g++)
            if (b->pieces.at[b->buckets.at[i].first_piece].split > 1 &&
                other_group(b, b->buckets.at[i].holders, g) == g && nth-- == 0) {
                b->buckets.at[i].holders = g;
                return true;
            }
    return false;
}
EXAMPLE(rows_of_a_box)
{
    (void)c;
    for (uint32_t i = 0; i < b->pieces.n; i++)
        if (b->pieces.at[i].run && nth-- == 0) {
            b->pieces.at[i].stride -= b->pieces.at[i].run;
            return true;
        }
    return false;
}
/* What is gathered is read, where the own part stands. */
EXAMPLE(own_part_read_as_whole)
{
    const struct plan_instr *in = nth_border(b, PLAN_ALL_GATHER, nth);
    (void)c;
    if (!in)
        return false;
    const struct plan_base *from = &b->bases.at[in->first_base], *to = from + 1;
    const uint32_t own = from->buffer, whole = to->buffer;
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < b->instrs.at[i].n_bases && b->instrs.at[i].op == PLAN_RUN; k++) {
            struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base + k];
            if (base->arena == ARENA_WORK && base->buffer == whole) {
                b->buffers.at[own].bytes = b->buffers.at[whole].bytes;
                base->buffer = own;
                base->offset = b->buffers.at[own].offset;
            }
        }
    return true;
}
/* The gather of numbers number nth, between two pieces of a program. */
static uint32_t nth_numbers(const struct plan_builder *b, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n && b->h.share; i++) {
        const struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base];
        if (b->instrs.at[i].op == PLAN_ALL_GATHER && base->arena == ARENA_WORK && base->access & PLAN_OWN && nth-- == 0)
            return i;
    }
    return PLAN_NONE;
}
EXAMPLE(numbers_are_not_told)
{
    const uint32_t i = nth_numbers(b, nth);
    (void)c;
    if (i != PLAN_NONE)
        drop_at(b, i);
    return i != PLAN_NONE;
}
EXAMPLE(the_last_piece_is_left_out)
{
    const uint32_t i = nth_numbers(b, nth);
    (void)c;
    if (i != PLAN_NONE)
        drop_at(b, i + 1);
    return i != PLAN_NONE;
}
/* Of a capacity, or a loss, own tokens alone. */
EXAMPLE(counts_own_tokens)
{
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n && b->h.share; i++)
        if (b->kernels.at[i].split == IR_COUNTS && nth-- == 0) {
            b->kernels.at[i].split = b->kernels.at[i].parts = 0;
            return true;
        }
    return false;
}
/* The counts that a kernel reads or writes, at another place, or left out. */
EXAMPLE(counts_elsewhere)
{
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n && b->h.share; i++) {
        struct plan_kernel *k = &b->kernels.at[i];
        const bool dispatch = k->op == IR_OP_DISPATCH;
        struct plan_operand *o = dispatch || k->op == IR_OP_ROUTER
                                     ? operand(b, k, dispatch ? OPERAND_IN + 2 : OPERAND_SAVE + 1)
                                     : NULL;
        if (!o || nth-- > 0)
            continue;
        o->offset += ir_target_cpu.alignment;
        return true;
    }
    return false;
}
EXAMPLE(pieces_in_another_order)
{
    const uint32_t i = nth_numbers(b, nth / 2);
    (void)c;
    if (i != PLAN_NONE)
        b->instrs.at[nth % 2 ? i - 1 : i + 1].count ^= 1;
    return i != PLAN_NONE;
}
EXAMPLE(numbers_of_other_members)
{
    const uint32_t i = nth_numbers(b, nth / 2);
    (void)c;
    if (i == PLAN_NONE)
        return false;
    uint32_t *group = &b->channels.at[b->instrs.at[i].channel].group;
    const uint32_t was = *group;
    *group = other_group(b, was, nth);
    if (nth % 2) { /* numbers of another place */
        *group = was;
        b->bases.at[b->instrs.at[i].first_base].offset += ir_target_cpu.alignment;
    }
    return true;
}
/* Of heads that are exchanged, and of rings. Instruction number nth of this kind, where sequences are shared; a RUN: a later piece. */
static uint32_t nth_shared(const struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n && b->h.share; i++)
        if (b->instrs.at[i].op == op && (op != PLAN_RUN || b->instrs.at[i].count > 0) && nth-- == 0)
            return i;
    return PLAN_NONE;
}
static bool over_other_group(struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    const uint32_t i = nth_shared(b, op, nth / b->groups.n);
    if (i == PLAN_NONE)
        return false;
    uint32_t *group = &b->channels.at[b->instrs.at[i].channel].group;
    const uint32_t was = *group;
    *group = other_group(b, was, nth % b->groups.n);
    return *group != was;
}
EXAMPLE(heads_over_other_group)
{
    (void)c;
    return over_other_group(b, PLAN_ALL_TO_ALL, nth);
}
EXAMPLE(shift_over_other_group)
{
    (void)c;
    return over_other_group(b, PLAN_SHIFT, nth);
}
EXAMPLE(heads_are_not_exchanged)
{
    const uint32_t i = nth_shared(b, PLAN_ALL_TO_ALL, nth);
    (void)c;
    if (i != PLAN_NONE)
        drop_at(b, i);
    return i != PLAN_NONE;
}
EXAMPLE(blocks_turned_the_other_way)
{
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n; i++)
        if ((b->kernels.at[i].op == IR_OP_TO_BLOCKS || b->kernels.at[i].op == IR_OP_FROM_BLOCKS) && nth-- == 0) {
            b->kernels.at[i].op = b->kernels.at[i].op == IR_OP_TO_BLOCKS ? IR_OP_FROM_BLOCKS : IR_OP_TO_BLOCKS;
            return true;
        }
    return false;
}
EXAMPLE(a_shift_is_left_out)
{
    const uint32_t i = nth_shared(b, PLAN_SHIFT, nth);
    (void)c;
    if (i != PLAN_NONE)
        drop_at(b, i);
    return i != PLAN_NONE;
}
EXAMPLE(a_piece_of_a_ring_is_left_out)
{
    const uint32_t i = nth_shared(b, PLAN_RUN, nth);
    (void)c;
    if (i != PLAN_NONE)
        drop_at(b, i);
    return i != PLAN_NONE;
}
/* A piece has the keys, or the values, or their gradients, that the one before it had. */
EXAMPLE(what_the_piece_before_had)
{
    const uint32_t i = nth_shared(b, PLAN_RUN, nth / 3);
    uint32_t before = i, skip = nth % 3;
    (void)c;
    if (i == PLAN_NONE)
        return false;
    while (b->instrs.at[--before].op != PLAN_RUN)
        ;
    for (uint32_t k = 0; k < b->instrs.at[i].n_bases; k++) {
        struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base + k];
        const struct plan_base *was = &b->bases.at[b->instrs.at[before].first_base + k];
        if (base->buffer == was->buffer || base->arena != ARENA_WORK || skip-- > 0)
            continue;
        *base = *was;
        return true;
    }
    b->instrs.at[i].count += 1; /* (it has no so many) */
    return true;
}
EXAMPLE(a_ring_that_is_none)
{
    (void)c;
    for (uint32_t i = 0; i < b->kernels.n; i++)
        if ((b->kernels.at[i].split == IR_RING || b->kernels.at[i].split == IR_TURNED) && nth-- == 0) {
            b->kernels.at[i].split = b->kernels.at[i].split == IR_RING ? IR_TURNED : IR_RING;
            return true;
        }
    return false;
}
EXAMPLE(loads_other_tokens)
{
    for (uint32_t i = 0; i < b->instrs.n && b->h.share; i++)
        if (b->instrs.at[i].op == PLAN_LOAD && nth-- == 0) {
            b->instrs.at[i].count = b->instrs.at[i].count == c->g.seq_len ? c->g.seq_len / 2 : c->g.seq_len;
            return true;
        }
    return false;
}
EXAMPLE(shared_otherwise)
{
    (void)c;
    const uint32_t other = other_group(b, b->h.share_group, 0), groups = other != b->h.share_group;
    bool ring = false; /* it goes round in any order */
    for (uint32_t i = 0; i < b->kernels.n; i++)
        ring = ring || b->kernels.at[i].split == IR_RING;
    if (!b->h.share || nth > groups + !ring)
        return false;
    if (nth == 0)
        b->h.context = b->h.context == 1 ? b->h.share : 1;
    else if (nth == 1 && groups)
        b->h.share_group = other;
    else
        b->h.zigzag = !b->h.zigzag;
    return true;
}

/* ---- jobs ------------------------------------------------------------------------------------------------------- */

static const struct job {
    enum compiled_model model;
    const char *strategy;
} jobs[] = {
    { MODEL_LLAMA,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_GPT2,
      "[{\"op\":\"layout\",\"dp\":4,\"zero\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":2},{\"op\":\"schedule\",\"kind\":\"1f1b\","
                   "\"microbatches\":2},{\"op\":\"recompute\",\"filter\":{}}]" },
    { MODEL_GPT2,
      "[{\"op\":\"layout\",\"dp\":2,\"zero\":3},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_MOE,
      "[{\"op\":\"layout\",\"dp\":4,\"ep\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_MOE,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_GPT2, "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":2,\"zero\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                  "\"microbatches\":2}]" },
    { MODEL_LLAMA,
      "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA,
      "[{\"op\":\"layout\",\"pp\":2,\"tp\":4,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"cp\":2,\"dp\":1,\"order\":\"contiguous\",\"keep\":\"whole\"}]" },
    { MODEL_GPT2, "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":1,\"exchange\":\"all-to-all\"}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":1,\"exchange\":\"ring\"},{\"op\":\"schedule\","
                   "\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"tp\":2,\"dp\":2,\"vocab\":true},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                   "\"microbatches\":2}]" },
    { MODEL_GPT2, "[{\"op\":\"layout\",\"dp\":4,\"zero\":1,\"zero_group\":2,\"reduce\":\"each\"},{\"op\":\"schedule\","
                  "\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"zero\":3,\"zero_group\":2,\"zero_optimizer\":\"all\"},"
                   "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":2}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"dp\":8,\"ep\":2,\"zero\":2,\"zero_group\":4},{\"op\":\"schedule\","
                 "\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_BRANCH, "[{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]" },
    { MODEL_BRANCH,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_DROPLESS,
      "[{\"op\":\"layout\",\"dp\":2,\"ep\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"cp\":2,\"dp\":1,\"ep\":2},{\"op\":\"recompute\",\"filter\":{\"PP\":0}}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"tp\":2,\"dp\":2,\"ep\":4},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                 "\"microbatches\":2}]" },
};
enum { N_JOBS = sizeof jobs / sizeof *jobs, MOST = 200 };

/* rule: of those that refuse the variants, one at least is this. least: variants in all jobs together. */
static const struct example {
    const char *name;
    bool (*apply)(const struct compiled *c, struct plan_builder *b, uint32_t nth);
    const char *rule;
    uint32_t least;
} examples[] = {
#define E(name, rule, least)     \
    {                            \
#name, name, rule, least \
    }
    E(adds_to_other_gradient, "gradient", 100),
    E(takes_other_gradient, "gradient", 100),
    E(sums_one_part_twice, "gradient", 2),
    E(gradient_of_router_elsewhere, "program", 4),
    E(work_over_live_data, "value", 20),
    E(no_workspace, "program", 20),
    E(rows_that_did_not_travel, "layout", 8),
    E(counts_exchanged, "layout", 4),
    E(scratch_of_other_size, "scratch", 2),
    E(scratch_of_nothing, "scratch", 10),
    E(scratch_misaligned, "alignment", 4),
    E(moments_elsewhere, "shards", 50),
    E(moments_elsewhere, "alignment", 50),
    E(scatters_into_the_first_part, "reduce", 4),
    E(gathers_the_first_part, "gather", 4),
    E(an_add_is_left_out, "reduce", 4),
    E(a_gather_is_left_out, "gather", 4),
    E(snapshots_overlap, "shards", 4),
    E(copies_are_not_reduced, "reduce", 10),
    E(copies_are_reduced_twice, "reduce", 10),
    E(copies_are_reduced_early, "reduce", 10),
    E(reduces_over_the_other_group, "reduce", 10),
    E(copies_are_the_group_itself, "holders", 10),
    E(a_group_in_another_order, "holders", 10),
    E(takes_the_first_part_of_a_shard, "first", 10),
    E(takes_the_first_part_of_a_shard, "gather", 10),
    E(a_sum_of_terms_is_left_out, "value", 10),
    E(a_gather_comes_too_early, "value", 10),
    E(border_over_other_group, "layout", 50),
    E(buffer_of_other_layout, "layout", 50),
    E(program_of_other_tokens, "layout", 10),
    E(kernel_of_other_split, "shards", 10),
    E(block_of_other_member, "holders", 10),
    E(holders_of_a_block, "holders", 10),
    E(rows_of_a_box, "shards", 4),
    E(own_part_read_as_whole, "value", 10),
    E(numbers_are_not_told, "value", 2),
    E(the_last_piece_is_left_out, "value", 2),
    E(pieces_in_another_order, "value", 4),
    E(counts_own_tokens, "layout", 20),
    E(counts_elsewhere, "value", 10),
    E(numbers_of_other_members, "layout", 4),
    E(heads_over_other_group, "layout", 4),
    E(shift_over_other_group, "layout", 4),
    E(heads_are_not_exchanged, "value", 8),
    E(blocks_turned_the_other_way, "layout", 4),
    E(a_shift_is_left_out, "value", 8),
    E(a_piece_of_a_ring_is_left_out, "value", 4),
    E(what_the_piece_before_had, "value", 12),
    E(a_ring_that_is_none, "program", 4),
    E(loads_other_tokens, "program", 4),
    E(shared_otherwise, "layout", 4),
};
enum { N_EXAMPLES = sizeof examples / sizeof *examples };

/* What the checks say of variant nth of an example in the plan of a class; false: there is no such variant. */
static bool try_variant(const struct compiled *c, const char *strategy, uint32_t cls, const struct example *x,
                        uint32_t nth, struct err *e)
{
    struct plan_builder b;
    uint64_t bytes;
    plan_unpack(&c->plans[cls], &b);
    const bool there = x->apply(c, &b, nth);
    if (there) {
        void *blob = plan_build(&b, &bytes);
        struct plan *plans = mem_alloc(c->out.n_classes * sizeof *plans);
        memcpy(plans, c->plans, c->out.n_classes * sizeof *plans);
        if (plan_open(blob, bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[cls], e) == ST_OK)
            ck_assert_msg(sched_check(plans, c->out.n_classes, &c->g, &ir_target_cpu, e) != ST_OK,
                          "%s, variant %u of class %u of %s: accepted", x->name, nth, cls, strategy);
        mem_free(plans);
        mem_free(blob);
    }
    plan_builder_release(&b);
    return there;
}

static struct compiled compiled[N_JOBS];

static void compile(void)
{
    for (int j = 0; j < N_JOBS; j++)
        compiled_init(&compiled[j], jobs[j].model, jobs[j].strategy, false);
}

static void release(void)
{
    for (int j = 0; j < N_JOBS; j++)
        compiled_release(&compiled[j]);
}

START_TEST(test_example)
{
    const struct example *x = &examples[_i];
    uint32_t variants = 0, by_rule = 0;
    char rule[64], said[sizeof((struct err *)0)->text] = "";
    snprintf(rule, sizeof rule, "rule %s: ", x->rule);
    for (int j = 0; j < N_JOBS; j++)
        for (uint32_t cls = 0; cls < compiled[j].out.n_classes; cls++)
            for (uint32_t nth = 0; nth < MOST; nth++) {
                struct err e = { 0 };
                if (!try_variant(&compiled[j], jobs[j].strategy, cls, x, nth, &e))
                    break;
                variants++;
                by_rule += strstr(e.text, rule) != NULL;
                snprintf(said, sizeof said, "%s", e.text);
            }
    ck_assert_msg(variants >= x->least, "%s: %u variants, expected %u", x->name, variants, x->least);
    ck_assert_msg(by_rule > 0, "%s: never refused by rule %s, but: %s", x->name, x->rule, said);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mutants");
    TCase *t = tcase_create("mutants");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, compile, release);
    tcase_add_loop_test(t, test_example, 0, N_EXAMPLES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
