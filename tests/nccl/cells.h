/* Strategies whose calls are looked at. */
#ifndef PIPER_TESTS_CELLS_H
#define PIPER_TESTS_CELLS_H

#include <stdint.h>

struct cell {
    char name[96];
    const char *model; /* JSON */
    char strategy[640];
    uint32_t ranks;
};
/* Cell number i for so many ranks: of the strategy matrix (tests/matrix/matrix.sh), every cell or one per pair of values, and
 * behind them what the matrix does not have. False: there are no more. */
int cell_at(uint32_t ranks, int all, uint32_t i, struct cell *out);

#endif
