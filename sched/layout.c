/* layout: place and replicate for a grid of pp x dp devices (DIRECTIVES.md, "Macros").
 *
 * Stages stand on pipeline ranks by "placement": standard (stage s on rank s), interleaved (stage s on rank s mod pp), v (the
 * second half runs back: stage 2pp-1-r on rank r), two-way (stage s on ranks s and pp-1-s, two replicas: what enters at
 * either end of the pipeline). Device of pipeline rank i and copy r of the pipeline: i + pp*r, or i*dp + r with
 * "outer":"pp". */
#include "sched/compile.h"

enum { MAX_CHUNKS = 1 << 10 };

const char *const placement_names[PLACEMENTS] = { "standard", "interleaved", "v", "two-way" };

enum placement layout_placement(const json_t *layout)
{
    const json_t *v = json_object_get(layout, "placement");
    const char *name = v && !json_is_null(v) ? json_string_value(v) : placement_names[PLACE_STANDARD];
    int i = 0;
    while (i < PLACEMENTS && (!name || strcmp(placement_names[i], name)))
        i++;
    return (enum placement)i;
}

static uint32_t usual_chunks(enum placement p)
{
    return p == PLACE_INTERLEAVED || p == PLACE_V ? 2 : 1;
}

uint32_t layout_chunks(const json_t *layout)
{
    const json_t *chunks = json_object_get(layout, "chunks");
    if (json_is_integer(chunks) && json_integer_value(chunks) > 0 && json_integer_value(chunks) <= MAX_CHUNKS)
        return (uint32_t)json_integer_value(chunks);
    return usual_chunks(layout_placement(layout));
}

const json_t *layout_find(const json_t *strategy)
{
    for (size_t i = json_array_size(strategy); i-- > 0;) {
        const char *op = json_string_value(json_object_get(json_array_get(strategy, i), "op"));
        if (op && !strcmp(op, directive_layout.name))
            return json_array_get(strategy, i);
    }
    return NULL;
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
    g->placement = layout_placement(js->v);
    if (g->placement == PLACEMENTS) {
        js_opt(js, "placement", &v, e);
        return js_expected(&v, e, "\"standard\", \"interleaved\", \"v\" or \"two-way\"");
    }
    uint32_t usual = usual_chunks(g->placement);
    TRY(js_int_or(js, "chunks", 1, MAX_CHUNKS, usual, &g->chunks, e));
    if (g->placement != PLACE_INTERLEAVED && g->chunks != usual) {
        js_opt(js, "chunks", &v, e);
        return js_expected(&v, e, "%u with \"placement\":\"%s\"", usual, placement_names[g->placement]);
    }
    if (g->placement == PLACE_TWO_WAY && g->pp % 2)
        return js_wrong(js, e,
                        "pp=%lld is odd, but \"placement\":\"two-way\" pairs rank s with rank pp-1-s: choose an "
                        "even pp",
                        (long long)g->pp);
    TRY(js_str_or(js, "outer", "dp", &name, e));
    g->outer_pp = !strcmp(name, "pp");
    if (!g->outer_pp && strcmp(name, "dp")) {
        js_opt(js, "outer", &v, e);
        return js_expected(&v, e, "\"pp\" (replicas of a stage on neighbouring ranks) or \"dp\"");
    }
    TRY(js_int_or(js, "dp", 1, 1 << 20, 0, &g->dp, e));
    if (!g->dp && !s->in->ranks)
        return err_set(e, ST_USAGE, js->file,
                       "%s: \"dp\" is left out, so the number of ranks decides it: give it with -n", js->path);
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

/* The devices of pipeline rank i; two-way: of i and of its mirror image, copy by copy, so that replicas 2c and 2c+1 are the two
 * directions of copy c. */
static json_t *device_ranges(const struct grid *g, int64_t i)
{
    json_t *list = json_array();
    int64_t first = g->outer_pp ? i * g->dp : i, step = g->outer_pp ? 1 : g->pp;
    int64_t mirror = (g->pp - 1 - 2 * i) * (g->outer_pp ? g->dp : 1);
    if (g->dp <= 4 || g->placement == PLACE_TWO_WAY)
        for (int64_t r = 0; r < g->dp; r++) {
            json_array_append_new(list, json_integer(first + r * step));
            if (g->placement == PLACE_TWO_WAY)
                json_array_append_new(list, json_integer(first + r * step + mirror));
        }
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
        int64_t rank = g.placement == PLACE_V && stage >= g.pp ? 2 * g.pp - 1 - stage : stage % g.pp;
        json_t *devices = device_ranges(&g, rank);
        json_t *d = json_pack("{s:s, s:{s:I}, s:O, s:s}", "op", "place", "filter", "PP", (json_int_t)stage, "devices",
                              devices, "stream", stream ? stream : "pp");
        if (!stream)
            json_object_set_new(d, "lanes", json_true());
        json_array_append_new(out, d);
        d = json_pack("{s:s, s:{s:I}, s:O, s:s}", "op", "replicate", "filter", "PP", (json_int_t)stage, "devices",
                      devices, "reduce_stream", reduce);
        if (bucket.v)
            json_object_set(d, "bucket_size", bucket.v);
        else
            json_object_set_new(d, "bucket_size", json_string("layer"));
        json_array_append_new(out, d);
        json_decref(devices);
    }
    return ST_OK;
}

static const char *const keys[] = { "op",          "pp",     "dp",    "placement",
                                    "chunks",      "stream", "outer", "reduce_stream",
                                    "bucket_size", NULL };
const struct directive_kind directive_layout = { .name = "layout", .keys = keys, .expand = expand_layout };
