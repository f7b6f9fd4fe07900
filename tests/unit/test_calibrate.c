/* Measurements of piper calibrate: noisy ones are repeated, the calmest runs count, and what stays noisy is said. */
#include "cmd/calibrate.h"
#include "tests/unit/suite.h"

/* Attempts as they come: a median, and how far the middle half is apart in parts of it. */
struct script {
    double seconds[4], spread[4];
    uint32_t taken;
};

static uint32_t take(void *self, double *seconds)
{
    struct script *s = self;
    const double middle = s->seconds[s->taken], apart = s->spread[s->taken] * middle;
    s->taken++;
    /* sorted: 2 and 6 are the ends of the middle half, 4 is the median; the ends are outliers */
    for (int i = 0; i < 8; i++)
        seconds[7 - i] = i == 0 ? 0 : i == 7 ? 100 * middle : middle + (i - 4) * apart / 4;
    return 8;
}

START_TEST(settles)
{
    struct calibrate_runs all = { .measured = 0 };
    struct script calm = { .seconds = { 2 }, .spread = { 0.05 } };
    ck_assert_double_eq(calibrate_settle(&all, "calm", take, &calm), 2);
    ck_assert_uint_eq(calm.taken, 1);
    struct script second = { .seconds = { 9, 3 }, .spread = { 0.5, 0.09 } };
    ck_assert_double_eq(calibrate_settle(&all, "second", take, &second), 3);
    ck_assert_uint_eq(second.taken, 2);
    ck_assert(all.measured == 2 && all.noisy == 0);
    ck_assert_double_eq_tol(all.spread, 0.09, 1e-5);
    ck_assert_str_eq(all.what, "second");
    struct script never = { .seconds = { 9, 4, 7 }, .spread = { 0.5, 0.2, 0.3 } };
    ck_assert_double_eq(calibrate_settle(&all, "never", take, &never), 4);
    ck_assert_uint_eq(never.taken, 3);
    ck_assert(all.measured == 3 && all.noisy == 1);
    ck_assert_double_eq_tol(all.spread, 0.2, 1e-5);
    ck_assert_str_eq(all.what, "never");
    calm.taken = 0;
    calibrate_settle(&all, "calm", take, &calm); /* the worst stays */
    ck_assert_double_eq_tol(all.spread, 0.2, 1e-5);
    ck_assert_str_eq(all.what, "never");
}
END_TEST

static uint32_t take_none(void *self, double *seconds)
{
    (void)self, (void)seconds;
    return 0;
}

START_TEST(nobody)
{
    struct calibrate_runs all = { .measured = 0 };
    ck_assert_double_eq(calibrate_settle(&all, "nobody", take_none, NULL), 0);
    ck_assert_uint_eq(all.noisy, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("calibrate");
    TCase *tc = tcase_create("calibrate");
    tcase_add_test(tc, settles);
    tcase_add_test(tc, nobody);
    suite_add_tcase(s, tc);
    return suite_run(s);
}
