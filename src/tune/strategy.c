#include "tune/strategy.h"

#include <stdio.h>

#include "sched/sched.h"

/* ---- reading a start -------------------------------------------------------------------------------------------------- */

enum value_kind { VALUE_INT, VALUE_BOOL, VALUE_KIND, VALUE_PLACEMENT, VALUE_BACKWARD, VALUE_SIZE, VALUE_NUMBER };
static const struct key_info {
    const char *name;
    bool schedule; /* a key of schedule, else of layout */
    enum value_kind kind;
    double absent; /* where the key is omitted; -1: it follows from others */
} keys[TUNE_KEYS] = {
    [TUNE_TP] = { "tp", false, VALUE_INT, 1 },
    [TUNE_CP] = { "cp", false, VALUE_INT, 1 },
    [TUNE_PP] = { "pp", false, VALUE_INT, 1 },
    [TUNE_EP] = { "ep", false, VALUE_INT, 1 },
    [TUNE_DP] = { "dp", false, VALUE_INT, -1 },
    [TUNE_KIND] = { "kind", true, VALUE_KIND, -1 },
    [TUNE_PLACEMENT] = { "placement", false, VALUE_PLACEMENT, -1 },
    [TUNE_CHUNKS] = { "chunks", false, VALUE_INT, -1 },
    [TUNE_MICROBATCHES] = { "microbatches", true, VALUE_INT, -1 },
    [TUNE_BACKWARD] = { "backward", true, VALUE_BACKWARD, 0 },
    [TUNE_RECOMPUTE] = { "recompute", false, VALUE_BOOL, 0 },
    [TUNE_ZERO] = { "zero", false, VALUE_INT, 0 },
    [TUNE_ZERO_GROUP] = { "zero_group", false, VALUE_INT, 0 },
    [TUNE_VOCAB] = { "vocab", false, VALUE_BOOL, 0 },
    [TUNE_BUCKET] = { "bucket_size", false, VALUE_SIZE, 0 },
    [TUNE_EXPERT_BOUND] = { "expert_bound", false, VALUE_NUMBER, 0 },
};

const char *tune_key_name(enum tune_key k)
{
    return keys[k].name;
}

/* name: of a number, NULL where there are no more. */
static enum status read_word(const struct js *v, const char *(*name)(uint32_t), double *out, struct err *e)
{
    const char *words[32] = { NULL };
    uint32_t which;
    for (uint32_t i = 0; name(i); i++) {
        CHECK(i + 1 < sizeof words / sizeof *words);
        words[i] = name(i);
    }
    TRY(js_word(v, words, &which, e));
    *out = which;
    return ST_OK;
}

static const char *size_name(uint32_t i)
{
    return i ? NULL : "layer";
}

static enum status read_value(const struct js *v, enum value_kind kind, double *out, struct err *e)
{
    int64_t n;
    bool flag;
    switch (kind) {
    case VALUE_KIND:
        return read_word(v, bound_kind_name, out, e);
    case VALUE_PLACEMENT:
        return read_word(v, bound_placement_name, out, e);
    case VALUE_BACKWARD:
        return read_word(v, bound_backward_name, out, e);
    case VALUE_BOOL:
        TRY(js_bool(v, &flag, e));
        *out = flag;
        return ST_OK;
    case VALUE_NUMBER:
        return js_num(v, 1, 1e6, out, e);
    case VALUE_SIZE:
        if (json_is_string(v->v))
            return read_word(v, size_name, out, e);
        TRY(js_int(v, 1, 1 << 20, &n, e));
        break;
    default:
        TRY(js_int(v, 0, 1 << 24, &n, e));
    }
    *out = (double)n;
    return ST_OK;
}

static bool is_open(const json_t *v)
{
    return json_is_string(v) && !strcmp(json_string_value(v), "?");
}

/* A value, "?", or {"in":[...]}. */
static enum status read_values(const struct js *v, enum value_kind kind, struct tune_values *out, struct err *e)
{
    static const char *const only[] = { "in", NULL };
    struct js in;
    uint32_t n;
    double value;
    out->n = 0;
    out->open = is_open(v->v);
    if (out->open)
        return ST_OK;
    if (!json_is_object(v->v)) {
        TRY(read_value(v, kind, &value, e));
        vec_add(out, value);
        return ST_OK;
    }
    TRY(js_only(v, only, e));
    TRY(js_need(v, "in", &in, e));
    TRY(js_count(&in, &n, e));
    if (!n)
        return js_expected(&in, e, "a list with one value or more");
    for (uint32_t i = 0; i < n; i++) {
        const struct js one = js_at(&in, i);
        TRY(read_value(&one, kind, &value, e));
        vec_add(out, value);
    }
    return ST_OK;
}

/* Of the keys that are not chosen none is open, and none makes another strategy of what the bounds are for. */
static enum status check_rest(const struct js *d, struct err *e)
{
    static const char *const fixed[] = { "outer",        "prefetch",       "reduce",  "shard_grads",
                                         "shard_params", "zero_optimizer", "encoder", "head" };
    const char *key;
    json_t *v;
    struct js at;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        TRY(js_opt(d, fixed[i], &at, e));
        if (at.v)
            return js_wrong(
                &at, e, "tune knows layouts with the default of this key only: omit it (zero says what is sharded)");
    }
    json_object_foreach(d->v, key, v)
    {
        if (!is_open(v) && !json_object_get(v, "in"))
            continue;
        TRY(js_need(d, key, &at, e));
        return js_wrong(&at, e,
                        "this key cannot be left open; those that can are pp, dp, ep, tp, cp, zero, zero_group, vocab, "
                        "placement, chunks, bucket_size and expert_bound of layout, kind, microbatches and backward of "
                        "schedule, and "
                        "the filter of recompute");
    }
    return ST_OK;
}

/* "auto" stands for a bound and what goes on beyond it (piper-strategy(5), shard). */
static void write_out_bound(const struct js *d)
{
    const char *word = json_string_value(json_object_get(d->v, "expert_bound"));
    if (!word || strcmp(word, "auto") != 0)
        return;
    json_object_set_new(d->v, "expert_bound", json_real(SCHED_EXPERT_BOUND));
    json_object_set_new(d->v, "overflow", json_string("rounds"));
}

/* Takes what may be chosen out of a directive. */
static enum status take_keys(const struct js *d, bool schedule, struct tune_start *s, struct err *e)
{
    write_out_bound(d);
    for (int k = 0; k < TUNE_KEYS; k++) {
        struct js v;
        if (keys[k].schedule != schedule || k == TUNE_RECOMPUTE)
            continue;
        TRY(js_opt(d, keys[k].name, &v, e));
        if (v.v) {
            TRY(read_values(&v, keys[k].kind, &s->keys[k], e));
            json_object_del(d->v, keys[k].name);
        }
    }
    return check_rest(d, e);
}

/* A recompute that may be left out has nothing beside its filter: whether rows are received again the search sees. */
static enum status open_recompute(const struct js *d, struct tune_start *s, struct err *e)
{
    static const char *const only[] = { "op", "filter", NULL };
    struct js received;
    TRY(js_opt(d, "received", &received, e));
    if (received.v)
        return js_wrong(
            &received, e,
            "tune tries \"again\" where a candidate that recomputes does not fit: omit this key, or give the "
            "filter");
    TRY(js_only(d, only, e));
    s->keys[TUNE_RECOMPUTE].open = true;
    s->keys[TUNE_RECOMPUTE].n = 0;
    return ST_OK;
}

static enum status read_list(const struct js *root, struct tune_start *s, struct err *e)
{
    uint32_t n;
    bool layout = false, schedule = false;
    TRY(js_count(root, &n, e));
    for (uint32_t i = 0; i < n; i++) {
        const struct js d = js_at(root, i);
        struct js v;
        const char *op;
        TRY(js_need(&d, "op", &v, e));
        TRY(js_str(&v, &op, e));
        if (!strcmp(op, "recompute") && is_open(json_object_get(d.v, "filter"))) {
            TRY(open_recompute(&d, s, e));
            continue;
        }
        const bool is_layout = !strcmp(op, "layout"), is_schedule = !strcmp(op, "schedule");
        if (!is_layout && !is_schedule && strcmp(op, "recompute") && strcmp(op, "stream"))
            return js_wrong(&v, e, "found \"%s\"; a start for tune is made of layout, schedule, recompute and stream",
                            op);
        s->recomputes |= !strcmp(op, "recompute");
        s->streams |= !strcmp(op, "stream");
        if ((is_layout && layout) || (is_schedule && schedule))
            return js_wrong(&d, e, "found a second \"%s\", expected one", op);
        layout |= is_layout;
        schedule |= is_schedule;
        if (is_layout || is_schedule)
            TRY(take_keys(&d, is_schedule, s, e));
        json_array_append(s->list, d.v);
    }
    if (layout && schedule)
        return ST_OK;
    return js_wrong(root, e,
                    "found no \"%s\", which a start for tune needs; what is to be chosen is written as \"?\", e.g. "
                    "[{\"op\":\"layout\",\"pp\":\"?\"},{\"op\":\"schedule\",\"kind\":\"?\",\"microbatches\":\"?\"}]",
                    layout ? "schedule" : "layout");
}

enum status tune_start_read(json_t *start, const char *file, struct tune_start *out, struct err *e)
{
    *out = (struct tune_start){ .list = json_array() };
    for (int k = 0; k < TUNE_KEYS; k++) {
        out->keys[k].open = !start || keys[k].absent < 0;
        if (!out->keys[k].open)
            vec_add(&out->keys[k], keys[k].absent);
    }
    if (!start) {
        json_array_append_new(out->list, json_pack("{s:s}", "op", "layout"));
        json_array_append_new(out->list, json_pack("{s:s}", "op", "schedule"));
        return ST_OK;
    }
    json_t *copy = json_deep_copy(start);
    const struct js root = js_root(copy, file);
    enum status st = read_list(&root, out, e);
    json_decref(copy);
    if (st != ST_OK)
        tune_start_release(out);
    return st;
}

void tune_start_release(struct tune_start *s)
{
    json_decref(s->list);
    s->list = NULL;
    for (int k = 0; k < TUNE_KEYS; k++)
        vec_free(&s->keys[k]);
}

/* ---- writing a shape -------------------------------------------------------------------------------------------------- */

static void set_if(json_t *d, const char *key, uint32_t value, uint32_t usual)
{
    if (value != usual)
        json_object_set_new(d, key, json_integer(value));
}

static void write_layout(json_t *d, const struct bound_shape *s)
{
    const uint32_t placement = bound_kind_placement(s->kind);
    json_object_set_new(d, "pp", json_integer(s->pp));
    json_object_set_new(d, "dp", json_integer(s->dp));
    set_if(d, "ep", s->ep, 1);
    set_if(d, "tp", s->tp, 1);
    set_if(d, "cp", s->cp, 1);
    set_if(d, "zero", s->zero, 0);
    set_if(d, "zero_group", s->zero_group, 0);
    set_if(d, "bucket_size", s->bucket_mib, 0);
    if (s->vocab)
        json_object_set_new(d, "vocab", json_true());
    if (placement)
        json_object_set_new(d, "placement", json_string(bound_placement_name(placement)));
    if (!bound_kind_chunks(s->kind))
        json_object_set_new(d, "chunks", json_integer(s->chunks));
    if (s->expert_bound > 0)
        json_object_set_new(d, "expert_bound", json_real(s->expert_bound));
    else /* nothing is beyond the worst case */
        json_object_del(d, "overflow");
}

json_t *tune_strategy(const struct tune_start *start, const struct bound_shape *s)
{
    json_t *list = json_array(), *d;
    size_t i;
    json_array_foreach(start->list, i, d)
    {
        json_t *one = json_deep_copy(d);
        const char *op = json_string_value(json_object_get(one, "op"));
        if (!strcmp(op, "layout"))
            write_layout(one, s);
        if (!strcmp(op, "schedule")) {
            json_object_set_new(one, "kind", json_string(bound_kind_name(s->kind)));
            json_object_set_new(one, "microbatches", json_integer(s->microbatches));
            if (s->backward)
                json_object_set_new(one, "backward", json_string(bound_backward_name(s->backward)));
            if (s->peak > 0)
                json_object_set_new(one, "peak", json_real(s->peak));
        }
        json_array_append_new(list, one);
    }
    if (s->recompute) {
        d = json_pack("{s:s, s:{}}", "op", "recompute", "filter");
        if (s->again)
            json_object_set_new(d, "received", json_string("again"));
        json_array_append_new(list, d);
    }
    return list;
}

const char *tune_shape_text(const struct bound_shape *s, char text[TUNE_TEXT])
{
    const struct {
        const char *name;
        uint32_t value, usual;
    } parts[] = { { "pp", s->pp, 1 },
                  { "dp", s->dp, 1 },
                  { "ep", s->ep, 1 },
                  { "tp", s->tp, 1 },
                  { "cp", s->cp, 1 },
                  { "zero", s->zero, 0 },
                  { "zero_group", s->zero_group, 0 },
                  { "bucket", s->bucket_mib, 0 } };
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].value != parts[i].usual)
            n += (size_t)snprintf(text + n, TUNE_TEXT - n, "%s%s %u", n ? ", " : "", parts[i].name, parts[i].value);
    n += (size_t)snprintf(text + n, TUNE_TEXT - n, "%s%s%s", n ? "; " : "", s->vocab ? "vocab; " : "",
                          bound_kind_name(s->kind));
    if (!bound_kind_chunks(s->kind))
        n += (size_t)snprintf(text + n, TUNE_TEXT - n, " x%u", s->chunks);
    n += (size_t)snprintf(text + n, TUNE_TEXT - n, " of %u%s%s", s->microbatches, s->backward ? ", backward whole" : "",
                          s->again       ? ", recompute, received again"
                          : s->recompute ? ", recompute"
                                         : "");
    if (s->expert_bound > 0)
        n += (size_t)snprintf(text + n, TUNE_TEXT - n, ", expert_bound %g", s->expert_bound);
    if (s->peak > 0)
        snprintf(text + n, TUNE_TEXT - n, ", peak %g", s->peak);
    return text;
}
