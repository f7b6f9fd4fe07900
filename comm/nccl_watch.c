/* Communicators that fail while nobody waits for them. NCCL learns of a lost peer in threads of its own; the kernels that
 * wait for it would wait for ever. So a thread asks, and whoever ends the job lets go of all communicators first: their kernels
 * end, and their sockets tell the ranks at the other end. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/mem.h"
#include "base/thread.h"
#include "comm/nccl_private.h"

enum { LOOK_MS = 200, ABORT_MS = 2000 };
/* A call is through after some tens of microseconds, the time of NCCL's thread that carries it out; a nap would take as long again. */
static const double awake = 300e-6;

static struct comm *_Atomic opened; /* of the one that this process has open */

static void stay_away(const struct comm *c)
{
    while (atomic_load(&c->gone))
        pause();
}

ncclResult_t comm__nccl_settle(struct comm *c, ncclComm_t comm, ncclResult_t r, double limit)
{
    double begin = clock_now(), looked = begin;
    while (r == ncclInProgress) {
        stay_away(c);
        double now = clock_now();
        if (limit > 0 && now - begin > limit)
            break;
        ncclResult_t asked = ncclCommGetAsyncError(comm, &r);
        if (asked != ncclSuccess)
            return asked;
        if (r == ncclInProgress && now - looked > 1e-3 * LOOK_MS) {
            comm__nccl_look(c); /* this thread has the lock: another communicator may say why this one stands still */
            looked = now;
        }
        if (r == ncclInProgress && now - begin < awake)
            sched_yield(); /* NCCL's thread may want this core */
        else if (r == ncclInProgress)
            clock_nap(20e-6);
    }
    return r;
}

/* Ranks 0, 4, 8, ... of 16 */
static void members(const struct comm__nccl *m, char *text, size_t size)
{
    int n = snprintf(text, size, "the communicator of rank%s", m->group.count > 1 ? "s" : "");
    for (uint32_t i = 0; i < m->group.count && i < 8 && n > 0 && (size_t)n < size; i++)
        n += snprintf(text + n, size - (size_t)n, "%s %u", i ? "," : "", comm_group_rank(&m->group, i));
    if (m->group.count > 8 && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, ", ... (%u in all)", m->group.count);
}

void comm__nccl_lost(const struct comm *c, const struct comm__nccl *m, const char *call, ncclResult_t r)
{
    char host[64] = "", on[256] = "the parent of all communicators", text[1024];
    ncclComm_t comm = m ? m->comm : c->world;
    gethostname(host, sizeof host - 1);
    if (m)
        members(m, on, sizeof on);
    snprintf(text, sizeof text,
             "host %s: NCCL: %s on %s: %s (%s); a rank, the network or a device was lost: rerun the same command to "
             "resume, with NCCL_DEBUG=WARN for details",
             host, call, on, ncclGetErrorString(r), ncclGetLastError(comm));
    process_fail(r == ncclRemoteError || r == ncclSystemError ? ST_HANG : ST_DEVICE, text);
}

void comm__nccl_look(const struct comm *c)
{
    for (uint32_t i = 0; i < comm__nccl_count(c); i++) {
        ncclResult_t r = ncclSuccess;
        if (!c->made[i].comm)
            continue;
        ncclResult_t asked = ncclCommGetAsyncError(c->made[i].comm, &r);
        r = asked == ncclSuccess ? r : asked;
        if (r != ncclSuccess && r != ncclInProgress)
            comm__nccl_lost(c, &c->made[i], "asynchronous error", r);
    }
}

static void *watch(void *arg)
{
    struct comm *c = arg;
    while (!atomic_load(&c->stop)) {
        clock_nap(1e-3 * LOOK_MS);
        stay_away(c);
        if (pthread_mutex_trylock(&c->lock) == 0) {
            comm__nccl_look(c);
            pthread_mutex_unlock(&c->lock);
        }
    }
    return NULL;
}

/* ---- letting go ------------------------------------------------------------------------------------------------ */

/* In one group: all are told to end before the first is waited for. One alone may wait for another's kernel that stands before
 * its own on a stream, or for ever for captured graphs that it is in (commDestroySync). */
void comm__nccl_abort(struct comm *c)
{
    ncclGroupStart();
    for (uint32_t i = 0; i < comm__nccl_count(c); i++)
        if (c->made[i].comm)
            ncclCommAbort(c->made[i].comm);
    if (c->world)
        ncclCommAbort(c->world);
    ncclGroupEnd();
}

static _Atomic uint32_t aborted;

static void *abort_all(void *arg)
{
    comm__nccl_abort(arg);
    atomic_store(&aborted, 1);
    return NULL;
}

/* In a thread of its own, since it may hang; the lock stays where it is. */
static void let_go(void)
{
    struct comm *c = atomic_exchange(&opened, NULL);
    pthread_t thread;
    if (!c)
        return;
    atomic_store(&c->gone, 1);
    if (thread_start(&thread, abort_all, c) == 0)
        for (int ms = 0; ms < ABORT_MS && !atomic_load(&aborted); ms++)
            clock_nap(1e-3);
}

enum status comm__nccl_watch(struct comm *c, struct err *e)
{
    int code = thread_start(&c->watcher, watch, c);
    if (code)
        return err_set(e, ST_DEVICE, "comm nccl",
                       "the thread of rank %u that watches communicators could not start: %s", world_rank(),
                       strerror(code));
    c->watched = true;
    atomic_store(&opened, c);
    world_before_abort(let_go);
    return ST_OK;
}

void comm__nccl_unwatch(struct comm *c)
{
    if (!c->watched)
        return;
    world_before_abort(NULL);
    atomic_store(&opened, NULL);
    atomic_store(&c->stop, 1);
    pthread_join(c->watcher, NULL);
}
