/* The executor: binds a plan to a rank (memory, channels, pointers) and runs its lists of instructions.
 *
 * One loop: wait for events, launch on the stream, record the event. Compute runs on the calling thread, communication in
 * the comm back end beside it. The loop knows instructions and nothing of what they are for. Nothing in it allocates. */
#ifndef PIPER_EXEC_H
#define PIPER_EXEC_H

#include <stdbool.h>

#include "comm/comm.h"
#include "compute.h"
#include "ir/plan.h"

/* Where PLAN_LOAD gets its numbers. */
struct exec_data {
    /* Token ids of sample number `sample`, or with `targets` the ids that follow them: to[seq_len]. */
    enum status (*read)(void *self, uint64_t sample, bool targets, int32_t *to, struct err *e);
    void *self;
};

struct exec_setup {
    const struct plan *plan; /* everything here is borrowed until exec_close */
    const struct ir_graph *graph;
    const struct compute_backend *compute;
    const struct comm_backend *comm;
    struct optimizer_args optimizer;
    double clip_norm;       /* of a plan that clips */
    uint64_t local_ranks;   /* ranks that share this machine's memory, for the check that it suffices */
    uint32_t local_rank;    /* among them: the number of its device */
    const char *algorithms; /* on a device: file of what libraries have chosen; NULL: none */
    bool graphs;            /* on a device: lists run as captured graphs where they can */
    bool check_numbers;     /* after every kernel: no NaN, no Inf */
    bool times;             /* keep the times of instructions, for exec_times() */
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

struct exec_step {
    uint32_t list;   /* of the plan */
    uint64_t step;   /* from 1: the number of the update */
    uint64_t sample; /* the step takes samples sample .. sample+batch-1 of the data */
    double lr;
    bool stop, save; /* what this rank was asked for: SCALAR_STOP, SCALAR_SAVE */
    bool traced;     /* exec_times() will be asked for */
    const struct exec_data *data;
};
/* Runs one list; returns when everything is done. scalars[SCALAR_COUNT]: the sums over all ranks where the list sums them.
 * A failure inside a step (reading data, a broken transport, check_numbers) leaves by process_fail(): other ranks wait in
 * communications and cannot be told otherwise. */
void exec_run(struct exec *x, const struct exec_step *step, double *scalars);

/* With setup.times: begin and end (ctl_time() seconds) of instruction i of the last list that ran traced, at [2i] and
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
};
void exec_describe(const struct exec *x, uint32_t list, uint32_t i, struct exec_instruction *out);

struct exec_memory {
    uint64_t planned; /* bytes of the arenas */
    uint64_t
        touched; /* bytes of them that are resident: what the steps really used. On a device: by how much its free memory
                         has shrunk since before exec_open, so libraries' memory is in it */
};
struct exec_memory exec_memory(const struct exec *x);

#endif
