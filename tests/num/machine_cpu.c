/* The CPU back end: with one thread, with three, and in bfloat16. */
#include "ir/target.h"
#include "num/machine.h"

static void one_thread(void)
{
    compute_cpu.set_threads(1);
}

static void three_threads(void)
{
    compute_cpu.set_threads(3);
}

static const struct machine one = { .name = "cpu",
                                    .backend = &compute_cpu,
                                    .compute = IR_F32,
                                    .positions = true,
                                    .workspace = ir_cpu_workspace,
                                    .setup = one_thread };
static const struct machine three = { .name = "cpu, three threads",
                                      .backend = &compute_cpu,
                                      .compute = IR_F32,
                                      .positions = true,
                                      .workspace = ir_cpu_workspace,
                                      .setup = three_threads };
static const struct machine narrow = { .name = "cpu, bfloat16",
                                       .backend = &compute_cpu,
                                       .compute = IR_BF16,
                                       .positions = true,
                                       .workspace = ir_cpu_workspace,
                                       .setup = one_thread };
const struct machine *const machines[] = { &one, &three, &narrow, NULL };
