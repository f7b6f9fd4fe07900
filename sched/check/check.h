/* Private to sched/check/: the checker of finished plans. It reads plans (ir/plan.h) and the model, and nothing of
 * the passes that made them.
 *
 * It works on classes: one rank stands for all devices of its class. That is sound because bind.c first proves that
 * every binding (peer sets, groups) is the same for all of them up to a relabelling of devices. The cost grows with
 * instructions, streams and classes; device sets are looked at once each, as ranges.
 *
 * Order of the proofs, each relying on those before: shape (check.c), bindings (bind.c), shard map (params.c, places.c),
 * programs (programs.c), then for every list: matching (match.c), no deadlock and one global order (run.c), memory
 * (memory.c), what stands in it (values.c and its helpers names.c, execute.c, gradients.c; replicas.c), reductions and updates
 * (steps.c), nothing forgotten (cover.c). */
#ifndef PIPER_SCHED_CHECK_CHECK_H
#define PIPER_SCHED_CHECK_CHECK_H

#include "sched/sched.h"

/* An ordered device set, the same number for the same sequence in all plans. */
struct check_seq {
    uint32_t first_range, n_ranges; /* in check.ranges, in the one form that a sequence has */
    uint32_t size;
    uint32_t first_class, n_classes; /* in check.class_pool: the whole classes that it is, ascending; 0: it is not */
};

/* A use of a parameter by a program: the operand of kernel `kernel`. */
struct check_use {
    uint32_t kernel, slot, param;
    uint64_t offset, bytes; /* in the slot */
    bool grad, add;         /* a gradient; one that adds to what an earlier kernel of the program wrote */
};
struct check_program {
    uint32_t first_use, n_uses; /* in check_class.uses */
    bool scalars;               /* adds to the step's scalars */
};

/* The groups of devices that share sequences, by group of a plan: of tensor groups, of context groups, of these turned round, of sequence
 * groups in the order of heads that context groups split further. */
enum share_role { SHARED_BY_NONE, SHARED_BY_TENSOR, SHARED_BY_CONTEXT, SHARED_BACKWARDS, SHARED_BY_HEADS };

struct check_class {
    const struct plan *p;
    uint32_t devices;    /* seq */
    uint32_t *set_seq;   /* by set */
    uint32_t *group_seq; /* by group: the members; PLAN_NONE: several groups, that partition the class, */
    uint32_t *each_seq;  /* or the classes that these members are, where they are of several; else PLAN_NONE */
    uint8_t *share_role; /* by group: bit i for each enum share_role that its members are */
    uint32_t *piece_of;  /* by parameter of the model: piece, PLAN_NONE */
    struct check_program *programs;
    uint32_t *written_by; /* by parameter of the model: the last program so far that writes its gradient, plus one */
    uint8_t *exposed;     /* by slot: the program reads what was there before it */
    struct {
        VEC(struct check_use);
    } uses;
};

struct check {
    const struct ir_graph *g;
    const struct ir_target *target;
    struct err *e;
    struct arena arena;
    uint32_t world, n;
    struct check_class *classes;
    uint32_t *class_of;     /* by device */
    uint32_t *stamp, epoch; /* by device: scratch */
    struct {
        VEC(struct plan_range);
    } ranges;
    struct {
        VEC(struct check_seq);
    } seqs;
    struct {
        VEC(uint32_t);
    } class_pool;
    uint32_t *seq_table, seq_slots; /* open addressing; PLAN_NONE: free */
    /* By tensor of the model: its whole gradient, as gradients.c counts it; whether it has one. */
    uint64_t *gradient;
    uint8_t *flows;
};

/* A communication of a list: what instructions with the same node number do together. */
struct check_end {
    uint32_t node, cls, instr; /* number of the node in the DAG; instruction of the class's list */
};
struct check_comm {
    uint32_t first_end, n_ends;
};
struct check_list {
    const char *name;
    bool train;
    uint32_t *index; /* by class: number of the list in its plan */
    uint32_t *base;  /* by class: instruction i of class c has number base[c] + i; base[n] is the total */
    struct {
        VEC(struct check_end);
    } ends; /* by node, class, instruction */
    struct {
        VEC(struct check_comm);
    } comms;
    uint32_t *comm_of; /* by number: communication, PLAN_NONE for what is none */
};

/* The rules, as messages name them. */
enum check_rule {
    RULE_SHAPE,    /* plans of one job agree on the job */
    RULE_BINDING,  /* bindings are a symmetric relabelling */
    RULE_CHANNEL,  /* channels and groups */
    RULE_SHARDS,   /* shard map: every parameter is held, whole, where the programs use it */
    RULE_HOLDERS,  /* a bucket's holders are all devices with a copy */
    RULE_PROGRAM,  /* kernels fit the model; slots are used as declared */
    RULE_MATCH,    /* ends of a communication fit */
    RULE_TAG,      /* tags are unique per pair */
    RULE_DEADLOCK, /* everything can run under rendezvous */
    RULE_ORDER,    /* dispatch orders are projections of one global order of communications */
    RULE_RACE,     /* conflicting accesses are ordered by waits and streams */
    RULE_VALUE,    /* what is read was written before, to the same buffer */
    RULE_GRADIENT, /* a gradient that a kernel takes holds the share of each reader of its tensor, once */
    RULE_LAYOUT,   /* rows are where they are computed with: at home, or where their experts are */
    RULE_ALIGN,    /* memory starts where the target asks */
    RULE_SCRATCH,  /* what reductions sum in is theirs alone, large enough, and of one size on all members */
    RULE_REPLICA,  /* operands are of the same samples on every rank */
    RULE_FIRST,    /* gradients: written first, then added to */
    RULE_REDUCE,   /* one reduction of each gradient of a shared bucket, over its holders */
    RULE_GATHER,   /* sharded parameters are whole where they are used */
    RULE_UPDATE,   /* one norm share and one update of each bucket, after its reduction */
    RULE_SCALARS,  /* one reduction of the scalars, after all that add to them */
    RULE_ROUNDS,   /* further rounds of experts: the same number on all members, right however many they are */
    RULE_COVER,    /* every operator runs once per pass and microbatch */
    RULES
};
const char *check_rule_name(enum check_rule rule);

/* err_set with rule and place. cls PLAN_NONE: the job; l NULL: no instruction. */
struct check_place {
    uint32_t cls;
    const struct check_list *l;
    uint32_t instr;
};
enum status check_wrong(const struct check *c, enum check_rule rule, struct check_place at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* "rank 0 of class 0-3", or with a list "...: train[17] RUN F chunk 2 mb 1". Returns text. */
const char *check_place_text(const struct check *c, struct check_place at, char *text, size_t size);
/* "train[17] RUN F chunk 2 mb 1" */
const char *check_instr_text(const struct check *c, struct check_place at, char *text, size_t size);

/* Are the groups that are this one of a class's plan of such a role? */
static inline bool check_shared_by(const struct check *c, uint32_t cls, uint32_t group, enum share_role role)
{
    return c->classes[cls].share_role[group] >> role & 1;
}

static inline const struct plan_instr *check_instrs(const struct check *c, const struct check_list *l, uint32_t cls)
{
    const struct plan *p = c->classes[cls].p;
    return p->instrs + p->lists[l->index[cls]].first_instr;
}

static inline uint32_t check_n_instrs(const struct check *c, const struct check_list *l, uint32_t cls)
{
    return c->classes[cls].p->lists[l->index[cls]].n_instr;
}

static inline bool check_is_collective(uint32_t op)
{
    return op == PLAN_ALL_REDUCE || op == PLAN_REDUCE_SCATTER || op == PLAN_ALL_GATHER || op == PLAN_ALL_TO_ALL ||
           op == PLAN_ALL_TO_ALL_V || op == PLAN_SHIFT || op == PLAN_SCALARS || op == PLAN_TO_EXPERTS ||
           op == PLAN_FROM_EXPERTS;
}

static inline bool check_is_comm(uint32_t op)
{
    return op == PLAN_SEND || op == PLAN_RECV || op == PLAN_EXCHANGE || check_is_collective(op);
}

/* Tokens of a sequence that this rank has for itself: all where none is shared. */
static inline uint32_t check_own_tokens(const struct check *c, uint32_t cls)
{
    const uint32_t share = c->classes[cls].p->h->share;
    return share ? c->g->seq_len / share : c->g->seq_len;
}
/* shapes.c: of a tensor's rows of so many tokens, all of them where sequences are not shared; whether an operator counts over whole sequences; the
 * part of its operator that a kernel computes, but for b and compute. */
bool check_counts(const struct check *c, uint32_t graph_op);
struct ir_shape check_rows_of(const struct check *c, uint32_t tensor, uint32_t tokens);
struct ir_kernel check_kernel_part(const struct check *c, const struct plan_program *g, const struct plan_kernel *k,
                                   struct ir_attrs *local);

/* The input of a dispatch that holds the counts of its router's choices, where these are counted over whole sequences. */
enum { CHECK_TOLD = 2 };

/* layouts.c: who shares sequences with whom; whether the replicas of a LOAD are these; a layout for people. */
enum status check_sharing(struct check *c);
enum status check_share_order(const struct check *c, struct check_place at, const struct plan_instr *in);
const char *check_layout_name(uint32_t layout);

/* bind.c */
enum status check_bind_sets(struct check *c);
enum status check_bind_channels(struct check *c);
enum status check_bind_list(struct check *c, const struct check_list *l);
/* The classes that a group's members are: n of them at *classes; of one that is several groups, those that they partition. */
uint32_t check_group_classes(const struct check *c, uint32_t cls, uint32_t group, const uint32_t **classes);
/* Groups of two classes that each of them is in: the same sets of members in the same order. */
bool check_same_groups(const struct check *c, uint32_t cls, uint32_t group, uint32_t other, uint32_t there);
/* Two groups of a class have the same members; in_order: and in the same order. */
bool check_same_members(const struct check *c, uint32_t cls, uint32_t a, uint32_t b, bool in_order);
/* Members of a group, as every device of the class sees it. */
uint32_t check_group_size(const struct check *c, uint32_t cls, uint32_t group);
/* Number of the holders of a bucket. */
uint32_t check_holders_of(const struct plan *p, const struct plan_bucket *b);
/* The group that what is sharded of a bucket is sharded over; elements of a shard, and of the part of it that a holder owns. */
uint32_t check_shard_group(const struct plan_bucket *b);
uint64_t check_shard_elements(const struct plan *p, const struct plan_bucket *b);
uint64_t check_part_elements(const struct plan *p, const struct plan_bucket *b);
/* Bytes of a bucket's memory: parameters and gradients, and one array of optimizer state; a share of each from ZeRO
 * 3, 2 and 1 on. */
uint64_t check_param_bytes(const struct plan *p, const struct plan_bucket *b);
uint64_t check_grad_bytes(const struct plan *p, const struct plan_bucket *b);
uint64_t check_state_bytes(const struct plan *p, const struct plan_bucket *b);
/* Bucket of a base that holds parameters (kind SLOT_PARAM) or gradients (SLOT_GRAD), in the bucket's arena or in a
 * buffer; PLAN_NONE: of none. */
uint32_t check_bucket_of(const struct plan *p, const struct plan_base *b, uint32_t kind);

void check_gradients(struct check *c); /* gradients.c: check.gradient, check.flows */
/* Does some gradient, or the loss itself, enter the backward of an operator? */
bool check_flows_in(const struct check *c, const struct ir_node_op *op);
enum status check_programs(struct check *c);                          /* programs.c */
enum status check_bases(struct check *c, const struct check_list *l); /* programs.c */
enum status check_params(struct check *c);                            /* params.c */
enum status check_places(struct check *c);                            /* places.c */
/* A reduction has room to sum in; for others ST_OK. */
enum status check_scratch(const struct check *c, struct check_place at, const struct plan_instr *in);
enum status check_match(struct check *c, struct check_list *l);          /* match.c */
enum status check_run(struct check *c, const struct check_list *l);      /* run.c */
enum status check_order(struct check *c, const struct check_list *l);    /* run.c */
enum status check_rounds(struct check *c, const struct check_list *l);   /* rounds.c */
enum status check_memory(struct check *c, const struct check_list *l);   /* memory.c */
enum status check_values(struct check *c, const struct check_list *l);   /* values.c */
enum status check_replicas(struct check *c, const struct check_list *l); /* replicas.c */
enum status check_steps(struct check *c, const struct check_list *l);    /* steps.c */
enum status check_cover(struct check *c, const struct check_list *l);    /* cover.c */

/* spans.c: a map from bytes to states, as intervals over a fixed set of boundaries. */
struct check_span {
    uint32_t writer;  /* instruction; PLAN_NONE: nothing was written */
    uint32_t buffer;  /* of the last write */
    uint32_t readers; /* since the last write: a list of the user of the map */
};
struct check_bound {
    uint64_t byte;
    uint32_t index; /* PLAN_NONE: free */
};
struct check_spans {
    uint64_t *bounds; /* ascending; n of them */
    uint32_t n, levels, table_size;
    struct check_bound *table; /* of the boundaries: open addressing */
    uint64_t *bits[6];         /* 64-ary tree over the boundaries that start an interval */
    struct check_span *at;
};
/* bounds: owned by the map from now on, in any order, with duplicates; the whole range is one span in the given
 * state. */
void check_spans_init(struct check_spans *s, uint64_t *bounds, uint32_t n, struct check_span state);
void check_spans_release(struct check_spans *s);
/* Boundary index of a byte that was among the bounds. */
uint32_t check_spans_find(const struct check_spans *s, uint64_t byte);
/* Makes a span start at boundary i. */
void check_spans_cut(struct check_spans *s, uint32_t i);
/* First boundary after i that starts a span; n - 1 at the end. */
uint32_t check_spans_next(const struct check_spans *s, uint32_t i);
/* One span from boundary i to j (both cut before). */
void check_spans_join(struct check_spans *s, uint32_t i, uint32_t j);

#endif
