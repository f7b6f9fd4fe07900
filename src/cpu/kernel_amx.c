/* Blocks of bfloat16 with the instructions of AMX (AMX-TILE, AMX-BF16): a tile of C is 16 x 16 float32, a tile of A 16 rows of 32
 * neighbours along the sum, a tile of B 16 pairs of them for 16 columns. Packed as kernel_bf16.c packs, the sum filled up with 0 to
 * whole tiles. Products of pairs are added to a float32 sum; subnormal numbers are 0 (Intel, Instruction Set Extensions
 * Programming Reference, TDPBF16PS).
 *
 * No processor with AMX has been at hand: tests/num/test_kernels runs this source on a model of the tiles, and kernel.c takes the
 * kernel only where its products agree with those of AVX-512 on the processor itself. */
#include "cpu/isa.h"
#include "cpu/kernel.h"

#ifndef CPU_AVX512_BF16 /* nothing packs its blocks */
#undef CPU_AMX_MODEL
#endif
#if defined(CPU_AMX_MODEL)
#include CPU_AMX_MODEL
#elif defined(CPU_AMX)
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16")
#endif
#endif

#if defined(CPU_AMX_MODEL) || defined(CPU_AMX)
enum { TILE = 16, DEPTH = 32, TILES = 7, ROW_BYTES = 64 };
/* Tile registers 0 to 2: sums, of three neighbours in a row of C; 3: A; 4 to 6: B. Constants, since they are part of the
 * instructions. */

/* Of LDTILECFG. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "as the processor reads it");

static void configure(size_t rows)
{
    struct tile_config x = { .palette = 1 };
    for (int i = 0; i < TILES; i++) {
        x.row_bytes[i] = ROW_BYTES;
        x.rows[i] = (uint8_t)(i < 4 ? rows : TILE);
    }
    _tile_loadconfig(&x);
}

/* The configured rows of `tiles` neighbours of C, one to three: from rows of A and a panel of B. */
static void tiles_of(float *c, const uint16_t *a, const uint16_t *b, size_t steps, size_t tiles, bool add)
{
    enum { C_STRIDE = KERNEL_BLOCK * sizeof(float), A_STRIDE = KERNEL_BLOCK * 2, B_STRIDE = KERNEL_COLUMNS * 4 };
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    if (add) {
        _tile_loadd(0, c, C_STRIDE);
        if (tiles > 1)
            _tile_loadd(1, c + TILE, C_STRIDE);
        if (tiles > 2)
            _tile_loadd(2, c + 2 * TILE, C_STRIDE);
    }
    for (size_t s = 0; s < steps; s++, a += DEPTH, b += TILE * KERNEL_COLUMNS * 2) {
        _tile_loadd(3, a, A_STRIDE);
        _tile_loadd(4, b, B_STRIDE);
        _tile_dpbf16ps(0, 3, 4);
        if (tiles > 1) {
            _tile_loadd(5, b + 2 * TILE, B_STRIDE);
            _tile_dpbf16ps(1, 3, 5);
        }
        if (tiles > 2) {
            _tile_loadd(6, b + 4 * TILE, B_STRIDE);
            _tile_dpbf16ps(2, 3, 6);
        }
    }
    _tile_stored(0, c, C_STRIDE);
    if (tiles > 1)
        _tile_stored(1, c + TILE, C_STRIDE);
    if (tiles > 2)
        _tile_stored(2, c + 2 * TILE, C_STRIDE);
}

/* Rows [first, end) of C, in whole tiles or as the one that is cut off. */
struct rows {
    size_t first, end;
};

static void multiply_rows(float *c, const struct matrix *a, const struct matrix *b, struct rows r, size_t n, size_t k,
                          bool add)
{
    const size_t steps = (k + DEPTH - 1) / DEPTH;
    const uint16_t *x = a->at, *y = b->at;
    if (r.first == r.end)
        return;
    configure(r.end - r.first < TILE ? r.end - r.first : TILE);
    for (size_t j = 0; j < n; j += KERNEL_COLUMNS, y += steps * DEPTH * KERNEL_COLUMNS) {
        const size_t left = (n - j + TILE - 1) / TILE, tiles = left < 3 ? left : 3;
        for (size_t i = r.first; i < r.end; i += TILE)
            tiles_of(c + i * KERNEL_BLOCK + j, x + i * KERNEL_BLOCK, y, steps, tiles, add);
    }
    _tile_release();
}

static void multiply(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k, bool add)
{
    const size_t whole = m / TILE * TILE;
    multiply_rows(c, a, b, (struct rows){ 0, whole }, n, k, add);
    multiply_rows(c, a, b, (struct rows){ whole, m }, n, k, add);
}

static struct matrix pack_b(void *to, const struct matrix *b, size_t k, size_t n, bool half)
{
    return cpu_pack_pairs(to, b, k, n, (k + DEPTH - 1) / DEPTH * TILE, half);
}

static struct matrix pack_a(void *to, const struct matrix *a, size_t m, size_t k, bool half)
{
    return cpu_kernel_bf16.pack_a(to, a, m, k, half); /* rows end in 0 up to a whole tile */
}

#if defined(CPU_AMX) && !defined(CPU_AMX_MODEL)
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

const struct kernel cpu_kernel_amx = { "amx_bf16", pack_a, pack_b, multiply };
#else
const struct kernel cpu_kernel_amx = { 0 }; /* cpu_isa() is never so much */
#endif
