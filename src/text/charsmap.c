#include "text/charsmap.h"

#include <string.h>

#include "text/unicode.h"

const char *charsmap_open(const void *bytes, size_t n, struct charsmap *m)
{
    const unsigned char *p = bytes;
    *m = (struct charsmap){ 0 };
    if (n == 0)
        return NULL;
    if (n < 4)
        return "is shorter than its length";
    const size_t units = p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (units % 4 || units == 0 || units >= n - 4)
        return "has a table that is longer than itself";
    m->text = (const char *)p + 4 + units;
    m->n_text = n - 4 - units;
    if (m->text[m->n_text - 1] != '\0' || utf8_valid(m->text, m->n_text) != m->n_text)
        return "has replacements that are no UTF-8, or are not ended";
    m->unit = p + 4;
    m->n_units = units / 4;
    return NULL;
}

/* A unit: its label is the byte that leads to it, its offset where those behind it are; a leaf's value lies at the offset. */
static uint32_t unit_at(const struct charsmap *m, size_t i)
{
    const unsigned char *p = m->unit + 4 * i;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

static bool begins_a_character(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

size_t charsmap_find(const struct charsmap *m, const char *text, const char *end, const char **to, size_t *n_to)
{
    size_t longest = 0, node;
    if (!m->unit)
        return 0;
    node = offset_of(unit_at(m, 0));
    for (const char *p = text; p < end; p++) {
        node ^= (unsigned char)*p;
        if (node >= m->n_units)
            break;
        const uint32_t unit = unit_at(m, node);
        if ((unit & (1u << 31 | 0xff)) != (unsigned char)*p)
            break;
        node ^= offset_of(unit);
        if (!(unit >> 8 & 1) || node >= m->n_units || (p + 1 < end && !begins_a_character(p[1])))
            continue;
        const size_t at = unit_at(m, node) & 0x7fffffff;
        if (at >= m->n_text || !begins_a_character(m->text[at]))
            continue;
        longest = (size_t)(p + 1 - text);
        *to = m->text + at;
        *n_to = strlen(*to); /* the last one is ended */
    }
    return longest;
}
