/* Status and error sentences, memory, ratios, JSON. */
#include <check.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/json.h"
#include "base/library.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "base/ratio.h"
#include "base/parse.h"
#include "base/status.h"
#include "base/words.h"
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
    fclose(stderr);
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

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

static const char sample[] =
    "{\"lr\": {\"peak\": 3e-4, \"kind\": \"cosine\"}, \"steps\": 100, \"shuffle\": false,"
    " \"none\": null, \"odd key\": 1, \"betas\": [0.9, 1, \"x\"], \"big\": 9223372036854775807,"
    " \"thousand\": 1e3, \"half\": 2.5, \"name\": \"a\\tb\"}";
static json_t *doc;
static struct js root;
static struct err err;

static void load_sample(void)
{
    err = (struct err){ 0 };
    ck_assert_int_eq(js_load_text(sample, "train.json", &doc, &err), ST_OK);
    root = js_root(doc, "train.json");
}

static void drop_sample(void)
{
    json_decref(doc);
}

/* The call fails with ST_INPUT and this text; the error is cleared. */
#define FAILS(call, expected)                   \
    do {                                        \
        ck_assert_int_eq((call), ST_INPUT);     \
        ck_assert_int_eq(err.status, ST_INPUT); \
        ck_assert_str_eq(err.text, expected);   \
        err_clear(&err);                        \
    } while (0)

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

START_TEST(json_scalars)
{
    int64_t i;
    double x;
    bool b;
    const char *s;
    struct js v;
    ck_assert_int_eq(js_need(&root, "steps", &v, &err), ST_OK);
    ck_assert_int_eq(js_int(&v, 1, 100, &i, &err), ST_OK);
    ck_assert_int_eq(i, 100);
    ck_assert_int_eq(js_num(&v, 0, 1e9, &x, &err), ST_OK);
    ck_assert_double_eq(x, 100);
    ck_assert_int_eq(js_int_or(&root, "thousand", 0, 2000, 1, &i, &err), ST_OK);
    ck_assert_int_eq(i, 1000);
    ck_assert_int_eq(js_int_or(&root, "big", 0, INT64_MAX, 1, &i, &err), ST_OK);
    ck_assert_int_eq(i, INT64_MAX);
    ck_assert_int_eq(js_int_or(&root, "nokey", 0, 9, -7, &i, &err), ST_OK);
    ck_assert_int_eq(i, -7);
    ck_assert_int_eq(js_int_or(&root, "none", 0, 9, 8, &i, &err), ST_OK);
    ck_assert_int_eq(i, 8);
    ck_assert_int_eq(js_num_or(&root, "half", 0, 9, 1, &x, &err), ST_OK);
    ck_assert_double_eq(x, 2.5);
    ck_assert_int_eq(js_num_or(&root, "nokey", 0, 9, 0.25, &x, &err), ST_OK);
    ck_assert_double_eq(x, 0.25);
    ck_assert_int_eq(js_bool_or(&root, "shuffle", true, &b, &err), ST_OK);
    ck_assert(!b);
    ck_assert_int_eq(js_bool_or(&root, "nokey", true, &b, &err), ST_OK);
    ck_assert(b);
    ck_assert_int_eq(js_str_or(&root, "name", "z", &s, &err), ST_OK);
    ck_assert_str_eq(s, "a\tb");
    ck_assert_int_eq(js_str_or(&root, "nokey", "z", &s, &err), ST_OK);
    ck_assert_str_eq(s, "z");
    ck_assert(js_has(&root, "lr") && !js_has(&root, "none") && !js_has(&root, "nokey"));
    ck_assert_int_eq(err.status, ST_OK);
}
END_TEST

START_TEST(json_wrong_scalars)
{
    int64_t i = 5;
    double x;
    bool b;
    const char *s;
    struct js lr, v;
    FAILS(js_int_or(&root, "steps", 1, 99, 1, &i, &err),
          "train.json: $.steps: found 100, expected an integer from 1 to 99");
    FAILS(js_int_or(&root, "steps", 101, INT64_MAX, 1, &i, &err),
          "train.json: $.steps: found 100, expected an integer >= 101");
    FAILS(js_int_or(&root, "steps", INT64_MIN, -1, 1, &i, &err),
          "train.json: $.steps: found 100, expected an integer <= -1");
    FAILS(js_int_or(&root, "half", INT64_MIN, INT64_MAX, 1, &i, &err),
          "train.json: $.half: found 2.5, expected an integer");
    ck_assert_int_eq(i, 5);
    FAILS(js_bool_or(&root, "steps", 1, &b, &err), "train.json: $.steps: found 100, expected true or false");
    FAILS(js_str_or(&root, "shuffle", "", &s, &err), "train.json: $.shuffle: found false, expected a string");
    ck_assert_int_eq(js_need(&root, "lr", &lr, &err), ST_OK);
    FAILS(js_num_or(&lr, "kind", 0, 1, 0, &x, &err),
          "train.json: $.lr.kind: found \"cosine\", expected a number from 0 to 1");
    FAILS(js_num_or(&lr, "peak", 1, INFINITY, 0, &x, &err),
          "train.json: $.lr.peak: found 0.0003, expected a number >= 1");
    FAILS(js_num(&lr, -INFINITY, INFINITY, &x, &err), "train.json: $.lr: found an object of 2 keys, expected a number");
    ck_assert_int_eq(js_need(&root, "odd key", &v, &err), ST_OK);
    FAILS(js_wrong(&v, &err, "%s", "no"), "train.json: $[\"odd key\"]: no");
    ck_assert_int_eq(js_need(&root, "name", &v, &err), ST_OK);
    FAILS(js_expected(&v, &err, "a %s", "tag"), "train.json: $.name: found \"a\\tb\", expected a tag");
}
END_TEST

START_TEST(json_members)
{
    struct js v, steps;
    uint32_t n;
    double x;
    ck_assert_int_eq(js_need(&root, "betas", &v, &err), ST_OK);
    ck_assert_int_eq(js_count(&v, &n, &err), ST_OK);
    ck_assert_uint_eq(n, 3);
    struct js b = js_at(&v, 1);
    ck_assert_int_eq(js_num(&b, 0, 1, &x, &err), ST_OK);
    b = js_at(&v, 2);
    FAILS(js_num(&b, 0, 1, &x, &err), "train.json: $.betas[2]: found \"x\", expected a number from 0 to 1");
    b = js_at(&v, 3);
    FAILS(js_num(&b, 0, 1, &x, &err), "train.json: $.betas[3]: found nothing, expected a number from 0 to 1");
    FAILS(js_count(&root, &n, &err), "train.json: $: found an object of 10 keys, expected a list");
    FAILS(js_need(&v, "x", &v, &err), "train.json: $.betas: found a list of 3, expected an object");
    FAILS(js_need(&root, "none", &v, &err), "train.json: $.none: found null, expected a value");
    ck_assert_int_eq(js_need(&root, "lr", &v, &err), ST_OK);
    FAILS(js_need(&v, "min", &steps, &err), "train.json: $.lr: missing key \"min\"; found \"peak\", \"kind\"");
    ck_assert_int_eq(js_opt(&root, "none", &steps, &err), ST_OK);
    ck_assert_ptr_null(steps.v);
    ck_assert_int_eq(js_opt(&root, "steps", &steps, &err), ST_OK);
    FAILS(js_opt(&steps, "x", &v, &err), "train.json: $.steps: found 100, expected an object");
}
END_TEST

START_TEST(json_unknown_keys)
{
    struct js lr;
    ck_assert_int_eq(js_need(&root, "lr", &lr, &err), ST_OK);
    ck_assert_int_eq(js_only(&lr, (const char *[]){ "kind", "min", "peak", NULL }, &err), ST_OK);
    FAILS(js_only(&lr, (const char *[]){ "kind", "peek", NULL }, &err),
          "train.json: $.lr: unknown key \"peak\"; did you mean \"peek\"?");
    FAILS(js_only(&lr, (const char *[]){ "kind", "warmup_steps", NULL }, &err),
          "train.json: $.lr: unknown key \"peak\", expected \"kind\" or \"warmup_steps\"");
    FAILS(js_only(&lr, (const char *[]){ NULL }, &err), "train.json: $.lr: unknown key \"peak\", expected no key");
    struct js kind;
    ck_assert_int_eq(js_need(&lr, "kind", &kind, &err), ST_OK);
    FAILS(js_only(&kind, (const char *[]){ NULL }, &err),
          "train.json: $.lr.kind: found \"cosine\", expected an object");
}
END_TEST

START_TEST(words_that_are_near)
{
    const char *const words[] = { "place", "replicate", "shard", "split", "order", "dp", NULL };
    ck_assert_str_eq(words_meant("plcae", words), "place");
    ck_assert_str_eq(words_meant("replicat", words), "replicate");
    ck_assert_str_eq(words_meant("Sharded", words), "shard");
    ck_assert_str_eq(words_meant("ordre", words), "order");
    ck_assert_str_eq(words_meant("DP", words), "dp");
    ck_assert_str_eq(words_meant("pd", words), "dp");
    ck_assert_ptr_null(words_meant("gather", words));
    ck_assert_ptr_null(words_meant("", words));
    ck_assert_ptr_null(words_meant("x", words));
    static char longer[200];
    memset(longer, 'a', sizeof longer - 1);
    ck_assert_ptr_null(words_meant(longer, words));
}
END_TEST

START_TEST(words_of_other_programs)
{
    static const char *const train[] = { "steps", "batch_size", "optimizer", "lr", "dtype", "trace_steps", NULL };
    static const char *const lr[] = { "kind", "peak", "warmup_steps", NULL };
    static const char *const types[] = { "float32", "bfloat16", NULL };
    static const char *const says[] = { "prompt", "max-tokens", "temperature", NULL };
    static const char *const replicate[] = { "zero", "zero_group", "zero_optimizer", NULL };
    static const struct {
        const char *typed;
        const char *const *words;
        const char *hint;
    } rows[] = {
        { "max_steps", train, "; did you mean \"steps\"?" }, /* not the nearer trace_steps */
        { "--MAX-STEPS", train, "" },
        { "Max-Steps", train, "; did you mean \"steps\"?" },
        { "weight_decay", train, "; did you mean \"optimizer.weight_decay\"?" },
        { "learning_rate", train, "; did you mean \"lr\"?" },
        { "learning_rate", lr, "; did you mean \"peak\"?" },
        { "warmup", lr, "; did you mean \"warmup_steps\"?" },
        { "bf16", types, "; did you mean \"bfloat16\"?" },
        { "bf16", train, "; did you mean \"dtype\"?" },
        { "zero_stage", train, "; the strategy has it: \"zero\" of layout or of replicate" },
        { "max_new_tokens", says, "; did you mean \"max-tokens\"?" },
        { "zero_hpz_partition_size", replicate, "; did you mean \"zero_group\"?" },
        { "hybrid_shard", replicate, "; did you mean \"zero_group\"?" },
        { "data_parallel_shard_degree", replicate, "; did you mean \"zero\"?" },
        { "mics_shard_size", train, "; the strategy has it: \"zero_group\" of layout or of replicate" },
        { "batchsize", train, "; did you mean \"batch_size\"?" },
        { "xyzzy", train, "" },
    };
    char text[WORDS_HINT];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_str_eq(words_hint(rows[i].typed, rows[i].words, text), rows[i].hint);
    ck_assert_str_eq(words_list(lr, text, sizeof text), "\"kind\", \"peak\" or \"warmup_steps\"");
    ck_assert_str_eq(words_list(lr, text, 12), "\"kind\", ...");
}
END_TEST

START_TEST(json_long_paths)
{
    char text[800] = "";
    for (int i = 0; i < 12; i++)
        strcat(text, "{\"a_key_of_twenty_chars\":");
    strcat(text, "7");
    for (int i = 0; i < 12; i++)
        strcat(text, "}");
    json_t *d;
    ck_assert_int_eq(js_load_text(text, "f", &d, &err), ST_OK);
    struct js v = js_root(d, "f");
    for (int i = 0; i < 12; i++)
        ck_assert_int_eq(js_need(&v, "a_key_of_twenty_chars", &v, &err), ST_OK);
    ck_assert_uint_eq(strlen(v.path), sizeof v.path - 1);
    ck_assert_str_eq(v.path + strlen(v.path) - 3, "...");
    int64_t i;
    ck_assert_int_eq(js_int(&v, 7, 7, &i, &err), ST_OK);
    json_decref(d);

    char quoted[300] = "[\"";
    memset(quoted + 2, 'q', 200);
    strcat(quoted, "\"]");
    ck_assert_int_eq(js_load_text(quoted, "f", &d, &err), ST_OK);
    v = js_root(d, "f");
    v = js_at(&v, 0);
    ck_assert_int_eq(js_int(&v, 7, 7, &i, &err), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "qqq...\", expected"));
    ck_assert_uint_lt(strlen(err.text), 160);
    json_decref(d);
}
END_TEST

START_TEST(json_bad_text)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        { "", "f.json: line 1, column 0: invalid JSON: " },
        { "{\"a\": 1,\n \"b\" 2}", "f.json: line 2, column 6: invalid JSON: " },
        { "{\"a\": 1, \"a\": 2}", "duplicate" },
        { "{} x", "f.json: line 1, column 4: " },
        { "{\"a\": 123456789012345678901234567890}", "too big" },
        { "[1, \xff]", "f.json: line 1" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *d = NULL;
        ck_assert_int_eq(js_load_text(bad[i].text, "f.json", &d, &err), ST_INPUT);
        ck_assert_msg(strstr(err.text, bad[i].message), "%s", err.text);
        ck_assert_ptr_null(d);
        err_clear(&err);
    }
}
END_TEST

START_TEST(json_files)
{
    json_t *d;
    ck_assert_int_eq(js_load_file("/nonexistent/a.json", &d, &err), ST_MISSING);
    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/a.json: cannot be opened: "));
    err_clear(&err);
    ck_assert_int_eq(js_load_file("/", &d, &err), ST_MISSING);
    ck_assert_ptr_nonnull(strstr(err.text, "/: cannot be read: "));
    err_clear(&err);

    char name[] = "/tmp/piper-test-XXXXXX";
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    FILE *f = fdopen(fd, "w");
    fputs("[", f);
    for (int i = 0; i < 50000; i++)
        fprintf(f, "%d,", i);
    fputs("-1]\n", f);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(js_load_file(name, &d, &err), ST_OK);
    struct js a = js_root(d, name);
    uint32_t n;
    ck_assert_int_eq(js_count(&a, &n, &err), ST_OK);
    ck_assert_uint_eq(n, 50001);
    json_decref(d);

    ck_assert_ptr_nonnull(freopen(name, "r", stdin));
    ck_assert_int_eq(js_load_file("-", &d, &err), ST_OK);
    a = js_root(d, "-");
    FAILS(js_expected(&a, &err, "an object"), "standard input: $: found a list of 50001, expected an object");
    json_decref(d);
    unlink(name);
}
END_TEST

/* ---- numbers in text ------------------------------------------------------------------------------------------ */

START_TEST(parse_numbers)
{
    static const char *const none[] = { "",
                                        " ",
                                        "-1",
                                        "+1",
                                        "0x1",
                                        "1e3",
                                        "1.5",
                                        " 1",
                                        "1 ",
                                        "1\n",
                                        "12a",
                                        "x",
                                        "١",
                                        "1,2",
                                        "1_0",
                                        "18446744073709551616",
                                        "99999999999999999999999999" };
    uint64_t x = 7;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        ck_assert_msg(!parse_number(none[i], &x) && x == 7, "\"%s\"", none[i]);
    ck_assert(parse_number("0", &x) && x == 0);
    ck_assert(parse_number("007", &x) && x == 7);
    ck_assert(parse_number("18446744073709551615", &x) && x == UINT64_MAX);
}
END_TEST

START_TEST(parse_environments)
{
    static const char *const wrong[] = { "0",  "1025", "1000000", "99999999999999999999999999999", "-4", "four",
                                         " 4", "4x",   ",4" };
    struct err e = { 0 };
    uint64_t x = 9;
    unsetenv("PIPER_TEST_N");
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e) == ST_OK && x == 9);
    setenv("PIPER_TEST_N", "", 1);
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e) == ST_OK && x == 9);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("PIPER_TEST_N", wrong[i], 1);
        err_clear(&e);
        ck_assert_int_eq(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e), ST_USAGE);
        ck_assert(x == 9 && strstr(e.text, "PIPER_TEST_N: found \"") && strstr(e.text, wrong[i]) &&
                  strstr(e.text, "from 1 to 1024"));
    }
    setenv("PIPER_TEST_N", "1024", 1);
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e) == ST_OK && x == 1024);
    setenv("PIPER_TEST_N", "4,2", 1);
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, NULL) == ST_OK && x == 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *status = tcase_create("status"), *mem = tcase_create("mem"), *json = tcase_create("json"),
          *parse = tcase_create("parse");
    tcase_add_test(status, library_is_loaded);
    tcase_add_test(status, library_that_is_missing_or_old);
    tcase_add_test(status, err_first_cause_stays);
    tcase_add_test(status, err_long_text_is_cut);
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
    tcase_add_checked_fixture(json, load_sample, drop_sample);
    tcase_add_test(mem, ratios);
    tcase_add_test(json, json_scalars);
    tcase_add_test(json, json_wrong_scalars);
    tcase_add_test(json, json_members);
    tcase_add_test(json, json_unknown_keys);
    tcase_add_test(json, words_that_are_near);
    tcase_add_test(json, words_of_other_programs);
    tcase_add_test(json, json_long_paths);
    tcase_add_test(json, json_bad_text);
    tcase_add_test(json, json_files);
    tcase_add_test(parse, parse_numbers);
    tcase_add_test(parse, parse_environments);
    suite_add_tcase(s, status);
    suite_add_tcase(s, parse);
    suite_add_tcase(s, mem);
    suite_add_tcase(s, json);

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
