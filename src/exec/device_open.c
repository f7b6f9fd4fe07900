/* Opening a device for a plan: everything that a step needs is made here, or the sentence says why it cannot be. And the
 * numbers that tell what it took. */
#include "exec/device.h"

#include <stdio.h>
#include <sys/mman.h>

static const double mib = 1024 * 1024;

/* Of an arena on the device: nothing for communication, whose back ends have memory of their own here, nor for snapshots, which
 * are host memory; behind the scalars what a step reads beside them. */
static uint64_t arena_bytes(const struct exec *x, uint32_t arena)
{
    uint64_t bytes = x->plan->h->arena_bytes[arena];
    if (plan_arena_on_host(arena))
        return 0;
    if (arena == ARENA_SCALARS)
        return bytes < sizeof(struct exec__block) ? sizeof(struct exec__block) : bytes;
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
    struct device_memory m = x->device->ops->memory();
    return err_set(e, ST_DEVICE, NULL,
                   "rank %u: the plan needs %.0f MiB of device memory; %.0f MiB were free at startup, %.0f MiB are "
                   "free now, of %.0f MiB in total. Use more devices, more microbatches or a smaller batch (piper plan "
                   "shows the breakdown), or stop other processes on the device",
                   x->rank, (double)planned(x) / mib, (double)x->device->free_before / mib, (double)m.free / mib,
                   (double)m.total / mib);
}

static enum status take_arenas(struct exec *x, struct err *e)
{
    if (planned(x) > x->device->free_before)
        return no_memory(x, e);
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        uint64_t bytes = arena_bytes(x, a);
        x->arena[a] = bytes ? x->device->ops->alloc(bytes) : NULL;
        if (bytes && !x->arena[a])
            return no_memory(x, e);
    }
    struct exec__block *block = (struct exec__block *)(void *)x->arena[ARENA_SCALARS];
    x->inputs = &block->inputs;
    x->unheard = block->unheard;
    return ST_OK;
}

/* ---- pinned memory --------------------------------------------------------------------------------------------- */

/* Lists do not run at once: they share the memory of their tokens. */
static uint64_t place_loads(struct exec *x)
{
    uint64_t most = 0;
    for (uint32_t l = 0; l < x->plan->h->count[PLAN_S_LISTS]; l++) {
        const struct plan_list *list = &x->plan->lists[l];
        uint64_t bytes = (uint64_t)list->microbatch_size * x->graph->seq_len * sizeof(int32_t), at = 0;
        for (uint32_t i = list->first_instr; i < list->first_instr + list->n_instr; i++)
            if (x->plan->instrs[i].op == PLAN_LOAD) {
                x->device->load_at[i] = at;
                at += round_up(bytes, 64);
            }
        most = at > most ? at : most;
    }
    return most;
}

static enum status take_pinned(struct exec *x, struct err *e)
{
    struct exec__device *d = x->device;
    uint64_t loads = d->loads_bytes = place_loads(x), events = 2 * (uint64_t)x->n_events * sizeof *x->events;
    uint64_t snapshot = x->plan->h->arena_bytes[ARENA_SNAPSHOT];
    d->block = d->ops->host_alloc(sizeof *d->block);
    d->loads = d->ops->host_alloc(loads);
    x->events = d->ops->host_alloc(events);
    if (snapshot)
        d->image[ARENA_SNAPSHOT] = d->ops->host_alloc(snapshot);
    if (d->block && d->loads && x->events && (d->image[ARENA_SNAPSHOT] || !snapshot))
        return ST_OK;
    char less[64] = "";
    if (snapshot)
        snprintf(less, sizeof less, "; --checkpoint sync needs %.1f MiB less", (double)snapshot / mib);
    return err_set(e, ST_DEVICE, NULL,
                   "rank %u: cannot allocate %.1f MiB of pinned memory: fewer ranks on this node or a higher limit "
                   "(ulimit -l) may help%s",
                   x->rank, (double)(loads + events + snapshot) / mib, less);
}

/* ---- what a step needs ----------------------------------------------------------------------------------------- */

/* Cuts of a list, so that its tapes have room. */
static uint32_t count_cuts(const struct exec *x, const struct plan_list *l)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_instr; i++) {
        const struct plan_instr *in = &x->plan->instrs[l->first_instr + i];
        n += exec__device_call_is_direct(x, in);
        if (in->op != PLAN_RUN)
            continue;
        const struct plan_program *p = &x->plan->programs[in->what];
        for (uint32_t k = p->first_kernel; k < p->first_kernel + p->n_kernels; k++)
            n += exec__device_kernel_is_direct(x, &x->plan->kernels[k]);
    }
    return n;
}

static void prepare_list(struct exec *x, uint32_t list)
{
    struct exec__device *d = x->device;
    const struct plan_list *l = &x->plan->lists[list];
    uint32_t room = count_cuts(x, l) + 1;
    for (uint32_t traced = 0; traced < 2; traced++) {
        struct exec__tape *t = &d->tapes[2 * list + traced];
        vec_reserve_((void **)&t->at, &t->cap, room, sizeof *t->at);
    }
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
    struct exec__device *d = x->device;
    d->load_at = mem_alloc(h->count[PLAN_S_INSTRS] * sizeof *d->load_at);
    d->call = mem_alloc(h->count[PLAN_S_INSTRS] * sizeof *d->call);
    d->wanted = mem_alloc(h->count[PLAN_S_INSTRS]);
    d->ready = mem_alloc(x->n_events * sizeof *d->ready);
    d->recorded = mem_alloc(x->n_events * sizeof *d->recorded);
    d->ran = mem_alloc(h->count[PLAN_S_LISTS] * sizeof *d->ran);
    d->updates = mem_alloc(h->count[PLAN_S_LISTS] * sizeof *d->updates);
    d->tapes = mem_alloc(2 * h->count[PLAN_S_LISTS] * sizeof *d->tapes);
    d->streams = mem_alloc(d->n_streams * sizeof *d->streams);
    d->add = x->compute->kernel(IR_OP_SUM, IR_PASS_F);
    for (uint32_t i = 0; i < x->n_events; i++)
        d->ready[i] = x->n_events + i;
    for (uint32_t i = 0; i < h->count[PLAN_S_LISTS]; i++)
        prepare_list(x, i);
    d->checked_bytes = x->check_numbers ? largest_checked(x) : 0;
    d->checked = mem_alloc(d->checked_bytes);
}

static enum status open_device(struct exec *x, uint32_t local_rank, struct err *e)
{
    struct exec__device *d = x->device;
    int32_t *priority = mem_alloc((d->n_streams + 1) * sizeof *priority);
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
    enum status st = d->ops->open(&setup, e);
    mem_free(priority);
    return st;
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

enum status exec__device_open(struct exec *x, const struct exec_setup *s, struct err *e)
{
    struct exec__device *d = mem_alloc(sizeof *d);
    x->device = d;
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
    return error ? err_set(e, ST_DEVICE, NULL, "rank %u: %s", x->rank, error) : ST_OK;
}

void exec__device_forget(struct exec *x)
{
    struct exec__device *d = x->device;
    for (uint32_t i = 0; i < 2 * x->plan->h->count[PLAN_S_LISTS]; i++) {
        for (uint32_t k = 0; k < d->tapes[i].n; k++)
            d->ops->graph_release(d->tapes[i].at[k].graph);
        d->tapes[i].n = 0;
    }
}

static void give_back(struct exec *x)
{
    struct exec__device *d = x->device;
    if (d->libraries)
        x->compute->libraries->close();
    void *const pinned[] = { d->block, d->loads, d->staging, (void *)x->events, d->image[ARENA_SNAPSHOT] };
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (x->arena[a])
            d->ops->release(x->arena[a]);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        if (pinned[i])
            d->ops->host_release(pinned[i]);
    d->ops->close();
}

void exec__device_close(struct exec *x)
{
    struct exec__device *d = x->device;
    if (d->ops)
        give_back(x);
    x->events = NULL;
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (d->image[a] && a != ARENA_SNAPSHOT)
            munmap(d->image[a], x->plan->h->arena_bytes[a]);
    for (uint32_t i = 0; i < 2 * x->plan->h->count[PLAN_S_LISTS]; i++)
        vec_free(&d->tapes[i]);
    mem_free(d->load_at);
    mem_free(d->call);
    mem_free(d->wanted);
    mem_free(d->ready);
    mem_free(d->recorded);
    mem_free(d->ran);
    mem_free(d->updates);
    mem_free(d->tapes);
    mem_free(d->streams);
    mem_free(d->names);
    mem_free(d->checked);
    mem_free(d->notes);
    mem_free(d);
}

/* ---- measuring and looking ------------------------------------------------------------------------------------- */

struct exec_memory exec__device_memory(const struct exec *x)
{
    uint64_t now = x->device->ops->memory().free, before = x->device->free_before;
    return (struct exec_memory){ .planned = planned(x), .touched = before > now ? before - now : 0 };
}

const void *exec__device_read(const struct exec *x, const void *p, uint64_t bytes)
{
    struct exec__device *d = x->device;
    CHECK(bytes <= d->checked_bytes);
    d->ops->copy(d->checked, p, bytes, d->streams[PLAN_COMPUTE_STREAM]);
    d->ops->synchronize_stream(d->streams[PLAN_COMPUTE_STREAM]);
    return d->checked;
}
