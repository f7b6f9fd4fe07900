/* The passes of the compiler. Each says in its file what it needs, keeps and breaks. Private to sched/. */
#ifndef PIPER_SCHED_PASSES_H
#define PIPER_SCHED_PASSES_H

#include "sched/compile.h"

/* In the order in which directives act, by kind, whatever their place in the list (piper-strategy(5), Order of application): name in
 * --dump, function, whether the DAG exists after it. */
/* clang-format off */
#define SCHED_PASSES(ROW) \
    ROW("expand", directives_expand, false)  /* macros to primitives */                              \
    ROW("unpack", pass_unpack, false)        /* packed q, k and v, where sequences are shared */ \
    ROW("chunks", pass_chunks_build, false)  /* operators to chunks */                               \
    ROW("parse", directives_parse, false)    /* primitives to structs */                             \
    ROW("rows", pass_rows, false)            /* who shares sequences */                              \
    ROW("region", pass_region, false)        /* what needs more than own tokens */                   \
    ROW("cut", pass_chunks, false)           /* chunks to sub-chunks */                              \
    ROW("recompute", pass_recompute, false)  /* chunks that keep their inputs only */                \
    ROW("shard", pass_shard, false)          /* expert regions and their groups */                   \
    ROW("split", pass_split, false)          /* microbatches; BI and BW */                           \
    ROW("place", pass_place, false)          /* device sets, classes */                              \
    ROW("buckets", pass_buckets, false)      /* parameters and their holders */                      \
    ROW("build", pass_build, true)           /* nodes and data edges */                              \
    ROW("move", pass_move, true)             /* sends and receives */                                \
    ROW("border", pass_border, true)         /* borders of sharded regions */                        \
    ROW("reduce", pass_reduce, true)         /* gradient reductions */                               \
    ROW("gather", pass_gather, true)         /* parameters at the start of the step, zero 1 and 2 */ \
    ROW("update", pass_update, true)         /* norm and updates */                                  \
    ROW("order", pass_order, true)           /* the user's order */                                  \
    ROW("again", pass_again, true)           /* rows of experts that are received again */           \
    ROW("sequence", pass_sequence, true)     /* one global order */                                  \
    ROW("use", pass_gather_use, true)        /* parameters before their use, zero 3 */               \
    ROW("fit", pass_fit, true)               /* communications that share a device */
/* clang-format on */

#define SCHED_PASS_DECLARE(name, run, dumps) enum status run(struct sched *s, struct err *e);
SCHED_PASSES(SCHED_PASS_DECLARE)

/* In region: what is counted over whole sequences. Behind cut: that its operators stand together. Behind place: s->row_factor. */
enum status counts_find(struct sched *s, struct err *e);
enum status counts_check_cut(const struct sched *s, struct err *e);
void counts_bound_rows(struct sched *s);
/* Behind place: groups of experts and the devices of their neighbours. */
enum status shard_check_devices(struct sched *s, struct err *e);
/* And sequence groups. */
enum status rows_check_devices(struct sched *s, struct err *e);
/* The ordered DAG to plans, of the classes that have none in out yet. */
enum status pass_lower(struct sched *s, struct sched_output *out, struct err *e);
/* The same, until one of them is found whose ranks allocate more than `most` bytes: then it is not `all`, and some may have no plan yet. */
enum status lower_within(struct sched *s, uint64_t most, struct sched_output *out, bool *all, struct err *e);
/* The plan of this class alone, and what a rank of it allocates. */
uint64_t lower_class_bytes(struct sched *s, uint32_t class_id, struct sched_output *out);
void lower_forget(struct sched *s); /* the lists, or their order, are no longer those that were lowered */
/* compile.c: the passes that make the DAG, of which nothing may be left, and its order. */
enum status compile_dag(struct sched *s, struct err *e);
void compile_forget(struct sched *s); /* releases it */
/* Those that make an order of it: another one for the same B. */
enum status compile_order(struct sched *s, struct err *e);
/* The plans that the strategy asks for (peak.c): how B runs in groups that overlap is decided by what ranks may allocate. */
enum status peak_lower(struct sched *s, struct sched_output *out, struct err *e);

#endif
