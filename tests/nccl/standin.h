/* A recording stand-in for NCCL and for a device: nothing is computed and nothing travels. What comm/nccl*.c calls is written
 * down on each rank, and judged on rank 0 (judge.c). It checks our calls; it does not simulate NCCL. */
#ifndef PIPER_TESTS_STANDIN_H
#define PIPER_TESTS_STANDIN_H

#include "base/clock.h"
#include "base/mem.h"
#include "exec/compute.h"

enum { STANDIN_RANKS = 8 };
enum standin_op { REC_ALL_REDUCE, REC_REDUCE_SCATTER, REC_ALL_GATHER, REC_SEND, REC_RECV };

/* A communicator: the same number on all members. */
struct standin_comm {
    uint32_t id, n, max_ctas; /* 0: not limited */
    uint32_t members[STANDIN_RANKS];
};
struct standin_record {
    uint32_t comm, op, type;
    uint32_t peer;   /* rank of the job; UINT32_MAX: a collective */
    uint32_t stream; /* number */
    uint32_t group;  /* calls of one group start together */
    uint64_t count;
};

/* Of this rank, since the last standin_reset(). */
struct standin_calls {
    VEC(struct standin_record);
};
struct standin_comms {
    VEC(struct standin_comm);
};
extern struct standin_calls standin_calls;
extern struct standin_comms standin_comms; /* all that were made */
extern uint32_t standin_splits;            /* of the whole job */
extern double standin_through; /* clock_now() at which the call under way is; 0: after it was asked for twice */
void standin_reset(void);      /* forgets the calls; the communicators stay */
/* What is left when everything is closed: communicators that are not destroyed, groups that are not ended. NULL: nothing. */
const char *standin_left(void);
void standin_forget(void); /* communicators too */
/* The first call whose arguments were wrong; NULL: none. */
const char *standin_wrong(void);
void standin_say_wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A device that does nothing and kernels that do nothing: what is copied to the host is the number 1. */
extern const struct compute_backend standin_compute;
bool standin_memory(const void *p, uint64_t bytes); /* of the device? */
uint32_t standin_stream(const void *stream);        /* its number; UINT32_MAX: none */
extern uint32_t standin_graphs;                     /* captured and not released */

/* What all ranks did. */
struct standin_job {
    uint32_t ranks;
    struct standin_calls calls[STANDIN_RANKS];
    struct standin_comms comms[STANDIN_RANKS]; /* as each rank knows them */
};
/* Collective: on every rank. */
void standin_gather(struct standin_job *job);
void standin_job_release(struct standin_job *job);
/* Carries the calls out by what they say alone: a rank's next group begins when the one before it is done, a send is done when the
 * other end receives as much of the same type on the same communicator, a collective when all members call the same. NULL:
 * all calls are done; else what does not fit, static storage. */
const char *standin_judge(const struct standin_job *job);

/* The library cannot be loaded on this rank. */
extern bool standin_missing;
/* 1: from now on every communicator of this rank says that its peer is lost. */
extern _Atomic int standin_lost;

#endif
