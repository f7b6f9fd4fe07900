#include "tune/guess.h"

#include <math.h>

static double value_of(const struct bound_shape *s, int key)
{
    const double values[GUESS_KEYS] = { s->tp,         s->cp,         s->pp,        s->ep,           s->kind,
                                        s->chunks,     s->backward,   s->recompute, s->microbatches, s->zero,
                                        s->zero_group, s->bucket_mib, s->vocab };
    return values[key];
}

/* Of more values than a byte numbers the last ones share a number. */
static uint8_t level_of(struct tune_guess *g, int key, double value)
{
    uint32_t i = 0;
    while (i < g->values[key].n && i < UINT8_MAX && g->values[key].at[i] != value)
        i++;
    if (i == g->values[key].n) {
        vec_add(&g->values[key], value);
        vec_add(&g->shares[key], 0);
    }
    return (uint8_t)i;
}

struct guess_levels tune_guess_levels(struct tune_guess *g, const struct bound_shape *s)
{
    struct guess_levels l;
    for (int k = 0; k < GUESS_KEYS; k++)
        l.at[k] = level_of(g, k, value_of(s, k));
    return l;
}

void tune_guess_release(struct tune_guess *g)
{
    for (int k = 0; k < GUESS_KEYS; k++) {
        vec_free(&g->values[k]);
        vec_free(&g->shares[k]);
    }
    vec_free(&g->known);
}

static double sum_of(const struct tune_guess *g, const struct guess_levels *l, int keys)
{
    double sum = g->mean;
    for (int k = 0; k < keys; k++)
        sum += g->shares[k].at[l->at[k]];
    return sum;
}

double tune_guess_log(const struct tune_guess *g, const struct guess_levels *l)
{
    return sum_of(g, l, GUESS_KEYS);
}

double tune_guess_family_log(const struct tune_guess *g, const struct guess_levels *l)
{
    double sum = sum_of(g, l, GUESS_FAMILY_KEYS);
    for (int k = GUESS_FAMILY_KEYS; k < GUESS_KEYS; k++)
        sum += g->least[k];
    return sum;
}

/* The shares of one key, given all others: of each value the mean of what these leave open, drawn towards 0 where few were compiled. */
static void fit_key(struct tune_guess *g, int key)
{
    const uint32_t n = g->values[key].n;
    double *sum = mem_alloc(n * sizeof *sum), *count = mem_alloc(n * sizeof *count);
    for (uint32_t i = 0; i < g->known.n; i++) {
        const struct guess_known *k = &g->known.at[i];
        const uint32_t level = k->levels.at[key];
        sum[level] += k->log - tune_guess_log(g, &k->levels) + g->shares[key].at[level];
        count[level]++;
    }
    g->least[key] = INFINITY;
    for (uint32_t v = 0; v < n; v++) {
        g->shares[key].at[v] = sum[v] / (count[v] + 1);
        g->least[key] = fmin(g->least[key], g->shares[key].at[v]);
    }
    mem_free(sum);
    mem_free(count);
}

void tune_guess_learn(struct tune_guess *g, const struct guess_levels *l, double bound, double step)
{
    enum { SWEEPS = 3 };
    if (!(bound > 0) || !(step > 0))
        return;
    vec_add(&g->known, ((struct guess_known){ *l, log(step / bound) }));
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double sum = 0;
        for (uint32_t i = 0; i < g->known.n; i++)
            sum += g->known.at[i].log - tune_guess_log(g, &g->known.at[i].levels) + g->mean;
        g->mean = sum / g->known.n;
        for (int k = 0; k < GUESS_KEYS; k++)
            fit_key(g, k);
    }
}
