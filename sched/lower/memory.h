/* The memory plan: offsets of the buffers of ARENA_WORK, and the waits of every instruction. Private to sched/. */
#ifndef PIPER_SCHED_MEMORY_H
#define PIPER_SCHED_MEMORY_H

#include "ir/plan.h"

/* What an instruction needs before it may start: earlier instructions of the list. */
struct dependencies {
    uint32_t *first; /* [n_instr + 1] */
    uint32_t *at;
};

/* Plans one list: the instructions from `first` on and the buffers from `first_buffer` on that stand in pb, with bases that name
 * buffers, with offsets in these. pass_runs: RUNs of one pass of a microbatch over all stages of the class. Sets waits, buffer
 * and base offsets; the header's bytes of ARENA_WORK grow to what the list needs, its peak_bytes[kind] to the largest sum of
 * live buffers of a kind. */
void memory_plan(struct plan_builder *pb, uint32_t first, uint32_t first_buffer, uint32_t alignment, uint32_t pass_runs,
                 const struct dependencies *deps);

#endif
