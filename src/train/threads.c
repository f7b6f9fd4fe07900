/* Threads of the ranks: what each may use is gathered, and where OpenMP has put them is looked at. */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/parse.h"
#include "base/number.h"
#include "host/quota.h"
#include "host/threads.h"
#include "train/private.h"

static void add_mask(pid_t pid, struct threads_set *s)
{
    struct threads_set found = { { 0 } };
    if (sched_getaffinity(pid, sizeof found, (cpu_set_t *)(void *)&found) != 0)
        return;
    for (int i = 0; i < THREADS_CPUS / 64; i++)
        s->bits[i] |= found.bits[i];
}

/* Where OpenMP binds its threads (OMP_PROC_BIND, OMP_PLACES) the main one is on one place already: its places tell where
 * all may be. */
static void add_places(struct threads_set *s)
{
#ifdef _OPENMP
    for (int p = 0; p < omp_get_num_places(); p++) {
        int n = omp_get_place_num_procs(p), *ids = mem_alloc((size_t)(n > 0 ? n : 1) * sizeof *ids);
        omp_get_place_proc_ids(p, ids);
        for (int i = 0; i < n; i++)
            if (ids[i] >= 0 && ids[i] < THREADS_CPUS)
                s->bits[ids[i] / 64] |= UINT64_C(1) << ids[i] % 64;
        mem_free(ids);
    }
#else
    (void)s;
#endif
}

static void describe(struct threads_rank *me, struct quota *q)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    quota_read("", q);
    *me = (struct threads_rank){ .node = number_hash(host, strlen(host), 0),
                                 .group = number_hash(q->group, strlen(q->group), 0),
                                 .quota = q->cpus };
    add_mask(0, &me->may);
    add_places(&me->may);
    me->job = me->may;
    add_mask(getppid(), &me->job); /* the launcher's, which has not been bound */
}

enum status train__choose_threads(struct train *t, struct err *e)
{
    struct threads_rank me, *all = mem_alloc(world_size() * sizeof *all);
    struct quota q;
    uint64_t asked = 0;
    describe(&me, &q);
    world_all_gather(&me, sizeof me, all);
    t->threads = threads_share(all, world_size(), world_rank(), t->threads_why, sizeof t->threads_why);
    mem_free(all);
    enum status st = parse_omp_threads(&asked, e);
    if (st == ST_OK && asked) {
        t->threads = (int)asked;
        int n = snprintf(t->threads_why, sizeof t->threads_why, "OMP_NUM_THREADS");
        if ((double)asked > q.cpus)
            snprintf(t->threads_why + n, sizeof t->threads_why - (size_t)n,
                     ", though a cgroup limits it to %.3g CPUs (%.300s)", q.cpus, q.group);
    } else if (q.group[0]) {
        size_t n = strlen(t->threads_why);
        snprintf(t->threads_why + n, sizeof t->threads_why - n, ", %.300s", q.group);
    }
    return world_agree(st, e);
}

/* Where the threads of this rank run, when all have begun. */
static void look_at_threads(int threads, struct threads_set *runs)
{
    (void)threads;
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
#endif
    {
#ifdef _OPENMP
#pragma omp critical
#endif
        add_mask(0, runs);
    }
}

/* All threads of the process, also those that the main one has started and that were bound with it. */
static void unbind(const struct threads_set *may)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *d;
    while (tasks && (d = readdir(tasks))) {
        uint64_t id;
        if (parse_number(d->d_name, &id))
            sched_setaffinity((pid_t)id, sizeof *may, (const cpu_set_t *)(const void *)may);
    }
    if (tasks)
        closedir(tasks);
}

void train__report_threads(struct train *t)
{
    struct threads_rank me, *all = mem_alloc(world_size() * sizeof *all);
    struct quota q;
    uint64_t range[] = { (uint64_t)t->threads, UINT64_MAX - (uint64_t)t->threads };
    char text[THREADS_TEXT];
    describe(&me, &q);
    look_at_threads(t->threads, &me.runs);
    world_all_gather(&me, sizeof me, all);
    world_max_u64(range, 2);
    uint64_t least = UINT64_MAX - range[1];
    if (least == range[0])
        log_line(&t->log, "threads per rank: %d (%s)", t->threads, t->threads_why);
    else
        log_line(&t->log, "threads: rank 0 has %d (%s), all ranks from %llu to %llu", t->threads, t->threads_why,
                 (unsigned long long)least, (unsigned long long)range[0]);
    bool crowd = threads_crowd(all, world_size(), world_rank(), text, sizeof text);
    bool bound = memcmp(&me.may, &me.runs, sizeof me.may) != 0; /* by OpenMP: the launcher lets it run elsewhere too */
    if (crowd && bound)
        unbind(&me.may);
    if (crowd)
        log_line(&t->log, "warning: %s%s", text,
                 bound ? ": OMP_PROC_BIND binds each rank as if it were alone on the node. Overridden; unset it"
                       : ". The launcher binds them this way: mpirun --map-by slot:pe=N --bind-to core, or srun "
                         "--cpus-per-task=N, gives each rank CPUs of its own");
    mem_free(all);
}
