/* While MPI starts and ends no rank can ask another one. What can be seen then: a rank of this machine, started by the same
 * launcher, that stays stopped. A thread looks for one. */
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/parse.h"
#include "watch/private.h"

static struct {
    pthread_t thread;
    bool running;
    _Atomic uint32_t stop;
    int bell; /* can be read when it is to stop, so that nobody waits for the end of a nap; -1: there is none */
    double timeout;
} beside;

/* What launchers say to a process. */
static const char *const rank_names[] = { "OMPI_COMM_WORLD_RANK=", "PMIX_RANK=", "PMI_RANK=", "SLURM_PROCID=" };
enum { N_NAMES = sizeof rank_names / sizeof *rank_names };

/* The rank of a process by its environment; -1: it has none. */
static long rank_of(long pid)
{
    char path[64], *line = NULL;
    size_t size = 0;
    long rank = -1;
    uint64_t number;
    snprintf(path, sizeof path, "/proc/%ld/environ", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    while (rank < 0 && getdelim(&line, &size, '\0', f) > 0)
        for (int i = 0; i < N_NAMES; i++)
            if (strncmp(line, rank_names[i], strlen(rank_names[i])) == 0)
                rank = parse_number(line + strlen(rank_names[i]), &number) && number <= INT32_MAX ? (long)number : -1;
    free(line);
    fclose(f);
    return rank;
}

struct sight {
    long stopped, stopped_rank; /* process of a stopped rank, and the rank; -1: none is */
    bool first;                 /* no rank below this one is there to say it */
};

/* Has this launcher started the process, as another rank? */
static bool is_rank(long pid, char *state, long *rank)
{
    struct watch_process p;
    if (pid <= 0 || pid == getpid() || !watch_process_of(pid, &p) || p.parent != getppid())
        return false;
    *state = p.state;
    *rank = rank_of(pid);
    return *rank >= 0;
}

static struct sight look_around(long own_rank)
{
    struct sight s = { .stopped = -1, .first = true };
    DIR *proc = opendir("/proc");
    const struct dirent *d;
    while (proc && (d = readdir(proc))) {
        long pid = atol(d->d_name), rank;
        char state;
        if (!is_rank(pid, &state, &rank))
            continue;
        if (state != 'T' && state != 't')
            s.first = s.first && rank > own_rank;
        else if (s.stopped < 0 || rank < s.stopped_rank)
            s.stopped = pid, s.stopped_rank = rank;
    }
    if (proc)
        closedir(proc);
    return s;
}

static void *look_beside(void *unused)
{
    const double tick = beside.timeout / 20;
    const long own_rank = rank_of(getpid());
    const double late = tick + beside.timeout / 4;
    double last = clock_now(), since = last;
    long suspect = -1;
    bool first = true; /* also when the lower ranks have left since */
    (void)unused;
    while (!atomic_load(&beside.stop)) {
        struct pollfd bell = { .fd = beside.bell, .events = POLLIN };
        if (poll(&bell, 1, (int)(1000 * tick)) > 0)
            break;
        double now = clock_now();
        struct sight s = look_around(own_rank);
        if (s.stopped != suspect || now - last > late) /* this process itself was stopped with it */
            since = now;
        first = s.first && (first || s.stopped != suspect);
        suspect = s.stopped;
        last = now;
        if (suspect < 0 || now - since < beside.timeout + (first ? 0 : 8))
            continue;
        char text[256];
        snprintf(text, sizeof text,
                 "rank %ld (process %ld) has been stopped for %.0f s while MPI starts or ends. The process was stopped "
                 "by a signal or a debugger",
                 s.stopped_rank, s.stopped, now - since);
        if (first)
            process_end(ST_HANG, text, _exit);
        _exit(-ST_HANG);
    }
    return NULL;
}

void watch_beside_begin(double timeout)
{
    if (timeout <= 0 || beside.running || rank_of(getpid()) < 0)
        return;
    beside.timeout = timeout;
    atomic_store(&beside.stop, 0);
    beside.bell = eventfd(0, EFD_CLOEXEC);
    beside.running = thread_start(&beside.thread, look_beside, NULL) == 0;
}

void watch_beside_end(void)
{
    if (!beside.running)
        return;
    atomic_store(&beside.stop, 1);
    if (beside.bell >= 0)
        eventfd_write(beside.bell, 1);
    pthread_join(beside.thread, NULL);
    if (beside.bell >= 0)
        close(beside.bell);
    beside.running = false;
}
