/* Tokens by their bytes and by their ids. */
#ifndef PIPER_TEXT_VOCABULARY_H
#define PIPER_TEXT_VOCABULARY_H

#include "text/unicode.h"

enum { VOCABULARY_NONE = UINT32_MAX, VOCABULARY_MOST = 1 << 21 /* ids */ };

struct vocabulary {
    struct text_bytes bytes; /* of all tokens */
    struct vocabulary_token {
        size_t at; /* in bytes */
        uint32_t length;
        bool known;
    } * token;      /* by id */
    uint32_t n;     /* the largest id + 1 */
    uint32_t room;  /* of token */
    uint32_t *slot; /* hash table of id + 1 */
    uint32_t n_slots, used;
};

/* Adds a token, or says no where the id or the bytes are there already. */
bool vocabulary_add(struct vocabulary *v, const char *bytes, uint32_t length, uint32_t id);
/* A token that text is never cut into: it has an id and bytes, and is not found by them. False: the id is taken. */
bool vocabulary_add_hidden(struct vocabulary *v, const char *bytes, uint32_t length, uint32_t id);
uint32_t vocabulary_find(const struct vocabulary *v, const char *bytes, size_t length); /* id or VOCABULARY_NONE */
/* Bytes of an id, NULL where it has none. */
const char *vocabulary_bytes(const struct vocabulary *v, uint32_t id, uint32_t *length);
void vocabulary_free(struct vocabulary *v);

#endif
