/* From the ordered DAG to plans: one blob per class.
 *
 * A class dispatches the projection of the global order on the nodes that concern it. lower_tables.c numbers what the whole
 * job shares and fills the tables of a class, lower_values.c and lower_comm.c make the instructions; memory_plan() gives
 * buffers their offsets and instructions their waits. Needs: list.order. */
#include "sched/lower.h"

#include "sched/memory.h"

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
        lower_begin(c, node, PLAN_SCALARS, 0)->channel = c->channel_of[c->x->scalars_channel];
        c->pb.instrs.at[c->pb.instrs.n - 1].type = IR_F64;
        break;
    }
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

static uint32_t pass_runs(const struct class_lowering *c)
{
    const struct ir_dag *d = &c->list->dag;
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->nodes.n; i++)
        n += d->nodes.at[i].kind == IR_NODE_RUN && d->nodes.at[i].pass == IR_PASS_F && d->nodes.at[i].mb == 0 &&
             c->instr_of[i] != IR_NONE;
    return n;
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
    memory_plan(&c->pb, c->first_instr, n, first_buffer, c->pb.streams.n, s->in->target->alignment, pass_runs(c), &deps,
                &c->pb.h.arena_bytes[ARENA_WORK], c->pb.h.peak_bytes);
    vec_add(&c->pb.lists, ((struct plan_list){ .name = plan_builder_text(&c->pb, list->name),
                                               .first_instr = c->first_instr,
                                               .n_instr = n,
                                               .microbatches = s->microbatches,
                                               .microbatch_size = s->microbatch_size,
                                               .replicas = s->replicas }));
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
    lower_stream(&c, 0); /* compute is stream 0 */
    h->class_id = class_id;
    h->n_classes = s->classes.n;
    h->world = s->ranks;
    h->n_channels_world = x->channels.n;
    h->compute = s->in->compute;
    h->optimizer = s->in->optimizer;
    h->clip = s->in->clip;
    h->devices = lower_set(&c.pb, s->class_pool.at + s->classes.at[class_id].first, s->classes.at[class_id].n);
    lower_buckets(&c);
    lower_channels(&c);
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
    h->peak_bytes[MEM_SNAPSHOT] = h->arena_bytes[ARENA_SNAPSHOT];
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
    struct lowering x = { .s = s,
                          .stream_used = arena_alloc(&s->arena, s->streams.n),
                          .stream_scratch = arena_array(&s->arena, uint64_t, s->streams.n) };
    lower_size_scratch(&x);
    x.train_tag = lower_number_tags(s, &s->train);
    x.eval_tag = s->in->eval ? lower_number_tags(s, &s->eval) : NULL;
    lower_number_channels(&x);
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
