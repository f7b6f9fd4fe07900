/* The vector loops of every instruction set that this processor has: accuracy of the functions, ends of odd length,
 * and what must not be touched. Kernels use the best set only, so the others would go untested. */
#include <check.h>
#include <math.h>

#include "base/number.h"
#include "cpu/vec.h"
#include "num/num.h"
#include "tests/unit/suite.h"

enum { N = 4099 };

/* Units in the last place of float32 between got and want; want below the smallest normal counts as 0. */
static double ulps(float got, double want)
{
    int exponent;
    if (!isfinite(got))
        return INFINITY;
    frexp(fabs(want) < 0x1p-126 ? 0x1p-126 : want, &exponent);
    return fabs(got - want) / ldexp(1, exponent - 24);
}

START_TEST(exponential)
{
    static float x[N], y[N];
    for (const struct vec *const *v = cpu_vec_all(); *v; v++) {
        double worst = 0, sum = 0;
        for (size_t i = 0; i < N; i++)
            x[i] = (float)(-87.0 + 175.0 * (double)i / N);
        (*v)->exp_sum(y, x, 0, N);
        for (size_t i = 0; i < N; i++)
            worst = fmax(worst, ulps(y[i], exp(x[i])));
        ck_assert_msg(worst < 2.5, "%s: exp is off by %g ulp", (*v)->name, worst);
        for (size_t i = 0; i < N; i++) {
            x[i] = (float)(-0.001 * (double)i);
            sum += exp(x[i] - 1.0);
        }
        ck_assert(fabs((*v)->exp_sum(y, x, 1, N) / sum - 1) < 2e-6);
        ck_assert(fabs((*v)->sum_exp(x, 1, N) / sum - 1) < 2e-6);
        x[0] = -INFINITY;
        x[1] = -200;
        x[2] = NAN;
        (*v)->exp_sum(y, x, 0, 3);
        ck_assert(y[0] == 0 && y[1] == 0 && isnan(y[2]));
    }
}
END_TEST

static double gelu(double x)
{
    return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static double gelu_erf(double x)
{
    return 0.5 * x * erfc(-x / sqrt(2));
}

START_TEST(activations)
{
    static float x[N], y[N], z[N], one[N], g[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)(-12 + 24.0 * (double)i / N);
        one[i] = 1;
    }
    for (const struct vec *const *v = cpu_vec_all(); *v; v++) {
        (*v)->gelu(y, x, N);
        (*v)->gelu_erf(z, x, N);
        (*v)->swiglu(g, x, one, N);
        for (size_t i = 0; i < N; i++) {
            /* the far tail of the tanh form is that of exp, whose argument has the error of x cubed */
            ck_assert_msg(fabs(y[i] - gelu(x[i])) <= 1e-6 * fabs(gelu(x[i])) + 1e-9, "%s: gelu(%g)", (*v)->name, x[i]);
            ck_assert_msg(fabs(z[i] - gelu_erf(x[i])) <= 2e-6 * fabs(gelu_erf(x[i])) + 1e-12,
                          "%s: gelu_erf(%g): %g, %g", (*v)->name, x[i], z[i], gelu_erf(x[i]));
            ck_assert(fabs(g[i] - x[i] / (1 + exp(-x[i]))) <= 1e-6 * fabs(g[i]));
        }
        (*v)->gelu_grad(y, NULL, x, one, N);
        (*v)->gelu_erf_grad(z, one, x, one, N);
        for (size_t i = 0; i < N; i++) {
            const double h = 1e-5;
            ck_assert(fabs(y[i] - (gelu(x[i] + h) - gelu(x[i] - h)) / (2 * h)) < 2e-6);
            ck_assert(fabs(z[i] - 1 - (gelu_erf(x[i] + h) - gelu_erf(x[i] - h)) / (2 * h)) < 2e-6);
        }
    }
}
END_TEST

/* Every length: all of it, and nothing beyond. */
START_TEST(lengths)
{
    enum { MOST = 140 };
    for (const struct vec *const *v = cpu_vec_all(); *v; v++)
        for (size_t n = 0; n < MOST; n++) {
            struct guarded a = guarded_new(n * 4), b = guarded_new(n * 4), y = guarded_new(n * 4),
                           half = guarded_new(n * 2);
            uint16_t *h = half.at;
            float *x = a.at, *z = b.at, *out = y.at, most = -INFINITY;
            double dot = 0;
            for (size_t i = 0; i < n; i++) {
                x[i] = (float)((i * 37 + n) % 23) - 11;
                z[i] = (float)(i % 5);
                h[i] = number_to_bf16(z[i]);
                dot += (double)x[i] * z[i];
                most = x[i] > most ? x[i] : most;
            }
            (*v)->add(out, x, z, n);
            for (size_t i = 0; i < n; i++)
                ck_assert(out[i] == x[i] + z[i]);
            (*v)->axpy(out, -1, z, n);
            (*v)->scale(out, 2, out, n);
            for (size_t i = 0; i < n; i++)
                ck_assert(out[i] == 2 * x[i]);
            ck_assert((*v)->dot(x, z, n) == (float)dot && (*v)->dot_half(x, h, n) == (float)dot);
            ck_assert((*v)->max(x, n) == most);
            (*v)->exp_sum(out, x, most, n);
            double bad = 0, squares = 0;
            for (size_t i = 0; i < n; i++)
                squares += (double)x[i] * x[i];
            ck_assert((*v)->sumsq(x, n, &bad) == squares && bad == 0);
            ck_assert(guarded_intact(&a) && guarded_intact(&b) && guarded_intact(&y) && guarded_intact(&half));
            guarded_free(&a);
            guarded_free(&b);
            guarded_free(&y);
            guarded_free(&half);
        }
}
END_TEST

/* The sets agree on what the kernels' tests see of the best one. */
START_TEST(sets_agree)
{
    enum { W = 133 };
    const struct vec *best = cpu_vec();
    static float x[W], w[W], dy[W], want[W], got[W];
    struct rng r = { 1 };
    for (size_t i = 0; i < W; i++) {
        x[i] = (float)rng_normal(&r);
        w[i] = (float)rng_normal(&r);
        dy[i] = (float)rng_normal(&r);
    }
    for (const struct vec *const *v = cpu_vec_all(); *v; v++) {
        double exact[W];
        float stat[2], other[2], rstd, rother;
        const struct vec_norm norm = { .w = w, .b = dy, .eps = 1e-5f },
                              less = { .w = w, .plus = 1, .eps = 1e-5f, .round = 1 };
        best->layernorm(want, x, &norm, W, stat);
        (*v)->layernorm(got, x, &norm, W, other);
        ck_assert(fabsf(stat[0] - other[0]) < 1e-6f && fabsf(stat[1] - other[1]) < 1e-5f);
        for (size_t i = 0; i < W; i++)
            ck_assert(fabsf(got[i] - want[i]) < 1e-5f);
        best->layernorm_grad(want, x, x, &norm, dy, W, stat);
        (*v)->layernorm_grad(got, x, x, &norm, dy, W, stat);
        for (size_t i = 0; i < W; i++)
            exact[i] = want[i];
        ck_assert(worst_error(got, exact, W, 0.1) < 1e-5);
        best->rmsnorm(want, x, &less, W, &rstd);
        (*v)->rmsnorm(got, x, &less, W, &rother);
        ck_assert(fabsf(rstd - rother) < 1e-5f);
        best->rmsnorm_grad(want, NULL, x, &less, dy, W, rstd);
        (*v)->rmsnorm_grad(got, NULL, x, &less, dy, W, rstd);
        for (size_t i = 0; i < W; i++)
            exact[i] = want[i];
        ck_assert(worst_error(got, exact, W, 0.1) < 1e-5);
        best->rope(want, x, dy, w, w + 20, 1, 20);
        (*v)->rope(got, x, dy, w, w + 20, 1, 20);
        for (size_t i = 0; i < 40; i++)
            ck_assert(fabsf(got[i] - want[i]) < 1e-5f);
        best->rope_pairs(want, x, dy, w, w + 20, 1, 20);
        (*v)->rope_pairs(got, x, dy, w, w + 20, 1, 20);
        for (size_t i = 0; i < 40; i++)
            ck_assert(fabsf(got[i] - want[i]) < 1e-5f);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("vec");
    TCase *t = tcase_create("vec");
    tcase_add_test(t, exponential);
    tcase_add_test(t, activations);
    tcase_add_test(t, lengths);
    tcase_add_test(t, sets_agree);
    suite_add_tcase(s, t);
    return suite_run(s);
}
