#include "job/config.h"

#include <math.h>
#include <stdio.h>

#include "io/checkpoint.h"
#include "ir/op.h"

static const int64_t many = (int64_t)1 << 53;

/* ---- train.json ----------------------------------------------------------------------------------------------- */

static enum status read_optimizer(const struct js *root, struct train_config *c, struct err *e)
{
    static const char *const keys[] = { "kind", "betas", "eps", "weight_decay", NULL };
    struct js o, v;
    const char *names[OPTIMIZERS + 1] = { NULL };
    for (uint32_t i = 0; i < OPTIMIZERS; i++)
        names[i] = optimizer_name(i);
    TRY(js_opt(root, "optimizer", &o, e));
    if (!o.v)
        return ST_OK;
    if (!json_is_object(o.v))
        return js_expected(&o, e, "an object such as {\"kind\": \"%s\"}", names[OPT_ADAMW]);
    TRY(js_only(&o, keys, e));
    TRY(js_word_or(&o, "kind", names, OPT_ADAMW, &c->optimizer, e));
    c->weight_decay = optimizer_info[c->optimizer].weight_decay;
    TRY(js_opt(&o, "betas", &v, e));
    if (v.v) {
        uint32_t n;
        TRY(js_count(&v, &n, e));
        if (n != 2)
            return js_expected(&v, e, "a list of two numbers");
        for (uint32_t i = 0; i < n; i++) {
            struct js beta = js_at(&v, i);
            double *x = i ? &c->beta2 : &c->beta1;
            TRY(js_num(&beta, 0, 1, x, e));
            if (*x == 1)
                return js_expected(&beta, e, "a number below 1");
        }
    }
    TRY(js_num_or(&o, "eps", 1e-30, 1, c->eps, &c->eps, e));
    return js_num_or(&o, "weight_decay", 0, 1e6, c->weight_decay, &c->weight_decay, e);
}

static enum status count_or(const struct js *o, const char *key, int64_t lo, uint64_t *x, struct err *e)
{
    int64_t found;
    TRY(js_int_or(o, key, lo, many - 1, (int64_t)*x, &found, e));
    *x = (uint64_t)found;
    return ST_OK;
}

static enum status read_lr(const struct js *root, struct train_config *c, struct err *e)
{
    static const char *const keys[] = { "kind", "peak", "min", "warmup_steps", "decay_steps", NULL };
    struct js o, v;
    TRY(js_opt(root, "lr", &o, e));
    if (!o.v)
        return ST_OK;
    if (json_is_number(o.v))
        return js_num(&o, 0, 1e6, &c->lr_peak, e);
    if (!json_is_object(o.v))
        return js_expected(&o, e, "a number, or an object such as {\"kind\": \"cosine\", \"peak\": 3e-4}");
    TRY(js_only(&o, keys, e));
    TRY(js_word_or(&o, "kind", train_lr_names, LR_CONSTANT, &c->lr_kind, e));
    TRY(js_num_or(&o, "peak", 0, 1e6, c->lr_peak, &c->lr_peak, e));
    TRY(js_num_or(&o, "min", 0, c->lr_peak, 0, &c->lr_min, e));
    TRY(count_or(&o, "warmup_steps", 0, &c->warmup_steps, e));
    TRY(js_opt(&o, "decay_steps", &v, e));
    if (v.v && c->lr_kind != LR_WSD)
        return js_wrong(&v, e, "applies to the kind wsd only; %s decays until the last step",
                        train_lr_name(c->lr_kind));
    return count_or(&o, "decay_steps", 1, &c->decay_steps, e);
}

/* ---- data ---- */

static enum status read_path(const struct js *v, struct train_source *s, struct err *e)
{
    const char *text;
    TRY(js_str(v, &text, e));
    if (!*text || strlen(text) >= TRAIN_PATH_BYTES)
        return js_expected(v, e, "a file name of 1 to %d bytes", TRAIN_PATH_BYTES - 1);
    strcpy(s->path, text);
    return ST_OK;
}

static enum status name_source(const struct js *v, const char *name, struct train_sources *to, uint32_t i,
                               struct err *e)
{
    if (!train_is_source_name(name))
        return js_wrong(v, e,
                        "the name \"%.80s\" is not possible, expected 1 to %d bytes without " TRAIN_NAME_WITHOUT "%s",
                        name, TRAIN_NAME_BYTES - 1, json_is_array(v->v) ? "" : "; [weight, file, name] gives one");
    for (uint32_t k = 0; k < i; k++)
        if (strcmp(to->at[k].name, name) == 0)
            return js_wrong(v, e, "the name %s appears twice; give another one as in [weight, file, name]", name);
    strcpy(to->at[i].name, name);
    return ST_OK;
}

/* "file", [weight, "file"] or [weight, "file", "name"]. */
static enum status read_source(const struct js *v, struct train_sources *to, uint32_t i, struct err *e)
{
    struct train_source *s = &to->at[i];
    char stem[CHECKPOINT_NAME];
    const char *name = stem;
    uint32_t n = 0;
    struct js part;
    if (json_is_array(v->v)) {
        TRY(js_count(v, &n, e));
        if (n < 2 || n > 3)
            return js_expected(v, e, "[weight, file] or [weight, file, name]");
        part = js_at(v, 0);
        TRY(js_num(&part, 1e-9, 1e9, &s->weight, e));
        part = js_at(v, 1);
        TRY(read_path(&part, s, e));
    } else if (json_is_string(v->v)) {
        TRY(read_path(v, s, e));
    } else {
        return js_expected(v, e, "a file name, [weight, file] or [weight, file, name]");
    }
    if ((s->weight > 0) != (to->at[0].weight > 0))
        return js_expected(v, e, "[weight, file] for all files, or for none of them");
    checkpoint_source_name(s->path, stem);
    if (n == 3) {
        part = js_at(v, 2);
        TRY(js_str(&part, &name, e));
    }
    return name_source(v, name, to, i, e);
}

static enum status read_data(const struct js *root, struct train_config *c, struct err *e)
{
    struct js v;
    struct train_sources *to = &c->data;
    TRY(js_opt(root, "data", &v, e));
    if (!v.v)
        return ST_OK;
    to->n = 1;
    if (json_is_string(v.v))
        return read_path(&v, &to->at[0], e);
    if (!json_is_array(v.v))
        return js_expected(&v, e, "a file name, a list of them, or a list of [weight, file]");
    TRY(js_count(&v, &to->n, e));
    if (to->n < 1 || to->n > TRAIN_SOURCES_MAX)
        return js_expected(&v, e, "1 to %d token files (`piper data import` makes one of many)", TRAIN_SOURCES_MAX);
    for (uint32_t i = 0; i < to->n; i++) {
        struct js entry = js_at(&v, i);
        TRY(read_source(&entry, to, i, e));
    }
    return ST_OK;
}

static enum status read_eval_data(const struct js *root, struct train_config *c, struct err *e)
{
    struct js v;
    struct train_sources *to = &c->eval_data;
    const char *name;
    json_t *path;
    TRY(js_opt(root, "eval_data", &v, e));
    if (!v.v)
        return ST_OK;
    if (json_is_string(v.v)) {
        to->n = 1;
        return read_path(&v, &to->at[0], e);
    }
    if (!json_is_object(v.v))
        return js_expected(&v, e, "a file name, or an object of them: {\"name\": \"file\", ...}");
    if (json_object_size(v.v) < 1 || json_object_size(v.v) > TRAIN_SOURCES_MAX)
        return js_expected(&v, e, "1 to %d token files", TRAIN_SOURCES_MAX);
    json_object_foreach(v.v, name, path)
    {
        struct js entry;
        TRY(js_need(&v, name, &entry, e));
        TRY(read_path(&entry, &to->at[to->n], e));
        TRY(name_source(&entry, name, to, to->n, e));
        to->n++;
    }
    return ST_OK;
}

static enum status read_documents(const struct js *root, struct train_config *c, struct err *e)
{
    struct js v;
    const char *word;
    TRY(js_opt(root, "documents", &v, e));
    TRY(js_str_or(root, "documents", train_documents_name(DOCUMENTS_JOIN), &word, e));
    for (c->documents = 0; train_documents_name(c->documents);)
        if (strcmp(train_documents_name(c->documents++), word) == 0) {
            c->documents--;
            return ST_OK;
        }
    return js_expected(&v, e, "\"join\" or \"separate\"");
}

static enum status read_trace(const struct js *root, struct train_config *c, struct err *e)
{
    struct js list;
    TRY(js_opt(root, "trace_steps", &list, e));
    if (!list.v)
        return ST_OK;
    TRY(js_count(&list, &c->n_trace_steps, e));
    if (c->n_trace_steps > TRAIN_TRACE_MAX)
        return js_expected(&list, e, "at most %d steps", TRAIN_TRACE_MAX);
    for (uint32_t i = 0; i < c->n_trace_steps; i++) {
        struct js v = js_at(&list, i);
        int64_t step;
        TRY(js_int(&v, i ? (int64_t)c->trace_steps[i - 1] + 1 : 1, many - 1, &step, e));
        c->trace_steps[i] = (uint64_t)step;
    }
    return ST_OK;
}

/* A list of at most `most` texts, in places of `size` bytes. */
static enum status read_texts(const struct js *root, const char *key, uint32_t most, size_t size, char *to,
                              uint32_t *count, struct err *e)
{
    struct js list;
    TRY(js_opt(root, key, &list, e));
    if (!list.v)
        return ST_OK;
    TRY(js_count(&list, count, e));
    if (*count > most)
        return js_expected(&list, e, "at most %u texts", most);
    for (uint32_t i = 0; i < *count; i++) {
        struct js v = js_at(&list, i);
        const char *text;
        TRY(js_str(&v, &text, e));
        if (!*text || strlen(text) >= size)
            return js_expected(&v, e, "a text of 1 to %zu bytes", size - 1);
        strcpy(to + i * size, text);
    }
    return ST_OK;
}

static enum status read_samples(const struct js *root, struct train_config *c, struct err *e)
{
    struct js every;
    int64_t tokens;
    TRY(count_or(root, "sample_every", 0, &c->sample_every, e));
    TRY(js_int_or(root, "sample_tokens", 1, TRAIN_SAMPLE_TOKENS, 64, &tokens, e));
    c->sample_tokens = (uint64_t)tokens;
    TRY(read_texts(root, "sample_prompts", TRAIN_PROMPTS_MAX, TRAIN_PROMPT_BYTES, *c->sample_prompts,
                   &c->n_sample_prompts, e));
    TRY(js_opt(root, "sample_every", &every, e));
    return c->sample_every && !c->n_sample_prompts
               ? js_wrong(&every, e, "requires sample_prompts: a list of texts that the model is to continue")
               : ST_OK;
}

static enum status read_dtype(const struct js *root, struct train_config *c, struct err *e)
{
    static const enum ir_dtype types[] = { IR_F32, IR_BF16 };
    const char *const names[] = { ir_dtype_name(IR_F32), ir_dtype_name(IR_BF16), NULL };
    uint32_t which;
    TRY(js_word_or(root, "dtype", names, 0, &which, e));
    c->dtype = types[which];
    return ST_OK;
}

/* How long the run is: exactly one of steps, tokens, epochs. */
static enum status read_length(const struct js *root, struct train_config *c, struct err *e)
{
    struct js steps, tokens, epochs;
    int64_t x;
    TRY(js_opt(root, "steps", &steps, e));
    TRY(js_opt(root, "tokens", &tokens, e));
    TRY(js_opt(root, "epochs", &epochs, e));
    if (!steps.v && !tokens.v && !epochs.v)
        return js_need(root, "steps", &steps, e);
    if (!!steps.v + !!tokens.v + !!epochs.v > 1)
        return js_wrong(steps.v && tokens.v ? &tokens : &epochs, e,
                        "conflicts with %s: one of steps, tokens and epochs gives the length of the run",
                        steps.v ? "steps" : "tokens");
    if (epochs.v)
        return js_num(&epochs, 1e-6, 1e9, &c->epochs, e);
    TRY(js_int(steps.v ? &steps : &tokens, 1, many - 1, &x, e));
    uint64_t step = tokens.v ? (uint64_t)c->batch_size * c->seq_len : 1;
    c->steps = ((uint64_t)x + step - 1) / step;
    return ST_OK;
}

static enum status read_sizes(const struct js *root, struct train_config *c, struct err *e)
{
    struct js v;
    int64_t x;
    TRY(js_need(root, "batch_size", &v, e));
    TRY(js_int(&v, 1, INT32_MAX, &x, e));
    c->batch_size = (uint32_t)x;
    TRY(js_need(root, "seq_len", &v, e));
    TRY(js_int(&v, 1, INT32_MAX, &x, e));
    c->seq_len = (uint32_t)x;
    return read_length(root, c, e);
}

enum status config_parse(json_t *train, const char *file, struct train_config *c, struct err *e)
{
    static const char *const keys[] = { "optimizer",
                                        "lr",
                                        "clip_norm",
                                        "moe_router_bias_update_rate",
                                        "freeze",
                                        "batch_size",
                                        "seq_len",
                                        "steps",
                                        "tokens",
                                        "epochs",
                                        "seed",
                                        "dtype",
                                        "data",
                                        "documents",
                                        "shuffle",
                                        "eval_data",
                                        "eval_every",
                                        "checkpoint_every",
                                        "checkpoint_minutes",
                                        "checkpoint_keep",
                                        "checkpoint_keep_every",
                                        "sample_every",
                                        "sample_prompts",
                                        "sample_tokens",
                                        "trace_steps",
                                        NULL };
    struct js root = js_root(train, file), v;
    train_config_default(c);
    TRY(js_only(&root, keys, e));
    TRY(read_sizes(&root, c, e));
    TRY(read_optimizer(&root, c, e));
    TRY(read_lr(&root, c, e));
    TRY(js_num_or(&root, "clip_norm", 0, 1e30, 0, &c->clip_norm, e));
    TRY(js_num_or(&root, "moe_router_bias_update_rate", 0, 1e6, 0, &c->bias_update_rate, e));
    TRY(read_texts(&root, "freeze", TRAIN_FREEZE_MAX, TRAIN_FREEZE_BYTES, *c->freeze, &c->n_freeze, e));
    TRY(count_or(&root, "seed", 0, &c->seed, e));
    TRY(read_dtype(&root, c, e));
    TRY(read_data(&root, c, e));
    TRY(read_documents(&root, c, e));
    TRY(js_bool_or(&root, "shuffle", true, &c->shuffle, e));
    TRY(read_eval_data(&root, c, e));
    TRY(count_or(&root, "eval_every", 0, &c->eval_every, e));
    if (c->eval_every && !c->eval_data.n) {
        TRY(js_opt(&root, "eval_every", &v, e));
        return js_wrong(&v, e, "requires eval_data: name a token file there, or drop eval_every");
    }
    TRY(count_or(&root, "checkpoint_every", 0, &c->checkpoint_every, e));
    TRY(js_num_or(&root, "checkpoint_minutes", 0, 1e6, c->checkpoint_minutes, &c->checkpoint_minutes, e));
    TRY(count_or(&root, "checkpoint_keep", 1, &c->checkpoint_keep, e));
    TRY(count_or(&root, "checkpoint_keep_every", 0, &c->checkpoint_keep_every, e));
    TRY(read_samples(&root, c, e));
    TRY(read_trace(&root, c, e));
    return train_config_validate(c, file, e);
}

/* ---- notes ---------------------------------------------------------------------------------------------------- */

void config_notes(const struct train_config *c, const char *file, struct notices *n)
{
    if (c->optimizer == OPT_ADAMW && c->lr_peak > 0.1)
        notices_add(n, file, "$.lr: %g is a large learning rate for adamw, for which 1e-5 to 1e-2 is usual",
                    c->lr_peak);
    if (c->steps && c->warmup_steps > c->steps)
        notices_add(n, file,
                    "$.lr.warmup_steps: the warm-up (%llu steps) is longer than the run (%llu steps): the learning "
                    "rate ends at %g and never reaches its peak %g",
                    (unsigned long long)c->warmup_steps, (unsigned long long)c->steps, config_lr(c, c->steps),
                    c->lr_peak);
}

/* ---- learning rate -------------------------------------------------------------------------------------------- */

double config_lr(const struct train_config *c, uint64_t step)
{
    const double p = c->lr_peak, q = c->lr_min, n = (double)c->warmup_steps, last = (double)c->steps;
    const double s = step < c->steps ? (double)step : last;
    if (s <= n)
        return p * s / n;
    switch (c->lr_kind) {
    case LR_CONSTANT:
        return p;
    case LR_LINEAR:
        return q + (p - q) * (last - s) / (last - n);
    case LR_COSINE:
        return q + (p - q) * (1 + cos(3.14159265358979323846 * (s - n) / (last - n))) / 2;
    default: {
        uint64_t tenth = c->steps / 10 ? c->steps / 10 : 1;
        double d = fmin((double)(c->decay_steps ? c->decay_steps : tenth), last - n);
        return s <= last - d ? p : q + (p - q) * (last - s) / d;
    }
    }
}
