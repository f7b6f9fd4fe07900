/* Bounds of a step: the busiest rank, the order of its schedule, its links. */
#include "sched/cost/bound_private.h"

#include <math.h>

/* ---- computing ------------------------------------------------------------------------------------------------------- */

/* Elements of parameters that a device of a pipeline rank updates; a tied one is sharded over the holders of both stages. */
static double updated_by_rank(const struct bound *b, const struct bound_shape *s, uint32_t rank)
{
    const double tied = s->zero && s->pp * s->chunks > 1 ? 2 : 1;
    double sum = 0;
    for (uint32_t k = 0; k < HELDS; k++) {
        const uint32_t op = bound__held_op(k);
        sum += b->cut->held[rank][k].trained * bound__param_part(s, op) / (bound__zero_holders(s, op) * tied);
    }
    return sum;
}

static double update_seconds(const struct bound *b, const struct bound_shape *s, uint32_t rank)
{
    const struct machine *m = b->job.machine;
    const uint32_t kind = MACHINE_UPDATE + b->job.optimizer;
    const double work = updated_by_rank(b, s, rank) * cost_element_bytes(kind, b->job.compute);
    double fastest = 0;
    for (uint32_t i = 0; i < m->points.n; i++) /* of several buckets each is as fast as its size is */
        if (m->points.at[i].kind == kind)
            fastest = fmax(fastest, m->points.at[i].work / m->points.at[i].seconds);
    return work / (fastest > 0 ? fastest : m->bandwidth);
}

/* What computing loses while something travels: a communication that takes processors slows it as long as it lasts. */
static double slowed(const struct bound *b)
{
    const struct machine *m = b->job.machine;
    return m->units ? fmin(0.9, (double)b->job.comm_units / m->units) : 0;
}

static double rank_seconds(const struct bound *b, const struct bound_shape *s, uint32_t rank)
{
    double sum = 0, rows = 0, regions = 0;
    uint32_t stage;
    for (uint32_t i = 0; (stage = bound__stage_of_rank(s, rank, i)) != IR_NONE; i++) {
        const struct bound_stage *at = &b->table->stages[stage];
        sum += at->f + at->bi + at->bw + (s->recompute ? b->again->seconds[stage] : 0);
        rows += bound__rows(s, at, false) + (b->freezes ? 0 : bound__rows(s, at, true));
        regions += at->regions * (b->freezes ? 1 : 2);
    }
    const double travels = fmax(rows, regions);
    return bound__microbatches(s) * fmax(sum + slowed(b) * travels, travels);
}

double bound_kernels(struct bound *b, const struct bound_shape *s)
{
    double most = 0;
    bound__look(b, s);
    for (uint32_t r = 0; r < s->pp; r++)
        most = fmax(most, rank_seconds(b, s, r));
    return most;
}

double bound_compute(struct bound *b, const struct bound_shape *s)
{
    double most = 0, update = 0;
    bound__look(b, s);
    for (uint32_t r = 0; r < s->pp; r++) {
        const double seconds = rank_seconds(b, s, r), own = update_seconds(b, s, r);
        most = fmax(most, seconds + (b->job.clip ? 0 : own));
        update = fmax(update, own);
    }
    return most + (b->job.clip ? update : 0); /* the norm is known when all gradients are: then all update */
}

/* ---- links ------------------------------------------------------------------------------------------------------------ */

/* What a rank's communication of parameters takes: its ports, and its two streams, on which one thing follows the other. */
struct loads {
    double port[LINK_COUNT], reduce, gather;
    double last;  /* of reduce, what cannot begin before the last backward does */
    double first; /* of gather, what the first forward waits for; where parameters are sharded: what each pass does */
};
/* Buckets of one kind of holders. Others are left out: tied tables, which have those of two stages. */
enum part { PART_LINEAR, PART_EXPERTS, PART_NORMS /* beside what a tensor group splits: those of the whole width */ };
struct parts {
    struct bound *b;
    const struct bound_shape *s;
    enum part part;
    uint32_t *ranks, group;     /* that reduce and gather */
    uint32_t *across, n_across; /* holders of one shard, where groups have copies of it; 0: there are none */
    double last;                /* elements that the transfers are of */
    struct cost_transfer reduce, copies, gather;
};

static void add(struct loads *l, const struct cost_transfer *t, double times)
{
    for (int k = 0; k < LINK_COUNT; k++)
        l->port[k] += times * t->port[k] * t->seconds;
}

static void time_bucket(struct parts *p, double n)
{
    const struct machine *m = p->b->job.machine;
    const double size = ir_dtype_size(IR_COMPUTE, p->b->job.compute);
    if (n == p->last)
        return;
    p->last = n;
    p->reduce = p->s->zero ? cost_alone(m, PLAN_REDUCE_SCATTER, p->ranks, p->group, 0, 4 * n / p->group)
                           : cost_alone(m, PLAN_ALL_REDUCE, p->ranks, p->group, 0, 4 * n);
    p->gather = cost_alone(m, PLAN_ALL_GATHER, p->ranks, p->group, 0, size * n / p->group);
    if (p->n_across)
        p->copies = cost_alone(m, PLAN_ALL_REDUCE, p->across, p->n_across, 0, 4 * n / p->group);
}

/* Gathers of a stage's buckets. */
struct gathers {
    double all, most;
    struct cost_transfer sum; /* its ports: seconds of each */
};

/* A bucket of n elements, or the sum of some in `buckets`. An all-reduce of a sum may be a ring where small ones are trees: then its ports
 * alone count. Gradients are reduced once, or, where they are sharded, after each microbatch; copies of shards once, behind that. */
static void add_buckets(struct parts *p, double n, double buckets, struct loads *l, struct gathers *g)
{
    const double times = buckets * (p->s->zero > 1 && !p->s->zero_group ? bound__microbatches(p->s) : 1);
    if (n <= 0)
        return;
    time_bucket(p, n / buckets);
    add(l, &p->reduce, times);
    add(l, &p->copies, buckets);
    if (!p->s->bucket_mib || p->s->zero) {
        l->reduce += times * p->reduce.seconds;
        l->last += buckets * p->reduce.seconds;
    }
    if (!p->s->bucket_mib) {
        l->reduce += buckets * p->copies.seconds;
        l->last += buckets * p->copies.seconds;
    }
    g->all += buckets * p->gather.seconds;
    g->most = fmax(g->most, p->gather.seconds);
    for (int k = 0; k < LINK_COUNT; k++)
        g->sum.port[k] += buckets * p->gather.port[k] * p->gather.seconds;
}

/* Parameters are gathered once a step, or, where they are sharded, for each F and each B or BI; a pass has at most two buckets, as prefetch 1
 * holds, from the one before it. */
static void add_gathers(const struct bound_shape *s, const struct gathers *g, struct loads *l)
{
    if (!s->zero || g->all <= 0)
        return;
    const double passes = 2.0 * bound__microbatches(s) * (g->all - 2 * g->most);
    const double seconds = s->zero > 2 && !s->bucket_mib ? fmax(g->all, passes) : g->all;
    l->gather += seconds;
    l->first += s->zero < 3 ? g->all : s->bucket_mib ? 0 : fmax(0, g->all - 2 * g->most);
    for (int k = 0; k < LINK_COUNT; k++)
        l->port[k] += seconds / g->all * g->sum.port[k];
}

/* Elements of an operator's parameters that are in this part. */
static double elements_in(const struct parts *p, uint32_t o, double *largest)
{
    const struct ir_graph *g = p->b->job.graph;
    const struct ir_node_op *op = &g->ops.at[o];
    const uint32_t from = op->in[0] == IR_NONE ? IR_NONE : g->tensors.at[op->in[0]].producer;
    const bool norm = (op->op == IR_OP_RMSNORM || op->op == IR_OP_LAYERNORM) && op->param[0] != IR_NONE &&
                      from != IR_NONE && g->ops.at[from].op == IR_OP_ADD;
    const bool table = !p->b->tied && (op->op == IR_OP_EMBED || op->op == IR_OP_HEAD_LOSS);
    const bool whole = p->s->tp > 1 && !p->s->vocab; /* tables are on every device of a tensor group */
    const bool in = p->part == PART_NORMS     ? norm || (table && whole)
                    : p->part == PART_EXPERTS ? op->op == IR_OP_EXPERTS
                                              : op->op == IR_OP_LINEAR || (table && !whole);
    double n = 0;
    for (int k = 0; in && p->b->ops[o].trains && k < (p->part == PART_EXPERTS ? 3 : 1); k++) {
        const double one = (double)ir_shape_elements(&g->params.at[op->param[k]].shape) *
                           (norm ? 1 : bound__param_part(p->s, op->op));
        n += one;
        *largest = fmax(*largest, one);
    }
    return n;
}

/* With buckets of a size there are as many as it takes, but a parameter is in one. */
static void add_stage(struct parts *p, uint32_t stage, struct loads *l)
{
    const struct ir_graph *g = p->b->job.graph;
    const struct bound_stage *at = &p->b->table->stages[stage];
    struct gathers gathers = { 0 };
    double n = 0, largest = 0;
    for (uint32_t o = at->first; o < at->end; o++) {
        if (o > at->first && g->ops.at[o - 1].block != g->ops.at[o].block &&
            !p->s->bucket_mib) { /* a bucket is of one layer */
            add_buckets(p, n, 1, l, &gathers);
            n = 0;
        }
        if (p->b->cut->stage_of[o] == stage)
            n += elements_in(p, o, &largest);
    }
    if (p->s->bucket_mib)
        largest = fmax(largest, p->s->bucket_mib * 1048576.0 / ir_dtype_size(IR_COMPUTE, p->b->job.compute));
    add_buckets(p, n, p->s->bucket_mib ? fmax(1, floor(n / largest)) : 1, l, &gathers);
    add_gathers(p->s, &gathers, l);
}

/* Two-way: the devices of both directions hold a stage. */
static void add_parameters(struct bound *b, const struct bound_shape *s, uint32_t stage, enum part part,
                           struct loads *l)
{
    const uint32_t op = part == PART_EXPERTS ? IR_OP_EXPERTS : IR_OP_LINEAR, rank = bound__rank_of(s, stage);
    const uint32_t stride = part == PART_EXPERTS ? s->ep : part == PART_NORMS ? 1 : s->tp;
    const uint32_t unit = bound__unit(s), one_way = s->dp * unit / stride;
    const uint32_t holders = one_way * (bound__two_way(s) ? 2 : 1);
    struct parts p = { .b = b, .s = s, .part = part, .group = holders };
    if (s->zero && s->zero_group)
        p.group = bound__two_way(s) ? 1 : part == PART_NORMS ? s->zero_group : bound__zero_holders(s, op);
    if (p.group < 2 || p.group > holders || (part == PART_NORMS && s->tp == 1))
        return;
    p.ranks = mem_alloc((p.group + holders / p.group) * sizeof *p.ranks);
    p.across = p.ranks + p.group;
    for (uint32_t i = 0; i < holders; i++) {
        const uint32_t k = i % one_way * stride;
        const uint32_t device = bound__device(s, i < one_way ? rank : s->pp - 1 - rank, k / unit, k % unit);
        if (i < p.group)
            p.ranks[i] = device;
        if (p.group < holders && i % p.group == 0)
            p.across[p.n_across++] = device;
    }
    add_stage(&p, stage, l);
    mem_free(p.ranks);
}

/* Of a stage. A message's speed depends on its size where links have points: buckets may be faster there than their sum, so nothing is
 * counted. */
static void add_loads(struct bound *b, const struct bound_shape *s, uint32_t stage, struct loads *l)
{
    for (int part = PART_LINEAR; part <= PART_NORMS && !b->job.machine->link_points.n; part++)
        add_parameters(b, s, stage, (enum part)part, l);
}

double bound_links(struct bound *b, const struct bound_shape *s)
{
    double most = 0;
    uint32_t stage;
    bound__look(b, s);
    /* the first rank and the last, which have the least even stages, and the middle one stand for all: fewer make no bound wrong */
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t r = i * (s->pp - 1) / 2;
        struct loads l = { .reduce = 0 };
        if (i && r == (i - 1) * (s->pp - 1) / 2)
            continue;
        for (uint32_t k = 0; (stage = bound__stage_of_rank(s, r, k)) != IR_NONE; k++)
            add_loads(b, s, stage, &l);
        for (int k = 0; k < LINK_COUNT; k++)
            most = fmax(most, l.port[k]);
        most = fmax(most, fmax(l.reduce, l.gather));
    }
    return most;
}

/* ---- order ----------------------------------------------------------------------------------------------------------- */

/* When passes end, as far as is known. A backward, or BI, gives its gradient on when its BI part is done: a compiler may put BW behind. */
struct path {
    struct bound *b;
    const struct bound_shape *s;
    bool parameters; /* with what communicates and updates them */
    uint32_t stages, m;
    double *f, *back;   /* [stages * m]; negative: not known */
    double *send;       /* [stages]: from the stage before, of activations; as much back */
    struct loads *load; /* [stages] */
    double *last;       /* [stages]: when the last gradients begin to be made, so far */
    struct cells *rows; /* [ranks] */
    uint32_t *next;     /* by rank: cell */
    double *free_at;    /* by rank */
    double *owed;       /* by rank: of BW of the group before, which fills this one too */
};

static bool ready(const struct path *p, const struct cell *c, double *at)
{
    const uint32_t stage = c->stage % p->stages;
    const struct bound_stage *stages = p->b->table->stages;
    double from = 0;
    if (c->pass == IR_PASS_F && stage > 0 && stages[stage].chained) {
        if ((from = p->f[(stage - 1) * p->m + c->mb]) < 0)
            return false;
        from += p->send[stage];
    }
    if ((c->pass == IR_PASS_B || c->pass == IR_PASS_BI) && stage + 1 < p->stages && stages[stage + 1].chained &&
        !p->b->freezes) {
        if ((from = p->back[(stage + 1) * p->m + c->mb]) < 0)
            return false;
        from += p->send[stage + 1];
    }
    *at = from;
    return true;
}

/* Of BW what may come behind the gradient that B gives on. B runs as BI and then BW only where something is exchanged inside of the pass
 * (sched/build.c). */
static double behind(const struct path *p, const struct bound_stage *at)
{
    return at->branches || p->b->freezes || p->s->tp * p->s->cp * p->s->ep > 1 ? at->bw : 0;
}

/* Computing of a cell, of that what may come in the next group (a BW of pairs), and what passes before its result is there, once it may begin; and how
 * long rows of experts travel in it, and what regions exchange. What recompute runs again is in the program that the gradient begins. */
struct cell_times {
    double busy, late, result, end, rows, regions;
};

static struct cell_times times_of(const struct path *p, const struct cell *c, bool alone)
{
    const struct bound_stage *at = &p->b->table->stages[c->stage % p->stages];
    const bool backward = c->pass != IR_PASS_F, exchanges = c->pass != IR_PASS_BW && (!backward || !p->b->freezes);
    struct cell_times t = { .busy = c->pass == IR_PASS_F    ? at->f
                                    : c->pass == IR_PASS_B  ? at->bi + at->bw
                                    : c->pass == IR_PASS_BI ? at->bi
                                                            : at->bw };
    const struct bound_again *again = p->s->recompute && backward && c->pass != IR_PASS_BW ? p->b->again : NULL;
    const uint32_t stage = c->stage % p->stages;
    t.busy += again ? again->seconds[stage] : 0;
    t.rows = exchanges ? bound__rows(p->s, at, backward) : 0;
    t.regions = exchanges ? at->regions : 0;
    const double slow = t.busy + (alone ? slowed(p->b) * fmax(t.rows, t.regions) : 0);
    double chain = exchanges ? (backward ? at->serial_bi : at->serial_f) + at->exchanges : 0;
    chain += again && exchanges ? again->serial[stage] : 0;
    t.result = fmax(c->pass == IR_PASS_B ? t.busy - behind(p, at) : slow, chain);
    t.result -= again && p->b->freezes ? again->seconds[stage] : 0; /* it may run before the gradient comes */
    t.late = !alone && c->pass == IR_PASS_B ? behind(p, at) : 0;
    t.end = fmax(fmax(slow - t.late, fmax(t.rows, t.regions)), t.result);
    return t;
}

/* Parameters that are gathered at the start of the step are there when all of the stage's are; those that are sharded come during each pass,
 * but for what the pass before has left. */
static void wait_for_gathers(const struct path *p, const struct cell *c, double at, double begin, struct cell_times *t)
{
    const double wait = p->load[c->stage % p->stages].first;
    double more = 0;
    if (c->pass == IR_PASS_BW || wait <= 0)
        return;
    if (p->s->zero == 3)
        more = wait;
    else if (c->pass == IR_PASS_F && c->mb == 0)
        more = wait - fmax(at, begin);
    t->result = fmax(t->result, more);
    t->end = fmax(t->end, more);
}

/* The next group of a rank, if all that it waits for is known. In a group the compiler interleaves: each member may begin when the group
 * does, and the group ends when all is computed but for BW that the next one may fill with, and the rows of all have come, one after the other. */
static bool advance(struct path *p, uint32_t rank)
{
    const struct cells *row = &p->rows[rank];
    uint32_t first = p->next[rank], end = first;
    double begin = p->free_at[rank], sum = p->owed[rank], rows = 0, regions = 0, late = 0, last = begin, at;
    while (end < row->n && row->at[end].with_next)
        end++;
    if (first >= row->n)
        return false;
    end++;
    for (uint32_t i = first; i < end; i++)
        if (!ready(p, &row->at[i], &at))
            return false;
    for (uint32_t i = first; i < end; i++) {
        const struct cell *c = &row->at[i];
        const uint32_t stage = c->stage % p->stages;
        const bool backward = c->pass == IR_PASS_B || c->pass == IR_PASS_BI;
        ready(p, c, &at);
        struct cell_times t = times_of(p, c, end - first == 1);
        wait_for_gathers(p, c, at, begin, &t);
        if (c->pass != IR_PASS_F)
            p->last[stage] = fmax(p->last[stage], c->pass == IR_PASS_BI ? 0 : begin);
        at = fmax(at, begin);
        if (c->pass == IR_PASS_F)
            p->f[stage * p->m + c->mb] = at + t.result;
        else if (backward)
            p->back[stage * p->m + c->mb] = at + t.result;
        sum += t.busy - t.late;
        late += t.late;
        rows += t.rows;
        regions += t.regions;
        last = fmax(last, at + t.end);
    }
    p->free_at[rank] = fmax(last, begin + fmax(sum + slowed(p->b) * fmax(rows, regions), fmax(rows, regions)));
    p->owed[rank] = late;
    p->next[rank] = end;
    return true;
}

/* A message between neighbours takes as long as for the pair of replicas that is worst off: at least what it takes for the first, the middle
 * and the last. */
static double send_seconds(const struct path *p, uint32_t from, uint32_t to, double bytes)
{
    const struct bound_shape *s = p->s;
    const struct machine *m = p->b->job.machine;
    enum machine_link far = LINK_NODE;
    uint32_t pair[2] = { bound__device(s, from, 0, 0), bound__device(s, to, 0, 0) };
    if (from == to)
        return 0;
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t r = i * (s->dp - 1) / 2, k = i * (bound__unit(s) - 1) / 2;
        const uint32_t a = bound__device(s, from, r, k), z = bound__device(s, to, r, k);
        if (machine_link_between(m, a, z) >= far) {
            far = machine_link_between(m, a, z);
            pair[0] = a;
            pair[1] = z;
        }
    }
    return cost_alone(m, PLAN_SEND, pair, 2, 0, bytes).seconds;
}

static void path_init(struct path *p, uint32_t ranks)
{
    const uint32_t n = p->stages * p->m;
    p->f = mem_alloc(n * sizeof *p->f);
    p->back = mem_alloc(n * sizeof *p->back);
    p->send = mem_alloc((p->stages + 1) * sizeof *p->send);
    p->load = mem_alloc(p->stages * sizeof *p->load);
    p->last = mem_alloc(p->stages * sizeof *p->last);
    for (uint32_t i = 0; i < p->stages && p->parameters; i++)
        add_loads(p->b, p->s, i, &p->load[i]);
    p->rows = mem_alloc(ranks * sizeof *p->rows);
    p->next = mem_alloc(ranks * sizeof *p->next);
    p->free_at = mem_alloc(ranks * sizeof *p->free_at);
    p->owed = mem_alloc(ranks * sizeof *p->owed);
    for (uint32_t i = 0; i < n; i++)
        p->f[i] = p->back[i] = -1;
    for (uint32_t i = 1; i < p->stages; i++)
        if (p->b->table->stages[i].chained)
            p->send[i] = send_seconds(p, bound__rank_of(p->s, i - 1), bound__rank_of(p->s, i),
                                      p->b->table->stages[i].input);
    for (uint32_t r = 0; r < ranks; r++)
        bound__row(p->s, r, &p->rows[r]);
}

static void path_release(struct path *p, uint32_t ranks)
{
    for (uint32_t r = 0; r < ranks; r++)
        vec_free(&p->rows[r]);
    mem_free(p->f);
    mem_free(p->back);
    mem_free(p->send);
    mem_free(p->load);
    mem_free(p->last);
    mem_free(p->rows);
    mem_free(p->next);
    mem_free(p->free_at);
    mem_free(p->owed);
}

/* With parameters: gathers, reductions, and the update. */
static double longest_path(struct bound *b, const struct bound_shape *s, bool parameters)
{
    /* two-way: ranks r and pp-1-r do the same, the directions exchanged */
    const uint32_t ranks = s->pp / (bound__two_way(s) ? 2 : 1);
    struct path p = {
        .b = b, .s = s, .parameters = parameters, .stages = s->pp * s->chunks, .m = bound__microbatches(s)
    };
    double last = 0, update = 0, longest = 0;
    bool any = true;
    bound__look(b, s);
    path_init(&p, ranks);
    while (any) {
        any = false;
        for (uint32_t r = 0; r < ranks; r++)
            while (advance(&p, r))
                any = true;
    }
    for (uint32_t r = 0; r < ranks; r++) {
        const double own = parameters ? update_seconds(b, s, r) : 0;
        const double end = p.free_at[r] + p.owed[r];
        last = fmax(last, end);
        longest = fmax(longest, end + own);
        update = fmax(update, own);
    }
    for (uint32_t i = 0; i < p.stages * p.m; i++) /* what the last gradients still wait for is on no rank's row */
        last = fmax(last, p.back[i]);
    for (uint32_t i = 0; i < p.stages; i++) /* gradients are whole when the last backward, or BW, has made its terms */
        last = fmax(last, p.last[i] + p.load[i].last);
    path_release(&p, ranks);
    return b->job.clip ? last + update : fmax(last, longest);
}

double bound_passes(struct bound *b, const struct bound_shape *s)
{
    return longest_path(b, s, false);
}

double bound_order(struct bound *b, const struct bound_shape *s)
{
    return longest_path(b, s, true);
}
