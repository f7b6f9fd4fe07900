/* bfloat16 for the host: conversions only, to the nearest even, as the toolkit's. */
#ifndef PIPER_TESTS_CUDA_BF16_H
#define PIPER_TESTS_CUDA_BF16_H

#include <stdint.h>
#include <string.h>

struct __nv_bfloat16 {
    uint16_t bits;
};
struct __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline float __bfloat162float(__nv_bfloat16 v)
{
    const uint32_t wide = (uint32_t)v.bits << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return f;
}

static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return { 0x7fff };
    return { (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16) };
}

static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
    return { __float2bfloat16_rn(a), __float2bfloat16_rn(b) };
}

#endif
