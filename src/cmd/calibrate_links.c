/* Messages between pairs of ranks, reductions, and what transfers and computing cost each other. */
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/calibrate.h"

enum { CALLS = 64, HOST = 64, COPIES = 12 };

struct links {
    const struct comm_backend *back;
    struct comm *comm;
    _Atomic uint32_t at[CALLS];
    struct comm_events events;
    uint32_t epoch, peer;
    bool first;      /* of its pair: the one that sends first */
    float *out, *in; /* [COPIES * most]: each message has the next elements, which are in no cache, as in a step */
    uint64_t most, next;
};

/* Where the next `count` elements lie in out and in. */
static uint64_t next_elements(struct links *links, uint64_t count)
{
    const uint64_t at = links->next + count > COPIES * links->most ? 0 : links->next;
    links->next = at + count;
    return at;
}

/* ---- messages --------------------------------------------------------------------------------------------------------- */

/* One way of a ping-pong: what it takes until a message is there. */
static double ping_pong(struct links *links, uint64_t count)
{
    const uint64_t at = next_elements(links, count);
    const uint32_t ready = 0;
    struct comm_call send = { .op = COMM_SEND,
                              .type = COMM_F32,
                              .channel = UINT32_MAX,
                              .peer = links->peer,
                              .src = links->out + at,
                              .count = count,
                              .event = 1,
                              .stream = 1 };
    struct comm_call recv = { .op = COMM_RECV,
                              .type = COMM_F32,
                              .channel = UINT32_MAX,
                              .peer = links->peer,
                              .dst = links->in + at,
                              .count = count,
                              .event = 0 };
    send.tag = links->first ? 0 : 1;
    recv.tag = links->first ? 1 : 0;
    if (!links->first) {
        send.waits = &ready;
        send.n_waits = 1;
    }
    world_barrier();
    links->back->begin(links->comm, ++links->epoch);
    double start = clock_now();
    links->back->launch(links->comm, &recv);
    links->back->launch(links->comm, &send);
    links->back->wait(links->comm, links->first ? 0 : 1);
    double seconds = (clock_now() - start) / 2;
    links->back->drain(links->comm);
    return seconds;
}

/* An exchange with the peer: as much in either direction, as nearly all that a step sends. Where the ranks' own processors
 * copy, that takes twice as long as one direction. */
static double exchange(struct links *links, uint64_t count)
{
    const uint64_t at = next_elements(links, count);
    world_barrier();
    links->back->begin(links->comm, ++links->epoch);
    double start = clock_now();
    links->back->launch(links->comm, &(struct comm_call){ .op = COMM_EXCHANGE,
                                                          .type = COMM_F32,
                                                          .channel = UINT32_MAX,
                                                          .peer = links->peer,
                                                          .from = links->peer,
                                                          .src = links->out + at,
                                                          .dst = links->in + at,
                                                          .count = count,
                                                          .event = 0 });
    links->back->wait(links->comm, 0);
    double seconds = clock_now() - start;
    links->back->drain(links->comm);
    return seconds;
}

struct messages {
    struct links *links;
    double (*time)(struct links *links, uint64_t count);
    uint64_t count;
};

/* Ranks without a peer only keep step. */
static uint32_t take_messages(void *self, double *seconds)
{
    const struct messages *m = self;
    const bool alone = m->links->peer == UINT32_MAX;
    for (int i = 0; i < CALIBRATE_RUNS; i++) {
        if (alone)
            world_barrier();
        else
            seconds[i] = m->time(m->links, m->count);
    }
    return alone ? 0 : CALIBRATE_RUNS;
}

static void measure_messages(struct links *links, enum machine_link l, struct machine *m, struct calibrate_runs *all)
{
    enum { FEW = 16 };
    double first[CALIBRATE_RUNS];
    struct messages few = { links, ping_pong, FEW };
    take_messages(&few, first);
    m->links[l].latency = calibrate_settle(all, "the latency of messages", take_messages, &few);
    for (uint64_t count = 1 << 12; count <= links->most; count <<= 2) {
        struct machine_link_point p = { .link = l, .bytes = 4.0 * (double)count };
        p.seconds = calibrate_settle(all, "messages", take_messages, &(struct messages){ links, exchange, count });
        m->links[l].bandwidth = p.bytes / fmax(p.seconds - m->links[l].latency, 0.1 * p.seconds);
        vec_add(&m->link_points, p);
    }
}

/* ---- reductions ------------------------------------------------------------------------------------------------------- */

/* All-reduces of all ranks, one after the other; k: computing meanwhile, or NULL. Returns seconds; *runs: kernels done. */
static double all_reduces(struct links *links, uint32_t calls, struct calibrate_kernel *k, uint32_t *runs)
{
    world_barrier();
    links->back->begin(links->comm, ++links->epoch);
    double start = clock_now();
    for (uint32_t i = 0; i < calls; i++) {
        float *sums = links->out + next_elements(links, links->most);
        links->back->launch(links->comm, &(struct comm_call){ .op = COMM_ALL_REDUCE,
                                                              .type = COMM_F32,
                                                              .stream = 2,
                                                              .src = sums,
                                                              .dst = sums,
                                                              .count = links->most,
                                                              .event = i });
    }
    for (*runs = 0; k && atomic_load(&links->at[calls - 1]) != links->epoch; ++*runs)
        calibrate_kernel_run(k, IR_PASS_F);
    links->back->wait(links->comm, calls - 1);
    double seconds = clock_now() - start;
    links->back->drain(links->comm);
    return seconds;
}

static uint32_t take_sums(void *self, double *seconds)
{
    uint32_t none;
    for (int i = 0; i < CALIBRATE_RUNS; i++)
        seconds[i] = all_reduces(self, 1, NULL, &none);
    return CALIBRATE_RUNS;
}

/* All ranks in one group; what an all-reduce takes beyond its messages are its sums. */
static void measure_sums(struct links *links, struct machine *m, struct calibrate_runs *all)
{
    double p = world_size(), bytes = 4.0 * (double)links->most, pieces = ceil(bytes / COMM_SCRATCH);
    double seconds = calibrate_settle(all, "all-reduces", take_sums, links);
    double messages = 2 * pieces * m->links[LINK_NODE].latency +
                      2 * (p - 1) / p * bytes / m->links[LINK_NODE].bandwidth;
    m->sum = fmax(0.1 * seconds, seconds - messages) / bytes;
}

/* ---- together --------------------------------------------------------------------------------------------------------- */

enum { TOGETHER_RUNS = 5, TOGETHER_CALLS = 16 };
struct together {
    struct links *links;
    struct calibrate_kernel *k;
    double kernel;  /* seconds of it alone */
    bool transfers; /* take what transfers keep of their speed, else what computing keeps */
};

static uint32_t take_together(void *self, double *seconds)
{
    const struct together *t = self;
    for (int i = 0; i < TOGETHER_RUNS; i++) {
        uint32_t runs, none;
        const double alone = all_reduces(t->links, TOGETHER_CALLS, NULL, &none),
                     both = all_reduces(t->links, TOGETHER_CALLS, t->k, &runs);
        seconds[i] = fmin(1, t->transfers ? alone / both : runs * t->kernel / both);
    }
    return TOGETHER_RUNS;
}

/* Computes for so long. Returns how long it was. */
static double compute_for(struct calibrate_kernel *k, double seconds)
{
    double start = clock_now(), now = start;
    for (; now < start + seconds; now = clock_now())
        calibrate_kernel_run(k, IR_PASS_F);
    return now - start;
}

/* Messages to and fro. Who has one computes, answers, computes on while the answer travels, and waits for the next: what is left of
 * the time is what an answer takes until it is there, one end of which computes. */
static uint32_t take_latency(void *self, double *seconds)
{
    enum { RUNS = 5, TURNS = 4 };
    static const double before = 5e-3, behind = 3e-3;
    const struct together *t = self;
    struct links *links = t->links;
    for (int i = 0; i < RUNS; i++) {
        double computed = 0;
        world_barrier();
        links->back->begin(links->comm, ++links->epoch);
        const double start = clock_now();
        for (uint32_t n = 0; n < 2 * TURNS; n++) {
            const bool mine = (n % 2 == 0) == links->first;
            struct comm_call call = { .op = mine ? COMM_SEND : COMM_RECV,
                                      .type = COMM_F32,
                                      .channel = UINT32_MAX,
                                      .peer = links->peer,
                                      .tag = n,
                                      .src = links->out,
                                      .dst = links->in,
                                      .count = 1 << 14,
                                      .event = n,
                                      .stream = mine };
            computed += mine ? compute_for(t->k, before) : 0;
            links->back->launch(links->comm, &call);
            if (mine)
                compute_for(t->k, behind);
            else
                links->back->wait(links->comm, n);
        }
        const double took = clock_now() - start;
        links->back->drain(links->comm);
        world_sum_f64(&computed, 1);
        seconds[i] = fmax(0, took - computed / (world_size() / 2)) / (2 * TURNS);
    }
    return links->first ? RUNS : 0; /* the last message is for the first: the other one computes on */
}

static void measure_together(struct links *links, const struct compute_backend *back, const struct ir_target *target,
                             struct machine *m, struct calibrate_runs *all)
{
    struct ir_attrs attrs = { .in_features = 512, .out_features = 1024 }; /* as in a step: its weights come from afar */
    struct calibrate_kernel *k = calibrate_kernel_new(
        back, target,
        &(struct cost_kernel){ .op = IR_OP_LINEAR, .attrs = &attrs, .b = 1, .t = 256, .compute = IR_F32 });
    struct together t = { links, k, calibrate_kernel_time(k, IR_PASS_F, all), false };
    m->compute_beside = fmax(0.05, calibrate_settle(all, "computation beside transfers", take_together, &t));
    t.transfers = true;
    m->transfer_beside = fmax(0.05, calibrate_settle(all, "transfers beside computation", take_together, &t));
    m->latency_beside = calibrate_settle(all, "the latency of messages beside computation", take_latency, &t);
    calibrate_kernel_free(k);
}

/* ---- who is where ------------------------------------------------------------------------------------------------------- */

/* Ranks of rank 0's host, if every host has as many, in order; else all. */
static uint32_t ranks_per_node(void)
{
    char mine[HOST] = { 0 }, *all = mem_alloc((size_t)world_size() * HOST);
    gethostname(mine, HOST - 1);
    world_all_gather(mine, HOST, all);
    uint32_t n = 1;
    while (n < world_size() && !memcmp(all, all + (size_t)n * HOST, HOST))
        n++;
    for (uint32_t r = 0; r < world_size(); r++)
        if (memcmp(all + (size_t)r * HOST, all + (size_t)(r / n * n) * HOST, HOST))
            n = world_size();
    mem_free(all);
    return n;
}

/* Neighbours in a node, or equal places in neighbouring nodes. */
static void pair_up(struct links *links, uint32_t distance)
{
    uint32_t turn = world_rank() / distance % 2, peer = turn ? world_rank() - distance : world_rank() + distance;
    links->first = !turn;
    links->peer = peer < world_size() ? peer : UINT32_MAX;
}

static enum status open_links(struct links *links, const struct comm_backend *comm, struct err *e)
{
    struct comm_channel world = { .group = { .stride = 1, .count = world_size() }, .stream = 2 };
    *links = (struct links){ .back = comm, .most = 1 << 20 };
    const uint64_t bytes = COPIES * links->most * sizeof *links->out;
    links->out = mem_alloc(bytes);
    links->in = mem_alloc(bytes);
    memset(links->out, 0, bytes); /* else they are one page of the system's, which is read fast */
    memset(links->in, 0, bytes);
    links->events = (struct comm_events){ .at = links->at, .n = CALLS };
    struct comm_setup setup = { .channels = &world,
                                .n_channels = 1,
                                .n_channels_world = 1,
                                .n_streams = 3,
                                .max_calls = CALLS,
                                .events = links->events };
    return comm->open(&setup, &links->comm, e);
}

enum status calibrate_links(const struct comm_backend *comm, const struct compute_backend *back,
                            const struct ir_target *target, struct machine *m, struct calibrate_runs *all,
                            struct err *e)
{
    struct links links;
    m->ranks_per_node = ranks_per_node();
    m->compute_beside = m->transfer_beside = 1;
    for (int l = 0; l < LINK_COUNT; l++)
        m->links[l] = (struct machine_links){ m->launch, m->bandwidth, 0 };
    if (world_size() == 1)
        return ST_OK;
    TRY(open_links(&links, comm, e));
    if (m->ranks_per_node > 1) {
        pair_up(&links, 1);
        measure_messages(&links, LINK_NODE, m, all);
        measure_sums(&links, m, all);
        m->links[LINK_NETWORK] = m->links[LINK_NODE];
        if (world_size() % 2 == 0)
            measure_together(&links, back, target, m, all);
    }
    if (m->ranks_per_node < world_size()) {
        pair_up(&links, m->ranks_per_node);
        measure_messages(&links, LINK_NETWORK, m, all);
    }
    m->links[LINK_ISLANDS] = m->links[LINK_NETWORK];
    comm->close(links.comm);
    mem_free(links.out);
    mem_free(links.in);
    return ST_OK;
}
