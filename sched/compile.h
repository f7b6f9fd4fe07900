/* Private to sched/: what the passes share. One struct sched per compilation, owned by sched_compile(). */
#ifndef PIPER_SCHED_COMPILE_H
#define PIPER_SCHED_COMPILE_H

#include "base/json.h"
#include "base/ratio.h"
#include "ir/dag.h"
#include "sched/sched.h"

/* ---- filters and device sets (sched/filter.c, sched/devices.c) -------------------------------------------------- */

enum match_mode { MATCH_ANY, MATCH_NONE, MATCH_RANGE };
struct match {
    uint8_t mode; /* enum match_mode: any value or none; lacks the tag; lo <= value <= hi */
    bool given;   /* the filter names this key: then MATCH_ANY asks for some value */
    int32_t lo, hi;
};
struct filter {
    struct match tag[IR_MAX_TAGS], mb;
    uint8_t pass; /* enum ir_pass; IR_PASS_NONE: any */
};

struct device_set {
    uint32_t first, n; /* in sets.pool, in the user's order */
    uint32_t class_id; /* equal for sets with the same members */
};
struct device_sets {
    VEC(struct device_set);
    struct {
        VEC(uint32_t);
    } pool;
};
struct device_class {
    uint32_t first, n; /* in class_pool: members ascending */
};

/* ---- directives --------------------------------------------------------------------------------------------------- */

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

struct order_group {
    uint32_t first_filter, n_filters; /* in sched.filters */
};
struct directive {
    const struct directive_kind *kind;
    struct js js;    /* for messages: its path is that of the list as given, where it can be told */
    uint32_t number; /* in the list of primitives */
    struct filter filter;
    uint32_t set;                           /* place, replicate: IR_NO_SET where absent */
    uint32_t stream;                        /* place, shard, stream */
    uint32_t max_ctas;                      /* stream */
    int32_t priority;                       /* stream */
    uint32_t reduce_stream, gather_stream;  /* replicate */
    struct ir_cut_rule cut;                 /* replicate */
    uint32_t zero;                          /* replicate */
    bool reduce_each;                       /* replicate */
    uint32_t prefetch;                      /* replicate */
    uint32_t microbatches;                  /* split */
    uint32_t first_group, n_groups;         /* order: in sched.groups */
    uint32_t first_shard_set, n_shard_sets; /* shard: in sched.shard_sets */
    struct ratio expert_bound;              /* shard: rows planned for, in balanced sizes; num 0: the worst case */
};

/* The order of a pipeline rank as cells. Stages of the second direction of a two-way placement are numbered stages,
 * stages+1, ..: the model's stage is the number modulo stages; microbatches count from 0 in each direction. */
struct cell {
    uint32_t stage, mb;
    enum ir_pass pass;
    bool with_next; /* in one group with the cell after it */
};
struct cells {
    VEC(struct cell);
};
/* ---- parameters --------------------------------------------------------------------------------------------------- */

/* A bucket of the job. classes: those that hold it, ascending. */
struct bucket {
    uint32_t first_param, n_params;  /* in sched.bucket_params */
    uint32_t first_class, n_classes; /* in sched.bucket_classes */
    uint32_t reduce_stream, gather_stream;
    uint32_t zero;              /* level in force: 0 where there is one holder */
    bool reduce_each;           /* per microbatch; else once, after the last */
    uint32_t prefetch;          /* zero 3 */
    uint64_t elements, n_decay; /* elements padded to the holders */
    uint32_t holders;           /* devices with the same parameters */
    uint32_t shard; /* index in directives; IR_NONE: whole parameters. Else a device holds 1/ep of the experts, and
                                   the holders are those with the same block in all groups */
};

/* ---- the compilation ---------------------------------------------------------------------------------------------- */

struct list_plan { /* one list of instructions: "train" or "eval" */
    const char *name;
    bool eval;
    struct ir_dag dag;
    uint32_t *order; /* global order of all nodes: every class dispatches a projection of it */
};

struct sched {
    const struct sched_input *in;
    const struct ir_graph *g;
    struct arena arena;
    uint32_t ranks, microbatches, microbatch_size, replicas;
    const char *mb_name; /* split's dim_name */
    json_t *primitives;  /* null: an order in cells, the next of rows */
    struct {
        VEC(struct cells);
    } rows;           /* what schedule gives: one pipeline rank each */
    uint32_t stages;  /* of the model, for the cells of rows */
    uint32_t *origin; /* of primitive i: index in the list as given */
    struct {
        VEC(struct directive);
    } directives;
    struct {
        VEC(struct filter);
    } filters;
    struct {
        VEC(struct order_group);
    } groups;
    struct device_sets sets;
    struct {
        VEC(struct device_class);
    } classes;
    struct {
        VEC(uint32_t);
    } class_pool;
    struct {
        VEC(const char *);
    } streams; /* number 0 is default_stream */
    struct ir_chunks chunks;
    uint8_t *backward_split; /* [chunk * microbatches + mb]: 1 where B is the pair BI, BW */
    uint16_t *set_of;        /* [chunk * microbatches + mb] */
    uint16_t *stream_of;     /* [chunk]: stream of place, for sends and tied sums */
    uint32_t *replicate_of;  /* [chunk]: index in directives, IR_NONE */
    uint8_t *recompute;      /* [chunk]: 1 where the backward computes its forward again */
    uint32_t *shard_of;      /* [chunk]: index in directives, IR_NONE */
    struct {
        VEC(uint32_t);
    } shard_sets; /* expert groups of the shard directives */
    struct {
        VEC(struct bucket);
    } buckets;
    struct {
        VEC(uint32_t);
    } bucket_params, bucket_classes;
    uint32_t *bucket_of; /* by parameter */
    struct list_plan train, eval;
};

/* Passes, in this order; the table is in sched/compile.c. Each says in its file what it needs, keeps and breaks. */
enum status pass_chunks_build(struct sched *s, struct err *e);
enum status pass_chunks(struct sched *s, struct err *e);
enum status pass_split(struct sched *s, struct err *e);
enum status pass_place(struct sched *s, struct err *e);
enum status pass_buckets(struct sched *s, struct err *e);
enum status pass_build(struct sched *s, struct err *e);
enum status pass_recompute(struct sched *s, struct err *e);
enum status pass_shard(struct sched *s, struct err *e);
enum status shard_check_devices(struct sched *s, struct err *e);
enum status pass_move(struct sched *s, struct err *e);
enum status pass_all_to_all(struct sched *s, struct err *e);
enum status pass_reduce(struct sched *s, struct err *e);
enum status pass_gather(struct sched *s, struct err *e);
enum status pass_update(struct sched *s, struct err *e);
enum status pass_order(struct sched *s, struct err *e);
enum status pass_sequence(struct sched *s, struct err *e);
enum status pass_gather_use(struct sched *s, struct err *e);
enum status pass_fit(struct sched *s, struct err *e);
enum status pass_lower(struct sched *s, struct sched_output *out, struct err *e);

/* filter.c */
enum status filter_parse(struct sched *s, const struct js *js, struct filter *f, struct err *e);
bool filter_chunk(const struct sched *s, const struct filter *f, uint32_t chunk);
bool filter_match(const struct sched *s, const struct filter *f, uint32_t chunk, uint32_t mb, enum ir_pass pass);
/* Microbatches [first, end) of the job that the filter names; none where first >= end. */
struct mb_range {
    uint32_t first, end;
};
struct mb_range filter_microbatches(const struct sched *s, const struct filter *f);
/* Matched chunks > 0, else the error with the tags that exist. */
enum status filter_check(const struct sched *s, const struct filter *f, const struct js *js, struct err *e);
/* "PP=0 MB=1 F": what a node is called in messages; text of the caller. */
const char *node_text(const struct sched *s, const struct ir_dag *d, uint32_t node, char *text, size_t size);
const char *chunk_text(const struct sched *s, uint32_t chunk, char *text, size_t size);

/* devices.c: "devices" of a directive: numbers and ranges "0-511", "0-1023:4". */
enum status devices_parse(struct sched *s, const struct js *js, uint32_t *set, struct err *e);
/* "filter" and "devices" of place, replicate and shard: the filter into d, the value of devices to be parsed. */
enum status placement_keys(struct sched *s, const struct js *js, struct directive *d, struct js *devices,
                           const char *meaning, struct err *e);
uint32_t devices_intern(struct sched *s, const uint32_t *list, uint32_t n);
/* Elements of a bucket that take at least `bytes` as parameters (in the job's type) and as gradients (float32). */
static inline uint32_t elements_of(const struct sched *s, uint32_t bytes)
{
    return bytes / ir_dtype_size(IR_COMPUTE, s->in->compute);
}
/* Devices that the experts of a chunk are split over; 1 where they are not. */
static inline uint32_t expert_parts(const struct sched *s, uint32_t chunk)
{
    uint32_t d = s->shard_of[chunk];
    return d == IR_NONE ? 1 : s->sets.at[s->shard_sets.at[s->directives.at[d].first_shard_set]].n;
}
/* Rows planned for in a sub-chunk of sharded experts, as a multiple of those that a device sends: 1 with a capacity. */
struct ratio expert_row_factor(const struct sched *s, uint32_t chunk);
static inline const uint32_t *devices_of(const struct sched *s, uint32_t set)
{
    return s->sets.pool.at + s->sets.at[set].first;
}
/* Classes of the sets in use: equal or disjoint, no device idle. Sets class_id of every set. */
enum status devices_classes(struct sched *s, struct err *e);
const char *devices_text(const struct sched *s, uint32_t set, char *text, size_t size);

uint32_t stream_number(struct sched *s, const char *name);
/* stream.c */
void stream_resources(const struct sched *s, uint32_t stream, uint32_t *max_ctas, int32_t *priority);
enum status stream_check(const struct sched *s, const uint8_t *used, struct err *e);

/* layout.c: how a layout directive puts stages on pipeline ranks; see there. Of JSON that may be wrong: chunks of the default,
 * PLACEMENTS for a name that is none. layout_find: the last layout of a list, NULL when there is none. */
enum placement { PLACE_STANDARD, PLACE_INTERLEAVED, PLACE_V, PLACE_TWO_WAY, PLACEMENTS };
extern const char *const placement_names[PLACEMENTS];
uint32_t layout_chunks(const json_t *layout);
enum placement layout_placement(const json_t *layout);
const json_t *layout_find(const json_t *strategy);

/* directive.c: macros to primitives, primitives to struct directive. */
enum status directives_expand(struct sched *s, struct err *e);
enum status directives_parse(struct sched *s, struct err *e);

/* schedule.c and schedules/: one row per kind. */
struct schedule_kind {
    const char *name;
    enum placement placement; /* that its stages need */
    uint32_t chunks;          /* stages per rank: 0 as the layout says */
    /* NULL or a sentence why p ranks, m microbatches (of both directions together), v stages per rank do not work. */
    const char *(*refuse)(uint32_t p, uint32_t m, uint32_t v);
    /* Appends the order of rank r. */
    void (*build)(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out);
};
extern const struct schedule_kind *const sched_schedule_kinds[]; /* NULL-terminated */
/* The order directive of a row: into d, whose js is set; and as JSON, a new reference. */
enum status order_of_cells(struct sched *s, const struct cells *cells, uint32_t stages, struct directive *d,
                           struct err *e);
json_t *schedule_row_json(const struct cells *cells, uint32_t stages);

/* program.c, memory.c: used by lower.c; see there. */

#endif
