/* Matrix products. BLAS runs in one thread; the threads are ours: a product is cut into one tile of C per thread. So there is
 * one pool of threads, any BLAS will do, and the order of every sum depends on sizes and number of threads alone. */
#ifndef PIPER_CPU_BLAS_H
#define PIPER_CPU_BLAS_H

#include <stddef.h>

/* Row-major: C (m,n) = start + op(A) op(B), op(A) (m,k), op(B) (k,n). lda, ldb, ldc: elements from row to row as stored. */
struct gemm {
    char ta, tb; /* 'N' or 'T' */
    size_t m, n, k;
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
    const float *start; /* (m,n) with rows ldc apart; NULL: 0; equal to c: add in place; else left unchanged */
    const float *bias;  /* (n), in place of start; or NULL */
};
void cpu_gemm(const struct gemm *g);

/* In the calling thread: C = alpha op(A) op(B) + beta C. m, n, k > 0. */
struct gemm_block {
    char ta, tb;
    size_t m, n, k;
    float alpha, beta;
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
};
void cpu_gemm_block(const struct gemm_block *g);

/* Once, before the first product: BLAS to one thread, and to the kernels that this processor is worth. */
void cpu_blas_init(void);
/* "OpenBLAS SkylakeX", or "BLAS". */
const char *cpu_blas_name(void);

#endif
