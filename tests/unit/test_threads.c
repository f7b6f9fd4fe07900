/* Threads of a rank (src/host/threads.c), and the limits of control groups (src/host/quota.c) in trees of files made by hand. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/quota.h"
#include "host/threads.h"
#include "tests/unit/suite.h"

enum { RANKS = 8 };

static struct threads_rank ranks[RANKS];
static char text[THREADS_TEXT];

static void cpus(struct threads_set *s, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        s->bits[i / 64] |= UINT64_C(1) << i % 64;
}

static void setup(void)
{
    memset(ranks, 0, sizeof ranks);
    for (int r = 0; r < RANKS; r++) {
        ranks[r].node = 1;
        ranks[r].quota = INFINITY;
    }
}

static int share(uint32_t n, uint32_t self)
{
    return threads_share(ranks, n, self, text, sizeof text);
}

/* As srun --cpus-per-task and mpirun --map-by slot:pe bind: a rank has all of its own. */
START_TEST(bound_apart)
{
    for (uint32_t r = 0; r < RANKS; r++)
        cpus(&ranks[r].may, 8 * r, 8);
    for (uint32_t r = 0; r < RANKS; r++) {
        ck_assert_int_eq(share(RANKS, r), 8);
        ck_assert_str_eq(text, "it may run on 8 CPUs, shared with no other rank");
    }
}
END_TEST

START_TEST(not_bound)
{
    for (uint32_t r = 0; r < RANKS; r++)
        cpus(&ranks[r].may, 0, 64);
    for (uint32_t n = 1; n <= RANKS; n++)
        ck_assert_int_eq(share(n, n - 1), (int)(64 / n));
    ck_assert_str_eq(text, "it may run on 64 CPUs, shared with 7 other ranks of its node");
    for (uint32_t r = 0; r < RANKS; r++) /* two nodes */
        ranks[r].node = r % 2;
    ck_assert_int_eq(share(RANKS, 3), 16);
}
END_TEST

/* By sockets, 4 ranks on the first and 2 on the second; more ranks than CPUs; CPUs beyond 1024. */
START_TEST(bound_in_part)
{
    for (uint32_t r = 0; r < 6; r++)
        cpus(&ranks[r].may, r < 4 ? 0 : 1024, 16);
    ck_assert_int_eq(share(6, 0), 4);
    ck_assert_int_eq(share(6, 5), 8);
    setup();
    for (uint32_t r = 0; r < RANKS; r++)
        cpus(&ranks[r].may, 0, 2);
    ck_assert_int_eq(share(RANKS, 0), 1);
    ck_assert_int_eq(share(1, 0), 2);
}
END_TEST

/* The ranks of a group share its time; a rank of another group, or node, has its own. */
START_TEST(limited)
{
    for (uint32_t r = 0; r < RANKS; r++) {
        cpus(&ranks[r].may, 0, 64);
        ranks[r].quota = 10;
        ranks[r].group = 5;
    }
    ck_assert_int_eq(share(1, 0), 10);
    ck_assert_int_eq(share(2, 0), 5);
    ck_assert_int_eq(share(RANKS, 0), 1);
    ck_assert_str_eq(text, "a cgroup limits its 8 ranks to 10 CPUs");
    ranks[1].group = 6;
    ck_assert_int_eq(share(2, 0), 10);
    ranks[0].quota = 0.5;
    ck_assert_int_eq(share(1, 0), 1);
    ranks[0].quota = 1.9;
    ck_assert_int_eq(share(1, 0), 1);
    ranks[0].quota = 1000;
    ck_assert_int_eq(share(1, 0), 64);
}
END_TEST

START_TEST(crowds)
{
    for (uint32_t r = 0; r < 2; r++) {
        cpus(&ranks[r].may, 0, 2);
        cpus(&ranks[r].runs, 0, 2);
    }
    ck_assert(!threads_crowd(ranks, 2, 0, text, sizeof text)); /* none is bound */
    memset(&ranks[1].runs, 0, sizeof ranks[1].runs);
    memset(&ranks[0].runs, 0, sizeof ranks[0].runs);
    cpus(&ranks[0].runs, 0, 1);
    cpus(&ranks[1].runs, 1, 1);
    ck_assert(!threads_crowd(ranks, 2, 0, text, sizeof text)); /* each has its own */
    memset(&ranks[1].runs, 0, sizeof ranks[1].runs);
    cpus(&ranks[1].runs, 0, 1);
    ck_assert(threads_crowd(ranks, 2, 0, text, sizeof text));
    ck_assert_str_eq(text, "2 ranks run on CPU 0, while 1 other CPU of the job on that node is idle");
    ranks[1].node = 2;
    ck_assert(!threads_crowd(ranks, 2, 0, text, sizeof text));
    ranks[1].node = 1; /* bound by the launcher: it alone knows of the other CPUs */
    for (uint32_t r = 0; r < 2; r++)
        ranks[r].may = ranks[r].runs;
    ck_assert(!threads_crowd(ranks, 2, 0, text, sizeof text));
    cpus(&ranks[1].job, 0, 4);
    ck_assert(threads_crowd(ranks, 2, 0, text, sizeof text));
}
END_TEST

/* ---- control groups ------------------------------------------------------------------------------------------- */

static char root[64];

static void make(const char *path, const char *contents)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *c = name + strlen(root) + 1; *c; c++)
        if (*c == '/') {
            *c = '\0';
            mkdir(name, 0777);
            *c = '/';
        }
    FILE *f = fopen(name, "w");
    ck_assert_msg(f && fputs(contents, f) >= 0 && fclose(f) == 0, "%s", name);
}

static void make_root(void)
{
    snprintf(root, sizeof root, "%s/piper-quota-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void drop_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ck_assert_int_eq(system(command), 0);
}

static double limit(const char *group)
{
    struct quota q;
    quota_read(root, &q);
    if (group) {
        char name[QUOTA_GROUP_BYTES];
        snprintf(name, sizeof name, "%s%s", root, group);
        ck_assert_str_eq(q.group, name);
    } else {
        ck_assert_str_eq(q.group, "");
    }
    return q.cpus;
}

START_TEST(nothing_to_read)
{
    ck_assert(isinf(limit(NULL)));
    make("/proc/self/mountinfo", "garbage\n1 2 3\n - - -\n");
    make("/proc/self/cgroup", "garbage\n:\n::\n0:\n");
    ck_assert(isinf(limit(NULL)));
}
END_TEST

START_TEST(version_2)
{
    make("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
    make("/proc/self/cgroup", "0::/a/b/c\n");
    make("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    ck_assert(isinf(limit(NULL)));
    make("/sys/fs/cgroup/a/b/cpu.max", "250000 100000\n");
    ck_assert_double_eq(limit("/sys/fs/cgroup/a/b"), 2.5);
    make("/sys/fs/cgroup/a/cpu.max", "150000 50000\n"); /* more than below */
    ck_assert_double_eq(limit("/sys/fs/cgroup/a/b"), 2.5);
    make("/sys/fs/cgroup/a/b/c/cpu.max", "100000 100000\n");
    ck_assert_double_eq(limit("/sys/fs/cgroup/a/b/c"), 1);
}
END_TEST

START_TEST(version_1)
{
    make("/proc/self/mountinfo",
         "31 30 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
         "32 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n");
    make("/proc/self/cgroup", "3:cpuset:/else\n2:cpu,cpuacct:/job/step\n");
    make("/sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_quota_us", "-1\n");
    make("/sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_period_us", "100000\n");
    ck_assert(isinf(limit(NULL)));
    make("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "400000\n");
    make("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    ck_assert_double_eq(limit("/sys/fs/cgroup/cpu,cpuacct/job"), 4);
}
END_TEST

/* What is mounted in a container is its own group, under the name that it has outside. */
START_TEST(container)
{
    make("/proc/self/mountinfo", "32 30 0:30 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n");
    make("/proc/self/cgroup", "2:cpu:/docker/ab\n");
    make("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
    make("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    ck_assert_double_eq(limit("/sys/fs/cgroup/cpu"), 0.5);
    make("/proc/self/cgroup", "2:cpu:/docker/abc\n"); /* not below it */
    ck_assert_double_eq(limit("/sys/fs/cgroup/cpu"), 0.5);
    make("/proc/self/cgroup", "2:cpu:/../../elsewhere\n");
    ck_assert_double_eq(limit("/sys/fs/cgroup/cpu"), 0.5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("threads");
    TCase *t = tcase_create("shares"), *q = tcase_create("quota");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, bound_apart);
    tcase_add_test(t, not_bound);
    tcase_add_test(t, bound_in_part);
    tcase_add_test(t, limited);
    tcase_add_test(t, crowds);
    tcase_add_checked_fixture(q, make_root, drop_root);
    tcase_add_test(q, nothing_to_read);
    tcase_add_test(q, version_2);
    tcase_add_test(q, version_1);
    tcase_add_test(q, container);
    suite_add_tcase(s, t);
    suite_add_tcase(s, q);
    return suite_run(s);
}
