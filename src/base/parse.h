/* Numbers in text, strictly: digits and nothing else, no sign, no blanks, no overflow. */
#ifndef PIPER_BASE_PARSE_H
#define PIPER_BASE_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* The whole text is a decimal number from 0 to UINT64_MAX; false leaves *x as it was. */
bool parse_number(const char *text, uint64_t *x);

/* "7", "0-511", "0-1023:4": the numbers from lo to hi, both included, every step-th. false: the text is none of these. */
struct parse_range {
    uint64_t lo, hi, step;
};
bool parse_range(const char *text, struct parse_range *r);

/* The number in an environment variable, from least to most. Of a list, as in OMP_NUM_THREADS=4,2, its first. A variable that
 * is not set, or empty, is ST_OK and leaves *x as it was; one that holds anything else is ST_USAGE, with a sentence. */
enum status parse_environment(const char *name, uint64_t least, uint64_t most, uint64_t *x, struct err *e);
/* OMP_NUM_THREADS, from 1 to 1024: more is a mistake, for which OpenMP has no stacks. */
enum status parse_omp_threads(uint64_t *x, struct err *e);

#endif
