/* Binding a plan to this rank: everything that can be looked up once is looked up here. */
#include "exec/device.h"

#include <math.h>
#include <stdlib.h>

/* ---- kernels and buckets -------------------------------------------------------------------------------------- */

static enum status bind_program(struct exec *x, const struct plan_program *program, struct err *e)
{
    static const struct ir_attrs no_attrs;
    const struct plan *p = x->plan;
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        const struct plan_kernel *k = &p->kernels[i];
        struct exec__kernel *bound = &x->kernels[i];
        /* sums and copies have one kernel, in whatever pass they stand */
        enum ir_pass pass = k->op < IR_OP_GRAPH_COUNT ? (enum ir_pass)k->pass : IR_PASS_F;
        bound->run = x->compute->kernel((enum ir_op)k->op, pass);
        if (!bound->run)
            return err_set(e, ST_BUG, "executor", "the back end %s has no kernel %s of %s", x->compute->name,
                           ir_pass_name((enum ir_pass)k->pass), ir_op_info[k->op].name);
        bound->args = (struct op_args){
            .attrs = k->graph_op == PLAN_NONE ? &no_attrs : &x->graph->ops.at[k->graph_op].attrs,
            .op = k->op,
            .t = x->graph->seq_len,
            .ep = program->ep,
            .compute = k->type == IR_COMPUTE ? p->h->compute : k->type,
            .scalars = k->again ? x->unheard : x->scalars,
            .n = k->n,
            .train = !program->eval,
        };
    }
    return ST_OK;
}

static int by_first(const void *a, const void *b)
{
    const struct exec__gap *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* What the kernels of a program leave unwritten in a slot of gradients. */
static void find_gaps(struct exec *x, const struct plan_program *program, uint32_t slot)
{
    const struct plan *p = x->plan;
    struct {
        VEC(struct exec__gap);
    } written = { 0 };
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        const struct plan_kernel *k = &p->kernels[i];
        const struct plan_operand *o = &p->operands[k->first_operand];
        for (uint32_t bit = 0; bit < OPERAND_COUNT; bit++) {
            if (!(k->mask >> bit & 1))
                continue;
            if (bit >= OPERAND_DPARAM && bit < OPERAND_WORK && o->slot == slot) {
                uint32_t param = x->graph->ops.at[k->graph_op].param[bit - OPERAND_DPARAM];
                uint64_t n = ir_shape_elements(&x->graph->params.at[param].shape) / program->ep;
                vec_add(&written, ((struct exec__gap){ o->offset, n * sizeof(float) }));
            }
            o++;
        }
    }
    if (written.n)
        qsort(written.at, written.n, sizeof *written.at, by_first);
    struct exec__gaps *g = &x->gaps[program->first_slot + slot];
    g->at = arena_array(&x->lists, struct exec__gap, written.n + 1);
    uint64_t end = 0, bytes = p->slots[program->first_slot + slot].bytes;
    for (uint32_t i = 0; i <= written.n; i++) {
        uint64_t next = i < written.n ? written.at[i].first : bytes;
        if (next > end)
            g->at[g->n++] = (struct exec__gap){ end, next - end };
        if (i < written.n && written.at[i].first + written.at[i].bytes > end)
            end = written.at[i].first + written.at[i].bytes;
    }
    vec_free(&written);
}

/* Elements of a range that decay: the first n_decay of the bucket do. */
static uint64_t decaying(uint64_t n_decay, struct shard_range r)
{
    return n_decay <= r.first ? 0 : n_decay - r.first < r.count ? n_decay - r.first : r.count;
}

static void bind_bucket(struct exec *x, uint32_t i)
{
    const struct plan_bucket *b = &x->plan->buckets[i];
    struct shard s = shard_of(x->plan, i, x->rank, x->arena);
    uint32_t size = ir_dtype_size(IR_COMPUTE, (enum ir_dtype)x->plan->h->compute);
    unsigned char *param = (unsigned char *)s.param + (s.state.first - s.params.first) * size;
    x->buckets[i] = (struct exec__bucket){
        .update = {
            .opt = &x->optimizer,
            .n = s.state.count,
            .n_decay = decaying(b->n_decay, s.state),
            .master = s.master ? s.master : (float *)(void *)param,
            .m = s.m,
            .v = s.v,
            .grad = s.grad + (s.state.first - s.grads.first),
            .param = param,
            .compute = x->plan->h->compute,
        },
        .norm_grad = s.grad + (s.own.first - s.grads.first),
        .norm_count = s.own.count,
        .own_param = s.own.first * size,
        .own_grad = s.own.first * sizeof(float),
    };
}

/* ---- communications ------------------------------------------------------------------------------------------- */

static enum comm_type type_of(uint32_t dtype, uint32_t compute)
{
    switch (dtype == IR_COMPUTE ? compute : dtype) {
    case IR_F32:
        return COMM_F32;
    case IR_BF16:
        return COMM_BF16;
    case IR_F64:
        return COMM_F64;
    case IR_I32:
        return COMM_I32;
    default:
        return COMM_BYTE;
    }
}

/* The rank at the other end: members of two sets meet in order. */
static uint32_t peer_of(const struct exec *x, const struct plan_instr *in)
{
    return plan_set_at(x->plan, in->peer_set, plan_set_index(x->plan, in->my_set, x->rank));
}

static uint32_t group_size(const struct exec *x, uint32_t channel)
{
    return plan_group_size(x->plan, x->plan->channels[channel].group, x->rank);
}

/* Rows that are counted while the step runs: bases are rows out, rows in, counts out, counts in. */
static void bind_rows(const struct exec *x, const struct plan_instr *in, struct comm_call *c)
{
    const struct plan_buffer *to = &x->plan->buffers[x->plan->bases[in->first_base + 1].buffer];
    const struct plan_buffer *counts = &x->plan->buffers[x->plan->bases[in->first_base + 2].buffer];
    c->op = COMM_ALL_TO_ALL_V;
    c->row = in->count;
    c->send_rows = exec__base(x, in, 2);
    c->recv_rows = exec__base(x, in, 3);
    c->row_counts = (uint32_t)(counts->bytes / sizeof(int32_t)) / group_size(x, in->channel);
    c->max_rows = to->bytes / (in->count * comm_type_size(c->type));
}

static enum status bind_call(struct exec *x, const struct plan_instr *in, uint32_t event, struct err *e)
{
    struct comm_call *c = &x->calls[in - x->plan->instrs];
    *c = (struct comm_call){
        .type = type_of(in->type, x->plan->h->compute),
        .stream = in->stream,
        .channel = in->channel,
        .peer = UINT32_MAX,
        .tag = in->tag,
        .count = in->count,
        .waits = &x->plan->waits[in->first_wait],
        .n_waits = in->n_waits,
        .event = event,
    };
    if (in->n_bases > 0)
        c->src = c->dst = exec__base(x, in, 0);
    if (in->n_bases > 1)
        c->dst = exec__base(x, in, 1);
    switch ((enum plan_op)in->op) {
    case PLAN_SEND:
    case PLAN_RECV:
    case PLAN_EXCHANGE: /* I send to the holder of my place in the other set, and receive from it in turn */
        c->op = in->op == PLAN_SEND ? COMM_SEND : in->op == PLAN_RECV ? COMM_RECV : COMM_EXCHANGE;
        c->channel = UINT32_MAX;
        c->peer = peer_of(x, in);
        if (in->op == PLAN_EXCHANGE)
            c->from = plan_set_at(x->plan, in->my_set, plan_set_index(x->plan, in->peer_set, x->rank));
        c->lane = exec__lane(x, in, c);
        return ST_OK;
    case PLAN_ADD:
        c->op = COMM_ADD;
        c->dst = exec__base(x, in, 0);
        c->src = exec__base(x, in, 1);
        c->replace = x->plan->bases[in->first_base].first;
        return ST_OK;
    case PLAN_ALL_REDUCE:
        c->op = COMM_ALL_REDUCE;
        return ST_OK;
    case PLAN_REDUCE_SCATTER:
        c->op = COMM_REDUCE_SCATTER;
        return ST_OK;
    case PLAN_ALL_GATHER:
        c->op = COMM_ALL_GATHER;
        return ST_OK;
    case PLAN_ALL_TO_ALL:
        c->op = COMM_ALL_TO_ALL;
        return ST_OK;
    case PLAN_ALL_TO_ALL_V:
        bind_rows(x, in, c);
        return ST_OK;
    case PLAN_SCALARS:
        c->op = COMM_ALL_REDUCE;
        c->type = COMM_F64;
        c->src = c->dst = x->scalars;
        c->count = SCALAR_COUNT;
        return ST_OK;
    default:
        return err_set(e, ST_BUG, "executor", "instruction %s is not supported by this version",
                       plan_op_name((enum plan_op)in->op));
    }
}

void exec__envelope(struct exec *x, const struct plan_instr *in, struct comm_call *c)
{
    if (in->op != PLAN_SCALARS) {
        uint64_t members = c->channel == UINT32_MAX ? 1 : group_size(x, c->channel);
        uint64_t most = x->window_bytes / (members * comm_type_size(c->type));
        if (c->op == COMM_ALL_TO_ALL_V) /* the balanced case */
            c->op = COMM_ALL_TO_ALL;
        if (c->count > most)
            c->count = most;
        c->src = x->window;
        c->dst = c->op == COMM_ADD ? x->window : x->window + x->window_bytes;
    }
    c->least = fmax((double)in->seconds, 1e-9);
}

static enum status bind_list(struct exec *x, const struct plan_list *l, struct err *e)
{
    const struct plan *p = x->plan;
    for (uint32_t i = 0; i < l->n_instr; i++) {
        const struct plan_instr *in = &p->instrs[l->first_instr + i];
        if (in->op == PLAN_LOAD)
            x->replica[l->first_instr + i] = plan_set_index(p, in->my_set, x->rank);
        if (!exec__is_communication((enum plan_op)in->op))
            continue;
        TRY(bind_call(x, in, i, e));
        if (x->window)
            exec__envelope(x, in, &x->calls[l->first_instr + i]);
        for (uint32_t w = 0; w < in->n_waits; w++)
            x->wakes[l->first_instr + p->waits[in->first_wait + w]] = 1;
    }
    return ST_OK;
}

/* ---- channels ------------------------------------------------------------------------------------------------- */

/* Members as a range where they are one, else as a list that goes into `lists`. */
static struct comm_group group_of(const struct exec *x, uint32_t group, struct arena *lists)
{
    const struct plan *p = x->plan;
    uint32_t n = plan_group_size(p, group, x->rank);
    uint32_t *list = arena_array(lists, uint32_t, n);
    bool regular = true;
    for (uint32_t i = 0; i < n; i++) {
        list[i] = plan_group_at(p, group, x->rank, i);
        regular = regular && (i < 2 || list[i] - list[i - 1] == list[1] - list[0]);
    }
    if (regular && (n < 2 || list[1] > list[0]))
        return (struct comm_group){ .start = list[0], .stride = n > 1 ? list[1] - list[0] : 1, .count = n };
    return (struct comm_group){ .count = n, .list = list };
}

static enum status open_comm(struct exec *x, uint32_t max_calls, uint32_t n_events, struct err *e)
{
    const struct plan *p = x->plan;
    uint32_t n = (uint32_t)p->h->count[PLAN_S_CHANNELS];
    struct comm_channel *channels = arena_array(&x->lists, struct comm_channel, n);
    for (uint32_t i = 0; i < n; i++)
        channels[i] = (struct comm_channel){ p->channels[i].id, group_of(x, p->channels[i].group, &x->lists),
                                             p->channels[i].stream };
    uint32_t n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS];
    void **scratch = arena_array(&x->lists, void *, n_streams);
    uint64_t *scratch_bytes = arena_array(&x->lists, uint64_t, n_streams);
    uint32_t *ctas = arena_array(&x->lists, uint32_t, n_streams);
    for (uint32_t i = 0; i < n_streams; i++)
        ctas[i] = exec__ctas(x, i);
    for (uint32_t i = 0; !x->window && i < n_streams; i++) {
        scratch[i] = x->arena[ARENA_COMM] ? x->arena[ARENA_COMM] + p->streams[i].scratch : NULL;
        scratch_bytes[i] = p->streams[i].scratch_bytes;
    }
    struct comm_setup setup = {
        .channels = channels,
        .n_channels = n,
        .n_channels_world = p->h->n_channels_world,
        .lanes = x->lanes.at,
        .n_lanes = x->lanes.n,
        .n_streams = n_streams,
        .max_ctas = ctas,
        .scratch = x->window ? NULL : scratch,
        .scratch_bytes = scratch_bytes,
        .max_calls = max_calls,
        .events = { .at = x->events, .n = n_events, .times = x->times },
        .overflow = exec__overflow,
        .self = x,
    };
    if (x->device)
        TRY(exec__device_comm(x, &setup, e));
    return x->comm_backend->open(&setup, &x->comm, e);
}

/* ---- opening and closing -------------------------------------------------------------------------------------- */

static uint32_t graph_input(const struct ir_graph *g, const char *name)
{
    for (uint32_t i = 0; i < g->tensors.n; i++)
        if (g->tensors.at[i].producer == IR_NONE && strcmp(g->tensors.at[i].name, name) == 0)
            return i;
    return IR_NONE;
}

static enum status bind_all(struct exec *x, bool fuse, struct err *e)
{
    const struct plan_header *h = x->plan->h;
    x->scalars = (double *)(void *)x->arena[ARENA_SCALARS];
    if (!x->device && h->arena_bytes[ARENA_SCALARS] < SCALAR_COUNT * sizeof *x->scalars)
        return err_set(e, ST_BUG, "executor", "the plan has %llu bytes for the scalars of a step, expected %zu",
                       (unsigned long long)h->arena_bytes[ARENA_SCALARS], SCALAR_COUNT * sizeof *x->scalars);
    for (uint32_t i = 0; !x->window && i < h->count[PLAN_S_PROGRAMS]; i++) {
        const struct plan_program *program = &x->plan->programs[i];
        TRY(bind_program(x, program, e));
        for (uint32_t k = 0; k < program->n_slots; k++)
            if (x->plan->slots[program->first_slot + k].kind == SLOT_GRAD)
                find_gaps(x, program, k);
    }
    for (uint32_t i = 0; !x->window && i < h->count[PLAN_S_BUCKETS]; i++)
        bind_bucket(x, i);
    for (uint32_t i = 0; i < h->count[PLAN_S_LISTS]; i++)
        TRY(bind_list(x, &x->plan->lists[i], e));
    if (x->device && x->compute->pair && fuse)
        exec__device_pairs(x);
    return ST_OK;
}

/* Sizes of the longest list: instructions, and communications among them. */
static void longest(const struct plan *p, uint32_t *n_events, uint32_t *max_calls)
{
    *n_events = *max_calls = 0;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_LISTS]; i++) {
        const struct plan_list *l = &p->lists[i];
        uint32_t calls = 0;
        for (uint32_t k = 0; k < l->n_instr; k++)
            calls += exec__is_communication((enum plan_op)p->instrs[l->first_instr + k].op);
        *n_events = l->n_instr > *n_events ? l->n_instr : *n_events;
        *max_calls = calls > *max_calls ? calls : *max_calls;
    }
}

enum status exec_open(const struct exec_setup *s, struct exec **out, struct err *e)
{
    const struct plan_header *h = s->plan->h;
    struct exec *x = mem_alloc(sizeof *x);
    x->plan = s->plan;
    x->graph = s->graph;
    x->compute = s->compute;
    x->comm_backend = s->comm;
    x->rank = world_rank();
    x->optimizer = s->optimizer;
    x->clip_norm = s->clip_norm;
    x->check_numbers = s->check_numbers;
    x->tell_number = s->tell_number;
    x->inputs = &x->block.inputs;
    x->unheard = x->block.unheard;
    x->tokens = graph_input(s->graph, "tokens");
    x->targets = graph_input(s->graph, "targets");
    arena_init(&x->lists);
    exec__copies_init(&x->copies);
    x->kernels = mem_alloc(h->count[PLAN_S_KERNELS] * sizeof *x->kernels);
    x->buckets = mem_alloc(h->count[PLAN_S_BUCKETS] * sizeof *x->buckets);
    x->gaps = mem_alloc(h->count[PLAN_S_SLOTS] * sizeof *x->gaps);
    x->calls = mem_alloc(h->count[PLAN_S_INSTRS] * sizeof *x->calls);
    x->wakes = mem_alloc(h->count[PLAN_S_INSTRS]);
    x->replica = mem_alloc(h->count[PLAN_S_INSTRS] * sizeof *x->replica);
    uint32_t n_events, max_calls;
    longest(s->plan, &n_events, &max_calls);
    x->n_events = n_events;
    x->events = s->compute->device ? NULL : mem_alloc(n_events * sizeof *x->events);
    x->times = s->times || s->compute->pretend ? mem_alloc(2 * (size_t)n_events * sizeof *x->times) : NULL;
    enum status st = s->compute->pretend  ? exec__window_map(x, e)
                     : s->compute->device ? exec__device_open(x, s, e)
                                          : exec__arenas_map(x, s->local_ranks, e);
    if (st == ST_OK)
        st = bind_all(x, s->fuse && !s->check_numbers, e);
    st = world_agree(st, e);
    if (st == ST_OK && x->device)
        st = exec__device_libraries(x, s->algorithms, e);
    if (st == ST_OK)
        st = open_comm(x, max_calls, n_events, e);
    if (st != ST_OK) {
        exec_close(x);
        return st;
    }
    *out = x;
    return ST_OK;
}

void exec_close(struct exec *x)
{
    if (!x)
        return;
    if (x->device)
        exec__device_forget(x);
    if (x->comm)
        x->comm_backend->close(x->comm);
    if (x->device)
        exec__device_close(x);
    else
        exec__arenas_unmap(x);
    arena_release(&x->lists);
    vec_free(&x->lanes);
    vec_free(&x->lane_numbers);
    exec__copies_release(&x->copies);
    mem_free(x->kernels);
    mem_free(x->buckets);
    mem_free(x->calls);
    mem_free(x->wakes);
    mem_free(x->replica);
    mem_free((void *)x->events);
    mem_free(x->gaps);
    mem_free(x->times);
    mem_free(x);
}

unsigned char *const *exec_arenas(const struct exec *x)
{
    return x->device ? exec__device_image(x) : x->arena;
}
