/* See dot16.h. With AVX512_BF16, neighbours along the sum stand together in pairs, as its product takes them. Without it,
 * blocks are widened to float32 and BLAS multiplies them. */
#include "cpu/dot16.h"

#include <string.h>

#include "cpu/isa.h"
#include "cpu/vec.h"

/* ---- widened -------------------------------------------------------------------------------------------------- */

/* A turned block stays turned. */
static struct matrix widen_block(void *to, const struct matrix *x, size_t rows, size_t columns)
{
    const struct vec *v = cpu_vec();
    const size_t lines = x->turned ? columns : rows, n = x->turned ? rows : columns;
    for (size_t i = 0; i < lines; i++)
        v->widen((float *)to + i * DOT16_BLOCK, (const uint16_t *)x->at + i * x->ld, n);
    return (struct matrix){ to, DOT16_BLOCK, x->turned };
}

static void multiply_wide(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k,
                          bool add)
{
    cpu_gemm_block(&(struct gemm_block){ m, n, k, *a, *b, c, DOT16_BLOCK, 1, add ? 1 : 0 });
}

static const struct dot16 widened = { "widened", widen_block, widen_block, multiply_wide };

/* ---- AVX512_BF16 ---------------------------------------------------------------------------------------------- */

#ifdef CPU_AVX512_BF16
#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16")
#endif

enum { PAIRS = 16 }; /* of a vector */

static inline __mmask32 first32(size_t n)
{
    return n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1;
}

static inline __mmask16 first16(size_t n)
{
    return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1);
}

/* 16 vectors of 16 pairs each, from pair j of vector i to pair i of vector j. */
static inline void transpose(__m512i x[PAIRS])
{
    __m512i y[PAIRS];
    for (int i = 0; i < PAIRS; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < PAIRS; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm512_unpacklo_epi64(y[i + j], y[i + 2 + j]);
            x[i + 2 * j + 1] = _mm512_unpackhi_epi64(y[i + j], y[i + 2 + j]);
        }
    for (int i = 0; i < PAIRS; i += 8)
        for (int j = 0; j < 4; j++) {
            y[i + j] = _mm512_shuffle_i32x4(x[i + j], x[i + 4 + j], 0x88);
            y[i + 4 + j] = _mm512_shuffle_i32x4(x[i + j], x[i + 4 + j], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        x[j] = _mm512_shuffle_i32x4(y[j], y[8 + j], 0x88);
        x[8 + j] = _mm512_shuffle_i32x4(y[j], y[8 + j], 0xdd);
    }
}

/* Up to 16 lines of up to 32 elements, the rest 0: vector i holds the pairs of line i. */
static inline void load_lines(__m512i x[PAIRS], const uint16_t *at, size_t ld, size_t lines, size_t n)
{
    for (size_t i = 0; i < PAIRS; i++)
        x[i] = i < lines ? _mm512_maskz_loadu_epi16(first32(n), at + i * ld) : _mm512_setzero_si512();
}

/* Lines 0 and 1, up to 16 elements of each: element i of one beside that of the other. `two`: else line 1 is 0. */
static inline __m512i pair_lines(const uint16_t *at, size_t ld, bool two, size_t n)
{
    const __mmask16 m = first16(n);
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, at));
    if (!two)
        return low;
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, at + ld));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* Vector p holds pair p of 16 elements across: from lines along the sum (`along`) or across it. lines: of the sum. */
static inline void load_pairs(__m512i x[PAIRS], const uint16_t *at, size_t ld, size_t sum, size_t n)
{
    for (size_t p = 0; p < PAIRS; p++)
        x[p] = 2 * p < sum ? pair_lines(at + 2 * p * ld, ld, 2 * p + 1 < sum, n) : _mm512_setzero_si512();
}

/* A: rows of DOT16_BLOCK elements, 0 from k to an even number, and up to whole multiples of DOT16_ROWS anything. */
static struct matrix pack_a(void *to, const struct matrix *a, size_t m, size_t k)
{
    uint16_t *out = to;
    const uint16_t *at = a->at;
    for (size_t i = 0; i < m; i += PAIRS)
        for (size_t j = 0; j < k; j += 2 * PAIRS) {
            const size_t rows = m - i < PAIRS ? m - i : PAIRS, depth = k - j < 2 * PAIRS ? k - j : 2 * PAIRS;
            __m512i x[PAIRS];
            if (a->turned) {
                load_pairs(x, at + j * a->ld + i, a->ld, depth, rows);
                transpose(x);
            } else {
                load_lines(x, at + i * a->ld + j, a->ld, rows, depth);
            }
            for (size_t r = 0; r < rows; r++)
                _mm512_store_si512(out + (i + r) * DOT16_BLOCK + j, x[r]);
        }
    return as_is(to, DOT16_BLOCK);
}

/* B: panels of DOT16_COLUMNS columns, in each pair after pair, in each column after column; 0 beyond n and k. */
static struct matrix pack_b(void *to, const struct matrix *b, size_t k, size_t n)
{
    const size_t pairs = (k + 1) / 2;
    const uint16_t *at = b->at;
    for (size_t j = 0; j < n; j += PAIRS) {
        uint16_t *out = (uint16_t *)to + j / DOT16_COLUMNS * DOT16_COLUMNS * 2 * pairs + j % DOT16_COLUMNS * 2;
        const size_t columns = n - j < PAIRS ? n - j : PAIRS;
        for (size_t p = 0; p < pairs; p += PAIRS) {
            const size_t depth = k - 2 * p < 2 * PAIRS ? k - 2 * p : 2 * PAIRS;
            __m512i x[PAIRS];
            if (b->turned) {
                load_lines(x, at + j * b->ld + 2 * p, b->ld, columns, depth);
                transpose(x);
            } else {
                load_pairs(x, at + 2 * p * b->ld + j, b->ld, depth, columns);
            }
            for (size_t q = 0; q < PAIRS && p + q < pairs; q++)
                _mm512_store_si512(out + (p + q) * 2 * DOT16_COLUMNS, x[q]);
        }
    }
    return as_is(to, 0);
}

/* (DOT16_ROWS, DOT16_COLUMNS) of C from rows of A and a panel of B. */
static void kernel(float *c, const uint16_t *a, const uint16_t *b, size_t pairs, bool add)
{
    enum { R = DOT16_ROWS, V = DOT16_COLUMNS / PAIRS };
    __m512 sum[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            sum[r][v] = add ? _mm512_load_ps(c + r * DOT16_BLOCK + v * PAIRS) : _mm512_setzero_ps();
    for (size_t p = 0; p < pairs; p++) {
        __m512bh y[V];
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            y[v] = (__m512bh)_mm512_load_si512(b + (p * V + v) * 2 * PAIRS);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            int pair;
            memcpy(&pair, a + r * DOT16_BLOCK + 2 * p, sizeof pair);
            const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 3
            for (int v = 0; v < V; v++)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, y[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            _mm512_store_ps(c + r * DOT16_BLOCK + v * PAIRS, sum[r][v]);
}

static void multiply(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k, bool add)
{
    const size_t pairs = (k + 1) / 2;
    const uint16_t *x = a->at, *y = b->at;
    for (size_t j = 0; j < n; j += DOT16_COLUMNS)
        for (size_t i = 0; i < m; i += DOT16_ROWS)
            kernel(c + i * DOT16_BLOCK + j, x + i * DOT16_BLOCK, y + j * 2 * pairs, pairs, add);
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static const struct dot16 avx512_bf16 = { "avx512_bf16", pack_a, pack_b, multiply };
#endif

const struct dot16 *const *cpu_dot16_all(void)
{
#ifdef CPU_AVX512_BF16
    static const struct dot16 *const all[] = { &avx512_bf16, &widened, NULL };
    return cpu_isa() >= ISA_AVX512_BF16 ? all : all + 1;
#else
    static const struct dot16 *const all[] = { &widened, NULL };
    return all;
#endif
}

const struct dot16 *cpu_dot16(void)
{
    return cpu_dot16_all()[0];
}
