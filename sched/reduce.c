/* Gradient reductions and the end of the step.
 *
 * pass_reduce: a bucket with more than one holder is all-reduced once, after the last backward that adds to it. pass_update:
 * sum of squares per bucket, the all-reduce of the step's scalars (the norm counts each parameter once), and the update of
 * every bucket. With clipping the norm is a barrier: updates wait for the scalars, and the DAG says so. */
#include "sched/compile.h"

/* Edges from every node that writes gradients of the bucket's parameters. Users of a parameter are found by sub-chunk:
 * uses[sub] lists its buckets. */
struct uses {
    uint32_t *first; /* [subs + 1] */
    struct { VEC(uint32_t); } buckets;
};

static void find_uses(const struct sched *s, struct uses *u)
{
    *u = (struct uses){ .first = mem_alloc((s->chunks.subs.n + 1) * sizeof(uint32_t)) };
    for (uint32_t i = 0; i < s->chunks.subs.n; i++) {
        const struct ir_sub *sub = &s->chunks.subs.at[i];
        u->first[i] = u->buckets.n;
        for (uint32_t k = 0; k < sub->n_param; k++) {
            uint32_t b = s->bucket_of[s->chunks.params.at[sub->first_param + k]];
            bool have = false;
            for (uint32_t j = u->first[i]; j < u->buckets.n; j++)
                have = have || u->buckets.at[j] == b;
            if (!have)
                vec_add(&u->buckets, b);
        }
    }
    u->first[s->chunks.subs.n] = u->buckets.n;
}

static void edges_from_backwards(struct ir_dag *d, const struct uses *u, const uint32_t *target)
{
    for (uint32_t i = 0, n = d->nodes.n; i < n; i++) {
        struct ir_node x = d->nodes.at[i];
        if (x.kind != IR_NODE_RUN || (x.pass != IR_PASS_B && x.pass != IR_PASS_BW))
            continue;
        for (uint32_t k = u->first[x.what]; k < u->first[x.what + 1]; k++)
            if (target[u->buckets.at[k]] != IR_NONE)
                ir_dag_edge(d, i, target[u->buckets.at[k]], IR_EDGE_AFTER, 0);
    }
}

enum status pass_reduce(struct sched *s, struct err *e)
{
    (void)e;
    struct ir_dag *d = &s->train.dag;
    uint32_t *target = mem_alloc((s->buckets.n + 1) * sizeof *target);
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        target[b] = IR_NONE;
        if (s->buckets.at[b].holders > 1)
            target[b] = ir_dag_node(d, (struct ir_node){ .kind = IR_NODE_REDUCE,
                                                         .pass = IR_PASS_NONE,
                                                         .mb = IR_NO_MB,
                                                         .what = b,
                                                         .set = IR_NO_SET,
                                                         .stream = (uint16_t)s->buckets.at[b].reduce_stream });
        s->buckets.at[b].reduce_node = target[b];
    }
    struct uses u;
    find_uses(s, &u);
    edges_from_backwards(d, &u, target);
    mem_free(u.first);
    vec_free(&u.buckets);
    mem_free(target);
    return ST_OK;
}

/* Does a run of this sub-chunk add to the step's scalars? */
static bool adds_scalars(const struct sched *s, const struct ir_sub *sub)
{
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        uint32_t op = s->g->ops.at[s->chunks.ops.at[sub->first_op + i]].op;
        if (op == IR_OP_HEAD_LOSS || op == IR_OP_ROUTER || op == IR_OP_DISPATCH)
            return true;
    }
    return false;
}

static uint32_t scalars_node(struct sched *s, struct ir_dag *d)
{
    uint32_t n = d->nodes.n;
    uint32_t scalars = ir_dag_node(d, (struct ir_node){ .kind = IR_NODE_SCALARS,
                                                        .pass = IR_PASS_NONE,
                                                        .mb = IR_NO_MB,
                                                        .set = IR_NO_SET });
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_node *x = &d->nodes.at[i];
        if (x->kind == IR_NODE_RUN && x->pass == IR_PASS_F && adds_scalars(s, &s->chunks.subs.at[x->what]))
            ir_dag_edge(d, i, scalars, IR_EDGE_AFTER, 0);
    }
    return scalars;
}

enum status pass_update(struct sched *s, struct err *e)
{
    (void)e;
    if (s->in->eval)
        scalars_node(s, &s->eval.dag);
    struct ir_dag *d = &s->train.dag;
    uint32_t *sumsq = mem_alloc((s->buckets.n + 1) * sizeof *sumsq);
    uint32_t *direct = mem_alloc((s->buckets.n + 1) * sizeof *direct); /* sumsq of buckets that nothing reduces */
    struct ir_node at_end = { .pass = IR_PASS_NONE, .mb = IR_NO_MB, .set = IR_NO_SET };
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        at_end.kind = IR_NODE_SUMSQ;
        at_end.what = b;
        sumsq[b] = ir_dag_node(d, at_end);
        direct[b] = s->buckets.at[b].reduce_node == IR_NONE ? sumsq[b] : IR_NONE;
        if (s->buckets.at[b].reduce_node != IR_NONE)
            ir_dag_edge(d, s->buckets.at[b].reduce_node, sumsq[b], IR_EDGE_AFTER, 0);
    }
    struct uses u;
    find_uses(s, &u);
    edges_from_backwards(d, &u, direct);
    uint32_t scalars = scalars_node(s, d);
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        ir_dag_edge(d, sumsq[b], scalars, IR_EDGE_AFTER, 0);
        at_end.kind = IR_NODE_UPDATE;
        at_end.what = b;
        uint32_t update = ir_dag_node(d, at_end);
        ir_dag_edge(d, s->in->clip ? scalars : sumsq[b], update, IR_EDGE_AFTER, 0);
    }
    mem_free(u.first);
    vec_free(&u.buckets);
    mem_free(sumsq);
    mem_free(direct);
    return ST_OK;
}
