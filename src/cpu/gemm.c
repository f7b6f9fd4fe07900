/* Matrix products, tile by tile of C: a thread packs a block of A, then panel by panel of B, sums in float32, and writes C once.
 * Every element of C is summed in the order of k, in runs of KERNEL_BLOCK, whatever the tiles: bits do not depend on the number
 * of threads, but for BLAS. */
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "cpu/isa.h"
#include "cpu/kernel.h"

/* Rows and columns of a tile of C at most: the larger, the less often A and B are packed. The columns lie in HALVES of
 * KERNEL_BLOCK, whose rows are what kernels write. */
enum { HALVES = 2, TILE = HALVES * KERNEL_BLOCK };

/* A thread's blocks of A, B and C: A and B in the nearer caches, C is passed over once for each run along k. */
struct blocks {
    _Alignas(64) float a[TILE * KERNEL_BLOCK], b[KERNEL_BLOCK * KERNEL_BLOCK], c[HALVES][TILE * KERNEL_BLOCK];
};

static struct {
    struct blocks *of; /* each thread */
    int n;
} threads;

void cpu_gemm_threads(int n)
{
    cpu_kernel_of(true);
    cpu_kernel_of(false);
    if (n <= threads.n)
        return;
    free(threads.of);
    threads.of = aligned_alloc(64, (size_t)n * sizeof *threads.of);
    if (!threads.of)
        process_fail(ST_DEVICE, "out of memory: blocks of matrix products");
    threads.n = n;
}

static struct blocks *own_blocks(void)
{
#ifdef _OPENMP
    return threads.of + omp_get_thread_num();
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
    struct cut x = { (m + TILE - 1) / TILE, (n + TILE - 1) / TILE, 0, 0 };
    for (;; (x.m > x.n ? x.rows++ : x.columns++)) {
        x.m = tile_size(m, x.rows, KERNEL_ROWS);
        x.n = tile_size(n, x.columns, KERNEL_COLUMNS);
        const bool smallest = x.m <= KERNEL_ROWS && x.n <= KERNEL_COLUMNS;
        if (x.rows * x.columns % team == 0 || x.rows * x.columns >= 8 * team || smallest)
            return x;
    }
}

/* The addend of row i of C from column j0 on: start or bias, as float32; `wide` is where it may be widened to. */
static const float *addend(const struct gemm *g, size_t i, size_t j0, size_t n, float *wide)
{
    const bool half = g->half && (g->bias || !g->wide);
    const size_t at = g->bias ? j0 : i * g->ldc + j0;
    const void *from = g->bias ? g->bias : g->start;
    if (!half)
        return (const float *)from + at;
    cpu_vec()->widen(wide, (const uint16_t *)from + at, n);
    return wide;
}

enum { FAR_ELEMENTS = 1 << 18 }; /* what may still lie in a cache when it is read next */

/* c (m,n), n at most KERNEL_BLOCK: start or bias is added, and it goes to C at (i0,j0). */
static void finish(const struct gemm *g, float *c, size_t i0, size_t m, size_t j0, size_t n)
{
    const struct vec *v = cpu_vec();
    const bool far = g->far && g->m * g->n >= FAR_ELEMENTS;
    _Alignas(64) float wide[KERNEL_BLOCK];
    for (size_t i = i0; i < i0 + m; i++, c += KERNEL_BLOCK) {
        const size_t at = i * g->ldc + j0;
        const float *add = g->start || g->bias ? addend(g, i, j0, n, wide) : NULL;
        if (g->half && !g->wide) {
            if (add)
                v->add(c, c, add, n);
            v->round((uint16_t *)g->c + at, c, n);
        } else if (add) {
            v->add((float *)g->c + at, c, add, n);
        } else if (far) {
            v->copy_far((float *)g->c + at, c, n);
        } else {
            memcpy((float *)g->c + at, c, n * sizeof *c);
        }
    }
}

static void tile(const struct gemm *g, size_t i0, size_t m, size_t j0, size_t n)
{
    const struct kernel *kernel = cpu_kernel_of(g->half);
    const size_t size = g->half ? sizeof(uint16_t) : sizeof(float);
    const bool half_b = g->half || g->half_b;
    struct blocks *own = own_blocks();
    for (size_t k0 = 0; k0 < g->k; k0 += KERNEL_BLOCK) {
        const size_t k = g->k - k0 < KERNEL_BLOCK ? g->k - k0 : KERNEL_BLOCK;
        const struct matrix from_a = cpu_part(&g->a, i0, k0, size);
        const struct matrix a = kernel->pack_a(own->a, &from_a, m, k, g->half);
        for (size_t j = 0; j < n; j += KERNEL_COLUMNS) {
            const size_t columns = n - j < KERNEL_COLUMNS ? n - j : KERNEL_COLUMNS;
            const struct matrix from_b = cpu_part(&g->b, k0, j0 + j, half_b ? sizeof(uint16_t) : size);
            const struct matrix b = kernel->pack_b(own->b, &from_b, k, columns, half_b);
            kernel->multiply(own->c[j / KERNEL_BLOCK] + j % KERNEL_BLOCK, &a, &b, m, columns, k, k0 > 0);
        }
    }
    for (size_t j = 0; j < n; j += KERNEL_BLOCK)
        finish(g, own->c[j / KERNEL_BLOCK], i0, m, j0 + j, n - j < KERNEL_BLOCK ? n - j : KERNEL_BLOCK);
}

static void gemm_tiles(const struct gemm *g)
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

void cpu_gemm(const struct gemm *g)
{
    if (g->m == 0 || g->n == 0)
        return;
    if (cpu_gemv_takes(g))
        cpu_gemv(g);
    else if (cpu_isa() == ISA_BASE && !g->half && !g->half_b)
        cpu_blas_gemm(g);
    else
        gemm_tiles(g);
}

void cpu_gemm_block(const struct gemm_block *g)
{
    if (cpu_isa() == ISA_BASE || g->m > KERNEL_BLOCK || g->n > KERNEL_BLOCK || g->k > KERNEL_BLOCK) {
        cpu_blas_block(g);
        return;
    }
    const struct kernel *kernel = cpu_kernel_of(g->half);
    const struct vec *v = cpu_vec();
    struct blocks *own = own_blocks();
    const struct matrix a = kernel->pack_a(own->a, &g->a, g->m, g->k, false),
                        b = kernel->pack_b(own->b, &g->b, g->k, g->n, false);
    kernel->multiply(own->c[0], &a, &b, g->m, g->n, g->k, false);
    for (size_t i = 0; i < g->m; i++) {
        float *to = g->c + i * g->ldc;
        const float *c = own->c[0] + i * KERNEL_BLOCK;
        if (g->beta != 0)
            v->axpy(to, g->alpha, c, g->n);
        else
            v->scale(to, g->alpha, c, g->n);
    }
}

const char *cpu_products_name(bool half)
{
    return cpu_isa() == ISA_BASE ? cpu_blas_name() : cpu_kernel_of(half)->name;
}
