#include "speak/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/number.h"

struct candidate {
    double weight; /* logit, then its exponential */
    uint32_t id;
};

/* The larger first, of equals the lower id. */
static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->weight != b->weight ? a->weight > b->weight : a->id < b->id;
}

static int compare(const void *a, const void *b)
{
    return before(a, b) ? -1 : 1;
}

static uint32_t largest(const float *logits, uint32_t n)
{
    uint32_t best = SAMPLE_NONE;
    for (uint32_t i = 0; i < n; i++) {
        if (isnan(logits[i]))
            return SAMPLE_NONE;
        if (best == SAMPLE_NONE || logits[i] > logits[best])
            best = i;
    }
    return best != SAMPLE_NONE && isfinite(logits[best]) ? best : SAMPLE_NONE;
}

/* The k first to the front, in no order (Hoare's selection). */
static void select_first(struct candidate *c, uint32_t n, uint32_t k)
{
    uint32_t lo = 0, hi = n;
    while (hi - lo > 1) {
        const struct candidate pivot = c[lo + (hi - lo) / 2];
        uint32_t i = lo, j = hi - 1;
        for (;;) {
            while (before(&c[i], &pivot))
                i++;
            while (before(&pivot, &c[j]))
                j--;
            if (i >= j)
                break;
            const struct candidate x = c[i];
            c[i++] = c[j];
            c[j--] = x;
        }
        /* where they met, the pivot is in its place; else all before c[i] are before all others */
        const uint32_t right = i == j ? i + 1 : i;
        if (k == i || k == right)
            return;
        if (k < i)
            hi = i;
        else
            lo = right;
    }
}

static double exponentials(struct candidate *c, uint32_t n, double most, double temperature)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        c[i].weight = exp((c[i].weight - most) / temperature);
        sum += c[i].weight;
    }
    return sum;
}

/* How many stay. Those below (1-p)/n have less than 1-p together: so many of the others as are needed are among these. */
static uint32_t nucleus(struct candidate *c, uint32_t n, double p, double *sum)
{
    const double least = *sum * (1 - p) / n, enough = *sum * p;
    uint32_t m = 0, stay = 0;
    for (uint32_t i = 0; i < n; i++)
        if (c[i].weight >= least)
            c[m++] = c[i];
    qsort(c, m, sizeof *c, compare);
    for (*sum = 0; stay < m && (stay == 0 || *sum < enough); stay++)
        *sum += c[stay].weight;
    return stay;
}

uint32_t sample_token(const struct sample_how *how, const float *logits, uint32_t n, uint64_t number)
{
    const uint32_t best = largest(logits, n);
    if (best == SAMPLE_NONE || how->temperature <= 0)
        return best;
    struct candidate *c = mem_alloc(n * sizeof *c);
    for (uint32_t i = 0; i < n; i++)
        c[i] = (struct candidate){ (double)logits[i], i };
    if (how->top_k && how->top_k < n) {
        select_first(c, n, (uint32_t)how->top_k);
        n = (uint32_t)how->top_k;
        qsort(c, n, sizeof *c, compare);
    }
    double sum = exponentials(c, n, (double)logits[best], how->temperature);
    if (how->top_p < 1)
        n = nucleus(c, n, how->top_p, &sum);
    double draw = (double)(number_mix(how->seed ^ number_mix(number + 1)) >> 11) * 0x1p-53 * sum;
    uint32_t i = 0;
    while (i + 1 < n && draw >= c[i].weight)
        draw -= c[i++].weight;
    const uint32_t id = c[i].id;
    mem_free(c);
    return id;
}
