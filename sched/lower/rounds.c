/* Lowering: experts with "overflow":"rounds" (piper-strategy(5), shard; PLAN_ROUNDS in ir/plan.h). Rows that are more than there is room
 * for go to their experts and back in further rounds, on the stream of compute, before F of round 0 and behind its B or BI:
 *
 *   F        ROUNDS counts; [rows in, F, results back]; F
 *   B        B; ROUNDS counts; [dispatch, rows in, F, gradients in, B, gradients back]
 *   BI, BW   BI; ROUNDS counts; [dispatch, rows in, F, gradients in, BI, BW, gradients back]; BW
 *
 * What comes in for a further round of F lies in a buffer of its own, since the rows of round 0 are there already; what F leaves of it lies
 * where round 0 will. So nothing of a further round is kept: the backward lets the rows come again and computes them again, in
 * buffers of its own, when those of round 0 are dead or about to be. Nor is what is sent kept: its dispatch permutes its tokens once more. */
#include "sched/lower/lower.h"

enum { FRAMES = 2 };

/* Buffers that further rounds have for themselves; IR_NONE: not yet. */
struct own_buffers {
    uint32_t sent, rows, counts, results, results_grad, rows_grad;
    uint32_t frame[2][FRAMES]; /* what F keeps, what BI stashes */
};

/* The further rounds of a pass of experts. */
struct rounds {
    struct class_lowering *c;
    uint32_t node, mb, forward;     /* of the pass, and of its F */
    uint32_t rows, counts, results; /* tensors */
    uint32_t sub, channel, all;     /* all: the buffer with the counts of all members */
    uint32_t begin;                 /* number of the ROUNDS */
    bool backward;
    struct own_buffers own;
};

/* The border by which a value leaves the region; IR_NONE: nobody wants it. */
static uint32_t border_behind(const struct ir_dag *d, uint32_t node, enum ir_edge_kind kind, uint32_t tensor)
{
    for (uint32_t k = d->out_first[node]; k < d->out_first[node + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->out_edge[k]];
        if (e->kind == kind && e->value == tensor && d->nodes.at[e->to].kind == IR_NODE_BORDER)
            return e->to;
    }
    return IR_NONE;
}

uint32_t lower_all_counts(struct class_lowering *c, uint32_t border)
{
    const struct ir_dag *d = &c->list->dag;
    const struct ir_node *n = &d->nodes.at[border];
    const uint32_t tensor = d->moves.at[n->what].tensor,
                   set = c->x->s->directives.at[d->moves.at[n->what].shard].first_shard_set;
    const uint32_t members = c->x->s->sets.at[c->x->s->listed_sets.at[set]].n;
    const uint32_t own = lower_value_buffer(c, WHAT_TENSOR, lower_giver(d, border), tensor, n->mb, MEM_COMM);
    const uint64_t bytes = c->pb.buffers.at[own].bytes * members;
    uint32_t *found = lower_buffer_slot(c, WHAT_COUNTS, border, 0);
    if (*found == IR_NONE)
        *found = lower_new_buffer(c, bytes, MEM_COMM, SLOT_TENSOR, tensor, n->mb);
    return *found;
}

/* An instruction of the pass with a node number of its own. */
static struct plan_instr *begin(struct rounds *r, enum plan_op op, enum ir_pass pass)
{
    const uint32_t nodes = r->c->list->dag.nodes.n, before = r->c->pb.instrs.n - r->begin;
    struct plan_instr *i = lower_begin(r->c, r->node, op, 0);
    i->node = r->node + (before + 1) * nodes;
    i->pass = (uint8_t)pass;
    i->tag = op != PLAN_ROUNDS;
    return i;
}

/* A buffer like that of round 0. */
static uint32_t like(struct rounds *r, uint32_t *own, uint32_t buffer, enum plan_kind_of_memory kind)
{
    if (*own == IR_NONE) {
        const struct plan_buffer b = r->c->pb.buffers.at[buffer];
        *own = lower_new_buffer(r->c, b.bytes, kind, (enum plan_slot_kind)b.role, b.what, b.mb);
        r->c->pb.buffers.at[*own].layout = b.layout;
    }
    return *own;
}

static uint32_t own_rows(struct rounds *r)
{
    const uint32_t border = lower_edge_giver(&r->c->list->dag, r->forward, IR_EDGE_TENSOR, r->rows, 0);
    return like(r, &r->own.rows, lower_value_buffer(r->c, WHAT_TENSOR, border, r->rows, r->mb, MEM_COMM), MEM_COMM);
}

static uint32_t own_counts(struct rounds *r)
{
    const uint32_t border = lower_edge_giver(&r->c->list->dag, r->forward, IR_EDGE_TENSOR, r->counts, 0);
    const uint32_t first = lower_value_buffer(r->c, WHAT_TENSOR, border, r->counts, r->mb, MEM_COMM);
    return r->backward ? like(r, &r->own.counts, first, MEM_COMM) : first;
}

static uint32_t own_results(struct rounds *r)
{
    const uint32_t first = lower_value_buffer(r->c, WHAT_TENSOR, r->forward, r->results, r->mb, MEM_ACTIVATIONS);
    return r->backward ? like(r, &r->own.results, first, MEM_COMM) : first;
}

static uint32_t own_results_grad(struct rounds *r)
{
    const uint32_t border = lower_edge_giver(&r->c->list->dag, r->node, IR_EDGE_GRAD, r->results, 0);
    return like(r, &r->own.results_grad, lower_value_buffer(r->c, WHAT_LEAVING, border, r->results, r->mb, MEM_COMM),
                MEM_COMM);
}

static uint32_t own_rows_grad(struct rounds *r)
{
    return like(r, &r->own.rows_grad, lower_value_buffer(r->c, WHAT_LEAVING, r->node, r->rows, r->mb, MEM_ACTIVATIONS),
                MEM_COMM);
}

/* The buffer of a slot where it is another one than in round 0, or the same by another way; IR_NONE: as there. */
static uint32_t own_buffer(struct rounds *r, uint32_t slot)
{
    const struct slot_ref ref = r->c->programs.refs.at[slot];
    const struct plan_slot p = r->c->pb.slots.at[slot];
    switch ((enum slot_what)ref.what) {
    case WHAT_TENSOR:
        return ref.id == r->rows ? own_rows(r) : ref.id == r->counts ? own_counts(r) : own_results(r);
    case WHAT_PART:
        return own_results_grad(r);
    case WHAT_LEAVING:
        return own_rows_grad(r);
    case WHAT_KEEP:
    case WHAT_STASH:
        if (r->backward) {
            CHECK(ref.id < FRAMES);
            uint32_t *own = &r->own.frame[ref.what == WHAT_STASH][ref.id];
            if (*own == IR_NONE)
                *own = lower_new_buffer(r->c, p.bytes, MEM_WORKSPACE, (enum plan_slot_kind)p.kind, r->sub, r->mb);
            return *own;
        }
        return IR_NONE;
    default:
        return IR_NONE;
    }
}

static void run(struct rounds *r, uint32_t program)
{
    const struct ir_node *n = &r->c->list->dag.nodes.at[r->node];
    const struct plan_program p = r->c->pb.programs.at[program];
    struct plan_instr *i = begin(r, PLAN_RUN, (enum ir_pass)p.pass);
    i->program = program;
    for (uint32_t k = p.first_slot; k < p.first_slot + p.n_slots; k++) {
        const uint32_t own = own_buffer(r, k);
        if (own == IR_NONE)
            lower_slot(r->c, i, r->node, n, k);
        else
            lower_work_base(r->c, i, own, r->c->pb.slots.at[k].access);
    }
}

/* What moves over a border, from buffer to buffer. */
static void exchange(struct rounds *r, const struct ir_move *m, uint32_t from, uint32_t to)
{
    struct plan_instr *i = begin(r, m->inward ? PLAN_TO_EXPERTS : PLAN_FROM_EXPERTS, m->grad ? IR_PASS_B : IR_PASS_F);
    lower_rows_of_experts(r->c, i, m, r->channel);
    lower_work_base(r->c, i, from, PLAN_READ);
    lower_work_base(r->c, i, to, PLAN_WRITE);
    lower_work_base(r->c, i, r->all, PLAN_READ);
}

/* The rows of a further round that go over a border: of all that it sends in round 0 into `own`, or from there to their places. */
static void cross(struct rounds *r, uint32_t border, uint32_t own)
{
    const struct ir_dag *d = &r->c->list->dag;
    const struct ir_move *m = &d->moves.at[d->nodes.at[border].what];
    const uint32_t all = lower_value_buffer(r->c, lower_moved(m), m->inward ? lower_giver(d, border) : border,
                                            m->tensor, r->mb, MEM_COMM);
    exchange(r, m, m->inward ? all : own, m->inward ? own : all);
}

/* The rows of the dispatch that a forward of its sub-chunk ran, once more. */
static uint32_t permuted(struct rounds *r, uint32_t dispatch)
{
    const struct ir_node *n = &r->c->list->dag.nodes.at[dispatch];
    const uint32_t number = program_again(&r->c->programs, n->what, r->rows, lower_tape(r->c, dispatch, n));
    const struct plan_program p = r->c->pb.programs.at[number];
    struct plan_instr *i = begin(r, PLAN_RUN, (enum ir_pass)p.pass);
    i->program = number;
    const uint32_t first = lower_value_buffer(r->c, WHAT_TENSOR, dispatch, r->rows, r->mb, MEM_COMM);
    const uint32_t sent = like(r, &r->own.sent, first, MEM_COMM);
    for (uint32_t k = p.first_slot; k < p.first_slot + p.n_slots; k++) {
        if (r->c->programs.refs.at[k].what == WHAT_TENSOR && r->c->programs.refs.at[k].index == MADE_AGAIN)
            lower_work_base(r->c, i, sent, r->c->pb.slots.at[k].access);
        else
            lower_slot(r->c, i, dispatch, n, k);
    }
    return sent;
}

/* What this device has sent in F; in the backward what it sends again, which a node of its own has made or which is made here. */
static void rows_in(struct rounds *r)
{
    const struct ir_dag *d = &r->c->list->dag;
    const struct sched *s = r->c->x->s;
    const uint32_t again = lower_edge_giver(d, r->node, IR_EDGE_TENSOR, r->rows, 0),
                   made_by = s->g->tensors.at[r->rows].producer;
    const uint32_t border = again == IR_NONE ? lower_edge_giver(d, r->forward, IR_EDGE_TENSOR, r->rows, 0) : again;
    const uint32_t own = own_rows(r);
    if (r->backward && again == IR_NONE && made_by != IR_NONE && s->rows_of[made_by] != IR_NONE)
        exchange(r, &d->moves.at[d->nodes.at[border].what], permuted(r, lower_giver(d, border)), own);
    else
        cross(r, border, own);
}

static void gradients_in(struct rounds *r)
{
    const struct ir_dag *d = &r->c->list->dag;
    cross(r, lower_edge_giver(d, r->node, IR_EDGE_GRAD, r->results, 0), own_results_grad(r));
}

/* Results of F, gradients of B, if somebody wants them. */
static void rows_out(struct rounds *r)
{
    const struct ir_dag *d = &r->c->list->dag;
    const uint32_t border = r->backward ? border_behind(d, r->node, IR_EDGE_GRAD, r->rows)
                                        : border_behind(d, r->node, IR_EDGE_TENSOR, r->results);
    if (border != IR_NONE)
        cross(r, border, r->backward ? own_rows_grad(r) : own_results(r));
}

static void begin_rounds(struct rounds *r)
{
    r->begin = r->c->pb.instrs.n;
    struct plan_instr *i = begin(r, PLAN_ROUNDS, (enum ir_pass)r->c->list->dag.nodes.at[r->node].pass);
    i->tensor = r->counts;
    i->channel = r->channel;
    lower_work_base(r->c, i, r->all, PLAN_READ);
    lower_work_base(r->c, i, own_counts(r), PLAN_WRITE);
}

static void end_rounds(struct rounds *r)
{
    r->c->pb.instrs.at[r->begin].count = r->c->pb.instrs.n - r->begin - 1;
}

static struct rounds rounds_of(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_sub *sub = &s->chunks.subs.at[n->what];
    const struct ir_node_op *experts = &s->g->ops.at[s->chunks.ops.at[sub->first_op]];
    CHECK(sub->n_ops == 1 && experts->op == IR_OP_EXPERTS);
    struct rounds r = { .c = c,
                        .node = node,
                        .mb = n->mb,
                        .forward = c->index->forward_of[node],
                        .rows = experts->in[0],
                        .counts = experts->in[1],
                        .results = experts->out[0],
                        .sub = n->what,
                        .backward = n->pass != IR_PASS_F };
    memset(&r.own, 0xff, sizeof r.own);
    const uint32_t border = lower_edge_giver(d, r.forward, IR_EDGE_TENSOR, r.counts, 0);
    r.all = lower_all_counts(c, border);
    r.channel = c->channel_of[c->x->rounds_channel[d->moves.at[d->nodes.at[border].what].shard]];
    return r;
}

bool lower_has_rounds(const struct class_lowering *c, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    return n->kind == IR_NODE_RUN && n->pass != IR_PASS_BW && expert_rounds(s, s->chunks.subs.at[n->what].chunk);
}

void lower_rounds_forward(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program)
{
    struct rounds r = rounds_of(c, node, n);
    begin_rounds(&r);
    rows_in(&r);
    run(&r, program);
    rows_out(&r);
    end_rounds(&r);
}

/* Does the program read what its forward kept? */
static bool reads_kept(const struct class_lowering *c, uint32_t program)
{
    const struct plan_program *p = &c->pb.programs.at[program];
    for (uint32_t k = p->first_slot; k < p->first_slot + p->n_slots; k++)
        if (c->programs.refs.at[k].what == WHAT_KEEP)
            return true;
    return false;
}

/* Where no pass has written a gradient yet, the rounds, which may be none, cannot be the first to write it. */
static void zero_gradients(struct rounds *r, uint32_t program)
{
    const struct plan_program p = r->c->pb.programs.at[program];
    for (uint32_t k = p.first_slot; k < p.first_slot + p.n_slots; k++) {
        const struct slot_ref ref = r->c->programs.refs.at[k];
        const struct lower_grad grad = { r->sub, ref.id, r->mb, 0 };
        if (ref.what == WHAT_GRAD && lower_grad_is_first(r->c, &grad))
            lower_grad(r->c, &r->c->pb.instrs.at[r->begin], &grad, PLAN_WRITE);
    }
}

static bool has_weights_apart(const struct rounds *r)
{
    const struct ir_dag *d = &r->c->list->dag;
    for (uint32_t k = d->out_first[r->node]; k < d->out_first[r->node + 1]; k++) {
        const struct ir_node *to = &d->nodes.at[d->edges.at[d->out_edge[k]].to];
        if (to->kind == IR_NODE_RUN && to->pass == IR_PASS_BW && to->what == r->sub)
            return true;
    }
    return false;
}

void lower_rounds_backward(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program)
{
    struct rounds r = rounds_of(c, node, n);
    const struct tape *tape = lower_tape(c, node, n);
    const bool apart = n->pass == IR_PASS_BI && has_weights_apart(&r);
    const uint32_t weights = apart ? program_get(&c->programs, n->what, IR_PASS_BW, 0, tape) : IR_NONE;
    const bool again = reads_kept(c, program) || (apart && reads_kept(c, weights));
    const uint32_t forward = again ? program_get(&c->programs, n->what, IR_PASS_F, 0, tape) : IR_NONE;
    begin_rounds(&r);
    if (apart)
        zero_gradients(&r, weights);
    rows_in(&r);
    if (again)
        run(&r, forward);
    gradients_in(&r);
    run(&r, program);
    if (apart)
        run(&r, weights);
    rows_out(&r);
    end_rounds(&r);
}
