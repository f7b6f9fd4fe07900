/* Sizes on which the CUDA back end (src/cuda/) and its workspaces (ir/target_cuda.c) agree. */
#ifndef PIPER_IR_TARGET_CUDA_H
#define PIPER_IR_TARGET_CUDA_H

#include "ir/op.h"

enum {
    CUDA_ALIGNMENT = 256,
    CUDA_HEAD_ROWS = 1024, /* evaluation: rows of logits at a time */
};

/* Bytes that the matrix products of a kernel may take: they stand first in its workspace. Enough for 8 partial sums of its
 * result, 32 MiB at most (NVIDIA's advice for Hopper). 0: the operator has no products. */
uint64_t cuda_product_work(enum ir_op op, const struct ir_attrs *a, enum ir_pass kernel, uint32_t b, uint32_t t,
                           uint32_t ep);

/* Rows of experts computed at a time: whole experts in capacity mode (*experts of them), else a piece of one. */
uint64_t cuda_expert_tile(const struct ir_attrs *a, uint32_t b, uint32_t t, uint32_t ep, uint32_t *experts);

/* Attention by cuDNN. Its backward is bit-reproducible only where the gradient of the scores (b, heads, T, T) lies in memory, so
 * it runs on a slice at a time: some sequences, or some key/value heads of one with the query heads that read them. */
struct cuda_attention_slice {
    uint32_t sequences, kv_heads;
    uint64_t sums;   /* bytes of sum(dO O), (sequences, heads, T) float32 */
    uint64_t engine; /* bytes that an engine may take */
};
/* False: not by cuDNN but by our own kernels: float32, other head sizes, attributes that its graph does not say; and backward where
 * the gradient of scores of one key/value head's slice is larger than SLICE_BYTES: it grows with T x T, and ours needs none. */
bool cuda_attention_by_library(const struct ir_attrs *a, enum ir_dtype compute);
bool cuda_attention_backward_by_library(const struct ir_attrs *a, uint32_t t, enum ir_dtype compute);
struct cuda_attention_slice cuda_attention_slice(const struct ir_attrs *a, uint32_t b, uint32_t t);

#endif
