/* Rotary position embedding (Su et al. 2021); and heads of which a part is turned once for all.
 *
 * work: cos (T, rotary/2), then sin (T, rotary/2), float32, times scale. The angles are float64: cos and sin of the first
 * position of a block by libm, of the others by turning on by the frequency, which costs four operations and 1e-15 a
 * step. */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

enum { BLOCK = 64 };

/* cs[0], cs[1]: cos and sin tables; tokens t0 .. t0 + n - 1, which stand at `position` and behind it, of frequency i. */
static void angles(const struct ir_attrs *at, float *const cs[2], uint32_t i, size_t t0, size_t n, size_t position)
{
    const size_t half = ir_op_rotary(at) / 2;
    const double frequency = ir_op_rope_frequency(at, i), scale = at->scale > 0 ? (double)at->scale : 1;
    double c = cos((double)position * frequency), s = sin((double)position * frequency);
    const double dc = cos(frequency), ds = sin(frequency);
    for (size_t t = t0; t < t0 + n; t++) {
        cs[0][t * half + i] = (float)(c * scale);
        cs[1][t * half + i] = (float)(s * scale);
        double turned = c * dc - s * ds;
        s = s * dc + c * ds;
        c = turned;
    }
}

/* Of all frequencies; tokens of two runs are begun twice. */
static void block_angles(const struct op_args *a, float *const cs[2], size_t t0, size_t n)
{
    const struct op_positions *p = a->positions;
    const size_t half = ir_op_rotary(a->attrs) / 2, border = p && p->run[0].count > t0 ? p->run[0].count - t0 : n,
                 first = border < n ? border : n;
    for (uint32_t i = 0; i < half; i++)
        angles(a->attrs, cs, i, t0, first, op_position(p, (uint32_t)t0));
    for (uint32_t i = 0; i < half && first < n; i++)
        angles(a->attrs, cs, i, t0 + first, n - first, p->run[1].first);
}

/* y = acc + x, acc NULL: x. */
static void keep(const struct vec *v, float *y, const float *acc, const float *x, size_t n)
{
    if (acc)
        v->add(y, acc, x, n);
    else
        memcpy(y, x, n * sizeof *y);
}

static void rope(const struct op_args *a, float *y, const float *acc, const float *x, float sign)
{
    const struct vec *v = cpu_vec();
    const struct ir_attrs *at = a->attrs;
    const size_t half = ir_op_rotary(at) / 2, heads = at->heads, d = at->head_dim, t = a->t, first = at->rotary_offset,
                 end = first + 2 * half;
    float *const cs[2] = { a->work, (float *)a->work + t * half };
    void (*turn)(float *, const float *, const float *, const float *, const float *, float, size_t) = v->rope;
    if (at->flags & IR_PAIRS)
        turn = v->rope_pairs;
#pragma omp parallel for schedule(static) num_threads(cpu_team(t, half))
    for (size_t t0 = 0; t0 < t; t0 += BLOCK)
        block_angles(a, cs, t0, t - t0 < BLOCK ? t - t0 : BLOCK);
    const size_t rows = cpu_rows(a);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, heads *d))
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < heads; h++) {
            const size_t i = (r * heads + h) * d, j = i + first, k = i + end, p = cpu_token(a, r) * half;
            turn(y + j, acc ? acc + j : NULL, x + j, cs[0] + p, cs[1] + p, sign, half);
            if (first > 0)
                keep(v, y + i, acc ? acc + i : NULL, x + i, first);
            if (end < d)
                keep(v, y + k, acc ? acc + k : NULL, x + k, d - end);
        }
}

void cpu_rope_f(const struct op_args *a)
{
    rope(a, a->out[0], NULL, a->in[0], 1.0f);
}

/* The gradient turns back. */
void cpu_rope_bi(const struct op_args *a)
{
    rope(a, a->din[0], a->acc[0], a->dout[0], -1.0f);
}

/* ---- heads with a part that they share -------------------------------------------------------------------------- */

void cpu_join_heads_f(const struct op_args *a)
{
    const size_t heads = a->attrs->heads, d = a->attrs->head_dim, shared = a->attrs->rotary_dim, own = d - shared,
                 rows = cpu_rows(a);
    const float *x = a->in[0], *s = a->in[1];
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, heads *d))
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < heads; h++) {
            float *head = y + (r * heads + h) * d;
            memcpy(head, x + (r * heads + h) * own, own * sizeof *y);
            memcpy(head + own, s + r * shared, shared * sizeof *y);
        }
}

/* What is shared gets the sum over the heads. */
void cpu_join_heads_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t heads = a->attrs->heads, d = a->attrs->head_dim, shared = a->attrs->rotary_dim, own = d - shared,
                 rows = cpu_rows(a);
    const float *dy = a->dout[0], *acc = a->acc[0], *acc_shared = a->acc[1];
    float *dx = a->din[0], *ds = a->din[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, heads *d))
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < heads; h++) {
            const size_t i = (r * heads + h) * own, j = r * shared;
            const float *head = dy + (r * heads + h) * d;
            keep(v, dx + i, acc ? acc + i : NULL, head, own);
            keep(v, ds + j, h ? ds + j : acc_shared ? acc_shared + j : NULL, head + own, shared);
        }
}
