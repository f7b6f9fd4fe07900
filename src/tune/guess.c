#include "tune/guess.h"

#include <math.h>

static double value_of(const struct bound_shape *s, int key)
{
    const double values[GUESS_KEYS] = { s->tp,     s->cp,           s->pp,      s->ep,         s->kind,
                                        s->chunks, s->microbatches, s->zero,    s->zero_group, s->bucket_mib,
                                        s->vocab,  s->recompute,    s->backward };
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

void tune_guess_init(struct tune_guess *g, const struct tune_space *space)
{
    *g = (struct tune_guess){ .space = space, .level = mem_alloc((space->shapes.n + 1) * sizeof *g->level) };
    for (uint32_t i = 0; i < space->shapes.n; i++)
        for (int k = 0; k < GUESS_KEYS; k++)
            g->level[i][k] = level_of(g, k, value_of(&space->shapes.at[i], k));
}

void tune_guess_release(struct tune_guess *g)
{
    mem_free(g->level);
    for (int k = 0; k < GUESS_KEYS; k++) {
        vec_free(&g->values[k]);
        vec_free(&g->shares[k]);
    }
    vec_free(&g->known);
}

double tune_guess_log(const struct tune_guess *g, uint32_t shape)
{
    double sum = g->mean;
    for (int k = 0; k < GUESS_KEYS; k++)
        sum += g->shares[k].at[g->level[shape][k]];
    return sum;
}

/* The shares of one key, given all others: of each value the mean of what these leave open, drawn towards 0 where few were compiled. */
static void fit_key(struct tune_guess *g, int key)
{
    const uint32_t n = g->values[key].n;
    double *sum = mem_alloc(n * sizeof *sum), *count = mem_alloc(n * sizeof *count);
    for (uint32_t i = 0; i < g->known.n; i++) {
        const struct guess_known *k = &g->known.at[i];
        const uint32_t level = g->level[k->shape][key];
        sum[level] += k->log - tune_guess_log(g, k->shape) + g->shares[key].at[level];
        count[level]++;
    }
    for (uint32_t v = 0; v < n; v++)
        g->shares[key].at[v] = sum[v] / (count[v] + 1);
    mem_free(sum);
    mem_free(count);
}

void tune_guess_learn(struct tune_guess *g, uint32_t shape, double bound, double step)
{
    enum { SWEEPS = 3 };
    if (!(bound > 0) || !(step > 0))
        return;
    vec_add(&g->known, ((struct guess_known){ shape, log(step / bound) }));
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double sum = 0;
        for (uint32_t i = 0; i < g->known.n; i++)
            sum += g->known.at[i].log - tune_guess_log(g, g->known.at[i].shape) + g->mean;
        g->mean = sum / g->known.n;
        for (int k = 0; k < GUESS_KEYS; k++)
            fit_key(g, k);
    }
}
