/* StarCoder2: LayerNorm, biases, gelu without a gate. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(49152, 3072, 12288, 30, 24, 2, 4096),
    SIZE_NONE(head_dim, 0),
    DECODER_ROPE,
    EPS("norm_epsilon", 1e-5),
    STD(0.018042),
    WORD(hidden_act, "gelu_pytorch_tanh"),
    FLAG(tie_word_embeddings, true),
    FLAG(use_bias, true),
    SIZE_NONE(sliding_window, 0),
    END,
};

static enum status read(const struct hf_model *m, struct decoder *d)
{
    (void)m;
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = 0;
    d->gated = false;
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = d->mlp_bias = d->c->use_bias;
    d->names.up = "mlp.c_fc";
    d->names.down = "mlp.c_proj";
    decoder_all_layers(d, d->c->sliding_window);
    return ST_OK;
}

const struct family family_starcoder2 = { .model_type = "starcoder2", .keys = keys, .read = read };
