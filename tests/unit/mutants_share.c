/* Mutants of plans whose devices share sequences: regions, numbers that members tell each other, heads that are exchanged, rings: see
 * mutants.h. */
#include "mutants.h"

/* A gather or a sum of a tensor, number nth of the plan; PLAN_NONE: there are not so many. */
static uint32_t nth_border(const struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n && b->h.share; i++) {
        const struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base];
        if ((b->instrs.at[i].op != PLAN_ALL_GATHER && b->instrs.at[i].op != PLAN_REDUCE_SCATTER) ||
            (op != PLAN_OP_COUNT && b->instrs.at[i].op != op) || base->arena != ARENA_WORK || base->access & PLAN_OWN ||
            b->buffers.at[base->buffer].role == SLOT_GRAD || nth-- > 0)
            continue;
        return i;
    }
    return PLAN_NONE;
}
EXAMPLE(a_sum_of_terms_is_left_out)
{
    return mutant_drop(b, nth_border(b, PLAN_REDUCE_SCATTER, nth));
}
/* Before everything else of the list: so before the forward of its microbatch. */
EXAMPLE(a_gather_comes_too_early)
{
    const uint32_t i = nth_border(b, PLAN_ALL_GATHER, nth);
    if (i == PLAN_NONE)
        return false;
    mutant_move(b, i, b->lists.at[mutant_list(b, i)].first_instr);
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
/* Communication i over group number nth of the plan, or the next one that is another than its own. */
static bool over_other_group(struct plan_builder *b, uint32_t i, uint32_t nth)
{
    if (i == PLAN_NONE)
        return false;
    uint32_t *group = &b->channels.at[b->instrs.at[i].channel].group;
    const uint32_t was = *group;
    *group = other_group(b, was, nth % b->groups.n);
    return *group != was;
}
/* Over all groups of the plan instead of its own: the sequence group, the tensor group, a context group turned round. */
EXAMPLE(border_over_other_group)
{
    return over_other_group(b, nth_border(b, PLAN_OP_COUNT, nth / b->groups.n), nth);
}
/* Devices with other blocks of a parameter count as its holders: gradients of different blocks would be added up. */
EXAMPLE(holders_of_other_blocks)
{
    for (uint32_t i = 0; i < b->pieces.n; i++) {
        struct plan_group *g = &b->groups.at[b->buckets.at[b->pieces.at[i].bucket].holders];
        if (b->pieces.at[i].split > 1 && g->kind == PLAN_GROUP_EACH && g->n_sets > 1 && nth-- == 0) {
            g->kind = PLAN_GROUP_UNION;
            return true;
        }
    }
    return false;
}
EXAMPLE(buffer_of_other_layout)
{
    for (uint32_t i = 0; i < b->buffers.n && b->h.share; i++)
        if ((b->buffers.at[i].role == SLOT_TENSOR || b->buffers.at[i].role == SLOT_GRADIENT) && nth-- == 0) {
            b->buffers.at[i].layout = (uint16_t)((b->buffers.at[i].layout + 1 + i % (IR_LAYOUTS - 1)) % IR_LAYOUTS);
            return true;
        }
    return false;
}
EXAMPLE(program_of_other_tokens)
{
    for (uint32_t i = 0; i < b->programs.n; i++) {
        struct plan_program *g = &b->programs.at[i];
        if (!g->n_kernels || nth-- > 0)
            continue;
        const bool rows = b->kernels.at[g->first_kernel].op < IR_OP_GRAPH_COUNT; /* else sums */
        g->tokens = !rows ? c->g.seq_len + 1 : !b->h.share || g->tokens == c->g.seq_len ? 1 : c->g.seq_len;
        return true;
    }
    return false;
}
EXAMPLE(kernel_of_other_split)
{
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
    for (uint32_t i = 0; i < b->pieces.n && b->h.share; i++)
        if (b->pieces.at[i].split > 1 && nth < b->groups.n) {
            const uint32_t was = b->pieces.at[i].owners;
            b->pieces.at[i].owners = other_blocks(b, &b->pieces.at[i], nth);
            return b->pieces.at[i].owners != was;
        }
    return false;
}
/* Of a bucket whose parameters are whole on each holder, one is in as many blocks as a sequence group has members. */
EXAMPLE(blocks_of_a_whole_parameter)
{
    for (uint32_t i = 0; i < b->pieces.n && b->h.share; i++) {
        struct plan_piece *piece = &b->pieces.at[i];
        if (piece->split > 1 || piece->count % b->h.share || nth-- > 0)
            continue;
        piece->split = b->h.share;
        piece->count /= b->h.share;
        piece->owners = b->h.share_group;
        return true;
    }
    return false;
}
EXAMPLE(holders_of_a_block)
{
    for (uint32_t i = 0; i < b->buckets.n && b->h.share; i++)
        for (uint32_t g = 0; g < b->groups.n; g++)
            if (b->pieces.at[b->buckets.at[i].first_piece].split > 1 &&
                other_group(b, b->buckets.at[i].holders, g) == g && nth-- == 0) {
                b->buckets.at[i].holders = g;
                return true;
            }
    return false;
}
/* Groups of devices of several classes, as the blocks of a table have that two stages use, and experts whose microbatches are on several
 * device sets. Number nth of the plan. */
static struct plan_group *nth_group_of_classes(struct plan_builder *b, uint32_t nth)
{
    for (uint32_t g = 0; g < b->groups.n; g++) {
        bool all = b->groups.at[g].kind != PLAN_GROUP_EACH || b->groups.at[g].n_sets < 2;
        const struct plan_set *devices = &b->sets.at[b->h.devices];
        uint32_t members = 0;
        for (uint32_t s = 0; s < b->groups.at[g].n_sets; s++)
            members += b->sets.at[b->groups.at[g].first_set + s].size;
        if (!all && members > devices->size && nth-- == 0)
            return &b->groups.at[g];
    }
    return NULL;
}
/* Ranges number `range` of two of its sets, exchanged; false: they have not so many, or are not alike. */
static bool exchange_ranges(struct plan_builder *b, const struct plan_group *g, uint32_t range)
{
    const struct plan_set *one = &b->sets.at[g->first_set], *two = one + 1;
    struct plan_range *x = &b->ranges.at[one->first_range + range], *y = &b->ranges.at[two->first_range + range];
    if (range >= one->n_ranges || range >= two->n_ranges || x->count != y->count)
        return false;
    const struct plan_range first = *x;
    *x = *y;
    *y = first;
    return true;
}
/* One class has the groups in another order, */
EXAMPLE(blocks_of_classes_in_another_order)
{
    const struct plan_group *g = nth_group_of_classes(b, nth);
    for (uint32_t i = 0; g && i < b->sets.at[g->first_set].n_ranges; i++)
        if (!exchange_ranges(b, g, i))
            return false;
    return g;
}
/* or devices of one block in the group of another. */
EXAMPLE(blocks_of_classes_mixed)
{
    const struct plan_group *g = nth_group_of_classes(b, nth);
    return g && exchange_ranges(b, g, 0);
}
EXAMPLE(rows_of_a_box)
{
    for (uint32_t i = 0; i < b->pieces.n; i++)
        if (b->pieces.at[i].run && nth-- == 0) {
            b->pieces.at[i].stride -= b->pieces.at[i].run;
            return true;
        }
    return false;
}
/* Of packed queries, keys and values another part than the operator has, or of another parameter, or rows that follow each other. */
EXAMPLE(another_part_of_a_parameter)
{
    for (uint32_t i = 0; i < b->pieces.n; i++) {
        struct plan_piece *piece = &b->pieces.at[i];
        if (!piece->part_of || nth >= 3) {
            nth -= piece->part_of ? 3 : 0;
            continue;
        }
        if (nth == 0)
            piece->first += piece->run ? piece->run : piece->count;
        else if (nth == 1)
            piece->part_of = piece->part_of > 1 ? 1 : 2;
        else if (piece->run)
            piece->run = piece->stride = 0;
        else
            piece->part_of = 0;
        return true;
    }
    return false;
}
/* Every RUN that reads buffer `whole` reads `own` instead; false: none reads it. */
static bool read_instead(struct plan_builder *b, uint32_t whole, uint32_t own)
{
    bool any = false;
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < b->instrs.at[i].n_bases && b->instrs.at[i].op == PLAN_RUN; k++) {
            struct plan_base *base = &b->bases.at[b->instrs.at[i].first_base + k];
            if (base->arena == ARENA_WORK && base->buffer == whole) {
                b->buffers.at[own].bytes = b->buffers.at[whole].bytes;
                base->buffer = own;
                base->offset = b->buffers.at[own].offset;
                any = true;
            }
        }
    return any;
}
/* What is gathered is read, where the own part stands; counts of experts are read by no RUN. */
EXAMPLE(own_part_read_as_whole)
{
    for (uint32_t n = 0, gather; (gather = nth_border(b, PLAN_ALL_GATHER, nth + n)) != PLAN_NONE; n++) {
        const struct plan_base *from = &b->bases.at[b->instrs.at[gather].first_base], *to = from + 1;
        if (read_instead(b, to->buffer, from->buffer))
            return true;
    }
    return false;
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
    return mutant_drop(b, nth_numbers(b, nth));
}
EXAMPLE(the_last_piece_is_left_out)
{
    const uint32_t i = nth_numbers(b, nth);
    if (i != PLAN_NONE)
        mutant_drop(b, i + 1);
    return i != PLAN_NONE;
}
/* Of a capacity, or a loss, own tokens alone. */
EXAMPLE(counts_own_tokens)
{
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
    for (uint32_t i = 0; i < b->kernels.n && b->h.share; i++) {
        struct plan_kernel *k = &b->kernels.at[i];
        const bool dispatch = k->op == IR_OP_DISPATCH;
        struct plan_operand *o = dispatch || k->op == IR_OP_ROUTER
                                     ? mutant_operand(b, k, dispatch ? OPERAND_IN + 2 : OPERAND_SAVE + 1)
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
    if (i != PLAN_NONE)
        b->instrs.at[nth % 2 ? i - 1 : i + 1].count ^= 1;
    return i != PLAN_NONE;
}
EXAMPLE(numbers_of_other_members)
{
    const uint32_t i = nth_numbers(b, nth / 2);
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
/* The wait of a reduction of gradients for the last piece of a backward; NULL: it has none. */
static uint32_t *wait_for_pieces(const struct plan_builder *b, uint32_t i)
{
    const struct plan_instr *in = &b->instrs.at[i];
    if (in->op != PLAN_ALL_REDUCE && in->op != PLAN_REDUCE_SCATTER)
        return NULL;
    const struct plan_base *base = &b->bases.at[in->first_base];
    const bool gradients = base->arena == ARENA_GRADS || b->buffers.at[base->buffer].role == SLOT_GRAD;
    for (uint32_t w = in->first_wait; w < in->first_wait + in->n_waits && gradients; w++) {
        const struct plan_instr *on = &b->instrs.at[b->lists.at[mutant_list(b, i)].first_instr + b->waits.at[w]];
        if (on->op == PLAN_RUN && on->count)
            return &b->waits.at[w];
    }
    return NULL;
}
/* It waits for the first piece: numbers are gathered between two. */
EXAMPLE(gradients_of_the_first_piece)
{
    for (uint32_t i = 0; i < b->instrs.n && b->h.share; i++) {
        uint32_t *wait = wait_for_pieces(b, i);
        if (!wait || nth-- > 0)
            continue;
        *wait -= 2 * (uint32_t)b->instrs.at[b->lists.at[mutant_list(b, i)].first_instr + *wait].count;
        return true;
    }
    return false;
}
/* A kernel does without an operand that it has. */
static void drop_operand(struct plan_builder *b, struct plan_kernel *k, uint32_t which)
{
    const uint32_t at = (uint32_t)(mutant_operand(b, k, which) - b->operands.at);
    memmove(&b->operands.at[at], &b->operands.at[at + 1], (--b->operands.n - at) * sizeof *b->operands.at);
    k->mask &= ~(UINT64_C(1) << which);
    for (uint32_t i = 0; i < b->kernels.n; i++)
        b->kernels.at[i].first_operand -= b->kernels.at[i].first_operand > at;
}
/* A norm that is computed again has other statistics than its forward kept, or none. */
EXAMPLE(statistics_of_a_norm)
{
    for (uint32_t i = 0; i < b->kernels.n && b->h.share; i++) {
        struct plan_kernel *k = &b->kernels.at[i];
        if (!plan_knows(k) || nth >= 3) {
            nth -= plan_knows(k) ? 3 : 0;
            continue;
        }
        if (nth == 1)
            k->again = 0;
        else if (nth == 2)
            drop_operand(b, k, OPERAND_SAVE);
        else
            mutant_operand(b, k, OPERAND_SAVE)->offset += ir_target_cpu.alignment;
        return true;
    }
    return false;
}
/* Of heads that are exchanged, and of rings. Instruction number nth of this kind, where sequences are shared; a RUN: a later piece. */
static uint32_t nth_shared(const struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n && b->h.share; i++)
        if (b->instrs.at[i].op == op && (op != PLAN_RUN || b->instrs.at[i].count > 0) && nth-- == 0)
            return i;
    return PLAN_NONE;
}
EXAMPLE(heads_over_other_group)
{
    return over_other_group(b, nth_shared(b, PLAN_ALL_TO_ALL, nth / b->groups.n), nth);
}
EXAMPLE(shift_over_other_group)
{
    return over_other_group(b, nth_shared(b, PLAN_SHIFT, nth / b->groups.n), nth);
}
EXAMPLE(heads_are_not_exchanged)
{
    return mutant_drop(b, nth_shared(b, PLAN_ALL_TO_ALL, nth));
}
EXAMPLE(blocks_turned_the_other_way)
{
    for (uint32_t i = 0; i < b->kernels.n; i++)
        if ((b->kernels.at[i].op == IR_OP_TO_BLOCKS || b->kernels.at[i].op == IR_OP_FROM_BLOCKS) && nth-- == 0) {
            b->kernels.at[i].op = b->kernels.at[i].op == IR_OP_TO_BLOCKS ? IR_OP_FROM_BLOCKS : IR_OP_TO_BLOCKS;
            return true;
        }
    return false;
}
/* Of a job that shares sequences, or of another one. */
EXAMPLE(a_copy_that_turns_heads)
{
    for (uint32_t i = 0; i < b->kernels.n; i++)
        if (b->kernels.at[i].op == IR_OP_COPY && nth-- == 0) {
            b->kernels.at[i].op = IR_OP_TO_BLOCKS;
            return true;
        }
    return false;
}
EXAMPLE(a_shift_is_left_out)
{
    return mutant_drop(b, nth_shared(b, PLAN_SHIFT, nth));
}
EXAMPLE(a_piece_of_a_ring_is_left_out)
{
    return mutant_drop(b, nth_shared(b, PLAN_RUN, nth));
}
/* A piece has the keys, or the values, or their gradients, that the one before it had. */
EXAMPLE(what_the_piece_before_had)
{
    const uint32_t i = nth_shared(b, PLAN_RUN, nth / 3);
    uint32_t before = i, skip = nth % 3;
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

const struct mutant mutants_of_share[] = {
    MUTANT(a_sum_of_terms_is_left_out, "value", 10),
    MUTANT(a_gather_comes_too_early, "value", 10),
    MUTANT(border_over_other_group, "layout", 50),
    MUTANT(holders_of_other_blocks, "holders", 40),
    MUTANT(buffer_of_other_layout, "layout", 50),
    MUTANT(program_of_other_tokens, "layout", 10),
    MUTANT(kernel_of_other_split, "shards", 10),
    MUTANT(block_of_other_member, "holders", 10),
    MUTANT(blocks_of_a_whole_parameter, "holders", 20),
    MUTANT(holders_of_a_block, "holders", 10),
    MUTANT(blocks_of_classes_in_another_order, "channel", 4),
    MUTANT(blocks_of_classes_mixed, "channel", 4),
    MUTANT(rows_of_a_box, "shards", 4),
    MUTANT(another_part_of_a_parameter, "shards", 20),
    MUTANT(own_part_read_as_whole, "value", 10),
    MUTANT(numbers_are_not_told, "value", 2),
    MUTANT(the_last_piece_is_left_out, "value", 2),
    MUTANT(pieces_in_another_order, "value", 4),
    MUTANT(gradients_of_the_first_piece, "race", 4),
    MUTANT(statistics_of_a_norm, "value", 8),
    MUTANT(counts_own_tokens, "layout", 20),
    MUTANT(counts_elsewhere, "value", 10),
    MUTANT(numbers_of_other_members, "layout", 4),
    MUTANT(heads_over_other_group, "layout", 4),
    MUTANT(shift_over_other_group, "layout", 4),
    MUTANT(heads_are_not_exchanged, "value", 8),
    MUTANT(blocks_turned_the_other_way, "layout", 4),
    MUTANT(a_copy_that_turns_heads, "layout", 2),
    MUTANT(a_shift_is_left_out, "value", 8),
    MUTANT(a_piece_of_a_ring_is_left_out, "value", 4),
    MUTANT(what_the_piece_before_had, "value", 12),
    MUTANT(a_ring_that_is_none, "program", 4),
    MUTANT(loads_other_tokens, "program", 4),
    MUTANT(shared_otherwise, "layout", 4),
    { 0 },
};
