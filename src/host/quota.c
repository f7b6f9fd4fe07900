#include "host/quota.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cgroup.h"

enum { PATH_BYTES = CGROUP_BYTES, LINE_BYTES = 8192 };

/* One of the two kinds of control groups: how its file system is mounted, and where this process is in it. */
struct kind {
    const char *type; /* of the file system */
    bool second;      /* version 2, which has one tree for all controllers */
    char mounted[PATH_BYTES], root[PATH_BYTES], path[PATH_BYTES];
};

/* A line of mountinfo: "32 31 0:29 ROOT MOUNTED rw ... - TYPE SOURCE OPTIONS". */
static void take_mount(struct kind *k, const char *line)
{
    char root[PATH_BYTES], mounted[PATH_BYTES], type[64], options[PATH_BYTES] = "";
    const char *end = strstr(line, " - ");
    if (k->mounted[0] || !end || sscanf(line, "%*s %*s %*s %4095s %4095s", root, mounted) != 2 ||
        sscanf(end + 3, "%63s %*s %4095s", type, options) < 1)
        return;
    if (strcmp(type, k->type) != 0 || (!k->second && !cgroup_lists(options, "cpu")))
        return;
    strcpy(k->root, root);
    strcpy(k->mounted, mounted);
}

static void read_kind(const char *root, struct kind *k)
{
    char name[PATH_BYTES], line[LINE_BYTES];
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(name, "r");
    while (f && fgets(line, sizeof line, f))
        take_mount(k, line);
    if (f)
        fclose(f);
    cgroup_of(root, k->second ? NULL : "cpu", k->path);
}

/* The first two numbers in a file of a group; -1: it has none, or says "max". */
static void read_numbers(const char *dir, const char *name, double x[2])
{
    char path[PATH_BYTES + 64];
    x[0] = x[1] = -1;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return;
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%lf %lf", &x[0], &x[1]) < 1)
        x[0] = -1;
    if (f)
        fclose(f);
}

static void look(const struct kind *k, const char *dir, struct quota *q)
{
    double most[2], period[2];
    read_numbers(dir, k->second ? "cpu.max" : "cpu.cfs_quota_us", most);
    if (k->second)
        period[0] = most[1];
    else
        read_numbers(dir, "cpu.cfs_period_us", period);
    if (most[0] <= 0 || period[0] <= 0 || most[0] / period[0] >= q->cpus)
        return;
    q->cpus = most[0] / period[0];
    snprintf(q->group, sizeof q->group, "%.*s", QUOTA_GROUP_BYTES - 1, dir);
}

/* From the process's own group up to what is mounted: in a container that may be a group itself. */
static void walk(const char *root, const struct kind *k, struct quota *q)
{
    char dir[3 * PATH_BYTES];
    const char *below = k->path;
    size_t n = strcmp(k->root, "/") == 0 ? 0 : strlen(k->root);
    if (!k->mounted[0])
        return;
    if (strncmp(below, k->root, n) != 0 || (below[n] && below[n] != '/') || strstr(below, ".."))
        below = "", n = 0;
    size_t top = (size_t)snprintf(dir, sizeof dir, "%s%s", root, k->mounted);
    snprintf(dir + top, sizeof dir - top, "%s", below + n);
    for (;;) {
        look(k, dir, q);
        char *slash = strrchr(dir + top, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

void quota_read(const char *root, struct quota *q)
{
    *q = (struct quota){ .cpus = INFINITY };
    for (int i = 0; i < 2; i++) {
        struct kind *k = calloc(1, sizeof *k);
        if (!k)
            return;
        k->second = i;
        k->type = i ? "cgroup2" : "cgroup";
        read_kind(root, k);
        walk(root, k, q);
        free(k);
    }
}
