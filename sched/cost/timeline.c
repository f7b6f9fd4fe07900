/* The simulation. What happens at once on all ends of a communication is one event here, an instruction without other ends
 * is one too; so rendezvous needs no rule of its own: an event waits for what all its ends wait for. */
#include "sched/cost/timeline.h"

struct timeline_event {
    double start, end, speed;
    uint32_t pending; /* what it waits for and is not done */
    uint32_t first;   /* number of the instruction that is asked for its time */
    uint32_t cause;   /* event that it waited for last + 1; 0: it waited for none */
};
struct simulation {
    const struct plan *plans;
    const struct timeline *t;
    uint32_t *base;  /* [n_classes + 1]: number of the first instruction of a class */
    uint32_t *event; /* by number of an instruction */
    struct {
        VEC(struct timeline_event);
    } events;
    uint32_t *first_after, *after; /* CSR: events that wait for event i */
    uint32_t *first_end;           /* CSR: ends of event i */
    struct timeline_end *ends;
    struct {
        VEC(uint32_t);
    } ready, active; /* events that can start, in the order in which they could; those under way */
    uint32_t done;
};

static const struct plan_instr *instrs_of(const struct simulation *sim, uint32_t cls)
{
    const struct plan *p = &sim->plans[cls];
    return &p->instrs[p->lists[sim->t->classes[cls].list].first_instr];
}

/* Has the instruction ends on other classes? An addition carries the node of its reduction, and is local. */
static bool meets_others(enum plan_op op)
{
    return op == PLAN_SEND || op == PLAN_RECV || op == PLAN_ALL_REDUCE || op == PLAN_REDUCE_SCATTER ||
           op == PLAN_ALL_GATHER || op == PLAN_ALL_TO_ALL || op == PLAN_ALL_TO_ALL_V || op == PLAN_SHIFT ||
           op == PLAN_TO_EXPERTS || op == PLAN_FROM_EXPERTS || op == PLAN_SCALARS;
}

static bool computes(enum plan_op op)
{
    return op == PLAN_RUN || op == PLAN_SUMSQ || op == PLAN_UPDATE;
}

/* ---- events and what they wait for ------------------------------------------------------------------------------ */

static void find_events(struct simulation *sim)
{
    uint32_t n_nodes = 0;
    for (uint32_t c = 0; c < sim->t->n_classes; c++)
        for (uint32_t i = 0; i < sim->t->classes[c].n; i++) {
            uint32_t node = instrs_of(sim, c)[i].node;
            n_nodes = node >= n_nodes ? node + 1 : n_nodes;
        }
    uint32_t *of_node = mem_alloc(n_nodes * sizeof *of_node); /* event + 1 */
    for (uint32_t c = 0; c < sim->t->n_classes; c++)
        for (uint32_t i = 0; i < sim->t->classes[c].n; i++) {
            const struct plan_instr *in = &instrs_of(sim, c)[i];
            bool meets = meets_others((enum plan_op)in->op);
            uint32_t *event = &sim->event[sim->base[c] + i];
            if (meets && of_node[in->node]) {
                *event = of_node[in->node] - 1;
                if (in->op != PLAN_SEND)
                    continue;
            } else {
                *event = sim->events.n;
                vec_add(&sim->events, ((struct timeline_event){ 0 }));
            }
            sim->events.at[*event].first = sim->base[c] + i;
            if (meets)
                of_node[in->node] = *event + 1;
        }
    mem_free(of_node);
}

/* The ends of every event, with the one that is asked for its time in front. */
static void find_ends(struct simulation *sim)
{
    uint32_t n = sim->events.n, all = sim->base[sim->t->n_classes];
    uint32_t *at = mem_alloc((n + 1) * sizeof *at);
    sim->first_end = mem_alloc((n + 1) * sizeof *sim->first_end);
    sim->ends = mem_alloc((all + 1) * sizeof *sim->ends);
    for (uint32_t i = 0; i < all; i++)
        sim->first_end[sim->event[i] + 1]++;
    for (uint32_t i = 0; i < n; i++) {
        sim->first_end[i + 1] += sim->first_end[i];
        at[i] = sim->first_end[i];
    }
    for (uint32_t c = 0; c < sim->t->n_classes; c++)
        for (uint32_t i = sim->base[c]; i < sim->base[c + 1]; i++) {
            uint32_t event = sim->event[i], to = at[event]++, front = sim->first_end[event];
            if (sim->events.at[event].first == i) {
                sim->ends[to] = sim->ends[front];
                to = front;
            }
            sim->ends[to] = (struct timeline_end){ c, i - sim->base[c] };
        }
    mem_free(at);
}

static void add_condition(struct simulation *sim, uint32_t before, uint32_t after, bool store)
{
    if (store) {
        sim->after[sim->first_after[before]++] = after;
    } else {
        sim->first_after[before + 1]++;
        sim->events.at[after].pending++;
    }
}

/* Counts the conditions of a class, or stores them. */
static void add_conditions(struct simulation *sim, uint32_t cls, bool store)
{
    const struct plan *p = &sim->plans[cls];
    const struct plan_instr *in = instrs_of(sim, cls);
    const uint32_t *event = &sim->event[sim->base[cls]];
    uint32_t *last = mem_alloc(p->h->count[PLAN_S_STREAMS] * sizeof *last); /* by stream: instruction + 1 */
    for (uint32_t i = 0; i < sim->t->classes[cls].n; i++) {
        if (last[in[i].stream])
            add_condition(sim, event[last[in[i].stream] - 1], event[i], store);
        for (uint32_t w = 0; w < in[i].n_waits; w++)
            add_condition(sim, event[p->waits[in[i].first_wait + w]], event[i], store);
        last[in[i].stream] = i + 1;
    }
    mem_free(last);
}

static void find_conditions(struct simulation *sim)
{
    uint32_t n = sim->events.n;
    sim->first_after = mem_alloc((n + 1) * sizeof *sim->first_after);
    for (uint32_t c = 0; c < sim->t->n_classes; c++)
        add_conditions(sim, c, false);
    for (uint32_t i = 0; i < n; i++)
        sim->first_after[i + 1] += sim->first_after[i];
    sim->after = mem_alloc(sim->first_after[n] * sizeof *sim->after);
    for (uint32_t c = 0; c < sim->t->n_classes; c++)
        add_conditions(sim, c, true);
    memmove(sim->first_after + 1, sim->first_after, n * sizeof *sim->first_after);
    sim->first_after[0] = 0;
}

/* ---- time ------------------------------------------------------------------------------------------------------- */

static void start(struct simulation *sim, const struct timeline_cost *cost, double now)
{
    for (uint32_t k = 0; k < sim->ready.n; k++) {
        uint32_t i = sim->ready.at[k];
        struct timeline_event *h = &sim->events.at[i];
        const struct timeline_end *end = &sim->ends[sim->first_end[i]];
        double takes = cost->time(cost->self, end->cls, &instrs_of(sim, end->cls)[end->instr], now);
        CHECK(takes >= 0);
        h->start = now;
        h->end = now + takes;
        h->speed = 1;
        vec_add(&sim->active, i);
    }
    sim->ready.n = 0;
}

/* What is under way goes on at the speeds that hold from now on. */
static void change_speeds(struct simulation *sim, const struct timeline_cost *cost, struct timeline_active *active,
                          double now)
{
    for (uint32_t k = 0; k < sim->active.n; k++) {
        uint32_t i = sim->active.at[k];
        active[k] = (struct timeline_active){ &sim->ends[sim->first_end[i]], sim->first_end[i + 1] - sim->first_end[i],
                                              1 };
    }
    cost->speeds(cost->self, active, sim->active.n);
    for (uint32_t k = 0; k < sim->active.n; k++) {
        struct timeline_event *h = &sim->events.at[sim->active.at[k]];
        CHECK(active[k].speed > 0 && active[k].speed <= 1);
        if (active[k].speed != h->speed)
            h->end = now + (h->end - now) * h->speed / active[k].speed;
        h->speed = active[k].speed;
    }
}

/* Takes what is done now from the list of what is under way, and finds what can start. */
static void finish(struct simulation *sim, double now)
{
    uint32_t left = 0;
    for (uint32_t k = 0; k < sim->active.n; k++) {
        uint32_t i = sim->active.at[k];
        if (sim->events.at[i].end > now) {
            sim->active.at[left++] = i;
            continue;
        }
        sim->done++;
        for (uint32_t a = sim->first_after[i]; a < sim->first_after[i + 1]; a++) {
            struct timeline_event *next = &sim->events.at[sim->after[a]];
            next->cause = i + 1;
            if (!--next->pending)
                vec_add(&sim->ready, sim->after[a]);
        }
    }
    sim->active.n = left;
}

static void simulate(struct simulation *sim, const struct timeline_cost *cost)
{
    double now = 0;
    struct timeline_active *active = mem_alloc((sim->events.n + 1) * sizeof *active);
    for (uint32_t i = 0; i < sim->events.n; i++)
        if (!sim->events.at[i].pending)
            vec_add(&sim->ready, i);
    while (sim->ready.n) {
        start(sim, cost, now);
        do {
            if (cost->speeds)
                change_speeds(sim, cost, active, now);
            double next = sim->events.at[sim->active.at[0]].end;
            for (uint32_t k = 1; k < sim->active.n; k++)
                next = sim->events.at[sim->active.at[k]].end < next ? sim->events.at[sim->active.at[k]].end : next;
            now = next > now ? next : now;
            finish(sim, now);
        } while (!sim->ready.n && sim->active.n);
    }
    mem_free(active);
    CHECK(sim->done == sim->events.n);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void take_spans(const struct simulation *sim, struct timeline *out)
{
    double busy = 0, ranks = 0;
    for (uint32_t c = 0; c < out->n_classes; c++) {
        struct timeline_class *k = &out->classes[c];
        for (uint32_t i = 0; i < k->n; i++) {
            const struct timeline_event *h = &sim->events.at[sim->event[sim->base[c] + i]];
            k->spans[i] = (struct timeline_span){ h->start, h->end };
            k->after[i] = h->cause ? sim->ends[sim->first_end[h->cause - 1]] : (struct timeline_end){ PLAN_NONE, 0 };
            k->busy += computes((enum plan_op)instrs_of(sim, c)[i].op) ? h->end - h->start : 0;
            out->step = h->end > out->step ? h->end : out->step;
        }
        double members = sim->plans[c].sets[sim->plans[c].h->devices].size;
        busy += members * k->busy;
        ranks += members;
    }
    out->bubble = out->step > 0 ? 1 - busy / (ranks * out->step) : 0;
}

void timeline_run(const struct plan *plans, uint32_t n_classes, const char *list, const struct timeline_cost *cost,
                  struct timeline *out)
{
    *out = (struct timeline){ .n_classes = n_classes };
    out->classes = mem_alloc(n_classes * sizeof *out->classes);
    struct simulation sim = { .plans = plans, .t = out, .base = mem_alloc((n_classes + 1) * sizeof *sim.base) };
    for (uint32_t c = 0; c < n_classes; c++) {
        struct timeline_class *k = &out->classes[c];
        k->list = plan_find_list(&plans[c], list);
        CHECK(k->list != PLAN_NONE);
        k->n = plans[c].lists[k->list].n_instr;
        k->spans = mem_alloc(k->n * sizeof *k->spans);
        k->after = mem_alloc(k->n * sizeof *k->after);
        sim.base[c + 1] = sim.base[c] + k->n;
    }
    sim.event = mem_alloc(sim.base[n_classes] * sizeof *sim.event);
    find_events(&sim);
    find_ends(&sim);
    find_conditions(&sim);
    simulate(&sim, cost);
    take_spans(&sim, out);
    mem_free(sim.base);
    mem_free(sim.event);
    vec_free(&sim.events);
    mem_free(sim.first_after);
    mem_free(sim.after);
    mem_free(sim.first_end);
    mem_free(sim.ends);
    vec_free(&sim.ready);
    vec_free(&sim.active);
}

void timeline_release(struct timeline *t)
{
    for (uint32_t c = 0; c < t->n_classes; c++) {
        mem_free(t->classes[c].spans);
        mem_free(t->classes[c].after);
    }
    mem_free(t->classes);
    *t = (struct timeline){ 0 };
}
