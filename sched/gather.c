/* Gathers of sharded parameters (piper-strategy(5), replicate, zero).
 *
 * Under zero 1 and 2 every holder has updated its part: pass_gather makes all of them whole again at the start of the next
 * step, in order of first use, under the first forwards. Where state is sharded over the copies of a shard too ("zero_optimizer":"all"),
 * a shard is made whole from its copies before, once a step. Under zero 3 a holder keeps its part only: pass_gather_use, which
 * needs the order of compute of a class, gathers a bucket before a pass that reads it; neighbouring passes of a bucket share
 * one gather; with prefetch n a gather is dispatched where the n-th gather before it is first used, so n+1 whole buckets are
 * alive. Nothing is gathered for BW: it reads no parameter, also where BI has computed the forward again. What a region of shared
 * sequences gathered for its forward is gathered again for its backward there too. */
#include "sched/passes.h"

static uint32_t gather_node(struct sched *s, struct ir_dag *d, uint32_t bucket, enum ir_node_kind kind)
{
    return ir_dag_node(d, (struct ir_node){ .kind = (uint8_t)kind,
                                            .pass = IR_PASS_NONE,
                                            .mb = IR_NO_MB,
                                            .what = bucket,
                                            .set = IR_NO_SET,
                                            .stream = (uint16_t)s->buckets.at[bucket].gather_stream });
}

/* Of the shard, from its copies; IR_NONE where each of them has updated all of it. */
static uint32_t gather_copies(struct sched *s, struct ir_dag *d, uint32_t bucket)
{
    return s->buckets.at[bucket].state_all ? gather_node(s, d, bucket, IR_NODE_GATHER_COPIES) : IR_NONE;
}

static bool uses_bucket(const struct sched *s, const struct ir_sub *sub, uint32_t bucket)
{
    for (uint32_t k = 0; k < sub->n_param; k++)
        if (s->bucket_of[s->chunks.params.at[sub->first_param + k]] == bucket)
            return true;
    return false;
}

static void gather_at_start(struct sched *s, struct ir_dag *d)
{
    uint32_t *node = mem_alloc((s->buckets.n + 1) * sizeof *node), n = d->nodes.n;
    uint32_t *told = mem_alloc((s->buckets.n + 1) * sizeof *told); /* the last node that has its edge, plus one */
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        node[b] = IR_NONE;
        if (!zero_gathers_at_start(s->buckets.at[b].zero) || s->buckets.at[b].rule == PLAN_RULE_FROZEN)
            continue;
        const uint32_t copies = gather_copies(s, d, b);
        node[b] = gather_node(s, d, b, IR_NODE_GATHER);
        if (copies != IR_NONE)
            ir_dag_edge(d, copies, node[b], IR_EDGE_AFTER, 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct ir_node x = d->nodes.at[i];
        if (x.kind != IR_NODE_RUN || x.pass != IR_PASS_F)
            continue;
        const struct ir_sub *sub = &s->chunks.subs.at[x.what];
        for (uint32_t k = 0; k < sub->n_param; k++) {
            uint32_t b = s->bucket_of[s->chunks.params.at[sub->first_param + k]];
            if (node[b] != IR_NONE && told[b] != i + 1)
                ir_dag_edge(d, node[b], i, IR_EDGE_AFTER, 0);
            told[b] = i + 1;
        }
    }
    mem_free(node);
    mem_free(told);
}

enum status pass_gather(struct sched *s, struct err *e)
{
    (void)e;
    gather_at_start(s, &s->train.dag);
    if (s->in->eval)
        gather_at_start(s, &s->eval.dag);
    return ST_OK;
}

/* ---- zero 3 --------------------------------------------------------------------------------------------------------- */

/* Does this pass of a sub-chunk read parameters of the bucket? */
static bool reads_bucket(const struct sched *s, const struct ir_node *n, uint32_t bucket)
{
    const struct ir_sub *sub = &s->chunks.subs.at[n->what];
    if (n->pass == IR_PASS_BW)
        return false;
    if (n->pass == IR_PASS_F || side_recomputes(s, sub, n->mb) || expert_rounds(s, sub->chunk))
        return uses_bucket(s, sub, bucket);
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[sub->first_op + i]];
        for (int k = 0; k < IR_MAX_PARAM; k++)
            if (op->param[k] != IR_NONE && ir_op_info[op->op].bi_reads & IR_PARAM(k) &&
                s->bucket_of[op->param[k]] == bucket)
                return true;
    }
    return false;
}

/* A run of passes that share one gather. */
struct use {
    uint32_t bucket, begin; /* begin: position in the class's compute order of its first pass */
    uint32_t node;
    uint32_t copies; /* node before it, which makes the shard whole; IR_NONE */
    uint32_t run;    /* of what a region gathers again: the first that reads it */
};
struct class_order {
    VEC(uint32_t); /* RUN nodes of the class in order */
};
struct uses3 {
    VEC(struct use);
};

/* Passes of one piece of a chunk, cut by regions, read its buckets in turns. */
static bool same_piece(const struct sched *s, const struct ir_node *a, const struct ir_node *b)
{
    return pass_seen(s, a) == pass_seen(s, b) && a->mb == b->mb &&
           s->chunks.subs.at[a->what].piece == s->chunks.subs.at[b->what].piece;
}

/* Uses of all buckets of a class by begin, with edges from their gathers. */
static void find_uses3(struct sched *s, struct ir_dag *d, const struct class_order *runs, struct uses3 *uses)
{
    uint32_t *last = mem_alloc((s->buckets.n + 1) * sizeof *last),
             *current = mem_alloc((s->buckets.n + 1) * sizeof *current);
    memset(last, 0xff, s->buckets.n * sizeof *last);
    uint32_t reader = 0; /* passes that read any bucket of zero 3, counted */
    uint32_t *run_of = mem_alloc((s->buckets.n + 1) * sizeof *run_of); /* that read it last */
    for (uint32_t i = 0; i < runs->n; i++) {
        const struct ir_node n = d->nodes.at[runs->at[i]];
        const struct ir_sub *sub = &s->chunks.subs.at[n.what];
        bool any = false;
        for (uint32_t k = 0; k < sub->n_param; k++) {
            uint32_t b = s->bucket_of[s->chunks.params.at[sub->first_param + k]];
            if (!zero_shards_params(s->buckets.at[b].zero) || last[b] == reader || !reads_bucket(s, &n, b))
                continue;
            bool goes_on = last[b] != IR_NONE && (last[b] + 1 == reader || same_piece(s, &n, &d->nodes.at[run_of[b]]));
            if (!goes_on) {
                const uint32_t copies = last[b] == IR_NONE ? gather_copies(s, d, b) : IR_NONE;
                current[b] = gather_node(s, d, b, IR_NODE_GATHER);
                vec_add(uses, ((struct use){ b, i, current[b], copies, IR_NONE }));
                if (copies != IR_NONE)
                    ir_dag_edge(d, copies, current[b], IR_EDGE_AFTER, 0);
            }
            ir_dag_edge(d, current[b], runs->at[i], IR_EDGE_AFTER, 0);
            last[b] = reader;
            run_of[b] = runs->at[i];
            any = true;
        }
        reader += any;
    }
    mem_free(last);
    mem_free(current);
    mem_free(run_of);
}

/* Where gather k of a class goes: before the first pass of the use `prefetch` before it. */
static uint32_t *dispatch_points(struct sched *s, const struct class_order *runs, const struct uses3 *uses)
{
    uint32_t *before = mem_alloc((uses->n + 1) * sizeof *before); /* RUN node */
    for (uint32_t k = 0; k < uses->n; k++) {
        uint32_t n = s->buckets.at[uses->at[k].bucket].prefetch;
        before[k] = runs->at[k >= n ? uses->at[k - n].begin : 0];
    }
    return before;
}

/* ---- what regions gather again ------------------------------------------------------------------------------------- */

/* Does this pass of a sub-chunk read a tensor that enters it? With recompute its forward runs again, in B or BI, which reads all. */
static bool reads_tensor(const struct sched *s, const struct ir_node *n, uint32_t tensor)
{
    const struct ir_sub *sub = &s->chunks.subs.at[n->what];
    bool bi = n->pass != IR_PASS_BW, bw = n->pass != IR_PASS_BI;
    if (bi && side_recomputes(s, sub, n->mb))
        return true;
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[sub->first_op + i]];
        uint32_t reads = bi ? ir_op_info[op->op].bi_reads : 0;
        if (bw && ir_op_runs((enum ir_op)op->op, &op->attrs, IR_PASS_BW))
            reads |= ir_op_info[op->op].bw_reads;
        for (int k = 0; k < IR_MAX_IN; k++)
            if (op->in[k] == tensor && reads & IR_IN(k))
                return true;
    }
    return false;
}

/* The gather of a forward, or of a backward before, for this value: IR_NONE where it comes without one. */
static uint32_t gather_before(const struct ir_dag *d, uint32_t run, enum ir_edge_kind kind, uint32_t tensor)
{
    for (uint32_t k = d->in_first[run]; k < d->in_first[run + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        const struct ir_node *from = &d->nodes.at[e->from];
        if (e->kind == kind && e->value == tensor && from->kind == IR_NODE_BORDER &&
            (d->moves.at[from->what].how == IR_HOW_GATHER || d->moves.at[from->what].how == IR_HOW_KEYS))
            return e->from;
    }
    return IR_NONE;
}

/* The run whose frames this one reads: of a backward its forward, of BW its BI. */
static uint32_t run_before(const struct ir_dag *d, uint32_t run)
{
    const struct ir_node *n = &d->nodes.at[run];
    for (uint32_t k = d->in_first[run]; k < d->in_first[run + 1]; k++) {
        const struct ir_edge *e = &d->edges.at[d->in_edge[k]];
        const struct ir_node *from = &d->nodes.at[e->from];
        if (e->kind == IR_EDGE_AFTER && from->kind == IR_NODE_RUN && from->what == n->what && from->mb == n->mb)
            return e->from;
    }
    CHECK(!"a backward has a forward");
    return IR_NONE;
}

/* Is a run of regions, or of experts: so long that a gather travels under it? What stands between these are norms and sums. */
static bool is_long(const struct sched *s, const struct ir_node *n)
{
    const struct ir_sub *sub = &s->chunks.subs.at[n->what];
    return s->sides[s->chunks.ops.at[sub->first_op]].directive != IR_NONE || expert_shard(s, sub->chunk) != IR_NONE;
}

/* What was gathered for `gather` is gathered once more, for run number i of the class. It starts when the last long run before that does:
 * so it takes the place of what was gathered for one before. */
static struct use gather_again(const struct sched *s, struct ir_dag *d, const struct class_order *runs, uint32_t i,
                               uint32_t gather, enum ir_edge_kind kind)
{
    const uint32_t run = runs->at[i];
    uint32_t begin = i - 1;
    while (begin > 0 && !is_long(s, &d->nodes.at[runs->at[begin]]))
        begin--;
    struct ir_node n = d->nodes.at[gather];
    const struct ir_move move = d->moves.at[n.what];
    const uint32_t giver = d->edges.at[d->in_edge[d->in_first[gather]]].from;
    vec_add(&d->moves, move);
    n.what = d->moves.n - 1;
    n.pass = d->nodes.at[run].pass;
    uint32_t again = ir_dag_node(d, n);
    ir_dag_edge(d, giver, again, kind, move.tensor);
    ir_dag_edge(d, again, run, kind, move.tensor);
    if (begin > 0)
        ir_dag_edge(d, runs->at[begin - 1], again, IR_EDGE_AFTER, 0);
    return (struct use){ IR_NONE, begin, again, IR_NONE, run };
}

/* What was gathered again for a run: its gather. */
static uint32_t gathered_for(const struct ir_dag *d, const struct uses3 *uses, uint32_t run, uint32_t tensor)
{
    for (uint32_t i = uses->n; i-- > 0;)
        if (uses->at[i].run == run && d->moves.at[d->nodes.at[uses->at[i].node].what].tensor == tensor)
            return uses->at[i].node;
    CHECK(!"what a backward reads was gathered for it");
    return IR_NONE;
}

/* Gathered tensors are given up by the pass that reads them ("keep":"part"), and gathered again for the backward, one ahead: so one more
 * of them is planned for. A BW that waits gathers what came for BI again; one that is the rest of a B reads
 * that. */
static void find_regathers(const struct sched *s, struct ir_dag *d, const struct class_order *runs, struct uses3 *uses)
{
    for (uint32_t i = 1; i < runs->n && s->sides; i++) {
        const uint32_t run = runs->at[i];
        const struct ir_node n = d->nodes.at[run];
        const struct ir_sub *sub = &s->chunks.subs.at[n.what];
        const uint32_t directive = s->sides[s->chunks.ops.at[sub->first_op]].directive;
        if (n.pass == IR_PASS_F || directive == IR_NONE || s->directives.at[directive].keep_whole)
            continue;
        uint32_t back = run_before(d, run), forward = n.pass == IR_PASS_BW ? run_before(d, back) : back;
        const bool rest = n.pass == IR_PASS_BW && pass_seen(s, &n) == IR_PASS_B;
        for (uint32_t k = 0; k < sub->n_in; k++) {
            uint32_t t = s->chunks.tensors.at[sub->first_in + k];
            uint32_t gather = gather_before(d, forward, IR_EDGE_TENSOR, t);
            if (gather == IR_NONE || !reads_tensor(s, &n, t))
                continue;
            if (rest && reads_tensor(s, &d->nodes.at[back], t))
                ir_dag_edge(d, gathered_for(d, uses, back, t), run, IR_EDGE_TENSOR, t);
            else
                vec_add(uses, gather_again(s, d, runs, i, gather, IR_EDGE_TENSOR));
        }
        for (uint32_t k = 0; k < sub->n_out && n.pass == IR_PASS_BW && !rest; k++) {
            uint32_t t = s->chunks.tensors.at[sub->first_out + k];
            uint32_t gather = gather_before(d, back, IR_EDGE_GRAD, t);
            if (gather != IR_NONE)
                vec_add(uses, gather_again(s, d, runs, i, gather, IR_EDGE_GRAD));
        }
    }
}

/* Appends what is gathered again to the uses, and to the points where they are dispatched. */
static uint32_t *add_points(uint32_t *before, const struct class_order *runs, struct uses3 *uses,
                            const struct uses3 *again)
{
    uint32_t *all = mem_alloc((uses->n + again->n + 1) * sizeof *all), n = uses->n;
    memcpy(all, before, n * sizeof *all);
    mem_free(before);
    for (uint32_t i = 0; i < again->n; i++) {
        all[n + i] = runs->at[again->at[i].begin];
        vec_add(uses, again->at[i]);
    }
    return all;
}

static void gather_for_use(struct sched *s, struct list_plan *list)
{
    struct ir_dag *d = &list->dag;
    uint32_t n = d->nodes.n;
    uint32_t *head = mem_alloc((n + 1) * sizeof *head); /* by node: its first gather, a linked list through next */
    memset(head, 0xff, n * sizeof *head);
    struct {
        VEC(uint32_t);
    } next = { 0 };
    struct class_order *runs_of = mem_alloc(s->classes.n * sizeof *runs_of);
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_node *node = &d->nodes.at[list->order[i]];
        if (node->kind == IR_NODE_RUN)
            vec_add(&runs_of[s->sets.at[node->set].class_id], list->order[i]);
    }
    for (uint32_t c = 0; c < s->classes.n; c++) {
        struct class_order *runs = &runs_of[c];
        struct uses3 uses = { 0 }, again = { 0 };
        find_uses3(s, d, runs, &uses);
        uint32_t *before = dispatch_points(s, runs, &uses);
        find_regathers(s, d, runs, &again);
        before = add_points(before, runs, &uses, &again);
        if (next.n < d->nodes.n - n)
            vec_grow(&next, d->nodes.n - n - next.n);
        for (uint32_t k = uses.n; k-- > 0;) {
            const uint32_t nodes[] = { uses.at[k].node, uses.at[k].copies }; /* from behind */
            for (int j = 0; j < 2 && nodes[j] != IR_NONE; j++) {
                next.at[nodes[j] - n] = head[before[k]];
                head[before[k]] = nodes[j];
            }
        }
        mem_free(before);
        vec_free(runs);
        vec_free(&uses);
        vec_free(&again);
    }
    mem_free(runs_of);
    uint32_t *order = mem_alloc((d->nodes.n + 1) * sizeof *order), at = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t g = head[list->order[i]]; g != IR_NONE; g = next.at[g - n])
            order[at++] = g;
        order[at++] = list->order[i];
    }
    CHECK(at == d->nodes.n);
    mem_free(list->order);
    list->order = order;
    mem_free(head);
    vec_free(&next);
    ir_dag_link(d);
}

enum status pass_gather_use(struct sched *s, struct err *e)
{
    (void)e;
    bool any = s->sides != NULL;
    for (uint32_t b = 0; b < s->buckets.n; b++)
        any = any || zero_shards_params(s->buckets.at[b].zero);
    if (any)
        gather_for_use(s, &s->train);
    if (any && s->in->eval)
        gather_for_use(s, &s->eval);
    return ST_OK;
}
