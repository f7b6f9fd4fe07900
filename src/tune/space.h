/* The candidates: all shapes that the open keys give for so many ranks, in a fixed order. */
#ifndef PIPER_TUNE_SPACE_H
#define PIPER_TUNE_SPACE_H

#include "tune/strategy.h"

enum { TUNE_BOUNDS = 4 }; /* values of expert_bound at most that one candidate tries */
struct tune_space {
    const struct tune_start *start; /* borrowed */
    const struct bound_job *job;    /* borrowed */
    const struct bound *bound;      /* borrowed */
    struct {
        VEC(struct bound_shape);
    } shapes;
    /* Without an open expert_bound: 0, as the shape says. It changes memory and no predicted time, so it is no candidate of its own:
     * of these the first that fits is taken. */
    double expert_bounds[TUNE_BOUNDS];
    uint32_t n_expert_bounds;
};
/* Every shape that bound_refuse() does not refuse. What "?" stands for:
 *   tp, cp        powers of two: tp up to the ranks of a node, cp while a part has 4,096 tokens
 *   pp, ep, dp    divisors; ep powers of two
 *   kind          with one stage 1f1b; else all; chunks 2 and 4 where a kind leaves them open
 *   microbatches  of 1, 2, 4, 8 and 16 sequences, and of all
 *   backward      split, and whole of kinds that split it
 *   zero          0 to 3 where parameters have several holders; zero_group: those on a node, where there are more
 *   bucket_size   a layer; 16, 64, 256 MiB; vocab, recompute: without and with
 *   expert_bound  none, 2, 1.5, 1.25: the first that fits; it is no candidate of its own, as it changes memory alone
 * ST_INPUT: there is none; too many. Ends with tune_space_release. */
enum status tune_space_make(const struct tune_start *start, const struct bound_job *job, const struct bound *bound,
                            struct tune_space *out, struct err *e);
void tune_space_release(struct tune_space *s);

#endif
