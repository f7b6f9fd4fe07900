/* gpipe: all forwards, then all backwards (Huang et al., 2019). */
#include "sched/compile.h"

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    (void)p, (void)v;
    for (uint32_t i = 0; i < m; i++)
        vec_add(out, ((struct cell){ r, i, IR_PASS_F, false }));
    for (uint32_t i = 0; i < m; i++)
        vec_add(out, ((struct cell){ r, i, IR_PASS_B, false }));
}

const struct schedule_kind schedule_gpipe = { .name = "gpipe", .chunks = 1, .build = build };
