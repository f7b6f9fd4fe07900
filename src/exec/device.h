/* Inside the executor: what it keeps for a device. Streams of the plan are the device's, waits its events. */
#ifndef PIPER_EXEC_DEVICE_H
#define PIPER_EXEC_DEVICE_H

#include "exec/device_ops.h"
#include "exec/private.h"

/* A part of a list that was captured, and what the host does itself after it: kernel `kernel` of the plan in instruction
 * `instr` of the list, or that communication (kernel PLAN_NONE); instr PLAN_NONE: nothing. */
struct exec__segment {
    void *graph;
    uint32_t instr, kernel;
};
struct exec__tape {
    struct exec__segment *at;
    uint32_t n, room; /* for all that the list will need */
};

/* A communication by host memory: the call with its operands in pinned memory, and what is copied before and after it. A
 * stream carries out one call at a time, so its calls share their memory. */
struct exec__pinned_call {
    struct comm_call call;
    uint64_t out_bytes, in_bytes, count_bytes; /* of src, dst, and each array of row counts; 0: not copied */
    int32_t *sent, *received; /* pinned row counts; of ROUNDS: of all members, and what comes to this one in a round */
    bool direct;              /* operands stay in device memory; then the block of this rank is copied: */
    const unsigned char *own_from;
    unsigned char *own_to;
    uint64_t own_bytes;
};

/* What a step reads and adds to beside the arenas. */
struct exec__block {
    struct step_inputs inputs;
    double discarded[SCALAR_COUNT];
    double rounds;    /* SCALAR_ROUNDS of this rank so far */
    double scalars[]; /* plan_scalars_bytes(): the loads of experts are behind them */
};
uint64_t exec__block_bytes(const struct exec *x);

/* A kernel of the plan and the next, run as one. */
struct exec__fusion {
    op_pair pair;            /* NULL: they run apart */
    bool unfusable, no_work; /* they must; the pair has no room for the workspace of the first */
};

/* x->own */
struct exec__device {
    const struct device_ops *ops;
    uint32_t n_streams;
    void **streams;       /* [n_streams] */
    uint64_t free_before; /* bytes */
    bool by_host;         /* communication is by host memory; then nothing is captured */
    bool graphs;
    bool libraries;                 /* open */
    char *notes;                    /* of the first rank that has some; "" or NULL: nobody has */
    struct exec__block *block;      /* pinned: its image goes to the device when a step begins, the scalars come back */
    struct step_inputs *inputs;     /* of the block on the device */
    struct exec__fusion *fusions;   /* [kernels of the plan] */
    unsigned char *loads, *staging; /* pinned: tokens; operands of communications */
    uint64_t loads_bytes;
    uint64_t *load_at;              /* [instructions of the plan] PLAN_LOAD: bytes from the start of `loads` */
    struct exec__pinned_call *call; /* [instructions of the plan] of communications */
    uint32_t *ready;       /* [n_events] the event that says that operands are in pinned memory: n_events + i */
    unsigned char *wanted; /* [instructions of the plan] 1: another stream waits for it */
    op_kernel add;         /* out = in + in */
    char (*names)[128];    /* [instructions of the plan] for a profiler; NULL: there is none */
    /* host memory: of ARENA_PARAMS, ARENA_GRADS, ARENA_OPTIM, when it is first asked for; ARENA_SNAPSHOT itself, pinned */
    unsigned char *image[ARENA_COUNT];
    void *sums, *kept; /* of checksums: on the device, and pinned; NULL: there are none */
    void *checked;     /* host memory for one operand, of --check-numbers */
    uint64_t checked_bytes;

    void *copy_stream;            /* state to host memory */
    bool copying;                 /* since the last update */
    bool held;                    /* an update of the list that is enqueued waits for copies */
    bool *ran, *updates;          /* [lists] has run; has updates */
    struct exec__tape *tapes;     /* [2*lists] plain and traced */
    struct exec__tape *tape;      /* being recorded; NULL: what is enqueued runs */
    uint32_t segment;             /* counts forks: events recorded in an earlier one are behind the fork */
    const struct plan_instr *now; /* being enqueued; NULL: none */
    uint32_t *recorded;           /* [n_events] the segment in which it was */
};

/* Completes the setup of the comm back end, when calls are bound. Collective. */
enum status exec__device_comm(struct exec *x, struct comm_setup *setup, struct err *e);
/* exec__device_args() of kernel `kernel` and the next, which run as one. */
void exec__device_pair_args(const struct exec *x, const struct plan_list *l, const struct plan_instr *in,
                            uint32_t kernel, struct op_args pair[2]);
/* Which neighbouring kernels run as one: fills in `fusions`, when programs are bound. */
void exec__device_pairs(struct exec *x);
/* Does the host do this kernel, or this communication, itself, so that it cannot be captured? */
bool exec__device_kernel_is_direct(const struct exec *x, const struct plan_kernel *k);
bool exec__device_call_is_direct(const struct exec *x, const struct plan_instr *in);
/* Enqueues communication i of the list, whose waits are on its stream. */
void exec__device_communicate(struct exec *x, uint32_t i);

/* The same of an exchange of a further round; what it waits for is done. */
void exec__device_exchange(struct exec *x, uint32_t i, uint32_t round);
/* Carries out ROUNDS number i of the list; run: enqueues a RUN of it. */
void exec__device_rounds(struct exec *x, uint32_t i, void (*run)(struct exec *x, uint32_t i));

/* Leaves by process_fail() when the device has an error. in: NULL, not known. */
void exec__device_check(const struct exec *x, const struct plan_instr *in);
void exec__device_failed(void *x);
/* Libraries choose their algorithms for all kernels of the plan; arenas are zero before and afterwards. Collective. */
enum status exec__device_libraries(struct exec *x, const char *cache_path, struct err *e);

/* Before an update is enqueued on the stream; after a list has run. */
void exec__device_before_update(struct exec *x, void *stream);
void exec__device_ran(struct exec *x, uint32_t list);

/* Members of the table that stand in other files than device_open.c. */
void exec__device_run(struct exec *x, double *scalars);
unsigned char *const *exec__device_image(const struct exec *x);
void exec__device_download(struct exec *x);
void exec__device_upload(struct exec *x);
void exec__device_copy_begin(struct exec *x, const struct exec_copy *list, uint32_t n);
void exec__device_copy_wait(struct exec *x);
const char *exec__device_notes(const struct exec *x);

static inline struct op_args exec__device_args(const struct exec *x, const struct plan_list *l,
                                               const struct plan_instr *in, uint32_t kernel)
{
    const struct exec__device *d = x->own;
    return exec__args(x, l, in, kernel, d->streams[in->stream]);
}

/* Events: of instructions; fork and join, n_events and behind it one a stream; the end of copies. */
static inline uint32_t exec__device_copied(const struct exec *x)
{
    const struct exec__device *d = x->own;
    return x->n_events + 1 + d->n_streams;
}

static inline uint32_t exec__device_events(const struct exec *x)
{
    return exec__device_copied(x) + 1;
}

/* Stamps: the begin and end of traced instructions, then how long the first update was held up by copies. */
enum { EXEC__HELD_STAMPS = 2 };
static inline uint32_t exec__device_held(const struct exec *x)
{
    return x->times ? 2 * x->n_events : 0;
}

#endif
