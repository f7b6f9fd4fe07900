/* State of lowering (sched/lower/lower.c). Private to sched/. */
#ifndef PIPER_SCHED_LOWER_H
#define PIPER_SCHED_LOWER_H

#include "sched/lower/program.h"

/* A group of the job: UNION of classes, or EACH of device sets, each of devices of one class, or alike of several. */
struct group_key {
    enum plan_group_kind kind;
    const uint32_t *ids;
    uint32_t n;
    const uint32_t *classes; /* EACH: of several; NULL: of one */
    uint32_t n_classes;
};
/* Each set of a group cut into blocks of neighbours, and those turned round: of the devices at one place in the blocks of a set. */
struct turned_groups {
    struct group_key blocks, turned;
};
struct job_channel {
    struct group_key group;
    uint32_t stream;
};
/* The communicator of the tensor, context or sequence groups of a device set on a stream. */
struct border_channel {
    uint32_t set, stream, channel;
    enum share_kind kind;
};
/* A list, for all classes (sched/lower/index.c). */
struct list_index {
    uint32_t *first; /* [classes + 1] */
    uint32_t *nodes; /* those that concern class c, in the global order: nodes[first[c]] to nodes[first[c+1] - 1] */
    uint32_t *backward_of; /* by RUN node: the B or BI of its sub-chunk and microbatch */
    uint32_t *forward_of;  /* by RUN node: the F of it; by AGAIN node: that of its dispatch */
};
/* Groups of a class, where sequences are shared, of these kinds. */
enum lower_share { LOWER_SEQUENCE, LOWER_TENSOR, LOWER_HEADS, LOWER_SHARES };
/* The whole job: what classes share, and how they are lowered now. */
struct lowering {
    struct sched *s;
    struct {
        VEC(struct job_channel);
    } channels;                        /* by id */
    struct group_key *holders;         /* by bucket */
    struct turned_groups *zero_groups; /* by bucket: without zero_group the blocks are the holders */
    uint32_t scalars_channel;
    uint32_t *reduce_channel, *gather_channel;               /* by bucket: within a group */
    uint32_t *reduce_copies_channel, *gather_copies_channel; /* by bucket: of the holders with the same shard */
    uint32_t *shard_channel, *rounds_channel; /* by directive; of further rounds, on the stream of compute */
    struct {
        VEC(struct border_channel);
    } border_channels;
    uint32_t *train_tag, *eval_tag; /* by move */
    struct list_index train, eval;
    uint32_t n_rooms;
    struct lower_room {
        uint32_t map_size;                  /* map_least of class_lowering */
        uint32_t *instr_of;                 /* of class_lowering; all IR_NONE between lists; NULL: not used yet */
        struct plan_builder pb;             /* empty: what the class before had */
    } * rooms;                              /* by thread */
    struct group_key *shares[LOWER_SHARES]; /* by class, where sequences are shared */
    struct sched_output *out;
    uint64_t most;            /* bytes that a rank may allocate */
    bool too_much;            /* some does allocate more: nothing is lowered any more */
    uint64_t *stream_scratch; /* by stream: bytes for the terms of its largest reduction, within the back end's limit */
};

/* One class. */
struct class_lowering {
    struct lowering *x;
    uint32_t class_id;
    struct plan_builder pb;
    struct programs programs;
    uint32_t *set_of, *stream_of, *bucket_of, *channel_of; /* job number -> number in this plan; IR_NONE */
    struct {
        VEC(struct group_key);
    } group_keys; /* by group */
    /* the list being lowered */
    struct list_plan *list;
    const struct list_index *index;
    const uint32_t *tag; /* by move */
    uint32_t first_instr;
    uint32_t *instr_of; /* by node, relative to first_instr; IR_NONE */
    struct {
        VEC(uint32_t);
    } parts;                /* of the outputs of a sub-chunk: scratch */
    uint8_t *grad_written;  /* by bucket of the job: reduced gradients of the list have been added to it */
    uint8_t *param_written; /* by parameter: some run of the list has written its gradient in ARENA_GRADS */
    struct lower_value {
        uint64_t key; /* 0: free */
        uint32_t buffer;
    } * map;                                 /* of values to buffers: open addressing */
    uint32_t map_size, map_used, *map_least; /* the last: places to begin with, as many as the class before had */
};

static inline uint32_t class_of_set(const struct sched *s, uint32_t set)
{
    return s->sets.at[set].class_id;
}

/* ---- sched/lower/index.c ---- */
void lower_index_list(const struct sched *s, const struct list_plan *list, struct list_index *index);
void lower_index_release(struct list_index *index);

/* ---- sched/lower/tables.c ---- */
/* Tags are numbered per ordered pair of classes, in the global order; by move, owned by the caller. */
uint32_t *lower_number_tags(const struct sched *s, const struct list_plan *list);
/* Channels of the job, and the scratch of its streams: into x. */
void lower_number_channels(struct lowering *low);
/* A channel is a group on a stream; all buckets with the same holders and streams share one. */
uint32_t lower_channel_number(struct lowering *low, struct group_key group, uint32_t stream);
/* Scratch for a reduction of terms of so many bytes on a stream. */
void lower_want_scratch(struct lowering *low, uint32_t stream, uint64_t members, uint64_t bytes);
void lower_size_scratch(struct lowering *low);
/* Set, stream: the number in this plan of the job's, added when new. */
uint32_t lower_set(struct plan_builder *pb, const uint32_t *d, uint32_t n);
uint32_t lower_device_set(struct class_lowering *c, uint32_t set);
uint16_t lower_stream(struct class_lowering *c, uint32_t stream);
uint32_t lower_group(struct class_lowering *c, struct group_key key);
/* Bytes of ARENA_GRADS that a bucket of the job takes. */
uint64_t lower_grad_bytes(const struct bucket *b);
/* Buckets with their arenas and pieces, and channels that this class takes part in. */
void lower_buckets(struct class_lowering *c);
void lower_channels(struct class_lowering *c);

/* ---- sched/lower/holders.c ---- */
/* The groups of a shard directive. */
struct group_key lower_expert_groups(const struct sched *s, uint32_t directive);
/* A device set of a class. */
uint32_t lower_set_of_class(const struct sched *s, uint32_t class_id);
/* All devices with a copy of the bucket: as one group, or one for each block of its parameters that devices hold. */
struct group_key lower_holders(struct sched *s, const struct bucket *b);
/* Every set, of equal sizes, in blocks of n neighbours in its order; n divides the size. */
struct turned_groups lower_turned_groups(struct sched *s, const uint32_t *sets, uint32_t n_sets, uint32_t n);
/* The groups that a bucket is sharded over, and their copies. */
struct turned_groups lower_zero_groups(struct sched *s, const struct bucket *b, const struct group_key *holders);

/* ---- sched/lower/gradients.c ---- */
/* Of the list "train", which has been lowered. */
void lower_share_gradients(struct class_lowering *c);

/* ---- sched/lower/values.c ---- */
/* The node whose value another one passes on: a move, a border, a sum, a turn; its first edge. */
static inline uint32_t lower_giver(const struct ir_dag *d, uint32_t node)
{
    return d->edges.at[d->in_edge[d->in_first[node]]].from;
}
/* From where edge number `index` of this kind and value enters a node; IR_NONE: there is none. */
uint32_t lower_edge_giver(const struct ir_dag *d, uint32_t node, enum ir_edge_kind kind, uint32_t tensor,
                          uint32_t index);
/* What a move brings, as a slot has it. */
static inline enum slot_what lower_moved(const struct ir_move *m)
{
    return m->grad ? WHAT_LEAVING : WHAT_TENSOR;
}
uint32_t lower_new_buffer(struct class_lowering *c, uint64_t bytes, enum plan_kind_of_memory kind,
                          enum plan_slot_kind role, uint32_t what, uint32_t mb);
/* The buffer of a value by (what, id, index): IR_NONE in the place that is returned when there is none yet. Valid until the
 * next call. */
uint32_t *lower_buffer_slot(struct class_lowering *c, enum slot_what what, uint32_t id, uint32_t index);
/* What of a tensor, or of its gradient, a giver gives: in which layout, of what shape; chunk: the one on whose side of the experts'
 * border it lies, which decides how many rows are planned for, IR_NONE: on no side. */
struct lower_side {
    uint32_t chunk;
    enum ir_layout layout;
    struct ir_shape shape;
};
struct lower_side lower_side_of(const struct class_lowering *c, uint32_t giver, uint32_t tensor, bool grad);
/* The value of a tensor (or the gradient part of one) that node `giver` makes, loads or receives. */
uint32_t lower_value_buffer(struct class_lowering *c, enum slot_what what, uint32_t giver, uint32_t tensor, uint32_t mb,
                            enum plan_kind_of_memory kind);
struct plan_instr *lower_begin(struct class_lowering *c, uint32_t node, enum plan_op op, uint32_t stream);
/* Adds the next base of an instruction: a buffer of ARENA_WORK; of a bucket (number in the plan) its parameters in ARENA_PARAMS or
 * its gradients in ARENA_GRADS. Valid until the next base. */
struct plan_base *lower_work_base(struct class_lowering *c, struct plan_instr *i, uint32_t buffer, uint32_t access);
struct plan_base *lower_param_base(struct class_lowering *c, struct plan_instr *i, uint32_t bucket, uint32_t access);
struct plan_base *lower_grad_base(struct class_lowering *c, struct plan_instr *i, uint32_t bucket, uint32_t access);
/* Does the list need whole gradients of a bucket in ARENA_WORK, before they are reduced into ARENA_GRADS? */
bool grads_pass_through(const struct bucket *b);
void lower_run(struct class_lowering *c, uint32_t node, const struct ir_node *n);
void lower_again(struct class_lowering *c, uint32_t node, const struct ir_node *n);
/* The base of a slot of a run of this node. */
void lower_slot(struct class_lowering *c, struct plan_instr *i, uint32_t node, const struct ir_node *n, uint32_t slot);
/* Where the backward of a sub-chunk, or a part of it (struct ir_node), writes the whole gradients of a bucket. is_first: nothing of what it writes
 * has been written in the list so far. */
struct lower_grad {
    uint32_t sub, bucket, mb, part;
};
void lower_grad(struct class_lowering *c, struct plan_instr *i, const struct lower_grad *g, uint32_t access);
bool lower_grad_is_first(struct class_lowering *c, const struct lower_grad *g);
/* The tape of the backward of a run. */
const struct tape *lower_tape(struct class_lowering *c, uint32_t node, const struct ir_node *n);

/* ---- sched/lower/comm.c ---- */
void lower_load(struct class_lowering *c, uint32_t node, const struct ir_node *n);
void lower_move(struct class_lowering *c, uint32_t node, const struct ir_node *n);
void lower_bucket(struct class_lowering *c, uint32_t node, const struct ir_node *n, enum plan_op op);
void lower_reduce(struct class_lowering *c, uint32_t node, const struct ir_node *n);
void lower_reduce_copies(struct class_lowering *c, uint32_t node, const struct ir_node *n);
void lower_gather(struct class_lowering *c, uint32_t node, const struct ir_node *n);
void lower_gather_copies(struct class_lowering *c, uint32_t node, const struct ir_node *n);

/* ---- sched/lower/border.c ---- */
/* The channels of a list's borders: into x. */
void lower_number_borders(struct lowering *low, const struct list_plan *list);
/* What sums of terms need: into x. */
void lower_size_borders(struct lowering *low, const struct list_plan *list);
void lower_border(struct class_lowering *c, uint32_t node, const struct ir_node *n);
void lower_turn(struct class_lowering *c, uint32_t node, const struct ir_node *n);
/* The later pieces of a program whose first piece is the last instruction, each behind the exchange of its numbers. */
void lower_pieces(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program);
/* The channel of the context groups of a device set. */
uint32_t lower_context_channel(const struct class_lowering *c, uint32_t set, uint32_t stream);

/* ---- sched/lower/ring.c ---- */
/* The same of a ring: between two pieces keys, values and their gradients go on to the next of the context group. */
void lower_ring(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program);

/* Fields of an instruction by which rows of experts move, where they may go in rounds, or, whole, their counts. */
void lower_rows_of_experts(const struct class_lowering *c, struct plan_instr *i, const struct ir_move *m,
                           uint32_t channel);

/* ---- sched/lower/rounds.c ---- */
/* Does a pass of experts have further rounds, behind it or, F, before it? */
bool lower_has_rounds(const struct class_lowering *c, const struct ir_node *n);
/* The buffer with the counts of all members, by the border over which counts come in. */
uint32_t lower_all_counts(struct class_lowering *c, uint32_t border);
void lower_rounds_forward(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program);
void lower_rounds_backward(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program);

#endif
