/* A CUDA runtime without a GPU, for tests of the order of things. Nothing happens when it is enqueued: work runs when the
 * host waits for it, one piece at a time, in any order that streams, events and graphs allow; a seed chooses which, and
 * the newest piece that may run is preferred, so that what is missing an event comes out wrong. Device memory is host memory,
 * poisoned until it is written.
 *
 * Environment: FAKE_CUDA_SEED (0: always the newest); FAKE_CUDA_DEVICES (default 8; 0: none; -1: no driver); FAKE_CUDA_BYTES of
 * device memory; FAKE_CUDA_MULTIPROCESSORS (132); FAKE_CUDA_NO_WAIT_VALUE=1: the driver has no stream memory operations, 2: it refuses them; FAKE_CUDA_DEAF=N: a
 * stream does not wait for one event in N (a test that passes with it sees nothing); FAKE_CUDA_FAIL=N: kernel N fails;
 * FAKE_CUDA_SPOIL=N: update N writes a NaN; FAKE_CUDA_NO_EPILOGUE=1: products have no epilogues; FAKE_CUDA_NOTES=1:
 * rank 1 has notes; FAKE_CUDA_REPORT: a file to
 * which close appends the counts below. */
#ifndef PIPER_TESTS_FAKE_H
#define PIPER_TESTS_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "cuda_runtime_api.h"

/* Not the program's allocator, whose calls in a step are counted. */
void *fake_alloc(size_t bytes);
void fake_free(void *p);
void fake_reserve(void **at, uint32_t *cap, uint32_t need, size_t size);
#define mem_alloc    fake_alloc
#define mem_free     fake_free
#define vec_reserve_ fake_reserve

/* What a piece of work does. A NULL run: nothing, it only stands for an order. */
struct fake_work {
    void (*run)(const void *arg);
    bool (*may_run)(const void *arg); /* NULL: at any time */
    void *arg;                        /* owned copy */
    size_t bytes;
};

struct fake_piece; /* of work, enqueued */
struct fake_pieces {
    VEC(struct fake_piece *);
};

struct CUstream_st {
    struct fake_piece *last; /* NULL: idle */
    struct CUgraph_st *into; /* captured; NULL: not */
    int64_t tail;            /* last node in it; -1: none */
};
struct CUevent_st {
    struct fake_piece *after;
    uint64_t capture; /* number of the one that it was recorded in, after `node`; 0: none */
    int64_t node;
    double time; /* seconds, when it happened last */
};
struct fake_node {
    struct fake_work work;
    cudaEvent_t outside; /* which it also waits for, as recorded when the graph is launched; NULL: none */
    int64_t before[2];   /* -1: none */
};
struct CUgraph_st {
    uint64_t number; /* from 1 */
    struct {
        VEC(struct fake_node);
    } nodes;
    struct {
        VEC(cudaStream_t);
    } streams; /* captured into it, the first where it began */
};
extern struct CUgraph_st *fake_capture; /* the one that goes on; NULL: none */
bool fake_captures(void);               /* in this thread */

/* One thread at a time, until the end of the block. */
int *fake_lock(void);
void fake_unlock(int **unused);
#define FAKE_LOCKED __attribute__((cleanup(fake_unlock), unused)) int *locked_ = fake_lock()

/* Counts of calls, so that a test can say what a step costs. */
struct fake_counts {
    uint64_t kernels, kernels_captured, pairs, copies, waits, graphs, nodes, edges, launches, synchronizes, allocations;
    uint64_t attached; /* other threads that named the device */
    uint64_t timed, unchosen,
        not_random;           /* products: timed by this process, left without a choice, timed on bad operands */
    uint64_t queues;          /* CUDA_DEVICE_MAX_CONNECTIONS, as it was at the first call */
    uint64_t with_priorities; /* of the graphs: nodes run with the priorities of their streams */
};
extern struct fake_counts fake_counts;

/* A test may preload this: 'l' a graph is launched, 's' the host waits for the device. */
extern void fake_note(char what) __attribute__((weak));

cudaError_t fake_error(cudaError_t code); /* keeps it for cudaGetLastError() */
bool fake_is_deaf(void);
uint64_t fake_setting(const char *name, uint64_t otherwise);

/* Enqueues on a stream (into the graph that it is captured into); takes a copy of arg. */
cudaError_t fake_enqueue(cudaStream_t stream, const struct fake_work *work);
/* A kernel's launch: work of the fake kernels. */
void fake_launch(void (*run)(const void *arg), const void *arg, size_t bytes, void *stream);

/* Pieces that run after all of `after` (entries may be NULL or done). The result counts a reference for the caller. */
struct fake_piece *fake_piece_new(const struct fake_work *work, struct fake_piece *const *after, uint32_t n);
struct fake_piece *fake_piece_hold(struct fake_piece *p);
void fake_piece_drop(struct fake_piece *p);
/* Runs pieces until this one is done; NULL: until all are. */
void fake_run_until(const struct fake_piece *p);
/* In a thread that did not open the device: waits up to a tenth of a second for others to do so, in a worse order. */
void fake_leave_to_others(const struct fake_piece *p);
bool fake_is_other_thread(void); /* than the one that opened the device */

/* Node of a graph after up to two others of it; -1: none. Takes a copy of the work. */
int64_t fake_node_new(struct CUgraph_st *g, const struct fake_work *work, const int64_t *before, uint32_t n);

#endif
