/* The world of one rank: every group is that rank, so a call is at most a copy and is done when launch returns. The
 * template of a back end: what the others do asynchronously, in the fewest lines. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "comm/comm.h"
#include "comm/rows.h"

struct comm {
    struct comm_events events;
    uint32_t epoch;
    uint32_t n_channels;
    void *const *streams; /* of a device; NULL: host memory */
    void (*copy)(void *to, const void *from, uint64_t bytes, void *stream);
};

static enum status null_open(const struct comm_setup *setup, struct comm **out, struct err *e)
{
    if (world_size() != 1)
        return err_set(e, ST_BUG, "comm null", "found %u ranks, expected one; use --comm mpi", world_size());
    struct comm *c = mem_alloc(sizeof *c);
    c->events = setup->events;
    c->n_channels = setup->n_channels;
    c->streams = setup->device_streams;
    c->copy = setup->device_copy;
    *out = c;
    return ST_OK;
}

static void null_close(struct comm *c)
{
    mem_free(c);
}

static void null_begin(struct comm *c, uint32_t epoch)
{
    c->epoch = epoch;
}

static uint64_t bytes_of(const struct comm_call *call)
{
    uint64_t elements = call->count;
    if (call->op == COMM_ALL_TO_ALL_V) {
        elements = 0;
        for (uint32_t i = 0; i < call->row_counts; i++) {
            CHECK(call->send_rows[i] >= 0 && call->send_rows[i] == call->recv_rows[i]);
            elements += (uint64_t)call->send_rows[i] * call->row;
        }
    }
    return elements * comm_type_size(call->type);
}

/* Of rows of a round: their places on both sides, and bytes. */
static uint64_t round_of(const struct comm_call *call, uint64_t *from, uint64_t *to)
{
    const struct comm_rounds r = { call->send_rows, 1, call->row_counts, call->max_rows };
    const struct comm_rows rows = comm_rows_of_round(&r, call->round, 0, 0);
    const uint64_t row = call->row * comm_type_size(call->type);
    *from = (call->back ? rows.received : rows.sent) * row;
    *to = (call->back ? rows.sent : rows.received) * row;
    return rows.n * row;
}

static void null_launch(struct comm *c, const struct comm_call *call)
{
    uint64_t from = 0, to = 0;
    const uint64_t bytes = call->op == COMM_ROWS ? round_of(call, &from, &to) : bytes_of(call);
    const unsigned char *src = (const unsigned char *)call->src + from;
    unsigned char *dst = (unsigned char *)call->dst + to;
    if (c->streams) {
        if (dst != src)
            c->copy(dst, src, bytes, c->streams[call->stream]);
        return;
    }
    /* A call that waits for something later could never be done here, and a lone rank has nobody to send to. */
    for (uint32_t i = 0; i < call->n_waits; i++)
        CHECK(atomic_load(&c->events.at[call->waits[i]]) == c->epoch);
    CHECK(call->op != COMM_SEND && call->op != COMM_RECV && call->op != COMM_EXCHANGE && call->op != COMM_ADD);
    CHECK(call->channel < c->n_channels && call->event < c->events.n);
    double *times = c->events.times ? c->events.times + 2 * (size_t)call->event : NULL;
    if (times)
        times[0] = clock_now();
    if (bytes && dst != src)
        memmove(dst, src, bytes);
    if (times)
        times[1] = clock_now();
    atomic_store_explicit(&c->events.at[call->event], c->epoch, memory_order_release);
}

static void null_wait(struct comm *c, uint32_t event)
{
    CHECK(atomic_load(&c->events.at[event]) == c->epoch);
}

static void null_nothing(struct comm *c)
{
    (void)c;
}

const struct comm_backend comm_null = {
    .name = "null",
    .host = true,
    .device = true,
    .open = null_open,
    .close = null_close,
    .begin = null_begin,
    .launch = null_launch,
    .wait = null_wait,
    .drain = null_nothing,
    .notify = null_nothing,
};
