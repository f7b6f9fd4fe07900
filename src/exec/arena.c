/* Memory of a rank. Mapped, not allocated: pages are zero and come when they are first touched, by the thread that works
 * with them, and the system can tell afterwards which ones were. */
#include "exec/device.h"

#include <sys/mman.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "host/memory_room.h"

static uint64_t page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static const double mib = 1024 * 1024;

static enum status map(struct exec *x, enum plan_arena a, struct err *e)
{
    uint64_t bytes = x->plan->h->arena_bytes[a];
    if (!bytes)
        return ST_OK;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(e, ST_DEVICE, NULL, "rank %u: cannot allocate %.0f MiB; use more nodes or a smaller job",
                       x->rank, (double)bytes / mib);
    x->arena[a] = p;
    return ST_OK;
}

/* What libraries map beside the plan when training begins: a buffer of the BLAS and a stack for each thread, heaps, MPI
 * and HDF5, as measured. A BLAS library that does not get its buffer tries for ever. */
static uint64_t library_bytes(void)
{
    enum { THREAD_MIB = 56, ALL_MIB = 192 };
    uint64_t threads = 1;
#ifdef _OPENMP
    threads = (uint64_t)omp_get_max_threads();
#endif
    return (ALL_MIB + THREAD_MIB * threads) << 20;
}

static enum status check_room(const struct exec *x, uint64_t local_ranks, struct err *e)
{
    const struct plan_header *h = x->plan->h;
    const uint64_t ranks = local_ranks ? local_ranks : 1, needed = h->total_bytes * ranks, libraries = library_bytes();
    struct memory_room room;
    memory_room("", &room);
    if (needed > room.shared)
        return err_set(e, ST_DEVICE, NULL,
                       "rank %u: the plan needs %.0f MiB per rank, %.0f MiB on this node with its %llu ranks; %.0f MiB "
                       "are available, limited by %s. Use more nodes, more microbatches or a smaller batch (piper plan "
                       "shows the breakdown)",
                       x->rank, (double)h->total_bytes / mib, (double)needed / mib, (unsigned long long)ranks,
                       (double)room.shared / mib, room.of);
    if (room.own != UINT64_MAX && h->total_bytes + libraries > room.own)
        return err_set(e, ST_DEVICE, NULL,
                       "rank %u: the plan needs %.0f MiB and libraries up to %.0f MiB of address space, but %s leaves "
                       "%.0f MiB: raise it (%s unlimited), use fewer threads or a smaller job",
                       x->rank, (double)h->total_bytes / mib, (double)libraries / mib, room.own_limit,
                       (double)room.own / mib, room.own_limit);
    return ST_OK;
}

enum status exec__arenas_map(struct exec *x, uint64_t local_ranks, struct err *e)
{
    TRY(check_room(x, local_ranks, e));
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        TRY(map(x, (enum plan_arena)a, e));
    return ST_OK;
}

/* Room for a message from or to each member of any group, of one element at least. */
enum status exec__window_map(struct exec *x, struct err *e)
{
    const struct plan_header *h = x->plan->h;
    uint64_t least = h->world * sizeof(double);
    x->window_bytes = least > EXEC__ENVELOPE ? least : EXEC__ENVELOPE;
    x->window = mem_alloc(2 * x->window_bytes);
    return map(x, ARENA_SCALARS, e);
}

void exec__arenas_unmap(struct exec *x)
{
    mem_free(x->window);
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (x->arena[a])
            munmap(x->arena[a], x->plan->h->arena_bytes[a]);
}

static uint64_t resident(unsigned char *base, uint64_t bytes)
{
    enum { WINDOW = 1 << 14 };
    static unsigned char in_core[WINDOW];
    uint64_t page = page_size(), pages = 0;
    for (uint64_t at = 0; at < bytes; at += WINDOW * page) {
        uint64_t n = bytes - at < WINDOW * page ? bytes - at : WINDOW * page;
        if (mincore(base + at, n, in_core) != 0)
            return bytes;
        for (uint64_t i = 0; i < (n + page - 1) / page; i++)
            pages += in_core[i] & 1;
    }
    uint64_t sum = pages * page;
    return sum < bytes ? sum : bytes;
}

struct exec_memory exec_memory(const struct exec *x)
{
    struct exec_memory m = { 0 };
    if (x->device)
        return exec__device_memory(x);
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        m.planned += x->plan->h->arena_bytes[a];
        if (x->arena[a])
            m.touched += resident(x->arena[a], x->plan->h->arena_bytes[a]);
    }
    return m;
}
