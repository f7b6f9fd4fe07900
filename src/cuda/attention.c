/* Attention: cuDNN in bfloat16 with head sizes 64 and 128, on slices of sequences or heads in the backward, as long as a slice's
 * gradient of scores is small; else our own kernels: in tiles on tensor cores in bfloat16, also where the gradient is added to another
 * one and for what cuDNN's graph does not say, without tensor cores for float32 and odd head sizes. All keep the same statistics.
 *
 * work: F, the statistics of evaluation (b, heads, T) float32, then the engine's; BI, sum(dO O) of a slice, then the engine's. */
#include <string.h>

#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/libs_private.h"
#include "cuda/sdpa.h"
#include "ir/target_cuda.h"
#include "ir/target_cuda_own.h"

/* First elements of q, k, v in x: one packed operand, or three. */
static void split(const struct op_args *a, void *const x[3], char *out[3])
{
    const struct ir_attrs *at = a->attrs;
    const uint64_t d = at->head_dim * 2ull;
    const uint64_t first[3] = { 0, at->heads * d, ((uint64_t)at->heads + at->kv_heads) * d };
    for (int i = 0; i < 3; i++)
        out[i] = at->flags & IR_PACKED ? (char *)x[0] + first[i] : x[i];
}

/* All sequences, or a slice of the backward. */
static struct cuda_sdpa_shape shape(const struct op_args *a, enum ir_pass pass)
{
    const struct ir_attrs *at = a->attrs;
    const bool packed = (at->flags & IR_PACKED) != 0;
    const int64_t d = at->head_dim, t = a->t, all = ((int64_t)at->heads + 2 * (int64_t)at->kv_heads) * d;
    struct cuda_sdpa_shape s = { .b = a->b, .heads = at->heads, .kv_heads = at->kv_heads, .t = t, .d = d };
    s.row_q = packed ? all : at->heads * d;
    s.row_k = s.row_v = packed ? all : at->kv_heads * d;
    s.row_o = at->heads * d;
    s.step_q = s.row_q * t;
    s.step_k = s.step_v = s.row_k * t;
    s.step_o = s.row_o * t;
    s.step_stats = at->heads * t;
    if (pass == IR_PASS_BI) {
        const struct cuda_attention_slice slice = cuda_attention_slice(at, a->b, a->t);
        s.backward = 1;
        s.b = slice.sequences;
        s.kv_heads = slice.kv_heads;
        s.heads = slice.kv_heads * (at->heads / at->kv_heads);
    }
    return s;
}

static uint64_t forward_statistics(const struct op_args *a)
{
    return round_up((uint64_t)a->b * a->attrs->heads * a->t * sizeof(float), CUDA_ALIGNMENT);
}

static bool by_library(const struct op_args *a, enum ir_pass pass)
{
    const enum ir_dtype compute = (enum ir_dtype)a->compute;
    if (a->acc[0] || a->acc[1] || a->acc[2] || a->positions || a->document)
        return false;
    return pass == IR_PASS_F ? cuda_attention_by_library(a->attrs, compute)
                             : cuda_attention_backward_by_library(a->attrs, a->t, compute);
}

/* By our own kernels. */
static void by_ourselves(const struct op_args *a, op_kernel tiles, op_kernel plain)
{
    const bool fits = cuda_attention_tiles(a->attrs, (enum ir_dtype)a->compute);
    CHECK(fits || (!a->positions && !a->document));
    (fits ? tiles : plain)(a);
}

enum status cuda__attention_prepare(const struct op_args *a, enum ir_pass pass, struct err *e)
{
    const struct cuda_sdpa_shape s = shape(a, pass);
    if (!by_library(a, pass))
        return ST_OK;
    return cuda_sdpa_prepare(&s, pass == IR_PASS_F ? 4096 : cuda_attention_slice(a->attrs, a->b, a->t).engine, e);
}

void cuda_attention_f(const struct op_args *a)
{
    char *x[3];
    if (!by_library(a, IR_PASS_F)) {
        by_ourselves(a, cuda_attention_tiles_f, cuda_attention_f32_f);
        return;
    }
    split(a, a->in, x);
    cuda_sdpa(&(struct cuda_sdpa){ .shape = shape(a, IR_PASS_F),
                                   .q = x[0],
                                   .k = x[1],
                                   .v = x[2],
                                   .o = a->out[0],
                                   .stats = a->save[0] ? a->save[0] : a->work,
                                   .scale = a->attrs->scale,
                                   .work = (char *)a->work + forward_statistics(a),
                                   .stream = a->stream });
}

/* The slice of sequences from `sequence` on and key/value heads from `head` on. */
static void backward_slice(const struct op_args *a, const struct cuda_sdpa_shape *s, int64_t sequence, int64_t head)
{
    const int64_t group = a->attrs->heads / a->attrs->kv_heads, size = 2;
    const int64_t q = (sequence * s->step_q + head * group * s->d) * size;
    const int64_t k = (sequence * s->step_k + head * s->d) * size;
    const int64_t o = (sequence * s->step_o + head * group * s->d) * size;
    char *x[3], *dx[3];
    split(a, a->in, x);
    split(a, a->din, dx);
    cuda_sdpa(&(struct cuda_sdpa){ .shape = *s,
                                   .q = x[0] + q,
                                   .k = x[1] + k,
                                   .v = x[2] + k,
                                   .o = (char *)a->out[0] + o,
                                   .stats = (float *)a->save[0] + sequence * s->step_stats + head * group * s->t,
                                   .dout = (char *)a->dout[0] + o,
                                   .dq = dx[0] + q,
                                   .dk = dx[1] + k,
                                   .dv = dx[2] + k,
                                   .sums = a->work,
                                   .scale = a->attrs->scale,
                                   .work = (char *)a->work + cuda_attention_slice(a->attrs, a->b, a->t).sums,
                                   .stream = a->stream });
}

void cuda_attention_bi(const struct op_args *a)
{
    const struct cuda_sdpa_shape s = shape(a, IR_PASS_BI);
    if (!by_library(a, IR_PASS_BI)) {
        by_ourselves(a, cuda_attention_tiles_bi, cuda_attention_f32_bi);
        return;
    }
    for (int64_t sequence = 0; sequence < a->b; sequence += s.b)
        for (int64_t head = 0; head < a->attrs->kv_heads; head += s.kv_heads)
            backward_slice(a, &s, sequence, head);
}
