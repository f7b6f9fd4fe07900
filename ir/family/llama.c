/* Llama and its relatives: RMSNorm, rotary embedding by halves, grouped queries, SwiGLU; qwen3 and qwen3_moe norm
 * queries and keys per head before the rotation; qwen3_moe and mixtral route to experts. Defaults are those of
 * LlamaConfig, Qwen3Config, Qwen3MoeConfig and MixtralConfig. */
#include <math.h>
#include <stdio.h>

#include "ir/family/build.h"
#include "ir/family/family.h"

struct defaults {
    uint32_t vocab, hidden, intermediate, layers, heads, kv_heads, head_dim,
        positions; /* kv_heads 0: heads; head_dim 0:
                                                                                           hidden/heads */
    double eps, theta;
};

struct decoder {
    uint32_t hidden, intermediate, layers, heads, kv_heads, head_dim;
    float eps, theta, std;
    bool tied, qk_norm, attention_bias, mlp_bias;
    bool *sparse; /* [layers]: has experts; in the graph's arena */
    struct fb_moe moe;
};

/* ---- rotary embedding, windows -------------------------------------------------------------------------------- */

/* rope_scaling or rope_parameters: nothing but the plain rotation, whose base it may give. */
static enum status read_rope_object(const struct hf_model *m, const char *key, double *theta)
{
    struct js o = hf_get(m, key), v;
    if (!o.v)
        return ST_OK;
    for (int i = 0; i < 2; i++) {
        const char *kind;
        TRY(js_opt(&o, i ? "type" : "rope_type", &v, m->e));
        TRY(js_str_or(&o, i ? "type" : "rope_type", "default", &kind, m->e));
        if (strcmp(kind, "default") != 0)
            return js_expected(&v, m->e, "\"default\": scaled rotary embeddings are not implemented");
    }
    double part, was = *theta;
    TRY(js_opt(&o, "partial_rotary_factor", &v, m->e));
    TRY(js_num_or(&o, "partial_rotary_factor", 0, 1, 1, &part, m->e));
    if (part != 1)
        return js_expected(&v, m->e, "1: partial rotary embedding is not implemented");
    TRY(js_opt(&o, "rope_theta", &v, m->e));
    TRY(js_num_or(&o, "rope_theta", 1e-3, 1e30, was, theta, m->e));
    if (js_has(&m->js, "rope_theta") && *theta != was)
        return js_expected(&v, m->e, "the value of rope_theta next to it, %.9g", was);
    static const char *const known[] = { "rope_type", "type", "rope_theta", "partial_rotary_factor", NULL };
    return js_only(&o, known, m->e);
}

static enum status read_rope(const struct hf_model *m, double dflt, float *theta)
{
    double x;
    TRY(js_num_or(&m->js, "rope_theta", 1e-3, 1e30, dflt, &x, m->e));
    TRY(read_rope_object(m, "rope_scaling", &x));
    TRY(read_rope_object(m, "rope_parameters", &x));
    *theta = (float)x;
    return ST_OK;
}

/* Attention is full: no window that is shorter than the sequence, no layer of another type. window_in_use: the key
 * sliding_window counts. */
static enum status check_windows(const struct hf_model *m, bool window_in_use, int64_t dflt)
{
    int64_t window = 0;
    struct js types = hf_get(m, "layer_types"), v = hf_get(m, "sliding_window");
    if (window_in_use && !hf_is_null(m, "sliding_window"))
        TRY(js_int_or(&m->js, "sliding_window", 1, INT32_MAX, dflt, &window, m->e));
    bool narrow = window && window < m->g->seq_len;
    if (!types.v)
        return narrow ? js_expected(
                            &v, m->e,
                            "null, or at least the sequence length %u: sliding-window attention is not implemented",
                            m->g->seq_len)
                      : ST_OK;
    uint32_t n;
    TRY(js_count(&types, &n, m->e));
    for (uint32_t i = 0; i < n; i++) {
        const char *type;
        v = js_at(&types, i);
        TRY(js_str(&v, &type, m->e));
        if (strcmp(type, "full_attention") != 0 && (narrow || strcmp(type, "sliding_attention") != 0))
            return js_expected(&v, m->e, "\"full_attention\": other types of layers are not implemented");
    }
    return ST_OK;
}

/* ---- configuration -------------------------------------------------------------------------------------------- */

static enum status read_heads(const struct hf_model *m, const struct defaults *d, struct decoder *c)
{
    TRY(hf_size(m, "num_attention_heads", d->heads, &c->heads));
    uint32_t kv = d->kv_heads && !hf_is_null(m, "num_key_value_heads") ? d->kv_heads : c->heads;
    TRY(hf_size(m, "num_key_value_heads", kv, &c->kv_heads));
    if (c->heads % c->kv_heads != 0)
        return js_wrong(&m->js, m->e, "num_attention_heads %u is not a multiple of num_key_value_heads %u", c->heads,
                        c->kv_heads);
    uint32_t dim = d->head_dim ? d->head_dim : c->hidden / c->heads;
    if (!d->head_dim && !js_has(&m->js, "head_dim") && c->hidden % c->heads != 0)
        return js_wrong(&m->js, m->e,
                        "hidden_size %u is not a multiple of num_attention_heads %u, and head_dim is not "
                        "given",
                        c->hidden, c->heads);
    TRY(hf_size(m, "head_dim", dim, &c->head_dim));
    if (c->head_dim % 2 != 0)
        return js_wrong(&m->js, m->e, "the head size is %u; rotary embedding requires an even one", c->head_dim);
    return ST_OK;
}

static enum status read_activation(const struct hf_model *m)
{
    const char *name;
    TRY(hf_str(m, "hidden_act", "silu", &name));
    if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0)
        return ST_OK;
    struct js v = hf_get(m, "hidden_act");
    return js_expected(&v, m->e, "\"silu\"; others are not implemented");
}

static enum status read_config(const struct hf_model *m, const struct defaults *d, struct decoder *c)
{
    uint32_t positions;
    TRY(hf_size(m, "vocab_size", d->vocab, &m->g->vocab));
    TRY(hf_size(m, "hidden_size", d->hidden, &c->hidden));
    TRY(hf_size(m, "intermediate_size", d->intermediate, &c->intermediate));
    TRY(hf_size(m, "num_hidden_layers", d->layers, &c->layers));
    if (c->layers > LAYERS_MAX)
        return js_wrong(&m->js, m->e, "num_hidden_layers is %u, expected at most %d", c->layers, LAYERS_MAX);
    TRY(read_heads(m, d, c));
    TRY(hf_size(m, "max_position_embeddings", d->positions, &positions));
    if (m->g->seq_len > positions)
        notices_add(m->notices, m->js.file, "$: seq_len %u is beyond max_position_embeddings, %u", m->g->seq_len,
                    positions);
    TRY(hf_float(m, "rms_norm_eps", 1e-30, 1, d->eps, &c->eps));
    TRY(hf_float(m, "initializer_range", 0, 10, 0.02, &c->std));
    TRY(hf_bool(m, "tie_word_embeddings", false, &c->tied));
    TRY(read_activation(m));
    TRY(read_rope(m, d->theta, &c->theta));
    c->sparse = arena_array(&m->g->arena, bool, c->layers);
    return ST_OK;
}

/* Common keys of the router. HF computes one auxiliary loss over all layers together, the mean over layers in size;
 * ours is per layer and sequence, so each layer gets its share of the coefficient. */
static enum status read_moe(const struct hf_model *m, struct decoder *c, const char *experts, uint32_t dflt_experts,
                            uint32_t dflt_top_k)
{
    bool aux;
    float coef;
    double factor;
    TRY(hf_size(m, experts, dflt_experts, &c->moe.experts));
    TRY(hf_size(m, "num_experts_per_tok", dflt_top_k, &c->moe.top_k));
    if (c->moe.top_k > c->moe.experts)
        return js_wrong(&m->js, m->e, "num_experts_per_tok is %u, but there are %u experts", c->moe.top_k,
                        c->moe.experts);
    TRY(hf_bool(m, "output_router_logits", false, &aux));
    TRY(hf_float(m, "router_aux_loss_coef", 0, 1e6, 0.001, &coef));
    TRY(hf_number(m, "capacity_factor", 0, 1e6, 0, &factor));
    uint32_t sparse = 0;
    for (uint32_t i = 0; i < c->layers; i++)
        sparse += c->sparse[i];
    c->moe.aux_coef = aux && sparse ? coef / (float)sparse : 0;
    c->moe.features = c->hidden;
    c->moe.capacity = ir_capacity(factor, m->g->seq_len, c->moe.top_k, c->moe.experts);
    return ST_OK;
}

/* ---- the graph ------------------------------------------------------------------------------------------------ */

static uint32_t attention(struct builder *b, const struct decoder *c, uint32_t x)
{
    uint32_t bias = c->attention_bias ? IR_BIAS : 0, width = c->heads * c->head_dim,
             kv_width = c->kv_heads * c->head_dim;
    uint32_t y = fb_rmsnorm(b, "attn.norm", "input_layernorm", x, c->hidden, 1, c->eps);
    uint32_t q = fb_linear(b, "attn.q_proj", "self_attn.q_proj", y, c->hidden, width, bias, b->std);
    uint32_t k = fb_linear(b, "attn.k_proj", "self_attn.k_proj", y, c->hidden, kv_width, bias, b->std);
    uint32_t v = fb_linear(b, "attn.v_proj", "self_attn.v_proj", y, c->hidden, kv_width, bias, b->std);
    if (c->qk_norm) {
        q = fb_rmsnorm(b, "attn.q_norm", "self_attn.q_norm", q, c->head_dim, c->heads, c->eps);
        k = fb_rmsnorm(b, "attn.k_norm", "self_attn.k_norm", k, c->head_dim, c->kv_heads, c->eps);
    }
    struct ir_attrs rope = { .heads = c->heads, .head_dim = c->head_dim, .theta = c->theta };
    q = fb_plain(b, IR_OP_ROPE, "attn.q_rope", &rope, q, IR_NONE, IR_NONE);
    rope.heads = c->kv_heads;
    k = fb_plain(b, IR_OP_ROPE, "attn.k_rope", &rope, k, IR_NONE, IR_NONE);
    struct ir_attrs core = {
        .heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim, .scale = (float)(1 / sqrt(c->head_dim))
    };
    y = fb_plain(b, IR_OP_ATTENTION, "attn.core", &core, q, k, v);
    y = fb_linear(b, "attn.o_proj", "self_attn.o_proj", y, width, c->hidden, bias, b->std);
    return fb_add(b, "attn.add", x, y, c->hidden);
}

static uint32_t mlp(struct builder *b, const struct decoder *c, uint32_t x, bool sparse)
{
    uint32_t bias = c->mlp_bias ? IR_BIAS : 0;
    uint32_t y = fb_rmsnorm(b, "mlp.norm", "post_attention_layernorm", x, c->hidden, 1, c->eps);
    if (sparse)
        return fb_add(b, "mlp.add", x, fb_moe(b, &c->moe, y), c->hidden);
    uint32_t gate = fb_linear(b, "mlp.gate_proj", "mlp.gate_proj", y, c->hidden, c->intermediate, bias, b->std);
    uint32_t up = fb_linear(b, "mlp.up_proj", "mlp.up_proj", y, c->hidden, c->intermediate, bias, b->std);
    struct ir_attrs act = { .features = c->intermediate };
    y = fb_plain(b, IR_OP_SWIGLU, "mlp.act", &act, gate, up, IR_NONE);
    y = fb_linear(b, "mlp.down_proj", "mlp.down_proj", y, c->intermediate, c->hidden, bias, b->std);
    return fb_add(b, "mlp.add", x, y, c->hidden);
}

static enum status build(const struct hf_model *m, const struct decoder *c)
{
    if ((uint64_t)c->heads * c->head_dim > INT32_MAX)
        return js_wrong(&m->js, m->e, "num_attention_heads %u times head size %u is above 2^31 - 1", c->heads,
                        c->head_dim);
    struct builder b = { .g = m->g, .std = c->std };
    uint32_t table, x = fb_embed(&b, "embed", "model.embed_tokens", c->hidden, &table);
    for (uint32_t i = 0; i < c->layers; i++) {
        b.block = i + 1;
        snprintf(b.op_prefix, sizeof b.op_prefix, "layers.%u.", i);
        snprintf(b.param_prefix, sizeof b.param_prefix, "model.layers.%u.", i);
        x = attention(&b, c, x);
        x = mlp(&b, c, x, c->sparse[i]);
    }
    b.block = c->layers + 1;
    b.op_prefix[0] = b.param_prefix[0] = '\0';
    x = fb_rmsnorm(&b, "norm", "model.norm", x, c->hidden, 1, c->eps);
    fb_head(&b, x, c->hidden, c->tied ? table : IR_NONE);
    return ST_OK;
}

/* ---- families ------------------------------------------------------------------------------------------------- */

enum status hf_build_llama(const struct hf_model *m)
{
    static const struct defaults d = { 32000, 4096, 11008, 32, 32, 0, 0, 2048, 1e-6, 10000 };
    struct decoder c = { 0 };
    TRY(read_config(m, &d, &c));
    TRY(hf_bool(m, "attention_bias", false, &c.attention_bias));
    TRY(hf_bool(m, "mlp_bias", false, &c.mlp_bias));
    return build(m, &c);
}

static enum status read_qwen3(const struct hf_model *m, const struct defaults *d, struct decoder *c)
{
    bool window;
    TRY(read_config(m, d, c));
    c->qk_norm = true;
    TRY(hf_bool(m, "attention_bias", false, &c->attention_bias));
    TRY(hf_bool(m, "use_sliding_window", false, &window));
    return check_windows(m, window, 4096);
}

enum status hf_build_qwen3(const struct hf_model *m)
{
    static const struct defaults d = { 151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-6, 10000 };
    struct decoder c = { 0 };
    TRY(read_qwen3(m, &d, &c));
    return build(m, &c);
}

/* Layer i has experts when i is not in mlp_only_layers and decoder_sparse_step divides i + 1. */
static enum status read_sparse_layers(const struct hf_model *m, struct decoder *c)
{
    uint32_t step, n = 0;
    TRY(hf_size(m, "decoder_sparse_step", 1, &step));
    for (uint32_t i = 0; i < c->layers; i++)
        c->sparse[i] = (i + 1) % step == 0;
    struct js list = hf_get(m, "mlp_only_layers");
    if (list.v)
        TRY(js_count(&list, &n, m->e));
    for (uint32_t i = 0; i < n; i++) {
        int64_t layer;
        struct js v = js_at(&list, i);
        TRY(js_int(&v, 0, c->layers - 1, &layer, m->e));
        c->sparse[layer] = false;
    }
    return ST_OK;
}

enum status hf_build_qwen3_moe(const struct hf_model *m)
{
    static const struct defaults d = { 151936, 2048, 6144, 24, 32, 4, 0, 32768, 1e-6, 10000 };
    struct decoder c = { 0 };
    TRY(read_qwen3(m, &d, &c));
    TRY(read_sparse_layers(m, &c));
    TRY(read_moe(m, &c, "num_experts", 128, 8));
    TRY(hf_size(m, "moe_intermediate_size", 768, &c.moe.ffn));
    TRY(hf_bool(m, "norm_topk_prob", false, &c.moe.norm_topk));
    c.moe.router = "mlp.gate.weight";
    c.moe.gate = "mlp.experts.*.gate_proj.weight";
    c.moe.up = "mlp.experts.*.up_proj.weight";
    c.moe.down = "mlp.experts.*.down_proj.weight";
    return build(m, &c);
}

enum status hf_build_mixtral(const struct hf_model *m)
{
    static const struct defaults d = { 32000, 4096, 14336, 32, 32, 8, 0, 131072, 1e-5, 1e6 };
    struct decoder c = { 0 };
    TRY(read_config(m, &d, &c));
    TRY(check_windows(m, true, 0));
    for (uint32_t i = 0; i < c.layers; i++)
        c.sparse[i] = true;
    TRY(read_moe(m, &c, "num_local_experts", 8, 2));
    c.moe.ffn = c.intermediate;
    c.moe.norm_topk = true; /* the class always divides by the sum */
    c.moe.router = "block_sparse_moe.gate.weight";
    c.moe.gate = "block_sparse_moe.experts.*.w1.weight";
    c.moe.up = "block_sparse_moe.experts.*.w3.weight";
    c.moe.down = "block_sparse_moe.experts.*.w2.weight";
    return build(m, &c);
}
