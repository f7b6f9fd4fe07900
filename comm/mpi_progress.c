/* What moves the calls of a rank: starts them when they may start, moves them on, marks their events.
 *
 * MPI moves nothing while nobody calls it, so a progress thread tests the requests that are under way. It sleeps
 * while there are none, and naps ever longer when tests are fruitless. A main thread that waits does the same itself,
 * without the detour over another thread. */
#include <errno.h>
#include <math.h>
#include <time.h>
#include <unistd.h>

#include "comm/mpi_private.h"

enum {
    NAP_DUE_US = 500000, /* at most until something is due: what nap() can count */
    NAP_MEET_US = 100    /* emulated links have the cores for themselves, and are late by half of this */
};

void comm__signal(struct comm *c)
{
    atomic_fetch_add(&c->signals, 1);
    if (!atomic_load(&c->sleepers))
        return;
    pthread_mutex_lock(&c->lock);
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
}

/* Sleeps until there was a signal after `seen` was read, for nap_us at most (0: without end). A thread says that it
 * sleeps before it looks at the counter, a signaller counts before it looks whether one sleeps: one of them sees the
 * other. */
static void nap(struct comm *c, uint32_t seen, uint32_t nap_us)
{
    struct timespec until;
    if (nap_us) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)nap_us * 1000;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
    }
    pthread_mutex_lock(&c->lock);
    atomic_fetch_add(&c->sleepers, 1);
    while (atomic_load(&c->signals) == seen) {
        if (!nap_us)
            pthread_cond_wait(&c->work, &c->lock);
        else if (pthread_cond_timedwait(&c->work, &c->lock, &until) == ETIMEDOUT)
            break;
    }
    atomic_fetch_sub(&c->sleepers, 1);
    pthread_mutex_unlock(&c->lock);
}

/* Moves what was launched into the lists of the streams. */
static void take_launched(struct comm *c)
{
    uint64_t launched = atomic_load_explicit(&c->launched, memory_order_acquire);
    for (; c->taken < launched; c->taken++) {
        uint32_t slot = (uint32_t)(c->taken % c->max_calls);
        struct comm__stream *s = &c->streams[c->ring[slot].call.stream];
        c->ring[slot].next = COMM__NONE;
        if (s->first == COMM__NONE)
            s->first = slot;
        else
            c->ring[s->last].next = slot;
        s->last = slot;
    }
}

static bool may_start(const struct comm *c, const struct comm__entry *entry)
{
    for (uint32_t i = 0; i < entry->call.n_waits; i++)
        if (atomic_load_explicit(&c->events.at[entry->call.waits[i]], memory_order_acquire) != entry->epoch)
            return false;
    return true;
}

/* The first call of the stream is done. Its slot may be written again as soon as it is counted. */
static void complete(struct comm *c, struct comm__stream *s)
{
    const struct comm__entry *entry = &c->ring[s->first];
    uint32_t event = entry->call.event;
    if (c->events.times)
        c->events.times[2 * (size_t)event + 1] = clock_now();
    atomic_store_explicit(&c->events.at[event], entry->epoch, memory_order_release);
    s->first = entry->next;
    s->active = false;
    atomic_fetch_add_explicit(&c->done, 1, memory_order_release);
}

static bool round_is_complete(struct comm__stream *s)
{
    int all = 0;
    int code = MPI_Testall((int)s->n_requests, s->request, &all, s->status);
    if (code == MPI_ERR_IN_STATUS)
        for (uint32_t i = 0; i < s->n_requests; i++)
            if (s->status[i].MPI_ERROR != MPI_ERR_PENDING)
                comm__mpi_check(s->status[i].MPI_ERROR, i < s->n_received ? "a receive" : "a send");
    comm__mpi_check(code, "MPI_Testall");
    return all;
}

/* What is left to do when a call has no further round; its ends have met. */
static void end_rounds(struct comm *c, struct comm__stream *s, const struct comm_call *call)
{
    s->held = call->least > 0;
    if (s->held)
        s->until = clock_now() + call->least;
    else
        complete(c, s);
}

/* Moves a stream as far as it goes without waiting; false: it did not move. */
static bool advance(struct comm *c, struct comm__stream *s)
{
    bool moved = false;
    while (s->first != COMM__NONE) {
        const struct comm__entry *entry = &c->ring[s->first];
        if (s->held) {
            if (clock_now() < s->until)
                return moved;
            s->held = false;
            complete(c, s);
            moved = true;
            continue;
        }
        if (!s->active) {
            if (!may_start(c, entry))
                return moved;
            s->active = true;
            s->round = 0;
            if (c->events.times)
                c->events.times[2 * (size_t)entry->call.event] = clock_now();
        } else {
            if (!round_is_complete(s))
                return moved;
            comm__round_finish(c, s, &entry->call);
            s->round++;
        }
        moved = true;
        if (!comm__round_post(c, s, &entry->call))
            end_rounds(c, s, &entry->call);
    }
    return moved;
}

/* Moves everything as far as it goes; to be called with `engine` held. Afterwards the thread rests as it should: not
 * at all, a nap, or until something changes. */
struct pass {
    uint32_t seen;
    bool moved, active; /* active: messages are under way */
    bool meets;         /* and a call with `least` waits for its ends */
    double due;         /* when the first held call is done; INFINITY: none is held */
};

static struct pass pass(struct comm *c)
{
    struct pass p = { .seen = atomic_load(&c->signals), .due = INFINITY };
    take_launched(c);
    for (uint32_t i = 0; i < c->n_streams; i++) {
        const struct comm__stream *s = &c->streams[i];
        p.moved |= advance(c, &c->streams[i]);
        p.active |= (s->active && !s->held) || (c->events.unannounced && s->first != COMM__NONE);
        p.meets |= s->active && !s->held && s->meets;
        if (s->held)
            p.due = fmin(p.due, s->until);
    }
    return p;
}

static void rest(struct comm *c, const struct pass *p, struct comm__patience *patience)
{
    if (p->moved) {
        comm__patience_reset(patience);
    } else if (!p->active && p->due == INFINITY) {
        comm__patience_reset(patience);
        nap(c, p->seen, 0);
    } else {
        uint32_t us = p->active ? comm__patience_next(patience) : NAP_DUE_US;
        if (p->meets && us > NAP_MEET_US)
            us = NAP_MEET_US;
        double left = 1e6 * (p->due - clock_now());
        if (left < us)
            us = left > 1 ? (uint32_t)left : 0;
        if (us)
            nap(c, p->seen, us);
    }
}

void *comm__progress(void *comm)
{
    struct comm *c = comm;
    struct comm__patience patience = { 0 };
    /* The main thread computes, on one core at least. On a shared core yielding is worse than a nap: who yields waits
     * for the other's time slice, who wakes up goes first. */
    if (c->cores >= 2)
        patience = (struct comm__patience){ .spins = 2000, .yields = 200 };
    comm__precise_naps();
    if (c->enter)
        c->enter();
    for (;;) {
        uint32_t seen = atomic_load(&c->signals);
        if (atomic_load(&c->stop))
            break;
        if (atomic_load(&c->driving)) {
            nap(c, seen, 0);
            continue;
        }
        pthread_mutex_lock(&c->engine);
        struct pass p = pass(c);
        pthread_mutex_unlock(&c->engine);
        p.seen = seen; /* read before `stop` was: a stop in between ends the nap */
        rest(c, &p, &patience);
    }
    return NULL;
}

void comm__drive(struct comm *c, bool (*done)(const struct comm *c, uint32_t arg), uint32_t arg)
{
    struct comm__patience patience = { .spins = c->cores >= 1 ? 2000 : 0, .yields = 200 };
    atomic_store(&c->driving, 1);
    pthread_mutex_lock(&c->engine);
    for (;;) {
        struct pass p = pass(c);
        if (done(c, arg))
            break;
        rest(c, &p, &patience);
    }
    pthread_mutex_unlock(&c->engine);
    atomic_store(&c->driving, 0);
    if (atomic_load(&c->done) != atomic_load(&c->launched))
        comm__signal(c);
}
