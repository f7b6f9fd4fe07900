/* Lowering: the buffers of values, and runs of programs, whose slots are bound to them.
 *
 * A value is known by the node that makes, loads or receives it; every value of a microbatch has one buffer. */
#include "sched/lower/lower.h"

uint32_t lower_new_buffer(struct class_lowering *c, uint64_t bytes, enum plan_kind_of_memory kind,
                          enum plan_slot_kind role, uint32_t what, uint32_t mb)
{
    *vec_push(&c->pb.buffers) = (struct plan_buffer){
        .bytes = bytes, .kind = kind, .role = role, .what = what, .mb = (uint16_t)mb, .list = (uint16_t)c->pb.lists.n
    };
    return c->pb.buffers.n - 1;
}

/* The chunk on whose side of a border the value of a giver lies: it decides how many rows are planned for. */
static uint32_t side_of(const struct class_lowering *c, uint32_t giver)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_node *n = &d->nodes.at[giver];
    if (n->kind == IR_NODE_RUN)
        return s->chunks.subs.at[n->what].chunk;
    if (n->kind != IR_NODE_ALL_TO_ALL || !d->moves.at[n->what].inward)
        return IR_NONE;
    const struct ir_node *to = &d->nodes.at[d->edges.at[d->out_edge[d->out_first[giver]]].to];
    return to->kind == IR_NODE_RUN ? s->chunks.subs.at[to->what].chunk : IR_NONE;
}

static uint64_t tensor_bytes(const struct class_lowering *c, uint32_t giver, uint32_t tensor)
{
    const struct sched *s = c->x->s;
    const struct ir_shape *shape = &s->g->tensors.at[tensor].shape;
    uint32_t chunk = side_of(c, giver);
    if (chunk != IR_NONE)
        return value_bytes(s, chunk, shape);
    return ir_shape_elements(shape) * s->microbatch_size * ir_dtype_size(shape->dtype, s->in->compute);
}

/* Values of the list being lowered, by (what, id, microbatch): the buffer that holds them. */
uint32_t *lower_buffer_slot(struct class_lowering *c, enum slot_what what, uint32_t id, uint32_t index)
{
    uint64_t key = ((uint64_t)what << 60 | (uint64_t)index << 32 | id) + 1;
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    for (uint32_t i = (uint32_t)(h >> c->map_shift);; i = (i + 1) & (c->map_size - 1)) {
        if (!c->map_keys[i]) {
            CHECK(++c->map_used < c->map_size);
            c->map_keys[i] = key;
            c->map_values[i] = IR_NONE;
        }
        if (c->map_keys[i] == key)
            return &c->map_values[i];
    }
}

/* The value of a tensor (or the gradient part of one) that node `giver` makes, loads or receives. */
uint32_t lower_value_buffer(struct class_lowering *c, enum slot_what what, uint32_t giver, uint32_t tensor, uint32_t mb,
                            enum plan_kind_of_memory kind)
{
    uint32_t *slot = lower_buffer_slot(c, what, giver, tensor);
    if (*slot == IR_NONE)
        *slot = lower_new_buffer(c, tensor_bytes(c, giver, tensor), kind,
                                 what == WHAT_TENSOR ? SLOT_TENSOR : SLOT_GRADIENT, tensor, mb);
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

/* Who makes the tensor that a run of a sub-chunk reads or writes: the forward itself, or the node that an edge of it names. */
static uint32_t tensor_giver(const struct class_lowering *c, uint32_t node, uint32_t tensor)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t f = c->index->forward_of[node];
    for (uint32_t k = d->in_first[f]; k < d->in_first[f + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        if (e->kind == IR_EDGE_TENSOR && e->value == tensor)
            return e->from;
    }
    return f;
}

/* The gradient part number `index` of a tensor that enters a node: its edges in order. */
static uint32_t part_giver(const struct ir_dag *d, uint32_t node, uint32_t tensor, uint32_t index)
{
    for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        if (e->kind == IR_EDGE_GRAD && e->value == tensor && index-- == 0)
            return e->from;
    }
    CHECK(!"a gradient part has a giver");
    return IR_NONE;
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

/* Where a backward writes the whole gradients of a bucket. */
static void grad_base(struct class_lowering *c, struct plan_instr *i, uint32_t bucket, uint32_t mb, uint32_t access)
{
    const struct bucket *b = &c->x->s->buckets.at[bucket];
    uint32_t local = c->bucket_of[bucket];
    if (!grads_pass_through(b)) {
        lower_grad_base(c, i, local, access)->first = !c->grad_written[bucket];
        c->grad_written[bucket] = 1;
        return;
    }
    uint32_t *found = lower_buffer_slot(c, WHAT_GRAD, bucket, b->reduce_each ? mb : IR_NO_MB);
    bool first = *found == IR_NONE;
    if (first)
        *found = lower_new_buffer(c, b->elements * 4, MEM_GRADS, SLOT_GRAD, local, b->reduce_each ? mb : IR_NO_MB);
    lower_work_base(c, i, *found, access)->first = first;
}

static void bind_slot(struct class_lowering *c, struct plan_instr *i, uint32_t node, const struct ir_node *n,
                      uint32_t slot)
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
        grad_base(c, i, r->id, n->mb, p->access);
        return;
    case WHAT_TENSOR:
        b = lower_value_buffer(c, WHAT_TENSOR, tensor_giver(c, node, r->id), r->id, n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_PART:
        b = lower_value_buffer(c, WHAT_LEAVING, part_giver(&c->list->dag, backward, r->id, r->index), r->id, n->mb,
                               MEM_ACTIVATIONS);
        break;
    case WHAT_LEAVING:
        b = lower_value_buffer(c, WHAT_LEAVING, backward, r->id, n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_KEEP:
    case WHAT_STASH:
        found = lower_buffer_slot(c, (enum slot_what)r->what, sub * 2 + r->id, n->mb);
        if (*found == IR_NONE)
            *found = lower_new_buffer(c, p->bytes, MEM_ACTIVATIONS, (enum plan_slot_kind)p->kind, sub, n->mb);
        b = *found;
        break;
    default:
        b = lower_new_buffer(c, p->bytes, MEM_WORKSPACE, SLOT_TEMP, sub, n->mb);
    }
    lower_work_base(c, i, b, p->access);
}

/* Gradient parts that the tensors of a sub-chunk get in this node. */
static const struct tape *tape_of(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_sub *sub = &s->chunks.subs.at[n->what];
    uint32_t *parts = mem_alloc((sub->n_out + 1) * sizeof *parts);
    for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        for (uint32_t t = 0; t < sub->n_out && e->kind == IR_EDGE_GRAD; t++)
            parts[t] += s->chunks.tensors.at[sub->first_out + t] == e->value;
    }
    const struct tape *tape = tape_get(&c->programs, n->what, parts);
    mem_free(parts);
    return tape;
}

void lower_run(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t program;
    if (n->kind == IR_NODE_SUM) {
        const struct ir_sum *sum = &d->sums.at[n->what];
        uint32_t giver = d->edges.at[d->in_edge[d->in_first[node]]].from;
        program = program_sum(&c->programs, d->nodes.at[giver].what, sum->tensor, sum->parts);
    } else {
        const struct tape *tape = NULL;
        if (!c->list->eval) /* F keeps what the tape of its backward reads */
            tape = tape_of(c, c->index->backward_of[node], n);
        program = program_get(&c->programs, n->what, (enum ir_pass)n->pass, tape);
    }
    struct plan_instr *i = lower_begin(c, node, PLAN_RUN, 0);
    const struct plan_program *p = &c->pb.programs.at[program];
    i->program = program;
    for (uint32_t k = 0; k < p->n_slots; k++)
        bind_slot(c, i, node, n, p->first_slot + k);
}
