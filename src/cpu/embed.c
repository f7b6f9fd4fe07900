/* Token and position embeddings. */
#include <string.h>

#include "cpu/cpu.h"

/* The table in bfloat16 beside float32. */
static void embed_wide(const struct op_args *a)
{
    const size_t c = a->attrs->features;
    for (size_t r = 0; r < cpu_rows(a); r++)
        cpu_vec()->widen((float *)a->out[0] + r * c,
                         (const uint16_t *)a->param[0] + (size_t)((const int32_t *)a->in[0])[r] * c, c);
}

void cpu_embed_f(const struct op_args *a)
{
    if (a->weights == IR_BF16) {
        embed_wide(a);
        return;
    }
    const size_t c = a->attrs->features, rows = cpu_rows(a),
                 bytes = c * (cpu_half(a) ? sizeof(uint16_t) : sizeof(float));
    const struct ir_run words = op_words(a);
    const int32_t *token = a->in[0];
    const char *w = a->param[0];
    char *x = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++) {
        const uint32_t at = (uint32_t)token[r] - words.first;
        if (at < words.count)
            memcpy(x + r * bytes, w + at * bytes, bytes);
        else /* another device's word */
            memset(x + r * bytes, 0, bytes);
    }
}

/* Columns [j, j+n) of row r, as float32: where they are, or widened. */
static const float *strip(const struct op_args *a, size_t r, size_t j, size_t n, float wide[VEC_STRIP])
{
    const size_t at = r * a->attrs->features + j;
    if (!cpu_half(a))
        return (const float *)a->dout[0] + at;
    cpu_vec()->widen(wide, (const uint16_t *)a->dout[0] + at, n);
    return wide;
}

/* Each thread owns a strip of columns and walks over all tokens in order, so the sum does not depend on the threads. */
void cpu_embed_bw(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a), vocab = a->attrs->vocab;
    const struct ir_run words = op_words(a);
    const int32_t *token = a->in[0];
    float *dw = a->dparam[0];
    if (!(a->dparam_add & 1))
        cpu_zero(dw, vocab * c); /* most rows of the table have no token */
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t j = 0; j < c; j += VEC_STRIP) {
        const size_t n = c - j < VEC_STRIP ? c - j : VEC_STRIP;
        float wide[VEC_STRIP];
        for (size_t r = 0; r < rows; r++) {
            const uint32_t at = (uint32_t)token[r] - words.first;
            if (at < words.count)
                v->axpy(dw + at * c + j, 1.0f, strip(a, r, j, n, wide), n);
        }
    }
}

void cpu_pos_embed_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const float *x = a->in[0], *p = (const float *)a->param[0] + a->attrs->first_position * c;
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++)
        v->add(y + r * c, x + r * c, p + cpu_position(a, r) * c, c);
}

/* Positions of the table, from the first token's on, that no token here has. */
static void zero_others(const struct op_args *a, float *dp)
{
    const struct op_positions *p = a->positions;
    const struct ir_run whole[2] = { { 0, a->t }, { 0, 0 } }, *run = p ? p->run : whole;
    size_t at = 0;
    for (int i = 0; i < 2; i++) {
        if (run[i].count == 0)
            continue;
        cpu_zero(dp + at * a->attrs->features, (run[i].first - at) * a->attrs->features);
        at = run[i].first + run[i].count;
    }
    cpu_zero(dp + at * a->attrs->features, (a->attrs->positions - a->attrs->first_position - at) * a->attrs->features);
}

/* Positions begin anew with each document. Each thread owns a strip of columns, as in cpu_embed_bw(). */
static void pos_embed_bw_documents(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const float *dy = a->dout[0];
    float *dp = (float *)a->dparam[0] + a->attrs->first_position * c;
    if (!(a->dparam_add & 1))
        cpu_zero(a->dparam[0], a->attrs->positions * c);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t j = 0; j < c; j += VEC_STRIP)
        for (size_t r = 0; r < rows; r++)
            v->axpy(dp + cpu_position(a, r) * c + j, 1.0f, dy + r * c + j, c - j < VEC_STRIP ? c - j : VEC_STRIP);
}

void cpu_pos_embed_bw(const struct op_args *a)
{
    if (a->document) {
        pos_embed_bw_documents(a);
        return;
    }
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, t = a->t;
    const float *dy = a->dout[0];
    const size_t before = a->attrs->first_position * c;
    float *dp = (float *)a->dparam[0] + before;
    const int add = a->dparam_add & 1;
#pragma omp parallel for schedule(static) num_threads(cpu_team(cpu_rows(a), c))
    for (size_t i = 0; i < t; i++) {
        float *to = dp + op_position(a->positions, (uint32_t)i) * c;
        if (add)
            v->add(to, to, dy + cpu_row(a, 0, i) * c, c);
        else
            memcpy(to, dy + cpu_row(a, 0, i) * c, c * sizeof *dp);
        for (size_t s = 1; s < a->b; s++)
            v->add(to, to, dy + cpu_row(a, s, i) * c, c);
    }
    if (!add) {
        cpu_zero(a->dparam[0], before);
        zero_others(a, dp);
    }
}
