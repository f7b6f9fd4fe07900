/* Shared by the files of test_comm: expectations and a back end with its events. */
#ifndef PIPER_TESTS_MPI_TEST_COMM_H
#define PIPER_TESTS_MPI_TEST_COMM_H

#include <stdbool.h>
#include <stdio.h>

#include "base/clock.h"
#include "comm/comm.h"

extern int failures;
#define EXPECT(cond)                                                                                  \
    do {                                                                                              \
        if (!(cond) && failures++ < 10)                                                               \
            fprintf(stderr, "rank %u: %s:%d: not so: %s\n", world_rank(), __FILE__, __LINE__, #cond); \
    } while (0)

struct bench {
    const struct comm_backend *b;
    struct comm *c;
    struct comm_setup setup;
    uint32_t epoch;
};
/* Opens with these channels; events are allocated. begin: next epoch. */
void bench_open(struct bench *t, const struct comm_backend *b, const struct comm_channel *channels, uint32_t n_channels,
                uint32_t n_channels_world, uint32_t n_streams, uint32_t max_calls, uint32_t n_events);
void bench_close(struct bench *t);
void bench_begin(struct bench *t);
void bench_mark(struct bench *t, uint32_t event, bool notify);
bool bench_happened(const struct bench *t, uint32_t event);

/* A hash of its arguments: every rank can compute what every other rank has. */
uint32_t mix(uint32_t a, uint32_t b, uint32_t c, uint32_t d);

void test_random(const struct comm_backend *b, const char *limits);

#endif
