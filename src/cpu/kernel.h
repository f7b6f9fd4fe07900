/* Products of blocks with float32 sums, by instruction set. How a packed block lies is its table's own business; the functions
 * are leaves: one thread, no allocation. */
#ifndef PIPER_CPU_KERNEL_H
#define PIPER_CPU_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/blas.h"

/* Depth of a block at most, its columns at most, and columns from row to row of C. */
enum { KERNEL_BLOCK = 384 };
/* Rows and columns of whole multiples of these have no edge, whatever the table. */
enum { KERNEL_ROWS = 8, KERNEL_COLUMNS = 48 };

struct kernel {
    const char *name;
    /* Copies the first (m,k) of a, (k,n) of b, to room for KERNEL_BLOCK float32 a row of a, a column of b, both in whole
     * multiples of KERNEL_ROWS, KERNEL_COLUMNS, 64-byte aligned; returns what multiply() gets. half: the elements are bfloat16,
     * else float32, which kernels of pairs round. */
    struct matrix (*pack_a)(void *to, const struct matrix *a, size_t m, size_t k, bool half);
    struct matrix (*pack_b)(void *to, const struct matrix *b, size_t k, size_t n, bool half);
    /* c: rows of KERNEL_BLOCK float32, room for whole multiples of KERNEL_ROWS and of 16 columns, 64-byte aligned. (m,n) of it
     * becomes the product, or has it added; what lies beside holds anything. Every element is summed in the order of k. Seven
     * parameters, in the order of BLAS. */
    void (*multiply)(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k, bool add);
};

/* The fastest for float32 and for bfloat16 that this processor and PIPER_ISA allow (cpu/isa.h). Borrowed, live with the
 * process. */
const struct kernel *cpu_kernel_of(bool half);
/* Every one that they allow, then NULL: for tests. half: those of bfloat16. */
const struct kernel *const *cpu_kernels(bool half);
/* Pairs of bfloat16 by AVX512_BF16 (kernel_bf16.c) and by AMX (kernel_amx.c). */
extern const struct kernel cpu_kernel_bf16, cpu_kernel_amx;
/* (k,n) of b, as pack_b() has it, in panels of KERNEL_COLUMNS columns: in each pair after pair along k, in each column after column; 0 beyond
 * n and k. pairs: of a panel, up to the next multiple of 16 above k/2. */
struct matrix cpu_pack_pairs(void *to, const struct matrix *b, size_t k, size_t n, size_t pairs, bool half);

#endif
