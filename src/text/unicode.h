/* Code points: their classes, and UTF-8.
 *
 * Text inside this room is valid UTF-8: what comes from outside goes through utf8_repair() first. All is of one Unicode
 * version (unicode_version, unicode_table.h), whatever the libraries of the machine have. */
#ifndef PIPER_TEXT_UNICODE_H
#define PIPER_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum { UNICODE_MOST = 0x110000, UNICODE_REPLACEMENT = 0xfffd };

/* General categories (Unicode Standard Annex 44, table 12), in alphabetical order; unassigned first. */
enum unicode_gc {
    GC_CN,
    GC_CC,
    GC_CF,
    GC_CO,
    GC_CS,
    GC_LL,
    GC_LM,
    GC_LO,
    GC_LT,
    GC_LU,
    GC_MC,
    GC_ME,
    GC_MN,
    GC_ND,
    GC_NL,
    GC_NO,
    GC_PC,
    GC_PD,
    GC_PE,
    GC_PF,
    GC_PI,
    GC_PO,
    GC_PS,
    GC_SC,
    GC_SK,
    GC_SM,
    GC_SO,
    GC_ZL,
    GC_ZP,
    GC_ZS,
    GC_COUNT
};
enum {
    UNICODE_GC = 0x1f,
    UNICODE_ALPHABETIC = 0x20,
    UNICODE_WHITE = 0x40,
    UNICODE_NFC_LOOK = 0x80, /* NFC_Quick_Check is not Yes, or it is a combining mark */
};

/* Category and flags of c < UNICODE_MOST. */
uint8_t unicode_kind(uint32_t c);
bool unicode_is_white(uint32_t c);
bool unicode_is_number(uint32_t c); /* Nd, Nl, No */
bool unicode_is_word(uint32_t c);   /* \w of Unicode Technical Standard 18, annex C */

/* A set of code points: sorted, apart. */
struct unicode_range {
    uint32_t first, last;
};
struct unicode_set {
    VEC(struct unicode_range);
};
void unicode_set_add(struct unicode_set *s, uint32_t first, uint32_t last); /* in any order; sorted by the next two */
void unicode_set_invert(struct unicode_set *s);
bool unicode_set_has(struct unicode_set *s, uint32_t c);
/* Adds what \p{NAME} means: a general category or its first letter. False: no such name. */
bool unicode_set_add_property(struct unicode_set *s, const char *name, size_t length);
void unicode_set_add_white(struct unicode_set *s);
void unicode_set_add_word(struct unicode_set *s); /* \w of Oniguruma: without the two that join, U+200C and U+200D */

/* The code point at *at of valid UTF-8; moves *at behind it. */
static inline uint32_t utf8_next(const char **at)
{
    const unsigned char *p = (const unsigned char *)*at;
    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *at += 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }
    if (p[0] < 0xf0) {
        *at += 3;
        return (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *at += 4;
    return (p[0] & 7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}
/* The one that ends before `at`; the text begins before it. */
static inline const char *utf8_back(const char *at)
{
    do
        at--;
    while (((unsigned char)*at & 0xc0) == 0x80);
    return at;
}
/* Bytes written, 1 to 4. */
uint32_t utf8_put(char *to, uint32_t c);

/* Bytes that grow. */
struct text_bytes {
    char *at; /* owned */
    size_t n, cap;
};
void text_bytes_add(struct text_bytes *b, const void *p, size_t n);
char *text_bytes_room(struct text_bytes *b, size_t n); /* n more bytes, counted when the caller adds to b->n */
void text_bytes_free(struct text_bytes *b);

/* How many of the first bytes are valid UTF-8. */
size_t utf8_valid(const char *text, size_t n);
/* Appends the text with every ill-formed part as U+FFFD, one for each maximal subpart (the Unicode Standard, section 3.9;
 * Python's errors="replace"). Returns how many were put in. */
uint64_t utf8_repair(const char *text, size_t n, struct text_bytes *out);

#endif
