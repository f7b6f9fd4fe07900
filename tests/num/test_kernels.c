/* Matrix products: every kernel that this processor runs, not only the one that is chosen, on sizes with edges everywhere; and
 * cpu_gemm(), with its addends, over the borders of blocks. Against float64. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "exec/compute.h"
#include "cpu/blas.h"
#include "cpu/isa.h"
#include "cpu/kernel.h"
#include "cpu/vec.h"
#include "num/num.h"
#include "base/number.h"
#include "tests/unit/suite.h"

/* An operand as it lies, and what it says: (rows, columns), row-major, after turning. */
struct operand {
    struct guarded stored;
    struct matrix m;
    double *x;
};

static double put(void *at, size_t i, double x, bool half)
{
    if (!half)
        return ((float *)at)[i] = (float)x;
    ((uint16_t *)at)[i] = number_to_bf16((float)x);
    return number_from_bf16(((uint16_t *)at)[i]);
}

static double get(const void *at, size_t i, bool half)
{
    return half ? number_from_bf16(((const uint16_t *)at)[i]) : ((const float *)at)[i];
}

static struct operand operand_new(struct rng *r, size_t rows, size_t columns, bool is_turned, bool half)
{
    const size_t lines = is_turned ? columns : rows, n = is_turned ? rows : columns, ld = n + 3;
    struct operand o = { .stored = guarded_new(((lines - 1) * ld + n) * (half ? 2 : 4)) };
    o.m = (struct matrix){ o.stored.at, ld, is_turned };
    o.x = mem_alloc(rows * columns * sizeof *o.x);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            o.x[i * columns + j] = put(o.stored.at, is_turned ? j * ld + i : i * ld + j, rng_normal(r), half);
    return o;
}

static void operand_free(struct operand *o)
{
    ck_assert(guarded_intact(&o->stored));
    guarded_free(&o->stored);
    mem_free(o->x);
}

/* Element (i,j) of the product of k terms, and the sum of their sizes. */
static double product(const struct operand *a, const struct operand *b, size_t i, size_t j, size_t n, size_t k,
                      double *size)
{
    double sum = 0;
    *size = 0;
    for (size_t p = 0; p < k; p++) {
        const double term = a->x[i * k + p] * b->x[p * n + j];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static const size_t sizes[][3] = { { 1, 1, 1 },    { 3, 5, 2 },    { 8, 48, 16 },   { 9, 49, 17 }, { 5, 33, 31 },
                                   { 16, 16, 32 }, { 23, 95, 33 }, { 384, 20, 13 }, { 7, 384, 9 }, { 10, 70, 384 } };
enum { SIZES = sizeof sizes / sizeof *sizes };

static void try_kernel(const struct kernel *kernel, const size_t s[3], unsigned turns, bool half)
{
    enum { WORDS = KERNEL_BLOCK * KERNEL_BLOCK };
    struct rng r = { s[0] * 7919 + s[1] * 31 + s[2] + turns };
    struct operand a = operand_new(&r, s[0], s[2], turns & 1, half), b = operand_new(&r, s[2], s[1], turns & 2, half);
    struct guarded block[3];
    for (int i = 0; i < 3; i++)
        block[i] = guarded_new(WORDS * sizeof(float));
    float *c = block[2].at;
    for (int twice = 0; twice < 2; twice++) { /* the second is added to the first */
        const struct matrix pa = kernel->pack_a(block[0].at, &a.m, s[0], s[2], half),
                            pb = kernel->pack_b(block[1].at, &b.m, s[2], s[1], half);
        kernel->multiply(c, &pa, &pb, s[0], s[1], s[2], twice);
    }
    for (size_t i = 0; i < s[0]; i++)
        for (size_t j = 0; j < s[1]; j++) {
            double size, want = 2 * product(&a, &b, i, j, s[1], s[2], &size);
            ck_assert_msg(fabs(c[i * KERNEL_BLOCK + j] - want) <= 1e-6 * size,
                          "%s, %s, %zu x %zu x %zu, turned %u: C[%zu][%zu] is %g, expected %g", kernel->name,
                          half ? "bfloat16" : "float32", s[0], s[1], s[2], turns, i, j, c[i * KERNEL_BLOCK + j], want);
        }
    for (int i = 0; i < 3; i++) {
        ck_assert(guarded_intact(&block[i]));
        guarded_free(&block[i]);
    }
    operand_free(&a);
    operand_free(&b);
}

#ifdef CPU_AVX512_BF16
START_TEST(amx_on_a_model)
{
    if (cpu_isa() < ISA_AVX512_BF16) /* its blocks are packed by AVX-512 */
        return;
    for (size_t i = 0; i < SIZES; i++)
        for (unsigned turns = 0; turns < 4; turns++)
            try_kernel(&cpu_kernel_amx, sizes[i], turns, true);
}
END_TEST
#endif

START_TEST(kernels)
{
    for (int half = 0; half < 2; half++)
        for (const struct kernel *const *k = cpu_kernels(half); *k; k++)
            for (size_t i = 0; i < SIZES; i++)
                for (unsigned turns = 0; turns < 4; turns++)
                    try_kernel(*k, sizes[i], turns, half);
}
END_TEST

/* What C starts from: nothing, C itself, another matrix, a bias. */
enum { NOTHING, IN_PLACE, BESIDE, BIAS, STARTS };

struct gemm_case {
    size_t m, n, k;
    int start;
    bool half, wide, half_b, few;
};

/* One product with so many threads; C as it lies. */
static struct guarded run_gemm(const struct gemm_case *t, const struct operand *a, const struct operand *b,
                               const struct operand *start, int threads)
{
    const bool narrow = t->half && !t->wide;
    struct guarded c = guarded_new(start->stored.bytes);
    if (t->start == IN_PLACE)
        memcpy(c.at, start->stored.at, c.bytes);
    compute_cpu.set_threads(threads);
    cpu_gemm(&(struct gemm){ .m = t->m,
                             .n = t->n,
                             .k = t->k,
                             .a = a->m,
                             .b = b->m,
                             .c = c.at,
                             .ldc = start->m.ld,
                             .start = t->start == IN_PLACE ? c.at
                                      : t->start == BESIDE ? start->stored.at
                                                           : NULL,
                             .bias = t->start == BIAS ? start->stored.at : NULL,
                             .half = t->half,
                             .half_b = t->half_b,
                             .few = t->few,
                             .wide = t->wide });
    ck_assert(guarded_intact(&c));
    for (size_t i = 0; i + 1 < t->m && t->start != IN_PLACE; i++) /* between the rows */
        ck_assert(isnan(get(c.at, i * start->m.ld + t->n, narrow)));
    return c;
}

static void try_gemm(const struct gemm_case *t)
{
    struct rng r = { t->m + t->n + t->k };
    const bool narrow = t->half && !t->wide;
    struct operand a = operand_new(&r, t->m, t->k, t->k & 1, t->half),
                   b = operand_new(&r, t->k, t->n, t->n & 1, t->half || t->half_b);
    struct operand start = operand_new(&r, t->m, t->n, false, t->start == BIAS ? t->half : narrow);
    if (t->start == BIAS && t->half != narrow) { /* C is wider than the bias */
        operand_free(&a);
        operand_free(&b);
        operand_free(&start);
        return;
    }
    struct guarded one = run_gemm(t, &a, &b, &start, 1), three = run_gemm(t, &a, &b, &start, 3);
    ck_assert_msg(cpu_products_name(t->half)[0] == 'O' || cpu_products_name(t->half)[0] == 'B' ||
                      memcmp(one.at, three.at, one.bytes) == 0,
                  "%zu x %zu x %zu: other bits with three threads", t->m, t->n, t->k);
    for (size_t i = 0; i < t->m; i += t->m / 40 + 1)
        for (size_t j = 0; j < t->n; j += t->n / 40 + 1) {
            double size, want = product(&a, &b, i, j, t->n, t->k, &size);
            const double more = t->start == NOTHING ? 0 : start.x[t->start == BIAS ? j : i * t->n + j];
            const double got = get(one.at, i * start.m.ld + j, narrow), full = want + more;
            ck_assert_msg(fabs(got - full) <= 1e-6 * (size + fabs(more)) + (narrow ? fabs(full) / 256 : 0),
                          "%zu x %zu x %zu, start %d, half %d, wide %d: C[%zu][%zu] is %g, expected %g", t->m, t->n,
                          t->k, t->start, t->half, t->wide, i, j, got, full);
        }
    guarded_free(&one);
    guarded_free(&three);
    operand_free(&a);
    operand_free(&b);
    operand_free(&start);
}

START_TEST(gemm)
{
    static const size_t shapes[][3] = { { 1, 1, 1 },    { 33, 50, 385 }, { 400, 390, 20 },
                                        { 3, 1000, 7 }, { 770, 9, 790 }, { 800, 800, 41 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int start = 0; start < STARTS; start++)
            for (int type = 0; type < 3; type++)
                try_gemm(&(struct gemm_case){ shapes[i][0], shapes[i][1], shapes[i][2], start, .half = type > 0,
                                              .wide = type > 1 });
}
END_TEST

/* B in bfloat16 beside float32; and few rows, for which B is read as it lies (where it lies so, n is odd and k even). */
START_TEST(mixed)
{
    static const size_t shapes[][3] = { { 1, 51, 386 }, { 4, 131, 770 }, { 3, 3, 8 },    { 2, 1001, 64 }, { 1, 1, 2 },
                                        { 5, 67, 40 },  { 33, 50, 385 }, { 1, 50, 386 }, { 400, 391, 20 } };
    uint32_t taken = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int start = 0; start < STARTS; start++)
            for (int way = 1; way < 4; way++) {
                const size_t *s = shapes[i];
                const struct gemm g = {
                    .m = s[0], .a = { .turned = s[2] & 1 }, .b = { .turned = s[1] & 1 }, .few = way & 2
                };
                taken += cpu_gemv_takes(&g);
                try_gemm(&(struct gemm_case){ s[0], s[1], s[2], start, .half_b = way & 1, .few = way & 2 });
            }
    ck_assert_uint_eq(taken, 5 * STARTS * 2);
}
END_TEST

START_TEST(block)
{
    struct rng r = { 5 };
    compute_cpu.set_threads(1);
    for (size_t s = 0; s < SIZES; s++)
        for (int way = 0; way < 4; way++) {
            const int beta = way & 1, half = way >> 1;
            const size_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
            struct operand a = operand_new(&r, m, k, s & 1, false), b = operand_new(&r, k, n, s & 2, false),
                           c = operand_new(&r, m, n, false, false);
            float *at = c.stored.at;
            cpu_gemm_block(&(struct gemm_block){ m, n, k, a.m, b.m, at, c.m.ld, 0.5f, (float)beta, half });
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++) {
                    double size, want = 0.5 * product(&a, &b, i, j, n, k, &size) + beta * c.x[i * n + j];
                    ck_assert(fabs(at[i * c.m.ld + j] - want) <= (half ? 4e-3 : 1e-6) * (size + 8));
                }
            operand_free(&a);
            operand_free(&b);
            operand_free(&c);
        }
}
END_TEST

/* Every bfloat16, and float32 around the middle between two of them. */
START_TEST(conversions)
{
    enum { ALL = 1 << 16 };
    static uint16_t narrow[ALL], back[ALL];
    static float wide[ALL];
    for (size_t i = 0; i < ALL; i++)
        narrow[i] = (uint16_t)i;
    for (const struct vec *const *v = cpu_vec_all(); *v; v++) {
        (*v)->widen(wide, narrow, ALL);
        for (size_t i = 0; i < ALL; i++)
            ck_assert(isnan(wide[i]) ? isnan(number_from_bf16(narrow[i])) : wide[i] == number_from_bf16(narrow[i]));
        for (uint32_t low = 0x7fff; low <= 0x8001; low++) {
            for (uint32_t i = 0; i < ALL; i++) {
                const uint32_t bits = i << 16 | low;
                memcpy(&wide[i], &bits, sizeof bits);
            }
            (*v)->round(back, wide, ALL);
            for (size_t i = 0; i < ALL; i++)
                ck_assert_msg(back[i] == number_to_bf16(wide[i]), "%s: %a becomes %#x", (*v)->name, wide[i], back[i]);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernels");
    TCase *t = tcase_create("kernels");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, kernels);
#ifdef CPU_AVX512_BF16
    tcase_add_test(t, amx_on_a_model);
#endif
    tcase_add_test(t, gemm);
    tcase_add_test(t, mixed);
    tcase_add_test(t, block);
    tcase_add_test(t, conversions);
    suite_add_tcase(s, t);
    return suite_run(s);
}
