/* Inside the executor: not for other files. */
#ifndef PIPER_EXEC_PRIVATE_H
#define PIPER_EXEC_PRIVATE_H

#include "base/clock.h"
#include "base/fail.h"
#include "comm/rows.h"
#include "exec/machine.h"

/* A kernel of the plan, all but its pointers filled in. */
struct exec__kernel {
    op_kernel run;
    bool phases; /* it has two, the second at the beginning of the next piece of its program */
    bool ring;   /* it has one for each piece of its program, and args.positions of each */
    struct op_args args;
};

/* An update or a share of the norm, bound to a bucket. */
struct exec__bucket {
    struct update_args update;
    struct balance_args *balance; /* [n_balance] instead of the optimizer's update, where the bucket is state */
    uint32_t n_balance;
    const float *norm_grad;
    uint64_t norm_count;
    uint64_t own_param, own_grad;   /* bytes from the start of the whole bucket to this holder's shard */
    uint64_t part_param, part_grad; /* from the start of that to what it owns of it */
};

/* Bytes of a slot of gradients that no kernel of the program writes. */
struct exec__gaps {
    struct exec__gap {
        uint64_t first, bytes;
    } * at;
    uint32_t n;
};

/* Checksums (sums.c) of the stretches of all buckets, one bucket after the other. */
struct exec__sums_memory {
    struct update_stretch *at;       /* [n] a copy, where kernels read it */
    uint64_t (*sums)[UPDATE_ARRAYS]; /* [n] in the memory that kernels work on */
    uint64_t (*kept)[UPDATE_ARRAYS]; /* [n] of the host: of the state that a checkpoint is written of */
    uint32_t *faults;                /* [n + 1] which both see: update_sums.faults, then any */
};
struct exec__sums {
    uint32_t n;
    struct update_stretch *at;
    uint32_t *first;            /* [2*buckets of the plan + 1] of an update, then of what is beside it */
    struct update_args *beside; /* [buckets of the plan] frozen parameters that this rank has no state of; n 0: none */
    bool *updates;              /* [lists of the plan] it has updates */
    unsigned char *gathers;     /* [instructions of the plan] 1: a gather before which what it gathers is checked */
    struct exec__sums_memory memory;
    uint64_t step, kept_step; /* after which the sums were taken */
};

struct exec {
    /* what was given */
    const struct exec_machine *machine;
    const struct plan *plan;
    const struct ir_graph *graph;
    const struct compute_backend *compute;
    const struct comm_backend *comm_backend;
    uint32_t rank;
    struct optimizer_args optimizer;
    double clip_norm, balance_rate;
    bool check_numbers, keeps_sums;
    void (*tell_number)(const char *text);

    /* the machine's */
    void *own;                         /* of its file */
    unsigned char *arena[ARENA_COUNT]; /* in the memory that kernels work on */
    double *scalars;                   /* in ARENA_SCALARS, with the loads of experts behind them */
    const double *loads;               /* where the host finds these when a list has run */
    double *discarded;                 /* [SCALAR_COUNT] where kernels that compute something again add to */
    uint32_t n_events;                 /* instructions of the longest list */
    _Atomic uint32_t
        *events;        /* [n_events + 1] at least: the last of no instruction, but of an exchange of a further round */
    double *times;      /* [2*n_events + 2], or NULL */
    double copy_waited; /* exec_copy_waited() */
    bool runs_forward;  /* the last program that ran did */
    double *spent, spent_until; /* [lists][EXEC_SPENT], and clock_now() up to which it counts; NULL: nothing does */

    /* the plan, bound to this rank */
    uint32_t inputs[EXEC_INPUTS]; /* tensors of the graph; IR_NONE: has none */
    struct exec__kernel *kernels; /* [kernels of the plan] */
    struct exec__bucket *buckets; /* [buckets of the plan] */
    struct exec__gaps *gaps;      /* [slots of the plan] */
    struct exec__sums *sums;      /* NULL: nobody asked for them, or the back end keeps none */
    struct comm_call *calls;      /* [instructions of the plan]; filled in for communications */
    unsigned char *wakes;         /* [instructions of the plan] 1: a communication waits for its event */
    uint32_t *replica;            /* [instructions of the plan] PLAN_LOAD: which part of the samples */
    int32_t *row;                 /* [seq_len] a whole sequence, where it is shared */
    struct comm *comm;
    struct comm_channel *channels; /* [channels of the plan] */
    struct {
        VEC(struct comm_lane);
    } lanes;
    struct {
        VEC(uint64_t);
    } lane_numbers;      /* [lanes.n] plan_lane() */
    struct arena memory; /* of all that is made here and lives until exec_close() */

    /* the list that runs, or ran last */
    const struct plan_list *list;
    const struct exec_step *step;
    uint32_t epoch, told;      /* told: the epoch in which tell_number() was called last */
    double tokens, loss_scale; /* of all samples of the list; 1 by it */
    const double *weight;      /* step_inputs.weight, in the memory that kernels work on; NULL: nothing is computed */
    /* For exec_look(): list << 32 | epoch, with the highest bit while it runs; and its step. */
    _Atomic uint64_t running, running_step;
    _Atomic uint32_t kernel; /* that the loop is in: so that a long program is seen to move */
};
#define EXEC__RUNS (UINT64_C(1) << 63)

/* ---- binding (bind.c, lanes.c) --------------------------------------------------------------------------------- */

/* Fills in x->kernels, buckets and gaps. ST_BUG: the back end lacks a kernel. */
enum status exec__bind_kernels(struct exec *x, struct err *e);
/* The calls of a list and what its loads take. */
void exec__bind_list(struct exec *x, const struct plan_list *l);
/* exec_machine.operands for what lies in x->arena. */
void exec__operands(const struct exec *x, const struct plan_instr *in, struct comm_call *c);
uint32_t exec__group_size(const struct exec *x, uint32_t channel);
/* Thread blocks that communicators on a stream may take; 0: the device knows none. */
uint32_t exec__ctas(const struct exec *x, uint32_t stream);
/* The lane of a message that is bound otherwise, in x->lanes. */
uint32_t exec__lane(struct exec *x, const struct plan_instr *in, const struct comm_call *c);

/* ---- a part of the sequences, and of operators (part.c) --------------------------------------------------------- */

/* This rank's place among those that share a sequence. */
uint32_t exec__member(const struct exec *x);
/* Token ids of sequence number `sequence` of a microbatch, in x->row, to its rows of a PLAN_LOAD: row = token * sequences + sequence. */
void exec__load_part(const struct exec *x, const struct plan_instr *in, uint32_t sequence, int32_t *to);
/* The kernels [*first, *end) that a RUN runs: of a program in pieces the first of a later one is in its phase 1. */
void exec__piece(const struct exec *x, const struct plan_instr *in, uint32_t *first, uint32_t *end);
/* What the kernel has to know of its rows, in x->memory; NULL where sequences are not shared. */
const struct op_positions *exec__positions(struct exec *x, const struct plan_program *program,
                                           const struct plan_kernel *k);

/* ---- in a step (run.c, check.c) -------------------------------------------------------------------------------- */

/* "rank 3, step 7, F layers.0 mb1" */
enum { EXEC__WHERE = 192 };
void exec__where(const struct exec *x, const struct plan_instr *in, char where[EXEC__WHERE]);
/* Leaves by process_fail(): where, e. */
_Noreturn void exec__fail(const struct exec *x, const struct plan_instr *in, const struct err *e);
/* More rows for the experts of this rank than were planned: leaves by process_fail(), before the step's update. */
void exec__overflow(void *x, uint32_t event, uint64_t rows);
/* What scalars, with the loads behind them, and inputs are when a step begins. */
void exec__first_scalars(const struct exec *x, double *scalars);
struct step_inputs exec__first_inputs(const struct exec *x);
/* The numbers of a PLAN_LOAD: to[microbatch_size*seq_len], host memory. */
void exec__load(const struct exec *x, const struct plan_instr *in, int32_t *to);
void *exec__operand(const struct exec *x, const struct plan_base *bases, const struct plan_operand *o);
/* Operands of kernel `kernel` of the plan in an instruction of list l. */
struct op_args exec__args(const struct exec *x, const struct plan_list *l, const struct plan_instr *in, uint32_t kernel,
                          void *stream);
/* Whole gradients in ARENA_WORK stand in memory that held something else: before the first program that writes one, what none of
 * its kernels writes (padding) is zeroed, so that what is reduced is a number everywhere. */
void exec__clear_gaps(const struct exec *x, const struct plan_instr *in,
                      void (*clear)(void *p, uint64_t bytes, void *stream), void *stream);

/* What the checks of --check-numbers look at after a kernel, before a bucket's share of the norm, and after its update. When
 * a number is not finite they leave by process_fail(), or tell it. */
void exec__check_kernel(struct exec *x, const struct plan_instr *in, const struct plan_kernel *k,
                        const struct op_args *a);
void exec__check_bucket(struct exec *x, const struct plan_instr *in);
/* What an update is about to write: is all of it finite? */
bool exec__is_finite(const struct exec *x, const struct plan_instr *in);

/* Returns when what the instruction waits for has happened; the time since the last call was spent on the instruction. */
void exec__wait(struct exec *x, const struct plan_instr *in);
void exec__spend(struct exec *x, const struct plan_instr *in);

/* ---- further rounds (rounds.c) ---------------------------------------------------------------------------------- */

/* Of a ROUNDS; all: its counts, in host memory. */
struct comm_rounds exec__rounds(const struct exec *x, const struct plan_instr *in, const int32_t *all);
uint32_t exec__round_member(const struct exec *x, const struct plan_instr *in);
/* Carries a ROUNDS out; run: a RUN. */
void exec__run_rounds(struct exec *x, const struct plan_instr *in,
                      void (*run)(struct exec *x, const struct plan_instr *in));

/* ---- checksums (sums.c) ---------------------------------------------------------------------------------------- */

/* Fills in x->sums but for its memory, when buckets are bound; bind() gives it memory, zeroed but for `at`, and the updates what they
 * need. stream: where sums are taken between steps. */
void exec__sums_open(struct exec *x);
void exec__sums_bind(struct exec *x, const struct exec__sums_memory *m, void *stream);
/* In a step: of frozen parameters, which no update reads; judged when the list has run. */
void exec__sums_frozen(struct exec *x);
/* Of a gather before which they are to be checked: the arrays; else 0. */
uint32_t exec__sums_gathered(const struct exec *x, const struct plan_instr *in);
/* Leaves by process_fail() where a fault was found. in: by that instruction; NULL: by any of the list, when it has run. */
void exec__sums_judge(const struct exec *x, const struct plan_instr *in);

/* All others are computations. */
static inline bool exec__is_communication(const struct plan_instr *in)
{
    return in->op != PLAN_LOAD && in->op != PLAN_RUN && in->op != PLAN_SUMSQ && in->op != PLAN_UPDATE &&
           in->op != PLAN_ROUNDS;
}

/* Bytes from the start of gathered numbers to those of this rank. */
uint64_t exec__own_numbers(const struct exec *x, const struct plan_instr *in);
static inline void *exec__base(const struct exec *x, const struct plan_instr *in, uint32_t i)
{
    const struct plan_base *b = &x->plan->bases[in->first_base + i];
    unsigned char *p = x->arena[b->arena] + b->offset;
    if (!(b->access & (PLAN_OWN | PLAN_PART)))
        return p;
    if (b->arena == ARENA_WORK)
        return p + exec__own_numbers(x, in);
    const struct exec__bucket *u = &x->buckets[b->buffer];
    const bool params = b->arena == ARENA_PARAMS;
    return p + (b->access & PLAN_OWN ? (params ? u->own_param : u->own_grad) : 0) +
           (b->access & PLAN_PART ? (params ? u->part_param : u->part_grad) : 0);
}

static const double EXEC__MIB = 1024 * 1024;

#endif
