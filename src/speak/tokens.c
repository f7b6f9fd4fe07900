#include "speak/tokens.h"

#include <stdio.h>

#include "base/dir.h"
#include "base/json.h"
#include "io/tokens.h"

enum status speak_tokenizer_in(const char *folder, const char *pattern, struct tokenizer **t, struct err *e)
{
    *t = NULL;
    return tokenizer_is_in(folder) ? tokenizer_open(folder, pattern, t, e) : ST_OK;
}

enum status speak_tokenizer_of(const char *tokens, const char *pattern, struct tokenizer **t, struct err *e)
{
    struct tokens_about about;
    struct arena arena;
    char where[DIR_PATH];
    *t = NULL;
    arena_init(&arena);
    enum status st = tokens_describe(tokens, &arena, &about, e);
    snprintf(where, sizeof where, "%.2000s: /tokenizer", tokens);
    if (st == ST_OK && about.tokenizer)
        st = tokenizer_from_bytes(about.tokenizer_file, about.tokenizer_bytes, pattern, where, t, e);
    arena_release(&arena);
    return st;
}

enum status speak_encode(const struct tokenizer *t, const char *text, size_t n, struct token_ids *out, struct err *e)
{
    for (size_t i = 0; !t && i < n; i++)
        vec_add(out, (unsigned char)text[i]);
    if (!t)
        return ST_OK;
    struct text_bytes good = { 0 };
    struct encoder *x = encoder_new(t);
    for (uint32_t i = 0; i < t->n_before; i++)
        vec_add(out, t->before[i]);
    utf8_repair(text, n, &good);
    const enum status st = good.n ? encoder_encode(x, good.at, good.n, 0, out, e) : ST_OK;
    encoder_free(x);
    text_bytes_free(&good);
    return st;
}

bool speak_is_end(const struct token_ids *ends, uint32_t id)
{
    for (uint32_t i = 0; i < ends->n; i++)
        if (ends->at[i] == id)
            return true;
    return false;
}

static void add_end(struct token_ids *ends, int64_t id)
{
    if (id >= 0 && id < VOCABULARY_NONE && !speak_is_end(ends, (uint32_t)id))
        vec_add(ends, (uint32_t)id);
}

/* eos_token_id: a number, a list of them, or null. */
static enum status add_ends(json_t *doc, const char *file, struct token_ids *ends, struct err *e)
{
    const struct js root = js_root(doc, file);
    struct js v;
    int64_t id;
    uint32_t n = 0;
    TRY(js_opt(&root, "eos_token_id", &v, e));
    if (v.v && !json_is_array(v.v)) {
        TRY(js_int(&v, 0, UINT32_MAX, &id, e));
        add_end(ends, id);
    }
    if (v.v && json_is_array(v.v))
        TRY(js_count(&v, &n, e));
    for (uint32_t i = 0; i < n; i++) {
        const struct js one = js_at(&v, i);
        TRY(js_int(&one, 0, UINT32_MAX, &id, e));
        add_end(ends, id);
    }
    return ST_OK;
}

static enum status add_ends_of_file(const char *path, struct token_ids *ends, struct err *e)
{
    json_t *doc;
    TRY(js_load_file(path, &doc, e));
    const enum status st = add_ends(doc, path, ends, e);
    json_decref(doc);
    return st;
}

enum status speak_ends(const char *folder, const char *model, const struct tokenizer *t, struct token_ids *ends,
                       struct err *e)
{
    char path[DIR_PATH];
    json_t *doc;
    if (dir_has_path(folder, "generation_config.json", path))
        TRY(add_ends_of_file(path, ends, e));
    if (!ends->n && dir_has_path(folder, "config.json", path))
        TRY(add_ends_of_file(path, ends, e));
    if (!ends->n && model && *model) {
        TRY(js_load_text(model, "model.json", &doc, e));
        const enum status st = add_ends(doc, "model.json", ends, e);
        json_decref(doc);
        TRY(st);
    }
    if (t)
        add_end(ends, t->eos != VOCABULARY_NONE || ends->n ? t->eos : t->end_of_text);
    return ST_OK;
}
