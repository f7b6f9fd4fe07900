/* Times and speeds for the timeline. */
#include "sched/cost/simulate.h"

#include <math.h>

enum { IN, OUT, DIRECTIONS };

/* What is in use at once: ports of every class, and what nodes and islands share. */
struct use {
    double port[LINK_COUNT][DIRECTIONS], shared[LINK_COUNT];
    double units; /* processors that transfers hold */
    double taken; /* share of the time of who computes that is taken for transfers and additions */
    bool computing;
};
struct cost_simulation {
    const struct simulate_input *in;
    const struct simulate_change *change;
    struct cost_class *costs;
    struct cost_transfer **transfers; /* by class and instruction of the list; seconds 0: none */
    const struct plan_instr **first;  /* by class: its list */
    uint32_t *node[LINK_COUNT];       /* by class: the class that stands for what it shares on a link */
    struct use *use;                  /* by class */
};

const char *simulate_kind_name(enum simulate_kind k)
{
    static const char *const names[] = { "computing", "sends", "all-to-all", "reductions", "gathers", "regions" };
    return names[k];
}

enum simulate_kind simulate_kind_of(const struct plan *p, const struct plan_instr *in)
{
    static const uint8_t kinds[PLAN_OP_COUNT] = {
        [PLAN_SEND] = SIMULATE_SEND,
        [PLAN_RECV] = SIMULATE_SEND,
        [PLAN_EXCHANGE] = SIMULATE_SEND,
        [PLAN_ALL_REDUCE] = SIMULATE_REDUCE,
        [PLAN_REDUCE_SCATTER] = SIMULATE_REDUCE,
        [PLAN_ADD] = SIMULATE_REDUCE,
        [PLAN_SCALARS] = SIMULATE_REDUCE,
        [PLAN_ALL_GATHER] = SIMULATE_GATHER,
        [PLAN_ALL_TO_ALL] = SIMULATE_ALL_TO_ALL,
        [PLAN_ALL_TO_ALL_V] = SIMULATE_ALL_TO_ALL,
        [PLAN_TO_EXPERTS] = SIMULATE_ALL_TO_ALL,
        [PLAN_FROM_EXPERTS] = SIMULATE_ALL_TO_ALL,
        [PLAN_SHIFT] = SIMULATE_REGION,
    };
    const enum simulate_kind kind = (enum simulate_kind)kinds[in->op];
    return (kind == SIMULATE_REDUCE || kind == SIMULATE_GATHER) && plan_moves_tensor(p, in) ? SIMULATE_REGION : kind;
}

/* ---- times --------------------------------------------------------------------------------------------------------- */

static double instruction_time(void *self, uint32_t cls, const struct plan_instr *in, double start)
{
    struct cost_simulation *sim = self;
    const struct plan *p = &sim->in->plans[cls];
    const struct plan_list *l = &p->lists[plan_find_list(p, sim->in->list)];
    enum simulate_kind kind = simulate_kind_of(p, in);
    double scale = sim->change ? sim->change->scale[kind] : 1;
    struct cost_transfer *t = &sim->transfers[cls][in - sim->first[cls]];
    (void)start;
    if (cost_transfer(&sim->costs[cls], l, in, t))
        return scale * t->seconds;
    if (kind == SIMULATE_COMPUTE && sim->change && sim->change->compute)
        scale *= sim->change->compute[cls];
    return scale * plan_seconds(p->programs, in);
}

/* ---- speeds -------------------------------------------------------------------------------------------------------- */

static bool is_transfer(const struct cost_simulation *sim, const struct timeline_active *a)
{
    return sim->transfers[a->ends->cls][a->ends->instr].seconds > 0;
}

static bool computes(const struct cost_simulation *sim, const struct timeline_active *a)
{
    enum plan_op op = (enum plan_op)sim->first[a->ends->cls][a->ends->instr].op;
    return op == PLAN_RUN || op == PLAN_UPDATE || op == PLAN_SUMSQ;
}

/* Does an end send and receive? */
static bool goes(enum plan_op op, int direction)
{
    return direction == IN ? op != PLAN_SEND : op != PLAN_RECV;
}

static double units_of(const struct cost_simulation *sim, const struct timeline_end *end)
{
    const struct plan *p = &sim->in->plans[end->cls];
    uint32_t ctas = p->streams[sim->first[end->cls][end->instr].stream].max_ctas;
    return ctas ? ctas : sim->in->machine->comm_units;
}

/* The members of a node have one demand together on what they share. */
static bool first_in_node(const struct cost_simulation *sim, const struct timeline_active *a, uint32_t end, int l)
{
    for (uint32_t i = 0; i < end; i++)
        if (sim->node[l][a->ends[i].cls] == sim->node[l][a->ends[end].cls])
            return false;
    return true;
}

static void add_use(struct cost_simulation *sim, const struct timeline_active *a)
{
    const struct cost_transfer *t = &sim->transfers[a->ends->cls][a->ends->instr];
    for (uint32_t i = 0; i < a->n_ends; i++) {
        uint32_t cls = a->ends[i].cls;
        struct use *u = &sim->use[cls];
        enum plan_op op = (enum plan_op)sim->first[cls][a->ends[i].instr].op;
        u->computing |= computes(sim, a);
        if (!is_transfer(sim, a))
            continue;
        u->units += units_of(sim, &a->ends[i]);
        for (int l = 0; l < LINK_COUNT; l++) {
            for (int d = 0; d < DIRECTIONS; d++)
                u->port[l][d] += goes(op, d) ? t->port[l] : 0;
            if (t->shared[l] > 0 && first_in_node(sim, a, i, l))
                sim->use[sim->node[l][cls]].shared[l] += t->shared[l];
        }
    }
}

/* The part of its speed alone that a transfer keeps beside what its ends compute: each round begins later where one of them has
 * to leave off for it, and bytes move slower where all of them do. */
static double speed_beside(const struct machine *m, const struct cost_transfer *t, bool any, bool all)
{
    const double late = any ? fmax(0, t->rounds * m->latency_beside - t->latency) : 0;
    const double slow = all ? (t->seconds - t->latency) * (1 / m->transfer_beside - 1) : 0;
    return t->seconds / (t->seconds + late + slow);
}

/* Share of its speed alone at which a transfer runs. */
static double link_speed(const struct cost_simulation *sim, const struct timeline_active *a)
{
    const struct cost_transfer *t = &sim->transfers[a->ends->cls][a->ends->instr];
    double most = 1;
    bool any = false, all = true;
    for (uint32_t i = 0; i < a->n_ends; i++) {
        uint32_t cls = a->ends[i].cls;
        enum plan_op op = (enum plan_op)sim->first[cls][a->ends[i].instr].op;
        for (int l = 0; l < LINK_COUNT; l++) {
            for (int d = 0; d < DIRECTIONS; d++)
                if (t->port[l] > 0 && goes(op, d))
                    most = fmax(most, sim->use[cls].port[l][d]);
            if (t->shared[l] > 0)
                most = fmax(most, sim->use[sim->node[l][cls]].shared[l]);
        }
        any = any || sim->use[cls].computing;
        all = all && sim->use[cls].computing;
    }
    return speed_beside(sim->in->machine, t, any, all) / most;
}

static double compute_speed(const struct cost_simulation *sim, uint32_t cls)
{
    const struct machine *m = sim->in->machine;
    const struct use *u = &sim->use[cls];
    if (m->units)
        return fmax(0.1, 1 - u->units / m->units);
    return fmax(0.1, 1 - u->taken);
}

/* An addition is carried out by the rank's processors where transfers are: they turn to it half of the time. */
static bool shares_time(const struct cost_simulation *sim, const struct timeline_active *a)
{
    const struct machine *m = sim->in->machine;
    return sim->first[a->ends->cls][a->ends->instr].op == PLAN_ADD && !m->units && m->compute_beside < 1 &&
           sim->use[a->ends->cls].computing;
}

static double beside_speed(const struct cost_simulation *sim, const struct timeline_active *a)
{
    return is_transfer(sim, a) ? link_speed(sim, a) : shares_time(sim, a) ? 0.5 : 1;
}

/* What it takes from its ends that runs at this speed: of a transfer what moves bytes, not its latency. */
static double taken_by(const struct cost_simulation *sim, const struct timeline_active *a)
{
    const struct machine *m = sim->in->machine;
    const struct cost_transfer *t = &sim->transfers[a->ends->cls][a->ends->instr];
    if (!is_transfer(sim, a))
        return shares_time(sim, a) ? a->speed : 0;
    return (1 - m->compute_beside) / m->transfer_beside * a->speed * (t->seconds - t->latency) / t->seconds;
}

static void set_speeds(void *self, struct timeline_active *active, uint32_t n)
{
    struct cost_simulation *sim = self;
    memset(sim->use, 0, sim->in->n_classes * sizeof *sim->use);
    for (uint32_t i = 0; i < n; i++)
        add_use(sim, &active[i]);
    for (uint32_t i = 0; i < n; i++) {
        active[i].speed = beside_speed(sim, &active[i]);
        const double taken = taken_by(sim, &active[i]);
        for (uint32_t k = 0; k < active[i].n_ends && taken > 0; k++)
            sim->use[active[i].ends[k].cls].taken += taken;
    }
    for (uint32_t i = 0; i < n; i++)
        if (computes(sim, &active[i]))
            active[i].speed = compute_speed(sim, active[i].ends->cls);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

/* Classes whose first members lie in one node (one island) share what it has. */
static void find_nodes(struct cost_simulation *sim)
{
    const struct machine *m = sim->in->machine;
    for (int l = 0; l < LINK_COUNT; l++) {
        sim->node[l] = mem_alloc(sim->in->n_classes * sizeof *sim->node[l]);
        for (uint32_t c = 0; c < sim->in->n_classes; c++) {
            uint32_t rank = plan_set_at(&sim->in->plans[c], sim->in->plans[c].h->devices, 0), k = 0;
            for (; k < c; k++) {
                uint32_t other = plan_set_at(&sim->in->plans[k], sim->in->plans[k].h->devices, 0);
                enum machine_link between = machine_link_between(m, rank, other);
                if (between == LINK_NODE || (l == LINK_ISLANDS && between != LINK_ISLANDS))
                    break;
            }
            sim->node[l][c] = k;
        }
    }
}

void simulate_run(const struct simulate_input *in, const struct simulate_change *change, struct timeline *out)
{
    uint32_t n = in->n_classes;
    struct cost_simulation sim = { .in = in, .change = change };
    sim.costs = mem_alloc(n * sizeof *sim.costs);
    sim.transfers = mem_alloc(n * sizeof *sim.transfers);
    sim.first = mem_alloc(n * sizeof *sim.first);
    sim.use = mem_alloc(n * sizeof *sim.use);
    for (uint32_t c = 0; c < n; c++) {
        const struct plan *p = &in->plans[c];
        const struct plan_list *l = &p->lists[plan_find_list(p, in->list)];
        cost_class_init(&sim.costs[c], in->machine, p, in->graph);
        sim.transfers[c] = mem_alloc((l->n_instr + 1) * sizeof *sim.transfers[c]);
        sim.first[c] = &p->instrs[l->first_instr];
    }
    find_nodes(&sim);
    timeline_run(in->plans, n, in->list, &(struct timeline_cost){ instruction_time, &sim, set_speeds }, out);
    for (uint32_t c = 0; c < n; c++) {
        cost_class_release(&sim.costs[c]);
        mem_free(sim.transfers[c]);
    }
    for (int l = 0; l < LINK_COUNT; l++)
        mem_free(sim.node[l]);
    mem_free(sim.costs);
    mem_free(sim.transfers);
    mem_free(sim.first);
    mem_free(sim.use);
}
