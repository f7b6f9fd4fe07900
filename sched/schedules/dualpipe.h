/* What dualpipev and dualpipe share: the order of one rank of p with its two stages. */
#ifndef PIPER_SCHED_SCHEDULES_DUALPIPE_H
#define PIPER_SCHED_SCHEDULES_DUALPIPE_H

#include "sched/schedules/row.h"

/* row->stage: the stage that meets a microbatch first, and the one that meets it last; m microbatches in each, m >= 2p. */
void dualpipe_row(struct row *row, uint32_t p, uint32_t m, uint32_t r);

#endif
