/* piper info: what this build and this machine can do. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "exec/backends.h"
#include "base/version.h"
#include "cmd/command.h"
#include "job/compile_job.h"
#include "comm/comm.h"
#include "exec/compute.h"
#include "ir/family/family.h"
#include "cmd/options.h"
#include "train/head.h"

static void print_versions(void)
{
    char text[HEAD_VERSIONS];
    head_versions(text);
    printf("built with     %s\noptional       %s\n", text, piper_optional);
}

static void print_machine(void)
{
    cpu_set_t cores;
    char host[256] = "", memory[32];
    gethostname(host, sizeof host - 1);
    double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    int n = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    printf("machine        %s: %d %s for this process, %s of memory\n", host, n, n == 1 ? "core" : "cores",
           compile_bytes(bytes, memory));
}

static void print_back_ends(void)
{
    const struct compute_backend *cuda = NULL;
    const struct comm_backend *nccl = NULL;
    struct device_found found;
    struct err why = { 0 };
    bool usable = backends_cuda(&cuda, &nccl, &found, &why) == ST_OK;
    printf("%-14s %-8s available: %s%s\n", "compute", "cpu", compute_cpu.uses(),
           usable ? "" : "; chosen by --device auto");
    if (usable)
        printf("%-14s %-8s available: %s, %s; chosen by --device auto\n", "", "cuda", found.name,
               cuda->libraries->versions());
    else
        printf("%-14s %-8s unavailable: %s\n", "", "cuda", why.text);
    printf("%-14s %-8s kernels only wait for their predicted time (--device emulate)\n", "", compute_emulate.name);
    printf(
        "%-14s %-8s host memory; device memory is staged through it%s; chosen by --comm auto with more than one rank\n",
        "communication", comm_mpi.name,
        comm_mpi.direct(COMM_SEND) ? ", except messages and gathers (GPU-aware MPI)" : " (MPI is not GPU-aware)");
    printf("%-14s %-8s %s\n", "", "nccl",
           nccl ? "device memory; chosen by --comm auto with --device cuda; NCCL_DEBUG=INFO shows the transport "
                  "between ranks: NVLink or PCIe (P2P), host memory (SHM), InfiniBand or sockets (NET)"
                : "not built");
}

static void print_model_parts(void)
{
    printf("families      ");
    for (const struct family *const *f = ir_families; *f; f++)
        printf(" %s", (*f)->model_type);
    printf(" graph\noperators     ");
    for (uint32_t i = 0; i < IR_OP_GRAPH_COUNT; i++)
        printf(" %s", ir_op_info[i].name);
    putchar('\n');
}

static const struct option options[] = { { .name = NULL } };
static const struct option_usage usage = {
    .command = "info",
    .synopsis = "",
    .about = "Shows what this build supports on this machine.",
    .options = options,
};

static enum status info_command(int argc, char **argv, struct err *e)
{
    struct option_common o = { 0 };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.help) {
        printf("piper          %s (%s)\n", piper_version, piper_commit);
        print_versions();
        print_machine();
        print_back_ends();
        print_model_parts();
    }
    vec_free(&o.operands);
    return st;
}

const struct command command_info = { "info", "show what this build supports on this machine", info_command };
