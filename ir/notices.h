/* Notices: sentences for a person about things that are not errors (a key that is unknown, dropout that trains as 0).
 * The caller prints them when the file was good. */
#ifndef PIPER_IR_NOTICES_H
#define PIPER_IR_NOTICES_H

#include "base/mem.h"

struct notices {
    struct arena arena; /* the texts */
    VEC(const char *);
};

void notices_init(struct notices *n);
void notices_release(struct notices *n);
/* "where: sentence", copied. n may be NULL: then nobody wants to know. */
void notices_add(struct notices *n, const char *where, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
