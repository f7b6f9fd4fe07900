/* Data communication between ranks: streams of calls that a back end carries out in order.
 *
 * The executor launches calls in the plan's dispatch order and goes on; a call starts when all calls launched before it
 * on its stream are done and all the events it waits for have happened, and its own event happens when it is done.
 * Calls on different streams overlap. Every member of a group launches the same calls on it in the same order: the
 * plan guarantees that. Comm knows groups, streams and events; it knows neither the graph nor strategies.
 *
 * Back ends: null (a world of one rank: calls are done at once; the template), mpi (host memory, a progress thread per
 * rank), nccl (device memory). */
#ifndef PIPER_COMM_COMM_H
#define PIPER_COMM_COMM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "comm/world.h"

/* Events: number i has happened in the current step when at[i] == epoch. The executor owns the array, marks its own
 * events (compute) and reads those of comm. Epochs count steps from 1. */
struct comm_events {
    _Atomic uint32_t *at;
    uint32_t n;
    /* NULL, or [2*n]: when the call of event i began (2i) and was done (2i+1), clock_now(), written before the event happens */
    double *times;
    bool unannounced; /* events may come without notify(): a device marks them */
};

enum comm_op {
    COMM_SEND,     /* src[count] to peer, matched by tag */
    COMM_RECV,     /* dst[count] from peer */
    COMM_EXCHANGE, /* src[count] to peer and dst[count] from `from`, at once: neither end waits for the other's order */
    COMM_ADD, /* local: dst[count] += src[count], or dst = src with `replace`; float32. It stands on the stream of a
                            reduction */
    COMM_ALL_REDUCE,     /* dst[count] = sum of src[count]; src == dst allowed */
    COMM_REDUCE_SCATTER, /* dst[count] = sum of block `my index` of src[count*size]; dst may be that block of src */
    COMM_ALL_GATHER,     /* dst[count*size] = blocks src[count]; src may be block `my index` of dst */
    COMM_ALL_TO_ALL,     /* block i of src[count*size] to member i, block i of dst from member i */
    COMM_ALL_TO_ALL_V, /* as that, with rows of `row` elements: send_rows[i], recv_rows[i], packed without gaps. The counts
                            are read when the call starts */
    COMM_ROWS, /* rows of round `round` of comm/rows.h: counts send_rows of all members, max_rows a round, row_counts from one member
                            to another. src is all that this member sends, dst what it receives in the round; with `back` src is
                            what it has received in the round, and dst all that it sends, of which the round's rows are written */
    COMM_SHIFT, /* src[count] to the next member, dst[count] from the one before, at once */
    COMM_OP_COUNT
};
enum comm_type {
    COMM_F32,
    COMM_BF16,
    COMM_F64,
    COMM_I32,
    COMM_BYTE
};                                            /* reductions: F32, F64, I32; BF16, added in float32 */
uint32_t comm_type_size(enum comm_type type); /* bytes */

/* Ranks start, start+stride, ..., count of them; or a list (list != NULL, borrowed until close). Order is the order of the
 * members. */
struct comm_group {
    uint32_t start, stride, count;
    const uint32_t *list;
};
uint32_t comm_group_rank(const struct comm_group *g, uint32_t index);
/* UINT32_MAX: no member. */
uint32_t comm_group_index(const struct comm_group *g, uint32_t rank);
/* One communicator: a group on a stream. A rank makes only those that contain it; all members make it, in the order of
 * `id`, the number of the channel in the whole job. */
struct comm_channel {
    uint32_t id;
    struct comm_group group;
    uint32_t stream; /* of this rank */
};

/* Messages that are in flight beside all others of their ranks: those of a direction between two ranks (group: from, to), or
 * the exchanges of a group. kind: 0, 1, ..., where groups are equal. All members name the lane. For back ends that need a
 * communicator for it; others tell messages apart by their tags. */
struct comm_lane {
    struct comm_group group;
    uint32_t kind;
    bool exchange;
    uint32_t max_ctas; /* as comm_setup.max_ctas */
};

enum { COMM_SCRATCH = 1 << 20 };
struct comm_setup {
    const struct comm_channel *channels; /* those of this rank, by ascending id */
    uint32_t n_channels;
    uint32_t n_channels_world;     /* ids in the whole job, so that collective creation can pair up */
    const struct comm_lane *lanes; /* of this rank, all different */
    uint32_t n_lanes;
    uint32_t n_streams; /* streams of this rank that carry communication, 0..n-1 */
    /* [n_streams] thread blocks that a communicator on the stream may take of a device; NULL, or 0: as many as it likes */
    const uint32_t *max_ctas;
    uint32_t max_calls; /* calls launched in one step at most: queues are allocated once */
    /* Memory for the terms of reductions, per stream, borrowed until close: COMM_SCRATCH is as much as is useful; the same
     * size on all ranks of a channel. NULL: the back end takes its own. */
    void *const *scratch;
    const uint64_t *scratch_bytes;
    struct comm_events events;
    /* NULL: host memory. Else, for back ends with `device`: [n_streams] the device's streams, on which launch() only
     * enqueues. The caller keeps the order between streams; waits, events and wait() are then not used. */
    void *const *device_streams;
    /* NULL, or what a thread of the back end calls first that may meet device memory. */
    void (*enter)(void);
    void (*device_copy)(void *to, const void *from, uint64_t bytes, void *stream);
    /* Called with the rows that an ALL_TO_ALL_V would have received beyond max_rows; must not return. */
    void (*overflow)(void *self, uint32_t event, uint64_t rows);
    void *self;
};

struct comm_call {
    enum comm_op op;
    enum comm_type type;
    uint32_t stream;
    uint32_t channel; /* index in setup.channels; else UINT32_MAX: SEND, RECV, EXCHANGE, ADD */
    uint32_t peer;    /* world rank, SEND, RECV and EXCHANGE */
    uint32_t from;    /* EXCHANGE */
    uint32_t replace; /* ADD */
    uint32_t tag;     /* SEND, RECV, EXCHANGE: unique per pair of ranks among the calls of a step */
    uint32_t lane;    /* SEND, RECV, EXCHANGE: index in setup.lanes */
    const void *src;
    void *dst;
    uint64_t count; /* elements (rows count `row` elements each for ALL_TO_ALL_V: then unused) */
    uint64_t row;
    const int32_t *send_rows,
        *recv_rows; /* ALL_TO_ALL_V: row_counts for each member, which are added up; host memory */
    uint32_t row_counts;
    uint64_t max_rows; /* ALL_TO_ALL_V: rows that dst has room for; more: setup.overflow */
    uint32_t round;    /* ROWS */
    bool back;
    const uint32_t *waits; /* events, borrowed until the call is done */
    uint32_t n_waits;
    bool
        device; /* src and dst are device memory (comm_backend.direct); this rank's own block is the caller's to copy */
    uint32_t event; /* happens when the call is done */
    /* > 0: for emulated links. The call meets its other ends, as a rendezvous does however small the message, and is done no
     * sooner than this many seconds after that (ADD: after it began). Other streams go on. A lone rank's back end, where no
     * link is, takes no notice. */
    double least;
};

struct comm; /* an open back end, owned by the caller until close */

struct comm_backend {
    const char *name;
    bool queues; /* calls may be launched long before the events they wait for; false: launch carries them out */
    bool device; /* works on device memory; comm_setup.device_streams */
    bool host;   /* works on host memory */
    /* NULL: none of its calls. May calls of this kind have their operands in device memory, though it works on host memory? The
     * same at any time after world_init(), on all ranks. */
    bool (*direct)(enum comm_op op);
    /* Collective over all ranks. On failure no rank has it open. */
    enum status (*open)(const struct comm_setup *setup, struct comm **out, struct err *e);
    void (*close)(struct comm *c);
    /* Begins a step: events happen as `epoch` from now on. No call may be under way. */
    void (*begin)(struct comm *c, uint32_t epoch);
    /* Copies *call; never blocks, never allocates. Failures inside the transport end the job (MPI's error handler). */
    void (*launch)(struct comm *c, const struct comm_call *call);
    /* Blocks until the event of a launched call has happened. */
    void (*wait)(struct comm *c, uint32_t event);
    /* Blocks until every launched call is done. */
    void (*drain)(struct comm *c);
    /* The executor marked an event of its own that a launched call may wait for: look again. Cheap, never blocks.
     * launch, wait and drain imply it, so without it such calls start late, not never. */
    void (*notify)(struct comm *c);
};
extern const struct comm_backend comm_null, comm_mpi;
extern const struct comm_backend comm_nccl;                        /* in the module */
const struct comm_backend *comm_backend_by_name(const char *name); /* NULL: unknown */

#endif
