/* When every instruction of a step runs: a discrete-event simulation of the compiled plans.
 *
 * One rank stands for its class: members run the same program, and a transfer inside a class relabels it onto itself. An
 * instruction starts when the one before it on its stream is done and its waits are done; a communication starts when that
 * holds on all its ends, and ends everywhere at once. What an instruction takes is the caller's: the unit times below, or
 * a machine's (sched/cost/simulate.h), and so is how things that run at the same time slow each other down. Linear in
 * instructions times what is under way at once. */
#ifndef PIPER_SCHED_TIMELINE_H
#define PIPER_SCHED_TIMELINE_H

#include "ir/graph.h"
#include "ir/plan.h"

/* An end of something that happens: instruction `instr` of the list, on class `cls`. */
struct timeline_end {
    uint32_t cls, instr;
};
/* Something that is under way: an instruction, or a communication with all its ends. */
struct timeline_active {
    const struct timeline_end *ends; /* [n_ends]; the first is the one that was asked for its time */
    uint32_t n_ends;
    double speed; /* 1: as fast as alone */
};
struct timeline_cost {
    /* What an instruction of class cls takes when it is alone, not negative. Calls come in the order of `start`, one for a
     * communication: its sender's end, or the end on the lowest class. */
    double (*time)(void *self, uint32_t cls, const struct plan_instr *in, double start);
    void *self;
    /* Sets the speed of everything that is under way at once: above 0, at most 1. NULL: all run at full speed. */
    void (*speeds)(void *self, struct timeline_active *active, uint32_t n);
};

struct timeline_span {
    double start, end;
};
struct timeline_class {
    struct timeline_span *spans; /* by instruction of the list */
    struct timeline_end *after;  /* by instruction: what it waited for last; cls PLAN_NONE: for nothing */
    uint32_t list, n;            /* list of its plan, instructions in it */
    double busy;                 /* time that a member computes */
};
struct timeline {
    struct timeline_class *classes; /* [n_classes] */
    uint32_t n_classes;
    double step;   /* the last end; the first start is 0 */
    double bubble; /* 1 - busy / (ranks * step), over all ranks; 0 for an empty step */
};

/* plans[i] is the view of class i, verified (sched_check): plans that deadlock are a broken invariant. The spans are those of
 * the list of that name ("train"); all plans have it. Ends with timeline_release. */
void timeline_run(const struct plan *plans, uint32_t n_classes, const char *list, const struct timeline_cost *cost,
                  struct timeline *out);
void timeline_release(struct timeline *t);

/* Unit times, as in the figures of the papers: over the operators of a pipeline stage F takes 1, BI 1, BW 1, a fused B
 * 2, a forward computed again 1; each operator has its share of floating-point operations. The others as given. */
struct timeline_units {
    double move;       /* one transfer between stages */
    double all_to_all; /* all of one pass of a stage */
    double collective; /* all parameters of a rank once: reductions or gathers */
    double update;     /* of all parameters of a rank */
    double **program, *elements,
        *transfers;           /* by class: time of each program; elements of all buckets; all-to-alls of a pass */
    const struct plan *plans; /* borrowed */
    uint32_t n_classes;
};
/* Fills in what follows the four times. */
void timeline_units_init(struct timeline_units *u, const struct plan *plans, uint32_t n_classes,
                         const struct ir_graph *g);
void timeline_units_release(struct timeline_units *u);
/* For struct timeline_cost: self is a struct timeline_units. */
double timeline_units_time(void *self, uint32_t cls, const struct plan_instr *in, double start);

/* Index under the tag PP of what a program belongs to; 0 where the model has no such tag. */
uint32_t timeline_stage(const struct plan *p, uint32_t program, const struct ir_graph *g);

#endif
