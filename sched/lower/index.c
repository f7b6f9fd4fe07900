/* Lowering: what is known of a list before any class is lowered. Which nodes concern a class, in the global order; which forward
 * and which backward belong to a run. So a class costs what it does, and not what the job has. */
#include "sched/lower/lower.h"

/* Calls back with every class that a node concerns. */
static void each_class(const struct sched *s, const struct ir_dag *d, const struct ir_node *n,
                       void (*found)(void *to, uint32_t class_id), void *to)
{
    const struct ir_move *m;
    const struct bucket *b;
    uint32_t from, into;
    switch ((enum ir_node_kind)n->kind) {
    case IR_NODE_LOAD:
    case IR_NODE_RUN:
    case IR_NODE_SUM:
    case IR_NODE_BORDER:
    case IR_NODE_TURN:
    case IR_NODE_AGAIN:
        found(to, class_of_set(s, n->set));
        return;
    case IR_NODE_MOVE:
        m = &d->moves.at[n->what];
        from = class_of_set(s, m->from_set);
        into = class_of_set(s, m->to_set);
        found(to, from);
        if (into != from)
            found(to, into);
        return;
    case IR_NODE_REDUCE:
    case IR_NODE_REDUCE_COPIES:
    case IR_NODE_GATHER:
    case IR_NODE_GATHER_COPIES:
    case IR_NODE_SUMSQ:
    case IR_NODE_UPDATE:
        b = &s->buckets.at[n->what];
        for (uint32_t k = 0; k < b->n_classes; k++)
            found(to, s->bucket_classes.at[b->first_class + k]);
        return;
    default:
        for (uint32_t c = 0; c < s->classes.n; c++)
            found(to, c);
    }
}

static void count_class(void *to, uint32_t class_id)
{
    ((uint32_t *)to)[class_id + 1]++;
}

struct filler {
    uint32_t *next; /* by class */
    uint32_t *nodes, node;
};

static void add_to_class(void *to, uint32_t class_id)
{
    struct filler *f = to;
    f->nodes[f->next[class_id]++] = f->node;
}

/* For every run of a sub-chunk: its forward, and the backward (B or BI) where gradient parts enter. For a dispatch that runs again: its
 * forward. */
static void find_partners(const struct ir_dag *d, struct list_index *index)
{
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[i];
        if (n->kind == IR_NODE_AGAIN) /* the first edge that enters comes from there */
            index->forward_of[i] = lower_giver(d, i);
        if (n->kind != IR_NODE_RUN)
            continue;
        if (n->pass == IR_PASS_F)
            index->forward_of[i] = i;
        else if (n->pass != IR_PASS_BW)
            index->backward_of[i] = i;
        for (uint32_t k = d->out_first[i]; k < d->out_first[i + 1]; k++) {
            const struct ir_edge *e = &d->edges.at[d->out_edge[k]];
            const struct ir_node *to = &d->nodes.at[e->to];
            if (e->kind != IR_EDGE_AFTER || to->kind != IR_NODE_RUN || to->what != n->what || to->mb != n->mb)
                continue;
            if (n->pass == IR_PASS_F) {
                index->backward_of[i] = e->to;
                index->forward_of[e->to] = i;
            } else {
                index->backward_of[e->to] = i;
            }
        }
    }
    for (uint32_t i = 0; i < d->nodes.n; i++)
        if (d->nodes.at[i].kind == IR_NODE_RUN && d->nodes.at[i].pass == IR_PASS_BW)
            index->forward_of[i] = index->forward_of[index->backward_of[i]];
}

void lower_index_list(const struct sched *s, const struct list_plan *list, struct list_index *index)
{
    const struct ir_dag *d = &list->dag;
    uint32_t classes = s->classes.n, n = d->nodes.n;
    index->first = mem_alloc((classes + 1) * sizeof *index->first);
    for (uint32_t i = 0; i < n; i++)
        each_class(s, d, &d->nodes.at[i], count_class, index->first);
    for (uint32_t c = 0; c < classes; c++)
        index->first[c + 1] += index->first[c];
    index->nodes = mem_alloc((index->first[classes] + 1) * sizeof *index->nodes);
    struct filler f = { mem_alloc((classes + 1) * sizeof *f.next), index->nodes, 0 };
    memcpy(f.next, index->first, classes * sizeof *f.next);
    for (uint32_t i = 0; i < n; i++) {
        f.node = list->order[i];
        each_class(s, d, &d->nodes.at[f.node], add_to_class, &f);
    }
    mem_free(f.next);
    index->forward_of = mem_alloc((n + 1) * sizeof *index->forward_of);
    index->backward_of = mem_alloc((n + 1) * sizeof *index->backward_of);
    find_partners(d, index);
}

void lower_index_release(struct list_index *index)
{
    mem_free(index->first);
    mem_free(index->nodes);
    mem_free(index->forward_of);
    mem_free(index->backward_of);
}
