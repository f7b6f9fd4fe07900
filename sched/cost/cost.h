/* Predicted times: kernels from their operations and bytes, communications from bytes, members and links.
 *
 * A kernel takes what the machine's points say, interpolated; without points the roofline, launch + max(operations / rate,
 * bytes / bandwidth). A communication takes latency times its rounds, what its busiest port carries, and the sums of its
 * terms, with the rounds and volumes of the back end's algorithms (comm/mpi_rounds.c; rings as in NCCL). Pure: no MPI, no
 * files. */
#ifndef PIPER_SCHED_COST_H
#define PIPER_SCHED_COST_H

#include "ir/graph.h"
#include "ir/machine.h"
#include "ir/plan.h"

struct cost_kernel {
    uint32_t op, pass; /* F, BI, BW */
    const struct ir_attrs *attrs;
    uint32_t b, t, ep; /* sequences, their length, devices that the experts are split over */
    uint32_t compute;  /* IR_F32 or IR_BF16 */
    uint64_t n;        /* SUM, COPY: elements */
    double portion;    /* plan_portion(); 0: all */
    /* NULL: the whole operator. Else attrs and t are those of a part, which is cut out so; run: where its tokens stand */
    const struct ir_share *share;
    struct ir_run run[2];
};
double cost_kernel(const struct machine *m, const struct cost_kernel *k); /* seconds */
/* The measure of a kernel's points: its work, and its narrowest side. */
void cost_kernel_size(const struct cost_kernel *k, double *work, double *width);
/* Seconds of a kind of enum machine_extra on n elements. */
double cost_elements(const struct machine *m, uint32_t kind, double n, uint32_t compute);
double cost_element_bytes(uint32_t kind, uint32_t compute); /* bytes that an element moves */
/* Seconds of a program of the plan on microbatches of b sequences. */
double cost_program(const struct machine *m, const struct plan *p, uint32_t program, uint32_t b,
                    const struct ir_graph *g);

/* What a communication of a class takes when it is alone, and the share of that time in which it keeps each kind of link
 * busy: of the rank's own port, and of what the ranks of a node (an island) share. */
struct cost_transfer {
    double seconds, rounds; /* latencies of its farthest link among them */
    double latency;         /* of all of them: seconds in which no byte moves */
    double port[LINK_COUNT], shared[LINK_COUNT];
};
/* Groups and pairs of a class as the links see them: counted once, asked for every instruction. */
struct cost_pair; /* sched/cost/comm.c */
struct cost_class {
    const struct machine *m;
    const struct plan *p; /* borrowed */
    const struct ir_graph *g;
    struct cost_ends *groups; /* by group */
    struct {
        VEC(struct cost_pair);
    } pairs; /* those that were asked for: a class has few */
};
void cost_class_init(struct cost_class *c, const struct machine *m, const struct plan *p, const struct ir_graph *g);
void cost_class_release(struct cost_class *c);
/* False: the instruction is no communication. */
bool cost_transfer(struct cost_class *c, const struct plan_list *l, const struct plan_instr *in,
                   struct cost_transfer *out);
/* The same without a plan: as member `self` sees it of a communication among these ranks. bytes: of the instruction's count; of
 * ALL_TO_ALL_V what is sent to each member. */
struct cost_transfer cost_alone(const struct machine *m, enum plan_op op, const uint32_t *ranks, uint32_t n,
                                uint32_t self, double bytes);
/* Seconds of any instruction; of a RUN, its program's, which must be filled in. */
double cost_instr(struct cost_class *c, const struct plan_list *l, const struct plan_instr *in);

/* Writes the predicted times of programs and instructions into a validated plan; blob is where p looks. False: one is no time of a plan. */
bool cost_fill(const struct machine *m, const struct ir_graph *g, const struct plan *p, void *blob);

#endif
