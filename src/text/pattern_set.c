/* Character sets of regular expressions. */
#include <string.h>

#include "text/pattern.h"

static bool is_letter(uint32_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* Simple case folding of ASCII: U+017F folds to s, U+212A to k. */
static void add_folded(struct unicode_set *s, uint32_t c)
{
    if (c == 0x17f || c == 0x212a)
        c = c == 0x17f ? 's' : 'k';
    unicode_set_add(s, c, c);
    if (!is_letter(c))
        return;
    unicode_set_add(s, c ^ 0x20, c ^ 0x20);
    if ((c | 0x20) == 's')
        unicode_set_add(s, 0x17f, 0x17f);
    if ((c | 0x20) == 'k')
        unicode_set_add(s, 0x212a, 0x212a);
}

static bool add_range(struct unicode_set *s, uint32_t first, uint32_t last, bool fold)
{
    if (first > last || (fold && last > 0x7f && !(first == last && (first == 0x17f || first == 0x212a))))
        return false;
    if (!fold)
        unicode_set_add(s, first, last);
    for (uint32_t c = first; fold && c <= last; c++)
        add_folded(s, c);
    return true;
}

static bool read_hexadecimal(const char **at, int least, int most, uint32_t *c)
{
    int n = 0;
    for (*c = 0; n < most; n++, ++*at) {
        const char d = **at;
        if (d >= '0' && d <= '9')
            *c = *c * 16 + (uint32_t)(d - '0');
        else if ((d | 0x20) >= 'a' && (d | 0x20) <= 'f')
            *c = *c * 16 + (uint32_t)((d | 0x20) - 'a' + 10);
        else
            break;
    }
    return n >= least && *c < UNICODE_MOST;
}

/* One character, escaped or not; *at is on it. */
static bool read_character(const char **at, uint32_t *c)
{
    static const char escapes[] = "rntfv", values[] = "\r\n\t\f\v";
    if (**at != '\\') {
        *c = utf8_next(at);
        return *c != 0;
    }
    const char letter = *++*at;
    if (!letter)
        return false;
    ++*at;
    const char *known = strchr(escapes, letter);
    if (known)
        *c = (uint32_t)values[known - escapes];
    else if (letter == 'x' && **at == '{')
        return ++*at, read_hexadecimal(at, 1, 6, c) && *(*at)++ == '}';
    else if (letter == 'x' || letter == 'u')
        return read_hexadecimal(at, letter == 'x' ? 2 : 4, letter == 'x' ? 2 : 4, c);
    else if (is_letter((unsigned char)letter) || (letter >= '0' && letter <= '9') || (letter & 0x80))
        return false;
    else
        *c = (uint32_t)letter;
    return true;
}

/* \p{L} and its like, \s, \d, \w; *at is on the backslash. False, and *at stays, when it is a character. */
static bool read_named(const char **at, bool fold, struct unicode_set *s, bool *bad)
{
    const char *p = *at;
    *bad = false;
    if (p[0] != '\\' || !p[1] || !strchr("pPsSdDwW", p[1]))
        return false;
    const bool invert = p[1] >= 'A' && p[1] <= 'Z';
    struct unicode_set named = { 0 };
    p += 2;
    switch (p[-1] | 0x20) {
    case 'p': {
        const char *name = *p == '{' ? p + 1 : p, *end = *p == '{' ? strchr(p, '}') : *p ? p + 1 : NULL;
        *bad = !end || fold || !unicode_set_add_property(&named, name, (size_t)(end - name));
        p = end ? end + (*end == '}' && name > p) : p;
        break;
    }
    case 's':
        unicode_set_add_white(&named);
        break;
    case 'd':
        unicode_set_add_property(&named, "Nd", 2);
        break;
    default:
        unicode_set_add_word(&named);
    }
    if (invert)
        unicode_set_invert(&named);
    for (uint32_t i = 0; i < named.n && !*bad; i++)
        unicode_set_add(s, named.at[i].first, named.at[i].last);
    vec_free(&named);
    *at = p;
    return true;
}

/* [...], *at is behind its bracket. */
static bool read_bracket(const char **at, bool fold, struct unicode_set *s)
{
    const bool invert = **at == '^';
    bool bad;
    *at += invert;
    if (**at == ']')
        return false; /* programs differ in what that means */
    while (**at && **at != ']') {
        uint32_t first, last;
        if (**at == '[' || strncmp(*at, "&&", 2) == 0)
            return false; /* sets of sets */
        if (read_named(at, fold, s, &bad)) {
            if (bad)
                return false;
            continue;
        }
        if (!read_character(at, &first))
            return false;
        last = first;
        if (**at == '-' && (*at)[1] && (*at)[1] != ']') {
            ++*at;
            if (**at == '[' || !read_character(at, &last))
                return false;
        }
        if (!add_range(s, first, last, fold))
            return false;
    }
    if (*(*at)++ != ']')
        return false;
    if (invert)
        unicode_set_invert(s);
    return true;
}

bool pattern__read_set(const char **at, bool fold, struct unicode_set *s)
{
    bool bad;
    uint32_t c;
    if (**at == '[')
        return ++*at, read_bracket(at, fold, s);
    if (read_named(at, fold, s, &bad))
        return !bad;
    return read_character(at, &c) && add_range(s, c, c, fold);
}
