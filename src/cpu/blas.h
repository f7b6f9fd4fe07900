/* Matrix products. BLAS runs in one thread; the threads are ours: a product is cut into one tile of C per thread. So
 * there is one pool of threads, any BLAS will do, and the order of every sum depends on sizes and number of threads
 * alone. */
#ifndef PIPER_CPU_BLAS_H
#define PIPER_CPU_BLAS_H

#include <stdbool.h>
#include <stddef.h>

/* A row-major matrix as it is stored, or taken as its transpose; ld elements from row to row. */
struct matrix {
    const float *at;
    size_t ld;
    bool turned;
};

static inline struct matrix as_is(const float *at, size_t ld)
{
    return (struct matrix){ at, ld, false };
}

static inline struct matrix turned(const float *at, size_t ld)
{
    return (struct matrix){ at, ld, true };
}

/* C (m,n) = start + A (m,k) B (k,n), by all threads. */
struct gemm {
    size_t m, n, k;
    struct matrix a, b;
    float *c;
    size_t ldc;
    const float *start; /* (m,n) with rows ldc apart; NULL: 0; equal to c: add in place; else left unchanged */
    const float *bias;  /* (n), in place of start; or NULL */
};
void cpu_gemm(const struct gemm *g);

/* C (m,n) = alpha A (m,k) B (k,n) + beta C, in the calling thread. m, n, k > 0. */
struct gemm_block {
    size_t m, n, k;
    struct matrix a, b;
    float *c;
    size_t ldc;
    float alpha, beta;
};
void cpu_gemm_block(const struct gemm_block *g);

/* Before the first product: BLAS to one thread. */
void cpu_blas_init(void);
/* "OpenBLAS SkylakeX", or "BLAS". */
const char *cpu_blas_name(void);

#endif
