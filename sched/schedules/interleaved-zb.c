/* interleaved-zb: interleaved with every backward split, so that half the warm-up fills the pipeline and BW fills the gaps that
 * are left; rank r holds r BW back (Qi et al., 2023, carried to chunks). */
#include "sched/schedules/row.h"

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    struct row row = { .out = out };
    uint32_t n = m * v, g = round_size(p, m), warm = (v - 1) * g + (p - 1 - r);
    warm = warm < n ? warm : n;
    for (uint32_t k = 0; k < n + warm; k++) {
        if (k < n)
            vec_add(out, round_cell(p, g, v, r, k, IR_PASS_F));
        if (k >= warm)
            vec_add(out, round_cell(p, g, v, r, k - warm, IR_PASS_BI));
        if (k >= warm + r)
            row_oldest_w(&row);
    }
    while (row_oldest_w(&row))
        continue;
}

const struct schedule_kind schedule_interleaved_zb = {
    .name = "interleaved-zb", .placement = PLACE_INTERLEAVED, .refuse = refuse_rounds, .build = build
};
