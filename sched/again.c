/* recompute with "received":"again": the rows that experts have received are not kept. Before the backward that reads them their
 * dispatch permutes its tokens once more (an AGAIN node), and the all-to-all is repeated. Counts are those of the forward.
 *
 * Both come between the backward of experts that lead to these and what reads these experts' results: they wait for what the one waits for
 * (data, and the user's order), and the other waits for the rows to be ready to go. So they travel under the backward of experts and of what
 * stands between two regions, and a device has room for the rows of two of these. Earlier, of all layers at once, they come in the way of gradients:
 * with 1f1b the step is 2 to 7% longer, with dualpipev 1% shorter (4 stages, all-to-alls half as long as computation).
 *
 * Needs: the DAG with its borders and the user's order, list.group, the adjacency. Adds nodes and edges; keeps the adjacency. */
#include "sched/passes.h"

bool again_receives(const struct sched *s, uint32_t chunk, uint32_t mb)
{
    return s->recompute[chunk * s->microbatches + mb] == RECOMPUTE_RECEIVES && expert_parts(s, chunk) > 1;
}

bool again_permutes(const struct sched *s, uint32_t op, uint32_t mb)
{
    const uint32_t chunk = s->rows_of[op];
    return chunk != IR_NONE && (again_receives(s, chunk, mb) || expert_rounds(s, chunk));
}

/* The run of another pass of the same sub-chunk and microbatch that comes next; IR_NONE: none does. */
static uint32_t run_behind(const struct ir_dag *d, uint32_t run)
{
    const struct ir_node *n = &d->nodes.at[run];
    for (uint32_t k = d->out_first[run]; k < d->out_first[run + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->out_edge[k]];
        const struct ir_node *to = &d->nodes.at[e->to];
        if (e->kind == IR_EDGE_AFTER && to->kind == IR_NODE_RUN && to->what == n->what && to->mb == n->mb)
            return e->to;
    }
    return IR_NONE;
}

/* The first of the runs that give a node a gradient, through sums and borders: backwards are numbered in the order in which they run. IR_NONE:
 * none does. */
static uint32_t first_giver(const struct ir_dag *d, uint32_t node)
{
    uint32_t first = IR_NONE;
    for (uint32_t k = d->in_first[node]; k < d->in_first[node + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        if (e->kind != IR_EDGE_GRAD)
            continue;
        const uint32_t run = d->nodes.at[e->from].kind == IR_NODE_RUN ? e->from : first_giver(d, e->from);
        first = run < first ? run : first;
    }
    return first;
}

/* Of the backwards of a chunk that lead to this one the first; where rows of experts come to that, the backward of these experts. */
static uint32_t begin_of(const struct sched *s, const struct ir_dag *d, uint32_t run)
{
    const uint32_t chunk = s->chunks.subs.at[d->nodes.at[run].what].chunk;
    uint32_t giver = first_giver(d, run);
    for (; giver != IR_NONE && s->chunks.subs.at[d->nodes.at[giver].what].chunk == chunk; giver = first_giver(d, run))
        run = giver;
    for (uint32_t k = d->in_first[run]; k < d->in_first[run + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        const struct ir_node *from = &d->nodes.at[e->from];
        if (e->kind == IR_EDGE_GRAD && from->kind == IR_NODE_BORDER && d->moves.at[from->what].how == IR_HOW_ROWS)
            return first_giver(d, e->from);
    }
    return run;
}

struct again {
    struct sched *s;
    struct ir_dag *d;
    const uint32_t *group; /* of the list, or NULL */
    struct {
        VEC(uint32_t);
    } groups; /* of the new nodes */
};

static uint32_t add_node(struct again *a, struct ir_node n, struct ir_move m, uint32_t group)
{
    vec_add(&a->d->moves, m);
    n.what = a->d->moves.n - 1;
    vec_add(&a->groups, group);
    return ir_dag_node(a->d, n);
}

/* What it brings is read by a backward of experts, and by the BW, or its parts, that follow it. */
static void bring(struct ir_dag *d, uint32_t travels, uint32_t back, uint32_t tensor)
{
    const struct ir_node of = d->nodes.at[back];
    ir_dag_edge(d, travels, back, IR_EDGE_TENSOR, tensor);
    for (uint32_t k = d->out_first[back]; k < d->out_first[back + 1]; k++) {
        const struct ir_edge e = d->edges.at[d->out_edge[k]];
        const struct ir_node *to = &d->nodes.at[e.to];
        if (e.kind == IR_EDGE_AFTER && to->kind == IR_NODE_RUN && to->what == of.what && to->mb == of.mb)
            ir_dag_edge(d, travels, e.to, IR_EDGE_TENSOR, tensor);
    }
}

/* What `border` brought to a forward comes again for its backward `back`, before `first`. */
static void repeat(struct again *a, uint32_t border, uint32_t back, uint32_t first)
{
    struct ir_dag *d = a->d;
    struct ir_node n = d->nodes.at[border];
    struct ir_move m = d->moves.at[n.what], permuted = m;
    const uint32_t giver = d->edges.at[d->in_edge[d->in_first[border]]].from;
    const struct ir_node from = d->nodes.at[giver];
    CHECK(from.kind == IR_NODE_RUN);
    permuted.inward = 0;
    permuted.sub = from.what;
    const uint32_t again = add_node(
        a, (struct ir_node){ .kind = IR_NODE_AGAIN, .pass = IR_PASS_NONE, .mb = n.mb, .set = n.set, .cost = 0.01f },
        permuted, a->group ? a->group[first] : 0);
    n.pass = IR_PASS_B;
    const uint32_t travels = add_node(a, n, m, 0);
    ir_dag_edge(d, giver, again, IR_EDGE_AFTER, 0);
    const uint32_t begin = begin_of(a->s, d, first);
    for (uint32_t k = d->in_first[begin]; k < d->in_first[begin + 1]; k++) {
        const uint32_t before = d->edges.at[d->in_edge[k]].from;
        if (d->nodes.at[before].kind != IR_NODE_LOAD)
            ir_dag_edge(d, before, again, IR_EDGE_AFTER, 0);
    }
    ir_dag_edge(d, again, first, IR_EDGE_AFTER, 0);
    ir_dag_edge(d, again, travels, IR_EDGE_TENSOR, m.tensor);
    bring(d, travels, back, m.tensor);
}

/* Of a forward of experts. */
static void repeat_all(struct again *a, uint32_t forward)
{
    const struct ir_dag *d = a->d;
    const uint32_t back = run_behind(d, forward), first = back == IR_NONE ? IR_NONE : first_giver(d, back);
    if (first == IR_NONE) /* nothing of the region is trained, nor what precedes it */
        return;
    for (uint32_t k = d->in_first[forward]; k < d->in_first[forward + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        const struct ir_node *from = &d->nodes.at[e->from];
        if (e->kind == IR_EDGE_TENSOR && from->kind == IR_NODE_BORDER && d->moves.at[from->what].how == IR_HOW_ROWS &&
            a->s->g->tensors.at[e->value].shape.dtype != IR_I32)
            repeat(a, e->from, back, first);
    }
}

enum status pass_again(struct sched *s, struct err *e)
{
    struct list_plan *list = &s->train;
    struct again a = { .s = s, .d = &list->dag, .group = list->group };
    const uint32_t n = list->dag.nodes.n;
    (void)e;
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_node *run = &list->dag.nodes.at[i];
        if (run->kind == IR_NODE_RUN && run->pass == IR_PASS_F &&
            again_receives(s, s->chunks.subs.at[run->what].chunk, run->mb))
            repeat_all(&a, i);
    }
    if (list->group && a.groups.n) {
        uint32_t *group = mem_alloc((n + a.groups.n) * sizeof *group);
        memcpy(group, list->group, n * sizeof *group);
        memcpy(group + n, a.groups.at, a.groups.n * sizeof *group);
        mem_free(list->group);
        list->group = group;
    }
    if (a.groups.n)
        ir_dag_link(&list->dag);
    vec_free(&a.groups);
    return ST_OK;
}
