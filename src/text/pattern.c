#include "text/pattern.h"

#include <string.h>

/* Bits of the sets by which a match from `pc` on may begin. seen[ACCEPT]: it may take nothing. */
static uint32_t first_of(const struct pattern *p, uint16_t pc, bool seen[PATTERN_OPS])
{
    const struct pattern_op *op = &p->op[pc];
    if (seen[pc])
        return 0;
    seen[pc] = true;
    switch (op->kind) {
    case PATTERN_SET:
        return op->min ? op->mask : op->mask | first_of(p, op->next, seen);
    case PATTERN_ALT:
        return first_of(p, op->next, seen) | first_of(p, op->other, seen);
    case PATTERN_ACCEPT:
        return 0;
    default:
        return first_of(p, op->next, seen);
    }
}

uint32_t pattern_first(const struct pattern *p, uint16_t op)
{
    bool seen[PATTERN_OPS] = { false };
    return first_of(p, op, seen);
}

/* Bits of the sets that hold code points of the page [first, first + 256) are set in `to`; those that hold all of it in *whole, and
 * then not in `to`. at[i]: the range of set i to go on with. True: `to` has something. */
static bool fill_page(const struct pattern *p, const struct unicode_set *sets, uint32_t *at, uint32_t first,
                      uint32_t *to, uint32_t *whole)
{
    const uint32_t last = first + 255;
    bool some = false;
    *whole = 0;
    for (uint32_t i = 0; i < p->n_sets; i++) {
        const struct unicode_set *s = &sets[i];
        while (at[i] < s->n && s->at[at[i]].last < first)
            at[i]++;
        if (at[i] < s->n && s->at[at[i]].first <= first && s->at[at[i]].last >= last) {
            *whole |= 1u << i;
            continue;
        }
        for (uint32_t r = at[i]; r < s->n && s->at[r].first <= last; r++) {
            const uint32_t from = s->at[r].first > first ? s->at[r].first : first;
            const uint32_t end = s->at[r].last < last ? s->at[r].last : last;
            for (uint32_t c = from; c <= end; c++)
                to[c - first] |= 1u << i;
            some = true;
        }
    }
    return some;
}

/* Which sets each code point is in. Pages that are alike all over are shared: most are. */
static void make_pages(struct pattern *p, const struct unicode_set *sets)
{
    enum { PAGES = UNICODE_MOST >> 8 };
    uint32_t at[PATTERN_SETS] = { 0 }, n = 0, alike = 0, place[PAGES], same[PAGES], mask[PAGES];
    struct {
        VEC(uint32_t);
    } all = { 0 };
    for (uint32_t i = 0; i < PAGES; i++) {
        uint32_t page[256] = { 0 }, whole, k = 0;
        const bool some = fill_page(p, sets, at, i * 256, page, &whole);
        while (!some && k < alike && mask[k] != whole)
            k++;
        if (!some && k < alike) {
            place[i] = same[k];
            continue;
        }
        for (uint32_t c = 0; c < 256; c++)
            page[c] |= whole;
        place[i] = n++ * 256;
        const uint32_t to = vec_grow(&all, 256);
        memcpy(all.at + to, page, sizeof page);
        if (!some) {
            mask[alike] = whole;
            same[alike++] = place[i];
        }
    }
    p->pages = all.at;
    for (uint32_t i = 0; i < PAGES; i++)
        p->page[i] = p->pages + place[i];
}

static enum status prepare(struct pattern *p, const struct unicode_set *sets, const char *where, struct err *e)
{
    make_pages(p, sets);
    for (uint32_t i = 0; i < p->n_starts; i++) {
        bool seen[PATTERN_OPS] = { false };
        const uint32_t first = first_of(p, p->start[i], seen);
        if (seen[0]) /* ACCEPT is written first */
            return err_set(e, ST_INPUT, where,
                           "the pattern matches the empty text, expected one that takes characters");
        for (uint32_t c = 0; c < 128; c++)
            p->may_start[c] |= p->page[0][c] & first ? 1u << i : 0;
        p->may_start_other |= 1u << i;
    }
    return ST_OK;
}

enum status pattern_new(const char *expression, enum pattern_dialect dialect, const char *where, struct pattern **out,
                        struct err *e)
{
    struct unicode_set sets[PATTERN_SETS] = { 0 };
    struct pattern *p = mem_alloc(sizeof *p);
    p->dialect = dialect;
    p->text = mem_strdup(expression);
    enum status st = ST_OK;
    if (utf8_valid(expression, strlen(expression)) != strlen(expression))
        st = err_set(e, ST_INPUT, where, "the pattern is not valid UTF-8");
    else if (strlen(expression) <= PATTERN_BYTES && pattern__parse(p, sets))
        st = prepare(p, sets, where, e);
    else
        st = pattern__pcre2_new(expression, dialect, where, &p->pcre2, e);
    for (uint32_t i = 0; i < PATTERN_SETS; i++)
        vec_free(&sets[i]);
    if (st == ST_OK)
        *out = p;
    else
        pattern_free(p);
    return st;
}

void pattern_free(struct pattern *p)
{
    if (!p)
        return;
    pattern__pcre2_free(p->pcre2);
    mem_free(p->pages);
    mem_free(p->text);
    mem_free(p);
}
