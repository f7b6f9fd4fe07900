/* Activations, alone and gated, a factor, a bound: elementwise. */
#include <math.h>

#include "base/number.h"
#include "cpu/cpu.h"

enum { PIECE = 1 << 12 }; /* elements a thread takes at a time */

static size_t elements(const struct op_args *a)
{
    return cpu_rows(a) * a->attrs->features;
}

/* The factor in the job's type where it is to be rounded. */
static float scale_of(const struct op_args *a)
{
    const float by = a->attrs->scale;
    return a->widened && a->attrs->flags & IR_ROUND_FIRST ? number_from_bf16(number_to_bf16(by)) : by;
}

/* gelu too. */
void cpu_act_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *x = a->in[0];
    float *y = a->out[0];
    const uint32_t act = ir_op_act(a->op, a->attrs);
    void (*gelu)(float *, const float *, size_t) = act == IR_ACT_GELU        ? v->gelu_erf
                                                   : act == IR_ACT_GELU_TANH ? v->gelu
                                                                             : NULL;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        const size_t m = n - i < PIECE ? n - i : PIECE;
        if (gelu)
            gelu(y + i, x + i, m);
        else
            v->act(act, y + i, x + i, m);
    }
}

void cpu_act_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *x = a->in[0], *dy = a->dout[0], *acc = a->acc[0];
    float *dx = a->din[0];
    const uint32_t act = ir_op_act(a->op, a->attrs);
    void (*gelu)(float *, const float *, const float *, const float *, size_t) = act == IR_ACT_GELU ? v->gelu_erf_grad
                                                                                 : act == IR_ACT_GELU_TANH
                                                                                     ? v->gelu_grad
                                                                                     : NULL;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        const size_t m = n - i < PIECE ? n - i : PIECE;
        if (gelu)
            gelu(dx + i, acc ? acc + i : NULL, x + i, dy + i, m);
        else
            v->act_grad(act, dx + i, acc ? acc + i : NULL, x + i, dy + i, m);
    }
}

void cpu_scale_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *x = a->in[0], by = scale_of(a);
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        v->scale(y + i, by, x + i, n - i < PIECE ? n - i : PIECE);
}

void cpu_scale_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *dy = a->dout[0], by = scale_of(a);
    float *dx = a->din[0];
    cpu_start_from(dx, a->acc[0], n);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        const size_t m = n - i < PIECE ? n - i : PIECE;
        if (a->acc[0])
            v->axpy(dx + i, by, dy + i, m);
        else
            v->scale(dx + i, by, dy + i, m);
    }
}

void cpu_clamp_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *x = a->in[0];
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        v->clamp(y + i, x + i, a->attrs->clamp, n - i < PIECE ? n - i : PIECE);
}

void cpu_clamp_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *x = a->in[0], *dy = a->dout[0], *acc = a->acc[0];
    float *dx = a->din[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        v->clamp_grad(dx + i, acc ? acc + i : NULL, x + i, dy + i, a->attrs->clamp, n - i < PIECE ? n - i : PIECE);
}

void cpu_row_gate_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const float *x = a->in[0], *gate = a->in[1];
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        float s;
        v->act(IR_ACT_SIGMOID, &s, gate + r, 1);
        v->scale(y + r * c, s, x + r * c, c);
    }
}

void cpu_row_gate_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const float *x = a->in[0], *gate = a->in[1], *dy = a->dout[0], *acc = a->acc[1];
    float *dx = a->din[0], *dgate = a->din[1];
    cpu_start_from(dx, a->acc[0], rows * c);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        const float *from = dy + r * c;
        float s;
        v->act(IR_ACT_SIGMOID, &s, gate + r, 1);
        const float grad = s * (1 - s) * v->dot(from, x + r * c, c);
        if (a->acc[0])
            v->axpy(dx + r * c, s, from, c);
        else
            v->scale(dx + r * c, s, from, c);
        dgate[r] = acc ? acc[r] + grad : grad;
    }
}

static bool plain_gate(const struct ir_attrs *at)
{
    return at->act == IR_ACT_SILU && !(at->clamp > 0) && !(at->alpha > 0) && !(at->flags & IR_ONE_PLUS);
}

static struct vec_gate gate_of(const struct ir_attrs *at)
{
    return (struct vec_gate){ .act = at->act,
                              .limit = at->clamp > 0 ? at->clamp : INFINITY,
                              .alpha = at->alpha > 0 ? at->alpha : 1,
                              .plus = at->flags & IR_ONE_PLUS ? 1.0f : 0.0f };
}

void cpu_gated(const struct ir_attrs *at, float *y, const float *gate, const float *up, size_t n)
{
    const struct vec_gate p = gate_of(at);
    if (plain_gate(at))
        cpu_vec()->swiglu(y, gate, up, n);
    else
        cpu_vec()->gated(&p, y, gate, up, n);
}

void cpu_gated_grad(const struct ir_attrs *at, float *const d[2], const float *const acc[2], const float *gate,
                    const float *up, const float *dy, size_t n)
{
    const struct vec_gate p = gate_of(at);
    if (plain_gate(at))
        cpu_vec()->swiglu_grad(d, acc, gate, up, dy, n);
    else
        cpu_vec()->gated_grad(&p, d, acc, gate, up, dy, n);
}

void cpu_swiglu_f(const struct op_args *a)
{
    const size_t n = elements(a);
    const float *gate = a->in[0], *up = a->in[1];
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        cpu_gated(a->attrs, y + i, gate + i, up + i, n - i < PIECE ? n - i : PIECE);
}

void cpu_swiglu_bi(const struct op_args *a)
{
    const size_t n = elements(a);
    const float *gate = a->in[0], *up = a->in[1], *dy = a->dout[0], *acc0 = a->acc[0], *acc1 = a->acc[1];
    float *dgate = a->din[0], *dup = a->din[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        float *const d[2] = { dgate + i, dup + i };
        const float *const acc[2] = { acc0 ? acc0 + i : NULL, acc1 ? acc1 + i : NULL };
        cpu_gated_grad(a->attrs, d, acc, gate + i, up + i, dy + i, n - i < PIECE ? n - i : PIECE);
    }
}
