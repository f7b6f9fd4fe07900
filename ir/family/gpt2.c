/* GPT-2: learned positions, LayerNorm, packed projection of q, k, v, Conv1D weights (in,out), gelu, tied head. Defaults
 * are GPT2Config's. */
#include <math.h>
#include <stdio.h>

#include "ir/family/build.h"
#include "ir/family/family.h"

struct gpt2 {
    uint32_t positions, width, layers, heads, inner;
    uint32_t gelu_flags;
    float eps;
    bool tied;
    float residual_std; /* of the projections that end on the residual stream */
};

static enum status read_activation(const struct hf_model *m, uint32_t *flags)
{
    const char *name;
    TRY(hf_str(m, "activation_function", "gelu_new", &name));
    *flags = strcmp(name, "gelu") == 0 ? IR_EXACT : 0;
    if (*flags || strcmp(name, "gelu_new") == 0 || strcmp(name, "gelu_pytorch_tanh") == 0)
        return ST_OK;
    struct js v = hf_get(m, "activation_function");
    return js_expected(&v, m->e, "\"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu\"; others are not implemented");
}

static enum status read_config(const struct hf_model *m, struct gpt2 *c, float *std)
{
    TRY(hf_size(m, "vocab_size", 50257, &m->g->vocab));
    TRY(hf_size(m, "n_positions", 1024, &c->positions));
    TRY(hf_size(m, "n_embd", 768, &c->width));
    TRY(hf_size(m, "n_layer", 12, &c->layers));
    TRY(hf_size(m, "n_head", 12, &c->heads));
    if (c->layers > LAYERS_MAX)
        return js_wrong(&m->js, m->e, "n_layer is %u, expected at most %d", c->layers, LAYERS_MAX);
    if (c->width % c->heads != 0)
        return js_wrong(&m->js, m->e, "n_embd %u is not a multiple of n_head %u", c->width, c->heads);
    if (c->width > INT32_MAX / 4)
        return js_wrong(&m->js, m->e, "n_embd %u is too large, expected at most %d", c->width, INT32_MAX / 4);
    TRY(hf_size(m, "n_inner", 4 * c->width, &c->inner));
    TRY(hf_float(m, "layer_norm_epsilon", 1e-30, 1, 1e-5, &c->eps));
    TRY(hf_float(m, "initializer_range", 0, 10, 0.02, std));
    TRY(hf_bool(m, "tie_word_embeddings", true, &c->tied));
    c->residual_std = (float)(*std / sqrt(2.0 * c->layers));
    return read_activation(m, &c->gelu_flags);
}

static uint32_t layer(struct builder *b, const struct gpt2 *c, uint32_t x)
{
    const uint32_t conv = IR_TRANSPOSED | IR_BIAS;
    uint32_t head_dim = c->width / c->heads;
    uint32_t y = fb_layernorm(b, "attn.norm", "ln_1", x, c->width, c->eps);
    y = fb_linear(b, "attn.c_attn", "attn.c_attn", y, c->width, 3 * c->width, conv, b->std);
    struct ir_attrs core = { .heads = c->heads,
                             .kv_heads = c->heads,
                             .head_dim = head_dim,
                             .flags = IR_PACKED,
                             .scale = (float)(1 / sqrt(head_dim)) };
    y = fb_plain(b, IR_OP_ATTENTION, "attn.core", &core, y, IR_NONE, IR_NONE);
    y = fb_linear(b, "attn.o_proj", "attn.c_proj", y, c->width, c->width, conv, c->residual_std);
    x = fb_add(b, "attn.add", x, y, c->width);

    y = fb_layernorm(b, "mlp.norm", "ln_2", x, c->width, c->eps);
    y = fb_linear(b, "mlp.up_proj", "mlp.c_fc", y, c->width, c->inner, conv, b->std);
    struct ir_attrs act = { .features = c->inner, .flags = c->gelu_flags };
    y = fb_plain(b, IR_OP_GELU, "mlp.act", &act, y, IR_NONE, IR_NONE);
    y = fb_linear(b, "mlp.down_proj", "mlp.c_proj", y, c->inner, c->width, conv, c->residual_std);
    return fb_add(b, "mlp.add", x, y, c->width);
}

enum status hf_build_gpt2(const struct hf_model *m)
{
    struct gpt2 c;
    struct builder b = { .g = m->g };
    TRY(read_config(m, &c, &b.std));
    if (m->g->seq_len > c.positions)
        return js_wrong(&m->js, m->e, "seq_len is %u, but n_positions is %u: lower seq_len in train.json",
                        m->g->seq_len, c.positions);
    uint32_t table;
    uint32_t x = fb_embed(&b, "embed", "transformer.wte", c.width, &table);
    struct ir_attrs pos = { .positions = c.positions, .features = c.width };
    struct ir_op_in in = { .tensor = { x } };
    struct ir_shape w = { IR_COMPUTE, 2, { c.positions, c.width, 0 } };
    in.param[0] = ir_graph_param(m->g, "transformer.wpe.weight", w, IR_INIT_NORMAL, b.std);
    x = ir_graph_out(m->g, ir_graph_op(m->g, IR_OP_POS_EMBED, "embed.pos", 0, &pos, &in), 0);

    for (uint32_t i = 0; i < c.layers; i++) {
        b.block = i + 1;
        snprintf(b.op_prefix, sizeof b.op_prefix, "layers.%u.", i);
        snprintf(b.param_prefix, sizeof b.param_prefix, "transformer.h.%u.", i);
        x = layer(&b, &c, x);
    }
    b.block = c.layers + 1;
    b.op_prefix[0] = b.param_prefix[0] = '\0';
    x = fb_layernorm(&b, "norm", "transformer.ln_f", x, c.width, c.eps);
    fb_head(&b, x, c.width, c.tied ? table : IR_NONE);
    return ST_OK;
}
