/* What limits leave: trees that stand for /proc and /sys. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "host/memory_room.h"
#include "tests/unit/suite.h"

static char root[] = "/tmp/piper-room-XXXXXX";

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *s = full + strlen(root) + 1; (s = strchr(s, '/')); s++) {
        *s = '\0';
        mkdir(full, 0777);
        *s = '/';
    }
    FILE *f = fopen(full, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void begin(void)
{
    strcpy(root + sizeof root - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void end(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
}

static void expect(uint64_t bytes, const char *of)
{
    struct memory_room r;
    memory_room(root, &r);
    ck_assert_msg(r.shared == bytes && strcmp(r.of, of) == 0, "found %llu by \"%s\", expected %llu by \"%s\"",
                  (unsigned long long)r.shared, r.of, (unsigned long long)bytes, of);
}

START_TEST(machine)
{
    expect(UINT64_MAX, "");
    put("/proc/meminfo", "MemTotal:       999 kB\nMemFree:       1 kB\nMemAvailable:   500 kB\n");
    expect(500 << 10, "the memory of this node");
}
END_TEST

START_TEST(version_2)
{
    put("/proc/meminfo", "MemAvailable:   1000000 kB\n");
    put("/proc/self/cgroup", "0::/slurm/job_7/step_0\n");
    put("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
    put("/sys/fs/cgroup/slurm/job_7/memory.max", "1000000\n");
    put("/sys/fs/cgroup/slurm/job_7/memory.current", "700000\n");
    put("/sys/fs/cgroup/slurm/job_7/memory.stat", "anon 400000\nfile 300000\nfile_mapped 1\n");
    expect(600000, "the cgroup /slurm/job_7 (memory.max)");
    put("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "500000\n");
    expect(500000, "the cgroup /slurm/job_7/step_0 (memory.max)");
    put("/sys/fs/cgroup/slurm/memory.max", "300000");
    put("/sys/fs/cgroup/slurm/memory.current", "400000");
    expect(0, "the cgroup /slurm (memory.max)");
}
END_TEST

/* In a container the group is its root. */
START_TEST(container)
{
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.max", "4096\n");
    expect(4096, "the cgroup / (memory.max)");
}
END_TEST

START_TEST(version_1)
{
    put("/proc/self/cgroup", "12:cpuset:/\n5:memory:/docker/abc\n1:name=systemd:/x\n0::/y\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    expect(UINT64_MAX, "");
    put("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "2000\n");
    put("/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1500\n");
    put("/sys/fs/cgroup/memory/docker/abc/memory.stat", "cache 1\ntotal_cache 100\n");
    expect(600, "the cgroup /docker/abc (memory.limit_in_bytes)");
}
END_TEST

START_TEST(damaged)
{
    put("/proc/meminfo", "MemAvailable: lots\n");
    put("/proc/self/cgroup", "\n0\n0:\n0:memory\n0::\n0::relative\n:::\n");
    put("/sys/fs/cgroup/memory.max", "-5\n");
    put("/sys/fs/cgrouprelative/memory.max", "1e9\n");
    expect(UINT64_MAX, "");
}
END_TEST

START_TEST(own_limits)
{
    struct memory_room r;
    struct rlimit before, limit;
    put("/proc/self/status", "Name:\tx\nVmSize:\t    1024 kB\nVmData:\t    512 kB\n");
    memory_room(root, &r);
    ck_assert(getrlimit(RLIMIT_AS, &before) == 0);
    limit = before;
    limit.rlim_cur = (rlim_t)1 << 33;
    ck_assert(setrlimit(RLIMIT_AS, &limit) == 0 && getrlimit(RLIMIT_AS, &limit) == 0);
    if (limit.rlim_cur == before.rlim_cur) /* qemu-user takes no limits of memory */
        return;
    memory_room(root, &r);
    ck_assert(setrlimit(RLIMIT_AS, &before) == 0);
    ck_assert_msg(r.own == (UINT64_C(1) << 33) - (1 << 20), "%llu", (unsigned long long)r.own);
    ck_assert_str_eq(r.own_limit, "ulimit -v");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory_room");
    TCase *t = tcase_create("room");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, machine);
    tcase_add_test(t, version_2);
    tcase_add_test(t, container);
    tcase_add_test(t, version_1);
    tcase_add_test(t, damaged);
    tcase_add_test(t, own_limits);
    suite_add_tcase(s, t);
    return suite_run(s);
}
