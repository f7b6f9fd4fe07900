/* Mutants of rounds of experts (PLAN_ROUNDS): see mutants.h. */
#include "mutants.h"

/* Number nth of what a ROUNDS repeats, of this operation; PLAN_OP_COUNT: of any. PLAN_NONE: there are not so many. */
static uint32_t nth_extra(const struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (plan_is_extra(&b->instrs.at[i]) && (op == PLAN_OP_COUNT || b->instrs.at[i].op == op) && nth-- == 0)
            return i;
    return PLAN_NONE;
}
static uint32_t nth_rounds(const struct plan_builder *b, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ROUNDS && nth-- == 0)
            return i;
    return PLAN_NONE;
}
/* What repeats instruction i. */
static uint32_t rounds_of(const struct plan_builder *b, uint32_t i)
{
    while (b->instrs.at[i].op != PLAN_ROUNDS)
        i--;
    return i;
}
static struct plan_base *base(struct plan_builder *b, uint32_t i, uint32_t k)
{
    return &b->bases.at[b->instrs.at[i].first_base + k];
}
static void bind(const struct plan_builder *b, struct plan_base *x, uint32_t buffer)
{
    x->buffer = buffer;
    x->offset = b->buffers.at[buffer].offset;
}
/* Another buffer for the same thing, of the same microbatch or of another one; PLAN_NONE: there is none. */
static uint32_t alike(const struct plan_builder *b, uint32_t buffer, bool same_microbatch)
{
    const struct plan_buffer *f = &b->buffers.at[buffer];
    for (uint32_t i = 0; i < b->buffers.n; i++) {
        const struct plan_buffer *g = &b->buffers.at[i];
        if (i != buffer && g->list == f->list && g->role == f->role && g->what == f->what && g->bytes == f->bytes &&
            (g->mb == f->mb) == same_microbatch)
            return i;
    }
    return PLAN_NONE;
}
/* Base k of instruction i is bound to another buffer like its own. */
static bool bind_alike(struct plan_builder *b, uint32_t i, uint32_t k, bool same_microbatch)
{
    const uint32_t other = i == PLAN_NONE ? PLAN_NONE : alike(b, base(b, i, k)->buffer, same_microbatch);
    if (other == PLAN_NONE)
        return false;
    bind(b, base(b, i, k), other);
    return true;
}

EXAMPLE(rows_by_counts_of_another_microbatch)
{
    const uint32_t to = nth_extra(b, PLAN_TO_EXPERTS, nth / 2), from = nth_extra(b, PLAN_FROM_EXPERTS, nth / 2);
    return bind_alike(b, nth % 2 ? from : to, 2, false);
}
EXAMPLE(rounds_by_counts_of_another_microbatch)
{
    return bind_alike(b, nth_rounds(b, nth), 0, false);
}
EXAMPLE(counts_of_a_round_elsewhere)
{
    return bind_alike(b, nth_rounds(b, nth), 1, true);
}
/* A row more: so its exchange takes other rows than those of the round. */
EXAMPLE(room_for_more_rows)
{
    const uint32_t to = nth_extra(b, PLAN_TO_EXPERTS, nth / 2), from = nth_extra(b, PLAN_FROM_EXPERTS, nth / 2);
    const uint32_t i = nth % 2 ? from : to;
    if (i == PLAN_NONE)
        return false;
    b->buffers.at[base(b, i, nth % 2 == 0)->buffer].bytes += b->instrs.at[i].count * sizeof(float);
    return true;
}
EXAMPLE(more_is_repeated)
{
    const uint32_t i = nth_rounds(b, nth);
    if (i == PLAN_NONE)
        return false;
    b->instrs.at[i + 1 + b->instrs.at[i].count++].tag = 1;
    return true;
}
EXAMPLE(less_is_repeated)
{
    const uint32_t i = nth_rounds(b, nth);
    if (i == PLAN_NONE)
        return false;
    b->instrs.at[i + b->instrs.at[i].count--].tag = 0;
    return true;
}
EXAMPLE(a_part_of_a_round_is_left_out)
{
    const uint32_t i = nth_extra(b, PLAN_OP_COUNT, nth);
    if (i != PLAN_NONE)
        b->instrs.at[rounds_of(b, i)].count--;
    return mutant_drop(b, i);
}
EXAMPLE(a_part_of_another_microbatch)
{
    const uint32_t i = nth_extra(b, PLAN_OP_COUNT, nth);
    if (i == PLAN_NONE)
        return false;
    b->instrs.at[i].mb ^= 1;
    return true;
}
/* The last round would stand there alone. */
EXAMPLE(each_round_begins_a_gradient)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < b->instrs.at[i].n_bases && b->instrs.at[i].op == PLAN_RUN; k++) {
            const struct plan_program *g = &b->programs.at[b->instrs.at[i].program];
            if (plan_is_extra(&b->instrs.at[i]) && b->slots.at[g->first_slot + k].kind == SLOT_GRAD && nth-- == 0) {
                base(b, i, k)->first = 1;
                return true;
            }
        }
    return false;
}
/* A gradient that rounds are the first to add to, and nothing where there are none. */
EXAMPLE(a_gradient_is_not_zeroed)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 2; k < b->instrs.at[i].n_bases && b->instrs.at[i].op == PLAN_ROUNDS; k++)
            if (nth-- == 0) {
                base(b, i, k)->first = 0;
                return true;
            }
    return false;
}
/* The first RUN of the ROUNDS of a forward, number nth, and the RUN of round 0. */
static bool nth_forward(const struct plan_builder *b, uint32_t nth, uint32_t *extra, uint32_t *run)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ROUNDS && b->instrs.at[i].pass == IR_PASS_F && nth-- == 0) {
            for (*extra = i; b->instrs.at[*extra].op != PLAN_RUN; ++*extra)
                continue;
            for (*run = *extra; b->instrs.at[*run].program != b->instrs.at[*extra].program ||
                                b->instrs.at[*run].op != PLAN_RUN || plan_is_extra(&b->instrs.at[*run]);
                 ++*run)
                continue;
            return true;
        }
    return false;
}
/* Its first base: the rows. */
EXAMPLE(rows_of_the_other_rounds)
{
    uint32_t extra, run;
    if (!nth_forward(b, nth / 2, &extra, &run))
        return false;
    if (nth % 2)
        *base(b, run, 0) = *base(b, extra, 0);
    else
        *base(b, extra, 0) = *base(b, run, 0);
    return true;
}
/* What is sent is read by each round, and nobody needs it behind the last. */
EXAMPLE(rows_of_a_round_lie_where_what_is_sent_does)
{
    const uint32_t i = nth_extra(b, PLAN_TO_EXPERTS, nth);
    if (i == PLAN_NONE)
        return false;
    const struct plan_buffer *sent = &b->buffers.at[base(b, i, 0)->buffer];
    const uint32_t rows = base(b, i, 1)->buffer;
    for (uint32_t k = 0; k < b->bases.n; k++)
        if (b->bases.at[k].arena == ARENA_WORK && b->bases.at[k].buffer == rows)
            b->bases.at[k].offset += sent->offset - b->buffers.at[rows].offset;
    b->buffers.at[rows].offset = sent->offset;
    return true;
}
/* Those of round 0 are there last. */
EXAMPLE(results_are_there_before_the_rounds)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if (in->op != PLAN_FROM_EXPERTS || plan_is_extra(in) || nth-- > 0)
            continue;
        for (uint32_t k = 0; k < i; k++)
            if (b->instrs.at[k].op == PLAN_FROM_EXPERTS && base(b, k, 1)->buffer == base(b, i, 1)->buffer) {
                mutant_move(b, i, rounds_of(b, k));
                return true;
            }
    }
    return false;
}

const struct mutant mutants_of_rounds[] = {
    MUTANT(rows_by_counts_of_another_microbatch, "rounds", 40),
    MUTANT(rounds_by_counts_of_another_microbatch, "rounds", 20),
    MUTANT(counts_of_a_round_elsewhere, "rounds", 20),
    MUTANT(room_for_more_rows, "rounds", 40),
    MUTANT(more_is_repeated, "rounds", 20),
    MUTANT(less_is_repeated, "rounds", 20),
    MUTANT(a_part_of_a_round_is_left_out, "rounds", 60),
    MUTANT(a_part_of_another_microbatch, "rounds", 60),
    MUTANT(each_round_begins_a_gradient, "rounds", 8),
    MUTANT(a_gradient_is_not_zeroed, "program", 4),
    MUTANT(rows_of_the_other_rounds, "rounds", 20),
    MUTANT(rows_of_a_round_lie_where_what_is_sent_does, "rounds", 20),
    MUTANT(results_are_there_before_the_rounds, "rounds", 20),
    { 0 },
};
