/* The CUDA back end as the compiler sees it: scratch of every operator, before any library is asked. */
#include "ir/target_cuda.h"

#include <stddef.h>

#include "ir/target.h"
#include "ir/target_cuda_own.h"

enum { CUDA_CTAS = 16, CUDA_MESSAGE_CTAS = 4 }; /* of a communicator */
enum { SLICE_BYTES = 256 << 20 };               /* an attention slice's gradient of scores */

static uint64_t up(uint64_t x, uint64_t to)
{
    return (x + to - 1) / to * to;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- experts, head ---------------------------------------------------------------------------------------------- */

uint64_t cuda_expert_tile(const struct ir_attrs *a, uint32_t b, uint32_t t, uint32_t ep, uint32_t *experts)
{
    if (!a->capacity) {
        const uint64_t rows = (uint64_t)ep * b * t * a->top_k;
        *experts = 1;
        return rows < CUDA_EXPERT_ROWS ? rows : CUDA_EXPERT_ROWS;
    }
    const uint64_t rows = (uint64_t)b * a->capacity; /* of one expert, from one source device */
    const uint64_t fit = CUDA_EXPERT_ROWS / rows, local = a->experts / ep;
    *experts = (uint32_t)(fit < 1 ? 1 : fit < local ? fit : local);
    return *experts * rows;
}

uint64_t cuda_product_work(enum ir_op op, const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint32_t t,
                           uint32_t ep)
{
    const uint64_t rows = (uint64_t)b * t, enough = 32 << 20, least = 64 << 10;
    uint64_t elements;
    uint32_t experts;
    if (op == IR_OP_LINEAR) {
        elements = kernel == IR_PASS_F    ? rows * a->out_features
                   : kernel == IR_PASS_BI ? rows * a->in_features
                                          : (uint64_t)a->in_features * a->out_features;
    } else if (op == IR_OP_HEAD_LOSS) {
        elements = kernel == IR_PASS_F    ? rows * a->vocab
                   : kernel == IR_PASS_BI ? rows * a->features
                                          : (uint64_t)a->vocab * a->features;
    } else if (op == IR_OP_EXPERTS) {
        const uint64_t tile = cuda_expert_tile(a, b, t, ep, &experts);
        elements = kernel == IR_PASS_BW ? (uint64_t)experts * a->features * a->ffn : tile * most(a->features, a->ffn);
    } else {
        return 0;
    }
    const uint64_t bytes = up(least + 8 * elements * sizeof(float), CUDA_ALIGNMENT);
    return bytes < enough ? bytes : enough;
}

/* F: hidden layer, and in evaluation gate and up, which nobody keeps; BI: its gradient; BW: the hidden layer again. */
static uint64_t experts_bytes(const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint32_t t, uint32_t ep,
                              uint32_t size)
{
    uint32_t experts;
    const uint64_t tile = up(cuda_expert_tile(a, b, t, ep, &experts) * a->ffn * size, CUDA_ALIGNMENT);
    return (kernel == IR_PASS_F ? 3 : 1) * tile;
}

/* F: the loss of each row, float64; evaluation: a slice of logits. BW: sums of the bias. */
static uint64_t head_bytes(const struct ir_attrs *a, enum ir_pass kernel, uint64_t rows, uint32_t size)
{
    if (kernel != IR_PASS_F)
        return kernel == IR_PASS_BW && a->flags & IR_BIAS ? cuda_columns_workspace(rows, a->vocab) : 0;
    const uint64_t slice = rows < CUDA_HEAD_ROWS ? rows : CUDA_HEAD_ROWS;
    return up(rows * sizeof(double), CUDA_ALIGNMENT) + slice * ir_op_logit_columns(a) * size;
}

/* ---- attention ---------------------------------------------------------------------------------------------------- */

/* What its graph here does not say: a window, a bound of scores, sinks, values of another width. */
static bool plain_attention(const struct ir_attrs *a)
{
    return !a->window && !(a->score_cap > 0) && !(a->flags & IR_SINKS) && ir_op_v_dim(a) == a->head_dim;
}

bool cuda_attention_by_library(const struct ir_attrs *a, enum ir_dtype compute)
{
    return plain_attention(a) && compute == IR_BF16 && a->head_dim % 8 == 0 &&
           a->head_dim <= CUDA_LIBRARY_ATTENTION_DIM;
}

/* What engines of cuDNN 9.19 ask for: the gradient of scores in bfloat16, lengths rounded up to a tile of 128, and for
 * grouped queries dK and dV of every query head. */
static uint64_t engine_bytes(const struct ir_attrs *a, uint64_t heads, uint32_t t)
{
    const uint64_t tiles = up(t, 128);
    const uint64_t full = a->heads == a->kv_heads ? 0 : 2 * heads * t * a->head_dim * 2;
    return heads * tiles * tiles * 2 + full;
}

bool cuda_attention_backward_by_library(const struct ir_attrs *a, uint32_t t, enum ir_dtype compute)
{
    return cuda_attention_by_library(a, compute) && engine_bytes(a, a->heads / a->kv_heads, t) <= SLICE_BYTES;
}

struct cuda_attention_slice cuda_attention_slice(const struct ir_attrs *a, uint32_t b, uint32_t t)
{
    const uint32_t group = a->heads / a->kv_heads;
    const uint64_t one_head = engine_bytes(a, group, t), one = engine_bytes(a, a->heads, t);
    struct cuda_attention_slice s = { .sequences = 1, .kv_heads = a->kv_heads };
    /* divisors only, so that one plan serves all slices */
    if (one <= SLICE_BYTES)
        for (uint32_t n = 1; n <= b; n++)
            s.sequences = b % n == 0 && n * one <= SLICE_BYTES ? n : s.sequences;
    else
        for (uint32_t n = s.kv_heads = 1; n <= a->kv_heads; n++)
            s.kv_heads = a->kv_heads % n == 0 && n * one_head <= SLICE_BYTES ? n : s.kv_heads;
    const uint64_t heads = (uint64_t)s.sequences * s.kv_heads * group;
    s.sums = up(heads * t * sizeof(float), CUDA_ALIGNMENT);
    s.engine = up(engine_bytes(a, heads, t) + 4096, CUDA_ALIGNMENT);
    return s;
}

static uint64_t attention_bytes(const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint32_t t,
                                enum ir_dtype compute)
{
    /* also where a library computes: our kernel takes over where a gradient is added to another */
    const uint64_t own = cuda_own_workspace(&(struct ir_kernel){
        .op = IR_OP_ATTENTION, .pass = kernel, .attrs = a, .b = b, .t = t, .ep = 1, .compute = compute });
    if (!cuda_attention_by_library(a, compute) ||
        (kernel == IR_PASS_BI && !cuda_attention_backward_by_library(a, t, compute)))
        return own;
    if (kernel == IR_PASS_F) /* evaluation: the statistics that nobody keeps */
        return most(own, up((uint64_t)b * a->heads * t * sizeof(float), CUDA_ALIGNMENT) + 4096);
    const struct cuda_attention_slice s = cuda_attention_slice(a, b, t);
    return most(own, s.sums + s.engine);
}

/* ---- the row ------------------------------------------------------------------------------------------------------ */

static uint64_t cuda_workspace(const struct ir_kernel *k)
{
    const struct ir_attrs *a = k->attrs;
    const enum ir_op op = k->op;
    const enum ir_pass kernel = k->pass;
    const enum ir_dtype compute = k->compute;
    const uint32_t b = k->b, t = k->t, ep = k->ep;
    const uint64_t rows = (uint64_t)b * t, products = cuda_product_work(op, a, kernel, b, t, ep);
    const uint32_t size = ir_dtype_size(IR_COMPUTE, compute);
    switch (op) {
    case IR_OP_LINEAR:
        return products +
               (kernel == IR_PASS_BW && a->flags & IR_BIAS ? cuda_columns_workspace(rows, a->out_features) : 0);
    case IR_OP_ATTENTION:
        return attention_bytes(a, kernel, b, t, compute);
    case IR_OP_EXPERTS:
        if (cuda_experts_grouped(a))
            break;
        return products + experts_bytes(a, kernel, b, t, ep, size);
    case IR_OP_HEAD_LOSS:
        return products + head_bytes(a, kernel, rows, size);
    default:
        break;
    }
    return cuda_own_workspace(k);
}

static const char *cuda_unsupported(enum ir_op op, const struct ir_attrs *a, uint32_t t, enum ir_dtype compute)
{
    if (compute != IR_F32 && compute != IR_BF16)
        return "the CUDA kernels compute in bfloat16 or float32; set \"dtype\" in train.json to one of them";
    if (op == IR_OP_EXPERTS && (uint64_t)a->features * a->ffn > INT32_MAX)
        return "the CUDA kernels of experts take less than 2^31 weights per matrix; use smaller experts or --device "
               "cpu";
    if (op == IR_OP_ATTENTION && t > CUDA_MAX_ATTENTION_T && !cuda_attention_tiles(a, compute))
        return "attention in float32, or with a head_dim above 256 or not a multiple of 8, takes at most 4096 tokens "
               "per sequence on CUDA; use bfloat16 with such a head_dim, shorter sequences or --device cpu";
    if (op == IR_OP_ATTENTION && (a->head_dim > CUDA_MAX_ATTENTION_DIM || ir_op_v_dim(a) > CUDA_MAX_ATTENTION_DIM))
        return "attention on CUDA takes a head_dim of at most 1024; use more heads or --device cpu";
    return cuda_own_unsupported(op, a, compute);
}

/* A context with the kernels of the libraries, what cuBLASLt and cuDNN hold, the parent of all communicators, and a
 * communicator's buffers: NCCL's default is about 4 MiB a thread block and direction. An estimate: src/exec/device_ops.h's memory()
 * tells what is free in truth. */
static uint64_t cuda_outside(uint32_t communicators, uint32_t lanes)
{
    const uint64_t mib = 1 << 20, each = 8;
    return (500 + 100) * mib + (communicators || lanes ? 32 * mib : 0) +
           (communicators * (uint64_t)CUDA_CTAS + lanes * (uint64_t)CUDA_MESSAGE_CTAS) * each * mib;
}

const struct ir_target ir_target_cuda = {
    .name = "cuda",
    .alignment = CUDA_ALIGNMENT,
    .workspace = cuda_workspace,
    .unsupported = cuda_unsupported,
    .device = true,
    .multiprocessors = 108, /* A100; H100 and H200 have 132, an H100 for PCIe 114 */
    .ctas = CUDA_CTAS,
    .message_ctas = CUDA_MESSAGE_CTAS,
    .outside = cuda_outside,
};
