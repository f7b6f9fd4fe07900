#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/words.h"

enum { FOUND_BYTES = 80 };

/* ---- loading -------------------------------------------------------------------------------------------------- */

/* What other languages allow, and where parsing stops because of it: comments, a comma behind the last element. */
static const char *not_in_json(const char *text, size_t n, size_t at)
{
    at = at < n ? at : n;
    for (size_t i = at; i < n && i <= at + 1; i++)
        if (text[i] == '#' || text[i] == '/')
            return "; JSON has no comments";
    while (at > 0 && strchr(" \t\r\n", text[at - 1]))
        at--;
    if (at > 0 && (text[at - 1] == '/' || text[at - 1] == '#'))
        return "; JSON has no comments";
    if (at > 0 && (text[at - 1] == '}' || text[at - 1] == ']'))
        at--;
    while (at > 0 && strchr(" \t\r\n", text[at - 1]))
        at--;
    return at > 0 && text[at - 1] == ',' ? "; JSON has no comma behind the last element" : "";
}

static enum status parse(const char *text, size_t bytes, const char *file, json_t **doc, struct err *e)
{
    json_error_t why;
    json_t *d = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (!d)
        return err_set(e, ST_INPUT, file, "line %d, column %d: invalid JSON: %s%s", why.line, why.column, why.text,
                       not_in_json(text, bytes, (size_t)why.position));
    *doc = d;
    return ST_OK;
}

enum status js_load_text(const char *text, const char *file, json_t **doc, struct err *e)
{
    return parse(text, strlen(text), file, doc, e);
}

enum status js_load_file(const char *file, json_t **doc, struct err *e)
{
    bool is_stdin = !strcmp(file, "-");
    const char *name = is_stdin ? "standard input" : file;
    FILE *f = is_stdin ? stdin : fopen(file, "rb");
    if (!f)
        return err_set(e, ST_MISSING, name, "cannot be opened: %s", strerror(errno));
    struct {
        VEC(char);
    } text = { 0 };
    enum { BLOCK = 1 << 16 };
    size_t got;
    do {
        uint32_t at = vec_grow(&text, BLOCK);
        got = fread(text.at + at, 1, BLOCK, f);
        text.n = at + (uint32_t)got;
    } while (got == BLOCK && text.n < UINT32_MAX / 4);

    enum status s;
    if (ferror(f))
        s = err_set(e, ST_MISSING, name, "cannot be read: %s", strerror(errno));
    else if (got == BLOCK)
        s = err_set(e, ST_INPUT, name, "found more than 1 GiB of text, expected a JSON file");
    else
        s = parse(text.at, text.n, name, doc, e);
    vec_free(&text);
    if (!is_stdin)
        fclose(f);
    return s;
}

struct js js_root(json_t *doc, const char *file)
{
    return (struct js){ .v = doc, .file = strcmp(file, "-") ? file : "standard input", .path = "$" };
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

/* What is there, in words: a scalar as JSON text cut to size, a list or an object by its kind. */
static void describe(const json_t *v, char *text, size_t size)
{
    if (!v)
        snprintf(text, size, "nothing");
    else if (json_is_object(v))
        snprintf(text, size, "an object of %zu keys", json_object_size(v));
    else if (json_is_array(v))
        snprintf(text, size, "a list of %zu", json_array_size(v));
    else {
        char *all = json_dumps(v, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
        if (snprintf(text, size, "%s", all ? all : "a value") >= (int)size)
            memcpy(text + size - 5, "...\"", 5);
        free(all);
    }
}

enum status js_wrong(const struct js *v, struct err *e, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(e, ST_INPUT, v->file, "%s: %s", v->path, text);
}

enum status js_expected(const struct js *v, struct err *e, const char *fmt, ...)
{
    char found[FOUND_BYTES], expected[512];
    describe(v->v, found, sizeof found);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(expected, sizeof expected, fmt, ap);
    va_end(ap);
    return js_wrong(v, e, "found %s, expected %s", found, expected);
}

/* Appends to the path; one that is too long ends in "...". Every value read gets a path, so this is no printf. */
static void extend_path(struct js *to, const char *step)
{
    static const char cut[] = "...";
    size_t have = strlen(to->path), n = strlen(step), room = sizeof to->path - 1 - have;
    memcpy(to->path + have, step, n < room ? n : room);
    to->path[have + (n < room ? n : room)] = '\0';
    if (n > room)
        memcpy(to->path + sizeof to->path - sizeof cut, cut, sizeof cut);
}

/* A cursor below `from`, with its path. */
static struct js below(const struct js *from, json_t *v)
{
    struct js m = { .v = v, .file = from->file };
    strcpy(m.path, from->path);
    return m;
}

static bool is_plain_key(const char *key)
{
    if (!isalpha((unsigned char)key[0]) && key[0] != '_')
        return false;
    for (const char *c = key; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '_')
            return false;
    return true;
}

static struct js member(const struct js *o, const char *key, json_t *v)
{
    struct js m = below(o, v);
    bool plain = is_plain_key(key);
    extend_path(&m, plain ? "." : "[\"");
    extend_path(&m, key);
    extend_path(&m, plain ? "" : "\"]");
    return m;
}

/* ---- objects and lists ---------------------------------------------------------------------------------------- */

bool js_has(const struct js *o, const char *key)
{
    json_t *v = json_object_get(o->v, key);
    return v && !json_is_null(v);
}

enum status js_opt(const struct js *o, const char *key, struct js *out, struct err *e)
{
    if (!json_is_object(o->v))
        return js_expected(o, e, "an object");
    json_t *v = json_object_get(o->v, key);
    *out = member(o, key, json_is_null(v) ? NULL : v);
    return ST_OK;
}

enum status js_need(const struct js *o, const char *key, struct js *out, struct err *e)
{
    struct js m;
    TRY(js_opt(o, key, &m, e));
    if (!m.v && json_object_get(o->v, key))
        return js_wrong(&m, e, "found null, expected a value");
    if (!m.v) {
        char keys[256] = "";
        size_t n = 0;
        const char *k;
        json_t *v;
        json_object_foreach(o->v, k, v) if (n < sizeof keys)
            n += (size_t)snprintf(keys + n, sizeof keys - n, "%s\"%s\"", n ? ", " : "", k);
        return js_wrong(o, e, "missing key \"%s\"; found %s%s", key, n ? keys : "no keys",
                        n < sizeof keys ? "" : "...");
    }
    *out = m;
    return ST_OK;
}

enum status js_count(const struct js *a, uint32_t *n, struct err *e)
{
    if (!json_is_array(a->v) || json_array_size(a->v) > UINT32_MAX)
        return js_expected(a, e, "a list");
    *n = (uint32_t)json_array_size(a->v);
    return ST_OK;
}

struct js js_at(const struct js *a, uint32_t i)
{
    struct js m = below(a, json_array_get(a->v, i));
    char step[16] = { 0 }, *c = step + sizeof step - 2;
    *c = ']';
    do
        *--c = (char)('0' + i % 10);
    while (i /= 10);
    *--c = '[';
    extend_path(&m, c);
    return m;
}

enum status js_only(const struct js *o, const char *const *keys, struct err *e)
{
    if (!json_is_object(o->v))
        return js_expected(o, e, "an object");
    const char *k;
    json_t *v;
    json_object_foreach(o->v, k, v)
    {
        uint32_t i = 0;
        while (keys[i] && strcmp(keys[i], k))
            i++;
        if (keys[i])
            continue;
        char hint[WORDS_HINT], all[640];
        if (*words_hint(k, keys, hint))
            return js_wrong(o, e, "unknown key \"%.80s\"%s", k, hint);
        return js_wrong(o, e, "unknown key \"%.80s\", expected %s", k,
                        *keys ? words_list(keys, all, sizeof all) : "no key");
    }
    return ST_OK;
}

/* ---- scalars -------------------------------------------------------------------------------------------------- */

/* Integers, and numbers such as 1e3 that are whole and exact in a double. */
static bool whole(const json_t *v, int64_t *out)
{
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return true;
    }
    double x = json_is_real(v) ? json_real_value(v) : 0.5;
    if (fabs(x) > 9007199254740992.0 || x != floor(x))
        return false;
    *out = (int64_t)x;
    return true;
}

enum status js_int(const struct js *v, int64_t lo, int64_t hi, int64_t *out, struct err *e)
{
    int64_t x = 0;
    if (whole(v->v, &x) && x >= lo && x <= hi) {
        *out = x;
        return ST_OK;
    }
    if (lo == INT64_MIN && hi == INT64_MAX)
        return js_expected(v, e, "an integer");
    if (hi == INT64_MAX)
        return js_expected(v, e, "an integer >= %lld", (long long)lo);
    if (lo == INT64_MIN)
        return js_expected(v, e, "an integer <= %lld", (long long)hi);
    return js_expected(v, e, "an integer from %lld to %lld", (long long)lo, (long long)hi);
}

/* Bounds of this size mean "no bound". */
static bool unbounded(double x)
{
    return fabs(x) >= 1e300;
}

enum status js_num(const struct js *v, double lo, double hi, double *out, struct err *e)
{
    double x = json_number_value(v->v);
    if (json_is_number(v->v) && x >= lo && x <= hi) {
        *out = x;
        return ST_OK;
    }
    if (unbounded(lo) && unbounded(hi))
        return js_expected(v, e, "a number");
    if (unbounded(hi))
        return js_expected(v, e, "a number >= %.9g", lo);
    if (unbounded(lo))
        return js_expected(v, e, "a number <= %.9g", hi);
    return js_expected(v, e, "a number from %.9g to %.9g", lo, hi);
}

enum status js_bool(const struct js *v, bool *out, struct err *e)
{
    if (!json_is_boolean(v->v))
        return js_expected(v, e, "true or false");
    *out = json_is_true(v->v);
    return ST_OK;
}

enum status js_str(const struct js *v, const char **out, struct err *e)
{
    if (!json_is_string(v->v))
        return js_expected(v, e, "a string");
    *out = json_string_value(v->v);
    return ST_OK;
}

enum status js_int_or(const struct js *o, const char *key, int64_t lo, int64_t hi, int64_t dflt, int64_t *out,
                      struct err *e)
{
    struct js v;
    TRY(js_opt(o, key, &v, e));
    if (v.v)
        return js_int(&v, lo, hi, out, e);
    *out = dflt;
    return ST_OK;
}

enum status js_num_or(const struct js *o, const char *key, double lo, double hi, double dflt, double *out,
                      struct err *e)
{
    struct js v;
    TRY(js_opt(o, key, &v, e));
    if (v.v)
        return js_num(&v, lo, hi, out, e);
    *out = dflt;
    return ST_OK;
}

enum status js_bool_or(const struct js *o, const char *key, bool dflt, bool *out, struct err *e)
{
    struct js v;
    TRY(js_opt(o, key, &v, e));
    if (v.v)
        return js_bool(&v, out, e);
    *out = dflt;
    return ST_OK;
}

enum status js_str_or(const struct js *o, const char *key, const char *dflt, const char **out, struct err *e)
{
    struct js v;
    TRY(js_opt(o, key, &v, e));
    if (v.v)
        return js_str(&v, out, e);
    *out = dflt;
    return ST_OK;
}

enum status js_word(const struct js *v, const char *const *words, uint32_t *which, struct err *e)
{
    const char *s = json_is_string(v->v) ? json_string_value(v->v) : NULL;
    for (uint32_t i = 0; s && words[i]; i++)
        if (strcmp(words[i], s) == 0) {
            *which = i;
            return ST_OK;
        }
    char hint[WORDS_HINT] = "", all[256];
    return js_expected(v, e, "%s%s", words_list(words, all, sizeof all), s ? words_hint(s, words, hint) : hint);
}

enum status js_word_or(const struct js *o, const char *key, const char *const *words, uint32_t dflt, uint32_t *which,
                       struct err *e)
{
    struct js v;
    TRY(js_opt(o, key, &v, e));
    if (v.v)
        return js_word(&v, words, which, e);
    *which = dflt;
    return ST_OK;
}

char *js_text(const json_t *doc, size_t flags)
{
    char *text = json_dumps(doc, flags | JSON_REAL_PRECISION(15));
    json_t *again = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    if (!json_equal(doc, again)) {
        free(text);
        text = json_dumps(doc, flags | JSON_REAL_PRECISION(17));
    }
    json_decref(again);
    CHECK(text);
    return text;
}
