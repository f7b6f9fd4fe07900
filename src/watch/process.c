/* What the system says of a process: /proc/PID/stat. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "watch/private.h"

/* "PID (NAME) STATE PARENT ...": a name may hold anything. */
static bool read_stat(const char *path, struct watch_process *p)
{
    char text[512];
    unsigned long long minor, major, user, system;
    int f = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = f >= 0 ? read(f, text, sizeof text - 1) : -1;
    if (f >= 0)
        close(f);
    text[n > 0 ? n : 0] = '\0';
    const char *name = strchr(text, '('), *end = strrchr(text, ')');
    if (!name || !end ||
        sscanf(end + 1, " %c %ld %*d %*d %*d %*d %*u %llu %*u %llu %*u %llu %llu", &p->state, &p->parent, &minor,
               &major, &user, &system) != 6)
        return false;
    snprintf(p->name, sizeof p->name, "%.*s", (int)(end - name - 1), name + 1);
    p->faults = minor + major;
    p->user = user;
    p->system = system;
    return true;
}

bool watch_process_of(long pid, struct watch_process *p)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    return read_stat(path, p);
}

char watch_process_state(int32_t pid)
{
    struct watch_process it, mine;
    if (!watch_process_of(getpid(), &mine))
        return 0;
    if (!watch_process_of(pid, &it))
        return 'X';
    return strcmp(it.name, mine.name) == 0 ? it.state : 0;
}

char watch_thread_state(int tid)
{
    char path[64];
    struct watch_process p;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    return read_stat(path, &p) ? p.state : 0;
}
