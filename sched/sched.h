/* The compiler: model graph + strategy -> one plan per class of ranks. No MPI, no files.
 *
 * sched_compile() is the straight line (sched/compile.c); the passes stand one a file. */
#ifndef PIPER_SCHED_SCHED_H
#define PIPER_SCHED_SCHED_H

#include "base/json.h"
#include <stdio.h>

#include "base/mem.h"
#include "base/status.h"
#include "ir/graph.h"
#include "ir/machine.h"
#include "ir/notices.h"
#include "ir/plan.h"
#include "ir/target.h"

/* A file that a directive names (a csv schedule): its name there, and what it holds. */
struct sched_text {
    const char *name, *text;
};

struct sched_input {
    /* Tags PP are added when the model has none and the strategy names stages; ir_graph_unpack() where sequences are shared. */
    struct ir_graph *graph;
    json_t *strategy;               /* the list of directives as given */
    const char *strategy_name;      /* for messages: "strategy.json" */
    const struct sched_text *texts; /* [n_texts] */
    uint32_t n_texts;
    uint32_t ranks;        /* 0: as many as the strategy says */
    uint32_t batch_size;   /* sequences a step, over all replicas */
    enum ir_dtype compute; /* IR_F32 or IR_BF16 */
    uint32_t optimizer;    /* enum optimizer */
    bool clip;
    bool eval;     /* plans get a list "eval" */
    bool snapshot; /* plans get memory for a copy of the state: checkpoints are written beside training */
    const struct ir_target *target;
    /* Bytes of the target's memory that a rank has: the fastest order is taken where it keeps within them, though no "peak" says so; 0: unknown. */
    uint64_t room;
    uint32_t multiprocessors; /* of the smallest device of the job; 0: what the target assumes */
    uint64_t comm_scratch;    /* bytes that the communication back end wants per reducing stream, at most; 0: none */
    const struct machine *machine;      /* predicted times are written into the plans; NULL: none */
    void (*progress)(const char *what); /* what comes next, static storage; NULL: nobody listens */
    struct notices *notices;            /* what of the strategy was left out; NULL: nobody wants to know */
    FILE *dump;                         /* --dump: the DAG after every pass; NULL: none */
};

struct sched_output {
    uint32_t ranks, n_classes;
    struct sched_class {
        void *blob; /* validated plan, owned */
        uint64_t bytes;
    } * classes;
    uint32_t *class_of;    /* [ranks] */
    uint64_t nodes;        /* of the training DAG */
    uint64_t instructions; /* of the list "train", over all ranks */
    bool rounds;           /* rows of experts that are more than was planned for go in further rounds */
    uint64_t peak;      /* bytes that "peak" has to allow for these plans where no room is known; 0: they need none */
    bool short_of_room; /* there is a faster order, which takes more than the room */
    double compile_seconds, verify_seconds;
};

/* "expert_bound":"auto". */
static const double SCHED_EXPERT_BOUND = 1.5;

/* The macros replaced by primitives: a new reference to the list, as --expand prints it. */
enum status sched_expand(const struct sched_input *in, json_t **primitives, uint32_t *ranks, struct err *e);
/* Expands, builds, rewrites, orders, plans memory, lowers and verifies. */
enum status sched_compile(const struct sched_input *in, struct sched_output *out, struct err *e);
void sched_output_release(struct sched_output *out);
/* Number of the DAG as Graphviz text (--dot). */
enum status sched_dot(const struct sched_input *in, FILE *to, struct err *e);

/* The schedule of the compiled plan as text (sched/directives/csv.h): a line per pipeline place of replica 0. */
enum status sched_csv(const struct sched_input *in, FILE *to, struct err *e);
/* The i-th file that the strategy names, as it is to stand in sched_input.texts; NULL: there are no more. Borrowed from the
 * strategy, which need not be valid. */
const char *sched_file(const json_t *strategy, uint32_t i);

/* 0, or, where a layout leaves its dp to the number of ranks, the least number that it works with: what is wrong with the
 * strategy for that one is wrong for all. */
uint32_t sched_least_ranks(const json_t *strategy);

/* The checker (sched/check/check.h): proves, from the plans alone, that no rank waits for ever, that what is read was written and
 * is still there, that gradients are reduced over their holders and parameters updated once. It shares no code with the passes.
 * plans[i] is the view of class i, g the model, target what the plans are for. ST_BUG with a sentence that names class, instruction and
 * rule. */
enum status sched_check(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g,
                        const struct ir_target *target, struct err *e);

#endif
