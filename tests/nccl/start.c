/* mpirun -n RANKS start COMMUNICATORS: how long so many communicators take to be made by real NCCL: of all ranks, of both halves, of
 * neighbours, in turn. Prints a line. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "comm/comm.h"

static struct comm_group group_of(uint32_t i, uint32_t rank, uint32_t ranks)
{
    uint32_t n = i % 3 == 0 || ranks < 4 ? ranks : i % 3 == 1 ? ranks / 2 : 2;
    return (struct comm_group){ .start = rank / n * n, .stride = 1, .count = n };
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    int devices = 0;
    struct comm *c = NULL;
    cudaStream_t stream;
    if (world_init(&argc, &argv, &e) != ST_OK)
        return 99;
    uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 64;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices ||
        cudaSetDevice((int)(world_rank() % (uint32_t)devices)) != cudaSuccess ||
        cudaStreamCreate(&stream) != cudaSuccess) {
        puts("no device");
        world_finalize();
        return 77;
    }
    struct comm_channel *channels = mem_alloc(n * sizeof *channels);
    for (uint32_t i = 0; i < n; i++)
        channels[i] = (struct comm_channel){ i, group_of(i, world_rank(), world_size()), 0 };
    void *streams[] = { stream };
    const uint32_t ctas[] = { 4 };
    const struct comm_setup setup = { .channels = channels,
                                      .n_channels = n,
                                      .n_channels_world = n,
                                      .n_streams = 1,
                                      .max_ctas = ctas,
                                      .device_streams = streams };
    double begin = clock_now();
    enum status st = comm_nccl.open(&setup, &c, &e);
    double made = clock_now();
    if (st == ST_OK)
        comm_nccl.close(c);
    if (world_rank() == 0 && st == ST_OK)
        printf("made in %.2f s, closed in %.2f s, by %u ranks\n", made - begin, clock_now() - made, world_size());
    else if (st != ST_OK)
        fprintf(stderr, "%s\n", e.text);
    mem_free(channels);
    world_finalize();
    return st == ST_OK ? 0 : 1;
}
