/* Float64 oracle of router, dispatch, experts and combine. */
#include <math.h>

#include "base/mem.h"
#include "num/num.h"

static size_t rows_of(const struct problem *p)
{
    return (size_t)p->b * p->t;
}

/* ---- router --------------------------------------------------------------------------------------------------- */

/* Of one expert. */
static double logit(const struct problem *p, size_t r, size_t e)
{
    const size_t c = p->a.features;
    double z = p->a.flags & IR_BIAS ? p->param[1].x[e] : 0;
    for (size_t i = 0; i < c; i++)
        z += p->in[0].x[r * c + i] * p->param[0].x[e * c + i];
    return z;
}

static double log_sum_exp(const struct problem *p, size_t r)
{
    double sum = 0;
    for (size_t e = 0; e < p->a.experts; e++)
        sum += exp(logit(p, r, e));
    return log(sum);
}

static void scores_of_row(const struct problem *p, size_t r, double *prob)
{
    const size_t n = p->a.experts;
    double most = -INFINITY, sum = 0;
    for (size_t e = 0; e < n; e++) {
        prob[e] = logit(p, r, e);
        most = prob[e] > most ? prob[e] : most;
    }
    for (size_t e = 0; e < n && p->a.flags & IR_SIGMOID; e++)
        prob[e] = 1 / (1 + exp(-prob[e]));
    if (p->a.flags & IR_SIGMOID)
        return;
    for (size_t e = 0; e < n; e++)
        sum += prob[e] = exp(prob[e] - most);
    for (size_t e = 0; e < n; e++)
        prob[e] /= sum;
}

/* What is chosen by: score and selection bias, -infinity in a group that is not among the best. */
static double wish(const struct problem *p, const double *prob, size_t e)
{
    return prob[e] + (p->a.flags & IR_SELECT_BIAS ? p->param[p->a.flags & IR_BIAS ? 2 : 1].x[e] : 0);
}

static double group_worth(const struct problem *p, const double *prob, size_t g)
{
    const size_t size = p->a.experts / p->a.groups;
    double best = -INFINITY;
    for (size_t e = g * size; e < (g + 1) * size; e++)
        for (size_t o = g * size; o < (g + 1) * size; o++) {
            const bool one = p->a.flags & IR_GROUP_BEST;
            const double worth = wish(p, prob, e) + (one ? 0 : wish(p, prob, o));
            if ((one || o != e) && worth > best)
                best = worth;
        }
    return best;
}

static bool shut(const struct problem *p, const double *prob, size_t e)
{
    size_t better = 0;
    if (!p->a.groups)
        return false;
    const size_t g = e / (p->a.experts / p->a.groups);
    const double worth = group_worth(p, prob, g);
    for (size_t o = 0; o < p->a.groups; o++) {
        const double other = group_worth(p, prob, o);
        better += other > worth || (other == worth && o < g);
    }
    return better >= p->a.top_groups;
}

/* An expert's rank among all: those that are wished for more, and those as much with a lower index. */
static void choose(const struct problem *p, const double *prob, int32_t *index, double *weight)
{
    double sum = p->a.eps;
    for (size_t e = 0; e < p->a.experts; e++) {
        size_t rank = 0;
        if (shut(p, prob, e))
            continue;
        for (size_t o = 0; o < p->a.experts; o++) {
            const double mine = wish(p, prob, e), other = wish(p, prob, o);
            rank += !shut(p, prob, o) && (other > mine || (other == mine && o < e));
        }
        if (rank < p->a.top_k) {
            index[rank] = (int32_t)e;
            weight[rank] = prob[e];
            sum += prob[e];
        }
    }
    for (size_t j = 0; j < p->a.top_k; j++) {
        weight[j] /= p->a.flags & IR_NORM_TOPK ? sum : 1;
        weight[j] *= p->a.scale > 0 ? p->a.scale : 1;
    }
}

/* Is e among the k best scores of a token? */
static bool among_best(const struct problem *p, const double *prob, size_t e)
{
    size_t rank = 0;
    for (size_t o = 0; o < p->a.experts; o++)
        rank += prob[o] > prob[e] || (prob[o] == prob[e] && o < e);
    return rank < p->a.top_k;
}

/* Tokens of a sequence that e counts, as a share of T; prob: scores of all rows. */
static double share(const struct problem *p, const double *prob, size_t s, size_t e)
{
    const size_t n = (size_t)p->t * p->a.top_k;
    double count = 0;
    if (p->a.flags & IR_SEQUENCE_LOSS)
        for (size_t t = s * p->t; t < (s + 1) * p->t; t++)
            count += among_best(p, prob + t * p->a.experts, e);
    else
        for (size_t i = 0; i < n; i++)
            count += p->out[1].i[s * n + i] == (int32_t)e;
    return count / p->t;
}

static double sum_of(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* The loss of sequence s: experts (over k) times the sum of shares times mean scores (as parts of their sum). */
static double sequence_loss(const struct problem *p, const double *prob, size_t s)
{
    const size_t n = p->a.experts;
    const bool apart = p->a.flags & IR_SEQUENCE_LOSS;
    double loss = 0;
    for (size_t e = 0; e < n; e++)
        for (size_t t = s * p->t; t < (s + 1) * p->t; t++)
            loss += share(p, prob, s, e) * prob[t * n + e] / (apart ? sum_of(prob + t * n, n) : 1) / p->t;
    return loss * p->a.aux_coef * (double)n / (apart ? p->a.top_k : 1);
}

static void router_forward(struct problem *p)
{
    const size_t n = p->a.experts, k = p->a.top_k;
    double *prob = mem_alloc(rows_of(p) * n * sizeof *prob);
    for (size_t r = 0; r < rows_of(p); r++) {
        scores_of_row(p, r, prob + r * n);
        choose(p, prob + r * n, p->out[1].i + r * k, p->out[0].x + r * k);
    }
    for (size_t s = 0; s < p->b && p->a.aux_coef > 0; s++)
        p->aux += sequence_loss(p, prob, s);
    for (size_t r = 0; r < rows_of(p) && p->a.z_coef > 0; r++)
        p->aux += p->a.z_coef * pow(log_sum_exp(p, r), 2) / p->t;
    mem_free(prob);
}

/* dp (n): what the loss of sequences gives to the scores of row r. */
static void sequence_grad(const struct problem *p, const double *prob, size_t r, double *dp)
{
    const size_t n = p->a.experts;
    const bool apart = p->a.flags & IR_SEQUENCE_LOSS;
    const double *mine = prob + r * n, sum = sum_of(mine, n), factor = p->loss_scale * p->a.aux_coef * (double)n;
    double inner = 0;
    for (size_t e = 0; e < n; e++) {
        dp[e] = p->a.aux_coef > 0 ? factor * share(p, prob, r / p->t, e) : 0;
        inner += dp[e] * mine[e] / sum;
    }
    for (size_t e = 0; e < n && apart; e++)
        dp[e] = (dp[e] - inner) / sum / p->a.top_k;
}

static void router_backward(struct problem *p)
{
    const size_t n = p->a.experts, k = p->a.top_k, c = p->a.features, rows = rows_of(p);
    double *all = mem_alloc((rows + 1) * n * sizeof *all), *dp = all + rows * n;
    for (size_t r = 0; r < rows; r++)
        scores_of_row(p, r, all + r * n);
    for (size_t r = 0; r < rows; r++) {
        const double *prob = all + r * n, z = p->a.z_coef > 0 ? log_sum_exp(p, r) : 0;
        const int32_t *index = p->out[1].i + r * k;
        const double *dw = p->dout[0].x + r * k;
        const double scale = p->a.scale > 0 ? p->a.scale : 1;
        double sum = p->a.eps, mean = 0, inner = 0;
        sequence_grad(p, all, r, dp);
        for (size_t j = 0; j < k; j++)
            sum += prob[index[j]];
        for (size_t j = 0; j < k; j++)
            mean += dw[j] * prob[index[j]] / sum;
        for (size_t j = 0; j < k; j++)
            dp[index[j]] += scale * (p->a.flags & IR_NORM_TOPK ? (dw[j] - mean) / sum : dw[j]);
        for (size_t e = 0; e < n; e++)
            inner += prob[e] * dp[e];
        for (size_t e = 0; e < n; e++) {
            double dl = p->a.flags & IR_SIGMOID ? dp[e] * prob[e] * (1 - prob[e]) : prob[e] * (dp[e] - inner);
            dl += p->a.z_coef > 0 ? p->loss_scale * p->a.z_coef * 2 * z * exp(logit(p, r, e) - z) : 0;
            if (p->a.flags & IR_BIAS)
                p->dparam[1].x[e] += dl;
            for (size_t i = 0; i < c; i++) {
                p->din[0].x[r * c + i] += dl * p->param[0].x[e * c + i];
                p->dparam[0].x[e * c + i] += dl * p->in[0].x[r * c + i];
            }
        }
    }
    mem_free(all);
}

/* ---- dispatch and combine ------------------------------------------------------------------------------------- */

static void dispatch_forward(struct problem *p)
{
    const size_t n = (size_t)p->t * p->a.top_k, c = p->a.features;
    int32_t next = 0;
    for (size_t i = 0; i < p->out[0].n; i++)
        p->out[0].x[i] = 0;
    for (size_t e = 0; e < p->a.experts; e++)
        for (size_t s = 0; s < p->b; s++) {
            int32_t *count = &p->out[2].i[e * p->b + s];
            *count = 0;
            for (size_t i = s * n; i < (s + 1) * n; i++) {
                if (p->in[1].i[i] != (int32_t)e)
                    continue;
                p->out[1].i[i] = !p->a.capacity                     ? next++
                                 : (uint32_t)*count < p->a.capacity ? (int32_t)((e * p->b + s) * p->a.capacity) + *count
                                                                    : -1;
                *count += p->out[1].i[i] >= 0;
                p->dropped += p->out[1].i[i] < 0;
                for (size_t k = 0; k < c && p->out[1].i[i] >= 0; k++)
                    p->out[0].x[(size_t)p->out[1].i[i] * c + k] = p->in[0].x[i / p->a.top_k * c + k];
            }
        }
}

static void dispatch_backward(struct problem *p)
{
    const size_t c = p->a.features;
    for (size_t i = 0; i < p->out[1].n; i++)
        for (size_t k = 0; k < c && p->out[1].i[i] >= 0; k++)
            p->din[0].x[i / p->a.top_k * c + k] += p->dout[0].x[(size_t)p->out[1].i[i] * c + k];
}

static void combine(struct problem *p, bool backward)
{
    const size_t c = p->a.features;
    for (size_t i = 0; i < p->out[0].n && !backward; i++)
        p->out[0].x[i] = 0;
    for (size_t i = 0; i < p->in[1].n; i++) {
        const int32_t slot = p->in[1].i[i];
        for (size_t k = 0; k < c && slot >= 0; k++) {
            const size_t row = (size_t)slot * c + k, y = i / p->a.top_k * c + k;
            if (!backward) {
                p->out[0].x[y] += p->in[2].x[i] * p->in[0].x[row];
            } else {
                p->din[0].x[row] += p->in[2].x[i] * p->dout[0].x[y];
                p->din[2].x[i] += p->in[0].x[row] * p->dout[0].x[y];
            }
        }
    }
}

/* ---- experts -------------------------------------------------------------------------------------------------- */

size_t oracle_expert_rows(const struct problem *p, size_t part, size_t s, size_t e, size_t *n)
{
    const size_t local = p->a.experts / p->ep;
    const int32_t *count = p->in[1].i;
    *n = (size_t)count[(part * local + e) * p->b + s];
    if (p->a.capacity)
        return ((part * local + e) * p->b + s) * p->a.capacity;
    size_t first = 0; /* of all that stands before: part, then expert, then sequence */
    for (size_t q = 0; q <= part; q++)
        for (size_t f = 0; f < local; f++)
            for (size_t z = 0; z < p->b; z++)
                if (q < part || f < e || (f == e && z < s))
                    first += (size_t)count[(q * local + f) * p->b + z];
    return first;
}

struct mlp {
    const double *g, *u, *d; /* weights of one expert */
    double *dg, *du, *dd;
    const double *gb, *ub, *db; /* biases; NULL: none */
    double *dgb, *dub, *ddb;
    size_t c, f;
};

static void expert_row(struct problem *p, const struct mlp *m, size_t row, bool backward)
{
    const size_t c = m->c;
    const double *x = p->in[0].x + row * c, *dy = backward ? p->dout[0].x + row * c : NULL;
    for (size_t j = 0; j < m->f; j++) {
        double gate = m->gb ? m->gb[j] : 0, up = m->ub ? m->ub[j] : 0, dh = 0, slope[2];
        for (size_t i = 0; i < c; i++) {
            gate += x[i] * m->g[j * c + i];
            up += x[i] * m->u[j * c + i];
            dh += backward ? dy[i] * m->d[i * m->f + j] : 0;
        }
        const double h = oracle_gated(&p->a, gate, up, slope), dgate = dh * slope[0], dup = dh * slope[1];
        if (backward && m->gb) {
            m->dgb[j] += dgate;
            m->dub[j] += dup;
        }
        for (size_t i = 0; i < c; i++) {
            if (!backward) {
                p->out[0].x[row * c + i] += h * m->d[i * m->f + j];
                continue;
            }
            p->din[0].x[row * c + i] += dgate * m->g[j * c + i] + dup * m->u[j * c + i];
            m->dg[j * c + i] += dgate * x[i];
            m->du[j * c + i] += dup * x[i];
            m->dd[i * m->f + j] += dy[i] * h;
        }
    }
    for (size_t i = 0; i < c && m->db; i++) {
        if (backward)
            m->ddb[i] += dy[i];
        else
            p->out[0].x[row * c + i] += m->db[i];
    }
}

static void experts(struct problem *p, bool backward)
{
    const size_t local = p->a.experts / p->ep, c = p->a.features, f = p->a.ffn;
    for (size_t i = 0; i < p->out[0].n && !backward; i++)
        p->out[0].x[i] = 0;
    for (size_t part = 0; part < p->ep; part++)
        for (size_t e = 0; e < local; e++) {
            const size_t w = e * c * f;
            const struct mlp m = { .g = p->param[0].x + w,
                                   .u = p->param[1].x + w,
                                   .d = p->param[2].x + w,
                                   .dg = backward ? p->dparam[0].x + w : NULL,
                                   .du = backward ? p->dparam[1].x + w : NULL,
                                   .dd = backward ? p->dparam[2].x + w : NULL,
                                   .gb = p->param[3].n ? p->param[3].x + e * f : NULL,
                                   .ub = p->param[3].n ? p->param[4].x + e * f : NULL,
                                   .db = p->param[3].n ? p->param[5].x + e * c : NULL,
                                   .dgb = backward && p->param[3].n ? p->dparam[3].x + e * f : NULL,
                                   .dub = backward && p->param[3].n ? p->dparam[4].x + e * f : NULL,
                                   .ddb = backward && p->param[3].n ? p->dparam[5].x + e * c : NULL,
                                   .c = c,
                                   .f = f };
            for (size_t s = 0; s < p->b; s++) {
                size_t n, first = oracle_expert_rows(p, part, s, e, &n);
                for (size_t r = 0; r < n; r++)
                    expert_row(p, &m, first + r, backward);
            }
        }
}

void oracle_moe_forward(struct problem *p)
{
    if (p->op == IR_OP_ROUTER)
        router_forward(p);
    else if (p->op == IR_OP_DISPATCH)
        dispatch_forward(p);
    else if (p->op == IR_OP_EXPERTS)
        experts(p, false);
    else
        combine(p, false);
}

void oracle_moe_backward(struct problem *p)
{
    if (p->op == IR_OP_ROUTER)
        router_backward(p);
    else if (p->op == IR_OP_DISPATCH)
        dispatch_backward(p);
    else if (p->op == IR_OP_EXPERTS)
        experts(p, true);
    else
        combine(p, true);
}
