/* Attention: cuDNN in bfloat16, on slices of sequences or heads in the backward, as long as a slice's gradient of scores is small and
 * where it has an engine; else our own kernels: in tiles on tensor cores in bfloat16, also where the gradient is added to another one
 * and for what cuDNN's graph does not say, without tensor cores for float32 and odd head sizes. All keep the same statistics.
 *
 * work: F, the statistics of evaluation (b, heads, T) float32, then the engine's; BI, sum(dO O) of a slice, then the engine's. */
#include <stdio.h>
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

static bool is_added(const struct op_args *a)
{
    return a->acc[0] || a->acc[1] || a->acc[2];
}

/* NULL: cuDNN's attention may take it; else why not. */
static const char *beyond_library(const struct op_args *a, enum ir_pass pass)
{
    const enum ir_dtype compute = (enum ir_dtype)a->compute;
    if (compute != IR_BF16)
        return "cuDNN's attention requires bfloat16";
    if (!cuda_attention_by_library(a->attrs, compute))
        return "cuDNN's attention requires a head_dim that is a multiple of 8, up to 256, and no window, score_cap, "
               "sinks or other v_head_dim";
    if (is_added(a))
        return "its gradient is added to that of another reader, which cuDNN's attention does not support";
    if (a->positions || a->document)
        return "cuDNN's attention requires whole sequences of one document";
    if (pass == IR_PASS_BI && !cuda_attention_backward_by_library(a->attrs, a->t, compute))
        return "cuDNN's backward would keep the gradient of all scores of a head in memory";
    return NULL;
}

static bool by_library(const struct op_args *a, enum ir_pass pass)
{
    const struct cuda_sdpa_shape s = shape(a, pass);
    return !beyond_library(a, pass) && cuda_sdpa_ready(&s);
}

/* By our own kernels. */
static void by_ourselves(const struct op_args *a, op_kernel tiles, op_kernel plain)
{
    (cuda_attention_tiles(a->attrs, (enum ir_dtype)a->compute) ? tiles : plain)(a);
}

/* ---- what the log is to say ---- */

static char notes[4096];

/* Of an H100, where cuDNN makes about 500 Tflop/s. Tiles: mma.sync instead of wgmma, half the rate, and the backward has 1.4 times the
 * arithmetic. Without tensor cores: products in float64 behind conversions, 16 a clock and multiprocessor, some 5 Tflop/s.
 * Nobody has measured either. */
enum { TIMES_TILES = 3, TIMES_PLAIN = 100 };

static void note(const struct op_args *a, enum ir_pass pass, bool tiles, const char *why)
{
    char line[1024] = "";
    const size_t n = strlen(notes);
    snprintf(line, sizeof line - 1,
             "attention %s with %u/%u heads of %u runs %s, estimated to take %d times as long as with cuDNN (not "
             "measured): %s",
             ir_pass_name(pass), a->attrs->heads, a->attrs->kv_heads, a->attrs->head_dim,
             tiles ? "on our tiled kernels" : "without tensor cores", tiles ? TIMES_TILES : TIMES_PLAIN, why);
    strcat(line, "\n");
    if (n + strlen(line) < sizeof notes && !strstr(notes, line))
        strcpy(notes + n, line);
}

const char *cuda__attention_notes(void)
{
    return notes;
}

void cuda__attention_close(void)
{
    notes[0] = '\0';
}

/* Not by cuDNN; why. */
static enum status prepare_own(const struct op_args *a, enum ir_pass pass, const char *why, struct err *e)
{
    const bool tiles = cuda_attention_tiles(a->attrs, (enum ir_dtype)a->compute);
    const uint32_t t = a->positions && a->positions->keys > a->t ? a->positions->keys : a->t;
    if (!tiles && t > CUDA_MAX_ATTENTION_T)
        return err_set(e, ST_DEVICE, "CUDA",
                       "attention over %u tokens: %s; without it at most %d tokens are possible. Use shorter "
                       "sequences, another head_dim or --device cpu",
                       t, why, CUDA_MAX_ATTENTION_T);
    note(a, pass, tiles, why);
    return ST_OK;
}

enum status cuda__attention_prepare(const struct op_args *a, enum ir_pass pass, struct err *e)
{
    const struct cuda_sdpa_shape s = shape(a, pass);
    const char *why = beyond_library(a, pass);
    struct err refusal = { 0 };
    if (why)
        return prepare_own(a, pass, why, e);
    const uint64_t limit = pass == IR_PASS_F ? 4096 : cuda_attention_slice(a->attrs, a->b, a->t).engine;
    const enum status st = cuda_sdpa_prepare(&s, limit, &refusal);
    if (st != ST_OK && cuda_sdpa_refused(&s))
        return prepare_own(a, pass, refusal.text, e);
    return st == ST_OK ? ST_OK : err_set(e, st, NULL, "%s", refusal.text);
}

void cuda_attention_f(const struct op_args *a)
{
    char *x[3];
    if (!op_sees_keys(a) && a->phase + 1 < a->positions->ring)
        return;
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
