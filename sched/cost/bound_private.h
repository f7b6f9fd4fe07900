/* Private to the bounds: what is known of a model, and of its stages under a layout. */
#ifndef PIPER_SCHED_BOUND_PRIVATE_H
#define PIPER_SCHED_BOUND_PRIVATE_H

#include "sched/cost/bound.h"
#include "sched/cost/cost.h"
#include "sched/schedule.h"

/* How the devices share a microbatch: what the times of kernels depend on. */
struct bound_share {
    uint32_t mb, ep, tp, cp; /* sequences; devices */
};
/* A stage of the model, one microbatch: seconds, at least. */
struct bound_stage {
    double f, bi, bw; /* kernels */
    double bw_first;  /* of bw, the first layer */
    double again;     /* of f, what recompute runs again */
    /* What none of the exchanges inside of the pass can hide behind, and these exchanges (bound__exchanges()): F takes serial_f +
     * exchanges, a backward serial_bi + exchanges */
    double serial_f, serial_bi, exchanges;
    double input; /* bytes of the tensor that comes from the stage before, of a device */
    /* Its first operator reads what the last of the stage before makes: a pass starts when that one has ended. */
    bool chained;
    bool branches; /* some operator reads nothing of the stage, so its backward is on no way to the stage's first one */
    uint32_t first, end; /* operators; those between belong to it where stage_of says so */
};
enum {
    AGAIN_READ = 1,      /* a backward reads its result */
    AGAIN_ATTENTION = 2, /* that of attention does */
    AGAIN_MADE = 4       /* another one is made from it */
};
struct bound_op {
    bool trains, wanted; /* there is a BW; a BI */
    uint32_t like;       /* the first operator with these attributes: the same kernels */
    bool beside;         /* it may run under an exchange: neither before all of it nor behind it */
    bool exchanges;      /* experts, attention, activation: something is exchanged around it where devices share it */
    /* Recompute runs its forward again, if pieces end where blocks and regions of experts do; bits, why. */
    uint8_t again;
};
struct bound {
    struct bound_job job;
    struct bound_op *ops;               /* [graph->ops.n] */
    uint32_t pp_tag, layers, annotated; /* stages that the model is annotated with; 0: it is cut by layers */
    uint32_t n_experts;                 /* of the router with fewest; 0: there are none */
    bool freezes; /* some parameters are not trained: some backwards are not there, and what they would wait for */
    bool tied;    /* embedding and head have one table */
    /* stages as last asked for */
    struct bound_share share;
    struct bound_shape shape;
    uint32_t *stage_of; /* [ops.n] */
    uint32_t n_stages;
    struct bound_stage *stages;
    double *seconds; /* [ops.n][3]: F, BI, BW of kernels under `share`; by op.like */
    uint32_t *seen;  /* [tensors.n + params.n]: stamps */
    uint32_t stamp;
};

const struct bound_stage *bound__stages(struct bound *b, const struct bound_shape *s);
/* Fills in what is exchanged inside of the passes of the stages. */
void bound__exchanges(struct bound *b, const struct bound_shape *s);
static inline const struct schedule_kind *bound__kind(const struct bound_shape *s)
{
    return sched_schedule_kinds[s->kind];
}
static inline bool bound__two_way(const struct bound_shape *s)
{
    return bound__kind(s)->placement == PLACE_TWO_WAY;
}
static inline uint32_t bound__unit(const struct bound_shape *s)
{
    return s->tp * s->cp;
}
/* Microbatches of one direction. */
static inline uint32_t bound__microbatches(const struct bound_shape *s)
{
    return s->microbatches / (bound__two_way(s) ? 2 : 1);
}
static inline uint32_t bound__mb_size(const struct bound *b, const struct bound_shape *s)
{
    return b->job.batch_size / (s->dp * s->microbatches);
}
/* Appends the order of a pipeline rank. */
void bound__row(const struct bound_shape *s, uint32_t rank, struct cells *out);
/* The i-th stage of a pipeline rank; s->chunks of them, two-way two. IR_NONE: it has no more. */
uint32_t bound__stage_of_rank(const struct bound_shape *s, uint32_t rank, uint32_t i);
/* The pipeline rank of a stage; two-way: in the first direction. */
uint32_t bound__rank_of(const struct bound_shape *s, uint32_t stage);
/* Device k of the data replica of a pipeline rank and a copy, as layout numbers them (sched/directives/layout.c). */
static inline uint32_t bound__device(const struct bound_shape *s, uint32_t rank, uint32_t copy, uint32_t k)
{
    const uint32_t unit = bound__unit(s);
    const bool outer_pp = s->ep > 1 || unit > 1 || s->zero_group;
    return (outer_pp ? rank * s->dp + copy : rank + s->pp * copy) * unit + k;
}
/* Bytes of a parameter's elements that a device holds, at least, as a part of all. */
double bound__param_part(const struct bound_shape *s, uint32_t op);
/* Devices of a pipeline rank that a parameter of the operator is the same on. */
uint32_t bound__holders(const struct bound_shape *s, uint32_t op);
/* Of these, those that ZeRO shards over. */
uint32_t bound__zero_holders(const struct bound_shape *s, uint32_t op);

#endif
