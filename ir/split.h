/* A device that has a part of the tokens, heads, features or words: piper-strategy(5), "shard with a dimension". What a kernel sees of
 * it are smaller attributes (ir_op_local()), other numbers of tokens (ir_op_part_shapes()), and, where it matters, positions
 * (struct op_positions, src/exec/compute.h).
 *
 * Devices that share the sequences of a replica are a sequence group; of these, neighbours that share the blocks of parameters are
 * a tensor group; those with the same place in their tensor groups are a context group. */
#ifndef PIPER_IR_SPLIT_H
#define PIPER_IR_SPLIT_H

#include "ir/op.h"

#ifdef __CUDACC__ /* kernels ask too */
#define IR_INLINE static inline __host__ __device__
#else
#define IR_INLINE static inline
#endif

/* ---- who has which tokens ---------------------------------------------------------------------------------------- */

/* n members share t tokens; c context parts of n/c members each. Part i has, contiguous, t/c tokens from i*t/c; zigzag, of 2c equal
 * chunks numbers i and 2c-1-i. Member i*(n/c)+j has slice j of the part's rows, cut evenly. n divides t, c divides n; zigzag: 2c too. */
struct ir_rows {
    uint32_t t, n, c, zigzag;
};
struct ir_run {
    uint32_t first, count; /* positions first, first+1, ... */
};
/* The runs of a member, ascending; the second has count 0 where there is one. Of a whole context part: a member of { t, c, c, zigzag }. */
IR_INLINE void ir_rows_of(const struct ir_rows *r, uint32_t member, struct ir_run run[2])
{
    const uint32_t p = r->n / r->c, i = member / p, m = r->t / r->n, from = member % p * m, to = from + m;
    const uint32_t half = r->t / r->c / 2; /* zigzag: rows of a chunk */
    run[1].first = run[1].count = 0;
    if (!r->zigzag || to <= half) {
        run[0].first = i * (r->zigzag ? half : r->t / r->c) + from;
        run[0].count = m;
    } else if (from >= half) {
        run[0].first = (2 * r->c - 1 - i) * half + (from - half);
        run[0].count = m;
    } else {
        run[0].first = i * half + from;
        run[0].count = half - from;
        run[1].first = (2 * r->c - 1 - i) * half;
        run[1].count = to - half;
    }
}

/* ---- which part of an operator ----------------------------------------------------------------------------------- */

enum ir_split {
    IR_WHOLE,     /* every parameter whole */
    IR_ROWS_OF_W, /* linear: a block of output features, and of the bias */
    IR_COLUMNS_OF_W, /* linear: a block of input features; the bias is whole and acts on the rows of the device's own tokens alone */
    IR_HEADS, /* attention, rope, join_heads, norms of single heads: a block of heads; at least one key/value head */
    IR_WIDTH, /* elementwise operators: a block of features. rmsnorm of a whole row: too, in two phases */
    IR_WORDS, /* embed, head_loss: a block of ceil(vocab/parts) words, the last one may have fewer */
    IR_COUNTS, /* router, dispatch, experts, combine: whole experts, and what is counted is counted over the sequence group:
                          capacities by position in the whole sequence, rows that stay as without one */
    IR_TURNED, /* attention: a block of heads of all tokens of the sequence, those of a context group turned round by an all-to-all */
    IR_RING, /* attention: a block of heads, or all (1 part); keys and values come one context part after the other */
    IR_SPLITS
};
/* How a value lies on the devices. Tokens: own ones, the whole width. Whole: all of the tensor group. Columns: those, own heads, features
 * or words. Terms: as whole, to be added over the tensor group. Keys: all tokens of the sequence by position, own heads; where the tensor
 * group has all tokens (one context part) as columns. Key terms: as keys, to be added over the context group: the gradient of keys.
 * Heads: all tokens of the sequence by position, one block of the heads that the device would have of its own tokens. Blocks: own tokens, these
 * blocks one behind the other, in the order of the context group: what an all-to-all turns into heads, and heads into. Starts: where the
 * document of each token of the sequence begins; (b,T), and the same on every device. */
enum ir_layout {
    IR_LAYOUT_TOKENS,
    IR_LAYOUT_WHOLE,
    IR_LAYOUT_COLUMNS,
    IR_LAYOUT_TERMS,
    IR_LAYOUT_KEYS,
    IR_LAYOUT_KEY_TERMS,
    IR_LAYOUT_HEADS,
    IR_LAYOUT_BLOCKS,
    IR_LAYOUT_STARTS,
    IR_LAYOUTS
};

/* Does it count over whole sequences (a capacity; a router's loss of sequences), so that it needs IR_COUNTS where these are shared? A
 * router does too whose choices a dispatch with a capacity reads. */
static inline bool ir_op_counts(const struct ir_attrs *a)
{
    return a->capacity > 0 || a->aux_coef > 0;
}
/* Whether the operator has such a split, and its sizes can be split into so many parts. */
bool ir_op_splits(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t parts);
/* The attributes of one part: heads, kv_heads (1 at least), features, in_features, out_features or vocab divided; IR_COUNTS: capacity 0. */
struct ir_attrs ir_op_local(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t parts);
/* The layouts of inputs and outputs that the equations of the split operator take and give, as far as it has them. WHOLE: tokens, but for
 * the keys of attention; an operator outside of regions. Gradients are dual: of tokens tokens, of columns columns, of heads heads, of whole terms, of
 * keys key terms, of terms whole. */
void ir_op_layouts(enum ir_op op, enum ir_split split, enum ir_layout in[IR_MAX_IN], enum ir_layout out[IR_MAX_OUT]);
/* The dimension of parameter i along which blocks are cut; -1: every device has it whole. */
int ir_op_param_cut(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t i);

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

/* How a kernel's part is cut out. All 0: not at all. */
struct ir_share {
    uint32_t split; /* enum ir_split */
    uint32_t parts; /* devices that tell each other numbers: the tensor group, for IR_COUNTS the sequence group. 0: 1 */
    uint32_t
        keys; /* attention: keys and values there are here; 0: as many as tokens. Where documents are apart: tokens of the whole sequence */
    uint32_t ring; /* attention: context parts whose keys come one after the other; 0: all keys are there */
    uint32_t sets; /* IR_COUNTS: counts that the router tells, ir_graph_count_sets() of it. 0: 1 */
};
/* How a job shares sequences of t tokens: so many context parts, and devices of a tensor group. sets: of the operator that is asked about. */
struct ir_sharing {
    uint32_t t, context, tensor, sets;
};
/* That of an operator split into so many blocks. Where these are fewer than the devices of a tensor group, several have the same. */
struct ir_share ir_share_of(enum ir_op op, const struct ir_attrs *a, enum ir_split split, uint32_t parts,
                            const struct ir_sharing *all);
/* ir_op_shapes() of a part: a are its local attributes, t its tokens. Beside those,
 *   documents apart      the last input, where they begin, has `keys` tokens
 *   attention            in[1], in[2] have `keys` tokens; packed q, k, v are not split (ir_graph_unpack()); ring: save[1] o so far, stash[0] dq so far, stash[1] dk and dv of a part so far, side
 *                        by side (keys, kv_heads*(D+Dv)), all float32
 *   rmsnorm, IR_WIDTH    save[1], stash[0] (parts,t) float32: sums of x*x, of x*w*dy, over the columns of each member. Columns that r members
 *                        have count r times, and the width they are divided by is that of all members; of each of these members dy is a term
 *   head_loss, IR_WORDS  save[1] (parts,t,3) float32: of each member and row the greatest logit, the sum of exp(logit - it), the target's
 *                        logit (0 where the target is another's)
 *   router, IR_COUNTS    save[1] (parts,2*sets,E) int32: choices of each expert in each run of each member; in memory (parts,sets,2,b,E). The
 *                        last set is what its loss counts: the best by score alone where that is a SEQUENCE_LOSS (ir_op_counts_apart());
 *                        the first what a capacity does: its choices
 *   dispatch, IR_COUNTS  in[2]: that of its router
 * What members tell each other lies in the order of members, and each begins by writing its own part: an all-gather in place. */
void ir_op_part_shapes(enum ir_op op, const struct ir_attrs *a, uint32_t t, const struct ir_share *share,
                       struct ir_op_shapes *s);
/* Calls that make up one pass of a kernel, each after an exchange: 1; 2 where members tell each other numbers in between (head_loss and
 * router: F; rmsnorm: F and BI); ring: one for each part of the keys, and BI one more when dk and dv are at home. */
uint32_t ir_op_phases(enum ir_op op, enum ir_pass kernel, const struct ir_share *share);

/* A kernel, as far as its scratch and its work depend on it. */
struct ir_kernel {
    enum ir_op op;
    enum ir_pass pass;            /* F, BI, BW */
    const struct ir_attrs *attrs; /* local ones */
    uint32_t b, t;                /* sequences, tokens of each */
    uint32_t ep;                  /* devices that the experts are split over */
    enum ir_dtype compute;
    struct ir_share share;
};
/* ir_op_info.flops() and ir_op_bytes() of a part; all its phases. run: where its tokens stand; NULL: they are a whole sequence. */
double ir_kernel_flops(const struct ir_kernel *k, const struct ir_run run[2]);
double ir_kernel_bytes(const struct ir_kernel *k);

#endif
