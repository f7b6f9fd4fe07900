/* See kernel.h. One source (kernel_body.h) for the float32 sums of each instruction set, into which bfloat16 is widened as it is
 * packed; a kernel of its own where a processor multiplies pairs of bfloat16 (kernel_bf16.c); BLAS where there is neither. */
#include "cpu/kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/isa.h"
#include "cpu/vec.h"

/* ---- by BLAS -------------------------------------------------------------------------------------------------- */

/* float32 stays where it is; bfloat16 is widened, and stays turned. */
static struct matrix pack_blas(void *to, const struct matrix *x, size_t rows, size_t columns, bool half)
{
    const struct vec *v = cpu_vec();
    const size_t lines = x->turned ? columns : rows, n = x->turned ? rows : columns;
    if (!half)
        return *x;
    for (size_t i = 0; i < lines; i++)
        v->widen((float *)to + i * n, (const uint16_t *)x->at + i * x->ld, n);
    return (struct matrix){ to, n, x->turned };
}

static void multiply_blas(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k,
                          bool add)
{
    cpu_blas_block(&(struct gemm_block){ m, n, k, *a, *b, c, KERNEL_BLOCK, 1, add ? 1 : 0, false });
}

static const struct kernel table_blas = { "BLAS", pack_blas, pack_blas, multiply_blas };

#define INLINE static inline __attribute__((always_inline))

#ifdef CPU_AVX
#include <immintrin.h>

/* ---- AVX2 ----------------------------------------------------------------------------------------------------- */

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

INLINE __m256i load_some_avx2(const void *p, size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_epi32(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
}

INLINE __m256i widen_avx2(const void *p)
{
    return _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16);
}

INLINE __m256i widen_some_avx2(const void *p, size_t n)
{
    uint16_t x[8] = { 0 };
    memcpy(x, p, n * sizeof *x);
    return widen_avx2(x);
}

INLINE void transpose_avx2(__m256i x[8])
{
    __m256i y[8];
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm256_unpacklo_epi64(y[i + j], y[i + 2 + j]);
            x[i + 2 * j + 1] = _mm256_unpackhi_epi64(y[i + j], y[i + 2 + j]);
        }
    for (int j = 0; j < 4; j++) {
        y[j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x20);
        y[4 + j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x31);
    }
    memcpy(x, y, sizeof y);
}

#define V(name)               name##_avx2
#define V_NAME                "avx2"
#define LANES                 8
#define ROWS                  4
#define PANEL                 3
#define vector                __m256
#define bits                  __m256i
#define LOAD(p)               _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define LOAD_SOME(p, n)       load_some_avx2(p, n)
#define WIDEN(p)              widen_avx2(p)
#define WIDEN_SOME(p, n)      widen_some_avx2(p, n)
#define STORE(p, x)           _mm256_store_si256((__m256i *)(void *)(p), x)
#define SET1(x)               _mm256_set1_ps(x)
#define MULTIPLY_ADD(x, y, s) _mm256_fmadd_ps(x, y, s)
#define TRANSPOSE(x)          transpose_avx2(x)
#include "cpu/kernel_body.h"
#undef V
#undef V_NAME
#undef LANES
#undef ROWS
#undef vector
#undef bits
#undef LOAD
#undef LOAD_SOME
#undef WIDEN
#undef WIDEN_SOME
#undef STORE
#undef SET1
#undef MULTIPLY_ADD
#undef TRANSPOSE

#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl")
#endif

/* ---- AVX-512 -------------------------------------------------------------------------------------------------- */

#include "cpu/avx512.h"

INLINE __m512i widen_avx512(__m256i x)
{
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16);
}

#define V(name)               name##_avx512
#define V_NAME                "avx512"
#define LANES                 16
#define ROWS                  8
#define vector                __m512
#define bits                  __m512i
#define LOAD(p)               _mm512_loadu_si512(p)
#define LOAD_SOME(p, n)       _mm512_maskz_loadu_epi32((__mmask16)((1u << (n)) - 1), p)
#define WIDEN(p)              widen_avx512(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define WIDEN_SOME(p, n)      widen_avx512(_mm256_maskz_loadu_epi16((__mmask16)((1u << (n)) - 1), p))
#define STORE(p, x)           _mm512_store_si512(p, x)
#define SET1(x)               _mm512_set1_ps(x)
#define MULTIPLY_ADD(x, y, s) _mm512_fmadd_ps(x, y, s)
#define TRANSPOSE(x)          transpose_avx512(x)
#include "cpu/kernel_body.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* ---- NEON ----------------------------------------------------------------------------------------------------- */

#ifdef CPU_NEON
#include <arm_neon.h>

INLINE uint32x4_t load_some_neon(const void *p, size_t n)
{
    uint32_t x[4] = { 0 };
    memcpy(x, p, n * sizeof *x);
    return vld1q_u32(x);
}

INLINE uint32x4_t widen_neon(const void *p)
{
    return vshlq_n_u32(vmovl_u16(vld1_u16(p)), 16);
}

INLINE uint32x4_t widen_some_neon(const void *p, size_t n)
{
    uint16_t x[4] = { 0 };
    memcpy(x, p, n * sizeof *x);
    return widen_neon(x);
}

/* Pairs of equal places in the even lines and in the odd ones, of either half of the lines. */
INLINE void transpose_neon(uint32x4_t x[4])
{
    const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(x[0], x[1])),
                     b = vreinterpretq_u64_u32(vtrn2q_u32(x[0], x[1]));
    const uint64x2_t c = vreinterpretq_u64_u32(vtrn1q_u32(x[2], x[3])),
                     d = vreinterpretq_u64_u32(vtrn2q_u32(x[2], x[3]));
    x[0] = vreinterpretq_u32_u64(vtrn1q_u64(a, c));
    x[1] = vreinterpretq_u32_u64(vtrn1q_u64(b, d));
    x[2] = vreinterpretq_u32_u64(vtrn2q_u64(a, c));
    x[3] = vreinterpretq_u32_u64(vtrn2q_u64(b, d));
}

#define V(name)               name##_neon
#define V_NAME                "neon"
#define LANES                 4
#define ROWS                  8
#define PANEL                 2
#define vector                float32x4_t
#define bits                  uint32x4_t
#define LOAD(p)               vld1q_u32((const uint32_t *)(const void *)(p))
#define LOAD_SOME(p, n)       load_some_neon(p, n)
#define WIDEN(p)              widen_neon(p)
#define WIDEN_SOME(p, n)      widen_some_neon(p, n)
#define STORE(p, x)           vst1q_u32((uint32_t *)(void *)(p), x)
#define SET1(x)               vdupq_n_f32(x)
#define MULTIPLY_ADD(x, y, s) vfmaq_f32(s, x, y)
#define TRANSPOSE(x)          transpose_neon(x)
#include "cpu/kernel_body.h"
#endif

/* ---- choice --------------------------------------------------------------------------------------------------- */

const struct kernel *const *cpu_kernels(bool half)
{
#ifdef CPU_AVX
    static const struct kernel *const all[] = { &cpu_kernel_amx, &cpu_kernel_bf16, &table_avx512,
                                                &table_avx2,     &table_blas,      NULL };
    const enum isa isa = cpu_isa();
    return all + ISA_AMX_BF16 - (half || isa < ISA_AVX512 ? isa : ISA_AVX512);
#elif defined(CPU_NEON)
    static const struct kernel *const all[] = { &table_neon, &table_blas, NULL };
    (void)half;
    return all + ISA_NEON - cpu_isa();
#else
    static const struct kernel *const all[] = { &table_blas, NULL };
    (void)half;
    return all;
#endif
}

/* One product in bfloat16, of the size that the choice is made by. */
enum { TRIAL_ROWS = 2 * KERNEL_ROWS, TRIAL_ELEMENTS = KERNEL_BLOCK * KERNEL_COLUMNS };
struct trial {
    _Alignas(64) float a[TRIAL_ROWS * KERNEL_BLOCK], b[TRIAL_ELEMENTS], c[TRIAL_ROWS * KERNEL_BLOCK];
    struct matrix packed_a, packed_b;
};

static void pack_trial(const struct kernel *k, struct trial *t)
{
    static uint16_t x[TRIAL_ELEMENTS];
    for (uint32_t i = 0; i < TRIAL_ELEMENTS; i++) /* 0.5 to 2, of all bits and both signs */
        x[i] = (uint16_t)(0x3f00 + (i * 2654435761u >> 24) % 256 + (i * 40503u >> 9 & 1) * 0x8000);
    const struct matrix a = as_is(x, KERNEL_BLOCK), b = as_is(x, KERNEL_COLUMNS);
    t->packed_a = k->pack_a(t->a, &a, TRIAL_ROWS, KERNEL_BLOCK, true);
    t->packed_b = k->pack_b(t->b, &b, KERNEL_BLOCK, KERNEL_COLUMNS, true);
}

static void multiply_trial(const struct kernel *k, struct trial *t)
{
    k->multiply(t->c, &t->packed_a, &t->packed_b, TRIAL_ROWS, KERNEL_COLUMNS, KERNEL_BLOCK, false);
}

/* Seconds of a product of blocks that lie in the caches, the shortest of some. */
static double seconds(const struct kernel *k, struct trial *t)
{
    double best = 1;
    for (int i = 0; i < 20; i++) {
        struct timespec t0, t1;
        clock_gettime(CLOCK_MONOTONIC, &t0);
        multiply_trial(k, t);
        clock_gettime(CLOCK_MONOTONIC, &t1);
        const double s = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
        best = s < best ? s : best;
    }
    return best;
}

/* Is every element the same but for rounding? */
static bool agree(const struct trial *x, const struct trial *y)
{
    for (size_t i = 0; i < TRIAL_ROWS; i++)
        for (size_t j = 0; j < KERNEL_COLUMNS; j++)
            if (!(fabsf(x->c[i * KERNEL_BLOCK + j] - y->c[i * KERNEL_BLOCK + j]) < 1e-2f)) /* of 384 terms up to 4 */
                return false;
    return true;
}

/* For bfloat16. Processors with the instructions for pairs differ: some multiply them at twice the rate of float32 sums or more,
 * some at half; that is far enough from 1 on each that noise does not change the choice. One whose products are not those of
 * `sums` is never taken. */
static const struct kernel *fastest(const struct kernel *const *all, const struct kernel *sums)
{
    static struct trial reference, t;
    const struct kernel *best = sums;
    pack_trial(sums, &reference);
    double least = seconds(sums, &reference);
    for (; *all != sums; all++) {
        pack_trial(*all, &t);
        const double s = seconds(*all, &t);
        if (!agree(&reference, &t))
            continue;
        if (cpu_isa_asked())
            return *all;
        if (s < least) {
            best = *all;
            least = s;
        }
    }
    return best;
}

static const struct kernel *choose(bool half)
{
    const struct kernel *const *all = cpu_kernels(half);
    const struct kernel *sums = cpu_kernels(false)[0];
    return *all == sums ? sums : fastest(all, sums);
}

const struct kernel *cpu_kernel_of(bool half)
{
    static const struct kernel *chosen[2]; /* before the first thread is started: cpu_gemm_threads() */
    if (!chosen[half])
        chosen[half] = choose(half);
    return chosen[half];
}
