/* InternLM2: llama under other names, the queries of a key/value head before it in one packed tensor. transformers has no class of it:
 * configuration_internlm2.py and modeling_internlm2.py of internlm/internlm2-7b. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(103168, 4096, 11008, 32, 32, 0, 2048),
    DECODER_USUAL(1e-6),
    FLAG(bias, true),
    END,
};

static const struct ir_packing packings[] = {
    { "attention.wqkv.weight", PACK_HEADS, { "attention.wq.weight", "attention.wk.weight", "attention.wv.weight" } },
    { "attention.wqkv.bias", PACK_HEADS, { "attention.wq.bias", "attention.wk.bias", "attention.wv.bias" } },
    { 0 },
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = d->c->bias;
    d->names = (struct decoder_names){ .embed = "model.tok_embeddings",
                                       .layers = "model.layers.",
                                       .norm = "model.norm",
                                       .head = "output",
                                       .attn_norm = "attention_norm",
                                       .mlp_norm = "ffn_norm",
                                       .q = "attention.wq",
                                       .k = "attention.wk",
                                       .v = "attention.wv",
                                       .o = "attention.wo",
                                       .gate = "feed_forward.w1",
                                       .up = "feed_forward.w3",
                                       .down = "feed_forward.w2" };
    return ST_OK;
}

const struct family family_internlm2 = { .model_type = "internlm2", .keys = keys, .read = read, .packings = packings };
