/* What io needs of MPI: rank, size, agreement, broadcast. Without MPI_Init the world is one rank, so that the commands
 * that run without mpirun use the same code. Everything but io_rank and io_size is collective over the world. */
#ifndef PIPER_IO_WORLD_H
#define PIPER_IO_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

bool io_parallel(void); /* MPI runs and has more than one rank */
uint32_t io_rank(void);
uint32_t io_size(void);

/* Every rank brings its own status and sentence; all return those of the lowest rank that failed. */
enum status io_agree(enum status mine, struct err *e);
/* Rank 0's status and sentence to all. */
enum status io_agree_root(enum status root, struct err *e);
/* Rank 0's bytes to all; any size. */
void io_broadcast(void *data, uint64_t bytes);
void io_barrier(void);
/* Sums over all ranks; any length. reduce: the result is on rank 0 alone. */
void io_all_sum_u64(uint64_t *values, uint64_t n);
void io_reduce_sum_u64(uint64_t *values, uint64_t n);
void io_all_max_u64(uint64_t *values, uint32_t n);
/* Gathers `bytes` (a few) of each rank in rank order on every rank. */
void io_all_gather(const void *mine, uint32_t bytes, void *all);
/* Rank r sends bytes[r] bytes (the same table on all ranks; 0: nothing) to rank 0, where out[r] is allocated
 * (mem_free). */
void io_collect(const void *mine, const uint64_t *bytes, void **out);
/* Rank 0's clock minus this rank's, seconds, good to half the time of the fastest of some round trips. */
double io_clock_offset(double (*now)(void));

#endif
