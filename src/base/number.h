/* Small things about bits of numbers. */
#ifndef PIPER_NUMBER_H
#define PIPER_NUMBER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t number_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float number_from_bf16(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* The finalizer of MurmurHash3 (Appleby): every bit of x reaches every bit of the result. */
static inline uint64_t number_mix(uint64_t x)
{
    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

/* 64-bit hash of n bytes in words of 8, for comparing copies and spreading names; nothing here resists an attacker. */
static inline uint64_t number_hash(const void *data, size_t n, uint64_t start)
{
    const unsigned char *p = data;
    uint64_t h = number_mix(start ^ n);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, p + i, n - i < 8 ? n - i : 8);
        h = number_mix(h * UINT64_C(0x9e3779b97f4a7c15) ^ word);
    }
    return h;
}

#endif
