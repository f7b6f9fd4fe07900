/* Lowering: the buffers of values, and runs of programs, whose slots are bound to them.
 *
 * A value is known by the node that makes, loads or receives it; every value of a microbatch has one buffer. */
#include "sched/lower/lower.h"

#include "base/number.h"

uint32_t lower_new_buffer(struct class_lowering *c, uint64_t bytes, enum plan_kind_of_memory kind,
                          enum plan_slot_kind role, uint32_t what, uint32_t mb)
{
    *vec_push(&c->pb.buffers) = (struct plan_buffer){
        .bytes = bytes, .kind = kind, .role = role, .what = what, .mb = (uint16_t)mb, .list = (uint16_t)c->pb.lists.n
    };
    return c->pb.buffers.n - 1;
}

/* A run that reads what a border node gives. */
static const struct ir_node *reader_of(const struct class_lowering *c, uint32_t node)
{
    const struct ir_dag *d = &c->list->dag;
    for (uint32_t k = d->out_first[node]; k < d->out_first[node + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->out_edge[k]];
        if (d->nodes.at[e->to].kind == IR_NODE_RUN && (e->kind == IR_EDGE_TENSOR || e->kind == IR_EDGE_GRAD))
            return &d->nodes.at[e->to];
    }
    return NULL;
}

static struct lower_side sub_side(const struct sched *s, uint32_t number, uint32_t tensor, bool grad)
{
    const struct ir_sub *sub = &s->chunks.subs.at[number];
    enum ir_layout layout = side_layout(s, sub, tensor);
    return (struct lower_side){ sub->chunk, grad ? side_dual(layout) : layout, side_tensor(s, sub, tensor) };
}

struct lower_side lower_side_of(const struct class_lowering *c, uint32_t giver, uint32_t tensor, bool grad)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_node *n = &d->nodes.at[giver], *reader;
    if (n->kind == IR_NODE_RUN)
        return sub_side(s, n->what, tensor, grad);
    if (n->kind == IR_NODE_SUM)
        return lower_side_of(c, lower_giver(d, giver), tensor, grad);
    if (n->kind == IR_NODE_AGAIN)
        return sub_side(s, d->moves.at[n->what].sub, tensor, grad);
    const struct ir_move *m = n->kind == IR_NODE_BORDER || n->kind == IR_NODE_TURN ? &d->moves.at[n->what] : NULL;
    if (m && (m->layout == IR_LAYOUT_HEADS || m->layout == IR_LAYOUT_BLOCKS)) { /* a device has as much in both */
        const struct ir_sub *sub = &s->chunks.subs.at[m->sub];
        return (struct lower_side){ sub->chunk, (enum ir_layout)m->layout, side_tensor(s, sub, tensor) };
    }
    bool rows = m && m->how == IR_HOW_ROWS, narrow = m && !rows && m->layout != IR_LAYOUT_TOKENS;
    /* more rows of experts, or the columns of a region, are as its run has them */
    if (((rows && m->inward) || narrow) && (reader = reader_of(c, giver)))
        return sub_side(s, reader->what, tensor, grad);
    enum ir_layout layout = m                         ? (enum ir_layout)m->layout
                            : n->kind == IR_NODE_LOAD ? (enum ir_layout)n->stream
                                                      : IR_LAYOUT_TOKENS;
    return (struct lower_side){ IR_NONE, layout, side_whole_rows(s, tensor, layout) };
}

static uint64_t side_bytes(const struct sched *s, const struct lower_side *side)
{
    if (side->chunk != IR_NONE)
        return value_bytes(s, side->chunk, &side->shape);
    return ir_shape_elements(&side->shape) * s->microbatch_size * ir_dtype_size(side->shape.dtype, s->in->compute);
}

/* Values are asked for by nodes that are neighbours, and their numbers too: eight of these have sixteen places that are neighbours. The index of
 * a node's values counts only where the id is no node. */
static uint64_t map_begin(uint64_t key)
{
    const uint64_t what = (key - 1) >> 60, id = (key - 1) & UINT32_MAX, bits = 3;
    const bool of_node = what == WHAT_TENSOR || what == WHAT_LEAVING;
    return number_mix((of_node ? id : key - 1) >> bits) << (bits + 1) | (id & ((1 << bits) - 1)) << 1;
}

/* The entry of a key, or the free one where it belongs. */
static struct lower_value *map_place(const struct class_lowering *c, uint64_t key)
{
    for (uint64_t i = map_begin(key);; i++) {
        struct lower_value *v = &c->map[i & (c->map_size - 1)];
        if (!v->key || v->key == key)
            return v;
    }
}

static void map_grow(struct class_lowering *c)
{
    struct lower_value *old = c->map;
    const uint32_t size = c->map_size;
    c->map_size = size ? 2 * size : *c->map_least;
    *c->map_least = c->map_size;
    c->map = mem_alloc(c->map_size * sizeof *c->map);
    for (uint32_t i = 0; i < size; i++)
        if (old[i].key)
            *map_place(c, old[i].key) = old[i];
    mem_free(old);
}

/* Values of the list being lowered, by (what, id, microbatch): the buffer that holds them. */
uint32_t *lower_buffer_slot(struct class_lowering *c, enum slot_what what, uint32_t id, uint32_t index)
{
    const uint64_t key = ((uint64_t)what << 60 | (uint64_t)index << 32 | id) + 1;
    if (2 * c->map_used >= c->map_size)
        map_grow(c);
    struct lower_value *v = map_place(c, key);
    if (!v->key) {
        *v = (struct lower_value){ key, IR_NONE };
        c->map_used++;
    }
    return &v->buffer;
}

/* The value of a tensor (or the gradient part of one) that node `giver` makes, loads or receives. */
uint32_t lower_value_buffer(struct class_lowering *c, enum slot_what what, uint32_t giver, uint32_t tensor, uint32_t mb,
                            enum plan_kind_of_memory kind)
{
    uint32_t *slot = lower_buffer_slot(c, what, giver, tensor);
    if (*slot == IR_NONE) {
        const struct lower_side side = lower_side_of(c, giver, tensor, what != WHAT_TENSOR);
        *slot = lower_new_buffer(c, side_bytes(c->x->s, &side), kind, what == WHAT_TENSOR ? SLOT_TENSOR : SLOT_GRADIENT,
                                 tensor, mb);
        c->pb.buffers.at[*slot].layout = (uint16_t)side.layout;
    }
    return *slot;
}

struct plan_instr *lower_begin(struct class_lowering *c, uint32_t node, enum plan_op op, uint32_t stream)
{
    const struct ir_node *n = &c->list->dag.nodes.at[node];
    struct plan_instr *i = vec_push(&c->pb.instrs);
    *i = (struct plan_instr){ .op = (uint8_t)op,
                              .pass = n->pass,
                              .stream = lower_stream(c, stream),
                              .mb = n->mb,
                              .type = IR_F32,
                              .node = node,
                              .first_base = c->pb.bases.n,
                              .channel = PLAN_NONE,
                              .my_set = PLAN_NONE,
                              .peer_set = PLAN_NONE };
    return i;
}

static struct plan_base *add_base(struct class_lowering *c, struct plan_instr *i, struct plan_base base)
{
    i->n_bases++;
    *vec_push(&c->pb.bases) = base;
    return &c->pb.bases.at[c->pb.bases.n - 1];
}

struct plan_base *lower_work_base(struct class_lowering *c, struct plan_instr *i, uint32_t buffer, uint32_t access)
{
    return add_base(c, i, (struct plan_base){ .arena = ARENA_WORK, .access = (uint16_t)access, .buffer = buffer });
}

struct plan_base *lower_param_base(struct class_lowering *c, struct plan_instr *i, uint32_t bucket, uint32_t access)
{
    uint64_t offset = c->pb.buckets.at[bucket].param;
    return add_base(
        c, i,
        (struct plan_base){ .arena = ARENA_PARAMS, .access = (uint16_t)access, .buffer = bucket, .offset = offset });
}

struct plan_base *lower_grad_base(struct class_lowering *c, struct plan_instr *i, uint32_t bucket, uint32_t access)
{
    uint64_t offset = c->pb.buckets.at[bucket].grad;
    return add_base(
        c, i,
        (struct plan_base){ .arena = ARENA_GRADS, .access = (uint16_t)access, .buffer = bucket, .offset = offset });
}

uint32_t lower_edge_giver(const struct ir_dag *d, uint32_t node, enum ir_edge_kind kind, uint32_t tensor,
                          uint32_t index)
{
    for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        if (e->kind == kind && e->value == tensor && index-- == 0)
            return e->from;
    }
    return IR_NONE;
}

/* Who makes the tensor that a run of a sub-chunk reads or writes: the node that an edge of it names, for a backward that gathers it
 * again, or one of its forward; or the forward itself. */
static uint32_t tensor_giver(const struct class_lowering *c, uint32_t node, uint32_t tensor)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t f = c->index->forward_of[node], from = lower_edge_giver(d, node, IR_EDGE_TENSOR, tensor, 0);
    from = from == IR_NONE ? lower_edge_giver(d, f, IR_EDGE_TENSOR, tensor, 0) : from;
    return from == IR_NONE ? f : from;
}

/* The gradient part number `index` of a tensor that enters a node, or its backward: edges in order. */
static uint32_t part_giver(const struct class_lowering *c, uint32_t node, uint32_t tensor, uint32_t index)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t from = lower_edge_giver(d, node, IR_EDGE_GRAD, tensor, index);
    from = from == IR_NONE ? lower_edge_giver(d, c->index->backward_of[node], IR_EDGE_GRAD, tensor, index) : from;
    CHECK(from != IR_NONE);
    return from;
}

/* The whole parameters of a bucket: under zero 3 where the gather for this node has put them. */
static void param_base(struct class_lowering *c, struct plan_instr *i, uint32_t node, uint32_t bucket, uint32_t access)
{
    const struct ir_dag *d = &c->list->dag;
    const struct bucket *b = &c->x->s->buckets.at[bucket];
    uint32_t local = c->bucket_of[bucket];
    if (!zero_shards_params(b->zero)) {
        lower_param_base(c, i, local, access);
        return;
    }
    for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
        uint32_t from = d->edges.at[d->in_edge[k]].from;
        if (d->nodes.at[from].kind == IR_NODE_GATHER && d->nodes.at[from].what == bucket) {
            lower_work_base(c, i, *lower_buffer_slot(c, WHAT_PARAM, from, 0), access);
            return;
        }
    }
    CHECK(!"a pass that reads a sharded bucket has a gather");
}

/* Does the list need whole gradients of a bucket in ARENA_WORK, before they are reduced into ARENA_GRADS? */
bool grads_pass_through(const struct bucket *b)
{
    return b->reduce_each || zero_shards_grads(b->zero);
}

/* The buffer of whole gradients that pass through ARENA_WORK; IR_NONE in it: there is none yet. */
static uint32_t *whole_grad(struct class_lowering *c, uint32_t bucket, uint32_t mb)
{
    return lower_buffer_slot(c, WHAT_GRAD, bucket, c->x->s->buckets.at[bucket].reduce_each ? mb : IR_NO_MB);
}

/* Is this parameter in the bucket, and does the run write its gradient? */
static bool writes_gradient(const struct sched *s, const struct lower_grad *g, uint32_t param)
{
    return s->bucket_of[param] == g->bucket && sub_part_gives(s, &s->chunks.subs.at[g->sub], g->part, param);
}

bool lower_grad_is_first(struct class_lowering *c, const struct lower_grad *g)
{
    const struct sched *s = c->x->s;
    const struct ir_sub *u = &s->chunks.subs.at[g->sub];
    if (grads_pass_through(&s->buckets.at[g->bucket])) /* the first that has them zeroes them all */
        return *whole_grad(c, g->bucket, g->mb) == IR_NONE;
    for (uint32_t k = 0; k < u->n_param; k++) { /* all that the run writes of the bucket was, or nothing */
        uint32_t p = s->chunks.params.at[u->first_param + k];
        if (c->param_written[p] && writes_gradient(s, g, p))
            return false;
    }
    return true;
}

void lower_grad(struct class_lowering *c, struct plan_instr *i, const struct lower_grad *g, uint32_t access)
{
    const struct sched *s = c->x->s;
    const struct ir_sub *sub = &s->chunks.subs.at[g->sub];
    const struct bucket *b = &s->buckets.at[g->bucket];
    const uint32_t local = c->bucket_of[g->bucket];
    const bool first = lower_grad_is_first(c, g);
    if (!grads_pass_through(b)) {
        for (uint32_t k = 0; k < sub->n_param; k++) {
            uint32_t p = s->chunks.params.at[sub->first_param + k];
            c->param_written[p] |= writes_gradient(s, g, p);
        }
        lower_grad_base(c, i, local, access)->first = first;
        return;
    }
    uint32_t *found = whole_grad(c, g->bucket, g->mb);
    if (first)
        *found = lower_new_buffer(c, b->elements * 4, MEM_GRADS, SLOT_GRAD, local, b->reduce_each ? g->mb : IR_NO_MB);
    lower_work_base(c, i, *found, access)->first = first;
}

void lower_slot(struct class_lowering *c, struct plan_instr *i, uint32_t node, const struct ir_node *n, uint32_t slot)
{
    const struct plan_slot *p = &c->pb.slots.at[slot];
    const struct slot_ref *r = &c->programs.refs.at[slot];
    uint32_t b, sub = c->pb.programs.at[i->program].sub, *found;
    uint32_t backward = n->pass == IR_PASS_BW ? c->index->backward_of[node]
                                              : node; /* where gradients enter and leave */
    switch ((enum slot_what)r->what) {
    case WHAT_PARAM:
        param_base(c, i, node, r->id, p->access);
        return;
    case WHAT_GRAD:
        lower_grad(c, i, &(struct lower_grad){ sub, r->id, n->mb, n->kind == IR_NODE_RUN ? n->part : 0 }, p->access);
        return;
    case WHAT_TENSOR:
        b = lower_value_buffer(c, WHAT_TENSOR, r->index == MADE_AGAIN ? node : tensor_giver(c, node, r->id), r->id,
                               n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_PART:
        b = lower_value_buffer(c, WHAT_LEAVING, part_giver(c, node, r->id, r->index), r->id, n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_LEAVING:
        b = lower_value_buffer(c, WHAT_LEAVING, backward, r->id, n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_KEEP:
    case WHAT_SENT:
    case WHAT_STASH:
        found = lower_buffer_slot(c, (enum slot_what)r->what, sub * 2 + r->id, n->mb);
        if (*found == IR_NONE)
            *found = lower_new_buffer(c, p->bytes, MEM_ACTIVATIONS, (enum plan_slot_kind)p->kind, sub, n->mb);
        b = *found;
        break;
    case WHAT_RING:
        b = lower_new_buffer(c, p->bytes, MEM_COMM, SLOT_RING, sub, n->mb);
        break;
    default:
        b = lower_new_buffer(c, p->bytes, MEM_WORKSPACE, SLOT_TEMP, sub, n->mb);
    }
    lower_work_base(c, i, b, p->access);
}

/* Counts the gradient parts that the tensors of the sub-chunk get. */
const struct tape *lower_tape(struct class_lowering *c, uint32_t run, const struct ir_node *n)
{
    const uint32_t node = c->index->backward_of[run];
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_sub *sub = &s->chunks.subs.at[n->what];
    c->parts.n = 0;
    vec_grow(&c->parts, sub->n_out + 1);
    for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        for (uint32_t t = 0; t < sub->n_out && e->kind == IR_EDGE_GRAD; t++)
            c->parts.at[t] += s->chunks.tensors.at[sub->first_out + t] == e->value;
    }
    return tape_get(&c->programs, n->what, n->mb, c->parts.at);
}

void lower_run(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t program;
    if (n->kind == IR_NODE_SUM) {
        const struct ir_sum *sum = &d->sums.at[n->what];
        const struct lower_side side = lower_side_of(c, node, sum->tensor, true);
        uint32_t giver = lower_giver(d, node);
        while (d->nodes.at[giver].kind != IR_NODE_RUN)
            giver = lower_giver(d, giver);
        program = program_sum(&c->programs, &(struct sum_program){ .sub = d->nodes.at[giver].what,
                                                                   .tensor = sum->tensor,
                                                                   .parts = sum->parts,
                                                                   .layout = side.layout,
                                                                   .shape = side.shape });
    } else {
        const struct tape *tape = NULL;
        if (!c->list->eval) /* F keeps what the tape of its backward reads */
            tape = lower_tape(c, node, n);
        program = program_get(&c->programs, n->what, (enum ir_pass)n->pass, n->part, tape);
    }
    const bool rounds = lower_has_rounds(c, n);
    if (rounds && n->pass == IR_PASS_F) {
        lower_rounds_forward(c, node, n, program);
        c->instr_of[node] = c->pb.instrs.n - c->first_instr;
    }
    struct plan_instr *i = lower_begin(c, node, PLAN_RUN, 0);
    const struct plan_program *p = &c->pb.programs.at[program];
    i->program = program;
    for (uint32_t k = 0; k < p->n_slots; k++)
        lower_slot(c, i, node, n, p->first_slot + k);
    if (rounds && n->pass != IR_PASS_F) {
        lower_rounds_backward(c, node, n, program);
        c->instr_of[node] = c->pb.instrs.n - 1 - c->first_instr;
        return;
    }
    if (p->phases && n->kind == IR_NODE_RUN && side_ring(c->x->s, &c->x->s->chunks.subs.at[n->what]) != IR_NONE)
        lower_ring(c, node, n, program);
    else if (p->phases)
        lower_pieces(c, node, n, program);
}

void lower_again(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const uint32_t forward = c->index->forward_of[node];
    const struct tape *tape = lower_tape(c, forward, &d->nodes.at[forward]);
    const uint32_t program = program_again(&c->programs, m->sub, m->tensor, tape);
    struct plan_instr *i = lower_begin(c, node, PLAN_RUN, 0);
    i->program = program;
    for (uint32_t k = 0; k < c->pb.programs.at[program].n_slots; k++)
        lower_slot(c, i, node, n, c->pb.programs.at[program].first_slot + k);
}
