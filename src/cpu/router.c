/* Top-k router (ir/op.h): scores in float32, ties to the lower index, auxiliary load-balance loss per
 * sequence: experts * sum over e of (tokens that chose e / T) * (mean probability of e), as in Switch Transformer
 * (Fedus et al. 2021) and Mixtral. The training loss takes aux_coef times its mean over sequences.
 *
 * IR_COUNTS: phase 0 counts the choices of the tokens that are here, run by run; phase 1 has the counts of all devices that share the
 * sequences, and adds the share of the loss of its own tokens' probabilities. */
#include <math.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"

struct choice {
    const struct ir_attrs *at;
    const float *select;      /* (experts): what is added to a score for the choice; NULL: nothing */
    bool shut[IR_GROUPS_MAX]; /* groups that are not chosen from */
};

static float wish(const struct choice *c, const float *score, size_t e)
{
    return c->select ? score[e] + c->select[e] : score[e];
}

/* What group g is worth: its two best experts, or its best. */
static float group_worth(const struct choice *c, const float *score, size_t g)
{
    const size_t size = c->at->experts / c->at->groups;
    float first = -INFINITY, second = -INFINITY;
    for (size_t e = g * size; e < (g + 1) * size; e++) {
        const float x = wish(c, score, e);
        if (x > first) {
            second = first;
            first = x;
        } else if (x > second) {
            second = x;
        }
    }
    return c->at->flags & IR_GROUP_BEST ? first : first + second;
}

static void choose_groups(struct choice *c, const float *score)
{
    const size_t groups = c->at->groups;
    float worth[IR_GROUPS_MAX];
    for (size_t g = 0; g < groups; g++) {
        worth[g] = group_worth(c, score, g);
        c->shut[g] = true;
    }
    for (size_t j = 0; j < c->at->top_groups; j++) {
        size_t best = groups;
        for (size_t g = 0; g < groups; g++)
            if (c->shut[g] && (best == groups || worth[g] > worth[best]))
                best = g;
        c->shut[best] = false;
    }
}

/* index, weight (k): the k best of the scores (experts). */
static void top_k(struct choice *c, const float *score, int32_t *index, float *weight)
{
    const struct ir_attrs *at = c->at;
    const size_t k = at->top_k, size = at->groups ? at->experts / at->groups : at->experts;
    float sum = at->eps;
    if (at->groups)
        choose_groups(c, score);
    for (size_t j = 0; j < k; j++) {
        int32_t best = -1;
        for (size_t e = 0; e < at->experts; e++) {
            bool taken = c->shut[e / size];
            for (size_t i = 0; i < j; i++)
                taken |= index[i] == (int32_t)e;
            if (!taken && (best < 0 || wish(c, score, e) > wish(c, score, (size_t)best)))
                best = (int32_t)e;
        }
        index[j] = best;
        weight[j] = score[best];
        sum += score[best];
    }
    const float scale = at->scale > 0 ? at->scale : 1;
    for (size_t j = 0; j < k && (at->flags & IR_NORM_TOPK || scale != 1); j++)
        weight[j] = at->flags & IR_NORM_TOPK ? weight[j] / sum * scale : weight[j] * scale;
}

static void scores(const struct op_args *a, float *p)
{
    const struct vec *v = cpu_vec();
    const size_t experts = a->attrs->experts;
    if (a->attrs->flags & IR_BIAS)
        v->add(p, p, a->param[1], experts);
    if (a->attrs->flags & IR_SIGMOID)
        v->act(IR_ACT_SIGMOID, p, p, experts);
    else
        v->scale(p, 1.0f / (float)v->exp_sum(p, p, v->max(p, experts), experts), p, experts);
}

/* Choices of expert e among tokens [from, to) of sequence s. */
static size_t choices(const struct op_args *a, size_t s, size_t e, size_t from, size_t to)
{
    const int32_t *index = a->out[1];
    const size_t k = a->attrs->top_k;
    size_t count = 0;
    for (size_t i = from; i < to; i++)
        for (size_t j = 0; j < k; j++)
            count += index[cpu_row(a, s, i) * k + j] == (int32_t)e;
    return count;
}

static bool counted(const struct op_args *a)
{
    return a->positions && a->positions->split == IR_COUNTS;
}

/* T, the tokens of a whole sequence. */
static double length(const struct op_args *a)
{
    return counted(a) ? a->positions->t_all : a->t;
}

/* Phase 0: own part of out[2]. */
static void count_runs(const struct op_args *a)
{
    const size_t experts = a->attrs->experts, n = a->b * experts;
    int32_t *count = (int32_t *)a->out[2] + a->positions->part * 2 * n;
#pragma omp parallel for schedule(static) num_threads(cpu_team(cpu_rows(a), experts))
    for (size_t i = 0; i < 2 * n; i++) {
        const size_t from = i < n ? 0 : a->positions->run[0].count, to = i < n ? a->positions->run[0].count : a->t;
        count[i] = (int32_t)choices(a, i % n / experts, i % experts, from, to);
    }
}

/* Tokens of sequence s that chose expert e, wherever they are, as a share of T. */
static double chosen(const struct op_args *a, size_t s, size_t e)
{
    const size_t experts = a->attrs->experts, n = a->b * experts;
    const int32_t *counts = a->out[2];
    size_t count = 0;
    if (!counted(a))
        return (double)choices(a, s, e, 0, a->t) / a->t;
    for (size_t i = 0; i < 2 * (size_t)a->positions->parts; i++)
        count += (size_t)counts[i * n + s * experts + e];
    return (double)count / length(a);
}

/* aux_loss of sequence s, without its coefficient. */
static double balance_loss(const struct op_args *a, const float *probs, size_t s)
{
    const size_t experts = a->attrs->experts, t = a->t;
    double loss = 0;
    for (size_t e = 0; e < experts; e++) {
        double p = 0;
        for (size_t i = 0; i < t; i++)
            p += probs[cpu_row(a, s, i) * experts + e];
        loss += chosen(a, s, e) * p / length(a);
    }
    return loss * (double)experts;
}

static void choose(const struct op_args *a, float *probs)
{
    const struct ir_attrs *at = a->attrs;
    const size_t experts = at->experts, k = at->top_k, c = at->features, rows = cpu_rows(a);
    float *weight = a->out[0];
    const float *select = at->flags & IR_SELECT_BIAS ? a->param[at->flags & IR_BIAS ? 2 : 1] : NULL;
    int32_t *index = a->out[1];
    cpu_gemm(&(struct gemm){ .m = rows,
                             .n = experts,
                             .k = c,
                             .a = as_is(a->in[0], c),
                             .b = turned(a->param[0], c),
                             .c = probs,
                             .ldc = experts });
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, experts))
    for (size_t r = 0; r < rows; r++) {
        struct choice how = { .at = at, .select = select };
        float *p = probs + r * experts;
        scores(a, p);
        top_k(&how, p, index + r * k, weight + r * k);
    }
}

void cpu_router_f(const struct op_args *a)
{
    const double coef = a->attrs->aux_coef;
    float *probs = a->save[0] ? a->save[0] : a->work;
    if (a->phase == 0)
        choose(a, probs);
    if (counted(a) && a->phase == 0)
        count_runs(a);
    else if (coef > 0)
        for (size_t s = 0; s < a->b; s++)
            a->scalars[SCALAR_AUX] += coef * balance_loss(a, probs, s);
}

/* dp (experts), the gradient of one token's scores: through the weights, beside what the auxiliary loss put there. */
static void weights_grad(const struct ir_attrs *at, float *dp, const float *p, const int32_t *index, const float *dw)
{
    const float scale = at->scale > 0 ? at->scale : 1;
    float sum = at->eps, mean = 0;
    if (at->flags & IR_NORM_TOPK) {
        for (size_t j = 0; j < at->top_k; j++)
            sum += p[index[j]];
        for (size_t j = 0; j < at->top_k; j++)
            mean += dw[j] * p[index[j]] / sum;
    } else {
        sum = 1;
    }
    for (size_t j = 0; j < at->top_k; j++)
        dp[index[j]] += scale * (dw[j] - mean) / sum;
}

/* From the gradient of the scores p to that of the logits, in place. */
static void scores_grad(const struct op_args *a, float *dl, const float *p)
{
    const struct vec *v = cpu_vec();
    const size_t experts = a->attrs->experts;
    if (a->attrs->flags & IR_SIGMOID)
        for (size_t e = 0; e < experts; e++)
            dl[e] *= p[e] * (1 - p[e]);
    else
        v->softmax_grad(dl, p, dl, v->dot(p, dl, experts), 1.0f, experts);
}

/* work: (b, experts) float32, the gradient of each probability of a sequence from the auxiliary loss. */
static void balance_grad(const struct op_args *a, float *grad)
{
    const size_t experts = a->attrs->experts;
    const double factor = a->attrs->aux_coef * a->loss_scale * (double)experts;
    for (size_t s = 0; s < a->b; s++)
        for (size_t e = 0; e < experts; e++)
            grad[s * experts + e] = factor > 0 ? (float)(factor * chosen(a, s, e)) : 0;
}

void cpu_router_bi(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const size_t experts = at->experts, k = at->top_k, c = at->features, rows = cpu_rows(a);
    const float *probs = a->save[0], *dw = a->dout[0];
    const int32_t *index = a->out[1];
    float *dlogits = a->stash[0], *aux = a->work;
    balance_grad(a, aux);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, experts))
    for (size_t r = 0; r < rows; r++) {
        const float *p = probs + r * experts;
        float *dl = dlogits + r * experts;
        memcpy(dl, aux + cpu_sequence(a, r) * experts, experts * sizeof *dl);
        weights_grad(at, dl, p, index + r * k, dw + r * k);
        scores_grad(a, dl, p);
    }
    cpu_gemm(&(struct gemm){ .m = rows,
                             .n = c,
                             .k = experts,
                             .a = as_is(dlogits, experts),
                             .b = as_is(a->param[0], c),
                             .c = a->din[0],
                             .ldc = c,
                             .start = a->acc[0] });
}

void cpu_router_bw(const struct op_args *a)
{
    const size_t experts = a->attrs->experts, c = a->attrs->features;
    float *dw = a->dparam[0];
    cpu_gemm(&(struct gemm){ .m = experts,
                             .n = c,
                             .k = cpu_rows(a),
                             .a = turned(a->stash[0], experts),
                             .b = as_is(a->in[0], c),
                             .c = dw,
                             .ldc = c,
                             .start = a->dparam_add & 1 ? dw : NULL });
    const bool bias = a->attrs->flags & IR_BIAS;
    const uint32_t select = bias ? 2 : 1;
    if (bias)
        cpu_column_sums(a->stash[0], false, cpu_rows(a), experts, a->dparam[1], a->dparam_add & 2);
    if (a->attrs->flags & IR_SELECT_BIAS && !(a->dparam_add >> select & 1))
        cpu_zero(a->dparam[select], experts);
}
