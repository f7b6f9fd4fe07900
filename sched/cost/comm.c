/* Communications: what the algorithms of the back ends send over which link. */
#include "sched/cost/cost.h"

#include <math.h>

enum { SMALL = 16 << 10, SCRATCH = 1 << 20, DIRECT = 64 }; /* limits of comm/mpi_rounds.c */

/* The other ends of a communication, as the member sees them that is worst off: how many are behind each link, and how
 * many members in its node (its island) use that link with it. */
struct cost_ends {
    uint32_t size; /* members, 0: not counted yet */
    uint32_t peers[LINK_COUNT];
    uint32_t beside[LINK_COUNT];
};
/* Of a set with another, rank by rank. */
struct cost_pair {
    uint32_t my_set, peer_set;
    struct cost_ends ends;
};

/* ---- who is behind which link --------------------------------------------------------------------------------------- */

static uint32_t place_of(const struct machine *m, enum machine_link l, uint32_t rank)
{
    uint32_t node = rank / m->ranks_per_node;
    return l == LINK_ISLANDS && m->nodes_per_island ? node / m->nodes_per_island : node;
}

static uint32_t farthest(const struct cost_ends *e)
{
    for (uint32_t l = LINK_COUNT; l-- > 0;)
        if (e->peers[l])
            return l;
    return LINK_NODE;
}

static bool worse(const struct cost_ends *a, const struct cost_ends *b)
{
    uint32_t la = farthest(a), lb = farthest(b);
    return la != lb ? la > lb : a->peers[la] > b->peers[lb];
}

static void count_end(const struct machine *m, uint32_t other, uint32_t rank, struct cost_ends *e)
{
    if (other != rank)
        e->peers[machine_link_between(m, rank, other)]++;
    for (int l = 0; l < LINK_COUNT; l++)
        e->beside[l] += place_of(m, (enum machine_link)l, other) == place_of(m, (enum machine_link)l, rank);
}

/* The members of sets, seen from a rank: linear in how many they are. */
static struct cost_ends ends_of(const struct machine *m, const struct plan *p, uint32_t first_set, uint32_t n_sets,
                                uint32_t rank)
{
    struct cost_ends e = { .size = 0 };
    for (uint32_t i = first_set; i < first_set + n_sets; i++) {
        const struct plan_set *s = &p->sets[i];
        e.size += s->size;
        for (uint32_t k = s->first_range; k < s->first_range + s->n_ranges; k++)
            for (uint32_t n = 0; n < p->ranges[k].count; n++)
                count_end(m, p->ranges[k].start + n * p->ranges[k].stride, rank, &e);
    }
    return e;
}

/* The first or the last of the class's members of a set; PLAN_NONE: it has none there. */
static uint32_t end_in_class(const struct plan *p, uint32_t set, bool last)
{
    for (uint32_t i = 0, n = p->sets[set].size; i < n; i++) {
        const uint32_t rank = plan_set_at(p, set, last ? n - 1 - i : i);
        if (plan_set_index(p, p->h->devices, rank) != PLAN_NONE)
            return rank;
    }
    return PLAN_NONE;
}

/* The worst place in any group of this kind that has members of the class: of every group, the first member and the last. */
static const struct cost_ends *group_ends(struct cost_class *c, uint32_t group)
{
    const struct plan *p = c->p;
    const struct plan_group *g = &p->groups[group];
    struct cost_ends *worst = &c->groups[group];
    if (worst->size)
        return worst;
    for (uint32_t i = 0; i < g->n_sets; i++) {
        uint32_t set = g->first_set + i, at[2] = { 0, p->sets[set].size - 1 };
        for (int k = 0; k < 2; k++) {
            const bool each = g->kind == PLAN_GROUP_EACH;
            const uint32_t rank = each ? end_in_class(p, set, k == 1) : plan_set_at(p, set, at[k]);
            if (rank == PLAN_NONE)
                continue;
            struct cost_ends e = ends_of(c->m, p, each ? set : g->first_set, each ? 1 : g->n_sets, rank);
            if (!worst->size || worse(&e, worst))
                *worst = e;
        }
    }
    return worst;
}

/* Replica r with replica r: the farthest pair. */
static const struct cost_ends *pair_ends(struct cost_class *c, uint32_t my_set, uint32_t peer_set)
{
    const struct plan *p = c->p;
    for (uint32_t i = 0; i < c->pairs.n; i++)
        if (c->pairs.at[i].my_set == my_set && c->pairs.at[i].peer_set == peer_set)
            return &c->pairs.at[i].ends;
    struct cost_pair *pair = vec_push(&c->pairs);
    struct cost_ends *worst = &pair->ends;
    uint32_t n = p->sets[my_set].size, far = 0, first = 0;
    uint8_t *link = mem_alloc(n);
    for (uint32_t i = 0; i < n; i++) {
        link[i] = (uint8_t)machine_link_between(c->m, plan_set_at(p, my_set, i), plan_set_at(p, peer_set, i));
        if (link[i] > far) {
            far = link[i];
            first = i;
        }
    }
    *pair = (struct cost_pair){ my_set, peer_set, { .size = 2 } };
    worst->peers[far] = 1;
    uint32_t here = place_of(c->m, (enum machine_link)far, plan_set_at(p, my_set, first));
    for (uint32_t i = 0; i < n; i++)
        worst->beside[far] += link[i] == far &&
                              place_of(c->m, (enum machine_link)far, plan_set_at(p, my_set, i)) == here;
    mem_free(link);
    return worst;
}

void cost_class_init(struct cost_class *c, const struct machine *m, const struct plan *p, const struct ir_graph *g)
{
    *c = (struct cost_class){ .m = m, .p = p, .g = g };
    c->groups = mem_alloc(p->h->count[PLAN_S_GROUPS] * sizeof *c->groups);
}

void cost_class_release(struct cost_class *c)
{
    mem_free(c->groups);
    vec_free(&c->pairs);
}

/* ---- volumes -------------------------------------------------------------------------------------------------------- */

/* A transfer as a whole: bytes over each kind of link from this rank's port, rounds of latency, bytes that are summed. */
struct volume {
    double bytes[LINK_COUNT], rounds, summed;
};

static double bandwidth_of(const struct machine *m, enum machine_link l, double bytes)
{
    if (!m->link_points.n)
        return m->links[l].bandwidth;
    const struct machine_link_point *p = m->link_points.at, *end = p + m->link_points.n, *lo = NULL;
    while (p < end && p->link != l)
        p++;
    for (; p < end && p->link == l && p->bytes <= bytes; p++)
        lo = p;
    bool have_hi = p < end && p->link == l;
    if (!lo && !have_hi)
        return m->links[l].bandwidth;
    const struct machine_link_point *hi = have_hi ? p : lo;
    lo = lo ? lo : hi;
    double s = hi->bytes > lo->bytes ? log(bytes / lo->bytes) / log(hi->bytes / lo->bytes) : 0;
    s = s < 0 ? 0 : s;
    double wire_lo = fmax(lo->seconds - m->links[l].latency, 0.1 * lo->seconds),
           wire_hi = fmax(hi->seconds - m->links[l].latency, 0.1 * hi->seconds);
    return exp((1 - s) * log(lo->bytes / wire_lo) + s * log(hi->bytes / wire_hi));
}

static void finish(const struct machine *m, const struct cost_ends *e, const struct volume *v,
                   struct cost_transfer *out)
{
    double port[LINK_COUNT] = { 0 }, shared[LINK_COUNT] = { 0 }, longest = 0;
    for (int l = 0; l < LINK_COUNT; l++) {
        if (v->bytes[l] <= 0)
            continue;
        port[l] = v->bytes[l] / bandwidth_of(m, (enum machine_link)l, v->bytes[l] / fmax(1, e->peers[l]));
        if (m->links[l].shared > 0)
            shared[l] = v->bytes[l] * e->beside[l] / m->links[l].shared;
        longest = fmax(longest, fmax(port[l], shared[l]));
    }
    const double latency = v->rounds * m->links[farthest(e)].latency;
    *out = (struct cost_transfer){ .seconds = latency + longest + v->summed * m->sum,
                                   .rounds = v->rounds,
                                   .latency = latency };
    for (int l = 0; l < LINK_COUNT && out->seconds > 0; l++) {
        out->port[l] = port[l] / out->seconds;
        out->shared[l] = shared[l] / out->seconds;
    }
}

/* Every member with every other, n bytes each way, in so many rounds. */
static struct volume pairwise(const struct cost_ends *e, double n, double rounds)
{
    struct volume v = { .rounds = rounds };
    for (int l = 0; l < LINK_COUNT; l++)
        v.bytes[l] = n * e->peers[l];
    return v;
}

/* Rings: each member passes on n bytes altogether. All ports of a node carry their part of the rings that cross its border. */
static struct volume ring(const struct cost_ends *e, double n, double rounds)
{
    struct volume v = { .rounds = rounds };
    for (int l = 0; l < LINK_COUNT; l++)
        v.bytes[l] = e->peers[l] ? l == LINK_NODE ? n : n / e->beside[l] : 0;
    return v;
}

static struct volume all_reduce(const struct machine *m, const struct cost_ends *e, double n)
{
    double p = e->size;
    if (m->ring) { /* large ones as rings, small ones as trees */
        double steps = 2 * ceil(log2(p));
        return steps * n < 2 * (p - 1) * SMALL ? ring(e, 2 * n, steps) : ring(e, 2 * n * (p - 1) / p, 2 * (p - 1));
    }
    if (p > DIRECT) { /* the library's own */
        struct volume v = ring(e, 2 * n * (p - 1) / p, 2 * ceil(log2(p)));
        v.summed = n;
        return v;
    }
    struct volume v = n * p <= SMALL ? pairwise(e, n, 1) : pairwise(e, 2 * n / p, 2 * ceil(n / SCRATCH));
    v.summed = n * p <= SMALL ? n * p : n;
    return v;
}

static struct volume reduce_scatter(const struct machine *m, const struct cost_ends *e, double part)
{
    double p = e->size;
    if (m->ring)
        return ring(e, part * (p - 1), p - 1);
    struct volume v = pairwise(e, part, ceil(part * p / SCRATCH));
    v.summed = part * p;
    return v;
}

/* n: bytes as the instruction counts them; of rows of experts what is sent to each member. */
static struct volume volume_of(const struct machine *m, enum plan_op op, double n, const struct cost_ends *e)
{
    struct cost_ends one = *e;
    switch (op) {
    case PLAN_ALL_REDUCE:
        return all_reduce(m, e, n);
    case PLAN_SCALARS:
        return all_reduce(m, e, 64);
    case PLAN_REDUCE_SCATTER:
        return reduce_scatter(m, e, n);
    case PLAN_ALL_GATHER:
        return m->ring ? ring(e, n * (e->size - 1.0), e->size - 1.0) : pairwise(e, n, 1);
    case PLAN_SHIFT: /* to one of them */
        for (uint32_t k = 0; k < LINK_COUNT; k++)
            one.peers[k] = k == farthest(e) && e->peers[k];
        return pairwise(&one, n, 1);
    default: /* ALL_TO_ALL, ALL_TO_ALL_V, TO_EXPERTS, FROM_EXPERTS, SEND, RECV, EXCHANGE */
        return pairwise(e, n, 1);
    }
}

static double bytes_of(const struct cost_class *c, const struct plan_list *l, const struct plan_instr *in,
                       uint32_t size)
{
    const double n = (double)in->count * ir_dtype_size((enum ir_dtype)in->type, IR_F32);
    if (!plan_moves_rows(in))
        return n;
    return n * (double)plan_expert_rows(c->p, c->g, in->tensor) * l->microbatch_size / size; /* balanced */
}

struct cost_transfer cost_alone(const struct machine *m, enum plan_op op, const uint32_t *ranks, uint32_t n,
                                uint32_t self, double bytes)
{
    struct cost_ends e = { .size = n };
    struct cost_transfer out;
    for (uint32_t i = 0; i < n; i++)
        count_end(m, ranks[i], ranks[self], &e);
    struct volume v = volume_of(m, op, bytes, &e);
    if (n == 1)
        v.rounds = 0;
    finish(m, &e, &v, &out);
    return out;
}

bool cost_transfer(struct cost_class *c, const struct plan_list *l, const struct plan_instr *in,
                   struct cost_transfer *out)
{
    const struct cost_ends *e;
    bool pair = in->op == PLAN_SEND || in->op == PLAN_RECV || in->op == PLAN_EXCHANGE;
    if ((!pair && in->channel == PLAN_NONE) || in->op == PLAN_ROUNDS || plan_is_extra(in))
        return false;
    e = pair ? pair_ends(c, in->my_set, in->peer_set) : group_ends(c, c->p->channels[in->channel].group);
    struct volume v = volume_of(c->m, (enum plan_op)in->op, bytes_of(c, l, in, e->size), e);
    if (e->size == 1)
        v.rounds = 0;
    finish(c->m, e, &v, out);
    return true;
}

double cost_instr(struct cost_class *c, const struct plan_list *l, const struct plan_instr *in)
{
    const struct plan *p = c->p;
    struct cost_transfer t;
    if (cost_transfer(c, l, in, &t))
        return t.seconds;
    switch ((enum plan_op)in->op) {
    case PLAN_RUN:
        return plan_seconds(p->programs, in);
    case PLAN_ROUNDS: /* rows fit: what it repeats takes no time either */
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
        return 0;
    case PLAN_LOAD:
        return c->m->launch;
    case PLAN_ADD:
        return c->m->launch + 12.0 * (double)in->count / c->m->bandwidth;
    case PLAN_SUMSQ:
    case PLAN_UPDATE: {
        const struct plan_bucket *b = &p->buckets[in->bucket];
        const uint32_t holders = plan_group_size(p, b->holders, plan_set_at(p, p->h->devices, 0));
        const uint64_t updated = zero_shards_state(b->zero) ? plan_state_elements(b, holders) : b->elements;
        if (in->op == PLAN_SUMSQ)
            return cost_elements(c->m, MACHINE_SUMSQ, (double)b->elements / holders, p->h->compute);
        return cost_elements(c->m, MACHINE_UPDATE + p->h->optimizer, (double)updated, p->h->compute);
    }
    default:
        CHECK(!"every instruction has a time");
        return 0;
    }
}

bool cost_fill(const struct machine *m, const struct ir_graph *g, const struct plan *p, void *blob)
{
    struct plan_program *programs = (struct plan_program *)((char *)blob + p->h->first[PLAN_S_PROGRAMS]);
    struct plan_instr *instrs = (struct plan_instr *)((char *)blob + p->h->first[PLAN_S_INSTRS]);
    uint64_t n_programs = p->h->count[PLAN_S_PROGRAMS];
    struct cost_class c;
    bool good = true;
    cost_class_init(&c, m, p, g);
    for (uint32_t i = 0; i < n_programs; i++) {
        programs[i].seconds = (float)cost_program(m, p, i, p->lists[0].microbatch_size, g);
        good &= programs[i].seconds < PLAN_SECONDS_MOST; /* not for NaN */
    }
    for (uint32_t k = 0; k < p->h->count[PLAN_S_LISTS]; k++) {
        const struct plan_list *l = &p->lists[k];
        for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++) {
            instrs[i].seconds = instrs[i].op == PLAN_RUN ? 0 : (float)cost_instr(&c, l, &instrs[i]);
            good &= instrs[i].seconds < PLAN_SECONDS_MOST;
        }
    }
    cost_class_release(&c);
    return good;
}
