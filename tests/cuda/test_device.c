/* The device layer against the fake runtime: what is captured, in which order, and what is refused. */
#include <check.h>
#include <stdlib.h>

#include "cuda/cuda.h"
#include "exec/device_ops.h"
#include "tests/cuda/fake/fake.h"
#include "tests/unit/suite.h"

static const struct device_ops *const ops = &cuda_device;
static const int32_t priority[] = { 0, 1, 0 };
static const struct device_setup setup = { .n_streams = 3, .priority = priority, .n_events = 4, .n_stamps = 2 };
static struct err e;

static void begin(void)
{
    fake_counts = (struct fake_counts){ 0 };
    ck_assert_int_eq(ops->open(&setup, &e), ST_OK);
}

/* Adds *from to *to, so that the order shows. */
struct addition {
    double *to;
    const double *from;
};
static void run_addition(const void *arg)
{
    const struct addition *a = arg;
    *a->to = 2 * *a->to + *a->from;
}
static void add(double *to, const double *from, uint32_t stream)
{
    struct addition a = { to, from };
    fake_launch(run_addition, &a, sizeof a, ops->stream(stream));
}

/* Stream 0, then 1 and 2 side by side, then 0 again: x = 1, y and z from x, x from both. */
static void diamond(double *v, const double *one)
{
    add(&v[0], one, 0);
    ops->record(0, ops->stream(0));
    ops->wait(ops->stream(1), 0);
    ops->wait(ops->stream(2), 0);
    add(&v[1], &v[0], 1);
    add(&v[2], &v[0], 2);
    ops->record(1, ops->stream(1));
    ops->record(2, ops->stream(2));
    ops->wait(ops->stream(0), 1);
    ops->wait(ops->stream(0), 2);
    add(&v[0], &v[1], 0);
    add(&v[0], &v[2], 0);
}

static const double one = 1;

START_TEST(memory_is_zero_and_comes_back)
{
    begin();
    uint64_t before = ops->memory().free;
    unsigned char *p = ops->alloc(1000), *q = ops->host_alloc(1000);
    ops->synchronize();
    ck_assert_uint_eq(before - ops->memory().free, 1000);
    for (int i = 0; i < 1000; i++)
        ck_assert(p[i] == 0 && q[i] == 0);
    ck_assert_ptr_null(ops->alloc(UINT64_C(1) << 50));
    ck_assert_ptr_null(ops->error());
    ops->release(p);
    ops->host_release(q);
    ck_assert_uint_eq(ops->memory().free, before);
    ops->close();
}
END_TEST

START_TEST(events_order_streams)
{
    double v[3] = { 0 };
    begin();
    diamond(v, &one);
    ck_assert_double_eq(v[0], 0); /* nothing runs until it is waited for */
    ops->synchronize();
    ck_assert_double_eq(v[0], 7); /* 1, then 2*1 + 1, then 2*3 + 1 */
    ck_assert_ptr_null(ops->error());
    ops->close();
}
END_TEST

START_TEST(a_graph_runs_again_and_again)
{
    double v[3] = { 0 };
    begin();
    ops->capture_begin(ops->stream(0));
    diamond(v, &one);
    ops->stamp(0, ops->stream(0));
    void *graph = ops->capture_end(ops->stream(0));
    ck_assert_ptr_null(ops->error());
    ck_assert_ptr_nonnull(graph);
    ops->synchronize();
    ck_assert_double_eq(v[0], 0);
    ck_assert_uint_eq(fake_counts.kernels_captured, 5);
    ck_assert_uint_eq(fake_counts.nodes, 5 + 4 + 1); /* kernels, waits, the stamp */
    ck_assert_uint_eq(fake_counts.with_priorities, fake_counts.graphs);
    ops->clock_zero(ops->stream(0));
    ops->graph_launch(graph, ops->stream(0));
    ops->graph_launch(graph, ops->stream(0));
    ops->synchronize();
    ck_assert_double_eq(v[1], 2 * 1 + 15); /* x is 1, then 2*7 + 1 */
    ck_assert_double_eq(v[0], 2 * (2 * 15 + v[1]) + v[2]);
    ck_assert(ops->clock_read(0) >= 0);
    ops->graph_release(graph);
    ops->close();
}
END_TEST

START_TEST(a_graph_waits_for_what_was_recorded_before_its_launch)
{
    double copy = 0, v = 1, out = 0;
    setenv("FAKE_CUDA_SEED", "0", 1); /* the newest first: whoever need not wait does not */
    begin();
    ops->capture_begin(ops->stream(0));
    ops->wait_outside(ops->stream(0), 0);
    add(&v, &one, 0);
    void *graph = ops->capture_end(ops->stream(0));
    for (int i = 0; i < 2; i++) {
        add(&copy, &v, 2);
        ops->record(0, ops->stream(2));
        ops->graph_launch(graph, ops->stream(0));
        ops->wait_outside(ops->stream(1), 0);
        add(&out, &copy, 1);
        ck_assert_ptr_null(ops->await(0));
        ck_assert_double_eq(copy, i ? 2 * 1 + 3 : 1);
        ops->synchronize();
    }
    ck_assert_double_eq(v, 7);
    ck_assert_double_eq(out, 2 * 1 + 5);
    ck_assert_ptr_null(ops->error());
    ops->graph_release(graph);
    ops->close();
}
END_TEST

START_TEST(a_stream_that_is_not_joined_is_refused)
{
    double v[3] = { 0 };
    begin();
    ops->capture_begin(ops->stream(0));
    ops->record(0, ops->stream(0));
    ops->wait(ops->stream(1), 0);
    add(&v[0], &one, 1);
    ck_assert_ptr_null(ops->capture_end(ops->stream(0)));
    ck_assert_ptr_nonnull(strstr(ops->error(), "904"));
    ops->close();
}
END_TEST

START_TEST(an_event_of_outside_is_refused)
{
    begin();
    ops->record(0, ops->stream(1));
    ops->capture_begin(ops->stream(0));
    ops->wait(ops->stream(0), 0);
    ck_assert_ptr_nonnull(strstr(ops->error(), "905"));
    ops->graph_release(ops->capture_end(ops->stream(0)));
    ops->close();
}
END_TEST

START_TEST(waiting_for_the_device_is_refused_in_a_capture)
{
    begin();
    ops->capture_begin(ops->stream(0));
    ops->synchronize();
    ck_assert_ptr_nonnull(strstr(ops->error(), "900"));
    ops->graph_release(ops->capture_end(ops->stream(0)));
    ops->close();
}
END_TEST

START_TEST(words_are_marked_and_waited_for)
{
    double v[2] = { 0 };
    begin();
    uint32_t *word = ops->host_alloc(2 * sizeof *word);
    struct step_inputs *inputs = ops->host_alloc(sizeof *inputs);
    inputs->epoch = 7;
    ck_assert(ops->can_wait_word());
    add(&v[0], &one, 0);
    ops->mark(&word[0], inputs, ops->stream(0));
    ops->wait_word(&word[0], 7, ops->stream(1));
    add(&v[1], &v[0], 1);
    ops->synchronize();
    ck_assert_uint_eq(word[0], 7);
    ck_assert_double_eq(v[1], 1);
    ops->host_release(word);
    ops->host_release(inputs);
    ops->close();
}
END_TEST

/* A stream that waits for a word would hold up the work of another one. */
START_TEST(streams_that_share_a_queue_wait_for_no_words)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "2", 1);
    begin();
    ck_assert(!ops->can_wait_word());
    ck_assert_ptr_null(ops->error());
    ops->close();
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "3", 1);
    begin();
    ck_assert(ops->can_wait_word());
    ops->close();
}
END_TEST

START_TEST(words_that_cannot_be_waited_for)
{
    setenv("FAKE_CUDA_NO_WAIT_VALUE", "2", 1);
    begin();
    ck_assert(!ops->can_wait_word());
    ck_assert_ptr_null(ops->error());
    ops->close();
}
END_TEST

START_TEST(no_device_is_a_sentence)
{
    struct device_found found;
    setenv("FAKE_CUDA_DEVICES", "-1", 1);
    ck_assert_int_eq(ops->find(0, &found, &e), ST_DEVICE);
    ck_assert_ptr_nonnull(strstr(e.text, "no NVIDIA driver"));
    err_clear(&e);
    setenv("FAKE_CUDA_DEVICES", "2", 1);
    struct device_found other;
    ck_assert_int_eq(ops->find(0, &found, &e), ST_OK);
    ck_assert_int_eq(ops->find(1, &other, &e), ST_OK);
    ck_assert(found.id != other.id);
    ck_assert_int_eq(ops->find(2, &other, &e), ST_OK); /* the third rank of a machine with two */
    ck_assert(found.id == other.id);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("device");
    tcase_add_test(t, memory_is_zero_and_comes_back);
    tcase_add_test(t, events_order_streams);
    tcase_add_test(t, a_graph_runs_again_and_again);
    tcase_add_test(t, a_graph_waits_for_what_was_recorded_before_its_launch);
    tcase_add_test(t, a_stream_that_is_not_joined_is_refused);
    tcase_add_test(t, an_event_of_outside_is_refused);
    tcase_add_test(t, waiting_for_the_device_is_refused_in_a_capture);
    tcase_add_test(t, words_are_marked_and_waited_for);
    tcase_add_test(t, streams_that_share_a_queue_wait_for_no_words);
    tcase_add_test(t, words_that_cannot_be_waited_for);
    tcase_add_test(t, no_device_is_a_sentence);
    Suite *s = suite_create("device");
    suite_add_tcase(s, t);
    return suite_run(s);
}
