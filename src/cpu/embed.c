/* Token and position embeddings. */
#include <string.h>

#include "cpu/cpu.h"

void cpu_embed_f(const struct op_args *a)
{
    const size_t c = a->attrs->features, rows = cpu_rows(a),
                 bytes = c * (cpu_half(a) ? sizeof(uint16_t) : sizeof(float));
    const int32_t *token = a->in[0];
    const char *w = a->param[0];
    char *x = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++)
        memcpy(x + r * bytes, w + (size_t)token[r] * bytes, bytes);
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
    const int32_t *token = a->in[0];
    float *dw = a->dparam[0];
    if (!(a->dparam_add & 1))
        cpu_zero(dw, vocab * c); /* most rows of the table have no token */
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t j = 0; j < c; j += VEC_STRIP) {
        const size_t n = c - j < VEC_STRIP ? c - j : VEC_STRIP;
        float wide[VEC_STRIP];
        for (size_t r = 0; r < rows; r++)
            v->axpy(dw + (size_t)token[r] * c + j, 1.0f, strip(a, r, j, n, wide), n);
    }
}

void cpu_pos_embed_f(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, rows = cpu_rows(a);
    const float *x = a->in[0], *p = a->param[0];
    float *y = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++)
        v->add(y + r * c, x + r * c, p + r % a->t * c, c);
}

void cpu_pos_embed_bw(const struct op_args *a)
{
    const struct vec *v = cpu_vec();
    const size_t c = a->attrs->features, row = (size_t)a->t * c;
    const float *dy = a->dout[0];
    float *dp = a->dparam[0];
    const int add = a->dparam_add & 1;
#pragma omp parallel for schedule(static) num_threads(cpu_team(cpu_rows(a), c))
    for (size_t i = 0; i < row; i += c) {
        if (add)
            v->add(dp + i, dp + i, dy + i, c);
        else
            memcpy(dp + i, dy + i, c * sizeof *dp);
        for (size_t s = 1; s < a->b; s++)
            v->add(dp + i, dp + i, dy + s * row + i, c);
    }
    if (!add && a->attrs->positions > a->t) /* positions that no sequence reaches */
        cpu_zero(dp + row, (a->attrs->positions - (size_t)a->t) * c);
}
