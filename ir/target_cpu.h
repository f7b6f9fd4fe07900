/* Sizes on which the CPU kernels (src/cpu/) and their workspace (ir/target_cpu.c) agree. */
#ifndef PIPER_IR_TARGET_CPU_H
#define PIPER_IR_TARGET_CPU_H

#include <stdbool.h>

#include "ir/op.h"

enum {
    CPU_EXPERT_ROWS = 256, /* rows of an expert that are computed at a time */
    CPU_HEAD_ROWS = 256,   /* evaluation: a slice of logits */
    CPU_HEAD_COLUMNS = 1024,
};

/* Operators whose kernels take bfloat16 as it is; the others get their operands as float32 (src/cpu/bf16.c). */
static inline bool cpu_takes_half(enum ir_op op)
{
    return op == IR_OP_EMBED || op == IR_OP_LINEAR || op == IR_OP_EXPERTS || op == IR_OP_HEAD_LOSS;
}

#endif
