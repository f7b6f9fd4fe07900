/* Figures of the MPI back end beside plain MPI: `mpirun -n 2 bench_comm`. Times: the best of several runs, on rank 0. */
#include <mpi.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "test_comm.h"

static struct comm *comm;
static struct comm_events events;
static uint32_t epoch;

static void step(void)
{
    comm_mpi.begin(comm, ++epoch);
}

static void ping_pong(void)
{
    enum { TURNS = 2000 };
    int32_t x = 0;
    uint32_t rank = world_rank();
    struct comm_call send = {
        .op = COMM_SEND, .type = COMM_I32, .channel = UINT32_MAX, .peer = rank ^ 1, .src = &x, .count = 1
    };
    struct comm_call recv = send;
    recv.op = COMM_RECV;
    recv.dst = &x;
    recv.event = 1;
    double ours = 1e9, plain = 1e9;
    for (int run = 0; run < 5; run++) {
        world_barrier();
        double t = clock_now();
        for (int i = 0; i < TURNS && rank < 2; i++) {
            step();
            comm_mpi.launch(comm, rank == 0 ? &send : &recv);
            comm_mpi.wait(comm, rank == 0 ? 0 : 1);
            comm_mpi.launch(comm, rank == 0 ? &recv : &send);
            comm_mpi.drain(comm);
        }
        t = (clock_now() - t) / TURNS / 2;
        ours = t < ours ? t : ours;
        world_barrier();
        t = clock_now();
        for (int i = 0; i < TURNS && rank < 2; i++) {
            if (rank == 0)
                MPI_Send(&x, 1, MPI_INT, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(&x, 1, MPI_INT, (int)rank ^ 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (rank == 1)
                MPI_Send(&x, 1, MPI_INT, 0, 0, MPI_COMM_WORLD);
        }
        t = (clock_now() - t) / TURNS / 2;
        plain = t < plain ? t : plain;
    }
    if (rank == 0)
        printf("4 bytes one way: %.2f us, MPI_Send and MPI_Recv %.2f us\n", ours * 1e6, plain * 1e6);
}

static double busy(long rounds)
{
    volatile double sink = 0;
    double t = clock_now();
    for (long i = 0; i < rounds; i++)
        sink = sink * 0.5 + (double)i;
    return clock_now() - t;
}

/* What the main thread does beside an all-reduce of `seconds`: compute (3), or sleep, so that a core is free (4). */
static double under(int how, long rounds, double seconds)
{
    double t = clock_now();
    if (how == 3)
        busy(rounds);
    else
        usleep((useconds_t)(seconds * 2e6) + 100);
    return clock_now() - t;
}

/* how: 0 ours, 1 MPI_Allreduce, 2 MPI_Iallreduce and MPI_Wait, 3 and 4 ours under something else */
static double all_reduce(float *x, uint64_t n, int how, long rounds, double seconds)
{
    struct comm_call call = { .op = COMM_ALL_REDUCE, .src = x, .dst = x, .count = n };
    MPI_Request request;
    step();
    world_barrier();
    double t = clock_now();
    if (how == 0 || how >= 3)
        comm_mpi.launch(comm, &call);
    if (how == 1)
        MPI_Allreduce(MPI_IN_PLACE, x, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    if (how == 2) {
        MPI_Iallreduce(MPI_IN_PLACE, x, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    if (how >= 3)
        under(how, rounds, seconds);
    if (how == 0 || how >= 3)
        comm_mpi.wait(comm, 0);
    return clock_now() - t;
}

static void reductions(uint64_t n)
{
    static const char *const name[] = { "ours", "MPI_Allreduce", "MPI_Iallreduce" };
    float *x = mem_alloc(n * sizeof *x);
    double best[4];
    for (int how = 0; how < 3; how++) {
        best[how] = 1e9;
        for (int run = 0; run < 8; run++) {
            double t = all_reduce(x, n, how, 0, 0);
            best[how] = t < best[how] ? t : best[how];
        }
        if (world_rank() == 0)
            printf("all-reduce %9.3f MiB: %9.3f ms %s\n", (double)n * 4 / (1 << 20), best[how] * 1e3, name[how]);
    }
    long rounds = (long)(2 * best[0] / (busy(1000000) / 1000000));
    for (int how = 3; how < 5; how++) {
        double alone = 1e9, both = 1e9;
        for (int run = 0; run < 8; run++) {
            double t = under(how, rounds, best[0]);
            alone = t < alone ? t : alone;
            t = all_reduce(x, n, how, rounds, best[0]);
            both = t < both ? t : both;
        }
        if (world_rank() == 0)
            printf("   under %.2f ms of %s: %.2f ms together, %.0f%% hidden\n", alone * 1e3,
                   how == 3 ? "computing" : "sleeping", both * 1e3, 100 * (alone + best[0] - both) / best[0]);
    }
    mem_free(x);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* What a rank burns while it waits a second for another. */
static void idle(void)
{
    int32_t x = 0;
    uint32_t rank = world_rank();
    struct comm_call call = { .op = rank ? COMM_RECV : COMM_SEND,
                              .type = COMM_I32,
                              .channel = UINT32_MAX,
                              .peer = rank ^ 1,
                              .src = &x,
                              .dst = &x,
                              .count = 1,
                              .event = rank };
    step();
    world_barrier();
    double cpu = cpu_seconds();
    if (rank == 0)
        sleep(1);
    if (rank < 2)
        comm_mpi.launch(comm, &call);
    comm_mpi.drain(comm);
    double all[64];
    cpu = cpu_seconds() - cpu;
    world_all_gather(&cpu, sizeof cpu, all);
    if (rank == 0)
        printf("waiting 1 s for a message: %.1f ms of processor time\n", all[1] * 1e3);
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (world_init(&argc, &argv, &e) != ST_OK || world_size() < 2) {
        fprintf(stderr, "bench_comm: needs two ranks or more\n");
        return 64;
    }
    events = (struct comm_events){ .at = mem_alloc(2 * sizeof(uint32_t)), .n = 2 };
    struct comm_channel channel = { 0, { 0, 1, world_size(), NULL }, 0 };
    struct comm_setup setup = {
        .channels = &channel, .n_channels = 1, .n_channels_world = 1, .n_streams = 1, .max_calls = 2, .events = events
    };
    double t = clock_now();
    if (comm_mpi.open(&setup, &comm, &e) != ST_OK)
        world_abort(1);
    if (world_rank() == 0)
        printf("%u ranks, open %.2f ms\n", world_size(), (clock_now() - t) * 1e3);
    ping_pong();
    for (uint64_t n = 1; n <= 16 << 20; n *= n == 1 ? 16 << 10 : n == 16 << 10 ? 16 : 8)
        reductions(n);
    idle();
    comm_mpi.close(comm);
    mem_free(events.at);
    world_finalize();
    return EXIT_SUCCESS;
}
