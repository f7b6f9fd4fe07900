/* Runs the programs of pattern.c. */
#include "text/pattern.h"

/* What a text may cost, for patterns of hostile files: operations and characters looked at. Those that are known take fewer
 * than 30 a byte. */
enum { STEPS = 1000000, STEPS_PER_BYTE = 256 };

struct running {
    const struct pattern *p;
    const char *end;
    uint64_t steps, most;
};

/* Bits of the sets that the character at *at is in; moves behind it. */
static inline uint32_t bits_of(const struct pattern *p, const char **at)
{
    const unsigned char c = (unsigned char)**at;
    if (c < 0x80) {
        ++*at;
        return p->page[0][c];
    }
    const uint32_t wide = utf8_next(at);
    return p->page[wide >> 8][wide & 0xff];
}

/* Takes as many characters of a set as it may; how many. */
static inline uint64_t take(struct running *r, const struct pattern_op *op, const char **at)
{
    const uint64_t most = op->max == PATTERN_MANY ? UINT64_MAX : op->max;
    uint64_t n = 0;
    for (const char *next = *at; n < most && *at < r->end; n++) {
        if (!(bits_of(r->p, &next) & op->mask))
            break;
        *at = next;
    }
    r->steps += n;
    return n;
}

/* Where a match from operation pc on ends, or NULL. As deep as there are operations. */
static const char *run(struct running *r, uint16_t pc, const char *at)
{
    for (;;) {
        const struct pattern_op *op = &r->p->op[pc];
        if (++r->steps > r->most)
            return NULL;
        switch (op->kind) {
        case PATTERN_ACCEPT:
            return at;
        case PATTERN_END:
            if (at < r->end && !(r->p->dialect == PATTERN_ONIGURUMA && *at == '\n'))
                return NULL;
            break;
        case PATTERN_AHEAD:
        case PATTERN_NOT_AHEAD: {
            const char *look = at;
            const bool there = at < r->end && bits_of(r->p, &look) & op->mask;
            if (there != (op->kind == PATTERN_AHEAD))
                return NULL;
            break;
        }
        case PATTERN_ALT: {
            const char *found = run(r, op->next, at);
            if (found)
                return found;
            pc = op->other;
            continue;
        }
        case PATTERN_SET:
            for (uint64_t n = take(r, op, &at);; n--, at = utf8_back(at)) {
                if (n < op->min)
                    return NULL;
                if (op->keeps || n == op->min || r->p->op[op->next].kind == PATTERN_ACCEPT)
                    break;
                const char *found = run(r, op->next, at);
                if (found || r->steps > r->most)
                    return found;
            }
            break;
        }
        pc = op->next;
    }
}

static const char *match_at(struct running *r, const char *at)
{
    const unsigned char c = (unsigned char)*at;
    for (uint32_t may = c < 0x80 ? r->p->may_start[c] : r->p->may_start_other; may; may &= may - 1) {
        const char *end = run(r, r->p->start[__builtin_ctz(may)], at);
        if (end)
            return end;
    }
    return NULL;
}

void scan_open(struct scan *s, const struct pattern *p)
{
    *s = (struct scan){ .pattern = p, .pcre2 = p->pcre2 ? pattern__pcre2_scan(p->pcre2) : NULL };
}

void scan_close(struct scan *s)
{
    if (s->pcre2)
        pattern__pcre2_scan_free(s->pcre2);
    s->pcre2 = NULL;
}

void scan_begin(struct scan *s, const char *text, size_t n)
{
    s->begin = text;
    s->end = text + n;
    s->steps_left = STEPS + STEPS_PER_BYTE * (uint64_t)n;
}

enum status scan_next(struct scan *s, const char *at, struct pattern_match *m, bool *found, struct err *e)
{
    if (s->pattern->pcre2)
        return pattern__pcre2_next(s, at, m, found, e);
    struct running r = { s->pattern, s->end, 0, s->steps_left };
    const char *end = NULL;
    while (at < s->end && !(end = match_at(&r, at)) && r.steps <= r.most)
        utf8_next(&at);
    *found = end;
    if (end)
        *m = (struct pattern_match){ at, end };
    if (!end && r.steps > r.most)
        return err_set(e, ST_INPUT, NULL, "the pre-split pattern takes more than %d steps a byte: %s", STEPS_PER_BYTE,
                       s->pattern->text);
    s->steps_left = r.steps < r.most ? r.most - r.steps : 0;
    return ST_OK;
}
