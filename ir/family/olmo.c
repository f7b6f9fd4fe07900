/* OLMo: olmo norms without weights and may clamp q, k and v; olmo2 and olmo3 norm what the sublayers give instead of what they take, and queries and keys over all heads together; olmo3
 * has windows in three of four layers; olmoe has experts, and its norms before. */
#include "ir/family/decoder.h"

#define OLMO_KEYS(tied)                                                                                   \
    SIZE_NONE(head_dim, 0), DECODER_ROPE, EPS("rms_norm_eps", 1e-5), STD(0.02), WORD(hidden_act, "silu"), \
        FLAG(tie_word_embeddings, tied), FLAG(attention_bias, false)

static void norm_after(struct decoder *d)
{
    d->norm_flags = 0;
    d->qk_norm = QK_WHOLE;
    d->norm_before = false;
    d->norm_after = true;
}

/* ---- olmo ------------------------------------------------------------------------------------------------------- */

static const struct hf_key olmo_keys[] = {
    DECODER_SIZES(50304, 4096, 11008, 32, 32, 0, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, false),
    FLAG(attention_bias, false),
    NUMBER_NONE(clip_qkv, 0, 1e-30, 1e30),
    END,
};

static enum status read_olmo(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = IR_NO_WEIGHT;
    d->eps = 1e-5f;
    d->clip = (float)d->c->clip_qkv;
    return ST_OK;
}

const struct family family_olmo = { .model_type = "olmo", .keys = olmo_keys, .read = read_olmo };

/* ---- olmo2 ------------------------------------------------------------------------------------------------------ */

static const struct hf_key olmo2_keys[] = {
    DECODER_SIZES(50304, 4096, 11008, 32, 32, 0, 2048),
    OLMO_KEYS(false),
    END,
};

static enum status read_olmo2(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    norm_after(d);
    return ST_OK;
}

const struct family family_olmo2 = { .model_type = "olmo2", .keys = olmo2_keys, .read = read_olmo2 };

/* ---- olmo3 ------------------------------------------------------------------------------------------------------ */

static const struct hf_key olmo3_keys[] = {
    DECODER_SIZES(50304, 4096, 11008, 32, 32, 0, 2048),
    OLMO_KEYS(false),
    SIZE_NONE(sliding_window, 4096),
    OTHER("layer_types"),
    END,
};

static enum status read_olmo3(const struct hf_model *m, struct decoder *d)
{
    double theta;
    norm_after(d);
    d->rope_class = (struct rope_class){ .theta = 5e5, .by_kind = true };
    TRY(js_num_or(&m->js, "rope_theta", 1e-3, 1e30, 5e5, &theta, m->e));
    struct js v = hf_get(m, "rope_theta");
    if (theta != 5e5) /* transformers 4 gives it to all layers, 5 to the full ones alone */
        return js_expected(&v, m->e, "500000, or rope_parameters with a rope_theta for each kind of layer");
    return decoder_every_full(m, d, 4, d->c->sliding_window);
}

const struct family family_olmo3 = { .model_type = "olmo3", .keys = olmo3_keys, .read = read_olmo3 };

/* ---- olmoe ------------------------------------------------------------------------------------------------------ */

static const struct hf_key olmoe_keys[] = {
    DECODER_SIZES(50304, 2048, 2048, 16, 16, 0, 4096),
    OLMO_KEYS(false),
    SIZE(num_experts, 64),
    ALIAS("num_local_experts", "num_experts"),
    SIZE(num_experts_per_tok, 8),
    FLAG(norm_topk_prob, false),
    NUMBER_NONE(clip_qkv, 0, 1e-30, 1e30),
    DECODER_AUX(0.01),
    END,
};

static enum status read_olmoe(const struct hf_model *m, struct decoder *d)
{
    d->qk_norm = QK_WHOLE;
    d->clip = (float)d->c->clip_qkv;
    decoder_sparse_from(d, 0);
    return decoder_experts(m, d, d->c->num_experts, d->c->intermediate_size);
}

const struct family family_olmoe = { .model_type = "olmoe", .keys = olmoe_keys, .read = read_olmoe };
