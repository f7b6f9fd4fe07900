/* Float64 oracle of the operators outside the experts, written as plainly as the equations. */
#include <math.h>

#include "base/mem.h"
#include "num/num.h"

static size_t rows_of(const struct problem *p)
{
    return (size_t)p->b * p->t;
}

/* ---- norms ---------------------------------------------------------------------------------------------------- */

static void norm_statistics(const struct problem *p, const double *x, size_t n, double *mean, double *rstd)
{
    double m = 0, v = 0;
    for (size_t i = 0; i < n && p->op == IR_OP_LAYERNORM; i++)
        m += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        v += (x[i] - m) * (x[i] - m) / (double)n;
    *mean = m;
    *rstd = 1 / sqrt(v + p->a.eps);
}

/* Of element i of group r: where its weight lies, and the weight. */
static size_t norm_weight(const struct problem *p, size_t r, size_t i, double *w)
{
    const size_t at = (p->a.flags & IR_PER_HEAD ? r % ir_op_norm_groups(&p->a) * p->a.features : 0) + i;
    *w = p->param[0].n ? p->param[0].x[at] + (p->a.flags & IR_ONE_PLUS ? 1 : 0) : 1;
    return at;
}

static void norm_forward(struct problem *p)
{
    const size_t n = p->a.features, rows = p->in[0].n / n;
    for (size_t r = 0; r < rows; r++) {
        const double *x = p->in[0].x + r * n;
        double mean, rstd, w;
        norm_statistics(p, x, n, &mean, &rstd);
        for (size_t i = 0; i < n; i++) {
            const size_t at = norm_weight(p, r, i, &w);
            p->out[0].x[r * n + i] = (x[i] - mean) * rstd * w + (p->param[1].n ? p->param[1].x[at] : 0);
        }
    }
}

static void norm_backward(struct problem *p)
{
    const size_t n = p->a.features, rows = p->in[0].n / n;
    for (size_t r = 0; r < rows; r++) {
        const double *x = p->in[0].x + r * n, *dy = p->dout[0].x + r * n;
        double mean, rstd, w, sum_g = 0, sum_gh = 0;
        norm_statistics(p, x, n, &mean, &rstd);
        for (size_t i = 0; i < n; i++) {
            const size_t at = norm_weight(p, r, i, &w);
            const double h = (x[i] - mean) * rstd, g = dy[i] * w;
            sum_g += p->op == IR_OP_LAYERNORM ? g : 0;
            sum_gh += g * h;
            if (p->dparam[0].n)
                p->dparam[0].x[at] += dy[i] * h;
            if (p->dparam[1].n)
                p->dparam[1].x[at] += dy[i];
        }
        for (size_t i = 0; i < n; i++) {
            norm_weight(p, r, i, &w);
            p->din[0].x[r * n + i] = rstd * (dy[i] * w - sum_g / (double)n - (x[i] - mean) * rstd * sum_gh / (double)n);
        }
    }
}

/* ---- linear --------------------------------------------------------------------------------------------------- */

static size_t weight_at(const struct problem *p, size_t o, size_t i)
{
    return p->a.flags & IR_TRANSPOSED ? i * p->a.out_features + o : o * p->a.in_features + i;
}

static void linear(struct problem *p, bool backward)
{
    const size_t in = p->a.in_features, out = p->a.out_features;
    for (size_t r = 0; r < rows_of(p); r++)
        for (size_t o = 0; o < out; o++) {
            const double dy = backward ? p->dout[0].x[r * out + o] : 0;
            double y = p->param[1].n ? p->param[1].x[o] : 0;
            for (size_t i = 0; i < in; i++) {
                y += p->in[0].x[r * in + i] * p->param[0].x[weight_at(p, o, i)];
                if (backward) {
                    p->din[0].x[r * in + i] += dy * p->param[0].x[weight_at(p, o, i)];
                    p->dparam[0].x[weight_at(p, o, i)] += dy * p->in[0].x[r * in + i];
                }
            }
            if (backward && p->dparam[1].n)
                p->dparam[1].x[o] += dy;
            if (!backward)
                p->out[0].x[r * out + o] = y;
        }
}

/* ---- rope ----------------------------------------------------------------------------------------------------- */

static void rope(const struct problem *p, double *y, const double *x, double sign)
{
    const size_t d = p->a.head_dim, n = p->a.rotary_dim ? p->a.rotary_dim : d, heads = rows_of(p) * p->a.heads;
    const double scale = p->a.scale > 0 ? p->a.scale : 1;
    for (size_t i = 0; i < heads * d; i++)
        y[i] = x[i];
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < n / 2; i++) {
            const double position = (double)(h / p->a.heads % p->t);
            const double angle = position *
                                 (p->a.inv_freq ? p->a.inv_freq->at[i] : pow(p->a.theta, -2.0 * (double)i / (double)n));
            const double c = scale * cos(angle), s = scale * sign * sin(angle);
            const size_t first = h * d + p->a.rotary_offset, j = first + (p->a.flags & IR_PAIRS ? 2 * i : i),
                         k = first + (p->a.flags & IR_PAIRS ? 2 * i + 1 : i + n / 2);
            y[j] = x[j] * c - x[k] * s;
            y[k] = x[k] * c + x[j] * s;
        }
}

/* ---- attention ------------------------------------------------------------------------------------------------ */

/* Row t of head h of operand `which` (0 q, 1 k, 2 v) in x (the inputs, or their gradients). */
static double *part(const struct problem *p, struct tensor *x, int which, size_t row, size_t h)
{
    const size_t d = p->a.head_dim, dv = p->a.v_head_dim ? p->a.v_head_dim : d, kv = p->a.kv_heads;
    const size_t width[3] = { p->a.heads * d, kv * d, kv * dv }, at = h * (which == 2 ? dv : d);
    if (p->a.flags & IR_PACKED)
        return x[0].x + row * (width[0] + width[1] + width[2]) + (which > 0 ? width[0] : 0) +
               (which > 1 ? width[1] : 0) + at;
    return x[which].x + row * width[which] + at;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* prob[from..t]: what query row t of sequence s, head h, pays to the keys it sees; slope: what a score's bound makes of a
 * change. Returns what its sink gets. */
static double probabilities(struct problem *p, size_t s, size_t h, size_t from, size_t t, double *prob, double *slope)
{
    const size_t kv = h / (p->a.heads / p->a.kv_heads), row0 = s * p->t;
    const double cap = p->a.score_cap, sink = p->a.flags & IR_SINKS ? p->param[0].x[h] : -INFINITY;
    double most = sink, sum;
    for (size_t j = from; j <= t; j++) {
        prob[j] = p->a.scale * dot(part(p, p->in, 0, row0 + t, h), part(p, p->in, 1, row0 + j, kv), p->a.head_dim);
        slope[j] = 1;
        if (cap > 0) {
            slope[j] = 1 - pow(tanh(prob[j] / cap), 2);
            prob[j] = cap * tanh(prob[j] / cap);
        }
        most = prob[j] > most ? prob[j] : most;
    }
    sum = exp(sink - most);
    for (size_t j = from; j <= t; j++)
        sum += prob[j] = exp(prob[j] - most);
    for (size_t j = from; j <= t; j++)
        prob[j] /= sum;
    return exp(sink - most) / sum;
}

/* room: 2t. */
static void attention_row(struct problem *p, size_t s, size_t h, size_t t, double *room, bool backward)
{
    const size_t kv = h / (p->a.heads / p->a.kv_heads), row0 = s * p->t, d = p->a.head_dim;
    const size_t dv = p->a.v_head_dim ? p->a.v_head_dim : d, o = ((row0 + t) * p->a.heads + h) * dv, w = p->a.window;
    size_t from = w && t + 1 > w ? t + 1 - w : 0;
    if (p->document && (size_t)p->document[row0 + t] > from)
        from = (size_t)p->document[row0 + t];
    double *const prob = room, *const slope = room + p->t, sink = probabilities(p, s, h, from, t, prob, slope);
    if (!backward) {
        for (size_t i = 0; i < dv; i++) {
            p->out[0].x[o + i] = 0;
            for (size_t j = from; j <= t; j++)
                p->out[0].x[o + i] += prob[j] * part(p, p->in, 2, row0 + j, kv)[i];
        }
        return;
    }
    const double *dy = p->dout[0].x + o;
    double mean = 0;
    for (size_t j = from; j <= t; j++)
        mean += prob[j] * dot(dy, part(p, p->in, 2, row0 + j, kv), dv);
    if (p->a.flags & IR_SINKS)
        p->dparam[0].x[h] -= sink * mean;
    for (size_t j = from; j <= t; j++) {
        const double ds = prob[j] * (dot(dy, part(p, p->in, 2, row0 + j, kv), dv) - mean) * slope[j] * p->a.scale;
        for (size_t i = 0; i < dv; i++)
            part(p, p->din, 2, row0 + j, kv)[i] += prob[j] * dy[i];
        for (size_t i = 0; i < d; i++) {
            part(p, p->din, 1, row0 + j, kv)[i] += ds * part(p, p->in, 0, row0 + t, h)[i];
            part(p, p->din, 0, row0 + t, h)[i] += ds * part(p, p->in, 1, row0 + j, kv)[i];
        }
    }
}

static void attention(struct problem *p, bool backward)
{
    double *prob = mem_alloc(2 * p->t * sizeof *prob);
    for (size_t s = 0; s < p->b; s++)
        for (size_t h = 0; h < p->a.heads; h++)
            for (size_t t = 0; t < p->t; t++)
                attention_row(p, s, h, t, prob, backward);
    mem_free(prob);
}

/* ---- activations ---------------------------------------------------------------------------------------------- */

static double gelu(const struct ir_attrs *a, double x, double *slope)
{
    const double pi = 3.14159265358979323846, k = sqrt(2 / pi);
    if (a->flags & IR_EXACT) {
        const double phi = 0.5 * erfc(-x / sqrt(2));
        *slope = phi + x * exp(-x * x / 2) / sqrt(2 * pi);
        return x * phi;
    }
    const double th = tanh(k * (x + 0.044715 * x * x * x));
    *slope = 0.5 * (1 + th) + 0.5 * x * (1 - th * th) * k * (1 + 3 * 0.044715 * x * x);
    return 0.5 * x * (1 + th);
}

double oracle_act(const struct ir_attrs *a, double x, double *slope)
{
    const double alpha = a->alpha > 0 ? a->alpha : 1, s = 1 / (1 + exp(-(a->act == IR_ACT_SILU ? alpha : 1) * x));
    const struct ir_attrs exact = { .flags = a->act == IR_ACT_GELU ? IR_EXACT : 0 };
    switch (a->act) {
    case IR_ACT_GELU:
    case IR_ACT_GELU_TANH:
        return gelu(&exact, x, slope);
    case IR_ACT_RELU:
        *slope = x > 0;
        return x > 0 ? x : 0;
    case IR_ACT_RELU2:
        *slope = x > 0 ? 2 * x : 0;
        return x > 0 ? x * x : 0;
    case IR_ACT_SIGMOID:
        *slope = s * (1 - s);
        return s;
    default:
        *slope = s + alpha * x * s * (1 - s);
        return x * s;
    }
}

double oracle_gated(const struct ir_attrs *a, double gate, double up, double slope[2])
{
    const double limit = a->clamp > 0 ? a->clamp : INFINITY, g = fmin(gate, limit),
                 plus = a->flags & IR_ONE_PLUS ? 1 : 0;
    const double u = fmax(-limit, fmin(up, limit)) + plus, f = oracle_act(a, g, &slope[0]);
    slope[0] *= gate > limit ? 0 : u;
    slope[1] = fabs(up) > limit ? 0 : f;
    return f * u;
}

static void swiglu_backward(struct problem *p)
{
    for (size_t i = 0; i < p->out[0].n; i++) {
        double slope[2];
        oracle_gated(&p->a, p->in[0].x[i], p->in[1].x[i], slope);
        for (int k = 0; k < 2; k++)
            p->din[k].x[i] = p->dout[0].x[i] * slope[k];
    }
}

/* ---- head ----------------------------------------------------------------------------------------------------- */

static void head_row(struct problem *p, size_t r, double *logits, bool backward)
{
    const size_t c = p->a.features, n = p->a.vocab;
    const int32_t target = p->in[1].i[r];
    const double cap = p->a.score_cap, scale = p->a.scale > 0 ? p->a.scale : 1;
    double most = -INFINITY, sum = 0;
    if (target < 0)
        return;
    for (size_t w = 0; w < n; w++) {
        logits[w] = scale *
                    (dot(p->in[0].x + r * c, p->param[0].x + w * c, c) + (p->param[1].n ? p->param[1].x[w] : 0));
        if (cap > 0)
            logits[w] = cap * tanh(logits[w] / cap);
        most = logits[w] > most ? logits[w] : most;
    }
    for (size_t w = 0; w < n; w++)
        sum += exp(logits[w] - most);
    if (!backward)
        p->loss += log(sum) + most - logits[target];
    for (size_t w = 0; w < n && backward; w++) {
        const double slope = scale * (cap > 0 ? 1 - pow(logits[w] / cap, 2) : 1);
        const double d = (exp(logits[w] - most) / sum - (w == (size_t)target)) * p->loss_scale * slope;
        if (p->dparam[1].n)
            p->dparam[1].x[w] += d;
        for (size_t i = 0; i < c; i++) {
            p->din[0].x[r * c + i] += d * p->param[0].x[w * c + i];
            p->dparam[0].x[w * c + i] += d * p->in[0].x[r * c + i];
        }
    }
}

static void head(struct problem *p, bool backward)
{
    double *logits = mem_alloc(p->a.vocab * sizeof *logits);
    for (size_t r = 0; r < rows_of(p); r++)
        head_row(p, r, logits, backward);
    mem_free(logits);
}

/* ---- both passes ---------------------------------------------------------------------------------------------- */

static void elementwise(struct problem *p)
{
    const size_t c = p->a.features;
    for (size_t i = 0; i < p->out[0].n; i++) {
        const double x = p->op == IR_OP_EMBED ? 0 : p->in[0].x[i];
        double slope, slopes[2], *y = &p->out[0].x[i];
        if (p->op == IR_OP_EMBED)
            *y = p->param[0].x[(size_t)p->in[0].i[i / c] * c + i % c];
        else if (p->op == IR_OP_POS_EMBED)
            *y = x + p->param[0].x[(p->a.first_position + i / c % p->t) * c + i % c];
        else if (p->op == IR_OP_GELU)
            *y = gelu(&p->a, x, &slope);
        else if (p->op == IR_OP_SWIGLU)
            *y = oracle_gated(&p->a, x, p->in[1].x[i], slopes);
        else if (p->op == IR_OP_ACT)
            *y = oracle_act(&p->a, x, &slope);
        else if (p->op == IR_OP_SCALE)
            *y = (double)p->a.scale * x;
        else if (p->op == IR_OP_CLAMP)
            *y = fmax(-(double)p->a.clamp, fmin(p->a.clamp, x));
        else
            *y = x + p->in[1].x[i];
    }
}

static void elementwise_backward(struct problem *p)
{
    const size_t c = p->a.features;
    for (size_t i = 0; i < p->out[0].n; i++) {
        const double dy = p->dout[0].x[i];
        if (p->op == IR_OP_EMBED) {
            p->dparam[0].x[(size_t)p->in[0].i[i / c] * c + i % c] += dy;
        } else if (p->op == IR_OP_POS_EMBED) {
            p->din[0].x[i] = dy;
            p->dparam[0].x[(p->a.first_position + i / c % p->t) * c + i % c] += dy;
        } else if (p->op == IR_OP_GELU || p->op == IR_OP_ACT) {
            double slope;
            if (p->op == IR_OP_GELU)
                gelu(&p->a, p->in[0].x[i], &slope);
            else
                oracle_act(&p->a, p->in[0].x[i], &slope);
            p->din[0].x[i] = dy * slope;
        } else if (p->op == IR_OP_SCALE) {
            p->din[0].x[i] = (double)p->a.scale * dy;
        } else if (p->op == IR_OP_CLAMP) {
            p->din[0].x[i] = fabs(p->in[0].x[i]) > p->a.clamp ? 0 : dy;
        } else {
            p->din[0].x[i] = p->din[1].x[i] = dy;
        }
    }
}

static void row_gate(struct problem *p, bool backward)
{
    const size_t c = p->a.features;
    for (size_t r = 0; r < rows_of(p); r++) {
        const double s = 1 / (1 + exp(-p->in[1].x[r]));
        for (size_t i = r * c; i < (r + 1) * c; i++)
            if (backward) {
                p->din[0].x[i] = s * p->dout[0].x[i];
                p->din[1].x[r] += s * (1 - s) * p->dout[0].x[i] * p->in[0].x[i];
            } else {
                p->out[0].x[i] = s * p->in[0].x[i];
            }
    }
}

static void join_heads(struct problem *p, bool backward)
{
    const size_t d = p->a.head_dim, shared = p->a.rotary_dim, own = d - shared;
    for (size_t i = 0; i < p->out[0].n; i++) {
        const size_t h = i / d, e = i % d, from = e < own ? h * own + e : h / p->a.heads * shared + e - own;
        const int which = e >= own;
        if (backward)
            p->din[which].x[from] += p->dout[0].x[i];
        else
            p->out[0].x[i] = p->in[which].x[from];
    }
}

void oracle_dense_forward(struct problem *p)
{
    switch (p->op) {
    case IR_OP_LAYERNORM:
    case IR_OP_RMSNORM:
        norm_forward(p);
        return;
    case IR_OP_LINEAR:
        linear(p, false);
        return;
    case IR_OP_ROPE:
        rope(p, p->out[0].x, p->in[0].x, 1);
        return;
    case IR_OP_ATTENTION:
        attention(p, false);
        return;
    case IR_OP_HEAD_LOSS:
        head(p, false);
        return;
    case IR_OP_ROW_GATE:
        row_gate(p, false);
        return;
    case IR_OP_JOIN_HEADS:
        join_heads(p, false);
        return;
    default:
        elementwise(p);
    }
}

void oracle_dense_backward(struct problem *p)
{
    switch (p->op) {
    case IR_OP_LAYERNORM:
    case IR_OP_RMSNORM:
        norm_backward(p);
        return;
    case IR_OP_LINEAR:
        linear(p, true);
        return;
    case IR_OP_ROPE:
        rope(p, p->din[0].x, p->dout[0].x, -1);
        return;
    case IR_OP_ATTENTION:
        attention(p, true);
        return;
    case IR_OP_SWIGLU:
        swiglu_backward(p);
        return;
    case IR_OP_HEAD_LOSS:
        head(p, true);
        return;
    case IR_OP_ROW_GATE:
        row_gate(p, true);
        return;
    case IR_OP_JOIN_HEADS:
        join_heads(p, true);
        return;
    default:
        elementwise_backward(p);
    }
}
