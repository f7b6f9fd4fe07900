/* Causal attention without a T x T matrix in memory: blocks of scores on the stack, softmax carried from block to
 * block (Milakov, Gimelshein 2018; Dao et al. 2022), log-sum-exp kept for the backward, which makes the blocks anew.
 *
 * Query head h reads key/value head h / (heads / kv_heads). Products of blocks are BLAS in the thread that owns the
 * block: forward one (sequence, head, block of queries) at a time; backward one (sequence, key/value head), so that
 * the gradients of keys and values are summed over blocks and heads in one order.
 *
 * Ring (struct op_positions): each phase sees the keys of one part. o so far, float32 and divided by its sum, and its log-sum-exp
 * are what the softmax goes on from; dq, dk and dv so far are float32 too, and are given out in the last phase. */
#include <math.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"

enum { BLOCK = 64 }; /* queries, and keys, of a block of scores */

/* One operand by heads: row t of head h starts at at + t*ld + h*(size of a head). */
struct heads {
    float *at;
    size_t ld;
};

/* Operands of one sequence, packed or not. */
struct sequence {
    struct heads q, k, v, o;
    struct heads dq, dk, dv, dout;
    float *lse;         /* (heads, T); NULL: not kept */
    float *delta;       /* (heads, T): sum over a head of dO O */
    const float *sinks; /* (heads); NULL: none */
    const int32_t *document;
    const struct op_positions *positions;
    size_t t, keys, d, dv_size, group, window;
    float scale, cap;
    bool add_q, add_k, add_v; /* the gradient is added to what is there */
    bool later;               /* phase behind the first: o and lse are those so far */
    bool half;                /* of a job in bfloat16: blocks are rounded before they are multiplied, as on a device */
};

/* Rows of width elements of sequence s in x, NULL where there is none; keys: as k and v have them. */
static struct heads rows_of(const struct op_args *a, void *x, size_t s, size_t width, bool keys)
{
    const struct op_positions *p = a->positions;
    const size_t first = !p ? s * a->t : s * (keys ? p->key_s : p->row_s), step = !p ? 1 : keys ? p->key_i : p->row_i;
    return (struct heads){ x ? (float *)x + first * width : NULL, step * width };
}

/* The three operands of sequence s in x: one packed, or three. */
static void split_operands(const struct op_args *a, void *const x[3], size_t s, struct heads out[3])
{
    const struct ir_attrs *at = a->attrs;
    const size_t q = (size_t)at->heads * at->head_dim, k = (size_t)at->kv_heads * at->head_dim;
    const size_t v = (size_t)at->kv_heads * ir_op_v_dim(at), first[3] = { 0, q, q + k }, width[3] = { q, k, v };
    for (int i = 0; i < 3; i++)
        out[i] = rows_of(a, x[i], s, width[i], i > 0);
    if (!(at->flags & IR_PACKED))
        return;
    const struct heads all = rows_of(a, x[0], s, q + k + v, false);
    for (int i = 0; i < 3; i++)
        out[i] = (struct heads){ all.at ? all.at + first[i] : NULL, all.ld };
    if (a->positions && all.at) /* a model that generates: rows of all tokens so far, of which the last ones ask */
        out[0].at += a->positions->run[0].first * all.ld;
}

static bool ring(const struct op_args *a)
{
    return a->positions && a->positions->ring;
}

/* dq, dk and dv so far. */
static void ring_gradients(const struct op_args *a, size_t s, struct heads out[3])
{
    const struct ir_attrs *at = a->attrs;
    const size_t k = (size_t)at->kv_heads * at->head_dim, v = (size_t)at->kv_heads * ir_op_v_dim(at);
    out[0] = rows_of(a, a->stash[0], s, (size_t)at->heads * at->head_dim, false);
    out[1] = out[2] = rows_of(a, a->stash[1], s, k + v, true);
    if (out[2].at)
        out[2].at += k;
}

static struct sequence sequence(const struct op_args *a, size_t s)
{
    const struct ir_attrs *at = a->attrs;
    const struct op_positions *p = a->positions;
    const size_t t = a->t, width = (size_t)at->heads * ir_op_v_dim(at);
    const bool packed = (at->flags & IR_PACKED) != 0, later = ring(a) && a->phase > 0;
    struct heads x[3], dx[3];
    split_operands(a, a->in, s, x);
    if (ring(a))
        ring_gradients(a, s, dx);
    else
        split_operands(a, a->din, s, dx);
    float *lse = a->save[0], *delta = a->work;
    return (struct sequence){
        .q = x[0],
        .k = x[1],
        .v = x[2],
        .o = rows_of(a, ring(a) && a->save[1] ? a->save[1] : a->out[0], s, width, false),
        .dq = dx[0],
        .dk = dx[1],
        .dv = dx[2],
        .dout = rows_of(a, a->dout[0], s, width, false),
        .lse = lse ? lse + s * at->heads * t : NULL,
        .delta = delta ? delta + s * at->heads * t : NULL,
        .sinks = at->flags & IR_SINKS ? a->param[0] : NULL,
        .document = a->document ? a->document + s * (p ? p->t_all : t) : NULL,
        .positions = p,
        .t = t,
        .keys = p ? p->keys : t,
        .d = at->head_dim,
        .dv_size = ir_op_v_dim(at),
        .group = at->heads / at->kv_heads,
        .window = at->window,
        .scale = at->scale,
        .cap = at->score_cap,
        .add_q = ring(a) ? later : a->acc[0] != NULL,
        .add_k = ring(a) ? later : a->acc[packed ? 0 : 1] != NULL,
        .add_v = ring(a) ? later : a->acc[packed ? 0 : 2] != NULL,
        .later = later,
        .half = a->widened,
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

static size_t block_size(size_t t, size_t at)
{
    return t - at < BLOCK ? t - at : BLOCK;
}

/* ---- what sees what ------------------------------------------------------------------------------------------- */

/* Blocks of queries, none of which has tokens of two runs: so their positions follow each other. */
static size_t query_blocks(const struct op_args *a)
{
    const struct op_positions *p = a->positions;
    const size_t first = p ? p->run[0].count : a->t;
    return (first + BLOCK - 1) / BLOCK + (a->t - first + BLOCK - 1) / BLOCK;
}

/* Block n: *nq queries from the one returned on. */
static size_t query_block(const struct sequence *s, size_t n, size_t *nq)
{
    const size_t first = s->positions ? s->positions->run[0].count : s->t, blocks = (first + BLOCK - 1) / BLOCK;
    const size_t q0 = n < blocks ? n * BLOCK : first + (n - blocks) * BLOCK;
    *nq = block_size(n < blocks ? first : s->t, q0);
    return q0;
}

static size_t position(const struct sequence *s, size_t i)
{
    return op_position(s->positions, (uint32_t)i);
}

/* Keys that stand before a position, so the first of the others. */
static size_t keys_before(const struct sequence *s, size_t at)
{
    const struct op_positions *p = s->positions;
    if (!p || p->key_run[0].count == 0)
        return at < s->keys ? at : s->keys;
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        const size_t from = p->key_run[i].first, count = p->key_run[i].count, reach = at > from ? at - from : 0;
        n += reach < count ? reach : count;
    }
    return n;
}

/* Keys [first, end) of each query of a block; all of them lie in the blocks from begin to before end_all, if there are any. */
struct seen {
    size_t first[BLOCK], end[BLOCK], begin, end_all;
};

static void look(const struct sequence *s, size_t q0, size_t nq, struct seen *x)
{
    const size_t at0 = position(s, q0);
    x->begin = SIZE_MAX;
    x->end_all = 0;
    for (size_t r = 0; r < nq; r++) {
        const size_t at = at0 + r;
        size_t first = s->window && at >= s->window ? at - s->window + 1 : 0;
        if (s->document && (size_t)s->document[at] > first)
            first = (size_t)s->document[at];
        x->first[r] = first ? keys_before(s, first) : 0;
        x->end[r] = keys_before(s, at + 1);
        if (x->first[r] == x->end[r])
            continue;
        x->begin = x->first[r] < x->begin ? x->first[r] : x->begin;
        x->end_all = x->end[r] > x->end_all ? x->end[r] : x->end_all;
    }
    x->begin = x->begin / BLOCK * BLOCK;
}

/* Keys of the block from k0 that query r sees: *n from the one returned on, counted from k0. */
static size_t visible(const struct seen *x, size_t r, size_t k0, size_t nk, size_t *n)
{
    const size_t first = x->first[r] > k0 ? x->first[r] - k0 : 0, to = x->end[r] > k0 ? x->end[r] - k0 : 0;
    const size_t end = to < nk ? to : nk;
    *n = first < end ? end - first : 0;
    return *n ? first : 0;
}

/* ---- forward -------------------------------------------------------------------------------------------------- */

/* Running softmax of a block of queries: score maximum and sum of exponentials of each row, once it has some. */
struct running {
    const struct vec *v;
    float max[BLOCK], sum[BLOCK];
    bool some[BLOCK];
};

/* Turns a row's scores into exponentials against the new maximum; its sum, and its row of o, are brought down to it. */
static void online_softmax(struct running *run, size_t r, float *s, size_t n, float *o, size_t d)
{
    const struct vec *v = run->v;
    const bool some = run->some[r];
    const float here = v->max(s, n), most = some && run->max[r] > here ? run->max[r] : here;
    const float sum = (float)v->exp_sum(s, s, most, n);
    if (some && most > run->max[r]) {
        const float down = expf(run->max[r] - most);
        run->sum[r] *= down;
        v->scale(o, down, o, d);
    }
    run->sum[r] = some ? run->sum[r] + sum : sum;
    run->max[r] = most;
    run->some[r] = true;
}

/* A sink joins the sum, and has no value. */
static void add_sink(const struct vec *v, float sink, struct running *run, size_t r, float *o, size_t d)
{
    const float most = sink > run->max[r] ? sink : run->max[r], down = expf(run->max[r] - most);
    run->sum[r] = run->sum[r] * down + expf(sink - most);
    run->max[r] = most;
    v->scale(o, down, o, d);
}

/* Goes on from o so far, whose sum is 1. */
static void resume(const struct sequence *s, size_t h, size_t q0, size_t nq, struct running *run)
{
    for (size_t r = 0; r < nq; r++) {
        run->max[r] = s->lse[h * s->t + q0 + r];
        run->sum[r] = 1;
        run->some[r] = true;
    }
}

static void forward_block(const struct sequence *s, size_t h, size_t n)
{
    const struct vec *v = cpu_vec();
    const size_t d = s->d, dv = s->dv_size, kv = h / s->group;
    size_t nq, q0 = query_block(s, n, &nq);
    _Alignas(64) float p[BLOCK * BLOCK];
    struct running run = { .v = v };
    struct seen seen;
    look(s, q0, nq, &seen);
    if (s->later)
        resume(s, h, q0, nq, &run);
    for (size_t k0 = seen.begin; k0 < seen.end_all; k0 += BLOCK) {
        const size_t nk = block_size(s->keys, k0);
        cpu_gemm_block(&(struct gemm_block){ nq, nk, d, view(&s->q, q0, h, d), transpose(&s->k, k0, kv, d), p, BLOCK,
                                             s->scale, 0, s->half });
        for (size_t r = 0; r < nq; r++) {
            size_t n, first = visible(&seen, r, k0, nk, &n);
            float *x = p + r * BLOCK;
            if (s->cap > 0)
                v->cap(x + first, NULL, s->cap, n);
            if (n > 0)
                online_softmax(&run, r, x + first, n, row(&s->o, q0 + r, h, dv), dv);
            memset(x, 0, first * sizeof *x);
            memset(x + first + n, 0, (nk - first - n) * sizeof *x);
        }
        cpu_gemm_block(&(struct gemm_block){ nq, dv, nk, as_is(p, BLOCK), view(&s->v, k0, kv, dv),
                                             row(&s->o, q0, h, dv), s->o.ld, 1, k0 > seen.begin || s->later ? 1 : 0,
                                             s->half });
    }
    for (size_t r = 0; r < nq; r++) {
        float *o = row(&s->o, q0 + r, h, dv);
        if (s->sinks && !s->later)
            add_sink(v, s->sinks[h], &run, r, o, dv);
        v->scale(o, 1.0f / run.sum[r], o, dv);
        if (s->lse)
            s->lse[h * s->t + q0 + r] = run.max[r] + logf(run.sum[r]);
    }
}

/* One query, all of whose keys are there: products of vectors. */
static void forward_row(const struct sequence *s, size_t h)
{
    const struct vec *v = cpu_vec();
    const size_t d = s->d, dv = s->dv_size, kv = h / s->group;
    const float *q = row(&s->q, 0, h, d);
    float p[BLOCK], *o = row(&s->o, 0, h, dv);
    struct running run = { .v = v };
    struct seen seen;
    look(s, 0, 1, &seen);
    memset(o, 0, dv * sizeof *o);
    for (size_t k0 = seen.begin; k0 < seen.end_all; k0 += BLOCK) {
        size_t n, first = k0 + visible(&seen, 0, k0, block_size(s->keys, k0), &n);
        for (size_t i = 0; i < n; i++)
            p[i] = s->scale * v->dot(q, row(&s->k, first + i, kv, d), d);
        if (s->cap > 0)
            v->cap(p, NULL, s->cap, n);
        if (n > 0)
            online_softmax(&run, 0, p, n, o, dv);
        for (size_t i = 0; i < n; i++)
            v->axpy(o, p[i], row(&s->v, first + i, kv, dv), dv);
    }
    if (s->sinks)
        add_sink(v, s->sinks[h], &run, 0, o, dv);
    v->scale(o, 1.0f / run.sum[0], o, dv);
}

static void attend_row(const struct op_args *a)
{
    const size_t heads = a->attrs->heads;
    const struct sequence s = sequence(a, 0);
#pragma omp parallel for schedule(static) num_threads(cpu_team(heads *s.keys, s.d))
    for (size_t h = 0; h < heads; h++)
        forward_row(&s, h);
}

void cpu_attention_f(const struct op_args *a)
{
    if (a->generates && a->b == 1 && a->t == 1) {
        attend_row(a);
        return;
    }
    const size_t blocks = query_blocks(a), heads = a->attrs->heads, tasks = op_sees_keys(a) ? a->b * heads * blocks : 0;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(cpu_rows(a), a->attrs->head_dim))
    for (size_t i = 0; i < tasks; i++) {
        const struct sequence s = sequence(a, i / (heads * blocks));
        forward_block(&s, i / blocks % heads, blocks - 1 - i % blocks); /* the longest first */
    }
    if (ring(a) && a->out[0] != a->save[1] && a->phase + 1 == a->positions->ring)
        cpu_copy(a->out[0], a->save[1], cpu_rows(a) * heads * ir_op_v_dim(a->attrs) * sizeof(float));
}

/* ---- backward ------------------------------------------------------------------------------------------------- */

/* A block of scores: queries of head h from q0, keys from k0. */
struct block {
    size_t h, kv, q0, nq, k0, nk;
    bool first_k, first_q; /* nothing has been added to dk, dv of these keys yet; to dq of these queries */
};

/* p: probabilities from the kept log-sum-exp; slope: where scores have a bound, its derivative. */
static void block_probabilities(const struct vec *v, const struct sequence *s, const struct block *b,
                                const struct seen *seen, float *p, float *slope)
{
    for (size_t r = 0; r < b->nq; r++) {
        size_t n, first = visible(seen, r, b->k0, b->nk, &n);
        float *x = p + r * BLOCK;
        if (slope) {
            memset(slope + r * BLOCK, 0, b->nk * sizeof *slope);
            v->cap(x + first, slope + r * BLOCK + first, s->cap, n);
        }
        v->exp_sum(x + first, x + first, s->lse[b->h * s->t + b->q0 + r], n);
        memset(x, 0, first * sizeof *x);
        memset(x + first + n, 0, (b->nk - first - n) * sizeof *x);
    }
}

/* dS = p (dP - delta) scale, times the slope of the bound, takes the place of dP. */
static void block_gradient(const struct vec *v, const struct sequence *s, const struct block *b, const float *p,
                           const float *slope, float *ds)
{
    for (size_t r = 0; r < b->nq; r++) {
        const float delta = s->delta[b->h * s->t + b->q0 + r];
        float *x = ds + r * BLOCK;
        v->softmax_grad(x, p + r * BLOCK, x, delta, s->scale, b->nk);
        for (size_t i = 0; slope && i < b->nk; i++)
            x[i] *= slope[r * BLOCK + i];
    }
}

static void backward_block(const struct sequence *s, const struct block *b, const struct seen *seen)
{
    const struct vec *v = cpu_vec();
    const size_t d = s->d, dv = s->dv_size, nq = b->nq, nk = b->nk;
    const struct matrix q = view(&s->q, b->q0, b->h, d), dout = view(&s->dout, b->q0, b->h, dv);
    const float add_q = !b->first_q || s->add_q, add_k = !b->first_k || s->add_k, add_v = !b->first_k || s->add_v;
    _Alignas(64) float p[BLOCK * BLOCK], ds[BLOCK * BLOCK], bounded[BLOCK * BLOCK];
    float *const slope = s->cap > 0 ? bounded : NULL;
    cpu_gemm_block(
        &(struct gemm_block){ nq, nk, d, q, transpose(&s->k, b->k0, b->kv, d), p, BLOCK, s->scale, 0, s->half });
    block_probabilities(v, s, b, seen, p, slope);
    cpu_gemm_block(&(struct gemm_block){ nk, dv, nq, turned(p, BLOCK), dout, row(&s->dv, b->k0, b->kv, dv), s->dv.ld, 1,
                                         add_v, s->half });
    cpu_gemm_block(
        &(struct gemm_block){ nq, nk, dv, dout, transpose(&s->v, b->k0, b->kv, dv), ds, BLOCK, 1, 0, s->half });
    block_gradient(v, s, b, p, slope, ds);
    cpu_gemm_block(&(struct gemm_block){ nk, d, nq, turned(ds, BLOCK), q, row(&s->dk, b->k0, b->kv, d), s->dk.ld, 1,
                                         add_k, s->half });
    cpu_gemm_block(&(struct gemm_block){ nq, d, nk, as_is(ds, BLOCK), view(&s->k, b->k0, b->kv, d),
                                         row(&s->dq, b->q0, b->h, d), s->dq.ld, 1, add_q, s->half });
}

/* Keys that no query sees. */
static void zero_keys(const struct sequence *s, size_t kv, size_t k0, size_t nk)
{
    for (size_t k = k0; k < k0 + nk; k++) {
        if (!s->add_k)
            memset(row(&s->dk, k, kv, s->d), 0, s->d * sizeof(float));
        if (!s->add_v)
            memset(row(&s->dv, k, kv, s->dv_size), 0, s->dv_size * sizeof(float));
    }
}

/* sum of dO O of a row of head h */
static float row_delta(const struct sequence *s, size_t h, size_t t)
{
    return cpu_vec()->dot(row(&s->o, t, h, s->dv_size), row(&s->dout, t, h, s->dv_size), s->dv_size);
}

/* One key/value head with all query heads that read it. */
static void backward_group(const struct sequence *s, size_t kv, size_t blocks)
{
    for (size_t h = kv * s->group; h < (kv + 1) * s->group; h++) {
        for (size_t t = 0; t < s->t; t++)
            s->delta[h * s->t + t] = row_delta(s, h, t);
        for (size_t k0 = 0; k0 < s->keys; k0 += BLOCK) {
            struct block b = { .h = h, .kv = kv, .k0 = k0, .nk = block_size(s->keys, k0) };
            b.first_k = h == kv * s->group;
            for (size_t n = s->positions ? 0 : k0 / BLOCK; n < blocks; n++) {
                struct seen seen;
                b.q0 = query_block(s, n, &b.nq);
                look(s, b.q0, b.nq, &seen);
                if (k0 < seen.begin || k0 >= seen.end_all)
                    continue;
                b.first_q = k0 == seen.begin;
                backward_block(s, &b, &seen);
                b.first_k = false;
            }
            if (b.first_k)
                zero_keys(s, kv, k0, b.nk);
        }
    }
}

/* What the gradients are added to. */
static void start_gradients(const struct op_args *a)
{
    const struct ir_share share = op_share(a);
    struct ir_op_shapes shapes;
    ir_op_part_shapes(IR_OP_ATTENTION, a->attrs, a->t, &share, &shapes);
    for (uint32_t i = 0; i < ir_op_inputs(IR_OP_ATTENTION, a->attrs); i++)
        cpu_start_from(a->din[i], a->acc[i], a->b * ir_shape_elements(&shapes.in[i]));
}

/* din = acc + what has come home. */
static void give_gradients(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const struct ir_attrs *at = a->attrs;
    const size_t q = (size_t)at->heads * at->head_dim, k = (size_t)at->kv_heads * at->head_dim;
    const size_t dv = (size_t)at->kv_heads * ir_op_v_dim(at), rows = a->b * (size_t)a->positions->keys;
    const struct {
        const float *from;
        size_t rows, width, ld;
    } sums[3] = { { a->stash[0], cpu_rows(a), q, q },
                  { a->stash[1], rows, k, k + dv },
                  { (const float *)a->stash[1] + k, rows, dv, k + dv } };
    for (int i = 0; i < 3; i++)
#pragma omp parallel for schedule(static) num_threads(cpu_team(sums[i].rows, sums[i].width))
        for (size_t r = 0; r < sums[i].rows; r++) {
            const size_t n = sums[i].width;
            float *to = (float *)a->din[i] + r * n;
            const float *from = sums[i].from + r * sums[i].ld;
            if (a->acc[i])
                v->add(to, (const float *)a->acc[i] + r * n, from, n);
            else
                memcpy(to, from, n * sizeof *to);
        }
}

void cpu_attention_bi(const struct op_args *a)
{
    if (ring(a) && a->phase == a->positions->ring) {
        give_gradients(a);
        return;
    }
    if (!ring(a))
        start_gradients(a);
    const size_t kv = a->attrs->kv_heads, tasks = op_sees_keys(a) ? a->b * kv : 0, blocks = query_blocks(a);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(cpu_rows(a), a->attrs->head_dim))
    for (size_t i = 0; i < tasks; i++) {
        const struct sequence s = sequence(a, i / kv);
        backward_group(&s, i % kv, blocks);
    }
}

/* A sink has the probability exp(sink - lse), and its dP is 0. */
void cpu_attention_bw(const struct op_args *a)
{
    const size_t heads = a->attrs->heads;
    float *dsinks = a->dparam[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(cpu_rows(a), a->attrs->head_dim))
    for (size_t h = 0; h < heads; h++) {
        double sum = a->dparam_add & 1 ? dsinks[h] : 0;
        for (size_t i = 0; i < a->b; i++) {
            const struct sequence s = sequence(a, i);
            for (size_t t = 0; t < s.t; t++)
                sum -= (double)(expf(s.sinks[h] - s.lse[h * s.t + t]) * row_delta(&s, h, t));
        }
        dsinks[h] = (float)sum;
    }
}
