/* Mistakes in shards, splits, orders, and in the directives that are ours. */
#include "random_break.h"

#include <stdlib.h>

/* ---- shard ------------------------------------------------------------------------------------------------------- */

bool breaks_shard_dense(struct breaker *b)
{
    break_append(b, "", json_pack("{s:s,s:{},s:[i]}", "op", "shard", "filter", "devices", 0));
    break_want(b, "only expert regions");
    return !b->j->macros;
}

bool breaks_shard_uneven(struct breaker *b)
{
    if (break_some_expert_chunk(b->j) == IR_NONE || b->j->macros)
        return false;
    break_drop(b->j, "shard");
    break_append(b, "", json_pack("{s:s,s:{s:s},s:[i,i,i]}", "op", "shard", "filter", "EP", "*", "devices", 0, 1, 2));
    break_want(b, "do not split evenly");
    break_want(b, "over 3 devices");
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

bool breaks_shard_elsewhere(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros ? IR_NONE : break_some_expert_chunk(j),
             other = c == IR_NONE ? IR_NONE : break_elsewhere(j, c);
    if (other == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    break_drop(j, "shard");
    break_append(b, "", shard_on(j, random_set_of(j, other, 0)->device, j->replicas, region));
    break_want(b, "EP=%d", region);
    break_want(b, "exactly these devices");
    return true;
}

bool breaks_shard_half(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || j->replicas < 2 ? IR_NONE : break_some_expert_chunk(j);
    if (c == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    break_drop(j, "shard");
    break_append(b, "", shard_on(j, random_set_of(j, c, 0)->device, j->replicas / 2, region));
    break_want(b, "EP=%d", region);
    break_want(b, "exactly these devices");
    return true;
}

bool breaks_shard_device_in_two_groups(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || j->replicas < 2 ? IR_NONE : break_some_expert_chunk(j);
    if (c == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    struct random_set s = *random_set_of(j, c, 0);
    s.device[1] = s.device[0];
    break_drop(j, "shard");
    break_append(b, "", shard_on(j, s.device, j->replicas, region));
    break_want(b, "EP=%d", region);
    break_want(b, "each once");
    return true;
}

bool breaks_shard_unequal(struct breaker *b)
{
    if (break_some_expert_chunk(b->j) == IR_NONE || b->j->macros)
        return false;
    break_drop(b->j, "shard");
    break_append(b, ".devices[1]",
                 json_pack("{s:s,s:{s:s},s:[[i,i],[i]]}", "op", "shard", "filter", "EP", "*", "devices", 0, 1, 2));
    break_want(b, "2 devices, as in the first group");
    return true;
}

bool breaks_shard_twice(struct breaker *b)
{
    json_t *d;
    size_t i;
    if (b->j->macros)
        return false;
    json_array_foreach(b->j->strategy, i, d) if (!strcmp(break_op_of(d), "shard") && !json_object_get(d, "dim"))
    {
        break_append(b, "", json_deep_copy(d));
        break_want(b, "EP=");
        break_want(b, "by an earlier directive");
        return true;
    }
    return false;
}

bool breaks_bad_bound(struct breaker *b)
{
    break_want(b, "expert_bound");
    break_want(b, "0.5");
    return break_set_dim(b, NULL, "expert_bound", json_real(0.5));
}

/* The expert groups of microbatch 0 are not the devices of the others. */
bool breaks_shard_of_some(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || !j->halves ? IR_NONE : break_some_expert_chunk(j);
    const struct random_set *s = c == IR_NONE ? NULL : random_set_of(j, c, 0);
    if (!s || s[0].class_id == s[1].class_id)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    break_drop(j, "shard");
    break_append(b, "", shard_on(j, s->device, j->replicas, region));
    break_want(b, "EP=%d", region);
    break_want(b, "exactly these devices");
    return true;
}

/* The experts on another device set than their neighbours. */
bool breaks_region_away(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros || j->halves ? IR_NONE : break_some_expert_chunk(j),
             other = c == IR_NONE ? IR_NONE : break_elsewhere(j, c);
    if (other == IR_NONE)
        return false;
    int32_t region = j->chunks.chunks.at[c].tag[ir_graph_find_tag(&j->g, "EP")];
    const uint32_t *device = random_set_of(j, other, 0)->device;
    break_drop(j, "shard order");
    json_array_append_new(j->strategy, json_pack("{s:s,s:{s:i},s:o}", "op", "replicate", "filter", "EP", region,
                                                 "devices", random_devices(j, device, j->replicas)));
    break_append(b, "", shard_on(j, device, j->replicas, region));
    break_want(b, "EP=%d", region);
    return true;
}

/* ---- split ------------------------------------------------------------------------------------------------------- */

bool breaks_split_not_whole(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t m = j->microbatches + 1;
    if (j->macros || j->halves)
        return false;
    while (j->model.batch % (j->replicas / j->share.n * m) == 0)
        m++;
    break_drop(j, "split");
    json_array_append_new(j->strategy, json_pack("{s:s,s:{},s:i,s:s}", "op", "split", "filter", "num_microbatches", m,
                                                 "dim_name", j->mb_name));
    break_want(b, "batch of %u", j->model.batch);
    break_want(b, "x %u microbatches", m);
    return true;
}

bool breaks_split_disagrees(struct breaker *b)
{
    if (b->j->macros || !break_has(b->j, "split"))
        return false;
    break_append(b, "",
                 json_pack("{s:s,s:{},s:i,s:s}", "op", "split", "filter", "num_microbatches", b->j->microbatches + 1,
                           "dim_name", b->j->mb_name));
    break_want(b, "all splits must agree");
    return true;
}

bool breaks_split_part(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t pp = ir_graph_find_tag(&j->g, "PP");
    bool more = false;
    for (uint32_t c = 0; c < j->chunks.chunks.n && pp != IR_NONE; c++)
        more = more || j->chunks.chunks.at[c].tag[pp] == 1;
    if (j->macros || !more)
        return false;
    break_drop(j, "split");
    break_append(b, "",
                 json_pack("{s:s,s:{s:i},s:i,s:s}", "op", "split", "filter", "PP", 0, "num_microbatches",
                           j->microbatches, "dim_name", j->mb_name));
    break_want(b, "does not cover PP=");
    return true;
}

bool breaks_split_takes_tag(struct breaker *b)
{
    const char *name = rng_chance(&b->j->rng, 30) || !b->j->g.n_tags
                           ? "PASS"
                           : b->j->g.tags[rng_below(&b->j->rng, b->j->g.n_tags)];
    json_t *d = break_some(b, "split", "");
    if (d)
        json_object_set_new(d, "dim_name", json_string(name));
    break_want(b, "\"%s\"", name);
    return d && (!b->j->model.most_stages || strcmp(name, "PASS") == 0);
}

bool breaks_split_zero(struct breaker *b)
{
    json_t *d = break_some(b, "split", ".num_microbatches");
    if (d)
        json_object_set_new(d, "num_microbatches", json_integer(0));
    break_want(b, "found 0");
    return d;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

bool breaks_order_one_group(struct breaker *b)
{
    json_t *d = break_some(b, "order", ".filters");
    json_t *groups = json_object_get(d, "filters");
    while (json_array_size(groups) > 1)
        json_array_remove(groups, 0);
    break_want(b, "at least two groups");
    return d;
}

bool breaks_order_empty_group(struct breaker *b)
{
    json_t *d = break_some(b, "order", "");
    if (!d)
        return false;
    json_t *groups = json_object_get(d, "filters");
    uint32_t k = rng_below(&b->j->rng, (uint32_t)json_array_size(groups));
    json_array_set_new(groups, k, json_array());
    break_want(b, ".filters[%u]", k);
    break_want(b, "at least one filter");
    return true;
}

bool breaks_order_no_list(struct breaker *b)
{
    json_t *d = break_some(b, "order", ".filters");
    if (d)
        json_object_set_new(d, "filters", json_object());
    break_want(b, "a list of groups");
    return d;
}

bool breaks_order_no_such_microbatch(struct breaker *b)
{
    struct random_job *j = b->j;
    if (!break_orderly(j))
        return false;
    uint32_t c = break_some_chunk(j);
    json_t *f = random_filter(j, c, j->place.tags, 1, 0, "F");
    if (!json_is_object(f)) {
        json_decref(f);
        return false;
    }
    json_object_set_new(f, j->mb_name, json_integer(j->microbatches + 3));
    break_append(b, "", json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", break_pass_filter(j, c, 0, "F"), f));
    break_want(b, "group 1");
    break_want(b, "matches no node");
    return true;
}

bool breaks_order_against_data(struct breaker *b)
{
    static const char *const passes[] = { "B", "F", NULL };
    struct random_job *j = b->j;
    if (!break_orderly(j))
        return false;
    break_drop(j, "order");
    uint32_t mb = rng_below(&j->rng, j->microbatches);
    break_append(b, "", break_order_of(j, break_some_chunk(j), mb, passes));
    break_want(b, "can never run");
    break_want(b, "%s=%u F", j->mb_name, mb);
    return true;
}

bool breaks_order_stages_backwards(struct breaker *b)
{
    struct random_job *j = b->j;
    if (!break_orderly(j))
        return false;
    break_drop(j, "order");
    for (uint32_t x = 0; x < j->chunks.chunks.n; x++)
        for (uint32_t y = 0; y < j->chunks.chunks.n; y++) {
            if (j->place.of[x] == j->place.of[y] || !random_chunk_edge(j, x, y) ||
                random_set_of(j, x, 0)->class_id != random_set_of(j, y, 0)->class_id)
                continue;
            break_append(b, "",
                         json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", break_pass_filter(j, y, 0, "F"),
                                   break_pass_filter(j, x, 0, "F")));
            break_want(b, "is ordered before");
            break_want(b, "can never run");
            return true;
        }
    return false;
}

/* Each row alone could run. */
bool breaks_order_rows_deadlock(struct breaker *b)
{
    struct random_job *j = b->j;
    if (!break_orderly(j) || j->microbatches < 2 || j->halves)
        return false;
    break_drop(j, "order");
    for (uint32_t x = 0; x < j->chunks.chunks.n; x++)
        for (uint32_t y = 0; y < j->chunks.chunks.n; y++) {
            if (!random_chunk_edge(j, x, y) || random_set_of(j, x, 0)->class_id == random_set_of(j, y, 0)->class_id)
                continue;
            json_array_append_new(j->strategy,
                                  json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters",
                                            break_pass_filter(j, x, 0, "B"), break_pass_filter(j, x, 1, "F")));
            json_array_append_new(j->strategy,
                                  json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters",
                                            break_pass_filter(j, y, 1, "F"), break_pass_filter(j, y, 0, "B")));
            break_want(b, "is ordered before");
            break_want(b, "together with the order in $[");
            break_want(b, "can never run");
            return true;
        }
    return false;
}

bool breaks_order_across_sets(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = break_some_chunk(j), other = break_orderly(j) ? break_elsewhere(j, c) : IR_NONE;
    if (other == IR_NONE)
        return false;
    break_append(b, "",
                 json_pack("{s:s,s:[[o],[o]]}", "op", "order", "filters", break_pass_filter(j, c, 0, "F"),
                           break_pass_filter(j, other, 0, "F")));
    break_want(b, "group 1");
    break_want(b, "another device set");
    return true;
}

/* "The match is convex": the parts of a stage before and behind its experts, without them. */
bool breaks_order_not_convex(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = j->macros ? IR_NONE : break_some_expert_chunk(j), pp = ir_graph_find_tag(&j->g, "PP");
    if (c == IR_NONE || pp == IR_NONE || j->place.tags != 1u << pp || j->microbatches < 2 || j->halves)
        return false;
    json_t *groups = json_array();
    for (uint32_t mb = 0; mb < 2; mb++)
        json_array_append_new(groups, json_pack("[{s:i,s:s,s:i,s:s}]", "PP", j->chunks.chunks.at[c].tag[pp], "EP", "-",
                                                j->mb_name, mb, "PASS", "F"));
    break_drop(j, "order");
    break_append(b, "", json_pack("{s:s,s:o}", "op", "order", "filters", groups));
    break_want(b, "group 0");
    break_want(b, "convex");
    return true;
}

/* A stage is convex in one pass; forward and backward together are not, where other stages lie between them. */
bool breaks_order_not_convex_both(struct breaker *b)
{
    struct random_job *j = b->j;
    uint32_t c = break_some_chunk(j), pp = ir_graph_find_tag(&j->g, "PP");
    int32_t last = 0;
    if (j->macros || pp == IR_NONE || j->place.tags != 1u << pp || j->microbatches < 2 || j->halves)
        return false;
    for (uint32_t i = 0; i < j->chunks.chunks.n; i++)
        last = j->chunks.chunks.at[i].tag[pp] > last ? j->chunks.chunks.at[i].tag[pp] : last;
    int32_t stage = j->chunks.chunks.at[c].tag[pp];
    if (stage == last)
        return false;
    break_drop(j, "order");
    break_append(b, "",
                 json_pack("{s:s,s:[[{s:i,s:i,s:s}],[{s:i,s:i}]]}", "op", "order", "filters", "PP", stage, j->mb_name,
                           0, "PASS", "F", "PP", stage, j->mb_name, 1));
    break_want(b, "group 1");
    break_want(b, "convex");
    return true;
}

static bool order_passes(struct breaker *b, const char *const *passes, const char *sentence)
{
    struct random_job *j = b->j;
    if (!break_orderly(j))
        return false;
    break_drop(j, "order");
    break_append(b, "", break_order_of(j, break_some_chunk(j), rng_below(&j->rng, j->microbatches), passes));
    break_want(b, "%s", sentence);
    return true;
}

bool breaks_order_bi_alone(struct breaker *b)
{
    static const char *const passes[] = { "F", "BI", NULL };
    return order_passes(b, passes, "has no BW in this order");
}

bool breaks_order_bw_first(struct breaker *b)
{
    static const char *const passes[] = { "BW", "BI", NULL };
    return order_passes(b, passes, "precedes its BI");
}

bool breaks_order_bw_alone(struct breaker *b)
{
    static const char *const passes[] = { "F", "BW", NULL };
    return order_passes(b, passes, "precedes its BI");
}

bool breaks_order_twice(struct breaker *b)
{
    static const char *const passes[] = { "BI", "BI", "BW", NULL };
    return order_passes(b, passes, "BI of");
}

bool breaks_order_pair_and_b(struct breaker *b)
{
    static const char *const passes[] = { "BI", "BW", "B", NULL };
    return order_passes(b, passes, "is ordered both as B and as the pair");
}

bool breaks_order_pair_twice(struct breaker *b)
{
    static const char *const passes[] = { "BI", "BW", NULL };
    struct random_job *j = b->j;
    if (!break_orderly(j))
        return false;
    uint32_t c = break_some_chunk(j);
    break_drop(j, "order");
    json_array_append_new(j->strategy, break_order_of(j, c, 0, passes));
    break_append(b, "", break_order_of(j, c, 0, passes));
    break_want(b, "split by two order directives");
    return true;
}

/* A pass that stands in two groups of one order would have to run before itself. */
bool breaks_order_pass_twice(struct breaker *b)
{
    static const char *const passes[] = { "F", "B", "F", NULL };
    return order_passes(b, passes, "can never run");
}

/* ---- recompute, stream, macros ----------------------------------------------------------------------------------- */

bool breaks_recompute_pass(struct breaker *b)
{
    break_append(b, "", json_pack("{s:s,s:{s:s}}", "op", "recompute", "filter", "PASS", "F"));
    break_want(b, "omit PASS from the filter");
    return !b->j->share.vocab;
}

bool breaks_stream_unused(struct breaker *b)
{
    break_append(b, "", json_pack("{s:s,s:s,s:i}", "op", "stream", "name", "nobody", "max_ctas", 4));
    break_want(b, "\"nobody\"");
    return true;
}

bool breaks_stream_priority(struct breaker *b)
{
    break_append(b, ".priority", json_pack("{s:s,s:s,s:s}", "op", "stream", "name", "dp", "priority", "urgent"));
    break_want(b, "\"urgent\"");
    return true;
}

bool breaks_layout_placement(struct breaker *b)
{
    return break_set_key(b, "layout", "placement", json_string("w"), "\"w\"");
}

bool breaks_layout_ep(struct breaker *b)
{
    json_t *d = break_some(b, "layout", "");
    if (d)
        json_object_set_new(d, "ep", json_integer(3));
    break_want(b, "ep=3 does not divide dp");
    return d;
}

bool breaks_layout_stages(struct breaker *b)
{
    json_t *d = break_some(b, "layout", "");
    if (d)
        json_object_set_new(d, "pp", json_integer(64));
    b->n_needles = 0;
    break_want(b, "stages");
    return d;
}

bool breaks_schedule_kind(struct breaker *b)
{
    return break_set_key(b, "schedule", "kind", json_string("1f2b"), "\"1f2b\"");
}

bool breaks_schedule_microbatches(struct breaker *b)
{
    return break_set_key(b, "schedule", "microbatches", json_integer(0), "found 0");
}

bool breaks_schedule_placement(struct breaker *b)
{
    json_t *d = break_some(b, "schedule", "");
    bool v = false;
    if (!d)
        return false;
    const char *kind = json_string_value(json_object_get(d, "kind"));
    v = !strcmp(kind, "zb-v") || !strcmp(kind, "dualpipev");
    json_object_set_new(d, "kind", json_string(v ? "interleaved" : "zb-v"));
    break_want(b, "placement");
    return true;
}
