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
uint32_t fb_linear(struct builder *b, const char *op, const char *param, uint32_t x, uint32_t in, uint32_t out,
                   uint32_t flags, float std);
uint32_t fb_layernorm(struct builder *b, const char *op, const char *param, uint32_t x, uint32_t features, float eps);
/* groups > 1: over heads (QK-norm). */
uint32_t fb_rmsnorm(struct builder *b, const char *op, const char *param, uint32_t x, uint32_t features,
                    uint32_t groups, float eps);
/* An operator without parameters. Inputs after the operator's last are not looked at. */
uint32_t fb_plain(struct builder *b, enum ir_op kind, const char *op, const struct ir_attrs *a, uint32_t in0,
                  uint32_t in1, uint32_t in2);
uint32_t fb_add(struct builder *b, const char *op, uint32_t x, uint32_t y, uint32_t features);
/* The graph's inputs, and the token embedding; *weight is its parameter (vocab,features). */
uint32_t fb_embed(struct builder *b, const char *op, const char *param, uint32_t features, uint32_t *weight);
/* Head and loss: `weight`, or a parameter of its own, lm_head.weight, when that is IR_NONE. */
void fb_head(struct builder *b, uint32_t x, uint32_t features, uint32_t weight);

struct fb_moe {
    uint32_t features, ffn, experts, top_k, capacity;
    float aux_coef;
    bool norm_topk;
    const char *router, *gate, *up, *down; /* suffixes of parameter names: whole, with a * for the expert */
};
/* router, dispatch, experts, combine on normed x. */
uint32_t fb_moe(struct builder *b, const struct fb_moe *moe, uint32_t x);

#endif
