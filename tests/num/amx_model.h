/* The tile instructions that src/cpu/kernel_amx.c uses, in C: for a processor that has none. Loads and stores take the rows and
 * bytes of the configuration; what lies beyond is 0 (Intel, Instruction Set Extensions Programming Reference, chapter AMX). */
#ifndef TESTS_AMX_MODEL_H
#define TESTS_AMX_MODEL_H

#include <string.h>

#include "base/mem.h"
#include "base/number.h"

static struct {
    uint8_t config[64];
    uint8_t row[8][16][64];
} amx;

static inline size_t amx_rows(int tile)
{
    CHECK(amx.config[0] == 1 && amx.config[48 + tile] <= 16);
    return amx.config[48 + tile];
}

static inline size_t amx_bytes(int tile)
{
    uint16_t n;
    memcpy(&n, amx.config + 16 + 2 * tile, sizeof n);
    CHECK(n <= 64);
    return n;
}

static inline void _tile_loadconfig(const void *config)
{
    memset(&amx, 0, sizeof amx);
    memcpy(amx.config, config, sizeof amx.config);
}

static inline void _tile_release(void)
{
    memset(&amx, 0, sizeof amx);
}

static inline void _tile_zero(int tile)
{
    memset(amx.row[tile], 0, sizeof amx.row[tile]);
}

static inline void _tile_loadd(int tile, const void *at, size_t stride)
{
    _tile_zero(tile);
    for (size_t i = 0; i < amx_rows(tile); i++)
        memcpy(amx.row[tile][i], (const char *)at + i * stride, amx_bytes(tile));
}

static inline void _tile_stored(int tile, void *at, size_t stride)
{
    for (size_t i = 0; i < amx_rows(tile); i++)
        memcpy((char *)at + i * stride, amx.row[tile][i], amx_bytes(tile));
}

static inline float amx_bf16(const uint8_t *at)
{
    uint16_t x;
    memcpy(&x, at, sizeof x);
    return number_from_bf16(x);
}

static inline void _tile_dpbf16ps(int c, int a, int b)
{
    CHECK(amx_rows(c) == amx_rows(a) && amx_bytes(a) == 4 * amx_rows(b) && amx_bytes(b) == amx_bytes(c));
    for (size_t i = 0; i < amx_rows(c); i++)
        for (size_t p = 0; p < amx_rows(b); p++)
            for (size_t j = 0; j < amx_bytes(c) / 4; j++) {
                float sum;
                memcpy(&sum, amx.row[c][i] + 4 * j, sizeof sum);
                for (size_t h = 0; h < 2; h++)
                    sum += amx_bf16(amx.row[a][i] + 4 * p + 2 * h) * amx_bf16(amx.row[b][p] + 4 * j + 2 * h);
                memcpy(amx.row[c][i] + 4 * j, &sum, sizeof sum);
            }
}

#endif
