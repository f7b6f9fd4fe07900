/* replicate: parameters of the matched chunks are copied on every device of the set; their gradients are reduced once a step,
 * in buckets that cut the chunk (DIRECTIVES.md, "replicate").
 *
 * The directive acts in three places: it places (sched/place.c), it cuts chunks into sub-chunks (pass_chunks), and its
 * streams carry the reductions (sched/buckets.c, sched/reduce.c). */
#include "sched/compile.h"

static enum status parse_bucket(const struct js *js, struct ir_cut_rule *cut, struct err *e)
{
    struct js v;
    double mib;
    TRY(js_opt(js, "bucket_size", &v, e));
    *cut = (struct ir_cut_rule){ .how = IR_CUT_NONE };
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

static enum status parse_replicate(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    struct js v;
    const char *name;
    TRY(js_need(js, "filter", &v, e));
    TRY(filter_parse(s, &v, &d->filter, e));
    TRY(js_opt(js, "devices", &v, e));
    if (!v.v)
        TRY(js_opt(js, "device", &v, e)); /* older files */
    if (!v.v)
        return js_wrong(js, e, "\"devices\" is missing: the devices that hold a copy");
    TRY(devices_parse(s, &v, &d->set, e));
    TRY(js_str_or(js, "reduce_stream", "default_stream", &name, e));
    d->reduce_stream = stream_number(s, name);
    return parse_bucket(js, &d->cut, e);
}

static const char *const keys[] = { "op", "filter", "devices", "device", "reduce_stream", "bucket_size", NULL };
const struct directive_kind directive_replicate = { .name = "replicate", .keys = keys, .parse = parse_replicate };
