/* What a compute back end tells the compiler: pure functions, compiled in always, so that a login node plans for a GPU.
 * Each back end has one row; src hands it to sched. */
#ifndef PIPER_IR_TARGET_H
#define PIPER_IR_TARGET_H

#include "ir/split.h"

struct ir_target {
    const char *name;   /* "cpu", "cuda", "emulate" */
    uint32_t alignment; /* bytes: every buffer and every parameter in a bucket starts at a multiple */
    uint64_t (*workspace)(const struct ir_kernel *k); /* scratch bytes; the same for all its phases */
    /* NULL when the operator can run on sequences of length t; else a sentence why not. */
    const char *(*unsupported)(enum ir_op op, const struct ir_attrs *a, uint32_t t, enum ir_dtype compute);
    bool device; /* memory of its own; what is for the host then lies in the host's (plan_arena_on_host()) */
    /* What runs communications: multiprocessors that the smallest device of this kind has, 0: nothing is shared; and thread
     * blocks that a communicator takes where the strategy does not say: one for collectives, one for messages. */
    uint32_t multiprocessors, ctas, message_ctas;
    /* Estimate of memory outside our arenas, bytes: context, library handles, communicators of groups and of messages. */
    uint64_t (*outside)(uint32_t communicators, uint32_t lanes);
};

/* workspace() of the CPU kernels (ir/target_cpu.c), kept in step with src/cpu/. */
uint64_t ir_cpu_workspace(const struct ir_kernel *k);

/* Thread blocks of a stream's communicators; asked: by the strategy, 0: it does not say. */
static inline uint32_t ir_target_ctas(const struct ir_target *t, uint32_t asked, bool collectives)
{
    return asked ? asked : collectives ? t->ctas : t->message_ctas;
}

extern const struct ir_target ir_target_cpu, ir_target_cuda, ir_target_emulate;
/* NULL when there is no such name. */
const struct ir_target *ir_target_by_name(const char *name);

#endif
