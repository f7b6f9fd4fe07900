#include "ir/train.h"

#include <math.h>
#include <string.h>

#include "ir/op.h"

const char *const train_lr_names[] = { "constant", "linear", "cosine", "wsd", NULL };

const char *train_lr_name(uint32_t kind)
{
    return kind <= LR_WSD ? train_lr_names[kind] : NULL;
}

const char *train_documents_name(uint32_t kind)
{
    return kind == DOCUMENTS_JOIN ? "join" : kind == DOCUMENTS_SEPARATE ? "separate" : NULL;
}

void train_config_default(struct train_config *c)
{
    *c = (struct train_config){ .optimizer = OPT_ADAMW,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .eps = 1e-8,
                                .weight_decay = optimizer_info[OPT_ADAMW].weight_decay,
                                .lr_kind = LR_CONSTANT,
                                .lr_peak = 3e-4,
                                .seed = 1,
                                .dtype = IR_F32,
                                .shuffle = true,
                                .checkpoint_minutes = 30,
                                .checkpoint_keep = 3,
                                .sample_tokens = 64 };
}

static bool in_range(double x, double lo, double hi)
{
    return x >= lo && x <= hi; /* false for NaN */
}

bool train_is_source_name(const char *name)
{
    char shown[TRAIN_NAME_BYTES];
    const size_t n = strnlen(name, TRAIN_NAME_BYTES);
    if (n == 0 || n == TRAIN_NAME_BYTES || name[strcspn(name, " ,\"")] != '\0')
        return false;
    memcpy(shown, name, n + 1);
    text_printable(shown);
    return strcmp(shown, name) == 0;
}

/* NULL: they are possible. */
static const char *wrong_sources(const struct train_sources *s)
{
    double sum = 0;
    if (s->n > TRAIN_SOURCES_MAX)
        return "at most 32 token files are possible; `piper data import` makes one of many";
    for (uint32_t i = 0; i < s->n; i++) {
        const struct train_source *x = &s->at[i];
        if (!*x->path || !memchr(x->path, '\0', TRAIN_PATH_BYTES))
            return "a file name must have 1 to 1023 bytes";
        if ((s->n > 1 || *x->name) && !train_is_source_name(x->name))
            return "a data source needs a name of 1 to 63 bytes without " TRAIN_NAME_WITHOUT;
        if (!in_range(x->weight, 0, 1e9) || (x->weight > 0) != (s->at[0].weight > 0))
            return "weights of data sources must be above 0 and at most 1e9, for all of them or none";
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(s->at[k].name, x->name) == 0)
                return "two data sources have the same name";
        sum += x->weight;
    }
    for (uint32_t i = 0; i < s->n && sum > 0; i++)
        if (s->at[i].weight / sum < 1e-9)
            return "the weight of a data source is below 1e-9 of their sum";
    return NULL;
}

/* n texts in places of `size` bytes, of which there are `most`. */
static bool good_texts(const char *at, uint32_t n, uint32_t most, size_t size)
{
    bool good = n <= most;
    for (uint32_t i = 0; good && i < n; i++)
        good = at[i * size] && memchr(at + i * size, '\0', size);
    return good;
}

enum status train_config_validate(const struct train_config *c, const char *where, struct err *e)
{
    const uint64_t many = (uint64_t)1 << 53;
    const char *data = wrong_sources(&c->data), *eval_data = wrong_sources(&c->eval_data);
    const struct {
        bool good;
        const char *what;
    } rules[] = {
        { optimizer_name(c->optimizer) != NULL, "unknown kind of optimizer" },
        { in_range(c->beta1, 0, 1) && c->beta1 < 1 && in_range(c->beta2, 0, 1) && c->beta2 < 1,
          "betas must be at least 0 and below 1" },
        { in_range(c->eps, 1e-30, 1), "eps must be above 0 and at most 1" },
        { in_range(c->weight_decay, 0, 1e6), "weight_decay must be from 0 to 1e6" },
        { train_lr_name(c->lr_kind) != NULL, "unknown kind of learning rate" },
        { in_range(c->lr_peak, 0, 1e6) && in_range(c->lr_min, 0, c->lr_peak),
          "lr.peak must be from 0 to 1e6, and lr.min from 0 to lr.peak" },
        { c->warmup_steps < many && c->decay_steps < many, "warmup_steps and decay_steps must be below 2^53" },
        { in_range(c->clip_norm, 0, 1e30), "clip_norm must be from 0 (none) to 1e30" },
        { in_range(c->bias_update_rate, 0, 1e6), "moe_router_bias_update_rate must be from 0 (none) to 1e6" },
        { c->batch_size >= 1 && c->batch_size <= INT32_MAX, "batch_size must be from 1 to 2^31-1" },
        { c->seq_len >= 1 && c->seq_len <= INT32_MAX, "seq_len must be from 1 to 2^31-1" },
        { (c->steps >= 1 || c->epochs > 0) && c->steps < many, "steps must be from 1 to 2^53" },
        { in_range(c->epochs, 0, 1e9), "epochs must be from 0 (steps says) to 1e9" },
        { train_documents_name(c->documents) != NULL, "documents must be join or separate" },
        { c->seed < many, "seed must be below 2^53" },
        { c->dtype == IR_F32 || c->dtype == IR_BF16, "dtype must be float32 or bfloat16" },
        { !data, data },
        { !eval_data, eval_data },
        { c->eval_every < many && (c->eval_every == 0 || c->eval_data.n), "eval_every needs eval_data" },
        { c->checkpoint_every < many && c->checkpoint_keep_every < many, "checkpoint_every must be below 2^53" },
        { in_range(c->checkpoint_minutes, 0, 1e6), "checkpoint_minutes must be from 0 (none) to 1e6" },
        { c->checkpoint_keep >= 1 && c->checkpoint_keep < many, "checkpoint_keep must be 1 or more" },
        { c->sample_every < many && (c->sample_every == 0 || c->n_sample_prompts),
          "sample_every needs sample_prompts" },
        { c->sample_tokens >= 1 && c->sample_tokens <= TRAIN_SAMPLE_TOKENS, "sample_tokens must be from 1 to 65536" },
        { good_texts(*c->sample_prompts, c->n_sample_prompts, TRAIN_PROMPTS_MAX, TRAIN_PROMPT_BYTES),
          "at most 8 sample_prompts of 1 to 1023 bytes are possible" },
        { good_texts(*c->freeze, c->n_freeze, TRAIN_FREEZE_MAX, TRAIN_FREEZE_BYTES),
          "at most 32 patterns of 1 to 255 bytes are possible in freeze" },
        { c->n_trace_steps <= TRAIN_TRACE_MAX, "at most 64 trace_steps are possible" },
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!rules[i].good)
            return err_set(e, ST_INPUT, where, "%s", rules[i].what);
    for (uint32_t i = 0; i < c->n_trace_steps; i++)
        if (c->trace_steps[i] < 1 || (i && c->trace_steps[i] <= c->trace_steps[i - 1]))
            return err_set(e, ST_INPUT, where, "trace_steps must ascend and begin at 1 or later");
    return ST_OK;
}
