/* Granite: llama with factors on embeddings, scores, sublayers and logits; attention_multiplier is in the place of 1/sqrt(head_dim).
 * granitemoe has experts in all layers, with the softmax over the chosen. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

#define FACTORS                                                                                \
    NUMBER(embedding_multiplier, 1, 1e-30, 1e30), NUMBER(residual_multiplier, 1, 1e-30, 1e30), \
        NUMBER(attention_multiplier, 1, 1e-30, 1e30), NUMBER(logits_scaling, 1, 1e-30, 1e30)

static const struct hf_key keys[] = {
    DECODER_SIZES(32000, 4096, 11008, 32, 32, 0, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_USUAL(1e-6),
    FLAG(attention_bias, false),
    FLAG(mlp_bias, false),
    FACTORS,
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->embed_scale = (float)d->c->embedding_multiplier;
    d->residual_scale = (float)d->c->residual_multiplier;
    d->scale = (float)d->c->attention_multiplier;
    d->logit_scale = (float)(1 / d->c->logits_scaling);
    return ST_OK;
}

const struct family family_granite = { .model_type = "granite", .keys = keys, .read = read };

/* ---- granitemoe ------------------------------------------------------------------------------------------------- */

static const struct hf_key moe_keys[] = {
    DECODER_SIZES(32000, 4096, 11008, 32, 32, 0, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_USUAL(1e-6),
    FLAG(attention_bias, false),
    FACTORS,
    SIZE_IN("num_local_experts", num_experts, 8),
    SIZE(num_experts_per_tok, 2),
    DECODER_AUX(0.001),
    END,
};

static const struct ir_packing packings[] = {
    { "block_sparse_moe.input_linear.weight",
      PACK_ROWS,
      { "block_sparse_moe.gate.weight", "block_sparse_moe.up.weight" } },
    { 0 },
};

static enum status read_moe(const struct hf_model *m, struct decoder *d)
{
    TRY(read(m, d));
    decoder_sparse_from(d, 0);
    d->moe.router_flags = IR_NORM_TOPK;
    d->moe.router = "block_sparse_moe.router.layer.weight";
    d->moe.expert[0] = "block_sparse_moe.gate.weight";
    d->moe.expert[1] = "block_sparse_moe.up.weight";
    d->moe.expert[2] = "block_sparse_moe.output_linear.weight";
    return decoder_experts(m, d, d->c->num_experts, d->c->intermediate_size);
}

const struct family family_granitemoe = {
    .model_type = "granitemoe", .keys = moe_keys, .read = read_moe, .packings = packings
};
