/* Communication on data edges: sends and receives between device sets (piper-strategy(5), place), all-to-all at the border of
 * sharded regions (shard).
 *
 * Needs: the DAG of pass_build. Every edge that crosses is redirected through a node of communication, one per value and
 * destination; on equal sets a value is handed over. Gradient parts of one tensor that come from one side are summed
 * there first, so that exactly one tensor travels. Keeps the nodes; breaks the adjacency. */
#include <stdio.h>
#include <stdlib.h>

#include "sched/passes.h"

/* An edge that crosses, keyed so that edges that share a MOVE are neighbours after sorting. */
struct crossing {
    uint64_t key; /* forward: producer, destination set; gradient: receiving backward, source set */
    uint32_t tensor, edge;
};

static int by_key(const void *pa, const void *pb)
{
    const struct crossing *a = pa, *b = pb;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    if (a->tensor != b->tensor)
        return a->tensor < b->tensor ? -1 : 1;
    return (a->edge > b->edge) - (a->edge < b->edge);
}

/* Lanes ("pp*"): one stream per pair of device sets, direction and kind. */
struct lane {
    uint32_t stream, to_class;
    bool grad;
    uint16_t number; /* of its own stream */
    uint32_t next;   /* index + 1 of the next lane from the same class; 0: none */
};
struct lanes {
    uint32_t *first; /* by class: index + 1; 0: none */
    VEC(struct lane);
};

/* What is moved in a list. */
struct mover {
    struct sched *s;
    struct ir_dag *d;
    struct lanes lanes;
};

static uint16_t lane(struct mover *moving, uint32_t stream, const struct ir_move *m)
{
    struct sched *s = moving->s;
    struct lanes *lanes = &moving->lanes;
    const char *name = s->streams.at[stream];
    size_t n = strlen(name);
    if (!n || name[n - 1] != '*')
        return (uint16_t)stream;
    uint32_t from = s->sets.at[m->from_set].class_id, to = s->sets.at[m->to_set].class_id;
    for (uint32_t i = lanes->first[from]; i; i = lanes->at[i - 1].next) {
        const struct lane *l = &lanes->at[i - 1];
        if (l->stream == stream && l->to_class == to && l->grad == !!m->grad)
            return l->number;
    }
    const char *own = arena_printf(&s->arena, "%.*s.%c%u-%u", (int)(n - 1), name, m->grad ? 'b' : 'f', from, to);
    struct lane l = { stream, to, m->grad, (uint16_t)stream_number(s, own), lanes->first[from] };
    vec_add(lanes, l);
    lanes->first[from] = lanes->n;
    return l.number;
}

/* The chunk of a run. A sum runs where the backwards of its tensor's readers run: any chunk of that device set tells the
 * stream. */
static uint32_t chunk_at(const struct sched *s, const struct ir_node *n)
{
    if (n->kind == IR_NODE_RUN)
        return s->chunks.subs.at[n->what].chunk;
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++)
        if (s->set_of[c * s->microbatches + n->mb] == n->set)
            return c;
    CHECK(!"a device set has a chunk");
    return IR_NONE;
}

/* The shard directive of the region that a node belongs to, IR_NONE outside of all. */
static uint32_t region_of(const struct sched *s, const struct ir_node *n)
{
    return n->kind == IR_NODE_RUN ? s->shard_of[s->chunks.subs.at[n->what].chunk] : IR_NONE;
}

static uint32_t move_node(struct mover *moving, uint32_t from, uint32_t to, uint32_t tensor, bool grad)
{
    struct sched *s = moving->s;
    struct ir_dag *d = moving->d;
    struct ir_node a = d->nodes.at[from], b = d->nodes.at[to];
    struct ir_move m = { .tensor = tensor, .grad = grad, .from_set = a.set, .to_set = b.set };
    struct ir_node n = {
        .kind = IR_NODE_MOVE, .pass = (uint8_t)(grad ? IR_PASS_B : IR_PASS_F), .mb = a.mb, .set = a.set
    };
    uint32_t region = region_of(s, &a) != IR_NONE ? region_of(s, &a) : region_of(s, &b);
    if (a.set == b.set) {
        n.kind = IR_NODE_ALL_TO_ALL;
        n.stream = (uint16_t)s->directives.at[region].stream;
        n.cost = n.stream ? 1 : 0; /* on the stream of compute nothing can run beside it */
        m.shard = region;
        m.inward = region_of(s, &b) != IR_NONE;
    } else {
        n.stream = lane(moving, s->stream_of[chunk_at(s, &a)], &m);
        m.to_stream = lane(moving, s->stream_of[chunk_at(s, &b)], &m);
    }
    vec_add(&d->moves, m);
    n.what = d->moves.n - 1;
    return ir_dag_node(d, n);
}

/* Rows of a dropless region can travel once the counts are there: every all-to-all of a region that is not its counts comes
 * after the one that is. (Those of the backward come after the forward anyway.) */
static void order_after_counts(const struct sched *s, struct ir_dag *d)
{
    uint32_t *counts = mem_alloc(((size_t)s->chunks.chunks.n * s->microbatches + 1) * sizeof *counts);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0, n = d->edges.n; i < n; i++) {
            const struct ir_edge *e = &d->edges.at[i];
            const struct ir_node *a = &d->nodes.at[e->from], *b = &d->nodes.at[e->to];
            if (e->kind != IR_EDGE_TENSOR || a->kind != IR_NODE_ALL_TO_ALL || b->kind != IR_NODE_RUN ||
                !d->moves.at[a->what].inward)
                continue;
            uint32_t *at = &counts[s->chunks.subs.at[b->what].chunk * s->microbatches + b->mb];
            bool is_counts = s->g->tensors.at[e->value].shape.dtype == IR_I32;
            if (round == 0 && is_counts)
                *at = e->from;
            else if (round == 1 && !is_counts)
                ir_dag_edge(d, *at, e->from, IR_EDGE_AFTER, 0);
        }
    mem_free(counts);
}

static uint32_t sum_node(struct ir_dag *d, const struct crossing *crossing, uint32_t n)
{
    struct ir_node first = d->nodes.at[d->edges.at[crossing[0].edge].from];
    *vec_push(&d->sums) = (struct ir_sum){ crossing[0].tensor, n };
    uint32_t sum = ir_dag_node(d, (struct ir_node){ .kind = IR_NODE_SUM,
                                                    .pass = IR_PASS_NONE,
                                                    .mb = first.mb,
                                                    .what = d->sums.n - 1,
                                                    .set = first.set,
                                                    .cost = 0.01f });
    for (uint32_t i = 0; i < n; i++)
        ir_dag_edge(d, d->edges.at[crossing[i].edge].from, sum, IR_EDGE_GRAD, crossing[0].tensor);
    return sum;
}

/* One group of crossing edges of the same value: forward, every reader takes it from the MOVE; backward, the MOVE carries the
 * sum, and all but the first of the old edges go away (they become order that holds anyway). */
static void move_group(struct mover *m, const struct crossing *crossing, uint32_t n)
{
    struct ir_dag *d = m->d;
    struct ir_edge first = d->edges.at[crossing[0].edge];
    bool grad = first.kind == IR_EDGE_GRAD;
    uint32_t from = first.from;
    if (grad && n > 1)
        from = sum_node(d, crossing, n);
    uint32_t move = move_node(m, from, first.to, crossing[0].tensor, grad);
    ir_dag_edge(d, from, move, grad ? IR_EDGE_GRAD : IR_EDGE_TENSOR, crossing[0].tensor);
    for (uint32_t i = 0; i < n; i++) {
        struct ir_edge *e = &d->edges.at[crossing[i].edge];
        e->from = move;
        if (grad && i)
            e->kind = IR_EDGE_AFTER;
    }
}

/* Does this edge need communication in this pass? Moves first: then the sides of every other edge are on one set. */
static bool crosses(const struct sched *s, const struct ir_dag *d, const struct ir_edge *e, bool regions)
{
    const struct ir_node *a = &d->nodes.at[e->from], *b = &d->nodes.at[e->to];
    if (e->kind != IR_EDGE_TENSOR && e->kind != IR_EDGE_GRAD)
        return false;
    return regions ? region_of(s, a) != region_of(s, b) : a->set != b->set;
}

static void move_list(struct sched *s, struct ir_dag *d, bool regions)
{
    struct mover m = { .s = s, .d = d, .lanes.first = mem_alloc((s->classes.n + 1) * sizeof *m.lanes.first) };
    struct {
        VEC(struct crossing);
    } found = { 0 };
    for (uint32_t i = 0; i < d->edges.n; i++) {
        const struct ir_edge *e = &d->edges.at[i];
        const struct ir_node *a = &d->nodes.at[e->from], *b = &d->nodes.at[e->to];
        if (!crosses(s, d, e, regions))
            continue;
        uint64_t key = e->kind == IR_EDGE_TENSOR ? (uint64_t)e->from << 17 | b->set
                                                 : (uint64_t)e->to << 17 | 1u << 16 | a->set;
        vec_add(&found, ((struct crossing){ key, e->value, i }));
    }
    if (found.n)
        qsort(found.at, found.n, sizeof *found.at, by_key);
    for (uint32_t i = 0, n; i < found.n; i += n) {
        for (n = 1;
             i + n < found.n && found.at[i + n].key == found.at[i].key && found.at[i + n].tensor == found.at[i].tensor;)
            n++;
        move_group(&m, found.at + i, n);
    }
    vec_free(&found);
    vec_free(&m.lanes);
    mem_free(m.lanes.first);
    if (regions)
        order_after_counts(s, d);
}

enum status pass_move(struct sched *s, struct err *e)
{
    (void)e;
    move_list(s, &s->train.dag, false);
    if (s->in->eval)
        move_list(s, &s->eval.dag, false);
    return ST_OK;
}

enum status pass_all_to_all(struct sched *s, struct err *e)
{
    (void)e;
    move_list(s, &s->train.dag, true);
    if (s->in->eval)
        move_list(s, &s->eval.dag, true);
    return ST_OK;
}
