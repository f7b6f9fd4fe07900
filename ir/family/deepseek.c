/* DeepSeek: latent attention, leading dense layers, experts with a shared one. deepseek_v3 (Moonlight, Kimi K2 too) chooses by sigmoid scores and
 * a bias, deepseek_v2 by softmax scores, of the best groups or of all. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

#define LATENT_KEYS(q, rank)                                                                                          \
    DECODER_ROPE, EPS("rms_norm_eps", 1e-6), STD(0.02), WORD(hidden_act, "silu"), FLAG(tie_word_embeddings, false),   \
        FLAG(attention_bias, false), SIZE_NONE(q_lora_rank, q), SIZE(kv_lora_rank, rank), SIZE(qk_rope_head_dim, 64), \
        SIZE(qk_nope_head_dim, 128), SIZE(v_head_dim, 128)

static const struct ir_packing packings[] = {
    { "self_attn.kv_a_proj_with_mqa.weight",
      PACK_ROWS,
      { "self_attn.kv_a_proj.weight", "self_attn.k_rope_proj.weight" } },
    { "self_attn.kv_a_proj_with_mqa.bias", PACK_ROWS, { "self_attn.kv_a_proj.bias", "self_attn.k_rope_proj.bias" } },
    { "self_attn.kv_b_proj.weight", PACK_HEADS, { "self_attn.k_b_proj.weight", "self_attn.v_b_proj.weight" } },
    { 0 },
};

static enum status read_latent(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    if (c->num_key_value_heads && c->num_key_value_heads != c->num_attention_heads)
        return js_wrong(&m->js, m->e,
                        "num_key_value_heads is %u, expected num_attention_heads, %u: every head has its own keys",
                        c->num_key_value_heads, c->num_attention_heads);
    d->latent = (struct decoder_latent){ .kv_rank = c->kv_lora_rank,
                                         .q_rank = c->q_lora_rank,
                                         .nope = c->qk_nope_head_dim,
                                         .rope = c->qk_rope_head_dim,
                                         .v = c->v_head_dim,
                                         .eps = 1e-6f };
    if ((uint64_t)d->heads * ((uint64_t)d->latent.nope + d->latent.rope + d->latent.v) > INT32_MAX)
        return js_wrong(&m->js, m->e, "num_attention_heads %u times the sizes of a head is above 2^31 - 1", d->heads);
    return ST_OK;
}

/* ---- deepseek_v3 ------------------------------------------------------------------------------------------------ */

static const struct hf_key v3_keys[] = {
    DECODER_SIZES(129280, 7168, 18432, 61, 128, 128, 4096),
    LATENT_KEYS(1536, 512),
    FLAG(rope_interleave, true),
    SIZE(moe_intermediate_size, 2048),
    SIZE(num_experts_per_tok, 8),
    COUNT(n_shared_experts, 1),
    SIZE(n_routed_experts, 256),
    NUMBER(routed_scaling_factor, 2.5, 1e-30, 1e30),
    SIZE_NONE(n_group, 8),
    SIZE_NONE(topk_group, 4),
    COUNT(first_k_dense_replace, 3),
    FLAG(norm_topk_prob, true),
    DECODER_SIGMOID_ROUTER,
    DECODER_MTP,
    END,
};

static enum status read_v3(const struct hf_model *m, struct decoder *d)
{
    d->rope_pairs = d->c->rope_interleave;
    TRY(read_latent(m, d));
    return decoder_sigmoid_router(m, d);
}

const struct family family_deepseek_v3 = {
    .model_type = "deepseek_v3", .keys = v3_keys, .read = read_v3, .packings = packings, .mtp = true
};

/* ---- deepseek_v2 ------------------------------------------------------------------------------------------------ */

static const struct hf_key v2_keys[] = {
    DECODER_SIZES(102400, 4096, 11008, 32, 32, 0, 2048),
    LATENT_KEYS(1536, 512),
    FLAG(mlp_bias, false),
    SIZE(moe_intermediate_size, 1407),
    SIZE_NONE(num_experts_per_tok, 0),
    COUNT(n_shared_experts, 2),
    SIZE(n_routed_experts, 64),
    ALIAS("num_experts", "n_routed_experts"),
    NUMBER(routed_scaling_factor, 1, 1e-30, 1e30),
    SIZE_NONE(n_group, 0),
    SIZE_NONE(topk_group, 0),
    WORD(topk_method, "greedy"),
    OTHER("scoring_func"),
    OTHER("moe_layer_freq"),
    COUNT(first_k_dense_replace, 0),
    OTHER("norm_topk_prob"),
    NUMBER(capacity_factor, 0, 0, 1e6),
    DECODER_ALPHA,
    END,
};

/* The class never divides by the sum of the weights. */
static enum status read_v2(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    const bool groups = strcmp(c->topk_method, "group_limited_greedy") == 0;
    struct js v = hf_get(m, "topk_method");
    if (!groups && strcmp(c->topk_method, "greedy") != 0)
        return js_expected(&v, m->e, "greedy or group_limited_greedy");
    if (!c->num_experts_per_tok)
        return js_wrong(&m->js, m->e, "num_experts_per_tok is needed: the class has no default for it");
    TRY(decoder_only_value(m, "scoring_func", "\"softmax\""));
    TRY(decoder_only_value(m, "norm_topk_prob", "false"));
    TRY(decoder_only_value(m, "moe_layer_freq", "1"));
    if (groups &&
        (!c->n_group || c->n_routed_experts % c->n_group != 0 || !c->topk_group || c->topk_group > c->n_group))
        return js_wrong(&m->js, m->e, "n_group is %u and topk_group %u, with %u experts", c->n_group, c->topk_group,
                        c->n_routed_experts);
    d->rope_pairs = true;
    TRY(read_latent(m, d));
    decoder_sparse_from(d, c->first_k_dense_replace);
    TRY(decoder_experts(m, d, c->n_routed_experts, c->moe_intermediate_size));
    d->moe.scale = c->routed_scaling_factor == 1 ? 0 : (float)c->routed_scaling_factor;
    if (groups && c->n_group > 1) {
        d->moe.groups = c->n_group;
        d->moe.top_groups = c->topk_group;
        d->moe.router_flags |= IR_GROUP_BEST;
    }
    d->moe.router_flags |= IR_FLOAT32;
    TRY(decoder_alpha(m, d));
    return decoder_shared_expert(m, d);
}

const struct family family_deepseek_v2 = {
    .model_type = "deepseek_v2", .keys = v2_keys, .read = read_v2, .packings = packings
};
