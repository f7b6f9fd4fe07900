/* Inside the executor: not for other files. */
#ifndef PIPER_EXEC_PRIVATE_H
#define PIPER_EXEC_PRIVATE_H

#include <pthread.h>

#include "base/clock.h"
#include "base/fail.h"
#include "exec/exec.h"
#include "exec/bucket_view.h"

/* A kernel of the plan, all but its pointers filled in. */
struct exec__kernel {
    op_kernel run;
    struct op_args args;
    op_pair pair;       /* on a device: runs this one and the next; NULL: they run apart */
    bool apart, narrow; /* they must; the pair has no room for the workspace of this one */
};

/* An update or a share of the norm, bound to a bucket. */
struct exec__bucket {
    struct update_args update;
    const float *norm_grad;
    uint64_t norm_count;
    uint64_t own_param, own_grad; /* bytes from the start of the whole bucket to this holder's part */
};

/* Bytes of a slot of gradients that no kernel of the program writes. */
struct exec__gaps {
    struct exec__gap {
        uint64_t first, bytes;
    } * at;
    uint32_t n;
};

/* Copies under way: those before `next` are taken, `done` of them finished. */
struct exec__copies {
    pthread_mutex_t lock;
    pthread_cond_t all_done;
    const struct exec_copy *list;
    uint32_t n, next, done;
    double waited; /* seconds */
};
void exec__copies_init(struct exec__copies *c);
void exec__copies_release(struct exec__copies *c);
/* Updates change what copies read. */
void exec__before_update(struct exec *x);
/* What a step reads and adds to beside the arenas, in the back end's memory. */
struct exec__block {
    double scalars[SCALAR_COUNT]; /* on a device; on the host they stand in ARENA_SCALARS */
    struct step_inputs inputs;
    double unheard[SCALAR_COUNT]; /* where kernels that compute something again add to */
};

struct exec {
    const struct plan *plan;
    const struct ir_graph *graph;
    const struct compute_backend *compute;
    const struct comm_backend *comm_backend;
    struct comm *comm;
    struct arena lists; /* members of channels and lanes, gaps */
    struct {
        VEC(struct comm_lane);
    } lanes;
    struct {
        VEC(uint64_t);
    } lane_numbers; /* [lanes.n] plan_lane() */
    uint32_t rank;
    struct optimizer_args optimizer;
    double clip_norm;
    bool check_numbers;
    void (*tell_number)(const char *text);
    uint32_t told;            /* the epoch in which tell_number() was called last */
    uint32_t tokens, targets; /* tensors of the graph that PLAN_LOAD fills; IR_NONE: has none */

    unsigned char *arena[ARENA_COUNT];
    unsigned char *window; /* where nothing is computed: every operand lies here, [2][window_bytes] */
    uint64_t window_bytes;
    double free_at;               /* there: when the instruction before this one ended, clock_now() */
    double *scalars;              /* in ARENA_SCALARS */
    struct exec__block block;     /* of the host */
    double *unheard;              /* block's, or the device's */
    struct step_inputs *inputs;   /* the same */
    struct exec__device *device;  /* NULL: the arenas are host memory */
    struct exec__kernel *kernels; /* [kernels of the plan] */
    struct exec__bucket *buckets; /* [buckets of the plan] */
    struct exec__gaps *gaps;      /* [slots of the plan] */
    struct comm_call *calls;      /* [instructions of the plan]; filled in for communications */
    unsigned char *wakes;         /* [instructions of the plan] 1: a communication waits for its event */
    uint32_t *replica;            /* [instructions of the plan] PLAN_LOAD: which part of the samples */
    uint32_t n_events;            /* instructions of the longest list */
    _Atomic uint32_t *events;     /* [n_events] */
    double *times;                /* [2*that], or NULL */
    uint32_t epoch;
    struct exec__copies copies;
    /* For exec_look(): the list that runs, list << 32 | epoch, with the highest bit while it does; and its step. */
    _Atomic uint64_t running, running_step;
    _Atomic uint32_t kernel; /* that the loop is in: so that a long program is seen to move */

    /* of the list that runs */
    const struct plan_list *list;
    const struct exec_step *step;
    double loss_scale;
};

/* Leaves by process_fail(): rank, step, instruction, e. */
_Noreturn void exec__fail(const struct exec *x, const struct plan_instr *in, const struct err *e);
/* What scalars[SCALAR_COUNT] and inputs are when a step begins. */
void exec__first_values(const struct exec *x, double *scalars, struct step_inputs *inputs);
/* The numbers of a PLAN_LOAD of a step that begins with this sample: to[microbatch_size*seq_len], host memory. */
enum status exec__load(const struct exec *x, const struct plan_instr *in, uint64_t sample, int32_t *to, struct err *e);
void *exec__operand(const struct exec *x, const struct plan_base *bases, const struct plan_operand *o);
/* Fills in the operands of one run of a kernel. */
void exec__resolve(const struct exec *x, const struct plan_base *bases, const struct plan_kernel *k, struct op_args *a);

/* Arenas: one mapping each, zero, page by page given by the system when first touched. ST_DEVICE with what was needed and
 * what there is. */
enum status exec__arenas_map(struct exec *x, uint64_t local_ranks, struct err *e);
void exec__arenas_unmap(struct exec *x);

/* Where nothing is computed: no arena but that of the scalars, and a window for what travels. */
enum status exec__window_map(struct exec *x, struct err *e);
/* Makes of a bound call what travels instead: at most EXEC__ENVELOPE bytes a message, with the time that it takes. */
enum { EXEC__ENVELOPE = 4096 };
void exec__envelope(struct exec *x, const struct plan_instr *in, struct comm_call *c);

/* Thread blocks that communicators on a stream may take; 0: the device knows none. */
uint32_t exec__ctas(const struct exec *x, uint32_t stream);
/* The lane of a message that is bound otherwise, in x->lanes. */
uint32_t exec__lane(struct exec *x, const struct plan_instr *in, const struct comm_call *c);

/* What the checks of --check-numbers look at after a kernel, before a bucket's share of the norm, and after its update. When
 * a number is not finite they leave by process_fail(), or tell it. */
void exec__check_kernel(struct exec *x, const struct plan_instr *in, const struct plan_kernel *k,
                        const struct op_args *a);

void exec__check_bucket(struct exec *x, const struct plan_instr *in);
/* What an update is about to write: is all of it finite? */
bool exec__is_finite(const struct exec *x, const struct plan_instr *in);

/* More rows for the experts of this rank than were planned: leaves by process_fail(), before the step's update. */
void exec__overflow(void *x, uint32_t event, uint64_t rows);

#define EXEC__RUNS (UINT64_C(1) << 63)

static inline bool exec__is_communication(enum plan_op op)
{
    switch (op) {
    case PLAN_SEND:
    case PLAN_RECV:
    case PLAN_EXCHANGE:
    case PLAN_ALL_REDUCE:
    case PLAN_REDUCE_SCATTER:
    case PLAN_ALL_GATHER:
    case PLAN_ALL_TO_ALL:
    case PLAN_ALL_TO_ALL_V:
    case PLAN_ADD:
    case PLAN_SCALARS:
        return true;
    default:
        return false;
    }
}

static inline void *exec__base(const struct exec *x, const struct plan_instr *in, uint32_t i)
{
    const struct plan_base *b = &x->plan->bases[in->first_base + i];
    if (x->window)
        return x->window;
    unsigned char *p = x->arena[b->arena] + b->offset;
    if (!(b->access & PLAN_OWN))
        return p;
    return p + (b->arena == ARENA_PARAMS ? x->buckets[b->buffer].own_param : x->buckets[b->buffer].own_grad);
}

#endif
