/* Falcon, without ALiBi: LayerNorm, erf gelu without a gate, biases by one key. multi_query: one key/value head; new_decoder_architecture:
 * num_kv_heads of them, and a norm each for attention and mlp. The queries of a key/value head stand before it in one packed tensor. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

static const struct hf_key keys[] = {
    SIZE(vocab_size, 65024),
    SIZE(hidden_size, 4544),
    SIZE(num_hidden_layers, 32),
    SIZE(num_attention_heads, 71),
    SIZE_NONE(num_kv_heads, 0),
    SIZE_NONE(num_ln_in_parallel_attn, 0),
    SIZE_NONE(ffn_hidden_size, 0),
    SIZE(max_position_embeddings, 2048),
    ALIAS("n_embed", "hidden_size"),
    ALIAS("n_layer", "num_hidden_layers"),
    ALIAS("n_head", "num_attention_heads"),
    DECODER_ROPE,
    EPS("layer_norm_epsilon", 1e-5),
    STD(0.02),
    WORD_IN("activation", hidden_act, "gelu"),
    FLAG(tie_word_embeddings, true),
    FLAG(new_decoder_architecture, false),
    FLAG(multi_query, true),
    FLAG(parallel_attn, true),
    FLAG(bias, false),
    END,
};

static const struct ir_packing packings[] = {
    { "self_attention.query_key_value.weight",
      PACK_HEADS,
      { "self_attention.query.weight", "self_attention.key.weight", "self_attention.value.weight" } },
    { "self_attention.query_key_value.bias",
      PACK_HEADS,
      { "self_attention.query.bias", "self_attention.key.bias", "self_attention.value.bias" } },
    { 0 },
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    const bool two = c->num_ln_in_parallel_attn == 2 || !c->num_ln_in_parallel_attn;
    if (c->new_decoder_architecture && !c->parallel_attn)
        return js_wrong(&m->js, m->e, "parallel_attn is false, expected true with new_decoder_architecture");
    if (!c->new_decoder_architecture && c->num_ln_in_parallel_attn == 2)
        return js_wrong(&m->js, m->e, "num_ln_in_parallel_attn is 2, expected 1 without new_decoder_architecture");
    d->kv_heads = !c->new_decoder_architecture && c->multi_query ? 1 : c->num_kv_heads ? c->num_kv_heads : d->heads;
    if (d->heads % d->kv_heads != 0 || (!c->new_decoder_architecture && !c->multi_query && d->kv_heads != d->heads))
        return js_wrong(&m->js, m->e, "num_kv_heads %u does not go with num_attention_heads %u", d->kv_heads, d->heads);
    TRY(decoder_inner(m, d, c->ffn_hidden_size));
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = 0;
    d->gated = false;
    d->parallel = c->parallel_attn;
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = d->mlp_bias = c->bias;
    d->names = (struct decoder_names){ .embed = "transformer.word_embeddings",
                                       .layers = "transformer.h.",
                                       .norm = "transformer.ln_f",
                                       .head = "lm_head",
                                       .attn_norm = "input_layernorm",
                                       .q = "self_attention.query",
                                       .k = "self_attention.key",
                                       .v = "self_attention.value",
                                       .o = "self_attention.dense",
                                       .up = "mlp.dense_h_to_4h",
                                       .down = "mlp.dense_4h_to_h" };
    if (c->new_decoder_architecture && two) {
        d->names.attn_norm = "ln_attn";
        d->names.mlp_norm = "ln_mlp";
    } else if (!c->parallel_attn) {
        d->names.mlp_norm = "post_attention_layernorm";
    }
    return ST_OK;
}

const struct family family_falcon = { .model_type = "falcon", .keys = keys, .read = read, .packings = packings };
