#include "view/text_table.h"

#include "base/number.h"

/* Where the text is, or would be put. */
static uint32_t slot_of(const struct text_table *t, const char *text, size_t length)
{
    uint32_t at = (uint32_t)number_hash(text, length, 0) & (t->slots - 1);
    while (t->slot[at]) {
        const char *there = t->at[t->slot[at] - 1];
        if (strncmp(there, text, length) == 0 && !there[length])
            break;
        at = (at + 1) & (t->slots - 1);
    }
    return at;
}

static void grow(struct text_table *t)
{
    t->slots = t->slots ? 2 * t->slots : 64;
    mem_free(t->slot);
    t->slot = mem_alloc(t->slots * sizeof *t->slot);
    for (uint32_t i = 0; i < t->n; i++)
        t->slot[slot_of(t, t->at[i], strlen(t->at[i]))] = i + 1;
}

uint32_t text_table_number(struct text_table *t, const char *text, size_t length)
{
    if (2 * t->n >= t->slots)
        grow(t);
    const uint32_t at = slot_of(t, text, length);
    if (!t->slot[at]) {
        char *copy = mem_alloc(length + 1);
        memcpy(copy, text, length);
        vec_add(t, copy);
        t->slot[at] = t->n;
    }
    return t->slot[at] - 1;
}

void text_table_release(struct text_table *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        mem_free(t->at[i]);
    mem_free(t->slot);
    vec_free(t);
    *t = (struct text_table){ 0 };
}
