/* dots.llm1: the attention of qwen3 with the experts of DeepSeek-V3. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(152064, 4608, 10944, 62, 32, 32, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_USUAL(1e-6),
    FLAG(attention_bias, false),
    SIZE_NONE(sliding_window, 4096),
    COUNT(max_window_layers, 62),
    OTHER("layer_types"),
    SIZE(moe_intermediate_size, 1408),
    SIZE_NONE(num_experts_per_tok, 0),
    COUNT_NONE(n_shared_experts, 0),
    SIZE_NONE(n_routed_experts, 0),
    NUMBER(routed_scaling_factor, 1, 1e-30, 1e30),
    SIZE_NONE(n_group, 1),
    SIZE_NONE(topk_group, 1),
    COUNT_NONE(first_k_dense_replace, 0),
    FLAG(norm_topk_prob, false),
    DECODER_SIGMOID_ROUTER,
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    if (!d->c->n_routed_experts || !d->c->num_experts_per_tok)
        return js_wrong(&m->js, m->e,
                        "n_routed_experts and num_experts_per_tok are needed: the class has no default for them");
    d->qk_norm = QK_HEAD;
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].sliding = d->c->sliding_window && i >= d->c->max_window_layers;
    TRY(decoder_layer_types(m, d, d->c->sliding_window));
    return decoder_sigmoid_router(m, d);
}

const struct family family_dots1 = { .model_type = "dots1", .keys = keys, .read = read };
