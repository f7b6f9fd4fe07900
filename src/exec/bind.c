/* Binding a plan to this rank: what can be looked up once for kernels, buckets and communications is looked up here. */
#include <stdlib.h>

#include "exec/bucket_view.h"
#include "exec/private.h"

/* ---- kernels and buckets -------------------------------------------------------------------------------------- */

/* Of the part of an operator that this rank has. */
static const struct ir_attrs *local_attrs(struct exec *x, const struct plan_kernel *k)
{
    const struct ir_attrs *a = &x->graph->ops.at[k->graph_op].attrs;
    if (!k->split)
        return a;
    struct ir_attrs *local = arena_array(&x->memory, struct ir_attrs, 1);
    *local = ir_op_local((enum ir_op)k->op, a, (enum ir_split)k->split, k->parts);
    return local;
}

/* Of blocks by heads: how many, and the columns of a row of this rank's. */
static const struct ir_attrs *block_attrs(struct exec *x, const struct plan_kernel *k)
{
    const struct plan *p = x->plan;
    const uint64_t rows = (uint64_t)p->lists[0].microbatch_size * x->graph->seq_len / p->h->context;
    struct ir_attrs *a = arena_array(&x->memory, struct ir_attrs, 1);
    *a = (struct ir_attrs){ .heads = p->h->context, .features = (uint32_t)(k->n / rows) };
    return a;
}

static const struct ir_attrs *attrs_of(struct exec *x, const struct plan_kernel *k)
{
    static const struct ir_attrs none;
    return k->op == IR_OP_TO_BLOCKS || k->op == IR_OP_FROM_BLOCKS ? block_attrs(x, k)
           : k->graph_op == PLAN_NONE                             ? &none
                                                                  : local_attrs(x, k);
}

/* loads: ir_graph_loads(). */
static enum status bind_program(struct exec *x, const struct plan_program *program, const uint32_t *loads,
                                struct err *e)
{
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
        bound->phases = plan_told(k) < OPERAND_COUNT;
        bound->ring = plan_ring(p, program) == i;
        bound->args = (struct op_args){
            .attrs = attrs_of(x, k),
            .op = k->op,
            .t = program->tokens ? program->tokens : x->graph->seq_len,
            .positions = exec__positions(x, program, k),
            .ep = program->ep,
            .compute = k->type == IR_COMPUTE ? p->h->compute : k->type,
            .scalars = k->again ? x->discarded : x->scalars,
            .n = k->n,
            .train = !program->eval,
            .phase = plan_knows(k),
        };
        if (k->op == IR_OP_ROUTER && pass == IR_PASS_F && !k->again)
            bound->args.load = x->scalars + SCALAR_COUNT + loads[k->graph_op];
    }
    return ST_OK;
}

static int by_first(const void *a, const void *b)
{
    const struct exec__gap *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* Elements of a parameter that this rank holds. */
static uint64_t held(const struct exec *x, uint32_t param)
{
    const struct plan *p = x->plan;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_PIECES]; i++)
        if (p->pieces[i].param == param)
            return p->pieces[i].count;
    return 0;
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
                uint64_t n = held(x, x->graph->ops.at[k->graph_op].param[bit - OPERAND_DPARAM]);
                vec_add(&written, ((struct exec__gap){ o->offset, n * sizeof(float) }));
            }
            o++;
        }
    }
    if (written.n)
        qsort(written.at, written.n, sizeof *written.at, by_first);
    struct exec__gaps *g = &x->gaps[program->first_slot + slot];
    g->at = arena_array(&x->memory, struct exec__gap, written.n + 1);
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
static uint64_t decaying(uint64_t n_decay, struct bucket_view_range r)
{
    return n_decay <= r.first ? 0 : n_decay - r.first < r.count ? n_decay - r.first : r.count;
}

/* The router whose selection bias a parameter is. */
static uint32_t router_of(const struct ir_graph *g, uint32_t param)
{
    for (uint32_t i = 0; i < g->ops.n; i++)
        for (uint32_t k = 0; k < IR_MAX_PARAM; k++)
            if (g->ops.at[i].param[k] == param)
                return i;
    CHECK(!"a parameter that no operator has");
    return IR_NONE;
}

static void bind_state(struct exec *x, uint32_t i, const uint32_t *loads)
{
    const struct plan_bucket *b = &x->plan->buckets[i];
    struct exec__bucket *to = &x->buckets[i];
    float *param = (float *)bucket_view_of(x->plan, i, x->rank, x->arena).param;
    *to = (struct exec__bucket){ .update = { .master = param, .param = param, .n = b->elements, .compute = b->type },
                                 .balance = arena_array(&x->memory, struct balance_args, b->n_pieces),
                                 .n_balance = b->n_pieces };
    for (uint32_t k = 0; k < b->n_pieces; k++) {
        const struct plan_piece *piece = &x->plan->pieces[b->first_piece + k];
        const uint32_t router = router_of(x->graph, piece->param);
        to->balance[k] = (struct balance_args){ .bias = param + piece->offset,
                                                .load = x->scalars + SCALAR_COUNT + loads[router],
                                                .experts = x->graph->ops.at[router].attrs.experts,
                                                .rate = (float)x->balance_rate };
    }
}

/* NULL where the bucket has none. */
static float *grad_at(const struct bucket_view *s, uint64_t element)
{
    return s->grad ? s->grad + (element - s->grads.first) : NULL;
}

static void bind_bucket(struct exec *x, uint32_t i)
{
    const struct plan_bucket *b = &x->plan->buckets[i];
    struct bucket_view s = bucket_view_of(x->plan, i, x->rank, x->arena);
    uint32_t size = ir_dtype_size((enum ir_dtype)b->type, (enum ir_dtype)b->type);
    unsigned char *param = (unsigned char *)s.param + (s.state.first - s.params.first) * size;
    x->buckets[i] = (struct exec__bucket){
        .update = {
            .opt = &x->optimizer,
            .n = s.state.count,
            .n_decay = decaying(b->n_decay, s.state),
            .master = s.master ? s.master : (float *)(void *)param,
            .m = s.m,
            .v = s.v,
            .grad = grad_at(&s, s.state.first),
            .param = param,
            .compute = b->type,
        },
        .norm_grad = grad_at(&s, s.own.first),
        .norm_count = s.own.count,
        .own_param = s.shard.first * size,
        .own_grad = s.shard.first * sizeof(float),
        .part_param = (s.own.first - s.shard.first) * size,
        .part_grad = (s.own.first - s.shard.first) * sizeof(float),
    };
}

enum status exec__bind_kernels(struct exec *x, struct err *e)
{
    const struct plan_header *h = x->plan->h;
    x->kernels = arena_array(&x->memory, struct exec__kernel, h->count[PLAN_S_KERNELS]);
    x->buckets = arena_array(&x->memory, struct exec__bucket, h->count[PLAN_S_BUCKETS]);
    x->gaps = arena_array(&x->memory, struct exec__gaps, h->count[PLAN_S_SLOTS]);
    uint32_t *loads = arena_array(&x->memory, uint32_t, x->graph->ops.n);
    ir_graph_loads(x->graph, loads);
    for (uint32_t i = 0; i < h->count[PLAN_S_PROGRAMS]; i++) {
        const struct plan_program *program = &x->plan->programs[i];
        TRY(bind_program(x, program, loads, e));
        for (uint32_t k = 0; k < program->n_slots; k++)
            if (x->plan->slots[program->first_slot + k].kind == SLOT_GRAD)
                find_gaps(x, program, k);
    }
    for (uint32_t i = 0; i < h->count[PLAN_S_BUCKETS]; i++) {
        if (x->plan->buckets[i].rule == PLAN_RULE_BALANCE)
            bind_state(x, i, loads);
        else
            bind_bucket(x, i);
    }
    return ST_OK;
}

/* ---- communications ------------------------------------------------------------------------------------------- */

uint32_t exec__group_size(const struct exec *x, uint32_t channel)
{
    return plan_group_size(x->plan, x->plan->channels[channel].group, x->rank);
}

/* Rows that are counted while the step runs: bases are rows out, rows in, counts out, counts in. */
static void bind_rows(const struct exec *x, const struct plan_instr *in, struct comm_call *c)
{
    const struct plan_buffer *to = &x->plan->buffers[x->plan->bases[in->first_base + 1].buffer];
    const struct plan_buffer *counts = &x->plan->buffers[x->plan->bases[in->first_base + 2].buffer];
    c->row = in->count;
    c->row_counts = (uint32_t)(counts->bytes / sizeof(int32_t)) / exec__group_size(x, in->channel);
    c->max_rows = to->bytes / (in->count * comm_type_size(c->type));
}

/* Rows of a round: bases are rows out, rows in, counts of all members. */
static void bind_round(const struct exec *x, const struct plan_instr *in, struct comm_call *c)
{
    const bool back = in->op == PLAN_FROM_EXPERTS;
    const struct plan_base *b = &x->plan->bases[in->first_base];
    const uint64_t members = exec__group_size(x, in->channel);
    c->row = in->count;
    c->back = back;
    c->row_counts = (uint32_t)(x->plan->buffers[b[2].buffer].bytes / sizeof(int32_t) / (members * members));
    c->max_rows = x->plan->buffers[b[!back].buffer].bytes / (in->count * comm_type_size(c->type));
}

void exec__operands(const struct exec *x, const struct plan_instr *in, struct comm_call *c)
{
    if (in->n_bases > 0)
        c->src = c->dst = exec__base(x, in, 0);
    if (in->n_bases > 1)
        c->dst = exec__base(x, in, 1);
    if (in->op == PLAN_ADD) {
        c->src = c->dst;
        c->dst = exec__base(x, in, 0);
    }
    if (in->op == PLAN_ALL_TO_ALL_V) {
        c->send_rows = exec__base(x, in, 2);
        c->recv_rows = exec__base(x, in, 3);
    }
    if (c->op == COMM_ROWS)
        c->send_rows = exec__base(x, in, 2);
}

/* To and from the ranks that hold my place in the other set; for an exchange these may be two. */
static void bind_message(struct exec *x, const struct plan_instr *in, struct comm_call *c)
{
    c->channel = UINT32_MAX;
    c->peer = plan_set_at(x->plan, in->peer_set, plan_set_index(x->plan, in->my_set, x->rank));
    if (c->op == COMM_EXCHANGE)
        c->from = plan_set_at(x->plan, in->my_set, plan_set_index(x->plan, in->peer_set, x->rank));
    c->lane = exec__lane(x, in, c);
}

static void bind_call(struct exec *x, const struct plan_instr *in, uint32_t event)
{
    static const enum comm_op op_of[PLAN_OP_COUNT] = {
        [PLAN_SEND] = COMM_SEND,
        [PLAN_RECV] = COMM_RECV,
        [PLAN_EXCHANGE] = COMM_EXCHANGE,
        [PLAN_ALL_REDUCE] = COMM_ALL_REDUCE,
        [PLAN_REDUCE_SCATTER] = COMM_REDUCE_SCATTER,
        [PLAN_ALL_GATHER] = COMM_ALL_GATHER,
        [PLAN_ADD] = COMM_ADD,
        [PLAN_ALL_TO_ALL] = COMM_ALL_TO_ALL,
        [PLAN_ALL_TO_ALL_V] = COMM_ALL_TO_ALL_V,
        [PLAN_TO_EXPERTS] = COMM_ROWS,
        [PLAN_FROM_EXPERTS] = COMM_ROWS,
        [PLAN_SHIFT] = COMM_SHIFT,
        [PLAN_SCALARS] = COMM_ALL_REDUCE,
    };
    static const enum comm_type type_of[] = {
        [IR_F32] = COMM_F32, [IR_BF16] = COMM_BF16, [IR_F64] = COMM_F64, [IR_I32] = COMM_I32, [IR_BYTE] = COMM_BYTE
    };
    struct comm_call *c = &x->calls[in - x->plan->instrs];
    *c = (struct comm_call){
        .op = op_of[in->op],
        .type = type_of[in->type == IR_COMPUTE ? x->plan->h->compute : in->type],
        .stream = in->stream,
        .channel = in->channel,
        .peer = UINT32_MAX,
        .replace = in->op == PLAN_ADD && x->plan->bases[in->first_base].first,
        .tag = in->tag,
        .count = in->count,
        .waits = &x->plan->waits[in->first_wait],
        .n_waits = in->n_waits,
        .event = event,
    };
    if (in->op == PLAN_SEND || in->op == PLAN_RECV || in->op == PLAN_EXCHANGE)
        bind_message(x, in, c);
    if (in->op == PLAN_ALL_TO_ALL_V)
        bind_rows(x, in, c);
    if (c->op == COMM_ROWS)
        bind_round(x, in, c);
    if (in->op == PLAN_SCALARS) {
        c->type = COMM_F64;
        c->src = c->dst = x->scalars;
        c->count = x->plan->h->arena_bytes[ARENA_SCALARS] / sizeof(double);
    }
    x->machine->operands(x, in, c);
}

void exec__bind_list(struct exec *x, const struct plan_list *l)
{
    const struct plan *p = x->plan;
    for (uint32_t i = 0; i < l->n_instr; i++) {
        const struct plan_instr *in = &p->instrs[l->first_instr + i];
        if (in->op == PLAN_LOAD)
            x->replica[l->first_instr + i] = plan_set_index(p, in->my_set, x->rank) / (p->h->share ? p->h->share : 1);
        if (in->op == PLAN_ROUNDS) /* where its ranks meet */
            x->calls[l->first_instr + i].channel = in->channel;
        if (!exec__is_communication(in))
            continue;
        bind_call(x, in, i);
        for (uint32_t w = 0; w < in->n_waits; w++)
            x->wakes[l->first_instr + p->waits[in->first_wait + w]] = 1;
    }
}
