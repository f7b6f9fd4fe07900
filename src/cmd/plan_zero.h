/* piper plan: over whom ZeRO shards. */
#ifndef PIPER_CMD_PLAN_ZERO_H
#define PIPER_CMD_PLAN_ZERO_H

#include <stdio.h>

#include "sched/sched.h"

/* ", zero 3 in groups of 8, optimizer state over all", of the largest groups; to standard output. Nothing without zero_group. */
void plan_print_zero_groups(const struct plan *plans, uint32_t n_classes);
/* Where zero 3 gathers parameters across nodes, and groups of neighbours would keep that inside of one: what they would take. Nothing where
 * the machine has one rank per node, or is NULL. */
void plan_note_zero_groups(const struct plan *plans, uint32_t n_classes, const struct machine *m, FILE *to);

#endif
