#include "io/order.h"

enum { ROUNDS = 8 };

/* Stafford's variant 13 of the 64-bit finaliser of MurmurHash3, as in SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t feistel(uint64_t x, unsigned half, uint64_t key)
{
    uint64_t mask = (UINT64_C(1) << half) - 1, left = x >> half, right = x & mask;
    for (uint64_t r = 0; r < ROUNDS; r++) {
        uint64_t f = mix(right + key + r * UINT64_C(0x9e3779b97f4a7c15));
        uint64_t next = (left ^ f >> 32) & mask; /* half is at most 32 bits, so f's upper half serves */
        left = right;
        right = next;
    }
    return left << half | right;
}

uint64_t data_sample(const struct data_order *o, uint64_t g)
{
    uint64_t epoch = g / o->n, x = g % o->n;
    if (!o->shuffle || o->n == 1)
        return x;
    unsigned half = 1;
    while (half < 32 && (o->n - 1) >> (2 * half))
        half++;
    uint64_t key = mix(mix(o->seed + UINT64_C(0x9e3779b97f4a7c15)) ^ (epoch + 1) * UINT64_C(0xd1342543de82ef95));
    do
        x = feistel(x, half, key);
    while (x >= o->n); /* at most 4 times as many values as windows: 4 turns on average at worst */
    return x;
}
