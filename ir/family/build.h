/* Adding operators with their parameters, for the builders of the families. Names are prefix + suffix. */
#ifndef PIPER_IR_FAMILY_BUILD_H
#define PIPER_IR_FAMILY_BUILD_H

#include "ir/graph.h"

struct builder {
    struct ir_graph *g;
    float std;             /* of initial weights */
    uint32_t block;        /* of the operators to come */
    char op_prefix[64];    /* "layers.3." */
    char param_prefix[64]; /* "model.layers.3." */
};

/* All return the tensor that is the operator's output 0. `param` names the module: the parameters are called
 * param.weight and param.bias. */
struct fb_linear {
    uint32_t in, out, flags;
    float std; /* of the first weights */
};
uint32_t fb_linear(struct builder *b, const char *op, const char *param, uint32_t x, const struct fb_linear *l);
struct fb_norm {
    enum ir_op op;             /* IR_OP_LAYERNORM, IR_OP_RMSNORM */
    uint32_t features, groups; /* groups > 1: of each head */
    float eps;
    uint32_t flags; /* IR_ONE_PLUS, IR_ROUND_FIRST, ... */
};
uint32_t fb_norm(struct builder *b, const struct fb_norm *n, const char *op, const char *param, uint32_t x);
/* An operator without parameters. Inputs after the operator's last are not looked at. */
uint32_t fb_plain(struct builder *b, enum ir_op kind, const char *op, const struct ir_attrs *a, uint32_t in0,
                  uint32_t in1);
/* Of q, k and v; sinks: name of their parameter, with IR_SINKS. */
uint32_t fb_attention(struct builder *b, const char *op, const struct ir_attrs *a, const uint32_t qkv[3],
                      const char *sinks);
uint32_t fb_add(struct builder *b, const char *op, uint32_t x, uint32_t y, uint32_t features);
/* The graph's inputs, and the token embedding; *weight is its parameter (vocab,features). */
uint32_t fb_embed(struct builder *b, const char *op, const char *param, uint32_t features, uint32_t *weight);
/* x plus a row of `module`.weight for each position. */
uint32_t fb_positions(struct builder *b, const char *op, const char *module, uint32_t x, const struct ir_attrs *a);
/* x times a factor, or x itself where that is 1; x between -bound and bound, or itself where that is 0. */
uint32_t fb_scale(struct builder *b, const char *op, uint32_t x, uint32_t features, float factor, uint32_t flags);
uint32_t fb_clamp(struct builder *b, const char *op, uint32_t x, uint32_t features, float bound);
struct fb_head {
    const char *module; /* `module`.weight, and .bias */
    uint32_t features;
    uint32_t weight;  /* the parameter of the embedding, or IR_NONE: one of its own */
    float scale, cap; /* of the logits; 0: none */
    bool bias;
};
void fb_head(struct builder *b, const struct fb_head *h, uint32_t x);

enum { FB_EXPERT_PARAMS = 6 }; /* gate, up, down, and their biases */
struct fb_moe {
    uint32_t features, ffn, experts, top_k, capacity;
    uint32_t groups, top_groups;
    float aux_coef, z_coef, scale, eps, clamp, alpha;
    enum ir_act act;                                /* of the experts */
    uint32_t router_flags, expert_flags;            /* of their operators */
    const char *router, *router_bias, *select_bias; /* names of parameters below the layer */
    const char *expert[FB_EXPERT_PARAMS];           /* with a * for the expert, where each is a tensor of its own */
};
/* router, dispatch, experts, combine on normed x. */
uint32_t fb_moe(struct builder *b, const struct fb_moe *moe, uint32_t x);

#endif
