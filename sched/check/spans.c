/* Intervals over a fixed set of boundaries. A set bit says that a span starts at a boundary; its state stands at that
 * boundary's index. The bits form a 64-ary tree, so that the neighbours of a boundary are found in a few steps. */
#include "sched/check/check.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void set_bit(struct check_spans *s, uint32_t i)
{
    for (uint32_t k = 0; k < s->levels; k++, i >>= 6)
        s->bits[k][i >> 6] |= (uint64_t)1 << (i & 63);
}

static void clear_bit(struct check_spans *s, uint32_t i)
{
    for (uint32_t k = 0; k < s->levels; k++, i >>= 6) {
        s->bits[k][i >> 6] &= ~((uint64_t)1 << (i & 63));
        if (s->bits[k][i >> 6])
            return;
    }
}

/* Nearest set bit above i. The last boundary is always set. */
static uint32_t bit_above(const struct check_spans *s, uint32_t i)
{
    uint32_t k = 0;
    for (;; k++, i >>= 6) {
        uint64_t rest = (i & 63) == 63 ? 0 : s->bits[k][i >> 6] >> ((i & 63) + 1) << ((i & 63) + 1);
        if (rest) {
            i = (i & ~63u) + (uint32_t)__builtin_ctzll(rest);
            break;
        }
    }
    while (k-- > 0)
        i = i * 64 + (uint32_t)__builtin_ctzll(s->bits[k][i]);
    return i;
}

/* Nearest set bit at or below i. Boundary 0 is always set. */
static uint32_t bit_below(const struct check_spans *s, uint32_t i)
{
    if (s->bits[0][i >> 6] >> (i & 63) & 1)
        return i;
    uint32_t k = 0;
    for (;; k++, i >>= 6) {
        uint64_t rest = s->bits[k][i >> 6] & (((uint64_t)1 << (i & 63)) - 1);
        if (rest) {
            i = (i & ~63u) + 63 - (uint32_t)__builtin_clzll(rest);
            break;
        }
    }
    while (k-- > 0)
        i = i * 64 + 63 - (uint32_t)__builtin_clzll(s->bits[k][i]);
    return i;
}

void check_spans_init(struct check_spans *s, uint64_t *bounds, uint32_t n, struct check_span state)
{
    *s = (struct check_spans){ .bounds = bounds };
    if (n == 0)
        return;
    qsort(bounds, n, sizeof *bounds, by_value);
    for (uint32_t i = 0; i < n; i++)
        if (s->n == 0 || bounds[s->n - 1] != bounds[i])
            bounds[s->n++] = bounds[i];
    for (uint32_t words = s->n; s->levels == 0 || words > 1; s->levels++) {
        words = (words + 63) / 64;
        s->bits[s->levels] = mem_alloc(sizeof **s->bits * (size_t)words);
    }
    s->at = mem_alloc(sizeof *s->at * (size_t)s->n);
    s->at[0] = state;
    set_bit(s, 0);
    set_bit(s, s->n - 1);
}

void check_spans_release(struct check_spans *s)
{
    for (uint32_t k = 0; k < s->levels; k++)
        mem_free(s->bits[k]);
    mem_free(s->bounds);
    mem_free(s->at);
}

uint32_t check_spans_find(const struct check_spans *s, uint64_t byte)
{
    uint32_t lo = 0, hi = s->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->bounds[mid] <= byte)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

void check_spans_cut(struct check_spans *s, uint32_t i)
{
    uint32_t from = bit_below(s, i);
    if (from == i)
        return;
    s->at[i] = s->at[from];
    set_bit(s, i);
}

uint32_t check_spans_next(const struct check_spans *s, uint32_t i)
{
    return bit_above(s, i);
}

void check_spans_join(struct check_spans *s, uint32_t i, uint32_t j)
{
    for (uint32_t k = bit_above(s, i); k < j; k = bit_above(s, k))
        clear_bit(s, k);
}
