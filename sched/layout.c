/* layout: place and replicate for a grid of pp x dp devices (DIRECTIVES.md, "Macros").
 *
 * Stages stand on pipeline ranks by "placement": standard (stage s on rank s), interleaved (stage s on rank s mod pp), v (the
 * second half runs back: stage 2pp-1-r on rank r). Device of pipeline rank i and replica r: i + pp*r, or i*dp + r with
 * "outer":"pp". */
#include "sched/compile.h"

enum placement { STANDARD, INTERLEAVED, V };
static const char *const placements[] = { "standard", "interleaved", "v" };

uint32_t layout_chunks(const json_t *layout)
{
    const char *p = json_string_value(json_object_get(layout, "placement"));
    const json_t *chunks = json_object_get(layout, "chunks");
    if (json_is_integer(chunks))
        return (uint32_t)json_integer_value(chunks);
    return p && (!strcmp(p, "interleaved") || !strcmp(p, "v")) ? 2 : 1;
}

struct grid {
    int64_t pp, dp, chunks;
    enum placement placement;
    bool outer_pp;
};

static enum status read_grid(struct sched *s, const struct js *js, struct grid *g, struct err *e)
{
    struct js v;
    const char *name;
    TRY(js_int_or(js, "pp", 1, 1 << 16, 1, &g->pp, e));
    TRY(js_str_or(js, "placement", placements[0], &name, e));
    for (g->placement = STANDARD; strcmp(placements[g->placement], name);)
        if (++g->placement > V) {
            js_opt(js, "placement", &v, e);
            return js_expected(&v, e, "\"standard\", \"interleaved\" or \"v\"");
        }
    TRY(js_int_or(js, "chunks", 1, 1 << 10, g->placement == STANDARD ? 1 : 2, &g->chunks, e));
    if ((g->placement == STANDARD && g->chunks != 1) || (g->placement == V && g->chunks != 2)) {
        js_opt(js, "chunks", &v, e);
        return js_expected(&v, e, "%d with \"placement\":\"%s\"", g->placement == V ? 2 : 1, name);
    }
    TRY(js_str_or(js, "outer", "dp", &name, e));
    g->outer_pp = !strcmp(name, "pp");
    if (!g->outer_pp && strcmp(name, "dp")) {
        js_opt(js, "outer", &v, e);
        return js_expected(&v, e, "\"pp\" (replicas of a stage on neighbouring ranks) or \"dp\"");
    }
    TRY(js_int_or(js, "dp", 1, 1 << 20, 0, &g->dp, e));
    if (!g->dp && !s->in->ranks)
        return err_set(e, ST_USAGE, js->file, "%s: \"dp\" is left out, so the number of ranks decides it: give it with -n",
                       js->path);
    if (!g->dp && s->in->ranks % g->pp)
        return err_set(e, ST_USAGE, js->file, "%s: %u ranks do not divide by pp=%lld; start a multiple of it", js->path,
                       s->in->ranks, (long long)g->pp);
    if (!g->dp)
        g->dp = s->in->ranks / g->pp;
    if (s->in->ranks && g->pp * g->dp != s->in->ranks)
        return err_set(e, ST_USAGE, js->file, "%s: pp=%lld x dp=%lld needs %lld ranks, the job has %u", js->path,
                       (long long)g->pp, (long long)g->dp, (long long)(g->pp * g->dp), s->in->ranks);
    return ST_OK;
}

static json_t *device_ranges(const struct grid *g, int64_t i)
{
    json_t *list = json_array();
    int64_t first = g->outer_pp ? i * g->dp : i, step = g->outer_pp ? 1 : g->pp;
    if (g->dp <= 4)
        for (int64_t r = 0; r < g->dp; r++)
            json_array_append_new(list, json_integer(first + r * step));
    else if (step == 1)
        json_array_append_new(list, json_sprintf("%lld-%lld", (long long)first, (long long)(first + g->dp - 1)));
    else
        json_array_append_new(list, json_sprintf("%lld-%lld:%lld", (long long)first,
                                                 (long long)(first + (g->dp - 1) * step), (long long)step));
    return list;
}

static enum status expand_layout(struct sched *s, const struct js *js, json_t *out, struct err *e)
{
    struct grid g;
    struct js bucket;
    const char *stream, *reduce;
    TRY(read_grid(s, js, &g, e));
    TRY(js_str_or(js, "stream", NULL, &stream, e));
    TRY(js_str_or(js, "reduce_stream", "dp", &reduce, e));
    TRY(js_opt(js, "bucket_size", &bucket, e));
    for (int64_t stage = 0; stage < g.pp * g.chunks; stage++) {
        int64_t rank = g.placement == V && stage >= g.pp ? 2 * g.pp - 1 - stage : stage % g.pp;
        json_t *devices = device_ranges(&g, rank);
        json_t *d = json_pack("{s:s, s:{s:I}, s:O, s:s}", "op", "place", "filter", "PP", (json_int_t)stage, "devices",
                              devices, "stream", stream ? stream : "pp");
        if (!stream)
            json_object_set_new(d, "lanes", json_true());
        json_array_append_new(out, d);
        d = json_pack("{s:s, s:{s:I}, s:O, s:s}", "op", "replicate", "filter", "PP", (json_int_t)stage, "devices", devices,
                      "reduce_stream", reduce);
        if (bucket.v)
            json_object_set(d, "bucket_size", bucket.v);
        else
            json_object_set_new(d, "bucket_size", json_string("layer"));
        json_array_append_new(out, d);
        json_decref(devices);
    }
    return ST_OK;
}

static const char *const keys[] = { "op",     "pp",     "dp",    "placement",     "chunks",
                                    "stream", "outer", "reduce_stream", "bucket_size", NULL };
const struct directive_kind directive_layout = { .name = "layout", .keys = keys, .expand = expand_layout };
