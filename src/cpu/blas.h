/* Matrix products: by kernels of our own where the processor has AVX2 or NEON (gemm.c, kernel.h), which know bfloat16 and processors that
 * a BLAS of last year takes for one of twenty years ago; else by BLAS (blas.c), in one thread. The threads are ours: so there
 * is one pool of threads, and the order of every sum depends on sizes alone, or with BLAS also on the number of threads. */
#ifndef PIPER_CPU_BLAS_H
#define PIPER_CPU_BLAS_H

#include <stdbool.h>
#include <stddef.h>

/* A row-major matrix as it is stored, or taken as its transpose; ld elements from row to row. float32, or bfloat16 where a
 * product says so. */
struct matrix {
    const void *at;
    size_t ld;
    bool turned;
};

static inline struct matrix as_is(const void *at, size_t ld)
{
    return (struct matrix){ at, ld, false };
}

static inline struct matrix turned(const void *at, size_t ld)
{
    return (struct matrix){ at, ld, true };
}

/* From (row, column) of x, as it is taken, on. size: bytes of an element. */
static inline struct matrix cpu_part(const struct matrix *x, size_t row, size_t column, size_t size)
{
    const size_t skip = x->turned ? column * x->ld + row : row * x->ld + column;
    return (struct matrix){ (const char *)x->at + skip * size, x->ld, x->turned };
}

/* C (m,n) = start + A (m,k) B (k,n), by all threads. */
struct gemm {
    size_t m, n, k;
    struct matrix a, b;
    void *c;
    size_t ldc;
    const void *start; /* (m,n) with rows ldc apart; NULL: 0; equal to c: add in place; else left unchanged */
    const void *bias;  /* (n), in place of start; or NULL */
    bool half;         /* all of it is bfloat16, not float32; sums are float32 */
    bool wide;         /* half: but C and start are float32 */
    bool half_b;       /* B alone is bfloat16 */
    bool few;          /* few rows are all there will be: B may be read once, as it lies, in another order of sums */
    bool far;          /* C is not read soon: a large one does not go through the caches */
};
void cpu_gemm(const struct gemm *g);

/* The same where it is bound by reading B: a few rows of A times rows of B as it lies, each read once (gemv.c). */
bool cpu_gemv_takes(const struct gemm *g);
void cpu_gemv(const struct gemm *g);

/* Before the first product by so many threads: chooses kernels and makes the threads' blocks, which belong to no plan, like the
 * buffers of a library. */
void cpu_gemm_threads(int n);

/* C (m,n) = alpha A (m,k) B (k,n) + beta C, in the calling thread. m, n, k > 0. */
struct gemm_block {
    size_t m, n, k;
    struct matrix a, b;
    float *c;
    size_t ldc;
    float alpha, beta; /* beta: 0 or 1 */
    bool half;         /* A and B, float32, may be rounded to bfloat16 */
};
void cpu_gemm_block(const struct gemm_block *g);

/* The same by BLAS; float32 only. */
void cpu_blas_gemm(const struct gemm *g);
void cpu_blas_block(const struct gemm_block *g);

/* Before the first product: BLAS to one thread. */
void cpu_blas_init(void);
/* "OpenBLAS SkylakeX", or "BLAS". */
const char *cpu_blas_name(void);
/* Who multiplies: "avx512", ..., or the BLAS. */
const char *cpu_products_name(bool half);

#endif
