#include "text/nfc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "text/unicode_table.h"

/* Hangul syllables (the Unicode Standard, section 3.12). */
enum { S = 0xac00, L = 0x1100, V = 0x1161, T = 0x11a7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28 };
enum { S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static const struct unicode_pair **composing; /* those that compose, by (a, b) */
static uint32_t n_composing;
static pthread_once_t sorted = PTHREAD_ONCE_INIT;

static int by_parts(const void *x, const void *y)
{
    const struct unicode_pair *p = *(const struct unicode_pair *const *)x, *q = *(const struct unicode_pair *const *)y;
    if (p->a != q->a)
        return p->a < q->a ? -1 : 1;
    return p->b < q->b ? -1 : p->b > q->b;
}

/* Kept for the life of the process. */
static void sort(void)
{
    static const struct unicode_pair *rows[4096];
    CHECK(unicode_n_pairs <= sizeof rows / sizeof *rows);
    for (uint32_t i = 0; i < unicode_n_pairs; i++)
        if (unicode_pairs[i].composes)
            rows[n_composing++] = &unicode_pairs[i];
    qsort(rows, n_composing, sizeof *rows, by_parts);
    composing = rows;
}

static uint8_t combining_class(uint32_t c)
{
    uint32_t low = 0, high = unicode_n_combining; /* the row that begins at or before c is in [low, high) */
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (unicode_combining[middle] >> 8 <= c)
            low = middle;
        else
            high = middle;
    }
    return (uint8_t)(unicode_combining[low] & 0xff);
}

static int by_code(const void *key, const void *row)
{
    const uint32_t c = *(const uint32_t *)key, d = ((const struct unicode_pair *)row)->c;
    return c < d ? -1 : c > d;
}

struct code_points {
    VEC(uint32_t);
};

static void decompose(uint32_t c, struct code_points *out)
{
    if (c >= S && c < S + S_COUNT) {
        const uint32_t s = c - S;
        vec_add(out, L + s / (V_COUNT * T_COUNT));
        vec_add(out, V + s % (V_COUNT * T_COUNT) / T_COUNT);
        if (s % T_COUNT)
            vec_add(out, T + s % T_COUNT);
        return;
    }
    const struct unicode_pair *p = bsearch(&c, unicode_pairs, unicode_n_pairs, sizeof *unicode_pairs, by_code);
    if (!p) {
        vec_add(out, c);
        return;
    }
    decompose(p->a, out); /* at most three deep */
    if (p->b)
        vec_add(out, p->b); /* second parts do not decompose */
}

/* What a and b make together, or 0. */
static uint32_t compose(uint32_t a, uint32_t b)
{
    if (a >= L && a < L + L_COUNT && b >= V && b < V + V_COUNT)
        return S + ((a - L) * V_COUNT + (b - V)) * T_COUNT;
    if (a >= S && a < S + S_COUNT && (a - S) % T_COUNT == 0 && b > T && b < T + T_COUNT)
        return a + (b - T);
    const struct unicode_pair key = { .a = a, .b = b }, *k = &key;
    const struct unicode_pair **found = bsearch(&k, composing, n_composing, sizeof *composing, by_parts);
    return found ? (*found)->c : 0;
}

/* The canonical order: marks by their class, those of one class as they were. Runs are short. */
static void order(struct code_points *s)
{
    for (uint32_t i = 1; i < s->n; i++) {
        const uint32_t c = s->at[i];
        const uint8_t class = combining_class(c);
        uint32_t j = i;
        while (class && j > 0 && combining_class(s->at[j - 1]) > class) {
            s->at[j] = s->at[j - 1];
            j--;
        }
        s->at[j] = c;
    }
}

static void compose_all(struct code_points *s)
{
    uint32_t kept = 0, starter = UINT32_MAX;
    int last = -1; /* class of what was kept last behind the starter; -1: nothing */
    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t c = s->at[i];
        const int class = combining_class(c);
        const uint32_t made = starter != UINT32_MAX && last < class ? compose(s->at[starter], c) : 0;
        if (made) {
            s->at[starter] = made;
            continue;
        }
        if (class == 0)
            starter = kept;
        last = class == 0 ? -1 : class;
        s->at[kept++] = c;
    }
    s->n = kept;
}

size_t nfc_done(const char *text, size_t n)
{
    const char *p = text, *end = text + n;
    while (p < end) {
        if ((unsigned char)*p < 0x80) {
            p++;
            continue;
        }
        const char *c = p;
        if (unicode_kind(utf8_next(&p)) & UNICODE_NFC_LOOK)
            return c > text ? (size_t)(utf8_back(c) - text) : 0;
    }
    return n;
}

void nfc_normalize(const char *text, size_t n, struct text_bytes *out)
{
    struct code_points s = { 0 };
    pthread_once(&sorted, sort);
    for (const char *p = text, *end = text + n; p < end;) {
        const size_t done = nfc_done(p, (size_t)(end - p));
        text_bytes_add(out, p, done);
        p += done;
        /* up to where a starter follows that nothing can change */
        s.n = 0;
        for (bool first = true; p < end; first = false) {
            const char *next = p;
            const uint32_t c = utf8_next(&next);
            if (!first && s.n && !(unicode_kind(c) & UNICODE_NFC_LOOK))
                break;
            decompose(c, &s);
            p = next;
        }
        order(&s);
        compose_all(&s);
        for (uint32_t i = 0; i < s.n; i++)
            out->n += utf8_put(text_bytes_room(out, 4), s.at[i]);
    }
    vec_free(&s);
}
