/* Factors as people write them (1.1, 0.25), so that counts and bounds made from them do not depend on rounding: in floating
 * point the ceil of 1.1 * 20 / 2 is 12. */
#ifndef PIPER_BASE_RATIO_H
#define PIPER_BASE_RATIO_H

#include <stdint.h>

struct ratio {
    uint64_t num, den;
};

/* The decimal number that x was read from: the shortest one that reads as x, to 18 places. x: from 0 to 1e9; a positive x
 * gives a positive ratio. */
struct ratio ratio_of(double x);
/* ceil(r * n / m), m > 0; UINT64_MAX where it is more. */
uint64_t ratio_ceil(struct ratio r, uint64_t n, uint32_t m);

#endif
