/* Private to src/cuda: the kernels by name and what stands beside them. A kernel's operands: src/exec/compute.h, all of them
 * device pointers; its equations: ir/op.h. A call enqueues on its stream and returns: it allocates nothing and waits
 * for nothing. Results depend on operands and sizes alone: sums have a fixed order, no float is added atomically.
 *
 * Operators compute in float32 whatever compute is; what they write is rounded once. For sum and copy, compute is the
 * type of the operands. */
#ifndef PIPER_CUDA_CUDA_H
#define PIPER_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "exec/compute.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Leaves the process, by its failure door, with the call and CUDA's words for the error; returns when there is none. */
void cuda__check(cudaError_t error, const char *call);

/* ---- operators: own kernels ------------------------------------------------------------------------------------- */

void cuda_embed_f(const struct op_args *a), cuda_embed_bw(const struct op_args *a);
void cuda_pos_embed_f(const struct op_args *a), cuda_pos_embed_bw(const struct op_args *a);
void cuda_layernorm_f(const struct op_args *a), cuda_layernorm_bi(const struct op_args *a);
void cuda_layernorm_bw(const struct op_args *a);
void cuda_rmsnorm_f(const struct op_args *a), cuda_rmsnorm_bi(const struct op_args *a);
void cuda_rmsnorm_bw(const struct op_args *a);
void cuda_rope_f(const struct op_args *a), cuda_rope_bi(const struct op_args *a);
void cuda_scale_f(const struct op_args *a), cuda_scale_bi(const struct op_args *a);
void cuda_clamp_f(const struct op_args *a), cuda_clamp_bi(const struct op_args *a);
void cuda_row_gate_f(const struct op_args *a), cuda_row_gate_bi(const struct op_args *a);
void cuda_join_heads_f(const struct op_args *a), cuda_join_heads_bi(const struct op_args *a);
void cuda_act_f(const struct op_args *a), cuda_act_bi(const struct op_args *a);
void cuda_swiglu_f(const struct op_args *a), cuda_swiglu_bi(const struct op_args *a);
void cuda_add_f(const struct op_args *a), cuda_sum_f(const struct op_args *a), cuda_copy_f(const struct op_args *a);
void cuda_to_blocks_f(const struct op_args *a), cuda_from_blocks_f(const struct op_args *a);
void cuda_router_f(const struct op_args *a), cuda_router_bi(const struct op_args *a);
void cuda_router_bw(const struct op_args *a);
void cuda_dispatch_f(const struct op_args *a), cuda_dispatch_bi(const struct op_args *a);
void cuda_combine_f(const struct op_args *a), cuda_combine_bi(const struct op_args *a);
/* Attention without tensor cores, any head size, for tests in float32 and for what cuDNN refuses; and the gradient of sinks. */
void cuda_attention_bw(const struct op_args *a);
void cuda_attention_f32_f(const struct op_args *a), cuda_attention_f32_bi(const struct op_args *a);
/* The same in bfloat16 on tensor cores, for any T: heads that cuda_attention_tiles() (ir/target_cuda_own.h) takes. */
void cuda_attention_tiles_f(const struct op_args *a), cuda_attention_tiles_bi(const struct op_args *a);
/* What both do of BI first; false: it was the last phase of a ring, or one whose keys nobody sees, and is done. */
bool cuda_attention_start(const struct op_args *a);
/* Experts that cuda_experts_grouped() (ir/target_cuda_own.h) says: their products in one launch each, sizes read on the device. */
void cuda_grouped_f(const struct op_args *a), cuda_grouped_bi(const struct op_args *a);
void cuda_grouped_bw(const struct op_args *a);

/* ---- two operators in one --------------------------------------------------------------------------------------- */

/* The norm is of the sum as it is rounded: the bits are those of the two, one after the other. */
void cuda_add_layernorm_f(const struct op_args *add, const struct op_args *norm);
void cuda_add_rmsnorm_f(const struct op_args *add, const struct op_args *norm);
/* Of a row that several devices have: not in one with a sum. */
static inline bool cuda_norm_is_part(const struct op_args *norm)
{
    return norm->positions && norm->positions->split == IR_WIDTH;
}
/* GELU's tanh form, of the product as it is before rounding; what `linear` would write in BI is not written. */
void cuda_linear_gelu_f(const struct op_args *linear, const struct op_args *gelu);
void cuda_linear_gelu_bi(const struct op_args *linear, const struct op_args *gelu);
/* The library wants the rows that it keeps for the backward a multiple of 8 elements apart, and adds nothing behind GELU. */
static inline bool cuda_linear_fits_gelu(const struct op_args *linear, const struct op_args *gelu, enum ir_pass pass)
{
    const uint32_t width = pass == IR_PASS_F ? linear->attrs->out_features : linear->attrs->in_features;
    const bool some_rows = linear->positions && linear->positions->split == IR_COLUMNS_OF_W; /* have the bias */
    return !some_rows && ir_op_act(gelu->op, gelu->attrs) == IR_ACT_GELU_TANH && gelu->attrs->features == width &&
           width % 8 == 0 && !linear->acc[0] && !gelu->acc[0];
}

/* ---- operators: libraries (cuBLASLt, cuDNN) --------------------------------------------------------------------- */

void cuda_linear_f(const struct op_args *a), cuda_linear_bi(const struct op_args *a);
void cuda_linear_bw(const struct op_args *a);
void cuda_attention_f(const struct op_args *a), cuda_attention_bi(const struct op_args *a);
void cuda_experts_f(const struct op_args *a), cuda_experts_bi(const struct op_args *a);
void cuda_experts_bw(const struct op_args *a);
void cuda_head_loss_f(const struct op_args *a), cuda_head_loss_bi(const struct op_args *a);
void cuda_head_loss_bw(const struct op_args *a);

/* ---- a step's other work ---------------------------------------------------------------------------------------- */

void cuda_update(const struct update_args *u, const struct step_inputs *s);
void cuda_checksum(const struct update_args *u, uint32_t arrays, bool check);
void cuda_balance(const struct balance_args *b, const struct step_inputs *s);
void cuda_clip(struct step_inputs *s, const double *scalars, double clip_norm, void *stream);
/* At most CUDA_SUMSQ_AT_ONCE calls may be under way at a time: each has a place of its own for its partial sums. */
enum { CUDA_SUMSQ_AT_ONCE = 64 };
void cuda_sumsq(const float *x, uint64_t n, double *sum, double *nonfinite, void *stream);
/* Writes s->epoch to a word of mapped host memory, after everything that the stream did before. */
void cuda_progress(uint32_t *mapped_word, const struct step_inputs *s, void *stream);

/* ---- parts of operators, for the files that call libraries ------------------------------------------------------ */

/* Cross-entropy of rows of logits: adds the losses to *loss, turns the logits into their gradient where they are. */
struct cuda_cross_entropy {
    void *logits;          /* (rows, ld); columns from vocab on are padding: not read, their gradient is 0 */
    const int32_t *target; /* (rows); < 0 counts nothing and has gradient 0 */
    uint64_t rows;
    uint32_t vocab, ld;
    uint32_t compute;     /* of the logits */
    bool gradient;        /* false: the logits stay as they are */
    double loss_scale;    /* of the gradient, */
    const double *weight; /* and this; NULL: 1 */
    float scale, cap;     /* of logits: a factor, a bound; 0: none */
    double *loss;         /* SCALAR_LOSS */
    double *work;         /* (rows) */
    void *stream;
};
void cuda_cross_entropy(const struct cuda_cross_entropy *c);
/* Where the words are split over parts. tell: of rows of the logits of the words that are here, the numbers of ir_op_part_shapes() into own
 * part of `told`; the logits stay. hear: from the numbers of all parts the losses of the device's own rows, and the gradient as above. */
struct cuda_words {
    struct cuda_cross_entropy
        c;               /* vocab: words here; target: of the whole vocabulary; hear without gradient: no logits */
    float *told;         /* (parts, all rows, 3) */
    uint64_t all, first; /* rows there are; the first of these */
    uint32_t part, parts, first_word;
    struct ir_run own; /* of all rows */
};
void cuda_words_tell(const struct cuda_words *w), cuda_words_hear(const struct cuda_words *w);

/* Sums over rows: db = sum of dy; with x, dw = sum of dy (x - mean) rstd, a norm's weight gradient. */
struct cuda_columns {
    const void *dy;           /* (rows, width), compute type, rows ld apart */
    const void *x;            /* as dy; NULL: only db */
    const float *mean, *rstd; /* (rows, width / group), with x; mean NULL: 0 */
    float *dw, *db;           /* (width); NULL: not asked for */
    bool add_dw, add_db;      /* add to dw, db, else write them */
    uint64_t rows;
    uint32_t width;
    uint32_t ld, group; /* 0: width */
    uint32_t compute;
    void *work; /* cuda_columns_workspace(rows, width) bytes (ir/target_cuda_own.h) */
    void *stream;
};
void cuda_column_sums(const struct cuda_columns *c);

/* What a product is added to where its bias acts on some rows: y (rows, width) is bias (width) there, else 0. */
struct cuda_bias_rows {
    void *y;
    const void *bias; /* both in compute type */
    uint64_t rows;
    struct ir_run biased;
    uint32_t width;
    uint32_t compute;
    void *stream;
};
void cuda_bias_rows(const struct cuda_bias_rows *c);
/* y += the bias of its expert, for the rows of experts e, e+1, .. (batch of them, n rows each) of an operator `experts`; the first of
 * them is row `row` of all. Rows beyond a count stay as they are. */
struct cuda_expert_bias {
    const struct op_args *a; /* of the operator: its counts and sizes */
    void *y;                 /* (batch*n, width), compute type */
    const void *bias;        /* (local experts, width), compute type */
    uint32_t width, e, batch;
    uint64_t n, row;
};
void cuda_expert_bias_add(const struct cuda_expert_bias *b);
/* The gradients of an operator's three biases. */
void cuda_expert_bias_sums(const struct op_args *a);
/* Elements from one type to the other, float32 or bfloat16 each, rounded to the nearest even. */
void cuda_convert(void *to, enum ir_dtype to_type, const void *from, enum ir_dtype from_type, uint64_t n, void *stream);

#ifdef __cplusplus
}
#endif
#endif
