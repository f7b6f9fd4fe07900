/* Random numbers, guarded buffers, comparison. */
#include "num/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(rng_next(r) >> 33) % n;
}

double rng_normal(struct rng *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (double)(rng_next(r) >> 11) * 0x1p-53;
    return sum;
}

enum { ZONE = 256, MARK = 0xa5 };

size_t guarded_all(const struct guarded *g)
{
    return ZONE + (g->bytes + 63) / 64 * 64 + ZONE;
}

struct guarded guarded_new(size_t bytes)
{
    struct guarded g = { .bytes = bytes };
    g.base = aligned_alloc(64, guarded_all(&g));
    CHECK(g.base != NULL);
    memset(g.base, MARK, guarded_all(&g));
    g.at = g.device = g.base + ZONE;
    guarded_poison(&g);
    return g;
}

void guarded_poison(struct guarded *g)
{
    memset(g->at, 0xff, g->bytes); /* a NaN in every float format */
}

bool guarded_intact(const struct guarded *g)
{
    for (size_t i = 0; i < guarded_all(g); i++)
        if ((i < ZONE || i >= ZONE + g->bytes) && g->base[i] != MARK)
            return false;
    return true;
}

void guarded_free(struct guarded *g)
{
    free(g->base);
    *g = (struct guarded){ 0 };
}

double worst_error(const float *got, const double *want, size_t n, double floor)
{
    double square = 0, worst = 0;
    for (size_t i = 0; i < n; i++)
        square += want[i] * want[i];
    const double rms = n ? sqrt(square / (double)n) : 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]))
            return INFINITY;
        const double error = fabs(got[i] - want[i]) / (rms + fabs(want[i]) + floor);
        worst = error > worst ? error : worst;
    }
    return worst;
}
