/* 1f1b: p-1-r forwards to fill, then one forward, one backward (Narayanan et al., 2019). */
#include "sched/compile.h"

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    (void)v;
    uint32_t f = 0, b = 0, warm = m < p - 1 - r ? m : p - 1 - r;
    while (f < warm)
        vec_add(out, ((struct cell){ r, f++, IR_PASS_F, false }));
    while (f < m) {
        vec_add(out, ((struct cell){ r, f++, IR_PASS_F, false }));
        vec_add(out, ((struct cell){ r, b++, IR_PASS_B, false }));
    }
    while (b < m)
        vec_add(out, ((struct cell){ r, b++, IR_PASS_B, false }));
}

const struct schedule_kind schedule_1f1b = { .name = "1f1b", .chunks = 1, .build = build };
