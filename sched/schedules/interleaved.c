/* interleaved: 1f1b over v chunks a rank, in rounds of g microbatches that pass through chunk after chunk (Narayanan et al.,
 * 2021, section 2.2). */
#include "sched/schedules/row.h"

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    uint32_t n = m * v, g = round_size(p, m), warm = (v - 1) * g + 2 * (p - 1 - r);
    warm = warm < n ? warm : n;
    for (uint32_t k = 0; k < n + warm; k++) {
        if (k < n)
            vec_add(out, round_cell(p, g, v, r, k, IR_PASS_F));
        if (k >= warm)
            vec_add(out, round_cell(p, g, v, r, k - warm, IR_PASS_B));
    }
}

const struct schedule_kind schedule_interleaved = {
    .name = "interleaved", .placement = PLACE_INTERLEAVED, .refuse = refuse_rounds, .build = build
};
