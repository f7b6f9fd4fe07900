/* ring_exchange, of the reference's branches (piper-strategy(5), ring_exchange): a sequence group and a context region by ring, or, decomposed,
 * by gather. */
#include "sched/directives/reference.h"

static enum status check_tensors(const struct js *js, struct err *e)
{
    struct js v;
    uint32_t n = 0;
    TRY(js_opt(js, "tensors", &v, e));
    if (v.v)
        TRY(js_count(&v, &n, e));
    for (uint32_t i = 0; i < n; i++) {
        struct js x = js_at(&v, i);
        const char *name;
        TRY(js_str(&x, &name, e));
        if (strcmp(name, "k") && strcmp(name, "v"))
            return js_wrong(&x, e, "found \"%s\", expected \"k\" or \"v\": keys and values travel", name);
    }
    return ST_OK;
}

static enum status expand(struct sched *s, const struct js *js, json_t *out, struct err *e)
{
    static const char *const ways[] = { "ring", "gather", NULL };
    struct js v;
    json_t *filter;
    int64_t distance;
    bool hoist;
    uint32_t way;
    TRY(js_need(js, "devices", &v, e));
    TRY(check_tensors(js, e));
    TRY(js_bool_or(js, "hoist", true, &hoist, e));
    TRY(js_int_or(js, "distance", 1, 1 << 10, 1, &distance, e));
    TRY(js_word_or(js, "decompose", ways, 0, &way, e));
    TRY(reference_filter(s, js, "CP", &filter, e));
    reference_shard(js, "sequence", filter, out);
    reference_shard(js, "context", filter, out);
    json_object_set_new(json_array_get(out, json_array_size(out) - 1), "exchange", json_string(ways[way]));
    json_decref(filter);
    return ST_OK;
}

static const char *const keys[] = { "op",    "filter",   "devices",   "stream", "tensors",
                                    "hoist", "distance", "decompose", NULL };
const struct directive_kind directive_ring_exchange = { .name = "ring_exchange", .keys = keys, .expand = expand };
