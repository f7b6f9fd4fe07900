/* The operators of libraries, on stand-ins of cuBLASLt and cuDNN that compute on the host (tests/cuda/libs): in float32 and in
 * bfloat16. Own kernels that they call are plain loops here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/libs.h"
#include "cuda/libs_private.h"
#include "fake.h"
#include "ir/target.h"
#include "ir/target_cuda_own.h"
#include "num/machine.h"

/* ---- own kernels ---- */

/* The activation that the attributes name, and its slope. */
static double activation(const struct ir_attrs *a, double x, double *slope)
{
    const double alpha = a->act == IR_ACT_SILU && a->alpha > 0 ? (double)a->alpha : 1, s = 1 / (1 + exp(-alpha * x));
    if (a->act == IR_ACT_GELU_TANH) {
        const double h = 1e-5;
        *slope = (fake_gelu(x + h) - fake_gelu(x - h)) / (2 * h);
        return fake_gelu(x);
    }
    if (a->act != IR_ACT_SILU)
        process_fail(ST_BUG, "an activation that has no stand-in");
    *slope = s * (1 + alpha * x * (1 - s));
    return x * s;
}

static double bounded(double x, double least, double most)
{
    return x < least ? least : x > most ? most : x;
}

/* A gated element, or its two gradients. */
static double gate_of(const struct ir_attrs *a, const double in[2], double dh, double d[2])
{
    const double most = a->clamp > 0 ? (double)a->clamp : INFINITY;
    double slope;
    const double f = activation(a, bounded(in[0], -INFINITY, most), &slope);
    const double up = bounded(in[1], -most, most) + (a->flags & IR_ONE_PLUS ? 1 : 0);
    d[0] = in[0] > most ? 0 : dh * up * slope;
    d[1] = fabs(in[1]) > most ? 0 : dh * f;
    return f * up;
}

void cuda_swiglu_f(const struct op_args *a)
{
    const bool narrow = a->compute == IR_BF16;
    for (int64_t i = 0; i < (int64_t)a->b * a->t * a->attrs->features; i++) {
        const double in[2] = { fake_load(a->in[0], i, narrow), fake_load(a->in[1], i, narrow) };
        double d[2];
        fake_store(a->out[0], i, narrow, gate_of(a->attrs, in, 0, d));
    }
}

void cuda_swiglu_bi(const struct op_args *a)
{
    const bool narrow = a->compute == IR_BF16;
    for (int64_t i = 0; i < (int64_t)a->b * a->t * a->attrs->features; i++) {
        const double in[2] = { fake_load(a->in[0], i, narrow), fake_load(a->in[1], i, narrow) };
        double d[2];
        gate_of(a->attrs, in, fake_load(a->dout[0], i, narrow), d);
        fake_store(a->din[0], i, narrow, d[0]);
        fake_store(a->din[1], i, narrow, d[1]);
    }
}

void cuda_expert_bias_add(const struct cuda_expert_bias *b)
{
    const struct ir_attrs *at = b->a->attrs;
    const int32_t *count = b->a->in[1];
    const bool narrow = b->a->compute == IR_BF16;
    const int64_t local = at->experts / b->a->ep;
    for (int64_t i = 0; i < (int64_t)(b->n * b->batch); i++) {
        const int64_t e = b->e + i / (int64_t)b->n, row = i % (int64_t)b->n;
        if (at->capacity) {
            const int64_t part = (int64_t)b->row / (local * b->a->b * at->capacity);
            if (row % at->capacity >= count[(part * local + e) * b->a->b + row / at->capacity])
                continue;
        }
        for (int64_t j = 0; j < b->width; j++)
            fake_store(b->y, i * b->width + j, narrow,
                       fake_load(b->y, i * b->width + j, narrow) + fake_load(b->bias, e * b->width + j, narrow));
    }
}

void cuda_expert_bias_sums(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const int32_t *count = a->in[1];
    const int64_t local = at->experts / a->ep;
    for (int i = 0; i < 3; i++) {
        const int64_t width = i < 2 ? at->ffn : at->features;
        const void *dy = i < 2 ? a->stash[i] : a->dout[0];
        float *db = a->dparam[3 + i];
        if (!db)
            continue;
        for (int64_t j = 0; j < local * width && !(a->dparam_add >> (3 + i) & 1); j++)
            db[j] = 0;
        int64_t row = 0;
        for (int64_t k = 0; k < (int64_t)a->ep * local * a->b; k++) {
            for (int64_t r = 0; r < count[k]; r++)
                for (int64_t j = 0; j < width; j++)
                    db[k / a->b % local * width + j] += (float)fake_load(dy, (row + r) * width + j,
                                                                         a->compute == IR_BF16);
            row += at->capacity ? (int64_t)at->capacity : count[k];
        }
    }
}

void cuda_act_f(const struct op_args *a)
{
    const bool narrow = a->compute == IR_BF16;
    for (int64_t i = 0; i < (int64_t)a->b * a->t * a->attrs->features; i++)
        fake_store(a->out[0], i, narrow, fake_gelu(fake_load(a->in[0], i, narrow)));
    fake_clock += 1e-3;
}

void cuda_act_bi(const struct op_args *a)
{
    const bool narrow = a->compute == IR_BF16;
    for (int64_t i = 0; i < (int64_t)a->b * a->t * a->attrs->features; i++)
        fake_store(a->din[0], i, narrow,
                   fake_load(a->dout[0], i, narrow) * fake_gelu_grad(fake_load(a->in[0], i, narrow)));
    fake_clock += 1e-3;
}

void cuda_column_sums(const struct cuda_columns *c)
{
    for (int64_t j = 0; j < c->width; j++) {
        double sum = c->add_db ? (double)c->db[j] : 0;
        for (int64_t r = 0; r < (int64_t)c->rows; r++)
            sum += fake_load(c->dy, r * (c->ld ? c->ld : c->width) + j, c->compute == IR_BF16);
        c->db[j] = (float)sum;
    }
}

static double logit(const struct cuda_cross_entropy *c, int64_t at, double *slope)
{
    const double scale = c->scale > 0 ? (double)c->scale : 1, cap = c->cap;
    const double z = scale * fake_load(c->logits, at, c->compute == IR_BF16), y = cap > 0 ? tanh(z / cap) : 0;
    *slope = scale * (1 - y * y);
    return cap > 0 ? cap * y : z;
}

void cuda_cross_entropy(const struct cuda_cross_entropy *c)
{
    const bool narrow = c->compute == IR_BF16;
    for (int64_t r = 0; r < (int64_t)c->rows; r++) {
        const int64_t row = r * c->ld;
        double sum = 0, slope = 0;
        for (int64_t j = 0; j < c->vocab; j++)
            sum += exp(logit(c, row + j, &slope));
        c->work[r] = 0;
        if (c->target[r] >= 0)
            *c->loss += log(sum) - logit(c, row + c->target[r], &slope);
        for (int64_t j = 0; j < c->ld && c->gradient; j++) {
            const double p = j < c->vocab ? exp(logit(c, row + j, &slope)) / sum : 0;
            fake_store(c->logits, row + j, narrow,
                       c->target[r] < 0 ? 0 : (p - (j == c->target[r])) * c->loss_scale * slope);
        }
    }
}

void cuda_bias_rows(const struct cuda_bias_rows *c)
{
    const bool narrow = c->compute == IR_BF16;
    for (uint64_t i = 0; i < c->rows * c->width; i++) {
        const bool biased = i / c->width >= c->biased.first && i / c->width < c->biased.first + c->biased.count;
        fake_store(c->y, (int64_t)i, narrow, biased ? fake_load(c->bias, (int64_t)(i % c->width), narrow) : 0);
    }
}

static bool word_here(const struct cuda_words *w, uint64_t r)
{
    const int64_t at = (int64_t)w->c.target[r] - w->first_word;
    return w->c.target[r] >= 0 && at >= 0 && at < w->c.vocab;
}

void cuda_words_tell(const struct cuda_words *w)
{
    for (uint64_t r = 0; r < w->c.rows; r++) {
        float *to = w->told + (w->part * w->all + w->first + r) * 3;
        double most = -INFINITY, sum = 0, slope = 0;
        for (int64_t j = 0; j < w->c.vocab; j++)
            most = fmax(most, logit(&w->c, (int64_t)r * w->c.ld + j, &slope));
        for (int64_t j = 0; j < w->c.vocab; j++)
            sum += exp(logit(&w->c, (int64_t)r * w->c.ld + j, &slope) - most);
        to[0] = (float)most;
        to[1] = (float)sum;
        to[2] = 0;
        if (word_here(w, r))
            to[2] = (float)logit(&w->c, (int64_t)r * w->c.ld + w->c.target[r] - w->first_word, &slope);
    }
}

void cuda_words_hear(const struct cuda_words *w)
{
    for (uint64_t r = 0; r < w->c.rows; r++) {
        double log_sum = 0, target = 0, slope = 0;
        for (uint32_t p = 0; p < w->parts; p++) {
            const float *told = w->told + (p * w->all + w->first + r) * 3;
            log_sum += exp((double)told[0]) * (double)told[1];
            target += (double)told[2];
        }
        log_sum = log(log_sum);
        w->c.work[r] = 0;
        if (w->c.target[r] >= 0 && w->first + r >= w->own.first && w->first + r < w->own.first + w->own.count)
            *w->c.loss += log_sum - target;
        for (int64_t j = 0; j < w->c.ld && w->c.gradient; j++) {
            const int64_t at = (int64_t)r * w->c.ld + j;
            double p = j < w->c.vocab ? exp(logit(&w->c, at, &slope) - log_sum) : 0;
            if (j < w->c.vocab && word_here(w, r) && j + w->first_word == w->c.target[r])
                p -= 1;
            fake_store(w->c.logits, at, w->c.compute == IR_BF16,
                       w->c.target[r] < 0 || j >= w->c.vocab ? 0 : p * w->c.loss_scale * slope);
        }
    }
}

/* Attention in float64, for what the library does not take. */
static void by_hand(const struct op_args *a, bool backward);
static int by_hand_runs;

void cuda_attention_f32_f(const struct op_args *a)
{
    by_hand_runs++;
    by_hand(a, false);
}

void cuda_attention_f32_bi(const struct op_args *a)
{
    by_hand_runs++;
    by_hand(a, true);
}

void cuda_attention_tiles_f(const struct op_args *a)
{
    by_hand_runs++;
    by_hand(a, false);
}

void cuda_attention_tiles_bi(const struct op_args *a)
{
    by_hand_runs++;
    by_hand(a, true);
}

/* Element e of row t, head h of operand 0 q, 1 k, 2 v of sequence s. */
static int64_t place(const struct op_args *a, int which, int64_t s, int64_t t, int64_t h, int64_t e)
{
    const struct ir_attrs *at = a->attrs;
    const int64_t d = at->head_dim, heads = at->heads, kv = at->kv_heads;
    if (at->flags & IR_PACKED)
        return ((s * a->t + t) * (heads + 2 * kv) + (which > 0 ? heads : 0) + (which > 1 ? kv : 0) + h) * d + e;
    return ((s * a->t + t) * (which ? kv : heads) + h) * d + e;
}

static double get(const struct op_args *a, void *const x[3], int which, int64_t at)
{
    return fake_load(x[a->attrs->flags & IR_PACKED ? 0 : which], at, a->compute == IR_BF16);
}

static void put(const struct op_args *a, int which, int64_t at, double x)
{
    const int i = a->attrs->flags & IR_PACKED ? 0 : which;
    if (a->acc[i])
        x += fake_load(a->acc[i], at, a->compute == IR_BF16);
    fake_store(a->din[i], at, a->compute == IR_BF16, x);
}

/* Probabilities p (t, t) of one head; log of the sum of exponentials of each row to lse. */
static void probabilities(const struct op_args *a, int64_t s, int64_t h, double *p, double *lse)
{
    const int64_t n = a->t, d = a->attrs->head_dim, kv = h / (a->attrs->heads / a->attrs->kv_heads);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j <= i; j++) {
            double x = 0;
            for (int64_t e = 0; e < d; e++)
                x += get(a, a->in, 0, place(a, 0, s, i, h, e)) * get(a, a->in, 1, place(a, 1, s, j, kv, e));
            p[i * n + j] = exp(x * (double)a->attrs->scale);
            sum += p[i * n + j];
        }
        lse[i] = log(sum);
        for (int64_t j = 0; j < n; j++)
            p[i * n + j] = j <= i ? p[i * n + j] / sum : 0;
    }
}

static void head_forward(const struct op_args *a, int64_t s, int64_t h, const double *p, const double *lse)
{
    const int64_t n = a->t, d = a->attrs->head_dim, kv = h / (a->attrs->heads / a->attrs->kv_heads);
    for (int64_t i = 0; i < n; i++) {
        if (a->save[0])
            ((float *)a->save[0])[(s * a->attrs->heads + h) * n + i] = (float)lse[i];
        for (int64_t e = 0; e < d; e++) {
            double o = 0;
            for (int64_t j = 0; j <= i; j++)
                o += p[i * n + j] * get(a, a->in, 2, place(a, 2, s, j, kv, e));
            fake_store(a->out[0], ((s * n + i) * a->attrs->heads + h) * d + e, a->compute == IR_BF16, o);
        }
    }
}

/* Adds to g: gradients of q (heads, t, d), k and v (kv_heads, t, d) of the sequence, one after the other. */
static void head_backward(const struct op_args *a, int64_t s, int64_t h, const double *p, double *g)
{
    const int64_t n = a->t, d = a->attrs->head_dim, heads = a->attrs->heads, kv = h / (heads / a->attrs->kv_heads);
    double *dq = g + h * n * d, *dk = g + (heads + kv) * n * d, *dv = g + (heads + a->attrs->kv_heads + kv) * n * d;
    double *dp = mem_alloc((size_t)n * sizeof *dp);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j <= i; j++) {
            dp[j] = 0;
            for (int64_t e = 0; e < d; e++) {
                const double dout = fake_load(a->dout[0], ((s * n + i) * heads + h) * d + e, a->compute == IR_BF16);
                dp[j] += dout * get(a, a->in, 2, place(a, 2, s, j, kv, e));
                dv[j * d + e] += p[i * n + j] * dout;
            }
            sum += p[i * n + j] * dp[j];
        }
        for (int64_t j = 0; j <= i; j++)
            for (int64_t e = 0; e < d; e++) {
                const double ds = p[i * n + j] * (dp[j] - sum) * (double)a->attrs->scale;
                dq[i * d + e] += ds * get(a, a->in, 1, place(a, 1, s, j, kv, e));
                dk[j * d + e] += ds * get(a, a->in, 0, place(a, 0, s, i, h, e));
            }
    }
    mem_free(dp);
}

static void by_hand(const struct op_args *a, bool backward)
{
    const int64_t n = a->t, d = a->attrs->head_dim, heads = a->attrs->heads, kv = a->attrs->kv_heads;
    for (int64_t s = 0; s < a->b; s++) {
        double *p = mem_alloc((size_t)(n * n + n) * sizeof *p),
               *g = mem_alloc((size_t)((heads + 2 * kv) * n * d) * sizeof *g);
        for (int64_t h = 0; h < heads; h++) {
            probabilities(a, s, h, p, p + n * n);
            if (backward)
                head_backward(a, s, h, p, g);
            else
                head_forward(a, s, h, p, p + n * n);
        }
        for (int64_t i = 0; i < (heads + 2 * kv) * n * d && backward; i++) {
            const int64_t h = i / (n * d), which = h < heads ? 0 : h < heads + kv ? 1 : 2;
            put(a, (int)which, place(a, (int)which, s, i / d % n, which == 0 ? h : (h - heads) % kv, i % d), g[i]);
        }
        mem_free(p);
        mem_free(g);
    }
}

/* Grouped products, and attention with attributes that the library does not take, are tested where our own kernels are:
 * machine_host.c. */
static bool takes(enum ir_op op, const struct ir_attrs *a)
{
    if (cuda_own_unsupported(op, a, IR_BF16))
        return false;
    if (a->window || a->v_head_dim || a->score_cap > 0 || a->flags & IR_SINKS)
        return op != IR_OP_ATTENTION;
    return op != IR_OP_EXPERTS || !cuda_experts_grouped(a);
}

static void not_here(const struct op_args *a)
{
    (void)a;
    process_fail(ST_BUG, "a product of the library became a grouped one");
}

void cuda_grouped_f(const struct op_args *a)
{
    not_here(a);
}

void cuda_grouped_bi(const struct op_args *a)
{
    not_here(a);
}

void cuda_grouped_bw(const struct op_args *a)
{
    not_here(a);
}

/* ---- machines ---- */

/* Heads for which the library has no backward, as on Ampere where they are large. */
static bool no_backward(const struct op_args *a)
{
    return a->attrs->heads == 6;
}

/* cuDNN, wherever it has an engine; who is slow is noted. */
static void check_who_ran(const struct op_args *a, enum ir_pass pass)
{
    const bool library = a->compute == IR_BF16 && a->attrs->head_dim % 8 == 0 && a->attrs->head_dim <= 256 &&
                         !a->acc[0] && !a->acc[1] && !a->acc[2] && !(pass == IR_PASS_BI && no_backward(a));
    char heads[64];
    snprintf(heads, sizeof heads, "attention %s with %u/%u heads of %u ", ir_pass_name(pass), a->attrs->heads,
             a->attrs->kv_heads, a->attrs->head_dim);
    CHECK((by_hand_runs == 0) == library && (fake_last_engine == FAKE_GOOD_ENGINE) == library);
    CHECK(library || strstr(cuda_libs_notes(), heads));
}

/* As the executor: prepared, then run. Whatever the real library would have refused ends the test. */
static void run(const struct op_args *a, enum ir_op op, enum ir_pass pass, op_kernel kernel)
{
    struct err e = { 0 };
    cuda__attention_close(); /* notes of earlier cases */
    fake_no_backward_engine = no_backward(a);
    const enum status st = cuda_libs_prepare(a, op, pass, &e);
    fake_no_backward_engine = false;
    const int searches = fake_searches, waits = fake_waits;
    if (st != ST_OK)
        process_fail(st, e.text);
    fake_last_engine = -1;
    by_hand_runs = 0;
    kernel(a);
    if (fake_complaint)
        process_fail(ST_BUG, fake_complaint);
    if (op == IR_OP_ATTENTION)
        check_who_ran(a, pass);
    if (!cuda_host_reads(op, a->attrs)) /* else a graph could not hold it */
        CHECK(fake_waits == waits && fake_searches == searches);
}

#define RUN(name, op, pass)                              \
    static void run_##name(const struct op_args *a)      \
    {                                                    \
        run(a, IR_OP_##op, IR_PASS_##pass, cuda_##name); \
    }
RUN(linear_f, LINEAR, F)
RUN(linear_bi, LINEAR, BI)
RUN(linear_bw, LINEAR, BW)
RUN(attention_f, ATTENTION, F)
RUN(attention_bi, ATTENTION, BI)
RUN(experts_f, EXPERTS, F)
RUN(experts_bi, EXPERTS, BI)
RUN(experts_bw, EXPERTS, BW)
RUN(head_loss_f, HEAD_LOSS, F)
RUN(head_loss_bi, HEAD_LOSS, BI)
RUN(head_loss_bw, HEAD_LOSS, BW)

#define RUN_PAIR(pass, name)                                                           \
    static void pair_##pass(const struct op_args *first, const struct op_args *second) \
    {                                                                                  \
        struct err e = { 0 };                                                          \
        if (cuda_libs_prepare(first, IR_OP_LINEAR, IR_PASS_##pass, &e) != ST_OK ||     \
            !cuda_libs_prepare_pair(first, second, IR_PASS_##pass, first->work))       \
            process_fail(ST_DEVICE, "a pair is not prepared");                         \
        name(first, second);                                                           \
        if (fake_complaint)                                                            \
            process_fail(ST_BUG, fake_complaint);                                      \
    }
RUN_PAIR(F, cuda_linear_gelu_f)
RUN_PAIR(BI, cuda_linear_gelu_bi)

static op_pair pair(enum ir_pass pass, const struct op_args *first, const struct op_args *second)
{
    const bool fits = first->op == IR_OP_LINEAR && cuda_linear_fits_gelu(first, second, pass);
    return !fits ? NULL : pass == IR_PASS_F ? pair_F : pair_BI;
}

static op_kernel kernel(enum ir_op op, enum ir_pass pass)
{
    static const op_kernel table[IR_OP_COUNT][3] = {
        [IR_OP_LINEAR] = { run_linear_f, run_linear_bi, run_linear_bw },
        [IR_OP_ATTENTION] = { run_attention_f, run_attention_bi, NULL },
        [IR_OP_EXPERTS] = { run_experts_f, run_experts_bi, run_experts_bw },
        [IR_OP_HEAD_LOSS] = { run_head_loss_f, run_head_loss_bi, run_head_loss_bw },
    };
    return op_kernel_of(table[op], pass);
}

static uint64_t workspace(const struct ir_kernel *k)
{
    return ir_target_cuda.workspace(k);
}

static void open_libs(void)
{
    struct err e = { 0 };
    cuda_libs_close();
    if (cuda_libs_open(NULL, NULL, &e) != ST_OK)
        process_fail(e.status, e.text);
}

static const struct compute_backend libs = { .name = "cuda", .kernel = kernel, .pair = pair };
static const struct machine wide = { .name = "CUDA libraries",
                                     .backend = &libs,
                                     .compute = IR_F32,
                                     .partial = true,
                                     .takes = takes,
                                     .workspace = workspace,
                                     .setup = open_libs };
static const struct machine narrow = { .name = "CUDA libraries, bfloat16",
                                       .backend = &libs,
                                       .compute = IR_BF16,
                                       .partial = true,
                                       .takes = takes,
                                       .workspace = workspace,
                                       .setup = open_libs };
const struct machine *const machines[] = { &wide, &narrow, NULL };
