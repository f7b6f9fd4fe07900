/* piper calibrate: kernels and links measured where it runs, for the cost model. All ranks measure at the same time, as they
 * would train, so that what cores and ranks share is in the figures. */
#ifndef PIPER_CALIBRATE_H
#define PIPER_CALIBRATE_H

#include "comm/comm.h"
#include "exec/compute.h"
#include "ir/machine.h"
#include "ir/target.h"
#include "sched/cost/cost.h"

/* A kernel with operands that can be run again and again. */
struct calibrate_kernel;
/* Owned by the caller until free. what: pass and n are not looked at, ep is 1. The integers of routed operators are those of tokens
 * that choose experts evenly. */
struct calibrate_kernel *calibrate_kernel_new(const struct compute_backend *back, const struct ir_target *target,
                                              const struct cost_kernel *what);
void calibrate_kernel_free(struct calibrate_kernel *k);
void calibrate_kernel_run(struct calibrate_kernel *k, enum ir_pass pass);
double calibrate_clock(void); /* seconds, for what this rank computes */
/* The median of runs that take some milliseconds together, on this rank. */
double calibrate_kernel_time(struct calibrate_kernel *k, enum ir_pass pass);

/* Adds points of every kernel, optimizer and sum of squares; flops, bandwidth and launch follow from them. Collective. */
void calibrate_compute(const struct compute_backend *back, const struct ir_target *target, struct machine *m);
/* Links between the ranks of a node, and between nodes where there are several; what computing and transfers cost each other.
 * Collective; with one rank the links are unknown, and memory's figures stand in for them. */
enum status calibrate_links(const struct comm_backend *comm, const struct compute_backend *back,
                            const struct ir_target *target, struct machine *m, struct err *e);

/* The mean over all ranks. Collective. */
double calibrate_mean(double x);
/* Reorders x. */
double calibrate_median(double *x, uint32_t n);

#endif
