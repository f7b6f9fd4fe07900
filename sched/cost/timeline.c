/* The simulation. What happens at once on all ends of a communication is one event here, an instruction without other ends
 * is one too; so rendezvous needs no rule of its own: an event waits for what all its ends wait for. */
#include "sched/cost/timeline.h"

struct happening {
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
        VEC(struct happening);
    } events;
    uint32_t *first_after, *after; /* CSR: events that wait for event i */
    uint32_t *first_end;           /* CSR: ends of event i */
    struct timeline_end *ends;
    struct {
        VEC(uint32_t);
    } ready, active; /* events that can start, in the order in which they could; those under way */
    uint32_t done;
};

static const struct plan_instr *instrs_of(const struct simulation *x, uint32_t cls)
{
    const struct plan *p = &x->plans[cls];
    return &p->instrs[p->lists[x->t->classes[cls].list].first_instr];
}

/* Has the instruction ends on other classes? An addition carries the node of its reduction, and is local. */
static bool meets_others(enum plan_op op)
{
    return op == PLAN_SEND || op == PLAN_RECV || op == PLAN_ALL_REDUCE || op == PLAN_REDUCE_SCATTER ||
           op == PLAN_ALL_GATHER || op == PLAN_ALL_TO_ALL || op == PLAN_ALL_TO_ALL_V || op == PLAN_SCALARS;
}

static bool computes(enum plan_op op)
{
    return op == PLAN_RUN || op == PLAN_SUMSQ || op == PLAN_UPDATE;
}

/* ---- events and what they wait for ------------------------------------------------------------------------------ */

static void find_events(struct simulation *x)
{
    uint32_t n_nodes = 0;
    for (uint32_t c = 0; c < x->t->n_classes; c++)
        for (uint32_t i = 0; i < x->t->classes[c].n; i++) {
            uint32_t node = instrs_of(x, c)[i].node;
            n_nodes = node >= n_nodes ? node + 1 : n_nodes;
        }
    uint32_t *of_node = mem_alloc(n_nodes * sizeof *of_node); /* event + 1 */
    for (uint32_t c = 0; c < x->t->n_classes; c++)
        for (uint32_t i = 0; i < x->t->classes[c].n; i++) {
            const struct plan_instr *in = &instrs_of(x, c)[i];
            bool meets = meets_others((enum plan_op)in->op);
            uint32_t *event = &x->event[x->base[c] + i];
            if (meets && of_node[in->node]) {
                *event = of_node[in->node] - 1;
                if (in->op != PLAN_SEND)
                    continue;
            } else {
                *event = x->events.n;
                vec_add(&x->events, ((struct happening){ 0 }));
            }
            x->events.at[*event].first = x->base[c] + i;
            if (meets)
                of_node[in->node] = *event + 1;
        }
    mem_free(of_node);
}

/* The ends of every event, with the one that is asked for its time in front. */
static void find_ends(struct simulation *x)
{
    uint32_t n = x->events.n, all = x->base[x->t->n_classes];
    uint32_t *at = mem_alloc((n + 1) * sizeof *at);
    x->first_end = mem_alloc((n + 1) * sizeof *x->first_end);
    x->ends = mem_alloc((all + 1) * sizeof *x->ends);
    for (uint32_t i = 0; i < all; i++)
        x->first_end[x->event[i] + 1]++;
    for (uint32_t i = 0; i < n; i++) {
        x->first_end[i + 1] += x->first_end[i];
        at[i] = x->first_end[i];
    }
    for (uint32_t c = 0; c < x->t->n_classes; c++)
        for (uint32_t i = x->base[c]; i < x->base[c + 1]; i++) {
            uint32_t event = x->event[i], to = at[event]++, front = x->first_end[event];
            if (x->events.at[event].first == i) {
                x->ends[to] = x->ends[front];
                to = front;
            }
            x->ends[to] = (struct timeline_end){ c, i - x->base[c] };
        }
    mem_free(at);
}

static void add_condition(struct simulation *x, uint32_t before, uint32_t after, bool store)
{
    if (store) {
        x->after[x->first_after[before]++] = after;
    } else {
        x->first_after[before + 1]++;
        x->events.at[after].pending++;
    }
}

/* Counts the conditions of a class, or stores them. */
static void add_conditions(struct simulation *x, uint32_t cls, bool store)
{
    const struct plan *p = &x->plans[cls];
    const struct plan_instr *in = instrs_of(x, cls);
    const uint32_t *event = &x->event[x->base[cls]];
    uint32_t *last = mem_alloc(p->h->count[PLAN_S_STREAMS] * sizeof *last); /* by stream: instruction + 1 */
    for (uint32_t i = 0; i < x->t->classes[cls].n; i++) {
        if (last[in[i].stream])
            add_condition(x, event[last[in[i].stream] - 1], event[i], store);
        for (uint32_t w = 0; w < in[i].n_waits; w++)
            add_condition(x, event[p->waits[in[i].first_wait + w]], event[i], store);
        last[in[i].stream] = i + 1;
    }
    mem_free(last);
}

static void find_conditions(struct simulation *x)
{
    uint32_t n = x->events.n;
    x->first_after = mem_alloc((n + 1) * sizeof *x->first_after);
    for (uint32_t c = 0; c < x->t->n_classes; c++)
        add_conditions(x, c, false);
    for (uint32_t i = 0; i < n; i++)
        x->first_after[i + 1] += x->first_after[i];
    x->after = mem_alloc(x->first_after[n] * sizeof *x->after);
    for (uint32_t c = 0; c < x->t->n_classes; c++)
        add_conditions(x, c, true);
    memmove(x->first_after + 1, x->first_after, n * sizeof *x->first_after);
    x->first_after[0] = 0;
}

/* ---- time ------------------------------------------------------------------------------------------------------- */

static void start(struct simulation *x, const struct timeline_cost *cost, double now)
{
    for (uint32_t k = 0; k < x->ready.n; k++) {
        uint32_t i = x->ready.at[k];
        struct happening *h = &x->events.at[i];
        const struct timeline_end *end = &x->ends[x->first_end[i]];
        double takes = cost->time(cost->self, end->cls, &instrs_of(x, end->cls)[end->instr], now);
        CHECK(takes >= 0);
        h->start = now;
        h->end = now + takes;
        h->speed = 1;
        vec_add(&x->active, i);
    }
    x->ready.n = 0;
}

/* What is under way goes on at the speeds that hold from now on. */
static void change_speeds(struct simulation *x, const struct timeline_cost *cost, struct timeline_active *active,
                          double now)
{
    for (uint32_t k = 0; k < x->active.n; k++) {
        uint32_t i = x->active.at[k];
        active[k] = (struct timeline_active){ &x->ends[x->first_end[i]], x->first_end[i + 1] - x->first_end[i], 1 };
    }
    cost->speeds(cost->self, active, x->active.n);
    for (uint32_t k = 0; k < x->active.n; k++) {
        struct happening *h = &x->events.at[x->active.at[k]];
        CHECK(active[k].speed > 0 && active[k].speed <= 1);
        if (active[k].speed != h->speed)
            h->end = now + (h->end - now) * h->speed / active[k].speed;
        h->speed = active[k].speed;
    }
}

/* Takes what is done now from the list of what is under way, and finds what can start. */
static void finish(struct simulation *x, double now)
{
    uint32_t left = 0;
    for (uint32_t k = 0; k < x->active.n; k++) {
        uint32_t i = x->active.at[k];
        if (x->events.at[i].end > now) {
            x->active.at[left++] = i;
            continue;
        }
        x->done++;
        for (uint32_t a = x->first_after[i]; a < x->first_after[i + 1]; a++) {
            struct happening *next = &x->events.at[x->after[a]];
            next->cause = i + 1;
            if (!--next->pending)
                vec_add(&x->ready, x->after[a]);
        }
    }
    x->active.n = left;
}

static void simulate(struct simulation *x, const struct timeline_cost *cost)
{
    double now = 0;
    struct timeline_active *active = mem_alloc((x->events.n + 1) * sizeof *active);
    for (uint32_t i = 0; i < x->events.n; i++)
        if (!x->events.at[i].pending)
            vec_add(&x->ready, i);
    while (x->ready.n) {
        start(x, cost, now);
        do {
            if (cost->speeds)
                change_speeds(x, cost, active, now);
            double next = x->events.at[x->active.at[0]].end;
            for (uint32_t k = 1; k < x->active.n; k++)
                next = x->events.at[x->active.at[k]].end < next ? x->events.at[x->active.at[k]].end : next;
            now = next > now ? next : now;
            finish(x, now);
        } while (!x->ready.n && x->active.n);
    }
    mem_free(active);
    CHECK(x->done == x->events.n);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void take_spans(const struct simulation *x, struct timeline *out)
{
    double busy = 0, ranks = 0;
    for (uint32_t c = 0; c < out->n_classes; c++) {
        struct timeline_class *k = &out->classes[c];
        for (uint32_t i = 0; i < k->n; i++) {
            const struct happening *h = &x->events.at[x->event[x->base[c] + i]];
            k->spans[i] = (struct timeline_span){ h->start, h->end };
            k->after[i] = h->cause ? x->ends[x->first_end[h->cause - 1]] : (struct timeline_end){ PLAN_NONE, 0 };
            k->busy += computes((enum plan_op)instrs_of(x, c)[i].op) ? h->end - h->start : 0;
            out->step = h->end > out->step ? h->end : out->step;
        }
        double members = x->plans[c].sets[x->plans[c].h->devices].size;
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
    struct simulation x = { .plans = plans, .t = out, .base = mem_alloc((n_classes + 1) * sizeof *x.base) };
    for (uint32_t c = 0; c < n_classes; c++) {
        struct timeline_class *k = &out->classes[c];
        k->list = plan_find_list(&plans[c], list);
        CHECK(k->list != PLAN_NONE);
        k->n = plans[c].lists[k->list].n_instr;
        k->spans = mem_alloc(k->n * sizeof *k->spans);
        k->after = mem_alloc(k->n * sizeof *k->after);
        x.base[c + 1] = x.base[c] + k->n;
    }
    x.event = mem_alloc(x.base[n_classes] * sizeof *x.event);
    find_events(&x);
    find_ends(&x);
    find_conditions(&x);
    simulate(&x, cost);
    take_spans(&x, out);
    mem_free(x.base);
    mem_free(x.event);
    vec_free(&x.events);
    mem_free(x.first_after);
    mem_free(x.after);
    mem_free(x.first_end);
    mem_free(x.ends);
    vec_free(&x.ready);
    vec_free(&x.active);
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
