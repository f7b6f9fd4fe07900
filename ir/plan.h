/* The plan: what the ranks of one class execute. A pointer-free blob, validated whole before use, constant while running.
 *
 * A class is a set of devices that run the same program: as sets, two device sets of a strategy are equal or disjoint, so
 * the classes are the distinct sets. All members of a class share one blob; what differs (peers, members of groups, place in
 * a bucket) follows from the rank's index in the device sets, which are tables of ranges in the blob.
 *
 * Chunk programs are lists of kernels with offsets relative to slots. An instruction names a program and one base per slot;
 * so a program is stored once, whatever the number of microbatches. A plan holds several lists of instructions ("train",
 * "eval") over the same programs, memory and channels.
 *
 * Layout: struct plan_header, then the sections at the offsets it names, each an array of the fixed-size records below,
 * 8-byte aligned, in native byte order. Built by plan_builder (ir/plan.c), read through struct plan. */
#ifndef PIPER_IR_PLAN_H
#define PIPER_IR_PLAN_H

#include "base/mem.h"
#include "base/status.h"
#include "ir/graph.h"
#include "ir/split.h"
#include "ir/optimizer.h"
#include "ir/scalar.h"

enum { PLAN_MAGIC = 0x50495031, PLAN_VERSION = 5, PLAN_NONE = UINT32_MAX, PLAN_COMPUTE_STREAM = 0 };
/* Bound of every count and of a rank's bytes, so that no product of sizes overflows. */
#define PLAN_MOST         ((uint64_t)1 << 48)
#define PLAN_SECONDS_MOST 1e9f /* predicted times are below */

/* ---- tables that concern devices ---- */

struct plan_range { /* devices start, start+stride, ... */
    uint32_t start, stride, count;
};
struct plan_set { /* ordered device set: ranges one after the other */
    uint32_t first_range, n_ranges, size;
};
/* The members of a communication: UNION: all devices of sets first_set.. as one group, in that order; EACH: every set is a
 * group of its own (the sets are disjoint), and a device's group is the set that contains it. */
enum plan_group_kind { PLAN_GROUP_UNION, PLAN_GROUP_EACH };
struct plan_group {
    uint32_t kind, first_set, n_sets;
};
/* One communicator of this class: a group on a stream. id: number in the whole job. */
struct plan_channel {
    uint32_t id, group, stream;
};
struct plan_stream {
    uint32_t name;     /* offset in the text section */
    uint32_t max_ctas; /* 0: the library's choice */
    int32_t priority;  /* 0 normal, 1 high */
    uint32_t pad;
    uint64_t scratch, scratch_bytes; /* byte offset in ARENA_COMM; the same size on all ranks that have this stream */
};

/* ---- parameters: the shard map ---- */

/* Memory of a rank: one allocation each. ARENA_WORK holds activations, communication buffers and workspaces; ARENA_COMM is
 * the communication back end's own, for the terms of reductions: no base names it. Nor ARENA_SNAPSHOT, host memory
 * always, where this rank's part of the state lies while a checkpoint is written. */
enum plan_arena {
    ARENA_PARAMS,
    ARENA_GRADS,
    ARENA_OPTIM,
    ARENA_WORK,
    ARENA_SCALARS,
    ARENA_COMM,
    ARENA_SNAPSHOT,
    ARENA_COUNT
};
/* Is it the host's memory also where the target is a device? */
static inline bool plan_arena_on_host(uint32_t arena)
{
    return arena == ARENA_COMM || arena == ARENA_SNAPSHOT;
}

enum plan_kind_of_memory {
    MEM_PARAMS,
    MEM_GRADS,
    MEM_OPTIMIZER,
    MEM_ACTIVATIONS,
    MEM_COMM,
    MEM_WORKSPACE,
    MEM_SNAPSHOT,
    MEM_KINDS
};
const char *plan_memory_name(enum plan_kind_of_memory k); /* "params", "grads", ... as in piper plan --json */

/* What is sharded over the holders of a bucket, each level all that the ones before it shard. Ask by the functions below. */
enum plan_zero { ZERO_NONE, ZERO_STATE, ZERO_GRADS, ZERO_PARAMS };
static inline bool zero_shards_state(uint32_t zero) /* masters and moments; the update */
{
    return zero >= ZERO_STATE;
}
static inline bool zero_shards_grads(uint32_t zero)
{
    return zero >= ZERO_GRADS;
}
static inline bool zero_shards_params(uint32_t zero)
{
    return zero >= ZERO_PARAMS;
}
/* Parameters are whole on every holder, and each updates its part alone: parts are gathered when the next step begins. */
static inline bool zero_gathers_at_start(uint32_t zero)
{
    return zero_shards_state(zero) && !zero_shards_params(zero);
}

/* What UPDATE does with a bucket: a step of the optimizer with its gradients; or it is the state of routers, whole and float32 on
 * every holder, without gradient, master and moments, and each selection bias b_i is moved by the load of its experts:
 * b_i += rate * sign(mean of c - c_i), c_i the tokens of the whole step that expert i was chosen by (DeepSeek-V3, arXiv 2412.19437,
 * 2.1.2). The loads stand behind the scalars (ir_graph_loads), summed over all ranks with them; so it is updated after them. Or nothing:
 * frozen parameters are sharded as others are, but have no gradient and no moments, and nothing changes them: so no part of them is
 * gathered where all of them is on every holder. */
enum plan_rule { PLAN_RULE_OPTIMIZER, PLAN_RULE_BALANCE, PLAN_RULE_FROZEN };

/* A bucket: parameters that are reduced, gathered and updated together, flat, of one type. Elements [0, n_decay) decay. The flat
 * range is padded to a multiple of the H holders. What is sharded is cut into equal shards: holder i has the i-th of H. With zero_group n
 * device k of its group `shard` has the k-th of n, and the G = H/n devices that have the same one are its group `copies`. Of its shard
 * device g of these owns the g-th of G equal parts (without zero_group: all of it): its share of the norm everywhere, what it writes into a
 * checkpoint, and with state_all what it keeps optimizer state of and updates. */
struct plan_bucket {
    uint32_t first_piece, n_pieces; /* in the shard map */
    uint32_t holders;               /* group: every device with a copy */
    uint32_t zero;                  /* enum plan_zero */
    uint32_t type;                  /* of the parameters: IR_F32 or IR_BF16 of enum ir_dtype */
    uint32_t rule;                  /* enum plan_rule */
    uint64_t elements;              /* padded */
    uint64_t n_decay;
    uint64_t param, grad;  /* byte offsets in ARENA_PARAMS and ARENA_GRADS; no gradients: UINT64_MAX */
    uint64_t master, m, v; /* byte offsets in ARENA_OPTIM; UINT64_MAX: has none */
    /* byte offset in ARENA_SNAPSHOT of this holder's own part in float32: of the parameters, then of m and of v where it has
     * them, without gaps; UINT64_MAX: no snapshot is planned */
    uint64_t snapshot;
    uint32_t
        zero_group; /* devices that parameters, gradients and state are sharded over; 0: the holders, and what follows is 0 */
    uint32_t shard, copies; /* groups */
    uint32_t state_all;     /* 1: state is sharded over all holders */
};
/* Elements of a shard, and of the part that a holder updates where state is sharded. */
static inline uint64_t plan_shard_elements(const struct plan_bucket *b, uint32_t holders)
{
    return b->elements / (b->zero_group ? b->zero_group : holders);
}
static inline uint64_t plan_state_elements(const struct plan_bucket *b, uint32_t holders)
{
    return b->state_all ? b->elements / holders : plan_shard_elements(b, holders);
}
/* The part of a parameter that a device holds, and its place: `count` elements of the logical tensor (row-major) at `offset` of the
 * bucket. With split 1 the whole tensor. With split > 1 the tensor is cut into `split` blocks, and device number i of its set of
 * group `owners`, of which there are `size`, holds block k = i*split/size, rounded down. run 0: blocks of `count` elements one
 * after the other, along the first dimension, the last of which may have fewer (its end is padding). Else a block is a box: of every
 * `stride` elements of the tensor the `run` from k*run on. All that from element `first` on, 0 but of a part (struct ir_param), which is
 * said in elements of the parameter that it is a part of, rows that do not follow each other as a box. */
struct plan_piece {
    uint32_t param, bucket;
    uint32_t part_of, pad;
    uint64_t first, count; /* elements */
    uint64_t offset;       /* elements from the start of the bucket */
    uint64_t run, stride;  /* elements */
    uint64_t elements;     /* of the tensor, where the last block may have fewer; 0: all blocks are full */
    uint32_t split, owners;
};

/* ---- programs ---- */

/* OWN: the base is this holder's shard of a bucket that stands there whole; of a gather of numbers, this member's. PART: what this
 * holder owns of its shard, which stands there alone or, with OWN, in the whole bucket. */
enum plan_access { PLAN_READ = 1, PLAN_WRITE = 2, PLAN_OWN = 4, PLAN_PART = 8 };
struct plan_slot {
    uint64_t bytes;
    uint32_t access; /* bits: what the program does with it */
    uint32_t kind;   /* enum plan_slot_kind */
};
enum plan_slot_kind {
    SLOT_PARAM,
    SLOT_GRAD,
    SLOT_TENSOR,
    SLOT_GRADIENT,
    SLOT_KEEP,
    SLOT_STASH,
    SLOT_TEMP,
    SLOT_RING, /* gradients so far of keys and values of one context part, which travel between the pieces of a ring */
    SLOT_KINDS
};

/* Operand of a kernel. Operands stand in the order of struct op_args: in, out, save, stash, param, dout, din, acc, dparam,
 * work; `mask` of the kernel says which are there (bit = enum plan_operand_index). */
struct plan_operand {
    uint32_t slot;   /* of the program */
    uint32_t flags;  /* PLAN_OPERAND_ADD: a dparam that an earlier kernel of this program has written already */
    uint64_t offset; /* bytes from the slot's base */
};
enum { PLAN_OPERAND_ADD = 1 };
enum plan_operand_index {
    OPERAND_IN = 0,
    OPERAND_OUT = OPERAND_IN + IR_MAX_IN,
    OPERAND_SAVE = OPERAND_OUT + IR_MAX_OUT,
    OPERAND_STASH = OPERAND_SAVE + IR_MAX_SAVE,
    OPERAND_PARAM = OPERAND_STASH + IR_MAX_STASH,
    OPERAND_DOUT = OPERAND_PARAM + IR_MAX_PARAM,
    OPERAND_DIN = OPERAND_DOUT + IR_MAX_OUT,
    OPERAND_ACC = OPERAND_DIN + IR_MAX_IN,
    OPERAND_DPARAM = OPERAND_ACC + IR_MAX_IN,
    OPERAND_WORK = OPERAND_DPARAM + IR_MAX_PARAM,
    OPERAND_COUNT
};
struct plan_kernel {
    uint32_t op;            /* enum ir_op */
    uint32_t graph_op;      /* operator of the model graph (attributes, name); PLAN_NONE for SUM and COPY */
    uint32_t tensor;        /* SUM, COPY: of the graph, whose gradient or a part of it is made; else 0 */
    uint32_t first_operand; /* as many as mask has bits */
    uint64_t mask;          /* operands present */
    uint8_t pass;           /* F, BI or BW */
    uint8_t again;          /* 1: F computed again for a backward; it adds nothing to the step's scalars */
    uint8_t type;           /* SUM, COPY: enum ir_dtype of the elements, IR_COMPUTE or IR_F32; else IR_COMPUTE */
    uint8_t split;          /* what of the operator this device has, enum ir_split; 0: all */
    /* (IR_RING: all context parts come, one a phase) */
    uint32_t parts; /* with a split: blocks; device i of a group `parts` of the program of size p has block i*parts/p */
    uint64_t n;     /* SUM, COPY: elements; else 0 */
};
/* "in0", "acc2", "work". */
const char *plan_operand_name(uint32_t index);
/* Does a kernel of this operator and pass write this operand (enum plan_operand_index)? Else it reads it. Sums and copies write
 * out[0] in any pass. */
static inline bool plan_writes(uint32_t op, uint32_t pass, uint32_t operand)
{
    if (operand >= OPERAND_OUT && operand < OPERAND_STASH)
        return pass == IR_PASS_F || op >= IR_OP_GRAPH_COUNT;
    if (operand >= OPERAND_STASH && operand < OPERAND_PARAM)
        return pass == IR_PASS_BI;
    return (operand >= OPERAND_DIN && operand < OPERAND_ACC) || operand >= OPERAND_DPARAM;
}
/* A norm of rows that several devices have, computed again: it reads save 0, the statistics that its forward kept, and has its second phase
 * only. */
static inline bool plan_knows(const struct plan_kernel *k)
{
    return k->again && k->op == IR_OP_RMSNORM && k->split == IR_WIDTH;
}
static inline bool plan_kernel_writes(const struct plan_kernel *k, uint32_t operand)
{
    return plan_writes(k->op, k->pass, operand) && !(plan_knows(k) && operand == OPERAND_SAVE);
}
/* How much of its pass a kernel of the graph does: less than 1 of a BW that gives the gradients of some parameters alone (ir_op_bw_parts()). */
double plan_portion(const struct plan_kernel *k, const struct ir_attrs *a);
struct plan_program {
    uint32_t chunk, sub; /* of the model; sub: number of the sub-chunk in the whole model */
    uint32_t pass;       /* F, B, BI, BW */
    uint32_t first_kernel, n_kernels;
    uint32_t first_slot, n_slots;
    uint32_t ep;     /* devices that the experts are split over */
    uint32_t eval;   /* forward only: nothing is kept */
    uint32_t tokens; /* of a sequence that its rows are; 0: all, in the order of a job whose sequences are not shared */
    uint32_t parts;  /* group over which its split operators are split; where no kernel has a split: 0 */
    uint32_t
        phases; /* it runs in so many pieces more, one after the other on the same bases. Exchanges of numbers inside: so many kernels
                              have two phases (plan_told()), piece i > 0 begins with phase 1 of the i-th of them. A ring (a kernel with IR_RING): piece i is
                              phase i of it; what it reads of keys and values, and SLOT_RING, have other bases, which a SHIFT brought */
    float seconds; /* predicted time of one run; 0: no prediction */
};

/* ---- instructions ---- */

enum plan_op {
    PLAN_LOAD, /* host: tokens or targets of a microbatch into base 0; count: of each sequence `count` tokens, 0: all */
    PLAN_RUN,  /* bases = the slots of the program; count: which piece of it */
    PLAN_SEND, /* base 0 to `peer_set`[my index in my_set] */
    PLAN_RECV, /* base 0 from `peer_set`[my index in my_set] */
    PLAN_EXCHANGE, /* send base 0 and receive base 1 at once: both sets are of this class. To peer_set[my index in my_set],
                            from my_set[my index in peer_set] */
    PLAN_ALL_REDUCE, /* base 0 in place, over the channel */
    PLAN_REDUCE_SCATTER, /* base 0 (count*size) to base 1 (count), which may be this member's part of base 0. Of gradients: over the
                            holders, or with zero_group within a group, then over copies */
    PLAN_ALL_GATHER, /* base 0 (count) to base 1 (count*size); base 0 may be this member's part of base 1 */
    PLAN_ADD, /* base 0 += base 1, count float32; base 0 `first`: base 0 = base 1. On the stream of a reduction */
    PLAN_ALL_TO_ALL, /* base 0 to base 1, count elements per member */
    PLAN_ALL_TO_ALL_V, /* base 0 to base 1, rows of count elements; as many for each member as its counts add up to: base 2 of
                            what is sent, base 3 of what is received, int32, equally many per member */
    PLAN_SHIFT, /* base 0 (count) to the next member of the channel's group, base 1 from the one before, at once */
    PLAN_SUMSQ, /* scalar NORM2 += squares of this holder's part of the bucket; no bases */
    PLAN_SCALARS, /* all-reduce of the step's scalars and loads (float64, in place) over the channel, all ranks; grad_scale is
                            known after it; no bases */
    PLAN_UPDATE, /* the bucket's rule: reads its gradients, writes parameters and moments; no bases */
    /* Experts whose rows may be more than there is room for: a member of the channel's group has room for so many rows as the buffers of
     * TO_EXPERTS and FROM_EXPERTS hold where the experts are. Of the rows that come to it, member after member, round r takes the r-th
     * so many; there are as many rounds as the member that gets most rows needs. Base 0 of ROUNDS and base 2 of the exchanges: the counts
     * of all members, int32, each in the order in which it sends; all members have the same, so they agree. */
    PLAN_ROUNDS, /* the next `count` instructions (plan_is_extra()) run once for each round but round 0, the last first, or never. Base 1:
                            what of the counts comes to this member in the round that follows, so in round 0 at the end. Bases from 2 on:
                            gradients that the repeated ones are the first to add to; they are zeroed, also where nothing is repeated */
    PLAN_TO_EXPERTS, /* rows of count elements of base 0, which holds all that this member sends, to those of this round in base 1; of
                            round 0 where it is not repeated */
    PLAN_FROM_EXPERTS, /* and back: rows of this round in base 0 to their places in base 1 */
    PLAN_OP_COUNT
};
const char *plan_op_name(enum plan_op op);

struct plan_instr {
    uint8_t op;   /* enum plan_op */
    uint8_t pass; /* enum ir_pass, or IR_PASS_NONE */
    uint16_t stream;
    uint16_t mb; /* microbatch; 0xffff: none */
    uint16_t n_waits;
    uint16_t n_bases;
    uint16_t type; /* enum ir_dtype of what is communicated: IR_F32, IR_BF16, IR_I32, IR_F64 */
    union {
        uint32_t what; /* whichever of these: see enum plan_op */
        uint32_t
            tensor; /* of the graph: LOAD, SEND, RECV, EXCHANGE, ALL_TO_ALL, ALL_TO_ALL_V, ROUNDS, TO_EXPERTS, FROM_EXPERTS; SHIFT, REDUCE_SCATTER and
                       ALL_GATHER of one */
        uint32_t program; /* RUN */
        uint32_t bucket;  /* the others; SCALARS: 0 */
    };
    uint32_t node; /* of the global DAG: the same number on both ends and on all members */
    uint32_t
        tag; /* SEND, RECV, EXCHANGE: numbered per pair of classes; RUN, TO_EXPERTS, FROM_EXPERTS: 1: ROUNDS repeats it */
    uint32_t first_wait, first_base;
    uint32_t channel;          /* index of plan_channel, collectives only */
    uint32_t my_set, peer_set; /* LOAD (my_set: replica = my index in it), SEND, RECV, EXCHANGE */
    float seconds;             /* predicted time, alone; RUN: 0, its program has it; 0: no prediction */
    uint64_t count;            /* communicated elements */
};
/* Does it move rows of experts, as many as the router has chosen? */
static inline bool plan_moves_rows(const struct plan_instr *in)
{
    return in->op == PLAN_ALL_TO_ALL_V || in->op == PLAN_TO_EXPERTS || in->op == PLAN_FROM_EXPERTS;
}
/* Does a ROUNDS before it repeat the instruction, for rounds beyond the first? */
static inline bool plan_is_extra(const struct plan_instr *in)
{
    return in->tag && (in->op == PLAN_RUN || in->op == PLAN_TO_EXPERTS || in->op == PLAN_FROM_EXPERTS);
}
/* Predicted seconds of an instruction alone; a program in pieces has in each an equal part. What only further rounds need has none. */
static inline double plan_seconds(const struct plan_program *programs, const struct plan_instr *in)
{
    if (plan_is_extra(in))
        return 0;
    const struct plan_program *g = in->op == PLAN_RUN ? &programs[in->program] : NULL;
    return g ? (double)g->seconds / (g->phases + 1) : (double)in->seconds;
}
/* Waits: indices of earlier instructions of the same list, on other streams. */
struct plan_base {
    uint8_t arena;   /* enum plan_arena */
    uint8_t first;   /* SLOT_GRAD: nothing has been written to this bucket in the step: write, do not add */
    uint16_t access; /* bits: what this instruction does with it (for RUN as the slot says) */
    uint32_t buffer; /* WORK: index of plan_buffer; else the bucket, or PLAN_NONE */
    uint64_t offset; /* bytes in the arena */
};
/* A buffer of ARENA_WORK: one value in one microbatch. Buffers may share bytes; the checker proves that they are never alive
 * together. */
struct plan_buffer {
    uint64_t offset, bytes;
    uint16_t kind;   /* enum plan_kind_of_memory */
    uint16_t layout; /* enum ir_layout, of a tensor or a gradient; tokens where sequences are not shared */
    uint32_t role;   /* enum plan_slot_kind */
    uint32_t what;   /* tensor of the graph, or sub-chunk */
    uint16_t mb;
    uint16_t list; /* buffers belong to one list */
};
struct plan_list {
    uint32_t name; /* text: "train", "eval" */
    uint32_t first_instr, n_instr;
    uint32_t microbatches;
    uint32_t microbatch_size; /* sequences */
    uint32_t replicas;        /* of the data, over the whole job */
};

/* The sections of a blob, in their order: name, record, field of struct plan and of struct plan_builder. */
#define PLAN_SECTION_LIST(ROW)                   \
    ROW(RANGES, struct plan_range, ranges)       \
    ROW(SETS, struct plan_set, sets)             \
    ROW(GROUPS, struct plan_group, groups)       \
    ROW(CHANNELS, struct plan_channel, channels) \
    ROW(STREAMS, struct plan_stream, streams)    \
    ROW(BUCKETS, struct plan_bucket, buckets)    \
    ROW(PIECES, struct plan_piece, pieces)       \
    ROW(SLOTS, struct plan_slot, slots)          \
    ROW(OPERANDS, struct plan_operand, operands) \
    ROW(KERNELS, struct plan_kernel, kernels)    \
    ROW(PROGRAMS, struct plan_program, programs) \
    ROW(INSTRS, struct plan_instr, instrs)       \
    ROW(WAITS, uint32_t, waits)                  \
    ROW(BASES, struct plan_base, bases)          \
    ROW(BUFFERS, struct plan_buffer, buffers)    \
    ROW(LISTS, struct plan_list, lists)          \
    ROW(TEXT, char, text)
#define PLAN_SECTION_ID(id, record, field) PLAN_S_##id,
enum plan_section { PLAN_SECTION_LIST(PLAN_SECTION_ID) PLAN_SECTIONS };
struct plan_header {
    uint32_t magic, version;
    uint64_t bytes; /* of the whole blob */
    uint32_t class_id, n_classes;
    uint32_t devices; /* set: the members of this class, ascending */
    uint32_t world;   /* ranks of the job */
    uint32_t n_channels_world;
    uint32_t compute;   /* enum ir_dtype: IR_F32 or IR_BF16 */
    uint32_t optimizer; /* enum optimizer */
    uint32_t clip;      /* 1: updates wait for the norm */
    uint32_t share;     /* devices that share the sequences of a replica; 0: sequences are not shared */
    uint32_t
        context; /* parts of a sequence by position, of share/context devices each; a device has one slice of a part */
    uint32_t tensor;      /* devices of a tensor group: neighbours that share blocks of parameters */
    uint32_t zigzag;      /* 1: part i is the equal chunks i and 2*context-1-i of a sequence; 0: chunk i of `context` */
    uint32_t share_group; /* group: a set of `share` devices is a replica; member i of it has slice i */
    uint64_t arena_bytes[ARENA_COUNT];
    uint64_t peak_bytes[MEM_KINDS]; /* each kind at its own peak, per rank */
    uint64_t total_bytes;           /* what a rank allocates: the sum of the arenas */
    uint64_t first[PLAN_SECTIONS];  /* byte offset */
    uint64_t count[PLAN_SECTIONS];  /* records; bytes for the text */
};

/* A view of a validated blob: const pointers into it. */
struct plan {
    const struct plan_header *h;
#define PLAN_SECTION_VIEW(id, record, field) const record *field;
    PLAN_SECTION_LIST(PLAN_SECTION_VIEW)
};

/* Checks magic, version, sizes and every index and range of the blob; the view borrows it. ST_BUG with a sentence when
 * something is wrong. n_graph_ops, n_params, n_tensors: of the model that the plan belongs to. */
enum status plan_open(const void *blob, uint64_t bytes, uint32_t n_graph_ops, uint32_t n_params, uint32_t n_tensors,
                      struct plan *p, struct err *e);

/* Of ARENA_SCALARS: the scalars and the loads of experts. */
static inline uint64_t plan_scalars_bytes(const struct ir_graph *g)
{
    return (SCALAR_COUNT + (uint64_t)ir_graph_loads(g, NULL)) * sizeof(double);
}

/* Bytes of a bucket's snapshot on one of its holders. */
static inline uint64_t plan_snapshot_bytes(const struct plan_bucket *b, uint32_t holders)
{
    return b->elements / holders * 4 * (1 + (b->m != UINT64_MAX) + (b->v != UINT64_MAX));
}

/* What a rank allocates where: their sum is total_bytes. */
struct plan_places {
    uint64_t device, host; /* bytes; device is 0 where the target is no device */
};
struct plan_places plan_places(const struct plan *p, bool device);

/* Device i of a set; index of a device in a set, PLAN_NONE when it is not in it. */
uint32_t plan_set_at(const struct plan *p, uint32_t set, uint32_t i);
uint32_t plan_set_index(const struct plan *p, uint32_t set, uint32_t device);
/* The devices of some ranges: "0-3", "0,4,9-30:7"; ",..." where text ends. */
void plan_ranges_text(const struct plan_range *r, uint32_t n, char *text, size_t size);
/* The lane of a message (SEND, RECV, EXCHANGE) of a device: those with one number share a communicator where messages need one,
 * all exchanges of a class, else a direction to a peer; forward apart from backward, so neither waits for the other. */
uint64_t plan_lane(const struct plan *p, const struct plan_instr *in, uint32_t device);
/* The devices of a set in order: for (struct plan_walk w = plan_walk(p, set); plan_next(&w, &device);). */
struct plan_walk {
    const struct plan_range *at, *end;
    uint32_t i; /* in the range */
};
static inline struct plan_walk plan_walk(const struct plan *p, uint32_t set)
{
    const struct plan_range *first = p->ranges + p->sets[set].first_range;
    return (struct plan_walk){ first, first + p->sets[set].n_ranges, 0 };
}
static inline bool plan_next(struct plan_walk *w, uint32_t *device)
{
    while (w->at < w->end && w->i == w->at->count) {
        w->at++;
        w->i = 0;
    }
    if (w->at == w->end)
        return false;
    *device = w->at->start + w->i++ * w->at->stride;
    return true;
}
/* Size of the group as seen by a device, and its index in it; PLAN_NONE when it is no member. */
uint32_t plan_group_size(const struct plan *p, uint32_t group, uint32_t device);
uint32_t plan_group_index(const struct plan *p, uint32_t group, uint32_t device);
/* Member i of the group of `device`. */
uint32_t plan_group_at(const struct plan *p, uint32_t group, uint32_t device, uint32_t i);
/* Does an instruction communicate a tensor, or the gradient of one: in->tensor; or numbers of the operator that reads it, inside of a program
 * in pieces? */
bool plan_moves_tensor(const struct plan *p, const struct plan_instr *in);
/* How a kernel's part is cut out. */
struct ir_share plan_kernel_share(const struct plan *p, const struct ir_graph *g, const struct plan_kernel *k);
/* A kernel that runs in two phases: the operand in which members tell each other numbers between them. OPERAND_COUNT: it has one phase, or is
 * a ring's; a forward computed again asks nobody. */
uint32_t plan_told(const struct plan_kernel *k);
/* Rows by expert of such a tensor that a device sends of each sequence that it has tokens of, without a capacity. */
uint64_t plan_expert_rows(const struct plan *p, const struct ir_graph *g, uint32_t tensor);
/* The kernel of a program in pieces that is a ring; PLAN_NONE: its pieces are others. */
uint32_t plan_ring(const struct plan *p, const struct plan_program *program);
/* Bytes of a base of ROUNDS that is zeroed: the whole bucket of which it is. */
uint64_t plan_zeroed_bytes(const struct plan *p, const struct plan_base *b);
/* List by name; PLAN_NONE: the plan has no such list. */
uint32_t plan_find_list(const struct plan *p, const char *name);

/* Building: growable sections; plan_build() lays them out into one blob owned by the caller (mem_free). */
struct plan_builder {
    struct plan_header h;
#define PLAN_SECTION_VEC(id, record, field) \
    struct {                                \
        VEC(record);                        \
    } field;
    PLAN_SECTION_LIST(PLAN_SECTION_VEC)
};
uint32_t plan_builder_text(struct plan_builder *b, const char *s); /* offset in the text section */
void *plan_build(struct plan_builder *b, uint64_t *bytes);
void plan_builder_release(struct plan_builder *b);
/* Empty again, with the room that it has. */
void plan_builder_clear(struct plan_builder *b);

/* Text form (piper plan --dump), and back: reading what was printed gives the same blob. */
struct ir_graph;
void plan_print(const struct plan *p, const struct ir_graph *g, void *file /* FILE * */);
enum status plan_parse(const char *text, const struct ir_graph *g, void **blob, uint64_t *bytes, struct err *e);

#endif
