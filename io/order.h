/* The order of the training data: which window is the g-th sample of a job, and of which source it is.
 *
 * With shuffle every epoch is a seeded permutation of all windows, computed where it is asked for and never stored: a
 * balanced Feistel network on the smallest even number of bits that holds n, walked until the value falls below n
 * (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002, section 3). So every window is seen exactly once an
 * epoch, and the g-th sample depends on nothing but seed, n and g. */
#ifndef PIPER_IO_ORDER_H
#define PIPER_IO_ORDER_H

#include <stdbool.h>
#include <stdint.h>

struct data_order {
    uint64_t n; /* windows, at least 1 */
    uint64_t seed;
    bool shuffle; /* false: sequential */
};

/* Window of sample g (counted over all epochs from 0): in [0, n). */
uint64_t data_sample(const struct data_order *o, uint64_t g);

/* A blend: which of several sources sample g is of. The fractional parts of g times the golden ratio, from a seeded start, fill the
 * unit interval evenly, and each source has a part of it, as long as its weight says: so after any number of samples a source had
 * its share of them to a few, and both questions depend on nothing but seed, weights and g. In integers, of 2^32. */
enum { DATA_SOURCES_MAX = 32 };
struct data_blend {
    uint32_t n, start;
    uint64_t edge[DATA_SOURCES_MAX + 1]; /* source s has the values from edge[s] to below edge[s+1] */
};
/* weights: [n] above 0. */
void data_blend_init(struct data_blend *b, const double *weights, uint32_t n, uint64_t seed);
uint32_t data_blend_source(const struct data_blend *b, uint64_t g);
/* How many of the samples 0 to g-1 are of source s. */
uint64_t data_blend_count(const struct data_blend *b, uint32_t s, uint64_t g);

#endif
