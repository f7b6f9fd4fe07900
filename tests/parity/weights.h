/* Weights of tests from nothing: what make_parity.py's hash64() makes of a tensor's name and a place in it. */
#ifndef PARITY_WEIGHTS_H
#define PARITY_WEIGHTS_H

#include "base/json.h"
#include "ir/graph.h"

uint64_t weights_hash_name(const char *name);
uint64_t weights_hash_at(uint64_t name, uint64_t i);

/* A tensor's row of parity.json: write() in make_parity.py. */
enum { WEIGHTS_ELEMENTS, WEIGHTS_MIDDLE, WEIGHTS_SPREAD, WEIGHTS_LARGEST, WEIGHTS_PLACES, WEIGHTS_VALUES };
double weights_number(const json_t *of, size_t what);

/* Calls f for every element of a parameter, whose values are x, with its place in its tensor; `of` is the tensor's row, row the model's.
 * Returns the name of a tensor that the file of transformers has not, until the next call; NULL. */
typedef void (*weights_visit)(float *x, const json_t *of, uint64_t name, uint64_t at);
const char *weights_walk(const struct ir_graph *g, const json_t *row, uint32_t param, float *x, weights_visit f);
/* The weight. */
void weights_fill(float *x, const json_t *of, uint64_t name, uint64_t at);

#endif
