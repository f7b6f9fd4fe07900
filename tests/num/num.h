/* What the numerical tests share: random numbers, guarded buffers, comparison, a float64 oracle of every operator. */
#ifndef PIPER_TESTS_NUM_H
#define PIPER_TESTS_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ir/op.h"

/* ---- random numbers: splitmix64 ------------------------------------------------------------------------------- */

struct rng {
    uint64_t s;
};
uint64_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);
double rng_normal(struct rng *r); /* sum of uniforms: mean 0, variance 1, bounded by 6 */

/* ---- guarded buffers: 64-byte aligned, poisoned with NaN (as integers: -1), a zone of known bytes on both sides - */

struct guarded {
    unsigned char *base;
    void *at;     /* on the host */
    void *device; /* what a kernel gets: `at` itself, or its place on a device (machine.h) */
    size_t bytes;
    unsigned char *device_base; /* NULL: no device */
};
struct guarded guarded_new(size_t bytes);
size_t guarded_all(const struct guarded *g); /* bytes from base, zones included */
void guarded_poison(struct guarded *g);
bool guarded_intact(const struct guarded *g);
void guarded_free(struct guarded *g);

/* ---- tensors: float64, or int32 ------------------------------------------------------------------------------- */

struct tensor {
    double *x;  /* NULL for integers */
    int32_t *i; /* NULL for numbers */
    size_t n;   /* 0: absent */
};

/* Largest |got - want| over (rms of want + |want| + floor); infinite where got is not a number. floor: what counts as
 * nothing, where gradients cancel. */
double worst_error(const float *got, const double *want, size_t n, double floor);

/* ---- oracle --------------------------------------------------------------------------------------------------- */

enum { PROBLEM_TENSORS = IR_MAX_PARAM }; /* of a kind, at most; those that the operator does not have are absent */

/* One operator on b sequences, all operands in full. Layouts: ir/op.h and src/exec/compute.h. */
struct problem {
    enum ir_op op;
    struct ir_attrs a;
    uint32_t b, t, ep;
    double loss_scale;
    const int32_t
        *document; /* attention: (b, t), where the document of each position begins; borrowed; NULL: one each */
    struct tensor in[PROBLEM_TENSORS], out[PROBLEM_TENSORS], param[PROBLEM_TENSORS];
    struct tensor dout[PROBLEM_TENSORS], din[PROBLEM_TENSORS], dparam[PROBLEM_TENSORS];
    double loss, aux, dropped; /* what F adds to the scalars */
};

/* Fills out and the scalars from in and param. */
void oracle_forward(struct problem *p);
/* Fills din and dparam from everything else; overwrites. */
void oracle_backward(struct problem *p);
/* sum of out * dout + the scaled losses: the function whose gradient oracle_backward() gives. */
double oracle_objective(struct problem *p);
/* Activations, and gated ones: the value, and its slopes. */
double oracle_act(const struct ir_attrs *a, double x, double *slope);
double oracle_gated(const struct ir_attrs *a, double gate, double up, double slope[2]);
/* Rows of expert e of part p, sequence s in the experts' operand; *n of them. */
size_t oracle_expert_rows(const struct problem *p, size_t part, size_t s, size_t e, size_t *n);

/* The halves of the oracle: oracle_dense.c, oracle_moe.c. */
void oracle_dense_forward(struct problem *p);
void oracle_dense_backward(struct problem *p);
void oracle_moe_forward(struct problem *p);
void oracle_moe_backward(struct problem *p);

#endif
