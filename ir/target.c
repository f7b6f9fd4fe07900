/* What compute back ends tell the compiler: one row each. */
#include "ir/target.h"

#include <stddef.h>
#include <string.h>

static const char *host_unsupported(enum ir_op op, const struct ir_attrs *a, uint32_t t, enum ir_dtype compute)
{
    (void)op;
    (void)a;
    (void)t;
    (void)compute;
    return NULL;
}

/* Measured with Open MPI 4.1: a fresh process has 40 MB resident (libraries, BLAS buffers), and large collectives leave
 * 64 MB more in the transport. */
static uint64_t host_outside(uint32_t communicators, uint32_t lanes)
{
    return ((uint64_t)40 << 20) + (communicators || lanes ? (uint64_t)64 << 20 : 0);
}

const struct ir_target ir_target_cpu = {
    .name = "cpu",
    .alignment = 64,
    .workspace = ir_cpu_workspace,
    .unsupported = host_unsupported,
    .outside = host_outside,
};

/* Plans like the CPU, so that its arenas are those of a real run; computes nothing, so it can do everything. */
const struct ir_target ir_target_emulate = {
    .name = "emulate",
    .alignment = 64,
    .workspace = ir_cpu_workspace,
    .unsupported = host_unsupported,
    .outside = host_outside,
};

static const struct ir_target *const targets[] = { &ir_target_cpu, &ir_target_cuda, &ir_target_emulate };

const struct ir_target *ir_target_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (strcmp(name, targets[i]->name) == 0)
            return targets[i];
    return NULL;
}
