#include "io/job_train.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "ir/op.h"

enum kind { U32, U64, F64, BOOL, WORD, PATH };

static const char *dtype_word(uint32_t i)
{
    return i == 0 ? "float32" : i == 1 ? "bfloat16" : NULL;
}

/* One setting: its dataset and its place in the struct. Words are numbered from 0. `later`: files of older programs lack it,
 * which means the default, and with that it does not count for the digest. */
static const struct setting {
    const char *name, *units;
    size_t offset;
    enum kind kind;
    const char *(*word)(uint32_t number);
    bool later;
} settings[] = {
#define AT(field) offsetof(struct train_config, field)
    { "optimizer", NULL, AT(optimizer), WORD, optimizer_name, false },
    { "beta1", NULL, AT(beta1), F64, NULL, false },
    { "beta2", NULL, AT(beta2), F64, NULL, false },
    { "eps", NULL, AT(eps), F64, NULL, false },
    { "weight_decay", NULL, AT(weight_decay), F64, NULL, false },
    { "lr_kind", NULL, AT(lr_kind), WORD, train_lr_name, false },
    { "lr_peak", NULL, AT(lr_peak), F64, NULL, false },
    { "lr_min", NULL, AT(lr_min), F64, NULL, false },
    { "warmup_steps", "steps", AT(warmup_steps), U64, NULL, false },
    { "decay_steps", "steps", AT(decay_steps), U64, NULL, false },
    { "clip_norm", NULL, AT(clip_norm), F64, NULL, false },
    { "moe_router_bias_update_rate", NULL, AT(bias_update_rate), F64, NULL, true },
    { "batch_size", "sequences", AT(batch_size), U32, NULL, false },
    { "seq_len", "tokens", AT(seq_len), U32, NULL, false },
    { "steps", "steps", AT(steps), U64, NULL, false },
    { "epochs", "epochs", AT(epochs), F64, NULL, true },
    { "seed", NULL, AT(seed), U64, NULL, false },
    { "dtype", NULL, AT(dtype), WORD, dtype_word, false },
    { "data", NULL, AT(data.at[0].path), PATH, NULL, false },
    { "documents", NULL, AT(documents), WORD, train_documents_name, true },
    { "shuffle", NULL, AT(shuffle), BOOL, NULL, false },
    { "eval_data", NULL, AT(eval_data.at[0].path), PATH, NULL, false },
    { "eval_every", "steps", AT(eval_every), U64, NULL, false },
    { "checkpoint_every", "steps", AT(checkpoint_every), U64, NULL, false },
    { "checkpoint_minutes", "minutes", AT(checkpoint_minutes), F64, NULL, true },
    { "checkpoint_keep", "checkpoints", AT(checkpoint_keep), U64, NULL, false },
    { "checkpoint_keep_every", "steps", AT(checkpoint_keep_every), U64, NULL, false },
    { "sample_every", "steps", AT(sample_every), U64, NULL, true },
    { "sample_tokens", "tokens", AT(sample_tokens), U64, NULL, true },
#undef AT
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

/* dtype counts in enum ir_dtype; its words are numbered from 0. */
static uint32_t to_number(const struct setting *s, uint32_t value)
{
    return s->word == dtype_word ? (value == IR_F32 ? 0 : value == IR_BF16 ? 1 : UINT32_MAX) : value;
}

static uint32_t to_value(const struct setting *s, uint32_t number)
{
    return s->word == dtype_word ? (number == 0 ? IR_F32 : IR_BF16) : number;
}

/* Of a number. */
static size_t size_of(const struct setting *s)
{
    return s->kind == F64 || s->kind == U64 ? 8 : s->kind == BOOL ? sizeof(bool) : 4;
}

static const void *field(const struct train_config *t, const struct setting *s)
{
    return (const char *)t + s->offset;
}

/* What says that there are several, or that one has a name: then these count, and the setting of the one path is "". */
static const struct sources {
    const char *paths, *names, *weights; /* weights: NULL: they have none */
    size_t offset;
} sources[] = {
    { "data_paths", "data_names", "data_weights", offsetof(struct train_config, data) },
    { "eval_paths", "eval_names", NULL, offsetof(struct train_config, eval_data) },
};
enum { SOURCES = sizeof sources / sizeof sources[0] };

static bool is_plain(const struct train_sources *s)
{
    return s->n == 0 || (s->n == 1 && !*s->at[0].name);
}

/* The path of a single file without a name. */
static const char *single_path(const struct train_config *t, const struct setting *s)
{
    const struct train_sources *x = s->offset == offsetof(struct train_config, data.at[0].path) ? &t->data
                                                                                                : &t->eval_data;
    return x->n == 1 && is_plain(x) ? x->at[0].path : "";
}

static enum status put_setting(const struct h5_at *at, const struct setting *s, const struct train_config *t,
                               struct err *e)
{
    struct h5_data d = { .name = s->name, .units = s->units };
    const void *x = field(t, s);
    switch (s->kind) {
    case U32:
        return h5_put(at, &d, H5_U32, x, e);
    case U64:
        return h5_put(at, &d, H5_U64, x, e);
    case F64:
        return h5_put(at, &d, H5_F64, x, e);
    case BOOL:
        return h5_put(at, &d, H5_U8, &(uint8_t){ *(const bool *)x }, e);
    case WORD:
        return h5_put_text(at, s->name, s->word(to_number(s, *(const uint32_t *)x)), e);
    case PATH:
        return h5_put_text(at, s->name, single_path(t, s), e);
    }
    return ST_BUG;
}

static enum status put_sources(const struct h5_at *at, const struct sources *what, const struct train_config *t,
                               struct err *e)
{
    const struct train_sources *s = (const void *)((const char *)t + what->offset);
    const char *paths[TRAIN_SOURCES_MAX], *names[TRAIN_SOURCES_MAX];
    double weights[TRAIN_SOURCES_MAX];
    if (is_plain(s))
        return ST_OK;
    for (uint32_t i = 0; i < s->n; i++) {
        paths[i] = s->at[i].path;
        names[i] = s->at[i].name;
        weights[i] = s->at[i].weight;
    }
    struct h5_data d = { .name = what->weights, .rank = 1, .dim = { s->n } };
    TRY(h5_put_strings(at, what->paths, paths, s->n, e));
    TRY(h5_put_strings(at, what->names, names, s->n, e));
    return what->weights && weights[0] > 0 ? h5_put(at, &d, H5_F64, weights, e) : ST_OK;
}

static enum status copy_text(const struct h5_at *at, const char *name, const char *text, char *to, size_t size,
                             struct err *e)
{
    if (strlen(text) >= size)
        return err_set(e, ST_INPUT, at->where, "%s has a text of %zu bytes, expected fewer than %zu", name,
                       strlen(text), size);
    strcpy(to, text);
    return ST_OK;
}

static enum status get_sources(const struct h5_at *at, const struct sources *what, struct train_config *t,
                               struct arena *a, struct err *e)
{
    struct train_sources *s = (void *)((char *)t + what->offset);
    const char **paths, **names;
    double *weights;
    uint64_t n = H5_ANY;
    s->n = s->at[0].path[0] != '\0';
    if (!h5_has(at, what->paths))
        return ST_OK;
    TRY(h5_get_strings(at, what->paths, &n, a, &paths, e));
    if (n < 1 || n > TRAIN_SOURCES_MAX || s->n)
        return err_set(e, ST_INPUT, at->where, "%s: found %" PRIu64 " files, expected 1 to %d and no other path",
                       what->paths, n, TRAIN_SOURCES_MAX);
    TRY(h5_get_strings(at, what->names, &n, a, &names, e));
    struct h5_data d = { .name = what->weights, .rank = 1, .dim = { n } };
    const bool weighted = what->weights && h5_has(at, what->weights);
    if (weighted)
        TRY(h5_get_f64(at, &d, a, &weights, e));
    s->n = (uint32_t)n;
    for (uint32_t i = 0; i < s->n; i++) {
        TRY(copy_text(at, what->paths, paths[i], s->at[i].path, TRAIN_PATH_BYTES, e));
        TRY(copy_text(at, what->names, names[i], s->at[i].name, TRAIN_NAME_BYTES, e));
        s->at[i].weight = weighted ? weights[i] : 0;
    }
    return ST_OK;
}

static void hash_sources(const struct sources *what, const struct train_config *t, struct sha256 *to)
{
    const struct train_sources *s = (const void *)((const char *)t + what->offset);
    if (is_plain(s))
        return;
    sha256_add_text(to, what->paths);
    sha256_add_u64(to, s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        sha256_add_text(to, s->at[i].path);
        sha256_add_text(to, s->at[i].name);
        sha256_add_f64(to, s->at[i].weight);
    }
}

/* ---- lists of texts: as many as there are, or no dataset ---- */

static const struct texts {
    const char *name;
    size_t count, at; /* offsets of uint32_t and of the first text */
    uint32_t most;
    size_t size; /* bytes of a text */
} lists[] = {
    { "sample_prompts", offsetof(struct train_config, n_sample_prompts), offsetof(struct train_config, sample_prompts),
      TRAIN_PROMPTS_MAX, TRAIN_PROMPT_BYTES },
    { "freeze", offsetof(struct train_config, n_freeze), offsetof(struct train_config, freeze), TRAIN_FREEZE_MAX,
      TRAIN_FREEZE_BYTES },
};
enum { LISTS = sizeof lists / sizeof *lists };
_Static_assert((int)TRAIN_PROMPTS_MAX <= (int)TRAIN_FREEZE_MAX, "put_texts() has room for the longest list");

static uint32_t count_of(const struct train_config *t, const struct texts *what)
{
    return *(const uint32_t *)(const void *)((const char *)t + what->count);
}

static const char *text_of(const struct train_config *t, const struct texts *what, uint32_t i)
{
    return (const char *)t + what->at + i * what->size;
}

static enum status put_texts(const struct h5_at *at, const struct texts *what, const struct train_config *t,
                             struct err *e)
{
    const char *texts[TRAIN_FREEZE_MAX];
    const uint32_t n = count_of(t, what);
    for (uint32_t i = 0; i < n; i++)
        texts[i] = text_of(t, what, i);
    return n ? h5_put_strings(at, what->name, texts, n, e) : ST_OK;
}

static enum status get_texts(const struct h5_at *at, const struct texts *what, struct train_config *t, struct arena *a,
                             struct err *e)
{
    const char **texts;
    uint64_t n = H5_ANY;
    if (!h5_has(at, what->name))
        return ST_OK;
    TRY(h5_get_strings(at, what->name, &n, a, &texts, e));
    if (n > what->most)
        return err_set(e, ST_INPUT, at->where, "%s: found %" PRIu64 " texts, expected at most %u", what->name, n,
                       what->most);
    *(uint32_t *)(void *)((char *)t + what->count) = (uint32_t)n;
    for (uint32_t i = 0; i < n; i++)
        TRY(copy_text(at, what->name, texts[i], (char *)t + what->at + i * what->size, what->size, e));
    return ST_OK;
}

static void hash_texts(const struct texts *what, const struct train_config *t, struct sha256 *to)
{
    const uint32_t n = count_of(t, what);
    if (!n)
        return;
    sha256_add_text(to, what->name);
    sha256_add_u64(to, n);
    for (uint32_t i = 0; i < n; i++)
        sha256_add_text(to, text_of(t, what, i));
}

/* ---- all of it ---- */

enum status job__train_put(const struct h5_at *at, const struct train_config *t, struct err *e)
{
    for (int i = 0; i < SETTINGS; i++)
        TRY(put_setting(at, &settings[i], t, e));
    for (int i = 0; i < SOURCES; i++)
        TRY(put_sources(at, &sources[i], t, e));
    for (int i = 0; i < LISTS; i++)
        TRY(put_texts(at, &lists[i], t, e));
    struct h5_data d = { .name = "trace_steps", .units = "steps", .rank = 1, .dim = { t->n_trace_steps } };
    return h5_put(at, &d, H5_U64, t->trace_steps, e);
}

static enum status get_text_setting(const struct h5_at *at, const struct setting *s, struct train_config *t,
                                    struct arena *a, struct err *e)
{
    const char *text;
    void *x = (char *)t + s->offset;
    TRY(h5_get_text(at, s->name, a, &text, e));
    if (s->kind == PATH) {
        if (strlen(text) >= TRAIN_PATH_BYTES)
            return err_set(e, ST_INPUT, at->where, "%s has %zu bytes, expected fewer than %d", s->name, strlen(text),
                           TRAIN_PATH_BYTES);
        strcpy(x, text);
        return ST_OK;
    }
    for (uint32_t i = 0; s->word(i); i++)
        if (strcmp(s->word(i), text) == 0) {
            *(uint32_t *)x = to_value(s, i);
            return ST_OK;
        }
    return err_set(e, ST_INPUT, at->where, "%s: found \"%.100s\", expected %s, %s or the like: see piper-job(5)",
                   s->name, text, s->word(0), s->word(1));
}

static enum status get_setting(const struct h5_at *at, const struct setting *s, struct train_config *t, struct arena *a,
                               struct err *e)
{
    if (s->kind == WORD || s->kind == PATH)
        return get_text_setting(at, s, t, a, e);
    struct h5_data d = { .name = s->name };
    void *x = (char *)t + s->offset;
    if (s->kind == F64) {
        double *v;
        TRY(h5_get_f64(at, &d, a, &v, e));
        *(double *)x = *v;
        return ST_OK;
    }
    int64_t *v;
    TRY(h5_get_i64(at, &d, 0, s->kind == BOOL ? 1 : s->kind == U32 ? UINT32_MAX : INT64_MAX - 1, a, &v, e));
    if (s->kind == BOOL)
        *(bool *)x = *v != 0;
    else if (s->kind == U32)
        *(uint32_t *)x = (uint32_t)*v;
    else
        *(uint64_t *)x = (uint64_t)*v;
    return ST_OK;
}

static enum status get_trace_steps(const struct h5_at *at, struct train_config *t, struct arena *a, struct err *e)
{
    struct h5_data d = { .name = "trace_steps", .rank = 1, .dim = { H5_ANY } };
    int64_t *v;
    TRY(h5_get_i64(at, &d, 1, INT64_MAX - 1, a, &v, e));
    if (d.dim[0] > TRAIN_TRACE_MAX)
        return err_set(e, ST_INPUT, at->where, "trace_steps: found %" PRIu64 " steps, expected at most %d", d.dim[0],
                       TRAIN_TRACE_MAX);
    t->n_trace_steps = (uint32_t)d.dim[0];
    for (uint32_t i = 0; i < t->n_trace_steps; i++)
        t->trace_steps[i] = (uint64_t)v[i];
    return ST_OK;
}

enum status job__train_get(const struct h5_at *at, struct train_config *t, struct err *e)
{
    const char *known[SETTINGS + 3 * SOURCES + LISTS + 2] = { "trace_steps" };
    int n = 1;
    for (int i = 0; i < LISTS; i++)
        known[n++] = lists[i].name;
    for (int i = 0; i < SETTINGS; i++)
        known[n++] = settings[i].name;
    for (int i = 0; i < SOURCES; i++) {
        known[n++] = sources[i].paths;
        known[n++] = sources[i].names;
        if (sources[i].weights)
            known[n++] = sources[i].weights;
    }
    TRY(h5_only(at, known, e));
    struct arena a;
    arena_init(&a);
    train_config_default(t);
    enum status st = ST_OK;
    for (int i = 0; st == ST_OK && i < SETTINGS; i++)
        if (!settings[i].later || h5_has(at, settings[i].name))
            st = get_setting(at, &settings[i], t, &a, e);
    for (int i = 0; st == ST_OK && i < SOURCES; i++)
        st = get_sources(at, &sources[i], t, &a, e);
    for (int i = 0; st == ST_OK && i < LISTS; i++)
        st = get_texts(at, &lists[i], t, &a, e);
    if (st == ST_OK)
        st = get_trace_steps(at, t, &a, e);
    arena_release(&a);
    return st;
}

void job__train_hash(const struct train_config *t, struct sha256 *s)
{
    struct train_config usual;
    train_config_default(&usual);
    for (int i = 0; i < SETTINGS; i++) {
        const void *x = field(t, &settings[i]);
        if (settings[i].later && memcmp(x, field(&usual, &settings[i]), size_of(&settings[i])) == 0)
            continue;
        sha256_add_text(s, settings[i].name);
        switch (settings[i].kind) {
        case U32:
        case WORD:
            sha256_add_u64(s, *(const uint32_t *)x);
            break;
        case U64:
            sha256_add_u64(s, *(const uint64_t *)x);
            break;
        case F64:
            sha256_add_f64(s, *(const double *)x);
            break;
        case BOOL:
            sha256_add_u64(s, *(const bool *)x);
            break;
        case PATH:
            sha256_add_text(s, single_path(t, &settings[i]));
            break;
        }
    }
    for (int i = 0; i < SOURCES; i++)
        hash_sources(&sources[i], t, s);
    for (int i = 0; i < LISTS; i++)
        hash_texts(&lists[i], t, s);
    sha256_add_u64(s, t->n_trace_steps);
    for (uint32_t i = 0; i < t->n_trace_steps; i++)
        sha256_add_u64(s, t->trace_steps[i]);
}
