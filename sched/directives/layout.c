/* layout: place, replicate and shard for a grid of pp x dp devices (piper-strategy(5), layout).
 *
 * Stages stand on pipeline ranks by "placement": standard (stage s on rank s), interleaved (stage s on rank s mod pp), v (the
 * second half runs back: stage 2pp-1-r on rank r), two-way (stage s on ranks s and pp-1-s, two replicas: what enters at
 * either end of the pipeline). Device of pipeline rank i and copy r of the pipeline: i + pp*r, or i*dp + r with
 * "outer":"pp", which is the default with ep > 1: the devices of an expert group are then neighbours. Expert group g of a
 * stage: copies g*ep .. g*ep+ep-1; two-way: of each direction. */
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

/* 1 where it is absent, or wrong: layout refuses it. */
static uint32_t count_of(const json_t *layout, const char *key)
{
    const json_t *v = json_object_get(layout, key);
    bool good = json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) < 1 << 15;
    return good ? (uint32_t)json_integer_value(v) : 1;
}

uint32_t sched_least_ranks(const json_t *strategy)
{
    const json_t *layout = layout_find(strategy), *dp = json_object_get(layout, "dp");
    return layout && (!dp || json_is_null(dp)) ? count_of(layout, "pp") * count_of(layout, "ep") : 0;
}

struct grid {
    int64_t pp, dp, ep, chunks;
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
    TRY(js_int_or(js, "ep", 1, 1 << 20, 1, &g->ep, e));
    TRY(js_str_or(js, "outer", g->ep > 1 ? "pp" : "dp", &name, e));
    g->outer_pp = !strcmp(name, "pp");
    if (!g->outer_pp && strcmp(name, "dp")) {
        js_opt(js, "outer", &v, e);
        return js_expected(&v, e, "\"pp\" (replicas of a stage on neighbouring ranks) or \"dp\"");
    }
    TRY(js_int_or(js, "dp", 1, 1 << 20, 0, &g->dp, e));
    if (!g->dp && !s->in->ranks)
        return err_set(e, ST_USAGE, js->file, "%s: without \"dp\" the number of ranks must be known: give it with -n",
                       js->path);
    if (!g->dp && s->in->ranks % g->pp)
        return err_set(e, ST_USAGE, js->file, "%s: %u ranks are not a multiple of pp=%lld; launch a multiple of it",
                       js->path, s->in->ranks, (long long)g->pp);
    if (!g->dp)
        g->dp = s->in->ranks / g->pp;
    if (s->in->ranks && g->pp * g->dp != s->in->ranks)
        return err_set(e, ST_USAGE, js->file, "%s: pp=%lld x dp=%lld needs %lld ranks, the job has %u", js->path,
                       (long long)g->pp, (long long)g->dp, (long long)(g->pp * g->dp), s->in->ranks);
    if (g->dp % g->ep)
        return js_wrong(js, e,
                        "ep=%lld does not divide dp=%lld; the experts of a stage are split over ep of its dp replicas",
                        (long long)g->ep, (long long)g->dp);
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

/* The expert groups of pipeline rank i. */
static json_t *expert_groups(const struct grid *g, int64_t i)
{
    json_t *groups = json_array();
    int64_t first = g->outer_pp ? i * g->dp : i, step = g->outer_pp ? 1 : g->pp;
    int64_t mirror = (g->pp - 1 - 2 * i) * (g->outer_pp ? g->dp : 1);
    for (int way = 0; way < (g->placement == PLACE_TWO_WAY ? 2 : 1); way++)
        for (int64_t r = 0; r < g->dp; r += g->ep) {
            json_t *group = json_array();
            for (int64_t k = r; k < r + g->ep; k++)
                json_array_append_new(group, json_integer(first + k * step + way * mirror));
            json_array_append_new(groups, group);
        }
    return groups;
}

static bool has_experts(const struct sched *s, int64_t stage)
{
    uint32_t pp = ir_graph_find_tag(s->g, "PP"), ep = ir_graph_find_tag(s->g, "EP");
    for (uint32_t o = 0; o < s->g->ops.n && pp != IR_NONE && ep != IR_NONE; o++)
        if (s->g->ops.at[o].tag[pp] == stage && s->g->ops.at[o].tag[ep] >= 0)
            return true;
    return false;
}

/* Keys that are replicate's own and are passed on as they are. */
static const char *const passed_on[] = { "zero", "reduce", "prefetch", "shard_grads", "shard_params", NULL };

static json_t *replicate_of(const struct js *js, int64_t stage, json_t *devices, const char *reduce, const char *gather,
                            json_t *bucket)
{
    json_t *d = json_pack("{s:s, s:{s:I}, s:O, s:s, s:s}", "op", "replicate", "filter", "PP", (json_int_t)stage,
                          "devices", devices, "reduce_stream", reduce, "gather_stream", gather);
    if (bucket)
        json_object_set(d, "bucket_size", bucket);
    else
        json_object_set_new(d, "bucket_size", json_string("layer"));
    for (int i = 0; passed_on[i]; i++)
        if (json_object_get(js->v, passed_on[i]))
            json_object_set(d, passed_on[i], json_object_get(js->v, passed_on[i]));
    return d;
}

static json_t *shard_of(const struct js *js, const struct grid *g, int64_t stage, int64_t rank, const char *stream)
{
    json_t *d = json_pack("{s:s, s:{s:I, s:s}, s:o, s:s}", "op", "shard", "filter", "PP", (json_int_t)stage, "EP", "*",
                          "devices", expert_groups(g, rank), "stream", stream);
    if (json_object_get(js->v, "expert_bound"))
        json_object_set(d, "expert_bound", json_object_get(js->v, "expert_bound"));
    return d;
}

static enum status expand_layout(struct sched *s, const struct js *js, json_t *out, struct err *e)
{
    struct grid g;
    struct js bucket;
    const char *stream, *reduce, *gather, *experts;
    TRY(read_grid(s, js, &g, e));
    TRY(js_str_or(js, "stream", NULL, &stream, e));
    TRY(js_str_or(js, "reduce_stream", "dp", &reduce, e));
    TRY(js_str_or(js, "gather_stream", "ag", &gather, e));
    TRY(js_str_or(js, "expert_stream", "ep", &experts, e));
    TRY(js_opt(js, "bucket_size", &bucket, e));
    for (int64_t stage = 0; stage < g.pp * g.chunks; stage++) {
        int64_t rank = g.placement == PLACE_V && stage >= g.pp ? 2 * g.pp - 1 - stage : stage % g.pp;
        json_t *devices = device_ranges(&g, rank);
        json_t *d = json_pack("{s:s, s:{s:I}, s:O, s:s}", "op", "place", "filter", "PP", (json_int_t)stage, "devices",
                              devices, "stream", stream ? stream : "pp");
        if (!stream)
            json_object_set_new(d, "lanes", json_true());
        json_array_append_new(out, d);
        json_array_append_new(out, replicate_of(js, stage, devices, reduce, gather, bucket.v));
        if (g.ep > 1 && has_experts(s, stage))
            json_array_append_new(out, shard_of(js, &g, stage, rank, experts));
        json_decref(devices);
    }
    return ST_OK;
}

static const char *const keys[] = {
    "op",          "pp",          "dp",           "ep",       "placement",     "chunks",
    "outer",       "stream",      "zero",         "reduce",   "reduce_stream", "gather_stream",
    "bucket_size", "shard_grads", "shard_params", "prefetch", "expert_stream", "expert_bound",
    NULL
};
const struct directive_kind directive_layout = { .name = "layout", .keys = keys, .expand = expand_layout };
