/* Products of a few rows, as when a model says one token after the other: the time is that of reading B, which is read once, as it
 * lies, by all threads. An element of C is summed by one thread: bits do not depend on their number. */
#include "cpu/blas.h"
#include "cpu/cpu.h"

enum { FEW = 4, PART = 64 /* rows of B that a thread takes at a time */ };

bool cpu_gemv_takes(const struct gemm *g)
{
    return g->few && g->m <= FEW && g->b.turned && !g->a.turned && !g->half && !g->start;
}

static float one(const struct gemm *g, size_t i, size_t j)
{
    const float *x = (const float *)g->a.at + i * g->a.ld;
    const float y = g->half_b ? cpu_vec()->dot_half(x, (const uint16_t *)g->b.at + j * g->b.ld, g->k)
                              : cpu_vec()->dot(x, (const float *)g->b.at + j * g->b.ld, g->k);
    return g->bias ? y + ((const float *)g->bias)[j] : y;
}

void cpu_gemv(const struct gemm *g)
{
#pragma omp parallel for schedule(dynamic, PART) num_threads(cpu_team((uint64_t)g->m * g->n, g->k))
    for (size_t j = 0; j < g->n; j++)
        for (size_t i = 0; i < g->m; i++)
            ((float *)g->c)[i * g->ldc + j] = one(g, i, j);
}
