/* ROUNDS where the host carries a list out: how many rounds the counts of all members need, and one after the other. The events of what is
 * repeated happen when all rounds are done, in run.c: so other streams may take them for those of the last. */
#include "exec/private.h"

struct comm_rounds exec__rounds(const struct exec *x, const struct plan_instr *in, const int32_t *all)
{
    const struct plan_instr *exchange = in + 1; /* the first */
    while (exchange->op == PLAN_RUN)
        exchange++;
    const struct comm_call *first = &x->calls[exchange - x->plan->instrs];
    return (struct comm_rounds){ all, x->channels[in->channel].group.count, first->row_counts, first->max_rows };
}

uint32_t exec__round_member(const struct exec *x, const struct plan_instr *in)
{
    return comm_group_index(&x->channels[in->channel].group, x->rank);
}

/* An exchange of this round, done when this returns. */
static void exchange(struct exec *x, const struct plan_instr *in, uint32_t round)
{
    struct comm_call call = x->calls[in - x->plan->instrs];
    call.round = round;
    call.event = x->n_events;
    atomic_store(&x->events[call.event], 0);
    x->comm_backend->launch(x->comm, &call);
    x->comm_backend->wait(x->comm, call.event);
}

static void repeat(struct exec *x, const struct plan_instr *in, uint32_t round,
                   void (*run)(struct exec *x, const struct plan_instr *in))
{
    for (uint64_t k = 1; k <= in->count; k++) {
        exec__wait(x, &in[k]);
        if (in[k].op == PLAN_RUN)
            run(x, &in[k]);
        else
            exchange(x, &in[k], round);
        exec__spend(x, &in[k]);
    }
}

void exec__run_rounds(struct exec *x, const struct plan_instr *in,
                      void (*run)(struct exec *x, const struct plan_instr *in))
{
    const struct comm_rounds r = exec__rounds(x, in, exec__base(x, in, 0));
    const uint32_t n = comm_rounds_needed(&r), me = exec__round_member(x, in);
    for (uint32_t k = 2; k < in->n_bases; k++)
        memset(exec__base(x, in, k), 0, plan_zeroed_bytes(x->plan, &x->plan->bases[in->first_base + k]));
    for (uint32_t round = n; round-- > 0;) {
        comm_round_counts(&r, round, me, exec__base(x, in, 1));
        if (round)
            repeat(x, in, round, run);
    }
    if (in->pass == IR_PASS_F && me == 0)
        x->scalars[SCALAR_ROUNDS] += n - 1;
}
