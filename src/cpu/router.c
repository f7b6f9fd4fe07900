/* Top-k router (ir/op.h): scores in float32, ties to the lower index, and losses of its own, of which the training loss takes the
 * mean over sequences:
 *   aux_coef * experts * sum over e of (tokens that chose e / T) * (mean score of e), as in Switch Transformer (Fedus et al. 2021)
 *     and Mixtral; or, with SEQUENCE_LOSS, aux_coef * sum over e of f_e P_e (DeepSeek-V3, arXiv 2412.19437, equations 17 to 20):
 *     f_e = experts / (k T) times the tokens that have e among their k best scores s, whatever bias and groups chose;
 *     P_e = the mean over tokens of s_e divided by the token's sum of scores.
 *   z_coef * mean over tokens of (log sum over e of exp(logit))^2 (ST-MoE, arXiv 2202.08906, equation 5).
 *
 * IR_COUNTS: phase 0 counts the choices of the tokens that are here, run by run; phase 1 has the counts of all devices that share the
 * sequences, and adds the share of the loss of sequences of its own tokens' scores. */
#include <math.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"
#include "ir/target_cpu.h"

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

/* What F has in its workspace behind the scores, and BI behind the gradients that losses of sequences give to scores; each where an
 * attribute asks for it. Sizes: ir/target_cpu.c. */
struct router_work {
    float *scores;  /* F: (rows, width()); BI: (b, experts) */
    int32_t *plain; /* (rows, k): the best by score alone */
    float *total;   /* F: (rows) the sum of a token's scores */
    float *z;       /* F: (rows) log-sum-exp of its logits */
};

static struct router_work work_of(const struct op_args *a, size_t scores)
{
    const struct ir_attrs *at = a->attrs;
    float *end = (float *)a->work + scores;
    struct router_work w = { .scores = a->work };
    if (ir_op_counts_apart(at)) {
        w.plain = (int32_t *)(void *)end;
        end += cpu_rows(a) * at->top_k;
    }
    w.total = end;
    w.z = end + (at->flags & IR_SEQUENCE_LOSS ? cpu_rows(a) : 0);
    return w;
}

/* Of a row of scores; with z_coef the logits are its second half. */
static size_t width(const struct ir_attrs *at)
{
    return at->z_coef > 0 ? 2 * (size_t)at->experts : at->experts;
}

/* From the logits to the scores p, which may lie in their place. Returns the log-sum-exp where z_coef asks for it. */
static float scores(const struct op_args *a, float *p, float *logits)
{
    const struct vec *v = cpu_vec();
    const size_t experts = a->attrs->experts;
    const bool sigmoid = a->attrs->flags & IR_SIGMOID;
    double sum = 1;
    float most = 0;
    if (a->attrs->flags & IR_BIAS)
        v->add(logits, logits, a->param[1], experts);
    if (!sigmoid || a->attrs->z_coef > 0) {
        most = v->max(logits, experts);
        sum = v->exp_sum(p, logits, most, experts);
    }
    if (sigmoid)
        v->act(IR_ACT_SIGMOID, p, logits, experts);
    else
        v->scale(p, 1.0f / (float)sum, p, experts);
    return most + logf((float)sum);
}

static float sum_of(const float *p, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    return sum;
}

/* The choice that a loss of sequences counts. */
static void choose_plain(const struct ir_attrs *at, const float *p, int32_t *index, float *weight)
{
    const struct ir_attrs plain = { .experts = at->experts, .top_k = at->top_k };
    struct choice how = { .at = &plain };
    top_k(&how, p, index, weight);
}

/* Choices of expert e among tokens [from, to) of sequence s; index: of the tokens here. */
static size_t choices(const struct op_args *a, const int32_t *index, size_t s, size_t e, size_t from, size_t to)
{
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
    return a->positions ? a->positions->t_all : a->t;
}

/* What a loss counts is the last of the sets of counts. */
static uint32_t loss_set(const struct op_args *a)
{
    return op_sets(a->positions) - 1;
}

/* Phase 0: own part of save[1]. */
static void count_runs(const struct op_args *a, const int32_t *index, uint32_t set)
{
    const size_t experts = a->attrs->experts, n = a->b * experts;
    int32_t *count = (int32_t *)a->save[1] + op_told_at(a->positions, a->positions->part, set, n);
#pragma omp parallel for schedule(static) num_threads(cpu_team(cpu_rows(a), experts))
    for (size_t i = 0; i < 2 * n; i++) {
        const size_t from = i < n ? 0 : a->positions->run[0].count, to = i < n ? a->positions->run[0].count : a->t;
        count[i] = (int32_t)choices(a, index, i % n / experts, i % experts, from, to);
    }
}

/* Tokens of sequence s that chose expert e, wherever they are, as a share of T. */
static double chosen(const struct op_args *a, const int32_t *index, size_t s, size_t e)
{
    const size_t experts = a->attrs->experts, n = a->b * experts;
    size_t count = 0;
    if (!counted(a))
        return (double)choices(a, index, s, e, 0, a->t) / a->t;
    for (uint32_t i = 0; i < 2 * a->positions->parts; i++) {
        const int32_t *run = (const int32_t *)a->save[1] + op_told_at(a->positions, i / 2, loss_set(a), n) + i % 2 * n;
        count += (size_t)run[s * experts + e];
    }
    return (double)count / length(a);
}

/* What a loss of sequences multiplies its sum by. */
static double balance_factor(const struct ir_attrs *at)
{
    const double factor = (double)at->aux_coef * at->experts;
    return at->flags & IR_SEQUENCE_LOSS ? factor / at->top_k : factor;
}

/* Of the tokens of sequence s that are here. total: of each token's scores, NULL: they count as they are. */
static double balance_loss(const struct op_args *a, const float *probs, const int32_t *index, const float *total,
                           size_t s)
{
    const size_t experts = a->attrs->experts, t = a->t, row = width(a->attrs);
    double loss = 0;
    for (size_t e = 0; e < experts; e++) {
        double p = 0;
        for (size_t i = 0; i < t; i++) {
            const size_t r = cpu_row(a, s, i);
            p += total ? (double)probs[r * row + e] / total[r] : (double)probs[r * row + e];
        }
        loss += chosen(a, index, s, e) * p / length(a);
    }
    return loss * balance_factor(a->attrs);
}

static void add_balance(const struct op_args *a, const float *probs, const int32_t *index, float *total)
{
    const struct ir_attrs *at = a->attrs;
    const size_t rows = cpu_rows(a), row = width(at);
    const bool apart = at->flags & IR_SEQUENCE_LOSS;
    for (size_t r = 0; r < rows && apart; r++)
        total[r] = sum_of(probs + r * row, at->experts);
    for (size_t s = 0; s < a->b && at->aux_coef > 0; s++)
        a->scalars[SCALAR_AUX] += balance_loss(a, probs, index, apart ? total : NULL, s);
}

/* z (rows): of the tokens here. */
static void add_z(const struct op_args *a, const float *z)
{
    const size_t rows = cpu_rows(a);
    double sum = 0;
    for (size_t r = 0; r < rows; r++)
        sum += (double)z[r] * z[r];
    a->scalars[SCALAR_AUX] += a->attrs->z_coef * sum / length(a);
}

/* The load counts each token once, also where an expert has no room for it. */
static void add_load(const struct op_args *a)
{
    const int32_t *index = a->out[1];
    const size_t n = cpu_rows(a) * a->attrs->top_k;
    for (size_t i = 0; a->load && i < n; i++)
        a->load[index[i]]++;
}

static void choose(const struct op_args *a, float *probs, const struct router_work *w)
{
    const struct ir_attrs *at = a->attrs;
    const size_t experts = at->experts, k = at->top_k, c = at->features, rows = cpu_rows(a), row = width(at);
    float *weight = a->out[0], *logits = probs + (row - experts);
    const float *select = at->flags & IR_SELECT_BIAS ? a->param[at->flags & IR_BIAS ? 2 : 1] : NULL;
    int32_t *index = a->out[1];
    cpu_gemm(&(struct gemm){ .m = rows,
                             .n = experts,
                             .k = c,
                             .a = as_is(a->in[0], c),
                             .b = turned(a->param[0], c),
                             .c = logits,
                             .ldc = row });
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, experts))
    for (size_t r = 0; r < rows; r++) {
        struct choice how = { .at = at, .select = select };
        float *p = probs + r * row;
        const float z = scores(a, p, logits + r * row);
        if (w->plain) /* its weights are overwritten */
            choose_plain(at, p, w->plain + r * k, weight + r * k);
        top_k(&how, p, index + r * k, weight + r * k);
        if (at->z_coef > 0)
            w->z[r] = z;
    }
    add_load(a);
    if (at->z_coef > 0)
        add_z(a, w->z);
}

void cpu_router_f(const struct op_args *a)
{
    const struct router_work w = work_of(a, cpu_rows(a) * width(a->attrs));
    const int32_t *index = w.plain ? w.plain : a->out[1];
    float *probs = a->save[0] ? a->save[0] : w.scores;
    if (a->phase == 0)
        choose(a, probs, &w);
    if (!counted(a) || a->phase) {
        add_balance(a, probs, index, w.total);
    } else if (a->save[1]) { /* NULL: F computed again, for what is kept the counts are there */
        count_runs(a, index, loss_set(a));
        if (loss_set(a))
            count_runs(a, a->out[1], 0);
    }
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

/* grad (b, experts): what a loss of sequences gives to each score of a sequence's tokens, or to each as a share of the token's sum. */
static void balance_grad(const struct op_args *a, const int32_t *index, float *grad)
{
    const size_t experts = a->attrs->experts;
    const double factor = balance_factor(a->attrs) * a->loss_scale;
    for (size_t s = 0; s < a->b; s++)
        for (size_t e = 0; e < experts; e++)
            grad[s * experts + e] = factor > 0 ? (float)(factor * chosen(a, index, s, e)) : 0;
}

/* dp (experts) from balance_grad(): p_e / sum of p has the gradient g_e, so p_e has (g_e - sum of g p / sum of p) / sum of p. */
static void share_grad(float *dp, const float *g, const float *p, size_t experts)
{
    const float sum = sum_of(p, experts), inner = (float)cpu_vec()->dot(g, p, experts) / sum;
    for (size_t e = 0; e < experts; e++)
        dp[e] = (g[e] - inner) / sum;
}

/* dl (experts) += the gradient of z_coef's loss of a token. */
static void z_grad(const struct op_args *a, float *dl, const float *logits)
{
    const size_t experts = a->attrs->experts;
    const float most = cpu_vec()->max(logits, experts);
    double sum = 0;
    for (size_t e = 0; e < experts; e++)
        sum += (double)expf(logits[e] - most);
    const double factor = 2 * a->attrs->z_coef * a->loss_scale * (most + log(sum)) / sum;
    for (size_t e = 0; e < experts; e++)
        dl[e] += (float)(factor * (double)expf(logits[e] - most));
}

void cpu_router_bi(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const size_t experts = at->experts, k = at->top_k, c = at->features, rows = cpu_rows(a), row = width(at);
    const struct router_work w = work_of(a, (size_t)a->b * experts);
    const float *probs = a->save[0], *dw = a->dout[0];
    const int32_t *index = a->out[1];
    float *dlogits = a->stash[0], *aux = w.scores;
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, experts))
    for (size_t r = 0; r < rows; r++)
        if (w.plain && !counted(a)) /* the weights go where the row's gradient will stand: k <= experts */
            choose_plain(at, probs + r * row, w.plain + r * k, dlogits + r * experts);
    balance_grad(a, w.plain ? w.plain : index, aux);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, experts))
    for (size_t r = 0; r < rows; r++) {
        const float *p = probs + r * row, *g = aux + cpu_sequence(a, r) * experts;
        float *dl = dlogits + r * experts;
        if (at->flags & IR_SEQUENCE_LOSS)
            share_grad(dl, g, p, experts);
        else
            memcpy(dl, g, experts * sizeof *dl);
        weights_grad(at, dl, p, index + r * k, dw + r * k);
        scores_grad(a, dl, p);
        if (at->z_coef > 0)
            z_grad(a, dl, p + experts);
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
    if (a->attrs->flags & IR_BIAS)
        cpu_column_sums(a->stash[0], false, cpu_rows(a), experts, a->dparam[1], a->dparam_add & 2);
}
