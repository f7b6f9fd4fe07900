/* dualpipe: microbatches enter at both ends of the pipeline; each rank holds a stage of either direction, and a forward of one
 * runs together with a backward of the other (DeepSeek-AI, 2024, section 3.2.1).
 *
 * Seen from the nearer end, rank r of p does what rank min(r, p-1-r) of dualpipev does with p/2 ranks and half the
 * microbatches. So rank r and rank p-1-r have the same order up to the direction: their stages s and s+p (the second
 * direction's) change places. */
#include "sched/schedules/dualpipe.h"

static const char *refuse(uint32_t p, uint32_t m, uint32_t v)
{
    (void)v;
    if (p % 2)
        return "it needs an even number of pipeline ranks: they are paired as mirror images";
    if (m % 2)
        return "it needs an even number of microbatches, half for each direction";
    return m < 2 * p ? "it needs at least two microbatches for each pipeline rank" : NULL;
}

static void build(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out)
{
    (void)v;
    bool far = r >= p / 2;
    uint32_t near = far ? p - 1 - r : r;
    struct row row = { .out = out, .stage = { far ? p + near : r, far ? r : p + (p - 1 - r) } };
    dualpipe_row(&row, p / 2, m / 2, near);
}

const struct schedule_kind schedule_dualpipe = {
    .name = "dualpipe", .placement = PLACE_TWO_WAY, .chunks = 1, .refuse = refuse, .build = build
};
