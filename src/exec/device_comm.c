/* Communication of operands in device memory. A back end that works on it enqueues on the stream. Others want host memory
 * (where one takes device memory for some calls, as a GPU-aware MPI for messages, these go without the copies): then the stream
 * copies the operands into pinned memory and marks a word, the call starts when the word is there, its own event is a word that
 * the stream waits for, and the stream copies the results back. So the device and the thread that moves messages wait for each
 * other, and no thread of the host is held up. */
#include "exec/device.h"

/* ---- binding --------------------------------------------------------------------------------------------------- */

static void sizes(const struct exec *x, const struct plan_instr *in, struct exec__pinned_call *p)
{
    const struct comm_call *c = &x->calls[in - x->plan->instrs];
    uint64_t n = c->count * comm_type_size(c->type);
    uint64_t members = in->channel == PLAN_NONE ? 1 : exec__group_size(x, in->channel);
    bool blocks_out = c->op == COMM_REDUCE_SCATTER || c->op == COMM_ALL_TO_ALL;
    bool blocks_in = c->op == COMM_ALL_GATHER || c->op == COMM_ALL_TO_ALL;
    p->out_bytes = c->op == COMM_RECV ? 0 : blocks_out ? members * n : n;
    p->in_bytes = c->op == COMM_SEND ? 0 : blocks_in ? members * n : n;
    if (c->op == COMM_ALL_TO_ALL_V) {
        p->out_bytes = x->plan->buffers[x->plan->bases[in->first_base].buffer].bytes;
        p->in_bytes = c->max_rows * c->row * comm_type_size(c->type);
        p->count_bytes = members * c->row_counts * sizeof(int32_t);
    }
    if (c->op == COMM_ROWS) {
        const struct plan_base *b = &x->plan->bases[in->first_base];
        p->out_bytes = x->plan->buffers[b[0].buffer].bytes;
        p->in_bytes = x->plan->buffers[b[1].buffer].bytes;
        p->count_bytes = x->plan->buffers[b[2].buffer].bytes;
    }
}

static bool is_direct(const struct exec *x, enum comm_op op)
{
    const struct exec__device *d = x->own;
    return d->by_host && x->comm_backend->direct && x->comm_backend->direct(op);
}

/* This rank's block of a call that the back end does not move. */
static void bind_own(const struct exec *x, const struct plan_instr *in, struct exec__pinned_call *p)
{
    const struct comm_call *c = &x->calls[in - x->plan->instrs];
    if (in->channel == PLAN_NONE || (c->op == COMM_SHIFT && exec__group_size(x, in->channel) > 1))
        return;
    uint64_t n = c->count * comm_type_size(c->type);
    uint64_t me = plan_group_index(x->plan, x->plan->channels[in->channel].group, x->rank);
    p->own_from = (const unsigned char *)c->src + (c->op == COMM_ALL_TO_ALL ? me * n : 0);
    p->own_to = (unsigned char *)c->dst + me * n;
    p->own_bytes = p->own_from == p->own_to ? 0 : n;
}

/* Pinned memory of a stream, from `first` on: operands out, operands in, counts out, counts in; the largest of its calls each. */
struct room {
    uint64_t first, out, in, counts; /* multiples of 64 bytes */
};

static void grow(uint64_t *room, uint64_t bytes)
{
    bytes = round_up(bytes, 64);
    *room = bytes > *room ? bytes : *room;
}

static void measure(struct exec *x, struct room *rooms)
{
    const struct exec__device *d = x->own;
    for (uint32_t i = 0; i < x->plan->h->count[PLAN_S_INSTRS]; i++) {
        const struct plan_instr *in = &x->plan->instrs[i];
        struct exec__pinned_call *p = &d->call[i];
        struct room *r = &rooms[in->stream];
        if (in->op == PLAN_ROUNDS) {
            p->count_bytes = x->plan->buffers[x->plan->bases[in->first_base].buffer].bytes;
            grow(&r->counts, p->count_bytes);
        }
        if (!exec__is_communication(in) || in->op == PLAN_ADD)
            continue;
        sizes(x, in, p);
        p->direct = is_direct(x, x->calls[i].op);
        if (!d->by_host || p->direct)
            p->out_bytes = p->in_bytes = 0;
        if (p->direct)
            bind_own(x, in, p);
        grow(&r->out, p->out_bytes);
        grow(&r->in, p->in_bytes);
        grow(&r->counts, p->count_bytes);
    }
}

static void bind_call(struct exec *x, uint32_t i, const struct room *r)
{
    const struct exec__device *d = x->own;
    struct exec__pinned_call *p = &d->call[i];
    unsigned char *at = d->staging + r->first;
    p->call = x->calls[i];
    p->sent = (int32_t *)(void *)(at + r->out + r->in);
    p->received = (int32_t *)(void *)(at + r->out + r->in + r->counts);
    p->call.send_rows = p->sent;
    p->call.recv_rows = p->received;
    if (!d->by_host || x->plan->instrs[i].op == PLAN_ROUNDS)
        return;
    p->call.device = p->direct;
    if (!p->direct) {
        p->call.src = at;
        p->call.dst = p->call.op == COMM_SEND ? at : at + r->out;
    }
    p->call.waits = &d->ready[p->call.event];
    p->call.n_waits = 1;
}

static enum status bind_calls(struct exec *x, struct err *e)
{
    struct exec__device *d = x->own;
    struct room *rooms = arena_array(&x->memory, struct room, d->n_streams);
    uint64_t bytes = 0;
    measure(x, rooms);
    for (uint32_t s = 0; s < d->n_streams; s++) {
        rooms[s].first = bytes;
        bytes += rooms[s].out + rooms[s].in + 2 * rooms[s].counts;
    }
    d->staging = d->ops->host_alloc(bytes);
    for (uint32_t i = 0; d->staging && i < x->plan->h->count[PLAN_S_INSTRS]; i++)
        if (exec__is_communication(&x->plan->instrs[i]) || x->plan->instrs[i].op == PLAN_ROUNDS)
            bind_call(x, i, &rooms[x->plan->instrs[i].stream]);
    return d->staging ? ST_OK
                      : err_set(e, ST_DEVICE, NULL,
                                "rank %u: cannot allocate %.0f MiB of pinned memory for communication (ulimit -l); "
                                "--comm nccl needs none",
                                x->rank, (double)bytes / (1 << 20));
}

/* Instructions in words, for a profiler. */
static void name_all(struct exec *x)
{
    struct exec__device *d = x->own;
    d->names = arena_alloc(&x->memory, x->plan->h->count[PLAN_S_INSTRS] * sizeof *d->names);
    for (uint32_t l = 0; l < x->plan->h->count[PLAN_S_LISTS]; l++)
        for (uint32_t i = 0; i < x->plan->lists[l].n_instr; i++) {
            struct exec_instruction in;
            exec_describe(x, l, i, &in);
            memcpy(d->names[x->plan->lists[l].first_instr + i], in.name, sizeof in.name);
        }
}

enum status exec__device_comm(struct exec *x, struct comm_setup *setup, struct err *e)
{
    struct exec__device *d = x->own;
    TRY(world_agree(bind_calls(x, e), e));
    if (d->ops->profiled())
        name_all(x);
    setup->events = (struct comm_events){ .at = x->events, .n = 2 * x->n_events, .unannounced = true };
    setup->device_streams = d->by_host ? NULL : d->streams;
    setup->device_copy = d->ops->copy;
    setup->enter = d->ops->attach;
    return ST_OK;
}

/* ---- in a step ------------------------------------------------------------------------------------------------- */

bool exec__device_call_is_direct(const struct exec *x, const struct plan_instr *in)
{
    const struct exec__device *d = x->own;
    return !d->by_host && plan_moves_rows(in);
}

static void add(struct exec *x, const struct comm_call *c, void *stream)
{
    const struct exec__device *d = x->own;
    static const struct ir_attrs no_attrs;
    struct op_args a = { .attrs = &no_attrs, .op = IR_OP_SUM, .compute = IR_F32, .n = c->count, .stream = stream };
    a.in[0] = a.out[0] = c->dst;
    a.in[1] = (void *)(uintptr_t)c->src;
    if (c->replace)
        d->ops->copy(c->dst, c->src, c->count * sizeof(float), stream);
    else
        d->add(&a);
}

static void copy_counts(struct exec *x, const struct exec__pinned_call *p, const struct comm_call *c, void *stream)
{
    const struct exec__device *d = x->own;
    if (p->count_bytes) {
        d->ops->copy(p->sent, c->send_rows, p->count_bytes, stream);
        if (c->recv_rows)
            d->ops->copy(p->received, c->recv_rows, p->count_bytes, stream);
    }
}

static void by_device(struct exec *x, const struct exec__pinned_call *p, const struct comm_call *c, void *stream)
{
    const struct exec__device *d = x->own;
    if (p->count_bytes) {
        copy_counts(x, p, c, stream);
        d->ops->synchronize_stream(stream);
    }
    x->comm_backend->launch(x->comm, &p->call);
}

static void by_host(struct exec *x, const struct exec__pinned_call *p, const struct comm_call *c, void *stream)
{
    const struct exec__device *d = x->own;
    const struct device_ops *ops = d->ops;
    ops->copy(p->own_to, p->own_from, p->own_bytes, stream);
    ops->copy((void *)(uintptr_t)p->call.src, c->src, p->out_bytes, stream);
    copy_counts(x, p, c, stream);
    if (c->back) /* rows of other rounds stay */
        ops->copy(p->call.dst, c->dst, p->in_bytes, stream);
    ops->mark((uint32_t *)(void *)&x->events[p->call.waits[0]], d->inputs, stream);
    if (!ops->can_wait_word())
        ops->synchronize_stream(stream);
    x->comm_backend->launch(x->comm, &p->call);
    if (ops->can_wait_word())
        ops->wait_word((uint32_t *)(void *)&x->events[p->call.event], x->epoch, stream);
    else
        x->comm_backend->wait(x->comm, p->call.event);
    ops->copy(c->dst, p->call.dst, p->in_bytes, stream);
}

void exec__device_communicate(struct exec *x, uint32_t i)
{
    const struct exec__device *d = x->own;
    uint32_t at = x->list->first_instr + i;
    const struct plan_instr *in = &x->plan->instrs[at];
    const struct exec__pinned_call *p = &d->call[at];
    void *stream = d->streams[in->stream];
    if (in->op == PLAN_ADD)
        add(x, &x->calls[at], stream);
    else if (d->by_host)
        by_host(x, p, &x->calls[at], stream);
    else
        by_device(x, p, &x->calls[at], stream);
    /* once, where the sums are known: on the host the first update that needs it does it */
    if (in->op == PLAN_SCALARS && x->plan->h->clip)
        x->compute->clip(d->inputs, x->scalars, x->clip_norm, stream);
}

void exec__device_exchange(struct exec *x, uint32_t i, uint32_t round)
{
    const struct exec__device *d = x->own;
    const uint32_t at = x->list->first_instr + i;
    void *stream = d->streams[x->plan->instrs[at].stream];
    struct exec__pinned_call p = d->call[at];
    p.call.round = round;
    if (!d->by_host) {
        by_device(x, &p, &x->calls[at], stream);
        return;
    }
    atomic_store(&x->events[p.call.event], 0);
    atomic_store(&x->events[p.call.waits[0]], 0);
    by_host(x, &p, &x->calls[at], stream);
}
