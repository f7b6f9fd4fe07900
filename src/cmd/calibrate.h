/* piper calibrate: kernels and links measured where it runs, for the cost model. All ranks measure at the same time, as they
 * would train, so that what cores and ranks share is in the figures. */
#ifndef PIPER_CALIBRATE_H
#define PIPER_CALIBRATE_H

#include "comm/comm.h"
#include "exec/compute.h"
#include "ir/machine.h"
#include "ir/target.h"
#include "sched/cost/cost.h"

/* ---- measurements whose runs agree (calibrate_runs.c) ----------------------------------------------------------- */

enum { CALIBRATE_RUNS = 15, CALIBRATE_WHAT = 64 };
/* Measures: seconds of each of up to CALIBRATE_RUNS runs. Returns how many; 0: this rank takes no part. All ranks at once. */
typedef uint32_t (*calibrate_take)(void *self, double *seconds);
/* What was measured so far, and what of it did not agree with itself. */
struct calibrate_runs {
    uint32_t measured, noisy;  /* noisy: spread above MACHINE_NOISY, the last time too */
    double spread;             /* the largest */
    char what[CALIBRATE_WHAT]; /* of which */
};
/* The median, as a mean over the ranks that take part. What is noisy is measured again, up to three times, and the runs with the
 * least spread count. Collective. */
double calibrate_settle(struct calibrate_runs *all, const char *what, calibrate_take take, void *self);
/* Reorders x. */
double calibrate_median(double *x, uint32_t n);

/* ---- a kernel (calibrate_kernel.c) ------------------------------------------------------------------------------ */

/* A kernel with operands that can be run again and again. */
struct calibrate_kernel;
/* Owned by the caller until free. what: pass and n are not looked at, ep is 1. The integers of routed operators are those of tokens
 * that choose experts evenly. */
struct calibrate_kernel *calibrate_kernel_new(const struct compute_backend *back, const struct ir_target *target,
                                              const struct cost_kernel *what);
void calibrate_kernel_free(struct calibrate_kernel *k);
void calibrate_kernel_run(struct calibrate_kernel *k, enum ir_pass pass);
double calibrate_clock(void); /* seconds, for what this rank computes */
/* The median of runs that take some milliseconds together. Collective. */
double calibrate_kernel_time(struct calibrate_kernel *k, enum ir_pass pass, struct calibrate_runs *all);

/* ---- the machine ------------------------------------------------------------------------------------------------ */

/* Adds points of every kernel, optimizer and sum of squares; flops, bandwidth and launch follow from them. Collective. */
void calibrate_compute(const struct compute_backend *back, const struct ir_target *target, struct machine *m,
                       struct calibrate_runs *all);
/* Links between the ranks of a node, and between nodes where there are several; what computing and transfers cost each other.
 * Collective; with one rank the links are unknown, and memory's figures stand in for them. */
enum status calibrate_links(const struct comm_backend *comm, const struct compute_backend *back,
                            const struct ir_target *target, struct machine *m, struct calibrate_runs *all,
                            struct err *e);

#endif
