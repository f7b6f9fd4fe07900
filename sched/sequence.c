/* One global order of all nodes of a list, from a simulation with unit costs.
 *
 * Compute nodes of a class run one at a time; communication stands at the moment when its value is produced. It takes no time,
 * but for an all-to-all on a stream of its own, which takes as long as a sub-chunk's forward: so a class that has other work
 * goes on with it. That is the policy of interleaving inside an order group of several filters (and wherever the user left a
 * choice): list scheduling with that latency puts the compute of one filter under the all-to-all of the other, turn by turn,
 * which is what overlapped pairs of forward and backward are for (DeepSeek-V3, section 3.2.1). Every class dispatches the
 * projection of this one order, every stream and every communicator too: so the communication that comes first among those not
 * done is the head of its stream on all its members, and nothing can deadlock, whatever the assignment of streams. Where the
 * user's order leaves a choice, backwards go before forwards (they free memory), forwards before BW (which only fills), the
 * lower microbatch first. What ends the step (norm, updates) comes after all passes, in the order in which it became ready:
 * before that it would hold the compute stream until its reduction is done.
 *
 * Needs: the final DAG, acyclic. Gives: list.order. */

#include "sched/passes.h"

struct event {
    double t;
    uint32_t node;
};
struct simulation {
    const struct sched *s;
    const struct ir_dag *d;
    uint32_t *order, done;
    uint32_t *missing;    /* by node: inputs not done */
    uint8_t *placed;      /* by node: LOADs are placed with their first reader */
    struct event *events; /* binary heap by (t, node) */
    uint32_t n_events;
    struct ready {
        VEC(uint32_t); /* binary heap by priority */
    } * ready;         /* by class */
    uint8_t *busy;     /* by class */
    struct ready now;  /* nodes without duration, to be placed at this moment: binary heap by number */
    struct ready late; /* nodes that end the step, first in, first out */
    uint32_t late_done;
};

static bool is_compute(const struct ir_node *n)
{
    return n->kind == IR_NODE_RUN || n->kind == IR_NODE_SUM || n->kind == IR_NODE_TURN;
}

static bool ends_step(const struct ir_node *n)
{
    return n->kind == IR_NODE_SUMSQ || n->kind == IR_NODE_SCALARS || n->kind == IR_NODE_UPDATE;
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

static uint64_t key_of(const struct simulation *sim, bool by_priority, uint32_t node)
{
    return by_priority ? priority(sim->s, &sim->d->nodes.at[node], node) : node;
}

static void push_ready(struct simulation *sim, struct ready *h, bool by_priority, uint32_t node)
{
    vec_add(h, node);
    uint32_t i = h->n - 1;
    uint64_t k = key_of(sim, by_priority, node);
    for (; i && key_of(sim, by_priority, h->at[(i - 1) / 2]) > k; i = (i - 1) / 2)
        h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = node;
}

static uint32_t pop_ready(struct simulation *sim, struct ready *h, bool by_priority)
{
    uint32_t top = h->at[0], node = h->at[--h->n], i = 0;
    uint64_t k = key_of(sim, by_priority, node);
    for (uint32_t c; (c = 2 * i + 1) < h->n; i = c) {
        if (c + 1 < h->n && key_of(sim, by_priority, h->at[c + 1]) < key_of(sim, by_priority, h->at[c]))
            c++;
        if (key_of(sim, by_priority, h->at[c]) >= k)
            break;
        h->at[i] = h->at[c];
    }
    h->at[i] = node;
    return top;
}

/* ---- the simulation ---- */

static void place(struct simulation *sim, uint32_t node)
{
    for (uint32_t k = sim->d->in_first[node]; k < sim->d->in_first[node + 1]; k++) {
        uint32_t from = sim->d->edges.at[sim->d->in_edge[k]].from;
        if (sim->d->nodes.at[from].kind == IR_NODE_LOAD && !sim->placed[from]) {
            sim->placed[from] = 1;
            sim->order[sim->done++] = from;
        }
    }
    sim->placed[node] = 1;
    sim->order[sim->done++] = node;
}

static void become_ready(struct simulation *sim, uint32_t node)
{
    const struct ir_node *n = &sim->d->nodes.at[node];
    if (is_compute(n))
        push_ready(sim, &sim->ready[sim->s->sets.at[n->set].class_id], true, node);
    else if (ends_step(n))
        vec_add(&sim->late, node);
    else
        push_ready(sim, &sim->now, false, node);
}

static void complete(struct simulation *sim, uint32_t node)
{
    for (uint32_t k = sim->d->out_first[node]; k < sim->d->out_first[node + 1]; k++) {
        uint32_t to = sim->d->edges.at[sim->d->out_edge[k]].to;
        if (!--sim->missing[to])
            become_ready(sim, to);
    }
}

static void start_idle(struct simulation *sim, double t)
{
    for (uint32_t c = 0; c < sim->s->classes.n; c++)
        if (!sim->busy[c] && sim->ready[c].n) {
            uint32_t node = pop_ready(sim, &sim->ready[c], true);
            sim->busy[c] = 1;
            place(sim, node);
            push_event(sim, t + (double)sim->d->nodes.at[node].cost, node);
        }
}

static void simulate(struct simulation *sim)
{
    const struct ir_dag *d = sim->d;
    for (uint32_t i = 0; i < d->nodes.n; i++)
        sim->missing[i] = d->in_first[i + 1] - d->in_first[i];
    for (uint32_t i = 0; i < d->nodes.n; i++) /* loads are done before time begins, and placed late */
        if (d->nodes.at[i].kind == IR_NODE_LOAD)
            complete(sim, i);
    for (uint32_t i = 0; i < d->nodes.n; i++)
        if (d->nodes.at[i].kind != IR_NODE_LOAD && d->in_first[i + 1] == d->in_first[i])
            become_ready(sim, i);
    for (double t = 0;;) {
        while (sim->now.n) {
            uint32_t node = pop_ready(sim, &sim->now, false);
            place(sim, node);
            if (d->nodes.at[node].cost > 0)
                push_event(sim, t + (double)d->nodes.at[node].cost, node);
            else
                complete(sim, node);
        }
        start_idle(sim, t);
        if (!sim->n_events) {
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
            if (is_compute(&d->nodes.at[node]))
                sim->busy[sim->s->sets.at[d->nodes.at[node].set].class_id] = 0;
            complete(sim, node);
        }
    }
}

static enum status sequence_list(const struct sched *s, struct list_plan *list, struct err *e)
{
    struct ir_dag *d = &list->dag;
    uint32_t n = d->nodes.n;
    ir_dag_link(d);
    struct simulation sim = { .s = s, .d = d };
    sim.order = list->order = mem_alloc((n + 1) * sizeof(uint32_t));
    sim.missing = mem_alloc((n + 1) * sizeof(uint32_t));
    sim.placed = mem_alloc(n + 1);
    sim.events = mem_alloc((n + 1) * sizeof *sim.events);
    sim.ready = mem_alloc(s->classes.n * sizeof *sim.ready);
    sim.busy = mem_alloc(s->classes.n);
    simulate(&sim);
    for (uint32_t c = 0; c < s->classes.n; c++)
        vec_free(&sim.ready[c]);
    vec_free(&sim.now);
    vec_free(&sim.late);
    mem_free(sim.missing);
    mem_free(sim.placed);
    mem_free(sim.events);
    mem_free(sim.ready);
    mem_free(sim.busy);
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
