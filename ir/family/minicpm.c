/* MiniCPM: llama with factors on embeddings, sublayers and logits. transformers has no class of it: configuration_minicpm.py and
 * modeling_minicpm.py of openbmb/MiniCPM-2B. */
#include "ir/family/decoder.h"

#include <math.h>

static const struct hf_key keys[] = {
    DECODER_SIZES(32000, 4096, 11008, 32, 32, 0, 2048),
    DECODER_ROPE,
    EPS("rms_norm_eps", 1e-6),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, true),
    FLAG(attention_bias, false),
    NUMBER_IN("scale_emb", embedding_multiplier, 1, 1e-30, 1e30),
    NUMBER_IN("scale_depth", residual_multiplier, 1, 1e-30, 1e30),
    NUMBER_IN("dim_model_base", logit_scale, 1, 1e-30, 1e30),
    INFO("mup_denominator"),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    (void)m;
    d->embed_scale = (float)c->embedding_multiplier;
    d->residual_scale = (float)(c->residual_multiplier / sqrt(c->num_hidden_layers));
    d->logit_scale = (float)(c->logit_scale / c->hidden_size);
    return ST_OK;
}

const struct family family_minicpm = { .model_type = "minicpm", .keys = keys, .read = read };
