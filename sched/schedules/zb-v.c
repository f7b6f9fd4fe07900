/* zb-v: the backward split, and two stages a rank that form a V, so that the first rank also has the last stage and every rank
 * holds the same number of activations (Qi et al., 2024). */
#include "sched/schedules/row.h"

enum { A, B }; /* stage r, stage 2p-1-r */

static void fill(struct row *row, uint32_t p, uint32_t r)
{
    for (uint32_t i = 0; i < 2 * (p - r) - 1; i++)
        row_f(row, A);
    for (uint32_t i = 0; i < r; i++) {
        row_f(row, B);
        row_f(row, A);
    }
    for (uint32_t i = 0; i < p - r; i++) {
        row_f(row, B);
        row_i(row, B);
        row_w(row, B);
    }
}

/* The order of 2p-1 microbatches or more. */
static void build_full(struct row *row, uint32_t p, uint32_t m, uint32_t r)
{
    fill(row, p, r);
    while (row->f[A] < m || row->f[B] < m) {
        if (row->f[A] < m)
            row_f(row, A);
        row_i(row, A);
        row_w(row, A);
        row_f(row, B);
        row_i(row, B);
        row_w(row, B);
    }
    for (uint32_t i = 0; i < r; i++) {
        row_i(row, A);
        row_i(row, B);
    }
    for (uint32_t i = 0; i < p - r; i++) {
        row_i(row, A);
        row_w(row, A);
    }
    while (row->w[B] < m)
        row_w(row, B);
    while (row->w[A] < m)
        row_w(row, A);
}

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    (void)v;
    struct row row = { .out = out, .stage = { r, 2 * p - 1 - r } };
    uint32_t first = out->n, kept = first;
    build_full(&row, p, m > 2 * p - 1 ? m : 2 * p - 1, r);
    for (uint32_t i = first; i < out->n; i++)
        if (out->at[i].mb < m)
            out->at[kept++] = out->at[i];
    out->n = kept;
}

const struct schedule_kind schedule_zb_v = { .name = "zb-v", .placement = PLACE_V, .chunks = 2, .build = build };
