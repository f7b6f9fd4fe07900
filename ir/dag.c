#include "ir/dag.h"

_Static_assert(sizeof(struct ir_node) == 16, "a node is 16 bytes");
_Static_assert(sizeof(struct ir_edge) == 12, "an edge is 12 bytes");

const char *ir_node_kind_name(enum ir_node_kind k)
{
    static const char *const names[IR_NODE_KINDS] = { "load",          "run",   "sum",     "move",          "border",
                                                      "turn",          "again", "reduce",  "reduce-copies", "gather",
                                                      "gather-copies", "sumsq", "scalars", "update" };
    return k < IR_NODE_KINDS ? names[k] : "?";
}

void ir_dag_init(struct ir_dag *d)
{
    *d = (struct ir_dag){ 0 };
}

static void unlink_dag(struct ir_dag *d)
{
    mem_free(d->out_first);
    mem_free(d->out_edge);
    mem_free(d->out_to);
    mem_free(d->in_first);
    mem_free(d->in_edge);
    mem_free(d->in_from);
    d->out_first = d->out_edge = d->out_to = d->in_first = d->in_edge = d->in_from = NULL;
}

void ir_dag_release(struct ir_dag *d)
{
    unlink_dag(d);
    vec_free(&d->nodes);
    vec_free(&d->edges);
    vec_free(&d->moves);
    vec_free(&d->sums);
    vec_free(&d->orders);
}

uint32_t ir_dag_node(struct ir_dag *d, struct ir_node n)
{
    vec_add(&d->nodes, n);
    return d->nodes.n - 1;
}

void ir_dag_edge(struct ir_dag *d, uint32_t from, uint32_t to, enum ir_edge_kind kind, uint32_t value)
{
    CHECK(value < 1u << 30 && from != to);
    *vec_push(&d->edges) = (struct ir_edge){ .from = from, .to = to, .kind = kind, .value = value };
}

/* Counting sort of the edges by one of their ends: their numbers, and the nodes at the other one. */
static void csr(const struct ir_dag *d, bool by_from, uint32_t **first, uint32_t **edge, uint32_t **other)
{
    uint32_t n = d->nodes.n;
    *first = mem_alloc((n + 1) * sizeof(uint32_t));
    *edge = mem_alloc(d->edges.n * sizeof(uint32_t));
    *other = mem_alloc(d->edges.n * sizeof(uint32_t));
    for (uint32_t e = 0; e < d->edges.n; e++)
        (*first)[by_from ? d->edges.at[e].from : d->edges.at[e].to]++;
    for (uint32_t i = 1; i <= n; i++) /* the end of each node's edges, */
        (*first)[i] += (*first)[i - 1];
    for (uint32_t e = d->edges.n; e-- > 0;) { /* which the last of them moves to the front */
        const struct ir_edge *at = &d->edges.at[e];
        const uint32_t k = --(*first)[by_from ? at->from : at->to];
        (*edge)[k] = e;
        (*other)[k] = by_from ? at->to : at->from;
    }
}

void ir_dag_link(struct ir_dag *d)
{
    unlink_dag(d);
    csr(d, true, &d->out_first, &d->out_edge, &d->out_to);
    csr(d, false, &d->in_first, &d->in_edge, &d->in_from);
}

/* Binary heap of node numbers, smallest on top. */
struct heap {
    uint32_t *at, n;
};
static void heap_push(struct heap *h, uint32_t x)
{
    uint32_t i = h->n++;
    for (; i && h->at[(i - 1) / 2] > x; i = (i - 1) / 2)
        h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = x;
}
static uint32_t heap_pop(struct heap *h)
{
    uint32_t top = h->at[0], x = h->at[--h->n], i = 0;
    for (uint32_t c; (c = 2 * i + 1) < h->n; i = c) {
        if (c + 1 < h->n && h->at[c + 1] < h->at[c])
            c++;
        if (h->at[c] >= x)
            break;
        h->at[i] = h->at[c];
    }
    h->at[i] = x;
    return top;
}

uint32_t ir_dag_sort(const struct ir_dag *d, uint32_t *order)
{
    uint32_t n = d->nodes.n, done = 0;
    uint32_t *missing = mem_alloc((n + 1) * sizeof *missing);
    struct heap ready = { mem_alloc((n + 1) * sizeof(uint32_t)), 0 };
    for (uint32_t i = 0; i < n; i++) {
        missing[i] = d->in_first[i + 1] - d->in_first[i];
        if (!missing[i])
            heap_push(&ready, i);
    }
    while (ready.n) {
        uint32_t i = heap_pop(&ready);
        order[done++] = i;
        for (uint32_t k = d->out_first[i]; k < d->out_first[i + 1]; k++) {
            uint32_t to = d->out_to[k];
            if (!--missing[to])
                heap_push(&ready, to);
        }
    }
    mem_free(missing);
    mem_free(ready.at);
    return done;
}

uint32_t ir_dag_cycle(const struct ir_dag *d, uint32_t *cycle)
{
    uint32_t n = d->nodes.n;
    uint32_t *order = mem_alloc((n + 1) * sizeof *order);
    uint8_t *sorted = mem_alloc(n + 1);
    uint32_t done = ir_dag_sort(d, order);
    for (uint32_t i = 0; i < done; i++)
        sorted[order[i]] = 1;
    uint32_t length = 0;
    if (done < n) {
        /* every node left has a predecessor that is left: walking back must come round */
        uint32_t at = 0;
        while (sorted[at])
            at++;
        uint32_t *seen = mem_alloc((n + 1) * sizeof *seen), *path = order, steps = 0;
        while (!seen[at]) {
            seen[at] = ++steps;
            path[steps - 1] = at;
            uint32_t k = d->in_first[at];
            while (sorted[d->in_from[k]])
                k++;
            at = d->in_from[k];
        }
        for (uint32_t i = steps; i >= seen[at]; i--) /* the path runs against the edges */
            cycle[length++] = path[i - 1];
        mem_free(seen);
    }
    mem_free(order);
    mem_free(sorted);
    return length;
}

static bool node_sound(const struct ir_dag *d, const struct ir_node *n)
{
    if (n->kind >= IR_NODE_KINDS || n->pass > IR_PASS_NONE)
        return false;
    if (n->kind == IR_NODE_MOVE || n->kind == IR_NODE_BORDER || n->kind == IR_NODE_TURN || n->kind == IR_NODE_AGAIN)
        return n->what < d->moves.n;
    return n->kind != IR_NODE_SUM || n->what < d->sums.n;
}

static bool edge_sound(const struct ir_dag *d, const struct ir_edge *e)
{
    return e->from < d->nodes.n && e->to < d->nodes.n && e->from != e->to &&
           (e->kind != IR_EDGE_ORDER || e->value < d->orders.n);
}

bool ir_dag_sound(struct ir_dag *d)
{
    for (uint32_t i = 0; i < d->nodes.n; i++)
        if (!node_sound(d, &d->nodes.at[i]))
            return false;
    for (uint32_t i = 0; i < d->edges.n; i++)
        if (!edge_sound(d, &d->edges.at[i]))
            return false;
    ir_dag_link(d);
    uint32_t *order = mem_alloc((d->nodes.n + 1) * sizeof *order);
    bool acyclic = ir_dag_sort(d, order) == d->nodes.n;
    mem_free(order);
    return acyclic;
}

uint32_t ir_dag_find_edge(const struct ir_dag *d, uint32_t a, uint32_t b)
{
    for (uint32_t k = d->out_first[a]; k < d->out_first[a + 1]; k++)
        if (d->out_to[k] == b)
            return d->out_edge[k];
    return IR_NONE;
}
