/* The MPI back end: opening, launching, waiting. What happens to a launched call is in mpi_progress.c and
 * mpi_rounds.c. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "build-config.h"
#include "comm/mpi_private.h"
#ifdef HAVE_MPI_EXT_H
#include <mpi-ext.h>
#endif

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static enum status check_channel(const struct comm *c, const struct comm_setup *setup, uint32_t k, struct err *e)
{
    const struct comm_channel *ch = &setup->channels[k];
    const struct comm_group *g = &ch->group;
    if ((k && ch->id <= ch[-1].id) || ch->id >= setup->n_channels_world || ch->id > (uint32_t)c->tag_max)
        return err_set(e, ST_BUG, "comm mpi",
                       "communicator %u has id %u, expected ascending ids below %u and at most %d", k, ch->id,
                       setup->n_channels_world, c->tag_max);
    if (ch->stream >= setup->n_streams)
        return err_set(e, ST_BUG, "comm mpi", "communicator %u is on stream %u of %u", ch->id, ch->stream,
                       setup->n_streams);
    if (!setup->scratch && g->count * UINT64_C(8) > c->limits.scratch)
        return err_set(e, ST_BUG, "comm mpi", "communicator %u has %u members, at most %llu can reduce", ch->id,
                       g->count, (unsigned long long)c->limits.scratch / 8);
    bool mine = false;
    for (uint32_t i = 0; i < g->count; i++) {
        uint32_t r = comm_group_rank(g, i);
        if (r >= c->size)
            return err_set(e, ST_BUG, "comm mpi", "communicator %u has rank %u, expected ranks below %u", ch->id, r,
                           c->size);
        mine |= r == c->rank;
    }
    if (!mine)
        return err_set(e, ST_BUG, "comm mpi", "communicator %u does not contain rank %u", ch->id, c->rank);
    return ST_OK;
}

static enum status check_setup(const struct comm *c, const struct comm_setup *setup, struct err *e)
{
    for (uint32_t k = 0; k < setup->n_channels; k++)
        TRY(check_channel(c, setup, k, e));
    return ST_OK;
}

static void open_channels(struct comm *c, const struct comm_setup *setup)
{
    c->channels = mem_alloc(setup->n_channels * sizeof *c->channels);
    c->n_channels = setup->n_channels;
    for (uint32_t k = 0; k < c->n_channels; k++) {
        struct comm__channel *ch = &c->channels[k];
        *ch = (struct comm__channel){ .group = setup->channels[k].group,
                                      .stream = setup->channels[k].stream,
                                      .tag = (int)setup->channels[k].id,
                                      .wide = MPI_COMM_NULL };
        while (comm_group_rank(&ch->group, ch->me) != c->rank)
            ch->me++;
    }
}

/* Only the members meet, and every rank goes through its channels in the order of their ids: with that one order for
 * all, a rank never waits for one that waits for it. */
static void open_wide(struct comm *c)
{
    MPI_Group world;
    CALL(MPI_Comm_group, c->members, &world);
    for (uint32_t k = 0; k < c->n_channels; k++) {
        struct comm__channel *ch = &c->channels[k];
        if (ch->group.count <= c->limits.direct)
            continue;
        int *ranks = mem_alloc(ch->group.count * sizeof *ranks);
        for (uint32_t i = 0; i < ch->group.count; i++)
            ranks[i] = (int)comm_group_rank(&ch->group, i);
        MPI_Group group;
        CALL(MPI_Group_incl, world, (int)ch->group.count, ranks, &group);
        CALL(MPI_Comm_create_group, c->members, group, ch->tag, &ch->wide);
        CALL(MPI_Comm_set_errhandler, ch->wide, MPI_ERRORS_RETURN);
        CALL(MPI_Group_free, &group);
        mem_free(ranks);
    }
    CALL(MPI_Group_free, &world);
}

static void open_streams(struct comm *c, const struct comm_setup *setup)
{
    c->streams = mem_alloc(setup->n_streams * sizeof *c->streams);
    c->n_streams = setup->n_streams;
    for (uint32_t i = 0; i < setup->n_streams; i++) {
        struct comm__stream *s = &c->streams[i];
        bool reduces = false;
        s->first = s->last = COMM__NONE;
        s->members = 1;
        for (uint32_t k = 0; k < c->n_channels; k++) {
            const struct comm__channel *ch = &c->channels[k];
            if (ch->stream == i && ch->group.count > s->members)
                s->members = ch->group.count;
            reduces |= ch->stream == i;
        }
        s->send = mem_alloc(s->members * sizeof *s->send);
        s->recv = mem_alloc(s->members * sizeof *s->recv);
        s->request = mem_alloc(2 * (size_t)s->members * sizeof *s->request);
        s->status = mem_alloc(2 * (size_t)s->members * sizeof *s->status);
        s->expected = mem_alloc(s->members * sizeof *s->expected);
        s->scratch_bytes = setup->scratch ? setup->scratch_bytes[i] : c->limits.scratch;
        s->scratch = setup->scratch ? setup->scratch[i] : reduces ? mem_alloc(s->scratch_bytes) : NULL;
        s->owns_scratch = !setup->scratch;
    }
}

static void open_communicators(struct comm *c)
{
    int flag = 0, *tag_max = NULL, ranks_here = 1;
    CALL(MPI_Comm_get_attr, MPI_COMM_WORLD, MPI_TAG_UB, (void *)&tag_max, &flag);
    c->tag_max = flag ? *tag_max : 32767; /* what MPI guarantees */
    CALL(MPI_Comm_dup, MPI_COMM_WORLD, &c->pairs);
    CALL(MPI_Comm_dup, MPI_COMM_WORLD, &c->members);
    CALL(MPI_Comm_set_errhandler, c->pairs, MPI_ERRORS_RETURN);
    CALL(MPI_Comm_set_errhandler, c->members, MPI_ERRORS_RETURN);
    MPI_Comm here;
    CALL(MPI_Comm_split_type, c->members, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    CALL(MPI_Comm_size, here, &ranks_here);
    CALL(MPI_Comm_free, &here);
    c->cores = comm__cores((uint32_t)ranks_here);
}

static enum status start_thread(struct comm *c, struct err *e)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->engine, NULL);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    comm__precise_naps(); /* also of this thread, that waits */
    int code = thread_start(&c->thread, comm__progress, c);
    c->running = code == 0;
    if (code)
        return err_set(e, ST_DEVICE, "comm mpi", "the progress thread of rank %u could not start: %s", c->rank,
                       strerror(code));
    return ST_OK;
}

static void mpi_close(struct comm *c)
{
    CHECK(atomic_load(&c->done) == atomic_load(&c->launched));
    if (c->running) {
        atomic_store(&c->stop, 1);
        comm__signal(c);
        pthread_join(c->thread, NULL);
        pthread_cond_destroy(&c->work);
        pthread_mutex_destroy(&c->engine);
        pthread_mutex_destroy(&c->lock);
    }
    for (uint32_t i = 0; i < c->n_streams; i++) {
        struct comm__stream *s = &c->streams[i];
        mem_free(s->send);
        mem_free(s->recv);
        mem_free(s->request);
        mem_free(s->status);
        mem_free(s->expected);
        if (s->owns_scratch)
            mem_free(s->scratch);
    }
    for (uint32_t k = 0; k < c->n_channels; k++)
        if (c->channels[k].wide != MPI_COMM_NULL)
            CALL(MPI_Comm_free, &c->channels[k].wide);
    CALL(MPI_Comm_free, &c->members);
    CALL(MPI_Comm_free, &c->pairs);
    mem_free(c->streams);
    mem_free(c->channels);
    mem_free(c->ring);
    mem_free(c);
}

static enum status mpi_open(const struct comm_setup *setup, struct comm **out, struct err *e)
{
    struct comm *c = mem_alloc(sizeof *c);
    c->events = setup->events;
    c->overflow = setup->overflow;
    c->overflow_self = setup->self;
    c->enter = setup->enter;
    c->limits = comm__limits;
    c->rank = world_rank();
    c->size = world_size();
    open_communicators(c);
    enum status status = world_agree(check_setup(c, setup, e), e);
    if (status == ST_OK) {
        open_channels(c, setup);
        open_wide(c);
        open_streams(c, setup);
        c->max_calls = setup->max_calls ? setup->max_calls : 1;
        c->ring = mem_alloc(c->max_calls * sizeof *c->ring);
        status = world_agree(start_thread(c, e), e);
    }
    if (status != ST_OK) {
        mpi_close(c);
        return status;
    }
    *out = c;
    return ST_OK;
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

static void mpi_begin(struct comm *c, uint32_t epoch)
{
    CHECK(atomic_load(&c->done) == atomic_load(&c->launched));
    c->epoch = epoch;
}

static void check_call(const struct comm *c, const struct comm_call *call)
{
    CHECK(call->stream < c->n_streams && call->event < c->events.n);
    comm_type_size(call->type);
    if (call->op == COMM_SEND || call->op == COMM_RECV) {
        CHECK(call->channel == UINT32_MAX && call->peer < c->size && call->tag <= (uint32_t)c->tag_max);
        return;
    }
    if (call->op == COMM_EXCHANGE) {
        CHECK(call->channel == UINT32_MAX && call->peer < c->size && call->from < c->size);
        CHECK(call->tag <= (uint32_t)c->tag_max);
        return;
    }
    if (call->op == COMM_ADD) {
        CHECK(call->type == COMM_F32);
        return;
    }
    CHECK(call->op < COMM_OP_COUNT && call->channel < c->n_channels);
    CHECK(c->channels[call->channel].stream == call->stream);
    if (call->op == COMM_ALL_REDUCE || call->op == COMM_REDUCE_SCATTER)
        CHECK(call->type == COMM_F32 || call->type == COMM_F64 || call->type == COMM_I32 || call->type == COMM_BF16);
}

static void mpi_launch(struct comm *c, const struct comm_call *call)
{
    check_call(c, call);
    uint64_t launched = atomic_load_explicit(&c->launched, memory_order_relaxed);
    CHECK(launched - atomic_load_explicit(&c->done, memory_order_acquire) < c->max_calls);
    struct comm__entry *entry = &c->ring[launched % c->max_calls];
    entry->call = *call;
    entry->epoch = c->epoch;
    atomic_store_explicit(&c->launched, launched + 1, memory_order_release);
    comm__signal(c);
}

static bool has_happened(const struct comm *c, uint32_t event)
{
    return atomic_load_explicit(&c->events.at[event], memory_order_acquire) == c->epoch;
}

static void mpi_wait(struct comm *c, uint32_t event)
{
    CHECK(event < c->events.n);
    if (!has_happened(c, event))
        comm__drive(c, has_happened, event);
}

static bool all_done(const struct comm *c, uint32_t unused)
{
    (void)unused;
    return atomic_load_explicit(&c->done, memory_order_acquire) ==
           atomic_load_explicit(&c->launched, memory_order_relaxed);
}

static void mpi_drain(struct comm *c)
{
    if (!all_done(c, 0))
        comm__drive(c, all_done, 0);
}

/* Reductions are summed here, in the order of the members. Row counts of ALL_TO_ALL_V say where a member's own rows are. */
static bool mpi_direct(enum comm_op op)
{
#ifdef HAVE_MPIX_QUERY_CUDA_SUPPORT
    const bool moves = op == COMM_SEND || op == COMM_RECV || op == COMM_EXCHANGE || op == COMM_ALL_GATHER ||
                       op == COMM_ALL_TO_ALL || op == COMM_SHIFT;
    const char *allowed = getenv("PIPER_GPU_MPI");
    return moves && !(allowed && strcmp(allowed, "0") == 0) && MPIX_Query_cuda_support() == 1;
#else
    (void)op;
    return false;
#endif
}

const struct comm_backend comm_mpi = {
    .name = "mpi",
    .host = true,
    .direct = mpi_direct,
    .queues = true,
    .open = mpi_open,
    .close = mpi_close,
    .begin = mpi_begin,
    .launch = mpi_launch,
    .wait = mpi_wait,
    .drain = mpi_drain,
    .notify = comm__signal,
};
