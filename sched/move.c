/* Communication on data edges: sends and receives between device sets (piper-strategy(5), place), and what the borders of sharded
 * regions need (shard): all-to-alls of experts, gathers and sums where a value changes its layout.
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
    uint8_t how;    /* borders: enum ir_how */
    uint8_t layout; /* borders: enum ir_layout of what the node gives */
};

static int by_key(const void *pa, const void *pb)
{
    const struct crossing *a = pa, *b = pb;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    if (a->tensor != b->tensor)
        return a->tensor < b->tensor ? -1 : 1;
    if (a->how != b->how)
        return a->how < b->how ? -1 : 1;
    if (a->layout != b->layout)
        return a->layout < b->layout ? -1 : 1;
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
    return n->kind == IR_NODE_RUN ? s->shard_of[s->chunks.subs.at[n->what].chunk * s->microbatches + n->mb] : IR_NONE;
}

/* The layout of a tensor, or of its gradient, at an end of an edge. */
static enum ir_layout layout_at(const struct mover *m, uint32_t node, uint32_t tensor, bool grad)
{
    const struct ir_node *n = &m->d->nodes.at[node];
    switch ((enum ir_node_kind)n->kind) {
    case IR_NODE_RUN: {
        enum ir_layout l = side_layout(m->s, &m->s->chunks.subs.at[n->what], tensor);
        return grad ? side_dual(l) : l;
    }
    case IR_NODE_LOAD:
        return (enum ir_layout)n->stream;
    case IR_NODE_SUM:
        return (enum ir_layout)m->d->sums.at[n->what].layout;
    case IR_NODE_BORDER:
    case IR_NODE_TURN:
        return (enum ir_layout)m->d->moves.at[n->what].layout;
    default:
        return IR_LAYOUT_TOKENS;
    }
}

static struct ir_node send_node(struct mover *moving, uint32_t from, uint32_t to, struct ir_move *m)
{
    struct sched *s = moving->s;
    const struct ir_node *a = &moving->d->nodes.at[from], *b = &moving->d->nodes.at[to];
    uint16_t stream = lane(moving, s->stream_of[chunk_at(s, a)], m);
    m->to_stream = lane(moving, s->stream_of[chunk_at(s, b)], m);
    return (struct ir_node){ .kind = IR_NODE_MOVE,
                             .pass = (uint8_t)(m->grad ? IR_PASS_B : IR_PASS_F),
                             .mb = a->mb,
                             .set = a->set,
                             .stream = stream };
}

/* The end of an edge that lies in the region whose border it crosses. The other one may be a message, which is of two device sets. */
static const struct ir_node *inside_of(const struct mover *moving, const struct ir_edge *e, bool rows, bool leaves)
{
    const struct ir_node *a = &moving->d->nodes.at[e->from], *b = &moving->d->nodes.at[e->to];
    const struct ir_node *inside = (rows ? region_of(moving->s, a) != IR_NONE : leaves) ? a : b;
    CHECK(inside->kind == IR_NODE_RUN);
    return inside;
}

/* first: one of the edges that cross, as pass_build made it. */
static struct ir_node border_node(struct mover *moving, const struct ir_edge *first, bool leaves, struct ir_move *m)
{
    struct sched *s = moving->s;
    const bool rows = m->how == IR_HOW_ROWS;
    const struct ir_node *inside = inside_of(moving, first, rows, leaves);
    const struct ir_sub *sub = &s->chunks.subs.at[inside->what];
    m->shard = rows ? region_of(s, inside) : s->sides[s->chunks.ops.at[sub->first_op]].directive;
    m->sub = m->how == IR_HOW_HEADS ? inside->what : 0;
    m->inward = rows && region_of(s, &moving->d->nodes.at[first->to]) != IR_NONE;
    uint32_t stream = s->directives.at[m->shard].stream;
    return (struct ir_node){ .kind = IR_NODE_BORDER,
                             .pass = (uint8_t)(m->grad ? IR_PASS_B : IR_PASS_F),
                             .mb = inside->mb,
                             .set = inside->set,
                             .stream = (uint16_t)stream,
                             /* on the stream of compute nothing can run beside it */
                             .cost = stream ? 1 : 0 };
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
            if (e->kind != IR_EDGE_TENSOR || a->kind != IR_NODE_BORDER || b->kind != IR_NODE_RUN ||
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

/* A node of compute on the devices of another one, and of its microbatch. */
static uint32_t node_beside(struct ir_dag *d, const struct ir_node *n, enum ir_node_kind kind, uint32_t what)
{
    return ir_dag_node(
        d, (struct ir_node){
               .kind = (uint8_t)kind, .pass = IR_PASS_NONE, .mb = n->mb, .what = what, .set = n->set, .cost = 0.01f });
}

static uint32_t sum_node(struct ir_dag *d, const struct crossing *crossing, uint32_t n, enum ir_layout layout)
{
    vec_add(&d->sums, ((struct ir_sum){ crossing[0].tensor, n, layout }));
    const struct ir_node giver = d->nodes.at[d->edges.at[crossing[0].edge].from];
    uint32_t sum = node_beside(d, &giver, IR_NODE_SUM, d->sums.n - 1);
    for (uint32_t i = 0; i < n; i++)
        ir_dag_edge(d, d->edges.at[crossing[i].edge].from, sum, IR_EDGE_GRAD, crossing[0].tensor);
    return sum;
}

/* The same value in blocks by heads, or in rows again, beside the exchange of these. */
static uint32_t turn_node(struct ir_dag *d, const struct ir_node *exchange, uint32_t from, const struct ir_move *m,
                          enum ir_layout layout)
{
    struct ir_move turned = *m;
    turned.layout = (uint8_t)layout;
    vec_add(&d->moves, turned);
    uint32_t node = node_beside(d, exchange, IR_NODE_TURN, d->moves.n - 1);
    ir_dag_edge(d, from, node, m->grad ? IR_EDGE_GRAD : IR_EDGE_TENSOR, m->tensor);
    return node;
}

/* Values between device sets; out of layouts that are to be summed, or have heads of all tokens; into those that a reader needs. In this order: such a
 * layout becomes own tokens first. */
enum round { ROUND_SETS, ROUND_LEAVE, ROUND_ENTER };

/* One group of crossing edges of the same value: forward, every reader takes it from the new node; backward, that carries the
 * sum, and all but the first of the old edges go away (they become order that holds anyway). */
static void move_group(struct mover *m, const struct crossing *crossing, uint32_t n, enum round round)
{
    struct ir_dag *d = m->d;
    const struct ir_edge first = d->edges.at[crossing[0].edge];
    bool grad = first.kind == IR_EDGE_GRAD;
    uint32_t from = first.from;
    struct ir_move x = { .tensor = crossing->tensor,
                         .grad = grad,
                         .from_set = d->nodes.at[from].set,
                         .to_set = d->nodes.at[first.to].set,
                         .how = crossing->how,
                         .layout = crossing->layout };
    enum ir_layout given = round == ROUND_SETS ? IR_LAYOUT_TOKENS : layout_at(m, from, x.tensor, grad);
    if (grad && n > 1)
        from = sum_node(d, crossing, n, given);
    const struct ir_node node = round == ROUND_SETS ? send_node(m, from, first.to, &x)
                                                    : border_node(m, &first, round == ROUND_LEAVE, &x);
    if (round != ROUND_SETS)
        x.from_set = x.to_set = node.set;
    const bool heads = round != ROUND_SETS && x.how == IR_HOW_HEADS;
    if (heads && round == ROUND_ENTER)
        from = turn_node(d, &node, from, &x, IR_LAYOUT_BLOCKS);
    if (heads && round == ROUND_LEAVE)
        x.layout = IR_LAYOUT_BLOCKS;
    vec_add(&d->moves, x);
    uint32_t move = ir_dag_node(d, node);
    d->nodes.at[move].what = d->moves.n - 1;
    ir_dag_edge(d, from, move, grad ? IR_EDGE_GRAD : IR_EDGE_TENSOR, crossing[0].tensor);
    if (heads && round == ROUND_LEAVE)
        move = turn_node(d, &node, move, &x, (enum ir_layout)crossing->layout);
    for (uint32_t i = 0; i < n; i++) {
        struct ir_edge *e = &d->edges.at[crossing[i].edge];
        e->from = move;
        if (grad && i)
            e->kind = IR_EDGE_AFTER;
    }
}

/* How a value leaves a layout that is to be summed or has heads of all tokens, or enters another one; false: it need not in this round. */
static bool changes_layout(const struct mover *m, const struct ir_edge *e, enum round round, struct crossing *x)
{
    bool grad = e->kind == IR_EDGE_GRAD;
    enum ir_layout given = layout_at(m, e->from, e->value, grad), taken = layout_at(m, e->to, e->value, grad);
    bool terms = given == IR_LAYOUT_TERMS || given == IR_LAYOUT_KEY_TERMS, heads = given == IR_LAYOUT_HEADS;
    if (given == taken || given == IR_LAYOUT_BLOCKS || (terms || heads) != (round == ROUND_LEAVE))
        return false; /* (blocks are on their way to what turns them) */
    x->layout = (uint8_t)taken;
    if (terms) {
        x->how = given == IR_LAYOUT_TERMS ? IR_HOW_SUM : IR_HOW_KEY_SUM;
        x->layout = given == IR_LAYOUT_KEY_TERMS && taken == IR_LAYOUT_COLUMNS ? IR_LAYOUT_COLUMNS : IR_LAYOUT_TOKENS;
    } else if (heads || taken == IR_LAYOUT_HEADS) {
        CHECK(heads || given == IR_LAYOUT_TOKENS || given == IR_LAYOUT_COLUMNS);
        x->how = IR_HOW_HEADS;
        x->layout = heads && taken != IR_LAYOUT_COLUMNS ? IR_LAYOUT_TOKENS : (uint8_t)taken;
    } else {
        CHECK(taken == IR_LAYOUT_WHOLE || taken == IR_LAYOUT_KEYS);
        x->how = taken == IR_LAYOUT_WHOLE ? IR_HOW_GATHER : IR_HOW_KEYS;
    }
    return true;
}

/* Does this edge need communication in this round? Moves first: then the sides of every other edge are on one set. */
static bool crosses(const struct mover *m, const struct ir_edge *e, enum round round, struct crossing *x)
{
    const struct ir_node *a = &m->d->nodes.at[e->from], *b = &m->d->nodes.at[e->to];
    *x = (struct crossing){ .tensor = e->value, .edge = (uint32_t)(e - m->d->edges.at) };
    if (e->kind != IR_EDGE_TENSOR && e->kind != IR_EDGE_GRAD)
        return false;
    x->key = e->kind == IR_EDGE_TENSOR ? (uint64_t)e->from << 17 | b->set : (uint64_t)e->to << 17 | 1u << 16 | a->set;
    if (round == ROUND_SETS)
        return a->set != b->set;
    if (round == ROUND_ENTER && region_of(m->s, a) != region_of(m->s, b))
        return true;
    return m->s->sides && changes_layout(m, e, round, x);
}

static bool same_value(const struct crossing *a, const struct crossing *b)
{
    return a->key == b->key && a->tensor == b->tensor && a->how == b->how && a->layout == b->layout;
}

static void move_list(struct sched *s, struct ir_dag *d, enum round round)
{
    struct mover m = { .s = s, .d = d, .lanes.first = mem_alloc((s->classes.n + 1) * sizeof *m.lanes.first) };
    struct {
        VEC(struct crossing);
    } found = { 0 };
    for (uint32_t i = 0; i < d->edges.n; i++) {
        struct crossing x;
        if (crosses(&m, &d->edges.at[i], round, &x))
            vec_add(&found, x);
    }
    if (found.n)
        qsort(found.at, found.n, sizeof *found.at, by_key);
    for (uint32_t i = 0, n; i < found.n; i += n) {
        for (n = 1; i + n < found.n && same_value(&found.at[i + n], &found.at[i]);)
            n++;
        move_group(&m, found.at + i, n, round);
    }
    vec_free(&found);
    vec_free(&m.lanes);
    mem_free(m.lanes.first);
}

enum status pass_move(struct sched *s, struct err *e)
{
    (void)e;
    move_list(s, &s->train.dag, ROUND_SETS);
    if (s->in->eval)
        move_list(s, &s->eval.dag, ROUND_SETS);
    return ST_OK;
}

static void border_list(struct sched *s, struct ir_dag *d)
{
    if (s->sides)
        move_list(s, d, ROUND_LEAVE);
    move_list(s, d, ROUND_ENTER);
    order_after_counts(s, d);
}

enum status pass_border(struct sched *s, struct err *e)
{
    (void)e;
    border_list(s, &s->train.dag);
    if (s->in->eval)
        border_list(s, &s->eval.dag);
    return ST_OK;
}
