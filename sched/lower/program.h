/* Chunk programs: the kernels of one pass of one sub-chunk, with operands at offsets relative to slots. Private to sched/.
 *
 * The backward of a sub-chunk is derived once, as a tape of kernels on values in SSA form (sched/lower/tape.c): gradients of
 * inputs (BI) and of parameters (BW). A fused B runs the whole tape; BI and BW run a part each, and what BW reads of BI
 * goes through the stash. Programs (sched/lower/program.c) give every value a place. */
#ifndef PIPER_SCHED_PROGRAM_H
#define PIPER_SCHED_PROGRAM_H

#include "sched/compile.h"

enum value_kind {
    VALUE_TENSOR, /* a: tensor of the graph */
    VALUE_SAVE,   /* a: operator, b: which */
    VALUE_PARAM,  /* a: parameter */
    VALUE_DPARAM, /* a: parameter */
    VALUE_PART,   /* a: tensor, b: number of the gradient part that comes from outside */
    VALUE_GRAD,   /* made by a kernel of the tape; a: tensor */
    VALUE_STASH,  /* made by a BI kernel for BW; a: operator, b: which */
};
struct value {
    uint8_t kind;   /* enum value_kind */
    uint8_t leaves; /* VALUE_GRAD: it is the gradient that this sub-chunk gives for tensor a */
    uint32_t a, b;
    uint64_t bytes;
};
/* A kernel before its operands have places. */
struct step {
    uint32_t op, graph_op, pass;
    uint32_t tensor;                 /* SUM, COPY: whose gradient */
    uint32_t add;                    /* bit i: dparam i was written by an earlier kernel of the tape */
    uint16_t type;                   /* SUM, COPY: enum ir_dtype of the elements */
    uint64_t n;                      /* SUM, COPY: elements */
    bool knows;                      /* a forward computed again: plan_knows() */
    uint32_t operand[OPERAND_COUNT]; /* value, IR_NONE; WORK is not a value */
};
static inline bool step_writes(const struct step *k, uint32_t operand)
{
    return plan_writes(k->op, k->pass, operand) && !(k->knows && operand == OPERAND_SAVE);
}

/* The backward of a sub-chunk whose output tensors get parts[k] gradient parts from outside. With recompute it begins with the
 * forwards (steps of pass F) that it needs, which run with B or BI. */
struct tape {
    uint32_t sub, next; /* next: tape of the same sub-chunk; IR_NONE */
    uint32_t mb;        /* the first one whose tape it is */
    bool recompute;
    uint32_t *parts; /* by output of the sub-chunk */
    struct {
        VEC(struct value);
    } values;
    /* Of forward tensors, saved tensors and parameters by what they are: open addressing, IR_NONE: empty. */
    uint32_t *index, index_size, indexed;
    struct {
        VEC(struct step);
    } steps;
    /* Frames that F leaves for the backward: 0 until BI, 1 until BW. keep_frame[value]: 0xff not kept. */
    uint8_t *keep_frame;
    uint64_t *keep_offset;
    uint64_t keep_bytes[2];
    uint64_t *stash_offset; /* UINT64_MAX: not in the stash */
    uint64_t stash_bytes;
    /* With recompute a frame that F leaves for such a dispatch alone. */
    uint64_t *sent_offset; /* UINT64_MAX: not in it */
    uint64_t sent_bytes;
};

/* What a slot of a program stands for; lower.c binds it to an address per microbatch. */
enum slot_what {
    WHAT_PARAM,
    WHAT_GRAD,
    WHAT_TENSOR,
    WHAT_PART,
    WHAT_LEAVING,
    WHAT_KEEP,
    WHAT_STASH,
    WHAT_TEMP,
    WHAT_RING,
    WHAT_SENT,
    WHAT_COUNTS /* of no slot: counts of all members of an expert group */
};
enum { MADE_AGAIN = 1 }; /* index of a tensor that the node makes, though its forward has made it before */
struct slot_ref {
    uint32_t what;  /* enum slot_what */
    uint32_t id;    /* bucket, tensor, frame */
    uint32_t index; /* part; MADE_AGAIN */
};

struct programs {
    struct sched *s;
    struct plan_builder *pb;
    uint32_t tensor_group;  /* group of the plan over which operators are split, */
    uint32_t heads_group;   /* and attention with IR_TURNED; what is counted goes over share_group */
    uint8_t *has_grad;      /* by tensor */
    uint64_t *param_offset; /* bytes in the bucket, by parameter */
    struct {
        VEC(struct tape *);
    } tapes;
    uint32_t *first_tape, *first_program; /* by sub-chunk; IR_NONE */
    struct {
        VEC(struct slot_ref);
    } refs; /* one per plan slot, same index */
    struct program_key {
        uint32_t sub, pass;
        uint32_t tensor, parts, layout; /* of a sum, a turn or a dispatch again; else 0 */
        uint32_t part;                  /* of BW: struct ir_node */
        const struct tape *tape;
        uint32_t next; /* program of the same sub-chunk; IR_NONE */
    } * keys;          /* by program */
    uint32_t keys_cap;
};

void programs_init(struct programs *ps, struct sched *s, struct plan_builder *pb);
void programs_release(struct programs *ps);
/* parts[k]: gradient parts of output k of the sub-chunk; mb: a microbatch that has them. Made when new, kept until release. */
const struct tape *tape_get(struct programs *ps, uint32_t sub, uint32_t mb, const uint32_t *parts);
/* The program of (sub, pass), or part (struct ir_node) of it; for F of a training list the tape says what to keep; eval: F only, tape NULL. */
uint32_t program_get(struct programs *ps, uint32_t sub, enum ir_pass pass, uint32_t part, const struct tape *tape);
/* A program that adds `parts` gradient parts of one tensor (WHAT_PART slots) into WHAT_LEAVING. sub: whose backward gives one of
 * them; layout, shape: of all. */
struct sum_program {
    uint32_t sub, tensor, parts;
    enum ir_layout layout;
    struct ir_shape shape;
};
uint32_t program_sum(struct programs *ps, const struct sum_program *sum);

/* A program that makes blocks by heads of rows (layout IR_LAYOUT_BLOCKS), or rows of them: of a tensor, or of its gradient. sub: of the
 * attention; shape: as it comes in. */
struct turn_program {
    uint32_t sub, tensor;
    bool grad;
    enum ir_layout layout; /* that it gives */
    struct ir_shape shape;
};
uint32_t program_turn(struct programs *ps, const struct turn_program *turn);

/* The dispatch of a sub-chunk once more, which makes `rows` of what its forward has left. */
uint32_t program_again(struct programs *ps, uint32_t sub, uint32_t rows, const struct tape *tape);

/* tape.c */
struct tape *tape_build(struct programs *ps, uint32_t sub, uint32_t mb, const uint32_t *parts);
void tape_free(struct tape *t);
/* The value of a forward tensor, saved tensor or parameter; IR_NONE where the tape has none. */
uint32_t tape_find(const struct tape *t, enum value_kind kind, uint32_t a, uint32_t b);
/* Size of a value in a chunk, of one microbatch: rows by expert may be more where they are received. */
uint64_t value_elements(const struct sched *s, uint32_t chunk, const struct ir_shape *shape);
uint64_t value_bytes(const struct sched *s, uint32_t chunk, const struct ir_shape *shape);
/* Is the tensor an input (or, with outputs, an output) of the sub-chunk, so that it has a buffer of its own? */
bool tensor_crosses(const struct sched *s, const struct ir_sub *sub, uint32_t tensor, bool outputs);
/* build.c: has[t]: some operator asks for the gradient of tensor t; owned by the caller. */
uint8_t *find_gradients(const struct ir_graph *g);

#endif
