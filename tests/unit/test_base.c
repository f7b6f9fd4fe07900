/* Libraries, status and error sentences, the failure door, memory, ratios, pieces on threads. */
#include <check.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/library.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "base/ratio.h"
#include "base/status.h"
#include "base/thread.h"
#include "base/version.h"

/* ---- libraries ------------------------------------------------------------------------------------------------ */

#define CALLS(X)                   \
    X(double, j0, (double x), (x)) \
    X(double, cbrt, (double x), (x))
static struct {
    CALLS(LIBRARY_POINTER)
} table;
static const char *const in_libm[] = { CALLS(LIBRARY_NAME) };

START_TEST(library_is_loaded)
{
    struct library l = { .name = "mathematics", .file = "libm.so.6", .folder = "/nowhere", .names = in_libm, .n = 2 };
    struct err e = { 0 };
    ck_assert_msg(library_load(&l, &table, &e) == ST_OK, "%s", e.text);
    ck_assert_double_eq_tol(table.cbrt(27), 3, 1e-12);
}
END_TEST

START_TEST(library_that_is_missing_or_old)
{
    const char *const newer[] = { "cbrt", "cbrt_of_2030" };
    struct library l = { .name = "mathematics",
                         .file = "libm.so.60",
                         .folder = "/nowhere",
                         .wheel = "mathematics/lib",
                         .oldest = "2030",
                         .instead = "count on your fingers",
                         .names = newer,
                         .n = 2 };
    void (*functions[2])(void) = { NULL, NULL };
    struct err e = { 0 };
    setenv("LD_LIBRARY_PATH", "/one:/two", 1);
    ck_assert_int_eq(library_load(&l, functions, &e), ST_DEVICE);
    const char *const words[] = { "mathematics: libm.so.60 is required", "No such file",
                                  "LD_LIBRARY_PATH (/one:/two)",         "/nowhere",
                                  "site-packages/mathematics/lib",       "count on your fingers" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        ck_assert_msg(strstr(e.text, words[i]), "%s: %s", words[i], e.text);
    err_clear(&e);
    unsetenv("LD_LIBRARY_PATH");
    l.file = "libm.so.6";
    ck_assert_int_eq(library_load(&l, functions, &e), ST_DEVICE);
    ck_assert_msg(strstr(e.text, "has no cbrt_of_2030: it is older than 2030"), "%s", e.text);
    ck_assert_ptr_null(functions[0]);
    err_clear(&e);
    /* the folder of the build comes after the loader's places */
    char dir[] = "/tmp/library.XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/libm.so.60", dir);
    fclose(fopen(path, "w"));
    l.file = "libm.so.60";
    l.folder = dir;
    ck_assert_int_eq(library_load(&l, functions, &e), ST_DEVICE);
    ck_assert_msg(strstr(e.text, "too short"), "%s", e.text);
    unlink(path);
    rmdir(dir);
}
END_TEST

/* ---- status --------------------------------------------------------------------------------------------------- */

START_TEST(err_first_cause_stays)
{
    struct err e = { 0 };
    ck_assert_int_eq(err_set(&e, ST_INPUT, "a.json", "found %d", 3), ST_INPUT);
    ck_assert_str_eq(e.text, "a.json: found 3");
    ck_assert_int_eq(err_set(&e, ST_IO, NULL, "later"), ST_IO);
    ck_assert_int_eq(e.status, ST_INPUT);
    ck_assert_str_eq(e.text, "a.json: found 3");
    err_clear(&e);
    ck_assert_int_eq(e.status, ST_OK);
    err_set(&e, ST_IO, NULL, "now");
    ck_assert_str_eq(e.text, "now");
    ck_assert_int_eq(err_set(NULL, ST_HANG, "x", "nobody asks"), ST_HANG);
}
END_TEST

START_TEST(err_long_text_is_cut)
{
    static char where[5000];
    memset(where, 'w', sizeof where - 1);
    struct err e = { 0 };
    err_set(&e, ST_INPUT, where, "tail");
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    err_clear(&e);
    err_set(&e, ST_INPUT, "short", "%s", where);
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    where[1] = '\033';
    err_clear(&e);
    err_set(&e, ST_INPUT, where, "tail");
    ck_assert_int_eq(e.text[1], '?');
}
END_TEST

START_TEST(control_characters_are_not_printed)
{
    char line[64];
    FILE *f = tmpfile();
    text_print(f, "%s: %d\n", "a\033[31m\tb\n\xc2\x9b\xc3\xa9\x7f", 3);
    text_print(f, "%s", "");
    text_print(f, "%s", "c\n");
    rewind(f);
    const size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = '\0';
    ck_assert_str_eq(line, "a?[31m?b???\xc3\xa9?: 3\nc?");
}
END_TEST

static enum status twice(enum status first, int *reached)
{
    TRY(first);
    *reached = 1;
    return ST_OK;
}

START_TEST(try_and_names)
{
    int reached = 0;
    ck_assert_int_eq(twice(ST_IO, &reached), ST_IO);
    ck_assert_int_eq(reached, 0);
    ck_assert_int_eq(twice(ST_OK, &reached), ST_OK);
    ck_assert_int_eq(reached, 1);
    const enum status all[] = { ST_OK, ST_USAGE, ST_INPUT, ST_MISSING, ST_BUG, ST_DEVICE, ST_IO, ST_STOPPED, ST_HANG };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ck_assert_str_ne(status_name(all[i]), "unknown");
    ck_assert_str_eq(status_name((enum status) - 1), "unknown");
    ck_assert_uint_gt(strlen(piper_version), 0);
    ck_assert_uint_gt(strlen(piper_commit), 0);
}
END_TEST

/* ---- the failure door ----------------------------------------------------------------------------------------- */

static jmp_buf door;
static int door_status;
static char door_text[2600];

static void take_words(const char *text)
{
    snprintf(door_text, sizeof door_text, "%s", text);
}

static void leave(int code)
{
    door_status = -code;
    longjmp(door, 1);
}

static void in_step_7(char *text, size_t size)
{
    snprintf(text, size, "rank 2, step 7");
}

static void open_door(void)
{
    door_text[0] = '\0';
    process_ways = (struct process_ways){ .log = take_words, .leave = leave };
}

static int close_door(int left)
{
    process_ways = (struct process_ways){ 0 };
    return left;
}

/* Runs `call`; true when it left by the door. */
#define LEAVES(call) (open_door(), setjmp(door) ? close_door(1) : ((call), close_door(0)))

START_TEST(check_leaves_by_the_door)
{
    ck_assert(!LEAVES(CHECK(1 + 1 == 2)));
    ck_assert(LEAVES(CHECK(1 + 1 == 3)));
    ck_assert_int_eq(door_status, ST_BUG);
    ck_assert_ptr_nonnull(strstr(door_text, "1 + 1 == 3"));
    ck_assert_ptr_nonnull(strstr(door_text, "test_base.c"));
}
END_TEST

START_TEST(words_name_the_place)
{
    ck_assert(LEAVES((process_ways.where = in_step_7, process_fail(ST_DEVICE, "it burns"))));
    ck_assert_str_eq(door_text, "rank 2, step 7: it burns");
    ck_assert(LEAVES((process_ways.where = in_step_7, process_fail(ST_DEVICE, "rank 3: it burns"))));
    ck_assert_str_eq(door_text, "rank 3: it burns");
}
END_TEST

static void *fail_too(void *unused)
{
    (void)unused;
    process_end(ST_HANG, "later", _exit);
    return NULL;
}

/* The second comes while the words of the first are written. */
static void take_long(const char *text)
{
    pthread_t second;
    (void)text;
    thread_start(&second, fail_too, NULL);
    clock_nap(0.1);
}

/* Two threads fail: the first is heard, once, and its code is the process's (70). */
START_TEST(the_first_is_heard)
{
    FILE *said = tmpfile();
    dup2(fileno(said), STDERR_FILENO);
    pid_t pid = fork();
    if (pid == 0) {
        process_ways.log = take_long;
        process_end(ST_BUG, "first", _exit);
    }
    int status;
    char text[256] = "";
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    rewind(said);
    size_t n = fread(text, 1, sizeof text - 1, said);
    ck_assert_str_eq(text, "piper: first\n");
    ck_assert(n && WIFEXITED(status) && WEXITSTATUS(status) == 70);
    fclose(said);
}
END_TEST

/* The log hangs with its file system: the words are said, and the process ends all the same. */
static void hang(const char *text)
{
    (void)text;
    pause();
}

START_TEST(a_log_that_hangs)
{
    process_ways.log = hang;
    process_end(ST_HANG, "first", _exit);
}
END_TEST

/* The default door ends the process with -status: the first case takes 70 from CHECK, the second 71 from memory. */
START_TEST(default_door_exits)
{
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
    if (_i == 0)
        CHECK(0 > 1);
    mem_fail_after(1);
    mem_free(mem_alloc(1));
}
END_TEST

/* ---- memory --------------------------------------------------------------------------------------------------- */

START_TEST(mem_is_zeroed_and_counted)
{
    struct mem_stats before = mem_stats();
    char *p = mem_alloc(1000);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(p[i], 0);
    ck_assert_uint_eq(mem_stats().calls, before.calls + 1);
    ck_assert_uint_ge(mem_stats().live_bytes, before.live_bytes + 1000);
    memset(p, 7, 1000);
    p = mem_realloc(p, 5000);
    ck_assert_int_eq(p[999], 7);
    ck_assert_uint_eq(mem_stats().calls, before.calls + 2);
    ck_assert_uint_ge(mem_stats().live_bytes, before.live_bytes + 5000);
    p = mem_realloc(p, 10);
    ck_assert_uint_lt(mem_stats().live_bytes, before.live_bytes + 5000);
    mem_free(p);
    mem_free(NULL);
    ck_assert_uint_eq(mem_stats().live_bytes, before.live_bytes);

    char *s = mem_strdup("rank 3"), *empty = mem_alloc(0);
    ck_assert_str_eq(s, "rank 3");
    ck_assert_ptr_nonnull(empty);
    mem_free(s);
    mem_free(empty);
    ck_assert_uint_eq(mem_stats().live_bytes, before.live_bytes);
}
END_TEST

START_TEST(mem_nth_allocation_fails)
{
    struct mem_stats before = mem_stats();
    char *volatile p[3] = { 0 };
    mem_fail_after(3);
    p[0] = mem_alloc(8);
    p[1] = mem_realloc(NULL, 8);
    ck_assert(LEAVES(p[2] = mem_alloc(4096)));
    ck_assert_int_eq(door_status, ST_DEVICE);
    ck_assert_ptr_nonnull(strstr(door_text, "4096"));
    ck_assert_ptr_null(p[2]);
    /* once: the next one is good again, and a failed realloc leaves the old block alone */
    ck_assert(!LEAVES(p[2] = mem_alloc(16)));
    strcpy(p[2], "kept");
    mem_fail_after(1);
    ck_assert(LEAVES(p[2] = mem_realloc(p[2], 1 << 20)));
    ck_assert_str_eq(p[2], "kept");
    mem_fail_after(1);
    mem_fail_after(0);
    ck_assert(!LEAVES(mem_free(mem_alloc(1))));
    for (int i = 0; i < 3; i++)
        mem_free(p[i]);
    ck_assert_uint_eq(mem_stats().live_bytes, before.live_bytes);
}
END_TEST

static int all_bytes_are(const unsigned char *p, size_t n, size_t value)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != value)
            return 0;
    return 1;
}

START_TEST(arena_many_sizes)
{
    struct mem_stats before = mem_stats();
    struct arena a;
    arena_init(&a);
    ck_assert_uint_eq(mem_stats().calls, before.calls);
    enum { N = 500 };
    unsigned char *at[N];
    size_t size[N], sum = 0;
    for (size_t i = 0; i < N; i++) {
        size[i] = i % 50 == 49 ? 100000 : (i * 37) % 700;
        at[i] = arena_alloc(&a, size[i]);
        ck_assert_uint_eq((uintptr_t)at[i] % 16, 0);
        ck_assert(all_bytes_are(at[i], size[i], 0));
        memset(at[i], (int)(i % 251) + 1, size[i]);
        sum += size[i];
    }
    for (size_t i = 0; i < N; i++)
        ck_assert(all_bytes_are(at[i], size[i], i % 251 + 1));
    ck_assert_uint_ge(a.used, sum);
    ck_assert_uint_le(a.used, sum + N * 16);
    arena_release(&a);
    ck_assert_uint_eq(a.used, 0);
    ck_assert_uint_eq(mem_stats().live_bytes, before.live_bytes);
}
END_TEST

START_TEST(arena_copies)
{
    struct arena a;
    arena_init(&a);
    char *s = arena_strdup(&a, "layers.0");
    ck_assert_str_eq(s, "layers.0");
    ck_assert_str_eq(arena_printf(&a, "%s.%d", s, 12), "layers.0.12");
    char *big = arena_printf(&a, "%0200000d", 7);
    ck_assert_uint_eq(strlen(big), 200000);
    int x[3] = { 1, 2, 3 }, *y = arena_copy(&a, x, sizeof x);
    ck_assert_mem_eq(x, y, sizeof x);
    ck_assert_ptr_nonnull(arena_copy(&a, NULL, 0));
    struct err *e = arena_new(&a, struct err);
    ck_assert_int_eq(e->status, ST_OK);
    uint64_t *v = arena_array(&a, uint64_t, 100000);
    ck_assert_uint_eq(v[99999], 0);
    arena_release(&a);
}
END_TEST

START_TEST(vec_grows)
{
    struct {
        VEC(uint32_t);
    } v = { 0 };
    struct mem_stats before = mem_stats();
    for (uint32_t i = 0; i < 10000; i++)
        vec_add(&v, i * 3);
    ck_assert_uint_eq(v.n, 10000);
    ck_assert_uint_lt(mem_stats().calls, before.calls + 20); /* doubling, not one call an element */
    for (uint32_t i = 0; i < 10000; i++)
        ck_assert_uint_eq(v.at[i], i * 3);
    *vec_push(&v) = 5;
    ck_assert_uint_eq(v.at[10000], 5);
    memset(v.at + v.n, 0xff, (v.cap - v.n) * sizeof *v.at);
    uint32_t first = vec_grow(&v, 1000);
    ck_assert_uint_eq(first, 10001);
    for (uint32_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(v.at[first + i], 0);
    ck_assert_uint_eq(vec_grow(&v, 0), v.n);
    vec_free(&v);
    ck_assert_ptr_null(v.at);
    ck_assert_uint_eq(v.n + v.cap, 0);
    ck_assert_uint_eq(mem_stats().live_bytes, before.live_bytes);
    ck_assert_uint_eq(round_up(0, 64), 0);
    ck_assert_uint_eq(round_up(1, 64), 64);
    ck_assert_uint_eq(round_up(128, 64), 128);
}
END_TEST

/* ---- ratios, pieces on threads ------------------------------------------------------------------------------------ */

static void check_ratio(const char *text, uint64_t num, uint64_t den)
{
    const struct ratio r = ratio_of(strtod(text, NULL));
    ck_assert_msg(r.num == num && r.den == den, "%s: %llu/%llu", text, (unsigned long long)r.num,
                  (unsigned long long)r.den);
}

enum { PIECES = 2000 };
struct pieces_done {
    uint32_t times[PIECES];
    _Atomic uint32_t holder[64]; /* by thread: is it in a piece? */
};

static void do_piece(void *of, uint32_t i, uint32_t thread)
{
    struct pieces_done *d = of;
    ck_assert_uint_lt(thread, parallel_threads(PIECES));
    ck_assert_uint_eq(d->holder[thread]++, 0); /* no other call has this number now */
    d->times[i]++;
    d->holder[thread]--;
}

START_TEST(parallel_pieces)
{
    static struct pieces_done d;
    parallel_each(PIECES, do_piece, &d);
    for (uint32_t i = 0; i < PIECES; i++)
        ck_assert_uint_eq(d.times[i], 1);
    parallel_each(1, do_piece, &d);
    ck_assert_uint_eq(d.times[0], 2);
    parallel_each(0, do_piece, &d);
    ck_assert_uint_eq(d.times[0], 2);
    ck_assert_uint_eq(parallel_threads(1), 1);
}
END_TEST

START_TEST(ratios)
{
    check_ratio("0", 0, 1);
    check_ratio("1", 1, 1);
    check_ratio("1.10", 11, 10);
    check_ratio("120000", 120000, 1);
    check_ratio("1e9", 1000000000, 1);
    check_ratio("0.0625", 625, 10000);
    check_ratio("1.2345678901234567", 12345678901234567, 10000000000000000);
    check_ratio("1e-18", 1, 1000000000000000000);
    check_ratio("1e-300", 1, 1000000000000000000);
    ck_assert_uint_eq(ratio_ceil(ratio_of(1e9), UINT64_MAX, 1), UINT64_MAX);
    ck_assert_uint_eq(ratio_ceil((struct ratio){ 0, 1 }, 5, 3), 0);
    /* against whole numbers: p/1000 * n / m for all that are and are not whole */
    for (uint32_t p = 1; p <= 3000; p += 7)
        for (uint32_t n = 1; n <= 2000; n += 37)
            for (uint32_t m = 1; m <= 64; m *= 4) {
                char text[16];
                snprintf(text, sizeof text, "%u.%03u", p / 1000, p % 1000);
                const uint64_t want = ((uint64_t)p * n + 1000 * m - 1) / (1000 * m);
                ck_assert_uint_eq(ratio_ceil(ratio_of(strtod(text, NULL)), n, m), want);
            }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *status = tcase_create("status"), *mem = tcase_create("mem");
    tcase_add_test(status, library_is_loaded);
    tcase_add_test(status, library_that_is_missing_or_old);
    tcase_add_test(status, err_first_cause_stays);
    tcase_add_test(status, err_long_text_is_cut);
    tcase_add_test(status, control_characters_are_not_printed);
    tcase_add_test(status, try_and_names);
    tcase_add_test(mem, check_leaves_by_the_door);
    tcase_add_test(mem, words_name_the_place);
    tcase_add_test(mem, the_first_is_heard);
    tcase_add_test(mem, mem_is_zeroed_and_counted);
    tcase_add_test(mem, mem_nth_allocation_fails);
    tcase_add_test(mem, arena_many_sizes);
    tcase_add_test(mem, arena_copies);
    tcase_add_test(mem, vec_grows);
    tcase_add_test(mem, parallel_pieces);
    tcase_add_test(mem, ratios);
    suite_add_tcase(s, status);
    suite_add_tcase(s, mem);

    SRunner *r = srunner_create(s);
    if (srunner_fork_status(r) == CK_FORK) {
        TCase *ends = tcase_create("ends");
        tcase_add_loop_exit_test(ends, default_door_exits, 70, 0, 1);
        tcase_add_exit_test(ends, a_log_that_hangs, 76);
        tcase_add_loop_exit_test(ends, default_door_exits, 71, 1, 2);
        suite_add_tcase(s, ends);
    }
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
