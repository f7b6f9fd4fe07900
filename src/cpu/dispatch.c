/* Tokens to rows by expert, and back: permutation, capacity, weighted sum. Layouts: ir/op.h.
 *
 * IR_COUNTS: which rows stay follows from where tokens stand in the whole sequence; those that do lie as without a capacity. */
#include <string.h>

#include "cpu/cpu.h"

/* One sequence, capacity mode: slots in token order, then choice. count (experts, b): rows kept. */
static void slots_capacity(const struct op_args *a, size_t s, const int32_t *index, int32_t *slot, int32_t *count)
{
    const size_t n = (size_t)a->t * a->attrs->top_k;
    const int32_t capacity = (int32_t)a->attrs->capacity;
    for (size_t e = 0; e < a->attrs->experts; e++)
        count[e * a->b + s] = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t e = (size_t)index[i];
        int32_t *next = &count[e * a->b + s];
        slot[i] = *next < capacity ? (int32_t)((e * a->b + s) * a->attrs->capacity) + (*next)++ : -1;
    }
}

/* Choice i of sequence s. */
static size_t choice(const struct op_args *a, size_t s, size_t i)
{
    const size_t k = a->attrs->top_k;
    return a->positions ? cpu_row(a, s, i / k) * k + i % k : s * a->t * k + i;
}

/* Of the choices whose slot is not -1: expert by expert, then sequence by sequence. count (experts, b), next (b, experts): the next free row of each. */
static void slots_dropless(const struct op_args *a, const int32_t *index, int32_t *slot, int32_t *count, int32_t *next)
{
    const size_t n = (size_t)a->t * a->attrs->top_k, experts = a->attrs->experts;
    memset(count, 0, a->b * experts * sizeof *count);
    for (size_t s = 0; s < a->b; s++)
        for (size_t i = 0; i < n; i++) {
            const size_t at = choice(a, s, i);
            if (slot[at] >= 0)
                count[(size_t)index[at] * a->b + s]++;
        }
    int32_t at = 0;
    for (size_t e = 0; e < experts; e++)
        for (size_t s = 0; s < a->b; s++) {
            next[s * experts + e] = at;
            at += count[e * a->b + s];
        }
    for (size_t s = 0; s < a->b; s++)
        for (size_t i = 0; i < n; i++) {
            const size_t c = choice(a, s, i);
            if (slot[c] >= 0)
                slot[c] = next[s * experts + (size_t)index[c]]++;
        }
}

/* used (experts): choices of each by tokens of sequence s in front of own run `run`, on all devices. */
static void used_before(const struct op_args *a, size_t s, int run, int32_t *used)
{
    const struct op_positions *p = a->positions;
    const size_t experts = a->attrs->experts, n = a->b * experts;
    const int32_t *counts = (const int32_t *)a->in[2] + s * experts;
    memset(used, 0, experts * sizeof *used);
    for (uint32_t m = 0; m < p->parts; m++) {
        struct ir_run runs[2];
        ir_rows_of(&p->rows, m, runs);
        for (int i = 0; i < 2; i++)
            for (size_t e = 0; e < experts && runs[i].count && runs[i].first < p->run[run].first; e++)
                used[e] += counts[op_told_at(p, m, 0, n) + (size_t)i * n + e];
    }
}

/* slot: -1 where the whole sequence has filled the expert before; else 0. used (experts): room. Returns how many stay. */
static size_t drop(const struct op_args *a, size_t s, const int32_t *index, int32_t *slot, int32_t *used)
{
    const struct op_positions *p = a->positions;
    const size_t k = a->attrs->top_k, border = p->run[0].count * k, n = a->t * k;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || i == border)
            used_before(a, s, i == border, used);
        const size_t c = choice(a, s, i);
        const bool stays = used[index[c]]++ < (int32_t)p->capacity;
        slot[c] = stays ? 0 : -1;
        kept += stays;
    }
    return kept;
}

/* Which choices have a row: all of them, or as many as there is room for. */
static void admit(const struct op_args *a, const int32_t *index, int32_t *slot, int32_t *used)
{
    const size_t n = cpu_rows(a) * a->attrs->top_k;
    size_t kept = 0;
    if (!a->positions || a->positions->split != IR_COUNTS || a->positions->capacity == 0) {
        memset(slot, 0, n * sizeof *slot);
        return;
    }
    for (size_t s = 0; s < a->b; s++)
        kept += drop(a, s, index, slot, used);
    a->scalars[SCALAR_DROPPED] += (double)(n - kept);
}

/* Rows beyond the counts. */
static void zero_unused(const struct op_args *a, float *rows, const int32_t *count)
{
    const size_t c = a->attrs->features, capacity = a->attrs->capacity, experts = a->attrs->experts;
    const size_t blocks = experts * a->b, block = capacity * c;
#pragma omp parallel for schedule(static) num_threads(cpu_team(blocks, block))
    for (size_t i = 0; i < blocks; i++) {
        const size_t used = (size_t)count[i];
        memset(rows + i * block + used * c, 0, (block - used * c) * sizeof *rows);
    }
}

void cpu_dispatch_f(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const size_t c = at->features, k = at->top_k, n = cpu_rows(a) * k, per_sequence = (size_t)a->t * k;
    const float *x = a->in[0];
    const int32_t *index = a->in[1];
    float *rows = a->out[0];
    int32_t *slot = a->out[1], *count = a->out[2];
    if (at->capacity) {
        for (size_t s = 0; s < a->b; s++)
            slots_capacity(a, s, index + s * per_sequence, slot + s * per_sequence, count);
        zero_unused(a, rows, count);
        size_t kept = 0;
        for (size_t i = 0; i < (size_t)a->b * at->experts; i++)
            kept += (size_t)count[i];
        a->scalars[SCALAR_DROPPED] += (double)(n - kept);
    } else {
        admit(a, index, slot, a->work);
        slots_dropless(a, index, slot, count, a->work);
    }
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, c))
    for (size_t i = 0; i < n; i++)
        if (slot[i] >= 0)
            memcpy(rows + (size_t)slot[i] * c, x + i / k * c, c * sizeof *x);
}

/* y (C) = acc + sum over k of weight * row; weight NULL: 1. A slot of -1 has no row. */
static void gather(const struct op_args *a, float *y, const float *acc, const float *rows, const int32_t *slot,
                   const float *weight)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, k = a->attrs->top_k;
    if (!acc)
        memset(y, 0, c * sizeof *y);
    else if (acc != y)
        memcpy(y, acc, c * sizeof *y);
    for (size_t j = 0; j < k; j++)
        if (slot[j] >= 0)
            v->axpy(y, weight ? weight[j] : 1.0f, rows + (size_t)slot[j] * c, c);
}

void cpu_dispatch_bi(const struct op_args *a)
{
    const size_t c = a->attrs->features, k = a->attrs->top_k, rows = cpu_rows(a);
    const float *drows = a->dout[0], *acc = a->acc[0];
    const int32_t *slot = a->out[1];
    float *dx = a->din[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++)
        gather(a, dx + r * c, acc ? acc + r * c : NULL, drows, slot + r * k, NULL);
}

void cpu_combine_f(const struct op_args *a)
{
    const size_t c = a->attrs->features, k = a->attrs->top_k, rows = cpu_rows(a);
    const float *x = a->in[0], *weight = a->in[2];
    const int32_t *slot = a->in[1];
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++)
        gather(a, y + r * c, NULL, x, slot + r * k, weight + r * k);
}

void cpu_combine_bi(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const struct ir_attrs *at = a->attrs;
    const size_t c = at->features, k = at->top_k, n = cpu_rows(a) * k;
    const float *x = a->in[0], *weight = a->in[2], *dy = a->dout[0], *acc = a->acc[2];
    const int32_t *slot = a->in[1];
    float *dx = a->din[0], *dw = a->din[2];
    const bool add = a->acc[0] != NULL;
    const uint64_t elements = at->capacity ? (uint64_t)a->b * at->experts * at->capacity * c : n * c;
    cpu_start_from(dx, a->acc[0], elements);
    if (!add && at->capacity) /* dropless: every row is written below */
        cpu_zero(dx, elements);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, c))
    for (size_t i = 0; i < n; i++) {
        const float *dyi = dy + i / k * c;
        float grad = 0;
        if (slot[i] >= 0) {
            const size_t at_row = (size_t)slot[i] * c;
            grad = v->dot(dyi, x + at_row, c);
            if (add)
                v->axpy(dx + at_row, weight[i], dyi, c);
            else
                v->scale(dx + at_row, weight[i], dyi, c);
        }
        dw[i] = acc ? acc[i] + grad : grad;
    }
}
