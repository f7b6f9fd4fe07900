/* Lanes: which messages are in flight beside all others (plan_lane()). Both ends find the same one from what the plan says of the
 * message alone. */
#include "exec/private.h"
#include "ir/target.h"

static bool has_collectives(const struct exec *x, uint32_t stream)
{
    for (uint32_t i = 0; i < x->plan->h->count[PLAN_S_CHANNELS]; i++)
        if (x->plan->channels[i].stream == stream)
            return true;
    return false;
}

/* As the compiler counted them (sched/fit.c). */
uint32_t exec__ctas(const struct exec *x, uint32_t stream)
{
    const struct ir_target *t = ir_target_by_name(x->compute->target);
    return t ? ir_target_ctas(t, x->plan->streams[stream].max_ctas, has_collectives(x, stream)) : 0;
}

/* Exchanges go from all members of a class to all of them at once, and no two classes share a rank. */
static struct comm_group everybody(struct exec *x)
{
    uint32_t set = x->plan->h->devices, n = x->plan->sets[set].size;
    uint32_t *list = arena_array(&x->memory, uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        list[i] = plan_set_at(x->plan, set, i);
    return (struct comm_group){ .count = n, .list = list };
}

static struct comm_group two(struct exec *x, uint32_t from, uint32_t to)
{
    uint32_t *list = arena_array(&x->memory, uint32_t, 2);
    list[0] = from;
    list[1] = to;
    return (struct comm_group){ .count = 2, .list = list };
}

uint32_t exec__lane(struct exec *x, const struct plan_instr *in, const struct comm_call *c)
{
    uint32_t ctas = exec__ctas(x, in->stream);
    uint64_t number = plan_lane(x->plan, in, x->rank);
    for (uint32_t i = 0; i < x->lanes.n; i++) {
        struct comm_lane *known = &x->lanes.at[i];
        if (x->lane_numbers.at[i] != number)
            continue;
        known->max_ctas = ctas && (!known->max_ctas || ctas < known->max_ctas) ? ctas : known->max_ctas;
        return i;
    }
    vec_add(&x->lane_numbers, number);
    vec_add(&x->lanes, ((struct comm_lane){ .kind = in->pass == IR_PASS_F ? 0 : 1,
                                            .exchange = c->op == COMM_EXCHANGE,
                                            .max_ctas = ctas,
                                            .group = c->op == COMM_EXCHANGE ? everybody(x)
                                                     : c->op == COMM_SEND   ? two(x, x->rank, c->peer)
                                                                            : two(x, c->peer, x->rank) }));
    return x->lanes.n - 1;
}
