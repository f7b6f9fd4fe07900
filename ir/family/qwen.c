/* Qwen: qwen2 has biases on q, k and v, qwen2_moe experts and a shared one with a gate; the qwen3 families norm queries and keys of each head
 * before the rotation. */
#include "ir/family/decoder.h"

#define QWEN_KEYS                                                                                                   \
    DECODER_ROPE, EPS("rms_norm_eps", 1e-6), STD(0.02), WORD(hidden_act, "silu"), FLAG(tie_word_embeddings, false), \
        FLAG(use_sliding_window, false), SIZE_NONE(sliding_window, 4096)

/* With a window in use: the layers from max_window_layers on, or those that layer_types names. */
static enum status read_windows(const struct hf_model *m, struct decoder *d)
{
    const uint32_t window = d->c->use_sliding_window ? d->c->sliding_window : 0;
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].sliding = window && i >= d->c->max_window_layers;
    return decoder_layer_types(m, d, window);
}

/* ---- qwen2 (Qwen 2.5 too) --------------------------------------------------------------------------------------- */

static const struct hf_key qwen2_keys[] = {
    DECODER_SIZES(151936, 4096, 22016, 32, 32, 32, 32768),
    SIZE_NONE(head_dim, 0),
    QWEN_KEYS,
    COUNT(max_window_layers, 28),
    OTHER("layer_types"),
    END,
};

static enum status read_qwen2(const struct hf_model *m, struct decoder *d)
{
    d->q_bias = d->k_bias = d->v_bias = true;
    return read_windows(m, d);
}

const struct family family_qwen2 = { .model_type = "qwen2", .keys = qwen2_keys, .read = read_qwen2 };

/* ---- qwen3 ------------------------------------------------------------------------------------------------------ */

static const struct hf_key qwen3_keys[] = {
    DECODER_SIZES(151936, 4096, 22016, 32, 32, 32, 32768),
    SIZE(head_dim, 128),
    QWEN_KEYS,
    COUNT(max_window_layers, 28),
    OTHER("layer_types"),
    FLAG(attention_bias, false),
    END,
};

static enum status read_qwen3(const struct hf_model *m, struct decoder *d)
{
    d->qk_norm = QK_HEAD;
    return read_windows(m, d);
}

const struct family family_qwen3 = { .model_type = "qwen3", .keys = qwen3_keys, .read = read_qwen3 };

/* ---- qwen3_moe -------------------------------------------------------------------------------------------------- */

static const struct hf_key qwen3_moe_keys[] = {
    DECODER_SIZES(151936, 2048, 6144, 24, 32, 4, 32768),
    SIZE_NONE(head_dim, 0),
    QWEN_KEYS,
    COUNT(max_window_layers, 0),
    FLAG(attention_bias, false),
    SIZE(num_experts, 128),
    ALIAS("num_local_experts", "num_experts"),
    SIZE(num_experts_per_tok, 8),
    SIZE(moe_intermediate_size, 768),
    FLAG(norm_topk_prob, false),
    SIZE(decoder_sparse_step, 1),
    OTHER("mlp_only_layers"),
    DECODER_AUX(0.001),
    END,
};

/* The class gives a window in use to all layers, and does not look at max_window_layers. */
static enum status read_qwen3_moe(const struct hf_model *m, struct decoder *d)
{
    const uint32_t window = d->c->use_sliding_window ? d->c->sliding_window : 0;
    struct js v = hf_get(m, "max_window_layers");
    if (window && d->c->max_window_layers)
        return js_expected(&v, m->e, "0, or use_sliding_window false: a qwen3_moe has its window in all layers");
    d->qk_norm = QK_HEAD;
    decoder_all_layers(d, window);
    TRY(decoder_sparse_step(m, d));
    return decoder_experts(m, d, d->c->num_experts, d->c->moe_intermediate_size);
}

const struct family family_qwen3_moe = { .model_type = "qwen3_moe", .keys = qwen3_moe_keys, .read = read_qwen3_moe };

/* ---- qwen2_moe -------------------------------------------------------------------------------------------------- */

static const struct hf_key qwen2_moe_keys[] = {
    DECODER_SIZES(151936, 2048, 5632, 24, 16, 16, 32768),
    SIZE_NONE(head_dim, 0),
    QWEN_KEYS,
    COUNT(max_window_layers, 28),
    OTHER("layer_types"),
    FLAG(qkv_bias, true),
    SIZE(num_experts, 60),
    ALIAS("num_local_experts", "num_experts"),
    SIZE(num_experts_per_tok, 4),
    SIZE(moe_intermediate_size, 1408),
    SIZE(shared_expert_intermediate_size, 5632),
    FLAG(norm_topk_prob, false),
    SIZE(decoder_sparse_step, 1),
    OTHER("mlp_only_layers"),
    DECODER_AUX(0.001),
    END,
};

/* With a window in use: every second layer of the first max_window_layers, or those that layer_types names. */
static enum status read_qwen2_moe(const struct hf_model *m, struct decoder *d)
{
    const uint32_t window = d->c->use_sliding_window ? d->c->sliding_window : 0;
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].sliding = window && i % 2 == 0 && i < d->c->max_window_layers;
    TRY(decoder_layer_types(m, d, window));
    d->q_bias = d->k_bias = d->v_bias = d->c->qkv_bias;
    d->shared = d->c->shared_expert_intermediate_size;
    d->shared_switch = "mlp.shared_expert_gate";
    d->names.shared_gate = "mlp.shared_expert.gate_proj";
    d->names.shared_up = "mlp.shared_expert.up_proj";
    d->names.shared_down = "mlp.shared_expert.down_proj";
    TRY(decoder_sparse_step(m, d));
    return decoder_experts(m, d, d->c->num_experts, d->c->moe_intermediate_size);
}

const struct family family_qwen2_moe = { .model_type = "qwen2_moe", .keys = qwen2_moe_keys, .read = read_qwen2_moe };
