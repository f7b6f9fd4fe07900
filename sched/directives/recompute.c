/* recompute: what the backward of the matched chunks, in the matched microbatches, needs is computed again, just before B or BI, from the chunk's inputs;
 * nothing but those is kept (piper-strategy(5), recompute). The work is done by
 * the tape (sched/lower/tape.c): it begins with the forwards that its backward needs. Received values are inputs; with "received":"again"
 * rows of experts are not kept, and their all-to-all is repeated (sched/again.c). */
#include "sched/passes.h"

static enum status parse_recompute(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    static const char *const words[] = { "keep", "again", NULL };
    struct js v;
    uint32_t received;
    TRY(js_need(js, "filter", &v, e));
    TRY(filter_parse(s, &v, &d->filter, e));
    TRY(js_word_or(js, "received", words, 0, &received, e));
    d->receives = received == 1;
    return ST_OK;
}

static const char *const keys[] = { "op", "filter", "received", NULL };
const struct directive_kind directive_recompute = { .name = "recompute", .keys = keys, .parse = parse_recompute };

/* By dispatch: who reads its rows. */
static void find_rows(struct sched *s)
{
    s->rows_of = arena_array(&s->arena, uint32_t, s->g->ops.n + 1);
    memset(s->rows_of, 0xff, s->g->ops.n * sizeof *s->rows_of);
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        const uint32_t from = op->op == IR_OP_EXPERTS ? s->g->tensors.at[op->in[0]].producer : IR_NONE;
        if (from != IR_NONE && s->g->ops.at[from].op == IR_OP_DISPATCH)
            s->rows_of[from] = s->chunks.chunk_of[o];
    }
}

/* The filter matches experts, whose rows come from a dispatch. */
static enum status check_receives(const struct sched *s, const struct directive *d, struct err *e)
{
    bool any = false;
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        if (op->op != IR_OP_EXPERTS || !filter_chunk(s, &d->filter, s->chunks.chunk_of[o]))
            continue;
        any = true;
        const uint32_t from = s->g->tensors.at[op->in[0]].producer;
        if (from == IR_NONE || s->rows_of[from] == IR_NONE)
            return js_wrong(&d->js, e,
                            "\"received\": \"again\": %s reads rows that no dispatch has made, which cannot be made "
                            "again; use \"keep\"",
                            op->name);
    }
    return any ? ST_OK
               : js_wrong(
                     &d->js, e,
                     "\"received\": \"again\": the filter matches no experts, which alone receive rows that can be "
                     "sent again; add \"EP\":\"*\" to the filter");
}

enum status pass_recompute(struct sched *s, struct err *e)
{
    const uint32_t n = s->chunks.chunks.n, m = s->microbatches;
    s->recompute = arena_alloc(&s->arena, (uint64_t)n * m + 1);
    find_rows(s);
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_recompute)
            continue;
        if (d->filter.pass != IR_PASS_NONE)
            return js_wrong(&d->js, e, "recompute acts on chunks and microbatches: omit PASS from the filter");
        TRY(filter_check(s, &d->filter, &d->js, e));
        if (d->receives)
            TRY(check_receives(s, d, e));
        const struct mb_range r = filter_microbatches(s, &d->filter);
        const uint8_t how = d->receives ? RECOMPUTE_RECEIVES : RECOMPUTE_KEEPS_INPUTS;
        for (uint32_t c = 0; c < n; c++)
            for (uint32_t mb = r.first; mb < r.end && filter_chunk(s, &d->filter, c); mb += r.step) {
                uint8_t *at = &s->recompute[c * m + mb];
                *at = how > *at ? how : *at;
            }
    }
    return ST_OK;
}
