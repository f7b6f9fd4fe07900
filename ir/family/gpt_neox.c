/* GPT-NeoX (Pythia): LayerNorm, biases, erf gelu, a quarter of each head turns; attention and mlp side by side with a norm each, or one after
 * the other. q, k and v of a head are packed side by side. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

static const struct hf_key keys[] = {
    SIZE(vocab_size, 50432),
    SIZE(hidden_size, 6144),
    SIZE(intermediate_size, 24576),
    SIZE(num_hidden_layers, 44),
    SIZE(num_attention_heads, 64),
    SIZE(max_position_embeddings, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    OTHER("rotary_pct"),
    OTHER("rotary_emb_base"),
    OTHER("partial_rotary_factor"),
    EPS("layer_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "gelu"),
    FLAG(tie_word_embeddings, false),
    FLAG(attention_bias, true),
    FLAG(use_parallel_residual, true),
    END,
};

static const struct ir_packing packings[] = {
    { "attention.query_key_value.weight",
      PACK_HEADS,
      { "attention.query.weight", "attention.key.weight", "attention.value.weight" } },
    { "attention.query_key_value.bias",
      PACK_HEADS,
      { "attention.query.bias", "attention.key.bias", "attention.value.bias" } },
    { 0 },
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    double partial;
    TRY(js_num_or(&m->js, "rotary_pct", 0, 1, 0.25, &partial, m->e));
    d->rope_class.partial = partial;
    TRY(js_num_or(&m->js, "rotary_emb_base", 1e-3, 1e30, 1e4, &d->rope_class.theta, m->e));
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = 0;
    d->parallel = d->c->use_parallel_residual;
    d->gated = false;
    d->mlp_bias = true;
    d->names.embed = "gpt_neox.embed_in";
    d->names.layers = "gpt_neox.layers.";
    d->names.norm = "gpt_neox.final_layer_norm";
    d->names.head = "embed_out";
    d->names.q = "attention.query";
    d->names.k = "attention.key";
    d->names.v = "attention.value";
    d->names.o = "attention.dense";
    d->names.up = "mlp.dense_h_to_4h";
    d->names.down = "mlp.dense_4h_to_h";
    return ST_OK;
}

const struct family family_gpt_neox = { .model_type = "gpt_neox", .keys = keys, .read = read, .packings = packings };
