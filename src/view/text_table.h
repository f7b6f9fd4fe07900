/* Texts with numbers 0, 1, ... in the order of their first use. */
#ifndef PIPER_VIEW_TEXT_TABLE_H
#define PIPER_VIEW_TEXT_TABLE_H

#include "base/mem.h"

/* Zeroed it is empty. */
struct text_table {
    VEC(char *);
    uint32_t *slot; /* hash table of number + 1 */
    uint32_t slots;
};
/* The number of the first `length` bytes of text. */
uint32_t text_table_number(struct text_table *t, const char *text, size_t length);
void text_table_release(struct text_table *t);

#endif
