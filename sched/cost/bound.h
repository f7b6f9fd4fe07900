/* What a layout with a schedule needs at least, without compiling it: bounds for a search (src/tune).
 *
 * No bound exceeds what the compiler plans and the simulator predicts for the same strategy: each counts only what every such plan
 * has to do, and the reason stands beside it. tests/unit/test_bound.c holds them against compiled plans. Pure, as all of sched/cost. */
#ifndef PIPER_SCHED_BOUND_H
#define PIPER_SCHED_BOUND_H

#include "ir/graph.h"
#include "ir/machine.h"
#include "ir/plan.h"
#include "ir/target.h"

struct bound_job {                /* all borrowed */
    const struct ir_graph *graph; /* without stages, or annotated with them */
    const struct machine *machine;
    const struct ir_target *target;
    uint32_t ranks, batch_size;
    enum ir_dtype compute;
    uint32_t optimizer; /* enum optimizer */
    bool clip, snapshot;
    uint32_t comm_units; /* of the machine's processors, that each communication takes at least */
};
/* A strategy of the two macros layout and schedule; piper-strategy(5). */
struct bound_shape {
    uint32_t pp, dp, ep, tp, cp, chunks;
    uint32_t kind;     /* of bound_kind_name() */
    uint32_t backward; /* of bound_backward_name() */
    uint32_t microbatches;
    uint32_t zero, zero_group; /* zero_group 0: all holders */
    uint32_t bucket_mib;       /* 0: a layer */
    bool vocab, recompute;
    bool partly;         /* only some of the model is recomputed, and of that no bound knows what */
    bool again;          /* with recompute: what experts have received is not kept, but sent again */
    double expert_bound; /* 0: the worst case */
    double peak;         /* GiB, as in a schedule; no bound knows it; 0: none */
};

/* The kinds of schedule, the placements of a layout and what a schedule does with backwards, from 0, the default, on; NULL: there are no more.
 * What a kind needs of a layout, beside stages: its placement, and its chunks (0: any number). Whether it splits backwards. */
const char *bound_kind_name(uint32_t kind);
const char *bound_placement_name(uint32_t placement);
const char *bound_backward_name(uint32_t backward);
uint32_t bound_kind_placement(uint32_t kind);
uint32_t bound_kind_chunks(uint32_t kind);
bool bound_kind_splits(uint32_t kind);

struct bound;
struct bound *bound_new(const struct bound_job *job); /* owned: bound_free() */
void bound_free(struct bound *b);

/* NULL, or in a few words why no such strategy compiles: sizes that do not divide, what the kind refuses. Static, or in text. What
 * this does not refuse the compiler may. */
enum { BOUND_TEXT = 160 };
const char *bound_refuse(const struct bound *b, const struct bound_shape *s, char text[BOUND_TEXT]);

/* Seconds of a step, at least; of shapes that are not refused.
 * compute  the busiest rank computes all kernels of its stages for each microbatch, slower while rows of experts travel, or waits for these,
 *          and then updates its parameters
 * order    that rank waits for the first microbatch to come and for the last gradients to go, in the order of the schedule: the
 *          longest path through its cells, with the exchanges inside of passes that no other work can hide
 * links    a rank reduces gradients and gathers parameters, one after the other on a stream each, and all bytes of both through its ports */
double bound_compute(struct bound *b, const struct bound_shape *s);
double bound_order(struct bound *b, const struct bound_shape *s);
double bound_links(struct bound *b, const struct bound_shape *s);

/* Less than these, without what becomes of parameters: the same for whole families of shapes.
 * kernels  of compute, for whatever zero, zero_group and vocab
 * passes   of order, for whatever zero and vocab */
double bound_kernels(struct bound *b, const struct bound_shape *s);
double bound_passes(struct bound *b, const struct bound_shape *s);

/* Bytes of the rank that needs most, at least: of device memory where the target is one, with what libraries take. By kind: those of that
 * rank, which add up to the sum with what libraries take. Parameters, gradients, optimizer state and the snapshot lie there all the time;
 * of activations all that backwards still to come read, or with recompute the forwards that run again, of the microbatches that are under way at
 * once in the order of the schedule; rows that come to experts and from them are communication. */
double bound_memory(struct bound *b, const struct bound_shape *s, double by_kind[MEM_KINDS]);

#endif
