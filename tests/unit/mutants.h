/* Ways to change a compiled plan so that it computes something else, or stops a run with the wrong advice. test_mutants.c tries each
 * wherever a plan has such a thing. */
#ifndef TESTS_UNIT_MUTANTS_H
#define TESTS_UNIT_MUTANTS_H

#include "compiled.h"
#include "plan_edit.h"

struct mutant {
    const char *name;
    /* Changes variant number nth of what it changes: false where there are no more. */
    bool (*apply)(const struct compiled *c, struct plan_builder *b, uint32_t nth);
    const char *rule; /* of those that refuse the variants, one at least is this */
    uint32_t least;   /* variants in all jobs together */
};
/* By subject; a row without a name ends each. */
extern const struct mutant mutants_of_programs[], mutants_of_rounds[], mutants_of_rules[], mutants_of_share[],
    mutants_of_zero[];

#define EXAMPLE(name) \
    static bool name(__attribute__((unused)) const struct compiled *c, struct plan_builder *b, uint32_t nth)
#define MUTANT(name, rule, least) \
    {                             \
#name, name, rule, least  \
    }

/* An operand of a kernel; NULL: it has none such. */
static inline struct plan_operand *mutant_operand(struct plan_builder *b, const struct plan_kernel *k, uint32_t which)
{
    const uint64_t before = k->mask & ((UINT64_C(1) << which) - 1);
    return k->mask >> which & 1 ? &b->operands.at[k->first_operand + (uint32_t)__builtin_popcountll(before)] : NULL;
}

/* The list of instruction i: 0 or 1. */
static inline uint32_t mutant_list(const struct plan_builder *b, uint32_t i)
{
    return i >= b->lists.at[0].first_instr + b->lists.at[0].n_instr;
}

/* Leaves instruction i out; false: it is PLAN_NONE. */
static inline bool mutant_drop(struct plan_builder *b, uint32_t i)
{
    struct plan_edit e;
    if (i == PLAN_NONE)
        return false;
    const uint32_t list = mutant_list(b, i);
    plan_edit_begin(b, &e);
    plan_edit_drop(&e.lists[list], i - b->lists.at[list].first_instr);
    plan_edit_end(&e);
    return true;
}

/* Instruction i comes twice; false: it is PLAN_NONE. */
static inline bool mutant_repeat(struct plan_builder *b, uint32_t i)
{
    struct plan_edit e;
    if (i == PLAN_NONE)
        return false;
    const uint32_t list = mutant_list(b, i), at = i - b->lists.at[list].first_instr;
    plan_edit_begin(b, &e);
    struct plan_record x = e.lists[list].at[at];
    x.in.node += 1u << 30;
    plan_edit_insert(&e.lists[list], at + 1, x);
    plan_edit_end(&e);
    return true;
}

/* Puts instruction i in front of an earlier one of its list. */
static inline void mutant_move(struct plan_builder *b, uint32_t i, uint32_t before)
{
    struct plan_edit e;
    const uint32_t list = mutant_list(b, i), first = b->lists.at[list].first_instr;
    plan_edit_begin(b, &e);
    struct plan_record x = e.lists[list].at[i - first];
    plan_edit_drop(&e.lists[list], i - first);
    plan_edit_insert(&e.lists[list], before - first, x);
    plan_edit_end(&e);
}

#endif
