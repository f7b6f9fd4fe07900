/* What a model is, once, and its stages under a layout: kernels by cost_kernel(), exchanges by cost_alone(). */
#include "sched/cost/bound_private.h"

#include <math.h>
#include <stdio.h>

#include "ir/family/family.h"
#include "ir/freeze.h"

/* ---- kinds --------------------------------------------------------------------------------------------------------- */

static const struct schedule_kind *kind_of(uint32_t kind)
{
    for (uint32_t i = 0; sched_schedule_kinds[i]; i++)
        if (i == kind)
            return sched_schedule_kinds[i];
    return NULL;
}

const char *bound_kind_name(uint32_t kind)
{
    return kind_of(kind) ? kind_of(kind)->name : NULL;
}

const char *bound_placement_name(uint32_t placement)
{
    return placement < PLACEMENTS ? placement_names[placement] : NULL;
}

const char *bound_backward_name(uint32_t backward)
{
    return backward < BACKWARDS ? backward_names[backward] : NULL;
}

uint32_t bound_kind_placement(uint32_t kind)
{
    return kind_of(kind)->placement;
}

uint32_t bound_kind_chunks(uint32_t kind)
{
    return kind_of(kind)->chunks;
}

/* As its order of two ranks and as many microbatches as any kind needs for them shows. */
bool bound_kind_splits(uint32_t kind)
{
    enum { RANKS = 2, MICROBATCHES = 4 * RANKS, CHUNKS = 2 };
    const struct schedule_kind *k = kind_of(kind);
    struct cells row = { 0 };
    bool splits = false;
    k->build(RANKS, MICROBATCHES, k->chunks ? k->chunks : CHUNKS, 0, &row);
    for (uint32_t i = 0; i < row.n; i++)
        splits |= row.at[i].pass == IR_PASS_BW;
    vec_free(&row);
    return splits;
}

void bound__row(const struct bound_shape *s, uint32_t rank, struct cells *out)
{
    bound__kind(s)->build(s->pp, s->microbatches, s->chunks, rank, out);
    if (s->backward == BACKWARD_WHOLE)
        schedule_join_backwards(out);
}

/* ---- the model ------------------------------------------------------------------------------------------------------ */

static const struct ir_node_op *op_at(const struct bound *b, uint32_t o)
{
    return &b->job.graph->ops.at[o];
}

/* The operator that makes input i of an operator; IR_NONE: it has none, or it is an input of the graph. */
static uint32_t maker(const struct bound *b, uint32_t o, int i)
{
    const uint32_t t = op_at(b, o)->in[i];
    return t == IR_NONE ? IR_NONE : b->job.graph->tensors.at[t].producer;
}

static bool is_act(uint32_t op)
{
    return op == IR_OP_SWIGLU || op == IR_OP_GELU || op == IR_OP_ACT;
}

/* Marks what is neither before nor behind operator x. near: scratch [ops.n]. */
static void mark_beside(struct bound *b, uint32_t x, uint8_t *near)
{
    const uint32_t n = b->job.graph->ops.n;
    memset(near, 0, n);
    near[x] = 1;
    for (uint32_t o = x; o + 1 > 0; o--) /* operators stand in order of data */
        for (int i = 0; near[o] && i < IR_MAX_IN; i++)
            if (maker(b, o, i) != IR_NONE)
                near[maker(b, o, i)] = 1;
    for (uint32_t o = 0; o < x; o++)
        b->ops[o].beside |= !near[o];
    for (uint32_t o = x + 1; o < n; o++) {
        for (int i = 0; i < IR_MAX_IN; i++)
            near[o] |= maker(b, o, i) != IR_NONE && maker(b, o, i) >= x && near[maker(b, o, i)];
        b->ops[o].beside |= !near[o];
    }
}

/* The linear operator behind input i, where rope and norms of single heads lie between; IR_NONE: there is another one. */
static uint32_t linear_behind(const struct bound *b, uint32_t o, int i)
{
    uint32_t from = maker(b, o, i);
    while (from != IR_NONE && (op_at(b, from)->op == IR_OP_ROPE || op_at(b, from)->op == IR_OP_RMSNORM))
        from = maker(b, from, 0);
    return from != IR_NONE && op_at(b, from)->op == IR_OP_LINEAR ? from : IR_NONE;
}

/* Is what a region gathers one tensor, which all of it reads? Then nothing of the region runs before it is gathered. */
static bool gathers_one(const struct bound *b, uint32_t o)
{
    const int inputs = op_at(b, o)->op == IR_OP_ATTENTION ? 3 : 2;
    uint32_t tensor = IR_NONE;
    for (int i = 0; i < inputs && op_at(b, o)->in[i] != IR_NONE; i++) {
        const uint32_t from = linear_behind(b, o, i);
        if (from == IR_NONE || (tensor != IR_NONE && op_at(b, from)->in[0] != tensor))
            return false;
        tensor = op_at(b, from)->in[0];
    }
    return tensor != IR_NONE;
}

static bool reads(uint32_t mask, int i, uint32_t first)
{
    return mask & first << i;
}

/* What recompute runs again at least: forwards of a piece whose results its backward reads, and what these are made from in it. A loss
 * over split words and a ring are not computed again, routers' numbers are kept: they are left out. Where sequences are shared what was
 * summed or gathered is kept, so that what it was made from is not: there the results that are read themselves count, and those that
 * attention reads only where it has all tokens. */
static void mark_again(struct bound *b, const uint32_t *level)
{
    const struct ir_graph *g = b->job.graph;
    uint8_t *wanted = mem_alloc(g->tensors.n + 1);
    for (uint32_t o = g->ops.n; o-- > 0;) {
        const struct ir_node_op *op = op_at(b, o);
        const struct ir_op_info *info = &ir_op_info[op->op];
        const uint32_t mask = (b->ops[o].wanted ? info->bi_reads : 0) | (b->ops[o].trains ? info->bw_reads : 0);
        uint8_t again = 0;
        for (int i = 0; i < IR_MAX_OUT; i++)
            if (op->out[i] != IR_NONE)
                again |= wanted[op->out[i]] | (reads(mask, i, IR_OUT(0)) ? AGAIN_READ : 0);
        for (int i = 0; i < IR_MAX_SAVE; i++)
            again |= i < info->n_save && reads(mask, i, IR_SAVE(0)) ? AGAIN_READ : 0;
        for (int i = 0; i < IR_MAX_IN; i++) {
            const uint32_t from = op->in[i] == IR_NONE ? IR_NONE : maker(b, o, i);
            if (from == IR_NONE || level[from] != level[o] || op_at(b, from)->block != op->block)
                continue;
            if (reads(mask, i, IR_IN(0)))
                wanted[op->in[i]] |= op->op == IR_OP_ATTENTION ? AGAIN_ATTENTION : AGAIN_READ;
            wanted[op->in[i]] |= again ? AGAIN_MADE : 0;
        }
        const bool kept = op->op == IR_OP_HEAD_LOSS || op->op == IR_OP_ATTENTION || op->op == IR_OP_ROUTER ||
                          op->op == IR_OP_DISPATCH;
        b->ops[o].again = kept ? 0 : again;
    }
    mem_free(wanted);
}

static bool runs_again(const struct bound_shape *s, const struct bound_op *op)
{
    const uint8_t counts = bound__unit(s) == 1 ? AGAIN_READ | AGAIN_ATTENTION | AGAIN_MADE
                           : s->cp == 1        ? AGAIN_READ | AGAIN_ATTENTION
                                               : AGAIN_READ;
    return op->again & counts && !s->bucket_mib;
}

static bool same_tags(const struct ir_node_op *a, const struct ir_node_op *b)
{
    return memcmp(a->tag, b->tag, sizeof a->tag) == 0;
}

/* Changes of tags on the longest way to an operator, as chunks count them. Owned. */
static uint32_t *levels(const struct bound *b)
{
    const uint32_t n = b->job.graph->ops.n;
    uint32_t *level = mem_alloc((n + 1) * sizeof *level);
    for (uint32_t o = 0; o < n; o++)
        for (int i = 0; i < IR_MAX_IN; i++) {
            const uint32_t from = maker(b, o, i);
            const uint32_t at = from == IR_NONE ? 0 : level[from] + !same_tags(op_at(b, from), op_at(b, o));
            level[o] = at > level[o] ? at : level[o];
        }
    return level;
}

static bool is_tied(const struct bound *b)
{
    const struct ir_graph *g = b->job.graph;
    uint32_t table = IR_NONE;
    for (uint32_t o = 0; o < g->ops.n; o++) {
        if (op_at(b, o)->op == IR_OP_EMBED)
            table = op_at(b, o)->param[0];
        if (op_at(b, o)->op == IR_OP_HEAD_LOSS && op_at(b, o)->param[0] == table)
            return true;
    }
    return false;
}

/* Which backwards there are, where parameters are frozen. */
static void look_at_frozen(struct bound *b)
{
    const struct ir_graph *g = b->job.graph;
    uint8_t *wanted = ir_freeze_wanted(g);
    b->freezes = ir_freeze_count(g) > 0;
    for (uint32_t o = 0; o < g->ops.n; o++) {
        b->ops[o].trains = ir_op_trains(g, op_at(b, o));
        for (int i = 0; i < IR_MAX_IN; i++)
            b->ops[o].wanted |= op_at(b, o)->in[i] != IR_NONE && wanted[op_at(b, o)->in[i]];
    }
    mem_free(wanted);
}

static void look_at_model(struct bound *b)
{
    const struct ir_graph *g = b->job.graph;
    look_at_frozen(b);
    uint8_t *near = mem_alloc(g->ops.n + 1);
    for (uint32_t o = 0; o < g->ops.n; o++) {
        const struct ir_node_op *op = op_at(b, o);
        b->ops[o].like = o;
        for (uint32_t i = 0; i < o && b->ops[o].like == o; i++)
            if (b->ops[i].like == i && op_at(b, i)->op == op->op &&
                !memcmp(&op_at(b, i)->attrs, &op->attrs, sizeof op->attrs) && b->ops[i].trains == b->ops[o].trains &&
                b->ops[i].wanted == b->ops[o].wanted)
                b->ops[o].like = i;
        if (op->op == IR_OP_EXPERTS && (!b->n_experts || op->attrs.experts < b->n_experts))
            b->n_experts = op->attrs.experts;
    }
    for (uint32_t o = 0; o < g->ops.n; o++)
        if ((b->ops[o].exchanges = op_at(b, o)->op == IR_OP_EXPERTS))
            mark_beside(b, o, near);
    for (uint32_t o = 0; o < g->ops.n; o++) /* shared experts run beside the others: no exchange of theirs counts */
        if ((op_at(b, o)->op == IR_OP_ATTENTION || is_act(op_at(b, o)->op)) && !b->ops[o].beside && gathers_one(b, o)) {
            b->ops[o].exchanges = true;
            mark_beside(b, o, near);
        }
    mem_free(near);
    b->tied = is_tied(b);
    uint32_t *level = levels(b);
    mark_again(b, level);
    mem_free(level);
}

struct bound *bound_new(const struct bound_job *job)
{
    struct bound *b = mem_alloc(sizeof *b);
    const struct ir_graph *g = job->graph;
    const uint32_t pp = ir_graph_find_tag(g, "PP");
    b->job = *job;
    b->pp_tag = pp;
    b->stage_of = mem_alloc((g->ops.n + 1) * sizeof *b->stage_of);
    b->ops = mem_alloc((g->ops.n + 1) * sizeof *b->ops);
    b->seconds = mem_alloc(((size_t)g->ops.n + 1) * 3 * sizeof *b->seconds);
    b->seen = mem_alloc(((size_t)g->tensors.n + g->params.n + 1) * sizeof *b->seen);
    b->layers = ir_graph_layers(g);
    for (uint32_t o = 0; pp != IR_NONE && o < g->ops.n; o++)
        if (g->ops.at[o].tag[pp] + 1 > (int32_t)b->annotated)
            b->annotated = (uint32_t)(g->ops.at[o].tag[pp] + 1);
    look_at_model(b);
    return b;
}

void bound_free(struct bound *b)
{
    if (!b)
        return;
    mem_free(b->ops);
    mem_free(b->seconds);
    mem_free(b->seen);
    mem_free(b->stage_of);
    mem_free(b->stages);
    mem_free(b);
}

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

static double kernel_seconds(const struct bound *b, uint32_t o, enum ir_pass pass)
{
    const struct ir_node_op *op = op_at(b, o);
    const struct bound_share *s = &b->share;
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
    const struct ir_attrs *a = &op_at(b, o)->attrs;
    const uint32_t unit = bound__unit(s);
    double rows = a->capacity ? (double)a->experts * a->capacity : (double)b->job.graph->seq_len / unit * a->top_k;
    if (a->capacity && unit > 1)
        rows = 0;
    const double bytes = rows * b->share.mb * a->features * ir_dtype_size(IR_COMPUTE, b->job.compute) / s->ep;
    return 2 * least_of_groups(b, PLAN_ALL_TO_ALL_V, first, s->ep, s->dp * unit / s->ep, bytes);
}

/* What a region gathers before it begins and sums at its end: own tokens of the width that its linear operators read. */
static double region_exchange(const struct bound *b, const struct bound_shape *s, uint32_t o, uint32_t first)
{
    const struct ir_attrs *in = &op_at(b, linear_behind(b, o, 0))->attrs;
    const double part = (double)b->share.mb * b->job.graph->seq_len / bound__unit(s) * in->in_features *
                        ir_dtype_size(IR_COMPUTE, b->job.compute);
    return least_of_groups(b, PLAN_ALL_GATHER, first, s->tp, s->dp * s->cp, part);
}

static double exchange_seconds(const struct bound *b, const struct bound_shape *s, uint32_t o, uint32_t rank)
{
    const uint32_t first = bound__device(s, rank, 0, 0);
    if (op_at(b, o)->op == IR_OP_EXPERTS)
        return s->ep > 1 ? expert_exchange(b, s, o, first) : 0;
    return s->tp > 1 ? region_exchange(b, s, o, first) : 0;
}

/* ---- stages --------------------------------------------------------------------------------------------------------- */

static uint32_t stage_of(const struct bound *b, uint32_t op, uint32_t stages)
{
    if (!b->annotated)
        return ir_graph_stage(b->job.graph, op, stages);
    return op_at(b, op)->tag[b->pp_tag] < 0 ? 0 : (uint32_t)op_at(b, op)->tag[b->pp_tag];
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
static void chain(const struct bound *b, const struct bound_stage *before, struct bound_stage *at)
{
    const uint32_t from = maker(b, at->first, 0);
    at->chained = from != IR_NONE && from + 1 == before->end && before->end == at->first;
    if (at->chained) {
        const struct ir_tensor *t = &b->job.graph->tensors.at[op_at(b, at->first)->in[0]];
        at->input = (double)ir_shape_elements(&t->shape) *
                    ir_dtype_size((enum ir_dtype)t->shape.dtype, b->job.compute) * b->share.mb /
                    (b->share.tp * b->share.cp);
    }
}

static void add_op(const struct bound *b, const struct bound_shape *s, uint32_t o, struct bound_stage *at)
{
    const double *t = &b->seconds[(size_t)b->ops[o].like * 3];
    const bool hides = b->ops[o].beside && (s->ep > 1 || s->tp > 1);
    bool reads = at->first == IR_NONE;
    for (int i = 0; i < IR_MAX_IN && !reads; i++) {
        const uint32_t from = maker(b, o, i);
        reads = from != IR_NONE && &b->stages[b->stage_of[from]] == at;
    }
    at->branches |= !reads;
    at->f += t[0];
    at->bi += t[1];
    at->bw += t[2];
    at->bw_first += at->first == IR_NONE || op_at(b, o)->block == op_at(b, at->first)->block ? t[2] : 0;
    at->again += runs_again(s, &b->ops[o]) ? t[0] : 0;
    at->serial_f += hides ? 0 : t[0];
    at->serial_bi += hides ? 0 : t[1];
    at->first = o < at->first ? o : at->first;
    at->end = o + 1;
}

static void time_kernels(struct bound *b, const struct bound_share *share)
{
    static const enum ir_pass passes[] = { IR_PASS_F, IR_PASS_BI, IR_PASS_BW };
    b->share = *share;
    for (uint32_t o = 0; o < b->job.graph->ops.n; o++)
        for (int p = 0; p < 3 && b->ops[o].like == o; p++)
            b->seconds[(size_t)o * 3 + p] = kernel_seconds(b, o, passes[p]);
}

/* What the stages depend on. */
static bool same_stages(const struct bound *b, const struct bound_shape *s, const struct bound_share *share)
{
    const struct bound_shape *have = &b->shape;
    return b->stages && !memcmp(share, &b->share, sizeof *share) && have->pp == s->pp && have->chunks == s->chunks &&
           !have->bucket_mib == !s->bucket_mib;
}

const struct bound_stage *bound__stages(struct bound *b, const struct bound_shape *s)
{
    const struct ir_graph *g = b->job.graph;
    const struct bound_share share = { bound__mb_size(b, s), s->ep, s->tp, s->cp };
    const uint32_t n = s->pp * s->chunks;
    if (same_stages(b, s, &share))
        return b->stages;
    if (memcmp(&share, &b->share, sizeof share))
        time_kernels(b, &share);
    b->shape = *s;
    mem_free(b->stages);
    b->stages = mem_alloc(n * sizeof *b->stages);
    b->n_stages = n;
    for (uint32_t i = 0; i < n; i++)
        b->stages[i].first = IR_NONE;
    for (uint32_t o = 0; o < g->ops.n; o++) {
        b->stage_of[o] = stage_of(b, o, n);
        add_op(b, s, o, &b->stages[b->stage_of[o]]);
    }
    for (uint32_t i = 1; i < n; i++)
        chain(b, &b->stages[i - 1], &b->stages[i]);
    return b->stages;
}

void bound__exchanges(struct bound *b, const struct bound_shape *s)
{
    const struct ir_graph *g = b->job.graph;
    uint32_t like = IR_NONE, stage = IR_NONE;
    double seconds = 0;
    for (uint32_t i = 0; i < b->n_stages; i++)
        b->stages[i].exchanges = 0;
    for (uint32_t o = 0; o < g->ops.n && (s->ep > 1 || s->tp > 1); o++) {
        if (!b->ops[o].exchanges)
            continue;
        if (b->ops[o].like != like || b->stage_of[o] != stage)
            seconds = exchange_seconds(b, s, o, bound__rank_of(s, b->stage_of[o]));
        like = b->ops[o].like;
        stage = b->stage_of[o];
        b->stages[stage].exchanges += seconds;
    }
}

/* ---- parameters ------------------------------------------------------------------------------------------------------ */

double bound__param_part(const struct bound_shape *s, uint32_t op)
{
    if (op == IR_OP_EXPERTS)
        return 1.0 / s->ep;
    if (op == IR_OP_ROUTER || ((op == IR_OP_EMBED || op == IR_OP_HEAD_LOSS) && !s->vocab))
        return 1;
    return 1.0 / s->tp;
}

uint32_t bound__holders(const struct bound_shape *s, uint32_t op)
{
    const uint32_t devices = s->dp * bound__unit(s) * (bound__two_way(s) ? 2 : 1);
    return (uint32_t)(devices * bound__param_part(s, op) + 0.5);
}

uint32_t bound__zero_holders(const struct bound_shape *s, uint32_t op)
{
    const uint32_t all = bound__holders(s, op);
    if (!s->zero)
        return 1;
    if (!s->zero_group)
        return all;
    const uint32_t span = s->zero_group * s->tp, n = op == IR_OP_EXPERTS ? s->ep : s->tp;
    return span > n ? span / n : 1;
}

/* ---- what cannot be --------------------------------------------------------------------------------------------------- */

static const char *refuse_model(const struct bound *b, const struct bound_shape *s, char text[BOUND_TEXT])
{
    const uint32_t stages = s->pp * s->chunks;
    text[0] = '\0';
    if (b->annotated ? stages != b->annotated : stages > b->layers)
        snprintf(text, BOUND_TEXT, "%u stages, the model has %u%s", stages, b->annotated ? b->annotated : b->layers,
                 b->annotated ? "" : " layers");
    else if (s->ep > 1 && (!b->n_experts || b->n_experts % s->ep))
        snprintf(text, BOUND_TEXT, "ep %u, the model has %u experts", s->ep, b->n_experts);
    else if (b->job.graph->seq_len % (bound__unit(s) * (s->cp > 1 ? 2 : 1)))
        snprintf(text, BOUND_TEXT, "sequences of %u tokens on %u devices", b->job.graph->seq_len, bound__unit(s));
    for (uint32_t o = 0; !*text && s->tp > 1 && o < b->job.graph->ops.n; o++)
        if (op_at(b, o)->op == IR_OP_ATTENTION && op_at(b, o)->attrs.heads % s->tp)
            snprintf(text, BOUND_TEXT, "tp %u, %u heads", s->tp, op_at(b, o)->attrs.heads);
    return *text ? text : NULL;
}

const char *bound_refuse(const struct bound *b, const struct bound_shape *s, char text[BOUND_TEXT])
{
    const struct schedule_kind *k = kind_of(s->kind);
    const uint64_t ranks = (uint64_t)s->pp * s->dp * s->tp * s->cp, mbs = (uint64_t)s->dp * s->microbatches;
    const uint32_t chunks = k->placement == PLACE_V ? 2 : k->placement == PLACE_INTERLEAVED ? s->chunks : 1;
    if (ranks != b->job.ranks) {
        snprintf(text, BOUND_TEXT, "%llu ranks", (unsigned long long)ranks);
        return text;
    }
    if (s->chunks != chunks || (k->chunks && s->chunks != k->chunks)) {
        snprintf(text, BOUND_TEXT, "%u stages a rank with %s", s->chunks, k->name);
        return text;
    }
    if (b->job.batch_size % mbs) {
        snprintf(text, BOUND_TEXT, "%u sequences in %llu microbatches", b->job.batch_size, (unsigned long long)mbs);
        return text;
    }
    if (s->dp * bound__unit(s) % s->ep) {
        snprintf(text, BOUND_TEXT, "ep %u on %u devices", s->ep, s->dp * bound__unit(s));
        return text;
    }
    if (k->placement == PLACE_TWO_WAY && s->pp % 2)
        return "two-way with an odd number of pipeline ranks";
    if (s->zero_group && (!s->zero || bound__holders(s, IR_OP_LINEAR) % s->zero_group))
        return "zero_group that does not divide the holders";
    const char *why = k->refuse ? k->refuse(s->pp, s->microbatches, s->chunks) : NULL;
    if (s->vocab && b->tied && s->pp * s->chunks > 1)
        return "vocab with a tied table on several stages";
    return why ? why : refuse_model(b, s, text);
}
