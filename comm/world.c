#include "comm/world.h"

#include <float.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/mem.h"
#include "base/parse.h"
#include "comm/mpi_call.h"

uint64_t comm__message = UINT64_C(1) << 30;

static struct {
    uint32_t rank, size; /* 1: alone, or MPI does not run */
    bool running;
    MPI_Comm comm; /* a duplicate of MPI_COMM_WORLD that returns errors */
} world = { .size = 1 };

/* ---- errors and waiting ------------------------------------------------------------------------------------------ */

void comm__mpi_lost(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char line[sizeof text + 32];
    snprintf(line, sizeof line, "rank %u: %s", world.rank, text);
    process_fail(ST_HANG, line);
}

void comm__mpi_check(int code, const char *call)
{
    if (code == MPI_SUCCESS)
        return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    comm__mpi_lost("%s failed: %s; a rank or the network was lost; rerun the same command to resume", call, text);
}

/* Other ranks may be seconds behind, in rank 0's compiler for instance, and need the cores: naps, not MPI's spins. */
void comm__mpi_wait(MPI_Request *request, const char *call)
{
    struct comm__patience patience = { .yields = 100 };
    for (;;) {
        int done = 0;
        comm__mpi_check(MPI_Test(request, &done, MPI_STATUS_IGNORE), call);
        if (done)
            return;
        uint32_t us = comm__patience_next(&patience);
        if (us)
            clock_nap(us * 1e-6);
    }
}

/* Each process of a launcher that this MPI does not know is rank 0 of a world of its own. Those that the launcher calls 1, 2, ...
 * leave the sentence to the first. */
static enum status check_launcher(int size, struct err *e)
{
    static const struct {
        const char *size, *rank, *name;
    } launchers[] = {
        { "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "Open MPI's mpirun" },
        { "PMI_SIZE", "PMI_RANK", "mpiexec" },
        { "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun" },
    };
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        uint64_t started = 0, rank = 0;
        if (parse_environment(launchers[i].size, 0, UINT32_MAX, &started, NULL) != ST_OK || !started)
            continue;
        if (size > 1 || started == 1)
            return ST_OK;
        parse_environment(launchers[i].rank, 0, UINT32_MAX, &rank, NULL);
        world.rank = (uint32_t)rank;
        return err_set(e, ST_USAGE, "MPI",
                       "%s has started %llu processes (%s), but MPI sees 1: the launcher does not match this MPI. Use "
                       "this MPI's own mpirun, or another --mpi of srun (--mpi=pmix; `srun --mpi=list` lists them)",
                       launchers[i].name, (unsigned long long)started, launchers[i].size);
    }
    return ST_OK;
}

/* ---- start and end ----------------------------------------------------------------------------------------------- */

enum status world_init(int *argc, char ***argv, struct err *e)
{
    int level = 0, rank = 0, size = 0;
    /* The progress thread and the main thread are never inside MPI at once on our account (one lock for the streams, and
     * calls of the world come when nothing is under way), so SERIALIZED is enough here; MULTIPLE also allows parallel I/O
     * from another thread. */
    if (MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS)
        return err_set(e, ST_DEVICE, "MPI", "MPI_Init_thread failed; launch the program with this MPI's own mpirun");
    if (level < MPI_THREAD_SERIALIZED) {
        MPI_Finalize();
        return err_set(e, ST_DEVICE, "MPI",
                       "this MPI provides thread level %d, expected MPI_THREAD_SERIALIZED (%d) or MPI_THREAD_MULTIPLE "
                       "(%d); use an MPI built with thread support",
                       level, MPI_THREAD_SERIALIZED, MPI_THREAD_MULTIPLE);
    }
    CALL(MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    CALL(MPI_Comm_dup, MPI_COMM_WORLD, &world.comm);
    CALL(MPI_Comm_set_errhandler, world.comm, MPI_ERRORS_RETURN);
    CALL(MPI_Comm_rank, world.comm, &rank);
    CALL(MPI_Comm_size, world.comm, &size);
    enum status st = check_launcher(size, e);
    if (st != ST_OK) {
        MPI_Comm_free(&world.comm);
        MPI_Finalize();
        return st;
    }
    world.rank = (uint32_t)rank;
    world.size = (uint32_t)size;
    world.running = true;
    process_ways.leave = world_abort;
    return ST_OK;
}

void world_finalize(void)
{
    if (!world.running)
        return;
    CALL(MPI_Comm_free, &world.comm);
    world.running = false;
    world.size = 1;
    MPI_Finalize();
}

static void (*_Atomic before_abort)(void);

void world_before_abort(void (*let_go)(void))
{
    atomic_store(&before_abort, let_go);
}

void world_abort(int code)
{
    int begun = 0, ended = 0;
    void (*let_go)(void) = atomic_exchange(&before_abort, NULL);
    if (let_go)
        let_go();
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (begun && !ended && world.size > 1) /* alone there is nobody to tell, and MPI would print a banner */
        MPI_Abort(MPI_COMM_WORLD, code);
    _Exit(code);
}

uint32_t world_rank(void)
{
    return world.rank;
}

uint32_t world_size(void)
{
    return world.size;
}

/* ---- telling each other ------------------------------------------------------------------------------------------ */

static uint64_t piece(uint64_t left)
{
    return left < comm__message ? left : comm__message;
}

static void broadcast(void *data, uint64_t bytes, uint32_t root, MPI_Comm comm)
{
    for (uint64_t at = 0; at < bytes; at += piece(bytes - at)) {
        MPI_Request request;
        CALL(MPI_Ibcast, (char *)data + at, (int)piece(bytes - at), MPI_BYTE, (int)root, comm, &request);
        comm__mpi_wait(&request, "MPI_Ibcast");
    }
}

/* Values of 8 bytes. */
static void all_reduce(void *values, uint64_t n, MPI_Datatype type, MPI_Op op)
{
    uint64_t bytes = world.size > 1 ? 8 * n : 0;
    for (uint64_t at = 0, part; at < bytes; at += part) {
        MPI_Request request;
        part = piece(bytes - at) & ~UINT64_C(7);
        CALL(MPI_Iallreduce, MPI_IN_PLACE, (char *)values + at, (int)(part / 8), type, op, world.comm, &request);
        comm__mpi_wait(&request, "MPI_Iallreduce");
    }
}

void world_pass(void *data, uint64_t bytes, uint32_t from, uint32_t to)
{
    if (from == to || (world.rank != from && world.rank != to))
        return;
    for (uint64_t at = 0; at < bytes; at += piece(bytes - at)) {
        int n = (int)piece(bytes - at);
        MPI_Request request;
        if (world.rank == from)
            CALL(MPI_Isend, (char *)data + at, n, MPI_BYTE, (int)to, 0, world.comm, &request);
        else
            CALL(MPI_Irecv, (char *)data + at, n, MPI_BYTE, (int)from, 0, world.comm, &request);
        comm__mpi_wait(&request, world.rank == from ? "MPI_Isend" : "MPI_Irecv");
    }
}

static void broadcast_from(uint32_t root, void *data, uint64_t bytes)
{
    if (world.size > 1)
        broadcast(data, bytes, root, world.comm);
}

enum status world_agree(enum status mine, struct err *e)
{
    uint64_t first = mine == ST_OK ? UINT64_MAX : world.rank;
    all_reduce(&first, 1, MPI_UINT64_T, MPI_MIN);
    if (first == UINT64_MAX)
        return ST_OK;
    struct err said = { .status = mine };
    if (first == world.rank) {
        if (e && e->status != ST_OK)
            said = *e;
        else
            err_set((err_clear(&said), &said), mine, NULL, "rank %u: %s", world.rank, status_name(mine));
        said.status = mine;
    }
    broadcast_from((uint32_t)first, &said, sizeof said);
    if (e)
        *e = said;
    return said.status;
}

void world_broadcast(void *data, uint64_t bytes)
{
    broadcast_from(0, data, bytes);
}

void world_share_from(uint32_t root, void **data, uint64_t *bytes)
{
    broadcast_from(root, bytes, sizeof *bytes);
    if (world.rank != root)
        *data = mem_alloc(*bytes);
    broadcast_from(root, *data, *bytes);
}

/* [n] The lowest rank of each class; 0 where there is none: rank 0 needs no message. */
static uint32_t *first_members(const struct world_classes *c)
{
    uint32_t *first = mem_alloc(c->n * sizeof *first);
    for (uint32_t r = world.size; r-- > 0;) {
        CHECK(c->of[r] < c->n);
        first[c->of[r]] = r;
    }
    return first;
}

void world_scatter(const struct world_classes *c, void **mine, uint64_t *bytes)
{
    const uint32_t class = c->of[world.rank];
    uint32_t *first = first_members(c);
    uint64_t *sizes = mem_alloc(c->n * sizeof *sizes);
    if (world.rank == 0)
        memcpy(sizes, c->sizes, c->n * sizeof *sizes);
    world_broadcast(sizes, c->n * sizeof *sizes);
    *bytes = sizes[class];
    *mine = mem_alloc(*bytes);
    if (world.rank == 0)
        memcpy(*mine, c->blobs[class], *bytes);
    for (uint32_t k = 0; k < c->n; k++)
        world_pass(world.rank == 0 ? c->blobs[k] : *mine, sizes[k], 0, first[k]);
    if (world.size > 1) {
        MPI_Comm members;
        CALL(MPI_Comm_split, world.comm, (int)class, (int)world.rank, &members);
        broadcast(*mine, *bytes, 0, members);
        CALL(MPI_Comm_free, &members);
    }
    mem_free(first);
    mem_free(sizes);
}

void world_max_u64(uint64_t *values, uint64_t n)
{
    all_reduce(values, n, MPI_UINT64_T, MPI_MAX);
}

void world_sum_u64(uint64_t *values, uint64_t n)
{
    all_reduce(values, n, MPI_UINT64_T, MPI_SUM);
}

void world_sum_f64(double *values, uint64_t n)
{
    all_reduce(values, n, MPI_DOUBLE, MPI_SUM);
}

void world_all_gather(const void *mine, uint64_t bytes, void *all)
{
    CHECK(bytes <= INT_MAX);
    memcpy((char *)all + world.rank * bytes, mine, bytes);
    if (world.size == 1)
        return;
    MPI_Request request;
    CALL(MPI_Iallgather, MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, (int)bytes, MPI_BYTE, world.comm, &request);
    comm__mpi_wait(&request, "MPI_Iallgather");
}

void world_collect(const void *mine, const uint64_t *bytes, void **out)
{
    for (uint32_t r = 0; r < world.size; r++) {
        if (world.rank == 0)
            out[r] = bytes[r] ? mem_alloc(bytes[r]) : NULL;
        if (world.rank == 0 && r == 0 && bytes[0])
            memcpy(out[0], mine, bytes[0]);
        world_pass(world.rank == 0 ? out[r] : (void *)(uintptr_t)mine, bytes[r], r, 0);
    }
}

void world_barrier(void)
{
    if (world.size == 1)
        return;
    MPI_Request request;
    CALL(MPI_Ibarrier, world.comm, &request);
    comm__mpi_wait(&request, "MPI_Ibarrier");
}

/* The standard lets it say more, behind a comma or on further lines. */
void world_library(char *text, size_t size)
{
    char all[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n = 0;
    MPI_Get_library_version(all, &n);
    snprintf(text, size, "%.*s", (int)strcspn(all, ",\n"), all);
}

/* The time of `now` at the other end, between a message to it and one from it. */
static void answer(double (*now)(void), uint32_t rank)
{
    CALL(MPI_Recv, NULL, 0, MPI_BYTE, (int)rank, 0, world.comm, MPI_STATUS_IGNORE);
    double mine = now();
    CALL(MPI_Send, &mine, 1, MPI_DOUBLE, (int)rank, 0, world.comm);
}

double world_clock_offset(double (*now)(void))
{
    enum { TURNS = 12 };
    double offset = 0, best = DBL_MAX;
    for (uint32_t r = 1; r < world.size; r++) /* rank 0 answers each in turn */
        for (int i = 0; i < TURNS; i++) {
            if (world.rank == 0)
                answer(now, r);
            if (world.rank != r)
                continue;
            double sent = now(), theirs;
            CALL(MPI_Send, NULL, 0, MPI_BYTE, 0, 0, world.comm);
            CALL(MPI_Recv, &theirs, 1, MPI_DOUBLE, 0, 0, world.comm, MPI_STATUS_IGNORE);
            double got = now();
            if (i > 1 && got - sent < best) { /* the first ones warm up, and wait for rank 0 to come to us */
                best = got - sent;
                offset = theirs - (sent + got) / 2;
            }
        }
    return offset;
}
