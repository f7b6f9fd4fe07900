/* Compute back ends: a table of functions per device kind. src/cpu/ is the oracle and the template.
 *
 * A kernel is one operator in one pass (F, BI, BW) on one microbatch. It gets its operands resolved; it allocates
 * nothing, and what it computes does not depend on anything but its operands (same bits every time, for the same number
 * of threads). */
#ifndef PIPER_COMPUTE_H
#define PIPER_COMPUTE_H

#include <stdbool.h>

#include "base/status.h"
#include "ir/graph.h"
#include "ir/optimizer.h"
#include "ir/scalar.h"
#include "ir/split.h"

/* Per-step inputs of updates and of the loss, in the back end's memory. */
struct step_inputs {
    double lr;
    double grad_scale; /* clipping: min(1, clip/norm) */
    uint64_t update;   /* from 1: number of this update since the moments were zero, for Adam's bias correction */
    uint32_t skip;     /* 1: norm or loss is no number, or no token counts: the parameters stay as they are */
    uint32_t epoch;    /* of the step's events */
    double weight;     /* of a loss: tokens of the step by those whose loss counts; 1 where all do */
};

/* Which part of an operator a device computes: where its tokens stand in their sequences, and which block of a split parameter it has
 * (ir/split.h). Rows are as wide as the operand's shape says; token i of sequence s is row s*row_s + i*row_i of what has t tokens a
 * sequence, key j is row s*key_s + j*key_i of k, v and their gradients. So (b,t) order is { t, 1 } and { keys, 1 }, (t,b) order { 1, b }
 * and { 1, b }; no other is. Kept statistics of attention stay (b,heads,t). */
struct op_positions {
    uint32_t t_all; /* tokens of a whole sequence; t of op_args: those here */
    uint32_t row_s, row_i, key_s, key_i;
    /* Token i < run[0].count has position run[0].first + i, the others follow from run[1].first; the counts sum to t, ascending. */
    struct ir_run run[2];
    /* attention: keys and values there are; with counts in key_run at its positions, else at 0 to keys-1. No token stands at or behind
     * t_all. q, k and v are not packed then. */
    uint32_t keys;
    struct ir_run key_run[2];
    uint32_t split; /* enum ir_split; attributes are those of ir_op_local() */
    uint32_t part,
        parts; /* which block of so many this device has; of those who tell each other numbers, which it is. In rows joined
                               over these parts, its own tokens are rows part*rows/parts to (part+1)*rows/parts */
    uint32_t
        vocab; /* IR_WORDS: words of the whole table; here those from part * attrs->vocab on, as far as there are */
    uint32_t capacity;   /* dispatch, IR_COUNTS: rows of an expert and whole sequence that stay; 0: all */
    uint32_t ring, sets; /* attention; IR_COUNTS: as ir_share has it */
    struct ir_rows rows; /* IR_COUNTS: who has which tokens */
};

static inline uint32_t op_position(const struct op_positions *p, uint32_t i)
{
    return !p ? i : i < p->run[0].count ? p->run[0].first + i : p->run[1].first + (i - p->run[0].count);
}

/* Operands as ir_op_info orders them; NULL where the pass does not have one. Shapes: the operator's row in ir/op.h.
 * F reads in, param; writes out, save. BI reads what bi_reads says and dout; writes din, stash. BW reads what bw_reads
 * says; writes dparam: of an operator whose BW has parts (ir_op_bw_parts()) maybe those of some parts alone, and the others are NULL, as is what
 * only they read. */
struct op_args {
    const struct ir_attrs *attrs;
    uint32_t op;      /* enum ir_op */
    uint32_t b, t;    /* sequences in the microbatch, sequence length */
    uint32_t ep;      /* experts: devices they are split over; local experts = experts/ep, and the rows are ep parts,
                               one per source device, each (local experts, ...) with counts (ep, local experts, b) */
    uint32_t compute; /* enum ir_dtype: IR_F32 or IR_BF16; sum and copy: of the elements, whatever the job's is */
    void *in[IR_MAX_IN], *out[IR_MAX_OUT], *save[IR_MAX_SAVE], *stash[IR_MAX_STASH], *param[IR_MAX_PARAM];
    void *dout[IR_MAX_OUT];
    void *din[IR_MAX_IN];
    void *acc[IR_MAX_IN]; /* addend of din: din = acc + gradient. NULL: din = gradient. May equal din, or be another
                               buffer that stays unchanged */
    void *dparam[IR_MAX_PARAM]; /* float32 always */
    uint32_t dparam_add;        /* bit i: add to dparam[i]; else write it, all of it */
    void *work;                 /* target's workspace, 64-byte aligned at least */
    double *scalars;            /* [SCALAR_COUNT]: head_loss adds to LOSS, router to AUX, dispatch to DROPPED */
    double *load;               /* router F: [experts] the tokens that chose each are added; NULL: nobody counts them */
    double loss_scale; /* 1/(batch*seq_len): head_loss and the router's auxiliary loss scale their gradient with it, */
    const double *weight; /* head_loss also with this: step_inputs.weight; NULL: 1 */
    uint64_t n;           /* sum and copy: elements */
    void *stream;         /* the back end's stream; NULL on the CPU, where a call returns when the work is done */
    bool widened;         /* the CPU back end's own: the operands are float32 copies of bfloat16 (src/cpu/bf16.c) */
    /* False: no gradient will be asked for; save may be NULL and work serves instead. But where a kernel has phases it has all of save, except
     * for the logits of head_loss and the statistics of rmsnorm. */
    bool train;
    /* Generation, on the host: so few rows that products are bound by reading parameters, whose elements are read once and where they
     * lie. weights: IR_BF16 where matrices (ir_op_param_decays() of embed, linear, experts, head_loss) are bfloat16 beside float32
     * operands; else 0. logits: head_loss writes them there, (rows,V) float32, and adds no loss; it reads no targets. */
    bool generates;
    uint32_t weights;
    float *logits;
    uint32_t phase; /* of ir_op_phases(), which come in order on the same operands */
    /* NULL: whole sequences, (b,t) order, position i of token i, part 0 of 1. */
    const struct op_positions *positions;
    /* Attention and pos_embed with IR_DOCUMENTS, their last input: (b, t_all) int32, where the document of each position begins. A query
     * sees no key before it, and the table begins anew with it. NULL: one document a sequence. */
    const int32_t *document;
};

static inline struct ir_share op_share(const struct op_args *a)
{
    const struct op_positions *p = a->positions;
    struct ir_share s = { 0, 0, 0, 0, 0 };
    if (p) {
        s.split = p->split;
        s.parts = p->parts;
        s.keys = p->keys;
        s.ring = p->ring;
        s.sets = p->sets;
    }
    return s;
}

/* IR_COUNTS: sets of counts that a member tells. */
static inline uint32_t op_sets(const struct op_positions *p)
{
    return p->sets ? p->sets : 1;
}

/* IR_COUNTS: where what member `part` has told of a set begins, of n numbers a run. */
static inline uint64_t op_told_at(const struct op_positions *p, uint32_t part, uint32_t set, uint64_t n)
{
    return ((uint64_t)part * op_sets(p) + set) * 2 * n;
}

/* Attention: does a token here see any key of this phase? Of a ring's later phases the last one, which sees most, may not. */
static inline bool op_sees_keys(const struct op_args *a)
{
    const struct op_positions *p = a->positions;
    return !p || !p->ring || a->phase == 0 || p->key_run[0].first <= op_position(p, a->t - 1);
}

/* Rows of the device's own tokens, of `rows` that are joined over the parts. */
static inline struct ir_run op_own_rows(const struct op_args *a, uint32_t rows)
{
    const struct op_positions *p = a->positions;
    struct ir_run own = { 0, rows };
    if (p && p->parts > 1) {
        own.count = rows / p->parts;
        own.first = own.count * p->part;
    }
    return own;
}

/* IR_WORDS: the words of a split table that are here; else all. */
static inline struct ir_run op_words(const struct op_args *a)
{
    const struct op_positions *p = a->positions;
    struct ir_run here = { 0, a->attrs->vocab };
    if (p && p->split == IR_WORDS) {
        here.first = p->part * here.count;
        if (here.count > p->vocab - here.first)
            here.count = p->vocab - here.first;
    }
    return here;
}

struct optimizer_args {
    enum optimizer kind;
    float beta1, beta2, eps, weight_decay;
};

/* Checksums of what a rank keeps from update to update. A stretch of an update's elements lies in one parameter, or in padding, and
 * its sum is that of the words it consists of, of 32 bits, or of 16 in bfloat16, modulo 2^64: in any order, so it is no matter which
 * thread adds what; one changed bit always shows. */
enum update_array { UPDATE_MASTER, UPDATE_M, UPDATE_V, UPDATE_PARAM /* beside a master */, UPDATE_ARRAYS };
enum { UPDATE_ALL = (1 << UPDATE_ARRAYS) - 1, UPDATE_STRETCH = 1 << 14 /* elements at most */ };
struct update_stretch {
    uint64_t first;
    uint32_t count;
    uint32_t param; /* of the graph; IR_NONE: padding. Kernels do not read it */
};
struct update_sums {
    uint32_t n;                      /* 0: none are kept */
    const struct update_stretch *at; /* [n] of all elements, in order; none across n_decay */
    uint64_t (*sums)[UPDATE_ARRAYS]; /* [n] */
    uint32_t *faults; /* [n] in memory that the host reads: bits (1 << array) of what was not as its sum says */
    uint32_t *any;    /* the same, of all stretches of the rank: 1: there are faults */
};

/* One update over elements [0,n): the first n_decay of them decay. master, m, v: float32; m, v NULL for SGD. param: compute
 * type; equal to master in a float32 job (then one of them is written). grad: float32. */
struct update_args {
    const struct optimizer_args *opt;
    uint64_t n, n_decay;
    float *master, *m, *v;
    const float *grad;
    void *param;
    uint32_t compute;
    void *stream;
    /* With n: what is read is compared with the sums, what is written has new ones; where s->skip it is only compared. */
    struct update_sums sums;
};

/* The selection bias of a router, moved by the load of its experts: bias += rate * sign(mean of load - load). */
struct balance_args {
    float *bias;        /* [experts] */
    const double *load; /* [experts] */
    uint32_t experts;
    float rate;
    void *stream;
};

typedef void (*op_kernel)(const struct op_args *a);
/* Of a row { F, BI, BW } of a back end's table; NULL: none. */
static inline op_kernel op_kernel_of(const op_kernel row[3], enum ir_pass pass)
{
    return pass == IR_PASS_F ? row[0] : pass == IR_PASS_BI ? row[1] : pass == IR_PASS_BW ? row[2] : NULL;
}
/* What `first` and then `second` would do, in one. */
typedef void (*op_pair)(const struct op_args *first, const struct op_args *second);

/* What a back end has from libraries, which look for good algorithms before the first step: open; prepare, for every kernel and
 * size; store; close. */
struct compute_libraries {
    /* stream: where products are timed. cache_path: the file of what was chosen, NULL: none. ST_DEVICE, ST_INPUT. */
    enum status (*open)(void *stream, const char *cache_path, struct err *e);
    /* True: from now on prepare() times what is not chosen yet; false, as after open(): it takes what the library puts first. */
    void (*choose)(bool choose);
    /* Products prepared so that are still to be timed. */
    uint32_t (*unchosen)(void);
    /* What was chosen so far, as text, the caller's (mem_free); and such a text of another process, of which what was chosen
     * with another library or on another device counts for nothing. from: for messages. ST_INPUT. */
    void (*tell)(void **text, uint64_t *bytes);
    enum status (*hear)(const void *text, uint64_t bytes, const char *from, struct err *e);
    /* The operands are real ones; what the kernel would write may be lost. ST_DEVICE. */
    enum status (*prepare)(const struct op_args *a, enum ir_op op, enum ir_pass pass, struct err *e);
    /* The same for a kernel of compute_backend.pair, after prepare() for each of the two. work: the workspace of the first when it
     * runs apart. False: no library has an algorithm for the pair, or the two apart are faster. */
    bool (*prepare_pair)(const struct op_args *first, const struct op_args *second, enum ir_pass pass, void *work);
    /* Before prepare(): communication takes so many multiprocessors beside the kernels; 0: none. */
    void (*leave)(uint32_t multiprocessors);
    enum status (*store)(struct err *e); /* the file; ST_IO */
    void (*close)(void);
    /* Lines for the log about what was prepared, as which kernel is a slow one, each with its newline; until close(). */
    const char *(*notes)(void);
    const char *(*versions)(void); /* "cuBLASLt 13.1.0, ...", static storage */
    /* Do this operator's kernels wait for their stream and read operands on the host? Then they cannot be captured. */
    bool (*host_reads)(enum ir_op op, const struct ir_attrs *attrs);
};

struct compute_backend {
    const char *name;
    const char *target; /* name of the ir_target that its plans are made for */
    /* The kernel of (op, F|BI|BW); NULL where ir_op_has_kernel() is false. No such function: this back end computes nothing, it is
     * a name and a target. */
    op_kernel (*kernel)(enum ir_op op, enum ir_pass pass);
    /* NULL: none. One kernel for two neighbours of a program in the same pass, F or BI, whose operands are these, or NULL. The
     * result of the first, out[0] or din[0], is in[0] or dout[0] of the second. In F it is written all the same; in BI nobody
     * else reads it, and its memory holds anything afterwards. No other output of either lies where the other has an
     * operand; first->work is NULL where the second writes over it. */
    op_pair (*pair)(enum ir_pass pass, const struct op_args *first, const struct op_args *second);
    /* AdamW (decoupled weight decay, Loshchilov and Hutter) or SGD: param -= lr*(grad*grad_scale + wd*param). Nothing where
     * s->skip. s: the back end's memory. */
    void (*update)(const struct update_args *u, const struct step_inputs *s);
    /* Of these arrays (bits 1 << enum update_array) as far as there are: check: the sums are compared with what is there; else taken
     * from it. NULL: this back end keeps none. */
    void (*checksum)(const struct update_args *u, uint32_t arrays, bool check);
    /* Nothing where s->skip. s: the back end's memory. */
    void (*balance)(const struct balance_args *b, const struct step_inputs *s);
    /* grad_scale and skip from the step's sums: norm = sqrt(scalars[SCALAR_NORM2]); skipped is where the norm, LOSS or AUX is
     * not finite, or NONFINITE not zero, or where skip is set already. All in the back end's memory. */
    void (*clip)(struct step_inputs *s, const double *scalars, double clip_norm, void *stream);
    /* *sum += the sum of squares of n float32, in float64, in an order that depends on n alone; *nonfinite += count of
     * NaN and Inf. */
    void (*sumsq)(const float *x, uint64_t n, double *sum, double *nonfinite, void *stream);
    /* Threads that kernels may use; NULL on a device. */
    void (*set_threads)(int n);
    /* NULL: nothing to choose. The instructions that kernels use here, "avx512; products: float32 avx512, bfloat16 avx512";
     * static storage. */
    const char *(*uses)(void);
    /* NULL: none. */
    const struct compute_libraries *libraries;
    /* NULL on the host, where every call returns when its work is done and memory is the host's. */
    const struct device_ops *device;
};
extern const struct compute_backend compute_cpu;

#endif
