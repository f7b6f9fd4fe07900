/* A bound of the peak: what is there all the time, and what waits for its backward. */
#include "sched/cost/bound_private.h"

#include <math.h>

/* ---- microbatches under way --------------------------------------------------------------------------------------------- */

/* Adds a row of counts, unless another one covers it, and drops those that it covers. */
static void add_row(struct bound_alive *a, uint32_t rank, const uint32_t *row)
{
    const uint32_t n = 2 * a->stages;
    uint32_t kept = 0, *at = a->rows[rank].at;
    for (uint32_t i = 0; i < a->rows[rank].n; i += n) {
        bool more = false, less = false;
        for (uint32_t k = 0; k < n; k++) {
            more |= row[k] > at[i + k];
            less |= row[k] < at[i + k];
        }
        if (!more) /* then it covers no other one either */
            return;
        if (less)
            memmove(at + n * kept++, at + i, n * sizeof *at);
    }
    a->rows[rank].n = n * kept;
    const uint32_t first = vec_grow(&a->rows[rank], n);
    memcpy(a->rows[rank].at + first, row, n * sizeof *row);
}

/* Which of the rank's stages a cell is of. */
static uint32_t stage_index(const struct bound_shape *s, uint32_t rank, uint32_t stage)
{
    uint32_t i = 0;
    while (bound__stage_of_rank(s, rank, i) != stage % (s->pp * s->chunks))
        i++;
    return i;
}

/* In a group what ends may end before the others begin. */
static void count_rows(struct bound_alive *a, const struct bound_shape *s, uint32_t rank)
{
    struct cells row = { 0 };
    uint32_t *now = mem_alloc(2 * a->stages * sizeof *now);
    bound__row(s, rank, &row);
    for (uint32_t first = 0, end; first < row.n; first = end) {
        for (end = first; row.at[end].with_next; end++) {
        }
        end++;
        for (int come = 0; come < 2; come++)
            for (uint32_t i = first; i < end; i++) {
                const enum ir_pass pass = row.at[i].pass;
                uint32_t *k = now + 2 * (size_t)stage_index(s, rank, row.at[i].stage);
                if (come != (pass == IR_PASS_F))
                    continue;
                k[0] += pass == IR_PASS_F ? 1 : pass == IR_PASS_BW ? 0 : UINT32_MAX;
                k[1] += pass == IR_PASS_BI ? 1 : pass == IR_PASS_BW ? UINT32_MAX : 0;
            }
        add_row(a, rank, now);
    }
    vec_free(&row);
    mem_free(now);
}

static const struct bound_alive *alive_of(struct bound *b, const struct bound_shape *s)
{
    for (uint32_t i = b->alive.n; i-- > 0;) {
        const struct bound_alive *a = b->alive.at[i];
        if (a->kind == s->kind && a->pp == s->pp && a->chunks == s->chunks && a->microbatches == s->microbatches &&
            a->backward == s->backward)
            return a;
    }
    struct bound_alive *a = mem_alloc(sizeof *a);
    *a = (struct bound_alive){ .kind = s->kind,
                               .backward = s->backward,
                               .pp = s->pp,
                               .chunks = s->chunks,
                               .microbatches = s->microbatches,
                               /* two-way: rank pp-1-r has what rank r has */
                               .ranks = s->pp / (bound__two_way(s) ? 2 : 1),
                               .stages = bound__stages_of_rank(s) };
    a->rows = mem_alloc(a->ranks * sizeof *a->rows);
    for (uint32_t r = 0; r < a->ranks; r++)
        count_rows(a, s, r);
    vec_add(&b->alive, a);
    return a;
}

void bound__alive_free(struct bound_alive *a)
{
    for (uint32_t r = 0; r < a->ranks; r++)
        vec_free(&a->rows[r]);
    mem_free(a->rows);
    mem_free(a);
}

/* ---- bytes -------------------------------------------------------------------------------------------------------------- */

/* Bytes that a microbatch of a stage keeps on a device: of activations, and of rows that are received. */
struct kept {
    double own, rows;
};

/* Rows that a device of sharded experts has room for, as a multiple of those that it sends. */
static double row_factor(const struct bound_shape *s)
{
    return s->ep == 1 ? 1 : s->expert_bound > 0 ? fmin(s->expert_bound, s->ep) : s->ep;
}

/* again: rows that experts have received are not kept. Rows of a capacity are planned in another way where sequences are shared: they are
 * left out there. */
static struct kept weigh(const struct bound *b, const struct bound_shape *s, const double kept[KEPTS], bool again)
{
    const double each = (double)bound__mb_size(b, s) / bound__unit(s);
    const double own = kept[KEPT_PLAIN] + (bound__unit(s) == 1 ? kept[KEPT_CAPPED] : 0);
    const double rows = (again && s->ep > 1 ? 0 : kept[KEPT_ROWS] * row_factor(s)) + kept[KEPT_BACK];
    return s->ep > 1 ? (struct kept){ each * own, each * rows } : (struct kept){ each * (own + rows), 0 };
}

/* Until the backward, and from BI to BW. With recompute what BW reads is made again before BI, or has been kept. Where sequences are shared
 * regions cut pieces further, and what enters these may be kept in the place of what a forward that runs again would read. */
static void kept_of(const struct bound *b, const struct bound_shape *s, uint32_t stage, struct kept out[2])
{
    const struct bound_kept *k = &b->pieces->kept[stage];
    const struct kept first = { k->first_inputs * bound__mb_size(b, s) / bound__unit(s), 0 };
    out[1] = weigh(b, s, k->behind, false);
    if (!s->recompute) {
        out[0] = weigh(b, s, k->all, false);
    } else if (s->partly) {
        out[0] = first;
        out[1] = (struct kept){ fmin(out[1].own, first.own), 0 };
    } else if (bound__unit(s) == 1) {
        out[0] = weigh(b, s, k->inputs, s->again);
    } else {
        out[0] = weigh(b, s, k->direct, s->again);
        out[0].own = fmax(out[0].own, first.own);
    }
}

/* The most that waits at once on a rank, in the order of its row. */
static struct kept most_alive(const struct bound *b, const struct bound_shape *s, const struct bound_alive *a,
                              uint32_t rank, struct kept (*kept)[2])
{
    const uint32_t n = 2 * a->stages;
    struct kept most = { 0, 0 };
    for (uint32_t i = 0; i < a->stages; i++)
        kept_of(b, s, bound__stage_of_rank(s, rank, i), kept[i]);
    for (uint32_t i = 0; i < a->rows[rank].n; i += n) {
        struct kept now = { 0, 0 };
        for (uint32_t k = 0; k < n; k++) {
            now.own += a->rows[rank].at[i + k] * kept[k / 2][k % 2].own;
            now.rows += a->rows[rank].at[i + k] * kept[k / 2][k % 2].rows;
        }
        if (now.own + now.rows > most.own + most.rows)
            most = now;
    }
    return most;
}

static void add_params(const struct bound *b, const struct bound_shape *s, uint32_t kind, const struct bound_held *p,
                       double by[MEM_KINDS])
{
    const uint32_t moments = optimizer_info[b->job.optimizer].moments, op = bound__held_op(kind);
    const double part = bound__param_part(s, op);
    /* a tied parameter may be sharded over two stages, and no deeper than its state */
    const double tied = kind == HELD_TABLES ? 2 : 1, all = bound__holders(s, op) * tied;
    const double shard = part / (s->zero ? bound__zero_holders(s, op) * tied : 1);
    by[MEM_PARAMS] += p->bytes * (zero_shards_params(s->zero) ? shard : part);
    by[MEM_GRADS] += 4 * p->trained * (zero_shards_grads(s->zero) ? shard : part);
    by[MEM_OPTIMIZER] += 4 * (moments * p->trained + p->narrow) * shard;
    by[MEM_SNAPSHOT] += b->job.snapshot ? 4 * (moments + 1) * p->trained * part / all : 0;
}

double bound_memory(struct bound *b, const struct bound_shape *s, double by_kind[MEM_KINDS])
{
    const struct bound_alive *a = alive_of(b, s);
    struct kept(*scratch)[2] = mem_alloc(a->stages * sizeof *scratch);
    double most = 0;
    bound__look(b, s);
    for (uint32_t r = 0; r < a->ranks; r++) {
        double by[MEM_KINDS] = { 0 }, bytes = (double)b->job.target->outside(0, 0);
        for (uint32_t k = 0; k < HELDS; k++)
            add_params(b, s, k, &b->cut->held[r][k], by);
        const struct kept alive = most_alive(b, s, a, r, scratch);
        by[MEM_ACTIVATIONS] = alive.own;
        by[MEM_COMM] = alive.rows;
        for (int k = 0; k < MEM_KINDS; k++)
            bytes += b->job.target->device && k == MEM_SNAPSHOT ? 0 : by[k];
        if (bytes <= most)
            continue;
        most = bytes;
        memcpy(by_kind, by, sizeof by);
    }
    mem_free(scratch);
    return most;
}
