/* One global order of all nodes of a list, from a simulation of the step.
 *
 * Compute nodes of a class run one at a time; communication stands at the moment when its value is produced. It takes no time,
 * but for what crosses a border of a region on a stream of its own. Every class dispatches the projection of this one order, every
 * stream and every communicator too: so the communication that comes first among those not done is the head of its stream on all its
 * members, and nothing can deadlock, whatever the assignment of streams.
 *
 * Where no group overlaps with communication, times are units: a border takes as long as a sub-chunk's
 * forward. Where the user's order leaves a choice, backwards go before forwards (they free memory), forwards before BW (which only
 * fills), the lower microbatch first. What ends the step (norm, updates) comes after all passes, in the order in which it became ready:
 * before that it would hold the compute stream until its reduction is done. Where updates do not wait for the norm, and no
 * other device waits for what is computed next, those of a bucket come behind its reduction, when the next one on that stream begins: it is
 * done then, or the next could not begin either. So gradients need not live to the end (sched/lower/gradients.c).
 *
 * Where one does, times are weights (sched/weights.h), what crosses borders on one stream of a class travels one after the other, and inside
 * such a group (on the devices and on the streams) what has the longest path to the end of the group goes first: list scheduling, which puts the computation of one
 * filter under the communication of the other, and fills what is left open with BW (DeepSeek-V3, section 3.2.1), which the next group may do too.
 * Such a group begins when all is there with which it begins. No more than s->waiting BW of a class wait: what they read is alive until they run.
 *
 * Needs: the final DAG, acyclic; of the list "train" its adjacency. Gives: list.order. */

#include <float.h>

#include "sched/passes.h"
#include "sched/weights.h"

struct event {
    double t;
    uint32_t node;
};
struct ready {
    VEC(uint32_t);
};
/* Groups that overlap, by number: with which runs they begin. Were each of these to begin as soon as its own input is there, the order in a group
 * would be that of a moment at which neighbours are out of step, and be kept when they are not. */
struct gates {
    const uint32_t *group; /* by node */
    uint32_t *missing;     /* runs that are not ready; 0: it has begun */
    uint32_t *first;       /* of those that are, and wait for these: a list, IR_NONE ends it */
    uint32_t *next;        /* by node */
    uint32_t n;
    struct ready waits; /* groups where some wait or have waited, first in, first out */
    uint32_t asked;     /* of these: they have begun */
};
struct simulation {
    const struct sched *s;
    const struct ir_dag *d;
    uint32_t *order, done;
    uint32_t *missing;    /* by node: inputs not done */
    uint8_t *placed;      /* by node: LOADs are placed with their first reader */
    uint8_t *reads_load;  /* by node */
    struct event *events; /* binary heap by (t, node) */
    uint32_t n_events;
    struct weights w; /* none: units */
    struct gates gates;
    struct ready *ready;  /* by class: binary heap by priority */
    struct ready *fill;   /* by class: BW of groups that overlap, in no order */
    uint64_t *backlog;    /* by class: how long they take */
    uint8_t *busy;        /* by class */
    struct ready *queues; /* by class and stream: borders that take turns, the same */
    uint64_t *queued;     /* by class and stream: how long they take */
    double *travels;      /* by class and stream: until when one of them is under way; 0: none is */
    struct ready asked;   /* queues where one may begin */
    struct ready now;     /* nodes without duration, to be placed at this moment: binary heap by number */
    struct ready late;    /* nodes that end the step, first in, first out */
    uint32_t late_done;
    bool early;        /* updates come behind reductions */
    struct ready held; /* of buckets whose reduction is under way: first of what follows it */
};

static bool is_compute(const struct ir_node *n)
{
    return n->kind == IR_NODE_RUN || n->kind == IR_NODE_SUM || n->kind == IR_NODE_TURN || n->kind == IR_NODE_AGAIN;
}

static bool ends_step(const struct ir_node *n)
{
    return n->kind == IR_NODE_SUMSQ || n->kind == IR_NODE_SCALARS || n->kind == IR_NODE_UPDATE;
}

/* The stream on which a bucket is reduced before this node that measures or updates it; 0: on that of compute, or not at all. */
static uint32_t reduced_on(const struct sched *s, const struct ir_node *n)
{
    const struct bucket *b = &s->buckets.at[n->what];
    return n->kind == IR_NODE_SUMSQ && b->holders > 1 ? b->reduce_stream : 0;
}

static uint64_t priority(const struct sched *s, const struct ir_node *n, uint32_t id)
{
    static const uint8_t rank[IR_PASS_COUNT + 1] = { [IR_PASS_F] = 1, [IR_PASS_BW] = 2 };
    return (uint64_t)rank[pass_seen(s, n)] << 56 | (uint64_t)n->mb << 40 | id;
}

/* ---- heaps ---- */

static bool event_before(const struct event *a, const struct event *b)
{
    return a->t < b->t || (a->t == b->t && a->node < b->node);
}

static void push_event(struct simulation *sim, double t, uint32_t node)
{
    struct event e = { t, node };
    uint32_t i = sim->n_events++;
    for (; i && event_before(&e, &sim->events[(i - 1) / 2]); i = (i - 1) / 2)
        sim->events[i] = sim->events[(i - 1) / 2];
    sim->events[i] = e;
}

static struct event pop_event(struct simulation *sim)
{
    struct event top = sim->events[0], e = sim->events[--sim->n_events];
    uint32_t i = 0;
    for (uint32_t c; (c = 2 * i + 1) < sim->n_events; i = c) {
        if (c + 1 < sim->n_events && event_before(&sim->events[c + 1], &sim->events[c]))
            c++;
        if (!event_before(&sim->events[c], &e))
            break;
        sim->events[i] = sim->events[c];
    }
    sim->events[i] = e;
    return top;
}

enum by { BY_NUMBER, BY_PRIORITY };

/* Does a node come before another one? By priority: what is on the longer path first. */
static bool before(const struct simulation *sim, enum by by, uint32_t a, uint32_t b)
{
    const struct ir_node *nodes = sim->d->nodes.at;
    if (by == BY_NUMBER)
        return a < b;
    if (sim->w.path && sim->w.path[a] != sim->w.path[b])
        return sim->w.path[a] > sim->w.path[b];
    return priority(sim->s, &nodes[a], a) < priority(sim->s, &nodes[b], b);
}

static void push_ready(struct simulation *sim, struct ready *h, enum by by, uint32_t node)
{
    vec_add(h, node);
    uint32_t i = h->n - 1;
    for (; i && before(sim, by, node, h->at[(i - 1) / 2]); i = (i - 1) / 2)
        h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = node;
}

static uint32_t pop_ready(struct simulation *sim, struct ready *h, enum by by)
{
    uint32_t top = h->at[0], node = h->at[--h->n], i = 0;
    for (uint32_t c; (c = 2 * i + 1) < h->n; i = c) {
        if (c + 1 < h->n && before(sim, by, h->at[c + 1], h->at[c]))
            c++;
        if (!before(sim, by, h->at[c], node))
            break;
        h->at[i] = h->at[c];
    }
    h->at[i] = node;
    return top;
}

/* ---- the simulation ---- */

static void place(struct simulation *sim, uint32_t node)
{
    for (uint32_t k = sim->d->in_first[node]; k < sim->d->in_first[node + 1] && sim->reads_load[node]; k++) {
        uint32_t from = sim->d->in_from[k];
        if (sim->d->nodes.at[from].kind == IR_NODE_LOAD && !sim->placed[from]) {
            sim->placed[from] = 1;
            sim->order[sim->done++] = from;
        }
    }
    sim->placed[node] = 1;
    sim->order[sim->done++] = node;
}

static uint32_t class_of(const struct simulation *sim, uint32_t node)
{
    return sim->s->sets.at[sim->d->nodes.at[node].set].class_id;
}

/* The queue of what travels, one at a time; IR_NONE: it need not wait for another. */
static uint32_t queue_of(const struct simulation *sim, uint32_t node)
{
    const struct ir_node *n = &sim->d->nodes.at[node];
    const bool queues = sim->w.takes && n->kind == IR_NODE_BORDER && n->cost > 0;
    return queues ? class_of(sim, node) * sim->s->streams.n + n->stream : IR_NONE;
}

static double time_of(const struct simulation *sim, uint32_t node)
{
    return sim->w.takes ? (double)sim->w.takes[node] : (double)sim->d->nodes.at[node].cost;
}

/* Does a node that ends the step come behind the reduction of its bucket? */
static bool comes_early(const struct simulation *sim, const struct ir_node *n)
{
    return sim->early && n->kind != IR_NODE_SCALARS && sim->s->buckets.at[n->what].rule == PLAN_RULE_OPTIMIZER;
}

static void compute_ready(struct simulation *sim, uint32_t node)
{
    const uint32_t class_id = class_of(sim, node);
    if (sim->d->nodes.at[node].pass != IR_PASS_BW || !sim->w.path || !sim->w.path[node]) {
        push_ready(sim, &sim->ready[class_id], BY_PRIORITY, node);
        return;
    }
    vec_add(&sim->fill[class_id], node);
    sim->backlog[class_id] += sim->w.takes[node];
}

static void open_gate(struct simulation *sim, uint32_t group)
{
    struct gates *g = &sim->gates;
    g->missing[group] = 0;
    for (; g->first[group] != IR_NONE; g->first[group] = g->next[g->first[group]])
        compute_ready(sim, g->first[group]);
}

/* A run with which its group begins waits for the others; the last one lets them in. */
static void wait_at_gate(struct simulation *sim, uint32_t node)
{
    struct gates *g = &sim->gates;
    const uint32_t group = g->group[node];
    const bool last = g->missing[group] <= 1;
    if (!last && g->first[group] == IR_NONE)
        vec_add(&g->waits, group);
    g->missing[group] -= !last;
    g->next[node] = g->first[group];
    g->first[group] = node;
    if (last)
        open_gate(sim, group);
}

/* Groups may wait for each other: then the one that has waited longest begins with what is there. */
static bool open_some_gate(struct simulation *sim)
{
    struct gates *g = &sim->gates;
    while (g->asked < g->waits.n && g->first[g->waits.at[g->asked]] == IR_NONE)
        g->asked++;
    if (g->asked == g->waits.n)
        return false;
    open_gate(sim, g->waits.at[g->asked]);
    return true;
}

static void become_ready(struct simulation *sim, uint32_t node)
{
    const struct ir_node *n = &sim->d->nodes.at[node];
    if (is_compute(n)) {
        if (sim->gates.n && sim->w.begins[node])
            wait_at_gate(sim, node);
        else
            compute_ready(sim, node);
    } else if (queue_of(sim, node) != IR_NONE) {
        push_ready(sim, &sim->queues[queue_of(sim, node)], BY_PRIORITY, node);
        sim->queued[queue_of(sim, node)] += sim->w.takes[node];
        vec_add(&sim->asked, queue_of(sim, node));
    } else if (ends_step(n) && !comes_early(sim, n)) {
        vec_add(&sim->late, node);
    } else if (ends_step(n) && reduced_on(sim->s, n)) {
        vec_add(&sim->held, node);
    } else {
        push_ready(sim, &sim->now, BY_NUMBER, node);
    }
}

/* A reduction begins: what was held for those before it on its stream goes on. */
static void release_held(struct simulation *sim, const struct ir_node *reduction)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < sim->held.n; i++) {
        const uint32_t node = sim->held.at[i];
        if (reduced_on(sim->s, &sim->d->nodes.at[node]) == reduction->stream)
            push_ready(sim, &sim->now, BY_NUMBER, node);
        else
            sim->held.at[left++] = node;
    }
    sim->held.n = left;
}

static void complete(struct simulation *sim, uint32_t node)
{
    for (uint32_t k = sim->d->out_first[node]; k < sim->d->out_first[node + 1]; k++) {
        uint32_t to = sim->d->out_to[k];
        if (!--sim->missing[to])
            become_ready(sim, to);
    }
}

/* Until when a class knows of communication: the first that ends, behind which something may become ready, and the stream that is busy longest. */
struct horizon {
    double first, last;
};

static struct horizon find_horizon(const struct simulation *sim, uint32_t class_id, double t)
{
    struct horizon h = { DBL_MAX, t };
    for (uint32_t k = 0; k < sim->s->streams.n; k++) {
        const uint32_t q = class_id * sim->s->streams.n + k;
        const struct ready *queue = &sim->queues[q];
        if (!(sim->travels[q] > 0) && !queue->n)
            continue;
        const double first = sim->travels[q] > 0 ? sim->travels[q] : t + sim->w.takes[queue->at[0]];
        const double last = (sim->travels[q] > 0 ? sim->travels[q] : t) + (double)sim->queued[q];
        h.first = first < h.first ? first : h.first;
        h.last = last > h.last ? last : h.last;
    }
    return h;
}

/* Is a BW a better one to fill with than another? The longest of those that are done in time, else the shortest. */
static bool fills_better(const struct simulation *sim, uint32_t a, uint32_t b, double time)
{
    const uint32_t *takes = sim->w.takes;
    const bool fits = takes[a] <= time, other = takes[b] <= time;
    if (fits != other)
        return fits;
    return takes[a] != takes[b] ? (takes[a] > takes[b]) == fits : before(sim, BY_PRIORITY, a, b);
}

/* Is it better to let BW wait than to begin this one? Where something else is ready, as long as few wait, and that is in its group, or BW may wait
 * in the next one; else where it would hold up what comes next for longer than there is something to travel, so that the stream stood still, and
 * there is no more to do than a long run. */
static bool fill_waits(const struct simulation *sim, uint32_t class_id, uint32_t node, double travels)
{
    const struct ready *ready = &sim->ready[class_id];
    if (sim->fill[class_id].n > sim->s->waiting)
        return false;
    if (!ready->n)
        return travels > 0 && sim->w.takes[node] > travels && sim->backlog[class_id] <= WEIGHTS_LONGEST;
    const uint32_t next = ready->at[0], group = sim->gates.group[next];
    return sim->s->carries || (sim->w.path[next] && (!group || group == sim->gates.group[node]));
}

/* What a class runs next; IR_NONE: nothing is ready, or worth to be begun. */
static uint32_t next_run(struct simulation *sim, uint32_t class_id, double t)
{
    struct ready *ready = &sim->ready[class_id], *fill = &sim->fill[class_id];
    if (fill->n) {
        const struct horizon h = find_horizon(sim, class_id, t);
        uint32_t k = 0;
        for (uint32_t i = 1; i < fill->n; i++)
            k = fills_better(sim, fill->at[i], fill->at[k], h.first - t) ? i : k;
        const uint32_t node = fill->at[k];
        if (!fill_waits(sim, class_id, node, h.last - t)) {
            fill->at[k] = fill->at[--fill->n];
            sim->backlog[class_id] -= sim->w.takes[node];
            return node;
        }
    }
    return ready->n ? pop_ready(sim, ready, BY_PRIORITY) : IR_NONE;
}

static void begin(struct simulation *sim, uint32_t node, double t)
{
    place(sim, node);
    push_event(sim, t + time_of(sim, node), node);
}

static void start_idle(struct simulation *sim, double t)
{
    for (uint32_t c = 0; c < sim->s->classes.n; c++) {
        const uint32_t node = sim->busy[c] ? IR_NONE : next_run(sim, c, t);
        if (node == IR_NONE)
            continue;
        sim->busy[c] = 1;
        begin(sim, node, t);
    }
    for (uint32_t k = 0; k < sim->asked.n; k++) {
        const uint32_t q = sim->asked.at[k];
        if (sim->travels[q] > 0 || !sim->queues[q].n)
            continue;
        const uint32_t node = pop_ready(sim, &sim->queues[q], BY_PRIORITY);
        sim->queued[q] -= sim->w.takes[node];
        sim->travels[q] = t + time_of(sim, node);
        begin(sim, node, t);
    }
    sim->asked.n = 0;
}

static void finish(struct simulation *sim, uint32_t node)
{
    const uint32_t queue = queue_of(sim, node);
    if (is_compute(&sim->d->nodes.at[node]))
        sim->busy[class_of(sim, node)] = 0;
    if (queue != IR_NONE) {
        sim->travels[queue] = 0;
        vec_add(&sim->asked, queue);
    }
    complete(sim, node);
}

static void simulate(struct simulation *sim)
{
    const struct ir_dag *d = sim->d;
    for (uint32_t i = 0; i < d->nodes.n; i++)
        sim->missing[i] = d->in_first[i + 1] - d->in_first[i];
    for (uint32_t i = 0; i < d->nodes.n; i++) { /* loads are done before time begins, and placed late */
        if (d->nodes.at[i].kind != IR_NODE_LOAD)
            continue;
        for (uint32_t k = d->out_first[i]; k < d->out_first[i + 1]; k++)
            sim->reads_load[d->out_to[k]] = 1;
        complete(sim, i);
    }
    for (uint32_t i = 0; i < d->nodes.n; i++)
        if (d->nodes.at[i].kind != IR_NODE_LOAD && d->in_first[i + 1] == d->in_first[i])
            become_ready(sim, i);
    for (double t = 0;;) {
        while (sim->now.n) {
            uint32_t node = pop_ready(sim, &sim->now, BY_NUMBER);
            if (d->nodes.at[node].kind == IR_NODE_REDUCE || d->nodes.at[node].kind == IR_NODE_REDUCE_COPIES)
                release_held(sim, &d->nodes.at[node]);
            if (time_of(sim, node) > 0) {
                begin(sim, node, t);
            } else {
                place(sim, node);
                complete(sim, node);
            }
        }
        start_idle(sim, t);
        if (!sim->n_events && open_some_gate(sim))
            continue;
        if (!sim->n_events) {
            for (uint32_t i = 0; i < sim->held.n; i++)
                vec_add(&sim->late, sim->held.at[i]);
            sim->held.n = 0;
            if (sim->late_done == sim->late.n)
                break;
            uint32_t node = sim->late.at[sim->late_done++];
            place(sim, node);
            complete(sim, node);
            continue;
        }
        t = sim->events[0].t;
        while (sim->n_events && sim->events[0].t == t) {
            uint32_t node = pop_event(sim).node;
            finish(sim, node);
        }
    }
}

static void make_gates(struct simulation *sim, const struct list_plan *list)
{
    const uint32_t n = list->dag.nodes.n;
    struct gates *g = &sim->gates;
    g->group = list->group;
    for (uint32_t i = 0; i < n; i++)
        g->n = list->group[i] >= g->n ? list->group[i] + 1 : g->n;
    g->missing = mem_alloc((g->n + 1) * sizeof *g->missing);
    g->first = mem_alloc((g->n + 1) * sizeof *g->first);
    g->next = mem_alloc((n + 1) * sizeof *g->next);
    memset(g->first, 0xff, (g->n + 1) * sizeof *g->first);
    for (uint32_t i = 0; i < n; i++)
        g->missing[list->group[i]] += sim->w.begins[i];
}

static void free_heaps(struct ready *heaps, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        vec_free(&heaps[i]);
    mem_free(heaps);
}

/* They stay the same when the list gets another order. */
static const struct weights *weights_of(const struct sched *s, struct list_plan *list)
{
    if (!list->weights) {
        list->weights = mem_alloc(sizeof *list->weights);
        weights_find(s, list, list->weights);
    }
    return list->weights;
}

static enum status sequence_list(const struct sched *s, struct list_plan *list, struct err *e)
{
    struct ir_dag *d = &list->dag;
    const uint32_t n = d->nodes.n, n_queues = list->group ? s->classes.n * s->streams.n : 0;
    if (list->eval) /* of the other one it is there */
        ir_dag_link(d);
    list->nodes = n;
    list->edges = d->edges.n;
    struct simulation sim = { .s = s, .d = d };
    sim.order = list->order = mem_alloc((n + 1) * sizeof(uint32_t));
    sim.missing = mem_alloc((n + 1) * sizeof(uint32_t));
    sim.placed = mem_alloc(n + 1);
    sim.reads_load = mem_alloc(n + 1);
    sim.events = mem_alloc((n + 1) * sizeof *sim.events);
    sim.ready = mem_alloc(s->classes.n * sizeof *sim.ready);
    sim.fill = mem_alloc(s->classes.n * sizeof *sim.fill);
    sim.busy = mem_alloc(s->classes.n);
    sim.queues = mem_alloc((n_queues + 1) * sizeof *sim.queues);
    sim.queued = mem_alloc((n_queues + 1) * sizeof *sim.queued);
    sim.travels = mem_alloc((n_queues + 1) * sizeof *sim.travels);
    sim.backlog = mem_alloc(s->classes.n * sizeof *sim.backlog);
    if (list->group) {
        sim.w = *weights_of(s, list);
        make_gates(&sim, list);
    }
    sim.early = !s->in->clip && !list->eval;
    for (uint32_t i = 0; i < n && sim.early; i++)
        sim.early = d->nodes.at[i].kind != IR_NODE_MOVE;
    simulate(&sim);
    free_heaps(sim.ready, s->classes.n);
    free_heaps(sim.fill, s->classes.n);
    free_heaps(sim.queues, n_queues);
    vec_free(&sim.asked);
    vec_free(&sim.now);
    vec_free(&sim.late);
    mem_free(sim.gates.missing);
    mem_free(sim.gates.first);
    mem_free(sim.gates.next);
    vec_free(&sim.gates.waits);
    vec_free(&sim.held);
    mem_free(sim.missing);
    mem_free(sim.placed);
    mem_free(sim.reads_load);
    mem_free(sim.events);
    mem_free(sim.busy);
    mem_free(sim.travels);
    mem_free(sim.queued);
    mem_free(sim.backlog);
    if (sim.done != n)
        return err_set(e, ST_BUG, s->in->strategy_name, "only %u of %u nodes of the training DAG could be ordered",
                       sim.done, n);
    return ST_OK;
}

enum status pass_sequence(struct sched *s, struct err *e)
{
    TRY(sequence_list(s, &s->train, e));
    return s->in->eval ? sequence_list(s, &s->eval, e) : ST_OK;
}
