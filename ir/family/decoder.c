#include "ir/family/decoder.h"

#include <math.h>
#include <stdio.h>

static const struct decoder_names llama_names = {
    .embed = "model.embed_tokens",
    .layers = "model.layers.",
    .norm = "model.norm",
    .head = "lm_head",
    .attn_norm = "input_layernorm",
    .attn_post_norm = "post_attention_layernorm",
    .mlp_norm = "post_attention_layernorm",
    .mlp_post_norm = "post_feedforward_layernorm",
    .q = "self_attn.q_proj",
    .k = "self_attn.k_proj",
    .v = "self_attn.v_proj",
    .o = "self_attn.o_proj",
    .q_norm = "self_attn.q_norm",
    .k_norm = "self_attn.k_norm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
    .shared_gate = "mlp.shared_experts.gate_proj",
    .shared_up = "mlp.shared_experts.up_proj",
    .shared_down = "mlp.shared_experts.down_proj",
};

static const struct fb_moe llama_moe = {
    .router = "mlp.gate.weight",
    .router_bias = "mlp.gate.bias",
    .select_bias = "mlp.gate.e_score_correction_bias",
    .expert = { "mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight", "mlp.experts.*.down_proj.weight" },
};

/* ---- for readers ---------------------------------------------------------------------------------------------- */

void decoder_all_layers(struct decoder *d, uint32_t window)
{
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++) {
        d->layer[i].sliding = window != 0;
        d->layer[i].window = window;
    }
}

enum status decoder_layer_types(const struct hf_model *m, struct decoder *d, uint32_t window)
{
    struct js types = hf_get(m, "layer_types"), v;
    uint32_t n;
    if (types.v) {
        TRY(js_count(&types, &n, m->e));
        if (n != d->c->num_hidden_layers)
            return js_wrong(&types, m->e, "found %u kinds, expected one for each of the %u layers", n,
                            d->c->num_hidden_layers);
    }
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++) {
        const char *type;
        if (types.v) {
            v = js_at(&types, i);
            TRY(js_str(&v, &type, m->e));
            d->layer[i].sliding = strcmp(type, "sliding_attention") == 0;
            if (!d->layer[i].sliding && strcmp(type, "full_attention") != 0)
                return js_expected(
                    &v, m->e, "\"full_attention\" or \"sliding_attention\": other types of layers are not implemented");
            if (d->layer[i].sliding && !window)
                return js_wrong(&v, m->e, "found a layer with a window, and no sliding_window is given");
        }
        d->layer[i].window = d->layer[i].sliding ? window : 0;
    }
    return ST_OK;
}

enum status decoder_every_full(const struct hf_model *m, struct decoder *d, uint32_t n, uint32_t window)
{
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].sliding = window && n && (i + 1) % n != 0;
    return decoder_layer_types(m, d, window);
}

enum status decoder_sparse_step(const struct hf_model *m, struct decoder *d)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].sparse = (i + 1) % d->c->decoder_sparse_step == 0;
    struct js list = hf_get(m, "mlp_only_layers");
    if (list.v)
        TRY(js_count(&list, &n, m->e));
    for (uint32_t i = 0; i < n; i++) {
        int64_t layer;
        struct js v = js_at(&list, i);
        TRY(js_int(&v, 0, d->c->num_hidden_layers - 1, &layer, m->e));
        d->layer[layer].sparse = false;
    }
    return ST_OK;
}

void decoder_sparse_from(struct decoder *d, uint32_t first)
{
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].sparse = i >= first;
}

enum status decoder_only_value(const struct hf_model *m, const char *key, const char *value)
{
    struct js v = hf_get(m, key);
    json_t *want = json_loads(value, JSON_DECODE_ANY, NULL);
    const bool same = !v.v || json_equal(v.v, want);
    json_decref(want);
    return same ? ST_OK : js_expected(&v, m->e, "%s: others are not implemented", value);
}

/* Over a batch instead of a sequence the loss would be another one with each strategy. */
enum status decoder_alpha(const struct hf_model *m, struct decoder *d)
{
    const float alpha = (float)d->c->aux_loss_alpha;
    struct js v = hf_get(m, "seq_aux");
    if (alpha > 0 && !d->c->seq_aux)
        return js_wrong(&v, m->e,
                        "found false with aux_loss_alpha %g: the load-balance loss is that of each sequence here, set "
                        "seq_aux true or aux_loss_alpha 0",
                        d->c->aux_loss_alpha);
    d->moe.router_flags |= alpha > 0 && d->moe.router_flags & IR_SIGMOID ? IR_SEQUENCE_LOSS : 0;
    d->moe.aux_coef = d->moe.router_flags & IR_SIGMOID ? alpha : alpha / (float)d->moe.top_k;
    return ST_OK;
}

enum status decoder_shared_expert(const struct hf_model *m, struct decoder *d)
{
    const uint64_t width = (uint64_t)d->c->n_shared_experts * d->c->moe_intermediate_size;
    if (width > INT32_MAX)
        return js_wrong(&m->js, m->e, "n_shared_experts %u times moe_intermediate_size %u is above 2^31 - 1",
                        d->c->n_shared_experts, d->c->moe_intermediate_size);
    d->shared = (uint32_t)width;
    return ST_OK;
}

enum status decoder_inner(const struct hf_model *m, struct decoder *d, uint32_t given)
{
    if (!given && d->c->hidden_size > INT32_MAX / 4)
        return js_wrong(&m->js, m->e, "the width of the model is %u, expected at most %d", d->c->hidden_size,
                        INT32_MAX / 4);
    d->inner = given ? given : 4 * d->c->hidden_size;
    return ST_OK;
}

enum status decoder_sigmoid_router(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    TRY(decoder_only_value(m, "scoring_func", "\"sigmoid\""));
    TRY(decoder_only_value(m, "topk_method", "\"noaux_tc\""));
    TRY(decoder_only_value(m, "moe_layer_freq", "1"));
    if (c->n_group && (c->n_routed_experts % c->n_group != 0 || c->topk_group > c->n_group))
        return js_wrong(&m->js, m->e, "n_group is %u and topk_group %u, with %u experts", c->n_group, c->topk_group,
                        c->n_routed_experts);
    decoder_sparse_from(d, c->first_k_dense_replace);
    TRY(decoder_experts(m, d, c->n_routed_experts, c->moe_intermediate_size));
    d->moe.router_flags |= IR_SIGMOID | IR_SELECT_BIAS | IR_FLOAT32;
    TRY(decoder_alpha(m, d));
    d->moe.eps = c->norm_topk_prob ? 1e-20f : 0;
    d->moe.scale = c->routed_scaling_factor == 1 ? 0 : (float)c->routed_scaling_factor;
    if (c->n_group > 1) {
        d->moe.groups = c->n_group;
        d->moe.top_groups = c->topk_group;
    }
    return decoder_shared_expert(m, d);
}

/* HF computes one auxiliary loss over all layers together, the mean over layers in size; ours is per layer and sequence, so each
 * layer gets its share of the coefficient. */
void decoder_routed(const struct hf_model *m, struct decoder *d, const struct decoder_routed *r)
{
    const struct config *c = d->c;
    uint32_t sparse = 0;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        sparse += d->layer[i].sparse;
    d->moe.features = c->hidden_size;
    d->moe.ffn = r->ffn;
    d->moe.act = d->act;
    d->moe.experts = r->experts;
    d->moe.top_k = r->top_k;
    d->moe.router_flags |= r->norm_topk ? IR_NORM_TOPK : 0;
    d->moe.aux_coef = c->output_router_logits && sparse ? (float)r->aux_coef / (float)sparse : 0;
    d->moe.z_coef = (float)c->router_z_loss_coef;
    d->moe.capacity = ir_capacity(c->capacity_factor, m->g->seq_len, r->top_k, r->experts);
}

enum status decoder_experts(const struct hf_model *m, struct decoder *d, uint32_t experts, uint32_t ffn)
{
    const struct config *c = d->c;
    if (c->num_experts_per_tok > experts)
        return js_wrong(&m->js, m->e, "num_experts_per_tok is %u, but there are %u experts", c->num_experts_per_tok,
                        experts);
    const struct decoder_routed r = { .experts = experts,
                                      .top_k = c->num_experts_per_tok,
                                      .ffn = ffn,
                                      .norm_topk = c->norm_topk_prob,
                                      .aux_coef = c->router_aux_loss_coef };
    decoder_routed(m, d, &r);
    return ST_OK;
}

/* ---- from the configuration ------------------------------------------------------------------------------------- */

static enum status read_heads(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = d->c;
    d->heads = c->num_attention_heads;
    d->kv_heads = c->num_key_value_heads ? c->num_key_value_heads : d->heads;
    d->head_dim = c->head_dim ? c->head_dim : c->hidden_size / d->heads;
    if (d->heads % d->kv_heads != 0)
        return js_wrong(&m->js, m->e, "num_attention_heads %u is not a multiple of num_key_value_heads %u", d->heads,
                        d->kv_heads);
    if (!c->head_dim && c->hidden_size % d->heads != 0)
        return js_wrong(&m->js, m->e,
                        "hidden_size %u is not a multiple of num_attention_heads %u, and head_dim is not given",
                        c->hidden_size, d->heads);
    if ((uint64_t)d->heads * d->head_dim > INT32_MAX)
        return js_wrong(&m->js, m->e, "num_attention_heads %u times head size %u is above 2^31 - 1", d->heads,
                        d->head_dim);
    return ST_OK;
}

enum status decoder_activation(const struct hf_model *m, const struct js *v, const char *name, struct decoder *d)
{
    static const struct {
        const char *name;
        enum ir_act act;
    } known[] = {
        { "silu", IR_ACT_SILU },        { "swish", IR_ACT_SILU },         { "gelu", IR_ACT_GELU },
        { "gelu_python", IR_ACT_GELU }, { "gelu_new", IR_ACT_GELU_TANH }, { "gelu_pytorch_tanh", IR_ACT_GELU_TANH },
        { "relu", IR_ACT_RELU },        { "relu2", IR_ACT_RELU2 },        { "sigmoid", IR_ACT_SIGMOID },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            d->act = known[i].act;
            return ST_OK;
        }
    return js_expected(v, m->e,
                       "silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2 or sigmoid; others are not implemented");
}

static enum status read_activation(const struct hf_model *m, struct decoder *d)
{
    struct js v = hf_get(m, js_has(&m->js, "hidden_activation") ? "hidden_activation" : "hidden_act");
    return d->c->hidden_act ? decoder_activation(m, &v, d->c->hidden_act, d) : ST_OK;
}

static enum status read_common(const struct hf_model *m, struct decoder *d)
{
    const struct config *c = &m->c;
    if (c->num_hidden_layers > LAYERS_MAX)
        return js_wrong(&m->js, m->e, "num_hidden_layers is %u, expected at most %d", c->num_hidden_layers, LAYERS_MAX);
    m->g->vocab = c->vocab_size;
    if (m->g->seq_len > c->max_position_embeddings)
        notices_add(m->notices, m->js.file, "$: seq_len %u is beyond max_position_embeddings, %u", m->g->seq_len,
                    c->max_position_embeddings);
    *d = (struct decoder){ .c = c,
                           .eps = (float)c->eps,
                           .inner = c->intermediate_size,
                           .moe = llama_moe,
                           .names = llama_names,
                           .layer = arena_array(&m->g->arena, struct decoder_layer, c->num_hidden_layers),
                           .norm = IR_OP_RMSNORM,
                           .norm_flags = IR_ROUND_FIRST,
                           .norm_before = true,
                           .embed_scale = 1,
                           .residual_scale = 1,
                           .logit_scale = 1,
                           .gated = true };
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        d->layer[i].rope = true;
    if (c->num_nextn_predict_layers && js_has(&m->js, "num_nextn_predict_layers"))
        notices_add(m->notices, m->js.file,
                    "$.num_nextn_predict_layers: %u layers of multi-token prediction are not trained",
                    c->num_nextn_predict_layers);
    d->q_bias = d->k_bias = d->v_bias = d->o_bias = c->attention_bias;
    d->mlp_bias = c->mlp_bias;
    return read_heads(m, d);
}

static bool any_rope(const struct decoder *d)
{
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        if (d->layer[i].rope)
            return true;
    return false;
}

static enum status read_positions(const struct hf_model *m, struct decoder *d)
{
    if (!any_rope(d))
        return ST_OK;
    static const char *const kinds[] = { "full_attention", "sliding_attention" };
    for (int i = 0; i < 2; i++)
        TRY(rope_read(m, &d->rope_class, kinds[i], d->latent.kv_rank ? d->latent.rope : d->head_dim, &d->rope[i]));
    if (d->latent.kv_rank) /* scaled positions sharpen the scores: yarn's mscale_all_dim */
        d->scale = (float)(d->rope[0].mscale * d->rope[0].mscale / sqrt(d->latent.nope + d->latent.rope));
    return ST_OK;
}

/* ---- the graph -------------------------------------------------------------------------------------------------- */

static uint32_t norm(struct builder *b, const struct decoder *d, const char *op, const char *module, uint32_t x)
{
    const struct fb_norm n = { .op = d->norm, .features = d->c->hidden_size, .eps = d->eps, .flags = d->norm_flags };
    return fb_norm(b, &n, op, module, x);
}

static uint32_t qk_norm(struct builder *b, const struct decoder *d, const char *op, const char *module, uint32_t x,
                        uint32_t heads)
{
    const bool whole = d->qk_norm == QK_WHOLE;
    const struct fb_norm n = { .op = d->norm,
                               .features = whole ? d->head_dim * heads : d->head_dim,
                               .groups = whole ? 1 : heads,
                               .eps = d->eps,
                               .flags = d->norm_flags | (d->qk_norm == QK_HEADS ? IR_PER_HEAD : 0) };
    return d->qk_norm == QK_NONE ? x : fb_norm(b, &n, op, module, x);
}

/* Heads of `width` elements, of which `rotary` turn from `first` on. */
static uint32_t rotate(struct builder *b, const struct decoder *d, uint32_t i, const char *op, uint32_t x,
                       const struct ir_attrs *heads)
{
    const struct rope *r = &d->rope[d->layer[i].sliding];
    struct ir_attrs a = *heads;
    if (!d->layer[i].rope)
        return x;
    a.theta = r->theta;
    a.inv_freq = r->inv_freq;
    a.scale = r->scale == 1 ? 0 : r->scale;
    a.rotary_dim = r->rotary == a.head_dim ? 0 : r->rotary;
    a.flags = d->rope_pairs ? IR_PAIRS : 0;
    return fb_plain(b, IR_OP_ROPE, op, &a, x, IR_NONE);
}

static uint32_t bias(bool on)
{
    return on ? IR_BIAS : 0;
}

/* q, k and v of y, as the scores take them. */
static void project(struct builder *b, const struct decoder *d, uint32_t i, uint32_t y, uint32_t qkv[3])
{
    const struct decoder_names *n = &d->names;
    const uint32_t hidden = d->c->hidden_size, width = d->heads * d->head_dim, kv_width = d->kv_heads * d->head_dim;
    uint32_t q = fb_linear(b, "attn.q_proj", n->q, y, &(struct fb_linear){ hidden, width, bias(d->q_bias), b->std });
    uint32_t k = fb_linear(b, "attn.k_proj", n->k, y, &(struct fb_linear){ hidden, kv_width, bias(d->k_bias), b->std });
    uint32_t v = fb_linear(b, "attn.v_proj", n->v, y, &(struct fb_linear){ hidden, kv_width, bias(d->v_bias), b->std });
    for (int turn = 0; turn < 2; turn++)
        if ((turn == 1) == d->qk_norm_rotated) {
            q = qk_norm(b, d, "attn.q_norm", n->q_norm, q, d->heads);
            k = qk_norm(b, d, "attn.k_norm", n->k_norm, k, d->kv_heads);
            q = fb_clamp(b, "attn.q_clamp", q, width, d->clip);
            k = fb_clamp(b, "attn.k_clamp", k, kv_width, d->clip);
        } else {
            q = rotate(b, d, i, "attn.q_rope", q, &(struct ir_attrs){ .heads = d->heads, .head_dim = d->head_dim });
            k = rotate(b, d, i, "attn.k_rope", k, &(struct ir_attrs){ .heads = d->kv_heads, .head_dim = d->head_dim });
        }
    qkv[0] = q;
    qkv[1] = k;
    qkv[2] = fb_clamp(b, "attn.v_clamp", v, kv_width, d->clip);
}

static uint32_t latent_norm(struct builder *b, const struct decoder *d, const char *op, const char *module, uint32_t x,
                            uint32_t rank)
{
    const struct fb_norm n = { .op = d->norm, .features = rank, .eps = d->latent.eps, .flags = d->norm_flags };
    return fb_norm(b, &n, op, module, x);
}

/* The same by way of the latents. */
static void project_latent(struct builder *b, const struct decoder *d, uint32_t i, uint32_t y, uint32_t qkv[3])
{
    const struct decoder_latent *l = &d->latent;
    const uint32_t hidden = d->c->hidden_size, dim = l->nope + l->rope, a_bias = bias(d->c->attention_bias);
    uint32_t q, c, k, r;
    if (l->q_rank) {
        q = fb_linear(b, "attn.q_a_proj", "self_attn.q_a_proj", y,
                      &(struct fb_linear){ hidden, l->q_rank, a_bias, b->std });
        q = latent_norm(b, d, "attn.q_a_norm", "self_attn.q_a_layernorm", q, l->q_rank);
        q = fb_linear(b, "attn.q_b_proj", "self_attn.q_b_proj", q,
                      &(struct fb_linear){ l->q_rank, d->heads * dim, 0, b->std });
    } else {
        q = fb_linear(b, "attn.q_proj", "self_attn.q_proj", y,
                      &(struct fb_linear){ hidden, d->heads * dim, 0, b->std });
    }
    c = fb_linear(b, "attn.kv_a_proj", "self_attn.kv_a_proj", y,
                  &(struct fb_linear){ hidden, l->kv_rank, a_bias, b->std });
    r = fb_linear(b, "attn.k_rope_proj", "self_attn.k_rope_proj", y,
                  &(struct fb_linear){ hidden, l->rope, a_bias, b->std });
    c = latent_norm(b, d, "attn.kv_a_norm", "self_attn.kv_a_layernorm", c, l->kv_rank);
    k = fb_linear(b, "attn.k_b_proj", "self_attn.k_b_proj", c,
                  &(struct fb_linear){ l->kv_rank, d->heads * l->nope, 0, b->std });
    qkv[2] = fb_linear(b, "attn.v_b_proj", "self_attn.v_b_proj", c,
                       &(struct fb_linear){ l->kv_rank, d->heads * l->v, 0, b->std });
    qkv[0] = rotate(b, d, i, "attn.q_rope", q,
                    &(struct ir_attrs){ .heads = d->heads, .head_dim = dim, .rotary_offset = l->nope });
    r = rotate(b, d, i, "attn.k_rope", r, &(struct ir_attrs){ .heads = 1, .head_dim = l->rope });
    const struct ir_attrs join = { .heads = d->heads, .head_dim = dim, .rotary_dim = l->rope };
    qkv[1] = fb_plain(b, IR_OP_JOIN_HEADS, "attn.k_join", &join, k, r);
}

static uint32_t attention(struct builder *b, const struct decoder *d, uint32_t i, uint32_t y)
{
    uint32_t qkv[3];
    const struct decoder_latent *l = &d->latent;
    const bool latent = l->kv_rank != 0;
    const uint32_t dim = latent ? l->nope + l->rope : d->head_dim, v = latent ? l->v : dim;
    const struct ir_attrs core = { .heads = d->heads,
                                   .kv_heads = latent ? d->heads : d->kv_heads,
                                   .head_dim = dim,
                                   .v_head_dim = v == dim ? 0 : v,
                                   .window = d->layer[i].window < b->g->seq_len ? d->layer[i].window : 0,
                                   .score_cap = d->score_cap,
                                   .flags = d->sinks ? IR_SINKS : 0,
                                   .scale = d->scale != 0 ? d->scale : (float)(1 / sqrt(dim)) };
    if (latent)
        project_latent(b, d, i, y, qkv);
    else
        project(b, d, i, y, qkv);
    y = fb_attention(b, "attn.core", &core, qkv, d->sinks);
    return fb_linear(b, "attn.o_proj", d->names.o, y,
                     &(struct fb_linear){ d->heads * v, d->c->hidden_size, bias(d->o_bias), b->std });
}

/* down(act(gate x) up x), or down(act(up x)); gate NULL: the latter. */
struct mlp {
    const char *op; /* prefix of the operators */
    const char *gate, *up, *down;
    uint32_t inner;
};

static uint32_t mlp(struct builder *b, const struct decoder *d, const struct mlp *m, uint32_t x)
{
    const uint32_t hidden = d->c->hidden_size;
    const struct ir_attrs act = { .features = m->inner, .act = d->act };
    char op[4][48];
    static const char *const ends[] = { "gate_proj", "up_proj", "act", "down_proj" };
    for (int i = 0; i < 4; i++)
        snprintf(op[i], sizeof op[i], "%s.%s", m->op, ends[i]);
    uint32_t gate = m->gate ? fb_linear(b, op[0], m->gate, x,
                                        &(struct fb_linear){ hidden, m->inner, bias(d->mlp_bias), b->std })
                            : IR_NONE;
    uint32_t y = fb_linear(b, op[1], m->up, x, &(struct fb_linear){ hidden, m->inner, bias(d->mlp_bias), b->std });
    y = m->gate ? fb_plain(b, IR_OP_SWIGLU, op[2], &act, gate, y) : fb_plain(b, IR_OP_ACT, op[2], &act, y, IR_NONE);
    return fb_linear(b, op[3], m->down, y, &(struct fb_linear){ m->inner, hidden, bias(d->mlp_bias), b->std });
}

static uint32_t feed_forward(struct builder *b, const struct decoder *d, uint32_t i, uint32_t x)
{
    const struct decoder_names *n = &d->names;
    const struct mlp dense = { "mlp", d->gated ? n->gate : NULL, n->up, n->down, d->inner },
                     shared = { "mlp.shared", n->shared_gate, n->shared_up, n->shared_down, d->shared };
    if (!d->layer[i].sparse)
        return mlp(b, d, &dense, x);
    const uint32_t y = fb_moe(b, &d->moe, x);
    if (!d->shared)
        return y;
    uint32_t z = mlp(b, d, &shared, x);
    if (d->shared_switch) {
        const struct ir_attrs a = { .features = d->c->hidden_size };
        uint32_t g = fb_linear(b, "mlp.shared.switch", d->shared_switch, x,
                               &(struct fb_linear){ d->c->hidden_size, 1, 0, b->std });
        z = fb_plain(b, IR_OP_ROW_GATE, "mlp.shared.gate", &a, z, g);
    }
    return fb_add(b, "mlp.shared.add", y, z, d->c->hidden_size);
}

/* x + what a sublayer gave. */
static uint32_t add_to(struct builder *b, const struct decoder *d, const char *scale, const char *op, uint32_t x,
                       uint32_t y)
{
    y = fb_scale(b, scale, y, d->c->hidden_size, d->residual_scale, 0);
    return fb_add(b, op, x, y, d->c->hidden_size);
}

static uint32_t layer(struct builder *b, const struct decoder *d, uint32_t i, uint32_t x)
{
    const struct decoder_names *n = &d->names;
    uint32_t y = d->norm_before ? norm(b, d, "attn.norm", n->attn_norm, x) : x;
    uint32_t z = d->parallel && n->mlp_norm ? norm(b, d, "mlp.norm", n->mlp_norm, x) : y;
    y = attention(b, d, i, y);
    if (d->norm_after)
        y = norm(b, d, "attn.post_norm", n->attn_post_norm, y);
    x = add_to(b, d, "attn.scale", "attn.add", x, y);
    if (d->norm_sum)
        x = norm(b, d, "attn.sum_norm", n->attn_norm, x);
    if (!d->parallel)
        z = d->norm_before ? norm(b, d, "mlp.norm", n->mlp_norm, x) : x;
    z = feed_forward(b, d, i, z);
    if (d->norm_after)
        z = norm(b, d, "mlp.post_norm", n->mlp_post_norm, z);
    x = add_to(b, d, "mlp.scale", "mlp.add", x, z);
    return d->norm_sum ? norm(b, d, "mlp.sum_norm", n->mlp_norm, x) : x;
}

/* What the first layer reads; *table: the parameter of the embedding. */
static uint32_t embed(struct builder *b, const struct decoder *d, uint32_t *table)
{
    const struct decoder_names *n = &d->names;
    const uint32_t hidden = d->c->hidden_size, width = d->embed_width ? d->embed_width : hidden;
    uint32_t x = fb_embed(b, "embed", n->embed, width, table);
    x = fb_scale(b, "embed.scale", x, width, d->embed_scale, d->embed_scale_rounded ? IR_ROUND_FIRST : 0);
    if (d->embed_width)
        x = fb_linear(b, "embed.in", n->embed_in, x, &(struct fb_linear){ width, hidden, 0, b->std });
    const struct ir_attrs rows = { .positions = d->c->max_position_embeddings + d->first_position,
                                   .first_position = d->first_position,
                                   .features = hidden };
    return n->positions ? fb_positions(b, "embed.pos", n->positions, x, &rows) : x;
}

static void build(struct builder *b, const struct decoder *d)
{
    const struct decoder_names *n = &d->names;
    const uint32_t layers = d->c->num_hidden_layers, hidden = d->c->hidden_size;
    const uint32_t width = d->embed_width ? d->embed_width : hidden;
    uint32_t table, x = embed(b, d, &table);
    for (uint32_t i = 0; i < layers; i++) {
        b->block = i + 1;
        snprintf(b->op_prefix, sizeof b->op_prefix, "layers.%u.", i);
        snprintf(b->param_prefix, sizeof b->param_prefix, "%s%u.", n->layers, i);
        x = layer(b, d, i, x);
    }
    b->block = layers + 1;
    b->op_prefix[0] = b->param_prefix[0] = '\0';
    if (n->norm)
        x = norm(b, d, "norm", n->norm, x);
    if (d->embed_width)
        x = fb_linear(b, "embed.out", n->embed_out, x, &(struct fb_linear){ hidden, width, 0, b->std });
    const struct fb_head head = { .module = n->head,
                                  .features = width,
                                  .weight = d->c->tie_word_embeddings ? table : IR_NONE,
                                  .scale = d->logit_scale,
                                  .cap = d->logit_cap,
                                  .bias = d->head_bias };
    fb_head(b, &head, x);
}

enum status decoder_build(struct hf_model *m)
{
    struct decoder d;
    TRY(read_common(m, &d));
    TRY(read_activation(m, &d));
    TRY(m->family->read(m, &d));
    TRY(read_positions(m, &d));
    build(&(struct builder){ .g = m->g, .std = (float)m->c.initializer_range }, &d);
    return ST_OK;
}
