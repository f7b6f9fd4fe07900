#include "ir/family/build.h"

#include <stdio.h>

enum { NAME_BYTES = 256 };

static uint32_t param(struct builder *b, const char *module, const char *leaf, struct ir_shape shape, enum ir_init init,
                      float std)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s%s", b->param_prefix, module, leaf);
    return ir_graph_param(b->g, name, shape, init, std);
}

static uint32_t add_op(struct builder *b, enum ir_op kind, const char *op, const struct ir_attrs *a,
                       const struct ir_op_in *in)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", b->op_prefix, op);
    return ir_graph_op(b->g, kind, name, b->block, a, in);
}

static uint32_t out0(const struct builder *b, uint32_t op)
{
    return ir_graph_out(b->g, op, 0);
}

uint32_t fb_linear(struct builder *b, const char *op, const char *module, uint32_t x, const struct fb_linear *l)
{
    const struct ir_attrs a = { .in_features = l->in, .out_features = l->out, .flags = l->flags };
    struct ir_op_shapes s;
    ir_op_shapes(IR_OP_LINEAR, &a, b->g->seq_len, &s);
    struct ir_op_in i = { .tensor = { x } };
    i.param[0] = param(b, module, ".weight", s.param[0], IR_INIT_NORMAL, l->std);
    if (l->flags & IR_BIAS)
        i.param[1] = param(b, module, ".bias", s.param[1], IR_INIT_ZEROS, 0);
    return out0(b, add_op(b, IR_OP_LINEAR, op, &a, &i));
}

uint32_t fb_norm(struct builder *b, const struct fb_norm *n, const char *op, const char *module, uint32_t x)
{
    struct ir_attrs a = { .features = n->features,
                          .heads = n->groups > 1 || n->flags & IR_PER_HEAD ? n->groups : 0,
                          .eps = n->eps,
                          .flags = n->flags };
    struct ir_op_shapes s;
    struct ir_op_in i = { .tensor = { x } };
    ir_op_shapes(n->op, &a, b->g->seq_len, &s);
    const enum ir_init init = n->flags & IR_ONE_PLUS ? IR_INIT_ZEROS : IR_INIT_ONES;
    for (uint32_t k = 0; k < ir_op_params(n->op, &a); k++)
        i.param[k] = param(b, module, k ? ".bias" : ".weight", s.param[k], k ? IR_INIT_ZEROS : init, 0);
    return out0(b, add_op(b, n->op, op, &a, &i));
}

uint32_t fb_plain(struct builder *b, enum ir_op kind, const char *op, const struct ir_attrs *a, uint32_t in0,
                  uint32_t in1)
{
    struct ir_op_in i = { .tensor = { in0, in1 } };
    return out0(b, add_op(b, kind, op, a, &i));
}

uint32_t fb_attention(struct builder *b, const char *op, const struct ir_attrs *a, const uint32_t qkv[3],
                      const char *sinks)
{
    struct ir_op_shapes s;
    struct ir_op_in i = { .tensor = { qkv[0], qkv[1], qkv[2] } };
    ir_op_shapes(IR_OP_ATTENTION, a, b->g->seq_len, &s);
    if (a->flags & IR_SINKS)
        i.param[0] = param(b, sinks, "", s.param[0], IR_INIT_NORMAL, b->std);
    return out0(b, add_op(b, IR_OP_ATTENTION, op, a, &i));
}

uint32_t fb_add(struct builder *b, const char *op, uint32_t x, uint32_t y, uint32_t features)
{
    return fb_plain(b, IR_OP_ADD, op, &(struct ir_attrs){ .features = features }, x, y);
}

uint32_t fb_embed(struct builder *b, const char *op, const char *module, uint32_t features, uint32_t *weight)
{
    struct ir_shape ids = { IR_I32, 1, { b->g->seq_len, 0, 0 } };
    struct ir_attrs a = { .vocab = b->g->vocab, .features = features };
    struct ir_op_in i = { .tensor = { ir_graph_input(b->g, "tokens", ids) } };
    ir_graph_input(b->g, "targets", ids);
    struct ir_shape w = { IR_COMPUTE, 2, { b->g->vocab, features, 0 } };
    *weight = i.param[0] = param(b, module, ".weight", w, IR_INIT_NORMAL, b->std);
    return out0(b, add_op(b, IR_OP_EMBED, op, &a, &i));
}

uint32_t fb_positions(struct builder *b, const char *op, const char *module, uint32_t x, const struct ir_attrs *a)
{
    struct ir_op_in i = { .tensor = { x } };
    const struct ir_shape w = { IR_COMPUTE, 2, { a->positions, a->features, 0 } };
    i.param[0] = param(b, module, ".weight", w, IR_INIT_NORMAL, b->std);
    return out0(b, add_op(b, IR_OP_POS_EMBED, op, a, &i));
}

uint32_t fb_scale(struct builder *b, const char *op, uint32_t x, uint32_t features, float factor, uint32_t flags)
{
    const struct ir_attrs a = { .features = features, .scale = factor, .flags = flags };
    return factor == 1 ? x : fb_plain(b, IR_OP_SCALE, op, &a, x, IR_NONE);
}

uint32_t fb_clamp(struct builder *b, const char *op, uint32_t x, uint32_t features, float bound)
{
    const struct ir_attrs a = { .features = features, .clamp = bound };
    return bound == 0 ? x : fb_plain(b, IR_OP_CLAMP, op, &a, x, IR_NONE);
}

void fb_head(struct builder *b, const struct fb_head *h, uint32_t x)
{
    const struct ir_attrs a = { .vocab = b->g->vocab,
                                .features = h->features,
                                .scale = h->scale == 1 ? 0 : h->scale,
                                .score_cap = h->cap,
                                .flags = h->bias ? IR_BIAS : 0 };
    struct ir_op_shapes s;
    struct ir_op_in i = { .tensor = { x, 1 /* targets: the second tensor made by fb_embed */ } };
    ir_op_shapes(IR_OP_HEAD_LOSS, &a, b->g->seq_len, &s);
    i.param[0] = h->weight == IR_NONE ? param(b, h->module, ".weight", s.param[0], IR_INIT_NORMAL, b->std) : h->weight;
    if (h->bias)
        i.param[1] = param(b, h->module, ".bias", s.param[1], IR_INIT_ZEROS, 0);
    add_op(b, IR_OP_HEAD_LOSS, "head", &a, &i);
}

/* The router's outputs: weights, indices. */
static uint32_t router(struct builder *b, const struct fb_moe *moe, uint32_t x)
{
    const struct ir_attrs a = { .features = moe->features,
                                .experts = moe->experts,
                                .top_k = moe->top_k,
                                .groups = moe->groups,
                                .top_groups = moe->top_groups,
                                .aux_coef = moe->aux_coef,
                                .z_coef = moe->z_coef,
                                .scale = moe->scale,
                                .eps = moe->eps,
                                .flags = moe->router_flags };
    struct ir_op_shapes s;
    struct ir_op_in i = { .tensor = { x } };
    uint32_t n = 1;
    ir_op_shapes(IR_OP_ROUTER, &a, b->g->seq_len, &s);
    i.param[0] = param(b, moe->router, "", s.param[0], IR_INIT_NORMAL, b->std);
    if (a.flags & IR_BIAS) {
        i.param[n] = param(b, moe->router_bias, "", s.param[n], IR_INIT_NORMAL, b->std);
        n++;
    }
    if (a.flags & IR_SELECT_BIAS)
        i.param[n] = param(b, moe->select_bias, "", s.param[n], IR_INIT_ZEROS, 0);
    return add_op(b, IR_OP_ROUTER, "mlp.router", &a, &i);
}

uint32_t fb_moe(struct builder *b, const struct fb_moe *moe, uint32_t x)
{
    const struct ir_attrs routed = {
        .features = moe->features, .experts = moe->experts, .top_k = moe->top_k, .capacity = moe->capacity
    };
    struct ir_attrs experts = routed;
    experts.ffn = moe->ffn;
    experts.act = moe->act;
    experts.clamp = moe->clamp;
    experts.alpha = moe->alpha;
    experts.flags = moe->expert_flags;
    struct ir_op_shapes s;

    const uint32_t route = router(b, moe, x);
    struct ir_op_in i = { .tensor = { x, ir_graph_out(b->g, route, 1) } };
    const uint32_t dispatch = add_op(b, IR_OP_DISPATCH, "mlp.dispatch", &routed, &i);

    ir_op_shapes(IR_OP_EXPERTS, &experts, b->g->seq_len, &s);
    i = (struct ir_op_in){ .tensor = { ir_graph_out(b->g, dispatch, 0), ir_graph_out(b->g, dispatch, 2) } };
    for (uint32_t k = 0; k < ir_op_params(IR_OP_EXPERTS, &experts); k++)
        i.param[k] = param(b, moe->expert[k], "", s.param[k], k < 3 ? IR_INIT_NORMAL : IR_INIT_ZEROS,
                           k < 3 ? b->std : 0);
    uint32_t rows = out0(b, add_op(b, IR_OP_EXPERTS, "experts", &experts, &i));
    i = (struct ir_op_in){ .tensor = { rows, ir_graph_out(b->g, dispatch, 1), ir_graph_out(b->g, route, 0) } };
    return out0(b, add_op(b, IR_OP_COMBINE, "mlp.combine", &routed, &i));
}
