/* The loops of vec.h for one instruction set; see vec.c. No include guard: it is included several times on purpose. */
#include "cpu/vec_math.h"

#define EACH for (size_t i = 0; i < n; i++)
/* Runs a gradient loop with and without an addend, so that the loop has no branch in it. */
#define WITH_ACC(out, grad)               \
    do {                                  \
        if (acc) {                        \
            _Pragma("omp simd") EACH      \
            {                             \
                out[i] = acc[i] + (grad); \
            }                             \
        } else {                          \
            _Pragma("omp simd") EACH      \
            {                             \
                out[i] = (grad);          \
            }                             \
        }                                 \
    } while (0)

static void V(add)(float *y, const float *a, const float *b, size_t n)
{
#pragma omp simd
    EACH y[i] = a[i] + b[i];
}

static void V(axpy)(float *y, float a, const float *x, size_t n)
{
#pragma omp simd
    EACH y[i] += a * x[i];
}

static void V(scale)(float *y, float a, const float *x, size_t n)
{
#pragma omp simd
    EACH y[i] = a * x[i];
}

INLINE float V(wide1)(uint16_t x)
{
    union V(bits) z = { .u = (uint32_t)x << 16 };
    return z.f;
}

INLINE float V(element)(const void *x, size_t i, bool half)
{
    return half ? V(wide1)(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

/* b is bfloat16 if half. As many sums as registers hold, since one alone waits for its own last addition; one row from its begin to its
 * end, since what a processor reads ahead by itself is what follows. */
INLINE float V(dot_of)(const float *a, const void *b, size_t n, bool half)
{
    enum { LANES = 64 };
    float lane[LANES] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (size_t k = 0; k < LANES; k++)
            lane[k] += a[i + k] * V(element)(b, i + k, half);
    }
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < LANES; k++)
        sum += lane[k];
#pragma omp simd reduction(+ : sum)
    for (size_t k = i; k < n; k++)
        sum += a[k] * V(element)(b, k, half);
    return sum;
}

static float V(dot)(const float *a, const float *b, size_t n)
{
    return V(dot_of)(a, b, n, false);
}

static float V(dot_half)(const float *a, const uint16_t *b, size_t n)
{
    return V(dot_of)(a, b, n, true);
}

/* Other threads see it after a locked instruction, as at the end of a parallel region. */
static void V(copy_far)(float *y, const float *x, size_t n)
{
    size_t i = 0;
#ifdef CPU_AVX
    for (; (uintptr_t)y % 64 == 0 && i + 4 <= n; i += 4)
        _mm_stream_ps(y + i, _mm_loadu_ps(x + i));
#endif
    memcpy(y + i, x + i, (n - i) * sizeof *y);
}

static void V(widen)(float *y, const uint16_t *x, size_t n)
{
#pragma omp simd
    EACH y[i] = V(wide1)(x[i]);
}

INLINE uint32_t V(round1)(float x)
{
    union V(bits) z = { x };
    uint32_t even = (z.u + 0x7fff + (z.u >> 16 & 1)) >> 16, nan = z.u >> 16 | 0x40;
    return (z.u & 0x7fffffff) > 0x7f800000 ? nan : even;
}

static void V(round)(uint16_t *y, const float *x, size_t n)
{
#pragma omp simd
    EACH y[i] = (uint16_t)V(round1)(x[i]);
}

/* ---- softmax -------------------------------------------------------------------------------------------------- */

/* By lanes, because a maximum over floats does not vectorise where a NaN may occur; a NaN is passed over. */
static float V(max)(const float *x, size_t n)
{
    enum { LANES = 32 };
    float lane[LANES], most = -INFINITY;
    size_t whole = n / LANES * LANES;
    for (size_t k = 0; k < LANES; k++)
        lane[k] = -INFINITY;
    for (size_t i = 0; i < whole; i += LANES) {
#pragma omp simd
        for (size_t k = 0; k < LANES; k++)
            lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    }
    for (size_t i = whole; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (size_t k = 0; k < LANES; k++)
        most = lane[k] > most ? lane[k] : most;
    return most;
}

enum { V(block) = 1024 }; /* elements summed in float32 before the float64 sum takes them */

static double V(exp_sum)(float *y, const float *x, float shift, size_t n)
{
    double sum = 0;
    for (size_t i0 = 0; i0 < n; i0 += V(block)) {
        size_t end = n - i0 < V(block) ? n : i0 + V(block);
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (size_t i = i0; i < end; i++) {
            float e = V(exp1)(x[i] - shift);
            y[i] = e;
            part += e;
        }
        sum += part;
    }
    return sum;
}

static double V(sum_exp)(const float *x, float shift, size_t n)
{
    double sum = 0;
    for (size_t i0 = 0; i0 < n; i0 += V(block)) {
        size_t end = n - i0 < V(block) ? n : i0 + V(block);
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (size_t i = i0; i < end; i++)
            part += V(exp1)(x[i] - shift);
        sum += part;
    }
    return sum;
}

static void V(softmax_grad)(float *ds, const float *p, const float *dp, float delta, float scale, size_t n)
{
#pragma omp simd
    EACH ds[i] = p[i] * (dp[i] - delta) * scale;
}

/* ---- bounds ---------------------------------------------------------------------------------------------------- */

struct V(slope) { /* a value, and the derivative there */
    float f, slope;
};

INLINE float V(between)(float x, float low, float high)
{
    const float y = x < low ? low : x;
    return y > high ? high : y;
}

static void V(clamp)(float *y, const float *x, float limit, size_t n)
{
#pragma omp simd
    EACH y[i] = V(between)(x[i], -limit, limit);
}

static void V(clamp_grad)(float *dx, const float *acc, const float *x, const float *dy, float limit, size_t n)
{
    WITH_ACC(dx, x[i] > limit || x[i] < -limit ? 0.0f : dy[i]);
}

/* tanh and its slope: the continued fraction near 0, by e = exp(-2|x|) elsewhere. */
INLINE struct V(slope) V(tanh1)(float x)
{
    const float q = x * x, a = x < 0 ? -x : x, e = V(exp1)(-2.0f * a), far = (1.0f - e) / (1.0f + e);
    const float near = x * FMA(q, q + 105.0f, 945.0f) / FMA(q, FMA(q, 15.0f, 420.0f), 945.0f);
    const float steep = 4.0f * e / ((1.0f + e) * (1.0f + e));
    return (struct V(slope)){ a < 0.5f ? near : x < 0 ? -far : far, a < 0.5f ? 1.0f - near * near : steep };
}

static void V(cap)(float *x, float *slope, float cap, size_t n)
{
    if (slope) {
#pragma omp simd
        EACH
        {
            const struct V(slope) y = V(tanh1)(x[i] / cap);
            x[i] = cap * y.f;
            slope[i] = y.slope;
        }
    } else {
#pragma omp simd
        EACH x[i] = cap * V(tanh1)(x[i] / cap).f;
    }
}

/* ---- activations ---------------------------------------------------------------------------------------------- */

/* gelu_new: x/2 (1 + tanh u) = x logistic(2u), 2u = 2 sqrt(2/pi) (x + 0.044715 x^3). */
#define GELU_A 1.59576912f
#define GELU_B 0.0713548162726f

static void V(gelu)(float *y, const float *x, size_t n)
{
#pragma omp simd
    EACH
    {
        float v = x[i];
        y[i] = v * V(logistic1)(v * FMA(v * v, GELU_B, GELU_A));
    }
}

INLINE float V(gelu_slope1)(float v)
{
    float s = V(logistic1)(v * FMA(v * v, GELU_B, GELU_A));
    return FMA(v * s * (1.0f - s), FMA(v * v, 3.0f * GELU_B, GELU_A), s);
}

static void V(gelu_grad)(float *dx, const float *acc, const float *x, const float *dy, size_t n)
{
    WITH_ACC(dx, dy[i] * V(gelu_slope1)(x[i]));
}

static void V(gelu_erf)(float *y, const float *x, size_t n)
{
#pragma omp simd
    EACH y[i] = x[i] * V(normal1)(x[i]).phi;
}

INLINE float V(gelu_erf_slope1)(float v)
{
    struct V(normal) d = V(normal1)(v);
    return FMA(v * 0.39894228f, d.density, d.phi);
}

static void V(gelu_erf_grad)(float *dx, const float *acc, const float *x, const float *dy, size_t n)
{
    WITH_ACC(dx, dy[i] * V(gelu_erf_slope1)(x[i]));
}

static void V(swiglu)(float *y, const float *gate, const float *up, size_t n)
{
#pragma omp simd
    EACH y[i] = gate[i] * V(logistic1)(gate[i]) * up[i];
}

INLINE float V(silu_slope1)(float v)
{
    float s = V(logistic1)(v);
    return s * FMA(v, 1.0f - s, 1.0f);
}

static void V(swiglu_grad)(float *const d[2], const float *const accs[2], const float *gate, const float *up,
                           const float *dy, size_t n)
{
    float *dgate = d[0], *dup = d[1];
    if (!accs[0] && !accs[1]) {
#pragma omp simd
        EACH
        {
            float s = V(logistic1)(gate[i]), g = gate[i], dyi = dy[i];
            dgate[i] = dyi * up[i] * s * FMA(g, 1.0f - s, 1.0f);
            dup[i] = dyi * g * s;
        }
        return;
    }
    const float *acc = accs[0];
    WITH_ACC(dgate, dy[i] * up[i] * V(silu_slope1)(gate[i]));
    acc = accs[1];
    WITH_ACC(dup, dy[i] * gate[i] * V(logistic1)(gate[i]));
}

/* act is a constant where this is inlined. */
INLINE struct V(slope) V(act1)(unsigned act, float alpha, float x)
{
    const float positive = x > 0 ? x : 0.0f;
    float s;
    switch (act) {
    case IR_ACT_GELU:
        return (struct V(slope)){ x * V(normal1)(x).phi, V(gelu_erf_slope1)(x) };
    case IR_ACT_GELU_TANH:
        return (struct V(slope)){ x * V(logistic1)(x * FMA(x * x, GELU_B, GELU_A)), V(gelu_slope1)(x) };
    case IR_ACT_RELU:
        return (struct V(slope)){ positive, x > 0 ? 1.0f : 0.0f };
    case IR_ACT_RELU2:
        return (struct V(slope)){ positive * positive, 2.0f * positive };
    case IR_ACT_SIGMOID:
        s = V(logistic1)(x);
        return (struct V(slope)){ s, s * (1.0f - s) };
    default:
        s = V(logistic1)(alpha * x);
        return (struct V(slope)){ x * s, s * FMA(alpha * x, 1.0f - s, 1.0f) };
    }
}

/* LOOP(activation) for the one that is asked for. */
#define FOR_ACT(kind)          \
    switch (kind) {            \
    case IR_ACT_GELU:          \
        LOOP(IR_ACT_GELU)      \
        break;                 \
    case IR_ACT_GELU_TANH:     \
        LOOP(IR_ACT_GELU_TANH) \
        break;                 \
    case IR_ACT_RELU:          \
        LOOP(IR_ACT_RELU)      \
        break;                 \
    case IR_ACT_RELU2:         \
        LOOP(IR_ACT_RELU2)     \
        break;                 \
    case IR_ACT_SIGMOID:       \
        LOOP(IR_ACT_SIGMOID)   \
        break;                 \
    default:                   \
        LOOP(IR_ACT_SILU)      \
    }

static void V(act)(unsigned act, float *y, const float *x, size_t n)
{
#define LOOP(k) _Pragma("omp simd") EACH y[i] = V(act1)(k, 1.0f, x[i]).f;
    FOR_ACT(act)
#undef LOOP
}

static void V(act_grad)(unsigned act, float *dx, const float *acc, const float *x, const float *dy, size_t n)
{
#define LOOP(k) WITH_ACC(dx, dy[i] * V(act1)(k, 1.0f, x[i]).slope);
    FOR_ACT(act)
#undef LOOP
}

static void V(gated)(const struct vec_gate *p, float *y, const float *gate, const float *up, size_t n)
{
    const struct vec_gate c = *p;
#define LOOP(k)                                                                                      \
    _Pragma("omp simd") EACH y[i] = V(act1)(k, c.alpha, V(between)(gate[i], -INFINITY, c.limit)).f * \
                                    (c.plus + V(between)(up[i], -c.limit, c.limit));
    FOR_ACT(c.act)
#undef LOOP
}

/* Beyond a bound the slope is 0, on it that of what it bounds. */
static void V(gated_grad)(const struct vec_gate *p, float *const d[2], const float *const accs[2], const float *gate,
                          const float *up, const float *dy, size_t n)
{
    const struct vec_gate c = *p;
    float *dgate = d[0], *dup = d[1];
    const float *acc0 = accs[0], *acc1 = accs[1];
#define LOOP(k)                                                                           \
    _Pragma("omp simd") EACH                                                              \
    {                                                                                     \
        const float g = gate[i], u = up[i], dyi = dy[i];                                  \
        const struct V(slope) f = V(act1)(k, c.alpha, V(between)(g, -INFINITY, c.limit)); \
        const float dg = dyi * (c.plus + V(between)(u, -c.limit, c.limit)) * f.slope;     \
        const float from_gate = g > c.limit ? 0.0f : dg;                                  \
        const float from_up = u > c.limit || u < -c.limit ? 0.0f : dyi * f.f;             \
        dgate[i] = acc0 ? acc0[i] + from_gate : from_gate;                                \
        dup[i] = acc1 ? acc1[i] + from_up : from_up;                                      \
    }
    FOR_ACT(c.act)
#undef LOOP
}
#undef FOR_ACT

/* ---- norms ---------------------------------------------------------------------------------------------------- */

static void V(layernorm)(float *y, const float *x, const struct vec_norm *p, size_t n, float stat[2])
{
    const float *w = p->w, *b = p->b;
    float sum = 0, var = 0;
#pragma omp simd reduction(+ : sum)
    EACH sum += x[i];
    float mean = sum / (float)n;
#pragma omp simd reduction(+ : var)
    EACH var += (x[i] - mean) * (x[i] - mean);
    float rstd = 1.0f / sqrtf(var / (float)n + p->eps);
    if (b) {
#pragma omp simd
        EACH y[i] = (x[i] - mean) * rstd * w[i] + b[i];
    } else if (w) {
#pragma omp simd
        EACH y[i] = (x[i] - mean) * rstd * w[i];
    } else {
#pragma omp simd
        EACH y[i] = (x[i] - mean) * rstd;
    }
    stat[0] = mean;
    stat[1] = rstd;
}

INLINE void V(rmsnorm_apply1)(float *y, const float *x, const struct vec_norm *p, size_t n, float r)
{
    const float *w = p->w, plus = p->plus;
    if (p->round) {
#pragma omp simd
        EACH
        {
            union V(bits) h = { .u = V(round1)(x[i] * r) << 16 };
            y[i] = h.f * (plus + w[i]);
        }
    } else {
#pragma omp simd
        EACH y[i] = x[i] * r * (plus + w[i]);
    }
}

static void V(rmsnorm)(float *y, const float *x, const struct vec_norm *p, size_t n, float *rstd)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    EACH sum += x[i] * x[i];
    *rstd = 1.0f / sqrtf(sum / (float)n + p->eps);
    V(rmsnorm_apply1)(y, x, p, n, *rstd);
}

static void V(rmsnorm_apply)(float *y, const float *x, const struct vec_norm *p, size_t n, float rstd)
{
    V(rmsnorm_apply1)(y, x, p, n, rstd);
}

/* With h = (x - mean) rstd and g = w dy: dx = rstd (g - mean(g) - h mean(g h)); rmsnorm lacks both means of the
 * centring. */
static void V(layernorm_grad)(float *dx, const float *acc, const float *x, const struct vec_norm *p, const float *dy,
                              size_t n, const float stat[2])
{
    const float *w = p->w;
    float mean = stat[0], rstd = stat[1], sum_g = 0, sum_gh = 0;
#pragma omp simd reduction(+ : sum_g, sum_gh)
    EACH
    {
        float g = w ? w[i] * dy[i] : dy[i];
        sum_g += g;
        sum_gh += g * (x[i] - mean) * rstd;
    }
    float mg = sum_g / (float)n, mgh = sum_gh / (float)n;
    if (w)
        WITH_ACC(dx, rstd * (w[i] * dy[i] - mg - (x[i] - mean) * rstd * mgh));
    else
        WITH_ACC(dx, rstd * (dy[i] - mg - (x[i] - mean) * rstd * mgh));
}

INLINE float V(rmsnorm_dot1)(const float *x, const struct vec_norm *p, const float *dy, size_t n)
{
    const float *w = p->w, plus = p->plus;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    EACH sum += (plus + w[i]) * dy[i] * x[i];
    return sum;
}

static float V(rmsnorm_dot)(const float *x, const struct vec_norm *p, const float *dy, size_t n)
{
    return V(rmsnorm_dot1)(x, p, dy, n);
}

INLINE void V(rmsnorm_grad_apply1)(float *dx, const float *acc, const float *x, const struct vec_norm *p,
                                   const float *dy, size_t n, float rstd, float k)
{
    const float *w = p->w, plus = p->plus;
    WITH_ACC(dx, rstd * ((plus + w[i]) * dy[i] - x[i] * k));
}

static void V(rmsnorm_grad_apply)(float *const dx[2], const float *x, const struct vec_norm *p, const float *dy,
                                  size_t n, const float rstd_k[2])
{
    V(rmsnorm_grad_apply1)(dx[0], dx[1], x, p, dy, n, rstd_k[0], rstd_k[1]);
}

static void V(rmsnorm_grad)(float *dx, const float *acc, const float *x, const struct vec_norm *p, const float *dy,
                            size_t n, float rstd)
{
    const float k = V(rmsnorm_dot1)(x, p, dy, n) / (float)n * rstd * rstd;
    V(rmsnorm_grad_apply1)(dx, acc, x, p, dy, n, rstd, k);
}

/* Rows are summed 128 at a time, so that the error does not grow with the number of rows. */
static void V(norm_params)(const struct vec_strip *s)
{
    float w[VEC_STRIP] = { 0 }, b[VEC_STRIP] = { 0 };
    const size_t n = s->width, ld = s->ld;
    for (size_t r0 = 0; r0 < s->rows; r0 += 128) {
        float wp[VEC_STRIP] = { 0 }, bp[VEC_STRIP] = { 0 };
        size_t end = s->rows - r0 < 128 ? s->rows : r0 + 128;
        for (size_t r = r0; r < end; r++) {
            const float *dy = s->dy + r * ld;
            if (s->rstd) {
                const float *x = s->x + r * ld;
                float rstd = s->rstd[r * s->every], mean = s->mean ? s->mean[r * s->every] : 0.0f;
#pragma omp simd
                EACH wp[i] += dy[i] * (x[i] - mean) * rstd;
            }
            if (s->db) {
#pragma omp simd
                EACH bp[i] += dy[i];
            }
        }
#pragma omp simd
        EACH
        {
            w[i] += wp[i];
            b[i] += bp[i];
        }
    }
    if (s->dw)
        EACH s->dw[i] = s->add_dw ? s->dw[i] + w[i] : w[i];
    if (s->db)
        EACH s->db[i] = s->add_db ? s->db[i] + b[i] : b[i];
}

static void V(rope)(float *y, const float *acc, const float *x, const float *cos, const float *sin, float sign,
                    size_t half)
{
    const size_t n = half;
    float *y2 = y + half;
    const float *x2 = x + half;
    if (acc) {
        const float *acc2 = acc + half;
#pragma omp simd
        EACH
        {
            float s = sign * sin[i], a = x[i], b = x2[i];
            y[i] = acc[i] + (a * cos[i] - b * s);
            y2[i] = acc2[i] + (b * cos[i] + a * s);
        }
        return;
    }
#pragma omp simd
    EACH
    {
        float s = sign * sin[i], a = x[i], b = x2[i];
        y[i] = a * cos[i] - b * s;
        y2[i] = b * cos[i] + a * s;
    }
}

static void V(rope_pairs)(float *y, const float *acc, const float *x, const float *cos, const float *sin, float sign,
                          size_t half)
{
    const size_t n = half;
#pragma omp simd
    EACH
    {
        const float s = sign * sin[i], a = x[2 * i], b = x[2 * i + 1];
        const float even = a * cos[i] - b * s, odd = b * cos[i] + a * s;
        y[2 * i] = acc ? acc[2 * i] + even : even;
        y[2 * i + 1] = acc ? acc[2 * i + 1] + odd : odd;
    }
}

/* ---- optimizer ------------------------------------------------------------------------------------------------ */

static void V(adamw)(const struct vec_update *u, float *p, float *m, float *v, const float *g, size_t n)
{
    const struct vec_update c = *u;
#pragma omp simd
    EACH
    {
        float gi = g[i] * c.grad_scale;
        float mi = c.beta1 * m[i] + c.rest1 * gi;
        float vi = c.beta2 * v[i] + c.rest2 * gi * gi;
        m[i] = mi;
        v[i] = vi;
        p[i] = c.keep * p[i] - c.step * mi / (__builtin_sqrtf(vi) * c.root + c.eps);
    }
}

static void V(sgd)(const struct vec_update *u, float *p, const float *g, size_t n)
{
    const struct vec_update c = *u;
#pragma omp simd
    EACH p[i] -= c.step * (g[i] * c.grad_scale + c.decay * p[i]);
}

static uint64_t V(bits_sum)(const float *x, size_t n)
{
    uint64_t sum = 0;
#pragma omp simd reduction(+ : sum)
    EACH
    {
        union V(bits) z = { x[i] };
        sum += z.u;
    }
    return sum;
}

static uint64_t V(bits_half_sum)(const uint16_t *x, size_t n)
{
    uint64_t sum = 0;
    for (size_t i0 = 0; i0 < n; i0 += V(block)) {
        const size_t end = n - i0 < V(block) ? n : i0 + V(block);
        uint32_t part = 0; /* a block of 2^16 words at most fits */
#pragma omp simd reduction(+ : part)
        for (size_t i = i0; i < end; i++)
            part += x[i];
        sum += part;
    }
    return sum;
}

static double V(sumsq)(const float *x, size_t n, double *nonfinite)
{
    double sum = 0;
    uint64_t bad = 0;
    for (size_t i0 = 0; i0 < n; i0 += V(block)) {
        size_t end = n - i0 < V(block) ? n : i0 + V(block);
        double part = 0;
        uint32_t count = 0;
#pragma omp simd reduction(+ : part, count)
        for (size_t i = i0; i < end; i++) {
            union V(bits) z = { x[i] };
            part += (double)x[i] * (double)x[i];
            count += (z.u & 0x7f800000u) == 0x7f800000u;
        }
        sum += part;
        bad += count;
    }
    *nonfinite += (double)bad;
    return sum;
}

#undef INLINE
#undef EACH
#undef WITH_ACC
#undef GELU_A
#undef GELU_B

static const struct vec V(table) = {
    .name = V_NAME,
    .add = V(add),
    .axpy = V(axpy),
    .scale = V(scale),
    .dot = V(dot),
    .dot_half = V(dot_half),
    .copy_far = V(copy_far),
    .widen = V(widen),
    .round = V(round),
    .max = V(max),
    .exp_sum = V(exp_sum),
    .sum_exp = V(sum_exp),
    .softmax_grad = V(softmax_grad),
    .clamp = V(clamp),
    .clamp_grad = V(clamp_grad),
    .cap = V(cap),
    .gelu = V(gelu),
    .gelu_erf = V(gelu_erf),
    .gelu_grad = V(gelu_grad),
    .gelu_erf_grad = V(gelu_erf_grad),
    .act = V(act),
    .act_grad = V(act_grad),
    .swiglu = V(swiglu),
    .gated = V(gated),
    .gated_grad = V(gated_grad),
    .swiglu_grad = V(swiglu_grad),
    .layernorm = V(layernorm),
    .rmsnorm = V(rmsnorm),
    .layernorm_grad = V(layernorm_grad),
    .rmsnorm_grad = V(rmsnorm_grad),
    .rmsnorm_apply = V(rmsnorm_apply),
    .rmsnorm_dot = V(rmsnorm_dot),
    .rmsnorm_grad_apply = V(rmsnorm_grad_apply),
    .norm_params = V(norm_params),
    .rope = V(rope),
    .rope_pairs = V(rope_pairs),
    .adamw = V(adamw),
    .sgd = V(sgd),
    .bits = V(bits_sum),
    .bits_half = V(bits_half_sum),
    .sumsq = V(sumsq),
};
