/* What a rank needs of the memory that a machine's figure is of, and what makes less of it. */
#ifndef PIPER_JOB_NEED_H
#define PIPER_JOB_NEED_H

#include "ir/plan.h"
#include "ir/target.h"

/* What libraries take beside the plan, an estimate. */
uint64_t need_outside(const struct plan *p, const struct ir_target *target);
/* Bytes, with the libraries: of device memory where the target is a device, else of all arenas. */
double need_bytes(const struct plan *p, const struct ir_target *target);
/* Of what `need` bytes are made of, the kinds from the largest on, as far as the others would not fit into `limit`: how many. The snapshot of
 * a device lies elsewhere. */
uint32_t need_in_the_way(const double by_kind[MEM_KINDS], const struct ir_target *target, double need, double limit,
                         enum plan_kind_of_memory kinds[MEM_KINDS]);
/* What makes less of a kind, for messages. */
const char *need_remedy(enum plan_kind_of_memory kind);

#endif
