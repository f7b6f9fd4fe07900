/* How evenly the routers of a model load their experts. */
#ifndef PIPER_TRAIN_LOAD_H
#define PIPER_TRAIN_LOAD_H

#include "ir/graph.h"
#include "rundir/log.h"

struct load {
    const struct ir_graph *g; /* borrowed */
    uint32_t *first;          /* ir_graph_loads() */
    double *sum;              /* since the last report, by expert */
    uint32_t n;
    uint64_t from; /* the first step of the sums; 0: there is none yet */
};
void load_open(struct load *l, const struct ir_graph *g);
void load_close(struct load *l);
/* Adds the loads of a step. Returns the largest over the mean, of the router where that is largest; NAN: the model has no router. */
double load_add(struct load *l, uint64_t step, const double *loads);
/* Every router, and the experts that no token chose, since the report before; to the log alone. */
void load_report(struct load *l, uint64_t step, struct log *log);

#endif
