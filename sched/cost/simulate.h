/* A step on a machine: sched/cost/timeline.h with predicted times, and transfers that share links.
 *
 * What runs at once slows each other down. Transfers share the port of a rank on each kind of link, in each direction, and what
 * the ranks of a node (an island) have together: everything that uses a link runs at the share of it that is there. A transfer
 * takes processors from computing (units, max_ctas of its stream); where it has none of its own (units 0), what it moves in a
 * second it takes from the ranks that move it, and while it only waits it takes nothing. One rank stands for its class, and
 * its node holds those representatives that it would hold with replica 0 of every stage. */
#ifndef PIPER_SCHED_SIMULATE_H
#define PIPER_SCHED_SIMULATE_H

#include "sched/cost/cost.h"
#include "sched/cost/timeline.h"

enum simulate_kind {
    SIMULATE_COMPUTE,
    SIMULATE_SEND,       /* between stages */
    SIMULATE_ALL_TO_ALL, /* of experts */
    SIMULATE_REDUCE,     /* of gradients and of the step's scalars */
    SIMULATE_GATHER,     /* of parameters */
    SIMULATE_REGION,     /* of tensors and their gradients, by devices that share sequences */
    SIMULATE_KINDS
};
const char *simulate_kind_name(
    enum simulate_kind k); /* "computing", "sends", "all-to-all", "reductions", "gathers", "regions" */
/* LOAD and ADD count as computing and reductions. */
enum simulate_kind simulate_kind_of(const struct plan *p, const struct plan_instr *in);

/* A machine that differs from the one of the file: what if. */
struct simulate_change {
    double scale[SIMULATE_KINDS]; /* of the times, 1: as predicted */
    const double *compute;        /* [n_classes] further factors of computing; NULL: 1 */
};

/* Plans with their predicted times filled in (cost_fill). */
struct simulate_input {
    const struct machine *machine;
    const struct plan *plans;
    uint32_t n_classes;
    const struct ir_graph *graph;
    const char *list; /* "train" */
};
/* change: NULL, or what differs. Ends with timeline_release. */
void simulate_run(const struct simulate_input *in, const struct simulate_change *change, struct timeline *out);

/* Where the time of a member of a class goes: seconds. What is exposed is a transfer under way while the rank does not compute
 * (several at once: the first in the order of the kinds below); what remains is idle. */
struct simulate_class {
    double compute, idle;
    double exposed[SIMULATE_KINDS];                                      /* [SIMULATE_COMPUTE]: 0 */
    double total[SIMULATE_KINDS];                                        /* time with such a transfer under way */
    double steady_exposed[SIMULATE_KINDS], steady_total[SIMULATE_KINDS]; /* the same in steady state */
};
/* Steady state: a forward and a backward take turns on the class. Apart from each other, by time. Owned by the caller. */
struct simulate_windows {
    VEC(struct timeline_span);
};
void simulate_steady(const struct simulate_input *in, const struct timeline *t, uint32_t cls,
                     struct simulate_windows *out);
void simulate_account(const struct simulate_input *in, const struct timeline *t, struct simulate_class *classes);
/* The same over all ranks, as a mean per rank. */
struct simulate_class simulate_mean(const struct simulate_input *in, const struct simulate_class *classes);
double simulate_exposed(const struct simulate_class *c); /* of all kinds */

/* The chain of instructions, each of which began when the one before it ended, that ends the step: by name, the largest first. */
struct simulate_part {
    char name[64]; /* "forward of stage 3" */
    double seconds;
};
struct simulate_path {
    VEC(struct simulate_part);
};
void simulate_critical(const struct simulate_input *in, const struct timeline *t, struct simulate_path *path);

/* What-ifs, each simulated: the step that it would give. */
struct simulate_hint {
    const char *what; /* "links twice as fast" */
    double step;
};
enum { SIMULATE_HINTS = 8 };
/* The largest gain first; those that gain less than a hundredth of the step are left out. Returns how many. */
uint32_t simulate_hints(const struct simulate_input *in, const struct timeline *t, struct simulate_hint *hints);

#endif
