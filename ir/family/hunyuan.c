/* Hunyuan: llama that norms queries and keys of each head after the rotation. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(290943, 4096, 11008, 32, 32, 0, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_USUAL(1e-5),
    FLAG(attention_bias, false),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->qk_norm = QK_HEAD;
    d->qk_norm_rotated = true;
    d->names.q_norm = "self_attn.query_layernorm";
    d->names.k_norm = "self_attn.key_layernorm";
    return ST_OK;
}

const struct family family_hunyuan_v1_dense = { .model_type = "hunyuan_v1_dense", .keys = keys, .read = read };
