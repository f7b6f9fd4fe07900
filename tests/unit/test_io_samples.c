/* What a sample is: of which source of a blend, which of its targets count, where its documents begin. */
#include "base/mem.h"
#include "io/order.h"
#include "io/tokens.h"
#include "tests/unit/io_sample.h"
#include "tests/unit/suite.h"

static struct err e;

/* ---- blends ---- */

/* Counts are those of the sources named one by one, never further from the weights than a few samples, and from whole turns of 2^32
 * on too. */
START_TEST(blend_counts)
{
    static const double weights[][4] = {
        { 1, 1, 1, 1 }, { 0.7, 0.2, 0.1, 1e-6 }, { 1e-9, 1, 1e-9, 3 }, { 5, 4, 3, 2 }
    };
    const double *w = weights[_i % 4], sum = w[0] + w[1] + w[2] + w[3];
    struct data_blend b;
    uint64_t seen[4] = { 0 };
    data_blend_init(&b, w, 4, 11 + (uint64_t)_i);
    for (uint64_t g = 0; g < 20000; g++) {
        if (g % 997 == 0 || g < 50)
            for (uint32_t s = 0; s < 4; s++) {
                ck_assert_uint_eq(data_blend_count(&b, s, g), seen[s]);
                ck_assert_double_le(fabs((double)seen[s] - (double)g * w[s] / sum), 5);
            }
        seen[data_blend_source(&b, g)]++;
    }
    for (uint64_t at = (UINT64_C(3) << 32) - 40; at < (UINT64_C(3) << 32) + 40; at++) {
        uint64_t all = 0;
        for (uint32_t s = 0; s < 4; s++) {
            const uint64_t n = data_blend_count(&b, s, at);
            ck_assert_uint_eq(data_blend_count(&b, s, at + 1) - n, data_blend_source(&b, at) == s);
            all += n;
        }
        ck_assert_uint_eq(all, at);
    }
}
END_TEST

START_TEST(blend_of_one_source_and_many)
{
    double w[DATA_SOURCES_MAX];
    struct data_blend b;
    data_blend_init(&b, (double[]){ 3 }, 1, 1);
    ck_assert_uint_eq(data_blend_source(&b, 12345), 0);
    ck_assert_uint_eq(data_blend_count(&b, 0, 12345), 12345);
    for (uint32_t i = 0; i < DATA_SOURCES_MAX; i++)
        w[i] = 1 + i % 3;
    data_blend_init(&b, w, DATA_SOURCES_MAX, 5);
    for (uint32_t i = 0; i < DATA_SOURCES_MAX; i++)
        ck_assert_uint_gt(data_blend_count(&b, i, 1000), 0);
}
END_TEST

/* ---- targets ---- */

enum { N = 20000, T = 16 };
static uint32_t ids[N];
static uint8_t mask[N], begins[N];

static uint32_t draw(uint32_t *x, uint32_t n)
{
    *x = *x * 1664525 + 1013904223;
    return (*x >> 8) % n;
}

/* A file of short and long documents. */
static void write_file(const char *path, uint32_t seed, bool masked)
{
    struct tokens_out o;
    const char *files[] = { "drawn" };
    const struct tokens_about about = { .vocab = 500, .files = files, .n_files = 1 };
    ASSERT_OK(tokens_out_begin(path, 2, &o, &e));
    for (uint32_t i = 0, left = 0; i < N; i++, left--) {
        begins[i] = left == 0;
        if (left == 0) {
            tokens_out_document(&o);
            left = 1 + draw(&seed, draw(&seed, 4) ? 2 : 200);
        }
        ids[i] = draw(&seed, 500);
        mask[i] = (uint8_t)draw(&seed, 2);
        ASSERT_OK(tokens_out_add(&o, &ids[i], masked ? &mask[i] : NULL, 1, &e));
    }
    ASSERT_OK(tokens_out_end(&o, &about, &e));
    tokens_out_drop(&o);
}

static void check_window(struct tokens *t, uint64_t w, bool masked, bool apart)
{
    int32_t row[T + 1], targets[T], document[T];
    uint64_t counted, want = 0;
    ASSERT_OK(tokens_window(t, w, row, &e));
    ASSERT_OK(tokens_targets(t, w, row, apart, targets, document, &e));
    ASSERT_OK(tokens_count(t, w, apart, &counted, &e));
    for (int32_t i = 0, begin = 0; i < T; i++) {
        const uint64_t at = w * T + (uint64_t)i;
        const bool counts = (!masked || mask[at + 1]) && !(apart && begins[at + 1]);
        begin = apart && begins[at] ? i : begin;
        ck_assert_int_eq(targets[i], counts ? (int32_t)ids[at + 1] : -1);
        ck_assert_int_eq(document[i], begin);
        want += counts;
    }
    ck_assert_uint_eq(counted, want);
}

START_TEST(targets_that_count)
{
    const char *folder = sample_folder();
    char path[300];
    struct tokens t;
    const bool masked = _i & 1, apart = _i & 2;
    snprintf(path, sizeof path, "%s/t.h5", folder);
    write_file(path, 7 + (uint32_t)_i, masked);
    ASSERT_OK(tokens_open(path, T, 500, &t, &e));
    ck_assert_uint_gt(t.n_documents, 600); /* more than are read at a time */
    for (uint64_t i = 0; i < t.n_windows; i++)
        check_window(&t, i * 7 % t.n_windows, masked, apart);
    tokens_close(&t);
    sample_folder_remove(folder);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("io_samples");
    TCase *t = tcase_create("samples");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, blend_counts, 0, 8);
    tcase_add_test(t, blend_of_one_source_and_many);
    tcase_add_loop_test(t, targets_that_count, 0, 4);
    suite_add_tcase(s, t);
    return suite_run(s);
}
