/* Opening a device for a plan: everything that a step needs is made here, or the sentence says why it cannot be. And the
 * numbers that tell what it took. */
#include "exec/device.h"

#include <stdio.h>
#include <sys/mman.h>

/* Of an arena on the device: nothing for communication, whose back ends have memory of their own here, nor for snapshots, which
 * are host memory; behind the scalars what a step reads beside them. */
uint64_t exec__block_bytes(const struct exec *x)
{
    return sizeof(struct exec__block) + x->plan->h->arena_bytes[ARENA_SCALARS];
}

static uint64_t arena_bytes(const struct exec *x, uint32_t arena)
{
    uint64_t bytes = x->plan->h->arena_bytes[arena];
    if (plan_arena_on_host(arena))
        return 0;
    if (arena == ARENA_SCALARS)
        return exec__block_bytes(x);
    return bytes;
}

static uint64_t planned(const struct exec *x)
{
    uint64_t sum = 0;
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        sum += arena_bytes(x, a);
    return sum;
}

static enum status no_memory(const struct exec *x, struct err *e)
{
    const struct exec__device *d = x->own;
    struct device_memory m = d->ops->memory();
    return err_set(e, ST_DEVICE, NULL,
                   "rank %u: the plan needs %.0f MiB of device memory; %.0f MiB were free at startup, %.0f MiB are "
                   "free now, of %.0f MiB in total. Use more devices, more microbatches or a smaller batch (piper plan "
                   "shows the breakdown), or stop other processes on the device",
                   x->rank, (double)planned(x) / EXEC__MIB, (double)d->free_before / EXEC__MIB,
                   (double)m.free / EXEC__MIB, (double)m.total / EXEC__MIB);
}

static enum status take_arenas(struct exec *x, struct err *e)
{
    struct exec__device *d = x->own;
    if (planned(x) > d->free_before)
        return no_memory(x, e);
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        uint64_t bytes = arena_bytes(x, a);
        x->arena[a] = bytes ? d->ops->alloc(bytes) : NULL;
        if (bytes && !x->arena[a])
            return no_memory(x, e);
    }
    struct exec__block *block = (struct exec__block *)(void *)x->arena[ARENA_SCALARS];
    x->scalars = block->scalars;
    x->discarded = block->discarded;
    d->inputs = &block->inputs;
    x->weight = &d->inputs->weight;
    return ST_OK;
}

/* ---- pinned memory --------------------------------------------------------------------------------------------- */

/* Lists do not run at once: they share the memory of their tokens. */
static uint64_t place_loads(struct exec *x)
{
    const struct exec__device *d = x->own;
    uint64_t most = 0;
    for (uint32_t l = 0; l < x->plan->h->count[PLAN_S_LISTS]; l++) {
        const struct plan_list *list = &x->plan->lists[l];
        uint64_t bytes = (uint64_t)list->microbatch_size * x->graph->seq_len * sizeof(int32_t), at = 0;
        for (uint32_t i = list->first_instr; i < list->first_instr + list->n_instr; i++)
            if (x->plan->instrs[i].op == PLAN_LOAD) {
                d->load_at[i] = at;
                at += round_up(bytes, 64);
            }
        most = at > most ? at : most;
    }
    return most;
}

static enum status take_pinned(struct exec *x, struct err *e)
{
    struct exec__device *d = x->own;
    uint64_t loads = d->loads_bytes = place_loads(x), events = 2 * (uint64_t)x->n_events * sizeof *x->events;
    uint64_t snapshot = x->plan->h->arena_bytes[ARENA_SNAPSHOT];
    d->block = d->ops->host_alloc(exec__block_bytes(x));
    d->loads = d->ops->host_alloc(loads);
    x->events = d->ops->host_alloc(events);
    if (snapshot)
        d->image[ARENA_SNAPSHOT] = d->ops->host_alloc(snapshot);
    x->loads = d->block ? d->block->scalars + SCALAR_COUNT : NULL;
    if (d->block && d->loads && x->events && (d->image[ARENA_SNAPSHOT] || !snapshot))
        return ST_OK;
    char less[64] = "";
    if (snapshot)
        snprintf(less, sizeof less, "; --checkpoint sync needs %.1f MiB less", (double)snapshot / EXEC__MIB);
    return err_set(e, ST_DEVICE, NULL,
                   "rank %u: cannot allocate %.1f MiB of pinned memory: fewer ranks on this node or a higher limit "
                   "(ulimit -l) may help%s",
                   x->rank, (double)(loads + events + snapshot) / EXEC__MIB, less);
}

/* ---- what a step needs ----------------------------------------------------------------------------------------- */

/* Cuts of a list, so that its tapes have room. */
static uint32_t count_cuts(const struct exec *x, const struct plan_list *l)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_instr; i++) {
        const struct plan_instr *in = &x->plan->instrs[l->first_instr + i];
        n += exec__device_call_is_direct(x, in) || in->op == PLAN_ROUNDS;
        if (in->op != PLAN_RUN)
            continue;
        const struct plan_program *p = &x->plan->programs[in->program];
        for (uint32_t k = p->first_kernel; k < p->first_kernel + p->n_kernels; k++)
            n += exec__device_kernel_is_direct(x, &x->plan->kernels[k]);
    }
    return n;
}

static void prepare_list(struct exec *x, uint32_t list)
{
    struct exec__device *d = x->own;
    const struct plan_list *l = &x->plan->lists[list];
    uint32_t room = count_cuts(x, l) + 1;
    for (uint32_t traced = 0; traced < 2; traced++)
        d->tapes[2 * list + traced] = (struct exec__tape){ .at = arena_array(&x->memory, struct exec__segment, room),
                                                           .room = room };
    for (uint32_t i = 0; i < l->n_instr; i++) {
        const struct plan_instr *in = &x->plan->instrs[l->first_instr + i];
        d->updates[list] = d->updates[list] || in->op == PLAN_UPDATE;
        for (uint32_t w = 0; w < in->n_waits; w++)
            d->wanted[l->first_instr + x->plan->waits[in->first_wait + w]] = 1;
    }
}

/* Bytes of what --check-numbers looks at: operands of kernels, buckets in float32. */
static uint64_t largest_checked(const struct exec *x)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < x->plan->h->count[PLAN_S_SLOTS]; i++)
        most = x->plan->slots[i].bytes > most ? x->plan->slots[i].bytes : most;
    for (uint32_t i = 0; i < x->plan->h->count[PLAN_S_BUCKETS]; i++) {
        uint64_t bytes = x->plan->buckets[i].elements * sizeof(float);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void prepare(struct exec *x)
{
    const struct plan_header *h = x->plan->h;
    struct exec__device *d = x->own;
    d->fusions = arena_array(&x->memory, struct exec__fusion, h->count[PLAN_S_KERNELS]);
    d->load_at = arena_array(&x->memory, uint64_t, h->count[PLAN_S_INSTRS]);
    d->call = arena_array(&x->memory, struct exec__pinned_call, h->count[PLAN_S_INSTRS]);
    d->wanted = arena_array(&x->memory, unsigned char, h->count[PLAN_S_INSTRS]);
    d->ready = arena_array(&x->memory, uint32_t, x->n_events);
    d->recorded = arena_array(&x->memory, uint32_t, x->n_events);
    d->ran = arena_array(&x->memory, bool, h->count[PLAN_S_LISTS]);
    d->updates = arena_array(&x->memory, bool, h->count[PLAN_S_LISTS]);
    d->tapes = arena_array(&x->memory, struct exec__tape, 2 * h->count[PLAN_S_LISTS]);
    d->streams = arena_array(&x->memory, void *, d->n_streams);
    d->add = x->compute->kernel(IR_OP_SUM, IR_PASS_F);
    for (uint32_t i = 0; i < x->n_events; i++)
        d->ready[i] = x->n_events + i;
    for (uint32_t i = 0; i < h->count[PLAN_S_LISTS]; i++)
        prepare_list(x, i);
    d->checked_bytes = x->check_numbers ? largest_checked(x) : 0;
    d->checked = arena_alloc(&x->memory, d->checked_bytes);
}

static enum status open_device(struct exec *x, uint32_t local_rank, struct err *e)
{
    struct exec__device *d = x->own;
    int32_t *priority = arena_array(&x->memory, int32_t, d->n_streams + 1);
    for (uint32_t i = 0; i < d->n_streams; i++)
        priority[i] = x->plan->streams[i].priority;
    struct device_setup setup = {
        .local_rank = local_rank,
        .n_streams = d->n_streams + 1,
        .priority = priority,
        .n_events = exec__device_events(x),
        .n_stamps = exec__device_held(x) + EXEC__HELD_STAMPS,
        .failed = exec__device_failed,
        .self = x,
    };
    return d->ops->open(&setup, e);
}

/* Stretches and sums lie on the device, faults where both see them: a kernel writes there only when it finds one. */
static enum status open_sums(struct exec *x, struct err *e)
{
    struct exec__device *d = x->own;
    exec__sums_open(x);
    const uint64_t n = x->sums->n, stretches = n * sizeof *x->sums->at, sums = n * UPDATE_ARRAYS * sizeof(uint64_t);
    unsigned char *device = d->sums = d->ops->alloc(sums + stretches);
    unsigned char *host = d->kept = d->ops->host_alloc(sums + (n + 1) * sizeof(uint32_t));
    if (!device || !host)
        return err_set(e, ST_DEVICE, NULL, "rank %u: cannot allocate %.1f MiB for checksums (--checksums off)", x->rank,
                       (double)(sums + stretches) / EXEC__MIB);
    const struct exec__sums_memory memory = { .at = (struct update_stretch *)(void *)(device + sums),
                                              .sums = (void *)device,
                                              .kept = (void *)host,
                                              .faults = (uint32_t *)(void *)(host + sums) };
    d->ops->synchronize(); /* the zeros */
    if (n)
        d->ops->copy(memory.at, x->sums->at, stretches, d->streams[PLAN_COMPUTE_STREAM]);
    d->ops->synchronize();
    exec__sums_bind(x, &memory, d->streams[PLAN_COMPUTE_STREAM]);
    return ST_OK;
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

static enum status open_machine(struct exec *x, const struct exec_setup *s, struct err *e)
{
    struct exec__device *d = x->own = arena_new(&x->memory, struct exec__device);
    d->ops = s->compute->device;
    d->n_streams = (uint32_t)x->plan->h->count[PLAN_S_STREAMS];
    d->by_host = !s->comm->device;
    d->graphs = s->graphs && !d->by_host && !s->check_numbers;
    prepare(x);
    enum status st = open_device(x, s->local_rank, e);
    if (st != ST_OK) {
        d->ops = NULL; /* nothing is there to be given back */
        return st;
    }
    for (uint32_t i = 0; i < d->n_streams; i++)
        d->streams[i] = d->ops->stream(i);
    d->copy_stream = d->ops->stream(d->n_streams);
    d->ops->record(exec__device_copied(x), d->copy_stream); /* nothing is under way */
    d->free_before = d->ops->memory().free;
    TRY(take_arenas(x, e));
    TRY(take_pinned(x, e));
    d->ops->synchronize(); /* the zeros */
    const char *error = d->ops->error();
    if (error)
        return err_set(e, ST_DEVICE, NULL, "rank %u: %s", x->rank, error);
    TRY(exec__bind_kernels(x, e));
    if (x->keeps_sums)
        TRY(open_sums(x, e));
    if (x->compute->pair && s->fuse && !s->check_numbers)
        exec__device_pairs(x);
    return ST_OK;
}

static enum status connect(struct exec *x, const struct exec_setup *s, struct comm_setup *setup, struct err *e)
{
    TRY(exec__device_libraries(x, s->algorithms, e));
    return exec__device_comm(x, setup, e);
}

/* Gives captured lists back: NCCL waits for the graphs that its communicators are in. */
static void disconnect(struct exec *x)
{
    struct exec__device *d = x->own;
    for (uint32_t i = 0; i < 2 * x->plan->h->count[PLAN_S_LISTS]; i++) {
        for (uint32_t k = 0; k < d->tapes[i].n; k++)
            d->ops->graph_release(d->tapes[i].at[k].graph);
        d->tapes[i].n = 0;
    }
}

static void give_back(struct exec *x)
{
    struct exec__device *d = x->own;
    if (d->libraries)
        x->compute->libraries->close();
    if (d->sums)
        d->ops->release(d->sums);
    void *const pinned[] = { d->kept, d->block, d->loads, d->staging, (void *)x->events, d->image[ARENA_SNAPSHOT] };
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (x->arena[a])
            d->ops->release(x->arena[a]);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        if (pinned[i])
            d->ops->host_release(pinned[i]);
    d->ops->close();
}

static void close_machine(struct exec *x)
{
    struct exec__device *d = x->own;
    if (d->ops)
        give_back(x);
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (d->image[a] && a != ARENA_SNAPSHOT)
            munmap(d->image[a], x->plan->h->arena_bytes[a]);
    mem_free(d->notes);
}

/* ---- measuring and looking ------------------------------------------------------------------------------------- */

static struct exec_memory memory(const struct exec *x)
{
    const struct exec__device *d = x->own;
    uint64_t now = d->ops->memory().free, before = d->free_before;
    return (struct exec_memory){ .planned = planned(x), .touched = before > now ? before - now : 0 };
}

static const void *read_operand(const struct exec *x, const void *p, uint64_t bytes)
{
    struct exec__device *d = x->own;
    CHECK(bytes <= d->checked_bytes);
    d->ops->copy(d->checked, p, bytes, d->streams[PLAN_COMPUTE_STREAM]);
    d->ops->synchronize_stream(d->streams[PLAN_COMPUTE_STREAM]);
    return d->checked;
}

static void settle(struct exec *x)
{
    const struct exec__device *d = x->own;
    d->ops->synchronize();
    const char *text = d->ops->error();
    if (text)
        process_fail(ST_DEVICE, text);
}

const struct exec_machine exec_device = {
    .open = open_machine,
    .operands = exec__operands,
    .connect = connect,
    .disconnect = disconnect,
    .close = close_machine,
    .run = exec__device_run,
    .read = read_operand,
    .settle = settle,
    .arenas = exec__device_image,
    .download = exec__device_download,
    .upload = exec__device_upload,
    .copy_begin = exec__device_copy_begin,
    .copy_wait = exec__device_copy_wait,
    .memory = memory,
    .notes = exec__device_notes,
};
