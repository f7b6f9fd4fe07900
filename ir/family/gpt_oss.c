/* gpt-oss: biases, a logit for each head that only joins the softmax's sum, windows in every second layer, yarn; experts with biases,
 * a bounded gate, and the softmax over the chosen. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(201088, 2880, 2880, 36, 64, 8, 131072),
    SIZE_NONE(head_dim, 64),
    DECODER_USUAL(1e-5),
    FLAG(attention_bias, true),
    SIZE_NONE(sliding_window, 128),
    OTHER("layer_types"),
    SIZE_IN("num_local_experts", num_experts, 128),
    ALIAS("num_experts", "num_local_experts"),
    SIZE(num_experts_per_tok, 4),
    NUMBER(swiglu_alpha, 1.702, 1e-30, 1e30),
    NUMBER(swiglu_limit, 7, 1e-30, 1e30),
    DECODER_AUX(0.001),
    INFO("experts_per_token"),
    INFO("initial_context_length"),
    END,
};

static const struct ir_packing packings[] = {
    { "mlp.experts.gate_up_proj", PACK_TRANSPOSED_BY_TURN, { "mlp.experts.gate_proj", "mlp.experts.up_proj" } },
    { "mlp.experts.gate_up_proj_bias",
      PACK_TRANSPOSED_BY_TURN,
      { "mlp.experts.gate_proj_bias", "mlp.experts.up_proj_bias" } },
    { "mlp.experts.down_proj", PACK_TRANSPOSED_BY_TURN, { "mlp.experts.down_proj" } },
    { 0 },
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    if (d->act != IR_ACT_SILU) {
        struct js v = hf_get(m, "hidden_act");
        return js_expected(&v, m->e, "silu, which is what a gpt_oss computes");
    }
    d->rope_class = (struct rope_class){
        .theta = 150000,
        .unless_given = "{\"rope_type\":\"yarn\",\"factor\":32,\"beta_fast\":32,\"beta_slow\":1,\"truncate\":false,"
                        "\"original_max_position_embeddings\":4096}"
    };
    d->norm_flags = 0; /* rounded once */
    d->sinks = "self_attn.sinks";
    decoder_sparse_from(d, 0);
    d->moe = (struct fb_moe){
        .router = "mlp.router.weight",
        .router_bias = "mlp.router.bias",
        .router_flags = IR_BIAS | IR_NORM_TOPK,
        .expert = { "mlp.experts.gate_proj", "mlp.experts.up_proj", "mlp.experts.down_proj",
                    "mlp.experts.gate_proj_bias", "mlp.experts.up_proj_bias", "mlp.experts.down_proj_bias" },
        .expert_flags = IR_BIAS | IR_ONE_PLUS,
        .clamp = (float)d->c->swiglu_limit,
        .alpha = (float)d->c->swiglu_alpha,
    };
    TRY(decoder_experts(m, d, d->c->num_experts, d->c->intermediate_size));
    return decoder_every_full(m, d, 2, d->c->sliding_window);
}

const struct family family_gpt_oss = { .model_type = "gpt_oss", .keys = keys, .read = read, .packings = packings };
