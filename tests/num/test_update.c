/* Optimizer steps and the sum of squares against float64, on sizes around the pieces that threads take. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "compute.h"
#include "num/num.h"

static const size_t sizes[] = { 0, 1, 15, 1000, 16384, 50001 };
enum { SIZES = sizeof sizes / sizeof *sizes, STEPS = 5 };

struct state {
    struct guarded master, m, v, grad, param;
    double *p, *dm, *dv; /* the oracle's */
    size_t n;
};

static struct state state_new(size_t n, uint64_t seed)
{
    struct rng r = { seed };
    struct state s = { guarded_new(n * 4), guarded_new(n * 4), guarded_new(n * 4),
                       guarded_new(n * 4), guarded_new(n * 4), mem_alloc(n * 8),
                       mem_alloc(n * 8),   mem_alloc(n * 8),   n };
    for (size_t i = 0; i < n; i++) {
        s.p[i] = ((float *)s.master.at)[i] = (float)rng_normal(&r);
        ((float *)s.m.at)[i] = ((float *)s.v.at)[i] = 0;
    }
    return s;
}

static void state_free(struct state *s)
{
    struct guarded *all[] = { &s->master, &s->m, &s->v, &s->grad, &s->param };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ck_assert(guarded_intact(all[i]));
        guarded_free(all[i]);
    }
    mem_free(s->p);
    mem_free(s->dm);
    mem_free(s->dv);
}

static void oracle_step(struct state *s, const struct optimizer_args *o, const struct step_inputs *in, size_t n_decay)
{
    for (size_t i = 0; i < s->n; i++) {
        const double g = ((float *)s->grad.at)[i] * in->grad_scale, wd = i < n_decay ? o->weight_decay : 0;
        if (o->kind == OPT_SGD) {
            s->p[i] -= in->lr * (g + wd * s->p[i]);
            continue;
        }
        s->dm[i] = o->beta1 * s->dm[i] + (1 - (double)o->beta1) * g;
        s->dv[i] = o->beta2 * s->dv[i] + (1 - (double)o->beta2) * g * g;
        const double m = s->dm[i] / (1 - pow(o->beta1, (double)in->step));
        const double v = s->dv[i] / (1 - pow(o->beta2, (double)in->step));
        s->p[i] -= in->lr * (m / (sqrt(v) + o->eps) + wd * s->p[i]);
    }
}

/* separate: the compute copy is not the master. */
static void train(const struct optimizer_args *o, size_t n, size_t n_decay, bool separate, struct guarded *result)
{
    struct state s = state_new(n, n + 1);
    struct rng r = { n };
    const bool adam = o->kind == OPT_ADAMW;
    struct update_args u = { .opt = o,
                             .n = n,
                             .n_decay = n_decay,
                             .master = s.master.at,
                             .m = adam ? s.m.at : NULL,
                             .v = adam ? s.v.at : NULL,
                             .grad = s.grad.at,
                             .param = separate ? s.param.at : s.master.at,
                             .compute = IR_F32 };
    for (uint64_t step = 1; step <= STEPS; step++) {
        const struct step_inputs in = { .lr = 0.01 * (double)step, .grad_scale = 0.5, .step = step };
        for (size_t i = 0; i < n; i++)
            ((float *)s.grad.at)[i] = i % 7 == 3 ? 0 : (float)rng_normal(&r);
        oracle_step(&s, o, &in, n_decay);
        compute_cpu.update(&u, &in);
    }
    ck_assert_msg(worst_error(s.master.at, s.p, n, 0.01) < 2e-6, "n=%zu decay=%zu", n, n_decay);
    if (separate)
        ck_assert(memcmp(s.param.at, s.master.at, n * 4) == 0);
    if (result)
        memcpy(result->at, s.master.at, n * 4);
    state_free(&s);
}

START_TEST(optimizers)
{
    static const struct optimizer_args kinds[] = {
        { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f },
        { OPT_ADAMW, 0.9f, 0.999f, 1e-3f, 0 },
        { OPT_SGD, 0, 0, 0, 0.1f },
        { OPT_SGD, 0, 0, 0, 0 },
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < SIZES; i++) {
            train(&kinds[k], sizes[i], sizes[i], false, NULL);
            train(&kinds[k], sizes[i], sizes[i] / 3, true, NULL);
            train(&kinds[k], sizes[i], 0, false, NULL);
        }
}
END_TEST

/* The bits of a step do not depend on threads, nor on where a shard begins. */
START_TEST(same_bits)
{
    static const struct optimizer_args adam = { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f };
    enum { N = 50001 };
    struct guarded one = guarded_new(N * 4), many = guarded_new(N * 4);
    compute_cpu.set_threads(1);
    train(&adam, N, N / 2, false, &one);
    compute_cpu.set_threads(3);
    train(&adam, N, N / 2, false, &many);
    ck_assert(memcmp(one.at, many.at, N * 4) == 0);
    guarded_free(&one);
    guarded_free(&many);

    float x[2][100], m[2][100] = { 0 }, v[2][100] = { 0 }, g[100];
    for (size_t i = 0; i < 100; i++)
        x[0][i] = x[1][i] = g[i] = (float)i * 0.37f - 9;
    const struct step_inputs in = { .lr = 0.01, .grad_scale = 0.7, .step = 3 };
    struct update_args u = { .opt = &adam,
                             .n = 100,
                             .n_decay = 100,
                             .master = x[0],
                             .m = m[0],
                             .v = v[0],
                             .grad = g,
                             .param = x[0],
                             .compute = IR_F32 };
    compute_cpu.update(&u, &in);
    for (size_t i = 0; i < 100; i += 7) {
        u.n = u.n_decay = 100 - i < 7 ? 100 - i : 7;
        u.param = u.master = x[1] + i;
        u.m = m[1] + i;
        u.v = v[1] + i;
        u.grad = g + i;
        compute_cpu.update(&u, &in);
    }
    ck_assert(memcmp(x[0], x[1], sizeof x[0]) == 0 && memcmp(v[0], v[1], sizeof v[0]) == 0);
}
END_TEST

START_TEST(squares)
{
    for (size_t i = 0; i < SIZES; i++) {
        const size_t n = sizes[i];
        struct guarded x = guarded_new(n * 4);
        struct rng r = { i };
        double want = 0, bits = 0;
        for (size_t k = 0; k < n; k++) {
            const float value = ((float *)x.at)[k] = (float)rng_normal(&r) * 1e20f; /* squares beyond float32 */
            want += (double)value * value;
        }
        for (int threads = 1; threads <= 4; threads++) {
            double sum = 1e30, bad = 2;
            compute_cpu.set_threads(threads);
            compute_cpu.sumsq(x.at, n, &sum, &bad, NULL);
            ck_assert(fabs(sum - 1e30 - want) <= 1e-12 * (want + 1e30) && bad == 2);
            ck_assert(threads == 1 || sum == bits);
            bits = sum;
        }
        if (n > 2) {
            double sum = 0, bad = 0;
            ((float *)x.at)[n - 1] = INFINITY;
            ((float *)x.at)[n / 2] = NAN;
            compute_cpu.sumsq(x.at, n, &sum, &bad, NULL);
            ck_assert(bad == 2 && !isfinite(sum));
        }
        ck_assert(guarded_intact(&x));
        guarded_free(&x);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("update");
    TCase *t = tcase_create("update");
    tcase_add_test(t, optimizers);
    tcase_add_test(t, same_bits);
    tcase_add_test(t, squares);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
