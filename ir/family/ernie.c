/* ERNIE 4.5: llama with rotation by pairs, all biases by one key. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(103424, 1024, 3072, 18, 16, 2, 131072),
    SIZE_NONE(head_dim, 128),
    DECODER_ROPE,
    EPS("rms_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, true),
    FLAG(use_bias, false),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->rope_class.theta = 5e5;
    d->rope_pairs = true;
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = d->mlp_bias = d->c->use_bias;
    return ST_OK;
}

const struct family family_ernie4_5 = { .model_type = "ernie4_5", .keys = keys, .read = read };

/* ---- ernie4_5_moe ----------------------------------------------------------------------------------------------- */

static const struct hf_key moe_keys[] = {
    DECODER_SIZES(103424, 2560, 12288, 28, 20, 4, 131072),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    EPS("rms_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, true),
    FLAG(use_bias, false),
    SIZE(moe_intermediate_size, 1536),
    SIZE_IN("moe_k", num_experts_per_tok, 6),
    ALIAS("num_experts_per_tok", "moe_k"),
    SIZE_IN("moe_num_experts", num_experts, 64),
    ALIAS("num_experts", "moe_num_experts"),
    COUNT_IN("moe_num_shared_experts", n_shared_experts, 2),
    COUNT(moe_layer_start_index, 1),
    OTHER("moe_layer_end_index"),
    SIZE(moe_layer_interval, 1),
    NUMBER(moe_norm_min, 1e-12, 0, 1e30),
    OTHER("output_router_logits"),
    NUMBER(capacity_factor, 0, 0, 1e6),
    DECODER_Z,
    INFO("router_aux_loss_coef"),
    END,
};

static const struct ir_packing packings[] = {
    { "mlp.moe_statics.e_score_correction_bias", PACK_ONE_ROW, { "mlp.moe_statics.e_score_correction_bias" } },
    { 0 },
};

static enum status read_sparse(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    int64_t last;
    TRY(js_int_or(&m->js, "moe_layer_end_index", -1, INT32_MAX, -1, &last, m->e));
    last = last < 0 ? (int64_t)c->num_hidden_layers - 1 : last;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        d->layer[i].sparse = (i + 1) % c->moe_layer_interval == 0 && i >= c->moe_layer_start_index && i <= last;
    return ST_OK;
}

/* The softmax over all experts, of which a bias helps to choose; weights are divided by their sum, or by moe_norm_min where that is
 * larger: with the smallest of weights alone, and not here. The class's load-balance loss takes no account of the bias. */
static enum status read_moe(const struct hf_model *m, struct decoder *d)
{
    struct js v = hf_get(m, "moe_norm_min");
    TRY(read(m, d));
    d->head_bias = d->c->use_bias;
    TRY(read_sparse(m, d));
    if (d->c->moe_norm_min > 1e-6)
        return js_expected(&v, m->e, "at most 1e-6, below which it has no effect");
    TRY(decoder_only_value(m, "output_router_logits", "false"));
    TRY(decoder_experts(m, d, d->c->num_experts, d->c->moe_intermediate_size));
    d->moe.router_flags = IR_SELECT_BIAS | IR_NORM_TOPK | IR_FLOAT32;
    d->moe.select_bias = "mlp.moe_statics.e_score_correction_bias";
    return decoder_shared_expert(m, d);
}

const struct family family_ernie4_5_moe = {
    .model_type = "ernie4_5_moe", .keys = moe_keys, .read = read_moe, .packings = packings
};
