/* A list of operators in float64: every tensor in full, one operator after the other, gradients summed over all readers. Made of
 * the oracle (num.h), so nothing of src/cpu is in it. For models of a few hundred elements a tensor. */
#ifndef PIPER_TESTS_EVALUATE_H
#define PIPER_TESTS_EVALUATE_H

#include "ir/graph.h"
#include "num/num.h"

struct evaluation {
    const struct ir_graph *g;    /* borrowed */
    uint32_t b;                  /* sequences */
    struct tensor *value, *grad; /* by tensor of the graph: (b, shape); no grad of integers */
    struct tensor *param, *dparam;
    double loss, aux, dropped; /* sums over all sequences, as enum scalar has them */
};

void evaluation_init(struct evaluation *v, const struct ir_graph *g, uint32_t b);
void evaluation_release(struct evaluation *v);
/* tokens, targets: (b, T). */
void evaluation_forward(struct evaluation *v, const int32_t *tokens, const int32_t *targets);
/* After that: grad and dparam are the derivatives of evaluation_loss(). */
void evaluation_backward(struct evaluation *v);
/* Of a token: cross-entropy and auxiliary loss, what training goes down. */
double evaluation_loss(const struct evaluation *v);
/* NULL when dparam is the derivative along a random direction of all parameters; else a sentence, static. Call after backward;
 * everything but the parameters and their gradients is lost. */
const char *evaluation_check(struct evaluation *v, const int32_t *tokens, const int32_t *targets, struct rng *r);

#endif
