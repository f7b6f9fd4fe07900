/* Libraries that choose algorithms before the first step: rank 0 times those of its kernels and stores them, the others take
 * what is stored, so that all ranks and all restarts compute the same bits. */
#include "exec_device.h"

static enum status prepare_program(struct exec *x, const struct plan_list *l, const struct plan_instr *in,
                                   struct err *e)
{
    const struct plan_program *program = &x->plan->programs[in->what];
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        const struct plan_kernel *k = &x->plan->kernels[i];
        const struct op_args a = exec__device_args(x, l, in, i);
        if (k->op < IR_OP_GRAPH_COUNT)
            TRY(x->compute->libraries->prepare(&a, (enum ir_op)k->op, (enum ir_pass)k->pass, e));
    }
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        struct op_args a[2];
        if (!x->kernels[i].pair)
            continue;
        exec__device_pair_args(x, l, in, i, a);
        void *work = exec__device_args(x, l, in, i).work;
        if (!x->compute->libraries->prepare_pair(&a[0], &a[1], (enum ir_pass)x->plan->kernels[i].pass, work))
            x->kernels[i].pair = NULL;
    }
    return ST_OK;
}

/* Each program once a list: lists differ in the size of a microbatch. */
static enum status prepare_list(struct exec *x, const struct plan_list *l, unsigned char *seen, struct err *e)
{
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++) {
        const struct plan_instr *in = &x->plan->instrs[i];
        if (in->op != PLAN_RUN || seen[in->what])
            continue;
        seen[in->what] = 1;
        TRY(prepare_program(x, l, in, e));
    }
    return ST_OK;
}

/* Thread blocks that are away while a product runs: those of the stream with most. More than one communication beside a
 * product is rare, and a product that is tuned for less than it has loses too. */
static uint64_t beside_compute(const struct exec *x)
{
    uint32_t most = 0;
    for (uint32_t i = 0; ctl_size() > 1 && i < x->plan->h->count[PLAN_S_STREAMS]; i++) {
        uint32_t ctas = i == PLAN_COMPUTE_STREAM ? 0 : exec__ctas(x, i);
        most = ctas > most ? ctas : most;
    }
    return x->device->by_host ? 0 : most;
}

static enum status prepare(struct exec *x, const char *cache_path, bool choose, uint64_t beside, struct err *e)
{
    const struct compute_libraries *libs = x->compute->libraries;
    uint64_t n = x->plan->h->count[PLAN_S_PROGRAMS];
    TRY(libs->open(x->device->streams[PLAN_COMPUTE_STREAM], cache_path, choose, e));
    x->device->libraries = true;
    libs->leave((uint32_t)beside);
    unsigned char *seen = mem_alloc(n);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < x->plan->h->count[PLAN_S_LISTS]; i++) {
        memset(seen, 0, n);
        st = prepare_list(x, &x->plan->lists[i], seen, e);
    }
    mem_free(seen);
    return st == ST_OK && choose ? libs->store(e) : st;
}

enum status exec__device_libraries(struct exec *x, const char *cache_path, struct err *e)
{
    const struct device_ops *ops = x->device->ops;
    bool first = x->rank == 0;
    if (!x->compute->libraries)
        return ST_OK;
    uint64_t beside = beside_compute(x);
    ctl_max_u64(&beside, 1); /* all choose for the same device */
    TRY(ctl_agree(first ? prepare(x, cache_path, true, beside, e) : ST_OK, e));
    TRY(ctl_agree(first ? ST_OK : prepare(x, cache_path, false, beside, e), e));
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (x->arena[a] && a != ARENA_SCALARS)
            ops->clear(x->arena[a], x->plan->h->arena_bytes[a], x->device->streams[PLAN_COMPUTE_STREAM]);
    ops->synchronize();
    return ST_OK;
}
