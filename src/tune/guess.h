/* Which candidate to compile first: steps are guessed from those of the candidates that were compiled. It decides an order, and nothing
 * about what is dropped. */
#ifndef PIPER_TUNE_GUESS_H
#define PIPER_TUNE_GUESS_H

#include "tune/space.h"

enum { GUESS_KEYS = 13, GUESS_FAMILY_KEYS = 9 /* those that a family has, which come first */ };
/* Of each key the number of its value. */
struct guess_levels {
    uint8_t at[GUESS_KEYS];
};
struct guess_known {
    struct guess_levels levels;
    double log; /* of step / bound */
};
/* log(step / bound) as a sum: a mean, and a share of each key's value. */
struct tune_guess {
    struct {
        VEC(double);
    } values[GUESS_KEYS], shares[GUESS_KEYS];
    struct {
        VEC(struct guess_known);
    } known;
    double mean;
    double least[GUESS_KEYS]; /* share */
};
void tune_guess_release(struct tune_guess *g);
struct guess_levels tune_guess_levels(struct tune_guess *g, const struct bound_shape *s);
/* A shape was compiled: the shares are fitted again. */
void tune_guess_learn(struct tune_guess *g, const struct guess_levels *l, double bound, double step);
double tune_guess_log(const struct tune_guess *g, const struct guess_levels *l);
/* Of the best variant that a family may have. */
double tune_guess_family_log(const struct tune_guess *g, const struct guess_levels *l);

#endif
