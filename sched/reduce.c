/* Gradient reductions and the end of the step.
 *
 * pass_reduce: the gradients of a bucket with more than one holder are reduced once, after the last backward that adds to
 * them, or ("reduce":"each") once per microbatch. With zero_group that is within a group; then, once a step, the shards are reduced over
 * their copies. pass_update: sum of squares per bucket, the all-reduce of the step's scalars
 * (the norm counts each parameter once), and the update of every bucket. With clipping the norm is a barrier: updates wait
 * for the scalars, and the DAG says so. State (sched/buckets.c) has neither gradients nor a share of the norm; what moves it is
 * among the scalars, so its update waits for them always. */
#include "sched/passes.h"

/* Buckets of every sub-chunk: those of sub-chunk i are buckets.at[first[i]] .. first[i + 1]. */
struct uses {
    uint32_t *first;
    struct {
        VEC(uint32_t);
    } buckets;
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

static void release_uses(struct uses *u)
{
    mem_free(u->first);
    vec_free(&u->buckets);
}

/* Edges from every node that writes gradients of a bucket to the node of this bucket and microbatch, if it has one:
 * target[bucket * m + mb]. */
static void edges_from_backwards(const struct sched *s, struct ir_dag *d, const uint32_t *target)
{
    struct uses u;
    find_uses(s, &u);
    for (uint32_t i = 0, n = d->nodes.n; i < n; i++) {
        struct ir_node node = d->nodes.at[i];
        if (node.kind != IR_NODE_RUN || (node.pass != IR_PASS_B && node.pass != IR_PASS_BW))
            continue;
        for (uint32_t k = u.first[node.what]; k < u.first[node.what + 1]; k++) {
            uint32_t to = target[u.buckets.at[k] * s->microbatches + node.mb];
            if (to != IR_NONE)
                ir_dag_edge(d, i, to, IR_EDGE_AFTER, 0);
        }
    }
    release_uses(&u);
}

static uint32_t bucket_node(struct ir_dag *d, enum ir_node_kind kind, uint32_t bucket, uint32_t mb, uint32_t stream)
{
    return ir_dag_node(d, (struct ir_node){ .kind = (uint8_t)kind,
                                            .pass = IR_PASS_NONE,
                                            .mb = (uint16_t)mb,
                                            .what = bucket,
                                            .set = IR_NO_SET,
                                            .stream = (uint16_t)stream });
}

/* Behind all reductions of a bucket within its groups: target[bucket * m + mb]. */
static void reduce_copies(struct sched *s, const uint32_t *target)
{
    struct ir_dag *d = &s->train.dag;
    const uint32_t m = s->microbatches;
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        const struct bucket *k = &s->buckets.at[b];
        if (!bucket_has_copies(k) || k->rule != PLAN_RULE_OPTIMIZER)
            continue;
        uint32_t copies = bucket_node(d, IR_NODE_REDUCE_COPIES, b, IR_NO_MB, k->reduce_stream);
        for (uint32_t mb = 0; mb < (k->reduce_each ? m : 1); mb++)
            ir_dag_edge(d, target[b * m + mb], copies, IR_EDGE_AFTER, 0);
    }
}

enum status pass_reduce(struct sched *s, struct err *e)
{
    (void)e;
    uint32_t m = s->microbatches, *target = mem_alloc(((size_t)s->buckets.n * m + 1) * sizeof *target);
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        const struct bucket *k = &s->buckets.at[b];
        for (uint32_t mb = 0; mb < m; mb++) {
            if (k->holders < 2 || k->rule != PLAN_RULE_OPTIMIZER)
                target[b * m + mb] = IR_NONE;
            else if (k->reduce_each || !mb)
                target[b * m + mb] = bucket_node(&s->train.dag, IR_NODE_REDUCE, b, k->reduce_each ? mb : IR_NO_MB,
                                                 k->reduce_stream);
            else
                target[b * m + mb] = target[b * m];
        }
    }
    edges_from_backwards(s, &s->train.dag, target);
    reduce_copies(s, target);
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
    uint32_t scalars = ir_dag_node(
        d, (struct ir_node){ .kind = IR_NODE_SCALARS, .pass = IR_PASS_NONE, .mb = IR_NO_MB, .set = IR_NO_SET });
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_node *node = &d->nodes.at[i];
        if (node->kind == IR_NODE_RUN && node->pass == IR_PASS_F && adds_scalars(s, &s->chunks.subs.at[node->what]))
            ir_dag_edge(d, i, scalars, IR_EDGE_AFTER, 0);
    }
    return scalars;
}

enum status pass_update(struct sched *s, struct err *e)
{
    (void)e;
    struct ir_dag *d = &s->train.dag;
    uint32_t m = s->microbatches, first = d->nodes.n;
    if (s->in->eval)
        scalars_node(s, &s->eval.dag);
    uint32_t *direct = mem_alloc(((size_t)s->buckets.n * m + 1) * sizeof *direct); /* of buckets that nothing reduces */
    uint32_t *sumsq = mem_alloc((s->buckets.n + 1) * sizeof *sumsq);
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        const struct bucket *k = &s->buckets.at[b];
        sumsq[b] = k->rule == PLAN_RULE_OPTIMIZER ? bucket_node(d, IR_NODE_SUMSQ, b, IR_NO_MB, 0) : IR_NONE;
        for (uint32_t mb = 0; mb < m; mb++)
            direct[b * m + mb] = k->holders < 2 ? sumsq[b] : IR_NONE;
    }
    for (uint32_t i = 0; i < first; i++) {
        const struct ir_node n = d->nodes.at[i];
        if (n.kind == IR_NODE_REDUCE_COPIES || (n.kind == IR_NODE_REDUCE && !bucket_has_copies(&s->buckets.at[n.what])))
            ir_dag_edge(d, i, sumsq[n.what], IR_EDGE_AFTER, 0);
    }
    edges_from_backwards(s, d, direct);
    uint32_t scalars = scalars_node(s, d);
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        if (sumsq[b] != IR_NONE)
            ir_dag_edge(d, sumsq[b], scalars, IR_EDGE_AFTER, 0);
        if (s->buckets.at[b].rule == PLAN_RULE_FROZEN)
            continue;
        uint32_t update = bucket_node(d, IR_NODE_UPDATE, b, IR_NO_MB, 0);
        ir_dag_edge(d, s->in->clip || sumsq[b] == IR_NONE ? scalars : sumsq[b], update, IR_EDGE_AFTER, 0);
    }
    mem_free(direct);
    mem_free(sumsq);
    return ST_OK;
}
