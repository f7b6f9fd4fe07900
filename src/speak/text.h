/* What a model says, as it comes: tokens to text on a terminal or into a file. */
#ifndef PIPER_SPEAK_TEXT_H
#define PIPER_SPEAK_TEXT_H

#include <stdio.h>

#include "text/tokenizer.h"

struct speak_text {
    const struct tokenizer *t; /* NULL: tokens are bytes */
    struct token_ids ids;      /* all so far, of the prompt too */
    struct text_bytes text;    /* of these */
    size_t shown;              /* bytes of it that need not be written any more */
    bool terminal;             /* nothing is written that a terminal would obey */
    FILE *to;
};

/* The prompt is what was there before: it is not written. */
void speak_text_begin(struct speak_text *s, const uint32_t *ids, uint32_t n);
/* Writes what is certain now: a character whose last bytes are not there yet waits for them. */
void speak_text_add(struct speak_text *s, uint32_t id);
/* The rest, and frees. */
void speak_text_end(struct speak_text *s);

/* Appends text for a terminal: control characters but line ends and tabs as \x1b, what turns the direction of writing as \u202e,
 * ill-formed parts as U+FFFD. */
void speak_printable(const char *text, size_t n, struct text_bytes *out);

#endif
