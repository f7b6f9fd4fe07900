/* Rotary position embedding by halves (Su et al. 2021; Hugging Face's rotate_half), positions 0..T-1.
 *
 * work: cos (T, head_dim/2), then sin (T, head_dim/2), float32. The angles are float64: cos and sin of the first
 * position of a block by libm, of the others by turning on by the frequency, which costs four operations and 1e-15 a
 * step. */
#include <math.h>

#include "cpu/cpu.h"

enum { BLOCK = 64 };

/* cs[0], cs[1]: cos and sin tables; positions t0 .. t0 + n - 1 of frequency i. */
static void angles(float *const cs[2], size_t half, size_t i, size_t t0, size_t n, double frequency)
{
    double c = cos((double)t0 * frequency), s = sin((double)t0 * frequency);
    const double dc = cos(frequency), ds = sin(frequency);
    for (size_t t = t0; t < t0 + n; t++) {
        cs[0][t * half + i] = (float)c;
        cs[1][t * half + i] = (float)s;
        double turned = c * dc - s * ds;
        s = s * dc + c * ds;
        c = turned;
    }
}

static void rope(const struct op_args *a, float *y, const float *acc, const float *x, float sign)
{
    const struct vec *v = cpu_vec();
    const size_t half = a->attrs->head_dim / 2, heads = a->attrs->heads, t = a->t, c = heads * 2 * half;
    float *const cs[2] = { a->work, (float *)a->work + t * half };
#pragma omp parallel for schedule(static) num_threads(cpu_team(t, half))
    for (size_t t0 = 0; t0 < t; t0 += BLOCK)
        for (size_t i = 0; i < half; i++)
            angles(cs, half, i, t0, t - t0 < BLOCK ? t - t0 : BLOCK, pow(a->attrs->theta, -(double)i / (double)half));
    const size_t rows = cpu_rows(a);
#pragma omp parallel for schedule(static) num_threads(cpu_team(rows, c))
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < heads; h++) {
            const size_t i = r * c + h * 2 * half, p = r % t * half;
            v->rope(y + i, acc ? acc + i : NULL, x + i, cs[0] + p, cs[1] + p, sign, half);
        }
}

void cpu_rope_f(const struct op_args *a)
{
    rope(a, a->out[0], NULL, a->in[0], 1.0f);
}

/* The gradient turns back. */
void cpu_rope_bi(const struct op_args *a)
{
    rope(a, a->din[0], a->acc[0], a->dout[0], -1.0f);
}
