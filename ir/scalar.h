/* The sums of a step: what kernels add to, ranks add up and plans have room for. */
#ifndef PIPER_IR_SCALAR_H
#define PIPER_IR_SCALAR_H

/* Per-step sums, in float64, in ARENA_SCALARS; zeroed when a step begins, summed over all ranks before they are read. Behind them
 * stand the loads of experts: how many tokens have chosen each (ir_graph_loads). */
enum scalar {
    SCALAR_LOSS,
    SCALAR_AUX,
    SCALAR_DROPPED,
    SCALAR_ROUNDS, /* further rounds of experts, of the first member of each group */
    SCALAR_NORM2,
    SCALAR_NONFINITE,
    SCALAR_STOP, /* ranks that were asked to stop before this step, and to write a checkpoint: so all learn it at once */
    SCALAR_SAVE,
    SCALAR_WRITTEN, /* ranks that have done their share of the checkpoint under way */
    SCALAR_COUNTED, /* targets that count, of which samples the caller knows: each rank those of its share of them */
    SCALAR_COUNT
};
#endif
