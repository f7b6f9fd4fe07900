#include "host/threads.h"

#include <math.h>
#include <stdio.h>

static bool has(const struct threads_set *s, uint32_t cpu)
{
    return s->bits[cpu / 64] >> cpu % 64 & 1;
}

static uint32_t count(const struct threads_set *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < THREADS_CPUS / 64; i++)
        n += (uint32_t)__builtin_popcountll(s->bits[i]);
    return n;
}

/* A CPU that k ranks of the node may use is a k-th of one for each. So ranks that are bound apart have all of theirs, and ranks that
 * share have the node's divided by their number. *sharing: other ranks that may use one of this rank's. */
static double share(const struct threads_rank *all, uint32_t n, uint32_t self, uint32_t *sharing)
{
    const struct threads_rank *me = &all[self];
    uint32_t users[THREADS_CPUS] = { 0 };
    double sum = 0;
    *sharing = 0;
    for (uint32_t r = 0; r < n; r++) {
        bool meets = false;
        for (uint32_t cpu = 0; all[r].node == me->node && cpu < THREADS_CPUS; cpu++) {
            users[cpu] += has(&all[r].may, cpu);
            meets |= has(&all[r].may, cpu) && has(&me->may, cpu);
        }
        *sharing += meets && r != self;
    }
    for (uint32_t cpu = 0; cpu < THREADS_CPUS; cpu++)
        if (has(&me->may, cpu))
            sum += 1.0 / users[cpu];
    return sum;
}

static int whole(double x)
{
    return x < 1 ? 1 : (int)floor(x + 1e-6);
}

int threads_share(const struct threads_rank *all, uint32_t n, uint32_t self, char *text, size_t size)
{
    const struct threads_rank *me = &all[self];
    uint32_t sharing, in_group = 0, cpus = count(&me->may);
    double by_cpus = share(all, n, self, &sharing);
    for (uint32_t r = 0; r < n; r++)
        in_group += all[r].node == me->node && all[r].group == me->group;
    int threads = whole(by_cpus), by_quota = isinf(me->quota) ? threads : whole(me->quota / in_group);
    if (by_quota < threads) {
        snprintf(text, size, "a cgroup limits its %u %s to %.3g %s", in_group, in_group == 1 ? "rank" : "ranks",
                 me->quota, me->quota == 1 ? "CPU" : "CPUs");
        return by_quota;
    }
    if (sharing)
        snprintf(text, size, "it may run on %u %s, shared with %u other %s of its node", cpus,
                 cpus == 1 ? "CPU" : "CPUs", sharing, sharing == 1 ? "rank" : "ranks");
    else
        snprintf(text, size, "it may run on %u %s, shared with no other rank", cpus, cpus == 1 ? "CPU" : "CPUs");
    return threads;
}

bool threads_crowd(const struct threads_rank *all, uint32_t n, uint32_t self, char *text, size_t size)
{
    uint32_t users[THREADS_CPUS] = { 0 }, most = 0, where = 0, idle = 0;
    struct threads_set job = { 0 };
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t i = 0; all[r].node == all[self].node && i < THREADS_CPUS; i++) {
            users[i] += has(&all[r].runs, i);
            job.bits[i / 64] |= (uint64_t)(has(&all[r].job, i) || has(&all[r].may, i)) << i % 64;
        }
    for (uint32_t i = 0; i < THREADS_CPUS; i++) {
        idle += has(&job, i) && !users[i];
        if (users[i] > most) {
            most = users[i];
            where = i;
        }
    }
    if (most < 2 || !idle)
        return false;
    snprintf(text, size, "%u ranks run on CPU %u, while %u other %s of the job on that node %s idle", most, where, idle,
             idle == 1 ? "CPU" : "CPUs", idle == 1 ? "is" : "are");
    return true;
}
