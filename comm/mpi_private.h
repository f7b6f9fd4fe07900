/* Inside the MPI back end: not for other folders (the test sets the limits). */
#ifndef PIPER_COMM_MPI_PRIVATE_H
#define PIPER_COMM_MPI_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"
#include "comm/comm.h"
#include "comm/mpi_call.h"

enum { COMM__NONE = UINT32_MAX };

/* Limits read by open(), equal on all ranks; a test lowers them to reach the boundaries. */
struct comm__limits {
    uint64_t scratch; /* bytes per stream for the terms of a reduction; longer reductions go in pieces */
    uint64_t small;   /* an all-reduce whose terms have this many bytes together takes one round */
    uint32_t direct;  /* an all-reduce of more members than this is MPI's own */
};
extern struct comm__limits comm__limits;

/* Consecutive bytes that go to, or come from, one member in a round. */
struct comm__part {
    unsigned char *p;
    uint64_t bytes;
};

struct comm__channel {
    struct comm_group group;
    uint32_t me; /* index of this rank in the group */
    uint32_t stream;
    int tag;       /* on comm.members: the id */
    MPI_Comm wide; /* groups above limits.direct, else MPI_COMM_NULL */
};

/* A launched call, in the ring of the back end and in the list of its stream. */
struct comm__entry {
    struct comm_call call;
    uint32_t epoch;
    uint32_t next; /* slot of the next call of the stream */
};

/* A stream carries out one call at a time, in rounds of requests: receives first, then sends. */
struct comm__stream {
    uint32_t first, last; /* slots; COMM__NONE: empty */
    bool active;          /* the first call has started, a round of it is under way */
    bool meets;           /* it has `least`: its sends are done when they are received */
    bool held;            /* its rounds are done, it is not until `until`, clock_now() */
    double until;
    uint64_t round;
    uint32_t members;                /* the largest group of a channel on it, at least 1 */
    struct comm__part *send, *recv;  /* [members] of this round */
    MPI_Request *request;            /* [2*members] */
    MPI_Status *status;              /* [2*members] */
    uint32_t n_requests, n_received; /* of this round; the first n_received have an expected size */
    int *expected;                   /* [members] bytes */
    unsigned char *scratch; /* for the terms of reductions; may be NULL when nothing is reduced on the stream */
    uint64_t scratch_bytes;
    bool owns_scratch;
};

struct comm {
    struct comm_events events;
    void (*overflow)(void *self, uint32_t event, uint64_t rows);
    void *overflow_self;
    void (*enter)(void); /* or NULL */
    struct comm__limits limits;
    uint32_t rank, size;
    int tag_max;
    MPI_Comm pairs;   /* SEND and RECV, by the tags of the plan */
    MPI_Comm members; /* between members of a group, by the channel's id */
    struct comm__channel *channels;
    uint32_t n_channels;
    struct comm__stream *streams;
    uint32_t n_streams;

    /* The ring: launch() writes slot launched % max_calls, then counts it; who completes the call counts it as done. */
    struct comm__entry *ring;
    uint32_t max_calls;
    uint32_t epoch; /* main thread only */
    _Atomic uint64_t launched, done;
    uint64_t taken; /* under engine: launched calls that are in their stream's list */

    /* Who holds `engine` moves the streams and calls MPI: the progress thread, or the main thread while it waits. */
    pthread_mutex_t engine;
    _Atomic uint32_t driving; /* the main thread waits and moves the streams itself: the progress thread keeps out */
    uint32_t cores;
    pthread_t thread;
    bool running;
    _Atomic uint32_t stop;
    pthread_mutex_t lock;
    pthread_cond_t work;       /* something was launched, marked or stopped, or the main thread drives no more */
    _Atomic uint32_t signals;  /* counts reasons to look again */
    _Atomic uint32_t sleepers; /* threads in, or about to enter, a nap */
};

void *comm__progress(void *comm);
/* Tells whoever moves the streams to look again. */
void comm__signal(struct comm *c);
/* The calling thread moves the streams until done(c, arg). */
void comm__drive(struct comm *c, bool (*done)(const struct comm *c, uint32_t arg), uint32_t arg);

/* Posts the round s->round of a call; false: there is none, the call is done. */
bool comm__round_post(struct comm *c, struct comm__stream *s, const struct comm_call *call);
/* What is to be done locally once the requests of the round are complete: sizes checked, terms summed. */
void comm__round_finish(struct comm *c, struct comm__stream *s, const struct comm_call *call);

/* dst[n] = sum over i = 0..members-1, in this order for every element, of term i: own for i == me, else n elements
 * at scratch + i*stride bytes. dst may be own. So the bits depend on nothing but the terms. F32, F64 or I32. */
struct comm__terms {
    const unsigned char *scratch, *own;
    uint64_t stride;
    uint32_t me, members;
};
void comm__sum(enum comm_type type, void *dst, const struct comm__terms *t, uint64_t n);

/* COMM_ADD, by the calling thread. */
void comm__add(const struct comm_call *call);

#endif
