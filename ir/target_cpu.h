/* Sizes on which the CPU kernels (src/cpu/) and their workspace (ir/target_cpu.c) agree. */
#ifndef PIPER_IR_TARGET_CPU_H
#define PIPER_IR_TARGET_CPU_H

enum {
    CPU_EXPERT_ROWS = 256, /* rows of an expert that are computed at a time */
    CPU_HEAD_ROWS = 256,   /* evaluation: a slice of logits */
    CPU_HEAD_COLUMNS = 1024,
};

#endif
