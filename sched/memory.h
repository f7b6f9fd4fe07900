/* The memory plan: offsets of the buffers of ARENA_WORK, and the waits of every instruction. Private to sched/. */
#ifndef PIPER_SCHED_MEMORY_H
#define PIPER_SCHED_MEMORY_H

#include "ir/plan.h"

/* What an instruction needs before it may start: earlier instructions of the list. */
struct dependencies {
    uint32_t *first; /* [n_instr + 1] */
    uint32_t *at;
};

/* Plans one list whose instructions [first, first + n) and buffers [first_buffer, n_buffers) stand in pb, with bases that name
 * buffers but have no offsets yet. pass_runs: RUNs of one pass of a microbatch over all stages of the class. Sets waits, buffer
 * and base offsets; *extent grows to the bytes of the arena, peak[kind] to the largest sum of live buffers of a kind. */
void memory_plan(struct plan_builder *pb, uint32_t first, uint32_t n, uint32_t first_buffer, uint32_t n_streams,
                 uint32_t alignment, uint32_t pass_runs, const struct dependencies *deps, uint64_t *extent,
                 uint64_t *peak);

#endif
