/* GPT-J: one LayerNorm for attention and mlp side by side, rotation of the first elements of a head by pairs, biases in the mlp and the
 * head alone, gelu without a gate. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    SIZE(vocab_size, 50400),
    SIZE_IN("n_positions", max_position_embeddings, 2048),
    SIZE_IN("n_embd", hidden_size, 4096),
    SIZE_IN("n_layer", num_hidden_layers, 28),
    SIZE_IN("n_head", num_attention_heads, 16),
    SIZE_NONE(n_inner, 0),
    SIZE(rotary_dim, 64),
    GPT2_NAMES,
    WORD_IN("activation_function", hidden_act, "gelu_new"),
    EPS("layer_norm_epsilon", 1e-5),
    STD(0.02),
    FLAG(tie_word_embeddings, false),
    REFUSED("scale_attn_weights", "true", "unscaled attention is not implemented"),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    if (d->c->rotary_dim > d->head_dim)
        return js_wrong(&m->js, m->e, "rotary_dim is %u, expected at most the %u elements of a head", d->c->rotary_dim,
                        d->head_dim);
    TRY(decoder_inner(m, d, d->c->n_inner));
    d->rope_class.rotary = d->c->rotary_dim;
    d->rope_pairs = true;
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = 0;
    d->parallel = true;
    d->gated = false;
    d->mlp_bias = d->head_bias = true;
    d->names = (struct decoder_names){ .embed = "transformer.wte",
                                       .layers = "transformer.h.",
                                       .norm = "transformer.ln_f",
                                       .head = "lm_head",
                                       .attn_norm = "ln_1",
                                       .q = "attn.q_proj",
                                       .k = "attn.k_proj",
                                       .v = "attn.v_proj",
                                       .o = "attn.out_proj",
                                       .up = "mlp.fc_in",
                                       .down = "mlp.fc_out" };
    return ST_OK;
}

const struct family family_gptj = { .model_type = "gptj", .keys = keys, .read = read };
