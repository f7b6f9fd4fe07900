/* Causal attention as cuDNN operation graphs (backend API), in bfloat16: forward with statistics, and backward. Engines match
 * graphs by pattern, so the order of operations is theirs. Plans are kept by shape.
 *
 * The backward has no accumulator for dQ in memory: with one, cuDNN adds to it atomically and gradients differ in their last bits
 * from run to run (no note of the engine says so). Without it the gradient of the scores is kept in the workspace instead. */
#ifndef PIPER_CUDA_SDPA_H
#define PIPER_CUDA_SDPA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* q, o and their gradients (b, heads, t, d), k and v (b, kv_heads, t, d); a row of t every `row_*` elements, heads d apart. */
struct cuda_sdpa_shape {
    int64_t b, heads, kv_heads, t, d;
    int64_t row_q, row_k, row_v, row_o;
    int64_t step_q, step_k, step_v, step_o; /* elements from one sequence to the next */
    int64_t step_stats;                     /* float32s from one sequence's statistics to the next */
    int64_t backward;                       /* 1 or 0 */
};

struct cuda_sdpa {
    struct cuda_sdpa_shape shape;
    const void *q, *k, *v;
    void *o;            /* forward: written */
    float *stats;       /* (b, heads, t): log of the sum of exponentials; forward: written */
    const void *dout;   /* from here on backward only */
    void *dq, *dk, *dv; /* laid out like q, k, v */
    float *sums;        /* (b, heads, t), scratch */
    float scale;
    void *work;
    void *stream;
};

/* The plan of a shape, built on first use, with the library opened before the first; *workspace: what it wants at run time, at most `limit`. ST_DEVICE: no engine does it
 * in so much, deterministically. */
enum status cuda_sdpa_prepare(const struct cuda_sdpa_shape *s, uint64_t limit, struct err *e);
/* Prepared before. */
void cuda_sdpa(const struct cuda_sdpa *p);

/* Loads the library. properties: of a device that is not there, as cuDNN's JSON, for tests that build plans and run none; NULL: the current device. */
enum status cuda__sdpa_open(const char *properties, struct err *e);
void cuda__sdpa_close(void);
uint64_t cuda__sdpa_version(void); /* 0: there is none */

#endif
