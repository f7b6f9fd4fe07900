/* Cohere: LayerNorm with weights alone, one for attention and mlp side by side, rotation by pairs, a factor on the logits; cohere2 has
 * windows, and positions only in the layers that have one. */
#include "ir/family/decoder.h"

#define COHERE_KEYS                                                                                        \
    DECODER_SIZES(256000, 8192, 22528, 40, 64, 0, 8192), SIZE_NONE(head_dim, 0), DECODER_ROPE,             \
        EPS("layer_norm_eps", 1e-5), STD(0.02), WORD(hidden_act, "silu"), FLAG(tie_word_embeddings, true), \
        FLAG(attention_bias, false), NUMBER(logit_scale, 0.0625, 1e-30, 1e30)

static const struct hf_key cohere_keys[] = { COHERE_KEYS, FLAG(use_qk_norm, false), END };
static const struct hf_key cohere2_keys[] = { COHERE_KEYS, SIZE_NONE(sliding_window, 4096),
                                              SIZE(sliding_window_pattern, 4), OTHER("layer_types"), END };

static enum status read_cohere(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = IR_NO_BIAS;
    d->parallel = true;
    d->names.mlp_norm = NULL;
    d->qk_norm = d->c->use_qk_norm ? QK_HEADS : QK_NONE;
    d->rope_pairs = true;
    d->rope_class.theta = 5e5;
    d->logit_scale = (float)d->c->logit_scale;
    return ST_OK;
}

static enum status read_cohere2(const struct hf_model *m, struct decoder *d)
{
    TRY(read_cohere(m, d));
    d->rope_class.theta = 1e4;
    TRY(decoder_every_full(m, d, d->c->sliding_window_pattern, d->c->sliding_window));
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].rope = d->layer[i].sliding;
    return ST_OK;
}

const struct family family_cohere = { .model_type = "cohere", .keys = cohere_keys, .read = read_cohere };
const struct family family_cohere2 = { .model_type = "cohere2", .keys = cohere2_keys, .read = read_cohere2 };
