/* A line of JSONL: one object. Read strictly (RFC 8259) and without building a tree. */
#ifndef PIPER_TEXT_JSONL_H
#define PIPER_TEXT_JSONL_H

#include "text/unicode.h"

/* Appends the string of a key of the object; the last one where a key stands twice. Bytes that are no UTF-8 and halves of surrogate
 * pairs become U+FFFD, counted in *repaired. NULL, or why not: a few words, static. */
const char *jsonl_field(const char *line, size_t n, const char *field, struct text_bytes *out, uint64_t *repaired);

#endif
