/* The ranks of the job as a whole: how many they are, and what they tell each other outside of the plan.
 *
 * Without world_init(), as in the commands that run without mpirun, the world is one rank and all of this works. Everything but
 * rank and size is collective over the world and blocks; none is used while calls of a back end are under way. What MPI cannot do
 * ends all ranks, with exit code 76. */
#ifndef PIPER_COMM_WORLD_H
#define PIPER_COMM_WORLD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* From here on process_fail() ends all ranks. On failure the world stays one rank, but world_rank() is what the launcher says. */
enum status world_init(int *argc, char ***argv, struct err *e);
void world_finalize(void); /* nothing, where it was not initialised */
/* Ends all ranks at once; for what ranks cannot agree on. Any thread, and without a look at open files: other threads may hang and
 * hold their locks. */
_Noreturn void world_abort(int code);
/* What is done first when this rank ends all at once: a back end lets go of the network and of the device. Once, within seconds,
 * by any thread. NULL: nothing. */
void world_before_abort(void (*let_go)(void));

uint32_t world_rank(void);
uint32_t world_size(void);

/* Agreement on failure: every rank brings its own status and sentence; all return the same: the one of the lowest rank
 * that failed, whose sentence e then holds on every rank. To be called at every boundary of a phase. */
enum status world_agree(enum status mine, struct err *e);
/* Rank 0's bytes to all. */
void world_broadcast(void *data, uint64_t bytes);
/* The bytes of one rank, the same one on all ranks. On others *data is allocated (mem_free) and *bytes set. */
void world_share_from(uint32_t root, void **data, uint64_t *bytes);
/* The bytes of one rank into those of another, the same number on both; the others may leave it out. */
void world_pass(void *data, uint64_t bytes, uint32_t from, uint32_t to);
/* Rank 0's bytes for each class to the members of the class. They travel once from rank 0 to the first member and are broadcast
 * inside the class. *mine is allocated on every rank (mem_free). */
struct world_classes {
    const uint32_t *of; /* [world_size()] */
    uint32_t n;
    void *const *blobs; /* [n] as sizes, on rank 0 */
    const uint64_t *sizes;
};
void world_scatter(const struct world_classes *c, void **mine, uint64_t *bytes);
/* Over all ranks; any n. */
void world_max_u64(uint64_t *values, uint64_t n);
void world_sum_u64(uint64_t *values, uint64_t n);
void world_sum_f64(double *values, uint64_t n);
/* Gathers some bytes of each rank, in rank order, on every rank. */
void world_all_gather(const void *mine, uint64_t bytes, void *all);
/* Rank r's bytes[r] bytes (the same table on all ranks; 0: nothing) to rank 0, where out[r] is allocated (mem_free). */
void world_collect(const void *mine, const uint64_t *bytes, void **out);
void world_barrier(void);
/* The MPI library and its version, "Open MPI v4.1.4". Not collective. */
void world_library(char *text, size_t size);
/* Rank 0's clock minus this rank's, seconds, good to half the time of the fastest of some round trips. */
double world_clock_offset(double (*now)(void));

#endif
