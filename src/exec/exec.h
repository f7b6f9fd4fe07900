/* The executor: binds a plan to a rank (memory, channels, pointers) and runs its lists of instructions.
 *
 * One loop: wait for events, launch on the stream, record the event. Compute runs on the calling thread, communication in
 * the comm back end beside it. The loop knows instructions and nothing of what they are for. Nothing in it allocates. */
#ifndef PIPER_EXEC_H
#define PIPER_EXEC_H

#include <stdbool.h>

#include "comm/comm.h"
#include "exec/compute.h"
#include "ir/plan.h"

/* Where PLAN_LOAD gets its numbers. */
enum exec_input {
    EXEC_TOKENS,    /* ids */
    EXEC_TARGETS,   /* the id that follows each; negative: its loss does not count */
    EXEC_DOCUMENTS, /* where the document of each begins */
    EXEC_INPUTS
};
struct exec_data {
    /* Those of sample number `sample`: to[seq_len]. */
    enum status (*read)(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e);
    void *self;
};

/* What carries a plan out: this host, a device beside it (compute_backend.device), or nothing does, and only time passes. */
struct exec_machine;
extern const struct exec_machine exec_host, exec_device, exec_emulation;
extern const struct compute_backend compute_emulate; /* of exec_emulation */

struct exec_setup {
    const struct plan *plan; /* everything here is borrowed until exec_close */
    const struct ir_graph *graph;
    const struct exec_machine *machine;
    const struct compute_backend *compute;
    const struct comm_backend *comm;
    struct optimizer_args optimizer;
    double clip_norm;       /* of a plan that clips */
    double balance_rate;    /* of the selection biases of routers */
    uint64_t local_ranks;   /* ranks that share this machine's memory, for the check that it suffices */
    uint32_t local_rank;    /* among them: the number of its device */
    const char *algorithms; /* on a device: file of what libraries have chosen; NULL: none */
    bool graphs;            /* on a device: lists run as captured graphs where they can */
    bool fuse;              /* on a device: neighbouring kernels run as one where they can; not with check_numbers */
    bool check_numbers;     /* after every kernel: no NaN, no Inf */
    /* NULL: such a number ends the job; else it is told, the first one of a step, and the step goes on */
    void (*tell_number)(const char *text);
    bool checksums; /* of what is kept from update to update: a fault ends the job */
    bool times;     /* keep the times of instructions, for exec_times() */
};

struct exec; /* owned by the caller until exec_close */

/* Collective over all ranks; on failure no rank has it open. */
enum status exec_open(const struct exec_setup *setup, struct exec **out, struct err *e);
void exec_close(struct exec *x);

/* Where the arenas begin, in host memory: for initialisation, checkpoints, comparison. Borrowed until exec_close. On a device
 * it is an image of parameters and optimizer state, of which download() makes the contents, and upload() brings them back:
 * between the two the image counts, else the device. Both do nothing where the arenas are host memory. */
unsigned char *const *exec_arenas(const struct exec *x);
void exec_download(struct exec *x);
void exec_upload(struct exec *x);

/* State that leaves the arenas beside the steps, for a checkpoint: a list of copies to host memory (ARENA_SNAPSHOT), borrowed
 * until they are done. begin() comes between two steps, when the copies before are done, and returns at once; the first
 * update of the next step waits for the copies, so they see the state of the step before. wait() returns when they are
 * done; any thread may call it. */
struct exec_copy {
    void *to;
    const void *from;
    uint64_t bytes;
};
void exec_copy_begin(struct exec *x, const struct exec_copy *list, uint32_t n);
void exec_copy_wait(struct exec *x);
/* Seconds that updates have waited for copies so far. */
double exec_copy_waited(const struct exec *x);

/* With setup.checksums. take(): parameters and optimizer state are complete, as of that step; steps follow. check(): between steps,
 * they are what the last update left; else process_fail(), as in a step. copy_check(): so is what was copied, or can be read where
 * nothing is, since copy_begin(); any thread may call it, when wait() has returned and before the next begin(). ST_DEVICE. */
void exec_sums_take(struct exec *x, uint64_t step);
void exec_sums_check(struct exec *x);
enum status exec_copy_check(struct exec *x, struct err *e);

struct exec_step {
    uint32_t list;   /* of the plan */
    uint64_t step;   /* from 1: for messages and traces */
    uint64_t update; /* step_inputs.update */
    uint64_t sample; /* the step takes samples sample .. sample+batch-1 of the data */
    double lr;
    bool stop, save; /* what this rank was asked for: SCALAR_STOP, SCALAR_SAVE */
    bool written;    /* SCALAR_WRITTEN */
    bool traced;     /* exec_times() will be asked for */
    const struct exec_data *data;
    double targets; /* that count, of all ranks: what the gradient of the loss is divided by; 0: all do */
    bool skip;      /* the step makes no update */
    double counted; /* SCALAR_COUNTED */
};
/* Runs one list; returns when everything is done. scalars[SCALAR_COUNT]: the sums over all ranks where the list sums them.
 * A failure inside a step (a broken transport, check_numbers) leaves by process_fail(): other ranks wait in
 * communications and cannot be told otherwise. */
void exec_run(struct exec *x, const struct exec_step *step, double *scalars);

/* The loads of experts in the list that ran last (ir_graph_loads), over all ranks. Borrowed until the next one begins. */
const double *exec_loads(const struct exec *x);

/* The samples that this rank loads in a run of a list, each once: their places among those of the run, ascending, [the number
 * returned], owned by the caller (mem_free); NULL: none. */
uint32_t exec_samples(const struct exec *x, uint32_t list, uint64_t **places);

/* What the thread that runs the lists spends its time on. Where it waits for a communication that time is the communication's:
 * exposed, with what the other ranks let it wait. */
enum exec_spent {
    EXEC_LOADS,
    EXEC_FORWARD,
    EXEC_BACKWARD, /* with what is computed again for it */
    EXEC_UPDATE,
    EXEC_MESSAGES,   /* from rank to rank */
    EXEC_GATHERS,    /* all-gather */
    EXEC_REDUCTIONS, /* all-reduce, reduce-scatter */
    EXEC_ALL_TO_ALL,
    EXEC_SCALARS, /* the sums of a step: where all ranks meet */
    EXEC_SPENT
};
/* Seconds so far in runs of a list: [EXEC_SPENT]. NULL: not known, since a device carries it out. Borrowed until exec_close. */
const double *exec_spent(const struct exec *x, uint32_t list);

/* With setup.times: begin and end (clock_now() seconds) of instruction i of the last list that ran traced, at [2i] and
 * [2i+1]. */
const double *exec_times(const struct exec *x);
/* What instruction i of a list is. Name and tags do not tell the rank, so that ranks with the same program share them. */
struct exec_instruction {
    char name[128]; /* "F layers.0 mb3", "send B layers.1.add mb3", "all-reduce bucket 4"; cut to size */
    char tags[64];  /* "PP=0 MB=3 PASS=F" */
    uint32_t stream;
    double predicted; /* seconds; 0: no prediction */
    uint64_t bytes;   /* communicated: what this rank gives or gets */
    int32_t group;    /* id of the channel in the job; -1: no collective */
    int32_t peer;     /* rank at the other end; -1: none */
    uint32_t tag;     /* of the message, unique among those of a step between the two ranks */
};
void exec_describe(const struct exec *x, uint32_t list, uint32_t i, struct exec_instruction *out);

/* Where the rank is, looked at from another thread while exec_run() runs: derived from the events, so that the loop pays
 * nothing for being watched. */
struct exec_place {
    bool inside;    /* exec_run() is at work; else the place is the end of the last list that ran */
    uint32_t epoch; /* lists run so far, with this one: the same number on all ranks; 0: none yet */
    uint32_t list;
    uint64_t step;
    uint32_t at;   /* instruction that the loop is at; the length of the list: it waits for what is under way */
    uint64_t mark; /* another number whenever something has happened in this epoch: an event, a kernel begun */
};
uint32_t exec_streams(const struct exec *x);
/* first[exec_streams()]: the first instruction of each stream that is not done; the length of the list: all are. */
struct exec_place exec_look(const struct exec *x, uint32_t *first);

/* An instruction that is under way: nothing of this rank holds it up. */
struct exec_task {
    uint32_t instr, stream;
    uint32_t node;       /* the same number on both ends and on all members */
    uint32_t host;       /* 1: this rank's own work: computing, loading, adding; 0: a communication */
    int32_t peer, from;  /* ranks at the other end: an exchange has two; -1: none */
    uint32_t group_size; /* of a collective, else 0: ranks start, start+stride, ...; stride 0: they are no range */
    uint32_t start, stride;
};
/* Those that the loop depends on come first. Returns how many of them stand in tasks[max]. */
uint32_t exec_tasks(const struct exec *x, const struct exec_place *p, const uint32_t *first, struct exec_task *tasks,
                    uint32_t max);
/* How far this rank is with an instruction of another rank, by epoch and node. */
enum exec_arrival { EXEC_NO_PART, EXEC_NOT_YET, EXEC_UNDER_WAY, EXEC_DONE };
enum exec_arrival exec_arrival(const struct exec *x, const struct exec_place *p, const uint32_t *first, uint32_t epoch,
                               uint32_t node);
bool exec_is_load(const struct exec *x, uint32_t list, uint32_t i);
uint32_t exec_lists(const struct exec *x);
uint32_t exec_list_length(const struct exec *x, uint32_t list);

/* What the log is to say about how this plan runs, the same on all ranks: lines with their newlines, or none. */
const char *exec_notes(const struct exec *x);

struct exec_memory {
    uint64_t planned; /* bytes of the arenas */
    /* bytes of them that are resident: what the steps really used. On a device: by how much its free memory has shrunk since
     * before exec_open, so libraries' memory is in it */
    uint64_t touched;
};
struct exec_memory exec_memory(const struct exec *x);

#endif
