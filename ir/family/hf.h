/* Reading a Hugging Face configuration.
 *
 * A family's table is its configuration class: a row a key, with the type and the default of the class. A key of model.json is
 * then one of: used (in the family's table); descriptive or without effect here (ignored); noise of training, as dropout (trains as
 * 0, a notice when it is not 0); of another family, or known to change the mathematics somewhere (refused unless it has the value
 * that changes nothing); unknown (a notice). The lists that all families share are in keys.c. A missing key is the class's
 * default. null is none where the class allows it, else the default too. */
#ifndef PIPER_IR_FAMILY_HF_H
#define PIPER_IR_FAMILY_HF_H

#include <stddef.h>

#include "ir/family/family.h"

enum { LAYERS_MAX = 1 << 12 /* of published models the deepest have some hundreds */ };

/* The values that have a fixed type, by the names of their keys; none is 0 or NULL. A key that no table of the family has is
 * 0 too. */
struct config {
    uint32_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
        head_dim, max_position_embeddings;
    uint32_t n_inner, ffn_hidden_size, rotary_dim, num_kv_heads, num_ln_in_parallel_attn, word_embed_proj_dim;
    uint32_t moe_layer_start_index, moe_layer_interval;
    uint32_t sliding_window, sliding_window_pattern, max_window_layers, no_rope_layer_interval;
    uint32_t num_experts, num_experts_per_tok, moe_intermediate_size, decoder_sparse_step;
    uint32_t n_routed_experts, n_shared_experts, n_group, topk_group, first_k_dense_replace;
    uint32_t q_lora_rank, kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim;
    uint32_t shared_expert_intermediate_size, num_nextn_predict_layers;
    double eps, initializer_range;
    double router_aux_loss_coef, router_z_loss_coef, aux_loss_alpha, capacity_factor;
    double routed_scaling_factor, swiglu_alpha, swiglu_limit;
    double clip_qkv, embedding_multiplier, residual_multiplier, logits_scaling, attention_multiplier, logit_scale;
    double moe_norm_min, query_pre_attn_scalar, attn_logit_softcapping, final_logit_softcapping;
    const char *hidden_act, *topk_method;
    bool rope_interleave, qkv_bias;
    bool do_layer_norm_before, layer_norm_elementwise_affine, remove_final_layer_norm;
    bool new_decoder_architecture, multi_query, parallel_attn, bias;
    bool tie_word_embeddings, attention_bias, attention_out_bias, mlp_bias, use_sliding_window, use_bias, use_qk_norm,
        use_parallel_residual, qk_layernorm, norm_topk_prob, output_router_logits, seq_aux;
};

enum hf_kind {
    HF_END,
    HF_SIZE,   /* 1 to 2^31-1, or none */
    HF_COUNT,  /* 0 to 2^31-1 */
    HF_NUMBER, /* in its range */
    HF_FLAG,
    HF_WORD,
    HF_OTHER,   /* the reader looks itself */
    HF_ALIAS,   /* another name of the key `word` */
    HF_INFO,    /* descriptive or without effect on training here: ignored */
    HF_NOISE,   /* trains as 0 */
    HF_NEUTRAL, /* refused unless null or the JSON value `word`, in a list every element; word NULL: null alone */
};
struct hf_key {
    const char *name;
    enum hf_kind kind;
    bool none;              /* null is none, 0; else it is the default */
    uint16_t at;            /* in struct config */
    double dflt;            /* of HF_FLAG 0 or 1 */
    double range[2];        /* of HF_NUMBER: lowest, highest */
    const char *word, *why; /* why: of HF_NEUTRAL, instead of the families that have the key */
};

/* Rows of the tables. A key's field has its name, or is named beside it. */
/* clang-format off */
#define HF_ROW(key, of_kind, ...) { .name = key, .kind = of_kind, __VA_ARGS__ }
#define CONFIG_AT(field) .at = (uint16_t)offsetof(struct config, field)
#define SIZE_IN(key, field, x) HF_ROW(key, HF_SIZE, CONFIG_AT(field), .dflt = x)
#define SIZE(key, x) SIZE_IN(#key, key, x)
#define SIZE_NONE(key, x) HF_ROW(#key, HF_SIZE, CONFIG_AT(key), .dflt = x, .none = true)
#define COUNT_IN(key, field, x) HF_ROW(key, HF_COUNT, CONFIG_AT(field), .dflt = x)
#define COUNT(key, x) COUNT_IN(#key, key, x)
#define COUNT_NONE(key, x) HF_ROW(#key, HF_COUNT, CONFIG_AT(key), .dflt = x, .none = true)
#define NUMBER_IN(key, field, x, lo, hi) HF_ROW(key, HF_NUMBER, CONFIG_AT(field), .dflt = x, .range = { lo, hi })
#define NUMBER(key, x, lo, hi) NUMBER_IN(#key, key, x, lo, hi)
#define NUMBER_NONE(key, x, lo, hi) HF_ROW(#key, HF_NUMBER, CONFIG_AT(key), .dflt = x, .range = { lo, hi }, .none = true)
#define EPS(key, x) NUMBER_IN(key, eps, x, 1e-30, 1)
#define STD(x) NUMBER(initializer_range, x, 0, 10)
#define FLAG_IN(key, field, x) HF_ROW(key, HF_FLAG, CONFIG_AT(field), .dflt = x)
#define FLAG(key, x) FLAG_IN(#key, key, x)
#define WORD_IN(key, field, x) HF_ROW(key, HF_WORD, CONFIG_AT(field), .word = x)
#define WORD(key, x) WORD_IN(#key, key, x)
#define OTHER(key) HF_ROW(key, HF_OTHER, .word = NULL)
#define ALIAS(key, of) HF_ROW(key, HF_ALIAS, .word = of)
#define INFO(key) HF_ROW(key, HF_INFO, .word = NULL)
#define NOISE(key) HF_ROW(key, HF_NOISE, .word = NULL)
#define NEUTRAL(key, value) HF_ROW(key, HF_NEUTRAL, .word = value)
#define REFUSED(key, value, because) HF_ROW(key, HF_NEUTRAL, .word = value, .why = because)
#define END { .kind = HF_END }
/* The classes that have GPT-2's names of sizes: the later names, and what is for other tasks. */
#define GPT2_NAMES \
    ALIAS("max_position_embeddings", "n_positions"), ALIAS("hidden_size", "n_embd"), \
    ALIAS("num_hidden_layers", "n_layer"), ALIAS("num_attention_heads", "n_head"), INFO("n_ctx"), \
    INFO("summary_type"), INFO("summary_use_proj"), INFO("summary_activation"), \
    INFO("summary_proj_to_labels"), INFO("summary_first_dropout")
/* clang-format on */

extern const struct hf_key hf_common_keys[]; /* ignored and noise, in every family */
extern const struct hf_key hf_math_keys[]; /* refused unless neutral, in every family that has them not in its table */

struct hf_model { /* what a reader reads from and a builder writes to */
    struct js js; /* the object */
    const struct family *family;
    struct notices *notices;
    struct ir_graph *g;
    struct err *e;
    struct config c;
};

/* Every key has its kind, see above; fills in m->c. */
enum status hf_read(struct hf_model *m);
struct js hf_get(const struct hf_model *m, const char *key); /* .v NULL when absent or null; .path names it */
bool hf_is_null(const struct hf_model *m, const char *key);  /* there, and null */

/* Why a family that transformers has is not one here, or NULL: "layers with a recurrent state". */
const char *hf_why_not(const char *model_type);

#endif
