/* recompute: what the backward of the matched chunks, in the matched microbatches, needs is computed again, just before B or BI, from the chunk's inputs;
 * nothing but those is kept (piper-strategy(5), recompute). Communication is not repeated: received values are inputs. The work is done by
 * the tape (sched/lower/tape.c): it begins with the forwards that its backward needs. */
#include "sched/passes.h"

static enum status parse_recompute(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    struct js v;
    TRY(js_need(js, "filter", &v, e));
    return filter_parse(s, &v, &d->filter, e);
}

static const char *const keys[] = { "op", "filter", NULL };
const struct directive_kind directive_recompute = { .name = "recompute", .keys = keys, .parse = parse_recompute };

enum status pass_recompute(struct sched *s, struct err *e)
{
    const uint32_t n = s->chunks.chunks.n, m = s->microbatches;
    s->recompute = arena_alloc(&s->arena, (uint64_t)n * m + 1);
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_recompute)
            continue;
        if (d->filter.pass != IR_PASS_NONE)
            return js_wrong(&d->js, e, "recompute acts on chunks and microbatches: omit PASS from the filter");
        TRY(filter_check(s, &d->filter, &d->js, e));
        const struct mb_range r = filter_microbatches(s, &d->filter);
        for (uint32_t c = 0; c < n; c++)
            for (uint32_t mb = r.first; mb < r.end && filter_chunk(s, &d->filter, c); mb += r.step)
                s->recompute[c * m + mb] = 1;
    }
    return ST_OK;
}
