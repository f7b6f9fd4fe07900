/* Products of a few rows, as when a model says one token after the other: the time is that of reading B, which is read once, as it
 * lies, by all threads, VEC_DOTS of its rows at a time. An element of C is summed by one thread: bits do not depend on their number. */
#include "cpu/blas.h"
#include "cpu/cpu.h"

enum { FEW = 4, PART = 64 /* rows of B that a thread takes at a time */ };

bool cpu_gemv_takes(const struct gemm *g)
{
    return g->few && g->m <= FEW && g->b.turned && !g->a.turned && !g->half && !g->start;
}

/* C's elements (i,j) to (i,j+n), n at most VEC_DOTS. */
static void some(const struct gemm *g, size_t i, size_t j, size_t n)
{
    const struct vec *v = cpu_vec();
    const float *x = (const float *)g->a.at + i * g->a.ld;
    float y[VEC_DOTS], *c = (float *)g->c + i * g->ldc;
    for (size_t at = j; at < j + n; at += n < VEC_DOTS ? 1 : VEC_DOTS) {
        const size_t ld = n < VEC_DOTS ? 0 : g->b.ld; /* at the edge: one row, as often */
        if (g->half_b)
            v->dots_half(y, x, (const uint16_t *)g->b.at + at * g->b.ld, ld, g->k);
        else
            v->dots(y, x, (const float *)g->b.at + at * g->b.ld, ld, g->k);
        for (size_t k = 0; k < (ld ? VEC_DOTS : 1); k++)
            c[at + k] = g->bias ? y[k] + ((const float *)g->bias)[at + k] : y[k];
    }
}

void cpu_gemv(const struct gemm *g)
{
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team((uint64_t)g->m * g->n, g->k))
    for (size_t from = 0; from < g->n; from += PART) {
        const size_t end = g->n - from < PART ? g->n : from + PART;
        for (size_t j = from; j < end; j += VEC_DOTS)
            for (size_t i = 0; i < g->m; i++)
                some(g, i, j, end - j < VEC_DOTS ? end - j : VEC_DOTS);
    }
}
