/* Blocks of bfloat16 with the instructions of AVX512_BF16: neighbours along the sum stand together in pairs, as the product of
 * pairs takes them. It adds the two products of a pair to a float32 sum; subnormal numbers are 0. */
#include "cpu/isa.h"
#include "cpu/kernel.h"

#ifdef CPU_AVX512_BF16
#include <immintrin.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16")
#endif

#include "cpu/avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum { PAIRS = 16 }; /* of a vector */

static inline __mmask32 first32(size_t n)
{
    return n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1;
}

static inline __mmask16 first16(size_t n)
{
    return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1);
}

/* Where elements lie: bfloat16, or float32 that is rounded on the way. A constant where this is used. */
struct from {
    const char *at;
    size_t ld;
    bool half;
};

INLINE struct from from(const struct matrix *x, size_t line, size_t i, bool half)
{
    return (struct from){ (const char *)x->at + (line * x->ld + i) * (half ? 2 : 4), x->ld * (half ? 2 : 4), half };
}

/* Up to 32 neighbours, the rest 0. */
INLINE __m512i load32(const struct from *f, size_t line, size_t n)
{
    const char *at = f->at + line * f->ld;
    if (f->half)
        return _mm512_maskz_loadu_epi16(first32(n), at);
    const __m512 low = _mm512_maskz_loadu_ps(first16(n), at),
                 high = _mm512_maskz_loadu_ps(first16(n > 16 ? n - 16 : 0), at + 64);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Up to 16 neighbours in 32 bits each, the rest 0. */
INLINE __m512i load16(const struct from *f, size_t line, size_t n)
{
    const char *at = f->at + line * f->ld;
    if (f->half)
        return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first16(n), at));
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(first16(n), at)));
}

/* Up to 16 lines of up to 32 elements, the rest 0: vector i holds the pairs of line i. */
INLINE void load_lines(__m512i x[PAIRS], const struct from *f, size_t lines, size_t n)
{
    for (size_t i = 0; i < PAIRS; i++)
        x[i] = i < lines ? load32(f, i, n) : _mm512_setzero_si512();
}

/* Vector p holds pair p of n neighbouring elements: of lines 2p and 2p + 1 of `sum`. */
INLINE void load_pairs(__m512i x[PAIRS], const struct from *f, size_t sum, size_t n)
{
    for (size_t p = 0; p < PAIRS; p++) {
        x[p] = 2 * p < sum ? load16(f, 2 * p, n) : _mm512_setzero_si512();
        if (2 * p + 1 < sum)
            x[p] = _mm512_or_si512(x[p], _mm512_slli_epi32(load16(f, 2 * p + 1, n), 16));
    }
}

INLINE void pack_rows(uint16_t *out, const struct matrix *a, size_t m, size_t k, bool half)
{
    for (size_t i = 0; i < m; i += PAIRS)
        for (size_t j = 0; j < k; j += 2 * PAIRS) {
            const size_t rows = m - i < PAIRS ? m - i : PAIRS, depth = k - j < 2 * PAIRS ? k - j : 2 * PAIRS;
            const struct from f = from(a, a->turned ? j : i, a->turned ? i : j, half);
            __m512i x[PAIRS];
            if (a->turned) {
                load_pairs(x, &f, depth, rows);
                transpose_avx512(x);
            } else {
                load_lines(x, &f, rows, depth);
            }
            for (size_t r = 0; r < rows; r++)
                _mm512_store_si512(out + (i + r) * KERNEL_BLOCK + j, x[r]);
        }
}

/* A: rows of KERNEL_BLOCK elements, 0 from k to a multiple of 32, and up to whole multiples of KERNEL_ROWS anything. */
static struct matrix pack_a(void *to, const struct matrix *a, size_t m, size_t k, bool half)
{
    half ? pack_rows(to, a, m, k, true) : pack_rows(to, a, m, k, false);
    return as_is(to, KERNEL_BLOCK);
}

INLINE void pack_pairs(uint16_t *to, const struct matrix *b, size_t k, size_t n, size_t pairs, bool half)
{
    for (size_t j = 0; j < n; j += PAIRS) {
        uint16_t *out = to + j / KERNEL_COLUMNS * KERNEL_COLUMNS * 2 * pairs + j % KERNEL_COLUMNS * 2;
        const size_t columns = n - j < PAIRS ? n - j : PAIRS;
        for (size_t p = 0; p < pairs; p += PAIRS) {
            const size_t depth = k - 2 * p < 2 * PAIRS ? k - 2 * p : 2 * PAIRS;
            const struct from f = from(b, b->turned ? j : 2 * p, b->turned ? 2 * p : j, half);
            __m512i x[PAIRS];
            if (b->turned) {
                load_lines(x, &f, columns, depth);
                transpose_avx512(x);
            } else {
                load_pairs(x, &f, depth, columns);
            }
            for (size_t q = 0; q < PAIRS && p + q < pairs; q++)
                _mm512_store_si512(out + (p + q) * 2 * KERNEL_COLUMNS, x[q]);
        }
    }
}

struct matrix cpu_pack_pairs(void *to, const struct matrix *b, size_t k, size_t n, size_t pairs, bool half)
{
    half ? pack_pairs(to, b, k, n, pairs, true) : pack_pairs(to, b, k, n, pairs, false);
    return as_is(to, 0);
}

static struct matrix pack_b(void *to, const struct matrix *b, size_t k, size_t n, bool half)
{
    return cpu_pack_pairs(to, b, k, n, (k + 1) / 2, half);
}

/* KERNEL_ROWS x (width vectors) of C from rows of A and a panel of B; width is a constant where this is used. */
INLINE void kernel(float *c, const uint16_t *a, const uint16_t *b, size_t pairs, bool add, const int width)
{
    enum { R = KERNEL_ROWS, V = KERNEL_COLUMNS / PAIRS };
    __m512 sum[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int v = 0; v < width; v++)
            sum[r][v] = add ? _mm512_load_ps(c + r * KERNEL_BLOCK + v * PAIRS) : _mm512_setzero_ps();
    for (size_t p = 0; p < pairs; p++) {
        __m512bh y[V];
#pragma GCC unroll 3
        for (int v = 0; v < width; v++)
            y[v] = (__m512bh)_mm512_load_si512(b + (p * V + (size_t)v) * 2 * PAIRS);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            int pair;
            memcpy(&pair, a + r * KERNEL_BLOCK + 2 * p, sizeof pair);
            const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 3
            for (int v = 0; v < width; v++)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, y[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int v = 0; v < width; v++)
            _mm512_store_ps(c + r * KERNEL_BLOCK + v * PAIRS, sum[r][v]);
}

static void multiply(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k, bool add)
{
    const size_t pairs = (k + 1) / 2;
    const uint16_t *x = a->at, *y = b->at;
    for (size_t j = 0; j < n; j += KERNEL_COLUMNS) {
        const size_t left = n - j;
        for (size_t i = 0; i < m; i += KERNEL_ROWS) {
            float *to = c + i * KERNEL_BLOCK + j;
            const uint16_t *rows = x + i * KERNEL_BLOCK, *panel = y + j * 2 * pairs;
            if (left > 2 * PAIRS)
                kernel(to, rows, panel, pairs, add, 3);
            else if (left > PAIRS)
                kernel(to, rows, panel, pairs, add, 2);
            else
                kernel(to, rows, panel, pairs, add, 1);
        }
    }
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const struct kernel cpu_kernel_bf16 = { "avx512_bf16", pack_a, pack_b, multiply };
#else
const struct kernel cpu_kernel_bf16 = { 0 }; /* cpu_isa() is never so much */
#endif
