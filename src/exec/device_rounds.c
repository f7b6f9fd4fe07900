/* ROUNDS on a device: the host reads the counts, and where there are further rounds it waits for the device before and behind each. */
#include "exec/device.h"

static void repeat(struct exec *x, uint32_t i, uint32_t round, void (*run)(struct exec *x, uint32_t i))
{
    const struct exec__device *d = x->own;
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + i];
    for (uint32_t k = 1; k <= in->count; k++) {
        if (in[k].op == PLAN_RUN)
            run(x, i + k);
        else
            exec__device_exchange(x, i + k, round);
    }
    d->ops->synchronize();
    exec__device_check(x, in);
}

/* The sum so far: nobody else adds to this one. */
static void count(struct exec *x, uint32_t further, void *stream)
{
    const struct exec__device *d = x->own;
    d->block->rounds += further;
    d->ops->copy(x->scalars + SCALAR_ROUNDS, &d->block->rounds, sizeof d->block->rounds, stream);
}

void exec__device_rounds(struct exec *x, uint32_t i, void (*run)(struct exec *x, uint32_t i))
{
    const struct exec__device *d = x->own;
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + i];
    const struct exec__pinned_call *p = &d->call[x->list->first_instr + i];
    void *stream = d->streams[in->stream];
    d->ops->copy(p->sent, exec__base(x, in, 0), p->count_bytes, stream);
    for (uint32_t k = 2; k < in->n_bases; k++)
        d->ops->clear(exec__base(x, in, k), plan_zeroed_bytes(x->plan, &x->plan->bases[in->first_base + k]), stream);
    d->ops->synchronize_stream(stream);
    const struct comm_rounds r = exec__rounds(x, in, p->sent);
    const uint32_t n = comm_rounds_needed(&r), me = exec__round_member(x, in);
    if (n > 1)
        d->ops->synchronize();
    for (uint32_t round = n; round-- > 0;) {
        comm_round_counts(&r, round, me, p->received);
        d->ops->copy(exec__base(x, in, 1), p->received, p->count_bytes / r.members, stream);
        if (round)
            repeat(x, i, round, run);
    }
    if (n > 1 && in->pass == IR_PASS_F && me == 0)
        count(x, n - 1, stream);
}
