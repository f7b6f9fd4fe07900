#include "text/unicode.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "text/unicode_table.h"

static uint8_t kinds[UNICODE_MOST];
static pthread_once_t unfolded = PTHREAD_ONCE_INIT;

static void unfold(void)
{
    for (uint32_t i = 0; i < unicode_n_kinds; i++) {
        const uint32_t first = unicode_kinds[i] >> 8;
        const uint32_t end = i + 1 < unicode_n_kinds ? unicode_kinds[i + 1] >> 8 : UNICODE_MOST;
        memset(kinds + first, (int)(unicode_kinds[i] & 0xff), end - first);
    }
}

uint8_t unicode_kind(uint32_t c)
{
    pthread_once(&unfolded, unfold);
    return kinds[c];
}

bool unicode_is_white(uint32_t c)
{
    return unicode_kind(c) & UNICODE_WHITE;
}

bool unicode_is_number(uint32_t c)
{
    const uint8_t gc = unicode_kind(c) & UNICODE_GC;
    return gc >= GC_ND && gc <= GC_NO;
}

static bool is_word(uint8_t kind)
{
    const uint8_t gc = kind & UNICODE_GC;
    return kind & UNICODE_ALPHABETIC || (gc >= GC_MC && gc <= GC_ND) || gc == GC_PC;
}

bool unicode_is_word(uint32_t c)
{
    return is_word(unicode_kind(c)) || c == 0x200c || c == 0x200d;
}

/* ---- sets ---- */

void unicode_set_add(struct unicode_set *s, uint32_t first, uint32_t last)
{
    if (s->n && s->at[s->n - 1].last + 1 == first)
        s->at[s->n - 1].last = last;
    else
        vec_add(s, ((struct unicode_range){ first, last }));
}

static int by_first(const void *a, const void *b)
{
    const struct unicode_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

static void sort(struct unicode_set *s)
{
    uint32_t kept = 0;
    if (s->n == 0)
        return;
    qsort(s->at, s->n, sizeof *s->at, by_first);
    for (uint32_t i = 1; i < s->n; i++)
        if (s->at[i].first <= s->at[kept].last + 1)
            s->at[kept].last = s->at[i].last > s->at[kept].last ? s->at[i].last : s->at[kept].last;
        else
            s->at[++kept] = s->at[i];
    s->n = kept + 1;
}

void unicode_set_invert(struct unicode_set *s)
{
    struct unicode_set out = { 0 };
    uint32_t next = 0;
    sort(s);
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->at[i].first > next)
            unicode_set_add(&out, next, s->at[i].first - 1);
        next = s->at[i].last + 1;
    }
    if (next < UNICODE_MOST)
        unicode_set_add(&out, next, UNICODE_MOST - 1);
    vec_free(s);
    *s = out;
}

bool unicode_set_has(struct unicode_set *s, uint32_t c)
{
    sort(s);
    for (uint32_t i = 0; i < s->n && s->at[i].first <= c; i++)
        if (c <= s->at[i].last)
            return true;
    return false;
}

/* The ranges whose kind is of the kind. */
static void add_where(struct unicode_set *s, bool (*is)(uint8_t kind))
{
    for (uint32_t i = 0; i < unicode_n_kinds; i++)
        if (is((uint8_t)unicode_kinds[i]))
            unicode_set_add(s, unicode_kinds[i] >> 8,
                            (i + 1 < unicode_n_kinds ? unicode_kinds[i + 1] >> 8 : UNICODE_MOST) - 1);
}

static bool is_white(uint8_t kind)
{
    return kind & UNICODE_WHITE;
}

void unicode_set_add_white(struct unicode_set *s)
{
    add_where(s, is_white);
}

void unicode_set_add_word(struct unicode_set *s)
{
    add_where(s, is_word);
}

bool unicode_set_add_property(struct unicode_set *s, const char *name, size_t length)
{
    static const char names[GC_COUNT][3] = { "Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu",
                                             "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc", "Pd", "Pe", "Pf",
                                             "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs" };
    uint32_t wanted = 0;
    for (int i = 0; i < GC_COUNT && (length == 1 || length == 2); i++)
        if (memcmp(names[i], name, length) == 0)
            wanted |= 1u << i;
    for (uint32_t i = 0; wanted && i < unicode_n_kinds; i++)
        if (wanted >> (unicode_kinds[i] & UNICODE_GC) & 1)
            unicode_set_add(s, unicode_kinds[i] >> 8,
                            (i + 1 < unicode_n_kinds ? unicode_kinds[i + 1] >> 8 : UNICODE_MOST) - 1);
    return wanted;
}

/* ---- UTF-8 ---- */

uint32_t utf8_put(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    const uint32_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (uint32_t i = n; --i > 0; c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}

char *text_bytes_room(struct text_bytes *b, size_t n)
{
    if (b->cap - b->n < n) {
        b->cap = b->n + n > 2 * b->cap ? b->n + n + 64 : 2 * b->cap;
        b->at = mem_realloc(b->at, b->cap);
    }
    return b->at + b->n;
}

void text_bytes_add(struct text_bytes *b, const void *p, size_t n)
{
    if (n)
        memcpy(text_bytes_room(b, n), p, n);
    b->n += n;
}

void text_bytes_free(struct text_bytes *b)
{
    mem_free(b->at);
    *b = (struct text_bytes){ 0 };
}

/* Length of the well-formed sequence at p, or 0; *bad is then how many bytes its first, maximal part has (table 3-7). */
static size_t sequence(const unsigned char *p, size_t left, size_t *bad)
{
    const unsigned char lead = p[0];
    const size_t n = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    *bad = 1;
    for (size_t i = 1; i < n; i++) {
        const unsigned char low = i > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        const unsigned char high = i > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (i == left || p[i] < low || p[i] > high) {
            *bad = i;
            return 0;
        }
    }
    return n;
}

size_t utf8_valid(const char *text, size_t n)
{
    size_t at = 0, bad;
    while (at < n) {
        uint64_t eight;
        if (n - at >= 8 && (memcpy(&eight, text + at, 8), !(eight & UINT64_C(0x8080808080808080)))) {
            at += 8;
            continue;
        }
        const size_t step = sequence((const unsigned char *)text + at, n - at, &bad);
        if (step == 0)
            return at;
        at += step;
    }
    return n;
}

uint64_t utf8_repair(const char *text, size_t n, struct text_bytes *out)
{
    uint64_t repaired = 0;
    for (size_t at = 0; at < n;) {
        size_t bad;
        const size_t good = utf8_valid(text + at, n - at);
        text_bytes_add(out, text + at, good);
        at += good;
        if (at == n)
            break;
        sequence((const unsigned char *)text + at, n - at, &bad);
        out->n += utf8_put(text_bytes_room(out, 4), UNICODE_REPLACEMENT);
        at += bad;
        repaired++;
    }
    return repaired;
}
