/* Stages of the model under a layout: kernels by cost_kernel(), exchanges by cost_alone(). What shapes have in common is computed once: a cut
 * for its stages on pipeline ranks, and for each a table for how devices share a microbatch. */
#include "sched/cost/bound_private.h"

#include <math.h>

/* ---- kernels -------------------------------------------------------------------------------------------------------- */

/* The greatest speed among the points of a kernel; 0: there are none. */
static double fastest(const struct machine *m, const struct cost_kernel *k)
{
    double most = 0;
    for (uint32_t i = 0; i < m->points.n; i++) {
        const struct machine_point *p = &m->points.at[i];
        if (p->kind == k->op && p->pass == k->pass && p->dtype == k->compute)
            most = fmax(most, p->work / p->seconds);
    }
    return most;
}

/* A device's part of an operator whose sequences n devices share: it has an n-th of the work at least, as some parts are done by several,
 * and is no faster than the fastest point. Rows of experts are not cut off by a capacity then. */
static double shared_seconds(const struct machine *m, const struct cost_kernel *k, uint32_t n)
{
    struct ir_attrs loose = *k->attrs;
    struct cost_kernel whole = *k;
    double work, other, width;
    cost_kernel_size(&whole, &work, &width);
    loose.capacity = 0;
    whole.attrs = &loose;
    if (k->attrs->capacity) {
        cost_kernel_size(&whole, &other, &width);
        work = fmin(work, other);
    }
    const double speed = fastest(m, k);
    if (speed > 0)
        return k->op == IR_OP_EXPERTS && !machine_by_flops(k->op) ? 0 : work / n / speed;
    if (machine_by_flops(k->op))
        return m->launch + work / n / m->flops[k->compute == IR_BF16];
    return m->launch + work / n / m->bandwidth;
}

static double kernel_seconds(const struct bound *b, const struct bound_share *s, uint32_t o, enum ir_pass pass)
{
    const struct ir_node_op *op = bound__op(b, o);
    const struct cost_kernel k = { .op = op->op,
                                   .pass = pass,
                                   .attrs = &op->attrs,
                                   .b = s->mb,
                                   .t = b->job.graph->seq_len,
                                   .ep = op->op == IR_OP_EXPERTS ? s->ep : 1,
                                   .compute = b->job.compute };
    if (!ir_op_runs((enum ir_op)op->op, &op->attrs, pass) || (pass == IR_PASS_BI && !b->ops[o].wanted) ||
        (pass == IR_PASS_BW && !b->ops[o].trains))
        return 0;
    return s->tp * s->cp > 1 ? shared_seconds(b->job.machine, &k, s->tp * s->cp) : cost_kernel(b->job.machine, &k);
}

/* ---- exchanges inside of a pass -------------------------------------------------------------------------------------- */

/* The least that a member of a group of n neighbours from `first` on sees, of groups one after the other: patterns of nodes repeat soon. */
static double least_of_groups(const struct bound *b, enum plan_op op, uint32_t first, uint32_t n, uint32_t groups,
                              double bytes)
{
    enum { MOST = 8 };
    uint32_t *ranks = mem_alloc(n * sizeof *ranks);
    double least = INFINITY;
    for (uint32_t g = 0; g < groups && g < MOST; g++) {
        for (uint32_t i = 0; i < n; i++)
            ranks[i] = first + g * n + i;
        least = fmin(least, cost_alone(b->job.machine, op, ranks, n, 0, bytes).seconds);
        least = fmin(least, cost_alone(b->job.machine, op, ranks, n, n - 1, bytes).seconds);
    }
    mem_free(ranks);
    return least;
}

/* Tokens to experts and back, balanced. With a capacity and shared sequences fewer may travel: no bytes are counted. */
static double expert_exchange(const struct bound *b, const struct bound_shape *s, uint32_t o, uint32_t first)
{
    const struct ir_attrs *a = &bound__op(b, o)->attrs;
    const uint32_t unit = bound__unit(s);
    double rows = a->capacity ? (double)a->experts * a->capacity : (double)b->job.graph->seq_len / unit * a->top_k;
    if (a->capacity && unit > 1)
        rows = 0;
    const double bytes = rows * bound__mb_size(b, s) * a->features * ir_dtype_size(IR_COMPUTE, b->job.compute) / s->ep;
    return 2 * least_of_groups(b, PLAN_ALL_TO_ALL_V, first, s->ep, s->dp * unit / s->ep, bytes);
}

/* What a region gathers, or sums: own tokens, so many features of each. */
static double region_exchange(const struct bound *b, const struct bound_shape *s, uint32_t features, uint32_t first)
{
    const double part = (double)bound__mb_size(b, s) * b->job.graph->seq_len / bound__unit(s) * features *
                        ir_dtype_size(IR_COMPUTE, b->job.compute);
    return features ? least_of_groups(b, PLAN_ALL_GATHER, first, s->tp, s->dp * s->cp, part) : 0;
}

/* Around an operator, in a forward; as much in a backward. */
static double exchange_seconds(const struct bound *b, const struct bound_shape *s, uint32_t o, uint32_t first)
{
    const struct bound_op *op = &b->ops[o];
    if (bound__op(b, o)->op == IR_OP_EXPERTS)
        return s->ep > 1 ? expert_exchange(b, s, o, first) : 0;
    if (s->tp == 1)
        return 0;
    const uint32_t gathered = op->gathers ? bound__op(b, bound__linear_behind(b, o, 0))->attrs.in_features : 0;
    return region_exchange(b, s, gathered, first) + region_exchange(b, s, op->sums, first);
}

/* ---- stages --------------------------------------------------------------------------------------------------------- */

static uint32_t stage_of(const struct bound *b, uint32_t op, uint32_t stages)
{
    if (!b->annotated)
        return ir_graph_stage(b->job.graph, op, stages);
    return bound__op(b, op)->tag[b->pp_tag] < 0 ? 0 : (uint32_t)bound__op(b, op)->tag[b->pp_tag];
}

uint32_t bound__stage_of_rank(const struct bound_shape *s, uint32_t rank, uint32_t i)
{
    if (bound__two_way(s))
        return i == 0 ? rank : i == 1 ? s->pp - 1 - rank : IR_NONE;
    if (i >= s->chunks)
        return IR_NONE;
    return bound__kind(s)->placement == PLACE_V && i ? 2 * s->pp - 1 - rank : i * s->pp + rank;
}

uint32_t bound__rank_of(const struct bound_shape *s, uint32_t stage)
{
    return bound__kind(s)->placement == PLACE_V && stage >= s->pp ? 2 * s->pp - 1 - stage : stage % s->pp;
}

/* Does the pass of the stage of operator o begin with what that of the stage before ends with? */
static void chain(const struct bound *b, const struct bound_share *share, const struct bound_stage *before,
                  struct bound_stage *at)
{
    const uint32_t from = bound__maker(b, at->first, 0);
    at->chained = from != IR_NONE && from + 1 == before->end && before->end == at->first;
    if (at->chained) {
        const struct ir_tensor *t = &b->job.graph->tensors.at[bound__op(b, at->first)->in[0]];
        at->input = (double)ir_shape_elements(&t->shape) *
                    ir_dtype_size((enum ir_dtype)t->shape.dtype, b->job.compute) * share->mb / (share->tp * share->cp);
    }
}

static void add_op(const struct bound *b, const struct bound_cut *cut, const struct bound_table *table, uint32_t o)
{
    struct bound_stage *at = &table->stages[cut->stage_of[o]];
    const double *t = table->seconds[b->ops[o].like];
    const bool hides = b->ops[o].beside && (table->share.ep > 1 || table->share.tp > 1);
    bool reads = at->first == IR_NONE;
    for (int i = 0; i < IR_MAX_IN && !reads; i++) {
        const uint32_t from = bound__maker(b, o, i);
        reads = from != IR_NONE && cut->stage_of[from] == cut->stage_of[o];
    }
    at->branches |= !reads;
    at->f += t[0];
    at->bi += t[1];
    at->bw += t[2];
    at->serial_f += hides ? 0 : t[0];
    at->serial_bi += hides ? 0 : t[1];
    at->first = o < at->first ? o : at->first;
    at->end = o + 1;
}

/* What is exchanged inside of the passes. Groups that begin at the same place of a node, or of an island, see the same. */
static void add_exchanges(const struct bound *b, const struct bound_shape *s, const struct bound_cut *cut,
                          const struct bound_table *table)
{
    const struct machine *m = b->job.machine;
    const uint32_t span = m->ranks_per_node * (m->nodes_per_island ? m->nodes_per_island : 1);
    uint32_t like = IR_NONE, place = IR_NONE;
    double seconds = 0;
    for (uint32_t o = 0; o < b->job.graph->ops.n && (s->ep > 1 || s->tp > 1); o++) {
        const struct bound_op *op = &b->ops[o];
        if (!op->exchanges && !op->gathers && !op->sums)
            continue;
        struct bound_stage *stage = &table->stages[cut->stage_of[o]];
        const uint32_t first = bound__device(s, bound__rank_of(s, cut->stage_of[o]), 0, 0);
        if (op->like != like || first % span != place)
            seconds = exchange_seconds(b, s, o, first);
        like = op->like;
        place = first % span;
        stage->exchanges += op->exchanges ? seconds : 0;
        *(bound__op(b, o)->op == IR_OP_EXPERTS ? &stage->rows : &stage->regions) += seconds;
    }
}

static struct bound_table *table_new(const struct bound *b, const struct bound_shape *s, const struct bound_cut *cut,
                                     const struct bound_share *share)
{
    static const enum ir_pass passes[] = { IR_PASS_F, IR_PASS_BI, IR_PASS_BW };
    struct bound_table *t = mem_alloc(sizeof *t);
    t->share = *share;
    t->seconds = mem_alloc((b->likes.n + 1) * sizeof *t->seconds);
    t->stages = mem_alloc(cut->n * sizeof *t->stages);
    for (uint32_t i = 0; i < b->likes.n; i++)
        for (int p = 0; p < 3; p++)
            t->seconds[i][p] = kernel_seconds(b, share, b->likes.at[i], passes[p]);
    for (uint32_t i = 0; i < cut->n; i++)
        t->stages[i].first = IR_NONE;
    for (uint32_t o = 0; o < b->job.graph->ops.n; o++)
        add_op(b, cut, t, o);
    for (uint32_t i = 1; i < cut->n; i++)
        chain(b, share, &t->stages[i - 1], &t->stages[i]);
    add_exchanges(b, s, cut, t);
    return t;
}

static void table_free(struct bound_table *t)
{
    for (uint32_t i = 0; i < t->again.n; i++)
        mem_free(t->again.at[i].seconds);
    vec_free(&t->again);
    mem_free(t->seconds);
    mem_free(t->stages);
    mem_free(t);
}

/* What is counted of the operators that recompute runs again. Where sequences are shared packed queries, keys and values are taken apart,
 * and bytes cut them elsewhere. */
static uint8_t counts_again(const struct bound *b, const struct bound_share *s, const struct bound_pieces *p)
{
    if (s->tp * s->cp == 1)
        return AGAIN_READ | AGAIN_ATTENTION | AGAIN_MADE;
    if (p->bucket_mib && b->packed)
        return 0;
    return s->cp == 1 ? AGAIN_READ | AGAIN_ATTENTION : AGAIN_READ;
}

static const struct bound_again *again_of(const struct bound *b, const struct bound_cut *cut, struct bound_table *t,
                                          const struct bound_pieces *p)
{
    const uint8_t counts = counts_again(b, &t->share, p);
    for (uint32_t i = 0; i < t->again.n; i++)
        if (t->again.at[i].pieces == p)
            return &t->again.at[i];
    double *seconds = mem_alloc(2 * (size_t)cut->n * sizeof *seconds);
    for (uint32_t o = 0; o < b->job.graph->ops.n; o++) {
        const double f = p->again[o] & counts ? t->seconds[b->ops[o].like][0] : 0;
        const bool hides = b->ops[o].beside && (t->share.ep > 1 || t->share.tp > 1);
        seconds[cut->stage_of[o]] += f;
        seconds[cut->n + cut->stage_of[o]] += hides ? 0 : f;
    }
    vec_add(&t->again, ((struct bound_again){ p, seconds, seconds + cut->n }));
    return &t->again.at[t->again.n - 1];
}

/* ---- cuts ----------------------------------------------------------------------------------------------------------- */

static void hold_params(struct bound *b, uint32_t o, uint32_t stamp, struct bound_held *held)
{
    const struct ir_graph *g = b->job.graph;
    for (int k = 0; k < IR_MAX_PARAM; k++) {
        const uint32_t at = bound__op(b, o)->param[k];
        if (at == IR_NONE || b->seen[g->tensors.n + at] == stamp)
            continue;
        b->seen[g->tensors.n + at] = stamp;
        const struct ir_param *p = &g->params.at[at];
        const double n = (double)ir_shape_elements(&p->shape);
        const uint32_t size = ir_dtype_size((enum ir_dtype)p->shape.dtype, b->job.compute);
        const bool trained = !p->state && !p->frozen;
        held->bytes += n * size;
        held->trained += trained ? n : 0;
        held->narrow += trained && size < 4 ? n : 0;
    }
}

/* Parameters of pipeline ranks, each once a rank. */
static void hold(struct bound *b, struct bound_cut *cut, const struct bound_shape *s)
{
    uint32_t stage;
    cut->held = mem_alloc(cut->pp * sizeof *cut->held);
    for (uint32_t r = 0; r < cut->pp; r++) {
        const uint32_t stamp = ++b->stamp;
        for (uint32_t i = 0; (stage = bound__stage_of_rank(s, r, i)) != IR_NONE; i++)
            for (uint32_t o = 0; o < b->job.graph->ops.n; o++)
                if (cut->stage_of[o] == stage)
                    hold_params(b, o, stamp, &cut->held[r][bound__held(bound__op(b, o)->op)]);
    }
}

static struct bound_cut *cut_of(struct bound *b, const struct bound_shape *s)
{
    const enum placement placement = bound__kind(s)->placement;
    for (uint32_t i = 0; i < b->cuts.n; i++)
        if (b->cuts.at[i]->pp == s->pp && b->cuts.at[i]->chunks == s->chunks && b->cuts.at[i]->placement == placement)
            return b->cuts.at[i];
    struct bound_cut *cut = mem_alloc(sizeof *cut);
    *cut = (struct bound_cut){ .pp = s->pp, .chunks = s->chunks, .n = s->pp * s->chunks, .placement = placement };
    cut->stage_of = mem_alloc((b->job.graph->ops.n + 1) * sizeof *cut->stage_of);
    for (uint32_t o = 0; o < b->job.graph->ops.n; o++)
        cut->stage_of[o] = stage_of(b, o, cut->n);
    hold(b, cut, s);
    vec_add(&b->cuts, cut);
    return cut;
}

void bound__cut_free(struct bound_cut *cut)
{
    for (uint32_t i = 0; i < cut->tables.n; i++)
        table_free(cut->tables.at[i]);
    for (uint32_t i = 0; i < cut->pieces.n; i++)
        bound__pieces_free(cut->pieces.at[i]);
    vec_free(&cut->tables);
    vec_free(&cut->pieces);
    mem_free(cut->stage_of);
    mem_free(cut->held);
    mem_free(cut);
}

static struct bound_table *table_of(const struct bound *b, const struct bound_shape *s, struct bound_cut *cut)
{
    const struct bound_share own = { bound__mb_size(b, s), s->ep, s->tp, s->cp }, *share = &own;
    for (uint32_t i = cut->tables.n; i-- > 0;) /* the last ones first: shapes come in order */
        if (!memcmp(&cut->tables.at[i]->share, share, sizeof *share))
            return cut->tables.at[i];
    vec_add(&cut->tables, table_new(b, s, cut, share));
    return cut->tables.at[cut->tables.n - 1];
}

static struct bound_pieces *pieces_of(struct bound *b, struct bound_cut *cut, uint32_t bucket_mib)
{
    for (uint32_t i = 0; i < cut->pieces.n; i++)
        if (cut->pieces.at[i]->bucket_mib == bucket_mib)
            return cut->pieces.at[i];
    vec_add(&cut->pieces, bound__pieces_new(b, cut, bucket_mib));
    return cut->pieces.at[cut->pieces.n - 1];
}

void bound__look(struct bound *b, const struct bound_shape *s)
{
    b->cut = cut_of(b, s);
    b->table = table_of(b, s, b->cut);
    b->pieces = pieces_of(b, b->cut, s->bucket_mib);
    b->again = again_of(b, b->cut, b->table, b->pieces);
}
