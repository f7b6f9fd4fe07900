#include "exec/backends.h"

#include <stdio.h>
#include <stdlib.h>

#include "ir/target.h"
#include "exec/module.h"

enum status backends_cuda(const struct compute_backend **out, const struct comm_backend **comm,
                          struct device_found *found, struct err *e)
{
    const struct module *m;
    TRY(module_cuda(&m, e));
    *out = m->compute;
    *comm = m->comm;
    return m->compute->device->find(0, found, e);
}

/* Operators that the back end cannot run. */
static enum status supports(const struct compute_backend *c, const struct backends_asked *asked, struct err *e)
{
    const struct ir_target *t = ir_target_by_name(c->target);
    if (!t)
        return err_set(e, ST_DEVICE, c->name, "this build cannot plan for it");
    for (uint32_t i = 0; i < asked->graph->ops.n; i++) {
        const struct ir_node_op *op = &asked->graph->ops.at[i];
        const char *why = t->unsupported((enum ir_op)op->op, &op->attrs, asked->graph->seq_len, asked->compute);
        if (why)
            return err_set(e, ST_DEVICE, c->name, "operator %s: %s", op->name, why);
    }
    return ST_OK;
}

/* Two ranks that see one device: several at once are slow and need its memory several times, so it is rarely meant. */
static enum status share(const struct backends_asked *asked, uint64_t id, struct err *e)
{
    const char *allowed = getenv("PIPER_SHARE_DEVICES");
    uint64_t *all = mem_alloc(world_size() * sizeof *all);
    world_all_gather(&id, sizeof id, all);
    uint32_t other = 0;
    while (other < world_rank() && all[other] != id)
        other++;
    mem_free(all);
    if (!id || other == world_rank() || (allowed && strcmp(allowed, "1") == 0))
        return ST_OK;
    return err_set(
        e, ST_DEVICE, "--device",
        "ranks %u and %u would use the same device: %u ranks run on this node. Launch as many ranks as it has devices "
        "(CUDA_VISIBLE_DEVICES may hide some), or use --device cpu; PIPER_SHARE_DEVICES=1 allows sharing",
        other, world_rank(), asked->local_ranks);
}

static uint32_t smallest(uint32_t mine)
{
    uint64_t less = UINT32_MAX - mine;
    world_max_u64(&less, 1);
    return UINT32_MAX - (uint32_t)less;
}

/* Collective: usable when it is on all ranks. */
static enum status try_cuda(const struct backends_asked *asked, struct backends *out, const struct comm_backend **nccl,
                            struct err *e)
{
    const struct module *m = NULL;
    struct device_found found = { .id = 0 };
    enum status st = module_cuda(&m, e);
    if (st == ST_OK)
        st = m->compute->device->find(asked->local_rank, &found, e);
    if (st == ST_OK)
        st = supports(m->compute, asked, e);
    TRY(world_agree(st, e));
    TRY(world_agree(share(asked, found.id, e), e));
    out->machine = &exec_device;
    out->compute = m->compute;
    out->multiprocessors = smallest(found.multiprocessors);
    *nccl = m->comm;
    snprintf(out->device, sizeof out->device, "%s, %s", m->compute->name, found.name);
    return ST_OK;
}

/* Those that need nothing of a machine; the first is what auto takes where there is no device. */
static const struct {
    const struct compute_backend *compute;
    const struct exec_machine *machine;
} always[] = { { &compute_cpu, &exec_host }, { &compute_emulate, &exec_emulation } };

static enum status choose_device(const struct backends_asked *asked, struct backends *out,
                                 const struct comm_backend **nccl, struct err *e)
{
    struct err why = { 0 };
    bool any = strcmp(asked->device, "auto") == 0;
    if (any || strcmp(asked->device, "cuda") == 0) {
        if (try_cuda(asked, out, nccl, &why) == ST_OK)
            return ST_OK;
        if (!any)
            return err_set(e, why.status, "--device cuda", "%s", why.text);
        snprintf(out->device_why, sizeof out->device_why, " (auto: %s)", why.text);
    }
    size_t i = sizeof always / sizeof *always;
    while (--i > 0 && strcmp(asked->device, always[i].compute->name) != 0)
        ;
    out->machine = always[i].machine;
    out->compute = always[i].compute;
    snprintf(out->device, sizeof out->device, "%s", out->compute->name);
    return ST_OK;
}

/* How calls of a back end reach what lies on a device. */
static const char *way(const struct comm_backend *c)
{
    return c->device ? "device memory; NCCL_DEBUG=INFO shows the transport of each channel, as \"via P2P\", "
                       "\"via NET/IB\""
           : c->direct && c->direct(COMM_SEND)
               ? "messages and gathers in device memory by a GPU-aware MPI, reductions through host memory"
               : "through host memory";
}

static enum status choose_comm(const struct backends_asked *asked, struct backends *out,
                               const struct comm_backend *nccl, struct err *e)
{
    const char *name = asked->comm;
    bool any = strcmp(name, "auto") == 0, device = out->compute->device != NULL;
    if (any)
        name = world_size() == 1 ? "null" : device && nccl ? nccl->name : "mpi";
    out->comm = nccl && strcmp(name, nccl->name) == 0 ? nccl : comm_backend_by_name(name);
    if (!out->comm && !device)
        return err_set(e, ST_DEVICE, "--comm", "%s requires device memory, but --device is %s here%s; use --comm mpi",
                       name, out->compute->name, out->device_why);
    if (!out->comm)
        return err_set(e, ST_DEVICE, "--comm", "this build has no back end %s for %s; use --comm mpi", name,
                       out->compute->name);
    if (any || device)
        snprintf(out->comm_why, sizeof out->comm_why, " (%s%s%s)", any ? "auto: " : "",
                 world_size() == 1 ? "one rank"
                 : device          ? way(out->comm)
                                   : "host memory",
                 any && device && !nccl && world_size() > 1 ? "; this build has no NCCL" : "");
    return ST_OK;
}

enum status backends_choose(const struct backends_asked *asked, struct backends *out, struct err *e)
{
    const struct comm_backend *nccl = NULL;
    *out = (struct backends){ .compute = NULL };
    TRY(world_agree(choose_device(asked, out, &nccl, e), e));
    return world_agree(choose_comm(asked, out, nccl, e), e);
}
