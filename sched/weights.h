/* How long nodes take, as far as that can be said without a machine, and what in a group has to begin first. Private to sched/. */
#ifndef PIPER_SCHED_WEIGHTS_H
#define PIPER_SCHED_WEIGHTS_H

#include "sched/compile.h"

enum { WEIGHTS_LONGEST = 1000 }; /* of the longest run */

/* By node. Numbers are whole, so that every machine comes to the same plan. */
struct weights {
    uint32_t *takes; /* 0: no time */
    /* The longest path from its start to the end of its group that overlaps; 0: it is in none; UINT32_MAX: it ends a pass, before all else. */
    uint32_t *path;
    uint8_t *begins; /* 1: nothing of its group comes before it */
};
/* Needs: list.group, the adjacency. Ends with release. */
void weights_find(const struct sched *s, const struct list_plan *list, struct weights *w);
void weights_release(struct weights *w);

#endif
