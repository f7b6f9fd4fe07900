/* The search: candidates are compiled, verified and simulated, those first whose step is guessed shortest, until no bound is below the best.
 *
 * A candidate is dropped by a rule, which it keeps: its bound of memory is above the limit, or its bound of the step is not below the
 * steps of the best that were found. Both bounds hold for everything that compiles, so among the candidates nothing better is missed,
 * as far as the simulator is right; only where the search ends at `limit` compilations this is not known of those left over.
 * Candidates begin as families (tune_family), whose bounds are below those of each of them: most families are dropped as a whole, and only of the
 * others each candidate is looked at by itself. And a
 * candidate that only saves memory, by recompute, or by zero 2 or 3, is dropped where its like without that fits, and would not be faster with more: it
 * computes or communicates more. Of the best one all of these are compiled, for the frontier. */
#ifndef PIPER_TUNE_SEARCH_H
#define PIPER_TUNE_SEARCH_H

#include "sched/cost/simulate.h"
#include "sched/sched.h"
#include "tune/guess.h"

enum tune_rule {
    TUNE_OPEN,     /* not looked at yet */
    TUNE_COMPILED, /* compiled, verified, simulated, and it fits */
    TUNE_MEMORY,   /* bound_memory() is above the limit */
    TUNE_COMPUTE,  /* the step's bound is not below the best: its computing, */
    TUNE_ORDER,    /* the longest path of its schedule, */
    TUNE_LINKS,    /* what its links carry */
    TUNE_SAVES,    /* it only saves memory, which need not be: its like without recompute, or with less of zero, fits */
    TUNE_PLANNED,  /* compiled: the planned memory is above the limit */
    TUNE_REFUSED,  /* the compiler refuses it */
    TUNE_LIMIT,    /* left over when so many were compiled */
    TUNE_RULES
};
const char *tune_rule_name(enum tune_rule r); /* "compiled", "memory", ... */

struct tune_candidate {
    uint8_t seen;             /* what was looked at */
    uint8_t rule, bound_rule; /* bound_rule: which bound `bound` is */
    uint32_t result;          /* UINT32_MAX: it was not compiled */
    double bound;             /* seconds; of what TUNE_MEMORY dropped: bytes */
    double guess;             /* seconds, while it is open; later for what will hardly fit */
    double bytes;             /* the bound of memory; 0: not known yet */
};
/* What is known of a family. */
struct tune_part {
    struct tune_candidate whole; /* each of its candidates, while `at` is NULL */
    struct tune_candidate *at;   /* by variant */
    struct guess_levels levels;
};
/* What was compiled. */
struct tune_result {
    uint32_t candidate;
    struct bound_shape shape; /* with its expert_bound and its peak */
    double step, bubble;
    double need;                /* bytes of the rank that needs most, with libraries */
    double by_kind[MEM_KINDS];  /* peaks of that rank */
    bool short_of_room;         /* with more memory it would be faster */
    struct simulate_class mean; /* over the ranks */
    double measured;            /* seconds; 0: it was not */
};

struct tune_search {
    struct sched_input in;          /* what is compiled, but for the strategy; the graph is copied */
    const struct tune_space *space; /* borrowed, as all */
    struct bound *bound;
    double memory;        /* bytes that a rank has; 0: no limit */
    uint32_t best, limit; /* so many best ones are found; so many compilations at most */
    void (*progress)(void *arg, const struct tune_search *s); /* NULL, or called after each compilation */
    void *arg;
    /* results */
    struct tune_part *parts; /* by family; owned */
    struct {
        VEC(struct tune_result);
    } results;       /* as they were compiled; those that fit and those that do not */
    uint32_t *order; /* results that fit, the best first; owned */
    uint32_t n_order, compiled;
    uint32_t counts[TUNE_RULES];
    double least_left; /* the least bound of what was left over, seconds; INFINITY: nothing was */
    /* the candidate that needs least where nothing fits */
    double least, least_by_kind[MEM_KINDS];
    struct bound_shape least_shape;
    char refusal[256]; /* of the compiler, the first; "" */
};
static inline const struct tune_candidate *tune_search_at(const struct tune_search *s, uint32_t family,
                                                          uint32_t variant)
{
    return s->parts[family].at ? &s->parts[family].at[variant] : &s->parts[family].whole;
}
void tune_search_run(struct tune_search *s);
void tune_search_release(struct tune_search *s);
/* Compiles and simulates any shape (evaluate.c); fills: with a "peak", where it is faster with that and fits. False: the compiler refuses it, with its
 * sentence in e. */
bool tune_evaluate(const struct tune_search *s, const struct bound_shape *shape, bool fills, struct tune_result *out,
                   struct err *e);
/* Compiles at most n of the candidates that bounds dropped, spread evenly: how many of them fit and are better than the best. */
struct tune_audit {
    uint32_t looked, refused, beyond, better; /* beyond: more memory than there is */
    double best;                              /* step of the best of those that fit; 0: none does */
};
struct tune_audit tune_search_audit(struct tune_search *s, uint32_t n);
/* Whether a rank has so many bytes; the values of expert_bound that a shape tries, how many and which, the loosest first: its own, or those of the
 * space, as far as memory is short. */
bool tune_fits(const struct tune_search *s, double bytes);
uint32_t tune_expert_bounds(const struct tune_search *s, const struct bound_shape *shape);
double tune_expert_bound(const struct tune_search *s, const struct bound_shape *shape, uint32_t i);

#endif
