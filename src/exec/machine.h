/* Inside the executor: what carries the instructions of a plan out. This host does (host.c), a device beside it (device*.c), or
 * they only take their time (emulate.c, the smallest: the template). All other files ask this table, not what kind it is. */
#ifndef PIPER_EXEC_MACHINE_H
#define PIPER_EXEC_MACHINE_H

#include "exec/exec.h"

struct exec_machine {
    /* Takes x->own, x->events, x->scalars and x->loads; and where programs are computed x->arena and x->discarded, and binds them
     * (exec__bind_kernels()). What it has taken when it fails close() gives back. */
    enum status (*open)(struct exec *x, const struct exec_setup *s, struct err *e);
    /* What a communication moves: c is bound but for its operands and counts. In arenas: exec__operands(). */
    void (*operands)(const struct exec *x, const struct plan_instr *in, struct comm_call *c);
    /* When all ranks have come so far, before communication is opened: completes its setup. Collective. */
    enum status (*connect)(struct exec *x, const struct exec_setup *s, struct comm_setup *setup, struct err *e);
    /* Before communication is closed. */
    void (*disconnect)(struct exec *x);
    void (*close)(struct exec *x);

    /* Runs x->list; returns when everything is done. scalars[SCALAR_COUNT]: as exec_run(). */
    void (*run)(struct exec *x, double *scalars);
    /* `bytes` of the memory that kernels work on, for the host to read until the next call. */
    const void *(*read)(const struct exec *x, const void *p, uint64_t bytes);

    /* Returns when all that was enqueued is done. */
    void (*settle)(struct exec *x);
    /* State: see exec_arenas(), exec_download() and so on. */
    unsigned char *const *(*arenas)(const struct exec *x);
    void (*download)(struct exec *x);
    void (*upload)(struct exec *x);
    void (*copy_begin)(struct exec *x, const struct exec_copy *list, uint32_t n);
    void (*copy_wait)(struct exec *x);
    struct exec_memory (*memory)(const struct exec *x);
    const char *(*notes)(const struct exec *x);
};

/* ---- for machines whose memory is the host's (arena.c) -------------------------------------------------------- */

/* Takes the arenas of the mask's bits (1 << enum plan_arena), that of the scalars among them, and the events. An arena is a
 * mapping: zero, page by page given by the system when first touched. ST_DEVICE with what was needed. */
enum status exec__host_open(struct exec *x, uint32_t arenas, struct err *e);
void exec__host_close(struct exec *x);
/* Members of the table. */
unsigned char *const *exec__host_arenas(const struct exec *x);
struct exec_memory exec__host_memory(const struct exec *x);
const void *exec__host_read(const struct exec *x, const void *p, uint64_t bytes);
const char *exec__no_notes(const struct exec *x);
void exec__nothing(struct exec *x);

/* ---- for machines whose instructions the calling thread carries out (run.c) ----------------------------------- */

/* Returns when computation i of the list is done. before: what this thread did before it; PLAN_NONE: the list begins. */
typedef void (*exec__carry_out)(struct exec *x, const struct plan_instr *in, uint32_t i, uint32_t before);
/* The member run(), all else. */
void exec__loop(struct exec *x, exec__carry_out carry_out, double *scalars);

#endif
