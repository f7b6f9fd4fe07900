/* What a rank holds of each bucket: the reading of the plan's shard map that initialisation, norm, update, checkpoint and the
 * comparison of copies share. */
#ifndef PIPER_SHARD_H
#define PIPER_SHARD_H

#include <stdbool.h>

#include "ir/plan.h"

/* Elements [first, first+count) of a bucket. */
struct shard_range {
    uint64_t first, count;
};

/* One bucket on one rank. A pointer stands at the first element of its range; NULL: the rank has none. */
struct shard {
    struct shard_range own; /* this holder's part: its share of the norm, and what it owns where something is sharded */
    struct shard_range params, grads, state;
    void *param; /* compute type */
    float *grad;
    float *master, *m, *v; /* over `state` */
    float *snapshot;       /* over `own`: of the parameters, then of m and v where there are any */
};

/* base[arena]: where the arenas of this rank begin. */
struct shard shard_of(const struct plan *p, uint32_t bucket, uint32_t rank, unsigned char *const base[ARENA_COUNT]);

/* A stretch of a logical tensor (row-major elements) and its place in the bucket. */
struct shard_piece {
    uint32_t param;
    uint64_t first, count; /* elements of the tensor */
    uint64_t offset;       /* elements from the start of the bucket */
};
/* The part of a piece that lies in the range; false when nothing does. */
bool shard_piece(const struct plan *p, uint32_t piece, uint32_t rank, struct shard_range in, struct shard_piece *out);

#endif
