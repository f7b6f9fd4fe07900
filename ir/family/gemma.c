/* Gemma: norms whose weights are stored less 1, embeddings times sqrt(hidden_size), a tanh gelu as gate; gemma2 and gemma3 norm what the
 * sublayers take and give, and have windows; gemma2 caps scores and logits, gemma3 norms queries and keys of each head and has another base of
 * rotation in layers with a window. */
#include <math.h>

#include "ir/family/decoder.h"

#define GEMMA_KEYS \
    DECODER_ROPE, EPS("rms_norm_eps", 1e-6), STD(0.02), FLAG(tie_word_embeddings, true), FLAG(attention_bias, false)
#define GEMMA2_KEYS                                                                                             \
    WORD_IN("hidden_activation", hidden_act, "gelu_pytorch_tanh"), ALIAS("hidden_act", "hidden_activation"),    \
        NUMBER(query_pre_attn_scalar, 256, 1e-30, 1e30), SIZE_NONE(sliding_window, 4096), OTHER("layer_types"), \
        SIZE_IN("head_dim", head_dim, 256)

static void read_common(struct decoder *d)
{
    d->norm_flags = IR_ONE_PLUS;
    d->embed_scale = (float)sqrt(d->c->hidden_size);
    d->embed_scale_rounded = true;
}

/* ---- gemma ------------------------------------------------------------------------------------------------------ */

static const struct hf_key gemma_keys[] = {
    DECODER_SIZES(256000, 3072, 24576, 28, 16, 16, 8192),
    SIZE(head_dim, 256),
    GEMMA_KEYS,
    WORD(hidden_act, "gelu_pytorch_tanh"),
    OTHER("hidden_activation"),
    END,
};

static enum status read_gemma(const struct hf_model *m, struct decoder *d)
{
    struct js v = hf_get(m, "hidden_activation");
    if (v.v && strcmp(json_is_string(v.v) ? json_string_value(v.v) : "", "gelu_pytorch_tanh") != 0)
        return js_expected(&v, m->e, "null or gelu_pytorch_tanh, which is what a gemma computes");
    if (d->act == IR_ACT_GELU) /* the class: "gelu" of the first files means the tanh form */
        d->act = IR_ACT_GELU_TANH;
    read_common(d);
    return ST_OK;
}

const struct family family_gemma = { .model_type = "gemma", .keys = gemma_keys, .read = read_gemma };

/* ---- gemma2 ----------------------------------------------------------------------------------------------------- */

static const struct hf_key gemma2_keys[] = {
    DECODER_SIZES(256000, 2304, 9216, 26, 8, 4, 8192),
    GEMMA_KEYS,
    GEMMA2_KEYS,
    NUMBER_NONE(attn_logit_softcapping, 50, 1e-30, 1e30),
    NUMBER_NONE(final_logit_softcapping, 30, 1e-30, 1e30),
    END,
};

static void norms_around(struct decoder *d)
{
    d->norm_after = true;
    d->names.mlp_norm = "pre_feedforward_layernorm";
    d->scale = (float)(1 / sqrt(d->c->query_pre_attn_scalar));
    d->score_cap = (float)d->c->attn_logit_softcapping;
    d->logit_cap = (float)d->c->final_logit_softcapping;
}

static enum status read_gemma2(const struct hf_model *m, struct decoder *d)
{
    read_common(d);
    norms_around(d);
    return decoder_every_full(m, d, 2, d->c->sliding_window);
}

const struct family family_gemma2 = { .model_type = "gemma2", .keys = gemma2_keys, .read = read_gemma2 };

/* ---- gemma3 ----------------------------------------------------------------------------------------------------- */

static const struct hf_key gemma3_keys[] = {
    DECODER_SIZES(262208, 2304, 9216, 26, 8, 4, 131072),
    GEMMA_KEYS,
    GEMMA2_KEYS,
    OTHER("rope_local_base_freq"),
    INFO("_sliding_window_pattern"),
    SIZE(sliding_window_pattern, 6),
    NUMBER_NONE(final_logit_softcapping, 0, 1e-30, 1e30),
    END,
};

static enum status read_gemma3(const struct hf_model *m, struct decoder *d)
{
    read_common(d);
    norms_around(d);
    d->qk_norm = QK_HEAD;
    d->rope_class =
        (struct rope_class){ .theta = 1e6, .by_kind = true, .local_theta = "rope_local_base_freq", .theta_local = 1e4 };
    return decoder_every_full(m, d, d->c->sliding_window_pattern, d->c->sliding_window);
}

const struct family family_gemma3_text = { .model_type = "gemma3_text", .keys = gemma3_keys, .read = read_gemma3 };
