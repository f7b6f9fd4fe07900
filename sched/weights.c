/* Weights of nodes: floating-point operations of runs, elements of borders. A plan must not depend on who makes it, so no machine is asked;
 * and little would be gained. The largest all-to-all of experts takes about as long as the longest run: were it longer, BW would begin
 * while one travels that is done before them; were it shorter, they would be left to the end of the group. Of weights from 0.3 to 2 this one is
 * nearest to the best for six kinds of layers, with all-to-alls from a fifth to one and a half of computation: half a percent off on average. Gathers and sums of regions go over
 * faster links than those of experts, and take a fifth (tests/speed/overlap.py). */
#include "sched/weights.h"

enum { LONGEST_RUN = 1000, LONGEST_ROWS = 950, LONGEST_REGION = 200, NOT_YET = UINT32_MAX };

/* Of a pass of a sub-chunk on a device. */
static double operations(const struct sched *s, uint32_t sub, enum ir_pass pass)
{
    const struct ir_sub *u = &s->chunks.subs.at[sub];
    double n = 0;
    for (uint32_t k = 0; k < u->n_ops; k++) {
        const uint32_t o = s->chunks.ops.at[u->first_op + k];
        const enum ir_op op = (enum ir_op)s->g->ops.at[o].op;
        const struct ir_attrs local = side_attrs(s, o);
        n += ir_op_info[op].flops(&local, pass, 1, side_op_tokens(s, o));
    }
    return n;
}

/* [sub * IR_PASS_COUNT + pass], owned by the caller. */
static uint32_t *weigh_runs(const struct sched *s)
{
    const uint32_t n = s->chunks.subs.n;
    double *count = mem_alloc((size_t)n * IR_PASS_COUNT * sizeof *count), most = 1;
    uint32_t *weight = mem_alloc((size_t)n * IR_PASS_COUNT * sizeof *weight);
    for (uint32_t i = 0; i < n; i++) {
        double *of = &count[(size_t)i * IR_PASS_COUNT];
        of[IR_PASS_F] = operations(s, i, IR_PASS_F);
        bool again =
            false; /* a weight is that of all microbatches: of those that compute the forward again, if some do */
        for (uint32_t mb = 0; mb < s->microbatches && !again; mb++)
            again = recomputes(s, &s->chunks.subs.at[i], mb);
        of[IR_PASS_BI] = operations(s, i, IR_PASS_BI) + (again ? of[IR_PASS_F] : 0);
        of[IR_PASS_BW] = operations(s, i, IR_PASS_BW);
        of[IR_PASS_B] = of[IR_PASS_BI] + of[IR_PASS_BW];
        for (int p = 0; p < IR_PASS_COUNT; p++)
            most = p != IR_PASS_B && of[p] > most ? of[p] : most;
    }
    for (uint32_t i = 0; i < n * IR_PASS_COUNT; i++)
        weight[i] = 1 + (uint32_t)(count[i] / most * (LONGEST_RUN - 1));
    mem_free(count);
    return weight;
}

/* By move, owned by the caller: by elements, of what travels alike. */
static uint32_t *weigh_borders(const struct sched *s, const struct ir_dag *d)
{
    uint32_t *weight = mem_alloc((d->moves.n + 1) * sizeof *weight);
    double most[] = { 1, 1 };
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < d->moves.n; i++) {
            const struct ir_move *m = &d->moves.at[i];
            const double n = (double)ir_shape_elements(&s->g->tensors.at[m->tensor].shape);
            const bool rows = m->how == IR_HOW_ROWS;
            if (m->from_set != m->to_set)
                continue;
            most[rows] = n > most[rows] ? n : most[rows];
            weight[i] = 1 + (uint32_t)(n / most[rows] * (rows ? LONGEST_ROWS : LONGEST_REGION));
        }
    return weight;
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
static uint32_t next_stop(const struct list_plan *list, const struct weights *w, struct stop *stop, uint32_t group)
{
    const struct ir_dag *d = &list->dag;
    for (; stop->edge < d->out_first[stop->node + 1]; stop->edge++) {
        const struct ir_edge *e = &d->edges.at[d->out_edge[stop->edge]];
        const bool inside = list->group[e->to] == group || (!list->group[e->to] && passes_on(&d->nodes.at[e->to]));
        if (!inside || e->kind == IR_EDGE_ORDER)
            continue;
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
    uint32_t *runs = weigh_runs(s);
    uint32_t *borders = weigh_borders(s, &list->dag);
    struct stops stops = { 0 };
    w->takes = mem_alloc((n + 1) * sizeof *w->takes);
    w->path = mem_alloc((n + 1) * sizeof *w->path);
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_node *k = &list->dag.nodes.at[i];
        w->takes[i] = k->kind == IR_NODE_RUN      ? runs[(size_t)k->what * IR_PASS_COUNT + k->pass]
                      : k->kind == IR_NODE_BORDER ? (k->cost > 0 ? borders[k->what] : 0)
                                                  : k->cost > 0;
        w->path[i] = NOT_YET;
    }
    for (uint32_t i = 0; i < n; i++)
        if (list->group[i])
            find_path(list, w, i, &stops);
    for (uint32_t i = 0; i < n; i++)
        w->path[i] = w->path[i] == NOT_YET ? 0 : w->path[i];
    vec_free(&stops);
    mem_free(runs);
    mem_free(borders);
}

void weights_release(struct weights *w)
{
    mem_free(w->takes);
    mem_free(w->path);
}
