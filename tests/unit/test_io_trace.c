/* Traces of one rank: what is recorded is read, and damage is refused. Several ranks: tests/mpi/test_checkpoint.c. */
#include "io/trace.h"

#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "tests/unit/io_sample.h"
#include "tests/unit/suite.h"

static struct err e;
static const char *folder;
static struct dir run;
static double clock_now;

static double fake_clock(void)
{
    return clock_now += 0.5;
}

static void begin(void)
{
    folder = sample_folder();
    clock_now = 1000;
    err_clear(&e);
    ASSERT_OK(dir_open(folder, &run, &e));
}

static void end(void)
{
    dir_close(&run);
    sample_folder_remove(folder);
}

static const char *const streams[] = { "default_stream", "pp_stream" };
static const struct trace_instruction instructions[] = { { "F 0.0 mb 0", "PP=0 MB=0 PASS=F", 0, 1e-3, 0.5 },
                                                         { "send 0-1", "", 1, 0, -1 } };
static const struct trace_group groups[] = { { 7, 4, "dp" }, { 9, 2, "ep" } };

static struct trace_setup setup(void)
{
    return (struct trace_setup){ .dir = &run,
                                 .device = "cpu",
                                 .now = fake_clock,
                                 .streams = streams,
                                 .instructions = instructions,
                                 .groups = groups,
                                 .n_streams = 2,
                                 .n_instructions = 2,
                                 .n_groups = 2,
                                 .max_events = 3 };
}

static void record(struct trace_writer *w, int n)
{
    for (int i = 0; i < n; i++)
        trace_add(w, &(struct trace_event){ .t = 1002 + i,
                                            .dur = 0.25,
                                            .step = 4,
                                            .bytes = 100u + (unsigned)i,
                                            .location = i % 2,
                                            .instruction = i % 2,
                                            .group = i % 2 ? 9 : -1,
                                            .seq = 5,
                                            .peer = i % 2 ? 0 : -1 });
}

START_TEST(round_trip)
{
    struct trace_setup s = setup();
    struct trace_writer w;
    struct trace t;
    ASSERT_OK(trace_open(&s, &w, &e));
    ASSERT_OK(trace_flush(&w, &e)); /* nothing to write */
    ck_assert_uint_eq(trace_count(&run), 0);
    record(&w, 5); /* two more than there is room for */
    uint64_t calls = mem_stats().calls;
    trace_add(&w, &(struct trace_event){ 0 });
    ck_assert_uint_eq(mem_stats().calls, calls);
    ASSERT_OK(trace_flush(&w, &e));
    record(&w, 1);
    ASSERT_OK(trace_close(&w, &e));
    ck_assert_uint_eq(trace_count(&run), 2);
    ASSERT_OK(trace_read_segment(&run, 0, &t, &e));
    ck_assert_uint_eq(t.n_events, 3);
    ck_assert_uint_eq(t.n_ranks, 1);
    ck_assert_uint_eq(t.ranks[0].dropped, 3);
    ck_assert_str_eq(t.ranks[0].device, "cpu");
    ck_assert_uint_eq(t.n_groups, 2);
    ck_assert_uint_eq(t.groups[1].id, 9);
    ck_assert_str_eq(t.groups[0].name, "dp");
    const struct trace_event *v = &t.events[1];
    ck_assert_double_eq_tol(v->t, 1003 - 1000.5, 1e-9); /* the clock read 1000.5 when the trace was opened */
    ck_assert_double_eq_tol(v->dur, 0.25, 1e-12);
    ck_assert_uint_eq(v->step, 4);
    ck_assert_uint_eq(v->bytes, 101);
    ck_assert_int_eq(v->group, 9);
    ck_assert_int_eq(v->peer, 0);
    ck_assert_int_eq(t.events[0].group, -1);
    ck_assert_str_eq(t.instructions[v->instruction].name, "send 0-1");
    ck_assert_str_eq(t.instructions[0].tags, "PP=0 MB=0 PASS=F");
    ck_assert_double_eq(t.instructions[0].predicted, 1e-3);
    ck_assert_double_eq(t.instructions[0].predicted_start, 0.5);
    ck_assert_double_eq(t.instructions[1].predicted_start, -1);
    ck_assert_str_eq(t.streams[t.locations[v->location].stream], "pp_stream");
    ck_assert_str_eq(t.streams[t.instructions[v->instruction].stream], "pp_stream");
    trace_release(&t);
    ASSERT_OK(trace_open(&s, &w, &e)); /* a second run numbers on */
    record(&w, 2);
    ASSERT_OK(trace_close(&w, &e));
    ck_assert_uint_eq(trace_count(&run), 3);
}
END_TEST

START_TEST(failures)
{
    struct trace_setup s = setup();
    struct trace_writer w;
    struct trace t;
    char missing[300];
    snprintf(missing, sizeof missing, "%s/none", folder);
    ck_assert_int_eq(mkdir(missing, 0777), 0);
    struct dir gone;
    ASSERT_OK(dir_open(missing, &gone, &e));
    ck_assert_int_eq(rmdir(missing), 0);
    s.dir = &gone;
    ASSERT_OK(trace_open(&s, &w, &e));
    record(&w, 1);
    ASSERT_FAILS(trace_close(&w, &e), ST_IO, "No such file");
    ck_assert_uint_eq(trace_count(&gone), 0);
    dir_close(&gone);
    ASSERT_FAILS(trace_read(missing, &t, &e), ST_MISSING, "No such file");
}
END_TEST

START_TEST(damage)
{
    struct trace_setup s = setup();
    struct trace_writer w;
    void *data;
    uint64_t n;
    ASSERT_OK(trace_open(&s, &w, &e));
    record(&w, 3);
    ASSERT_OK(trace_close(&w, &e));
    char path[300];
    snprintf(path, sizeof path, "%s/trace.0000.h5", folder);
    ASSERT_OK(file_read_all(path, 1 << 24, &data, &n, &e));
    uint8_t *b = data;
    uint64_t step = getenv("IO_FLIP_STEP") ? strtoull(getenv("IO_FLIP_STEP"), NULL, 10) : 41, refused = 0;
    for (uint64_t i = 0; i < n; i += step) { /* no crash; numbers out of range are refused */
        struct trace t;
        b[i] ^= 0xff;
        sample_write_file(path, b, n);
        b[i] ^= 0xff;
        err_clear(&e);
        if (trace_read(path, &t, &e) == ST_OK) {
            for (uint64_t k = 0; k < t.n_events; k++)
                ck_assert(t.events[k].location < t.n_locations && t.events[k].instruction < t.n_instructions);
            trace_release(&t);
        } else {
            refused++;
        }
    }
    ck_assert_uint_gt(refused, 10);
    for (uint64_t i = 0; i < n; i += n / 50) {
        struct trace t;
        sample_write_file(path, b, i);
        ASSERT_FAILS(trace_read(path, &t, &e), ST_INPUT, "trace.0000.h5");
    }
    mem_free(data);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("io_trace");
    TCase *t = tcase_create("trace");
    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, failures);
    tcase_add_test(t, damage);
    suite_add_tcase(s, t);
    return suite_run(s);
}
