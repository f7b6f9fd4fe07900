/* --set: values of the command line override those of the files. */
#include <stdio.h>
#include <stdlib.h>

#include "job/config.h"

struct assignment {
    const char *text; /* for messages */
    const char *value;
};

static enum status wrong(const struct assignment *a, struct err *e, const char *why)
{
    return err_set(e, ST_USAGE, "--set", "found %s, %s", a->text, why);
}

/* A step of a path: a key, or an index. */
struct step {
    char *key; /* NULL: an index */
    uint64_t index;
};

/* Cuts the first step off: "a.b[3].c" is a, b, [3] and c. */
static enum status next_step(const struct assignment *a, char **path, struct step *s, struct err *e)
{
    char *p = *path, *end;
    *s = (struct step){ 0 };
    if (*p == '[') {
        s->index = strtoull(p + 1, &end, 10);
        if (end == p + 1 || *end != ']' || !strchr("0123456789", p[1]))
            return wrong(a, e, "expected an index such as [0]");
        end++;
    } else {
        s->key = p;
        end = p + strcspn(p, ".[");
        if (end == p)
            return wrong(a, e, "expected a key between the dots");
    }
    *path = *end == '.' ? end + 1 : end;
    if (*end && *end != '.' && *end != '[')
        return wrong(a, e, "expected a dot or an index behind an index");
    if (*end == '.' && !**path)
        return wrong(a, e, "expected a key behind the last dot");
    if (s->key && *end == '[') { /* the bracket is still needed */
        s->key = mem_strdup(p);
        s->key[end - p] = '\0';
    } else if (s->key) {
        *end = '\0';
        s->key = mem_strdup(p);
    }
    return ST_OK;
}

/* The value as JSON, or as a text. */
static json_t *read_value(const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return v ? v : json_string(text);
}

static enum status put(const struct assignment *a, json_t *o, const struct step *s, struct err *e)
{
    json_t *v = read_value(a->value);
    const int failed = s->key ? json_object_set_new(o, s->key, v) : json_array_set_new(o, (size_t)s->index, v);
    return failed ? wrong(a, e, "whose key or value is not valid UTF-8 text") : ST_OK;
}

/* Is there such a place in o? */
static enum status check_step(const struct assignment *a, const json_t *o, const struct step *s, struct err *e)
{
    char why[160];
    if (s->key && json_is_object(o))
        return ST_OK;
    if (!s->key && json_is_array(o)) {
        if (s->index < json_array_size(o))
            return ST_OK;
        snprintf(why, sizeof why, "but the list has %zu elements, the first of which is [0]", json_array_size(o));
        return wrong(a, e, why);
    }
    if (s->key)
        snprintf(why, sizeof why, "but what should have the key %.80s is not an object in the file: set it as a whole",
                 s->key);
    return wrong(a, e, s->key ? why : "but what should have an element by index is not a list in the file");
}

static enum status set_below(const struct assignment *a, json_t *o, char *path, struct err *e)
{
    struct step s;
    TRY(next_step(a, &path, &s, e));
    enum status st = check_step(a, o, &s, e);
    if (st == ST_OK && !*path) {
        st = put(a, o, &s, e);
    } else if (st == ST_OK) {
        json_t *next = s.key ? json_object_get(o, s.key) : json_array_get(o, (size_t)s.index);
        if (!next && json_object_set_new(o, s.key, next = json_object()) != 0)
            st = wrong(a, e, "whose key is not valid UTF-8 text");
        else
            st = set_below(a, next, path, e);
    }
    mem_free(s.key);
    return st;
}

enum status config_set(const struct config_documents *d, const char *text, struct err *e)
{
    const struct {
        const char *name;
        json_t *document;
    } documents[] = { { "model.", d->model }, { "train.", d->train }, { "strategy", d->strategy } };
    const char *equals = strchr(text, '=');
    const struct assignment a = { text, equals ? equals + 1 : "" };
    for (size_t i = 0; equals && i < sizeof documents / sizeof *documents; i++) {
        const size_t n = strlen(documents[i].name);
        if (strncmp(text, documents[i].name, n) != 0 || text + n >= equals)
            continue;
        char *path = mem_strdup(text + n);
        path[equals - text - (ptrdiff_t)n] = '\0';
        enum status st = set_below(&a, documents[i].document, path, e);
        mem_free(path);
        return st;
    }
    return wrong(&a, e,
                 "expected model.KEY=VALUE, train.KEY=VALUE or strategy[INDEX].KEY=VALUE, e.g. train.lr.peak=1e-4 or "
                 "strategy[1].microbatches=8");
}
