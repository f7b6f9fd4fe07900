/* A naive interpreter of a model graph: every tensor and every gradient has a buffer of its own, operators run in the
 * order of the graph, their backwards in the opposite order. No compiler stands between the operator table and the
 * kernels, so it is what plans are compared with. A kernel gets exactly the operands that its row of the table names,
 * the others are NULL, and everything that it writes held NaN before. */
#ifndef PIPER_TESTS_NUM_NAIVE_H
#define PIPER_TESTS_NUM_NAIVE_H

#include "exec/compute.h"

struct naive_op {
    void *save[IR_MAX_SAVE], *stash[IR_MAX_STASH];
};

struct naive {
    const struct compute_backend *backend;
    const struct ir_graph *g; /* borrowed until naive_release() */
    uint32_t b;               /* sequences; the sequence length is the graph's */
    double loss_scale;        /* 1/(b*T) */
    double scalars[SCALAR_COUNT];
    struct arena memory;
    float **param, **dparam; /* by parameter, float32, whole tensors; owned */
    void **value;            /* by tensor: (b, shape) */
    void **grad;             /* by tensor, float32 (b, shape); NULL: an integer tensor */
    bool *has_grad, *has_dparam;
    struct naive_op *ops; /* by operator */
    void *work;           /* large enough for every kernel */
};

void naive_init(struct naive *n, const struct compute_backend *backend, const struct ir_graph *g, uint32_t b);
void naive_release(struct naive *n);
/* Runs the whole graph; tokens, targets: (b,T). scalars are zeroed first. */
void naive_forward(struct naive *n, const int32_t *tokens, const int32_t *targets);
/* After naive_forward(): gradients of sum(loss)*loss_scale, written to dparam; NaN stays where no operator reads the
 * parameter. */
void naive_backward(struct naive *n);

#endif
