/* Back ends that are loaded: a shared object with the back ends for one kind of device, so that one program serves hosts with
 * and without that device's libraries. It uses the program's own functions (errors, memory, control) and is built with it. */
#ifndef PIPER_MODULE_H
#define PIPER_MODULE_H

#include "comm/comm.h"
#include "exec/compute.h"

struct module {
    const char *version; /* piper_version; another one does not fit */
    uint64_t sizes;      /* MODULE_SIZES of its build */
    const struct compute_backend *compute;
    const struct comm_backend *comm; /* NULL: it has none */
};
/* Changes when a structure that both sides know changes its size. */
#define MODULE_SIZES                                                                                             \
    (sizeof(struct compute_backend) | sizeof(struct op_args) << 12 | (uint64_t)sizeof(struct comm_setup) << 24 | \
     (uint64_t)sizeof(struct comm_call) << 36 | (uint64_t)sizeof(struct update_args) << 48)
/* The module's one symbol. */
extern const struct module piper_module;
#define MODULE_SYMBOL "piper_module"

/* The module of CUDA, loaded once; borrowed for the life of the process. ST_DEVICE with where it was looked for or what the
 * loader said. Looked for: the file that PIPER_CUDA_MODULE names, .libs beside the program (a build tree),
 * ../lib/piper beside it, the folder of the installation. */
enum status module_cuda(const struct module **out, struct err *e);

/* What libraries of the module read in the environment, unless the user has set it. To be called before threads are started
 * and before MPI, whose kinds that know of GPUs start CUDA themselves. */
void module_environment(void);

#endif
