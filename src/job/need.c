#include "job/need.h"

/* Communicators of a rank: of its channels with other members, and of its lanes. */
static uint32_t channels_of(const struct plan *p)
{
    uint32_t n = 0, device = plan_set_at(p, p->h->devices, 0);
    for (uint32_t i = 0; i < p->h->count[PLAN_S_CHANNELS]; i++)
        n += plan_group_size(p, p->channels[i].group, device) > 1;
    return n;
}

static uint32_t lanes_of(const struct plan *p)
{
    struct {
        VEC(uint64_t);
    } seen = { 0 };
    uint32_t device = plan_set_at(p, p->h->devices, 0);
    for (uint32_t i = 0; i < p->h->count[PLAN_S_INSTRS]; i++) {
        const struct plan_instr *in = &p->instrs[i];
        if (in->op != PLAN_SEND && in->op != PLAN_RECV && in->op != PLAN_EXCHANGE)
            continue;
        uint64_t lane = plan_lane(p, in, device);
        uint32_t k = 0;
        while (k < seen.n && seen.at[k] != lane)
            k++;
        if (k == seen.n)
            vec_add(&seen, lane);
    }
    uint32_t n = seen.n;
    vec_free(&seen);
    return n;
}

uint64_t need_outside(const struct plan *p, const struct ir_target *target)
{
    return target->outside(channels_of(p), lanes_of(p));
}

double need_bytes(const struct plan *p, const struct ir_target *target)
{
    return (double)(target->device ? plan_places(p, true).device : p->h->total_bytes) + (double)need_outside(p, target);
}

uint32_t need_in_the_way(const double by_kind[MEM_KINDS], const struct ir_target *target, double need, double limit,
                         enum plan_kind_of_memory kinds[MEM_KINDS])
{
    bool named[MEM_KINDS] = { [MEM_SNAPSHOT] = target->device };
    uint32_t n = 0;
    for (double rest = need; rest > limit;) {
        int most = -1;
        for (int k = 0; k < MEM_KINDS; k++)
            if (!named[k] && by_kind[k] > (most < 0 ? 0 : by_kind[most]))
                most = k;
        if (most < 0)
            break;
        named[most] = true;
        rest -= by_kind[most];
        kinds[n++] = (enum plan_kind_of_memory)most;
    }
    return n;
}

const char *need_remedy(enum plan_kind_of_memory kind)
{
    static const char *const remedies[MEM_KINDS] = {
        [MEM_PARAMS] = "zero 3, more stages or more devices that share the experts",
        [MEM_GRADS] = "zero 2 or 3, or more stages",
        [MEM_OPTIMIZER] = "zero 1",
        [MEM_ACTIVATIONS] =
            "recompute, \"backward\": \"whole\" where BW waits, a smaller microbatch, fewer of them under "
            "way, expert_bound where rows of experts are dropless",
        [MEM_COMM] = "expert_bound where rows of experts are dropless, recompute of experts with \"received\": "
                     "\"again\", a smaller microbatch",
        [MEM_WORKSPACE] = "a smaller microbatch",
        [MEM_SNAPSHOT] = "--checkpoint sync",
    };
    return remedies[kind];
}
