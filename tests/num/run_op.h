/* Runs one operator of a back end on one problem, under every condition that the contract in src/exec/compute.h names, and
 * compares with the oracle. */
#ifndef PIPER_TESTS_RUN_OP_H
#define PIPER_TESTS_RUN_OP_H

#include "num/machine.h"

/* How tokens are spread over the experts. */
enum spread { SPREAD_RANDOM, SPREAD_ONE, SPREAD_NONE }; /* all to one; all but the last expert */

struct op_case {
    enum ir_op op;
    struct ir_attrs a;
    uint32_t b, t, ep;
    enum spread spread;
    const int32_t *document; /* attention, on the CPU: as op_args; NULL: none */
    bool readers; /* every subset of the inputs has another reader, whose gradient stands in place or beside */
};

/* Whether the machine has every kernel of the operator with these attributes. */
bool has_kernels(const struct machine *m, enum ir_op op, const struct ir_attrs *a);
/* Returns NULL when all is well, else a sentence (static storage). *worst is raised to the largest error seen. */
const char *run_op_case(const struct machine *m, const struct op_case *c, uint64_t seed, double tolerance,
                        double *worst);
/* Compares the oracle's gradients with central differences of its forward along random directions. */
const char *check_oracle(const struct op_case *c, uint64_t seed);

/* The tests of pairs of operators (pairs.c), and of attention's own arguments (attention.c), on `machine`. */
struct TCase;
void add_pairs(struct TCase *t);
void add_attention(struct TCase *t);

/* Problems: random operands in the shapes of the operator. */
struct problem problem_new(const struct op_case *c, uint64_t seed);
void problem_free(struct problem *p);

#endif
