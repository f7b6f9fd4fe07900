/* Memory of the host for a rank. Mapped, not allocated: pages are zero and come when they are first touched, by the thread that
 * works with them, and the system can tell afterwards which ones were. */
#include "exec/private.h"

#include <sys/mman.h>
#include <unistd.h>

static enum status map(struct exec *x, uint32_t arena, struct err *e)
{
    uint64_t bytes = x->plan->h->arena_bytes[arena];
    if (!bytes)
        return ST_OK;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(e, ST_DEVICE, NULL, "rank %u: cannot allocate %.0f MiB; use more nodes or a smaller job",
                       x->rank, (double)bytes / EXEC__MIB);
    x->arena[arena] = p;
    return ST_OK;
}

enum status exec__host_open(struct exec *x, uint32_t arenas, struct err *e)
{
    uint64_t scalars = x->plan->h->arena_bytes[ARENA_SCALARS];
    if (scalars != plan_scalars_bytes(x->graph))
        return err_set(e, ST_BUG, "executor", "the plan has %llu bytes for the scalars of a step, expected %llu",
                       (unsigned long long)scalars, (unsigned long long)plan_scalars_bytes(x->graph));
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (arenas >> a & 1)
            TRY(map(x, a, e));
    x->scalars = (double *)(void *)x->arena[ARENA_SCALARS];
    x->loads = x->scalars + SCALAR_COUNT;
    x->events = arena_array(&x->memory, _Atomic uint32_t, x->n_events + 1);
    return ST_OK;
}

void exec__host_close(struct exec *x)
{
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (x->arena[a])
            munmap(x->arena[a], x->plan->h->arena_bytes[a]);
}

unsigned char *const *exec__host_arenas(const struct exec *x)
{
    return x->arena;
}

static uint64_t resident(unsigned char *base, uint64_t bytes)
{
    enum { WINDOW = 1 << 14 };
    static unsigned char in_core[WINDOW];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = 0;
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

struct exec_memory exec__host_memory(const struct exec *x)
{
    struct exec_memory m = { 0 };
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        m.planned += x->plan->h->arena_bytes[a];
        if (x->arena[a])
            m.touched += resident(x->arena[a], x->plan->h->arena_bytes[a]);
    }
    return m;
}

const void *exec__host_read(const struct exec *x, const void *p, uint64_t bytes)
{
    (void)x, (void)bytes;
    return p;
}

const char *exec__no_notes(const struct exec *x)
{
    (void)x;
    return "";
}

void exec__nothing(struct exec *x)
{
    (void)x;
}
