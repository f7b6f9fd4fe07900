/* sentencepiece's compiled normal form: a table of what is replaced by what, in a double array (Aoe 1989) as the library
 * darts-clone lays it out. It is foreign input: no step leaves it, and what it gives is valid UTF-8. */
#ifndef PIPER_TEXT_CHARSMAP_H
#define PIPER_TEXT_CHARSMAP_H

#include "base/status.h"

struct charsmap {
    const unsigned char *unit; /* 4 bytes each, little-endian; NULL: nothing is replaced */
    size_t n_units;
    const char *text; /* replacements, each with a 0 behind it */
    size_t n_text;
};

/* `bytes` are borrowed. NULL, or what is wrong with them. */
const char *charsmap_open(const void *bytes, size_t n, struct charsmap *m);
/* The longest beginning of the text that is replaced: its length, 0: none. */
size_t charsmap_find(const struct charsmap *m, const char *text, const char *end, const char **to, size_t *n_to);

#endif
