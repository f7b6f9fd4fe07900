/* Phi: phi has LayerNorm, biases everywhere, attention and mlp side by side; phi3 and phi-4 are llama with packed projections, a part of
 * each head turning, longrope. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

static const struct hf_key phi3_keys[] = {
    DECODER_SIZES(32064, 3072, 8192, 32, 32, 0, 4096),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    OTHER("partial_rotary_factor"),
    OTHER("original_max_position_embeddings"),
    EPS("rms_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, false),
    SIZE_NONE(sliding_window, 0),
    END,
};

static const struct ir_packing phi3_packings[] = {
    { "self_attn.qkv_proj.weight",
      PACK_ROWS,
      { "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight" } },
    { "mlp.gate_up_proj.weight", PACK_ROWS, { "mlp.gate_proj.weight", "mlp.up_proj.weight" } },
    { 0 },
};

static enum status read_phi3(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->rope_class = (struct rope_class){ .partial = 1, .longrope = true };
    decoder_all_layers(d, d->c->sliding_window);
    return ST_OK;
}

const struct family family_phi3 = {
    .model_type = "phi3", .keys = phi3_keys, .read = read_phi3, .packings = phi3_packings
};

/* ---- phi -------------------------------------------------------------------------------------------------------- */

static const struct hf_key phi_keys[] = {
    DECODER_SIZES(51200, 2048, 8192, 24, 32, 0, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    OTHER("partial_rotary_factor"),
    EPS("layer_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "gelu_new"),
    FLAG(tie_word_embeddings, false),
    FLAG(qk_layernorm, false),
    END,
};

static enum status read_phi(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->rope_class.partial = 0.5;
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = 0;
    d->parallel = true;
    d->gated = false;
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = d->mlp_bias = d->head_bias = true;
    d->qk_norm = d->c->qk_layernorm ? QK_HEAD : QK_NONE;
    d->names.mlp_norm = NULL;
    d->names.norm = "model.final_layernorm";
    d->names.o = "self_attn.dense";
    d->names.q_norm = "self_attn.q_layernorm";
    d->names.k_norm = "self_attn.k_layernorm";
    d->names.up = "mlp.fc1";
    d->names.down = "mlp.fc2";
    return ST_OK;
}

const struct family family_phi = { .model_type = "phi", .keys = phi_keys, .read = read_phi };
