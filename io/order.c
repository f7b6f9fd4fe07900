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

/* ---- blends --------------------------------------------------------------------------------------------------------- */

static const uint64_t whole = UINT64_C(1) << 32;
enum { GOLDEN = 0x9e3779b9 }; /* 2^32 by the golden ratio, odd: its multiples run through all values */

void data_blend_init(struct data_blend *b, const double *weights, uint32_t n, uint64_t seed)
{
    double sum = 0, before = 0;
    *b = (struct data_blend){ .n = n, .start = (uint32_t)mix(seed + UINT64_C(0x9e3779b97f4a7c15)) };
    for (uint32_t i = 0; i < n; i++)
        sum += weights[i];
    for (uint32_t i = 0; i < n; i++) {
        before += weights[i];
        uint64_t edge = (uint64_t)(before / sum * (double)whole + 0.5);
        b->edge[i + 1] = edge > b->edge[i] ? edge : b->edge[i] + 1;
    }
    b->edge[n] = whole;
}

uint32_t data_blend_source(const struct data_blend *b, uint64_t g)
{
    uint32_t x = (uint32_t)g * GOLDEN + b->start, s = 0;
    while (x >= b->edge[s + 1])
        s++;
    return s;
}

/* Sum over i < n of floor((a i + b)/m), by Euclid's algorithm on a and m (Graham, Knuth, Patashnik, Concrete Mathematics, 3.5);
 * n, a and m at most 2^32. Modulo 2^64. */
static uint64_t floor_sum(uint64_t n, uint64_t m, uint64_t a, uint64_t b)
{
    uint64_t sum = 0;
    while (n > 0) {
        sum += n * (n - 1) / 2 * (a / m) + n * (b / m);
        a %= m;
        b %= m;
        const uint64_t most = a * n + b, next = m;
        n = most / m;
        b = most % m;
        m = a;
        a = next;
    }
    return sum;
}

/* How many of the first g multiples lie below h. Where y mod m is below h, floor((y + m - h)/m) is floor(y/m),
 * elsewhere one more. */
static uint64_t count_below(const struct data_blend *b, uint64_t g, uint64_t h)
{
    const uint64_t n = g % whole; /* in whole turns every value comes once */
    return g / whole * h + n + floor_sum(n, whole, GOLDEN, b->start) -
           floor_sum(n, whole, GOLDEN, b->start + whole - h);
}

uint64_t data_blend_count(const struct data_blend *b, uint32_t s, uint64_t g)
{
    return count_below(b, g, b->edge[s + 1]) - count_below(b, g, b->edge[s]);
}
