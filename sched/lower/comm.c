/* Lowering: loads and communication. */
#include "sched/lower/lower.h"

void lower_load(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    struct plan_instr *i = lower_begin(c, node, PLAN_LOAD, 0);
    i->tensor = n->what;
    i->my_set = lower_device_set(c, n->set);
    lower_work_base(c, i, lower_value_buffer(c, WHAT_TENSOR, node, n->what, n->mb, MEM_ACTIVATIONS), PLAN_WRITE);
}

void lower_move(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const struct ir_shape *shape = &s->g->tensors.at[m->tensor].shape;
    bool sends = class_of_set(s, m->from_set) == c->class_id, receives = class_of_set(s, m->to_set) == c->class_id;
    struct plan_instr *i = lower_begin(c, node,
                                       sends && receives ? PLAN_EXCHANGE
                                       : sends           ? PLAN_SEND
                                                         : PLAN_RECV,
                                       sends ? n->stream : m->to_stream);
    i->tensor = m->tensor;
    i->tag = c->x->tag[n->what];
    i->my_set = lower_device_set(c, sends ? m->from_set : m->to_set);
    i->peer_set = lower_device_set(c, sends ? m->to_set : m->from_set);
    i->count = ir_shape_elements(shape) * s->microbatch_size;
    i->type = shape->dtype == IR_COMPUTE ? (uint16_t)s->in->compute : shape->dtype;
    enum slot_what what = m->grad ? WHAT_LEAVING : WHAT_TENSOR;
    uint32_t giver = d->edges.at[d->in_edge[d->in_first[node]]].from;
    if (sends)
        lower_work_base(c, i, lower_value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM), PLAN_READ);
    if (receives)
        lower_work_base(c, i, lower_value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM), PLAN_WRITE);
}

/* The forward run of the region that an all-to-all belongs to. */
static uint32_t region_forward(const struct class_lowering *c, uint32_t node)
{
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[d->nodes.at[node].what];
    if (!m->inward)
        return c->index->forward_of[d->edges.at[d->in_edge[d->in_first[node]]].from];
    for (uint32_t k = d->out_first[node]; k < d->out_first[node + 1]; k++) {
        uint32_t to = d->edges.at[d->out_edge[k]].to;
        if (d->nodes.at[to].kind == IR_NODE_RUN)
            return c->index->forward_of[to];
    }
    CHECK(!"rows that go into a region are read there");
    return IR_NONE;
}

/* Counts of the rows that go to each member and come from each, as bases 2 and 3. */
static void count_bases(struct class_lowering *c, struct plan_instr *i, uint32_t node, const struct ir_node *n)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t forward = region_forward(c, node), received = IR_NONE, tensor = IR_NONE;
    for (uint32_t k = d->in_first[forward]; k < d->in_first[forward + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        if (e->kind == IR_EDGE_TENSOR && c->x->s->g->tensors.at[e->value].shape.dtype == IR_I32) {
            received = e->from;
            tensor = e->value;
        }
    }
    CHECK(received != IR_NONE);
    uint32_t giver = d->edges.at[d->in_edge[d->in_first[received]]].from;
    uint32_t local = lower_value_buffer(c, WHAT_TENSOR, giver, tensor, n->mb, MEM_COMM);
    uint32_t remote = lower_value_buffer(c, WHAT_TENSOR, received, tensor, n->mb, MEM_COMM);
    bool inward = d->moves.at[n->what].inward;
    lower_work_base(c, i, inward ? local : remote, PLAN_READ);
    lower_work_base(c, i, inward ? remote : local, PLAN_READ);
}

void lower_all_to_all(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const struct directive *shard = &s->directives.at[m->shard];
    const struct ir_shape *shape = &s->g->tensors.at[m->tensor].shape;
    uint32_t ep = s->sets.at[s->shard_sets.at[shard->first_shard_set]].n;
    uint32_t chunk = s->chunks.subs.at[d->nodes.at[region_forward(c, node)].what].chunk;
    const struct ir_node_op *experts = &s->g->ops.at[s->chunks.ops.at[s->chunks.chunks.at[chunk].first_op]];
    bool uneven = !experts->attrs.capacity && shape->dtype != IR_I32;
    struct plan_instr *i = lower_begin(c, node, uneven ? PLAN_ALL_TO_ALL_V : PLAN_ALL_TO_ALL, n->stream);
    i->tensor = m->tensor;
    i->channel = c->channel_of[c->x->shard_channel[m->shard]];
    i->count = uneven ? shape->dim[shape->ndim - 1] : ir_shape_elements(shape) * s->microbatch_size / ep;
    i->type = shape->dtype == IR_COMPUTE ? (uint16_t)s->in->compute : shape->dtype;
    enum slot_what what = m->grad ? WHAT_LEAVING : WHAT_TENSOR;
    uint32_t giver = d->edges.at[d->in_edge[d->in_first[node]]].from;
    lower_work_base(c, i, lower_value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM), PLAN_READ);
    lower_work_base(c, i, lower_value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM), PLAN_WRITE);
    if (uneven)
        count_bases(c, i, node, n);
}

void lower_bucket(struct class_lowering *c, uint32_t node, const struct ir_node *n, enum plan_op op)
{
    lower_begin(c, node, op, 0)->bucket = c->bucket_of[n->what];
}

static struct plan_instr *begin_collective(struct class_lowering *c, uint32_t node, enum plan_op op, uint32_t channel,
                                           uint64_t count, enum ir_dtype type)
{
    const struct ir_node *n = &c->list->dag.nodes.at[node];
    struct plan_instr *i = lower_begin(c, node, op, n->stream);
    i->bucket = c->bucket_of[n->what];
    i->channel = c->channel_of[channel];
    i->count = count;
    i->type = (uint16_t)type;
    return i;
}

/* base 0 += the reduced gradients in `from`, on the stream of the reduction. */
static void add_reduced(struct class_lowering *c, uint32_t node, uint32_t from, uint64_t count)
{
    const struct ir_node *n = &c->list->dag.nodes.at[node];
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    uint32_t local = c->bucket_of[n->what];
    c->instr_of[node] = c->pb.instrs.n - c->first_instr;
    struct plan_instr *i = lower_begin(c, node, PLAN_ADD, n->stream);
    i->bucket = local;
    i->count = count;
    lower_grad_base(c, i, local,
                    PLAN_READ | PLAN_WRITE | (zero_shards_state(b->zero) && !zero_shards_grads(b->zero) ? PLAN_OWN : 0))
        ->first = !c->grad_written[n->what];
    c->grad_written[n->what] = 1;
    lower_work_base(c, i, from, PLAN_READ);
}

/* Zero 0: all-reduce in place. Above: reduce-scatter to this holder's part, in ARENA_GRADS; per microbatch through a part in
 * ARENA_WORK that is added there. So a reduction never reads what is reduced already. */
void lower_reduce(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    uint32_t local = c->bucket_of[n->what], channel = c->x->reduce_channel[n->what];
    uint64_t part = b->elements / b->holders;
    struct plan_instr *i;
    if (!grads_pass_through(b) && !b->zero) {
        i = begin_collective(c, node, PLAN_ALL_REDUCE, channel, b->elements, IR_F32);
        lower_grad_base(c, i, local, PLAN_READ | PLAN_WRITE);
        return;
    }
    if (!grads_pass_through(b)) {
        i = begin_collective(c, node, PLAN_REDUCE_SCATTER, channel, part, IR_F32);
        lower_grad_base(c, i, local, PLAN_READ);
        lower_grad_base(c, i, local, PLAN_WRITE | PLAN_OWN);
        return;
    }
    uint32_t whole = *lower_buffer_slot(c, WHAT_GRAD, n->what, n->mb);
    if (!b->zero) {
        i = begin_collective(c, node, PLAN_ALL_REDUCE, channel, b->elements, IR_F32);
        lower_work_base(c, i, whole, PLAN_READ | PLAN_WRITE);
        add_reduced(c, node, whole, b->elements);
        return;
    }
    i = begin_collective(c, node, PLAN_REDUCE_SCATTER, channel, part, IR_F32);
    lower_work_base(c, i, whole, PLAN_READ);
    if (!b->reduce_each) {
        lower_grad_base(c, i, local, PLAN_WRITE);
        return;
    }
    uint32_t reduced = lower_new_buffer(c, part * 4, MEM_COMM, SLOT_GRAD, local, n->mb);
    lower_work_base(c, i, reduced, PLAN_WRITE);
    add_reduced(c, node, reduced, part);
}

void lower_gather(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    enum ir_dtype compute = c->x->s->in->compute;
    uint32_t local = c->bucket_of[n->what];
    struct plan_instr *i = begin_collective(c, node, PLAN_ALL_GATHER, c->x->gather_channel[n->what],
                                            b->elements / b->holders, compute);
    lower_param_base(c, i, local, PLAN_READ | (zero_shards_params(b->zero) ? 0 : PLAN_OWN));
    if (!zero_shards_params(b->zero)) {
        lower_param_base(c, i, local, PLAN_WRITE);
        return;
    }
    uint32_t *whole = lower_buffer_slot(c, WHAT_PARAM, node, 0);
    *whole = lower_new_buffer(c, b->elements * ir_dtype_size(IR_COMPUTE, compute), MEM_PARAMS, SLOT_PARAM, local,
                              IR_NO_MB);
    lower_work_base(c, i, *whole, PLAN_WRITE);
}
