/* Private to sched/: what the passes share. One struct sched per compilation, owned by sched_compile(). */
#ifndef PIPER_SCHED_COMPILE_H
#define PIPER_SCHED_COMPILE_H

#include "ir/dag.h"
#include "sched/devices.h"
#include "sched/directive.h"
#include "sched/filter.h"
#include "sched/sched.h"
#include "sched/schedule.h"
#include "sched/side.h"

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
    enum ir_dtype type;         /* of its parameters: IR_F32 or IR_BF16 */
    uint8_t rule;               /* enum plan_rule: without the optimizer there are no gradients */
    uint32_t holders;           /* devices with the same parameters */
    uint32_t group;   /* of them, that what is sharded is sharded over: neighbours in the order of the set; else all */
    uint32_t set;     /* device set whose order says who neighbours whom */
    bool state_all;   /* optimizer state is sharded over all holders */
    uint32_t experts; /* of this chunk; IR_NONE: no experts. Else a device holds 1/ep of them, and the holders are those
                                   with the same block in all groups, of all classes */
    uint32_t blocks;  /* 1: whole parameters. Else a member of a tensor group holds one of so many blocks of each, and
                                   the holders are those with the same block in all tensor groups */
};
/* Elements of a shard, and of what a holder updates. */
static inline uint64_t bucket_shard(const struct bucket *b)
{
    return b->elements / b->group;
}
static inline uint64_t bucket_state(const struct bucket *b)
{
    return !zero_shards_state(b->zero) ? b->elements : b->state_all ? b->elements / b->holders : bucket_shard(b);
}
/* Several holders have the same shard. */
static inline bool bucket_has_copies(const struct bucket *b)
{
    return b->group < b->holders;
}
/* The part of a parameter that a device holds: struct plan_piece. */
struct param_cut {
    uint32_t blocks;
    uint64_t count, first, run, stride, elements;
};

/* ---- the compilation ---------------------------------------------------------------------------------------------- */

struct list_plan { /* one list of instructions: "train" or "eval" */
    const char *name;
    bool eval;
    struct ir_dag dag;
    uint32_t
        *group; /* by node: number of the group that overlaps that a run is in, 0: in none; NULL: all are in none */
    struct weights *weights; /* where some are: sched/weights.h; NULL: not found yet */
    uint32_t *order;         /* global order of all nodes: every class dispatches a projection of it */
    uint32_t nodes, edges;   /* of the DAG before it had one */
};

/* How the sequences of a replica are shared, alike on all device sets: piper-strategy(5), shard. */
struct share {
    uint32_t n;       /* devices of a sequence group; 1: sequences are not shared */
    uint32_t context; /* parts by position: piper-strategy(5), Who has which tokens */
    uint32_t tensor;  /* devices of a tensor group */
    bool zigzag;
};
/* Groups of the devices that share sequences: those of a replica; blocks of neighbours of these; those with one place in their blocks, and
 * these the other way round; those of a replica in the order of their heads, where blocks of heads are split over context groups. The groups of a device set as sets, owned by the arena, equal for sets with equal groups. */
enum share_kind { SHARE_SEQUENCE, SHARE_TENSOR, SHARE_CONTEXT, SHARE_CONTEXT_BACK, SHARE_HEADS };
const uint32_t *share_groups(struct sched *s, uint32_t set, enum share_kind kind, uint32_t *n_groups);
/* What of an operator a device does where sequences are shared. */
struct op_side {
    uint8_t split;    /* enum ir_split */
    bool context;     /* attention: keys and values come from a context group, */
    uint8_t exchange; /* enum shard_exchange: in this way */
    uint32_t parts;   /* blocks that it is split into; member j of a tensor group of p has block j*parts/p */
    uint32_t joined;  /* attention: devices that its head region joins; 1: it is in none */
    uint8_t in[IR_MAX_IN], out[IR_MAX_OUT]; /* enum ir_layout */
    uint32_t directive;                     /* of its region; IR_NONE: it is in none */
};

static const double GIB = 1024.0 * 1024 * 1024;

/* What the backward of a chunk has of its forward: what that kept; its inputs, and it computes the forward again; of sharded experts not even the
 * rows that they received, which are sent again. */
enum recompute { RECOMPUTE_NONE, RECOMPUTE_KEEPS_INPUTS, RECOMPUTE_RECEIVES };

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
    struct tagged_chunks { /* by tag: chunks[first[i]] .. are those with index i */
        uint32_t n, *first, *chunks;
    } tagged[IR_MAX_TAGS];
    uint32_t *all_chunks;    /* 0, 1, .. */
    uint8_t *backward_split; /* [chunk * microbatches + mb]: 1 where B is the pair BI, BW */
    uint8_t
        *overlapped; /* the same: 1 where B stands in a group that overlaps or fills: its BW may stand where BI waits */
    uint16_t *set_of;       /* [chunk * microbatches + mb] */
    uint16_t *stream_of;    /* [chunk]: stream of place, for sends and tied sums */
    uint32_t *replicate_of; /* [chunk]: index in directives, IR_NONE */
    uint8_t *recompute;     /* [chunk * microbatches + mb]: enum recompute */
    uint32_t *rows_of;      /* [operator]: of a dispatch the chunk of the experts that read its rows; else IR_NONE */
    uint32_t *shard_of;     /* [chunk * microbatches + mb]: index in directives of the experts' shard, IR_NONE */
    struct ratio
        *row_factor; /* [chunk]: rows that a device of sharded experts receives, at most, by those that it sends */
    struct share share;
    uint32_t *sequence_of; /* [chunk]: index in directives, IR_NONE */
    uint32_t *regions;     /* [operator]: number of its region, 0: in none; NULL where sequences are not shared */
    struct op_side *sides; /* [operator]; NULL where sequences are not shared */
    struct {
        VEC(uint32_t);
    } listed_sets; /* groups of shard, sets of rotations: by directive */
    struct {
        VEC(struct bucket);
    } buckets;
    struct {
        VEC(uint32_t);
    } bucket_params, bucket_classes;
    uint32_t *bucket_of;    /* by parameter */
    struct param_cut *cuts; /* by parameter */
    bool overlaps;          /* some group does, or fills */
    bool pairs;             /* some overlaps */
    uint64_t peak;          /* bytes that a rank may allocate, as the strategy says; 0: it does not */
    struct js peak_js;      /* where */
    bool order_checked;     /* the user's order can run */
    bool uncut;             /* B stays whole in groups that overlap */
    uint32_t waiting;       /* BW of these groups that may wait on a class at once, */
    bool carries;           /* in the next group too */
    uint8_t *stream_used;   /* by stream: some class that was lowered has it */
    struct list_plan train, eval;
    struct lowering *lowering; /* what classes share that are lowered from these lists; NULL: nothing is known */
};

/* Elements of a bucket that take at least `bytes` as parameters and as gradients (float32). */
static inline uint32_t elements_of(const struct bucket *b, uint32_t bytes)
{
    return bytes / ir_dtype_size(b->type, b->type);
}
/* A directive that shards the experts of a chunk, IR_NONE: none does. All microbatches have one, or none has; they split into as many
 * blocks, and a device has one block in all of them. */
static inline uint32_t expert_shard(const struct sched *s, uint32_t chunk)
{
    return s->shard_of[chunk * s->microbatches];
}
/* The one whose groups are on the devices of a class, which runs some microbatch of the chunk. */
uint32_t expert_shard_in(const struct sched *s, uint32_t chunk, uint32_t class_id);
/* Devices that the experts of a chunk are split over; 1 where they are not. */
static inline uint32_t expert_parts(const struct sched *s, uint32_t chunk)
{
    const uint32_t d = expert_shard(s, chunk);
    return d == IR_NONE ? 1 : s->sets.at[s->listed_sets.at[s->directives.at[d].first_shard_set]].n;
}
/* Rows planned for in a sub-chunk of sharded experts, as a multiple of those that a device sends: row_factor, or less with an expert_bound. */
struct ratio expert_row_factor(const struct sched *s, uint32_t chunk);
/* May more rows come than that, which go in more rounds through the same buffers? */
bool expert_rounds(const struct sched *s, uint32_t chunk);
/* The keys "expert_bound", num 0: none, and "overflow" of shard and layout. */
enum status expert_bound_parse(const struct js *js, struct ratio *bound, bool *rounds, struct err *e);
static inline const uint32_t *devices_of(const struct sched *s, uint32_t set)
{
    return s->sets.pool.at + s->sets.at[set].first;
}
/* Does the backward of a microbatch of a sub-chunk compute its forward again? */
static inline bool recomputes(const struct sched *s, const struct ir_sub *sub, uint32_t mb)
{
    return s->recompute[sub->chunk * s->microbatches + mb];
}
/* again.c: is what a microbatch of an expert region has received not kept, but received again before the backward? Does a dispatch run again for
 * that? */
bool again_receives(const struct sched *s, uint32_t chunk, uint32_t mb);
bool again_permutes(const struct sched *s, uint32_t op, uint32_t mb);
/* The pass of a run as filters see it: B, too, where the compiler runs it as BI and then BW (sched/build.c). */
static inline enum ir_pass pass_seen(const struct sched *s, const struct ir_node *n)
{
    const bool half = n->kind == IR_NODE_RUN && (n->pass == IR_PASS_BI || n->pass == IR_PASS_BW);
    if (half && !s->backward_split[s->chunks.subs.at[n->what].chunk * s->microbatches + n->mb])
        return IR_PASS_B;
    return (enum ir_pass)n->pass;
}
/* build.c: the operator of a sub-chunk whose BW may run in parts, each a node: it alone has one there; IR_NONE: none has, or not alone. */
uint32_t sub_parted(const struct sched *s, const struct ir_sub *sub);
/* Does a BW of this sub-chunk, in this part (struct ir_node), give the gradient of the parameter? */
bool sub_part_gives(const struct sched *s, const struct ir_sub *sub, uint32_t part, uint32_t param);
uint32_t stream_number(struct sched *s, const char *name);
/* stream.c */
void stream_resources(const struct sched *s, uint32_t stream, uint32_t *max_ctas, int32_t *priority);
enum status stream_check(const struct sched *s, const uint8_t *used, struct err *e);

#endif
