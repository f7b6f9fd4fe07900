#include "host/memory_room.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/parse.h"
#include "host/cgroup.h"

/* The number in a file of one line; false: there is none, as in "max". */
static bool read_number(const char *path, uint64_t *x)
{
    char line[32] = "";
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool read = fgets(line, sizeof line, f);
    fclose(f);
    line[strcspn(line, "\n")] = '\0';
    return read && parse_number(line, x);
}

/* The number behind a word at the beginning of a line; 0: there is no such line. */
static uint64_t read_value(const char *path, const char *word)
{
    char line[256], number[32];
    uint64_t x = 0;
    size_t n = strlen(word);
    FILE *f = fopen(path, "r");
    while (f && !x && fgets(line, sizeof line, f))
        if (strncmp(line, word, n) == 0 && sscanf(line + n, " %31[0-9]", number) == 1 && !parse_number(number, &x))
            x = 0;
    if (f)
        fclose(f);
    return x;
}

static void take_least(struct memory_room *room, uint64_t bytes, const char *what, const char *path, const char *file)
{
    if (bytes >= room->shared)
        return;
    room->shared = bytes;
    snprintf(room->of, sizeof room->of, "%s%.100s%s%s%s", what, path, *file ? " (" : "", file, *file ? ")" : "");
}

/* ---- control groups ------------------------------------------------------------------------------------------- */

struct version {
    const char *mount, *limit, *usage, *cache; /* cache: of memory.stat, what the system takes back when it is needed */
};
static const struct version v2 = { "/sys/fs/cgroup", "memory.max", "memory.current", "file" };
static const struct version v1 = { "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                   "total_cache" };

static void look_at_group(const char *root, const struct version *v, const char *group, struct memory_room *room)
{
    char path[PATH_MAX];
    uint64_t limit, used = 0;
    snprintf(path, sizeof path, "%s%s%s/%s", root, v->mount, group, v->limit);
    if (!read_number(path, &limit) || limit > UINT64_MAX / 4) /* v1 writes a huge number where there is none */
        return;
    snprintf(path, sizeof path, "%s%s%s/%s", root, v->mount, group, v->usage);
    read_number(path, &used);
    snprintf(path, sizeof path, "%s%s%s/memory.stat", root, v->mount, group);
    uint64_t cache = read_value(path, v->cache);
    used = used > cache ? used - cache : 0;
    take_least(room, limit > used ? limit - used : 0, "the cgroup ", *group ? group : "/", v->limit);
}

/* A limit of each group that holds this one counts too. */
static void look_at_groups(const char *root, const struct version *v, char *group, struct memory_room *room)
{
    if (strcmp(group, "/") == 0)
        *group = '\0';
    for (;;) {
        look_at_group(root, v, group, room);
        char *end = strrchr(group, '/');
        if (!end)
            return;
        *end = '\0';
    }
}

/* ---- limits of the process ------------------------------------------------------------------------------------ */

static void look_at_limit(const char *root, int resource, const char *word, const char *name, struct memory_room *room)
{
    char path[PATH_MAX];
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return;
    snprintf(path, sizeof path, "%s/proc/self/status", root);
    uint64_t used = read_value(path, word) << 10, left = limit.rlim_cur > used ? limit.rlim_cur - used : 0;
    if (left < room->own) {
        room->own = left;
        room->own_limit = name;
    }
}

void memory_room(const char *root, struct memory_room *room)
{
    char path[PATH_MAX], group[CGROUP_BYTES];
    *room = (struct memory_room){ .shared = UINT64_MAX, .own = UINT64_MAX, .own_limit = "" };
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    uint64_t there = read_value(path, "MemAvailable:");
    if (there)
        take_least(room, there << 10, "the memory of this node", "", "");
    if (cgroup_of(root, NULL, group))
        look_at_groups(root, &v2, group, room);
    if (cgroup_of(root, "memory", group))
        look_at_groups(root, &v1, group, room);
    look_at_limit(root, RLIMIT_AS, "VmSize:", "ulimit -v", room);
    look_at_limit(root, RLIMIT_DATA, "VmData:", "ulimit -d", room);
}

enum status memory_room_for(double bytes, const char *where, const char *what, const char *advice, struct err *e)
{
    const double mib = 1 << 20;
    struct memory_room room;
    memory_room("", &room);
    const bool own = room.own < room.shared;
    const uint64_t least = own ? room.own : room.shared;
    if (bytes <= (double)least)
        return ST_OK;
    return err_set(e, ST_DEVICE, where, "%s take %.1f MiB of memory, %s has %.1f MiB: %s", what, bytes / mib,
                   own ? room.own_limit : room.of, (double)least / mib, advice);
}
