/* Which candidate to compile first: steps are guessed from those of the candidates that were compiled. It decides an order, and nothing
 * about what is dropped. */
#ifndef PIPER_TUNE_GUESS_H
#define PIPER_TUNE_GUESS_H

#include "tune/space.h"

enum { GUESS_KEYS = 13 };
struct guess_known {
    uint32_t shape;
    double log; /* of step / bound */
};
/* log(step / bound) as a sum: a mean, and a share of each key's value. */
struct tune_guess {
    const struct tune_space *space; /* borrowed */
    uint8_t (*level)[GUESS_KEYS];   /* by shape: number of its value among those of the key */
    struct {
        VEC(double);
    } values[GUESS_KEYS], shares[GUESS_KEYS];
    struct {
        VEC(struct guess_known);
    } known;
    double mean;
};
void tune_guess_init(struct tune_guess *g, const struct tune_space *space);
void tune_guess_release(struct tune_guess *g);
/* A shape was compiled: the shares are fitted again. */
void tune_guess_learn(struct tune_guess *g, uint32_t shape, double bound, double step);
double tune_guess_log(const struct tune_guess *g, uint32_t shape);

#endif
