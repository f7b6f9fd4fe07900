/* One operator, cut by hand among the members of a sequence group. */
#ifndef PIPER_TESTS_MEMBERS_H
#define PIPER_TESTS_MEMBERS_H

#include "num/run_op.h"

struct member_case {
    struct op_case op; /* the whole */
    enum ir_split split;
    uint32_t n, p; /* members of the sequence group, of a tensor group */
    bool zigzag, batch_major;
    bool ring;     /* attention: the keys of one context part after the other */
    uint32_t sets; /* router: of what it tells; 0: 1 */
};
/* Forward, backward with every subset of inputs having another reader, in scratch of exactly the planned size, against the oracle. */
void run_members(const struct member_case *c, uint64_t seed, double tolerance);

/* The test of capacities by position (members_route.c). */
struct TCase;
void add_routes(struct TCase *t);

#endif
