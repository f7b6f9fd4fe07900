/* Mistakes in the form of a strategy, in filters, and in where things are placed and copied. */
#include "random_break.h"

/* ---- the form ---------------------------------------------------------------------------------------------------- */

bool breaks_not_a_list(struct breaker *b)
{
    json_decref(b->j->strategy);
    b->j->strategy = json_pack("{s:s}", "op", "place");
    break_want(b, "$: ");
    break_want(b, "a list of directives");
    return true;
}

#define ANY "place replicate shard split order recompute stream layout schedule"
bool breaks_not_an_object(struct breaker *b)
{
    uint32_t n = (uint32_t)json_array_size(b->j->strategy), i = n ? rng_below(&b->j->rng, n) : 0;
    if (!n)
        return false;
    json_array_set_new(b->j->strategy, i, json_integer(7));
    break_want(b, "$[%u]", i);
    break_want(b, "7");
    return true;
}

bool breaks_unknown_directive(struct breaker *b)
{
    json_t *d = break_some(b, ANY, ".op");
    if (d)
        json_object_set_new(d, "op", json_string("shart"));
    break_want(b, "shart");
    return d;
}

bool breaks_unknown_key(struct breaker *b)
{
    json_t *d = break_some(b, ANY, "");
    if (d)
        json_object_set_new(d, "colour", json_string("blue"));
    break_want(b, "colour");
    return d;
}

bool breaks_no_op(struct breaker *b)
{
    json_t *d = break_some(b, ANY, "");
    if (d)
        json_object_del(d, "op");
    break_want(b, "op");
    return d;
}

bool breaks_no_filter(struct breaker *b)
{
    json_t *d = break_some(b, "place replicate shard split recompute", "");
    if (d)
        json_object_del(d, "filter");
    break_want(b, "filter");
    return d;
}

bool breaks_stream_is_number(struct breaker *b)
{
    json_t *d = break_some(b, "place shard layout", ".stream");
    if (d)
        json_object_set_new(d, "stream", json_integer(5));
    break_want(b, "5");
    return d;
}

/* ---- filters ----------------------------------------------------------------------------------------------------- */

bool breaks_unknown_tag(struct breaker *b)
{
    json_t *d = break_some(b, "place replicate shard split recompute", "");
    if (d)
        json_object_set_new(d, "filter", json_pack("{s:i}", "STAGE", 0));
    break_want(b, "filter.STAGE");
    break_want(b, "no tag");
    return d;
}

bool breaks_old_microbatch_tag(struct breaker *b)
{
    if (strcmp(b->j->mb_name, "MB") == 0 || !break_has(b->j, "split"))
        return false;
    break_append(b, ".filter.MB", json_pack("{s:s,s:{s:i},s:[i]}", "op", "place", "filter", "MB", 0, "devices", 0));
    break_want(b, "no tag \"MB\"");
    return true;
}

bool breaks_matches_nothing(struct breaker *b)
{
    if (b->j->model.most_stages || !break_tag_bit(b->j, "PP"))
        return false;
    json_t *d = break_some(b, "place replicate shard split recompute", "");
    if (d)
        json_object_set_new(d, "filter", json_pack("{s:i}", "PP", 99));
    break_want(b, "matches nothing");
    return d;
}

bool breaks_bad_index(struct breaker *b)
{
    static const char *const bad[] = { "3-1", "x", "1-", "-2", "" };
    if (!break_tag_bit(b->j, "PP"))
        return false;
    json_t *d = break_some(b, "place replicate shard split recompute", ".filter.PP");
    const char *text = bad[rng_below(&b->j->rng, 5)];
    if (d)
        json_object_set_new(d, "filter", json_pack("{s:s}", "PP", text));
    break_want(b, "\"%s\"", text);
    return d;
}

bool breaks_bad_pass(struct breaker *b)
{
    static const char *const bad[] = { "*", "W", "f", "-" };
    const char *text = bad[rng_below(&b->j->rng, 4)];
    break_append(b, ".filters[0][0].PASS",
                 json_pack("{s:s,s:[[{s:s}],[{s:s}]]}", "op", "order", "filters", "PASS", text, "PASS", "B"));
    break_want(b, "\"%s\"", text);
    return true;
}

bool breaks_too_many_stages(struct breaker *b)
{
    if (!b->j->model.most_stages || b->j->macros)
        return false;
    json_array_append_new(b->j->strategy,
                          json_pack("{s:s,s:{s:i},s:[i]}", "op", "place", "filter", "PP", 50, "devices", 0));
    break_want(b, "51");
    break_want(b, "stages");
    break_want(b, "layers");
    return true;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

#define PLACING "place replicate"
/* A rotation stands in place of devices. */
static bool has_devices(const json_t *d)
{
    return d && !json_object_get(d, "rotate");
}

bool breaks_no_devices(struct breaker *b)
{
    json_t *d = break_some(b, "place replicate", "");
    if (d)
        json_object_del(d, break_devices_key(d));
    break_want(b, "\"devices\" is missing");
    return has_devices(d);
}

static bool set_devices(struct breaker *b, json_t *devices, const char *below)
{
    json_t *d = break_some(b, PLACING, "");
    if (d)
        json_object_set(d, break_devices_key(d), devices);
    if (d)
        break_want(b, "%s%s", break_devices_key(d), below);
    json_decref(devices);
    return has_devices(d);
}

bool breaks_device_twice(struct breaker *b)
{
    break_want(b, "device 1 is listed twice");
    return set_devices(b, json_pack("[i,i,i]", 1, 0, 1), "");
}

bool breaks_device_negative(struct breaker *b)
{
    break_want(b, "-3");
    return set_devices(b, json_pack("[i]", -3), "[0]");
}

bool breaks_device_range(struct breaker *b)
{
    static const char *const bad[] = { "5-2", "0-", "a", "0-7:0", "0-7:x" };
    const char *text = bad[rng_below(&b->j->rng, 5)];
    break_want(b, "\"%s\"", text);
    return set_devices(b, json_pack("[s]", text), "[0]");
}

bool breaks_device_none(struct breaker *b)
{
    break_want(b, "at least one device");
    return set_devices(b, json_array(), "");
}

bool breaks_device_no_list(struct breaker *b)
{
    break_want(b, "a list of devices");
    return set_devices(b, json_integer(0), "");
}

bool breaks_device_beyond(struct breaker *b)
{
    b->out->ranks = b->j->ranks;
    break_want(b, "device %u does not exist", b->j->ranks + 5);
    return set_devices(b, json_pack("[i]", b->j->ranks + 5), "[0]");
}

/* Device 0 of the job is called 40 everywhere. */
bool breaks_device_gap(struct breaker *b)
{
    json_t *d, *list, *v;
    size_t i, k;
    if (b->j->macros || b->j->ranks < 2)
        return false;
    break_drop(b->j, "shard");
    json_array_foreach(b->j->strategy, i, d)
    {
        list = json_object_get(d, break_devices_key(d));
        if (!has_devices(d))
            return false;
        json_array_foreach(list, k, v)
        {
            if (json_is_string(v))
                return false;
            if (json_integer_value(v) == 0)
                json_array_set_new(list, k, json_integer(40));
        }
    }
    break_want(b, "device 40 is used");
    break_want(b, "device 0 is not");
    return true;
}

/* The set of one unit gets a device of another class. */
bool breaks_sets_overlap(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = break_some_chunk(j), other = j->macros || j->replicas < 2 ? IR_NONE : break_elsewhere(j, c);
    struct random_set s;
    if (other == IR_NONE)
        return false;
    s = *random_set_of(j, c, 0);
    s.device[rng_below(&j->rng, j->replicas)] = random_set_of(j, other, 0)->device[0];
    break_drop(j, "shard");
    json_array_append_new(j->strategy, json_pack("{s:s,s:o,s:o}", "op", "replicate", "filter",
                                                 random_filter(j, c, j->place.tags, 0, 0, NULL), "devices",
                                                 random_devices(j, s.device, j->replicas)));
    break_want(b, "device set [");
    break_want(b, "partly overlaps");
    return true;
}

bool breaks_sets_differ(struct breaker *b)
{
    struct random_job *j = b->j;
    if (j->macros || j->place.n < 2 || j->halves)
        return false;
    uint32_t c = break_some_chunk(j);
    struct random_set s = *random_set_of(j, c, 0);
    json_t *devices = json_array();
    for (uint32_t i = 0; i < j->replicas; i++)
        json_array_append_new(devices, json_integer(s.device[i]));
    json_array_append_new(devices, json_integer(j->ranks));
    break_drop(j, "shard");
    json_array_append_new(j->strategy, json_pack("{s:s,s:o,s:o}", "op", "replicate", "filter",
                                                 random_filter(j, c, j->place.tags, 1, 0, NULL), "devices", devices));
    break_want(b, "device set");
    break_want(b, "%u]", j->ranks);
    return true;
}

bool breaks_no_place(struct breaker *b)
{
    struct random_job *j = b->j;
    if (j->macros || j->model.most_stages || !break_tag_bit(j, "PP"))
        return false;
    uint32_t pp = ir_graph_find_tag(&j->g, "PP"), top = 0;
    for (uint32_t c = 0; c < j->chunks.chunks.n; c++)
        top = j->chunks.chunks.at[c].tag[pp] > (int32_t)top ? (uint32_t)j->chunks.chunks.at[c].tag[pp] : top;
    if (!top)
        return false;
    uint32_t missing = rng_below(&j->rng, top + 1);
    break_drop(j, PLACING);
    break_drop(j, "shard");
    for (uint32_t i = 0; i <= top; i++)
        if (i != missing)
            json_array_append_new(j->strategy,
                                  json_pack("{s:s,s:{s:i},s:[i]}", "op", "place", "filter", "PP", i, "devices", 0));
    break_want(b, "PP=%u", missing);
    break_want(b, "has no device");
    return true;
}

bool breaks_passes_apart(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = break_some_chunk(j), other = j->macros ? IR_NONE : break_elsewhere(j, c);
    if (other == IR_NONE)
        return false;
    json_t *d = json_pack("{s:s,s:o,s:o}", "op", break_has(j, "replicate") ? "replicate" : "place", "filter",
                          break_pass_filter(j, c, 0, rng_chance(&j->rng, 50) ? "F" : "B"), "devices",
                          random_devices(j, random_set_of(j, other, 0)->device, j->replicas));
    break_drop(j, "order shard");
    json_array_append_new(j->strategy, d);
    break_want(b, "the passes of");
    break_want(b, "%s=0", j->mb_name);
    break_want(b, "different devices");
    return true;
}

bool breaks_wrong_ranks(struct breaker *b)
{
    b->out->status = ST_USAGE;
    b->out->ranks = b->j->ranks + 1;
    break_want(b, b->j->macros ? "needs %u ranks" : "uses %u devices", b->j->ranks);
    break_want(b, b->j->macros ? "the job has %u" : "the job has %u ranks", b->j->ranks + 1);
    return b->j->macros || break_has(b->j, "place");
}

bool breaks_wrong_ranks_default(struct breaker *b)
{
    break_drop(b->j, ANY);
    b->out->status = ST_USAGE;
    b->out->ranks = 3;
    break_want(b, "3 ranks");
    return true;
}

/* ---- replicate --------------------------------------------------------------------------------------------------- */

bool breaks_no_replicate(struct breaker *b)
{
    json_t *d, *plain;
    size_t i;
    if (b->j->macros || b->j->replicas < 2)
        return false;
    break_drop(b->j, "stream shard");
    json_array_foreach(b->j->strategy, i, d)
    {
        if (strcmp(break_op_of(d), "replicate") != 0)
            continue;
        plain = json_pack("{s:s,s:O,s:O}", "op", "place", "filter", json_object_get(d, "filter"), "devices",
                          json_object_get(d, break_devices_key(d)));
        json_array_set_new(b->j->strategy, i, plain);
    }
    break_want(b, "no replicate directive covers it");
    break_want(b, "%u copies", b->j->replicas);
    return true;
}

bool breaks_bad_zero(struct breaker *b)
{
    return break_set_key(b, "replicate", "zero", json_integer(4), "4");
}

bool breaks_bad_shard_grads(struct breaker *b)
{
    return break_set_key(b, "replicate", "shard_grads", json_string("yes"), "yes");
}

bool breaks_bad_reduce(struct breaker *b)
{
    return break_set_key(b, "replicate", "reduce", json_string("never"), "never");
}

bool breaks_bad_bucket(struct breaker *b)
{
    bool word = rng_chance(&b->j->rng, 50);
    return break_set_key(b, "replicate", "bucket_size", word ? json_string("huge") : json_integer(-1),
                         word ? "huge" : "-1");
}

bool breaks_bad_prefetch(struct breaker *b)
{
    return break_set_key(b, "replicate", "prefetch", json_integer(-1), "-1");
}

bool breaks_stream_on_replicate(struct breaker *b)
{
    return break_set_key(b, "replicate", "stream", json_string("dp"), "stream");
}
