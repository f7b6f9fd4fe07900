/* Communications in flight together have to fit onto the device. A communicator's
 * kernel holds its thread blocks until all members have come. If two ranks start kernels of two communicators in different
 * order, and the blocks of the first leave no room for the second, both wait for ever: the one total order says in which order
 * they are started, but streams of a device run side by side. So the blocks of all streams of a class that communicate are
 * counted, each with those of one communicator, for a stream does one thing at a time. Where the smallest device has not so
 * many multiprocessors, two streams take turns: their communications get edges, in the order they have anyway. Those that
 * communicate least are taken first. Computing waits for nobody and needs no room kept free.
 *
 * Needs: list.order, the final DAG. Adds edges along the order, so nothing else changes. Targets without multiprocessors are
 * left alone. */
#include <stdio.h>

#include "sched/passes.h"

struct turn { /* streams of a class that take turns */
    uint32_t ctas, calls;
    uint32_t last; /* communication, its stream: the latest in the order */
    uint32_t on;
    bool joined; /* with another one, which goes on in its place */
};
struct fit {
    const struct sched *s;
    struct list_plan *list;
    uint32_t class_id;
    struct turn *turns;  /* [streams] */
    uint32_t *turn_of;   /* [streams]: first stream of its turn */
    uint8_t *collective; /* [streams] */
};

/* Multiprocessors of the smallest device; 0: communications share none. */
static uint32_t smallest(const struct sched *s)
{
    return s->in->multiprocessors ? s->in->multiprocessors : s->in->target->multiprocessors;
}

static bool holds(const struct sched *s, uint32_t bucket, uint32_t class_id)
{
    const struct bucket *b = &s->buckets.at[bucket];
    for (uint32_t i = 0; i < b->n_classes; i++)
        if (s->bucket_classes.at[b->first_class + i] == class_id)
            return true;
    return false;
}

/* Of the shifts of a ring, which stand between the pieces of its runs; IR_NONE: it is none. */
static uint32_t ring_stream(const struct sched *s, const struct ir_node *n)
{
    const uint32_t ring = n->pass == IR_PASS_BW ? IR_NONE : side_ring(s, &s->chunks.subs.at[n->what]);
    return ring == IR_NONE ? IR_NONE : s->directives.at[s->sides[ring].directive].stream;
}

/* The stream on which a class has a part in a node; IR_NONE: it communicates nothing there. */
static uint32_t stream_in(const struct fit *f, const struct ir_node *n)
{
    const struct ir_move *m;
    switch ((enum ir_node_kind)n->kind) {
    case IR_NODE_MOVE:
        m = &f->list->dag.moves.at[n->what];
        if (f->s->sets.at[m->from_set].class_id == f->class_id)
            return n->stream;
        return f->s->sets.at[m->to_set].class_id == f->class_id ? m->to_stream : IR_NONE;
    case IR_NODE_BORDER:
        return f->s->sets.at[n->set].class_id == f->class_id ? n->stream : IR_NONE;
    case IR_NODE_RUN:
        return f->s->sets.at[n->set].class_id == f->class_id ? ring_stream(f->s, n) : IR_NONE;
    case IR_NODE_REDUCE:
    case IR_NODE_REDUCE_COPIES:
    case IR_NODE_GATHER:
    case IR_NODE_GATHER_COPIES:
        return holds(f->s, n->what, f->class_id) ? n->stream : IR_NONE;
    case IR_NODE_SCALARS:
        return f->s->ranks > 1 ? 0 : IR_NONE;
    default:
        return IR_NONE;
    }
}

static void count(struct fit *f)
{
    const struct sched *s = f->s;
    for (uint32_t i = 0; i < f->list->dag.nodes.n; i++) {
        const struct ir_node *n = &f->list->dag.nodes.at[i];
        uint32_t stream = stream_in(f, n);
        if (stream == IR_NONE)
            continue;
        f->turns[stream].calls++;
        f->collective[stream] |= n->kind != IR_NODE_MOVE;
    }
    for (uint32_t i = 0; i < s->streams.n; i++) {
        uint32_t asked;
        int32_t priority;
        stream_resources(s, i, &asked, &priority);
        f->turn_of[i] = i;
        f->turns[i].ctas = f->turns[i].calls ? ir_target_ctas(s->in->target, asked, f->collective[i]) : 0;
        f->turns[i].last = IR_NONE;
    }
}

static uint32_t sum(const struct fit *f)
{
    uint32_t ctas = 0;
    for (uint32_t i = 0; i < f->s->streams.n; i++)
        ctas += f->turns[i].joined ? 0 : f->turns[i].ctas;
    return ctas;
}

/* The turn with the fewest calls but for `other`; IR_NONE: there is no more. */
static uint32_t least(const struct fit *f, uint32_t other)
{
    uint32_t found = IR_NONE;
    for (uint32_t i = 0; i < f->s->streams.n; i++)
        if (i != other && f->turns[i].calls && !f->turns[i].joined &&
            (found == IR_NONE || f->turns[i].calls < f->turns[found].calls))
            found = i;
    return found;
}

static void join(struct fit *f, uint32_t a, uint32_t b)
{
    const struct sched *s = f->s;
    if (s->in->dump)
        fprintf(s->in->dump,
                "fit: %s, rank class %u: streams request %u thread blocks at once, the device fits %u: \"%s\" (%u) and "
                "\"%s\" (%u) take turns\n",
                f->list->name, f->class_id, sum(f), smallest(s), s->streams.at[a], f->turns[a].ctas, s->streams.at[b],
                f->turns[b].ctas);
    f->turns[a].calls += f->turns[b].calls;
    f->turns[a].ctas = f->turns[a].ctas > f->turns[b].ctas ? f->turns[a].ctas : f->turns[b].ctas;
    f->turns[b].joined = true;
    for (uint32_t i = 0; i < s->streams.n; i++)
        if (f->turn_of[i] == b)
            f->turn_of[i] = a;
}

static void add_edges(struct fit *f)
{
    struct ir_dag *d = &f->list->dag;
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        uint32_t node = f->list->order[i], stream = stream_in(f, &d->nodes.at[node]);
        if (stream == IR_NONE)
            continue;
        struct turn *l = &f->turns[f->turn_of[stream]];
        if (l->last != IR_NONE && l->on != stream)
            ir_dag_edge(d, l->last, node, IR_EDGE_AFTER, 0);
        l->last = node;
        l->on = stream;
    }
}

static enum status refuse(const struct sched *s, uint32_t stream, uint32_t ctas, struct err *e)
{
    for (uint32_t i = 0; i < s->directives.n; i++)
        if (s->directives.at[i].kind == &directive_stream && s->directives.at[i].max_ctas == ctas)
            return js_wrong(&s->directives.at[i].js, e,
                            "max_ctas %u: the smallest device of this job (%s) runs %u thread blocks of a "
                            "communication at once; request fewer",
                            ctas, s->in->target->name, smallest(s));
    return err_set(e, ST_BUG, s->in->strategy_name, "stream \"%s\" cannot have %u thread blocks", s->streams.at[stream],
                   ctas);
}

static enum status fit_class(struct fit *f, struct err *e)
{
    const struct sched *s = f->s;
    uint32_t most = smallest(s);
    bool any = false;
    memset(f->turns, 0, s->streams.n * sizeof *f->turns);
    memset(f->collective, 0, s->streams.n);
    count(f);
    for (uint32_t i = 0; i < s->streams.n; i++)
        if (f->turns[i].ctas > most)
            return refuse(s, i, f->turns[i].ctas, e);
    while (sum(f) > most) {
        uint32_t a = least(f, IR_NONE), b = least(f, a);
        join(f, a < b ? a : b, a < b ? b : a);
        any = true;
    }
    if (any)
        add_edges(f);
    return ST_OK;
}

static enum status fit_list(struct sched *s, struct list_plan *list, struct err *e)
{
    struct fit f = { .s = s, .list = list };
    uint32_t edges = list->dag.edges.n;
    enum status st = ST_OK;
    f.turns = mem_alloc(s->streams.n * sizeof *f.turns);
    f.turn_of = mem_alloc(s->streams.n * sizeof *f.turn_of);
    f.collective = mem_alloc(s->streams.n);
    for (f.class_id = 0; f.class_id < s->classes.n && st == ST_OK; f.class_id++)
        st = fit_class(&f, e);
    mem_free(f.turns);
    mem_free(f.turn_of);
    mem_free(f.collective);
    if (list->dag.edges.n != edges)
        ir_dag_link(&list->dag);
    return st;
}

enum status pass_fit(struct sched *s, struct err *e)
{
    if (!smallest(s))
        return ST_OK;
    TRY(fit_list(s, &s->train, e));
    return s->in->eval ? fit_list(s, &s->eval, e) : ST_OK;
}
