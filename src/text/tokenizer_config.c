/* What lies beside a tokenizer.json: tokenizer_config.json, chat_template.jinja. */
#include <stdio.h>
#include <string.h>

#include "base/dir.h"
#include "base/json.h"
#include "text/tokenizer.h"

/* "bos_token": "<s>", or {"content": "<s>", ...}; null or missing: none. */
static enum status read_token(const struct tokenizer *t, const struct js *root, const char *key, uint32_t *id,
                              struct err *e)
{
    struct js v;
    const char *text;
    TRY(js_opt(root, key, &v, e));
    if (!v.v)
        return ST_OK;
    if (json_is_object(v.v)) {
        const struct js object = v;
        TRY(js_need(&object, "content", &v, e));
    } else if (!json_is_string(v.v)) {
        return js_expected(&v, e, "a string, an object with \"content\", or null");
    }
    TRY(js_str(&v, &text, e));
    *id = tokenizer_find(t, text);
    return *id == VOCABULARY_NONE ? js_wrong(&v, e, "\"%.40s\" is no token of the tokenizer", text) : ST_OK;
}

static enum status read_config(struct tokenizer *t, const struct js *root, struct err *e)
{
    struct js v;
    bool adds;
    TRY(read_token(t, root, "bos_token", &t->bos, e));
    TRY(read_token(t, root, "eos_token", &t->eos, e));
    TRY(js_bool_or(root, "add_bos_token", false, &adds, e));
    if (adds && t->bos != VOCABULARY_NONE && t->n_before == 0)
        t->before[t->n_before++] = t->bos;
    TRY(js_opt(root, "chat_template", &v, e));
    if (v.v && json_is_string(v.v))
        t->chat_template = mem_strdup(json_string_value(v.v));
    return ST_OK;
}

static enum status read_template_file(struct tokenizer *t, const char *folder, struct err *e)
{
    enum { MOST = 1 << 20 };
    char path[DIR_PATH];
    if (!dir_has_path(folder, "chat_template.jinja", path))
        return ST_OK;
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, ST_MISSING, path, "cannot be read");
    char *text = mem_alloc(MOST + 1);
    text[fread(text, 1, MOST, f)] = '\0';
    fclose(f);
    mem_free(t->chat_template);
    t->chat_template = text;
    return ST_OK;
}

enum status tokenizer__read_config(struct tokenizer *t, const char *folder, struct err *e)
{
    char path[DIR_PATH];
    json_t *doc;
    if (dir_has_path(folder, "tokenizer_config.json", path)) {
        TRY(js_load_file(path, &doc, e));
        const struct js root = js_root(doc, path);
        enum status st = read_config(t, &root, e);
        json_decref(doc);
        TRY(st);
    }
    return read_template_file(t, folder, e);
}
