/* What a step is expected to look like, before it runs: times written into the plans, and when each instruction would start. */
#ifndef PIPER_PREDICT_H
#define PIPER_PREDICT_H

#include "ir/graph.h"
#include "sched/sched.h"

/* Times for want of a machine file, as in the figures of the papers: F, BI and BW of a pipeline stage take `unit` seconds
 * each, a fused B two, communication and updates nothing (sched/cost/timeline.h). Written into the plans. */
static const double PREDICT_UNIT = 0.01;
void predict_unit_times(struct sched_output *out, const struct ir_graph *g, double unit);

/* When the instructions of the list "train" start, seconds from the start of the step: as simulated on the machine, or if all
 * take what their plans say (NULL). starts[class] is allocated (mem_free), bytes[class] its size. */
void predict_starts(const struct sched_output *out, const struct ir_graph *g, const struct machine *m, void **starts,
                    uint64_t *bytes);

#endif
