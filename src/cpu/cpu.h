/* Private to src/cpu: the kernels by name, threads and rows. A kernel's operands: src/exec/compute.h; its equations:
 * ir/op.h. */
#ifndef PIPER_CPU_CPU_H
#define PIPER_CPU_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "exec/compute.h"
#include "cpu/vec.h"

void cpu_team_set(int n);
int cpu_threads(void);
/* Threads of a parallel region over rows * width elements: 1 when it is not worth waking the others, else all of them
 * (a team that changes its size makes OpenMP start threads anew). */
int cpu_team(uint64_t rows, uint64_t width);
enum { CPU_PIECE = 1 << 14 }; /* elements a thread takes at a time in flat loops */

/* By all threads; to may be from. */
void cpu_copy(void *to, const void *from, uint64_t bytes);
/* out[0..n) = acc, by all threads, unless acc is NULL or out itself: for kernels that add to what is there. */
void cpu_start_from(float *out, const float *acc, uint64_t n);
void cpu_zero(float *out, uint64_t n);

static inline size_t cpu_rows(const struct op_args *a)
{
    return (size_t)a->b * a->t;
}

/* The row of token i of sequence s; the token of row r, and its sequence. In (t,b) order row_s is 1. */
static inline size_t cpu_row(const struct op_args *a, size_t s, size_t i)
{
    const struct op_positions *p = a->positions;
    return p ? s * p->row_s + i * p->row_i : s * a->t + i;
}

static inline bool cpu_token_major(const struct op_args *a)
{
    return a->positions && a->positions->row_s == 1 && a->t > 1;
}

static inline size_t cpu_token(const struct op_args *a, size_t r)
{
    return cpu_token_major(a) ? r / a->positions->row_i : r % a->t;
}

static inline size_t cpu_sequence(const struct op_args *a, size_t r)
{
    return cpu_token_major(a) ? r % a->positions->row_i : r / a->t;
}

/* What row r's token has of the table of pos_embed: its position in the sequence, or in its document. */
static inline size_t cpu_position(const struct op_args *a, size_t r)
{
    const size_t i = op_position(a->positions, (uint32_t)cpu_token(a, r)),
                 t = a->positions ? a->positions->t_all : a->t;
    return i - (a->document ? (size_t)a->document[cpu_sequence(a, r) * t + i] : 0);
}

static inline bool cpu_half(const struct op_args *a)
{
    return a->compute == IR_BF16;
}

void cpu_embed_f(const struct op_args *a), cpu_embed_bw(const struct op_args *a);
void cpu_pos_embed_f(const struct op_args *a), cpu_pos_embed_bw(const struct op_args *a);
void cpu_layernorm_f(const struct op_args *a), cpu_layernorm_bi(const struct op_args *a);
void cpu_layernorm_bw(const struct op_args *a);
void cpu_rmsnorm_f(const struct op_args *a), cpu_rmsnorm_bi(const struct op_args *a);
void cpu_rmsnorm_bw(const struct op_args *a);
void cpu_linear_f(const struct op_args *a), cpu_linear_bi(const struct op_args *a),
    cpu_linear_bw(const struct op_args *a);
void cpu_rope_f(const struct op_args *a), cpu_rope_bi(const struct op_args *a);
void cpu_attention_f(const struct op_args *a), cpu_attention_bi(const struct op_args *a),
    cpu_attention_bw(const struct op_args *a);
void cpu_act_f(const struct op_args *a), cpu_act_bi(const struct op_args *a);
void cpu_swiglu_f(const struct op_args *a), cpu_swiglu_bi(const struct op_args *a);
void cpu_add_f(const struct op_args *a);
void cpu_row_gate_f(const struct op_args *a), cpu_row_gate_bi(const struct op_args *a);
void cpu_join_heads_f(const struct op_args *a), cpu_join_heads_bi(const struct op_args *a);
void cpu_scale_f(const struct op_args *a), cpu_scale_bi(const struct op_args *a);
void cpu_clamp_f(const struct op_args *a), cpu_clamp_bi(const struct op_args *a);
void cpu_router_f(const struct op_args *a), cpu_router_bi(const struct op_args *a),
    cpu_router_bw(const struct op_args *a);
void cpu_dispatch_f(const struct op_args *a), cpu_dispatch_bi(const struct op_args *a);
void cpu_experts_f(const struct op_args *a), cpu_experts_bi(const struct op_args *a);
void cpu_experts_bw(const struct op_args *a);
void cpu_combine_f(const struct op_args *a), cpu_combine_bi(const struct op_args *a);
void cpu_head_loss_f(const struct op_args *a), cpu_head_loss_bi(const struct op_args *a);
void cpu_head_loss_bw(const struct op_args *a);

/* db (n) = the sum of `rows` rows of dy, (rows, n), bfloat16 if half; added to db if add. By all threads. */
void cpu_column_sums(const void *dy, bool half, size_t rows, size_t n, float *db, bool add);

/* swiglu as its attributes say, one thread; d, acc: gate, up; a NULL of acc: no addend. */
void cpu_gated(const struct ir_attrs *at, float *y, const float *gate, const float *up, size_t n);
void cpu_gated_grad(const struct ir_attrs *at, float *const d[2], const float *const acc[2], const float *gate,
                    const float *up, const float *dy, size_t n);

/* kernel, the float32 one of this pass, on bfloat16 operands (bf16.c). */
void cpu_bf16(const struct op_args *a, enum ir_pass pass, op_kernel kernel);
void cpu_bf16_sum(const struct op_args *a);
void cpu_round(uint16_t *to, const float *from, uint64_t n); /* to bfloat16 */

void cpu_balance(const struct balance_args *b, const struct step_inputs *s);
void cpu_clip(struct step_inputs *s, const double *scalars, double clip_norm, void *stream);
void cpu_update(const struct update_args *u, const struct step_inputs *s);
void cpu_checksum(const struct update_args *u, uint32_t arrays, bool check);
void cpu_sumsq(const float *x, uint64_t n, double *sum, double *nonfinite, void *stream);

#endif
