/* Products of bfloat16 matrices, tile by tile of C: a thread packs blocks of A and B, sums in float32, and rounds once. Every
 * element of C is summed in the order of k, in runs of DOT16_BLOCK, whatever the tiles: the bits do not depend on the
 * number of threads. */
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/cpu.h"
#include "cpu/dot16.h"

/* A thread's blocks of A, B and C. */
struct blocks {
    _Alignas(64) float a[DOT16_BLOCK * DOT16_BLOCK], b[DOT16_BLOCK * DOT16_BLOCK], c[DOT16_BLOCK * DOT16_BLOCK];
};

static struct {
    struct blocks *of; /* each thread */
    int n;
} threads;

void cpu_gemm16_threads(int n)
{
    if (n <= threads.n)
        return;
    free(threads.of);
    threads.of = aligned_alloc(64, (size_t)n * sizeof *threads.of); /* untouched, and so not there, in a float32 job */
    if (!threads.of)
        process_fail(ST_DEVICE, "out of memory: blocks of matrix products");
    threads.n = n;
}

static struct blocks *own_blocks(void)
{
#ifdef _OPENMP
    return &threads.of[omp_get_thread_num()];
#else
    return threads.of;
#endif
}

/* C is cut into `rows` x `columns` tiles, each of (m,n) at most. */
struct cut {
    size_t rows, columns, m, n;
};

static size_t tile_size(size_t n, size_t parts, size_t grain)
{
    return round_up((n + parts - 1) / parts, grain);
}

/* Tiles as large as blocks allow, but as many as keep all threads busy to the end. */
static struct cut cut(size_t m, size_t n, size_t team)
{
    struct cut x = { (m + DOT16_BLOCK - 1) / DOT16_BLOCK, (n + DOT16_BLOCK - 1) / DOT16_BLOCK, 0, 0 };
    for (;; (x.m > x.n ? x.rows++ : x.columns++)) {
        x.m = tile_size(m, x.rows, DOT16_ROWS);
        x.n = tile_size(n, x.columns, DOT16_COLUMNS);
        const bool smallest = x.m <= DOT16_ROWS && x.n <= DOT16_COLUMNS;
        if (x.rows * x.columns % team == 0 || x.rows * x.columns >= 8 * team || smallest)
            return x;
    }
}

/* c (m,n): start or bias is added, and it goes to C at (i0,j0). */
static void finish(const struct gemm *g, float *c, size_t i0, size_t m, size_t j0, size_t n)
{
    const struct vec *v = cpu_vec();
    const size_t size = g->wide ? sizeof(float) : sizeof(uint16_t);
    _Alignas(64) float addend[DOT16_BLOCK];
    if (g->bias)
        v->widen(addend, (const uint16_t *)g->bias + j0, n);
    for (size_t i = 0; i < m; i++, c += DOT16_BLOCK) {
        const size_t at = ((i0 + i) * g->ldc + j0) * size;
        const float *add = addend;
        if (g->start && g->wide)
            add = (const float *)(const void *)((const char *)g->start + at);
        else if (g->start)
            v->widen(addend, (const void *)((const char *)g->start + at), n);
        if (g->start || g->bias)
            v->add(c, c, add, n);
        if (g->wide)
            memcpy((char *)g->c + at, c, n * size);
        else
            v->round((void *)((char *)g->c + at), c, n);
    }
}

static void tile(const struct gemm *g, size_t i0, size_t m, size_t j0, size_t n)
{
    const struct dot16 *d = cpu_dot16();
    struct blocks *own = own_blocks();
    for (size_t k0 = 0; k0 < g->k; k0 += DOT16_BLOCK) {
        const size_t k = g->k - k0 < DOT16_BLOCK ? g->k - k0 : DOT16_BLOCK;
        const struct matrix from_a = cpu_part(&g->a, i0, k0, sizeof(uint16_t)),
                            from_b = cpu_part(&g->b, k0, j0, sizeof(uint16_t));
        const struct matrix a = d->pack_a(own->a, &from_a, m, k), b = d->pack_b(own->b, &from_b, k, n);
        d->multiply(own->c, &a, &b, m, n, k, k0 > 0);
    }
    finish(g, own->c, i0, m, j0, n);
}

void cpu_gemm16(const struct gemm *g)
{
    const size_t team = (size_t)cpu_team((uint64_t)g->m * g->n, g->k / 16);
    const struct cut x = cut(g->m, g->n, team);
#pragma omp parallel for schedule(dynamic) num_threads((int)team)
    for (size_t t = 0; t < x.rows * x.columns; t++) {
        const size_t i = t % x.rows * x.m, j = t / x.rows * x.n;
        if (i < g->m && j < g->n)
            tile(g, i, g->m - i < x.m ? g->m - i : x.m, j, g->n - j < x.n ? g->n - j : x.n);
    }
}
