/* OPT: learned positions from row 2 on, LayerNorm, biases, relu without a gate, tied head. 350m norms the sums instead of what the sublayers
 * take, has no norm at the end, and narrower embeddings. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    SIZE(vocab_size, 50272),
    SIZE(hidden_size, 768),
    SIZE(num_hidden_layers, 12),
    SIZE_IN("ffn_dim", intermediate_size, 3072),
    SIZE(max_position_embeddings, 2048),
    SIZE(num_attention_heads, 12),
    SIZE_NONE(word_embed_proj_dim, 0),
    FLAG(do_layer_norm_before, true),
    FLAG_IN("_remove_final_layer_norm", remove_final_layer_norm, false),
    FLAG(layer_norm_elementwise_affine, true),
    FLAG_IN("enable_bias", use_bias, true),
    WORD_IN("activation_function", hidden_act, "relu"),
    NUMBER_IN("init_std", initializer_range, 0.02, 0, 10),
    FLAG(tie_word_embeddings, true),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    if (m->g->seq_len > c->max_position_embeddings)
        return js_wrong(&m->js, m->e, "seq_len is %u, but max_position_embeddings is %u: lower seq_len in train.json",
                        m->g->seq_len, c->max_position_embeddings);
    if (c->max_position_embeddings > INT32_MAX - 2)
        return js_wrong(&m->js, m->e, "max_position_embeddings is %u, expected at most %d", c->max_position_embeddings,
                        INT32_MAX - 2);
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = c->layer_norm_elementwise_affine ? 0 : IR_NO_WEIGHT;
    d->eps = 1e-5f;
    d->gated = false;
    d->norm_before = c->do_layer_norm_before;
    d->norm_sum = !c->do_layer_norm_before;
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = d->mlp_bias = c->use_bias;
    d->embed_width = c->word_embed_proj_dim == c->hidden_size ? 0 : c->word_embed_proj_dim;
    d->first_position = 2;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        d->layer[i].rope = false;
    d->names = (struct decoder_names){
        .embed = "model.decoder.embed_tokens",
        .positions = "model.decoder.embed_positions",
        .embed_in = "model.decoder.project_in",
        .embed_out = "model.decoder.project_out",
        .layers = "model.decoder.layers.",
        .norm = c->do_layer_norm_before && !c->remove_final_layer_norm ? "model.decoder.final_layer_norm" : NULL,
        .head = "lm_head",
        .attn_norm = "self_attn_layer_norm",
        .mlp_norm = "final_layer_norm",
        .q = "self_attn.q_proj",
        .k = "self_attn.k_proj",
        .v = "self_attn.v_proj",
        .o = "self_attn.out_proj",
        .up = "fc1",
        .down = "fc2",
    };
    return ST_OK;
}

const struct family family_opt = { .model_type = "opt", .keys = keys, .read = read };
