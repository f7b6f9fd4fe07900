/* Scratch of the CPU kernels: what each file of src/cpu/ says about `work`, in bytes. */
#include "ir/target_cpu.h"

#include "ir/target.h"

#include <stddef.h>

static uint64_t up64(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint64_t experts_bytes(const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint32_t t, uint32_t ep,
                              enum ir_dtype compute)
{
    const uint64_t most = (uint64_t)ep * b * (a->capacity ? a->capacity : (uint64_t)t * a->top_k);
    const uint64_t rows = most < CPU_EXPERT_ROWS ? most : CPU_EXPERT_ROWS;
    const uint64_t tile = up64(rows * a->ffn * ir_dtype_size(IR_COMPUTE, compute));
    const uint64_t tiles = kernel == IR_PASS_F ? 2 : 1; /* evaluation keeps no gate and up */
    const uint64_t sum = kernel == IR_PASS_BI && compute == IR_BF16 ? rows * a->features * sizeof(float) : 0;
    return (a->capacity ? 0 : up64(a->experts * sizeof(uint64_t))) + tiles * tile + sum;
}

static uint64_t head_bytes(const struct ir_attrs *a, uint64_t rows)
{
    const uint64_t m = rows < CPU_HEAD_ROWS ? rows : CPU_HEAD_ROWS;
    const uint64_t n = a->vocab < CPU_HEAD_COLUMNS ? a->vocab : CPU_HEAD_COLUMNS;
    return up64(rows * sizeof(double)) + m * n * sizeof(float);
}

/* src/cpu/bf16.c: every operand in the compute type once more, in float32. */
static uint64_t wide_bytes(const struct ir_kernel *k)
{
    const uint64_t b = k->b;
    const enum ir_pass kernel = k->pass;
    struct ir_op_shapes s;
    ir_op_part_shapes(k->op, k->attrs, k->t, &k->share, &s);
    const struct {
        const struct ir_shape *at;
        uint32_t n;
        uint64_t times;
    } groups[] = {
        { s.in, IR_MAX_IN, b * (kernel == IR_PASS_BI ? 2 : 1) }, /* and their gradients */
        { s.out, IR_MAX_OUT, b * (kernel == IR_PASS_F ? 1 : 2) },
        { s.save, IR_MAX_SAVE, b },
        { s.stash, IR_MAX_STASH, b },
        { s.param, IR_MAX_PARAM, 1 },
    };
    uint64_t sum = 0;
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        for (uint32_t i = 0; i < groups[g].n; i++)
            if (groups[g].at[i].ndim && groups[g].at[i].dtype == IR_COMPUTE)
                sum += up64(groups[g].times * ir_shape_elements(&groups[g].at[i]) * sizeof(float)) + 64;
    return sum;
}

/* struct router_work in src/cpu/router.c. F: scores, when they are not kept, and with them logits; of a row its sum of scores, its
 * log-sum-exp. BI: the gradient of the scores of each sequence. Both: the best k by score alone. */
static uint64_t router_bytes(const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint64_t rows)
{
    const uint64_t plain = ir_op_counts_apart(a) ? rows * a->top_k : 0;
    const uint32_t width = a->z_coef > 0 ? 2 * a->experts : a->experts;
    const uint32_t sums = (a->flags & IR_SEQUENCE_LOSS ? 1 : 0) + (a->z_coef > 0 ? 1 : 0);
    return kernel == IR_PASS_F    ? (rows * (width + sums) + plain) * sizeof(float)
           : kernel == IR_PASS_BI ? ((uint64_t)b * a->experts + plain) * sizeof(float)
                                  : 0;
}

static uint64_t own_bytes(const struct ir_kernel *k)
{
    const struct ir_attrs *a = k->attrs;
    const enum ir_pass kernel = k->pass;
    const uint32_t b = k->b, t = k->t;
    const uint64_t rows = (uint64_t)b * t;
    switch (k->op) {
    case IR_OP_ROPE: /* cos and sin of every position */
        return (uint64_t)t * ir_op_rotary(a) * sizeof(float);
    case IR_OP_ATTENTION: /* sum of dO O per head and row */
        return kernel == IR_PASS_BI ? rows * a->heads * sizeof(float) : 0;
    case IR_OP_ROUTER:
        return router_bytes(a, kernel, b, rows);
    case IR_OP_DISPATCH: /* next free row per sequence and expert */
        return kernel == IR_PASS_F && !a->capacity ? (uint64_t)b * a->experts * sizeof(int32_t) : 0;
    case IR_OP_EXPERTS:
        return experts_bytes(a, kernel, b, t, k->ep, k->compute);
    case IR_OP_HEAD_LOSS:
        return kernel == IR_PASS_F ? head_bytes(a, rows) : 0;
    default:
        return 0;
    }
}

uint64_t ir_cpu_workspace(const struct ir_kernel *k)
{
    const bool wide = k->compute == IR_BF16 && k->op < IR_OP_GRAPH_COUNT && !cpu_takes_half(k->op);
    return own_bytes(k) + (wide ? wide_bytes(k) : 0);
}
