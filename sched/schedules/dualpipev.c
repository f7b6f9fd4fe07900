/* dualpipev: two stages a rank that form a V; a forward of one and a backward of the other run together, so that the
 * communication of each hides under the compute of the other (DualPipe's "cut in half", DeepSeek-AI, 2025, whose eight phases
 * are numbered here). */
#include "sched/schedules/dualpipe.h"

enum { A, B };

static void pair(struct row *row, int forward, int backward, bool overlap)
{
    row_f(row, forward);
    if (overlap)
        row_join(row);
    row_b(row, backward);
}

static void fill(struct row *row, uint32_t p, uint32_t r)
{
    for (uint32_t i = 0; i < 2 * (p - r - 1); i++) /* 1 */
        row_f(row, A);
    for (uint32_t i = 0; i < r + 1; i++) { /* 2 */
        row_f(row, A);
        row_f(row, B);
    }
    for (uint32_t i = 0; i < p - r - 1; i++) { /* 3 */
        row_i(row, B);
        row_oldest_w(row);
        row_f(row, B);
    }
}

static void drain(struct row *row, uint32_t p, uint32_t r)
{
    for (uint32_t i = 0; i < 2 * (r + 1); i++) /* 6 */
        if (i < r + 1)
            row_b(row, i % 2 ? A : B);
        else
            row_i(row, i % 2 ? A : B);
    for (uint32_t i = 0; i < p - r - 1; i++) { /* 7 */
        row_oldest_w(row);
        row_i(row, A);
    }
    for (uint32_t i = 0; i < r + 1; i++) /* 8 */
        row_oldest_w(row);
}

void dualpipe_row(struct row *row, uint32_t p, uint32_t m, uint32_t r)
{
    fill(row, p, r);
    for (uint32_t i = 0; i < m - 2 * p + r + 1; i++) { /* 4 */
        pair(row, A, B, i > 0 || r < p - 1);
        pair(row, B, A, true);
    }
    for (uint32_t i = 0; i < p - r - 1; i++) { /* 5 */
        row_b(row, B);
        pair(row, B, A, true);
    }
    drain(row, p, r);
}

static const char *refuse(uint32_t p, uint32_t m, uint32_t v)
{
    (void)v;
    return m < 2 * p ? "it needs at least two microbatches for each pipeline rank" : NULL;
}

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    (void)v;
    struct row row = { .out = out, .stage = { r, 2 * p - 1 - r } };
    dualpipe_row(&row, p, m, r);
}

const struct schedule_kind schedule_dualpipev = {
    .name = "dualpipev", .placement = PLACE_V, .chunks = 2, .refuse = refuse, .build = build
};
