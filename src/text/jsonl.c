#include "text/jsonl.h"

#include <string.h>

enum { DEPTH = 200 };

struct reading {
    const char *at, *end;
    const char *why;          /* NULL: all is well */
    struct text_bytes string; /* unescaped, not yet repaired */
    uint64_t halves;          /* of surrogate pairs, alone */
};

static void skip_blanks(struct reading *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n'))
        r->at++;
}

static bool fail(struct reading *r, const char *why)
{
    r->why = r->why ? r->why : why;
    return false;
}

static bool take(struct reading *r, char c)
{
    skip_blanks(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static int hexadecimal(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

static bool read_unit(struct reading *r, uint32_t *unit)
{
    *unit = 0;
    if (r->end - r->at < 4)
        return fail(r, "\\u without four hexadecimal digits");
    for (int i = 0; i < 4; i++, r->at++) {
        if (hexadecimal(*r->at) < 0)
            return fail(r, "\\u without four hexadecimal digits");
        *unit = *unit * 16 + (uint32_t)hexadecimal(*r->at);
    }
    return true;
}

/* Behind \u: one unit, or the two of a pair. */
static bool read_code_point(struct reading *r)
{
    uint32_t c, low;
    if (!read_unit(r, &c))
        return false;
    if (c >= 0xd800 && c < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        const char *before = r->at;
        r->at += 2;
        if (!read_unit(r, &low))
            return false;
        if (low >= 0xdc00 && low < 0xe000)
            c = 0x10000 + (c - 0xd800) * 0x400 + (low - 0xdc00);
        else
            r->at = before;
    }
    if (c >= 0xd800 && c < 0xe000) {
        c = UNICODE_REPLACEMENT;
        r->halves++;
    }
    r->string.n += utf8_put(text_bytes_room(&r->string, 4), c);
    return true;
}

static bool read_escape(struct reading *r)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end)
        return fail(r, "a string that does not end");
    const char c = *r->at++;
    const char *known = c ? strchr(letters, c) : NULL;
    if (c == 'u')
        return read_code_point(r);
    if (!known)
        return fail(r, "an unknown escape in a string");
    text_bytes_add(&r->string, &values[known - letters], 1);
    return true;
}

/* Behind the quote; into r->string where it is wanted. */
static bool read_string(struct reading *r)
{
    r->string.n = 0;
    r->halves = 0;
    for (;;) {
        const char *from = r->at;
        while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= 0x20)
            r->at++;
        text_bytes_add(&r->string, from, (size_t)(r->at - from));
        if (r->at == r->end)
            return fail(r, "a string that does not end");
        const char c = *r->at++;
        if (c == '"')
            return true;
        if (c != '\\')
            return fail(r, "a control character in a string");
        if (!read_escape(r))
            return false;
    }
}

static bool skip_digits(struct reading *r)
{
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > from;
}

static bool skip_scalar(struct reading *r)
{
    static const char *const words[] = { "true", "false", "null" };
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(r->end - r->at) >= n && memcmp(r->at, words[i], n) == 0)
            return r->at += n, true;
    }
    r->at += r->at < r->end && *r->at == '-';
    bool good = skip_digits(r);
    if (good && r->at < r->end && *r->at == '.')
        r->at++, good = skip_digits(r);
    if (good && r->at < r->end && (*r->at | 0x20) == 'e') {
        r->at++;
        r->at += r->at < r->end && (*r->at == '+' || *r->at == '-');
        good = skip_digits(r);
    }
    return good || fail(r, "no valid JSON");
}

static bool skip_value(struct reading *r, int depth);

/* Behind { or [. */
static bool skip_members(struct reading *r, bool object, int depth)
{
    const char close = object ? '}' : ']';
    if (take(r, close))
        return true;
    if (depth > DEPTH)
        return fail(r, "values nested too deep");
    do {
        if (object && !(take(r, '"') && read_string(r) && take(r, ':')))
            return fail(r, "no valid JSON");
        if (!skip_value(r, depth))
            return false;
    } while (take(r, ','));
    return take(r, close) || fail(r, "no valid JSON");
}

static bool skip_value(struct reading *r, int depth)
{
    if (take(r, '"'))
        return read_string(r);
    if (take(r, '{'))
        return skip_members(r, true, depth + 1);
    if (take(r, '['))
        return skip_members(r, false, depth + 1);
    return skip_scalar(r);
}

/* Behind the first {: *found gets the string of the field. */
static bool read_object(struct reading *r, const char *field, struct text_bytes *found, uint64_t *halves, bool *there)
{
    const size_t length = strlen(field);
    if (take(r, '}'))
        return true;
    do {
        if (!(take(r, '"') && read_string(r) && take(r, ':')))
            return fail(r, "no valid JSON");
        if (r->string.n != length || memcmp(r->string.at, field, length) != 0) {
            if (!skip_value(r, 0))
                return false;
            continue;
        }
        if (!take(r, '"'))
            return fail(r, "the field is no string");
        if (!read_string(r))
            return false;
        const struct text_bytes old = *found;
        *found = r->string;
        r->string = old;
        *halves = r->halves;
        *there = true;
    } while (take(r, ','));
    return take(r, '}') || fail(r, "no valid JSON");
}

const char *jsonl_field(const char *line, size_t n, const char *field, struct text_bytes *out, uint64_t *repaired)
{
    struct reading r = { .at = line, .end = line + n };
    struct text_bytes found = { 0 };
    uint64_t halves = 0;
    bool there = false;
    if (!take(&r, '{'))
        fail(&r, "no JSON object");
    else if (read_object(&r, field, &found, &halves, &there)) {
        skip_blanks(&r);
        if (r.at < r.end)
            fail(&r, "more behind the object");
        else if (!there)
            fail(&r, "no such field");
    }
    if (!r.why)
        *repaired += halves + utf8_repair(found.at, found.n, out);
    text_bytes_free(&found);
    text_bytes_free(&r.string);
    return r.why;
}
