/* The order of the training data: which window is the g-th sample of a job.
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

#endif
