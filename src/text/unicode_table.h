/* Facts of one Unicode version, as ranges: made by unicode_table.py, unfolded by unicode.c and nfc.c. */
#ifndef PIPER_TEXT_UNICODE_TABLE_H
#define PIPER_TEXT_UNICODE_TABLE_H

#include <stdint.h>

extern const char unicode_version[]; /* "15.0.0" */

/* A range goes from its code point to the next row's: code point << 8 | enum unicode_gc | flags of unicode.h. */
extern const uint32_t unicode_kinds[];
extern const uint32_t unicode_n_kinds;
/* Likewise: code point << 8 | canonical combining class. */
extern const uint32_t unicode_combining[];
extern const uint32_t unicode_n_combining;

/* Canonical decompositions by code point, one step; b is 0 for a single one. Hangul syllables are left to arithmetic. */
struct unicode_pair {
    uint32_t c, a, b;
    uint32_t composes; /* a and b compose to c again: not in Full_Composition_Exclusion */
};
extern const struct unicode_pair unicode_pairs[];
extern const uint32_t unicode_n_pairs;

#endif
