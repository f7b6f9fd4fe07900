/* zb-h1: 1f1b with the backward split; rank r holds r BW back and fills the gaps of the end with them, within the memory of
 * 1f1b's first rank (Qi et al., 2023, section 2). */
#include "sched/schedules/row.h"

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    (void)v;
    struct row row = { .out = out, .stage = { r } };
    uint32_t warm = m < p - 1 - r ? m : p - 1 - r;
    while (row.f[0] < warm)
        row_f(&row, 0);
    while (row.b[0] < m) {
        if (row.f[0] < m)
            row_f(&row, 0);
        row_i(&row, 0);
        if (row.b[0] > r)
            row_w(&row, 0);
    }
    while (row.w[0] < m)
        row_w(&row, 0);
}

const struct schedule_kind schedule_zb_h1 = { .name = "zb-h1", .chunks = 1, .build = build };
