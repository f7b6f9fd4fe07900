/* Expressions that are no program of ours, by PCRE2. Sets are written out in code points, so that classes are those of our
 * Unicode version; steps, depth and memory are bounded. */
#include <stdio.h>
#include <string.h>

#include "build-config.h"
#include "text/pattern.h"

#ifdef HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MATCHES = 200000, DEPTH = 10000, HEAP_KIB = 65536, EXPRESSION_BYTES = 1 << 16 };

struct pattern_pcre2 {
    pcre2_code *code;
    char *text; /* as given */
};

static void write_set(const struct unicode_set *s, bool brackets, struct text_bytes *out)
{
    char text[40];
    if (brackets)
        text_bytes_add(out, "[", 1);
    for (uint32_t i = 0; i < s->n; i++) {
        const int n = s->at[i].first == s->at[i].last
                          ? snprintf(text, sizeof text, "\\x{%x}", s->at[i].first)
                          : snprintf(text, sizeof text, "\\x{%x}-\\x{%x}", s->at[i].first, s->at[i].last);
        text_bytes_add(out, text, (size_t)n);
    }
    if (brackets)
        text_bytes_add(out, "]", 1);
}

/* Copies the expression with \p{..}, \s, \d, \w and their opposites written out. False: one is not understood. */
static bool write_out(const char *p, struct text_bytes *out)
{
    bool inside = false;
    while (*p) {
        struct unicode_set s = { 0 };
        if (*p == '\\' && p[1] && strchr("pPsSdDwW", p[1])) {
            const bool good = pattern__read_set(&p, false, &s);
            unicode_set_has(&s, 0); /* sorts */
            write_set(&s, !inside, out);
            vec_free(&s);
            if (!good)
                return false;
            continue;
        }
        const size_t n = *p == '\\' && p[1] ? 2 : 1;
        if (n == 1 && *p == '[' && inside)
            return false; /* a set in a set */
        if (n == 1 && inside && strncmp(p, "&&", 2) == 0)
            return false;
        inside = n == 1 && *p == '[' ? true : n == 1 && *p == ']' ? false : inside;
        text_bytes_add(out, p, n);
        p += n;
    }
    text_bytes_add(out, "", 1);
    return true;
}

static enum status compile(const char *text, enum pattern_dialect dialect, const char *where, pcre2_code **code,
                           struct err *e)
{
    const uint32_t ends = dialect == PATTERN_ONIGURUMA ? PCRE2_MULTILINE : PCRE2_DOLLAR_ENDONLY;
    pcre2_compile_context *how = pcre2_compile_context_create(NULL);
    int why;
    PCRE2_SIZE at;
    pcre2_set_newline(how, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(how, 50);
    *code = pcre2_compile((PCRE2_SPTR)text, strlen(text), PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | ends, &why, &at, how);
    pcre2_compile_context_free(how);
    if (*code)
        return ST_OK;
    PCRE2_UCHAR sentence[200];
    pcre2_get_error_message(why, sentence, sizeof sentence);
    return err_set(e, ST_INPUT, where, "the pattern is no regular expression: %s", (const char *)sentence);
}

enum status pattern__pcre2_new(const char *expression, enum pattern_dialect dialect, const char *where,
                               struct pattern_pcre2 **out, struct err *e)
{
    struct text_bytes text = { 0 };
    struct pattern_pcre2 p = { 0 };
    uint32_t empty = 0;
    enum status st = ST_OK;
    if (strlen(expression) > EXPRESSION_BYTES)
        return err_set(e, ST_INPUT, where, "the pattern has %zu bytes, expected at most %d", strlen(expression),
                       EXPRESSION_BYTES);
    if (!write_out(expression, &text))
        st = err_set(
            e, ST_INPUT, where,
            "the pattern has a class that is not understood, expected general categories as in \\p{L}, \\s, \\d, "
            "\\w, and sets without sets inside: %.200s",
            expression);
    if (st == ST_OK)
        st = compile(text.at, dialect, where, &p.code, e);
    text_bytes_free(&text);
    TRY(st);
    pcre2_pattern_info(p.code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty) {
        pcre2_code_free(p.code);
        return err_set(e, ST_INPUT, where, "the pattern may match the empty text, expected one that takes characters");
    }
    p.text = mem_strdup(expression);
    *out = mem_alloc(sizeof **out);
    **out = p;
    return ST_OK;
}

void pattern__pcre2_free(struct pattern_pcre2 *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    mem_free(p->text);
    mem_free(p);
}

struct scanning {
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

void *pattern__pcre2_scan(const struct pattern_pcre2 *p)
{
    struct scanning *s = mem_alloc(sizeof *s);
    s->data = pcre2_match_data_create_from_pattern(p->code, NULL);
    s->limits = pcre2_match_context_create(NULL);
    CHECK(s->data && s->limits);
    pcre2_set_match_limit(s->limits, MATCHES);
    pcre2_set_depth_limit(s->limits, DEPTH);
    pcre2_set_heap_limit(s->limits, HEAP_KIB);
    return s;
}

void pattern__pcre2_scan_free(void *data)
{
    struct scanning *s = data;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->limits);
    mem_free(s);
}

enum status pattern__pcre2_next(const struct scan *s, const char *at, struct pattern_match *m, bool *found,
                                struct err *e)
{
    const struct scanning *how = s->pcre2;
    const struct pattern_pcre2 *p = s->pattern->pcre2;
    const int n = pcre2_match(p->code, (PCRE2_SPTR)s->begin, (PCRE2_SIZE)(s->end - s->begin),
                              (PCRE2_SIZE)(at - s->begin), PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, how->data, how->limits);
    *found = n > 0;
    if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR sentence[200];
        pcre2_get_error_message(n, sentence, sizeof sentence);
        return err_set(e, ST_INPUT, NULL, "the pre-split pattern reached a limit at byte %zu of a text (%s): %s",
                       (size_t)(at - s->begin), (const char *)sentence, p->text);
    }
    if (*found) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(how->data);
        *m = (struct pattern_match){ s->begin + ends[0], s->begin + ends[1] };
        if (m->end <= m->begin || m->begin < at) /* \K can do that */
            return err_set(e, ST_INPUT, NULL, "the pre-split pattern matched backwards: %s", p->text);
    }
    return ST_OK;
}
#else
enum status pattern__pcre2_new(const char *expression, enum pattern_dialect dialect, const char *where,
                               struct pattern_pcre2 **p, struct err *e)
{
    (void)dialect, (void)p;
    return err_set(
        e, ST_INPUT, where,
        "the pattern is not one of those that are built in, and this build has no PCRE2 (package libpcre2-dev): %.200s",
        expression);
}

void pattern__pcre2_free(struct pattern_pcre2 *p)
{
    CHECK(!p);
}

void *pattern__pcre2_scan(const struct pattern_pcre2 *p)
{
    CHECK(!p);
    return NULL;
}

void pattern__pcre2_scan_free(void *data)
{
    CHECK(!data);
}

enum status pattern__pcre2_next(const struct scan *s, const char *at, struct pattern_match *m, bool *found,
                                struct err *e)
{
    (void)at, (void)m, (void)e;
    CHECK(!s);
    *found = false;
    return ST_BUG;
}
#endif
