/* metrics.csv at a resume, wherever a lost machine has cut it. */
#include "train/metrics.h"

#include <unistd.h>

#include "tests/unit/io_sample.h"
#include "tests/unit/suite.h"

enum { STEPS = 6, FILE_BYTES = 4000 };
static struct err e;
static struct dir run;
static const char *folder;
static char path[300], aside[300];

static void begin(void)
{
    folder = sample_folder();
    err_clear(&e);
    ASSERT_OK(dir_open(folder, &run, &e));
    snprintf(path, sizeof path, "%s/metrics.csv", folder);
    snprintf(aside, sizeof aside, "%s/metrics.csv.damaged.1", folder);
}

static void end(void)
{
    dir_close(&run);
    sample_folder_remove(folder);
}

static size_t read_all(const char *file, char text[FILE_BYTES])
{
    FILE *f = fopen(file, "rb");
    size_t n = f ? fread(text, 1, FILE_BYTES - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    return n;
}

/* Goes on behind step `last` to the end; every second row has an evaluation. note: what was told of the file. */
static void train(uint64_t last, char note[512])
{
    struct metrics m;
    ASSERT_OK(metrics_open(&m, &run, last, NULL, 0, &e));
    strcpy(note, m.note);
    for (uint64_t step = last + 1; step <= STEPS; step++) {
        struct metrics_row row = {
            step, 1.5 / (double)step, 0.25, 1e-3, step * 128, 0.125, 1024, 0.01, step, 0.3, 1.25
        };
        ASSERT_OK(metrics_write(&m, &row, NULL, 0, &e));
        if (step % 2 == 0)
            ASSERT_OK(metrics_add_eval(&m, 2.5, NULL, 0, &e));
    }
    ASSERT_OK(metrics_close(&m, &e));
}

/* Of the row of `step`. */
static size_t begin_of(const char *text, uint64_t step)
{
    const char *at = text;
    for (uint64_t i = 0; i < step; i++)
        at = strchr(at, '\n') + 1;
    return (size_t)(at - text);
}

/* At every byte of the last two rows. Behind the checkpoint that training goes on from it makes no difference; before it, what was
 * there is put aside, and the rows that are whole are kept. */
START_TEST(cut_anywhere)
{
    char whole[FILE_BYTES], cut[FILE_BYTES], found[FILE_BYTES], note[512];
    train(0, note);
    const size_t size = read_all(path, whole);
    for (uint64_t last = STEPS - 2; last <= STEPS; last++)
        for (size_t at = begin_of(whole, STEPS - 1); at <= size; at++) {
            memcpy(cut, whole, at);
            cut[at] = '\0';
            sample_write_file(path, cut, at);
            train(last, note);
            read_all(path, found);
            uint64_t rows = at >= begin_of(whole, STEPS + 1) ? STEPS
                            : at >= begin_of(whole, STEPS)   ? STEPS - 1
                                                             : STEPS - 2;
            if (rows >= last) {
                ck_assert_msg(strcmp(found, whole) == 0 && !*note, "cut at %zu, from step %d: %s\n%s", at, (int)last,
                              note, found);
                continue;
            }
            const size_t kept = begin_of(whole, rows + 1); /* then those behind the checkpoint */
            ck_assert_msg(strncmp(found, whole, kept) == 0 &&
                              strcmp(found + kept, whole + begin_of(whole, last + 1)) == 0,
                          "cut at %zu, from step %d:\n%s", at, (int)last, found);
            ck_assert_ptr_nonnull(strstr(note, "metrics.csv is damaged or missing"));
            read_all(aside, found);
            ck_assert_str_eq(found, cut);
            ck_assert_int_eq(unlink(aside), 0);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *t = tcase_create("metrics");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, cut_anywhere);
    suite_add_tcase(s, t);
    return suite_run(s);
}
