/* Mutants of ZeRO, of its groups and of snapshots: see mutants.h. */
#include "mutants.h"

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
    if (base)
        base->access &= (uint16_t)~PLAN_OWN;
    return base != NULL;
}
EXAMPLE(gathers_the_first_part)
{
    struct plan_base *base = nth_base(b, PLAN_ALL_GATHER, 0, nth);
    if (base)
        base->access &= (uint16_t)~PLAN_OWN;
    return base != NULL;
}
/* Of the list "train". */
static bool drop_nth(struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = b->lists.at[0].first_instr; i < b->lists.at[0].first_instr + b->lists.at[0].n_instr; i++)
        if (b->instrs.at[i].op == op && nth-- == 0)
            return mutant_drop(b, i);
    return false;
}
EXAMPLE(an_add_is_left_out)
{
    return drop_nth(b, PLAN_ADD, nth);
}
EXAMPLE(a_gather_is_left_out)
{
    return drop_nth(b, PLAN_ALL_GATHER, nth);
}
EXAMPLE(snapshots_overlap)
{
    if (nth + 1 >= b->buckets.n)
        return false;
    b->buckets.at[nth + 1].snapshot = b->buckets.at[nth].snapshot;
    return true;
}

/* ---- zero groups ------------------------------------------------------------------------------------------------ */

/* The reduction over copies number nth; PLAN_NONE: there are not so many. */
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
EXAMPLE(copies_are_not_reduced)
{
    return mutant_drop(b, nth_copies(b, nth));
}
/* Each gradient counts as often as there are copies. */
EXAMPLE(copies_are_reduced_twice)
{
    return mutant_repeat(b, nth_copies(b, nth));
}
EXAMPLE(a_shard_is_gathered_from_copies_twice)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ALL_GATHER && b->bases.at[b->instrs.at[i].first_base].access & PLAN_PART &&
            nth-- == 0)
            return mutant_repeat(b, i);
    return false;
}
/* Before the group has reduced the gradients of the last microbatch, or before these are added. */
EXAMPLE(copies_are_reduced_early)
{
    const uint32_t i = nth_copies(b, nth);
    uint32_t before = i - 1;
    if (i == PLAN_NONE)
        return false;
    while ((b->instrs.at[before].op != PLAN_ADD && b->instrs.at[before].op != PLAN_REDUCE_SCATTER) ||
           b->instrs.at[before].bucket != b->instrs.at[i].bucket)
        before--;
    mutant_move(b, i, before);
    return true;
}
/* Within the group a second time, instead of over copies; or what a group reduces, over copies. */
EXAMPLE(reduces_over_the_other_group)
{
    const uint32_t i = nth_copies(b, nth / 2);
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

/* Another stream like that of computation, and a channel of the same group on it. */
static uint32_t channel_beside(struct plan_builder *b, uint32_t channel)
{
    struct plan_stream stream = b->streams.at[PLAN_COMPUTE_STREAM];
    struct plan_channel beside = b->channels.at[channel];
    stream.scratch = round_up(b->h.arena_bytes[ARENA_COMM], 64);
    b->h.total_bytes += stream.scratch + stream.scratch_bytes - b->h.arena_bytes[ARENA_COMM];
    b->h.arena_bytes[ARENA_COMM] = stream.scratch + stream.scratch_bytes;
    beside.stream = b->streams.n;
    beside.id = b->h.n_channels_world++;
    vec_add(&b->streams, stream);
    vec_add(&b->channels, beside);
    return b->channels.n - 1;
}

/* The sums of a step stand on a stream of their own, behind all that adds to them. */
EXAMPLE(an_update_does_not_wait_for_the_norm)
{
    struct plan_edit e;
    uint32_t at = 0;
    while (at < b->lists.at[0].n_instr && b->instrs.at[at].op != PLAN_SCALARS)
        at++;
    if (nth || c->out.n_classes != 1 || !b->h.clip || at == 0 || at == b->lists.at[0].n_instr ||
        b->instrs.at[at - 1].stream != PLAN_COMPUTE_STREAM)
        return false;
    const uint32_t channel = channel_beside(b, b->instrs.at[at].channel), before = at - 1;
    plan_edit_begin(b, &e);
    struct plan_records *r = &e.lists[0];
    r->at[at].in.channel = channel;
    r->at[at].in.stream = (uint16_t)b->channels.at[channel].stream;
    r->at[at].n_waits = 1;
    r->at[at].waits = &before;
    plan_edit_end(&e);
    return true;
}

/* ---- gradients that share memory -------------------------------------------------------------------------------------- */

/* The gradients of a bucket where those of another one still are. */
EXAMPLE(gradients_in_one_place)
{
    const uint32_t n = b->buckets.n, i = nth / n, k = nth % n;
    if (b->h.clip || i >= n)
        return false;
    struct plan_bucket *from = &b->buckets.at[k];
    const struct plan_bucket *to = &b->buckets.at[i];
    if (from->grad == UINT64_MAX || to->grad == UINT64_MAX || from->grad == to->grad || from->elements > to->elements)
        from = &b->buckets.at[0], to = &b->buckets.at[n - 1]; /* (always there; once more) */
    const uint64_t was = from->grad;
    for (uint32_t x = 0; x < b->bases.n; x++)
        if (b->bases.at[x].arena == ARENA_GRADS && b->bases.at[x].buffer == (uint32_t)(from - b->buckets.at))
            b->bases.at[x].offset += to->grad - was;
    from->grad = to->grad;
    return was != to->grad;
}

const struct mutant mutants_of_zero[] = {
    MUTANT(scatters_into_the_first_part, "reduce", 4),
    MUTANT(gathers_the_first_part, "gather", 4),
    MUTANT(an_add_is_left_out, "reduce", 4),
    MUTANT(a_gather_is_left_out, "gather", 4),
    MUTANT(snapshots_overlap, "shards", 4),
    MUTANT(an_update_does_not_wait_for_the_norm, "race", 2),
    MUTANT(copies_are_not_reduced, "reduce", 10),
    MUTANT(copies_are_reduced_twice, "reduce", 10),
    MUTANT(a_shard_is_gathered_from_copies_twice, "gather", 4),
    MUTANT(copies_are_reduced_early, "reduce", 10),
    MUTANT(reduces_over_the_other_group, "reduce", 10),
    MUTANT(copies_are_the_group_itself, "holders", 10),
    MUTANT(a_group_in_another_order, "holders", 10),
    MUTANT(takes_the_first_part_of_a_shard, "first", 10),
    MUTANT(takes_the_first_part_of_a_shard, "gather", 10),
    MUTANT(gradients_in_one_place, "race", 10),
    MUTANT(gradients_in_one_place, "shards", 10),
    { 0 },
};
