/* A decoder of today's families: what a reader says of it, and the graph that is built from that.
 *
 * decoder_build() fills in what a llama is from the configuration, lets the family's reader change what differs, and builds.
 * A layer is: x + attention(norm x), then x + mlp(norm x), with the norms where the family has them. */
#ifndef PIPER_IR_FAMILY_DECODER_H
#define PIPER_IR_FAMILY_DECODER_H

#include "ir/family/build.h"
#include "ir/family/rope.h"

enum decoder_qk_norm {
    QK_NONE,
    QK_HEAD,  /* each head by itself, one weight for all */
    QK_HEADS, /* each head by itself, with its own weight: of layernorm */
    QK_WHOLE  /* over all heads together */
};

/* Names of modules: of the whole, and below a layer. */
struct decoder_names {
    const char *embed, *positions, *embed_in, *embed_out, *layers, *norm, *head; /* norm NULL: none at the end */
    const char *attn_norm, *attn_post_norm, *mlp_norm, *mlp_post_norm;
    const char *q, *k, *v, *o, *q_norm, *k_norm;
    const char *gate, *up, *down;
    const char *shared_gate, *shared_up, *shared_down;
};

/* Latent attention (DeepSeek-V2, arXiv 2405.04434): queries and keys of nope + rope elements, of which the last turn, those of the keys the
 * same in all heads; keys and values come from one normed latent, queries too where q_rank is not 0. What a step keeps of it are the
 * operators' outputs: both latents, q, k and v. */
struct decoder_latent {
    uint32_t kv_rank, q_rank; /* kv_rank 0: the family has none */
    uint32_t nope, rope, v;
    float eps; /* of the norms of the latents */
};

struct decoder_layer {
    uint32_t window; /* keys that a query sees; 0: all */
    bool sliding;    /* the kind that the configuration gives it, for positions */
    bool rope;       /* has rotary positions */
    bool sparse;     /* has experts instead of one mlp */
};

struct decoder {
    const struct config *c;
    uint32_t heads, kv_heads, head_dim;
    uint32_t inner; /* width of the mlp */
    struct decoder_names names;
    struct decoder_layer *layer; /* [num_hidden_layers], the graph's */
    enum ir_op norm;             /* IR_OP_RMSNORM, IR_OP_LAYERNORM */
    uint32_t norm_flags;
    float eps;
    enum decoder_qk_norm qk_norm;
    enum ir_act act;
    bool norm_before, norm_after; /* both sublayers */
    bool norm_sum;                /* of x plus what a sublayer gave, under the names of those before it */
    uint32_t
        embed_width; /* of embeddings and what the head reads, where it is not the model's: names.embed_in and _out; or 0 */
    uint32_t first_position; /* names.positions: learned ones, this row for the first token; NULL: none */
    bool qk_norm_rotated;    /* after the rotation instead of before it */
    bool q_bias, k_bias, v_bias, o_bias, mlp_bias, gated;
    bool rope_pairs; /* elements 2i and 2i+1 turn, else i and i + half */
    bool parallel;   /* x + attention(norm x) + mlp(norm x); names.mlp_norm NULL: one norm for both */
    bool head_bias;
    float scale, score_cap;                         /* of the scores; 0: 1/sqrt(head_dim), none */
    const char *sinks;                              /* parameter of a logit for each head, or NULL */
    float clip;                                     /* bound of q, k and v; 0: none */
    float embed_scale, residual_scale, logit_scale; /* 1: none */
    bool embed_scale_rounded;                       /* to the job's type, before it multiplies */
    float logit_cap;                                /* 0: none */
    struct rope_class rope_class;
    struct rope rope[2]; /* of full and of sliding layers; read after the reader */
    struct fb_moe moe;
    struct decoder_latent latent;
    const char *shared_switch; /* linear (1,hidden) whose sigmoid multiplies the shared expert, or NULL */
    uint32_t shared;           /* width of the expert that every token goes to; 0: there is none */
};

/* ---- for readers ---------------------------------------------------------------------------------------------- */

/* The window of layers whose kind is sliding_attention: from the list layer_types, or by `sliding` [layers] where there is none.
 * window 0: no layer has one. */
enum status decoder_layer_types(const struct hf_model *m, struct decoder *d, uint32_t window);
/* All layers are sliding with this window; 0: none is. */
void decoder_all_layers(struct decoder *d, uint32_t window);
/* Every n-th layer is full, the others slide (n 0: all are full); a list layer_types comes first. */
enum status decoder_every_full(const struct hf_model *m, struct decoder *d, uint32_t n, uint32_t window);
/* Sizes of the experts, and the load-balance loss, after layer[].sparse is known. */
struct decoder_routed {
    uint32_t experts, top_k, ffn;
    bool norm_topk;
    double aux_coef; /* over all layers, with output_router_logits */
};
void decoder_routed(const struct hf_model *m, struct decoder *d, const struct decoder_routed *r);
enum status decoder_experts(const struct hf_model *m, struct decoder *d, uint32_t experts, uint32_t ffn);
/* The activation of that name, transformers' ACT2FN; v: where it stands. */
enum status decoder_activation(const struct hf_model *m, const struct js *v, const char *name, struct decoder *d);
/* Expert layers from this one on. */
void decoder_sparse_from(struct decoder *d, uint32_t first);
/* The key is missing or null, or has the one value (JSON) that the class computes. */
enum status decoder_only_value(const struct hf_model *m, const char *key, const char *value);
/* DeepSeek's own loss of sequences, times aux_loss_alpha in each layer; after decoder_experts(). */
enum status decoder_alpha(const struct hf_model *m, struct decoder *d);
/* n_shared_experts of moe_intermediate_size, side by side. */
enum status decoder_shared_expert(const struct hf_model *m, struct decoder *d);
/* The width of the mlp: as given, or four times that of the model. */
enum status decoder_inner(const struct hf_model *m, struct decoder *d, uint32_t given);
/* The router of DeepSeek-V3: sigmoid scores, a bias that only chooses, groups, a factor; and a shared expert. */
enum status decoder_sigmoid_router(const struct hf_model *m, struct decoder *d);
/* Expert layers where decoder_sparse_step divides i + 1, but for those in mlp_only_layers. */
enum status decoder_sparse_step(const struct hf_model *m, struct decoder *d);

enum status decoder_build(struct hf_model *m);

/* The keys of all decoders with rotary positions and RMSNorm. kv_heads 0: as many as heads, and null too. */
#define DECODER_SIZES(vocab, hidden, inner, layers, heads, kv_heads, positions)                                      \
    SIZE(vocab_size, vocab), SIZE(hidden_size, hidden), SIZE(intermediate_size, inner),                              \
        SIZE(num_hidden_layers, layers), SIZE(num_attention_heads, heads), SIZE_NONE(num_key_value_heads, kv_heads), \
        SIZE(max_position_embeddings, positions)
#define DECODER_ROPE OTHER("rope_theta"), OTHER("rope_scaling"), OTHER("rope_parameters")
/* What most classes have beside sizes: RMSNorm with this eps, silu, a head of its own. */
#define DECODER_USUAL(eps) \
    DECODER_ROPE, EPS("rms_norm_eps", eps), STD(0.02), WORD(hidden_act, "silu"), FLAG(tie_word_embeddings, false)
#define DECODER_SIGMOID_ROUTER                                                                                       \
    ALIAS("num_local_experts", "n_routed_experts"), ALIAS("num_experts", "n_routed_experts"), OTHER("scoring_func"), \
        OTHER("topk_method"), OTHER("moe_layer_freq"), NUMBER(capacity_factor, 0, 0, 1e6), DECODER_ALPHA
#define DECODER_MTP COUNT(num_nextn_predict_layers, 1), ALIAS("num_mtp_layers", "num_nextn_predict_layers")
#define DECODER_Z   NUMBER(router_z_loss_coef, 0, 0, 1e6)
#define DECODER_AUX(coef)                                                                                              \
    FLAG(output_router_logits, false), NUMBER(router_aux_loss_coef, coef, 0, 1e6), NUMBER(capacity_factor, 0, 0, 1e6), \
        DECODER_Z
/* The load-balance loss of DeepSeek's own classes. */
#define DECODER_ALPHA NUMBER(aux_loss_alpha, 0, 0, 1e6), FLAG(seq_aux, true), DECODER_Z

#endif
