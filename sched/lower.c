/* From the ordered DAG to plans: one blob per class.
 *
 * A class dispatches the projection of the global order on the nodes that concern it. Every value of a microbatch gets a
 * buffer; memory_plan() gives buffers their offsets and instructions their waits. Needs: list.order. */
#include "sched/lower.h"

#include <stdio.h>

#include "sched/memory.h"

static bool same_group(const struct group_key *a, const struct group_key *b)
{
    return a->kind == b->kind && a->n == b->n && !memcmp(a->ids, b->ids, a->n * sizeof *a->ids);
}

/* ---- job-wide numbers: tags of moves, channels ---------------------------------------------------------------------- */

static uint32_t class_of_set(const struct sched *s, uint32_t set)
{
    return s->sets.at[set].class_id;
}

/* Tags are numbered per ordered pair of classes, in the global order. */
static uint32_t *number_tags(const struct sched *s, const struct list_plan *list)
{
    uint32_t *tag = mem_alloc((list->dag.moves.n + 1) * sizeof *tag);
    uint32_t *next = mem_alloc((size_t)s->classes.n * s->classes.n * sizeof *next);
    for (uint32_t i = 0; i < list->dag.nodes.n; i++) {
        const struct ir_node *n = &list->dag.nodes.at[list->order[i]];
        if (n->kind != IR_NODE_MOVE)
            continue;
        const struct ir_move *m = &list->dag.moves.at[n->what];
        tag[n->what] = next[class_of_set(s, m->from_set) * s->classes.n + class_of_set(s, m->to_set)]++;
    }
    mem_free(next);
    return tag;
}

/* A channel is a group on a stream; all buckets with the same holders and streams share one. */
static uint32_t channel_number(struct lowering *x, struct group_key group, uint32_t stream)
{
    for (uint32_t i = 0; i < x->channels.n; i++)
        if (same_group(&x->channels.at[i].group, &group) && x->channels.at[i].stream == stream)
            return i;
    vec_add(&x->channels, ((struct job_channel){ group, stream }));
    return x->channels.n - 1;
}

/* The devices with the same block of experts in all groups of a shard directive: one set per block. */
static struct group_key block_holders(struct sched *s, const struct directive *d)
{
    uint32_t ep = s->sets.at[s->shard_sets.at[d->first_shard_set]].n;
    uint32_t *sets = arena_array(&s->arena, uint32_t, ep), *list = arena_array(&s->arena, uint32_t, d->n_shard_sets);
    for (uint32_t i = 0; i < ep; i++) {
        for (uint32_t g = 0; g < d->n_shard_sets; g++)
            list[g] = devices_of(s, s->shard_sets.at[d->first_shard_set + g])[i];
        sets[i] = devices_intern(s, list, d->n_shard_sets);
    }
    return (struct group_key){ PLAN_GROUP_EACH, sets, ep };
}

static struct group_key expert_groups(const struct sched *s, const struct directive *d)
{
    return (struct group_key){ PLAN_GROUP_EACH, s->shard_sets.at + d->first_shard_set, d->n_shard_sets };
}

static void number_channels(struct lowering *x)
{
    struct sched *s = x->s;
    uint32_t *all = arena_array(&s->arena, uint32_t, s->classes.n);
    for (uint32_t c = 0; c < s->classes.n; c++)
        all[c] = c;
    x->scalars_channel = channel_number(x, (struct group_key){ PLAN_GROUP_UNION, all, s->classes.n }, 0);
    x->holders = arena_array(&s->arena, struct group_key, s->buckets.n + 1);
    x->reduce_channel = arena_array(&s->arena, uint32_t, s->buckets.n + 1);
    x->gather_channel = arena_array(&s->arena, uint32_t, s->buckets.n + 1);
    x->shard_channel = arena_array(&s->arena, uint32_t, s->directives.n + 1);
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        const struct bucket *k = &s->buckets.at[b];
        x->holders[b] = k->shard == IR_NONE ?
                            (struct group_key){ PLAN_GROUP_UNION, s->bucket_classes.at + k->first_class, k->n_classes } :
                            block_holders(s, &s->directives.at[k->shard]);
        if (k->holders > 1)
            x->reduce_channel[b] = channel_number(x, x->holders[b], k->reduce_stream);
        if (k->zero)
            x->gather_channel[b] = channel_number(x, x->holders[b], k->gather_stream);
    }
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++)
        if (s->shard_of[c] != IR_NONE) {
            const struct directive *d = &s->directives.at[s->shard_of[c]];
            x->shard_channel[s->shard_of[c]] = channel_number(x, expert_groups(s, d), d->stream);
        }
}

/* What the back end needs to sum: the terms of all members, up to its limit. The same on all ranks of a stream, so that
 * both ends of a reduction cut it into the same pieces. */
static void want_scratch(struct lowering *x, uint32_t stream, uint64_t members, uint64_t bytes)
{
    uint64_t want = round_up(members * bytes, x->s->in->target->alignment), limit = x->s->in->comm_scratch;
    want = want < limit ? want : limit;
    if (members > 1 && want > x->stream_scratch[stream])
        x->stream_scratch[stream] = want;
}

static void size_scratch(struct lowering *x)
{
    const struct sched *s = x->s;
    want_scratch(x, 0, s->ranks, PLAN_SCALARS_BYTES);
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        const struct bucket *k = &s->buckets.at[b];
        want_scratch(x, k->reduce_stream, k->holders, k->elements * 4 / (k->zero ? k->holders : 1));
    }
}

/* ---- tables of a class ---------------------------------------------------------------------------------------------- */

/* A set as ranges: maximal arithmetic progressions. */
static uint32_t add_set(struct plan_builder *pb, const uint32_t *d, uint32_t n)
{
    struct plan_set set = { .first_range = pb->ranges.n, .size = n };
    for (uint32_t i = 0; i < n;) {
        uint32_t stride = i + 1 < n && d[i + 1] > d[i] ? d[i + 1] - d[i] : 1, k = 1;
        while (i + k < n && d[i + k] == d[i] + k * stride)
            k++;
        vec_add(&pb->ranges, ((struct plan_range){ d[i], stride, k }));
        i += k;
    }
    set.n_ranges = pb->ranges.n - set.first_range;
    vec_add(&pb->sets, set);
    return pb->sets.n - 1;
}

static uint32_t local_set(struct class_lowering *c, uint32_t set)
{
    if (c->set_of[set] == IR_NONE)
        c->set_of[set] = add_set(&c->pb, devices_of(c->x->s, set), c->x->s->sets.at[set].n);
    return c->set_of[set];
}

static uint32_t add_group(struct class_lowering *c, struct group_key key)
{
    const struct sched *s = c->x->s;
    for (uint32_t g = 0; g < c->group_keys.n; g++)
        if (same_group(&c->group_keys.at[g], &key))
            return g;
    struct plan_group g = { .kind = key.kind, .first_set = c->pb.sets.n, .n_sets = key.n };
    for (uint32_t i = 0; i < key.n; i++) {
        if (key.kind == PLAN_GROUP_UNION)
            add_set(&c->pb, s->class_pool.at + s->classes.at[key.ids[i]].first, s->classes.at[key.ids[i]].n);
        else
            add_set(&c->pb, devices_of(s, key.ids[i]), s->sets.at[key.ids[i]].n);
    }
    vec_add(&c->pb.groups, g);
    vec_add(&c->group_keys, key);
    return c->pb.groups.n - 1;
}

/* Is the class one of a group's? */
static bool in_group(const struct class_lowering *c, const struct group_key *key)
{
    const struct sched *s = c->x->s;
    if (key->kind == PLAN_GROUP_EACH) {
        const uint32_t first = devices_of(s, key->ids[0])[0];
        const struct device_class *k = &s->classes.at[c->class_id];
        for (uint32_t i = 0; i < k->n; i++)
            if (s->class_pool.at[k->first + i] == first)
                return true;
        return false;
    }
    for (uint32_t i = 0; i < key->n; i++)
        if (key->ids[i] == c->class_id)
            return true;
    return false;
}

static uint16_t local_stream(struct class_lowering *c, uint32_t stream)
{
    if (c->stream_of[stream] == IR_NONE) {
        c->stream_of[stream] = c->pb.streams.n;
        struct plan_stream p = { .name = plan_builder_text(&c->pb, c->x->s->streams.at[stream]) };
        stream_resources(c->x->s, stream, &p.max_ctas, &p.priority);
        p.scratch = c->pb.h.arena_bytes[ARENA_COMM];
        p.scratch_bytes = c->x->stream_scratch[stream];
        c->pb.h.arena_bytes[ARENA_COMM] += p.scratch_bytes;
        vec_add(&c->pb.streams, p);
        c->x->stream_used[stream] = 1;
    }
    return (uint16_t)c->stream_of[stream];
}

static bool has_class(const struct sched *s, const struct bucket *b, uint32_t class_id)
{
    for (uint32_t i = 0; i < b->n_classes; i++)
        if (s->bucket_classes.at[b->first_class + i] == class_id)
            return true;
    return false;
}

static void add_buckets(struct class_lowering *c)
{
    const struct sched *s = c->x->s;
    uint32_t size = ir_dtype_size(IR_COMPUTE, s->in->compute);
    uint64_t *arena = c->pb.h.arena_bytes;
    for (uint32_t i = 0; i < s->buckets.n; i++) {
        const struct bucket *b = &s->buckets.at[i];
        c->bucket_of[i] = IR_NONE;
        if (!has_class(s, b, c->class_id))
            continue;
        c->bucket_of[i] = c->pb.buckets.n;
        struct plan_bucket p = { .first_piece = c->pb.pieces.n, .n_pieces = b->n_params, .elements = b->elements,
                                 .n_decay = b->n_decay, .zero = b->zero, .master = UINT64_MAX, .m = UINT64_MAX, .v = UINT64_MAX };
        p.holders = add_group(c, c->x->holders[i]);
        const struct directive *d = b->shard == IR_NONE ? NULL : &s->directives.at[b->shard];
        uint32_t owners = d ? add_group(c, expert_groups(s, d)) : p.holders;
        uint32_t split = d ? s->sets.at[s->shard_sets.at[d->first_shard_set]].n : 1;
        uint32_t align = s->in->target->alignment;
        uint64_t part = b->elements / b->holders;
        p.param = arena[ARENA_PARAMS];
        arena[ARENA_PARAMS] = round_up(p.param + (b->zero >= 3 ? part : b->elements) * size, align);
        p.grad = arena[ARENA_GRADS];
        arena[ARENA_GRADS] = round_up(p.grad + (b->zero >= 2 ? part : b->elements) * 4, align);
        uint64_t *optim[3] = { s->in->compute == IR_F32 ? NULL : &p.master, s->in->optimizer ? NULL : &p.m,
                               s->in->optimizer ? NULL : &p.v };
        for (int k = 0; k < 3; k++)
            if (optim[k]) {
                *optim[k] = arena[ARENA_OPTIM];
                arena[ARENA_OPTIM] = round_up(*optim[k] + (b->zero >= 1 ? part : b->elements) * 4, align);
            }
        for (uint32_t k = 0; k < b->n_params; k++) {
            uint32_t param = s->bucket_params.at[b->first_param + k];
            *vec_push(&c->pb.pieces) = (struct plan_piece){ .param = param,
                                                            .bucket = c->pb.buckets.n,
                                                            .count = ir_shape_elements(&s->g->params.at[param].shape) / split,
                                                            .offset = c->programs.param_offset[param],
                                                            .split = split,
                                                            .owners = owners };
        }
        vec_add(&c->pb.buckets, p);
    }
}

static void add_channels(struct class_lowering *c)
{
    for (uint32_t i = 0; i < c->x->channels.n; i++) {
        const struct job_channel *j = &c->x->channels.at[i];
        c->channel_of[i] = IR_NONE;
        if (!in_group(c, &j->group))
            continue;
        c->channel_of[i] = c->pb.channels.n;
        struct plan_channel p = { .id = i, .group = add_group(c, j->group), .stream = local_stream(c, j->stream) };
        vec_add(&c->pb.channels, p);
    }
}

/* ---- instructions ---------------------------------------------------------------------------------------------------- */

static uint32_t new_buffer(struct class_lowering *c, uint64_t bytes, enum plan_kind_of_memory kind, enum plan_slot_kind role,
                           uint32_t what, uint32_t mb)
{
    *vec_push(&c->pb.buffers) = (struct plan_buffer){ .bytes = bytes, .kind = kind, .role = role, .what = what,
                                                      .mb = (uint16_t)mb, .list = (uint16_t)c->pb.lists.n };
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
static uint32_t *buffer_slot(struct class_lowering *c, enum slot_what what, uint32_t id, uint32_t index)
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
static uint32_t value_buffer(struct class_lowering *c, enum slot_what what, uint32_t giver, uint32_t tensor, uint32_t mb,
                             enum plan_kind_of_memory kind)
{
    uint32_t *slot = buffer_slot(c, what, giver, tensor);
    if (*slot == IR_NONE)
        *slot = new_buffer(c, tensor_bytes(c, giver, tensor), kind, what == WHAT_TENSOR ? SLOT_TENSOR : SLOT_GRADIENT, tensor, mb);
    return *slot;
}

static struct plan_instr *begin_instr(struct class_lowering *c, uint32_t node, enum plan_op op, uint32_t stream)
{
    const struct ir_node *n = &c->list->dag.nodes.at[node];
    struct plan_instr *i = vec_push(&c->pb.instrs);
    *i = (struct plan_instr){ .op = (uint8_t)op, .pass = n->pass, .stream = local_stream(c, stream), .mb = n->mb,
                              .type = IR_F32, .node = node, .first_base = c->pb.bases.n, .channel = PLAN_NONE,
                              .my_set = PLAN_NONE, .peer_set = PLAN_NONE };
    return i;
}

static void base(struct class_lowering *c, struct plan_instr *i, enum plan_arena arena, uint32_t buffer, uint64_t offset,
                 uint32_t access, bool first)
{
    *vec_push(&c->pb.bases) = (struct plan_base){ .arena = (uint8_t)arena, .first = first, .access = (uint16_t)access,
                                                  .buffer = buffer, .offset = offset };
    i->n_bases++;
}

static void lower_load(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    struct plan_instr *i = begin_instr(c, node, PLAN_LOAD, 0);
    i->what = n->what;
    i->my_set = local_set(c, n->set);
    base(c, i, ARENA_WORK, value_buffer(c, WHAT_TENSOR, node, n->what, n->mb, MEM_ACTIVATIONS), 0, PLAN_WRITE, false);
}

static void lower_move(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[n->what];
    const struct ir_shape *shape = &s->g->tensors.at[m->tensor].shape;
    bool sends = class_of_set(s, m->from_set) == c->class_id, receives = class_of_set(s, m->to_set) == c->class_id;
    struct plan_instr *i = begin_instr(c, node, sends && receives ? PLAN_EXCHANGE : sends ? PLAN_SEND : PLAN_RECV,
                                       sends ? n->stream : m->to_stream);
    i->what = m->tensor;
    i->tag = c->x->tag[n->what];
    i->my_set = local_set(c, sends ? m->from_set : m->to_set);
    i->peer_set = local_set(c, sends ? m->to_set : m->from_set);
    i->count = ir_shape_elements(shape) * s->microbatch_size;
    i->type = shape->dtype == IR_COMPUTE ? (uint16_t)s->in->compute : shape->dtype;
    enum slot_what what = m->grad ? WHAT_LEAVING : WHAT_TENSOR;
    uint32_t giver = d->edges.at[d->in_edge[d->in_first[node]]].from;
    if (sends)
        base(c, i, ARENA_WORK, value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM), 0, PLAN_READ, false);
    if (receives)
        base(c, i, ARENA_WORK, value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM), 0, PLAN_WRITE, false);
}

/* The forward run of the region that an all-to-all belongs to. */
static uint32_t region_forward(const struct class_lowering *c, uint32_t node)
{
    const struct ir_dag *d = &c->list->dag;
    const struct ir_move *m = &d->moves.at[d->nodes.at[node].what];
    if (!m->inward)
        return c->forward_of[d->edges.at[d->in_edge[d->in_first[node]]].from];
    for (uint32_t k = d->out_first[node]; k < d->out_first[node + 1]; k++) {
        uint32_t to = d->edges.at[d->out_edge[k]].to;
        if (d->nodes.at[to].kind == IR_NODE_RUN)
            return c->forward_of[to];
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
    uint32_t local = value_buffer(c, WHAT_TENSOR, giver, tensor, n->mb, MEM_COMM);
    uint32_t remote = value_buffer(c, WHAT_TENSOR, received, tensor, n->mb, MEM_COMM);
    bool inward = d->moves.at[n->what].inward;
    base(c, i, ARENA_WORK, inward ? local : remote, 0, PLAN_READ, false);
    base(c, i, ARENA_WORK, inward ? remote : local, 0, PLAN_READ, false);
}

static void lower_all_to_all(struct class_lowering *c, uint32_t node, const struct ir_node *n)
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
    struct plan_instr *i = begin_instr(c, node, uneven ? PLAN_ALL_TO_ALL_V : PLAN_ALL_TO_ALL, n->stream);
    i->what = m->tensor;
    i->channel = c->channel_of[c->x->shard_channel[m->shard]];
    i->count = uneven ? shape->dim[shape->ndim - 1] : ir_shape_elements(shape) * s->microbatch_size / ep;
    i->type = shape->dtype == IR_COMPUTE ? (uint16_t)s->in->compute : shape->dtype;
    enum slot_what what = m->grad ? WHAT_LEAVING : WHAT_TENSOR;
    uint32_t giver = d->edges.at[d->in_edge[d->in_first[node]]].from;
    base(c, i, ARENA_WORK, value_buffer(c, what, giver, m->tensor, n->mb, MEM_COMM), 0, PLAN_READ, false);
    base(c, i, ARENA_WORK, value_buffer(c, what, node, m->tensor, n->mb, MEM_COMM), 0, PLAN_WRITE, false);
    if (uneven)
        count_bases(c, i, node, n);
}

/* Who makes the tensor that a run of a sub-chunk reads or writes: the forward itself, or the node that an edge of it names. */
static uint32_t tensor_giver(const struct class_lowering *c, uint32_t node, uint32_t tensor)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t f = c->forward_of[node];
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
    if (b->zero < 3) {
        base(c, i, ARENA_PARAMS, local, c->pb.buckets.at[local].param, access, false);
        return;
    }
    for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
        uint32_t from = d->edges.at[d->in_edge[k]].from;
        if (d->nodes.at[from].kind == IR_NODE_GATHER && d->nodes.at[from].what == bucket) {
            base(c, i, ARENA_WORK, *buffer_slot(c, WHAT_PARAM, from, 0), 0, access, false);
            return;
        }
    }
    CHECK(!"a pass that reads a sharded bucket has a gather");
}

/* Does the list need whole gradients of a bucket in ARENA_WORK, before they are reduced into ARENA_GRADS? */
static bool grads_pass_through(const struct bucket *b)
{
    return b->reduce_each || b->zero >= 2;
}

/* Where a backward writes the whole gradients of a bucket. */
static void grad_base(struct class_lowering *c, struct plan_instr *i, uint32_t bucket, uint32_t mb, uint32_t access)
{
    const struct bucket *b = &c->x->s->buckets.at[bucket];
    uint32_t local = c->bucket_of[bucket];
    if (!grads_pass_through(b)) {
        base(c, i, ARENA_GRADS, local, c->pb.buckets.at[local].grad, access, !c->grad_written[bucket]);
        c->grad_written[bucket] = 1;
        return;
    }
    uint32_t *found = buffer_slot(c, WHAT_GRAD, bucket, b->reduce_each ? mb : IR_NO_MB);
    bool first = *found == IR_NONE;
    if (first)
        *found = new_buffer(c, b->elements * 4, MEM_GRADS, SLOT_GRAD, local, b->reduce_each ? mb : IR_NO_MB);
    base(c, i, ARENA_WORK, *found, 0, access, first);
}

static void bind_slot(struct class_lowering *c, struct plan_instr *i, uint32_t node, const struct ir_node *n, uint32_t slot)
{
    const struct plan_slot *p = &c->pb.slots.at[slot];
    const struct slot_ref *r = &c->programs.refs.at[slot];
    uint32_t b, sub = c->pb.programs.at[i->what].sub, *found;
    uint32_t backward = n->pass == IR_PASS_BW ? c->backward_of[node] : node; /* where gradients enter and leave */
    switch ((enum slot_what)r->what) {
    case WHAT_PARAM:
        param_base(c, i, node, r->id, p->access);
        return;
    case WHAT_GRAD:
        grad_base(c, i, r->id, n->mb, p->access);
        return;
    case WHAT_TENSOR:
        b = value_buffer(c, WHAT_TENSOR, tensor_giver(c, node, r->id), r->id, n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_PART:
        b = value_buffer(c, WHAT_LEAVING, part_giver(&c->list->dag, backward, r->id, r->index), r->id, n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_LEAVING:
        b = value_buffer(c, WHAT_LEAVING, backward, r->id, n->mb, MEM_ACTIVATIONS);
        break;
    case WHAT_KEEP:
    case WHAT_STASH:
        found = buffer_slot(c, (enum slot_what)r->what, sub * 2 + r->id, n->mb);
        if (*found == IR_NONE)
            *found = new_buffer(c, p->bytes, MEM_ACTIVATIONS, (enum plan_slot_kind)p->kind, sub, n->mb);
        b = *found;
        break;
    default:
        b = new_buffer(c, p->bytes, MEM_WORKSPACE, SLOT_TEMP, sub, n->mb);
    }
    base(c, i, ARENA_WORK, b, 0, p->access, false);
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

static void lower_run(struct class_lowering *c, uint32_t node, const struct ir_node *n)
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
            tape = tape_of(c, c->backward_of[node], n);
        program = program_get(&c->programs, n->what, (enum ir_pass)n->pass, tape);
    }
    struct plan_instr *i = begin_instr(c, node, PLAN_RUN, 0);
    const struct plan_program *p = &c->pb.programs.at[program];
    i->what = program;
    for (uint32_t k = 0; k < p->n_slots; k++)
        bind_slot(c, i, node, n, p->first_slot + k);
}

static void lower_bucket(struct class_lowering *c, uint32_t node, const struct ir_node *n, enum plan_op op)
{
    begin_instr(c, node, op, 0)->what = c->bucket_of[n->what];
}

static struct plan_instr *begin_collective(struct class_lowering *c, uint32_t node, enum plan_op op, uint32_t channel,
                                           uint64_t count, enum ir_dtype type)
{
    const struct ir_node *n = &c->list->dag.nodes.at[node];
    struct plan_instr *i = begin_instr(c, node, op, n->stream);
    i->what = c->bucket_of[n->what];
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
    struct plan_instr *i = begin_instr(c, node, PLAN_ADD, n->stream);
    i->what = local;
    i->count = count;
    base(c, i, ARENA_GRADS, local, c->pb.buckets.at[local].grad, PLAN_READ | PLAN_WRITE | (b->zero == 1 ? PLAN_OWN : 0),
         !c->grad_written[n->what]);
    c->grad_written[n->what] = 1;
    base(c, i, ARENA_WORK, from, 0, PLAN_READ, false);
}

/* Zero 0: all-reduce in place. Above: reduce-scatter to this holder's part, in ARENA_GRADS; per microbatch through a part in
 * ARENA_WORK that is added there. So a reduction never reads what is reduced already. */
static void lower_reduce(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    uint32_t local = c->bucket_of[n->what], channel = c->x->reduce_channel[n->what];
    uint64_t part = b->elements / b->holders;
    struct plan_instr *i;
    if (!grads_pass_through(b) && !b->zero) {
        i = begin_collective(c, node, PLAN_ALL_REDUCE, channel, b->elements, IR_F32);
        base(c, i, ARENA_GRADS, local, c->pb.buckets.at[local].grad, PLAN_READ | PLAN_WRITE, false);
        return;
    }
    if (!grads_pass_through(b)) {
        i = begin_collective(c, node, PLAN_REDUCE_SCATTER, channel, part, IR_F32);
        base(c, i, ARENA_GRADS, local, c->pb.buckets.at[local].grad, PLAN_READ, false);
        base(c, i, ARENA_GRADS, local, c->pb.buckets.at[local].grad, PLAN_WRITE | PLAN_OWN, false);
        return;
    }
    uint32_t whole = *buffer_slot(c, WHAT_GRAD, n->what, n->mb);
    if (!b->zero) {
        i = begin_collective(c, node, PLAN_ALL_REDUCE, channel, b->elements, IR_F32);
        base(c, i, ARENA_WORK, whole, 0, PLAN_READ | PLAN_WRITE, false);
        add_reduced(c, node, whole, b->elements);
        return;
    }
    i = begin_collective(c, node, PLAN_REDUCE_SCATTER, channel, part, IR_F32);
    base(c, i, ARENA_WORK, whole, 0, PLAN_READ, false);
    if (!b->reduce_each) {
        base(c, i, ARENA_GRADS, local, c->pb.buckets.at[local].grad, PLAN_WRITE, false);
        return;
    }
    uint32_t reduced = new_buffer(c, part * 4, MEM_COMM, SLOT_GRAD, local, n->mb);
    base(c, i, ARENA_WORK, reduced, 0, PLAN_WRITE, false);
    add_reduced(c, node, reduced, part);
}

static void lower_gather(struct class_lowering *c, uint32_t node, const struct ir_node *n)
{
    const struct bucket *b = &c->x->s->buckets.at[n->what];
    enum ir_dtype compute = c->x->s->in->compute;
    uint32_t local = c->bucket_of[n->what];
    struct plan_instr *i = begin_collective(c, node, PLAN_ALL_GATHER, c->x->gather_channel[n->what], b->elements / b->holders, compute);
    base(c, i, ARENA_PARAMS, local, c->pb.buckets.at[local].param, PLAN_READ | (b->zero < 3 ? PLAN_OWN : 0), false);
    if (b->zero < 3) {
        base(c, i, ARENA_PARAMS, local, c->pb.buckets.at[local].param, PLAN_WRITE, false);
        return;
    }
    uint32_t *whole = buffer_slot(c, WHAT_PARAM, node, 0);
    *whole = new_buffer(c, b->elements * ir_dtype_size(IR_COMPUTE, compute), MEM_PARAMS, SLOT_PARAM, local, IR_NO_MB);
    base(c, i, ARENA_WORK, *whole, 0, PLAN_WRITE, false);
}

/* Does the node concern this class? */
static bool concerns(const struct class_lowering *c, const struct ir_node *n)
{
    const struct sched *s = c->x->s;
    const struct ir_move *m;
    switch ((enum ir_node_kind)n->kind) {
    case IR_NODE_LOAD:
    case IR_NODE_RUN:
    case IR_NODE_SUM:
    case IR_NODE_ALL_TO_ALL:
        return class_of_set(s, n->set) == c->class_id;
    case IR_NODE_MOVE:
        m = &c->list->dag.moves.at[n->what];
        return class_of_set(s, m->from_set) == c->class_id || class_of_set(s, m->to_set) == c->class_id;
    case IR_NODE_REDUCE:
    case IR_NODE_GATHER:
    case IR_NODE_SUMSQ:
    case IR_NODE_UPDATE:
        return c->bucket_of[n->what] != IR_NONE;
    default:
        return true;
    }
}

static void lower_node(struct class_lowering *c, uint32_t node)
{
    const struct ir_node *n = &c->list->dag.nodes.at[node];
    if (!concerns(c, n))
        return;
    c->instr_of[node] = c->pb.instrs.n - c->first_instr;
    switch ((enum ir_node_kind)n->kind) {
    case IR_NODE_LOAD:
        lower_load(c, node, n);
        break;
    case IR_NODE_RUN:
    case IR_NODE_SUM:
        lower_run(c, node, n);
        break;
    case IR_NODE_MOVE:
        lower_move(c, node, n);
        break;
    case IR_NODE_ALL_TO_ALL:
        lower_all_to_all(c, node, n);
        break;
    case IR_NODE_REDUCE:
        lower_reduce(c, node, n);
        break;
    case IR_NODE_GATHER:
        lower_gather(c, node, n);
        break;
    case IR_NODE_SUMSQ:
        lower_bucket(c, node, n, PLAN_SUMSQ);
        break;
    case IR_NODE_UPDATE:
        lower_bucket(c, node, n, PLAN_UPDATE);
        break;
    default:
        begin_instr(c, node, PLAN_SCALARS, 0)->channel = c->channel_of[c->x->scalars_channel];
        c->pb.instrs.at[c->pb.instrs.n - 1].type = IR_F64;
        break;
    }
}

/* Instructions of this class that a node's inputs became, on other streams: on its own stream order holds anyway. A SEND
 * and a RECV of one MOVE are on different classes, so the receive waits for nothing here. */
static void find_dependencies(struct class_lowering *c, struct dependencies *deps, uint32_t n)
{
    const struct ir_dag *d = &c->list->dag;
    struct { VEC(uint32_t); } at = { 0 };
    deps->first = mem_alloc((n + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++) {
        const struct plan_instr *x = &c->pb.instrs.at[c->first_instr + i];
        deps->first[i] = at.n;
        for (uint32_t k = d->in_first[x->node]; k < d->in_first[x->node + 1]; k++) {
            uint32_t on = c->instr_of[d->edges.at[d->in_edge[k]].from];
            if (on != IR_NONE && c->pb.instrs.at[c->first_instr + on].stream != x->stream)
                vec_add(&at, on);
        }
    }
    deps->first[n] = at.n;
    deps->at = at.at;
}

/* For every run of a sub-chunk: its forward, and the backward (B or BI) where gradient parts enter. */
static void find_partners(struct class_lowering *c)
{
    const struct ir_dag *d = &c->list->dag;
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[i];
        if (n->kind != IR_NODE_RUN)
            continue;
        if (n->pass == IR_PASS_F)
            c->forward_of[i] = i;
        else if (n->pass != IR_PASS_BW)
            c->backward_of[i] = i;
        for (uint32_t k = d->out_first[i]; k < d->out_first[i + 1]; k++) {
            const struct ir_edge *e = &d->edges.at[d->out_edge[k]];
            const struct ir_node *to = &d->nodes.at[e->to];
            if (e->kind != IR_EDGE_AFTER || to->kind != IR_NODE_RUN || to->what != n->what || to->mb != n->mb)
                continue;
            if (n->pass == IR_PASS_F) {
                c->backward_of[i] = e->to;
                c->forward_of[e->to] = i;
            } else {
                c->backward_of[e->to] = i;
            }
        }
    }
    for (uint32_t i = 0; i < d->nodes.n; i++)
        if (d->nodes.at[i].kind == IR_NODE_RUN && d->nodes.at[i].pass == IR_PASS_BW)
            c->forward_of[i] = c->forward_of[c->backward_of[i]];
}

static void lower_list(struct class_lowering *c, struct list_plan *list)
{
    struct sched *s = c->x->s;
    const struct ir_dag *d = &list->dag;
    c->list = list;
    c->first_instr = c->pb.instrs.n;
    uint32_t first_buffer = c->pb.buffers.n;
    c->instr_of = mem_alloc((d->nodes.n + 1) * sizeof(uint32_t));
    c->backward_of = mem_alloc((d->nodes.n + 1) * sizeof(uint32_t));
    c->forward_of = mem_alloc((d->nodes.n + 1) * sizeof(uint32_t));
    memset(c->instr_of, 0xff, d->nodes.n * sizeof(uint32_t));
    find_partners(c);
    c->grad_written = mem_alloc(s->buckets.n + 1);
    /* values of this list: at most a few per node and edge */
    for (c->map_size = 64, c->map_shift = 58; c->map_size < 4 * (d->nodes.n + d->edges.n); c->map_size *= 2)
        c->map_shift--;
    c->map_used = 0;
    c->map_keys = mem_alloc(c->map_size * sizeof *c->map_keys);
    c->map_values = mem_alloc(c->map_size * sizeof *c->map_values);
    for (uint32_t i = 0; i < d->nodes.n; i++)
        lower_node(c, list->order[i]);
    uint32_t n = c->pb.instrs.n - c->first_instr;
    struct dependencies deps;
    find_dependencies(c, &deps, n);
    memory_plan(&c->pb, c->first_instr, n, first_buffer, c->pb.streams.n, s->in->target->alignment, &deps,
                &c->pb.h.arena_bytes[ARENA_WORK], c->pb.h.peak_bytes);
    vec_add(&c->pb.lists, ((struct plan_list){ .name = plan_builder_text(&c->pb, list->name), .first_instr = c->first_instr,
                                               .n_instr = n, .microbatches = s->microbatches,
                                               .microbatch_size = s->microbatch_size, .replicas = s->replicas }));
    mem_free(deps.first);
    mem_free(deps.at);
    mem_free(c->instr_of);
    mem_free(c->backward_of);
    mem_free(c->forward_of);
    mem_free(c->grad_written);
    mem_free(c->map_keys);
    mem_free(c->map_values);
}

/* ---- a class ---------------------------------------------------------------------------------------------------------- */

static uint32_t *none_array(struct sched *s, uint32_t n)
{
    uint32_t *a = arena_array(&s->arena, uint32_t, n + 1);
    memset(a, 0xff, (n + 1) * sizeof *a);
    return a;
}

static void lower_class(struct lowering *x, uint32_t class_id, struct sched_class *out, uint64_t *instructions)
{
    struct sched *s = x->s;
    struct class_lowering c = { .x = x, .class_id = class_id };
    struct plan_header *h = &c.pb.h;
    programs_init(&c.programs, s, &c.pb);
    c.set_of = none_array(s, s->sets.n);
    c.stream_of = none_array(s, s->streams.n);
    c.bucket_of = none_array(s, s->buckets.n);
    c.channel_of = none_array(s, x->channels.n);
    local_stream(&c, 0); /* compute is stream 0 */
    h->class_id = class_id;
    h->n_classes = s->classes.n;
    h->world = s->ranks;
    h->n_channels_world = x->channels.n;
    h->compute = s->in->compute;
    h->optimizer = s->in->optimizer;
    h->clip = s->in->clip;
    h->devices = add_set(&c.pb, s->class_pool.at + s->classes.at[class_id].first, s->classes.at[class_id].n);
    add_buckets(&c);
    add_channels(&c);
    x->tag = x->train_tag;
    lower_list(&c, &s->train);
    *instructions += (uint64_t)c.pb.lists.at[0].n_instr * s->classes.at[class_id].n;
    x->tag = x->eval_tag;
    if (s->in->eval)
        lower_list(&c, &s->eval);
    h->arena_bytes[ARENA_SCALARS] = PLAN_SCALARS_BYTES;
    h->peak_bytes[MEM_PARAMS] += h->arena_bytes[ARENA_PARAMS]; /* beside whole buckets in ARENA_WORK */
    h->peak_bytes[MEM_GRADS] += h->arena_bytes[ARENA_GRADS];
    h->peak_bytes[MEM_OPTIMIZER] = h->arena_bytes[ARENA_OPTIM];
    h->peak_bytes[MEM_COMM] += h->arena_bytes[ARENA_COMM];
    for (int a = 0; a < ARENA_COUNT; a++)
        h->total_bytes += h->arena_bytes[a];
    out->blob = plan_build(&c.pb, &out->bytes);
    plan_builder_release(&c.pb);
    programs_release(&c.programs);
    vec_free(&c.group_keys);
}

enum status pass_lower(struct sched *s, struct sched_output *out, struct err *e)
{
    struct lowering x = { .s = s, .stream_used = arena_alloc(&s->arena, s->streams.n),
                          .stream_scratch = arena_array(&s->arena, uint64_t, s->streams.n) };
    size_scratch(&x);
    x.train_tag = number_tags(s, &s->train);
    x.eval_tag = s->in->eval ? number_tags(s, &s->eval) : NULL;
    number_channels(&x);
    out->ranks = s->ranks;
    out->n_classes = s->classes.n;
    out->classes = mem_alloc(s->classes.n * sizeof *out->classes);
    out->class_of = mem_alloc(s->ranks * sizeof *out->class_of);
    out->nodes = s->train.dag.nodes.n;
    for (uint32_t c = 0; c < s->classes.n; c++) {
        for (uint32_t k = 0; k < s->classes.at[c].n; k++)
            out->class_of[s->class_pool.at[s->classes.at[c].first + k]] = c;
        lower_class(&x, c, &out->classes[c], &out->instructions);
    }
    mem_free(x.train_tag);
    mem_free(x.eval_tag);
    vec_free(&x.channels);
    return stream_check(s, x.stream_used, e);
}
