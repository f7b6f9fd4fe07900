/* Private to the proofs of values: operands with names (names.c), programs executed on them (values.c), gradients as sums of
 * terms (gradients.c). */
#ifndef PIPER_SCHED_CHECK_VALUES_H
#define PIPER_SCHED_CHECK_VALUES_H

#include "sched/check/check.h"

/* ---- operands with names (names.c) ---- */

enum { NAME_TENSOR, NAME_SAVE, NAME_STASH, NAME_GRADIENT, NAME_WORK, NAME_NONE };
struct item {       /* an operand: a name at a place of a slot */
    uint8_t name;   /* NAME_.. */
    uint8_t which;  /* enum plan_operand_index */
    uint8_t layout; /* enum ir_layout of a tensor or a gradient; IR_LAYOUTS: any */
    bool write;
    uint32_t id;   /* tensor (of a gradient too), operator * 2 + which */
    uint32_t step; /* gradients that are written: number in interface.steps */
    uint32_t slot, kernel;
    uint64_t offset, bytes;
    uint64_t elements;
};
struct items {
    VEC(struct item);
};

/* A step on gradients of a program, in order. What it reads: the step before that made it, or OUTSIDE | number of an item of
 * interface.takes; PLAN_NONE: nothing. */
enum { OUTSIDE = 1u << 31 };
struct gradient_step {
    uint32_t from[2];
    uint32_t kernel, tensor;
    uint64_t own; /* the term that the kernel adds; 0: none */
    bool
        whole; /* a read: what it reads must be the whole gradient of the tensor. Else it makes the sum of `from` and `own` */
};
/* The sums of terms that come in and leave, for one way in which the program runs; usually it is always the same. */
struct gradient_flow {
    uint64_t *takes, *gives; /* by item of the interface */
};
/* What a program takes from outside and what it leaves there, by slot and offset: gradients apart. */
struct interface {
    bool done;
    struct items in, out, takes, gives;
    struct {
        VEC(struct gradient_step);
    } steps;
    struct {
        VEC(struct gradient_flow);
    } flows;
};

/* What stands in a buffer of a list. */
struct held {
    uint32_t writer;   /* slot (of the section) whose program wrote it last; PLAN_NONE */
    uint32_t flow;     /* frames: number in interface.flows of that program */
    uint32_t bound;    /* last instruction that had it as a base of a RUN, plus one */
    bool away;         /* rows that lie where their experts are */
    uint32_t everyone; /* counts of all members of this group, plus one; 0: no such counts */
    uint32_t shifts;   /* of keys and values of a ring, and gradients: so many members from home */
    uint32_t pieces;   /* SLOT_RING: so many have added to it */
    uint32_t from;     /* buffer that a shift brought it from, on the member before */
    uint64_t sum;      /* of a gradient */
};
/* What a message between two classes carries. */
struct message {
    bool sent, away;
    uint64_t sum;
};
struct values { /* of a class */
    struct check *c;
    const struct check_list *l;
    const struct plan *p;
    uint32_t cls, microbatch_size, at; /* at: next instruction */
    struct interface *programs;
    struct held *held;        /* by buffer */
    struct message *messages; /* by communication, of all classes */
    const uint32_t *experts;  /* by tensor: the operator of experts that reads or makes it; PLAN_NONE */
    uint32_t *verified;       /* by slot: the writing slot that it was held against last; PLAN_NONE */
    struct {
        VEC(uint64_t);
    } takes; /* of one instruction */
};

/* Can an operand of the kernel stand in such a slot when it is written, or comes from outside? */
bool values_may_stand(const struct item *item, uint32_t kind);
/* The operands of a program, in order, reads of a kernel before its writes; parameters are not among them. */
enum status values_list(const struct values *v, uint32_t program, struct items *items);

/* Executes a program on names: fills in what it takes and gives (execute.c). */
enum status values_execute(const struct values *v, uint32_t program, struct interface *face);
/* For qsort and bsearch: items by slot and offset. */
int values_by_place(const void *a, const void *b);

/* ---- layouts (layouts.c) ---- */

/* Of an operand of a kernel; IR_LAYOUTS: a sum or a copy has the layout of its operands. */
uint8_t layouts_of(const struct values *v, const struct plan_kernel *k, uint32_t which);
/* The layouts of sums and copies, as far as the other kernels of the program say. */
void layouts_of_sums(const struct values *v, uint32_t program, struct items *items);
/* Tokens of a sequence in a layout. */
uint32_t layouts_tokens(const struct values *v, uint32_t layout);
enum status layouts_check_kernel(const struct values *v, uint32_t program, uint32_t kernel);
/* What an instruction takes from buffers, or gives: *any: the layout of what has none of its own, IR_LAYOUTS until one is found. */
enum status layouts_check_bases(const struct values *v, uint32_t i, const struct items *items, uint32_t *any);
/* A tensor, or its gradient, of the members of a tensor or context group: all of it, or, keys of a zigzag, one half. */
enum status values_border(struct values *v, uint32_t i, const struct plan_instr *in);

/* ---- heads exchanged within context groups (heads.c) ---- */

/* A kernel that makes blocks by heads of rows, or rows of them. */
enum status heads_check_turn(const struct values *v, uint32_t program, uint32_t kernel);
/* An all-to-all of a tensor, or of its gradient, that is no rows of experts: of blocks by heads. */
bool heads_travel(const struct values *v, const struct plan_instr *in);
enum status heads_exchange(struct values *v, uint32_t i, const struct plan_instr *in);

/* ---- rounds of experts (rounds.c) ---- */

/* Is it a gather of the counts of experts? That, an exchange of rows, and a ROUNDS. */
bool rounds_counts(const struct values *v, const struct plan_instr *in);
enum status rounds_gather(struct values *v, uint32_t i, const struct plan_instr *in);
enum status rounds_exchange(const struct values *v, uint32_t i, const struct plan_instr *in);
enum status rounds_begin(struct values *v, uint32_t i, const struct plan_instr *in);

/* ---- rings (ring.c) ---- */

/* A piece of a ring: behind the one before it, on what that had, a member further. And what goes on between them. */
enum status ring_run(struct values *v, uint32_t i, const struct plan_instr *in);
enum status ring_shift(struct values *v, uint32_t i, const struct plan_instr *in);
/* No other communication sends on what is not at home. */
enum status ring_check_home(const struct values *v, uint32_t i, const struct plan_instr *in);

/* ---- programs in pieces (pieces.c) ---- */

/* A RUN of a program in pieces: the others follow, each behind the gather of its numbers; and that gather. */
enum status pieces_run(struct values *v, uint32_t i, const struct plan_instr *in);
enum status pieces_numbers(struct values *v, uint32_t i, const struct plan_instr *in);

/* ---- gradients (gradients.c) ---- */

/* The term that a kernel BI gives for input i of an operator: a number for it. */
uint64_t gradients_term(uint32_t graph_op, uint32_t i);
/* The flow of a program for what comes in (by item of face->takes): proves it, or finds that it was proven. *flow: its number. */
enum status gradients_flow(const struct values *v, uint32_t program, struct interface *face, const uint64_t *takes,
                           uint32_t *flow);
void gradients_release(struct interface *face);

#endif
