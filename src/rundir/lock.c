#include "rundir/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

/* Seconds: between two signs of life; after which one without is dead; that a start waits for a dying owner. */
enum { BEAT = 5, STALE = 20, PATIENCE = 30 };

/* A write within this time of a look at the file comes before another run can have taken it: that waits STALE seconds. */
enum { SURE = 10 };

struct lock {
    struct dir *dir;
    struct lock_words words;
    int fd;
    struct lock_owner me;
    pthread_t beat;
    pthread_mutex_t mutex; /* while the file is looked at */
    pthread_cond_t wake;
    bool ending;
    _Atomic double seen; /* when the file named this run, by CLOCK_BOOTTIME: it goes on while the machine sleeps */
    enum dir_place place;
    _Atomic bool has_news; /* written by the beat when false, taken by lock_news */
    char news[LOCK_NEWS];
};

static const char lock_name[] = "lock";

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
    bool good = sscanf(text, "run %23s host %127s pid %ld since %31[^\n] job %159[^\n]", o->run, o->host, &o->pid,
                       o->since, o->job) == 5;
    text_printable(o->run);
    text_printable(o->host);
    text_printable(o->since);
    text_printable(o->job);
    return good;
}

/* Seconds since the file changed, by the clock of its file system: a new file there tells that clock. 0 when unknown. */
static double age(const struct dir *dir, const struct stat *file)
{
    struct dir_new clock;
    struct stat now;
    struct err ignored = { 0 };
    if (dir_new_begin(dir, ".clock", &clock, &ignored) != ST_OK)
        return 0;
    bool known = fstat(clock.fd, &now) == 0;
    dir_new_drop(&clock);
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
static void look(const struct dir *dir, int fd, enum held held, const char *host, struct look *l)
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

static enum status refuse(const struct dir *dir, const struct look *l, struct err *e)
{
    if (!l->owned)
        return err_set(e, ST_USAGE, dir->path, "another run has just started in this directory; use another directory");
    return err_set(e, ST_USAGE, dir->path,
                   "another run is active in this directory: process %ld on %s since %s%s%s; use another directory, or "
                   "stop that run with `piper halt %s`",
                   l->owner.pid, l->owner.host, l->owner.since, strcmp(l->owner.job, "none") == 0 ? "" : ", job ",
                   strcmp(l->owner.job, "none") == 0 ? "" : l->owner.job, dir->path);
}

static void say_waiting(const struct look *l, const struct lock_words *words)
{
    char text[512];
    snprintf(text, sizeof text,
             "this directory is locked by process %ld on %s, started %s: checking whether it is alive", l->owner.pid,
             l->owner.host, l->owner.since);
    words->note(words->arg, text);
}

/* Until the folder is free: ST_OK, or it is not. */
static enum status wait_for(const struct lock *l, const struct dir *dir, int fd, struct err *e)
{
    struct look first = { 0 };
    for (int tries = 0;; tries++) {
        struct look now;
        struct err ignored = { 0 };
        uint64_t bytes;
        int fresh;
        bool opened = dir_read(dir, lock_name, &fresh, &bytes, &ignored) == ST_OK;
        look(dir, opened ? fresh : fd, ask_system(fd, F_OFD_SETLK), l->me.host, &now);
        if (opened)
            close(fresh);
        if (tries == 0)
            first = now;
        bool moved = memcmp(&now.file.st_mtim, &first.file.st_mtim, sizeof now.file.st_mtim) != 0;
        if (!now.alive ||
            (now.beating && !moved && tries >= 2 * STALE)) /* its time may be ahead, of a clock set back */
            return ST_OK;
        bool ours = now.owned && strcmp(now.owner.job, "none") != 0 && strcmp(now.owner.job, l->me.job) == 0;
        if (!(ours || (now.beating && !moved)) || tries == 2 * PATIENCE)
            return refuse(dir, &now, e);
        if (tries == 0)
            say_waiting(&now, &l->words);
        clock_nap(0.5);
    }
}

/* ---- taking it ------------------------------------------------------------------------------------------------ */

static enum status open_or_make(const struct dir *dir, int *fd, struct err *e)
{
    struct err missing = { 0 }, there = { 0 };
    enum status st = dir_change(dir, lock_name, fd, &missing);
    if (st == ST_MISSING)
        st = dir_make(dir, lock_name, fd, &there) == ST_OK ? ST_OK : dir_change(dir, lock_name, fd, &there);
    return st == ST_OK ? ST_OK : err_set(e, st, NULL, "%s", there.text[0] ? there.text : missing.text);
}

/* Something else than a lock has its name, from a disk that lost data or from another program: it is not written to. */
static enum status put_damaged_aside(const struct lock *l, const struct dir *dir, int *fd, struct err *e)
{
    char aside[DIR_NAME], text[512];
    TRY(dir_put_aside(dir, lock_name, "damaged", aside, e));
    snprintf(text, sizeof text, "the file lock was not written by a run; moved to %s", aside);
    l->words.note(l->words.arg, text);
    close(*fd);
    return dir_make(dir, lock_name, fd, e);
}

static enum status claim_open(const struct lock *l, const struct dir *dir, int *fd, struct err *e)
{
    struct lock_owner owner;
    struct stat s;
    if (!read_owner(*fd, &owner) && fstat(*fd, &s) == 0 && s.st_size > 0 &&
        ask_system(*fd, F_OFD_SETLK) != HELD_BY_ANOTHER)
        TRY(put_damaged_aside(l, dir, fd, e));
    TRY(wait_for(l, dir, *fd, e));
    return write_owner(*fd, &l->me)
               ? ST_OK
               : err_set(e, ST_IO, dir->path, "the file lock in it cannot be written: %s", strerror(errno));
}

/* The file, open, with this run in it. */
static enum status claim(const struct lock *l, const struct dir *dir, int *fd, struct err *e)
{
    TRY(open_or_make(dir, fd, e));
    enum status st = claim_open(l, dir, fd, e);
    if (st != ST_OK) {
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
    }
    return st;
}

/* ---- holding it ----------------------------------------------------------------------------------------------- */

enum named { NAMED_ME, NAMED_ANOTHER, NAMED_NOBODY /* there is no file */, NAMED_UNKNOWN };

/* A fresh look, so that a network file system asks its server. *same: the file is the one that is open. */
static enum named who_is_named(const struct lock *l, struct lock_owner *o, bool *same)
{
    struct err ignored = { 0 };
    struct stat mine, theirs;
    uint64_t bytes;
    int fd;
    enum status st = dir_read(l->dir, lock_name, &fd, &bytes, &ignored);
    if (st == ST_MISSING)
        return NAMED_NOBODY;
    if (st != ST_OK)
        return NAMED_UNKNOWN;
    errno = 0;
    bool read = read_owner(fd, o);
    int why = errno;
    *same = fstat(fd, &theirs) != 0 || fstat(l->fd, &mine) != 0 ||
            (mine.st_dev == theirs.st_dev && mine.st_ino == theirs.st_ino);
    close(fd);
    if (!read && why)
        return NAMED_UNKNOWN;
    return read && strcmp(o->run, l->me.run) == 0 ? NAMED_ME : NAMED_ANOTHER;
}

/* What the main thread is to tell; one at a time. */
static void tell(struct lock *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct lock *l, const char *fmt, ...)
{
    va_list ap;
    if (atomic_load(&l->has_news))
        return;
    va_start(ap, fmt);
    vsnprintf(l->news, sizeof l->news, fmt, ap);
    va_end(ap);
    atomic_store(&l->has_news, true);
}

/* Two runs in a folder would write into each other's files: this one, which is not named any more, is the one to go. */
static void lose(struct lock *l, const struct lock_owner *o)
{
    char text[768];
    double away = clock_of(CLOCK_BOOTTIME) - atomic_load(&l->seen);
    if (o->run[0])
        snprintf(text, sizeof text,
                 "%s: another run, process %ld on %s since %s, has taken over this directory; this run had not "
                 "refreshed its lock for %.0f s (was it suspended?) and ends without writing anything more",
                 l->dir->path, o->pid, o->host, o->since, away);
    else
        snprintf(text, sizeof text,
                 "%s: the file lock no longer names a run: another run was here, or somebody emptied it. This run ends "
                 "without writing anything more",
                 l->dir->path);
    l->words.lost(l->words.arg, text);
}

/* The file was removed, or replaced by a copy: the system's lock is on one that has no name. */
static void take_again(struct lock *l, bool removed)
{
    const struct dir bare = { .fd = l->dir->fd, .path = l->dir->path };
    struct err ignored = { 0 };
    int fd;
    if ((removed ? dir_replace(&bare, lock_name, &fd, &ignored) : dir_change(&bare, lock_name, &fd, &ignored)) != ST_OK)
        return;
    if (ask_system(fd, F_OFD_SETLK) != HELD_BY_ANOTHER && (!removed || write_owner(fd, &l->me))) {
        dup3(fd, l->fd, O_CLOEXEC);
        tell(l, "warning: %s/lock had been %s and is recreated; remove it only when no run is active there",
             l->dir->path, removed ? "removed" : "replaced");
    }
    close(fd);
}

static void look_at_folder(struct lock *l)
{
    char now[DIR_PATH];
    enum dir_place place = dir_look(l->dir, now);
    if (place == DIR_UNKNOWN || place == l->place)
        return;
    l->place = place;
    if (place == DIR_HERE)
        tell(l, "%s is the directory of this run again", l->dir->path);
    else if (place == DIR_REMOVED)
        tell(l, "warning: the run directory %s was removed: the next checkpoint recreates it", l->dir->path);
    else
        tell(l,
             "warning: %s is no longer the directory of this run: it was renamed or replaced%s%s. All files are still "
             "written to the directory in which the run started",
             l->dir->path, *now ? ", and is now " : "", now);
}

/* Under the mutex. */
static void look_again(struct lock *l)
{
    struct lock_owner named = { .run = "" };
    bool same = true;
    switch (who_is_named(l, &named, &same)) {
    case NAMED_ME:
        atomic_store(&l->seen, clock_of(CLOCK_BOOTTIME));
        if (!same)
            take_again(l, false);
        break;
    case NAMED_ANOTHER:
        lose(l, &named);
        break;
    case NAMED_NOBODY:
        if (!dir_is_removed(l->dir))
            take_again(l, true);
        break;
    case NAMED_UNKNOWN:
        break;
    }
    look_at_folder(l);
}

static void *beat(void *arg)
{
    struct lock *l = arg;
    pthread_mutex_lock(&l->mutex);
    while (!l->ending) {
        struct timespec next;
        clock_gettime(CLOCK_MONOTONIC, &next); /* the other one may be set */
        next.tv_sec += BEAT;
        pthread_cond_timedwait(&l->wake, &l->mutex, &next);
        if (l->ending)
            break;
        look_again(l);
        futimens(l->fd, NULL);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* Of the folder: before anything is written there. */
static void guard(void *arg)
{
    struct lock *l = arg;
    if (clock_of(CLOCK_BOOTTIME) - atomic_load(&l->seen) < SURE)
        return;
    pthread_mutex_lock(&l->mutex);
    look_again(l);
    pthread_mutex_unlock(&l->mutex);
}

static bool start_beating(struct lock *l)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &clock);
    pthread_condattr_destroy(&clock);
    return thread_start(&l->beat, beat, l) == 0;
}

enum status lock_take(struct dir *dir, const struct lock_words *words, struct lock **out, struct err *e)
{
    struct lock *l = mem_alloc(sizeof *l);
    *l = (struct lock){ .dir = dir, .words = *words, .place = DIR_HERE };
    describe_me(&l->me);
    enum status st = claim(l, dir, &l->fd, e);
    atomic_store(&l->seen, clock_of(CLOCK_BOOTTIME));
    if (st == ST_OK && !start_beating(l)) {
        st = err_set(e, ST_DEVICE, NULL, "cannot start a thread: %s", strerror(errno));
        close(l->fd);
    }
    if (st != ST_OK) {
        mem_free(l);
        return st;
    }
    dir->guard = guard;
    dir->arg = l;
    *out = l;
    return ST_OK;
}

enum status lock_retake(struct lock *l, struct err *e)
{
    const struct dir bare = { .fd = l->dir->fd, .path = l->dir->path };
    int fd;
    pthread_mutex_lock(&l->mutex);
    enum status st = claim(l, &bare, &fd, e);
    if (st == ST_OK) {
        dup3(fd, l->fd, O_CLOEXEC);
        close(fd);
        l->place = DIR_HERE;
        atomic_store(&l->seen, clock_of(CLOCK_BOOTTIME));
    }
    pthread_mutex_unlock(&l->mutex);
    return st;
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
    l->dir->guard = NULL;
    struct lock_owner named;
    bool same;
    if (who_is_named(l, &named, &same) == NAMED_ME && ftruncate(l->fd, 0) != 0)
        errno = 0; /* what is left there is taken over, as after a kill */
    close(l->fd);
    mem_free(l);
}

const char *lock_run(const struct lock *l)
{
    return l->me.run;
}

bool lock_news(struct lock *l, char text[LOCK_NEWS])
{
    if (!atomic_load(&l->has_news))
        return false;
    memcpy(text, l->news, LOCK_NEWS);
    atomic_store(&l->has_news, false);
    return true;
}

enum status lock_look(const struct dir *dir, bool *running, struct lock_owner *owner, struct err *e)
{
    struct err why = { 0 };
    uint64_t bytes;
    int fd;
    *running = false;
    *owner = (struct lock_owner){ .job = "none" };
    bool there;
    TRY(dir_find(dir, lock_name, &there, e));
    if (!there)
        return ST_OK;
    if (dir_read(dir, lock_name, &fd, &bytes, &why) != ST_OK)
        return err_set(e, ST_IO, NULL, "%s", why.text);
    struct lock_owner me;
    struct look l;
    describe_me(&me);
    look(dir, fd, ask_system(fd, F_OFD_GETLK), me.host, &l);
    close(fd);
    *running = l.alive && l.owned;
    *owner = l.owner;
    return ST_OK;
}
