#include "train/pieces.h"

#include "base/number.h"
#include "exec/bucket_view.h"

/* Adds the pieces of bucket b inside `in`; data, m, v stand at the first element of the range. */
static void add(const struct plan *p, uint32_t rank, const struct plan_bucket *b, struct bucket_view_range in,
                const struct checkpoint_piece *at, struct pieces *out)
{
    for (uint32_t i = b->first_piece; i < b->first_piece + b->n_pieces; i++) {
        struct bucket_view_piece s = { 0 };
        while (bucket_view_next(p, i, rank, in, &s)) {
            uint64_t from = s.offset - in.first;
            vec_add(&out->list, ((struct checkpoint_piece){
                                    .param = s.param,
                                    .first = s.first,
                                    .count = s.count,
                                    .data = at->data + from,
                                    .m = at->m ? at->m + from : NULL,
                                    .v = at->v ? at->v + from : NULL,
                                }));
        }
    }
}

/* The float32 values of the range `in`, which lies inside what this rank keeps state of. */
static struct checkpoint_piece state_at(const struct bucket_view *s, struct bucket_view_range in)
{
    uint64_t from = in.first - s->state.first;
    return (struct checkpoint_piece){
        .data = s->master ? s->master + from : (float *)s->param + (in.first - s->params.first),
        .m = s->m ? s->m + from : NULL,
        .v = s->v ? s->v + from : NULL,
    };
}

/* The same values in the snapshot, and how they get there. */
static struct checkpoint_piece snapshot_of(const struct bucket_view *s, const struct checkpoint_piece *at,
                                           struct pieces *out)
{
    float *const from[] = { at->data, at->m, at->v };
    float *to[3] = { NULL }, *next = s->snapshot;
    for (int i = 0; i < 3; i++) {
        if (!from[i])
            continue;
        to[i] = next;
        next += s->own.count;
        vec_add(&out->copies, ((struct exec_copy){ to[i], from[i], s->own.count * sizeof(float) }));
    }
    return (struct checkpoint_piece){ .data = to[0], .m = to[1], .v = to[2] };
}

void pieces_to_write(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *out)
{
    *out = (struct pieces){ 0 };
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS]; b++) {
        struct bucket_view s = bucket_view_of(p, b, rank, base);
        struct checkpoint_piece at = state_at(&s, s.own);
        if (s.snapshot)
            at = snapshot_of(&s, &at, out);
        add(p, rank, &p->buckets[b], s.own, &at, out);
    }
}

void pieces_to_look_at(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *out)
{
    *out = (struct pieces){ 0 };
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS]; b++) {
        const struct bucket_view s = bucket_view_of(p, b, rank, base);
        const struct checkpoint_piece at = { .data = state_at(&s, s.own).data };
        add(p, rank, &p->buckets[b], s.own, &at, out);
    }
}

/* Parameters that are read by way of float32. */
static uint64_t by_way(const struct bucket_view *s)
{
    return s->type == IR_F32 ? 0 : s->params.count;
}

/* Those of all buckets one after the other. */
static uint64_t block_elements(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT])
{
    uint64_t n = 0;
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS]; b++) {
        const struct bucket_view s = bucket_view_of(p, b, rank, base);
        n += by_way(&s);
    }
    return n;
}

void pieces_to_read(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *out)
{
    *out = (struct pieces){ 0 };
    const uint64_t n = block_elements(p, rank, base);
    float *block = out->block = n ? mem_alloc(n * sizeof *out->block) : NULL;
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS]; b++) {
        struct bucket_view s = bucket_view_of(p, b, rank, base);
        const bool apart = by_way(&s) > 0;
        struct checkpoint_piece state = state_at(&s, s.state), params = { .data = apart ? block : s.param };
        add(p, rank, &p->buckets[b], s.state, &state, out);
        if (apart || s.state.count != s.params.count)
            add(p, rank, &p->buckets[b], s.params, &params, out);
        if (apart)
            block += by_way(&s);
    }
}

void pieces_take(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *from)
{
    const float *block = from->block;
    for (uint32_t b = 0; block && b < p->h->count[PLAN_S_BUCKETS]; b++) {
        struct bucket_view s = bucket_view_of(p, b, rank, base);
        for (uint64_t i = 0; i < by_way(&s); i++)
            ((uint16_t *)s.param)[i] = number_to_bf16(block[i]);
        block += by_way(&s);
    }
}

void pieces_release(struct pieces *s)
{
    vec_free(&s->list);
    vec_free(&s->copies);
    mem_free(s->block);
    s->block = NULL;
}
