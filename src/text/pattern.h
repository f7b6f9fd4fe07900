/* Regular expressions that split text into pieces before merging, as tokenizer.json and tiktoken have them.
 *
 * What the families use (alternatives of character sets with greedy counts, (?i:...), a lookahead of one character) becomes
 * a small program that scan.c runs: one table look-up a character, sets from the Unicode version of unicode.h. Everything
 * else goes to PCRE2 where the build has it, with sets written out so that its own Unicode version does not matter, and
 * with limits of steps, depth and memory: patterns come from files that nobody vouches for. */
#ifndef PIPER_TEXT_PATTERN_H
#define PIPER_TEXT_PATTERN_H

#include "base/status.h"
#include "text/unicode.h"

enum { PATTERN_SETS = 32, PATTERN_OPS = 512, PATTERN_MANY = UINT16_MAX, PATTERN_BYTES = 4096 };

enum pattern_kind { PATTERN_SET, PATTERN_ALT, PATTERN_NOT_AHEAD, PATTERN_AHEAD, PATTERN_END, PATTERN_ACCEPT };
struct pattern_op {
    uint8_t kind;      /* enum pattern_kind */
    bool keeps;        /* SET: gives nothing back (possessive, or nothing of it could begin what follows) */
    uint16_t min, max; /* SET: how many; PATTERN_MANY: no bound */
    uint16_t next, other;
    uint32_t mask; /* SET, NOT_AHEAD, AHEAD: the bit of the set */
};

/* Programs differ: with Oniguruma (the library behind tokenizer.json) $ is the end of a line and {1,3}+ counts counts; with
 * tiktoken's $ is the end of the text and {1,3}+ is possessive. */
enum pattern_dialect { PATTERN_ONIGURUMA, PATTERN_TIKTOKEN };

struct pattern {
    enum pattern_dialect dialect;
    struct pattern_op op[PATTERN_OPS];
    uint32_t n_ops, n_sets;
    uint16_t start[PATTERN_SETS]; /* of the alternatives, in order */
    uint32_t n_starts;
    uint32_t may_start[128], may_start_other; /* by ASCII character, and for all others: bits of alternatives */
    uint32_t *page[UNICODE_MOST >> 8];        /* bit i of page[c >> 8][c & 255]: c is in set i; shared where equal */
    uint32_t *pages;                          /* owned */
    struct pattern_pcre2 *pcre2;              /* NULL: op is what runs */
    char *text;                               /* the expression, owned */
};

/* where: file and JSON path, for messages. ST_INPUT: not understood, or it matches the empty text. A pattern that is made
 * ends with pattern_free(). */
enum status pattern_new(const char *expression, enum pattern_dialect dialect, const char *where, struct pattern **p,
                        struct err *e);
void pattern_free(struct pattern *p); /* NULL is allowed */
/* Bits of the sets by which what is left from operation `op` on may begin. */
uint32_t pattern_first(const struct pattern *p, uint16_t op);

/* After scan_begin(): the leftmost match from `at` on; found is false when there is none. ST_INPUT: the pattern costs too much. */
struct pattern_match {
    const char *begin, *end;
};
struct scan {
    const struct pattern *pattern;
    const char *begin, *end; /* of the text */
    uint64_t steps_left;     /* that it may still cost */
    void *pcre2;             /* match data, owned by a scan that was made with scan_open */
};
void scan_open(struct scan *s, const struct pattern *p);
void scan_close(struct scan *s);
void scan_begin(struct scan *s, const char *text, size_t n);
enum status scan_next(struct scan *s, const char *at, struct pattern_match *m, bool *found, struct err *e);

/* pattern_parse.c: the program of an expression, or false where it has something else than the families use. */
bool pattern__parse(struct pattern *p, struct unicode_set *sets);

/* pattern_pcre2.c; in a build without PCRE2 the first refuses. */
struct pattern_pcre2;
enum status pattern__pcre2_new(const char *expression, enum pattern_dialect dialect, const char *where,
                               struct pattern_pcre2 **p, struct err *e);
void pattern__pcre2_free(struct pattern_pcre2 *p);
void *pattern__pcre2_scan(const struct pattern_pcre2 *p);
void pattern__pcre2_scan_free(void *data);
enum status pattern__pcre2_next(const struct scan *s, const char *at, struct pattern_match *m, bool *found,
                                struct err *e);
/* A character set of an expression, from *at on: [...], \p{L}, \P{L}, \s, \S, \d, \D, \w, \W, or an escaped or plain character.
 * False: it is none of these, or not understood. `fold`: letters of ASCII in both cases, with the two others that fold to one. */
bool pattern__read_set(const char **at, bool fold, struct unicode_set *s);

#endif
