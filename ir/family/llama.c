/* Llama and what is llama but for a few keys: mistral and ministral (windows), smollm3 (some layers without positions), mixtral
 * (experts). Defaults are those of the configuration classes, as in every family's file. */
#include "ir/family/decoder.h"

/* ---- llama ------------------------------------------------------------------------------------------------------ */

static const struct hf_key llama_keys[] = {
    DECODER_SIZES(32000, 4096, 11008, 32, 32, 0, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_USUAL(1e-6),
    FLAG(attention_bias, false),
    FLAG(mlp_bias, false),
    END,
};

static enum status read_llama(const struct hf_model *m, struct decoder *d)
{
    (void)m, (void)d;
    return ST_OK;
}

const struct family family_llama = { .model_type = "llama", .keys = llama_keys, .read = read_llama };

/* ---- mistral, ministral ----------------------------------------------------------------------------------------- */

#define MISTRAL_KEYS                                                                                      \
    DECODER_SIZES(32000, 4096, 14336, 32, 32, 8, 131072), SIZE_NONE(head_dim, 0), DECODER_ROPE,           \
        EPS("rms_norm_eps", 1e-6), STD(0.02), WORD(hidden_act, "silu"), FLAG(tie_word_embeddings, false), \
        SIZE_NONE(sliding_window, 4096)

static const struct hf_key mistral_keys[] = { MISTRAL_KEYS, END };
static const struct hf_key ministral_keys[] = { MISTRAL_KEYS, OTHER("layer_types"), END };

static enum status read_mistral(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    decoder_all_layers(d, d->c->sliding_window);
    return ST_OK;
}

static enum status read_ministral(const struct hf_model *m, struct decoder *d)
{
    decoder_all_layers(d, d->c->sliding_window);
    return decoder_layer_types(m, d, d->c->sliding_window);
}

const struct family family_mistral = { .model_type = "mistral", .keys = mistral_keys, .read = read_mistral };
const struct family family_ministral = { .model_type = "ministral", .keys = ministral_keys, .read = read_ministral };

/* ---- smollm3 ---------------------------------------------------------------------------------------------------- */

static const struct hf_key smollm3_keys[] = {
    DECODER_SIZES(128256, 2048, 11008, 36, 16, 4, 32768),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    EPS("rms_norm_eps", 1e-6),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, true),
    FLAG(attention_bias, false),
    FLAG(mlp_bias, false),
    FLAG(use_sliding_window, false),
    SIZE_NONE(sliding_window, 0),
    OTHER("layer_types"),
    OTHER("no_rope_layers"),
    INFO("max_window_layers"),
    SIZE(no_rope_layer_interval, 4),
    END,
};

/* Positions in all layers but every fourth, or as no_rope_layers says, whose 1 means that they are used. Layers without are those
 * that may have a window. */
static enum status read_smollm3(const struct hf_model *m, struct decoder *d)
{
    const uint32_t layers = d->c->num_hidden_layers, window = d->c->use_sliding_window ? d->c->sliding_window : 0;
    struct js list = hf_get(m, "no_rope_layers"), v;
    uint32_t n = layers;
    d->rope_class.theta = 2e6;
    if (list.v)
        TRY(js_count(&list, &n, m->e));
    if (n != layers)
        return js_wrong(&list, m->e, "found %u flags, expected one for each of the %u layers", n, layers);
    for (uint32_t i = 0; i < layers; i++) {
        int64_t rope = (i + 1) % d->c->no_rope_layer_interval != 0;
        if (list.v) {
            v = js_at(&list, i);
            TRY(js_int(&v, 0, 1, &rope, m->e));
        }
        d->layer[i].rope = rope;
        d->layer[i].sliding = window && !rope;
    }
    return decoder_layer_types(m, d, window);
}

const struct family family_smollm3 = { .model_type = "smollm3", .keys = smollm3_keys, .read = read_smollm3 };

/* ---- mixtral ---------------------------------------------------------------------------------------------------- */

static const struct hf_key mixtral_keys[] = {
    DECODER_SIZES(32000, 4096, 14336, 32, 32, 8, 131072),
    SIZE_NONE(head_dim, 0),
    DECODER_USUAL(1e-5),
    SIZE_NONE(sliding_window, 0),
    SIZE_IN("num_local_experts", num_experts, 8),
    ALIAS("num_experts", "num_local_experts"),
    SIZE(num_experts_per_tok, 2),
    DECODER_AUX(0.001),
    END,
};

static enum status read_mixtral(const struct hf_model *m, struct decoder *d)
{
    d->rope_class.theta = 1e6;
    d->moe.router = "block_sparse_moe.gate.weight";
    d->moe.expert[0] = "block_sparse_moe.experts.*.w1.weight";
    d->moe.expert[1] = "block_sparse_moe.experts.*.w3.weight";
    d->moe.expert[2] = "block_sparse_moe.experts.*.w2.weight";
    decoder_all_layers(d, d->c->sliding_window);
    decoder_sparse_from(d, 0);
    d->moe.router_flags = IR_NORM_TOPK; /* the class always divides by the sum */
    return decoder_experts(m, d, d->c->num_experts, d->c->intermediate_size);
}

const struct family family_mixtral = { .model_type = "mixtral", .keys = mixtral_keys, .read = read_mixtral };

/* ---- seed_oss, arcee -------------------------------------------------------------------------------------------- */

static const struct hf_key seed_oss_keys[] = {
    DECODER_SIZES(155136, 4096, 27648, 64, 80, 8, 524288),
    SIZE_NONE(head_dim, 128),
    DECODER_USUAL(1e-6),
    FLAG(attention_bias, true),
    FLAG(attention_out_bias, false),
    FLAG(mlp_bias, false),
    END,
};

static enum status read_seed_oss(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->o_bias = d->c->attention_out_bias;
    return ST_OK;
}

const struct family family_seed_oss = { .model_type = "seed_oss", .keys = seed_oss_keys, .read = read_seed_oss };

static const struct hf_key arcee_keys[] = {
    DECODER_SIZES(32000, 2560, 18432, 32, 32, 0, 4096),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    EPS("rms_norm_eps", 1e-5),
    STD(0.02),
    WORD(hidden_act, "relu2"),
    FLAG(tie_word_embeddings, false),
    FLAG(attention_bias, false),
    FLAG(mlp_bias, false),
    END,
};

static enum status read_arcee(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->gated = false;
    return ST_OK;
}

const struct family family_arcee = { .model_type = "arcee", .keys = arcee_keys, .read = read_arcee };
