/* What a model is, once; kinds of schedule; how parameters are held; what no compiler accepts. */
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
    k->build(RANKS, MICROBATCHES, k->chunks ? k->chunks : CHUNKS, 0, &row);
    const bool splits = schedule_splits_backwards(&row);
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
            if (bound__maker(b, o, i) != IR_NONE)
                near[bound__maker(b, o, i)] = 1;
    for (uint32_t o = 0; o < x; o++)
        b->ops[o].beside |= !near[o];
    for (uint32_t o = x + 1; o < n; o++) {
        for (int i = 0; i < IR_MAX_IN; i++)
            near[o] |= bound__maker(b, o, i) != IR_NONE && bound__maker(b, o, i) >= x && near[bound__maker(b, o, i)];
        b->ops[o].beside |= !near[o];
    }
}

uint32_t bound__linear_behind(const struct bound *b, uint32_t o, int i)
{
    uint32_t from = bound__maker(b, o, i);
    while (from != IR_NONE && (bound__op(b, from)->op == IR_OP_ROPE || bound__op(b, from)->op == IR_OP_RMSNORM))
        from = bound__maker(b, from, 0);
    return from != IR_NONE && bound__op(b, from)->op == IR_OP_LINEAR ? from : IR_NONE;
}

/* Is what a region gathers one tensor, which all of it reads? Then nothing of the region runs before it is gathered. */
static bool gathers_one(const struct bound *b, uint32_t o)
{
    const int inputs = bound__op(b, o)->op == IR_OP_ATTENTION ? 3 : 2;
    uint32_t tensor = IR_NONE;
    for (int i = 0; i < inputs && bound__op(b, o)->in[i] != IR_NONE; i++) {
        const uint32_t from = bound__linear_behind(b, o, i);
        if (from == IR_NONE || (tensor != IR_NONE && bound__op(b, from)->in[0] != tensor))
            return false;
        tensor = bound__op(b, from)->in[0];
    }
    return tensor != IR_NONE;
}

/* Features of what the linear operator gives that reads an operator's result; 0: another one reads it. */
static uint32_t width_behind(const struct bound *b, uint32_t o)
{
    const uint32_t t = bound__op(b, o)->out[0];
    for (uint32_t i = o + 1; i < b->job.graph->ops.n; i++)
        if (bound__op(b, i)->in[0] == t)
            return bound__op(b, i)->op == IR_OP_LINEAR ? bound__op(b, i)->attrs.out_features : 0;
    return 0;
}

static bool is_tied(const struct bound *b)
{
    const struct ir_graph *g = b->job.graph;
    uint32_t table = IR_NONE;
    for (uint32_t o = 0; o < g->ops.n; o++) {
        if (bound__op(b, o)->op == IR_OP_EMBED)
            table = bound__op(b, o)->param[0];
        if (bound__op(b, o)->op == IR_OP_HEAD_LOSS && bound__op(b, o)->param[0] == table)
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
        b->ops[o].trains = ir_op_trains(g, bound__op(b, o));
        for (int i = 0; i < IR_MAX_IN; i++)
            b->ops[o].wanted |= bound__op(b, o)->in[i] != IR_NONE && wanted[bound__op(b, o)->in[i]];
    }
    mem_free(wanted);
}

uint32_t bound__read_by_bi(const struct bound *b, uint32_t o)
{
    return b->ops[o].wanted ? ir_op_info[bound__op(b, o)->op].bi_reads : 0;
}

uint32_t bound__read_by_bw(const struct bound *b, uint32_t o)
{
    const struct ir_node_op *op = bound__op(b, o);
    const bool runs = b->ops[o].trains && ir_op_runs((enum ir_op)op->op, &op->attrs, IR_PASS_BW);
    return runs ? ir_op_info[op->op].bw_reads : 0;
}

/* The number of operator o among those with other kernels. */
static uint32_t like_of(struct bound *b, uint32_t o)
{
    const struct ir_node_op *op = bound__op(b, o);
    for (uint32_t i = 0; i < b->likes.n; i++) {
        const uint32_t k = b->likes.at[i];
        if (bound__op(b, k)->op == op->op && !memcmp(&bound__op(b, k)->attrs, &op->attrs, sizeof op->attrs) &&
            b->ops[k].trains == b->ops[o].trains && b->ops[k].wanted == b->ops[o].wanted)
            return i;
    }
    vec_add(&b->likes, o);
    return b->likes.n - 1;
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void look_at_op(struct bound *b, uint32_t o)
{
    const struct ir_node_op *op = bound__op(b, o);
    b->ops[o].like = like_of(b, o);
    if (op->op == IR_OP_EXPERTS && (!b->n_experts || op->attrs.experts < b->n_experts))
        b->n_experts = op->attrs.experts;
    if (op->op == IR_OP_ATTENTION) {
        b->heads = common_divisor(op->attrs.heads, b->heads);
        b->packed |= op->in[1] == IR_NONE;
    }
}

static void look_at_model(struct bound *b)
{
    const struct ir_graph *g = b->job.graph;
    look_at_frozen(b);
    uint8_t *near = mem_alloc(g->ops.n + 1);
    for (uint32_t o = 0; o < g->ops.n; o++)
        look_at_op(b, o);
    for (uint32_t o = 0; o < g->ops.n; o++)
        if ((b->ops[o].exchanges = bound__op(b, o)->op == IR_OP_EXPERTS))
            mark_beside(b, o, near);
    for (uint32_t o = 0; o < g->ops.n; o++) {
        if (bound__op(b, o)->op != IR_OP_ATTENTION && !is_act(bound__op(b, o)->op))
            continue;
        b->ops[o].gathers = gathers_one(b, o);
        b->ops[o].sums = width_behind(b, o);
        if (!b->ops[o].beside &&
            b->ops[o].gathers) { /* shared experts run beside the others: nothing passes for theirs */
            b->ops[o].exchanges = true;
            mark_beside(b, o, near);
        }
    }
    mem_free(near);
    b->tied = is_tied(b);
}

struct bound *bound_new(const struct bound_job *job)
{
    struct bound *b = mem_alloc(sizeof *b);
    const struct ir_graph *g = job->graph;
    const uint32_t pp = ir_graph_find_tag(g, "PP");
    b->job = *job;
    b->pp_tag = pp;
    b->ops = mem_alloc((g->ops.n + 1) * sizeof *b->ops);
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
    for (uint32_t i = 0; i < b->cuts.n; i++)
        bound__cut_free(b->cuts.at[i]);
    for (uint32_t i = 0; i < b->alive.n; i++)
        bound__alive_free(b->alive.at[i]);
    vec_free(&b->cuts);
    vec_free(&b->alive);
    vec_free(&b->likes);
    mem_free(b->ops);
    mem_free(b->seen);
    mem_free(b);
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

uint32_t bound__held(uint32_t op)
{
    return op == IR_OP_EXPERTS                          ? HELD_EXPERTS
           : op == IR_OP_ROUTER                         ? HELD_ROUTERS
           : op == IR_OP_EMBED || op == IR_OP_HEAD_LOSS ? HELD_TABLES
                                                        : HELD_OTHERS;
}

uint32_t bound__held_op(uint32_t held)
{
    static const uint32_t ops[HELDS] = { IR_OP_EXPERTS, IR_OP_ROUTER, IR_OP_EMBED, IR_OP_LINEAR };
    return ops[held];
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
    else if (b->heads % s->tp)
        snprintf(text, BOUND_TEXT, "tp %u, attention of a multiple of %u heads", s->tp, b->heads);
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
