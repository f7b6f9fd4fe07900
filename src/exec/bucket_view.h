/* What a rank holds of each bucket: the reading of the plan's shard map that initialisation, norm, update, checkpoint and the
 * comparison of copies share. */
#ifndef PIPER_BUCKET_VIEW_H
#define PIPER_BUCKET_VIEW_H

#include <stdbool.h>

#include "ir/plan.h"

/* Elements [first, first+count) of a bucket. */
struct bucket_view_range {
    uint64_t first, count;
};

/* One bucket on one rank. A pointer stands at the first element of its range; NULL: the rank has none. */
struct bucket_view {
    enum ir_dtype type;           /* of the parameters */
    struct bucket_view_range own; /* this holder's part: its share of the norm, and what it writes into a checkpoint */
    struct bucket_view_range shard; /* around it: what it has of what is sharded, but for state over all holders */
    struct bucket_view_range params, grads, state;
    void *param;
    float *grad;
    float *master, *m, *v; /* over `state` */
    float *snapshot;       /* over `own`: of the parameters, then of m and v where there are any */
};

/* base[arena]: where the arenas of this rank begin. */
struct bucket_view bucket_view_of(const struct plan *p, uint32_t bucket, uint32_t rank,
                                  unsigned char *const base[ARENA_COUNT]);

/* A stretch of a logical tensor (row-major elements) and its place in the bucket. */
struct bucket_view_piece {
    uint32_t param;        /* of the model's own graph (ir_graph_borrow()) */
    uint64_t first, count; /* elements of the tensor */
    uint64_t offset;       /* elements from the start of the bucket */
};
/* The stretches of a piece that lie in the range, one after the other: *at is all 0 before the first; false: there are no more. */
bool bucket_view_next(const struct plan *p, uint32_t piece, uint32_t rank, struct bucket_view_range in,
                      struct bucket_view_piece *at);

#endif
