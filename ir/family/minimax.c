/* MiniMax-M2: q and k normed over all heads together, a part of each head turns, experts in all layers, chosen by sigmoid scores and a bias. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(200064, 3072, 1536, 62, 48, 8, 196608),
    SIZE_NONE(head_dim, 128),
    DECODER_ROPE,
    OTHER("partial_rotary_factor"),
    SIZE_NONE(rotary_dim, 0),
    EPS("rms_norm_eps", 1e-6),
    STD(0.02),
    WORD(hidden_act, "silu"),
    FLAG(tie_word_embeddings, false),
    SIZE_IN("num_local_experts", num_experts, 256),
    ALIAS("num_experts", "num_local_experts"),
    SIZE(num_experts_per_tok, 8),
    NUMBER(capacity_factor, 0, 0, 1e6),
    DECODER_Z,
    INFO("router_aux_loss_coef"),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    d->rope_class = (struct rope_class){ .theta = 5e6,
                                         .partial = d->c->rotary_dim ? (double)d->c->rotary_dim / d->head_dim : 1 };
    d->qk_norm = QK_WHOLE;
    decoder_sparse_from(d, 0);
    TRY(decoder_experts(m, d, d->c->num_experts, d->c->intermediate_size));
    d->moe.router_flags = IR_SIGMOID | IR_SELECT_BIAS | IR_NORM_TOPK;
    d->moe.router = "block_sparse_moe.gate.weight";
    d->moe.select_bias = "block_sparse_moe.e_score_correction_bias";
    d->moe.expert[0] = "block_sparse_moe.experts.*.w1.weight";
    d->moe.expert[1] = "block_sparse_moe.experts.*.w3.weight";
    d->moe.expert[2] = "block_sparse_moe.experts.*.w2.weight";
    return ST_OK;
}

const struct family family_minimax_m2 = { .model_type = "minimax_m2", .keys = keys, .read = read };
