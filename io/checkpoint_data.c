/* The list of a checkpoint's data, as a text in one attribute: piper-checkpoint(5). */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "io/checkpoint_private.h"

static bool continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

void checkpoint_source_name(const char *path, char name[CHECKPOINT_NAME])
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
    size_t n = dot && dot != base ? (size_t)(dot - base) : strlen(base);
    if (n >= CHECKPOINT_NAME)
        for (n = CHECKPOINT_NAME - 1; n > 0 && continues(base[n]);)
            n--;
    memcpy(name, base, n);
    name[n] = '\0';
    json_t *valid = json_string(name); /* NULL: not UTF-8 */
    for (char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || (!valid && (unsigned char)*c >= 0x80))
            *c = '?';
    json_decref(valid);
}

char *ckpt__data_text(const struct checkpoint_data *data)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < data->n; i++) {
        const struct checkpoint_source *s = &data->at[i];
        char hex[SHA256_HEX];
        sha256_hex(s->sample, hex);
        json_t *entry = json_pack("{s:s,s:I,s:s}", "name", s->name, "tokens", (json_int_t)s->tokens, "sample", hex);
        if (s->weight > 0) {
            json_object_set_new(entry, "weight", json_real(s->weight));
            json_object_set_new(entry, "offset", json_integer(s->offset));
        }
        json_array_append_new(list, entry);
    }
    char *text = json_dumps(list, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(list);
    CHECK(text != NULL);
    return text;
}

static enum status parse_source(const struct js *entry, struct checkpoint_source *s, struct err *e)
{
    static const char *const keys[] = { "name", "tokens", "sample", "weight", "offset", NULL };
    struct js name, tokens, sample;
    const char *text;
    int64_t n;
    TRY(js_only(entry, keys, e));
    TRY(js_need(entry, "name", &name, e));
    TRY(js_str(&name, &text, e));
    if (strlen(text) >= CHECKPOINT_NAME)
        return js_expected(&name, e, "a name shorter than %d bytes", CHECKPOINT_NAME);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return js_wrong(&name, e, "found a control character, expected a printable name");
    strcpy(s->name, text);
    TRY(js_need(entry, "tokens", &tokens, e));
    TRY(js_int(&tokens, 0, INT64_MAX, &n, e));
    s->tokens = (uint64_t)n;
    TRY(js_num_or(entry, "weight", 0, 1e9, 0, &s->weight, e));
    TRY(js_int_or(entry, "offset", INT64_MIN, INT64_MAX, 0, &s->offset, e));
    TRY(js_need(entry, "sample", &sample, e));
    TRY(js_str(&sample, &text, e));
    return sha256_unhex(text, s->sample) ? ST_OK : js_expected(&sample, e, "64 hexadecimal digits");
}

enum status ckpt__data_parse(const char *text, const char *where, struct checkpoint_data *data, struct err *e)
{
    char file[600];
    json_t *doc;
    snprintf(file, sizeof file, "%s: attribute data", where);
    TRY(js_load_text(text, file, &doc, e));
    struct js list = js_root(doc, file);
    enum status st = js_count(&list, &data->n, e);
    if (st == ST_OK && data->n > CHECKPOINT_MOST_DATA)
        st = js_wrong(&list, e, "found %u entries, expected at most %d", data->n, CHECKPOINT_MOST_DATA);
    for (uint32_t i = 0; st == ST_OK && i < data->n; i++) {
        struct js entry = js_at(&list, i);
        st = parse_source(&entry, &data->at[i], e);
    }
    json_decref(doc);
    return st;
}
