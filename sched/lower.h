/* State of lowering (sched/lower.c). Private to sched/. */
#ifndef PIPER_SCHED_LOWER_H
#define PIPER_SCHED_LOWER_H

#include "sched/program.h"

enum { PLAN_SCALARS_BYTES = 64 /* SCALAR_COUNT float64 */ };

struct job_channel {
    const uint32_t *classes;
    uint32_t n_classes, stream;
};
/* The whole job. */
struct lowering {
    struct sched *s;
    struct { VEC(struct job_channel); } channels; /* by id */
    uint32_t scalars_channel, *bucket_channel;
    uint32_t *train_tag, *eval_tag; /* by move */
    const uint32_t *tag;            /* of the list being lowered */
};

struct group_key {
    const uint32_t *classes;
    uint32_t n;
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
    uint32_t *bi_of;       /* by BW node */
    uint8_t *grad_written; /* by bucket of the job: some instruction of the list has written its gradients */
    uint64_t *map_keys;    /* open addressing: value -> buffer */
    uint32_t *map_values, map_size, map_shift, map_used;
};

#endif
