/* Lowering: loads and communication. */
#include "sched/lower/lower.h"

void lower_load(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    struct plan_instr *i = lower_begin(c, node, PLAN_LOAD, 0);
    i->tensor = n->what;
    i->my_set = lower_device_set(c, n->set);
    const bool whole = !c->x->s->sides || n->stream == IR_LAYOUT_STARTS; /* as read */
    i->count = whole ? 0 : side_tokens(c->x->s, (enum ir_layout)n->stream);
    lower_work_base(c, i, lower_value_buffer(c, WHAT_TENSOR, node, n->what, n->mb, MEM_ACTIVATIONS), PLAN_WRITE);
}

void lower_move(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const struct ir_shape shape = side_whole_rows(s, m->tensor, IR_LAYOUT_TOKENS);
    bool sends = class_of_set(s, m->from_set) == c->class_id, receives = class_of_set(s, m->to_set) == c->class_id;
    struct plan_instr *i = lower_begin(c, node,
                                       sends && receives ? PLAN_EXCHANGE
                                       : sends           ? PLAN_SEND
                                                         : PLAN_RECV,
                                       sends ? n->stream : m->to_stream);
    i->tensor = m->tensor;
    i->tag = c->tag[n->what];
    i->my_set = lower_device_set(c, sends ? m->from_set : m->to_set);
    i->peer_set = lower_device_set(c, sends ? m->to_set : m->from_set);
    i->count = ir_shape_elements(&shape) * s->microbatch_size;
    i->type = shape.dtype == IR_COMPUTE ? (uint16_t)s->in->compute : shape.dtype;
    enum slot_what what = lower_moved(m);
    uint32_t giver = lower_giver(d, node);
    if (sends)
        lower_work_base(c, i, lower_value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM), PLAN_READ);
    if (receives)
        lower_work_base(c, i, lower_value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM), PLAN_WRITE);
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

/* Zero 0: all-reduce in place. Above: reduce-scatter to this holder's shard, in ARENA_GRADS; per microbatch through a part in
 * ARENA_WORK that is added there. So a reduction never reads what is reduced already. */
void lower_reduce(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    uint32_t local = c->bucket_of[n->what], channel = c->x->reduce_channel[n->what];
    const uint64_t part = bucket_shard(b);
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

/* A shard that its group has reduced, in ARENA_GRADS: over its copies, to all of it or to the part that is updated here. */
void lower_reduce_copies(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    const uint32_t local = c->bucket_of[n->what], channel = c->x->reduce_copies_channel[n->what];
    const uint32_t own = zero_shards_grads(b->zero) ? 0 : PLAN_OWN;
    const enum plan_op op = b->state_all ? PLAN_REDUCE_SCATTER : PLAN_ALL_REDUCE;
    struct plan_instr *i = begin_collective(c, node, op, channel, bucket_state(b), IR_F32);
    lower_grad_base(c, i, local, own | PLAN_READ | (b->state_all ? 0 : PLAN_WRITE));
    if (b->state_all)
        lower_grad_base(c, i, local, own | PLAN_PART | PLAN_WRITE);
}

void lower_gather(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    uint32_t local = c->bucket_of[n->what];
    struct plan_instr *i = begin_collective(c, node, PLAN_ALL_GATHER, c->x->gather_channel[n->what], bucket_shard(b),
                                            b->type);
    lower_param_base(c, i, local, PLAN_READ | (zero_shards_params(b->zero) ? 0 : PLAN_OWN));
    if (!zero_shards_params(b->zero)) {
        lower_param_base(c, i, local, PLAN_WRITE);
        return;
    }
    uint32_t *whole = lower_buffer_slot(c, WHAT_PARAM, node, 0);
    *whole = lower_new_buffer(c, b->elements * ir_dtype_size(b->type, b->type), MEM_PARAMS, SLOT_PARAM, local,
                              IR_NO_MB);
    lower_work_base(c, i, *whole, PLAN_WRITE);
}

/* What each copy of a shard has updated, into the shard, where the parameters lie. */
void lower_gather_copies(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    const uint32_t local = c->bucket_of[n->what], own = zero_shards_params(b->zero) ? 0 : PLAN_OWN;
    struct plan_instr *i = begin_collective(c, node, PLAN_ALL_GATHER, c->x->gather_copies_channel[n->what],
                                            bucket_state(b), b->type);
    lower_param_base(c, i, local, own | PLAN_PART | PLAN_READ);
    lower_param_base(c, i, local, own | PLAN_WRITE);
}
