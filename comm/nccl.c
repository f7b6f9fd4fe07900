/* Device memory by NCCL: a call is enqueued on the stream of the plan, also while the stream is captured, and the device does
 * it. What NCCL does not promise comes from elsewhere: that all members call in one order from the plan, that communicators in
 * flight together fit onto the device from the compiler (sched/fit.c), what waits for what from the executor's events. */
#include "base/mem.h"
#include "comm/nccl_private.h"
#include "comm/rows.h"

static ncclDataType_t type_of(enum comm_type type)
{
    static const ncclDataType_t types[] = { [COMM_F32] = ncclFloat32,
                                            [COMM_BF16] = ncclBfloat16,
                                            [COMM_F64] = ncclFloat64,
                                            [COMM_I32] = ncclInt32,
                                            [COMM_BYTE] = ncclUint8 };
    return types[type];
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

static struct comm__nccl place_in(const struct comm_group *group)
{
    struct comm__nccl m = { .group = *group, .me = comm_group_index(group, world_rank()) };
    CHECK(m.me != UINT32_MAX);
    return m;
}

static enum status make(struct comm *c, const struct comm_setup *setup, struct err *e)
{
    if (!setup->device_streams)
        return world_agree(err_set(e, ST_DEVICE, "comm nccl", "it requires device memory; use --comm mpi"), e);
    for (uint32_t i = 0; i < setup->n_channels; i++)
        c->made[i] = place_in(&setup->channels[i].group);
    for (uint32_t i = 0; i < setup->n_lanes; i++)
        c->made[setup->n_channels + i] = place_in(&setup->lanes[i].group);
    TRY(comm__nccl_make(c, setup, e));
    return world_agree(comm__nccl_watch(c, e), e);
}

static void release(struct comm *c)
{
    comm__nccl_unwatch(c);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->made);
    mem_free(c);
}

static enum status nccl_open(const struct comm_setup *setup, struct comm **out, struct err *e)
{
    TRY(world_agree(comm__nccl_load(e), e));
    struct comm *c = mem_alloc(sizeof *c);
    c->n_channels = setup->n_channels;
    c->n_lanes = setup->n_lanes;
    c->made = mem_alloc((comm__nccl_count(c) + 1) * sizeof *c->made);
    c->streams = setup->device_streams;
    c->copy = setup->device_copy;
    c->overflow = setup->overflow;
    c->self = setup->self;
    pthread_mutex_init(&c->lock, NULL);
    enum status st = make(c, setup, e);
    if (st != ST_OK) {
        comm__nccl_abort(c);
        release(c);
        return st;
    }
    *out = c;
    return ST_OK;
}

/* All at once, since each waits for its members. */
static void nccl_close(struct comm *c)
{
    uint32_t n = comm__nccl_count(c);
    comm__nccl_unwatch(c);
    c->watched = false;
    for (uint32_t i = 0; i < n; i++)
        if (c->made[i].comm)
            ncclCommFinalize(c->made[i].comm);
    for (uint32_t i = 0; i < n; i++)
        if (c->made[i].comm) {
            comm__nccl_settle(c, c->made[i].comm, ncclInProgress, 10);
            ncclCommDestroy(c->made[i].comm);
        }
    comm__nccl_settle(c, c->world, ncclCommFinalize(c->world), 10);
    ncclCommDestroy(c->world);
    release(c);
}

/* ---- in a step ------------------------------------------------------------------------------------------------- */

static const unsigned char *at(const void *p, uint64_t bytes)
{
    return p ? (const unsigned char *)p + bytes : NULL;
}

static void copy(const struct comm *c, const struct comm_call *call, const void *from, void *to, uint64_t elements)
{
    if (elements && from != to)
        c->copy(to, from, elements * comm_type_size(call->type), c->streams[call->stream]);
}

static ncclResult_t send(const struct comm__nccl *m, const struct comm_call *call, const void *from, uint64_t elements,
                         uint32_t peer, void *stream)
{
    return ncclSend(from, elements, type_of(call->type), (int)peer, m->comm, stream);
}

static ncclResult_t receive(const struct comm__nccl *m, const struct comm_call *call, void *to, uint64_t elements,
                            uint32_t peer, void *stream)
{
    return ncclRecv(to, elements, type_of(call->type), (int)peer, m->comm, stream);
}

static ncclResult_t all_to_all(const struct comm *c, const struct comm__nccl *m, const struct comm_call *call)
{
    void *stream = c->streams[call->stream];
    uint64_t block = call->count * comm_type_size(call->type);
    unsigned char *dst = call->dst;
    copy(c, call, at(call->src, m->me * block), dst + m->me * block, call->count);
    ncclResult_t r = ncclGroupStart();
    for (uint32_t i = 0; i < m->group.count && r == ncclSuccess; i++) {
        if (i == m->me)
            continue;
        r = send(m, call, at(call->src, i * block), call->count, i, stream);
        if (r == ncclSuccess || r == ncclInProgress)
            r = receive(m, call, dst + i * block, call->count, i, stream);
        r = r == ncclInProgress ? ncclSuccess : r;
    }
    ncclResult_t end = ncclGroupEnd();
    return r == ncclSuccess ? end : r;
}

static uint64_t rows_of(const int32_t *counts, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        CHECK(counts[i] >= 0);
        sum += (uint64_t)counts[i];
    }
    return sum;
}

/* Members to which nothing goes, or from which nothing comes, are left out at both ends. */
static ncclResult_t all_to_all_v(const struct comm *c, const struct comm__nccl *m, const struct comm_call *call)
{
    void *stream = c->streams[call->stream];
    uint32_t size = comm_type_size(call->type), k = call->row_counts;
    uint64_t arriving = rows_of(call->recv_rows, m->group.count * k), out = 0, in = 0, own = 0, own_in = 0;
    if (arriving > call->max_rows)
        c->overflow(c->self, call->event, arriving);
    ncclResult_t r = ncclGroupStart();
    for (uint32_t i = 0; i < m->group.count && r == ncclSuccess; i++) {
        uint64_t leave = rows_of(call->send_rows + (size_t)i * k, k) * call->row;
        uint64_t come = rows_of(call->recv_rows + (size_t)i * k, k) * call->row;
        if (i == m->me) {
            CHECK(leave == come);
            own = out;
            own_in = in;
        } else {
            if (leave)
                r = send(m, call, at(call->src, out * size), leave, i, stream);
            if (come && (r == ncclSuccess || r == ncclInProgress))
                r = receive(m, call, (unsigned char *)call->dst + in * size, come, i, stream);
            r = r == ncclInProgress ? ncclSuccess : r;
        }
        out += leave;
        in += come;
    }
    ncclResult_t end = ncclGroupEnd();
    copy(c, call, at(call->src, own * size), (unsigned char *)call->dst + own_in * size,
         rows_of(call->send_rows + (size_t)m->me * k, k) * call->row);
    return r == ncclSuccess ? end : r;
}

static ncclResult_t rows_of_round(const struct comm *c, const struct comm__nccl *m, const struct comm_call *call)
{
    const struct comm_rounds rounds = { call->send_rows, m->group.count, call->row_counts, call->max_rows };
    const uint64_t size = call->row * comm_type_size(call->type);
    void *stream = c->streams[call->stream];
    unsigned char *dst = call->dst;
    ncclResult_t r = ncclGroupStart();
    for (uint32_t i = 0; i < m->group.count && r == ncclSuccess; i++) {
        const struct comm_rows out = comm_rows_of_round(&rounds, call->round, m->me, i),
                               in = comm_rows_of_round(&rounds, call->round, i, m->me);
        const uint64_t from = call->back ? in.received : out.sent, leave = call->back ? in.n : out.n;
        const uint64_t to = call->back ? out.sent : in.received, come = call->back ? out.n : in.n;
        if (i == m->me)
            continue;
        if (leave)
            r = send(m, call, at(call->src, from * size), leave * call->row, i, stream);
        if (come && (r == ncclSuccess || r == ncclInProgress))
            r = receive(m, call, dst + to * size, come * call->row, i, stream);
        r = r == ncclInProgress ? ncclSuccess : r;
    }
    ncclResult_t end = ncclGroupEnd();
    const struct comm_rows own = comm_rows_of_round(&rounds, call->round, m->me, m->me);
    copy(c, call, at(call->src, (call->back ? own.received : own.sent) * size),
         dst + (call->back ? own.sent : own.received) * size, own.n * call->row);
    return r == ncclSuccess ? end : r;
}

/* To one member and from another, at once. */
static ncclResult_t between(const struct comm__nccl *m, const struct comm_call *call, uint32_t to, uint32_t from,
                            void *stream)
{
    ncclResult_t r = ncclGroupStart();
    if (r == ncclSuccess)
        r = send(m, call, call->src, call->count, to, stream);
    if (r == ncclSuccess || r == ncclInProgress)
        r = receive(m, call, call->dst, call->count, from, stream);
    ncclResult_t end = ncclGroupEnd();
    return r == ncclSuccess || r == ncclInProgress ? end : r;
}

/* Where this rank is all of the group. */
static void alone(const struct comm *c, const struct comm_call *call)
{
    CHECK(call->op != COMM_ROWS); /* experts of one device are not sent */
    uint64_t elements = call->op == COMM_ALL_TO_ALL_V ? rows_of(call->send_rows, call->row_counts) * call->row
                                                      : call->count;
    copy(c, call, call->src, call->dst, elements);
}

static ncclResult_t run(const struct comm *c, const struct comm__nccl *m, const struct comm_call *call)
{
    ncclDataType_t type = type_of(call->type);
    void *stream = c->streams[call->stream];
    switch (call->op) {
    case COMM_SEND:
        return send(m, call, call->src, call->count, comm_group_index(&m->group, call->peer), stream);
    case COMM_RECV:
        return receive(m, call, call->dst, call->count, comm_group_index(&m->group, call->peer), stream);
    case COMM_EXCHANGE:
        return between(m, call, comm_group_index(&m->group, call->peer), comm_group_index(&m->group, call->from),
                       stream);
    case COMM_ALL_REDUCE:
        return ncclAllReduce(call->src, call->dst, call->count, type, ncclSum, m->comm, stream);
    case COMM_REDUCE_SCATTER:
        return ncclReduceScatter(call->src, call->dst, call->count, type, ncclSum, m->comm, stream);
    case COMM_ALL_GATHER:
        return ncclAllGather(call->src, call->dst, call->count, type, m->comm, stream);
    case COMM_ALL_TO_ALL:
        return all_to_all(c, m, call);
    case COMM_ALL_TO_ALL_V:
        return all_to_all_v(c, m, call);
    case COMM_ROWS:
        return rows_of_round(c, m, call);
    case COMM_SHIFT:
        return between(m, call, (m->me + 1) % m->group.count, (m->me + m->group.count - 1) % m->group.count, stream);
    default:
        CHECK(!"the executor adds on the device itself");
        return ncclInvalidArgument;
    }
}

/* A call has little to say about what it is; the watchdog's sentence in front of it says more. */
static const char *name_of(enum comm_op op)
{
    static const char *const names[COMM_OP_COUNT] = {
        [COMM_SEND] = "send",
        [COMM_RECV] = "receive",
        [COMM_EXCHANGE] = "exchange",
        [COMM_ALL_REDUCE] = "all-reduce",
        [COMM_REDUCE_SCATTER] = "reduce-scatter",
        [COMM_ALL_GATHER] = "all-gather",
        [COMM_ALL_TO_ALL] = "all-to-all",
        [COMM_ALL_TO_ALL_V] = "all-to-all",
        [COMM_ROWS] = "all-to-all",
        [COMM_SHIFT] = "shift",
    };
    return names[op];
}

static void nccl_launch(struct comm *c, const struct comm_call *call)
{
    bool lane = call->channel == UINT32_MAX;
    CHECK(lane ? call->lane < c->n_lanes : call->channel < c->n_channels);
    const struct comm__nccl *m = &c->made[lane ? c->n_channels + call->lane : call->channel];
    if (!m->comm) {
        alone(c, call);
        return;
    }
    pthread_mutex_lock(&c->lock);
    ncclResult_t r = comm__nccl_settle(c, m->comm, run(c, m, call), 0);
    if (r != ncclSuccess)
        comm__nccl_lost(c, m, name_of(call->op), r);
    pthread_mutex_unlock(&c->lock);
}

static void nccl_begin(struct comm *c, uint32_t epoch)
{
    (void)c;
    (void)epoch;
}

/* The executor has waited for the device. */
static void nccl_drain(struct comm *c)
{
    pthread_mutex_lock(&c->lock);
    comm__nccl_look(c);
    pthread_mutex_unlock(&c->lock);
}

static void nccl_wait(struct comm *c, uint32_t event)
{
    (void)c;
    (void)event;
    CHECK(!"order on a device is its streams'");
}

static void nccl_notify(struct comm *c)
{
    (void)c;
}

const struct comm_backend comm_nccl = {
    .name = "nccl",
    .device = true,
    .open = nccl_open,
    .close = nccl_close,
    .begin = nccl_begin,
    .launch = nccl_launch,
    .wait = nccl_wait,
    .drain = nccl_drain,
    .notify = nccl_notify,
};
