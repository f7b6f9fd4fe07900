/* What is counted over whole sequences, where devices share them (piper-strategy(5), shard): capacities of experts, and the losses of
 * routers that balance a sequence. A device counts the choices of its own tokens, run by run; these counts are gathered over the
 * sequence group, in the middle of the program that the router stands in (sched/lower/border.c), and then a capacity drops by
 * position in the whole sequence, and a loss of a sequence uses whole counts with a device's own scores; where it counts other choices
 * than the capacity, both are told. Rows that stay lie
 * and travel as without a capacity, so the experts and what joins their rows have none here.
 *
 * Needs: the sides of pass_region. Gives: theirs to routers, dispatches, experts and what joins their rows. Behind the cut: that a
 * dispatch stands with its router. Behind place: how many rows a device of sharded experts receives. */
#include "sched/passes.h"

static void count(struct sched *s, uint32_t o)
{
    s->sides[o].split = IR_COUNTS;
    s->sides[o].parts = s->share.n;
}

static uint32_t router_of(const struct sched *s, uint32_t dispatch)
{
    return s->g->tensors.at[s->g->ops.at[dispatch].in[1]].producer;
}

/* A dispatch with a capacity, and the router whose choices it reads. */
static enum status count_choices(struct sched *s, uint32_t o, struct err *e)
{
    const uint32_t r = router_of(s, o), here = s->chunks.chunk_of[o], there = s->chunks.chunk_of[r];
    const struct ir_node_op *dispatch = &s->g->ops.at[o], *router = &s->g->ops.at[r];
    const struct js *js = &s->directives.at[s->sequence_of[here]].js;
    char a[160], b[160];
    if (here != there)
        return js_wrong(js, e,
                        "%s lies in %s and its router %s in %s; where sequences are shared, a capacity needs both in "
                        "one chunk",
                        dispatch->name, chunk_text(s, here, a, sizeof a), router->name,
                        chunk_text(s, there, b, sizeof b));
    count(s, r);
    return ST_OK;
}

enum status counts_find(struct sched *s, struct err *e)
{
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        if (!ir_op_counts(&op->attrs))
            continue;
        count(s, o);
        if (op->op == IR_OP_DISPATCH)
            TRY(count_choices(s, o, e));
    }
    return ST_OK;
}

enum status counts_check_cut(const struct sched *s, struct err *e)
{
    char text[160];
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const uint32_t r = side_counts(s, o);
        if (r == IR_NONE || s->chunks.sub_of[o] == s->chunks.sub_of[r])
            continue;
        const uint32_t chunk = s->chunks.chunk_of[o];
        return js_wrong(
            &s->directives.at[s->sequence_of[chunk]].js, e,
            "%s and its router %s are in different pieces of %s, cut by \"bucket_size\" or by a region between "
            "them; where sequences are shared, a capacity needs them next to each other",
            s->g->ops.at[o].name, s->g->ops.at[r].name, chunk_text(s, chunk, text, sizeof text));
    }
    return ST_OK;
}

/* ---- rows of sharded experts --------------------------------------------------------------------------------------- */

/* Of how many sequence groups the devices of an expert group are, at most. */
static uint32_t groups_spanned(const struct sched *s, const struct directive *experts, const struct directive *sequence)
{
    const uint32_t *devices = devices_of(s, sequence->set), n = s->sets.at[sequence->set].n;
    uint32_t *group = mem_alloc((s->ranks + 1) * sizeof *group); /* by device: its sequence group, plus one */
    uint32_t *seen = mem_alloc((n / s->share.n + 2) * sizeof *seen), most = 1;
    for (uint32_t i = 0; i < n; i++)
        group[devices[i]] = i / s->share.n + 1;
    for (uint32_t g = 0; g < experts->n_shard_sets; g++) {
        const uint32_t set = s->listed_sets.at[experts->first_shard_set + g];
        uint32_t spanned = 0;
        for (uint32_t i = 0; i < s->sets.at[set].n; i++) {
            uint32_t *last = &seen[group[devices_of(s, set)[i]]];
            spanned += *last != g + 1;
            *last = g + 1;
        }
        most = spanned > most ? spanned : most;
    }
    mem_free(group);
    mem_free(seen);
    return most;
}

/* A capacity bounds the rows of an expert from each sequence, on whatever devices its tokens are. */
void counts_bound_rows(struct sched *s)
{
    s->row_factor = arena_array(&s->arena, struct ratio, s->chunks.chunks.n);
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++) {
        const struct ir_attrs *a = &s->g->ops.at[s->chunks.ops.at[s->chunks.chunks.at[c].first_op]].attrs;
        const uint32_t ep = expert_parts(s, c);
        s->row_factor[c] = (struct ratio){ ep, 1 };
        if (ep < 2 || !a->capacity)
            continue;
        s->row_factor[c] = (struct ratio){ 1, 1 };
        if (!s->sides)
            continue;
        uint32_t spans = 1;
        for (uint32_t mb = 0; mb < s->microbatches; mb++) {
            const uint32_t d = s->shard_of[c * s->microbatches + mb];
            if (mb && d == s->shard_of[c * s->microbatches + mb - 1])
                continue;
            const uint32_t n = groups_spanned(s, &s->directives.at[d], &s->directives.at[s->sequence_of[c]]);
            spans = n > spans ? n : spans;
        }
        const uint64_t received = (uint64_t)spans * (a->experts / ep) * a->capacity;
        const uint64_t sent = (uint64_t)s->g->seq_len / s->share.n * a->top_k; /* of a sequence, at most */
        if (received > sent)
            s->row_factor[c] = received > ep * sent ? (struct ratio){ ep, 1 } : (struct ratio){ received, sent };
    }
}
