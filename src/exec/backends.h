/* Which back ends a run uses: what was asked for, or the best that all its machines have. */
#ifndef PIPER_BACKENDS_H
#define PIPER_BACKENDS_H

#include "exec/device_ops.h"
#include "exec/exec.h"

struct backends_asked {
    const char *device, *comm;    /* words of --device and --comm */
    const struct ir_graph *graph; /* can its operators run? */
    enum ir_dtype compute;
    uint32_t local_rank, local_ranks;
};
struct backends {
    const struct exec_machine *machine;
    const struct compute_backend *compute;
    const struct comm_backend *comm;
    uint32_t multiprocessors;           /* of the smallest device of the job; 0: hosts compute */
    char device[256], device_why[2200]; /* "cuda, NVIDIA H100"; why not another one, or empty */
    char comm_why[192];
};
/* Collective. ST_DEVICE with what is missing and what to do. */
enum status backends_choose(const struct backends_asked *asked, struct backends *out, struct err *e);

/* The CUDA back end and the device of the first rank here, for piper info; ST_DEVICE with a sentence why not. */
enum status backends_cuda(const struct compute_backend **out, const struct comm_backend **comm,
                          struct device_found *found, struct err *e);

#endif
