/* The candidates: all shapes that the open keys give for so many ranks, in a fixed order. */
#ifndef PIPER_TUNE_SPACE_H
#define PIPER_TUNE_SPACE_H

#include "tune/strategy.h"

/* What shapes of one schedule on one layout may still differ in. */
struct tune_variant {
    uint32_t zero, zero_group, bucket_mib;
    bool vocab;
    double expert_bound;
};
struct tune_variants {
    VEC(struct tune_variant);
};
/* The shapes that differ in variants alone. Those with recompute follow those without, if both are candidates. */
struct tune_family {
    struct bound_shape shape; /* but for what variants say */
    uint32_t variants;        /* of the space */
    uint32_t first;           /* number of its first candidate */
};
enum { TUNE_BOUNDS = 4 }; /* values of expert_bound at most that one candidate tries */
struct tune_space {
    const struct tune_start *start; /* borrowed */
    const struct bound_job *job;    /* borrowed */
    const struct bound *bound;      /* borrowed */
    struct {
        VEC(struct tune_family);
    } families;
    struct {
        VEC(struct tune_variants);
    } variants; /* lists that families share */
    uint32_t candidates;
    /* Without an open expert_bound: 0, as the shape says. It changes memory and no predicted time, so it is no candidate of its own:
     * of these the first that fits is taken. */
    double expert_bounds[TUNE_BOUNDS];
    uint32_t n_expert_bounds;
};
/* Candidates are numbered in the order of their keys, family by family. */
static inline const struct tune_variants *tune_family_variants(const struct tune_space *s, const struct tune_family *f)
{
    return &s->variants.at[f->variants];
}
struct bound_shape tune_family_shape(const struct tune_space *s, const struct tune_family *f, uint32_t variant);
struct bound_shape tune_space_shape(const struct tune_space *s, uint32_t candidate);

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
