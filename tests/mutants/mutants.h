/* All mutants of a plan: one field of one record has another value. The fields of a record are those of the plan's text form, and for
 * what stands in other words there (operands, bases, waits, ranges) those of its struct. Sizes and places of records are left out:
 * plan_open() derives them. */
#ifndef TESTS_MUTANTS_H
#define TESTS_MUTANTS_H

#include "ir/plan.h"

struct mutant {
    uint32_t cls; /* of the plan that is changed */
    uint16_t section, field, way;
    uint32_t record;
};
struct mutants {
    VEC(struct mutant);
};

/* Appends all mutants of class cls whose plan stands in b: all ways to change each field, those that change nothing left out. */
void mutants_list(const struct plan_builder *b, uint32_t cls, struct mutants *to);
/* Changes the field, and changes it back when called with what it returned as `was`. */
uint64_t mutants_apply(struct plan_builder *b, const struct mutant *m);
void mutants_undo(struct plan_builder *b, const struct mutant *m, uint64_t was);
/* The field, and the table that its record is of. */
const char *mutants_field(const struct mutant *m, const char **table);
/* "class 1: operands[17].offset + 64", into text. */
const char *mutants_text(const struct mutant *m, char text[128]);
/* Does the field steer resources or tell people something, and no rank computes or communicates by it? Then a plan that differs in it
 * alone is the same; the reason, else NULL. */
const char *mutants_harmless(const struct mutant *m);
/* Does the field choose among ways to compute the same, in another order of sums? The reason, else NULL. */
const char *mutants_close(const struct mutant *m);

#endif
