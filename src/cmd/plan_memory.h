/* piper plan: the memory of ranks. */
#ifndef PIPER_CMD_PLAN_MEMORY_H
#define PIPER_CMD_PLAN_MEMORY_H

#include <stdio.h>

#include "sched/sched.h"

/* A line for each class, a column for each kind; to standard output. */
void plan_print_memory(const struct sched_output *out, const struct plan *plans, const struct ir_target *target);
/* Where a rank needs more than the machine has: how much, and the kinds of memory that are in the way. Nothing where all fit, or
 * the machine does not say. */
void plan_note_memory(const struct sched_output *out, const struct plan *plans, const struct ir_target *target,
                      const struct machine *m, FILE *to);

#endif
