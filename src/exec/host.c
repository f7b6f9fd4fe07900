/* The host as a machine: arenas in its memory, kernels called by the thread that runs the list. */
#include <math.h>
#include <pthread.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "exec/private.h"
#include "host/memory_room.h"

struct host {
    struct step_inputs inputs;
    double discarded[SCALAR_COUNT];
    /* Copies of state under way: those before `next` are taken, `done` of them finished. */
    pthread_mutex_t lock;
    pthread_cond_t all_done;
    const struct exec_copy *list;
    uint32_t n, next, done;
};

/* ---- opening and closing -------------------------------------------------------------------------------------- */

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
                       x->rank, (double)h->total_bytes / EXEC__MIB, (double)needed / EXEC__MIB,
                       (unsigned long long)ranks, (double)room.shared / EXEC__MIB, room.of);
    if (room.own != UINT64_MAX && h->total_bytes + libraries > room.own)
        return err_set(e, ST_DEVICE, NULL,
                       "rank %u: the plan needs %.0f MiB and libraries up to %.0f MiB of address space, but %s leaves "
                       "%.0f MiB: raise it (%s unlimited), use fewer threads or a smaller job",
                       x->rank, (double)h->total_bytes / EXEC__MIB, (double)libraries / EXEC__MIB, room.own_limit,
                       (double)room.own / EXEC__MIB, room.own_limit);
    return ST_OK;
}

static void open_sums(struct exec *x)
{
    exec__sums_open(x);
    const uint64_t n = x->sums->n, bytes = n * UPDATE_ARRAYS * sizeof(uint64_t);
    const struct exec__sums_memory memory = { .at = x->sums->at,
                                              .sums = arena_alloc(&x->memory, bytes),
                                              .kept = arena_alloc(&x->memory, bytes),
                                              .faults = arena_array(&x->memory, uint32_t, n + 1) };
    exec__sums_bind(x, &memory, NULL);
}

static enum status open_host(struct exec *x, const struct exec_setup *s, struct err *e)
{
    struct host *h = x->own = arena_new(&x->memory, struct host);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->all_done, NULL);
    x->discarded = h->discarded;
    x->weight = &h->inputs.weight;
    TRY(check_room(x, s->local_ranks, e));
    TRY(exec__host_open(x, UINT32_MAX, e));
    TRY(exec__bind_kernels(x, e));
    if (x->keeps_sums)
        open_sums(x);
    return ST_OK;
}

static void close_host(struct exec *x)
{
    struct host *h = x->own;
    exec__host_close(x);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->all_done);
}

/* The plan has memory for what reductions need. */
static enum status connect(struct exec *x, const struct exec_setup *s, struct comm_setup *setup, struct err *e)
{
    (void)s, (void)e;
    void **scratch = arena_array(&x->memory, void *, setup->n_streams);
    uint64_t *bytes = arena_array(&x->memory, uint64_t, setup->n_streams);
    for (uint32_t i = 0; i < setup->n_streams; i++) {
        scratch[i] = x->arena[ARENA_COMM] ? x->arena[ARENA_COMM] + x->plan->streams[i].scratch : NULL;
        bytes[i] = x->plan->streams[i].scratch_bytes;
    }
    setup->scratch = scratch;
    setup->scratch_bytes = bytes;
    return ST_OK;
}

/* ---- copies of state ------------------------------------------------------------------------------------------ */

/* There is no thread for them: whoever waits first works through the list, and who comes meanwhile takes a share of what is
 * left. */
static void copy_begin(struct exec *x, const struct exec_copy *list, uint32_t n)
{
    struct host *h = x->own;
    const struct exec__sums *sums = x->sums;
    if (sums)
        memcpy(sums->memory.kept, sums->memory.sums, sums->n * sizeof *sums->memory.sums);
    pthread_mutex_lock(&h->lock);
    CHECK(h->done == h->n);
    h->list = list;
    h->n = n;
    h->next = h->done = 0;
    pthread_mutex_unlock(&h->lock);
}

static void copy_wait(struct exec *x)
{
    struct host *h = x->own;
    pthread_mutex_lock(&h->lock);
    while (h->next < h->n) {
        const struct exec_copy *k = &h->list[h->next++];
        pthread_mutex_unlock(&h->lock);
        memcpy(k->to, k->from, k->bytes);
        pthread_mutex_lock(&h->lock);
        if (++h->done == h->n)
            pthread_cond_broadcast(&h->all_done);
    }
    while (h->done < h->n)
        pthread_cond_wait(&h->all_done, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

/* Updates change what copies read. */
static void before_update(struct exec *x)
{
    struct host *h = x->own;
    pthread_mutex_lock(&h->lock);
    bool under_way = h->done < h->n;
    pthread_mutex_unlock(&h->lock);
    if (!under_way)
        return;
    double begin = clock_now();
    copy_wait(x);
    x->copy_waited += clock_now() - begin;
}

/* ---- instructions --------------------------------------------------------------------------------------------- */

static void run_load(struct exec *x, const struct plan_instr *in)
{
    exec__load(x, in, exec__base(x, in, 0));
}

static void clear(void *p, uint64_t bytes, void *stream)
{
    (void)stream;
    memset(p, 0, bytes);
}

static void run_program(struct exec *x, const struct plan_instr *in)
{
    uint32_t first, end;
    exec__piece(x, in, &first, &end);
    exec__clear_gaps(x, in, clear, NULL);
    for (uint32_t i = first; i < end; i++) {
        atomic_store_explicit(&x->kernel, i, memory_order_relaxed);
        const struct op_args a = exec__args(x, x->list, in, i, NULL);
        x->kernels[i].run(&a);
        if (x->check_numbers)
            exec__check_kernel(x, in, &x->plan->kernels[i], &a);
    }
}

static void run_rounds(struct exec *x, const struct plan_instr *in)
{
    exec__run_rounds(x, in, run_program);
}

static void run_sumsq(struct exec *x, const struct plan_instr *in)
{
    const struct exec__bucket *b = &x->buckets[in->bucket];
    if (x->check_numbers)
        exec__check_bucket(x, in);
    x->compute->sumsq(b->norm_grad, b->norm_count, &x->scalars[SCALAR_NORM2], &x->scalars[SCALAR_NONFINITE], NULL);
}

/* The step counts, or does not, as for the optimizer, though nothing clips. */
static void run_balance(struct exec *x, const struct exec__bucket *b)
{
    struct step_inputs inputs = ((struct host *)x->own)->inputs;
    x->compute->clip(&inputs, x->scalars, (double)INFINITY, NULL);
    if (x->sums)
        x->compute->checksum(&b->update, UPDATE_ALL, true);
    for (uint32_t i = 0; i < b->n_balance; i++)
        x->compute->balance(&b->balance[i], &inputs);
    if (x->sums)
        x->compute->checksum(&b->update, UPDATE_ALL, false);
}

/* Where updates wait for the norm, a norm or a loss that is no number leaves the parameters as they were. */
static void run_optimizer(struct exec *x, const struct plan_instr *in)
{
    struct host *h = x->own;
    if (x->plan->h->clip)
        x->compute->clip(&h->inputs, x->scalars, x->clip_norm, NULL);
    bool check = x->check_numbers && exec__is_finite(x, in);
    x->compute->update(&x->buckets[in->bucket].update, &h->inputs);
    if (check)
        exec__check_bucket(x, in);
}

static void run_update(struct exec *x, const struct plan_instr *in)
{
    const struct exec__bucket *b = &x->buckets[in->bucket];
    before_update(x);
    if (b->n_balance)
        run_balance(x, b);
    else
        run_optimizer(x, in);
    exec__sums_judge(x, in);
}

static void carry_out(struct exec *x, const struct plan_instr *in, uint32_t i, uint32_t before)
{
    static void (*const run[PLAN_OP_COUNT])(struct exec * x, const struct plan_instr *in) = {
        [PLAN_LOAD] = run_load,     [PLAN_RUN] = run_program,   [PLAN_SUMSQ] = run_sumsq,
        [PLAN_UPDATE] = run_update, [PLAN_ROUNDS] = run_rounds,
    };
    (void)before;
    if (x->times)
        x->times[2 * (size_t)i] = clock_now();
    run[in->op](x, in);
    if (x->times)
        x->times[2 * (size_t)i + 1] = clock_now();
}

static void run_list(struct exec *x, double *scalars)
{
    struct host *h = x->own;
    h->inputs = exec__first_inputs(x);
    exec__loop(x, carry_out, scalars);
}

const struct exec_machine exec_host = {
    .open = open_host,
    .operands = exec__operands,
    .connect = connect,
    .disconnect = exec__nothing,
    .close = close_host,
    .run = run_list,
    .read = exec__host_read,
    .settle = exec__nothing,
    .arenas = exec__host_arenas,
    .download = exec__nothing,
    .upload = exec__nothing,
    .copy_begin = copy_begin,
    .copy_wait = copy_wait,
    .memory = exec__host_memory,
    .notes = exec__no_notes,
};
