#include "job/config.h"

#include <math.h>
#include <stdio.h>

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

static enum status read_path(const struct js *root, const char *key, char path[TRAIN_PATH_BYTES], struct err *e)
{
    struct js v;
    const char *text;
    TRY(js_opt(root, key, &v, e));
    if (!v.v)
        return ST_OK;
    TRY(js_str(&v, &text, e));
    if (!*text || strlen(text) >= TRAIN_PATH_BYTES)
        return js_expected(&v, e, "a file name of 1 to %d bytes", TRAIN_PATH_BYTES - 1);
    memcpy(path, text, strlen(text) + 1);
    return ST_OK;
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

static enum status read_dtype(const struct js *root, struct train_config *c, struct err *e)
{
    static const enum ir_dtype types[] = { IR_F32, IR_BF16 };
    const char *const names[] = { ir_dtype_name(IR_F32), ir_dtype_name(IR_BF16), NULL };
    uint32_t which;
    TRY(js_word_or(root, "dtype", names, 0, &which, e));
    c->dtype = types[which];
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
    TRY(js_need(root, "steps", &v, e));
    TRY(js_int(&v, 1, many - 1, &x, e));
    c->steps = (uint64_t)x;
    return ST_OK;
}

enum status config_parse(json_t *train, const char *file, struct train_config *c, struct err *e)
{
    static const char *const keys[] = { "optimizer",
                                        "lr",
                                        "clip_norm",
                                        "moe_router_bias_update_rate",
                                        "batch_size",
                                        "seq_len",
                                        "steps",
                                        "seed",
                                        "dtype",
                                        "data",
                                        "shuffle",
                                        "eval_data",
                                        "eval_every",
                                        "checkpoint_every",
                                        "checkpoint_minutes",
                                        "checkpoint_keep",
                                        "checkpoint_keep_every",
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
    TRY(count_or(&root, "seed", 0, &c->seed, e));
    TRY(read_dtype(&root, c, e));
    TRY(read_path(&root, "data", c->data, e));
    TRY(js_bool_or(&root, "shuffle", true, &c->shuffle, e));
    TRY(read_path(&root, "eval_data", c->eval_data, e));
    TRY(count_or(&root, "eval_every", 0, &c->eval_every, e));
    if (c->eval_every && !c->eval_data[0]) {
        TRY(js_opt(&root, "eval_every", &v, e));
        return js_wrong(&v, e, "requires eval_data: name a token file there, or drop eval_every");
    }
    TRY(count_or(&root, "checkpoint_every", 0, &c->checkpoint_every, e));
    TRY(js_num_or(&root, "checkpoint_minutes", 0, 1e6, c->checkpoint_minutes, &c->checkpoint_minutes, e));
    TRY(count_or(&root, "checkpoint_keep", 1, &c->checkpoint_keep, e));
    TRY(count_or(&root, "checkpoint_keep_every", 0, &c->checkpoint_keep_every, e));
    TRY(read_trace(&root, c, e));
    return train_config_validate(c, file, e);
}

/* ---- notes ---------------------------------------------------------------------------------------------------- */

void config_notes(const struct train_config *c, const char *file, struct notices *n)
{
    if (c->optimizer == OPT_ADAMW && c->lr_peak > 0.1)
        notices_add(n, file, "$.lr: %g is a large learning rate for adamw, for which 1e-5 to 1e-2 is usual",
                    c->lr_peak);
    if (c->warmup_steps > c->steps)
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
