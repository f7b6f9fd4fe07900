#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

/* Seconds: between two signs of life; after which one without is dead; that a start waits for a dying owner. */
enum { BEAT = 5, STALE = 20, PATIENCE = 30 };

struct lock {
    int fd;
    struct lock_owner me;
    pthread_t beat;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool ending;
};

/* The system's lock on the file. */
enum held { HELD_BY_ME, HELD_BY_ANOTHER, HELD_BY_NOBODY, HELD_UNKNOWN /* this file system has no locks */ };

/* ---- the file ------------------------------------------------------------------------------------------------- */

static void describe_me(struct lock_owner *me)
{
    const char *slurm = getenv("SLURM_JOB_ID"), *pbs = getenv("PBS_JOBID");
    time_t now = time(NULL);
    struct tm tm;
    uint64_t random = 0;
    *me = (struct lock_owner){ .pid = (long)getpid() };
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = (uint64_t)now << 32 ^ (uint64_t)me->pid;
    snprintf(me->run, sizeof me->run, "%016llx", (unsigned long long)random);
    gethostname(me->host, sizeof me->host - 1);
    snprintf(me->job, sizeof me->job, "%s%.128s",
             slurm ? "slurm "
             : pbs ? "pbs "
                   : "none",
             slurm ? slurm
             : pbs ? pbs
                   : "");
    localtime_r(&now, &tm);
    strftime(me->since, sizeof me->since, "%Y-%m-%d %H:%M:%S", &tm);
}

static bool write_owner(int fd, const struct lock_owner *me)
{
    char text[512];
    int n = snprintf(text, sizeof text, "run %s\nhost %s\npid %ld\nsince %s\njob %s\n", me->run, me->host, me->pid,
                     me->since, me->job);
    return ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n && fsync(fd) == 0;
}

/* False: nobody has written there, or not this program. */
static bool read_owner(int fd, struct lock_owner *o)
{
    char text[512];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    *o = (struct lock_owner){ .run = "", .host = "", .since = "", .job = "" };
    if (n <= 0)
        return false;
    text[n] = '\0';
    return sscanf(text, "run %23s host %127s pid %ld since %31[^\n] job %159[^\n]", o->run, o->host, &o->pid, o->since,
                  o->job) == 5;
}

static int open_lock(const char *dir, int flags)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/lock", dir) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, flags | O_CLOEXEC, 0666);
}

/* Seconds since the file changed, by the clock of its file system: a new file there tells that clock. 0 when unknown. */
static double age(const char *dir, const struct stat *file)
{
    char path[PATH_MAX];
    struct stat now;
    snprintf(path, sizeof path, "%s/.clock-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return 0;
    bool known = fstat(fd, &now) == 0;
    close(fd);
    unlink(path);
    return known ? (double)(now.st_mtim.tv_sec - file->st_mtim.tv_sec) : 0;
}

/* ---- who is alive --------------------------------------------------------------------------------------------- */

/* Of an open file rather than of a process: opening the file a second time must not end it. */
static enum held ask_system(int fd, int command)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, command, &whole) != 0)
        return errno == EACCES || errno == EAGAIN ? HELD_BY_ANOTHER : HELD_UNKNOWN;
    if (command == F_OFD_SETLK)
        return HELD_BY_ME;
    return whole.l_type == F_UNLCK ? HELD_BY_NOBODY : HELD_BY_ANOTHER;
}

struct look {
    bool owned; /* the file names an owner */
    bool alive;
    bool beating; /* alive by the file's time alone */
    struct lock_owner owner;
    struct stat file;
};

/* A fresh fd, so that a network file system asks its server for the file's time. */
static void look(const char *dir, int fd, enum held held, const char *host, struct look *l)
{
    *l = (struct look){ .alive = false };
    l->owned = read_owner(fd, &l->owner);
    bool here = strcmp(l->owner.host, host) == 0;
    if (held == HELD_BY_ANOTHER)
        l->alive = true;
    else if (!l->owned || fstat(fd, &l->file) != 0)
        l->alive = false;
    else if (here && (held != HELD_UNKNOWN || (kill((pid_t)l->owner.pid, 0) != 0 && errno == ESRCH)))
        l->alive = false; /* locks always hold within a host */
    else
        l->alive = l->beating = age(dir, &l->file) < STALE;
}

static enum status refuse(const char *dir, const struct look *l, struct err *e)
{
    if (!l->owned)
        return err_set(e, ST_USAGE, dir,
                       "another run has just begun in this folder; give this one a folder of its own");
    return err_set(e, ST_USAGE, dir,
                   "another run is alive in this folder: process %ld on %s since %s%s%s; give this one a folder of its "
                   "own, or end that one with `piper halt %s`",
                   l->owner.pid, l->owner.host, l->owner.since, strcmp(l->owner.job, "none") == 0 ? "" : ", job ",
                   strcmp(l->owner.job, "none") == 0 ? "" : l->owner.job, dir);
}

static void say_waiting(const struct look *l, void (*note)(void *, const char *), void *arg)
{
    char text[512];
    snprintf(text, sizeof text, "process %ld on %s, since %s, has left its lock on this folder: seeing if it is alive",
             l->owner.pid, l->owner.host, l->owner.since);
    note(arg, text);
}

/* Until the folder is free: ST_OK, or it is not. */
static enum status wait_for(const char *dir, const struct lock *l, void (*note)(void *, const char *), void *arg,
                            struct err *e)
{
    struct look first = { 0 };
    for (int tries = 0;; tries++) {
        struct look now;
        int fresh = open_lock(dir, O_RDONLY);
        look(dir, fresh >= 0 ? fresh : l->fd, ask_system(l->fd, F_OFD_SETLK), l->me.host, &now);
        if (fresh >= 0)
            close(fresh);
        if (!now.alive)
            return ST_OK;
        if (tries == 0)
            first = now;
        bool moved = memcmp(&now.file.st_mtim, &first.file.st_mtim, sizeof now.file.st_mtim) != 0;
        bool ours = now.owned && strcmp(now.owner.job, "none") != 0 && strcmp(now.owner.job, l->me.job) == 0;
        if (!(ours || (now.beating && !moved)) || tries == 2 * PATIENCE)
            return refuse(dir, &now, e);
        if (tries == 0)
            say_waiting(&now, note, arg);
        nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
    }
}

/* ---- holding it ----------------------------------------------------------------------------------------------- */

static void *beat(void *arg)
{
    struct lock *l = arg;
    pthread_mutex_lock(&l->mutex);
    while (!l->ending) {
        struct timespec next;
        clock_gettime(CLOCK_REALTIME, &next);
        next.tv_sec += BEAT;
        pthread_cond_timedwait(&l->wake, &l->mutex, &next);
        if (!l->ending)
            futimens(l->fd, NULL);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* Signals are the main thread's. */
static bool start_beating(struct lock *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->wake, NULL);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool started = pthread_create(&l->beat, NULL, beat, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

enum status lock_take(const char *dir, void (*note)(void *arg, const char *text), void *arg, struct lock **out,
                      struct err *e)
{
    int fd = open_lock(dir, O_RDWR | O_CREAT);
    if (fd < 0)
        return err_set(e, ST_IO, dir, "the file lock cannot be made in it: %s", strerror(errno));
    struct lock *l = mem_alloc(sizeof *l);
    *l = (struct lock){ .fd = fd };
    describe_me(&l->me);
    enum status st = wait_for(dir, l, note, arg, e);
    if (st == ST_OK && !write_owner(fd, &l->me))
        st = err_set(e, ST_IO, dir, "the file lock in it cannot be written: %s", strerror(errno));
    if (st == ST_OK && !start_beating(l))
        st = err_set(e, ST_DEVICE, NULL, "a thread cannot be started: %s", strerror(errno));
    if (st != ST_OK) {
        close(fd);
        mem_free(l);
        return st;
    }
    *out = l;
    return ST_OK;
}

void lock_release(struct lock *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->mutex);
    l->ending = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->beat, NULL);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->mutex);
    if (ftruncate(l->fd, 0) != 0)
        errno = 0; /* what is left there is taken over, as after a kill */
    close(l->fd);
    mem_free(l);
}

const char *lock_run(const struct lock *l)
{
    return l->me.run;
}

enum status lock_look(const char *dir, bool *running, struct lock_owner *owner, struct err *e)
{
    struct stat s;
    if (stat(dir, &s) != 0 || !S_ISDIR(s.st_mode))
        return err_set(e, ST_MISSING, dir, "there is no such folder, expected a run folder");
    *running = false;
    int fd = open_lock(dir, O_RDONLY);
    if (fd < 0 && errno == ENOENT)
        return ST_OK;
    if (fd < 0)
        return err_set(e, ST_IO, dir, "the file lock in it cannot be read: %s", strerror(errno));
    struct lock_owner me;
    struct look l;
    describe_me(&me);
    look(dir, fd, ask_system(fd, F_OFD_GETLK), me.host, &l);
    close(fd);
    *running = l.alive && l.owned;
    *owner = l.owner;
    return ST_OK;
}
