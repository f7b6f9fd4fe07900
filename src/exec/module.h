/* Back ends that are loaded: a shared object with the back ends for one kind of device, so that one program serves hosts with
 * and without that device's libraries. It uses the program's own functions (errors, memory, control) and is built with it. */
#ifndef PIPER_MODULE_H
#define PIPER_MODULE_H

#include "comm/comm.h"
#include "exec/compute.h"
#include "exec/device_ops.h"

struct module {
    const char *commit; /* PIPER_COMMIT of its build; another one does not fit */
    uint64_t sizes;     /* MODULE_SIZES of its build */
    const struct compute_backend *compute;
    const struct comm_backend *comm; /* NULL: it has none */
};
/* Changes when a structure that both sides know changes its size, as it may in a tree that was changed since the commit: each
 * has a weight of its own. */
#define MODULE_SIZES                                                                                         \
    (sizeof(struct compute_backend) * UINT64_C(10007) + sizeof(struct compute_libraries) * UINT64_C(20011) + \
     sizeof(struct op_args) * UINT64_C(30011) + sizeof(struct op_positions) * UINT64_C(40009) +              \
     sizeof(struct ir_attrs) * UINT64_C(50021) + sizeof(struct update_args) * UINT64_C(60013) +              \
     sizeof(struct optimizer_args) * UINT64_C(70001) + sizeof(struct step_inputs) * UINT64_C(80021) +        \
     sizeof(struct device_ops) * UINT64_C(90001) + sizeof(struct device_setup) * UINT64_C(100003) +          \
     sizeof(struct comm_backend) * UINT64_C(110017) + sizeof(struct comm_setup) * UINT64_C(120011) +         \
     sizeof(struct comm_call) * UINT64_C(130003))
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
