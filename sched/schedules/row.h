/* The row of a rank with two stages while it is written: what of each stage stands there already. A schedule of one stage a
 * rank uses the first. Microbatches of one (stage, pass) follow each other from 0. */
#ifndef PIPER_SCHED_SCHEDULES_ROW_H
#define PIPER_SCHED_SCHEDULES_ROW_H

#include "sched/compile.h"

struct row {
    struct cells *out;
    uint32_t stage[2];
    uint32_t f[2], b[2], w[2]; /* by stage: forwards so far, backwards (B and BI), BW of row_w() */
    uint32_t oldest;           /* cells before this one have no pending BW, where row_oldest_w() writes them all */
};

static inline void row_cell(struct row *r, int which, uint32_t mb, enum ir_pass pass)
{
    vec_add(r->out, ((struct cell){ r->stage[which], mb, pass, false }));
}

static inline void row_f(struct row *r, int which)
{
    row_cell(r, which, r->f[which]++, IR_PASS_F);
}

static inline void row_b(struct row *r, int which)
{
    row_cell(r, which, r->b[which]++, IR_PASS_B);
}

static inline void row_i(struct row *r, int which)
{
    row_cell(r, which, r->b[which]++, IR_PASS_BI);
}

static inline void row_w(struct row *r, int which)
{
    row_cell(r, which, r->w[which]++, IR_PASS_BW);
}

/* The last cell and the next one stand in one group. */
static inline void row_join(struct row *r)
{
    r->out->at[r->out->n - 1].with_next = true;
}

/* BW of the oldest BI, of whatever stage, that has none yet; false when there is none. */
static inline bool row_oldest_w(struct row *r)
{
    while (r->oldest < r->out->n && r->out->at[r->oldest].pass != IR_PASS_BI)
        r->oldest++;
    if (r->oldest == r->out->n)
        return false;
    struct cell c = r->out->at[r->oldest++];
    c.pass = IR_PASS_BW;
    vec_add(r->out, c);
    return true;
}

/* Interleaved orders, v stages a rank: rounds of g microbatches, each chunk by chunk. The k-th forward or backward. */
static inline uint32_t round_size(uint32_t p, uint32_t m)
{
    return m / (m / p ? m / p : 1);
}

static inline struct cell round_cell(uint32_t p, uint32_t g, uint32_t v, uint32_t r, uint32_t k, enum ir_pass pass)
{
    uint32_t chunk = k / g % v;
    if (pass != IR_PASS_F)
        chunk = v - 1 - chunk;
    return (struct cell){ chunk * p + r, k / (g * v) * g + k % g, pass, false };
}

/* Why an interleaved order does not work. */
static inline const char *refuse_rounds(uint32_t p, uint32_t m, uint32_t v)
{
    (void)v;
    uint32_t rounds = m / p ? m / p : 1;
    return m % rounds ? "the microbatches must divide evenly into floor(microbatches / ranks) rounds; "
                        "choose a multiple of the pipeline ranks"
                      : NULL;
}

#endif
