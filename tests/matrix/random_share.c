/* Legal strategies whose devices share sequences (piper-strategy(5), shard with a dimension): sequence groups, and regions that are split. */
#include "random.h"

#include "base/fail.h"

/* ---- what the model allows ------------------------------------------------------------------------------------------- */

static const struct ir_node_op *op_at(const struct random_job *j, uint32_t o)
{
    return &j->g.ops.at[o];
}

static bool is_family(const struct random_job *j)
{
    return json_object_get(j->model.json, "model_type") != NULL;
}

static uint32_t count(const struct random_job *j, enum ir_op op)
{
    uint32_t n = 0;
    for (uint32_t o = 0; o < j->g.ops.n; o++)
        n += op_at(j, o)->op == op;
    return n;
}

static uint32_t activations(const struct random_job *j)
{
    return count(j, IR_OP_SWIGLU) + count(j, IR_OP_GELU) + count(j, IR_OP_ACT);
}

/* A dispatch with a capacity follows its router at once. */
static bool counts_alike(const struct random_job *j)
{
    for (uint32_t o = 0; o < j->g.ops.n; o++) {
        const struct ir_node_op *op = op_at(j, o);
        const bool counts = op->op == IR_OP_DISPATCH && op->attrs.capacity;
        if (counts && (!o || j->g.tensors.at[op->in[1]].producer != o - 1 || op_at(j, o - 1)->block != op->block))
            return false;
    }
    return true;
}

/* Heads and key/value heads of every attention are split over p. */
static bool heads_split(const struct random_job *j, uint32_t p)
{
    bool fit = is_family(j) && count(j, IR_OP_ATTENTION);
    for (uint32_t o = 0; o < j->g.ops.n; o++) {
        const struct ir_attrs *a = &op_at(j, o)->attrs;
        if (op_at(j, o)->op == IR_OP_ATTENTION)
            fit = fit && a->heads % p == 0 && (a->kv_heads % p == 0 || p % a->kv_heads == 0);
    }
    return fit;
}

void random_share_choose(struct random_job *j, uint32_t devices)
{
    struct rng *r = &j->rng;
    struct random_share *s = &j->share;
    *s = (struct random_share){ .n = 1, .p = 1, .c = 1 };
    if (devices < 2 || !counts_alike(j) || !rng_chance(r, 50))
        return;
    const uint32_t n = devices > 2 && rng_chance(r, 50) ? devices : 2, p = 1u << rng_below(r, n == 4 ? 3 : 2);
    if (j->model.seq_len % n)
        return;
    s->n = n;
    s->p = p;
    s->head = p > 1 && heads_split(j, p) && rng_chance(r, 60);
    s->ffn = p > 1 && is_family(j) && activations(j) && rng_chance(r, 60);
    s->vocab = p > 1 && is_family(j) && rng_chance(r, 40);
    s->c = s->head ? n / p : n;
    s->context = s->c > 1 && count(j, IR_OP_ATTENTION);
    s->zigzag = s->context && j->model.seq_len % (2 * s->c) == 0 && rng_chance(r, 50);
}

/* ---- directives ------------------------------------------------------------------------------------------------------ */

/* The devices of a set, in groups of so many; as one list where that is all. */
static json_t *groups_of(struct random_job *j, const struct random_set *set, uint32_t size)
{
    if (size == j->replicas && rng_chance(&j->rng, 50))
        return random_devices(j, set->device, size);
    json_t *groups = json_array();
    for (uint32_t i = 0; i < j->replicas; i += size)
        json_array_append_new(groups, random_devices(j, set->device + i, size));
    return groups;
}

/* MB has no place in these. */
static json_t *chunk_filter(struct random_job *j, uint32_t chunk)
{
    json_t *f = random_filter(j, chunk, j->place.tags, 1, 0, NULL), *pair;
    size_t i;
    json_object_del(f, j->mb_name);
    for (i = json_array_size(f); i-- > 0;)
        if ((pair = json_array_get(f, i)) && !strcmp(json_string_value(json_array_get(pair, 0)), j->mb_name))
            json_array_remove(f, i);
    return f;
}

static json_t *append(struct random_job *j, const char *dim, json_t *filter)
{
    json_t *d = json_pack("{s:s,s:s,s:o}", "op", "shard", "dim", dim, "filter", filter);
    json_array_append_new(j->strategy, d);
    if (rng_chance(&j->rng, 60))
        json_object_set_new(d, "stream", json_string(random_stream(j)));
    return d;
}

static bool is_core(const struct ir_node_op *op, const char *dim)
{
    if (!strcmp(dim, "ffn"))
        return op->op == IR_OP_SWIGLU || op->op == IR_OP_GELU || op->op == IR_OP_ACT;
    if (!strcmp(dim, "vocab"))
        return op->op == IR_OP_HEAD_LOSS || op->op == IR_OP_EMBED;
    return op->op == IR_OP_ATTENTION;
}

/* The first chunk of a unit with such a region; IR_NONE: there is none. */
static uint32_t chunk_with(const struct random_job *j, uint32_t unit, const char *dim)
{
    for (uint32_t o = 0; o < j->g.ops.n; o++)
        if (j->place.of[j->chunks.chunk_of[o]] == unit && is_core(op_at(j, o), dim))
            return j->chunks.chunk_of[o];
    return IR_NONE;
}

/* How the keys of all attention may meet its queries: heads by all-to-all, a ring. */
static void exchanges(const struct random_job *j, bool *turned, bool *ring)
{
    *turned = !j->share.zigzag;
    *ring = true;
    for (uint32_t o = 0; o < j->g.ops.n; o++) {
        const struct ir_node_op *op = op_at(j, o);
        const bool attends = op->op == IR_OP_ATTENTION;
        *turned = *turned && !(attends && (op->attrs.heads % j->share.n || op->attrs.kv_heads % j->share.n));
        *ring = *ring && !(attends && op->attrs.window);
    }
}

static void exchange(struct random_job *j, json_t *directive, bool often)
{
    bool turned, ring;
    const uint32_t draw = rng_below(&j->rng, 3);
    exchanges(j, &turned, &ring);
    if (draw == 1 && turned)
        json_object_set_new(directive, "exchange", json_string("all-to-all"));
    else if (draw == 2 && ring)
        json_object_set_new(directive, "exchange", json_string("ring"));
    else if (often || rng_chance(&j->rng, 40))
        json_object_set_new(directive, "exchange", json_string("gather"));
}

/* One directive for all, where its groups are those of the sequences; else one for each unit that has such regions. */
static void region(struct random_job *j, const char *dim, bool tensor)
{
    struct rng *r = &j->rng;
    const bool all = (!tensor || j->share.p == j->share.n) && rng_chance(r, 60), whole = rng_chance(r, 40);
    for (uint32_t u = 0; u < (all ? 1 : j->place.n); u++) {
        const uint32_t chunk = all ? 0 : chunk_with(j, u, dim);
        if (chunk == IR_NONE)
            continue;
        json_t *d = append(j, dim, all ? json_object() : chunk_filter(j, chunk));
        if (whole || rng_chance(r, 40))
            json_object_set_new(d, "keep", json_string(whole ? "whole" : "part"));
        if (tensor && (j->share.p < j->share.n || (!all && rng_chance(r, 40))))
            json_object_set_new(d, "devices", groups_of(j, random_set_of(j, chunk, 0), j->share.p));
        if (!tensor)
            exchange(j, d, whole || all);
    }
}

void random_share(struct random_job *j)
{
    const struct random_share *s = &j->share;
    if (s->n == 1)
        return;
    for (uint32_t u = 0; u < j->place.n; u++) {
        uint32_t chunk = 0;
        while (j->place.of[chunk] != u)
            chunk++;
        json_t *d = append(j, "sequence", chunk_filter(j, chunk));
        json_object_set_new(d, rng_chance(&j->rng, 10) ? "device" : "devices",
                            groups_of(j, random_set_of(j, chunk, 0), s->n));
        if (s->zigzag || rng_chance(&j->rng, 40))
            json_object_set_new(d, "order", json_string(s->zigzag ? "zigzag" : "contiguous"));
    }
    if (s->head)
        region(j, "head", true);
    if (s->ffn)
        region(j, "ffn", true);
    if (s->vocab)
        region(j, "vocab", true);
    if (s->context)
        region(j, "context", false);
}

/* ---- macros ------------------------------------------------------------------------------------------------------------ */

void random_share_layout(struct random_job *j, json_t *layout, uint32_t *dp)
{
    struct rng *r = &j->rng;
    struct random_share *s = &j->share;
    random_share_choose(j, *dp);
    if (s->n == 1 || (s->p > 1 && !heads_split(j, s->p))) {
        s->n = s->p = 1;
        return;
    }
    /* layout splits heads and ffn by tp, and attention by position over cp */
    s->c = s->n / s->p;
    s->zigzag = s->c > 1 && j->model.seq_len % (2 * s->c) == 0;
    *dp /= s->n;
    if (s->p > 1)
        json_object_set_new(layout, "tp", json_integer(s->p));
    if (s->c > 1)
        json_object_set_new(layout, "cp", json_integer(s->c));
    if (s->c > 1 && (!s->zigzag || rng_chance(r, 50)))
        json_object_set_new(layout, "order", json_string(s->zigzag && rng_chance(r, 50) ? "zigzag" : "contiguous"));
    if (s->c > 1)
        exchange(j, layout, false);
    if (s->vocab)
        json_object_set_new(layout, "vocab", json_true());
    if (rng_chance(r, 50))
        json_object_set_new(layout, "keep", json_string(rng_chance(r, 50) ? "whole" : "part"));
    if (s->p > 1 && rng_chance(r, 50))
        json_object_set_new(layout, "tp_stream", json_string(random_stream(j)));
    if (s->c > 1 && rng_chance(r, 50))
        json_object_set_new(layout, "cp_stream", json_string(random_stream(j)));
}
