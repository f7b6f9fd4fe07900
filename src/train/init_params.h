/* First values of the parameters, independent of the strategy: a value depends on the seed, the parameter's name and the
 * element's index in the logical tensor alone, so that every copy and every part of a tensor gets the same bits on any rank.
 *
 * Normal values: Philox 4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011), key = seed, counter
 * = (index/2, hash of the name), and Box and Muller's transform in float64, which makes elements 2j and 2j+1. */
#ifndef PIPER_INIT_H
#define PIPER_INIT_H

#include "ir/graph.h"
#include "ir/plan.h"

/* Elements [first, first+count) of the tensor called name. */
void init_normal(float *to, uint64_t first, uint64_t count, uint64_t seed, const char *name, float std);
/* One block of the generator, for its test. */
void init_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* g: the model's own graph. Fills parameters and float32 masters of this rank; moments are left as they are (zero in a new arena). */
void init_params(const struct ir_graph *g, const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT],
                 uint64_t seed);

#endif
