/* Weights of nodes: times of runs on the machine that stands in where none is given, elements of borders. A plan must not depend on who makes it, so
 * no other machine is asked; and little would be gained. The all-to-alls of experts take together as long as all runs: then both
 * streams are to be busy all the time, and the order decides; an order for that is as good where they take less, and hardly another one is better
 * where they take more. Of weights from 0.7 to 1.5 those from 0.95 to 1.06 are the best for six kinds of layers, with all-to-alls from a fifth to one and a half
 * of computation: a fifth of a percent off on average. Where the BW of experts is one run, four fifths are: were it more, such a run would begin
 * while an all-to-all travels that is done before it. Gathers and sums of regions take what the links of
 * a node of that machine take for them, and so do rows of experts beside them that stay in a node, over the same links (OVERLAP.md). */
#include "sched/weights.h"

#include "sched/cost/cost.h"

enum { NOT_YET = UINT32_MAX };
static const double rows_by_runs[] = { 0.8, 1.0 }; /* BW of experts whole, in parts */

/* Of a pass of a sub-chunk on a device. */
static double pass_seconds(const struct sched *s, const struct machine *m, uint32_t sub, enum ir_pass pass)
{
    const struct ir_sub *u = &s->chunks.subs.at[sub];
    double sum = 0;
    for (uint32_t k = 0; k < u->n_ops; k++) {
        const uint32_t o = s->chunks.ops.at[u->first_op + k];
        const struct ir_attrs local = side_attrs(s, o);
        const struct cost_kernel kernel = { .op = s->g->ops.at[o].op,
                                            .pass = pass,
                                            .attrs = &local,
                                            .b = s->microbatch_size,
                                            .t = side_op_tokens(s, o),
                                            .ep = expert_parts(s, u->chunk),
                                            .compute = s->in->compute };
        if (ir_op_runs((enum ir_op)kernel.op, &local, pass))
            sum += cost_kernel(m, &kernel);
    }
    return sum;
}

/* How long runs take, and an element of a border on the links of a node. */
struct scale {
    uint32_t *runs; /* [sub * IR_PASS_COUNT + pass], owned by the caller */
    double element;
    uint32_t per_node; /* ranks */
};

static struct scale weigh_runs(const struct sched *s)
{
    const uint32_t n = s->chunks.subs.n;
    double *seconds = mem_alloc((size_t)n * IR_PASS_COUNT * sizeof *seconds), most = 0;
    uint32_t *weight = mem_alloc((size_t)n * IR_PASS_COUNT * sizeof *weight);
    struct machine m;
    machine_generic(&m);
    m.launch = 0;
    for (uint32_t i = 0; i < n; i++) {
        double *of = &seconds[(size_t)i * IR_PASS_COUNT];
        of[IR_PASS_F] = pass_seconds(s, &m, i, IR_PASS_F);
        bool again =
            false; /* a weight is that of all microbatches: of those that compute the forward again, if some do */
        for (uint32_t mb = 0; mb < s->microbatches && !again; mb++)
            again = recomputes(s, &s->chunks.subs.at[i], mb);
        of[IR_PASS_BI] = pass_seconds(s, &m, i, IR_PASS_BI) + (again ? of[IR_PASS_F] : 0);
        of[IR_PASS_BW] = pass_seconds(s, &m, i, IR_PASS_BW);
        of[IR_PASS_B] = of[IR_PASS_BI] + of[IR_PASS_BW];
        for (int p = 0; p < IR_PASS_COUNT; p++)
            most = p != IR_PASS_B && of[p] > most ? of[p] : most;
    }
    for (uint32_t i = 0; i < n * IR_PASS_COUNT; i++)
        weight[i] = 1 + (most > 0 ? (uint32_t)(seconds[i] / most * (WEIGHTS_LONGEST - 1)) : 0);
    const double seconds_each = (double)s->microbatch_size * (double)ir_dtype_size(s->in->compute, s->in->compute) /
                                m.links[LINK_NODE].bandwidth;
    const struct scale scale = { weight, most > 0 ? seconds_each / most * WEIGHTS_LONGEST : 0, m.ranks_per_node };
    machine_release(&m);
    mem_free(seconds);
    return scale;
}

/* Elements of what crosses a border that a node is for: of rows of experts, or else. */
static double border_elements(const struct sched *s, const struct ir_dag *d, const struct ir_node *n, bool rows)
{
    const struct ir_move *m = &d->moves.at[n->what];
    return (m->how == IR_HOW_ROWS) == rows && n->cost > 0
               ? (double)ir_shape_elements(&s->g->tensors.at[m->tensor].shape)
               : 0;
}

static uint32_t most_expert_parts(const struct sched *s)
{
    uint32_t most = 1;
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++)
        most = expert_parts(s, c) > most ? expert_parts(s, c) : most;
    return most;
}

/* Sets takes of the borders, in proportion to their elements; that of the runs is known. */
static void weigh_borders(const struct sched *s, const struct ir_dag *d, const struct scale *scale, uint32_t *takes)
{
    const uint32_t share = s->share.n, ep = most_expert_parts(s);
    double runs = 0, rows = 1;
    bool parts = false;
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[i];
        runs += n->kind == IR_NODE_RUN ? takes[i] : 0;
        parts = parts || (n->kind == IR_NODE_RUN && n->part);
        rows += n->kind == IR_NODE_BORDER ? border_elements(s, d, n, true) : 0;
    }
    /* of an element what a device receives, or sends */
    const double region = scale->element * (share - 1) / share;
    const double row = share > 1 && ep <= scale->per_node ? scale->element * (ep - 1) / ep / share
                                                          : runs * rows_by_runs[parts] / rows;
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[i];
        if (n->kind == IR_NODE_BORDER && n->cost > 0)
            takes[i] = 1 + (uint32_t)(border_elements(s, d, n, true) * row + border_elements(s, d, n, false) * region);
    }
}

/* A run of this pass, or of a part of it. */
static uint32_t weigh_run(const struct sched *s, const struct ir_node *n, const uint32_t *runs)
{
    const uint32_t all = runs[(size_t)n->what * IR_PASS_COUNT + n->pass];
    if (!n->part)
        return all;
    const uint32_t parted = sub_parted(s, &s->chunks.subs.at[n->what]);
    return 1 + all / ir_op_bw_parts((enum ir_op)s->g->ops.at[parted].op);
}

static bool passes_on(const struct ir_node *n)
{
    return n->kind == IR_NODE_BORDER || n->kind == IR_NODE_SUM || n->kind == IR_NODE_TURN || n->kind == IR_NODE_AGAIN;
}

/* A node on the way to the end of its group. */
struct stop {
    uint32_t node, edge, behind; /* edge: the next one out of it; behind: the longest path so far behind it */
};
struct stops {
    VEC(struct stop);
};

/* A node that stands on the way behind this one and whose path is not known; IR_NONE: there is none, and stop->behind is known. Borders and
 * sums have no group: they are in that of what comes before them. */
static uint32_t next_stop(const struct list_plan *list, struct weights *w, struct stop *stop, uint32_t group)
{
    const struct ir_dag *d = &list->dag;
    for (; stop->edge < d->out_first[stop->node + 1]; stop->edge++) {
        const struct ir_edge *e = &d->edges.at[d->out_edge[stop->edge]];
        const bool inside = list->group[e->to] == group || (!list->group[e->to] && passes_on(&d->nodes.at[e->to]));
        if (!inside || e->kind == IR_EDGE_ORDER)
            continue;
        w->begins[e->to] = 0;
        if (w->path[e->to] == NOT_YET)
            return e->to;
        stop->behind = w->path[e->to] > stop->behind ? w->path[e->to] : stop->behind;
    }
    return IR_NONE;
}

/* What else stands in the group lies behind a node at a shorter distance than this. A group may be as long as a list, so the way back is
 * kept in a list too. */
static void find_path(const struct list_plan *list, struct weights *w, uint32_t node, struct stops *stops)
{
    const uint32_t group = list->group[node];
    stops->n = 0;
    if (w->path[node] == NOT_YET)
        vec_add(stops, ((struct stop){ node, list->dag.out_first[node], 0 }));
    while (stops->n) {
        struct stop *last = &stops->at[stops->n - 1];
        const uint32_t next = next_stop(list, w, last, group);
        if (next != IR_NONE) {
            vec_add(stops, ((struct stop){ next, list->dag.out_first[next], 0 }));
            continue;
        }
        w->path[last->node] = w->takes[last->node] + last->behind;
        stops->n--;
    }
}

void weights_find(const struct sched *s, const struct list_plan *list, struct weights *w)
{
    const uint32_t n = list->dag.nodes.n;
    const struct scale scale = weigh_runs(s);
    struct stops stops = { 0 };
    w->takes = mem_alloc((n + 1) * sizeof *w->takes);
    w->path = mem_alloc((n + 1) * sizeof *w->path);
    w->begins = mem_alloc(n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_node *k = &list->dag.nodes.at[i];
        w->takes[i] = k->kind == IR_NODE_RUN ? weigh_run(s, k, scale.runs) : k->cost > 0;
        w->path[i] = NOT_YET;
        w->begins[i] = list->group[i] != 0;
    }
    weigh_borders(s, &list->dag, &scale, w->takes);
    for (uint32_t i = 0; i < n; i++)
        if (list->group[i])
            find_path(list, w, i, &stops);
    for (uint32_t i = 0; i < n; i++)
        if (w->path[i] == NOT_YET)
            w->path[i] = 0;
        else if (w->path[i] == w->takes[i] && passes_on(&list->dag.nodes.at[i]))
            w->path[i] = UINT32_MAX; /* it ends a pass, and a neighbour waits for that */
    vec_free(&stops);
    mem_free(scale.runs);
}

void weights_release(struct weights *w)
{
    mem_free(w->takes);
    mem_free(w->path);
    mem_free(w->begins);
}
