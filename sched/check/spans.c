/* Intervals over a fixed set of boundaries. A set bit says that a span starts at a boundary; its state stands at that
 * boundary's index. The bits form a 64-ary tree, so that the neighbours of a boundary are found in a few steps. */
#include "sched/check/check.h"

#include <stdlib.h>

#include "base/number.h"

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

/* Where the byte stands in the table, or the empty place where it belongs. */
static struct check_bound *place_of(const struct check_spans *s, uint64_t byte)
{
    for (uint64_t i = number_mix(byte);; i++) {
        struct check_bound *b = &s->table[i & (s->table_size - 1)];
        if (b->index == PLAN_NONE || b->byte == byte)
            return b;
    }
}

static void grow_table(struct check_spans *s)
{
    mem_free(s->table);
    s->table_size = s->table_size ? 2 * s->table_size : 64;
    s->table = mem_alloc(sizeof *s->table * (size_t)s->table_size);
    memset(s->table, 0xff, sizeof *s->table * (size_t)s->table_size);
    for (uint32_t i = 0; i < s->n; i++)
        *place_of(s, s->bounds[i]) = (struct check_bound){ s->bounds[i], i };
}

/* Boundaries come again with every microbatch: each once, before they are sorted. */
static void make_bounds(struct check_spans *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t byte = s->bounds[i];
        if (2 * s->n >= s->table_size)
            grow_table(s);
        struct check_bound *b = place_of(s, byte);
        if (b->index != PLAN_NONE)
            continue;
        *b = (struct check_bound){ byte, s->n };
        s->bounds[s->n++] = byte;
    }
    qsort(s->bounds, s->n, sizeof *s->bounds, by_value);
    for (uint32_t i = 0; i < s->n; i++)
        place_of(s, s->bounds[i])->index = i;
}

void check_spans_init(struct check_spans *s, uint64_t *bounds, uint32_t n, struct check_span state)
{
    *s = (struct check_spans){ .bounds = bounds };
    if (n == 0)
        return;
    make_bounds(s, n);
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
    mem_free(s->table);
    mem_free(s->at);
}

uint32_t check_spans_find(const struct check_spans *s, uint64_t byte)
{
    return place_of(s, byte)->index;
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
