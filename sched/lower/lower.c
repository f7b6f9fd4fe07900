/* From the ordered DAG to plans: one blob per class.
 *
 * A class dispatches the projection of the global order on the nodes that concern it. sched/lower/index.c finds these, and the forward
 * and backward of each run, once for all classes; sched/lower/tables.c numbers what the whole job shares and fills the tables of a class, sched/lower/values.c and sched/lower/comm.c make the instructions; memory_plan() gives
 * buffers their offsets and instructions their waits. Needs: list.order. */
#include "sched/lower/lower.h"
#include "sched/passes.h"

#include "base/parallel.h"
#include "sched/lower/memory.h"

static void lower_node(struct class_lowering *c, uint32_t node)
{
    const struct ir_node *n = &c->list->dag.nodes.at[node];
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
    case IR_NODE_BORDER:
        lower_border(c, node, n);
        break;
    case IR_NODE_TURN:
        lower_turn(c, node, n);
        break;
    case IR_NODE_AGAIN:
        lower_again(c, node, n);
        break;
    case IR_NODE_REDUCE:
        lower_reduce(c, node, n);
        break;
    case IR_NODE_REDUCE_COPIES:
        lower_reduce_copies(c, node, n);
        break;
    case IR_NODE_GATHER:
        lower_gather(c, node, n);
        break;
    case IR_NODE_GATHER_COPIES:
        lower_gather_copies(c, node, n);
        break;
    case IR_NODE_SUMSQ:
        lower_bucket(c, node, n, PLAN_SUMSQ);
        break;
    case IR_NODE_UPDATE:
        lower_bucket(c, node, n, PLAN_UPDATE);
        break;
    default:
        lower_begin(c, node, PLAN_SCALARS, 0)->channel = c->channel_of[c->x->scalars_channel];
        c->pb.instrs.at[c->pb.instrs.n - 1].type = IR_F64;
        break;
    }
}

/* Do two instructions have a buffer in common, that one of them writes? */
static bool conflict(const struct plan_builder *pb, const struct plan_instr *a, const struct plan_instr *b)
{
    for (uint32_t i = 0; i < a->n_bases; i++)
        for (uint32_t k = 0; k < b->n_bases; k++) {
            const struct plan_base *x = &pb->bases.at[a->first_base + i], *y = &pb->bases.at[b->first_base + k];
            if (x->arena == ARENA_WORK && y->arena == ARENA_WORK && x->buffer == y->buffer &&
                (x->access | y->access) & PLAN_WRITE)
                return true;
        }
    return false;
}

/* Instructions of this class that a node's inputs became, on other streams: on its own stream order holds anyway. A SEND
 * and a RECV of one MOVE are on different classes, so the receive waits for nothing here. */
static void find_dependencies(struct class_lowering *c, struct dependencies *deps, uint32_t n)
{
    const struct ir_dag *d = &c->list->dag;
    struct {
        VEC(uint32_t);
    } at = { 0 };
    deps->first = mem_alloc((n + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++) {
        const struct plan_instr *instr = &c->pb.instrs.at[c->first_instr + i];
        deps->first[i] = at.n;
        const uint32_t node = instr->node % d->nodes.n; /* of the second call of a node too */
        for (uint32_t k = i; k-- > 0;) {                /* those before it of the same node, as in a ring */
            const struct plan_instr *before = &c->pb.instrs.at[c->first_instr + k];
            if (before->node % d->nodes.n != node)
                break;
            if (before->stream != instr->stream && conflict(&c->pb, before, instr))
                vec_add(&at, k);
        }
        for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
            uint32_t on = c->instr_of[d->in_from[k]];
            if (on != IR_NONE && c->pb.instrs.at[c->first_instr + on].stream != instr->stream)
                vec_add(&at, on);
        }
    }
    deps->first[n] = at.n;
    deps->at = at.at;
}

/* Runs of one pass of a microbatch over the stages of the class. */
static uint32_t pass_runs(const struct class_lowering *c)
{
    const struct list_index *index = c->index;
    uint32_t n = 0;
    for (uint32_t k = index->first[c->class_id]; k < index->first[c->class_id + 1]; k++) {
        const struct ir_node *i = &c->list->dag.nodes.at[index->nodes[k]];
        n += i->kind == IR_NODE_RUN && i->pass == IR_PASS_F && i->mb == 0;
    }
    return n;
}

static void lower_list(struct class_lowering *c, bool eval)
{
    struct sched *s = c->x->s;
    struct list_plan *list = eval ? &s->eval : &s->train;
    const struct list_index *index = eval ? &c->x->eval : &c->x->train;
    uint32_t first_buffer = c->pb.buffers.n;
    c->list = list;
    c->index = index;
    c->tag = eval ? c->x->eval_tag : c->x->train_tag;
    c->first_instr = c->pb.instrs.n;
    c->grad_written = mem_alloc(s->buckets.n + 1);
    c->param_written = mem_alloc(s->g->params.n + 1);
    for (uint32_t k = index->first[c->class_id]; k < index->first[c->class_id + 1]; k++)
        lower_node(c, index->nodes[k]);
    uint32_t n = c->pb.instrs.n - c->first_instr;
    struct dependencies deps;
    find_dependencies(c, &deps, n);
    memory_plan(&c->pb, c->first_instr, first_buffer, s->in->target->alignment, pass_runs(c), &deps);
    vec_add(&c->pb.lists, ((struct plan_list){ .name = plan_builder_text(&c->pb, list->name),
                                               .first_instr = c->first_instr,
                                               .n_instr = n,
                                               .microbatches = s->microbatches,
                                               .microbatch_size = s->microbatch_size,
                                               .replicas = s->replicas }));
    for (uint32_t k = index->first[c->class_id]; k < index->first[c->class_id + 1]; k++)
        c->instr_of[index->nodes[k]] = IR_NONE;
    mem_free(deps.first);
    mem_free(deps.at);
    mem_free(c->grad_written);
    mem_free(c->param_written);
    mem_free(c->map);
    c->map = NULL;
    c->map_size = c->map_used = 0;
}

/* ---- a class ---------------------------------------------------------------------------------------------------------- */

/* Owned by the caller. */
static uint32_t *none_array(uint32_t n)
{
    uint32_t *a = mem_alloc((n + 1) * sizeof *a);
    memset(a, 0xff, (n + 1) * sizeof *a);
    return a;
}

static uint32_t most_nodes(const struct sched *s)
{
    return s->train.dag.nodes.n > s->eval.dag.nodes.n ? s->train.dag.nodes.n : s->eval.dag.nodes.n;
}

/* Who shares the sequences of a replica. */
static void lower_share(struct class_lowering *c)
{
    const struct sched *s = c->x->s;
    if (!s->sides)
        return;
    c->pb.h.share = s->share.n;
    c->pb.h.context = s->share.context;
    c->pb.h.tensor = s->share.tensor;
    c->pb.h.zigzag = s->share.zigzag;
    c->pb.h.share_group = lower_group(c, c->x->shares[LOWER_SEQUENCE][c->class_id]);
    c->programs.tensor_group = s->share.tensor > 1 ? lower_group(c, c->x->shares[LOWER_TENSOR][c->class_id]) : 0;
    bool turned = false;
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        turned = turned || s->sides[o].split == IR_TURNED;
    c->programs.heads_group = turned ? lower_group(c, c->x->shares[LOWER_HEADS][c->class_id]) : 0;
}

/* Classes are lowered at once, on a thread each: what they share is only read, but for stream_used and too_much. */
static void lower_class(struct lowering *low, uint32_t class_id, uint32_t thread)
{
    struct lower_room *room = &low->rooms[thread];
    struct sched_class *out = &low->out->classes[class_id];
    struct sched *s = low->s;
    if (out->blob || __atomic_load_n(&low->too_much, __ATOMIC_RELAXED))
        return;
    if (!room->instr_of) {
        room->instr_of = none_array(most_nodes(s));
        room->map_size = 1024;
    }
    struct class_lowering c = {
        .x = low, .class_id = class_id, .pb = room->pb, .instr_of = room->instr_of, .map_least = &room->map_size
    };
    struct plan_header *h = &c.pb.h;
    programs_init(&c.programs, s, &c.pb);
    c.set_of = none_array(s->sets.n);
    c.stream_of = none_array(s->streams.n);
    c.bucket_of = none_array(s->buckets.n);
    c.channel_of = none_array(low->channels.n);
    lower_stream(&c, 0); /* compute is stream 0 */
    h->class_id = class_id;
    h->n_classes = s->classes.n;
    h->world = s->ranks;
    h->n_channels_world = low->channels.n;
    h->compute = s->in->compute;
    h->optimizer = s->in->optimizer;
    h->clip = s->in->clip;
    h->devices = lower_set(&c.pb, s->class_pool.at + s->classes.at[class_id].first, s->classes.at[class_id].n);
    lower_share(&c);
    lower_buckets(&c);
    lower_channels(&c);
    lower_list(&c, false);
    lower_share_gradients(&c);
    if (s->in->eval)
        lower_list(&c, true);
    h->arena_bytes[ARENA_SCALARS] = plan_scalars_bytes(s->g);
    h->peak_bytes[MEM_PARAMS] += h->arena_bytes[ARENA_PARAMS]; /* beside whole buckets in ARENA_WORK */
    h->peak_bytes[MEM_GRADS] += h->arena_bytes[ARENA_GRADS];
    h->peak_bytes[MEM_OPTIMIZER] = h->arena_bytes[ARENA_OPTIM];
    h->peak_bytes[MEM_SNAPSHOT] = h->arena_bytes[ARENA_SNAPSHOT];
    h->peak_bytes[MEM_COMM] += h->arena_bytes[ARENA_COMM];
    for (int a = 0; a < ARENA_COUNT; a++)
        h->total_bytes += h->arena_bytes[a];
    if (h->total_bytes > low->most)
        __atomic_store_n(&low->too_much, true, __ATOMIC_RELAXED);
    out->blob = plan_build(&c.pb, &out->bytes);
    plan_builder_clear(&c.pb);
    room->pb = c.pb;
    programs_release(&c.programs);
    vec_free(&c.group_keys);
    vec_free(&c.parts);
    mem_free(c.set_of);
    mem_free(c.stream_of);
    mem_free(c.bucket_of);
    mem_free(c.channel_of);
}

/* Number i of those to be lowered: from the ends of the pipeline to its middle, where classes are alike. If a rank of any takes too much, it
 * is known soon. */
static void lower_next(void *lowering, uint32_t i, uint32_t thread)
{
    struct lowering *low = lowering;
    lower_class(low, i % 2 ? low->s->classes.n - 1 - i / 2 : i / 2, thread);
}

/* What classes share, if it is not known yet. The lists have their order. */
static struct lowering *open_lowering(struct sched *s)
{
    struct lowering *low = s->lowering;
    if (low)
        return low;
    low = s->lowering = mem_alloc(sizeof *low);
    low->s = s;
    if (!s->stream_used)
        s->stream_used = arena_alloc(&s->arena, s->streams.n);
    low->stream_scratch = arena_array(&s->arena, uint64_t, s->streams.n);
    lower_size_scratch(low);
    low->train_tag = lower_number_tags(s, &s->train);
    low->eval_tag = s->in->eval ? lower_number_tags(s, &s->eval) : NULL;
    lower_number_channels(low);
    lower_index_list(s, &s->train, &low->train);
    if (s->in->eval)
        lower_index_list(s, &s->eval, &low->eval);
    low->n_rooms = parallel_threads(s->classes.n);
    low->rooms = mem_alloc(low->n_rooms * sizeof *low->rooms);
    return low;
}

void lower_forget(struct sched *s)
{
    struct lowering *low = s->lowering;
    if (!low)
        return;
    for (uint32_t t = 0; t < low->n_rooms; t++) {
        plan_builder_release(&low->rooms[t].pb);
        mem_free(low->rooms[t].instr_of);
    }
    mem_free(low->rooms);
    mem_free(low->train_tag);
    mem_free(low->eval_tag);
    lower_index_release(&low->train);
    lower_index_release(&low->eval);
    vec_free(&low->channels);
    vec_free(&low->border_channels);
    mem_free(low);
    s->lowering = NULL;
}

/* What is known of plans before they are made; of classes that are not lowered yet there is no blob. */
static void begin_output(const struct sched *s, struct sched_output *out)
{
    if (out->classes)
        return;
    out->ranks = s->ranks;
    out->n_classes = s->classes.n;
    out->classes = mem_alloc(s->classes.n * sizeof *out->classes);
    out->class_of = mem_alloc(s->ranks * sizeof *out->class_of);
    out->nodes = s->train.dag.nodes.n;
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++)
        out->rounds = out->rounds || expert_rounds(s, c);
    for (uint32_t c = 0; c < s->classes.n; c++)
        for (uint32_t k = 0; k < s->classes.at[c].n; k++)
            out->class_of[s->class_pool.at[s->classes.at[c].first + k]] = c;
}

/* What is lowered now: into out, as long as no rank allocates more than this. */
static struct lowering *begin_lowering(struct sched *s, uint64_t most, struct sched_output *out)
{
    struct lowering *low = open_lowering(s);
    begin_output(s, out);
    low->out = out;
    low->most = most;
    low->too_much = false;
    return low;
}

uint64_t lower_class_bytes(struct sched *s, uint32_t class_id, struct sched_output *out)
{
    lower_class(begin_lowering(s, UINT64_MAX, out), class_id, 0);
    return ((const struct plan_header *)out->classes[class_id].blob)->total_bytes;
}

/* Of the list "train", on a rank. */
static uint64_t instructions_of(const struct sched_class *c)
{
    const struct plan_header *h = (const struct plan_header *)c->blob;
    return ((const struct plan_list *)((const char *)c->blob + h->first[PLAN_S_LISTS]))->n_instr;
}

enum status lower_within(struct sched *s, uint64_t most, struct sched_output *out, bool *all, struct err *e)
{
    const uint32_t n = s->classes.n;
    struct lowering *low = begin_lowering(s, most, out);
    parallel_each(n, lower_next, low);
    *all = !low->too_much;
    if (!*all)
        return ST_OK;
    out->instructions = 0;
    for (uint32_t c = 0; c < n; c++)
        out->instructions += instructions_of(&out->classes[c]) * s->classes.at[c].n;
    return stream_check(s, s->stream_used, e);
}

enum status pass_lower(struct sched *s, struct sched_output *out, struct err *e)
{
    bool all;
    return lower_within(s, UINT64_MAX, out, &all, e);
}
