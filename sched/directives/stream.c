/* stream: resources of a stream: thread blocks that its communication may take, and its priority (piper-strategy(5), stream). They go
 * into the plan's table of streams; back ends without such resources ignore them. */
#include "sched/compile.h"

static enum status parse_stream(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    struct js v;
    static const char *const priorities[] = { "normal", "high", NULL };
    const char *name;
    uint32_t high;
    int64_t ctas;
    TRY(js_need(js, "name", &v, e));
    TRY(js_str(&v, &name, e));
    TRY(js_int_or(js, "max_ctas", 0, 1 << 10, 0, &ctas, e));
    TRY(js_word_or(js, "priority", priorities, 0, &high, e));
    d->stream = stream_number(s, name);
    d->max_ctas = (uint32_t)ctas;
    d->priority = (int32_t)high;
    return ST_OK;
}

static const char *const keys[] = { "op", "name", "max_ctas", "priority", NULL };
const struct directive_kind directive_stream = { .name = "stream", .keys = keys, .parse = parse_stream };

/* The lane "pp.f0-1" of a stream with lanes has the resources of "pp". */
void stream_resources(const struct sched *s, uint32_t stream, uint32_t *max_ctas, int32_t *priority)
{
    *max_ctas = 0;
    *priority = 0;
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_stream)
            continue;
        const char *name = s->streams.at[d->stream], *mine = s->streams.at[stream];
        size_t n = strlen(name);
        if (strncmp(name, mine, n) || (mine[n] && mine[n] != '.'))
            continue;
        *max_ctas = d->max_ctas;
        *priority = d->priority;
    }
}

/* A directive for a stream that nothing uses is a mistake of spelling. */
enum status stream_check(const struct sched *s, const uint8_t *used, struct err *e)
{
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        bool any = false;
        if (d->kind != &directive_stream)
            continue;
        size_t n = strlen(s->streams.at[d->stream]);
        for (uint32_t k = 0; k < s->streams.n; k++)
            any = any || (used[k] && !strncmp(s->streams.at[k], s->streams.at[d->stream], n) &&
                          (!s->streams.at[k][n] || s->streams.at[k][n] == '.'));
        if (!any)
            return js_wrong(&d->js, e, "no communication of this job runs on stream \"%s\"", s->streams.at[d->stream]);
    }
    return ST_OK;
}
