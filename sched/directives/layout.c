/* layout: place, replicate and shard for a grid of pp x dp x cp x tp devices (piper-strategy(5), layout).
 *
 * Stages stand on pipeline ranks by "placement": standard (stage s on rank s), interleaved (stage s on rank s mod pp), v (the
 * second half runs back: stage 2pp-1-r on rank r), two-way (stage s on ranks s and pp-1-s, two replicas: what enters at
 * either end of the pipeline). A data replica of a stage is u = cp*tp devices that share its sequences, neighbours. Those of pipeline
 * rank i and copy r of the pipeline begin at (i + pp*r)*u, or at (i*dp + r)*u with "outer":"pp", which is the default with ep, cp or
 * tp > 1 or a zero_group: the devices of a group are then neighbours. Expert group g of a stage: its devices g*ep .. g*ep+ep-1; two-way: of each
 * direction. "encoder", "head": "spread": the first stage of the model, the last one, is none of the pipeline ranks': its microbatch k is on pipeline
 * rank k mod pp. */
#include <stdio.h>

#include "sched/compile.h"

enum { MAX_CHUNKS = 1 << 10 };

const char *const placement_names[PLACEMENTS + 1] = { "standard", "interleaved", "v", "two-way", NULL };

enum placement layout_placement(const json_t *layout)
{
    const json_t *v = json_object_get(layout, "placement");
    const char *name = v && !json_is_null(v) ? json_string_value(v) : placement_names[PLACE_STANDARD];
    int i = 0;
    while (i < PLACEMENTS && (!name || strcmp(placement_names[i], name)))
        i++;
    return (enum placement)i;
}

static const char *const end_names[] = { "stage", "spread", NULL };

struct ir_ends layout_spread(const json_t *layout)
{
    const char *encoder = json_string_value(json_object_get(layout, "encoder")),
               *head = json_string_value(json_object_get(layout, "head"));
    return (struct ir_ends){ encoder && !strcmp(encoder, end_names[1]), head && !strcmp(head, end_names[1]) };
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

const char *layout_key(const json_t *layout, const json_t *primitive)
{
    const char *op = json_string_value(json_object_get(primitive, "op")),
               *dim = json_string_value(json_object_get(primitive, "dim"));
    const bool tp = count_of(layout, "tp") > 1, cp = count_of(layout, "cp") > 1;
    if (!op || strcmp(op, directive_shard.name))
        return NULL;
    if (!dim)
        return "ep";
    if (!strcmp(dim, "sequence"))
        return tp && cp ? NULL : tp ? "tp" : "cp";
    return !strcmp(dim, "context") ? "cp" : !strcmp(dim, "vocab") ? "vocab" : "tp";
}

static uint64_t common_multiple(uint64_t a, uint64_t b)
{
    uint64_t x = a, y = b;
    while (y) {
        const uint64_t rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

uint32_t sched_least_ranks(const json_t *strategy)
{
    const json_t *layout = layout_find(strategy), *dp = json_object_get(layout, "dp");
    if (!layout || (dp && !json_is_null(dp)))
        return 0;
    const uint32_t tp = count_of(layout, "tp"), ways = layout_placement(layout) == PLACE_TWO_WAY ? 2 : 1;
    const uint64_t group = (uint64_t)count_of(layout, "zero_group") * tp; /* devices of a stage: whole groups */
    uint64_t least = common_multiple((uint64_t)count_of(layout, "cp") * tp, count_of(layout, "ep"));
    least = common_multiple(least, group % ways ? group : group / ways);
    return least * count_of(layout, "pp") > UINT32_MAX ? 0 : (uint32_t)least * count_of(layout, "pp");
}

struct grid {
    int64_t pp, dp, ep, chunks, tp, cp;
    int64_t unit; /* devices of a data replica of a stage */
    enum placement placement;
    bool outer_pp, zigzag;
    struct ir_ends spread;
};

/* Stages of the model. */
static int64_t stages_of(const struct grid *g)
{
    return g->pp * g->chunks + g->spread.encoder + g->spread.head;
}

static bool is_spread(const struct grid *g, int64_t stage)
{
    return (g->spread.encoder && stage == 0) || (g->spread.head && stage == stages_of(g) - 1);
}

/* The pipeline rank of a stage that is not spread. */
static int64_t rank_of(const struct grid *g, int64_t stage)
{
    const int64_t i = stage - g->spread.encoder;
    return g->placement == PLACE_V && i >= g->pp ? 2 * g->pp - 1 - i : i % g->pp;
}

static enum status read_share(const struct js *js, struct grid *g, struct err *e)
{
    const char *exchange, *order;
    TRY(js_int_or(js, "tp", 1, 1 << 16, 1, &g->tp, e));
    TRY(js_int_or(js, "cp", 1, 1 << 16, 1, &g->cp, e));
    g->unit = g->tp * g->cp;
    TRY(js_str_or(js, "exchange", "gather", &exchange, e));
    bool zigzag = g->cp > 1 && strcmp(exchange, "all-to-all");
    TRY(js_str_or(js, "order", zigzag ? "zigzag" : "contiguous", &order, e));
    g->zigzag = !strcmp(order, "zigzag");
    static const struct needs {
        const char *key, *more;
    } needs[] = {
        { "order", "cp" }, { "exchange", "cp" }, { "cp_stream", "cp" }, { "tp_stream", "tp" }, { "vocab", "tp" }
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (js_has(js, needs[i].key) && (needs[i].more[0] == 'c' ? g->cp : g->tp) == 1)
            return js_wrong(js, e, "\"%s\" has no effect without \"%s\" > 1", needs[i].key, needs[i].more);
    if (js_has(js, "keep") && g->unit == 1)
        return js_wrong(js, e, "\"keep\" has no effect without \"tp\" or \"cp\" > 1");
    return ST_OK;
}

/* Ranks, where "dp" is omitted or given. */
static enum status read_dp(struct sched *s, const struct js *js, struct grid *g, struct err *e)
{
    const long long pp = (long long)g->pp, unit = (long long)g->unit;
    char text[64] = "";
    if (unit > 1)
        snprintf(text, sizeof text, " x cp=%lld x tp=%lld", (long long)g->cp, (long long)g->tp);
    TRY(js_int_or(js, "dp", 1, 1 << 20, 0, &g->dp, e));
    if (!g->dp && !s->in->ranks)
        return err_set(e, ST_USAGE, js->file, "%s: without \"dp\" the number of ranks must be known: give it with -n",
                       js->path);
    if (!g->dp && s->in->ranks % (pp * unit))
        return err_set(e, ST_USAGE, js->file, "%s: %u ranks are not a multiple of pp=%lld%s; launch a multiple of it",
                       js->path, s->in->ranks, pp, text);
    if (!g->dp)
        g->dp = s->in->ranks / (pp * unit);
    if (s->in->ranks && pp * g->dp * unit != s->in->ranks)
        return err_set(e, ST_USAGE, js->file, "%s: pp=%lld x dp=%lld%s needs %lld ranks, the job has %u", js->path, pp,
                       (long long)g->dp, text, pp * (long long)g->dp * unit, s->in->ranks);
    return ST_OK;
}

static enum status read_ends(const struct js *js, struct grid *g, struct err *e)
{
    static const char *const ends[] = { "encoder", "head" };
    for (int i = 0; i < 2; i++) {
        uint32_t word;
        TRY(js_word_or(js, ends[i], end_names, 0, &word, e));
        if (word == 0)
            continue;
        if (g->pp == 1)
            return js_wrong(js, e, "\"%s\": \"spread\" has no effect without \"pp\" > 1", ends[i]);
        if (g->placement != PLACE_STANDARD)
            return js_wrong(
                js, e,
                "\"%s\": \"spread\" conflicts with \"placement\":\"%s\"; it requires \"standard\": the other "
                "stages are one per rank",
                ends[i], placement_names[g->placement]);
        if (g->unit > 1)
            return js_wrong(
                js, e,
                "\"%s\": \"spread\" conflicts with tp=%lld and cp=%lld: devices that share sequences have one "
                "place for all microbatches",
                ends[i], (long long)g->tp, (long long)g->cp);
    }
    g->spread = layout_spread(js->v);
    return ST_OK;
}

static enum status read_grid(struct sched *s, const struct js *js, struct grid *g, struct err *e)
{
    static const char *const outer[] = { "dp", "pp", NULL };
    struct js v;
    uint32_t outer_pp;
    TRY(js_int_or(js, "pp", 1, 1 << 16, 1, &g->pp, e));
    g->placement = layout_placement(js->v);
    if (g->placement == PLACEMENTS) {
        js_opt(js, "placement", &v, e);
        return js_word(&v, placement_names, &(uint32_t){ 0 }, e);
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
    TRY(read_share(js, g, e));
    TRY(js_word_or(js, "outer", outer, g->ep > 1 || g->unit > 1 || js_has(js, "zero_group"), &outer_pp, e));
    g->outer_pp = outer_pp;
    TRY(read_ends(js, g, e));
    TRY(read_dp(s, js, g, e));
    if (g->dp * g->unit % g->ep && g->unit > 1)
        return js_wrong(js, e,
                        "ep=%lld does not divide dp=%lld x cp=%lld x tp=%lld; the experts of a stage are split over ep "
                        "of its devices",
                        (long long)g->ep, (long long)g->dp, (long long)g->cp, (long long)g->tp);
    if (g->dp * g->unit % g->ep)
        return js_wrong(js, e,
                        "ep=%lld does not divide dp=%lld; the experts of a stage are split over ep of its dp replicas",
                        (long long)g->ep, (long long)g->dp);
    return ST_OK;
}

/* Device k of the data replica of pipeline rank i and copy r. */
static int64_t device(const struct grid *g, int64_t i, int64_t r, int64_t k)
{
    return (g->outer_pp ? i * g->dp + r : i + g->pp * r) * g->unit + k;
}

static void add_range(json_t *list, int64_t first, int64_t n)
{
    if (n == 1)
        json_array_append_new(list, json_integer(first));
    else
        json_array_append_new(list, json_sprintf("%lld-%lld", (long long)first, (long long)(first + n - 1)));
}

/* The devices of pipeline rank i; two-way: of i and of its mirror image, copy by copy, so that replicas 2c and 2c+1 are the two
 * directions of copy c. */
static json_t *device_ranges(const struct grid *g, int64_t i)
{
    json_t *list = json_array();
    int64_t first = device(g, i, 0, 0), step = g->outer_pp ? 1 : g->pp;
    if (g->placement != PLACE_TWO_WAY && g->outer_pp && g->dp * g->unit > 4)
        add_range(list, first, g->dp * g->unit);
    else if (g->dp <= 4 || g->placement == PLACE_TWO_WAY || g->unit > 1)
        for (int64_t r = 0; r < g->dp; r++) {
            add_range(list, device(g, i, r, 0), g->unit);
            if (g->placement == PLACE_TWO_WAY)
                add_range(list, device(g, g->pp - 1 - i, r, 0), g->unit);
        }
    else
        json_array_append_new(list, json_sprintf("%lld-%lld:%lld", (long long)first,
                                                 (long long)(first + (g->dp - 1) * step), (long long)step));
    return list;
}

/* What a stage is placed on: "devices", or in turn those of all pipeline ranks. */
static const char *placement_of(const struct grid *g, int64_t stage, json_t **devices)
{
    if (!is_spread(g, stage)) {
        *devices = device_ranges(g, rank_of(g, stage));
        return "devices";
    }
    *devices = json_array();
    for (int64_t i = 0; i < g->pp; i++)
        json_array_append_new(*devices, device_ranges(g, i));
    return "rotate";
}

/* The expert groups of pipeline rank i: neighbours among the devices of a direction. */
static void add_expert_groups(const struct grid *g, int64_t i, json_t *groups)
{
    for (int way = 0; way < (g->placement == PLACE_TWO_WAY ? 2 : 1); way++)
        for (int64_t d = 0; d < g->dp * g->unit; d += g->ep) {
            json_t *group = json_array();
            for (int64_t k = d; k < d + g->ep; k++)
                json_array_append_new(group,
                                      json_integer(device(g, way ? g->pp - 1 - i : i, k / g->unit, k % g->unit)));
            json_array_append_new(groups, group);
        }
}

/* The groups of a stage on pipeline rank i: its data replicas, in the order of its devices, cut into blocks of n neighbours. */
static json_t *share_groups_of(const struct grid *g, int64_t i, int64_t n)
{
    json_t *groups = json_array();
    for (int64_t r = 0; r < g->dp; r++)
        for (int way = 0; way < (g->placement == PLACE_TWO_WAY ? 2 : 1); way++)
            for (int64_t k = 0; k < g->unit; k += n) {
                json_t *group = json_array();
                add_range(group, device(g, way ? g->pp - 1 - i : i, r, k), n);
                json_array_append_new(groups, group);
            }
    return groups;
}

/* Does the stage have such an operator? */
static bool stage_has(const struct sched *s, int64_t stage, enum ir_op op)
{
    uint32_t pp = ir_graph_find_tag(s->g, "PP");
    for (uint32_t o = 0; o < s->g->ops.n && pp != IR_NONE; o++)
        if (s->g->ops.at[o].tag[pp] == stage && s->g->ops.at[o].op == op)
            return true;
    return false;
}

static json_t *dim_of(const struct js *js, const char *dim, int64_t stage, const char *stream)
{
    json_t *d = json_pack("{s:s, s:s, s:{s:I}, s:s}", "op", "shard", "dim", dim, "filter", "PP", (json_int_t)stage,
                          "stream", stream);
    if (json_object_get(js->v, "keep"))
        json_object_set(d, "keep", json_object_get(js->v, "keep"));
    return d;
}

/* Sequence groups, and the regions that a stage has. */
static enum status expand_share(const struct sched *s, const struct js *js, const struct grid *g, int64_t stage,
                                int64_t rank, json_t *out, struct err *e)
{
    const char *tp, *cp;
    bool vocab;
    TRY(js_str_or(js, "tp_stream", "tp", &tp, e));
    TRY(js_str_or(js, "cp_stream", "cp", &cp, e));
    TRY(js_bool_or(js, "vocab", false, &vocab, e));
    json_array_append_new(out, json_pack("{s:s, s:s, s:{s:I}, s:o, s:s}", "op", "shard", "dim", "sequence", "filter",
                                         "PP", (json_int_t)stage, "devices", share_groups_of(g, rank, g->unit), "order",
                                         g->zigzag ? "zigzag" : "contiguous"));
    const struct region {
        const char *dim;
        bool there;
    } regions[] = { { "head", stage_has(s, stage, IR_OP_ATTENTION) },
                    { "ffn", stage_has(s, stage, IR_OP_SWIGLU) || stage_has(s, stage, IR_OP_GELU) ||
                                 stage_has(s, stage, IR_OP_ACT) },
                    { "vocab", vocab && (stage_has(s, stage, IR_OP_HEAD_LOSS) || stage_has(s, stage, IR_OP_EMBED)) } };
    for (size_t i = 0; i < sizeof regions / sizeof *regions; i++) {
        if (g->tp == 1 || !regions[i].there)
            continue;
        json_t *d = dim_of(js, regions[i].dim, stage, tp);
        json_object_set_new(d, "devices", share_groups_of(g, rank, g->tp));
        json_array_append_new(out, d);
    }
    if (g->cp > 1 && regions[0].there) {
        json_t *d = dim_of(js, "context", stage, cp);
        if (json_object_get(js->v, "exchange"))
            json_object_set(d, "exchange", json_object_get(js->v, "exchange"));
        json_array_append_new(out, d);
    }
    return ST_OK;
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
static const char *const passed_on[] = { "zero",     "zero_group",  "zero_optimizer", "reduce",
                                         "prefetch", "shard_grads", "shard_params",   NULL };

/* Of a copy of its place directive. */
static json_t *replicate_of(const struct js *js, json_t *place, const char *reduce, const char *gather, json_t *bucket)
{
    json_t *d = json_copy(place);
    json_object_del(d, "stream");
    json_object_del(d, "lanes");
    json_object_set_new(d, "op", json_string("replicate"));
    json_object_set_new(d, "reduce_stream", json_string(reduce));
    json_object_set_new(d, "gather_stream", json_string(gather));
    if (bucket)
        json_object_set(d, "bucket_size", bucket);
    else
        json_object_set_new(d, "bucket_size", json_string("layer"));
    for (int i = 0; passed_on[i]; i++)
        if (json_object_get(js->v, passed_on[i]))
            json_object_set(d, passed_on[i], json_object_get(js->v, passed_on[i]));
    return d;
}

static const char *const passed_to_experts[] = { "expert_bound", "overflow", NULL };

static json_t *shard_of(const struct js *js, const struct grid *g, int64_t stage, const char *stream)
{
    json_t *groups = json_array();
    for (int64_t i = 0; i < g->pp; i++)
        if (is_spread(g, stage) || i == rank_of(g, stage))
            add_expert_groups(g, i, groups);
    json_t *d = json_pack("{s:s, s:{s:I, s:s}, s:o, s:s}", "op", "shard", "filter", "PP", (json_int_t)stage, "EP", "*",
                          "devices", groups, "stream", stream);
    for (int i = 0; passed_to_experts[i]; i++)
        if (json_object_get(js->v, passed_to_experts[i]))
            json_object_set(d, passed_to_experts[i], json_object_get(js->v, passed_to_experts[i]));
    return d;
}

/* Where ends are spread, a model that is annotated has as many stages as there are then. */
static enum status check_stages(const struct sched *s, const struct js *js, const struct grid *g, struct err *e)
{
    const long long have = schedule_stages(s), want = stages_of(g);
    if ((!g->spread.encoder && !g->spread.head) || have == want)
        return ST_OK;
    return js_wrong(
        js, e,
        "pp=%lld with %s spread needs %lld stages, the model is annotated with %lld: annotate what is spread as "
        "a stage of its own",
        (long long)g->pp,
        !g->spread.head     ? "the encoder"
        : g->spread.encoder ? "the encoder and the head"
                            : "the head",
        want, have);
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
    TRY(expert_bound_parse(js, &(struct ratio){ 0 }, &(bool){ false }, e));
    TRY(check_stages(s, js, &g, e));
    for (int64_t stage = 0; stage < stages_of(&g); stage++) {
        json_t *devices;
        const char *key = placement_of(&g, stage, &devices);
        json_t *d = json_pack("{s:s, s:{s:I}, s:o, s:s}", "op", "place", "filter", "PP", (json_int_t)stage, key,
                              devices, "stream", stream ? stream : "pp");
        if (!stream)
            json_object_set_new(d, "lanes", json_true());
        json_array_append_new(out, d);
        json_array_append_new(out, replicate_of(js, d, reduce, gather, bucket.v));
        if (g.unit > 1)
            TRY(expand_share(s, js, &g, stage, rank_of(&g, stage), out, e));
        if (g.ep > 1 && has_experts(s, stage))
            json_array_append_new(out, shard_of(js, &g, stage, experts));
    }
    return ST_OK;
}

static const char *const keys[] = { "op",
                                    "pp",
                                    "dp",
                                    "ep",
                                    "placement",
                                    "chunks",
                                    "outer",
                                    "stream",
                                    "zero",
                                    "zero_group",
                                    "zero_optimizer",
                                    "reduce",
                                    "reduce_stream",
                                    "gather_stream",
                                    "bucket_size",
                                    "shard_grads",
                                    "shard_params",
                                    "prefetch",
                                    "expert_stream",
                                    "expert_bound",
                                    "overflow",
                                    "encoder",
                                    "head",
                                    "tp",
                                    "cp",
                                    "vocab",
                                    "exchange",
                                    "keep",
                                    "order",
                                    "tp_stream",
                                    "cp_stream",
                                    NULL };
const struct directive_kind directive_layout = { .name = "layout", .keys = keys, .expand = expand_layout };
