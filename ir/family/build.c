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

uint32_t fb_linear(struct builder *b, const char *op, const char *module, uint32_t x, uint32_t in, uint32_t out,
                   uint32_t flags, float std)
{
    struct ir_attrs a = { .in_features = in, .out_features = out, .flags = flags };
    struct ir_op_shapes s;
    ir_op_shapes(IR_OP_LINEAR, &a, b->g->seq_len, &s);
    struct ir_op_in i = { .tensor = { x } };
    i.param[0] = param(b, module, ".weight", s.param[0], IR_INIT_NORMAL, std);
    if (flags & IR_BIAS)
        i.param[1] = param(b, module, ".bias", s.param[1], IR_INIT_ZEROS, 0);
    return out0(b, add_op(b, IR_OP_LINEAR, op, &a, &i));
}

uint32_t fb_layernorm(struct builder *b, const char *op, const char *module, uint32_t x, uint32_t features, float eps)
{
    struct ir_attrs a = { .features = features, .eps = eps };
    struct ir_shape s = { IR_COMPUTE, 1, { features, 0, 0 } };
    struct ir_op_in i = { .tensor = { x } };
    i.param[0] = param(b, module, ".weight", s, IR_INIT_ONES, 0);
    i.param[1] = param(b, module, ".bias", s, IR_INIT_ZEROS, 0);
    return out0(b, add_op(b, IR_OP_LAYERNORM, op, &a, &i));
}

uint32_t fb_rmsnorm(struct builder *b, const char *op, const char *module, uint32_t x, uint32_t features,
                    uint32_t groups, float eps)
{
    struct ir_attrs a = { .features = features, .heads = groups > 1 ? groups : 0, .eps = eps };
    struct ir_shape s = { IR_COMPUTE, 1, { features, 0, 0 } };
    struct ir_op_in i = { .tensor = { x } };
    i.param[0] = param(b, module, ".weight", s, IR_INIT_ONES, 0);
    return out0(b, add_op(b, IR_OP_RMSNORM, op, &a, &i));
}

uint32_t fb_plain(struct builder *b, enum ir_op kind, const char *op, const struct ir_attrs *a, uint32_t in0,
                  uint32_t in1, uint32_t in2)
{
    struct ir_op_in i = { .tensor = { in0, in1, in2 } };
    return out0(b, add_op(b, kind, op, a, &i));
}

uint32_t fb_add(struct builder *b, const char *op, uint32_t x, uint32_t y, uint32_t features)
{
    return fb_plain(b, IR_OP_ADD, op, &(struct ir_attrs){ .features = features }, x, y, IR_NONE);
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

void fb_head(struct builder *b, uint32_t x, uint32_t features, uint32_t weight)
{
    struct ir_attrs a = { .vocab = b->g->vocab, .features = features };
    struct ir_shape w = { IR_COMPUTE, 2, { b->g->vocab, features, 0 } };
    struct ir_op_in i = { .tensor = { x, 1 /* targets: the second tensor made by fb_embed */ } };
    i.param[0] = weight == IR_NONE ? param(b, "lm_head", ".weight", w, IR_INIT_NORMAL, b->std) : weight;
    add_op(b, IR_OP_HEAD_LOSS, "head", &a, &i);
}

uint32_t fb_moe(struct builder *b, const struct fb_moe *moe, uint32_t x)
{
    struct ir_attrs router = { .features = moe->features,
                               .experts = moe->experts,
                               .top_k = moe->top_k,
                               .aux_coef = moe->aux_coef,
                               .flags = moe->norm_topk ? IR_NORM_TOPK : 0 };
    struct ir_attrs routed = {
        .features = moe->features, .experts = moe->experts, .top_k = moe->top_k, .capacity = moe->capacity
    };
    struct ir_attrs experts = routed;
    experts.ffn = moe->ffn;
    struct ir_op_shapes s;

    ir_op_shapes(IR_OP_ROUTER, &router, b->g->seq_len, &s);
    struct ir_op_in i = { .tensor = { x } };
    i.param[0] = param(b, moe->router, "", s.param[0], IR_INIT_NORMAL, b->std);
    uint32_t route = add_op(b, IR_OP_ROUTER, "mlp.router", &router, &i);
    i = (struct ir_op_in){ .tensor = { x, ir_graph_out(b->g, route, 1) } };
    uint32_t dispatch = add_op(b, IR_OP_DISPATCH, "mlp.dispatch", &routed, &i);

    ir_op_shapes(IR_OP_EXPERTS, &experts, b->g->seq_len, &s);
    i = (struct ir_op_in){ .tensor = { ir_graph_out(b->g, dispatch, 0), ir_graph_out(b->g, dispatch, 2) } };
    i.param[0] = param(b, moe->gate, "", s.param[0], IR_INIT_NORMAL, b->std);
    i.param[1] = param(b, moe->up, "", s.param[1], IR_INIT_NORMAL, b->std);
    i.param[2] = param(b, moe->down, "", s.param[2], IR_INIT_NORMAL, b->std);
    uint32_t rows = out0(b, add_op(b, IR_OP_EXPERTS, "experts", &experts, &i));
    return fb_plain(b, IR_OP_COMBINE, "mlp.combine", &routed, rows, ir_graph_out(b->g, dispatch, 1),
                    ir_graph_out(b->g, route, 0));
}
