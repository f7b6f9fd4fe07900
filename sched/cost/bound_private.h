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
    /* What none of the exchanges inside of the pass can hide behind, and these exchanges: F takes serial_f +
     * exchanges, a backward serial_bi + exchanges */
    double serial_f, serial_bi, exchanges;
    double rows,
        regions; /* all exchanges of rows of experts, and all of regions: each kind is one after the other on one stream */
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
    uint32_t like;       /* number of its kernels: operators with the same attributes have the same ones */
    bool beside;         /* it may run under an exchange: neither before all of it nor behind it */
    bool
        exchanges; /* experts, attention, activation: something is exchanged around it where devices share it, and nothing passes it */
    bool gathers;  /* of a region with it: one tensor is gathered before it, which all of it reads */
    uint32_t sums; /* and so many features are summed behind it; 0: not known */
};
/* Parameters of a pipeline rank, each once, by how devices hold them: whole bytes, elements that are updated, of these the ones that
 * have a copy in float32. */
enum { HELD_EXPERTS, HELD_ROUTERS, HELD_TABLES, HELD_OTHERS, HELDS };
struct bound_held {
    double bytes, trained, narrow;
};
/* Bytes of one sequence, on one device alone, that a stage keeps: from the forward to the backward (all), from BI to BW (behind); with
 * recompute to the backward what enters its pieces, and of that what a backward reads itself (direct). Rows are those that experts receive; back,
 * those that they give. */
enum { KEPT_PLAIN, KEPT_ROWS, KEPT_BACK, KEPT_CAPPED /* of operators with a capacity */, KEPTS };
struct bound_kept {
    double all[KEPTS], behind[KEPTS], inputs[KEPTS], direct[KEPTS];
    double first_inputs; /* what enters the first operators of layers, which every recompute keeps */
};
/* How a bucket size cuts stages into pieces. */
struct bound_pieces {
    uint32_t bucket_mib;
    uint8_t *again;          /* [ops.n]: why recompute runs its forward again, bits */
    struct bound_kept *kept; /* by stage */
};
/* What stages take where devices share a microbatch so. */
struct bound_table {
    struct bound_share share;
    double (*seconds)[3]; /* by like: F, BI, BW */
    struct bound_stage *stages;
    struct {
        VEC(struct bound_again);
    } again;
};
/* Of each stage the kernels of F that recompute runs again, with these pieces. */
struct bound_again {
    const struct bound_pieces *pieces;
    double *seconds, *serial; /* serial: without what runs beside exchanges */
};
/* The model cut into stages, on pipeline ranks. */
struct bound_cut {
    uint32_t pp, chunks, n; /* n: stages */
    enum placement placement;
    uint32_t *stage_of;               /* [ops.n] */
    struct bound_held (*held)[HELDS]; /* by pipeline rank */
    struct {
        VEC(struct bound_table *);
    } tables;
    struct {
        VEC(struct bound_pieces *);
    } pieces;
};
/* In the order of a schedule: how many microbatches of each stage of a pipeline rank wait for their backward, and between BI and BW, at once.
 * Of each rank those rows of 2 * stages numbers that no other one covers. */
struct bound_alive {
    uint32_t kind, backward, pp, chunks, microbatches, ranks, stages;
    struct {
        VEC(uint32_t);
    } * rows; /* by pipeline rank */
};
struct bound {
    struct bound_job job;
    struct bound_op *ops; /* [graph->ops.n] */
    struct {
        VEC(uint32_t);
    } likes;                            /* an operator of each */
    uint32_t pp_tag, layers, annotated; /* stages that the model is annotated with; 0: it is cut by layers */
    uint32_t n_experts;                 /* of the router with fewest; 0: there are none */
    uint32_t heads;                     /* what divides the heads of every attention; 0: there is none */
    bool freezes; /* some parameters are not trained: some backwards are not there, and what they would wait for */
    bool tied;    /* embedding and head have one table */
    bool
        packed; /* queries, keys and values of some attention are one tensor: the compiler takes it apart to share sequences */
    /* what is known so far */
    struct {
        VEC(struct bound_cut *);
    } cuts;
    struct {
        VEC(struct bound_alive *);
    } alive;
    /* of the shape last asked for */
    struct bound_cut *cut;
    struct bound_table *table;
    struct bound_pieces *pieces;
    const struct bound_again *again;
    uint32_t *seen; /* [tensors.n + params.n]: stamps */
    uint32_t stamp;
};

/* Makes cut, table, pieces and again those of a shape. */
void bound__look(struct bound *b, const struct bound_shape *s);
/* Exchanges of rows in a microbatch's forward, or in its backward, of a stage: those that are sent again come before the backward. */
static inline double bound__rows(const struct bound_shape *s, const struct bound_stage *at, bool backward)
{
    return at->rows * (backward && s->recompute && s->again ? 1.5 : 1);
}
void bound__cut_free(struct bound_cut *cut);
/* How a bucket size cuts these stages; owned: bound__pieces_free(). */
struct bound_pieces *bound__pieces_new(struct bound *b, const struct bound_cut *cut, uint32_t bucket_mib);
void bound__pieces_free(struct bound_pieces *p);
void bound__alive_free(struct bound_alive *a);
/* What the backward of an operator reads: of BI, of BW; bits as in ir_op_info. */
uint32_t bound__read_by_bi(const struct bound *b, uint32_t o);
uint32_t bound__read_by_bw(const struct bound *b, uint32_t o);
static inline const struct ir_node_op *bound__op(const struct bound *b, uint32_t o)
{
    return &b->job.graph->ops.at[o];
}
/* The operator that makes input i of an operator; IR_NONE: it has none, or it is an input of the graph. */
static inline uint32_t bound__maker(const struct bound *b, uint32_t o, int i)
{
    const uint32_t t = bound__op(b, o)->in[i];
    return t == IR_NONE ? IR_NONE : b->job.graph->tensors.at[t].producer;
}
/* The linear operator behind input i, where rope and norms of single heads lie between; IR_NONE: there is another one. */
uint32_t bound__linear_behind(const struct bound *b, uint32_t o, int i);
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
static inline uint32_t bound__stages_of_rank(const struct bound_shape *s)
{
    return bound__two_way(s) ? 2 : s->chunks;
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
/* How an operator's parameters are held; an operator of such ones. */
uint32_t bound__held(uint32_t op);
uint32_t bound__held_op(uint32_t held);

#endif
