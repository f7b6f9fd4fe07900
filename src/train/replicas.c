#include "train/replicas.h"

#include <stdlib.h>

#include "comm/world.h"
#include "base/number.h"
#include "exec/bucket_view.h"

/* What a rank holds of a tensor: stretches with the same key are copies. */
struct copy {
    uint32_t param, rank;
    uint64_t first, count;
    uint64_t values, state; /* hashes; state 0: this rank keeps no moments of exactly this stretch */
};

struct replicas {
    const struct ir_graph *g;
    const struct plan *p;
    unsigned char *const *base;
    uint32_t rank, n_ranks;
    uint64_t most;           /* copies of a rank at most */
    struct copy *mine, *all; /* [most], [most*n_ranks]; count 0: none */
};

/* Stretches of a rank at most: a bucket's pieces, cut at the borders of its holders' parts. */
static uint64_t stretches(const struct plan *p, uint32_t rank)
{
    uint64_t n = 0;
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS]; b++)
        n += p->buckets[b].n_pieces + plan_group_size(p, p->buckets[b].holders, rank);
    for (uint32_t i = 0; i < p->h->count[PLAN_S_PIECES]; i++)
        n += p->pieces[i].run ? p->pieces[i].count / p->pieces[i].run : 0;
    return n;
}

struct replicas *replicas_open(const struct ir_graph *g, const struct plan *p, uint32_t rank,
                               unsigned char *const base[ARENA_COUNT])
{
    struct replicas *r = mem_alloc(sizeof *r);
    *r = (struct replicas){
        .g = g, .p = p, .base = base, .rank = rank, .n_ranks = world_size(), .most = stretches(p, rank)
    };
    world_max_u64(&r->most, 1);
    r->mine = mem_alloc(r->most * sizeof *r->mine);
    r->all = mem_alloc(r->most * r->n_ranks * sizeof *r->all);
    return r;
}

void replicas_close(struct replicas *r)
{
    if (!r)
        return;
    mem_free(r->mine);
    mem_free(r->all);
    mem_free(r);
}

static uint64_t hash_state(const struct bucket_view *s, const struct bucket_view_piece *piece)
{
    uint64_t from = piece->offset - s->state.first, bytes = piece->count * sizeof(float), h = 1;
    const float *const parts[] = { s->master, s->m, s->v };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i])
            h = number_hash(parts[i] + from, bytes, h);
    return h;
}

static void add(struct replicas *r, uint64_t *n, const struct bucket_view *s, uint32_t piece,
                struct bucket_view_range in)
{
    uint32_t size = ir_dtype_size(s->type, s->type);
    struct bucket_view_piece held = { 0 };
    while (bucket_view_next(r->p, piece, r->rank, in, &held)) {
        /* moments of exactly this stretch: of whole parameters, or of the part of a holder that is one stretch */
        bool same = held.offset >= s->state.first && held.offset + held.count <= s->state.first + s->state.count;
        const unsigned char *values = (const unsigned char *)s->param + (held.offset - s->params.first) * size;
        CHECK(*n < r->most);
        r->mine[(*n)++] = (struct copy){ .param = held.param,
                                         .rank = r->rank,
                                         .first = held.first,
                                         .count = held.count,
                                         .values = number_hash(values, held.count * size, 0),
                                         .state = same ? hash_state(s, &held) : 0 };
    }
}

/* Where only the owner of a part updates it, the others get the new values with the next step: until then the owner's are
 * ahead of the copies, which are compared among themselves. Frozen ones stay what they are on all. */
static void collect_bucket(struct replicas *r, uint64_t *n, uint32_t b)
{
    const struct plan_bucket *bucket = &r->p->buckets[b];
    struct bucket_view s = bucket_view_of(r->p, b, r->rank, r->base);
    bool ahead = s.state.count < s.params.count && bucket->rule != PLAN_RULE_FROZEN;
    for (uint32_t i = bucket->first_piece; i < bucket->first_piece + bucket->n_pieces; i++) {
        if (!ahead)
            add(r, n, &s, i, s.params);
        for (uint64_t at = s.params.first; ahead && at < s.params.first + s.params.count; at += s.state.count)
            if (at != s.state.first)
                add(r, n, &s, i, (struct bucket_view_range){ at, s.state.count });
    }
}

static uint64_t collect(struct replicas *r)
{
    uint64_t n = 0;
    for (uint32_t b = 0; b < r->p->h->count[PLAN_S_BUCKETS]; b++)
        collect_bucket(r, &n, b);
    return n;
}

static int by_stretch(const void *a, const void *b)
{
    const struct copy *x = a, *y = b;
    if (x->param != y->param)
        return x->param < y->param ? -1 : 1;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    if (x->count != y->count)
        return x->count < y->count ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static bool copies(const struct copy *a, const struct copy *b)
{
    return a->count && a->param == b->param && a->first == b->first && a->count == b->count;
}

enum status replicas_compare(struct replicas *r, uint64_t step, struct err *e)
{
    uint64_t n = collect(r), total = r->most * r->n_ranks;
    memset(r->mine + n, 0, (r->most - n) * sizeof *r->mine);
    world_all_gather(r->mine, r->most * sizeof *r->mine, r->all);
    qsort(r->all, total, sizeof *r->all, by_stretch);
    for (uint64_t i = 1; i < total; i++) {
        const struct copy *a = &r->all[i - 1], *b = &r->all[i];
        if (!copies(a, b) || (a->values == b->values && (!a->state || !b->state || a->state == b->state)))
            continue;
        return err_set(e, ST_BUG, NULL,
                       "after step %llu the replicas of %s (elements %llu to %llu) on ranks %u and %u differ in %s; "
                       "expected bitwise identical: a bug in piper, or faulty hardware",
                       (unsigned long long)step, r->g->params.at[a->param].name, (unsigned long long)a->first,
                       (unsigned long long)(a->first + a->count - 1), a->rank, b->rank,
                       a->values != b->values ? "value" : "optimizer state");
    }
    return ST_OK;
}
