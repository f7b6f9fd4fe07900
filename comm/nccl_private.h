/* Inside the NCCL back end. */
#ifndef PIPER_COMM_NCCL_PRIVATE_H
#define PIPER_COMM_NCCL_PRIVATE_H

#include <nccl.h>
#include <pthread.h>

#include "base/clock.h"
#include "comm/comm.h"

/* What calls run on: a communicator, or nothing where the group is this rank. */
struct comm__nccl {
    ncclComm_t comm; /* NULL: alone */
    struct comm_group group;
    uint32_t me; /* index in the group */
};

struct comm {
    ncclComm_t world;        /* parent of all the others; nothing is sent on it */
    struct comm__nccl *made; /* [n_channels] of channels, then [n_lanes] of lanes */
    uint32_t n_channels, n_lanes;
    void *const *streams;
    void (*copy)(void *to, const void *from, uint64_t bytes, void *stream);
    void (*overflow)(void *self, uint32_t event, uint64_t rows);
    void *self;

    /* NCCL wants one thread at a time on a communicator, also to be asked how it is. */
    pthread_mutex_t lock;
    pthread_t watcher;
    bool watched;
    _Atomic uint32_t stop, gone; /* gone: communicators are being aborted, and nobody may touch them */
};

static inline uint32_t comm__nccl_count(const struct comm *c)
{
    return c->n_channels + c->n_lanes;
}

/* ---- nccl_load.c ---- */

/* The library, before any call; loaded once. ST_DEVICE where it is not. */
enum status comm__nccl_load(struct err *e);

/* ---- nccl_open.c ---- */

/* Makes all communicators. Collective. */
enum status comm__nccl_make(struct comm *c, const struct comm_setup *setup, struct err *e);

/* ---- nccl_watch.c ---- */

/* Waits until a call on a communicator, which returned r, is through: it returns at once and goes on in NCCL's own threads, and
 * what stands behind it on its stream must not come before it. limit: seconds, then ncclInProgress is returned; 0: none. */
ncclResult_t comm__nccl_settle(struct comm *c, ncclComm_t comm, ncclResult_t r, double limit);
/* A thread looks at all communicators a few times a second; an error that comes from beside our calls (a lost peer) then
 * ends the job. */
enum status comm__nccl_watch(struct comm *c, struct err *e);
void comm__nccl_unwatch(struct comm *c);
/* Looks once. With the lock held. */
void comm__nccl_look(const struct comm *c);
/* Ends the job. m: what the call was on, NULL: the parent. */
_Noreturn void comm__nccl_lost(const struct comm *c, const struct comm__nccl *m, const char *call, ncclResult_t r);
/* ncclCommAbort on all. */
void comm__nccl_abort(struct comm *c);

#endif
