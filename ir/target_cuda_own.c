/* Scratch of the own CUDA kernels: what each file of src/cuda says about `work`, in bytes. */
#include "ir/target_cuda_own.h"

#include <stddef.h>

static uint64_t up64(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint64_t over(uint64_t n, uint64_t each)
{
    return (n + each - 1) / each;
}

uint32_t cuda_parts(uint64_t rows, uint32_t least_rows, uint32_t most_parts)
{
    const uint64_t n = over(rows, least_rows);
    return n > most_parts ? most_parts : n ? (uint32_t)n : 1;
}

uint32_t cuda_sort_passes(uint32_t below)
{
    uint32_t n = 1;
    for (uint64_t reach = CUDA_SORT_BINS; reach < below; reach *= CUDA_SORT_BINS)
        n++;
    return n;
}

uint64_t cuda_columns_workspace(uint64_t rows, uint32_t width)
{
    return 2ull * cuda_parts(rows, CUDA_COLUMN_ROWS, CUDA_COLUMN_PARTS) * width * sizeof(float);
}

/* Column sums of groups, or, with weights of each head, of rows. */
static uint64_t norm_bytes(const struct ir_attrs *a, uint64_t rows)
{
    const uint32_t groups = ir_op_norm_groups(a);
    return a->flags & IR_PER_HEAD ? cuda_columns_workspace(rows, groups * a->features)
                                  : cuda_columns_workspace(rows * groups, a->features);
}

/* Keys and rows, twice; counts of bins; two partial sums for each block. */
static uint64_t embed_bytes(const struct ir_attrs *a, uint64_t rows)
{
    return 4 * up64(rows * sizeof(int32_t)) + up64((CUDA_SORT_BINS * over(rows, CUDA_BIN_TILE) + 1) * sizeof(int32_t)) +
           over(rows, CUDA_EMBED_ROWS) * 2 * a->features * sizeof(float);
}

static uint64_t router_bytes(const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint64_t rows)
{
    const uint64_t plain = ir_op_counts_apart(a) ? rows * a->top_k * sizeof(int32_t) : 0;
    const uint32_t width = a->z_coef > 0 ? 2 * a->experts : a->experts;
    const uint32_t sums = (a->flags & IR_SEQUENCE_LOSS ? 1 : 0) + (a->z_coef > 0 ? 1 : 0);
    if (kernel ==
        IR_PASS_F) /* balance loss of each sequence; scores and logits, when they are not kept; struct router_work */
        return up64(b * sizeof(double)) + rows * (width + sums) * sizeof(float) + plain;
    if (kernel == IR_PASS_BI) /* auxiliary gradient of each sequence and expert */
        return (uint64_t)b * a->experts * sizeof(float) + plain;
    const uint64_t bias = a->flags & IR_BIAS ? cuda_columns_workspace(rows, a->experts) : 0;
    const uint64_t product = (uint64_t)cuda_parts(rows, CUDA_PRODUCT_ROWS, CUDA_PRODUCT_PARTS) * a->experts *
                             a->features * sizeof(float);
    return bias > product ? bias : product;
}

bool cuda_attention_tiles(const struct ir_attrs *a, enum ir_dtype compute)
{
    const uint32_t d = a->head_dim, dv = ir_op_v_dim(a);
    return compute == IR_BF16 && d % 8 == 0 && dv % 8 == 0 && d <= CUDA_TILE_DIM && dv <= CUDA_TILE_DIM;
}

bool cuda_experts_grouped(const struct ir_attrs *a)
{
    return !a->capacity && a->ffn < CUDA_EXPERT_WIDE && a->features % 8 == 0 && a->ffn % 8 == 0 &&
           a->experts <= CUDA_MAX_EXPERTS;
}

struct cuda_group_work cuda_group_work(const struct ir_attrs *a, uint32_t b, uint32_t t, uint32_t ep)
{
    struct cuda_group_work w = { .tiles = (uint64_t)ep * b * t * a->top_k / CUDA_GROUP_ROWS + a->experts };
    w.map = up64((a->experts + 1) * sizeof(int32_t));
    w.hidden = w.map + up64(w.tiles * CUDA_GROUP_TILE_BYTES);
    return w;
}

static uint64_t experts_bytes(const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint32_t t, uint32_t ep,
                              enum ir_dtype compute)
{
    const uint64_t rows = (uint64_t)ep * b * t * a->top_k, tile = rows < CUDA_EXPERT_ROWS ? rows : CUDA_EXPERT_ROWS;
    return cuda_group_work(a, b, t, ep).hidden +
           (kernel == IR_PASS_BI ? 0 : tile * a->ffn * ir_dtype_size(IR_COMPUTE, compute));
}

/* Counts of tiles by expert; of whole sequences, the first row and the rows of the first run of each sequence and expert. */
static uint64_t dispatch_bytes(const struct ir_kernel *k)
{
    const uint64_t bins = (uint64_t)k->attrs->experts * k->b;
    const uint64_t tiles = bins * over((uint64_t)k->t * k->attrs->top_k, CUDA_BIN_TILE) + 1;
    return (tiles + (k->share.split == IR_COUNTS ? 2 * bins + 1 : 0)) * sizeof(int32_t);
}

uint64_t cuda_own_workspace(const struct ir_kernel *k)
{
    const struct ir_attrs *a = k->attrs;
    const enum ir_pass kernel = k->pass;
    const uint32_t b = k->b, t = k->t;
    const uint64_t rows = (uint64_t)b * t;
    switch (k->op) {
    case IR_OP_EMBED:
        return kernel == IR_PASS_BW ? embed_bytes(a, rows) : 0;
    case IR_OP_LAYERNORM:
    case IR_OP_RMSNORM:
        return kernel == IR_PASS_BW ? norm_bytes(a, rows) : 0;
    case IR_OP_ROUTER:
        return router_bytes(a, kernel, b, rows);
    case IR_OP_DISPATCH:
        return kernel == IR_PASS_F ? dispatch_bytes(k) : 0;
    case IR_OP_COMBINE: /* which rows have a token */
        return kernel == IR_PASS_BI && a->capacity ? (uint64_t)b * a->experts * a->capacity : 0;
    case IR_OP_EXPERTS:
        return cuda_experts_grouped(a) ? experts_bytes(a, kernel, b, t, k->ep, k->compute) : 0;
    case IR_OP_ATTENTION: /* sum of dO O per head and row */
        return kernel == IR_PASS_BI ? rows * a->heads * sizeof(float) : 0;
    default:
        return 0;
    }
}

const char *cuda_own_unsupported(enum ir_op op, const struct ir_attrs *a, enum ir_dtype compute)
{
    if ((op == IR_OP_ROUTER || op == IR_OP_DISPATCH) && a->experts > CUDA_MAX_EXPERTS)
        return "the CUDA kernels route to at most 1024 experts; use fewer, or --device cpu";
    if (op == IR_OP_ROUTER && a->groups > CUDA_MAX_GROUPS)
        return "the CUDA kernels choose from at most 512 groups of experts; use fewer, or --device cpu";
    if (op == IR_OP_ATTENTION && a->flags & IR_DOCUMENTS && !cuda_attention_tiles(a, compute))
        return "attention on CUDA keeps documents apart only in bfloat16, with a head_dim and v_head_dim that are "
               "multiples of 8, up to "
               "256; use \"dtype\": \"bfloat16\", \"documents\": \"join\", or --device cpu";
    if (op == IR_OP_ROPE && ir_op_rotary(a) > CUDA_MAX_ROPE_DIM)
        return "rope on CUDA rotates at most 512 elements of a head; use --device cpu";
    return NULL;
}
