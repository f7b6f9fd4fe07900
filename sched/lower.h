/* State of lowering (sched/lower.c). Private to sched/. */
#ifndef PIPER_SCHED_LOWER_H
#define PIPER_SCHED_LOWER_H

#include "sched/program.h"

enum { PLAN_SCALARS_BYTES = 64 /* SCALAR_COUNT float64 */ };

/* A group of the job: UNION of classes, or EACH of device sets. */
struct group_key {
    enum plan_group_kind kind;
    const uint32_t *ids;
    uint32_t n;
};
struct job_channel {
    struct group_key group;
    uint32_t stream;
};
/* The whole job. */
struct lowering {
    struct sched *s;
    struct { VEC(struct job_channel); } channels; /* by id */
    struct group_key *holders;                                  /* by bucket */
    uint32_t scalars_channel, *reduce_channel, *gather_channel; /* by bucket */
    uint32_t *shard_channel;                                    /* by directive */
    uint32_t *train_tag, *eval_tag; /* by move */
    const uint32_t *tag;            /* of the list being lowered */
    uint8_t *stream_used;           /* by stream: some class has it */
    uint64_t *stream_scratch;       /* by stream: bytes for the terms of its largest reduction, within the back end's limit */
};

/* One class. */
struct class_lowering {
    struct lowering *x;
    uint32_t class_id;
    struct plan_builder pb;
    struct programs programs;
    uint32_t *set_of, *stream_of, *bucket_of, *channel_of; /* job number -> number in this plan; IR_NONE */
    struct { VEC(struct group_key); } group_keys;          /* by group */
    /* the list being lowered */
    struct list_plan *list;
    uint32_t first_instr;
    uint32_t *instr_of;    /* by node, relative to first_instr; IR_NONE */
    uint32_t *backward_of; /* by RUN node: the B or BI of its sub-chunk and microbatch */
    uint32_t *forward_of;  /* by RUN node: the F of it */
    uint8_t *grad_written; /* by bucket of the job: some instruction of the list has written its gradients */
    uint64_t *map_keys;    /* open addressing: value -> buffer */
    uint32_t *map_values, map_size, map_shift, map_used;
};

#endif
