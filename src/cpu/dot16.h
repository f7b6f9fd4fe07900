/* Products of blocks of bfloat16 with float32 sums, by what the processor has (dot16.c). How a packed block lies is its
 * table's own business; the functions are leaves: one thread, no allocation. */
#ifndef PIPER_CPU_DOT16_H
#define PIPER_CPU_DOT16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/blas.h"

/* Rows, columns and depth of a block at most. Three of them in float32 fit the 2 MiB that a core has for itself. */
enum { DOT16_BLOCK = 384 };
/* Rows and columns that a kernel computes at once: a block of a multiple of them has no edge. */
enum { DOT16_ROWS = 8, DOT16_COLUMNS = 48 };

struct dot16 {
    const char *name; /* "avx512_bf16", "widened" */
    /* Copies the first (m,k) of a, (k,n) of b, to DOT16_BLOCK squared float32, 64-byte aligned; returns what multiply() gets. */
    struct matrix (*pack_a)(void *to, const struct matrix *a, size_t m, size_t k);
    struct matrix (*pack_b)(void *to, const struct matrix *b, size_t k, size_t n);
    /* c: rows of DOT16_BLOCK float32, room for whole multiples of DOT16_ROWS and DOT16_COLUMNS, 64-byte aligned. (m,n) of it
     * becomes the product, or has it added; what lies beside holds anything. */
    void (*multiply)(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k, bool add);
};

/* The best table that this processor and PIPER_ISA allow. Borrowed, lives with the process. */
const struct dot16 *cpu_dot16(void);
/* Every table that they allow, best first, then NULL: for tests. */
const struct dot16 *const *cpu_dot16_all(void);

#endif
