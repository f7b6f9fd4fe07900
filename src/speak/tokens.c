#include "speak/tokens.h"

#include <stdio.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/json.h"
#include "io/tokens.h"

/* False: there is no such file; path gets its name. */
static bool has(const char *folder, const char *name, char path[DIR_PATH])
{
    const int n = snprintf(path, DIR_PATH, "%s/%s", folder, name);
    return n > 0 && n < DIR_PATH && access(path, F_OK) == 0;
}

enum status speak_tokenizer_in(const char *folder, const char *pattern, struct tokenizer **t, struct err *e)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer.model", "spiece.model" };
    char path[DIR_PATH];
    *t = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (has(folder, names[i], path))
            return tokenizer_open(folder, pattern, t, e);
    return ST_OK;
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

static void add_end(struct token_ids *ends, int64_t id)
{
    for (uint32_t i = 0; i < ends->n; i++)
        if (ends->at[i] == id)
            return;
    if (id >= 0 && id < VOCABULARY_NONE)
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
    if (has(folder, "generation_config.json", path))
        TRY(add_ends_of_file(path, ends, e));
    if (!ends->n && has(folder, "config.json", path))
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
