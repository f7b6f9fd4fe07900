/* Random graphs whose operators share inputs, and strategies for them. All of it follows from a seed. */
#ifndef TESTS_MATRIX_GRAPHS_H
#define TESTS_MATRIX_GRAPHS_H

#include <jansson.h>

#include "num/num.h"

enum { GRAPH_T = 6, GRAPH_BATCH = 24, GRAPH_WIDTH = 16, GRAPH_VOCAB = 16, GRAPH_MOST_STAGES = 8 };

/* A model in PP stages 0 .. stages-1, each with an operator at least: operators with several inputs that share some of them,
 * tensors that are read often, parameters of several operators, of several kinds. Vocabulary and width are equal, so the embedding may
 * be the weight of a linear too. Owned. */
json_t *graphs_model(uint64_t seed, uint32_t stages);

/* Number `i` of some small graphs of one stage, in which attention shares some of its inputs with others. NULL: no more. Owned. */
json_t *graphs_case(uint32_t i);

/* Number `cell` of the strategies for so many ranks; *stages: that the model is to have. NULL: there are no more. Owned. */
json_t *graphs_strategy(uint32_t ranks, uint32_t cell, uint32_t *stages);

#endif
