#include "comm/liveness.h"

#include <unistd.h>

#include "base/mem.h"
#include "comm/mpi_call.h"

struct outgoing {
    MPI_Request request; /* MPI_REQUEST_NULL: free */
    uint32_t to;
    unsigned char *data;
};

struct liveness {
    MPI_Comm comm;
    MPI_Request incoming;
    unsigned char data[LIVENESS_BYTES];
    struct {
        VEC(struct outgoing);
    } sent;
};

static void add_slot(struct liveness *l)
{
    vec_add(&l->sent, ((struct outgoing){ .request = MPI_REQUEST_NULL, .data = mem_alloc(LIVENESS_BYTES) }));
}

static void listen_again(struct liveness *l)
{
    CALL(MPI_Irecv, l->data, LIVENESS_BYTES, MPI_BYTE, MPI_ANY_SOURCE, 0, l->comm, &l->incoming);
}

bool liveness_works(void)
{
    int level = 0;
    CALL(MPI_Query_thread, &level);
    return level == MPI_THREAD_MULTIPLE;
}

struct liveness *liveness_open(void)
{
    enum { SLOTS = 4 }; /* what heartbeats need, so that they allocate nothing later */
    if (world_size() == 1 || !liveness_works())
        return NULL;
    struct liveness *l = mem_alloc(sizeof *l);
    CALL(MPI_Comm_dup, MPI_COMM_WORLD, &l->comm);
    CALL(MPI_Comm_set_errhandler, l->comm, MPI_ERRORS_RETURN);
    for (int i = 0; i < SLOTS; i++)
        add_slot(l);
    listen_again(l);
    return l;
}

void liveness_close(struct liveness *l)
{
    if (!l)
        return;
    CALL(MPI_Cancel, &l->incoming);
    CALL(MPI_Wait, &l->incoming, MPI_STATUS_IGNORE);
    for (uint32_t i = 0; i < l->sent.n; i++) {
        if (l->sent.at[i].request != MPI_REQUEST_NULL)
            comm__mpi_wait(&l->sent.at[i].request, "MPI_Isend");
        mem_free(l->sent.at[i].data);
    }
    CALL(MPI_Comm_free, &l->comm);
    vec_free(&l->sent);
    mem_free(l);
}

void liveness_peers(struct liveness_peer *peers)
{
    struct liveness_peer me = { .pid = (int32_t)getpid() };
    gethostname(me.host, sizeof me.host - 1);
    world_all_gather(&me, sizeof me, peers);
}

/* A free slot; UINT32_MAX: a message to that rank is still under way, and the caller would rather skip. */
static uint32_t find_slot(struct liveness *l, uint32_t to, bool skip)
{
    uint32_t slot = UINT32_MAX;
    for (uint32_t i = 0; i < l->sent.n; i++) {
        struct outgoing *o = &l->sent.at[i];
        int done = 1;
        if (o->request != MPI_REQUEST_NULL)
            CALL(MPI_Test, &o->request, &done, MPI_STATUS_IGNORE);
        if (done)
            slot = i;
        else if (skip && o->to == to)
            return UINT32_MAX;
        if (done && !skip)
            break;
    }
    if (slot == UINT32_MAX && !skip) {
        add_slot(l);
        slot = l->sent.n - 1;
    }
    return slot;
}

void liveness_send(struct liveness *l, uint32_t to, const void *message, uint32_t bytes, bool skip)
{
    CHECK(bytes <= LIVENESS_BYTES);
    uint32_t slot = find_slot(l, to, skip);
    if (slot == UINT32_MAX)
        return;
    struct outgoing *o = &l->sent.at[slot];
    memcpy(o->data, message, bytes);
    o->to = to;
    CALL(MPI_Isend, o->data, (int)bytes, MPI_BYTE, (int)to, 0, l->comm, &o->request);
}

bool liveness_receive(struct liveness *l, void *message, uint32_t *bytes, uint32_t *from)
{
    int done = 0, n = 0;
    MPI_Status status;
    CALL(MPI_Test, &l->incoming, &done, &status);
    if (!done)
        return false;
    CALL(MPI_Get_count, &status, MPI_BYTE, &n);
    memcpy(message, l->data, (size_t)n);
    *bytes = (uint32_t)n;
    *from = (uint32_t)status.MPI_SOURCE;
    listen_again(l);
    return true;
}
