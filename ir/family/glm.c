/* GLM: half of each head turns, by pairs; the gate and up projections are packed; glm4 norms what the sublayers give too; glm4_moe turns by
 * halves and has DeepSeek-V3's experts. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(151552, 4096, 13696, 40, 32, 2, 131072),
    SIZE_NONE(head_dim, 128),
    DECODER_ROPE,
    OTHER("partial_rotary_factor"),
    EPS("rms_norm_eps", 1.5625e-7),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, false),
    FLAG(attention_bias, true),
    END,
};

static const struct ir_packing packings[] = {
    { "mlp.gate_up_proj.weight", PACK_ROWS, { "mlp.gate_proj.weight", "mlp.up_proj.weight" } },
    { 0 },
};

static enum status read_glm(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->rope_class.partial = 0.5;
    d->rope_pairs = true;
    d->o_bias = false;
    return ST_OK;
}

static enum status read_glm4(const struct hf_model *m, struct decoder *d)
{
    d->norm_after = true;
    d->names.attn_post_norm = "post_self_attn_layernorm";
    d->names.mlp_post_norm = "post_mlp_layernorm";
    return read_glm(m, d);
}

const struct family family_glm = { .model_type = "glm", .keys = keys, .read = read_glm, .packings = packings };
const struct family family_glm4 = { .model_type = "glm4", .keys = keys, .read = read_glm4, .packings = packings };

/* ---- glm4_moe (GLM-4.5) ----------------------------------------------------------------------------------------- */

static const struct hf_key glm4_moe_keys[] = {
    DECODER_SIZES(151552, 4096, 10944, 46, 96, 8, 131072),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    OTHER("partial_rotary_factor"),
    EPS("rms_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, false),
    FLAG(attention_bias, false),
    FLAG(use_qk_norm, false),
    SIZE(moe_intermediate_size, 1408),
    SIZE(num_experts_per_tok, 8),
    COUNT(n_shared_experts, 1),
    SIZE(n_routed_experts, 128),
    NUMBER(routed_scaling_factor, 1, 1e-30, 1e30),
    SIZE_NONE(n_group, 1),
    SIZE_NONE(topk_group, 1),
    COUNT(first_k_dense_replace, 1),
    FLAG(norm_topk_prob, true),
    DECODER_SIGMOID_ROUTER,
    DECODER_MTP,
    END,
};

static enum status read_glm4_moe(const struct hf_model *m, struct decoder *d)
{
    d->rope_class.partial = 0.5;
    d->o_bias = false;
    d->qk_norm = d->c->use_qk_norm ? QK_HEAD : QK_NONE;
    return decoder_sigmoid_router(m, d);
}

const struct family family_glm4_moe = {
    .model_type = "glm4_moe", .keys = glm4_moe_keys, .read = read_glm4_moe, .mtp = true
};
