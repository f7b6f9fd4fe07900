/* Random programs: all ranks derive one list of calls from a seed, and each launches those that it takes part in, in
 * the order of the list, on streams of its own choice, with random waits. Any such program ends, with the results that
 * follow from the list. */
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "comm/rows.h"
#include "test_comm.h"

enum { CALLS = 120, STEPS = 12, STREAMS = 4, GROUPS = 8, MAX_RANKS = 8, MAX_COUNT = 700, GUARD = 16, LATE = 3 };

static uint32_t reversed[MAX_RANKS], ends[2];

/* The groups of the world; false: there is none with this number. */
static bool make_group(uint32_t k, struct comm_group *g)
{
    uint32_t p = world_size();
    switch (k) {
    case 0:
    case 1:
        *g = (struct comm_group){ 0, 1, p, NULL };
        return true;
    case 2:
    case 3:
        *g = (struct comm_group){ k - 2, 2, (p + 1 - (k - 2)) / 2, NULL };
        return g->count > 0;
    case 4:
        for (uint32_t i = 0; i < p; i++)
            reversed[i] = p - 1 - i;
        *g = (struct comm_group){ 0, 0, p, reversed };
        return true;
    case 5:
        ends[0] = p - 1;
        ends[1] = 0;
        *g = (struct comm_group){ 0, 0, 2, ends };
        return p > 1;
    case 6:
        *g = (struct comm_group){ p - 1, 1, 1, NULL };
        return true;
    default:
        *g = (struct comm_group){ 1, 1, p - 1, NULL };
        return p > 1;
    }
}

static uint32_t member(const struct comm_group *g, uint32_t i)
{
    return g->list ? g->list[i] : g->start + i * g->stride;
}

/* One call of the list, the same on all ranks. */
struct global {
    enum comm_op op;
    enum comm_type type;
    uint32_t group;
    uint32_t from, to;
    uint32_t count;
    bool in_place;
};

static struct global draw(uint32_t seed, uint32_t k)
{
    uint32_t p = world_size();
    struct global g = { 0 };
    struct comm_group group;
    /* pairs and collectives; EXCHANGE and ADD have a test of their own */
    enum { COLLECTIVES = COMM_OP_COUNT - COMM_ALL_REDUCE };
    uint32_t draw = mix(seed, k, 1, 0) % (p > 1 ? COLLECTIVES + 2 : COLLECTIVES);
    g.op = draw < COLLECTIVES ? COMM_ALL_REDUCE + draw : draw - COLLECTIVES;
    g.type = mix(seed, k, 2, 0) % 5;
    if (g.op == COMM_ALL_REDUCE || g.op == COMM_REDUCE_SCATTER)
        g.type = (enum comm_type[]){ COMM_F32, COMM_F64, COMM_I32 }[mix(seed, k, 2, 1) % 3];
    g.group = mix(seed, k, 3, 0) % GROUPS;
    if (!make_group(g.group, &group))
        g.group = 0;
    g.from = mix(seed, k, 4, 0) % p;
    g.to = p > 1 ? (g.from + 1 + mix(seed, k, 5, 0) % (p - 1)) % p : 0;
    g.count = mix(seed, k, 6, 0) % (mix(seed, k, 6, 1) % 4 ? 20 : MAX_COUNT);
    g.in_place = mix(seed, k, 7, 0) % 2 && g.op != COMM_ALL_TO_ALL && g.op != COMM_ALL_TO_ALL_V && g.op != COMM_ROWS;
    return g;
}

static uint32_t rows_between(uint32_t k, uint32_t step, uint32_t from, uint32_t to)
{
    uint32_t x = mix(k, step, 100 + from, to);
    return x % 3 ? 0 : x % 7; /* mostly none */
}

/* Element i that rank r sends in call k: small, so that sums are exact in every type. */
static uint32_t value(uint32_t k, uint32_t step, uint32_t r, uint64_t i)
{
    return mix(k, step, r, (uint32_t)i) % 97;
}

static void put(void *base, enum comm_type type, uint64_t i, uint32_t v)
{
    switch (type) {
    case COMM_F32:
        ((float *)base)[i] = (float)v;
        break;
    case COMM_F64:
        ((double *)base)[i] = v;
        break;
    case COMM_I32:
        ((int32_t *)base)[i] = (int32_t)v;
        break;
    case COMM_BF16:
        ((uint16_t *)base)[i] = (uint16_t)(v * 257);
        break;
    case COMM_BYTE:
        ((uint8_t *)base)[i] = (uint8_t)v;
        break;
    }
}

/* A call as this rank sees it. */
struct local {
    struct global g;
    struct comm_group group;
    uint32_t p, me; /* of the group; 1, 0 for SEND and RECV */
    bool takes_part;
    struct comm_call call;
    uint32_t waits[3];
    uint32_t late; /* its executor event is marked when `late` more calls of the list were passed */
    bool has_own;
    int32_t send_rows[MAX_RANKS], recv_rows[MAX_RANKS], all_rows[MAX_RANKS * MAX_RANKS];
    unsigned char *src, *dst, *want; /* allocated with room for the largest call and a guard */
    uint64_t n_src, n_dst;           /* elements */
};

struct program {
    struct local at[CALLS];
    uint32_t channel_of[GROUPS], stream_of[GROUPS];
    struct comm_channel channels[GROUPS];
    uint32_t n_channels;
};

static void make_channels(struct program *pr, uint32_t seed)
{
    pr->n_channels = 0;
    for (uint32_t k = 0; k < GROUPS; k++) {
        struct comm_group g;
        bool mine = false;
        if (!make_group(k, &g))
            continue;
        for (uint32_t i = 0; i < g.count; i++)
            mine |= member(&g, i) == world_rank();
        if (!mine)
            continue;
        pr->stream_of[k] = mix(seed, k, world_rank(), 8) % STREAMS;
        pr->channel_of[k] = pr->n_channels;
        pr->channels[pr->n_channels++] = (struct comm_channel){ k, g, pr->stream_of[k] };
    }
}

/* Event k belongs to call k, event CALLS + k is marked by the executor for call k. Waits are for earlier calls. */
static void make_local(struct program *pr, uint32_t seed, uint32_t k, uint32_t late)
{
    struct local *l = &pr->at[k];
    uint32_t me = world_rank();
    l->g = draw(seed, k);
    struct comm_call *c = &l->call;
    *c = (struct comm_call){ .op = l->g.op, .type = l->g.type, .count = l->g.count, .event = k, .waits = l->waits };
    if (l->g.op == COMM_SEND || l->g.op == COMM_RECV) {
        l->takes_part = me == l->g.from || me == l->g.to;
        l->p = 1;
        c->op = me == l->g.from ? COMM_SEND : COMM_RECV;
        c->peer = me == l->g.from ? l->g.to : l->g.from;
        c->tag = k;
        c->channel = UINT32_MAX;
        c->stream = mix(seed, k, me, 9) % STREAMS;
    } else {
        make_group(l->g.group, &l->group);
        l->p = l->group.count;
        for (uint32_t i = 0; i < l->p; i++)
            if (member(&l->group, i) == me) {
                l->takes_part = true;
                l->me = i;
            }
        c->channel = pr->channel_of[l->g.group];
        c->stream = pr->stream_of[l->g.group];
        c->row = 1 + k % 5;
        c->send_rows = l->send_rows;
        c->row_counts = 1;
        c->max_rows = UINT64_MAX;
        c->recv_rows = l->recv_rows;
    }
    if (l->g.op == COMM_ROWS) {
        c->send_rows = l->all_rows;
        c->max_rows = 1 + mix(seed, k, 14, 0) % 6;
        c->round = mix(seed, k, 15, 0) % 3;
        c->back = mix(seed, k, 16, 0) % 2;
    }
    if (!l->takes_part)
        return;
    for (uint32_t i = 0; i < 2 && k; i++) {
        uint32_t other = mix(seed, k, me, 10 + i) % k;
        if (pr->at[other].takes_part)
            l->waits[c->n_waits++] = other;
    }
    l->has_own = mix(seed, k, me, 12) % 3 == 0;
    l->late = late ? mix(seed, k, me, 13) % (late + 1) : 0;
    if (l->has_own)
        l->waits[c->n_waits++] = CALLS + k;
    size_t room = ((size_t)MAX_COUNT * MAX_RANKS + GUARD) * 8;
    l->src = mem_alloc(room);
    l->dst = mem_alloc(room);
    l->want = mem_alloc(room);
}

/* Fills the sources of a step and what must come out of them. */
static void fill_reduce(struct local *l, uint32_t k, uint32_t step)
{
    bool scatter = l->g.op == COMM_REDUCE_SCATTER;
    uint64_t n = l->g.count, base = scatter ? l->me * n : 0;
    l->n_src = scatter ? n * l->p : n;
    l->n_dst = n;
    for (uint64_t i = 0; i < l->n_src; i++)
        put(l->src, l->g.type, i, value(k, step, world_rank(), i));
    for (uint64_t i = 0; i < n; i++) {
        uint32_t sum = 0;
        for (uint32_t m = 0; m < l->p; m++)
            sum += value(k, step, member(&l->group, m), base + i);
        put(l->want, l->g.type, i, sum);
    }
}

static void fill_exchange(struct local *l, uint32_t k, uint32_t step)
{
    uint64_t n = l->g.count, in = 0, out = 0, at = 0;
    bool v = l->g.op == COMM_ALL_TO_ALL_V;
    for (uint32_t m = 0; m < l->p; m++) {
        l->send_rows[m] = (int32_t)rows_between(k, step, world_rank(), member(&l->group, m));
        l->recv_rows[m] = (int32_t)rows_between(k, step, member(&l->group, m), world_rank());
        uint64_t theirs = 0; /* where my block begins in what m sends */
        for (uint32_t j = 0; v && j < l->me; j++)
            theirs += rows_between(k, step, member(&l->group, m), member(&l->group, j)) * l->call.row;
        out += v ? (uint64_t)l->send_rows[m] * l->call.row : n;
        in = v ? (uint64_t)l->recv_rows[m] * l->call.row : n;
        for (uint64_t i = 0; i < in; i++)
            put(l->want, l->g.type, at++, value(k, step, member(&l->group, m), (v ? theirs : l->me * n) + i));
    }
    l->n_src = out;
    l->n_dst = at;
    for (uint64_t i = 0; i < out; i++)
        put(l->src, l->g.type, i, value(k, step, world_rank(), i));
}

/* Rows of a round: to where the experts are without gaps, back to their places, and nowhere else. */
static void fill_rows(struct local *l, uint32_t k, uint32_t step)
{
    const struct comm_rounds r = { l->all_rows, l->p, 1, l->call.max_rows };
    const uint64_t row = l->call.row;
    uint64_t sent = 0, received = 0;
    memset(l->want, 0xa5, ((size_t)MAX_COUNT * MAX_RANKS + GUARD) * 8);
    for (uint32_t m = 0; m < l->p * l->p; m++)
        l->all_rows[m] = (int32_t)rows_between(k, step, member(&l->group, m / l->p), member(&l->group, m % l->p));
    for (uint32_t m = 0; m < l->p; m++) {
        const struct comm_rows in = comm_rows_of_round(&r, l->call.round, m, l->me),
                               out = comm_rows_of_round(&r, l->call.round, l->me, m);
        const uint64_t n = l->call.back ? out.n : in.n, to = l->call.back ? out.sent : in.received;
        for (uint64_t i = 0; i < n * row; i++)
            put(l->want, l->g.type, to * row + i,
                value(k, step, member(&l->group, m), (l->call.back ? out.received : in.sent) * row + i));
        sent += comm_rows_between(&r, l->me, m) * row;
        received += in.n * row;
    }
    l->n_src = l->call.back ? received : sent;
    l->n_dst = l->call.back ? sent : received;
    for (uint64_t i = 0; i < l->n_src; i++)
        put(l->src, l->g.type, i, value(k, step, world_rank(), i));
}

static void fill_rest(struct local *l, uint32_t k, uint32_t step)
{
    const bool shift = l->g.op == COMM_SHIFT;
    uint64_t n = l->g.count;
    for (uint64_t i = 0; i < n; i++)
        put(l->src, l->g.type, i, value(k, step, world_rank(), i));
    l->n_src = n;
    if (l->g.op == COMM_ALL_GATHER)
        for (uint64_t i = 0; i < n * l->p; i++)
            put(l->want, l->g.type, i, value(k, step, member(&l->group, (uint32_t)(i / n)), i % n));
    else
        for (uint64_t i = 0; i < n; i++)
            put(l->want, l->g.type, i,
                value(k, step, shift ? member(&l->group, (l->me + l->p - 1) % l->p) : l->g.from, i));
    l->n_dst = l->g.op == COMM_ALL_GATHER ? n * l->p : shift || l->call.op == COMM_RECV ? n : 0;
}

static void fill(struct local *l, uint32_t k, uint32_t step)
{
    size_t room = ((size_t)MAX_COUNT * MAX_RANKS + GUARD) * 8, size = comm_type_size(l->g.type);
    memset(l->dst, 0xa5, room);
    if (l->g.op == COMM_ALL_REDUCE || l->g.op == COMM_REDUCE_SCATTER)
        fill_reduce(l, k, step);
    else if (l->g.op == COMM_ALL_TO_ALL || l->g.op == COMM_ALL_TO_ALL_V)
        fill_exchange(l, k, step);
    else if (l->g.op == COMM_ROWS)
        fill_rows(l, k, step);
    else
        fill_rest(l, k, step);
    l->call.src = l->src;
    l->call.dst = l->dst;
    if (l->g.in_place && l->g.op == COMM_ALL_REDUCE)
        l->call.src = memcpy(l->dst, l->src, l->n_src * size);
    if (l->g.in_place && l->g.op == COMM_ALL_GATHER)
        l->call.src = memcpy(l->dst + l->me * l->g.count * size, l->src, l->n_src * size);
    if (l->g.in_place && l->g.op == COMM_REDUCE_SCATTER)
        l->call.dst = l->src + l->me * l->g.count * size;
}

static void check(const struct local *l)
{
    size_t size = comm_type_size(l->g.type);
    EXPECT(!memcmp(l->call.dst, l->want, l->n_dst * size));
    unsigned char guard[GUARD];
    memset(guard, 0xa5, GUARD);
    if (l->call.dst == l->dst)
        EXPECT(!memcmp(l->dst + l->n_dst * size, guard, GUARD));
}

/* The executor's loop. Its own events come up to LATE calls after the call that waits for them, and it blocks only for
 * calls further back than that, so nobody waits for an event that is not going to be marked. */
static void run_step(struct bench *t, struct program *pr, uint32_t seed, uint32_t step, bool sleepy)
{
    for (uint32_t k = 0; k < CALLS + LATE; k++) {
        uint32_t dice = mix(seed, step, world_rank() + 50, k);
        for (uint32_t j = k < LATE ? 0 : k - LATE; j <= k && j < CALLS; j++)
            if (pr->at[j].takes_part && pr->at[j].has_own && j + pr->at[j].late == k)
                bench_mark(t, CALLS + j, dice % 2);
        if (k < CALLS && pr->at[k].takes_part)
            t->b->launch(t->c, &pr->at[k].call);
        if (sleepy && dice % 16 == 0)
            usleep(dice % 400);
        uint32_t back = k - LATE - 1 - dice % 20;
        if (dice % 5 == 0 && back < CALLS && pr->at[back].takes_part) {
            t->b->wait(t->c, back);
            EXPECT(bench_happened(t, back));
        }
    }
    t->b->drain(t->c);
}

void test_random(const struct comm_backend *b, const char *limits)
{
    static struct program pr;
    uint32_t seed = mix((uint32_t)limits[0], world_size(), 77, 0), calls = 0;
    memset(&pr, 0, sizeof pr);
    make_channels(&pr, seed);
    for (uint32_t k = 0; k < CALLS; k++)
        make_local(&pr, seed, k, !strcmp(b->name, "null") ? 0 : LATE);
    for (uint32_t k = 0; k < CALLS; k++)
        calls += pr.at[k].takes_part;
    struct bench t;
    bench_open(&t, b, pr.channels, pr.n_channels, GROUPS, STREAMS, calls, 2 * CALLS);
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t k = 0; k < CALLS; k++)
            if (pr.at[k].takes_part)
                fill(&pr.at[k], k, step);
        bench_begin(&t);
        uint64_t allocations = mem_stats().calls;
        run_step(&t, &pr, seed, step, step % 2);
        EXPECT(mem_stats().calls == allocations);
        for (uint32_t k = 0; k < CALLS; k++)
            if (pr.at[k].takes_part) {
                EXPECT(bench_happened(&t, k));
                check(&pr.at[k]);
            }
    }
    bench_close(&t);
    for (uint32_t k = 0; k < CALLS; k++) {
        mem_free(pr.at[k].src);
        mem_free(pr.at[k].dst);
        mem_free(pr.at[k].want);
    }
}
