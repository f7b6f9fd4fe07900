#include "exec/bucket_view.h"

static void *at(unsigned char *base, uint64_t offset)
{
    return !base || offset == UINT64_MAX ? NULL : base + offset; /* an arena without bytes has no base */
}

struct bucket_view bucket_view_of(const struct plan *p, uint32_t bucket, uint32_t rank,
                                  unsigned char *const base[ARENA_COUNT])
{
    const struct plan_bucket *b = &p->buckets[bucket];
    const uint64_t holders = plan_group_size(p, b->holders, rank), n = plan_shard_elements(b, (uint32_t)holders);
    const uint64_t k = plan_group_index(p, b->zero_group ? b->shard : b->holders, rank);
    struct bucket_view_range whole = { 0, b->elements }, shard = { n * k, n }, own = shard;
    if (b->zero_group) {
        own.count = b->elements / holders;
        own.first += own.count * plan_group_index(p, b->copies, rank);
    }
    return (struct bucket_view){
        .type = (enum ir_dtype)b->type,
        .own = own,
        .shard = shard,
        .params = zero_shards_params(b->zero) ? shard : whole,
        .grads = zero_shards_grads(b->zero) ? shard : whole,
        .state = !zero_shards_state(b->zero) ? whole
                 : b->state_all              ? own
                                             : shard,
        .param = at(base[ARENA_PARAMS], b->param),
        .grad = at(base[ARENA_GRADS], b->grad),
        .master = at(base[ARENA_OPTIM], b->master),
        .m = at(base[ARENA_OPTIM], b->m),
        .v = at(base[ARENA_OPTIM], b->v),
        .snapshot = at(base[ARENA_SNAPSHOT], b->snapshot),
    };
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool bucket_view_next(const struct plan *p, uint32_t piece, uint32_t rank, struct bucket_view_range in,
                      struct bucket_view_piece *at)
{
    const struct plan_piece *q = &p->pieces[piece];
    uint64_t block = 0, count = q->count;
    if (q->split > 1)
        block = (uint64_t)plan_group_index(p, q->owners, rank) * q->split / plan_group_size(p, q->owners, rank);
    if (q->elements) /* the last block may be short */
        count = least(count, q->elements - least(q->elements, block * q->count));
    uint64_t lo = at->count ? at->offset + at->count : q->offset > in.first ? q->offset : in.first;
    uint64_t hi = least(q->offset + count, in.first + in.count);
    if (lo >= hi)
        return false;
    uint64_t from = lo - q->offset, n = hi - lo, first = q->first + block * q->count + from;
    if (q->run) {
        first = q->first + from / q->run * q->stride + block * q->run + from % q->run;
        n = least(n, q->run - from % q->run);
    }
    *at = (struct bucket_view_piece){ q->part_of ? q->part_of - 1 : q->param, first, n, lo };
    return true;
}
