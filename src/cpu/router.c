/* Top-k router: softmax in float32 over the experts, ties to the lower index, auxiliary load-balance loss per
 * sequence: experts * sum over e of (tokens that chose e / T) * (mean probability of e), as in Switch Transformer
 * (Fedus et al. 2021) and Mixtral. The training loss takes aux_coef times its mean over sequences. */
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"

/* index, weight (k): the k largest of p (experts). */
static void top_k(const struct ir_attrs *at, const float *p, int32_t *index, float *weight)
{
    const size_t k = at->top_k;
    float sum = 0;
    for (size_t j = 0; j < k; j++) {
        int32_t best = -1;
        for (size_t e = 0; e < at->experts; e++) {
            bool taken = false;
            for (size_t i = 0; i < j; i++)
                taken |= index[i] == (int32_t)e;
            if (!taken && (best < 0 || p[e] > p[best]))
                best = (int32_t)e;
        }
        index[j] = best;
        weight[j] = p[best];
        sum += p[best];
    }
    if (at->flags & IR_NORM_TOPK)
        for (size_t j = 0; j < k; j++)
            weight[j] /= sum;
}

/* Tokens of one sequence that chose expert e, as a share of T. */
static double chosen(const struct op_args *a, const int32_t *index, size_t e)
{
    const size_t n = (size_t)a->t * a->attrs->top_k;
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += index[i] == (int32_t)e;
    return (double)count / a->t;
}

/* aux_loss of sequence s, without its coefficient. */
static double balance_loss(const struct op_args *a, const float *probs, const int32_t *index, size_t s)
{
    const size_t experts = a->attrs->experts, t = a->t;
    double loss = 0;
    for (size_t e = 0; e < experts; e++) {
        double p = 0;
        for (size_t i = 0; i < t; i++)
            p += probs[(s * t + i) * experts + e];
        loss += chosen(a, index + s * t * a->attrs->top_k, e) * p / (double)t;
    }
    return loss * (double)experts;
}

void cpu_router_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const struct ir_attrs *at = a->attrs;
    const size_t experts = at->experts, k = at->top_k, c = at->features, rows = cpu_rows(a);
    float *weight = a->out[0], *probs = a->save[0] ? a->save[0] : a->work;
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
        float *p = probs + r * experts;
        const float sum = (float)v->exp_sum(p, p, v->max(p, experts), experts);
        v->scale(p, 1.0f / sum, p, experts);
        top_k(at, p, index + r * k, weight + r * k);
    }
    if (at->aux_coef > 0)
        for (size_t s = 0; s < a->b; s++)
            a->scalars[SCALAR_AUX] += at->aux_coef * balance_loss(a, probs, index, s);
}

/* dp (experts), the gradient of one token's probabilities: through the weights, beside what the auxiliary loss put
 * there. */
static void weights_grad(const struct ir_attrs *at, float *dp, const float *p, const int32_t *index, const float *dw)
{
    float sum = 0, mean = 0;
    if (at->flags & IR_NORM_TOPK) {
        for (size_t j = 0; j < at->top_k; j++)
            sum += p[index[j]];
        for (size_t j = 0; j < at->top_k; j++)
            mean += dw[j] * p[index[j]] / sum;
    } else {
        sum = 1;
    }
    for (size_t j = 0; j < at->top_k; j++)
        dp[index[j]] += (dw[j] - mean) / sum;
}

/* work: (b, experts) float32, the gradient of each probability of a sequence from the auxiliary loss. */
static void balance_grad(const struct op_args *a, float *grad)
{
    const size_t experts = a->attrs->experts;
    const int32_t *index = a->out[1];
    const double factor = a->attrs->aux_coef * a->loss_scale * (double)experts;
    for (size_t s = 0; s < a->b; s++)
        for (size_t e = 0; e < experts; e++)
            grad[s * experts + e] = factor > 0 ? (float)(factor * chosen(a, index + s * a->t * a->attrs->top_k, e)) : 0;
}

void cpu_router_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
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
        memcpy(dl, aux + r / a->t * experts, experts * sizeof *dl);
        weights_grad(at, dl, p, index + r * k, dw + r * k);
        v->softmax_grad(dl, p, dl, v->dot(p, dl, experts), 1.0f, experts);
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
}
