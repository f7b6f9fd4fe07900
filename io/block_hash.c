#include "io/block_hash.h"

#include <string.h>

uint32_t block_words = 1 << 18;

/* The multipliers are odd with irregular bits: those of SplitMix64 and of PCG. */
void block_hash_add(struct block_hash *h, const void *words, uint32_t n, uint32_t first)
{
    const unsigned char *p = words;
    uint64_t a = 0, b = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t w;
        memcpy(&w, p + 4 * (uint64_t)i, 4);
        uint64_t x = ((uint64_t)(first + i + 1) << 32 | w) * UINT64_C(0xbf58476d1ce4e5b9);
        x ^= x >> 32;
        x *= UINT64_C(0x94d049bb133111eb);
        x ^= x >> 29;
        a += x;
        x *= UINT64_C(0x5851f42d4c957f2d);
        b += x ^ x >> 32;
    }
    h->a += a;
    h->b += b;
}
