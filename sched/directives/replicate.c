/* replicate: parameters of the matched chunks are copied on every device of the set; their gradients are reduced once a step,
 * in buckets that cut the chunk (piper-strategy(5), replicate).
 *
 * The directive acts in three places: it places (sched/directives/place.c), it cuts chunks into sub-chunks (pass_chunks), and its
 * streams carry the reductions (sched/buckets.c, sched/reduce.c) and gathers (sched/gather.c). */
#include "sched/compile.h"

static enum status parse_bucket(const struct js *js, uint32_t zero, struct ir_cut_rule *cut, struct err *e)
{
    struct js v;
    double mib;
    TRY(js_opt(js, "bucket_size", &v, e));
    *cut = (struct ir_cut_rule){ .how = zero ? IR_CUT_BLOCK : IR_CUT_NONE };
    if (!v.v)
        return ST_OK;
    if (json_is_string(v.v) && !strcmp(json_string_value(v.v), "layer")) {
        cut->how = IR_CUT_BLOCK;
        return ST_OK;
    }
    if (!json_is_number(v.v))
        return js_expected(&v, e, "MiB of parameters in a bucket, or \"layer\"");
    TRY(js_num(&v, 1e-6, 1e6, &mib, e));
    cut->how = IR_CUT_BYTES;
    cut->bytes = (uint64_t)(mib * 1048576.0);
    return ST_OK;
}

/* "zero" 0 to 3; shard_grads is 2, shard_params 3. Reductions of level 2 and 3 are per microbatch by default. */
static enum status parse_zero(const struct js *js, struct directive *d, struct err *e)
{
    int64_t zero, prefetch;
    bool grads, params;
    const char *reduce;
    TRY(js_int_or(js, "zero", 0, 3, 0, &zero, e));
    TRY(js_bool_or(js, "shard_grads", false, &grads, e));
    TRY(js_bool_or(js, "shard_params", false, &params, e));
    d->zero = params ? ZERO_PARAMS : grads && !zero_shards_grads((uint32_t)zero) ? ZERO_GRADS : (uint32_t)zero;
    TRY(js_str_or(js, "reduce", zero_shards_grads(d->zero) ? "each" : "last", &reduce, e));
    d->reduce_each = !strcmp(reduce, "each");
    if (!d->reduce_each && strcmp(reduce, "last"))
        return js_wrong(js, e, "\"reduce\": found \"%s\", expected \"each\" (per microbatch) or \"last\" (once a step)",
                        reduce);
    TRY(js_int_or(js, "prefetch", 0, 1 << 10, 1, &prefetch, e));
    d->prefetch = (uint32_t)prefetch;
    return ST_OK;
}

/* Groups of neighbours, within which what zero says is sharded, or all of it but the optimizer's state. */
static enum status parse_zero_group(const struct js *js, struct directive *d, struct err *e)
{
    static const char *const words[] = { "group", "all", NULL };
    int64_t group;
    uint32_t optimizer;
    TRY(js_int_or(js, "zero_group", 2, 1 << 20, 0, &group, e));
    TRY(js_word_or(js, "zero_optimizer", words, 0, &optimizer, e));
    d->zero_group = (uint32_t)group;
    d->zero_all = optimizer == 1;
    if (d->zero_group && !d->zero)
        return js_wrong(js, e, "\"zero_group\" has no effect without \"zero\" 1, 2 or 3");
    if (js_has(js, "zero_optimizer") && !d->zero_group)
        return js_wrong(js, e, "\"zero_optimizer\" has no effect without \"zero_group\"");
    return ST_OK;
}

static enum status parse_replicate(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    const char *name;
    TRY(placement_sets(s, js, d, "the devices that hold a replica", e));
    TRY(js_str_or(js, "reduce_stream", "default_stream", &name, e));
    d->reduce_stream = stream_number(s, name);
    TRY(js_str_or(js, "gather_stream", "default_stream", &name, e));
    d->gather_stream = stream_number(s, name);
    TRY(parse_zero(js, d, e));
    TRY(parse_zero_group(js, d, e));
    return parse_bucket(js, d->zero, &d->cut, e);
}

static const char *const keys[] = { "op",          "filter",        "devices",        "device",
                                    "rotate",      "reduce_stream", "gather_stream",  "bucket_size",
                                    "zero",        "zero_group",    "zero_optimizer", "reduce",
                                    "shard_grads", "shard_params",  "prefetch",       NULL };
const struct directive_kind directive_replicate = { .name = "replicate", .keys = keys, .parse = parse_replicate };
