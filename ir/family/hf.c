/* Reading a Hugging Face config: every key has a kind, values may have two names. */
#include <stdio.h>

#include "ir/family/family.h"

static const struct hf_key *find_key(const struct hf_model *m, const char *name)
{
    const struct hf_key *const lists[] = { m->keys, hf_common_keys };
    for (int i = 0; i < 2; i++)
        for (const struct hf_key *k = lists[i]; k->kind != HF_END; k++)
            if (strcmp(k->name, name) == 0)
                return k;
    return NULL;
}

struct js hf_get(const struct hf_model *m, const char *key)
{
    struct js v = m->js;
    js_opt(&m->js, key, &v, NULL); /* fails only where m->js is no object, which was checked */
    return v;
}

bool hf_is_null(const struct hf_model *m, const char *key)
{
    return json_is_null(json_object_get(m->js.v, key));
}

/* ---- kinds ---------------------------------------------------------------------------------------------------- */

/* 1 and 1.0 are equal here. */
static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static enum status check_neutral(const struct hf_model *m, const struct hf_key *k, const struct js *v)
{
    json_t *neutral = json_loads(k->text, JSON_DECODE_ANY, NULL);
    CHECK(neutral);
    bool same = same_value(v->v, neutral);
    json_decref(neutral);
    return same ? ST_OK : js_expected(v, m->e, "%s, since %s", k->text, k->why);
}

static enum status check_dropout(const struct hf_model *m, const struct js *v)
{
    double p;
    TRY(js_num(v, 0, 1, &p, m->e));
    if (p != 0)
        notices_add(m->notices, v->file, "%s: dropout %g is not applied: it trains as 0", v->path, p);
    return ST_OK;
}

static void notice_unknown(const struct hf_model *m, const struct js *v, const char *name)
{
    const char *words[256];
    size_t n = 0;
    const struct hf_key *const lists[] = { m->keys, hf_common_keys };
    for (int i = 0; i < 2; i++)
        for (const struct hf_key *k = lists[i]; k->kind != HF_END && n < 255; k++)
            words[n++] = k->name;
    words[n] = NULL;
    const char *near = nearest_word(name, words);
    if (near)
        notices_add(m->notices, v->file, "%s: unknown key, ignored; did you mean %s?", v->path, near);
    else
        notices_add(m->notices, v->file, "%s: unknown key, ignored", v->path);
}

enum status hf_check_keys(const struct hf_model *m)
{
    const char *name;
    json_t *value;
    json_object_foreach(m->js.v, name, value)
    {
        struct js v = hf_get(m, name);
        const struct hf_key *k = find_key(m, name);
        if (!k)
            notice_unknown(m, &v, name);
        else if (v.v && k->kind == HF_NEUTRAL)
            TRY(check_neutral(m, k, &v));
        else if (v.v && k->kind == HF_DROPOUT)
            TRY(check_dropout(m, &v));
    }
    return ST_OK;
}

/* ---- values --------------------------------------------------------------------------------------------------- */

/* The value under the key or one of its aliases. */
static enum status find_value(const struct hf_model *m, const char *key, struct js *out)
{
    *out = hf_get(m, key);
    for (const struct hf_key *k = m->keys; k->kind != HF_END; k++) {
        if (k->kind != HF_ALIAS || strcmp(k->text, key) != 0)
            continue;
        struct js other = hf_get(m, k->name);
        if (out->v && other.v && !same_value(out->v, other.v))
            return js_expected(&other, m->e, "the value of %s, another name of the same key", key);
        if (!out->v && other.v)
            *out = other;
    }
    return ST_OK;
}

enum status hf_size(const struct hf_model *m, const char *key, uint32_t dflt, uint32_t *out)
{
    struct js v;
    int64_t x = dflt;
    TRY(find_value(m, key, &v));
    if (v.v)
        TRY(js_int(&v, 1, INT32_MAX, &x, m->e));
    *out = (uint32_t)x;
    return ST_OK;
}

enum status hf_number(const struct hf_model *m, const char *key, double lo, double hi, double dflt, double *out)
{
    return js_num_or(&m->js, key, lo, hi, dflt, out, m->e);
}

enum status hf_float(const struct hf_model *m, const char *key, double lo, double hi, double dflt, float *out)
{
    double x;
    TRY(hf_number(m, key, lo, hi, dflt, &x));
    *out = (float)x;
    return ST_OK;
}

enum status hf_bool(const struct hf_model *m, const char *key, bool dflt, bool *out)
{
    return js_bool_or(&m->js, key, dflt, out, m->e);
}

enum status hf_str(const struct hf_model *m, const char *key, const char *dflt, const char **out)
{
    return js_str_or(&m->js, key, dflt, out, m->e);
}
