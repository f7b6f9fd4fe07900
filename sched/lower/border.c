/* Lowering: what crosses the border of a region (piper-strategy(5), shard). Rows by expert are an all-to-all of the expert groups; a
 * gather is an all-gather, a sum a reduce-scatter of the tensor or context groups. Rows of tokens stand by token, so what members give
 * joins in their order and no row moves. Heads are an all-to-all of blocks, which a program of its own makes of
 * rows before it, or rows of them behind it. Keys of a zigzag: each member has an early and a late chunk of the sequence, and the late ones
 * follow in the order of the members turned round. So its keys are two all-gathers, one into each half, the second of groups turned
 * round, and no row moves either; their sum alike. */
#include "sched/lower/lower.h"

/* ---- rows by expert ------------------------------------------------------------------------------------------------ */

/* The forward run of the region that an all-to-all belongs to. */
static uint32_t region_forward(const struct class_lowering *c, uint32_t node)
{
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[d->nodes.at[node].what];
    if (!m->inward)
        return c->index->forward_of[lower_giver(d, node)];
    for (uint32_t k = d->out_first[node]; k < d->out_first[node + 1]; k++) {
        uint32_t to = d->edges.at[d->out_edge[k]].to;
        if (d->nodes.at[to].kind == IR_NODE_RUN)
            return c->index->forward_of[to];
    }
    CHECK(!"rows that go into a region are read there");
    return IR_NONE;
}

/* The border by which counts come into the region, and their tensor. */
static uint32_t counts_border(const struct class_lowering *c, uint32_t node, uint32_t *tensor)
{
    const struct ir_dag *d = &c->list->dag;
    const uint32_t forward = region_forward(c, node);
    for (uint32_t k = d->in_first[forward]; k < d->in_first[forward + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        *tensor = e->value;
        if (e->kind == IR_EDGE_TENSOR && c->x->s->g->tensors.at[e->value].shape.dtype == IR_I32)
            return e->from;
    }
    CHECK(!"counts go into a region with its rows");
    return IR_NONE;
}

/* Counts of the rows that go to each member and come from each, as bases 2 and 3. */
static void count_bases(struct class_lowering *c, struct plan_instr *i, uint32_t node, const struct ir_node *n)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t tensor, received = counts_border(c, node, &tensor);
    uint32_t giver = lower_giver(d, received);
    uint32_t local = lower_value_buffer(c, WHAT_TENSOR, giver, tensor, n->mb, MEM_COMM);
    uint32_t remote = lower_value_buffer(c, WHAT_TENSOR, received, tensor, n->mb, MEM_COMM);
    bool inward = d->moves.at[n->what].inward;
    lower_work_base(c, i, inward ? local : remote, PLAN_READ);
    lower_work_base(c, i, inward ? remote : local, PLAN_READ);
}

void lower_rows_of_experts(const struct class_lowering *c, struct plan_instr *i, const struct ir_move *m,
                           uint32_t channel)
{
    const struct sched *s = c->x->s;
    const struct ir_shape shape = side_whole_rows(s, m->tensor, IR_LAYOUT_TOKENS);
    i->tensor = m->tensor;
    i->channel = channel;
    i->count = shape.dtype == IR_I32 ? ir_shape_elements(&shape) * s->microbatch_size : shape.dim[shape.ndim - 1];
    i->type = shape.dtype == IR_COMPUTE ? (uint16_t)s->in->compute : shape.dtype;
}

/* With "overflow":"rounds" all members tell each other all counts, and what travels here is round 0; others: sched/lower/rounds.c. */
static void lower_rows_of_round(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const bool counts = s->g->tensors.at[m->tensor].shape.dtype == IR_I32;
    const enum slot_what what = lower_moved(m);
    uint32_t tensor, giver = lower_giver(d, node);
    const uint32_t all = lower_all_counts(c, counts ? node : counts_border(c, node, &tensor));
    struct plan_instr *i = lower_begin(c, node,
                                       counts      ? PLAN_ALL_GATHER
                                       : m->inward ? PLAN_TO_EXPERTS
                                                   : PLAN_FROM_EXPERTS,
                                       n->stream);
    lower_rows_of_experts(c, i, m, c->channel_of[c->x->shard_channel[m->shard]]);
    lower_work_base(c, i, lower_value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM), PLAN_READ);
    lower_work_base(c, i, counts ? all : lower_value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM), PLAN_WRITE);
    if (!counts)
        lower_work_base(c, i, all, PLAN_READ);
}

static void lower_rows(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const struct directive *shard = &s->directives.at[m->shard];
    const struct ir_shape shape = side_whole_rows(s, m->tensor, IR_LAYOUT_TOKENS);
    uint32_t ep = s->sets.at[s->listed_sets.at[shard->first_shard_set]].n;
    uint32_t chunk = s->chunks.subs.at[d->nodes.at[region_forward(c, node)].what].chunk;
    const struct ir_attrs experts = side_attrs(s, s->chunks.ops.at[s->chunks.chunks.at[chunk].first_op]);
    bool uneven = !experts.capacity && shape.dtype != IR_I32;
    if (expert_rounds(s, chunk)) {
        lower_rows_of_round(c, node, n);
        return;
    }
    struct plan_instr *i = lower_begin(c, node, uneven ? PLAN_ALL_TO_ALL_V : PLAN_ALL_TO_ALL, n->stream);
    i->tensor = m->tensor;
    i->channel = c->channel_of[c->x->shard_channel[m->shard]];
    i->count = uneven ? shape.dim[shape.ndim - 1] : ir_shape_elements(&shape) * s->microbatch_size / ep;
    i->type = shape.dtype == IR_COMPUTE ? (uint16_t)s->in->compute : shape.dtype;
    enum slot_what what = lower_moved(m);
    uint32_t giver = lower_giver(d, node);
    lower_work_base(c, i, lower_value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM), PLAN_READ);
    lower_work_base(c, i, lower_value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM), PLAN_WRITE);
    if (uneven)
        count_bases(c, i, node, n);
}

/* ---- gathers and sums ---------------------------------------------------------------------------------------------- */

static bool is_sum(const struct ir_move *m)
{
    return m->how == IR_HOW_SUM || m->how == IR_HOW_KEY_SUM;
}

static bool of_keys(const struct ir_move *m)
{
    return m->how == IR_HOW_KEYS || m->how == IR_HOW_KEY_SUM;
}

/* Calls of a node: halves of the sequence. */
static uint32_t calls_of(const struct sched *s, const struct ir_move *m)
{
    return of_keys(m) && s->share.zigzag ? 2 : 1;
}

static enum share_kind kind_of(const struct ir_move *m, uint32_t call)
{
    if (m->how == IR_HOW_HEADS)
        return SHARE_CONTEXT;
    return !of_keys(m) ? SHARE_TENSOR : call ? SHARE_CONTEXT_BACK : SHARE_CONTEXT;
}

static struct border_channel *find_channel(struct lowering *low, uint32_t set, uint32_t stream, enum share_kind kind)
{
    for (uint32_t i = 0; i < low->border_channels.n; i++) {
        struct border_channel *b = &low->border_channels.at[i];
        if (b->set == set && b->stream == stream && b->kind == kind)
            return b;
    }
    return NULL;
}

uint32_t lower_context_channel(const struct class_lowering *c, uint32_t set, uint32_t stream)
{
    return c->channel_of[find_channel(c->x, set, stream, SHARE_CONTEXT)->channel];
}

static void number_channel(struct lowering *low, uint32_t set, uint32_t stream, enum share_kind kind)
{
    if (find_channel(low, set, stream, kind))
        return;
    struct group_key key = { .kind = PLAN_GROUP_EACH };
    key.ids = share_groups(low->s, set, kind, &key.n);
    struct border_channel b = { set, stream, lower_channel_number(low, key, stream), kind };
    vec_add(&low->border_channels, b);
}

/* Over which groups members tell each other the numbers of an operator with two phases: where it is split over their tensor group, where it
 * counts over the whole sequence group. */
static enum share_kind told_over(const struct sched *s, uint32_t op)
{
    return s->sides[op].split == IR_COUNTS ? SHARE_SEQUENCE : SHARE_TENSOR;
}

static void number_told(struct lowering *low, const struct ir_node *n)
{
    struct sched *s = low->s;
    const struct ir_sub *sub = &s->chunks.subs.at[n->what];
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        const uint32_t o = s->chunks.ops.at[sub->first_op + i];
        if (side_tells(s, o))
            number_channel(low, n->set, 0, told_over(s, o));
    }
}

void lower_number_borders(struct lowering *low, const struct list_plan *list)
{
    struct sched *s = low->s;
    for (uint32_t i = 0; i < list->dag.nodes.n && s->sides; i++) {
        const struct ir_node *n = &list->dag.nodes.at[i];
        const struct ir_sub *sub = n->kind == IR_NODE_RUN ? &s->chunks.subs.at[n->what] : NULL;
        const uint32_t ring = sub ? side_ring(s, sub) : IR_NONE;
        if (sub && n->pass == IR_PASS_F)
            number_told(low, n);
        if (ring != IR_NONE)
            number_channel(low, n->set, s->directives.at[s->sides[ring].directive].stream, SHARE_CONTEXT);
        const struct ir_move *m = n->kind == IR_NODE_BORDER ? &list->dag.moves.at[n->what] : NULL;
        for (uint32_t call = 0; m && m->how != IR_HOW_ROWS && call < calls_of(s, m); call++)
            number_channel(low, n->set, n->stream, kind_of(m, call));
    }
}

/* The largest a member gives or gets: whole rows of the tokens of a call. */
void lower_size_borders(struct lowering *low, const struct list_plan *list)
{
    const struct sched *s = low->s;
    for (uint32_t i = 0; i < list->dag.nodes.n && s->sides; i++) {
        const struct ir_node *n = &list->dag.nodes.at[i];
        const struct ir_move *m = n->kind == IR_NODE_BORDER ? &list->dag.moves.at[n->what] : NULL;
        if (!m || !is_sum(m))
            continue;
        const struct ir_shape shape = side_whole_rows(s, m->tensor, IR_LAYOUT_TOKENS);
        uint64_t bytes = ir_shape_elements(&shape) * s->microbatch_size *
                         ir_dtype_size((enum ir_dtype)shape.dtype, s->in->compute);
        lower_want_scratch(low, n->stream, of_keys(m) ? s->share.context : s->share.tensor, bytes);
    }
}

static void lower_call(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t call)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    uint32_t calls = calls_of(s, m), giver = lower_giver(d, node);
    enum slot_what what = lower_moved(m);
    const struct lower_side side = lower_side_of(c, is_sum(m) ? node : giver, m->tensor, m->grad);
    uint32_t size = ir_dtype_size((enum ir_dtype)side.shape.dtype, s->in->compute);
    struct plan_instr *i = lower_begin(c, node, is_sum(m) ? PLAN_REDUCE_SCATTER : PLAN_ALL_GATHER, n->stream);
    i->tensor = m->tensor;
    i->node = node + call * d->nodes.n;
    i->channel = c->channel_of[find_channel(c->x, n->set, n->stream, kind_of(m, call))->channel];
    i->count = ir_shape_elements(&side.shape) * s->microbatch_size / calls;
    i->type = side.shape.dtype == IR_COMPUTE ? (uint16_t)s->in->compute : side.shape.dtype;
    uint64_t part = i->count * size, whole = part * (of_keys(m) ? s->share.context : s->share.tensor);
    uint32_t from = lower_value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM);
    lower_work_base(c, i, from, PLAN_READ)->offset = call * (is_sum(m) ? whole : part);
    uint32_t to = lower_value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM);
    lower_work_base(c, i, to, PLAN_WRITE)->offset = call * (is_sum(m) ? part : whole);
}

/* ---- heads --------------------------------------------------------------------------------------------------------- */

/* Blocks come and go with the communication; what they are made of, or into, is read by passes. */
static uint32_t turned_buffer(struct class_lowering *c, uint32_t giver, const struct ir_move *m, uint32_t mb,
                              bool blocks)
{
    return lower_value_buffer(c, lower_moved(m), giver, m->tensor, mb, blocks ? MEM_COMM : MEM_ACTIVATIONS);
}

static void lower_heads(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const uint32_t giver = lower_giver(d, node);
    const struct lower_side side = lower_side_of(c, node, m->tensor, m->grad);
    const bool blocks = m->layout == IR_LAYOUT_BLOCKS;
    struct plan_instr *i = lower_begin(c, node, PLAN_ALL_TO_ALL, n->stream);
    i->tensor = m->tensor;
    i->channel = lower_context_channel(c, n->set, n->stream);
    i->count = ir_shape_elements(&side.shape) * s->microbatch_size / s->share.context;
    i->type = side.shape.dtype == IR_COMPUTE ? (uint16_t)s->in->compute : side.shape.dtype;
    lower_work_base(c, i, turned_buffer(c, giver, m, n->mb, !blocks), PLAN_READ);
    lower_work_base(c, i, turned_buffer(c, node, m, n->mb, blocks), PLAN_WRITE);
}

void lower_turn(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const uint32_t giver = lower_giver(d, node);
    const struct lower_side side = lower_side_of(c, giver, m->tensor, m->grad);
    const bool blocks = m->layout == IR_LAYOUT_BLOCKS;
    const uint32_t program = program_turn(&c->programs, &(struct turn_program){ .sub = m->sub,
                                                                                .tensor = m->tensor,
                                                                                .grad = m->grad,
                                                                                .layout = (enum ir_layout)m->layout,
                                                                                .shape = side.shape });
    struct plan_instr *i = lower_begin(c, node, PLAN_RUN, 0);
    i->program = program;
    lower_work_base(c, i, turned_buffer(c, giver, m, n->mb, !blocks), PLAN_READ);
    lower_work_base(c, i, turned_buffer(c, node, m, n->mb, blocks), PLAN_WRITE);
}

void lower_border(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct ir_move *m = &c->list->dag.moves.at[n->what];
    if (m->how == IR_HOW_ROWS) {
        lower_rows(c, node, n);
        return;
    }
    if (m->how == IR_HOW_HEADS) {
        lower_heads(c, node, n);
        return;
    }
    for (uint32_t call = 0; call < calls_of(c->x->s, m); call++) {
        c->instr_of[node] = c->pb.instrs.n - c->first_instr;
        lower_call(c, node, n, call);
    }
}

/* ---- programs in pieces ------------------------------------------------------------------------------------------------ */

/* Kernel number `index` of those with two phases. */
static const struct plan_kernel *phased_kernel(const struct class_lowering *c, uint32_t program, uint32_t index)
{
    const struct plan_program *p = &c->pb.programs.at[program];
    for (uint32_t k = p->first_kernel; k < p->first_kernel + p->n_kernels; k++)
        if (plan_told(&c->pb.kernels.at[k]) < OPERAND_COUNT && index-- == 0)
            return &c->pb.kernels.at[k];
    CHECK(!"a program has as many as it says");
    return NULL;
}

/* What the members tell each other lies in an operand of the kernel, in their order: each has written its own part. */
static void gather_numbers(struct class_lowering *c, uint32_t node, const struct ir_node *n,
                           const struct plan_instr *run, const struct plan_kernel *k)
{
    const uint32_t first = run->first_base, bit = plan_told(k);
    const uint32_t number = (uint32_t)__builtin_popcountll(k->mask & ((UINT64_C(1) << bit) - 1));
    const struct plan_operand *o = &c->pb.operands.at[k->first_operand + number];
    const uint32_t buffer = c->pb.bases.at[first + o->slot].buffer;
    const struct sched *s = c->x->s;
    struct ir_op_shapes shapes;
    side_shapes(s, k->graph_op, &shapes);
    const struct ir_shape *told = bit == OPERAND_STASH ? &shapes.stash[0] : &shapes.save[1];
    struct plan_instr *i = lower_begin(c, node, PLAN_ALL_GATHER, 0);
    i->tensor = s->g->ops.at[k->graph_op].in[0];
    i->channel = c->channel_of[find_channel(c->x, n->set, 0, told_over(s, k->graph_op))->channel];
    i->count = ir_shape_elements(told) * s->microbatch_size / side_share(s, k->graph_op).parts;
    i->type = told->dtype;
    lower_work_base(c, i, buffer, PLAN_READ | PLAN_OWN)->offset = o->offset;
    lower_work_base(c, i, buffer, PLAN_WRITE)->offset = o->offset;
}

void lower_pieces(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program)
{
    const struct plan_program *p = &c->pb.programs.at[program];
    const uint32_t run = c->pb.instrs.n - 1, phases = p->phases, n_slots = p->n_slots, nodes = c->list->dag.nodes.n;
    for (uint32_t piece = 1; piece <= phases; piece++) {
        const struct plan_instr before = c->pb.instrs.at[run];
        gather_numbers(c, node, n, &before, phased_kernel(c, program, piece - 1));
        c->pb.instrs.at[c->pb.instrs.n - 1].node = node + (2 * piece - 1) * nodes;
        c->instr_of[node] = c->pb.instrs.n - c->first_instr;
        struct plan_instr *i = lower_begin(c, node, PLAN_RUN, 0);
        i->program = program;
        i->count = piece;
        i->node = node + 2 * piece * nodes;
        for (uint32_t k = 0; k < n_slots; k++) {
            const struct plan_base base = c->pb.bases.at[before.first_base + k];
            vec_add(&c->pb.bases, base);
        }
        i->n_bases = (uint16_t)n_slots;
    }
}
