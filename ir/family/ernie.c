/* ERNIE 4.5: llama with rotation by pairs, all biases by one key. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(103424, 1024, 3072, 18, 16, 2, 131072),
    SIZE_NONE(head_dim, 128),
    DECODER_ROPE,
    EPS("rms_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, true),
    FLAG(use_bias, false),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->rope_class.theta = 5e5;
    d->rope_pairs = true;
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = d->mlp_bias = d->c->use_bias;
    return ST_OK;
}

const struct family family_ernie4_5 = { .model_type = "ernie4_5", .keys = keys, .read = read };
