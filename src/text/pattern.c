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

/* Which sets each code point is in, pages of 256 shared where they are equal. */
static void make_pages(struct pattern *p, const struct unicode_set *sets)
{
    enum { PAGES = UNICODE_MOST >> 8 };
    uint32_t *all = mem_alloc(UNICODE_MOST * sizeof *all), kept = 0;
    for (uint32_t i = 0; i < p->n_sets; i++)
        for (uint32_t r = 0; r < sets[i].n; r++)
            for (uint32_t c = sets[i].at[r].first; c <= sets[i].at[r].last; c++)
                all[c] |= 1u << i;
    uint16_t same[PAGES];
    for (uint32_t i = 0; i < PAGES; i++) {
        uint32_t j = 0;
        while (j < kept && memcmp(all + j * 256, all + i * 256, 1024) != 0)
            j++;
        if (j == kept)
            memmove(all + kept++ * 256, all + i * 256, 1024);
        same[i] = (uint16_t)j;
    }
    p->pages = mem_realloc(all, kept * 1024);
    for (uint32_t i = 0; i < PAGES; i++)
        p->page[i] = p->pages + same[i] * 256;
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
