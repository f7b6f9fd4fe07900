/* Strategies with one mistake: a row a rule of DIRECTIVES.md. */
#include "random.h"

#include <stdio.h>
#include <stdlib.h>

struct breaker {
    struct random_job *j;
    struct random_break *out;
    uint32_t n_needles;
};

__attribute__((format(printf, 2, 3))) static void want(struct breaker *b, const char *fmt, ...)
{
    va_list args;
    CHECK(b->n_needles < 3);
    va_start(args, fmt);
    vsnprintf(b->out->needles[b->n_needles], sizeof b->out->needles[0], fmt, args);
    va_end(args);
    b->n_needles++;
}

/* ---- what the job has -------------------------------------------------------------------------------------------- */

static const char *op_of(const json_t *d)
{
    const char *op = json_string_value(json_object_get(d, "op"));
    return op ? op : "";
}

/* A random directive whose name is a word of `ops` ("place replicate"); NULL: none. Its path is wanted in the answer. */
static json_t *some(struct breaker *b, const char *ops, const char *below)
{
    json_t *d, *found = NULL;
    size_t i, at = 0;
    uint32_t n = 0;
    json_array_foreach(b->j->strategy, i, d) if (strstr(ops, op_of(d)) && !rng_below(&b->j->rng, ++n))
    {
        found = d;
        at = i;
    }
    if (found)
        want(b, "$[%zu]%s", at, below);
    return found;
}

/* Appends a directive; its path is wanted. */
static void append(struct breaker *b, const char *below, json_t *d)
{
    want(b, "$[%zu]%s", json_array_size(b->j->strategy), below);
    json_array_append_new(b->j->strategy, d);
}

static void drop(struct random_job *j, const char *ops)
{
    for (size_t i = json_array_size(j->strategy); i-- > 0;)
        if (strstr(ops, op_of(json_array_get(j->strategy, i))))
            json_array_remove(j->strategy, i);
}

static bool has(const struct random_job *j, const char *op)
{
    json_t *d;
    size_t i;
    json_array_foreach(j->strategy, i, d) if (!strcmp(op_of(d), op)) return true;
    return false;
}

static const char *devices_key(const json_t *d)
{
    return json_object_get(d, "device") ? "device" : "devices";
}

static uint32_t tag_bit(const struct random_job *j, const char *name)
{
    uint32_t tag = ir_graph_find_tag(&j->g, name);
    return tag == IR_NONE ? 0 : 1u << tag;
}

static uint32_t some_expert_chunk(struct random_job *j)
{
    uint32_t tag = ir_graph_find_tag(&j->g, "EP"), found = IR_NONE, n = 0;
    for (uint32_t c = 0; c < j->chunks.chunks.n && tag != IR_NONE; c++)
        if (j->chunks.chunks.at[c].tag[tag] >= 0 && !rng_below(&j->rng, ++n))
            found = c;
    return found;
}

/* A chunk on another class than this one, IR_NONE; microbatch 0. */
static uint32_t elsewhere(struct random_job *j, uint32_t chunk)
{
    uint32_t found = IR_NONE, n = 0;
    for (uint32_t c = 0; c < j->chunks.chunks.n; c++)
        if (random_set_of(j, c, 0)->class_id != random_set_of(j, chunk, 0)->class_id && !rng_below(&j->rng, ++n))
            found = c;
    return found;
}

static json_t *pass_filter(struct random_job *j, uint32_t chunk, uint32_t mb, const char *pass)
{
    json_t *f = random_filter(j, chunk, j->place.tags, mb, mb, pass);
    if (json_is_object(f) && json_is_string(json_object_get(f, j->mb_name)) && j->microbatches == 1)
        json_object_del(f, j->mb_name);
    return f;
}

/* {"op":"order","filters":[[..],[..],..]} of one chunk and microbatch. */
static json_t *order_of(struct random_job *j, uint32_t chunk, uint32_t mb, const char *const *passes)
{
    json_t *groups = json_array();
    for (int i = 0; passes[i]; i++)
        json_array_append_new(groups, json_pack("[o]", pass_filter(j, chunk, mb, passes[i])));
    return json_pack("{s:s,s:o}", "op", "order", "filters", groups);
}

/* Do filters by the tags of placement match what an order may name? */
static bool orderly(const struct random_job *j)
{
    struct random_part p;
    if (j->macros || !random_part(j, j->place.tags, true, &p))
        return false;
    random_part_release(&p);
    return true;
}

static uint32_t some_chunk(struct random_job *j)
{
    return rng_below(&j->rng, j->chunks.chunks.n);
}

/* ---- the form ---------------------------------------------------------------------------------------------------- */

static bool not_a_list(struct breaker *b)
{
    json_decref(b->j->strategy);
    b->j->strategy = json_pack("{s:s}", "op", "place");
    want(b, "$: ");
    want(b, "a list of directives");
    return true;
}

#define ANY "place replicate shard split order recompute stream layout schedule"
static bool not_an_object(struct breaker *b)
{
    uint32_t n = (uint32_t)json_array_size(b->j->strategy), i = n ? rng_below(&b->j->rng, n) : 0;
    if (!n)
        return false;
    json_array_set_new(b->j->strategy, i, json_integer(7));
    want(b, "$[%u]", i);
    want(b, "7");
    return true;
}

static bool unknown_directive(struct breaker *b)
{
    json_t *d = some(b, ANY, ".op");
    if (d)
        json_object_set_new(d, "op", json_string("shart"));
    want(b, "shart");
    return d;
}

static bool unknown_key(struct breaker *b)
{
    json_t *d = some(b, ANY, "");
    if (d)
        json_object_set_new(d, "colour", json_string("blue"));
    want(b, "colour");
    return d;
}

static bool no_op(struct breaker *b)
{
    json_t *d = some(b, ANY, "");
    if (d)
        json_object_del(d, "op");
    want(b, "op");
    return d;
}

static bool no_filter(struct breaker *b)
{
    json_t *d = some(b, "place replicate shard split recompute", "");
    if (d)
        json_object_del(d, "filter");
    want(b, "filter");
    return d;
}

static bool stream_is_number(struct breaker *b)
{
    json_t *d = some(b, "place shard layout", ".stream");
    if (d)
        json_object_set_new(d, "stream", json_integer(5));
    want(b, "5");
    return d;
}

/* ---- filters ----------------------------------------------------------------------------------------------------- */

static bool unknown_tag(struct breaker *b)
{
    json_t *d = some(b, "place replicate shard split recompute", "");
    if (d)
        json_object_set_new(d, "filter", json_pack("{s:i}", "STAGE", 0));
    want(b, "filter.STAGE");
    want(b, "no tag");
    return d;
}

static bool old_microbatch_tag(struct breaker *b)
{
    if (strcmp(b->j->mb_name, "MB") == 0 || !has(b->j, "split"))
        return false;
    append(b, ".filter.MB", json_pack("{s:s,s:{s:i},s:[i]}", "op", "place", "filter", "MB", 0, "devices", 0));
    want(b, "no tag \"MB\"");
    return true;
}

static bool matches_nothing(struct breaker *b)
{
    if (b->j->model.most_stages || !tag_bit(b->j, "PP"))
        return false;
    json_t *d = some(b, "place replicate shard split recompute", "");
    if (d)
        json_object_set_new(d, "filter", json_pack("{s:i}", "PP", 99));
    want(b, "matches nothing");
    return d;
}

static bool bad_index(struct breaker *b)
{
    static const char *const bad[] = { "3-1", "x", "1-", "-2", "" };
    if (!tag_bit(b->j, "PP"))
        return false;
    json_t *d = some(b, "place replicate shard split recompute", ".filter.PP");
    const char *text = bad[rng_below(&b->j->rng, 5)];
    if (d)
        json_object_set_new(d, "filter", json_pack("{s:s}", "PP", text));
    want(b, "\"%s\"", text);
    return d;
}

static bool bad_pass(struct breaker *b)
{
    static const char *const bad[] = { "*", "W", "f", "-" };
    const char *text = bad[rng_below(&b->j->rng, 4)];
    append(b, ".filters[0][0].PASS",
           json_pack("{s:s,s:[[{s:s}],[{s:s}]]}", "op", "order", "filters", "PASS", text, "PASS", "B"));
    want(b, "\"%s\"", text);
    return true;
}

static bool too_many_stages(struct breaker *b)
{
    if (!b->j->model.most_stages || b->j->macros)
        return false;
    json_array_append_new(b->j->strategy, json_pack("{s:s,s:{s:i},s:[i]}", "op", "place", "filter", "PP", 50, "devices", 0));
    want(b, "51");
    want(b, "stages");
    want(b, "layers");
    return true;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

#define PLACING "place replicate"
static bool no_devices(struct breaker *b)
{
    json_t *d = some(b, "place replicate shard", "");
    if (d)
        json_object_del(d, devices_key(d));
    want(b, "\"devices\" is missing");
    return d;
}

static bool set_devices(struct breaker *b, json_t *devices, const char *below)
{
    json_t *d = some(b, PLACING, "");
    if (d)
        json_object_set(d, devices_key(d), devices);
    if (d)
        want(b, "%s%s", devices_key(d), below);
    json_decref(devices);
    return d;
}

static bool device_twice(struct breaker *b)
{
    want(b, "device 1 stands twice");
    return set_devices(b, json_pack("[i,i,i]", 1, 0, 1), "");
}

static bool device_negative(struct breaker *b)
{
    want(b, "-3");
    return set_devices(b, json_pack("[i]", -3), "[0]");
}

static bool device_range(struct breaker *b)
{
    static const char *const bad[] = { "5-2", "0-", "a", "0-7:0", "0-7:x" };
    const char *text = bad[rng_below(&b->j->rng, 5)];
    want(b, "\"%s\"", text);
    return set_devices(b, json_pack("[s]", text), "[0]");
}

static bool device_none(struct breaker *b)
{
    want(b, "at least one device");
    return set_devices(b, json_array(), "");
}

static bool device_no_list(struct breaker *b)
{
    want(b, "a list of devices");
    return set_devices(b, json_integer(0), "");
}

static bool device_beyond(struct breaker *b)
{
    b->out->ranks = b->j->ranks;
    want(b, "device %u does not exist", b->j->ranks + 5);
    return set_devices(b, json_pack("[i]", b->j->ranks + 5), "[0]");
}

/* Device 0 of the job is called 40 everywhere. */
static bool device_gap(struct breaker *b)
{
    json_t *d, *list, *v;
    size_t i, k;
    if (b->j->macros || b->j->ranks < 2)
        return false;
    drop(b->j, "shard");
    json_array_foreach(b->j->strategy, i, d)
    {
        list = json_object_get(d, devices_key(d));
        json_array_foreach(list, k, v)
        {
            if (json_is_string(v))
                return false;
            if (json_integer_value(v) == 0)
                json_array_set_new(list, k, json_integer(40));
        }
    }
    want(b, "device 40 is used");
    want(b, "device 0 is not");
    return true;
}

/* The set of one unit gets a device of another class. */
static bool sets_overlap(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = some_chunk(j), other = j->macros || j->replicas < 2 ? IR_NONE : elsewhere(j, c);
    struct random_set s;
    if (other == IR_NONE)
        return false;
    s = *random_set_of(j, c, 0);
    s.device[rng_below(&j->rng, j->replicas)] = random_set_of(j, other, 0)->device[0];
    drop(j, "shard");
    json_array_append_new(j->strategy, json_pack("{s:s,s:o,s:o}", "op", "replicate", "filter",
                                                 random_filter(j, c, j->place.tags, 0, 0, NULL), "devices",
                                                 random_devices(j, s.device, j->replicas)));
    want(b, "device set [");
    want(b, "shares some devices");
    return true;
}

static bool sets_differ(struct breaker *b)
{
    struct random_job *j = b->j;
    if (j->macros || j->place.n < 2 || j->halves)
        return false;
    uint32_t c = some_chunk(j);
    struct random_set s = *random_set_of(j, c, 0);
    json_t *devices = json_array();
    for (uint32_t i = 0; i < j->replicas; i++)
        json_array_append_new(devices, json_integer(s.device[i]));
    json_array_append_new(devices, json_integer(j->ranks));
    drop(j, "shard");
    json_array_append_new(j->strategy, json_pack("{s:s,s:o,s:o}", "op", "replicate", "filter",
                                                 random_filter(j, c, j->place.tags, 1, 0, NULL), "devices", devices));
    want(b, "device set");
    want(b, "%u]", j->ranks);
    return true;
}

static bool no_place(struct breaker *b)
{
    struct random_job *j = b->j;
    if (j->macros || j->model.most_stages || !tag_bit(j, "PP"))
        return false;
    uint32_t pp = ir_graph_find_tag(&j->g, "PP"), top = 0;
    for (uint32_t c = 0; c < j->chunks.chunks.n; c++)
        top = j->chunks.chunks.at[c].tag[pp] > (int32_t)top ? (uint32_t)j->chunks.chunks.at[c].tag[pp] : top;
    if (!top)
        return false;
    uint32_t missing = rng_below(&j->rng, top + 1);
    drop(j, PLACING);
    drop(j, "shard");
    for (uint32_t i = 0; i <= top; i++)
        if (i != missing)
            json_array_append_new(j->strategy, json_pack("{s:s,s:{s:i},s:[i]}", "op", "place", "filter", "PP", i, "devices", 0));
    want(b, "PP=%u", missing);
    want(b, "has no device");
    return true;
}

static bool passes_apart(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = some_chunk(j), other = j->macros ? IR_NONE : elsewhere(j, c);
    if (other == IR_NONE)
        return false;
    json_t *d = json_pack("{s:s,s:o,s:o}", "op", has(j, "replicate") ? "replicate" : "place", "filter",
                          pass_filter(j, c, 0, rng_chance(&j->rng, 50) ? "F" : "B"), "devices",
                          random_devices(j, random_set_of(j, other, 0)->device, j->replicas));
    drop(j, "order shard");
    json_array_append_new(j->strategy, d);
    want(b, "the passes of");
    want(b, "%s=0", j->mb_name);
    want(b, "different devices");
    return true;
}

static bool wrong_ranks(struct breaker *b)
{
    b->out->status = ST_USAGE;
    b->out->ranks = b->j->ranks + 1;
    want(b, b->j->macros ? "needs %u ranks" : "uses %u devices", b->j->ranks);
    want(b, b->j->macros ? "the job has %u" : "the job has %u ranks", b->j->ranks + 1);
    return b->j->macros || has(b->j, "place");
}

static bool wrong_ranks_default(struct breaker *b)
{
    drop(b->j, ANY);
    b->out->status = ST_USAGE;
    b->out->ranks = 3;
    want(b, "3 ranks");
    return true;
}

/* ---- replicate --------------------------------------------------------------------------------------------------- */

static bool no_replicate(struct breaker *b)
{
    json_t *d, *plain;
    size_t i;
    if (b->j->macros || b->j->replicas < 2)
        return false;
    drop(b->j, "stream shard");
    json_array_foreach(b->j->strategy, i, d)
    {
        if (strcmp(op_of(d), "replicate") != 0)
            continue;
        plain = json_pack("{s:s,s:O,s:O}", "op", "place", "filter", json_object_get(d, "filter"), "devices",
                          json_object_get(d, devices_key(d)));
        json_array_set_new(b->j->strategy, i, plain);
    }
    want(b, "no replicate directive covers it");
    want(b, "%u copies", b->j->replicas);
    return true;
}

static bool set_key(struct breaker *b, const char *ops, const char *key, json_t *value, const char *found)
{
    json_t *d = some(b, ops, "");
    if (d)
        json_object_set(d, key, value);
    json_decref(value);
    want(b, "%s", key);
    want(b, "%s", found);
    return d;
}

static bool bad_zero(struct breaker *b)
{
    return set_key(b, "replicate", "zero", json_integer(4), "4");
}

static bool bad_shard_grads(struct breaker *b)
{
    return set_key(b, "replicate", "shard_grads", json_string("yes"), "yes");
}

static bool bad_reduce(struct breaker *b)
{
    return set_key(b, "replicate", "reduce", json_string("never"), "never");
}

static bool bad_bucket(struct breaker *b)
{
    bool word = rng_chance(&b->j->rng, 50);
    return set_key(b, "replicate", "bucket_size", word ? json_string("huge") : json_integer(-1), word ? "huge" : "-1");
}

static bool bad_prefetch(struct breaker *b)
{
    return set_key(b, "replicate", "prefetch", json_integer(-1), "-1");
}

static bool stream_on_replicate(struct breaker *b)
{
    return set_key(b, "replicate", "stream", json_string("dp"), "stream");
}

/* ---- shard ------------------------------------------------------------------------------------------------------- */

static bool shard_dense(struct breaker *b)
{
    append(b, "", json_pack("{s:s,s:{},s:[i]}", "op", "shard", "filter", "devices", 0));
    want(b, "only expert regions");
    return !b->j->macros;
}

static bool shard_uneven(struct breaker *b)
{
    if (some_expert_chunk(b->j) == IR_NONE || b->j->macros)
        return false;
    drop(b->j, "shard");
    append(b, "", json_pack("{s:s,s:{s:s},s:[i,i,i]}", "op", "shard", "filter", "EP", "*", "devices", 0, 1, 2));
    want(b, "do not split evenly");
    want(b, "over 3 devices");
    return true;
}

static json_t *shard_on(const struct random_job *j, const uint32_t *device, uint32_t n, int32_t region)
{
    json_t *groups = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(groups, json_pack("[i]", device[i]));
    (void)j;
    return json_pack("{s:s,s:{s:i},s:o}", "op", "shard", "filter", "EP", region, "devices", groups);
}

static bool shard_elsewhere(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros ? IR_NONE : some_expert_chunk(j), other = c == IR_NONE ? IR_NONE : elsewhere(j, c);
    if (other == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    drop(j, "shard");
    append(b, "", shard_on(j, random_set_of(j, other, 0)->device, j->replicas, region));
    want(b, "EP=%d", region);
    want(b, "exactly these devices");
    return true;
}

static bool shard_half(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || j->replicas < 2 ? IR_NONE : some_expert_chunk(j);
    if (c == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    drop(j, "shard");
    append(b, "", shard_on(j, random_set_of(j, c, 0)->device, j->replicas / 2, region));
    want(b, "EP=%d", region);
    want(b, "exactly these devices");
    return true;
}

static bool shard_device_in_two_groups(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || j->replicas < 2 ? IR_NONE : some_expert_chunk(j);
    if (c == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    struct random_set s = *random_set_of(j, c, 0);
    s.device[1] = s.device[0];
    drop(j, "shard");
    append(b, "", shard_on(j, s.device, j->replicas, region));
    want(b, "EP=%d", region);
    want(b, "one group");
    return true;
}

static bool shard_unequal(struct breaker *b)
{
    if (some_expert_chunk(b->j) == IR_NONE || b->j->macros)
        return false;
    drop(b->j, "shard");
    append(b, ".devices[1]", json_pack("{s:s,s:{s:s},s:[[i,i],[i]]}", "op", "shard", "filter", "EP", "*", "devices", 0, 1, 2));
    want(b, "2 devices, as in the first group");
    return true;
}

static bool shard_twice(struct breaker *b)
{
    json_t *d;
    size_t i;
    if (b->j->macros)
        return false;
    json_array_foreach(b->j->strategy, i, d) if (!strcmp(op_of(d), "shard"))
    {
        append(b, "", json_deep_copy(d));
        want(b, "EP=");
        want(b, "by an earlier directive");
        return true;
    }
    return false;
}

static bool bad_bound(struct breaker *b)
{
    return set_key(b, "shard", "expert_bound", json_real(0.5), "0.5");
}

/* The expert groups of microbatch 0 are not the devices of the others. */
static bool shard_of_some(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || !j->halves ? IR_NONE : some_expert_chunk(j);
    const struct random_set *s = c == IR_NONE ? NULL : random_set_of(j, c, 0);
    if (!s || s[0].class_id == s[1].class_id)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    drop(j, "shard");
    append(b, "", shard_on(j, s->device, j->replicas, region));
    want(b, "EP=%d", region);
    want(b, "exactly these devices");
    return true;
}

/* The experts on another device set than their neighbours. */
static bool region_away(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || j->halves ? IR_NONE : some_expert_chunk(j), other = c == IR_NONE ? IR_NONE : elsewhere(j, c);
    if (other == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    const uint32_t *device = random_set_of(j, other, 0)->device;
    drop(j, "shard order");
    json_array_append_new(j->strategy, json_pack("{s:s,s:{s:i},s:o}", "op", "replicate", "filter", "EP", region, "devices",
                                                 random_devices(j, device, j->replicas)));
    append(b, "", shard_on(j, device, j->replicas, region));
    want(b, "EP=%d", region);
    return true;
}

/* ---- split ------------------------------------------------------------------------------------------------------- */

static bool split_not_whole(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t m = j->microbatches + 1;
    if (j->macros || j->halves)
        return false;
    while (j->model.batch % (j->replicas * m) == 0)
        m++;
    drop(j, "split");
    json_array_append_new(j->strategy, json_pack("{s:s,s:{},s:i,s:s}", "op", "split", "filter", "num_microbatches", m, "dim_name",
                                                 j->mb_name));
    want(b, "batch of %u", j->model.batch);
    want(b, "x %u microbatches", m);
    return true;
}

static bool split_disagrees(struct breaker *b)
{
    if (b->j->macros || !has(b->j, "split"))
        return false;
    append(b, "", json_pack("{s:s,s:{},s:i,s:s}", "op", "split", "filter", "num_microbatches", b->j->microbatches + 1, "dim_name",
                            b->j->mb_name));
    want(b, "several splits must agree");
    return true;
}

static bool split_part(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t pp = ir_graph_find_tag(&j->g, "PP");
    bool more = false;
    for (uint32_t c = 0; c < j->chunks.chunks.n && pp != IR_NONE; c++)
        more = more || j->chunks.chunks.at[c].tag[pp] == 1;
    if (j->macros || !more)
        return false;
    drop(j, "split");
    append(b, "", json_pack("{s:s,s:{s:i},s:i,s:s}", "op", "split", "filter", "PP", 0, "num_microbatches", j->microbatches,
                            "dim_name", j->mb_name));
    want(b, "leaves out PP=");
    return true;
}

static bool split_takes_tag(struct breaker *b)
{
    const char *name = rng_chance(&b->j->rng, 30) || !b->j->g.n_tags ? "PASS" : b->j->g.tags[rng_below(&b->j->rng, b->j->g.n_tags)];
    json_t *d = some(b, "split", "");
    if (d)
        json_object_set_new(d, "dim_name", json_string(name));
    want(b, "\"%s\"", name);
    return d && (!b->j->model.most_stages || strcmp(name, "PASS") == 0);
}

static bool split_zero(struct breaker *b)
{
    json_t *d = some(b, "split", ".num_microbatches");
    if (d)
        json_object_set_new(d, "num_microbatches", json_integer(0));
    want(b, "found 0");
    return d;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

static bool order_one_group(struct breaker *b)
{
    json_t *d = some(b, "order", ".filters");
    json_t *groups = json_object_get(d, "filters");
    while (json_array_size(groups) > 1)
        json_array_remove(groups, 0);
    want(b, "at least two groups");
    return d;
}

static bool order_empty_group(struct breaker *b)
{
    json_t *d = some(b, "order", "");
    if (!d)
        return false;
    json_t *groups = json_object_get(d, "filters");
    uint32_t k = rng_below(&b->j->rng, (uint32_t)json_array_size(groups));
    json_array_set_new(groups, k, json_array());
    want(b, ".filters[%u]", k);
    want(b, "at least one filter");
    return true;
}

static bool order_no_list(struct breaker *b)
{
    json_t *d = some(b, "order", ".filters");
    if (d)
        json_object_set_new(d, "filters", json_object());
    want(b, "a list of groups");
    return d;
}

static bool order_no_such_microbatch(struct breaker *b)
{
    struct random_job *j = b->j;
    if (!orderly(j))
        return false;
    uint32_t c = some_chunk(j);
    json_t *f = random_filter(j, c, j->place.tags, 1, 0, "F");
    if (!json_is_object(f)) {
        json_decref(f);
        return false;
    }
    json_object_set_new(f, j->mb_name, json_integer(j->microbatches + 3));
    append(b, "", json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", pass_filter(j, c, 0, "F"), f));
    want(b, "group 1");
    want(b, "matches no node");
    return true;
}

static bool order_against_data(struct breaker *b)
{
    static const char *const passes[] = { "B", "F", NULL };
    struct random_job *j = b->j;
    if (!orderly(j))
        return false;
    drop(j, "order");
    uint32_t mb = rng_below(&j->rng, j->microbatches);
    append(b, "", order_of(j, some_chunk(j), mb, passes));
    want(b, "can never run");
    want(b, "%s=%u F", j->mb_name, mb);
    return true;
}

static bool order_stages_backwards(struct breaker *b)
{
    struct random_job *j = b->j;
    if (!orderly(j))
        return false;
    drop(j, "order");
    for (uint32_t x = 0; x < j->chunks.chunks.n; x++)
        for (uint32_t y = 0; y < j->chunks.chunks.n; y++) {
            if (j->place.of[x] == j->place.of[y] || !random_chunk_edge(j, x, y) ||
                random_set_of(j, x, 0)->class_id != random_set_of(j, y, 0)->class_id)
                continue;
            append(b, "", json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", pass_filter(j, y, 0, "F"), pass_filter(j, x, 0, "F")));
            want(b, "is ordered before");
            want(b, "can never run");
            return true;
        }
    return false;
}

/* Each row alone could run. */
static bool order_rows_deadlock(struct breaker *b)
{
    struct random_job *j = b->j;
    if (!orderly(j) || j->microbatches < 2 || j->halves)
        return false;
    drop(j, "order");
    for (uint32_t x = 0; x < j->chunks.chunks.n; x++)
        for (uint32_t y = 0; y < j->chunks.chunks.n; y++) {
            if (!random_chunk_edge(j, x, y) || random_set_of(j, x, 0)->class_id == random_set_of(j, y, 0)->class_id)
                continue;
            json_array_append_new(j->strategy, json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", pass_filter(j, x, 0, "B"),
                                                         pass_filter(j, x, 1, "F")));
            json_array_append_new(j->strategy, json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", pass_filter(j, y, 1, "F"),
                                                         pass_filter(j, y, 0, "B")));
            want(b, "is ordered before");
            want(b, "together with the order in directive");
            want(b, "can never run");
            return true;
        }
    return false;
}

static bool order_across_sets(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = some_chunk(j), other = orderly(j) ? elsewhere(j, c) : IR_NONE;
    if (other == IR_NONE)
        return false;
    append(b, "", json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", pass_filter(j, c, 0, "F"), pass_filter(j, other, 0, "F")));
    want(b, "group 1");
    want(b, "another device set");
    return true;
}

/* "The match is convex": the parts of a stage before and behind its experts, without them. */
static bool order_not_convex(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros ? IR_NONE : some_expert_chunk(j), pp = ir_graph_find_tag(&j->g, "PP");
    if (c == IR_NONE || pp == IR_NONE || j->place.tags != 1u << pp || j->microbatches < 2 || j->halves)
        return false;
    json_t *groups = json_array();
    for (uint32_t mb = 0; mb < 2; mb++)
        json_array_append_new(groups, json_pack("[{s:i,s:s,s:i,s:s}]", "PP", j->chunks.chunks.at[c].tag[pp], "EP", "-",
                                                j->mb_name, mb, "PASS", "F"));
    drop(j, "order");
    append(b, "", json_pack("{s:s,s:o}", "op", "order", "filters", groups));
    want(b, "group 0");
    want(b, "convex");
    return true;
}

static bool order_passes(struct breaker *b, const char *const *passes, const char *sentence)
{
    struct random_job *j = b->j;
    if (!orderly(j))
        return false;
    drop(j, "order");
    append(b, "", order_of(j, some_chunk(j), rng_below(&j->rng, j->microbatches), passes));
    want(b, "%s", sentence);
    return true;
}

static bool order_bi_alone(struct breaker *b)
{
    static const char *const passes[] = { "F", "BI", NULL };
    return order_passes(b, passes, "has no BW in this order");
}

static bool order_bw_first(struct breaker *b)
{
    static const char *const passes[] = { "BW", "BI", NULL };
    return order_passes(b, passes, "stands before its BI");
}

static bool order_bw_alone(struct breaker *b)
{
    static const char *const passes[] = { "F", "BW", NULL };
    return order_passes(b, passes, "stands before its BI");
}

static bool order_twice(struct breaker *b)
{
    static const char *const passes[] = { "BI", "BI", "BW", NULL };
    return order_passes(b, passes, "BI of");
}

static bool order_pair_and_b(struct breaker *b)
{
    static const char *const passes[] = { "BI", "BW", "B", NULL };
    return order_passes(b, passes, "is named with B and with the pair");
}

static bool order_pair_twice(struct breaker *b)
{
    static const char *const passes[] = { "BI", "BW", NULL };
    struct random_job *j = b->j;
    if (!orderly(j))
        return false;
    uint32_t c = some_chunk(j);
    drop(j, "order");
    json_array_append_new(j->strategy, order_of(j, c, 0, passes));
    append(b, "", order_of(j, c, 0, passes));
    want(b, "split by two order directives");
    return true;
}

/* A pass that stands in two groups of one order would have to run before itself. */
static bool order_pass_twice(struct breaker *b)
{
    static const char *const passes[] = { "F", "B", "F", NULL };
    return order_passes(b, passes, "can never run");
}

/* ---- recompute, stream, macros ----------------------------------------------------------------------------------- */

static bool recompute_microbatch(struct breaker *b)
{
    bool pass = rng_chance(&b->j->rng, 50);
    json_t *f = pass ? json_pack("{s:s}", "PASS", "F") : json_pack("{s:i}", b->j->mb_name, 0);
    append(b, "", json_pack("{s:s,s:o}", "op", "recompute", "filter", f));
    want(b, "leave %s and PASS out", b->j->mb_name);
    return pass || has(b->j, "split") || b->j->macros;
}

static bool stream_unused(struct breaker *b)
{
    append(b, "", json_pack("{s:s,s:s,s:i}", "op", "stream", "name", "nobody", "max_ctas", 4));
    want(b, "\"nobody\"");
    return true;
}

static bool stream_priority(struct breaker *b)
{
    append(b, ".priority", json_pack("{s:s,s:s,s:s}", "op", "stream", "name", "dp", "priority", "urgent"));
    want(b, "\"urgent\"");
    return true;
}

static bool layout_placement(struct breaker *b)
{
    return set_key(b, "layout", "placement", json_string("w"), "\"w\"");
}

static bool layout_ep(struct breaker *b)
{
    json_t *d = some(b, "layout", "");
    if (d)
        json_object_set_new(d, "ep", json_integer(3));
    want(b, "ep=3 does not divide dp");
    return d;
}

static bool layout_stages(struct breaker *b)
{
    json_t *d = some(b, "layout", "");
    if (d)
        json_object_set_new(d, "pp", json_integer(64));
    b->n_needles = 0;
    want(b, "stages");
    return d;
}

static bool schedule_kind(struct breaker *b)
{
    return set_key(b, "schedule", "kind", json_string("1f2b"), "\"1f2b\"");
}

static bool schedule_microbatches(struct breaker *b)
{
    return set_key(b, "schedule", "microbatches", json_integer(0), "found 0");
}

static bool schedule_placement(struct breaker *b)
{
    json_t *d = some(b, "schedule", "");
    bool v = false;
    if (!d)
        return false;
    const char *kind = json_string_value(json_object_get(d, "kind"));
    v = !strcmp(kind, "zb-v") || !strcmp(kind, "dualpipev");
    json_object_set_new(d, "kind", json_string(v ? "interleaved" : "zb-v"));
    want(b, "placement");
    return true;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

#define ROWS(ROW) \
    ROW(not_a_list) ROW(not_an_object) ROW(unknown_directive) ROW(unknown_key) ROW(no_op) ROW(no_filter) ROW(stream_is_number) \
    ROW(unknown_tag) ROW(old_microbatch_tag) ROW(matches_nothing) ROW(bad_index) ROW(bad_pass) ROW(too_many_stages) \
    ROW(no_devices) ROW(device_twice) ROW(device_negative) ROW(device_range) ROW(device_none) ROW(device_no_list) \
    ROW(device_beyond) ROW(device_gap) ROW(sets_overlap) ROW(sets_differ) ROW(no_place) ROW(passes_apart) ROW(wrong_ranks) \
    ROW(wrong_ranks_default) ROW(no_replicate) ROW(bad_zero) ROW(bad_shard_grads) ROW(bad_reduce) ROW(bad_bucket) ROW(bad_prefetch) \
    ROW(stream_on_replicate) ROW(shard_dense) ROW(shard_uneven) ROW(shard_elsewhere) ROW(shard_half) ROW(shard_device_in_two_groups) \
    ROW(shard_unequal) ROW(shard_twice) ROW(shard_of_some) ROW(bad_bound) ROW(region_away) ROW(split_not_whole) ROW(split_disagrees) ROW(split_part) \
    ROW(split_takes_tag) ROW(split_zero) ROW(order_one_group) ROW(order_empty_group) ROW(order_no_list) \
    ROW(order_no_such_microbatch) ROW(order_against_data) ROW(order_stages_backwards) ROW(order_rows_deadlock) ROW(order_across_sets) \
    ROW(order_not_convex) ROW(order_bi_alone) ROW(order_bw_first) ROW(order_bw_alone) ROW(order_twice) ROW(order_pair_and_b) \
    ROW(order_pair_twice) ROW(order_pass_twice) ROW(recompute_microbatch) ROW(stream_unused) ROW(stream_priority) \
    ROW(layout_placement) ROW(layout_ep) ROW(layout_stages) ROW(schedule_kind) ROW(schedule_microbatches) ROW(schedule_placement)
#define ENTRY(name) { #name, name },
static const struct {
    const char *name;
    bool (*apply)(struct breaker *b);
} kinds[] = { ROWS(ENTRY) };

uint32_t random_break_kinds(void)
{
    return sizeof kinds / sizeof *kinds;
}

const char *random_break_name(uint32_t kind)
{
    return kinds[kind].name;
}

bool random_break(struct random_job *j, uint32_t kind, struct random_break *out)
{
    struct breaker b = { .j = j, .out = out };
    *out = (struct random_break){ .status = ST_INPUT };
    return kinds[kind].apply(&b);
}
