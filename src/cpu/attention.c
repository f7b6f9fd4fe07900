/* Causal attention without a T x T matrix in memory: blocks of scores on the stack, softmax carried from block to
 * block (Milakov, Gimelshein 2018; Dao et al. 2022), log-sum-exp kept for the backward, which makes the blocks anew.
 *
 * Query head h reads key/value head h / (heads / kv_heads). Products of blocks are BLAS in the thread that owns the
 * block: forward one (sequence, head, block of queries) at a time; backward one (sequence, key/value head), so that
 * the gradients of keys and values are summed over blocks and heads in one order. */
#include <math.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"

enum { BLOCK = 64 }; /* queries, and keys, of a block of scores */

/* One operand by heads: row t of head h starts at at + t*ld + h*head_dim. */
struct heads {
    float *at;
    size_t ld;
};

/* Operands of one sequence, packed or not. */
struct sequence {
    struct heads q, k, v, o;
    struct heads dq, dk, dv, dout;
    float *lse;   /* (heads, T); NULL: not kept */
    float *delta; /* (heads, T): sum over head_dim of dO O */
    size_t t, d, group;
    float scale;
    bool add_q, add_k, add_v; /* the gradient is added to what is there */
};

static void split_packed(const struct ir_attrs *a, float *at, struct heads out[3])
{
    const size_t d = a->head_dim, ld = ((size_t)a->heads + 2 * (size_t)a->kv_heads) * d;
    const size_t first[3] = { 0, a->heads * d, ((size_t)a->heads + a->kv_heads) * d };
    for (int i = 0; i < 3; i++)
        out[i] = (struct heads){ at ? at + first[i] : NULL, ld };
}

/* The three operands of sequence s in x: one packed, or three. */
static void split_operands(const struct op_args *a, void *const x[3], size_t s, struct heads out[3])
{
    const struct ir_attrs *at = a->attrs;
    const size_t d = at->head_dim, t = a->t;
    if (at->flags & IR_PACKED) {
        float *p = x[0];
        split_packed(at, p ? p + s * t * (at->heads + 2 * (size_t)at->kv_heads) * d : NULL, out);
        return;
    }
    for (int i = 0; i < 3; i++) {
        const size_t ld = (i == 0 ? at->heads : at->kv_heads) * d;
        float *p = x[i];
        out[i] = (struct heads){ p ? p + s * t * ld : NULL, ld };
    }
}

static struct sequence sequence(const struct op_args *a, size_t s)
{
    const struct ir_attrs *at = a->attrs;
    const size_t d = at->head_dim, t = a->t, ldo = at->heads * d;
    const bool packed = (at->flags & IR_PACKED) != 0;
    struct heads x[3], dx[3];
    split_operands(a, a->in, s, x);
    split_operands(a, a->din, s, dx);
    float *o = a->out[0], *dout = a->dout[0], *lse = a->save[0], *delta = a->work;
    return (struct sequence){
        .q = x[0],
        .k = x[1],
        .v = x[2],
        .o = { o + s * t * ldo, ldo },
        .dq = dx[0],
        .dk = dx[1],
        .dv = dx[2],
        .dout = { dout ? dout + s * t * ldo : NULL, ldo },
        .lse = lse ? lse + s * at->heads * t : NULL,
        .delta = delta ? delta + s * at->heads * t : NULL,
        .t = t,
        .d = d,
        .group = at->heads / at->kv_heads,
        .scale = at->scale,
        .add_q = a->acc[0] != NULL,
        .add_k = a->acc[packed ? 0 : 1] != NULL,
        .add_v = a->acc[packed ? 0 : 2] != NULL,
    };
}

static float *row(const struct heads *x, size_t t, size_t h, size_t d)
{
    return x->at + t * x->ld + h * d;
}

/* Rows from t on of one head. */
static struct matrix view(const struct heads *x, size_t t, size_t h, size_t d)
{
    return as_is(row(x, t, h, d), x->ld);
}

static struct matrix transpose(const struct heads *x, size_t t, size_t h, size_t d)
{
    return turned(row(x, t, h, d), x->ld);
}

/* Keys of the block from k0 that query q sees. */
static size_t visible(size_t q, size_t k0, size_t n)
{
    return q < k0 ? 0 : q - k0 + 1 < n ? q - k0 + 1 : n;
}

static size_t block_size(size_t t, size_t at)
{
    return t - at < BLOCK ? t - at : BLOCK;
}

/* ---- forward -------------------------------------------------------------------------------------------------- */

/* Running softmax of a block of queries: score maximum and sum of exponentials of each row. */
struct running {
    float max[BLOCK], sum[BLOCK];
};

/* Turns the scores into exponentials against the new maximum; the rows of o, and the sums, are brought down to it. */
static void online_softmax(const struct vec *v, float *scores, size_t q0, size_t nq, size_t k0, size_t nk,
                           struct running *run, const struct heads *o, size_t h, size_t d)
{
    for (size_t r = 0; r < nq; r++) {
        const size_t n = visible(q0 + r, k0, nk);
        float *s = scores + r * BLOCK;
        const float here = v->max(s, n), most = k0 > 0 && run->max[r] > here ? run->max[r] : here;
        const float sum = (float)v->exp_sum(s, s, most, n);
        memset(s + n, 0, (nk - n) * sizeof *s);
        if (k0 > 0 && most > run->max[r]) {
            const float down = expf(run->max[r] - most);
            run->sum[r] *= down;
            v->scale(row(o, q0 + r, h, d), down, row(o, q0 + r, h, d), d);
        }
        run->sum[r] = k0 > 0 ? run->sum[r] + sum : sum;
        run->max[r] = most;
    }
}

static void forward_block(const struct sequence *s, size_t h, size_t q0)
{
    const struct vec *v = cpu_vec();
    const size_t nq = block_size(s->t, q0), d = s->d, kv = h / s->group;
    _Alignas(64) float p[BLOCK * BLOCK];
    struct running run;
    for (size_t k0 = 0; k0 <= q0; k0 += BLOCK) {
        const size_t nk = block_size(s->t, k0);
        cpu_gemm_block(&(struct gemm_block){ nq, nk, d, view(&s->q, q0, h, d), transpose(&s->k, k0, kv, d), p, BLOCK,
                                             s->scale, 0 });
        online_softmax(v, p, q0, nq, k0, nk, &run, &s->o, h, d);
        cpu_gemm_block(&(struct gemm_block){ nq, d, nk, as_is(p, BLOCK), view(&s->v, k0, kv, d), row(&s->o, q0, h, d),
                                             s->o.ld, 1, k0 > 0 ? 1 : 0 });
    }
    for (size_t r = 0; r < nq; r++) {
        v->scale(row(&s->o, q0 + r, h, d), 1.0f / run.sum[r], row(&s->o, q0 + r, h, d), d);
        if (s->lse)
            s->lse[h * s->t + q0 + r] = run.max[r] + logf(run.sum[r]);
    }
}

void cpu_attention_f(const struct op_args *a)
{
    const size_t blocks = ((size_t)a->t + BLOCK - 1) / BLOCK, heads = a->attrs->heads, tasks = a->b * heads * blocks;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(cpu_rows(a), a->attrs->head_dim))
    for (size_t i = 0; i < tasks; i++) {
        const struct sequence s = sequence(a, i / (heads * blocks));
        forward_block(&s, i / blocks % heads, (blocks - 1 - i % blocks) * BLOCK); /* the longest first */
    }
}

/* ---- backward ------------------------------------------------------------------------------------------------- */

/* A block of scores: queries of head h from q0, keys from k0. */
struct block {
    size_t h, kv, q0, nq, k0, nk;
    bool first_k; /* nothing has been added to dk, dv of these keys yet; to dq of these queries: k0 == 0 */
};

/* p: probabilities from the kept log-sum-exp; dS = p (dP - delta) scale takes the place of dP. */
static void block_probabilities(const struct vec *v, const struct sequence *s, const struct block *b, float *p)
{
    for (size_t r = 0; r < b->nq; r++) {
        const size_t n = visible(b->q0 + r, b->k0, b->nk);
        v->exp_sum(p + r * BLOCK, p + r * BLOCK, s->lse[b->h * s->t + b->q0 + r], n);
        memset(p + r * BLOCK + n, 0, (b->nk - n) * sizeof *p);
    }
}

static void backward_block(const struct sequence *s, const struct block *b)
{
    const struct vec *v = cpu_vec();
    const size_t d = s->d, nq = b->nq, nk = b->nk;
    const struct matrix q = view(&s->q, b->q0, b->h, d), dout = view(&s->dout, b->q0, b->h, d);
    const float add_q = b->k0 > 0 || s->add_q, add_k = !b->first_k || s->add_k, add_v = !b->first_k || s->add_v;
    _Alignas(64) float p[BLOCK * BLOCK], ds[BLOCK * BLOCK];
    cpu_gemm_block(&(struct gemm_block){ nq, nk, d, q, transpose(&s->k, b->k0, b->kv, d), p, BLOCK, s->scale, 0 });
    block_probabilities(v, s, b, p);
    cpu_gemm_block(
        &(struct gemm_block){ nk, d, nq, turned(p, BLOCK), dout, row(&s->dv, b->k0, b->kv, d), s->dv.ld, 1, add_v });
    cpu_gemm_block(&(struct gemm_block){ nq, nk, d, dout, transpose(&s->v, b->k0, b->kv, d), ds, BLOCK, 1, 0 });
    for (size_t r = 0; r < nq; r++) {
        const float delta = s->delta[b->h * s->t + b->q0 + r];
        v->softmax_grad(ds + r * BLOCK, p + r * BLOCK, ds + r * BLOCK, delta, s->scale, nk);
    }
    cpu_gemm_block(
        &(struct gemm_block){ nk, d, nq, turned(ds, BLOCK), q, row(&s->dk, b->k0, b->kv, d), s->dk.ld, 1, add_k });
    cpu_gemm_block(&(struct gemm_block){ nq, d, nk, as_is(ds, BLOCK), view(&s->k, b->k0, b->kv, d),
                                         row(&s->dq, b->q0, b->h, d), s->dq.ld, 1, add_q });
}

/* One key/value head with all query heads that read it. */
static void backward_group(const struct sequence *s, size_t kv)
{
    const struct vec *v = cpu_vec();
    for (size_t h = kv * s->group; h < (kv + 1) * s->group; h++) {
        for (size_t t = 0; t < s->t; t++)
            s->delta[h * s->t + t] = v->dot(row(&s->o, t, h, s->d), row(&s->dout, t, h, s->d), s->d);
        for (size_t k0 = 0; k0 < s->t; k0 += BLOCK)
            for (size_t q0 = k0; q0 < s->t; q0 += BLOCK)
                backward_block(s, &(struct block){ .h = h,
                                                   .kv = kv,
                                                   .q0 = q0,
                                                   .nq = block_size(s->t, q0),
                                                   .k0 = k0,
                                                   .nk = block_size(s->t, k0),
                                                   .first_k = h == kv * s->group && q0 == k0 });
    }
}

void cpu_attention_bi(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    struct ir_op_shapes shapes;
    ir_op_shapes(IR_OP_ATTENTION, at, a->t, &shapes);
    for (uint32_t i = 0; i < ir_op_inputs(IR_OP_ATTENTION, at); i++)
        cpu_start_from(a->din[i], a->acc[i], a->b * ir_shape_elements(&shapes.in[i]));
    const size_t kv = at->kv_heads, tasks = a->b * kv;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(cpu_rows(a), a->attrs->head_dim))
    for (size_t i = 0; i < tasks; i++) {
        const struct sequence s = sequence(a, i / kv);
        backward_group(&s, i % kv);
    }
}
