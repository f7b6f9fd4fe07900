/* Who is the culprit (src/watch/verdict.c), on tables made by hand. */
#include <check.h>
#include <stdlib.h>

#include "watch/private.h"
#include "tests/unit/suite.h"

enum { RANKS = 4 };

static struct liveness_peer peers[RANKS] = { { "n0", 10 }, { "n0", 11 }, { "n1", 12 }, { "n1", 13 } };
static struct watch_answer answers[RANKS];
static struct watch_table table;

/* All ranks have answered and are outside of steps. */
static void setup(void)
{
    memset(answers, 0, sizeof answers);
    table = (struct watch_table){ .ranks = RANKS, .peers = peers, .at = answers, .timeout = 5 };
    for (uint32_t r = 0; r < RANKS; r++) {
        answers[r].answered = true;
        answers[r].report.state = 'S';
        strcpy(answers[r].report.phase, "checkpoint");
    }
}

static struct watch_task *task(uint32_t rank, const char *name, float seconds)
{
    struct watch_report *r = &answers[rank].report;
    struct watch_task *k = &r->tasks[r->n_tasks++];
    r->place.inside = true;
    r->place.epoch = 7;
    r->seconds = seconds;
    *k = (struct watch_task){ .task = { .peer = -1, .from = -1 }, .seconds = seconds };
    strcpy(k->name, name);
    return k;
}

static void works(uint32_t rank, const char *name, float seconds, bool overdue)
{
    task(rank, name, seconds)->task.host = 1;
    answers[rank].report.overdue = overdue;
    answers[rank].report.state = 'R';
}

static void receives(uint32_t rank, uint32_t from, float seconds)
{
    task(rank, "receive F x mb5", seconds)->task.peer = (int32_t)from;
}

static void reduces(uint32_t rank, uint32_t start, uint32_t stride, uint32_t size)
{
    struct exec_task *k = &task(rank, "all-reduce bucket 1", 6)->task;
    k->node = 33;
    k->group_size = size;
    k->start = start;
    k->stride = stride;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static struct watch_verdict judge(void)
{
    struct watch_verdict v;
    watch_judge(&table, &v);
    return v;
}

START_TEST(chain)
{
    receives(3, 2, 43);
    receives(2, 1, 42);
    works(1, "BW layers.2 mb3", 41, true);
    receives(0, 1, 41);
    struct watch_verdict v = judge();
    ck_assert(v.guilty && v.culprit == 1);
    ck_assert_msg(
        begins(v.text,
               "rank 3 (node n1) has been blocked in receive F x mb5 for 43 s, waiting for rank 2 (node n1), which has "
               "been blocked in receive F "
               "x mb5 for 42 s, waiting for rank 1 (node n0), which has been in BW layers.2 mb3 for 41 s. It is slow"),
        "%s", v.text);
}
END_TEST

/* What waits for files is never the culprit before 120 times the timeout, wherever it is. */
START_TEST(limits)
{
    for (int i = 0; i < 32; i++) {
        struct watch_stand s = { .inside = i & 1, .works = i & 2, .loads = i & 4, .state = "RSTD"[i >> 3], .runs = 9 };
        bool files = !s.inside || s.loads || s.state == 'D';
        double limit = watch_limit(&s, 5);
        ck_assert_double_eq(limit, files ? 600 : s.works ? 5 : 30);
        s.worst = 100;
        ck_assert_double_eq(watch_limit(&s, 5), 800);
        s.worst = 0;
        s.runs = 1;
        ck_assert_double_eq(watch_limit(&s, 5), files || s.works ? 600 : 30);
    }
}
END_TEST

/* What calls the system in vain in a step that was never measured is not given minutes. */
START_TEST(in_vain)
{
    struct watch_stand s = { .inside = true, .works = true, .state = WATCH_VAIN };
    ck_assert_double_eq(watch_limit(&s, 5), 30);
    s.loads = true;
    ck_assert_double_eq(watch_limit(&s, 5), 600);
    works(1, "F layers.2 mb0", 41, true);
    answers[1].report.state = WATCH_VAIN;
    ck_assert_ptr_nonnull(strstr(judge().text, "like a library that cannot get memory"));
}
END_TEST

START_TEST(slow_but_not_overdue)
{
    for (uint32_t r = 1; r < RANKS; r++) {
        receives(r, 0, 41);
        answers[r].report.overdue = true;
    }
    works(0, "F layers.2 mb3", 41, false);
    ck_assert(!judge().guilty);
    answers[0].report.overdue = true;
    ck_assert(judge().guilty);
}
END_TEST

/* A silent rank explains more than an overdue one; a stopped process more than one that nobody could look at. */
START_TEST(silent)
{
    works(1, "F layers.2 mb3", 41, true);
    reduces(0, 0, 2, 2);
    answers[2] = (struct watch_answer){ .silent = 6.25, .state = 'T', .last = "step 9, BW layers.3 mb1" };
    answers[3] = (struct watch_answer){ .silent = 12 };
    struct watch_verdict v = judge();
    ck_assert(v.guilty && v.culprit == 2);
    ck_assert_str_eq(
        v.text,
        "rank 0 (node n0) has been blocked in all-reduce bucket 1 for 6.0 s, waiting for rank 2 (node n1), "
        "which has been stopped for "
        "6.2 s; it was last seen in step 9, BW layers.3 mb1. Also unresponsive: rank 3. The process was stopped by "
        "a signal or a debugger");
    answers[2].state = 0;
    v = judge();
    ck_assert_ptr_nonnull(strstr(v.text, "has not responded for 6.2 s"));
    ck_assert_ptr_nonnull(strstr(v.text, "The peer is lost"));
}
END_TEST

/* Of a group, those that have come are not waited for: by their answers. */
START_TEST(collective)
{
    for (uint32_t r = 0; r < 3; r++)
        reduces(r, 0, 1, 4);
    works(3, "BW layers.3 mb0", 6, true);
    table.keys[0] = (struct watch_key){ 7, 33 };
    table.n_keys = 1;
    for (uint32_t r = 0; r < 3; r++)
        answers[r].arrival[0] = EXEC_UNDER_WAY;
    answers[3].arrival[0] = EXEC_NOT_YET;
    struct watch_verdict v = judge();
    ck_assert(v.guilty && v.culprit == 3);
    ck_assert_msg(begins(v.text, "rank 0 (node n0) has been blocked in all-reduce bucket 1 for 6.0 s, waiting for rank "
                                 "3 (node n1), which has been in BW"),
                  "%s", v.text);
    /* past it: nobody waits for rank 3 there */
    answers[3].arrival[0] = EXEC_DONE;
    v = judge();
    ck_assert_msg(begins(v.text, "rank 3 (node n1) has been in BW"), "%s", v.text);
    /* no member: the same */
    answers[3].arrival[0] = EXEC_NOT_YET;
    for (uint32_t r = 0; r < 3; r++)
        answers[r].report.tasks[0].task.group_size = 3;
    v = judge();
    ck_assert_msg(begins(v.text, "rank 3 (node n1) has been in BW"), "%s", v.text);
}
END_TEST

START_TEST(all_wait)
{
    for (uint32_t r = 0; r < RANKS; r++) {
        receives(r, (r + 1) % RANKS, 31);
        answers[r].report.overdue = r != 2;
    }
    ck_assert(!judge().guilty);
    answers[2].report.overdue = true;
    struct watch_verdict v = judge();
    ck_assert(v.guilty);
    ck_assert_ptr_nonnull(strstr(v.text, "Every rank waits and none computes"));
}
END_TEST

/* Outside of steps the one that runs, or hangs in the system, is what the others wait for. */
START_TEST(outside)
{
    ck_assert(!judge().guilty);
    for (uint32_t r = 0; r < RANKS; r++) {
        answers[r].report.overdue = true;
        answers[r].report.seconds = 601;
    }
    answers[2].report.state = 'D';
    answers[3].report.state = 'R';
    struct watch_verdict v = judge();
    ck_assert(v.guilty && v.culprit == 2);
    ck_assert_str_eq(
        v.text, "rank 2 (node n1) has been in checkpoint for 601 s. It is waiting for a disk or a network file system");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *t = tcase_create("verdicts");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, chain);
    tcase_add_test(t, limits);
    tcase_add_test(t, slow_but_not_overdue);
    tcase_add_test(t, in_vain);
    tcase_add_test(t, silent);
    tcase_add_test(t, collective);
    tcase_add_test(t, all_wait);
    tcase_add_test(t, outside);
    suite_add_tcase(s, t);
    return suite_run(s);
}
