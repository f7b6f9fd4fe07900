/* GELU and SwiGLU, elementwise. */
#include "cpu/cpu.h"

enum { PIECE = 1 << 12 }; /* elements a thread takes at a time */

static size_t elements(const struct op_args *a)
{
    return cpu_rows(a) * a->attrs->features;
}

void cpu_gelu_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *x = a->in[0];
    float *y = a->out[0];
    void (*f)(float *, const float *, size_t) = a->attrs->flags & IR_EXACT ? v->gelu_erf : v->gelu;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        f(y + i, x + i, n - i < PIECE ? n - i : PIECE);
}

void cpu_gelu_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *x = a->in[0], *dy = a->dout[0], *acc = a->acc[0];
    float *dx = a->din[0];
    void (*f)(float *, const float *, const float *, const float *, size_t) = v->gelu_grad;
    if (a->attrs->flags & IR_EXACT)
        f = v->gelu_erf_grad;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        f(dx + i, acc ? acc + i : NULL, x + i, dy + i, n - i < PIECE ? n - i : PIECE);
}

void cpu_swiglu_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *gate = a->in[0], *up = a->in[1];
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        v->swiglu(y + i, gate + i, up + i, n - i < PIECE ? n - i : PIECE);
}

void cpu_swiglu_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t n = elements(a);
    const float *gate = a->in[0], *up = a->in[1], *dy = a->dout[0], *acc0 = a->acc[0], *acc1 = a->acc[1];
    float *dgate = a->din[0], *dup = a->din[1];
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        float *const d[2] = { dgate + i, dup + i };
        const float *const acc[2] = { acc0 ? acc0 + i : NULL, acc1 ? acc1 + i : NULL };
        v->swiglu_grad(d, acc, gate + i, up + i, dy + i, n - i < PIECE ? n - i : PIECE);
    }
}
