/* How a call becomes rounds of messages.
 *
 * Everything is point-to-point: in one round each member sends at most one message to, and receives at most one from,
 * each other member, and both ends compute the same sizes. Reductions add their terms in the order of the members, so
 * the sums are equal to the bit on all members, on every run, for every way of cutting a tensor into buckets or
 * shards, and for all-reduce and reduce-scatter alike; MPI's own collectives promise none of these. Volume is that of
 * a ring (2(p-1)/p of the data for an all-reduce), in two steps. Very wide groups would need too many connections for
 * it: there the all-reduce is MPI's. */
#include <string.h>

#include "comm/mpi_private.h"
#include "comm/rows.h"

struct comm__limits comm__limits = {
    .scratch = COMM_SCRATCH,
    .small = UINT64_C(16) << 10,
    .direct = 64,
};

/* Of n elements behind the first ones. Where there are none the base may be NULL: hence numbers, C does not define NULL + 0. */
static struct comm__part part(const void *base, uint64_t first, uint64_t n, uint64_t size)
{
    return (struct comm__part){ (unsigned char *)((uintptr_t)base + first * size), n * size };
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- reductions: where the terms of a round lie ------------------------------------------------------------------ */

/* One round of summing: the elements that this rank sums, and the place of the terms that it receives. */
struct reduction {
    bool one_round;        /* all-reduce: all terms to all members */
    bool gather;           /* all-reduce, second half of a piece: summed blocks to all members */
    uint64_t lo, n;        /* piece: first element, elements */
    uint64_t block;        /* all-reduce: elements per member; reduce-scatter: n */
    uint64_t mine, mine_n; /* this rank's part of the piece */
};

static uint64_t block_at(const struct reduction *r, uint64_t i)
{
    return min_u64(i * r->block, r->n);
}

/* False: the call has no such round. */
static bool all_reduce_round(const struct comm *c, const struct comm__channel *ch, const struct comm_call *call,
                             uint64_t round, struct reduction *r)
{
    uint64_t p = ch->group.count, size = comm_type_size(call->type), n = call->count;
    uint64_t scratch = c->streams[ch->stream].scratch_bytes;
    *r = (struct reduction){ 0 };
    if (p == 1 || n * size * p <= min_u64(c->limits.small, scratch)) { /* alone: no terms of others, no scratch */
        *r = (struct reduction){ .one_round = true, .n = n, .block = n, .mine_n = n };
        return round == 0;
    }
    uint64_t most = scratch / (p * size) * p; /* elements of a piece */
    uint64_t pieces = (n + most - 1) / most;
    uint64_t piece = (n + pieces - 1) / pieces;
    r->lo = round / 2 * piece;
    if (r->lo >= n)
        return false;
    r->gather = round % 2;
    r->n = min_u64(piece, n - r->lo);
    r->block = (r->n + p - 1) / p;
    r->mine = block_at(r, ch->me);
    r->mine_n = block_at(r, ch->me + UINT64_C(1)) - r->mine;
    return true;
}

static bool reduce_scatter_round(const struct comm *c, const struct comm__channel *ch, const struct comm_call *call,
                                 uint64_t round, struct reduction *r)
{
    uint64_t scratch = c->streams[ch->stream].scratch_bytes;
    uint64_t p = ch->group.count, piece = p == 1 ? call->count : scratch / (p * comm_type_size(call->type));
    uint64_t lo = round * piece;
    if (lo >= call->count && round)
        return false;
    uint64_t n = min_u64(piece, call->count - lo);
    *r = (struct reduction){ .lo = lo, .n = n, .block = n, .mine_n = n };
    return true;
}

static bool reduction_round(const struct comm *c, const struct comm__channel *ch, const struct comm_call *call,
                            uint64_t round, struct reduction *r)
{
    return call->op == COMM_ALL_REDUCE ? all_reduce_round(c, ch, call, round, r)
                                       : reduce_scatter_round(c, ch, call, round, r);
}

/* The term of member i that this rank sends to member `to`, as first element of src. */
static uint64_t term_for(const struct reduction *r, const struct comm_call *call, uint64_t to)
{
    if (call->op == COMM_REDUCE_SCATTER)
        return to * call->count + r->lo;
    return r->lo + (r->one_round ? 0 : block_at(r, to));
}

static bool fill_reduction(struct comm *c, struct comm__stream *s, const struct comm__channel *ch,
                           const struct comm_call *call)
{
    struct reduction r;
    if (!reduction_round(c, ch, call, s->round, &r))
        return false;
    uint64_t size = comm_type_size(call->type);
    bool blocks = call->op == COMM_ALL_REDUCE && !r.one_round;
    for (uint32_t i = 0; i < ch->group.count; i++) {
        uint64_t n = blocks ? block_at(&r, i + UINT64_C(1)) - block_at(&r, i) : r.n;
        if (r.gather) {
            s->send[i] = part(call->dst, r.lo + r.mine, r.mine_n, size);
            s->recv[i] = part(call->dst, r.lo + block_at(&r, i), n, size);
        } else {
            s->send[i] = part(call->src, term_for(&r, call, i), n, size);
            s->recv[i] = part(s->scratch, i * r.block, r.mine_n, size);
        }
    }
    return true;
}

static void finish_reduction(struct comm *c, struct comm__stream *s, const struct comm__channel *ch,
                             const struct comm_call *call)
{
    struct reduction r;
    if (!reduction_round(c, ch, call, s->round, &r) || r.gather)
        return;
    uint64_t size = comm_type_size(call->type);
    struct comm__terms t = {
        .scratch = s->scratch,
        .own = part(call->src, term_for(&r, call, ch->me), 0, size).p,
        .stride = r.block * size,
        .me = ch->me,
        .members = ch->group.count,
    };
    comm__sum(call->type, part(call->dst, r.lo + r.mine, 0, size).p, &t, r.mine_n);
}

/* ---- transfers: whole parts first, then the slice of this round -------------------------------------------------- */

static uint64_t rows_of(const int32_t *counts, uint32_t member, uint32_t per_member)
{
    uint64_t n = 0;
    for (uint32_t i = member * per_member; i < (member + 1) * per_member; i++) {
        CHECK(counts[i] >= 0);
        n += (uint64_t)counts[i];
    }
    return n;
}

static void fill_rows(const struct comm *c, struct comm__stream *s, const struct comm_call *call, uint32_t members,
                      uint64_t size)
{
    uint64_t out = 0, in = 0, row = call->row * size;
    for (uint32_t i = 0; i < members; i++) {
        uint64_t sent = rows_of(call->send_rows, i, call->row_counts),
                 got = rows_of(call->recv_rows, i, call->row_counts);
        s->send[i] = part(call->src, out, sent, row);
        s->recv[i] = part(call->dst, in, got, row);
        out += sent;
        in += got;
    }
    if (in > call->max_rows)
        c->overflow(c->overflow_self, call->event, in);
}

static void fill_round(struct comm__stream *s, const struct comm_call *call, uint32_t members, uint32_t me)
{
    const struct comm_rounds r = { call->send_rows, members, call->row_counts, call->max_rows };
    const uint64_t row = call->row * comm_type_size(call->type);
    for (uint32_t i = 0; i < members; i++) {
        const struct comm_rows out = comm_rows_of_round(&r, call->round, me, i),
                               in = comm_rows_of_round(&r, call->round, i, me);
        s->send[i] = call->back ? part(call->src, in.received, in.n, row) : part(call->src, out.sent, out.n, row);
        s->recv[i] = call->back ? part(call->dst, out.sent, out.n, row) : part(call->dst, in.received, in.n, row);
    }
}

static struct comm__part slice(struct comm__part p, uint64_t round, uint64_t most, bool *any)
{
    uint64_t lo = min_u64(round * most, p.bytes);
    *any |= lo < p.bytes;
    return part(p.p, lo, min_u64(most, p.bytes - lo), 1);
}

static bool fill_transfer(struct comm *c, struct comm__stream *s, const struct comm_call *call, uint32_t members,
                          uint32_t me)
{
    uint64_t size = comm_type_size(call->type);
    bool any = s->round == 0;
    if (call->op == COMM_ALL_TO_ALL_V)
        fill_rows(c, s, call, members, size);
    if (call->op == COMM_ROWS)
        fill_round(s, call, members, me);
    for (uint32_t i = 0; i < members; i++) {
        if (call->op == COMM_ALL_GATHER) {
            s->send[i] = part(call->src, 0, call->count, size);
            s->recv[i] = part(call->dst, i * call->count, call->count, size);
        } else if (call->op == COMM_SHIFT) {
            s->send[i] = part(i == (me + 1) % members ? call->src : NULL, 0, i == (me + 1) % members ? call->count : 0,
                              size);
            s->recv[i] = part(i == (me + members - 1) % members ? call->dst : NULL, 0,
                              i == (me + members - 1) % members ? call->count : 0, size);
        } else if (call->op == COMM_ALL_TO_ALL) {
            s->send[i] = part(call->src, i * call->count, call->count, size);
            s->recv[i] = part(call->dst, i * call->count, call->count, size);
        }
        if (i == me) {
            CHECK(s->send[i].bytes == s->recv[i].bytes);
            if (s->round == 0 && !call->device && s->send[i].bytes && s->send[i].p != s->recv[i].p)
                memmove(s->recv[i].p, s->send[i].p, s->send[i].bytes);
            continue;
        }
        s->send[i] = slice(s->send[i], s->round, comm__message, &any);
        s->recv[i] = slice(s->recv[i], s->round, comm__message, &any);
    }
    return any;
}

/* ---- posting ----------------------------------------------------------------------------------------------------- */

/* Round 0 carries a message for every pair, also an empty one, so that ends that disagree about a size are found. Later
 * rounds have none for a pair that is through: the other end may have no more rounds. A shift has two pairs. */
static bool travels(const struct comm__stream *s, const struct comm_call *call, const struct comm__part *p)
{
    return (s->round == 0 && call->op != COMM_SHIFT) || p->bytes;
}

static void post_receive(struct comm__stream *s, struct comm__part p, uint32_t from, int tag, MPI_Comm comm)
{
    s->expected[s->n_received++] = (int)p.bytes;
    CALL(MPI_Irecv, p.p, (int)p.bytes, MPI_BYTE, (int)from, tag, comm, &s->request[s->n_requests++]);
}

static void post_send(struct comm__stream *s, struct comm__part p, uint32_t to, int tag, MPI_Comm comm)
{
    MPI_Request *request = &s->request[s->n_requests++];
    if (s->meets)
        CALL(MPI_Issend, p.p, (int)p.bytes, MPI_BYTE, (int)to, tag, comm, request);
    else
        CALL(MPI_Isend, p.p, (int)p.bytes, MPI_BYTE, (int)to, tag, comm, request);
}

/* SEND and RECV: the part is cut into messages of comm__message, one a round, matched in their order. */
static bool post_pair(struct comm *c, struct comm__stream *s, const struct comm_call *call)
{
    bool any = s->round == 0;
    const void *base = call->op == COMM_SEND ? call->src : call->dst;
    struct comm__part p = slice(part(base, 0, call->count, comm_type_size(call->type)), s->round, comm__message, &any);
    if (!any)
        return false;
    if (call->op == COMM_SEND)
        post_send(s, p, call->peer, (int)call->tag, c->pairs);
    else
        post_receive(s, p, call->peer, (int)call->tag, c->pairs);
    return true;
}

/* The all-reduce of a wide group, in place, in messages that MPI's int counts can hold. */
static bool post_wide(struct comm__stream *s, const struct comm__channel *ch, const struct comm_call *call)
{
    static const MPI_Datatype type[] = { [COMM_F32] = MPI_FLOAT, [COMM_F64] = MPI_DOUBLE, [COMM_I32] = MPI_INT32_T };
    uint64_t size = comm_type_size(call->type), piece = comm__message / size;
    uint64_t lo = s->round * piece;
    if (lo >= call->count)
        return false;
    if (s->round == 0 && call->src != call->dst)
        memcpy(call->dst, call->src, call->count * size);
    CALL(MPI_Iallreduce, MPI_IN_PLACE, part(call->dst, lo, 0, size).p, (int)min_u64(piece, call->count - lo),
         type[call->type], MPI_SUM, ch->wide, &s->request[s->n_requests++]);
    return true;
}

static bool post_exchange(struct comm *c, struct comm__stream *s, const struct comm_call *call)
{
    bool any = s->round == 0;
    uint64_t size = comm_type_size(call->type);
    struct comm__part out = slice(part(call->src, 0, call->count, size), s->round, comm__message, &any);
    struct comm__part in = slice(part(call->dst, 0, call->count, size), s->round, comm__message, &any);
    if (!any)
        return false;
    post_receive(s, in, call->from, (int)call->tag, c->pairs);
    post_send(s, out, call->peer, (int)call->tag, c->pairs);
    return true;
}

void comm__add(const struct comm_call *call)
{
    CHECK(call->type == COMM_F32);
    float *dst = call->dst;
    const float *src = call->src;
    if (call->replace)
        memcpy(dst, src, call->count * sizeof *dst);
    for (uint64_t i = 0; i < call->count && !call->replace; i++)
        dst[i] += src[i];
}

bool comm__round_post(struct comm *c, struct comm__stream *s, const struct comm_call *call)
{
    s->n_requests = s->n_received = 0;
    s->meets = call->least > 0;
    if (call->op == COMM_ADD) {
        comm__add(call);
        return false;
    }
    if (call->op == COMM_EXCHANGE)
        return post_exchange(c, s, call);
    if (call->op == COMM_SEND || call->op == COMM_RECV)
        return post_pair(c, s, call);
    const struct comm__channel *ch = &c->channels[call->channel];
    bool reduces = call->op == COMM_ALL_REDUCE || call->op == COMM_REDUCE_SCATTER;
    if (call->op == COMM_ALL_REDUCE && ch->wide != MPI_COMM_NULL)
        return post_wide(s, ch, call);
    uint32_t p = ch->group.count;
    if (!(reduces ? fill_reduction(c, s, ch, call) : fill_transfer(c, s, call, p, ch->me)))
        return false;
    /* Neighbours first and each rank from its own place on, so that no member is everybody's first target. */
    for (uint32_t d = 1; d < p; d++) {
        uint32_t i = (uint32_t)((ch->me + (uint64_t)p - d) % p);
        if (travels(s, call, &s->recv[i]))
            post_receive(s, s->recv[i], comm_group_rank(&ch->group, i), ch->tag, c->members);
    }
    for (uint32_t d = 1; d < p; d++) {
        uint32_t i = (uint32_t)((ch->me + (uint64_t)d) % p);
        if (travels(s, call, &s->send[i]))
            post_send(s, s->send[i], comm_group_rank(&ch->group, i), ch->tag, c->members);
    }
    return true;
}

void comm__round_finish(struct comm *c, struct comm__stream *s, const struct comm_call *call)
{
    for (uint32_t i = 0; i < s->n_received; i++) {
        int found = 0;
        CALL(MPI_Get_count, &s->status[i], MPI_BYTE, &found);
        if (found != s->expected[i])
            comm__mpi_lost("a message from rank %d with tag %d has %d bytes, expected %d: the plans of the two ranks "
                           "do not match",
                           s->status[i].MPI_SOURCE, s->status[i].MPI_TAG, found, s->expected[i]);
    }
    if (call->op == COMM_REDUCE_SCATTER ||
        (call->op == COMM_ALL_REDUCE && c->channels[call->channel].wide == MPI_COMM_NULL))
        finish_reduction(c, s, &c->channels[call->channel], call);
}
