/* zb-h2: twice the warm-up of zb-h1, so that no rank waits between its first and its last pass; at most 2p-1 microbatches are
 * alive on a rank (Qi et al., 2023, section 2). */
#include "sched/schedules/row.h"

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    (void)v;
    struct row row = { .out = out, .stage = { r } };
    while (row.f[0] < m && row.f[0] < 2 * (p - r) - 1)
        row_f(&row, 0);
    while (row.b[0] < m) {
        row_i(&row, 0);
        if (row.f[0] == m)
            row_w(&row, 0);
        else
            while (row.f[0] - row.w[0] + 1 > 2 * p - 1) /* a BW keeps its inputs alive */
                row_w(&row, 0);
        if (row.f[0] < m)
            row_f(&row, 0);
    }
    while (row.w[0] < m)
        row_w(&row, 0);
}

const struct schedule_kind schedule_zb_h2 = { .name = "zb-h2", .chunks = 1, .build = build };
