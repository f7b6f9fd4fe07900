/* The choice of algorithms and its file, the choice of engines. On the stand-ins of tests/cuda/libs, where algorithm 2 is the fastest
 * and algorithm 0 is proposed first. The numbers: test_products.c. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/libs_private.h"
#include "cuda/matmul.h"
#include "cuda/sdpa.h"
#include "fake.h"
#include "tests/unit/suite.h"

enum { M = 6, N = 16, K = 5, WORK = 64 << 10 };

static float a[M * K], b[K * N], c[M * N];
static _Alignas(256) char work[WORK];
static char path[] = "products.XXXXXX";

static struct cuda_matmul product(void)
{
    for (int i = 0; i < M * K; i++)
        a[i] = (float)(i % 7) - 3;
    for (int i = 0; i < K * N; i++)
        b[i] = 0.25f * (float)(i % 5) - 0.5f;
    return (struct cuda_matmul){ .m = M,
                                 .n = N,
                                 .k = K,
                                 .batch = 1,
                                 .a = { .at = a, .ld = K },
                                 .b = { .at = b, .ld = N },
                                 .c = c,
                                 .ldc = N,
                                 .alpha = 1,
                                 .type = IR_F32,
                                 .out = IR_F32,
                                 .work = work,
                                 .work_bytes = WORK };
}

static void open_choosing(const char *file, bool choose)
{
    struct err e = { 0 };
    ck_assert_msg(cuda__matmul_open(file, fake_device, NULL, &e) == ST_OK, "%s", e.text);
    cuda__matmul_choose(choose);
}

START_TEST(timed_once_and_kept)
{
    struct err e = { 0 };
    struct cuda_matmul p = product();
    open_choosing(path, true);
    ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
    cuda_matmul(&p);
    ck_assert_int_eq((int)fake_last_algorithm, 2);
    ck_assert_int_eq(cuda__matmul_store(path, fake_device, &e), ST_OK);
    cuda__matmul_close();

    const int searches = fake_searches;
    open_choosing(path, false); /* another rank, or the next run */
    ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
    cuda_matmul(&p);
    ck_assert_int_eq((int)fake_last_algorithm, 2);
    ck_assert_int_eq(fake_searches, searches);
    p.start = c; /* not in the file: what is proposed first, untimed */
    ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
    cuda_matmul(&p);
    ck_assert_int_eq((int)fake_last_algorithm, 0);
    cuda__matmul_close();
    unlink(path);
}
END_TEST

/* One process has a product untimed, another one times it: the first hears what it is to take. */
START_TEST(told_by_another)
{
    struct err e = { 0 };
    struct cuda_matmul p = product();
    void *text;
    uint64_t bytes;
    open_choosing(NULL, true);
    ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
    ck_assert_uint_eq(cuda__matmul_unchosen(), 0);
    cuda__matmul_tell(fake_device, &text, &bytes);
    cuda__matmul_close();

    open_choosing(NULL, false);
    ck_assert_int_eq(cuda_matmul_prepare(&p, false, &e), ST_OK); /* nobody is to time it */
    ck_assert_uint_eq(cuda__matmul_unchosen(), 0);
    ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
    ck_assert_uint_eq(cuda__matmul_unchosen(), 1);
    cuda_matmul(&p);
    ck_assert_int_eq((int)fake_last_algorithm, 0);
    ck_assert_int_eq(cuda__matmul_hear(text, bytes, "rank 1", "Another", &e), ST_OK);
    ck_assert_uint_eq(cuda__matmul_unchosen(), 1); /* of another device */
    ck_assert_int_eq(cuda__matmul_hear(text, bytes - 5, "rank 1", fake_device, &e), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "rank 1"));
    err_clear(&e);
    ck_assert_int_eq(cuda__matmul_hear(text, bytes, "rank 1", fake_device, &e), ST_OK);
    ck_assert_uint_eq(cuda__matmul_unchosen(), 0);
    cuda_matmul(&p);
    ck_assert_int_eq((int)fake_last_algorithm, 2);
    cuda__matmul_close();

    open_choosing(NULL, false); /* untimed at first, then the one that chooses */
    ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
    cuda__matmul_choose(true);
    ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
    ck_assert_uint_eq(cuda__matmul_unchosen(), 0);
    cuda_matmul(&p);
    ck_assert_int_eq((int)fake_last_algorithm, 2);
    cuda__matmul_close();
    mem_free(text);
}
END_TEST

/* Products are slow until clocks have risen, and now and then something else is in the way: neither decides. */
START_TEST(clocks_and_disturbances)
{
    struct err e = { 0 };
    const struct cuda_matmul p = product();
    for (int i = 0; i < 200; i++) {
        fake_fastest = (uint64_t)i % 3;
        fake_rising_until = fake_clock + 1e-3 * i; /* up to the 200 ms that are waited */
        fake_disturbed = 12 + (uint64_t)i; /* every so many products: not the same candidate in two rounds running */
        fake_disturbance = 20e-3;
        open_choosing(NULL, true);
        ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
        cuda_matmul(&p);
        ck_assert_int_eq((int)fake_last_algorithm, (int)fake_fastest);
        cuda__matmul_close();
    }
    fake_fastest = 2;
    fake_disturbed = 0;
    fake_rising_until = 0;
}
END_TEST

/* What follows a product takes 1 ms, as long as the fastest product. */
static void rest(const struct op_args *arg)
{
    (void)arg;
    fake_clock += 1e-3;
}

static bool pays(bool choose)
{
    struct err e = { 0 };
    struct cuda_matmul p = product(), plain = p;
    static float aux[M * N];
    open_choosing(path, choose);
    ck_assert_int_eq(cuda_matmul_prepare(&plain, true, &e), ST_OK);
    p.aux = aux;
    p.epilogue = CUDA_GELU;
    const bool first = cuda_matmul_pays(&p, &plain, rest, NULL);
    const double clock = fake_clock;
    ck_assert(cuda_matmul_pays(&p, &plain, rest, NULL) == first && !(fake_clock > clock)); /* known by now */
    if (choose)
        ck_assert_int_eq(cuda__matmul_store(path, fake_device, &e), ST_OK);
    cuda__matmul_close();
    return first;
}

START_TEST(epilogue_pays)
{
    ck_assert(pays(true) && pays(false));
    unlink(path);
    ck_assert(pays(false)); /* nothing is known */
    fake_epilogue_seconds = 2e-3;
    ck_assert(!pays(true) && !pays(false)); /* the others read it in the file */
    unlink(path);
    fake_epilogue_seconds = 0;
    fake_no_epilogues = true;
    ck_assert(!pays(true) && !pays(false));
    fake_no_epilogues = false;
    unlink(path);
}
END_TEST

START_TEST(file_of_another_library_or_device)
{
    struct err e = { 0 };
    const struct cuda_matmul p = product();
    for (int i = 0; i < 2; i++) {
        open_choosing(path, true);
        ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
        ck_assert_int_eq(cuda__matmul_store(path, fake_device, &e), ST_OK);
        cuda__matmul_close();
        fake_library_version += i == 0;
        if (i == 1)
            snprintf(fake_device, sizeof fake_device, "Another");
        const int searches = fake_searches;
        open_choosing(path, false);
        ck_assert_int_eq(cuda_matmul_prepare(&p, true, &e), ST_OK);
        ck_assert_int_gt(fake_searches, searches);
        cuda__matmul_close();
        unlink(path);
    }
}
END_TEST

START_TEST(damaged_file)
{
    static const char *const contents[] = {
        "",
        "something\n",
        "piper products 2\n",
        "piper products 2\nlibrary 130100\ndevice Fake\n",
        "piper products 2\nlibrary 130100\ndevice Fake\nproducts 1\n1 2 3\nend\n",
        "piper products 2\nlibrary 130100\ndevice Fake\nproducts 0\n",
        ("piper products 2\nlibrary 130100\ndevice Fake\nproducts 1\n"
         "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 ; 1 2 3 4 5 6 7 8\nend\n"),
    };
    snprintf(fake_device, sizeof fake_device, "Fake");
    fake_library_version = 130100;
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        struct err e = { 0 };
        FILE *f = fopen(path, "w");
        fputs(contents[i], f);
        fclose(f);
        ck_assert_int_eq(cuda__matmul_open(path, fake_device, NULL, &e), ST_INPUT);
        ck_assert_ptr_nonnull(strstr(e.text, path));
        cuda__matmul_close();
        unlink(path);
    }
}
END_TEST

START_TEST(multiprocessors)
{
    const struct cuda_matmul p = product();
    open_choosing(NULL, false);
    cuda_matmul(&p);
    ck_assert_int_eq(fake_last_multiprocessors, 0);
    cuda__matmul_tune(112);
    cuda_matmul(&p);
    ck_assert_int_eq(fake_last_multiprocessors, 112);
    cuda__matmul_close();
}
END_TEST

/* The stand-in proposes an engine that is not deterministic, one that wants too much, a good one. */
START_TEST(engines)
{
    struct err e = { 0 };
    const struct cuda_sdpa_shape s = { .b = 1,
                                       .heads = 1,
                                       .kv_heads = 1,
                                       .t = 3,
                                       .d = 64,
                                       .row_q = 64,
                                       .row_k = 64,
                                       .row_v = 64,
                                       .row_o = 64,
                                       .step_q = 192,
                                       .step_k = 192,
                                       .step_v = 192,
                                       .step_o = 192,
                                       .step_stats = 3 };
    static _Alignas(256) uint16_t x[4][192];
    float stats[4];
    fake_no_cudnn = true;
    ck_assert_uint_eq(cuda__sdpa_version(), 0);
    ck_assert_int_eq(cuda_sdpa_prepare(&s, 4096, &e), ST_DEVICE);
    ck_assert_str_eq(e.text, "cuDNN: libcudnn.so.9 cannot be loaded");
    fake_no_cudnn = false;
    err_clear(&e);
    fake_no_good_engine = true;
    ck_assert_int_eq(cuda_sdpa_prepare(&s, 4096, &e), ST_DEVICE);
    ck_assert_msg(strstr(e.text, "no deterministic engine") && strstr(e.text, "heads 1/1 of 64"), "%s", e.text);
    ck_assert(cuda_sdpa_refused(&s) && !cuda_sdpa_ready(&s));
    fake_no_good_engine = false;
    err_clear(&e);
    ck_assert_int_eq(cuda_sdpa_prepare(&s, 4096, &e), ST_DEVICE); /* it is not asked again */
    ck_assert(strstr(e.text, "no deterministic engine"));
    cuda__sdpa_close();
    ck_assert_int_eq(cuda__sdpa_open(NULL, &e), ST_OK);
    err_clear(&e);
    ck_assert_msg(cuda_sdpa_prepare(&s, 4096, &e) == ST_OK, "%s", e.text);
    cuda_sdpa(&(struct cuda_sdpa){
        .shape = s, .q = x[0], .k = x[1], .v = x[2], .o = x[3], .stats = stats, .scale = 1, .work = work });
    ck_assert_int_eq(fake_last_engine, FAKE_GOOD_ENGINE);
    ck_assert_double_eq_tol((double)stats[2], log(3), 1e-6); /* three keys, all scores 0 */
    ck_assert_ptr_null(fake_complaint);
    cuda__sdpa_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("products");
    TCase *t = tcase_create("products");
    close(mkstemp(path));
    unlink(path);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, timed_once_and_kept);
    tcase_add_test(t, told_by_another);
    tcase_add_test(t, clocks_and_disturbances);
    tcase_add_test(t, epilogue_pays);
    tcase_add_test(t, file_of_another_library_or_device);
    tcase_add_test(t, damaged_file);
    tcase_add_test(t, multiprocessors);
    tcase_add_test(t, engines);
    suite_add_tcase(s, t);
    return suite_run(s);
}
