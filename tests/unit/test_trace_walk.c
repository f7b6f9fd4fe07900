/* Traces for viewers: tracks, launches, steps, and what names and tags say. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "view/text_table.h"
#include "view/trace_summary.h"
#include "view/trace_walk.h"
#include "view/trace_words.h"
#include "tests/unit/suite.h"

enum { MOST = 8 };
/* A segment of two ranks, each with the streams "main" and "side". */
struct segment {
    struct trace_event events[MOST];
    double met[MOST];
    uint32_t match[MOST];
};
static const char *hosts[] = { "h" }, *streams[] = { "main", "side" };
static struct trace_rank ranks[2] = { { .device = "cpu" }, { .device = "cpu" } };
static struct trace_location locations[4] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } };
static struct trace_instruction instruction = { "F layers.1 mb3", "PP=1 MB=3 PASS=F", 0, 0, -1 };
static const struct run_metrics no_metrics;

static struct trace_view view(struct segment *s, double zero, int64_t written)
{
    return (struct trace_view){ .t = { .hosts = hosts,
                                       .streams = streams,
                                       .ranks = ranks,
                                       .locations = locations,
                                       .instructions = &instruction,
                                       .events = s->events,
                                       .n_hosts = 1,
                                       .n_streams = 2,
                                       .n_ranks = 2,
                                       .n_locations = 4,
                                       .n_instructions = 1,
                                       .zero = zero,
                                       .written = written },
                                .met = s->met,
                                .match = s->match };
}

static void event(struct trace_view *v, uint32_t location, uint64_t step, double t, double dur)
{
    v->met[v->t.n_events] = t;
    v->t.events[v->t.n_events++] =
        (struct trace_event){ .t = t, .dur = dur, .step = step, .location = location, .group = -1, .peer = -1 };
}

static void check_slice(const struct trace_walk *w, uint32_t track, uint32_t i, int64_t begin, int64_t end)
{
    ck_assert_uint_lt(i, w->tracks.at[track].n);
    const struct trace_slice *s = &w->slices.at[w->tracks.at[track].first + i];
    ck_assert_int_eq(s->begin, begin);
    ck_assert_int_eq(s->end, end);
}

START_TEST(tracks)
{
    struct segment s = { 0 };
    struct trace_view v = view(&s, 5, 1000);
    struct trace_walk w;
    char name[TRACE_TRACK_NAME];
    event(&v, 3, 1, 2e-3, 5e-3);        /* 2-7 ms */
    event(&v, 3, 1, 3e-3, 1e-3);        /* within it */
    event(&v, 3, 1, 7e-3 - 4e-7, 1e-3); /* begins where the first ends, but for what clocks differ */
    event(&v, 2, 1, 1e-3, 0);
    event(&v, 1, 1, -1e-3, 1e-3); /* of rank 0, before the start of the trace */
    trace_walk_make(&v, 1, &no_metrics, &w);
    ck_assert_uint_eq(w.tracks.n, 4); /* no track without a slice */
    ck_assert_uint_eq(w.tracks.at[0].rank, 0);
    ck_assert_str_eq(w.tracks.at[0].stream, "side");
    ck_assert_str_eq(w.tracks.at[1].stream, "main");
    trace_track_name(&w.tracks.at[2], name);
    ck_assert_str_eq(name, "side");
    trace_track_name(&w.tracks.at[3], name);
    ck_assert_str_eq(name, "side (2)");
    check_slice(&w, 0, 0, -1000000, 0);
    check_slice(&w, 1, 0, 1000000, 1000000);
    check_slice(&w, 2, 0, 2000000, 7000000);
    check_slice(&w, 2, 1, 7000000, 7999600);
    check_slice(&w, 3, 0, 3000000, 4000000);
    ck_assert_int_eq(w.begin, -1000000);
    ck_assert_int_eq(w.end, 7999600);
    ck_assert_int_eq(w.epoch, 1000 * INT64_C(1000000000) - w.end);
    trace_walk_release(&w);
}
END_TEST

START_TEST(moments)
{
    struct segment s = { 0 };
    struct trace_view v = view(&s, 5, -1);
    struct trace_walk w;
    event(&v, 0, 1, 10e-3 - 1e-9, 1e-3); /* the last */
    event(&v, 0, 1, 10e-3 - 2e-9, 0);
    event(&v, 0, 1, 0, 10e-3);
    trace_walk_make(&v, 1, &no_metrics, &w);
    ck_assert_uint_eq(w.tracks.n, 1);
    check_slice(&w, 0, 0, 0, 10000000);
    check_slice(&w, 0, 1, 10000000, 10000000);
    check_slice(&w, 0, 2, 10000000, 10999999);
    trace_walk_release(&w);
}
END_TEST

START_TEST(launches)
{
    struct segment s[4] = { 0 };
    struct trace_view v[4] = { view(&s[0], 5, 1000), view(&s[1], 5, 1060), view(&s[2], 3, 2000), view(&s[3], 4, -1) };
    struct trace_walk w;
    event(&v[0], 0, 1, 0, 1);
    event(&v[1], 0, 2, 60, 1); /* the same launch: its clock goes on */
    event(&v[2], 0, 2, 0, 2);  /* its last event ended 1,000 s after that of the first segment */
    event(&v[3], 0, 3, -1, 1); /* when is not known: at once */
    trace_walk_make(v, 4, &no_metrics, &w);
    const int64_t second = 1000000000;
    ck_assert_uint_eq(w.tracks.n, 1);
    check_slice(&w, 0, 0, 0, second);
    check_slice(&w, 0, 1, 60 * second, 61 * second);
    check_slice(&w, 0, 2, 999 * second, 1001 * second);
    check_slice(&w, 0, 3, 1001 * second, 1002 * second);
    ck_assert_uint_eq(w.steps.n, 4); /* step 2 was done twice */
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_uint_eq(w.steps.at[i].launch, i < 2 ? 0 : i - 1);
    trace_walk_release(&w);
    /* Clocks that say that the second launch was before the first one's end. */
    v[2].t.written = 1001;
    trace_walk_make(v, 3, &no_metrics, &w);
    check_slice(&w, 0, 2, 61 * second, 63 * second);
    trace_walk_release(&w);
}
END_TEST

START_TEST(steps)
{
    struct segment s = { 0 };
    struct trace_view v = view(&s, 5, -1);
    struct trace_walk w;
    event(&v, 0, 1, 0, 1);
    event(&v, 2, 2, 2, 1);
    event(&v, 2, 1, 0.5, 1);
    event(&v, 0, 2, 1.25, 1); /* rank 0 begins step 2 while rank 1 is in step 1 */
    trace_walk_make(&v, 1, &no_metrics, &w);
    ck_assert_uint_eq(w.steps.n, 2);
    ck_assert_int_eq(w.steps.at[0].begin, 0);
    ck_assert_int_eq(w.steps.at[0].end, 1250000000);
    ck_assert_int_eq(w.steps.at[1].begin, 1250000000);
    ck_assert_int_eq(w.steps.at[1].end, 3000000000);
    ck_assert(isnan(w.steps.at[0].counters[0]));
    ck_assert_int_eq(w.epoch, -1);
    trace_walk_release(&w);
    trace_walk_make(NULL, 0, &no_metrics, &w);
    ck_assert_uint_eq(w.tracks.n + w.steps.n, 0);
    trace_walk_release(&w);
}
END_TEST

START_TEST(damaged)
{
    struct segment s = { 0 };
    struct trace_view v = view(&s, 5, INT64_MAX);
    struct trace_walk w;
    event(&v, 0, 1, -1e300, 1e300);
    event(&v, 0, 1, 1e300, 1e300);
    trace_walk_make(&v, 1, &no_metrics, &w);
    ck_assert_int_le(w.begin, w.end);
    ck_assert_int_eq(w.epoch, -1);
    trace_walk_release(&w);
}
END_TEST

START_TEST(words)
{
    static const struct {
        const char *name;
        enum trace_kind kind;
        size_t length;
    } names[] = { { "F layers.1 mb3", TRACE_F, 10 },
                  { "BI layers.1", TRACE_BI, 11 },
                  { "Foo", TRACE_OTHER, 3 },
                  { "receive B x mb12", TRACE_RECEIVE, 11 },
                  { "all-reduce scalars", TRACE_ALL_REDUCE, 18 },
                  { "norm of bucket 3", TRACE_UPDATE, 16 },
                  { "", TRACE_OTHER, 0 } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_assert_int_eq(trace_kind_of(names[i].name), names[i].kind);
        ck_assert_uint_eq(trace_name_length(names[i].name), names[i].length);
    }
    ck_assert_uint_eq(trace_tag("EPP=7 PP=1 MB=3 PASS=F", "PP"), 1);
    ck_assert_uint_eq(trace_tag("EPP=7", "PP"), UINT32_MAX);
    ck_assert_uint_eq(trace_tag("", "PP"), UINT32_MAX);
    ck_assert_uint_eq(trace_tag("  word PP= MB=3", "MB"), 3);
}
END_TEST

START_TEST(texts)
{
    struct text_table t = { 0 };
    char text[16];
    for (int again = 0; again < 2; again++)
        for (uint32_t i = 0; i < 1000; i++) {
            snprintf(text, sizeof text, "%u", i);
            ck_assert_uint_eq(text_table_number(&t, text, strlen(text)), i);
        }
    ck_assert_uint_eq(text_table_number(&t, "1234", 2), 12);
    ck_assert_uint_eq(text_table_number(&t, "", 0), 1000);
    ck_assert_str_eq(t.at[999], "999");
    text_table_release(&t);
}
END_TEST

/* What missed its prediction by most, all its times together, comes first, however long it takes. */
START_TEST(misses)
{
    struct trace_instruction in[3] = { instruction, instruction, instruction };
    struct segment s = { 0 };
    struct trace_view v = view(&s, 5, 1000);
    char *text = NULL;
    size_t size;
    in[0].name = "long";
    in[1].name = "near";
    in[2].name = "far";
    in[0].predicted = 0.100f;
    in[1].predicted = 0.010f;
    in[2].predicted = 0.001f;
    v.t.instructions = in;
    v.t.n_instructions = 3;
    for (uint32_t i = 0; i < 5; i++) { /* off by 1, by 2 x 2 and by 2 x 3 ms */
        event(&v, 0, 1, 0.2 * i, i == 0 ? 0.101 : i < 3 ? 0.012 : 0.004);
        s.events[i].instruction = i == 0 ? 0 : i < 3 ? 1 : 2;
    }
    FILE *to = open_memstream(&text, &size);
    trace_summary(&v, 1, to);
    fclose(to);
    const char *list = strstr(text, "largest prediction errors");
    ck_assert_msg(list != NULL, "%s", text);
    const char *far = strstr(list, "  far"), *near = strstr(list, "  near"), *most = strstr(list, "  long");
    ck_assert_msg(far && near && most && far < near && near < most, "%s", list);
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("trace_walk");
    TCase *tc = tcase_create("trace_walk");
    tcase_add_test(tc, tracks);
    tcase_add_test(tc, moments);
    tcase_add_test(tc, launches);
    tcase_add_test(tc, misses);
    tcase_add_test(tc, steps);
    tcase_add_test(tc, damaged);
    tcase_add_test(tc, words);
    tcase_add_test(tc, texts);
    suite_add_tcase(s, tc);
    return suite_run(s);
}
