/* Directives: the table of kinds, and what is parsed of one. Private to sched/. */
#ifndef PIPER_SCHED_DIRECTIVE_H
#define PIPER_SCHED_DIRECTIVE_H

#include "base/json.h"
#include "base/ratio.h"
#include "ir/chunk.h"
#include "sched/filter.h"

struct sched;
struct directive;
struct directive_kind {
    const char *name;
    const char *const *keys; /* allowed, NULL-terminated */
    /* A macro: appends primitives to the JSON list `out`. NULL for a primitive. */
    enum status (*expand)(struct sched *s, const struct js *js, json_t *out, struct err *e);
    /* A primitive: fills in the directive from its JSON. NULL for a macro. */
    enum status (*parse)(struct sched *s, const struct js *js, struct directive *d, struct err *e);
};
extern const struct directive_kind *const sched_directive_kinds[]; /* NULL-terminated; sched/directive.c */
extern const struct directive_kind directive_place, directive_replicate, directive_split, directive_order,
    directive_shard, directive_recompute, directive_stream, directive_layout, directive_schedule;
/* Spellings of the reference's branches that have no counterpart or another meaning are answered with a sentence (reference.c). */
enum status reference_answer(const struct sched *s, const struct js *js, const char *op, struct err *e);

/* shard: what is split ("dim"), how keys and values meet ("exchange"). */
enum shard_dim { DIM_EXPERT, DIM_SEQUENCE, DIM_HEAD, DIM_FFN, DIM_VOCAB, DIM_CONTEXT, DIMS };
enum shard_exchange { EXCHANGE_GATHER, EXCHANGE_ALL_TO_ALL, EXCHANGE_RING, EXCHANGES };

struct order_group {
    uint32_t first_filter, n_filters; /* in sched.filters */
    uint32_t column;                  /* of its cell, where it is from a csv schedule */
    bool overlaps;                    /* several, and some of what they match communicates beside computation */
    bool fills;                       /* B alone, whose rows travel to experts: its BW runs meanwhile */
};
struct directive {
    const struct directive_kind *kind;
    struct js js;         /* for messages: its path is that of the list as given, where it can be told */
    uint32_t number;      /* in the list of primitives */
    const json_t *layout; /* that it came from; NULL: from none */
    struct filter filter;
    uint32_t set;                           /* place, replicate: IR_NO_SET where absent; of a rotation the first */
    uint32_t first_turn, n_turns;           /* place, replicate with "rotate": in sched.listed_sets; else none */
    uint32_t stream;                        /* place, shard, stream */
    uint32_t max_ctas;                      /* stream */
    int32_t priority;                       /* stream */
    uint32_t reduce_stream, gather_stream;  /* replicate */
    struct ir_cut_rule cut;                 /* replicate */
    uint32_t zero;                          /* replicate */
    uint32_t zero_group;                    /* replicate: holders that share a group; 0: all */
    bool zero_all;                          /* replicate: optimizer state over all holders, whatever zero_group says */
    bool reduce_each;                       /* replicate */
    uint32_t prefetch;                      /* replicate */
    uint32_t microbatches;                  /* split */
    uint32_t first_group, n_groups;         /* order: in sched.groups, a cell of a csv schedule each, */
    uint32_t line;                          /* of which it is this line; 0: it is from no such file */
    uint32_t first_shard_set, n_shard_sets; /* shard: in sched.listed_sets; none where "devices" is omitted */
    uint8_t dim, exchange;                  /* shard */
    bool zigzag;                            /* shard, sequence */
    bool receives;                          /* recompute: rows of experts are received again */
    bool keep_whole;                        /* shard, regions: what is gathered stays until its last reader */
    struct ratio expert_bound;              /* shard: rows planned for, in balanced sizes; num 0: the worst case */
    bool rounds; /* shard: what is beyond the bound goes in more rounds; else it stops the run */
};

#endif
