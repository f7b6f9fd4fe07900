#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/parse.h"
#include "comm/mpi_private.h"

static struct {
    bool running;
    uint32_t rank, size;
    MPI_Comm world; /* a duplicate of MPI_COMM_WORLD that returns errors */
} ctl = { .size = 1 };

/* ---- errors and waiting ------------------------------------------------------------------------------------------ */

void comm__mpi_lost(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char line[sizeof text + 32];
    snprintf(line, sizeof line, "rank %u: %s", ctl.rank, text);
    process_fail(ST_HANG, line);
}

/* Until the program says otherwise: a failure that ranks cannot agree on ends all of them. */
static _Noreturn void fail(enum status status, const char *text)
{
    fprintf(stderr, "piper: %s\n", text);
    ctl_abort(-status);
}

void comm__mpi_check(int code, const char *call)
{
    if (code == MPI_SUCCESS)
        return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    comm__mpi_lost("%s failed: %s; a rank or the network was lost, run the same command again", call, text);
}

/* Other ranks may be seconds behind, in rank 0's compiler for instance, and need the cores: naps, not MPI's spins. */
void comm__ctl_wait(MPI_Request *request, const char *call)
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
        enum status st = err_set(
            e, ST_USAGE, "MPI",
            "%s has started %llu processes (%s), but MPI sees 1: the launcher and this MPI do not know each "
            "other. Start it with this MPI's own mpirun, or with another --mpi of srun (--mpi=pmix; "
            "`srun --mpi=list` shows them)",
            launchers[i].name, (unsigned long long)started, launchers[i].size);
        parse_environment(launchers[i].rank, 0, UINT32_MAX, &rank, NULL);
        if (rank > 0 && e)
            e->text[0] = '\0';
        return st;
    }
    return ST_OK;
}

/* ---- start and end ----------------------------------------------------------------------------------------------- */

enum status ctl_init(int *argc, char ***argv, struct err *e)
{
    int level = 0, rank = 0, size = 0;
    /* The progress thread and the main thread are never inside MPI at once on our account (one lock for the streams, and
     * control calls come when nothing is under way), so SERIALIZED is enough here; MULTIPLE also allows parallel I/O
     * from another thread. */
    if (MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS)
        return err_set(e, ST_DEVICE, "MPI", "MPI_Init_thread failed; start the program with this MPI's own mpirun");
    if (level < MPI_THREAD_SERIALIZED) {
        MPI_Finalize();
        return err_set(e, ST_DEVICE, "MPI",
                       "this MPI has thread level %d, expected MPI_THREAD_SERIALIZED (%d) or MPI_THREAD_MULTIPLE (%d); "
                       "use an MPI that was built with threads",
                       level, MPI_THREAD_SERIALIZED, MPI_THREAD_MULTIPLE);
    }
    comm__mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    comm__mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &ctl.world), "MPI_Comm_dup");
    comm__mpi_check(MPI_Comm_set_errhandler(ctl.world, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    comm__mpi_check(MPI_Comm_rank(ctl.world, &rank), "MPI_Comm_rank");
    comm__mpi_check(MPI_Comm_size(ctl.world, &size), "MPI_Comm_size");
    enum status st = check_launcher(size, e);
    if (st != ST_OK) {
        MPI_Comm_free(&ctl.world);
        MPI_Finalize();
        return st;
    }
    ctl.rank = (uint32_t)rank;
    ctl.size = (uint32_t)size;
    ctl.running = true;
    process_on_fail(fail);
    return ST_OK;
}

void ctl_finalize(void)
{
    if (!ctl.running)
        return;
    comm__mpi_check(MPI_Comm_free(&ctl.world), "MPI_Comm_free");
    ctl.running = false;
    MPI_Finalize();
}

static void (*_Atomic let_go)(void);

void ctl_before_abort(void (*f)(void))
{
    atomic_store(&let_go, f);
}

void comm__let_go(void)
{
    void (*f)(void) = atomic_exchange(&let_go, NULL);
    if (f)
        f();
}

void ctl_abort(int code)
{
    int begun = 0, ended = 0;
    comm__let_go();
    fflush(NULL);
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (begun && !ended && ctl_size() > 1) /* alone there is nobody to tell, and MPI would print a banner */
        MPI_Abort(MPI_COMM_WORLD, code);
    _Exit(code);
}

uint32_t ctl_rank(void)
{
    return ctl.rank;
}

uint32_t ctl_size(void)
{
    return ctl.size;
}

/* ---- telling each other ------------------------------------------------------------------------------------------ */

static void broadcast(void *data, uint64_t size, int root, MPI_Comm comm)
{
    for (uint64_t at = 0; at < size;) {
        uint64_t n = size - at < comm__limits.message ? size - at : comm__limits.message;
        MPI_Request request;
        comm__mpi_check(MPI_Ibcast((char *)data + at, (int)n, MPI_BYTE, root, comm, &request), "MPI_Ibcast");
        comm__ctl_wait(&request, "MPI_Ibcast");
        at += n;
    }
}

static void all_reduce(void *values, uint32_t n, MPI_Datatype type, MPI_Op op)
{
    CHECK(n <= INT_MAX);
    MPI_Request request;
    comm__mpi_check(MPI_Iallreduce(MPI_IN_PLACE, values, (int)n, type, op, ctl.world, &request), "MPI_Iallreduce");
    comm__ctl_wait(&request, "MPI_Iallreduce");
}

enum status ctl_agree(enum status mine, struct err *e)
{
    if (!ctl.running)
        return mine;
    uint32_t first = mine == ST_OK ? UINT32_MAX : ctl.rank;
    all_reduce(&first, 1, MPI_UINT32_T, MPI_MIN);
    if (first == UINT32_MAX)
        return ST_OK;
    struct err said = { .status = mine };
    if (first == ctl.rank) {
        if (e && e->status != ST_OK)
            said = *e;
        else
            err_set((err_clear(&said), &said), mine, NULL, "rank %u: %s", ctl.rank, status_name(mine));
        said.status = mine;
    }
    broadcast(&said, sizeof said, (int)first, ctl.world);
    if (e)
        *e = said;
    return said.status;
}

void ctl_broadcast_from(uint32_t root, void **data, uint64_t *size)
{
    if (!ctl.running)
        return;
    broadcast(size, sizeof *size, (int)root, ctl.world);
    if (ctl.rank != root)
        *data = mem_alloc(*size);
    broadcast(*data, *size, (int)root, ctl.world);
}

void ctl_broadcast(void **data, uint64_t *size)
{
    ctl_broadcast_from(0, data, size);
}

/* A message from rank 0 to another rank, in pieces. */
static void pass_on(void *data, uint64_t size, uint32_t to)
{
    for (uint64_t at = 0; at < size;) {
        uint64_t n = size - at < comm__limits.message ? size - at : comm__limits.message;
        MPI_Request request;
        const char *call = ctl.rank == 0 ? "MPI_Isend" : "MPI_Irecv";
        comm__mpi_check(ctl.rank == 0 ? MPI_Isend((char *)data + at, (int)n, MPI_BYTE, (int)to, 0, ctl.world, &request)
                                      : MPI_Irecv((char *)data + at, (int)n, MPI_BYTE, 0, 0, ctl.world, &request),
                        call);
        comm__ctl_wait(&request, call);
        at += n;
    }
}

void ctl_scatter_classes(const uint32_t *class_of, uint32_t n_classes, void *const *blobs, const uint64_t *sizes,
                         void **mine, uint64_t *my_size)
{
    uint32_t class = class_of[ctl.rank];
    CHECK(class < n_classes);
    uint32_t *first = mem_alloc(n_classes * sizeof *first), *members = mem_alloc(n_classes * sizeof *members);
    for (uint32_t r = ctl.size; r-- > 0;) {
        CHECK(class_of[r] < n_classes);
        first[class_of[r]] = r;
        members[class_of[r]]++;
    }
    uint64_t size = ctl.rank == 0 ? sizes[class] : 0;
    MPI_Comm comm = MPI_COMM_NULL;
    if (ctl.size > 1)
        comm__mpi_check(MPI_Comm_split(ctl.world, (int)class, (int)ctl.rank, &comm), "MPI_Comm_split");
    for (uint32_t k = 0; ctl.rank == 0 && k < n_classes; k++)
        if (members[k] && first[k] != 0) {
            uint64_t n = sizes[k];
            pass_on(&n, sizeof n, first[k]);
            pass_on(blobs[k], n, first[k]);
        }
    bool heads = first[class] == ctl.rank;
    if (heads && ctl.rank != 0)
        pass_on(&size, sizeof size, ctl.rank);
    if (members[class] > 1)
        broadcast(&size, sizeof size, 0, comm);
    void *data = mem_alloc(size);
    if (ctl.rank == 0)
        memcpy(data, blobs[class], size);
    else if (heads)
        pass_on(data, size, ctl.rank);
    if (members[class] > 1)
        broadcast(data, size, 0, comm);
    if (comm != MPI_COMM_NULL)
        comm__mpi_check(MPI_Comm_free(&comm), "MPI_Comm_free");
    mem_free(first);
    mem_free(members);
    *mine = data;
    *my_size = size;
}

void ctl_max_u64(uint64_t *values, uint32_t n)
{
    if (ctl.running)
        all_reduce(values, n, MPI_UINT64_T, MPI_MAX);
}

void ctl_sum_f64(double *values, uint32_t n)
{
    if (ctl.running)
        all_reduce(values, n, MPI_DOUBLE, MPI_SUM);
}

void ctl_all_gather(const void *mine, uint64_t size, void *all)
{
    CHECK(size <= INT_MAX);
    memcpy((char *)all + ctl.rank * size, mine, size);
    if (!ctl.running)
        return;
    MPI_Request request;
    comm__mpi_check(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, (int)size, MPI_BYTE, ctl.world, &request),
                    "MPI_Iallgather");
    comm__ctl_wait(&request, "MPI_Iallgather");
}

void ctl_barrier(void)
{
    if (!ctl.running)
        return;
    MPI_Request request;
    comm__mpi_check(MPI_Ibarrier(ctl.world, &request), "MPI_Ibarrier");
    comm__ctl_wait(&request, "MPI_Ibarrier");
}
