/* The operator table: everything the compiler knows of an operator, in one row each (ir/op.c).
 *
 * A model graph is forward only. The compiler derives the backward from the table: per operator one kernel for the
 * gradient of its inputs (BI) and one for the gradient of its parameters (BW); a fused backward B runs both, one
 * after the other. A row says what each of them reads, so that the memory plan keeps that and nothing else.
 *
 * Shapes: every tensor has an implied leading dimension b, the sequences of a microbatch; a shape here is per sequence.
 * T is the sequence length. Row-major, last dimension contiguous. Kernels work on rows = b*T unless said otherwise. */
#ifndef PIPER_IR_OP_H
#define PIPER_IR_OP_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

enum ir_op {
    IR_OP_EMBED,     /* tokens (T) -> x (T,C); param W (V,C) */
    IR_OP_POS_EMBED, /* x (T,C) -> x + P[first_position + position]; param P (positions,C) */
    IR_OP_LAYERNORM, /* x (T,C) -> (T,C), groups of `features` within a row; params w (features), b (features), b not if
                        NO_BIAS, neither if NO_WEIGHT; PER_HEAD: w, b (heads,features), each group its own. save mean
                        (T,heads), rstd (T,heads) */
    IR_OP_RMSNORM,   /* x (T,C) -> (T,C), groups of `features` within a row (QK-norm: head_dim); param w (features);
                        save rstd (T,C/features). y = w h with h = x rstd, or (1+w) h if ONE_PLUS; rounded once, to the job's
                        type, and h too if ROUND_FIRST (llama, qwen, deepseek; gemma and olmo2 once) */
    IR_OP_LINEAR, /* x (T,in) -> x W' + bias (T,out); params W (out,in), or (in,out) if TRANSPOSED; bias (out) if BIAS */
    IR_OP_ROPE, /* x (T,heads*head_dim) -> elements [offset, offset+rotary) of each head turned, the others as they are. rotary is
                     ir_op_rotary(), offset is rotary_offset. Pair i turns by position * inv_freq[i], or theta^(-2i/rotary), cos and
                     sin times scale: elements i and i + rotary/2 (Hugging Face's rotate_half), or 2i and 2i+1 if PAIRS */
    IR_OP_ATTENTION, /* q (T,heads*D), k (T,kv_heads*D), v (T,kv_heads*Dv) -> o (T,heads*Dv), causal; or one input if PACKED:
                        (T,heads*D+kv_heads*D+kv_heads*Dv) with q, k, v side by side; save lse (heads,T) float32; param
                        sinks (heads) if SINKS. D is head_dim, Dv ir_op_v_dim(). Query i sees the keys j <= i of its
                        document, j > i-window where there is a window, with the score s = scale q k', or score_cap
                        tanh(s/score_cap); exp(sink) of its head joins the sum of the softmax, and lse, but no value */
    IR_OP_GELU,      /* x -> gelu(x): tanh form (gelu_new), erf form if EXACT; of gpt2 and older graphs, else act */
    IR_OP_ACT,       /* x -> f(x), f as `act` says */
    IR_OP_SWIGLU, /* gate, up (T,F) -> f(gate)*up, f as `act` says: silu. clamp > 0: of min(gate,clamp) and of up between
                        -clamp and clamp; alpha > 0: f is gate*sigmoid(alpha*gate); ONE_PLUS: up + 1 (gpt-oss has all three) */
    IR_OP_ADD,    /* a, b -> a + b */
    IR_OP_SCALE,  /* x -> scale * x; ROUND_FIRST: scale rounded to the job's type first (gemma's embeddings) */
    IR_OP_CLAMP,  /* x -> x between -clamp and clamp; the gradient beyond is 0 */
    IR_OP_ROW_GATE, /* x (T,C), g (T,1) -> x * sigmoid(g), g's number for its row (the gate of a shared expert) */
    IR_OP_JOIN_HEADS, /* a (T,heads*(head_dim-rotary_dim)), r (T,rotary_dim) -> (T,heads*head_dim): each head its part of a,
                         then r, the same for all (the keys of latent attention: a not rotated, r rotated) */
    IR_OP_ROUTER,     /* x (T,C) -> weights (T,k) float32, index (T,k) int32; params W (E,C), bias (E) if BIAS,
                       selection bias (E) if SELECT_BIAS; save scores (T,E) float32. Scores are the softmax over E of x W' + bias,
                       or its SIGMOID, in float32. The top k are chosen by score, plus selection bias where there is one (it has no
                       gradient), ties to the lower index; with groups, from the top_groups best of so many equal groups of
                       experts: a group is as good as its two best, or its best if GROUP_BEST. Their weights are their scores,
                       divided by their sum + eps if NORM_TOPK (with softmax: the softmax over the chosen), times scale.
                        aux_coef > 0 adds the load-balance loss, per sequence: experts * sum of share chosen * mean score, or, if
                        SEQUENCE_LOSS, that of DeepSeek-V3 (src/cpu/router.c). z_coef > 0 adds z_coef times the mean over tokens
                        of the squared log-sum-exp of the logits, which save then holds behind the scores: (T,2E). The selection
                        bias is state: each update moves it by the load of the experts (ir/plan.h, PLAN_RULE_BALANCE) */
    IR_OP_DISPATCH, /* x (T,C), index (T,k) -> rows by expert (R,C), slot (T,k) int32, counts (E) int32 per sequence, laid
                        out (E, b).
                        capacity > 0: R = E*capacity, laid out (E, b, capacity, C), rows beyond a count are zero, a token
                        beyond the capacity has slot -1; capacity 0 (dropless): R = T*k, rows sorted by expert over the
                        whole microbatch, then by token. slot is the row of the microbatch's (b*R,C) matrix */
    IR_OP_EXPERTS, /* rows by expert (R,C), counts (E) -> (R,C): h D' + d, h the gated activation of swiglu, as its attributes
                        say, of gate = x G' + g and up = x U' + u; params G, U (E,F,C), D (E,C,F), and if BIAS g, u (E,F), d (E,C).
                        A row beyond the counts stays zero. save gate (R,F), up (R,F) */
    IR_OP_COMBINE, /* rows (R,C), slot (T,k), weights (T,k) -> y (T,C): sum over k of weight * row */
    IR_OP_HEAD_LOSS, /* x (T,C), targets (T) -> no tensor: adds the summed cross-entropy of the logits z to the loss scalar;
                        z = scale (x W' + bias), or score_cap tanh(z/score_cap); params W (V,C), bias (V) if BIAS; save dlogits (T,V), V padded as
                        ir_op_logit_columns() says: gradient of the scaled loss. A target < 0 counts nothing */
    IR_OP_GRAPH_COUNT,
    /* of the compiler, never in a model graph */
    IR_OP_SUM = IR_OP_GRAPH_COUNT, /* in0 + in1 -> out0, any shape (sums of gradients) */
    IR_OP_COPY,                    /* in0 -> out0 */
    /* x (rows,C) -> (n,rows,C/n), block i of the columns of all rows behind block i-1; and back. n is `heads`, C `features` */
    IR_OP_TO_BLOCKS,
    IR_OP_FROM_BLOCKS,
    IR_OP_COUNT
};

/* A pass over a chunk, and a kernel of an operator (no kernel is IR_PASS_B: that is BI, then BW). */
enum ir_pass { IR_PASS_F, IR_PASS_B, IR_PASS_BI, IR_PASS_BW, IR_PASS_NONE, IR_PASS_COUNT = IR_PASS_NONE };
const char *ir_pass_name(enum ir_pass pass); /* "F", "B", "BI", "BW", "-" */

enum { IR_MAX_IN = 4, IR_MAX_OUT = 3, IR_MAX_PARAM = 6, IR_MAX_SAVE = 2, IR_MAX_STASH = 2 };

/* Activations: silu is x sigmoid(x), gelu the exact form, relu2 the square of relu. Names: ir_act_names. */
enum ir_act { IR_ACT_SILU, IR_ACT_GELU, IR_ACT_GELU_TANH, IR_ACT_RELU, IR_ACT_RELU2, IR_ACT_SIGMOID, IR_ACT_COUNT };
extern const char *const ir_act_names[IR_ACT_COUNT + 1]; /* "silu", "gelu", "gelu_tanh", ...; NULL ends */

/* Attributes: one flat record; a row of the table names those that the operator uses, the others are 0. */
enum { IR_FREQS_MAX = 1 << 12, IR_GROUPS_MAX = 1024 };
struct ir_freqs {
    uint32_t n;
    const float *at;
};
struct ir_attrs {
    const struct ir_freqs
        *inv_freq; /* rope: radians per position of each pair, rotary/2 of them, instead of theta; NULL: theta.
                                        The only one that is no number of 4 bytes: not in ir_attr_info */
    uint32_t in_features, out_features; /* linear */
    uint32_t features;                  /* norms: width of a group; elementwise: of a row; all others: C */
    uint32_t heads, kv_heads,
        head_dim;            /* attention, rope (heads = those in x); norms: heads = groups in a row, 0 is 1 */
    uint32_t vocab;          /* embed, head_loss */
    uint32_t positions;      /* pos_embed: rows of P */
    uint32_t experts, top_k; /* router, dispatch, experts, combine */
    uint32_t capacity;       /* dispatch, experts, combine: rows per expert and sequence; 0 dropless */
    uint32_t ffn;            /* experts: F */
    uint32_t flags;          /* enum ir_flag */
    float eps;               /* norms; router: added to the sum of weights */
    float theta;             /* rope: 0 where inv_freq is given */
    float scale;         /* attention: of q k'. Not 0: who makes the graph puts 1/sqrt(head_dim) or what a model says.
                                scale: its factor. rope: of cos and sin; head_loss: of
                                the logits; router: of the weights; 0: 1 */
    float aux_coef;      /* router */
    uint32_t v_head_dim; /* attention: elements of a head of v and o; 0: head_dim */
    uint32_t window;     /* attention: keys that a query sees, itself among them; 0: all up to itself */
    float score_cap;     /* attention, head_loss: bound of scores, of logits; 0: none */
    uint32_t rotary_dim; /* rope: elements of a head that turn; 0: head_dim */
    uint32_t rotary_offset;  /* rope: the first of them */
    uint32_t act;            /* act, swiglu, experts: enum ir_act */
    float clamp;             /* clamp: its bound; swiglu, experts: of gate and up; 0: none */
    float alpha;             /* swiglu, experts: of silu; 0: 1 */
    uint32_t groups;         /* router: groups of experts; 0: none */
    uint32_t top_groups;     /* router: of which those may be chosen from */
    float z_coef;            /* router */
    uint32_t first_position; /* pos_embed: row of the first token */
};
enum ir_flag {
    IR_TRANSPOSED = 1,        /* linear: W is (in,out), as in GPT-2's Conv1D */
    IR_BIAS = 2,              /* linear, head_loss, router, experts */
    IR_PACKED = 4,            /* attention */
    IR_EXACT = 8,             /* gelu */
    IR_NORM_TOPK = 16,        /* router */
    IR_SINKS = 32,            /* attention */
    IR_PAIRS = 64,            /* rope */
    IR_ONE_PLUS = 128,        /* rmsnorm: weights are stored less 1, and begin as 0; swiglu, experts: up + 1 */
    IR_ROUND_FIRST = 256,     /* rmsnorm, scale */
    IR_NO_WEIGHT = 512,       /* layernorm */
    IR_NO_BIAS = 1024,        /* layernorm */
    IR_PER_HEAD = 2048,       /* layernorm */
    IR_SIGMOID = 4096,        /* router */
    IR_SELECT_BIAS = 8192,    /* router */
    IR_GROUP_BEST = 16384,    /* router */
    IR_FLOAT32 = 32768,       /* router: W is float32, whatever the job's type */
    IR_SEQUENCE_LOSS = 65536, /* router: what aux_coef is of */
    /* attention, pos_embed: the last input, document (T) int32, tells where the document of each token begins: a query sees no key
     * before it, and the table of positions begins anew (what rope turns depends on distances alone). Of a compiled job
     * (ir_graph_separate()), never in a file. */
    IR_DOCUMENTS = 1 << 20,
};
/* An attribute's 4 bytes as far as they are mathematics: without the flags that say where bfloat16 is rounded, and what is float32
 * beside it, and that documents are apart. Two graphs that differ in them alone are the same model, and a run of one goes on as the other. */
uint32_t ir_attr_bits(const struct ir_attrs *a, uint32_t attr); /* attr: index in ir_attr_info */

/* One attribute, for printing, parsing and HDF5 columns. The row of an operator has bit i set for attribute i used. */
struct ir_attr_info {
    const char *name;
    uint16_t offset; /* in struct ir_attrs */
    char type;       /* 'u' uint32_t, 'f' float, 'a' enum ir_act, 4 bytes */
};
enum {
    IR_ATTR_COUNT = 29,
    IR_ATTR_ALWAYS = 17 /* stand in every job file and digest; those behind only where a model has one that is not 0 */
};
extern const struct ir_attr_info ir_attr_info[IR_ATTR_COUNT];

/* Element types. IR_COMPUTE is the job's dtype: float32 or bfloat16. */
enum ir_dtype { IR_COMPUTE, IR_F32, IR_I32, IR_BF16, IR_F64, IR_BYTE };
uint32_t ir_dtype_size(enum ir_dtype t, enum ir_dtype compute); /* bytes */
const char *ir_dtype_name(enum ir_dtype t);

struct ir_shape {
    uint8_t dtype; /* enum ir_dtype */
    uint8_t ndim;  /* 0: absent */
    uint32_t dim[3];
};
uint64_t ir_shape_elements(const struct ir_shape *s); /* per sequence; for a parameter: in all */
bool ir_shape_same(const struct ir_shape *a, const struct ir_shape *b);
enum { IR_SHAPE_TEXT = 64 };
/* "(128,64) float32", written to text and returned. */
const char *ir_shape_text(const struct ir_shape *s, char text[IR_SHAPE_TEXT]);

/* What a backward kernel reads, as bits: input i, output i, saved i, gradient of output i, stash i, parameter i. */
#define IR_IN(i)    (1u << (i))
#define IR_OUT(i)   (1u << (4 + (i)))
#define IR_SAVE(i)  (1u << (8 + (i)))
#define IR_DOUT(i)  (1u << (12 + (i)))
#define IR_STASH(i) (1u << (16 + (i)))
#define IR_PARAM(i) (1u << (20 + (i)))

/* Shapes that follow from attributes and T. Saved tensors live from F to the last backward that reads them; stashed
 * ones from BI to BW. */
struct ir_op_shapes {
    struct ir_shape in[IR_MAX_IN], out[IR_MAX_OUT], save[IR_MAX_SAVE], stash[IR_MAX_STASH], param[IR_MAX_PARAM];
};

struct ir_op_info {
    const char *name; /* as in a "graph" model and in every print */
    uint8_t n_in, n_out, n_param, n_save, n_stash;
    uint8_t grad_in;  /* bit i: input i has a gradient */
    uint8_t alias_in; /* bit i: the gradient of input i is that of output 0, unchanged: no kernel is needed for it */
    /* What BI reads beside the gradients of the outputs; 0 with grad_in == alias_in: there is no BI kernel. Of what is saved as far as there
     * is such a shape: ir_op_part_shapes() has more. */
    uint32_t bi_reads;
    uint32_t bw_reads; /* 0: there is no BW kernel; nor for an operator without parameters */
    uint32_t attrs;    /* bit i: uses ir_attr_info[i] */
    void (*shapes)(const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s);
    /* Floating-point operations (2 per multiply-add) and bytes moved at least, of one kernel (F, BI, BW) on b sequences. */
    double (*flops)(const struct ir_attrs *a, enum ir_pass kernel, double b, double t);
};
extern const struct ir_op_info ir_op_info[IR_OP_COUNT];

/* Inputs and parameters this operator has with these attributes (packed attention has one input, one more where documents are apart; a
 * linear without bias has one parameter, attention without sinks none). */
uint32_t ir_op_inputs(enum ir_op op, const struct ir_attrs *a);
uint32_t ir_op_params(enum ir_op op, const struct ir_attrs *a);
/* BW may give the gradients of a part of the parameters alone: of so many parts, 1 where it gives all at once. Their parameters, as bits, of
 * those with a gradient; and what BW reads, as bw_reads, for the gradients of these. */
uint32_t ir_op_bw_parts(enum ir_op op);
uint32_t ir_op_bw_params(enum ir_op op, const struct ir_attrs *a, uint32_t part);
uint32_t ir_op_bw_reads(enum ir_op op, uint32_t params);
/* Whether weight decay acts on parameter i of such an operator: on weights, never on norms, biases and sinks, whatever their shape. */
bool ir_op_param_decays(enum ir_op op, uint32_t i);
/* Whether parameter i is state: it has no gradient, and a rule of its own moves it instead of the optimizer (a router's selection
 * bias, always its last parameter). */
bool ir_op_param_is_state(enum ir_op op, const struct ir_attrs *a, uint32_t i);
/* IR_COMPUTE; IR_F32 for what is float32 whatever the job's type: state, and the weights of a router with FLOAT32. */
enum ir_dtype ir_op_param_type(enum ir_op op, const struct ir_attrs *a, uint32_t i);
/* gelu, act: the activation; IR_ACT_COUNT of other operators. gelu is what files had before there was act: back ends have one kernel for both. */
static inline uint32_t ir_op_act(uint32_t op, const struct ir_attrs *a)
{
    if (op == IR_OP_GELU)
        return a->flags & IR_EXACT ? IR_ACT_GELU : IR_ACT_GELU_TANH;
    const uint32_t none = IR_ACT_COUNT;
    return op == IR_OP_ACT ? a->act : none;
}
/* attention: elements of a head of v and o. */
static inline uint32_t ir_op_v_dim(const struct ir_attrs *a)
{
    return a->v_head_dim ? a->v_head_dim : a->head_dim;
}
/* rope: elements of a head that turn. */
static inline uint32_t ir_op_rotary(const struct ir_attrs *a)
{
    return a->rotary_dim ? a->rotary_dim : a->head_dim;
}
/* rope: radians per position of a pair. */
static inline double ir_op_rope_frequency(const struct ir_attrs *a, uint32_t pair)
{
    return a->inv_freq ? (double)a->inv_freq->at[pair] : pow((double)a->theta, -2.0 * pair / ir_op_rotary(a));
}
/* attention: pairs of query and key that see each other in a sequence of t tokens, about; window counted, documents not. */
double ir_op_attention_pairs(const struct ir_attrs *a, double t);
uint32_t ir_op_norm_groups(const struct ir_attrs *a); /* norms: groups of `features` in a row */
/* head_loss: columns that dlogits has room for. Beyond 128 a multiple of 128, so that rows may start where a device reads
 * fast; a back end may as well keep its rows vocab apart. */
uint32_t ir_op_logit_columns(const struct ir_attrs *a);
/* NULL when the attributes are possible for sequences of length t (nothing missing, no unused one set, no shape beyond 32
 * bits a dimension or 2^48 elements); else a sentence, static. Shapes and kernels may be asked only after this. */
const char *ir_op_attrs_wrong(enum ir_op op, const struct ir_attrs *a, uint32_t t);
bool ir_op_attr_may_be_zero(enum ir_op op, uint32_t attr); /* attr: index in ir_attr_info */
uint32_t ir_op_flags(enum ir_op op);                       /* bits of enum ir_flag that the operator knows */
void ir_op_shapes(enum ir_op op, const struct ir_attrs *a, uint32_t t, struct ir_op_shapes *s);
/* A source of loss: gradients begin here, whether or not an output has one (head_loss; routers with losses of their own). */
bool ir_op_has_loss(enum ir_op op, const struct ir_attrs *a);
/* router: does its loss of sequences count another choice than its own, the best by score alone? */
static inline bool ir_op_counts_apart(const struct ir_attrs *a)
{
    return a->flags & IR_SEQUENCE_LOSS && (a->groups || a->flags & IR_SELECT_BIAS);
}
/* Whether back ends have such a kernel, and whether an operator with these attributes runs it (attention: BW with sinks). */
bool ir_op_has_kernel(enum ir_op op, enum ir_pass kernel);
bool ir_op_runs(enum ir_op op, const struct ir_attrs *a, enum ir_pass kernel);
/* Returns IR_OP_COUNT when there is no such name. */
enum ir_op ir_op_by_name(const char *name);
/* Bytes that a kernel moves at least: every operand once, from the shapes. */
double ir_op_bytes(enum ir_op op, const struct ir_attrs *a, enum ir_pass kernel, double b, uint32_t t,
                   enum ir_dtype compute);
double ir_op_shape_bytes(enum ir_op op, enum ir_pass kernel, const struct ir_op_shapes *shapes, double b,
                         enum ir_dtype compute);

#endif
