/* See blas.h. */
#ifdef HAVE_CONFIG_H
#include "build-config.h"
#endif

#include "cpu/blas.h"

#include <stdio.h>
#include <string.h>

#include CBLAS_HEADER

#include "cpu/cpu.h"

/* What some libraries offer beyond CBLAS; weak, so that any of them links. */
#define WEAK __attribute__((weak))
void openblas_set_num_threads(int n) WEAK;
char *openblas_get_corename(void) WEAK;
void bli_thread_set_num_threads(long n) WEAK;
void MKL_Set_Num_Threads(int n) WEAK;
void flexiblas_set_num_threads(int n) WEAK;

void cpu_blas_init(void)
{
    static int done;
    if (done)
        return;
    done = 1;
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    if (bli_thread_set_num_threads)
        bli_thread_set_num_threads(1);
    if (MKL_Set_Num_Threads)
        MKL_Set_Num_Threads(1);
    if (flexiblas_set_num_threads)
        flexiblas_set_num_threads(1);
}

const char *cpu_blas_name(void)
{
    static char name[64] = "BLAS";
    cpu_blas_init();
    if (openblas_get_corename)
        snprintf(name, sizeof name, "OpenBLAS %s", openblas_get_corename());
    return name;
}

void cpu_blas_block(const struct gemm_block *g)
{
    const struct matrix *a = &g->a, *b = &g->b;
    cblas_sgemm(CblasRowMajor, a->turned ? CblasTrans : CblasNoTrans, b->turned ? CblasTrans : CblasNoTrans, (int)g->m,
                (int)g->n, (int)g->k, g->alpha, a->at, (int)a->ld, b->at, (int)b->ld, g->beta, g->c, (int)g->ldc);
}

/* What the tile of C starts from. Returns beta. */
static float start_tile(const struct gemm *g, float *c, size_t m, size_t n, size_t i0, size_t j0)
{
    if (!g->bias && !g->start)
        return 0;
    const float *from = g->bias ? (const float *)g->bias + j0 : (const float *)g->start + i0 * g->ldc + j0;
    size_t step = g->bias ? 0 : g->ldc;
    if (from != c)
        for (size_t i = 0; i < m; i++)
            memcpy(c + i * g->ldc, from + i * step, n * sizeof *c);
    return 1;
}

/* First element of part i of n, in steps of 16 elements so that threads share no cache line and no kernel's edge. */
static size_t part(size_t n, size_t i, size_t parts)
{
    size_t steps = (n + 15) / 16, at = steps * i / parts * 16;
    return at < n ? at : n;
}

static void gemm_tile(const struct gemm *g, size_t i, size_t rows, size_t j, size_t columns)
{
    size_t i0 = part(g->m, i, rows), m = part(g->m, i + 1, rows) - i0;
    size_t j0 = part(g->n, j, columns), n = part(g->n, j + 1, columns) - j0;
    if (m == 0 || n == 0)
        return;
    float *c = (float *)g->c + i0 * g->ldc + j0;
    float beta = start_tile(g, c, m, n, i0, j0);
    const struct matrix a = cpu_part(&g->a, i0, 0, sizeof *c), b = cpu_part(&g->b, 0, j0, sizeof *c);
    cpu_blas_block(&(struct gemm_block){ m, n, g->k, a, b, c, g->ldc, 1, beta, false });
}

void cpu_blas_gemm(const struct gemm *g)
{
    size_t team = (size_t)cpu_team((uint64_t)g->m * g->n, g->k / 16), rows = 1;
    /* Every tile packs its m/rows rows of A and n/columns columns of B: as few as possible of both together. */
    for (size_t r = 2; r <= team; r++)
        if (team % r == 0 && g->m / r + g->n / (team / r) < g->m / rows + g->n / (team / rows))
            rows = r;
    size_t columns = team / rows;
#pragma omp parallel for schedule(static) num_threads((int)team)
    for (size_t i = 0; i < team; i++)
        gemm_tile(g, i / columns, rows, i % columns, columns);
}
