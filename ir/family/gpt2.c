/* GPT-2: learned positions, LayerNorm, biases, packed q, k, v, Conv1D weights (in,out), gelu, tied head. Defaults are
 * GPT2Config's. */
#include <math.h>
#include <stdio.h>

#include "ir/family/build.h"
#include "ir/family/hf.h"

static const struct hf_key keys[] = {
    SIZE(vocab_size, 50257),
    SIZE_IN("n_positions", max_position_embeddings, 1024),
    SIZE_IN("n_embd", hidden_size, 768),
    SIZE_IN("n_layer", num_hidden_layers, 12),
    SIZE_IN("n_head", num_attention_heads, 12),
    SIZE_NONE(n_inner, 0),
    GPT2_NAMES,
    WORD_IN("activation_function", hidden_act, "gelu_new"),
    EPS("layer_norm_epsilon", 1e-5),
    STD(0.02),
    FLAG(tie_word_embeddings, true),
    INFO("reorder_and_upcast_attn"),
    REFUSED("scale_attn_weights", "true", "unscaled attention is not implemented"),
    REFUSED("scale_attn_by_inverse_layer_idx", "false", "attention scaled by the layer index is not implemented"),
    END,
};

struct gpt2 {
    uint32_t positions, width, layers, heads, inner;
    uint32_t gelu_flags;
    float eps;
    float residual_std; /* of the projections that end on the residual stream */
};

static enum status read_activation(const struct hf_model *m, uint32_t *flags)
{
    const char *name = m->c.hidden_act;
    *flags = strcmp(name, "gelu") == 0 ? IR_EXACT : 0;
    if (*flags || strcmp(name, "gelu_new") == 0 || strcmp(name, "gelu_pytorch_tanh") == 0)
        return ST_OK;
    struct js v = hf_get(m, "activation_function");
    return js_expected(&v, m->e, "\"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu\"; others are not implemented");
}

static enum status read_config(const struct hf_model *m, struct gpt2 *out)
{
    const struct config *c = &m->c;
    if (c->num_hidden_layers > LAYERS_MAX)
        return js_wrong(&m->js, m->e, "n_layer is %u, expected at most %d", c->num_hidden_layers, LAYERS_MAX);
    if (c->hidden_size % c->num_attention_heads != 0)
        return js_wrong(&m->js, m->e, "n_embd %u is not a multiple of n_head %u", c->hidden_size,
                        c->num_attention_heads);
    if (c->hidden_size > INT32_MAX / 4)
        return js_wrong(&m->js, m->e, "n_embd %u is too large, expected at most %d", c->hidden_size, INT32_MAX / 4);
    if (m->g->seq_len > c->max_position_embeddings)
        return js_wrong(&m->js, m->e, "seq_len is %u, but n_positions is %u: lower seq_len in train.json",
                        m->g->seq_len, c->max_position_embeddings);
    *out = (struct gpt2){ .positions = c->max_position_embeddings,
                          .width = c->hidden_size,
                          .layers = c->num_hidden_layers,
                          .heads = c->num_attention_heads,
                          .inner = c->n_inner ? c->n_inner : 4 * c->hidden_size,
                          .eps = (float)c->eps,
                          .residual_std = (float)(c->initializer_range / sqrt(2.0 * c->num_hidden_layers)) };
    return read_activation(m, &out->gelu_flags);
}

static uint32_t layer(struct builder *b, const struct gpt2 *c, uint32_t x)
{
    const uint32_t conv = IR_TRANSPOSED | IR_BIAS;
    uint32_t head_dim = c->width / c->heads;
    const struct fb_norm norm = { .op = IR_OP_LAYERNORM, .features = c->width, .eps = c->eps };
    uint32_t y = fb_norm(b, &norm, "attn.norm", "ln_1", x);
    y = fb_linear(b, "attn.c_attn", "attn.c_attn", y, &(struct fb_linear){ c->width, 3 * c->width, conv, b->std });
    struct ir_attrs core = { .heads = c->heads,
                             .kv_heads = c->heads,
                             .head_dim = head_dim,
                             .flags = IR_PACKED,
                             .scale = (float)(1 / sqrt(head_dim)) };
    y = fb_plain(b, IR_OP_ATTENTION, "attn.core", &core, y, IR_NONE);
    y = fb_linear(b, "attn.o_proj", "attn.c_proj", y, &(struct fb_linear){ c->width, c->width, conv, c->residual_std });
    x = fb_add(b, "attn.add", x, y, c->width);

    y = fb_norm(b, &norm, "mlp.norm", "ln_2", x);
    y = fb_linear(b, "mlp.up_proj", "mlp.c_fc", y, &(struct fb_linear){ c->width, c->inner, conv, b->std });
    struct ir_attrs act = { .features = c->inner, .flags = c->gelu_flags };
    y = fb_plain(b, IR_OP_GELU, "mlp.act", &act, y, IR_NONE);
    y = fb_linear(b, "mlp.down_proj", "mlp.c_proj", y,
                  &(struct fb_linear){ c->inner, c->width, conv, c->residual_std });
    return fb_add(b, "mlp.add", x, y, c->width);
}

static enum status build(const struct hf_model *m)
{
    struct gpt2 c = { 0 };
    struct builder b = { .g = m->g, .std = (float)m->c.initializer_range };
    TRY(read_config(m, &c));
    m->g->vocab = m->c.vocab_size;
    uint32_t table;
    uint32_t x = fb_embed(&b, "embed", "transformer.wte", c.width, &table);
    const struct ir_attrs pos = { .positions = c.positions, .features = c.width };
    x = fb_positions(&b, "embed.pos", "transformer.wpe", x, &pos);

    for (uint32_t i = 0; i < c.layers; i++) {
        b.block = i + 1;
        snprintf(b.op_prefix, sizeof b.op_prefix, "layers.%u.", i);
        snprintf(b.param_prefix, sizeof b.param_prefix, "transformer.h.%u.", i);
        x = layer(&b, &c, x);
    }
    b.block = c.layers + 1;
    b.op_prefix[0] = b.param_prefix[0] = '\0';
    const struct fb_norm norm = { .op = IR_OP_LAYERNORM, .features = c.width, .eps = c.eps };
    x = fb_norm(&b, &norm, "norm", "transformer.ln_f", x);
    const struct fb_head head = { .module = "lm_head",
                                  .features = c.width,
                                  .weight = m->c.tie_word_embeddings ? table : IR_NONE };
    fb_head(&b, &head, x);
    return ST_OK;
}

const struct family family_gpt2 = { .model_type = "gpt2", .keys = keys, .build = build };
