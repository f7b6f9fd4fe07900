/* Reading a Hugging Face configuration: every key has a kind, values may have two names. */
#include "base/words.h"
#include "ir/family/hf.h"

#include <stdio.h>

#include "ir/family/quantization.h"

static const struct hf_key *find_in(const struct hf_key *list, const char *name)
{
    for (const struct hf_key *k = list; k->kind != HF_END; k++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

static const struct hf_key *find_key(const struct hf_model *m, const char *name)
{
    const struct hf_key *const lists[] = { m->family->keys, hf_common_keys, hf_math_keys }, *k = NULL;
    for (int i = 0; i < 3 && !k; i++)
        k = find_in(lists[i], name);
    return k;
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

static bool is_neutral(const json_t *v, const char *word)
{
    if (!word)
        return false;
    json_t *neutral = json_loads(word, JSON_DECODE_ANY, NULL);
    CHECK(neutral);
    bool same = same_value(v, neutral);
    if (json_is_array(v) && !same) {
        size_t n = json_array_size(v), i = 0;
        while (i < n && same_value(json_array_get(v, i), neutral))
            i++;
        same = i == n;
    }
    json_decref(neutral);
    return same;
}

/* "granite, granitemoe": the families that have the key. */
static void list_owners(const char *key, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (const struct family *const *f = ir_families; *f && n < size; f++)
        if (find_in((*f)->keys, key))
            n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", (*f)->model_type);
}

static enum status check_neutral(const struct hf_model *m, const struct hf_key *k, const struct js *v)
{
    char owners[512];
    if (is_neutral(v->v, k->word))
        return ST_OK;
    if (k->why)
        return js_expected(v, m->e, "%s: %s", k->word, k->why);
    list_owners(k->name, owners, sizeof owners);
    return js_expected(v, m->e, "%s%sno such key: a %s has no %s%s%s", k->word ? k->word : "", k->word ? " or " : "",
                       m->family->model_type, k->name, *owners ? ", as has " : ", nor has any family here", owners);
}

static enum status check_noise(const struct hf_model *m, const struct hf_key *k, const struct js *v)
{
    double p;
    TRY(js_num(v, 0, 1, &p, m->e));
    if (p != 0)
        notices_add(m->notices, v->file, "%s: %s %g is not applied: it trains as 0", v->path,
                    strstr(k->name, "jitter") ? "noise" : "dropout", p);
    return ST_OK;
}

static void notice_unknown(const struct hf_model *m, const struct js *v, const char *name)
{
    const char *words[256];
    size_t n = 0;
    const struct hf_key *const lists[] = { m->family->keys, hf_common_keys };
    for (int i = 0; i < 2; i++)
        for (const struct hf_key *k = lists[i]; k->kind != HF_END && n < 255; k++)
            words[n++] = k->name;
    words[n] = NULL;
    char hint[WORDS_HINT];
    notices_add(m->notices, v->file, "%s: unknown key, ignored%s", v->path, words_hint(name, words, hint));
}

static enum status check_keys(const struct hf_model *m)
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
        else if (v.v && k->kind == HF_NOISE)
            TRY(check_noise(m, k, &v));
    }
    return ST_OK;
}

/* ---- values --------------------------------------------------------------------------------------------------- */

/* The value under the key or one of its aliases. */
static enum status find_value(const struct hf_model *m, const char *key, struct js *out)
{
    *out = hf_get(m, key);
    for (const struct hf_key *k = m->family->keys; k->kind != HF_END; k++) {
        if (k->kind != HF_ALIAS || strcmp(k->word, key) != 0)
            continue;
        struct js other = hf_get(m, k->name);
        if (out->v && other.v && !same_value(out->v, other.v))
            return js_expected(&other, m->e, "the value of %s, another name of the same key", key);
        if (!out->v && other.v)
            *out = other;
    }
    return ST_OK;
}

static enum status read_one(const struct hf_model *m, const struct hf_key *k, void *field)
{
    struct js v;
    TRY(find_value(m, k->name, &v));
    if (k->kind == HF_SIZE || k->kind == HF_COUNT) {
        int64_t x = k->none && hf_is_null(m, k->name) ? 0 : (int64_t)k->dflt;
        if (v.v)
            TRY(js_int(&v, k->kind == HF_SIZE, INT32_MAX, &x, m->e));
        *(uint32_t *)field = (uint32_t)x;
    } else if (k->kind == HF_NUMBER) {
        double x = k->none && hf_is_null(m, k->name) ? 0 : k->dflt;
        if (v.v)
            TRY(js_num(&v, k->range[0], k->range[1], &x, m->e));
        *(double *)field = x;
    } else if (k->kind == HF_FLAG) {
        bool x = k->dflt != 0;
        if (v.v)
            TRY(js_bool(&v, &x, m->e));
        *(bool *)field = x;
    } else if (k->kind == HF_WORD) {
        const char *x = k->word;
        if (v.v)
            TRY(js_str(&v, &x, m->e));
        *(const char **)field = x;
    }
    return ST_OK;
}

enum status hf_read(struct hf_model *m)
{
    struct quantization stored;
    TRY(check_keys(m));
    TRY(quantization_read(&m->js, &stored, m->e));
    for (const struct hf_key *k = m->family->keys; k->kind != HF_END; k++)
        TRY(read_one(m, k, (char *)&m->c + k->at));
    return ST_OK;
}
