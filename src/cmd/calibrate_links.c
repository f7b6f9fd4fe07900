/* Messages between pairs of ranks, reductions, and what transfers and computing cost each other. */
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/calibrate.h"

enum { RUNS = 15, CALLS = 64, HOST = 64 };

struct links {
    const struct comm_backend *back;
    struct comm *comm;
    _Atomic uint32_t at[CALLS];
    struct comm_events events;
    uint32_t epoch, peer;
    bool first; /* of its pair: the one that sends first */
    float *out, *in;
    uint64_t most; /* elements of out and in */
};

/* ---- messages --------------------------------------------------------------------------------------------------------- */

/* One way of a ping-pong, on this rank. */
static double ping_pong(struct links *links, uint64_t count)
{
    const uint32_t ready = 0;
    struct comm_call send = { .op = COMM_SEND,
                              .type = COMM_F32,
                              .channel = UINT32_MAX,
                              .peer = links->peer,
                              .src = links->out,
                              .count = count,
                              .event = 1,
                              .stream = 1 };
    struct comm_call recv = { .op = COMM_RECV,
                              .type = COMM_F32,
                              .channel = UINT32_MAX,
                              .peer = links->peer,
                              .dst = links->in,
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

/* The mean over the pairs of their medians. Ranks without a peer only keep step. */
static double message_time(struct links *links, uint64_t count)
{
    double run[RUNS], mine[2] = { 0 };
    for (int i = 0; i < RUNS; i++) {
        if (links->peer != UINT32_MAX)
            run[i] = ping_pong(links, count);
        else
            world_barrier();
    }
    if (links->peer != UINT32_MAX && links->first) {
        mine[0] = calibrate_median(run, RUNS);
        mine[1] = 1;
    }
    world_sum_f64(mine, 2);
    return mine[0] / fmax(1, mine[1]);
}

static void measure_messages(struct links *links, enum machine_link l, struct machine *m)
{
    message_time(links, 16);
    m->links[l].latency = message_time(links, 16);
    for (uint64_t count = 1 << 12; count <= links->most; count <<= 3) {
        struct machine_link_point p = { .link = l,
                                        .bytes = 4.0 * (double)count,
                                        .seconds = message_time(links, count) };
        m->links[l].bandwidth = p.bytes / fmax(p.seconds - m->links[l].latency, 0.1 * p.seconds);
        vec_add(&m->link_points, p);
    }
}

/* ---- reductions ------------------------------------------------------------------------------------------------------- */

/* All ranks in one group; what an all-reduce takes beyond its messages are its sums. */
static void measure_sums(struct links *links, struct machine *m)
{
    struct comm_call call = {
        .op = COMM_ALL_REDUCE, .type = COMM_F32, .stream = 2, .src = links->out, .dst = links->out, .count = links->most
    };
    double run[RUNS], p = world_size(), bytes = 4.0 * (double)links->most, pieces = ceil(bytes / COMM_SCRATCH);
    for (int i = 0; i < RUNS; i++) {
        world_barrier();
        links->back->begin(links->comm, ++links->epoch);
        double start = clock_now();
        links->back->launch(links->comm, &call);
        links->back->wait(links->comm, 0);
        run[i] = clock_now() - start;
        links->back->drain(links->comm);
    }
    double seconds = calibrate_mean(calibrate_median(run, RUNS));
    double messages = 2 * pieces * m->links[LINK_NODE].latency +
                      2 * (p - 1) / p * bytes / m->links[LINK_NODE].bandwidth;
    m->sum = fmax(0.1 * seconds, seconds - messages) / bytes;
}

/* ---- together --------------------------------------------------------------------------------------------------------- */

/* Exchanges with the peer, one after the other; k: computing meanwhile, or NULL. Returns seconds; *runs: kernels done. */
static double exchanges(struct links *links, uint32_t calls, struct calibrate_kernel *k, uint32_t *runs)
{
    world_barrier();
    links->back->begin(links->comm, ++links->epoch);
    double start = clock_now();
    for (uint32_t i = 0; i < calls; i++)
        links->back->launch(links->comm, &(struct comm_call){ .op = COMM_EXCHANGE,
                                                              .type = COMM_F32,
                                                              .channel = UINT32_MAX,
                                                              .peer = links->peer,
                                                              .from = links->peer,
                                                              .tag = 2 + i,
                                                              .src = links->out,
                                                              .dst = links->in,
                                                              .count = links->most / 4,
                                                              .event = i });
    for (*runs = 0; k && atomic_load(&links->at[calls - 1]) != links->epoch; ++*runs)
        calibrate_kernel_run(k, IR_PASS_F);
    links->back->wait(links->comm, calls - 1);
    double seconds = clock_now() - start;
    links->back->drain(links->comm);
    return seconds;
}

static void measure_together(struct links *links, const struct compute_backend *back, const struct ir_target *target,
                             struct machine *m)
{
    enum { TIMES = 5 };
    struct ir_attrs attrs = { .in_features = 256, .out_features = 256 };
    struct calibrate_kernel *k = calibrate_kernel_new(
        back, target,
        &(struct cost_kernel){ .op = IR_OP_LINEAR, .attrs = &attrs, .b = 1, .t = 256, .compute = IR_F32 });
    double kernel = calibrate_kernel_time(k, IR_PASS_F), compute[TIMES], transfer[TIMES];
    for (int i = 0; i < TIMES; i++) {
        uint32_t runs, none;
        double alone = exchanges(links, CALLS, NULL, &none), both = exchanges(links, CALLS, k, &runs);
        compute[i] = fmin(1, runs * kernel / both);
        transfer[i] = fmin(1, alone / both);
    }
    m->compute_beside = fmax(0.05, calibrate_mean(calibrate_median(compute, TIMES)));
    m->transfer_beside = fmax(0.05, calibrate_mean(calibrate_median(transfer, TIMES)));
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
    links->out = mem_alloc(links->most * sizeof *links->out);
    links->in = mem_alloc(links->most * sizeof *links->in);
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
                            const struct ir_target *target, struct machine *m, struct err *e)
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
        measure_messages(&links, LINK_NODE, m);
        measure_sums(&links, m);
        m->links[LINK_NETWORK] = m->links[LINK_NODE];
        if (world_size() % 2 == 0)
            measure_together(&links, back, target, m);
    }
    if (m->ranks_per_node < world_size()) {
        pair_up(&links, m->ranks_per_node);
        measure_messages(&links, LINK_NETWORK, m);
    }
    m->links[LINK_ISLANDS] = m->links[LINK_NETWORK];
    comm->close(links.comm);
    mem_free(links.out);
    mem_free(links.in);
    return ST_OK;
}
