/* Which token comes next, from logits. */
#ifndef PIPER_SPEAK_SAMPLE_H
#define PIPER_SPEAK_SAMPLE_H

#include <stdint.h>

struct sample_how {
    double temperature; /* 0: the largest logit; of equals the lowest id */
    uint64_t top_k;     /* of so many largest; 0: of all */
    double top_p; /* of the fewest most likely ones, behind top_k, that together have this probability; 1: of all */
    uint64_t seed;
};
enum { SAMPLE_NONE = UINT32_MAX };

/* The draw is a function of the seed, its number and the logits. SAMPLE_NONE: a logit is NaN or infinite where it counts. */
uint32_t sample_token(const struct sample_how *how, const float *logits, uint32_t n, uint64_t number);

#endif
