/* The simulation. What happens at once on all ends of a communication is one event here, an instruction without other ends
 * is one too; so rendezvous needs no rule of its own: an event waits for what all its ends wait for. */
#include "sched/timeline.h"

struct happening {
    double start, end;
    uint32_t pending;    /* what it waits for and is not done */
    uint32_t cls, instr; /* the end that is asked for its time */
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
    uint32_t *heap, n_heap;        /* events that can start, the earliest on top; ties by number */
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
            x->events.at[*event].cls = c;
            x->events.at[*event].instr = i;
            if (meets)
                of_node[in->node] = *event + 1;
        }
    mem_free(of_node);
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

static bool before(const struct simulation *x, uint32_t a, uint32_t b)
{
    double at = x->events.at[a].start, bt = x->events.at[b].start;
    return at < bt || (at == bt && a < b);
}

static void push(struct simulation *x, uint32_t event)
{
    uint32_t i = x->n_heap++;
    for (; i && before(x, event, x->heap[(i - 1) / 2]); i = (i - 1) / 2)
        x->heap[i] = x->heap[(i - 1) / 2];
    x->heap[i] = event;
}

static uint32_t pop(struct simulation *x)
{
    uint32_t top = x->heap[0], event = x->heap[--x->n_heap], i = 0;
    for (uint32_t c; (c = 2 * i + 1) < x->n_heap; i = c) {
        if (c + 1 < x->n_heap && before(x, x->heap[c + 1], x->heap[c]))
            c++;
        if (!before(x, x->heap[c], event))
            break;
        x->heap[i] = x->heap[c];
    }
    x->heap[i] = event;
    return top;
}

/* Nothing that can start later starts before the event on top: what follows from an event starts at its end. */
static void simulate(struct simulation *x, const struct timeline_cost *cost)
{
    x->heap = mem_alloc(x->events.n * sizeof *x->heap);
    for (uint32_t i = 0; i < x->events.n; i++)
        if (!x->events.at[i].pending)
            push(x, i);
    while (x->n_heap) {
        uint32_t i = pop(x);
        struct happening *h = &x->events.at[i];
        double takes = cost->time(cost->self, h->cls, &instrs_of(x, h->cls)[h->instr], h->start);
        CHECK(takes >= 0);
        h->end = h->start + takes;
        x->done++;
        for (uint32_t k = x->first_after[i]; k < x->first_after[i + 1]; k++) {
            struct happening *next = &x->events.at[x->after[k]];
            next->start = h->end > next->start ? h->end : next->start;
            if (!--next->pending)
                push(x, x->after[k]);
        }
    }
    mem_free(x->heap);
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
        x.base[c + 1] = x.base[c] + k->n;
    }
    x.event = mem_alloc(x.base[n_classes] * sizeof *x.event);
    find_events(&x);
    find_conditions(&x);
    simulate(&x, cost);
    take_spans(&x, out);
    mem_free(x.base);
    mem_free(x.event);
    vec_free(&x.events);
    mem_free(x.first_after);
    mem_free(x.after);
}

void timeline_release(struct timeline *t)
{
    for (uint32_t c = 0; c < t->n_classes; c++)
        mem_free(t->classes[c].spans);
    mem_free(t->classes);
    *t = (struct timeline){ 0 };
}
