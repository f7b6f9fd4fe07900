/* Buckets: which parameters are reduced and updated together, and who holds them (piper-strategy(5), replicate).
 *
 * The parameters of a sub-chunk form one bucket; a parameter that several sub-chunks use is a bucket of its own. The holders
 * of a bucket are all devices of all classes that run one of those sub-chunks, for whatever reason: replicas and tied
 * stages are one mechanism. Needs: sub-chunks, classes. */
#include <stdlib.h>

#include "sched/passes.h"

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Classes that run a sub-chunk, appended to bucket_classes. */
static void add_classes(struct sched *s, uint32_t sub)
{
    uint32_t c = s->chunks.subs.at[sub].chunk;
    for (uint32_t mb = 0; mb < s->microbatches; mb++)
        vec_add(&s->bucket_classes, s->sets.at[s->set_of[c * s->microbatches + mb]].class_id);
}

static void finish_classes(struct sched *s, struct bucket *b)
{
    uint32_t *at = s->bucket_classes.at + b->first_class, n = s->bucket_classes.n - b->first_class, out = 0;
    qsort(at, n, sizeof *at, by_value);
    for (uint32_t i = 0; i < n; i++)
        if (!out || at[out - 1] != at[i])
            at[out++] = at[i];
    b->n_classes = out;
    s->bucket_classes.n = b->first_class + out;
    for (uint32_t i = 0; i < out; i++)
        b->holders += s->classes.at[at[i]].n;
    if (b->shard != IR_NONE)
        b->holders = s->directives.at[b->shard].n_shard_sets;
}

/* Parameters that decay first; each starts at the target's alignment; the end is padded so that
 * every holder's part is equal and starts at 16 bytes. */
static void lay_out(struct sched *s, struct bucket *b, uint32_t parts)
{
    uint32_t align = elements_of(s, s->in->target->alignment);
    uint64_t at = 0;
    uint32_t *p = s->bucket_params.at + b->first_param, n = b->n_params, k = 0;
    uint32_t *sorted = mem_alloc(n * sizeof *sorted);
    for (int decay = 1; decay >= 0; decay--) {
        for (uint32_t i = 0; i < n; i++)
            if (s->g->params.at[p[i]].decays == (decay == 1)) {
                sorted[k++] = p[i];
                at = round_up(at, align) + ir_shape_elements(&s->g->params.at[p[i]].shape) / parts;
            }
        if (decay)
            b->n_decay = at;
    }
    memcpy(p, sorted, n * sizeof *sorted);
    mem_free(sorted);
    b->elements = round_up(round_up(at, align), (uint64_t)b->holders * elements_of(s, 16));
}

/* Does every class of the bucket have gradients of every microbatch? Not where the microbatches of a stage are placed on
 * disjoint sets: then a reduction per microbatch would wait for terms that nobody computes. */
static bool every_microbatch(const struct sched *s, const struct bucket *b, uint32_t number)
{
    uint32_t found = 0, m = s->microbatches;
    for (uint32_t k = 0; k < b->n_classes; k++)
        for (uint32_t mb = 0; mb < m; mb++) {
            bool runs = false;
            for (uint32_t i = 0; i < s->chunks.subs.n && !runs; i++) {
                const struct ir_sub *sub = &s->chunks.subs.at[i];
                uint32_t set = s->set_of[sub->chunk * m + mb];
                for (uint32_t q = 0; q < sub->n_param && !runs; q++)
                    runs = s->bucket_of[s->chunks.params.at[sub->first_param + q]] == number &&
                           s->sets.at[set].class_id == s->bucket_classes.at[b->first_class + k];
            }
            found += runs;
        }
    return found == b->n_classes * m;
}

/* Copies that nothing keeps equal would drift apart: several replicas of a chunk with parameters need replicate. */
static enum status set_streams(struct sched *s, struct bucket *b, uint32_t chunk, struct err *e)
{
    uint32_t r = s->replicate_of[chunk];
    const struct directive *d = r == IR_NONE ? NULL : &s->directives.at[r];
    b->reduce_stream = d ? d->reduce_stream : s->stream_of[chunk];
    b->gather_stream = d ? d->gather_stream : 0;
    if (d && b->holders > 1) {
        b->reduce_each = d->reduce_each && (b->n_classes == 1 || every_microbatch(s, b, (uint32_t)(b - s->buckets.at)));
        b->prefetch = d->prefetch;
        /* several classes use a tied parameter at different times: they gather it together, at the start of the step */
        b->zero = b->n_classes > 1 && zero_shards_grads(d->zero) ? ZERO_STATE : d->zero;
    }
    if (d || s->replicas == 1)
        return ST_OK;
    char text[160], set[160];
    return err_set(e, ST_INPUT, s->in->strategy_name,
                   "%s is on devices %s, so its parameters have %u copies, but no replicate directive covers it: add "
                   "{\"op\":\"replicate\",\"filter\":...,\"devices\":%s}",
                   chunk_text(s, chunk, text, sizeof text),
                   devices_text(s, s->set_of[chunk * s->microbatches], set, sizeof set), s->replicas, set);
}

static struct bucket *new_bucket(struct sched *s)
{
    struct bucket *b = vec_push(&s->buckets);
    *b = (struct bucket){ .first_param = s->bucket_params.n, .first_class = s->bucket_classes.n, .shard = IR_NONE };
    return b;
}

/* A parameter that several sub-chunks use; chunk: of the first of them. */
static enum status tied_bucket(struct sched *s, uint32_t param, uint32_t chunk, struct err *e)
{
    struct bucket *b = new_bucket(s);
    s->bucket_of[param] = s->buckets.n - 1;
    vec_add(&s->bucket_params, param);
    b->n_params = 1;
    for (uint32_t j = 0; j < s->chunks.subs.n; j++)
        for (uint32_t q = 0; q < s->chunks.subs.at[j].n_param; q++)
            if (s->chunks.params.at[s->chunks.subs.at[j].first_param + q] == param)
                add_classes(s, j);
    finish_classes(s, b);
    lay_out(s, b, 1);
    return set_streams(s, b, chunk, e);
}

/* The parameters that this sub-chunk alone uses, if there are any. users: sub-chunks that use a parameter. */
static enum status own_bucket(struct sched *s, uint32_t sub, const uint32_t *users, struct err *e)
{
    const struct ir_sub *u = &s->chunks.subs.at[sub];
    struct bucket *b = NULL;
    for (uint32_t k = 0; k < u->n_param; k++) {
        uint32_t p = s->chunks.params.at[u->first_param + k];
        if (users[p] >= 2)
            continue;
        b = b ? b : new_bucket(s);
        s->bucket_of[p] = s->buckets.n - 1;
        vec_add(&s->bucket_params, p);
        b->n_params++;
    }
    if (!b)
        return ST_OK;
    add_classes(s, sub);
    b->shard = s->shard_of[u->chunk];
    finish_classes(s, b);
    lay_out(s, b, expert_parts(s, u->chunk));
    return set_streams(s, b, u->chunk, e);
}

static enum status buckets_of_sub(struct sched *s, uint32_t sub, const uint32_t *users, struct err *e)
{
    const struct ir_sub *u = &s->chunks.subs.at[sub];
    for (uint32_t k = 0; k < u->n_param; k++) {
        uint32_t p = s->chunks.params.at[u->first_param + k];
        if (users[p] >= 2 && s->bucket_of[p] == IR_NONE)
            TRY(tied_bucket(s, p, u->chunk, e));
    }
    return own_bucket(s, sub, users, e);
}

enum status pass_buckets(struct sched *s, struct err *e)
{
    uint32_t n = s->g->params.n;
    uint32_t *users = mem_alloc(n * sizeof *users);
    s->bucket_of = arena_array(&s->arena, uint32_t, n);
    memset(s->bucket_of, 0xff, n * sizeof *s->bucket_of);
    for (uint32_t i = 0; i < s->chunks.params.n; i++)
        users[s->chunks.params.at[i]]++;
    enum status st = ST_OK;
    for (uint32_t i = 0; i < s->chunks.subs.n && st == ST_OK; i++)
        st = buckets_of_sub(s, i, users, e);
    mem_free(users);
    return st;
}
