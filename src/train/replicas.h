/* --check-replicas: are all copies of every parameter, and of the moments beside it, bitwise identical? */
#ifndef PIPER_REPLICAS_H
#define PIPER_REPLICAS_H

#include "ir/graph.h"
#include "ir/plan.h"

struct replicas; /* owned by the caller until replicas_close */

/* Collective over all ranks. */
struct replicas *replicas_open(const struct ir_graph *g, const struct plan *p, uint32_t rank,
                               unsigned char *const base[ARENA_COUNT]);
void replicas_close(struct replicas *r);
/* Collective, between steps. ST_BUG with the parameter and the ranks that differ, the same on all ranks. Allocates
 * nothing. */
enum status replicas_compare(struct replicas *r, uint64_t step, struct err *e);

#endif
