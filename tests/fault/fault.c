/* piper-fault is piper with calls that fail. PIPER_FAULT=RANK:CALL:N:WHAT, for example 1:pwrite@step-000004:3:ENOSPC
 *
 *   RANK  a rank, or * for every one
 *   CALL  a function (pwrite, renameat, calloc, mmap, MPI_Isend, ...) or a class of them: file (all that make, change or
 *         close a file or make it durable), read (open, read or list), mem, mpi; @TEXT behind it: only calls on a file whose path
 *         contains TEXT. phase@TEXT: a run comes to the phase that watch_phase() calls so; run: it begins a step or a batch of
 *         evaluation
 *   N     the how manieth such call of the rank, from 1
 *   WHAT  ENOSPC, EDQUOT, EIO, ENOMEM, EINTR, ESTALE, EACCES, EMFILE: the call fails so (of MPI: ERR, with MPI_ERR_OTHER); short: writes
 *         one byte and says so; late: it is made PIPER_FAULT_LATE seconds later; of pthread_create (class thread): what the new
 *         thread does begins so much later;
 *         stop, exit, kill, spin: the rank does that instead, exit with status 0; count: nothing, the rank counts; with a + behind
 *         it all later calls do so too, as on a disk that stays full
 *
 * PIPER_FAULT_MARK=FILE gets a line when it happens, or, of count, a line with the number when the rank ends.
 *
 * PIPER_FAULT_LOG=FILE gets a line for every call of the class file: RANK CALL PATH, of renameat both paths. It is written
 * before the call is made, of fsync after it has succeeded: so what stands below an fsync began when that was done.
 *
 * PIPER_FAULT_CLOCK=SECONDS: the time of day (CLOCK_REALTIME) is so far ahead, as before somebody sets it back.
 *
 * Calls of piper's own objects are caught, by the linker (--wrap) and by MPI's own second names (PMPI); what libraries call
 * inside is not. Both programs are linked of the same objects; piper has nothing of this. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum what { NOTHING, FAIL, SHORT, LATE, STOP, EXIT, KILL, SPIN, COUNT };

static struct {
    bool on; /* for this rank */
    char rank[16], call[32], text[128];
    unsigned long long n;
    bool onwards;
    enum what what;
    int code; /* errno, of FAIL */
    atomic_ullong calls;
    int log; /* of PIPER_FAULT_LOG; -1: none */
    char me[16];
} fault = { .log = -1 };

static const struct {
    const char *name;
    enum what what;
    int code;
} words[] = {
    { "ENOSPC", FAIL, ENOSPC }, { "EIO", FAIL, EIO },  { "ENOMEM", FAIL, ENOMEM }, { "EINTR", FAIL, EINTR },
    { "ERR", FAIL, 0 },         { "short", SHORT, 0 }, { "stop", STOP, 0 },        { "exit", EXIT, 0 },
    { "kill", KILL, 0 },        { "spin", SPIN, 0 },   { "count", COUNT, 0 },      { "ESTALE", FAIL, ESTALE },
    { "EACCES", FAIL, EACCES }, { "late", LATE, 0 },   { "EMFILE", FAIL, EMFILE }, { "EDQUOT", FAIL, EDQUOT },
};

int __real_open(const char *path, int flags, ...);
ssize_t __real_write(int fd, const void *data, size_t n);
int __real_close(int fd);

static void mark(const char *call, unsigned long long n)
{
    const char *path = getenv("PIPER_FAULT_MARK");
    char line[128];
    int fd = path ? __real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    int bytes = snprintf(line, sizeof line, "%s %llu\n", call, n);
    if (fd >= 0 && (__real_write(fd, line, (size_t)bytes) != bytes || __real_close(fd) != 0))
        abort();
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("PIPER_FAULT"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    char what[16] = "", n[24] = "", *end;
    const char *log = getenv("PIPER_FAULT_LOG");
    rank = rank ? rank : getenv("PMI_RANK");
    snprintf(fault.me, sizeof fault.me, "%s", rank ? rank : "0");
    if (log)
        fault.log = __real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (!text || !*text)
        return;
    if (sscanf(text, "%15[^:]:%31[^@:]", fault.rank, fault.call) == 2) {
        const char *rest = strchr(strchr(text, ':') + 1, ':'), *file = strchr(text, '@');
        if (rest && sscanf(rest, ":%23[^:]:%15s", n, what) == 2 && file && file < rest)
            snprintf(fault.text, sizeof fault.text, "%.*s", (int)(rest - file - 1), file + 1);
    }
    fault.onwards = strchr(what, '+') != NULL;
    what[strcspn(what, "+")] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(what, words[i].name) == 0) {
            fault.what = words[i].what;
            fault.code = words[i].code;
        }
    fault.n = strtoull(n, &end, 10);
    if (fault.what == NOTHING || end == n || *end) {
        fprintf(stderr, "PIPER_FAULT=%s is not RANK:CALL:N:WHAT\n", text);
        _exit(99);
    }
    fault.on = strcmp(fault.rank, "*") == 0 || strcmp(fault.rank, fault.me) == 0;
}

__attribute__((destructor)) static void end(void)
{
    if (fault.on && fault.what == COUNT)
        mark(fault.call, atomic_load(&fault.calls));
}

static void path_of(int fd, char path[4096])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 4095);
    path[n > 0 ? n : 0] = '\0';
}

/* to: NULL, or the new name. */
static void note(const char *call, const char *path, int fd, const char *to)
{
    char own[4096] = "", line[8400];
    int before = errno;
    if (fault.log < 0)
        return;
    if (!path)
        path_of(fd, own);
    int bytes = snprintf(line, sizeof line, "%s %s %.4000s%s%.4000s\n", fault.me, call, path ? path : own,
                         to ? " " : "", to ? to : "");
    if (__real_write(fault.log, line, (size_t)bytes) != bytes)
        abort();
    errno = before;
}

/* Is it the call that something happens to? The path comes from the caller, or, if that has none, from the fd. */
static bool strikes(const char *class, const char *call, const char *path, int fd)
{
    char own[4096] = "";
    if (!fault.on || (strcmp(fault.call, call) != 0 && strcmp(fault.call, class) != 0))
        return false;
    if (*fault.text && !path)
        path_of(fd, own);
    if (*fault.text && !strstr(path ? path : own, fault.text))
        return false;
    unsigned long long n = atomic_fetch_add(&fault.calls, 1) + 1;
    if (fault.what == COUNT || (fault.onwards ? n < fault.n : n != fault.n))
        return false;
    if (n == fault.n)
        mark(call, n);
    return true;
}

static void be_late(void)
{
    const char *text = getenv("PIPER_FAULT_LATE");
    double seconds = text ? strtod(text, NULL) : 10;
    nanosleep(&(struct timespec){ (time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds)) }, NULL);
}

/* To be asked by every call: does it fail? What does not return here does not come back. */
static bool happens(const char *class, const char *call, const char *path, int fd)
{
    if (strcmp(class, "file") == 0 && strcmp(call, "fsync") != 0 && strcmp(call, "renameat") != 0)
        note(call, path, fd, NULL);
    if (!strikes(class, call, path, fd))
        return false;
    switch (fault.what) {
    case LATE:
        be_late();
        return false;
    case STOP:
        kill(getpid(), SIGSTOP);
        return false;
    case EXIT:
        _exit(0);
    case KILL:
        kill(getpid(), SIGKILL);
        return false;
    case SPIN:
        for (volatile unsigned turns = 0;; turns++)
            ;
    default:
        errno = fault.code;
        return true;
    }
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

#define WRAP(type, name, class, params, args, path, fd, failed) \
    type __real_##name params;                                  \
    type __wrap_##name params;                                  \
    type __wrap_##name params                                   \
    {                                                           \
        if (happens(class, #name, path, fd))                    \
            return failed;                                      \
        return __real_##name args;                              \
    }

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    int failed = happens("file", "fsync", NULL, fd) ? -1 : __real_fsync(fd);
    if (!failed)
        note("fsync", NULL, fd, NULL);
    return failed;
}

WRAP(int, ftruncate, "file", (int fd, off_t n), (fd, n), NULL, fd, -1)
WRAP(int, fallocate, "file", (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), NULL, fd, -1)
WRAP(int, mkdir, "file", (const char *path, mode_t mode), (path, mode), path, -1, -1)

/* A name in an open folder: the path of both. */
static const char *path_at(int folder, const char *name, char path[8192])
{
    char own[4096] = "";
    if (folder >= 0 && *name != '/')
        path_of(folder, own);
    snprintf(path, 8192, "%s%s%s", own, *own ? "/" : "", name);
    return path;
}

#define WRAP_AT(name, params, args, folder, file)                    \
    int __real_##name params;                                        \
    int __wrap_##name params;                                        \
    int __wrap_##name params                                         \
    {                                                                \
        char path[8192];                                             \
        if (happens("file", #name, path_at(folder, file, path), -1)) \
            return -1;                                               \
        return __real_##name args;                                   \
    }
WRAP_AT(mkdirat, (int in, const char *name, mode_t mode), (in, name, mode), in, name)
WRAP_AT(unlinkat, (int in, const char *name, int flags), (in, name, flags), in, name)

int __real_renameat(int in, const char *name, int to, const char *new_name);
int __wrap_renameat(int in, const char *name, int to, const char *new_name);
int __wrap_renameat(int in, const char *name, int to, const char *new_name)
{
    char from[8192], path[8192];
    note("renameat", path_at(in, name, from), -1, path_at(to, new_name, path));
    return happens("file", "renameat", path, -1) ? -1 : __real_renameat(in, name, to, new_name);
}

int __real_openat(int in, const char *name, int flags, ...);
int __wrap_openat(int in, const char *name, int flags, ...);
int __wrap_openat(int in, const char *name, int flags, ...)
{
    char path[8192];
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    const char *class = flags & (O_WRONLY | O_RDWR) ? "file" : "read";
    return happens(class, "openat", path_at(in, name, path), -1) ? -1 : __real_openat(in, name, flags, mode);
}

WRAP(FILE *, fopen, mode[0] == 'r' ? "read" : "file", (const char *path, const char *mode), (path, mode), path, -1,
     NULL)

/* An error of these comes late: the file is closed nevertheless. What a stream could not write it forgets, as glibc does. */
WRAP(int, close, "file", (int fd), (fd), NULL, fd, (__real_close(fd), errno = fault.code, -1))
WRAP(int, fflush, "file", (FILE * f), (f), f ? NULL : "", f ? fileno(f) : -1, (__fpurge(f), EOF))
WRAP(int, fclose, "file", (FILE * f), (f), NULL, fileno(f), (__fpurge(f), __real_fclose(f), errno = fault.code, EOF))

#define SOME(n) (fault.what == SHORT && (n) ? 1 : 0)
WRAP(ssize_t, write, "file", (int fd, const void *data, size_t n), (fd, data, n), NULL, fd,
     SOME(n) ? __real_write(fd, data, 1) : -1)
WRAP(ssize_t, pwrite, "file", (int fd, const void *data, size_t n, off_t at), (fd, data, n, at), NULL, fd,
     SOME(n) ? __real_pwrite(fd, data, 1, at) : -1)

WRAP(int, stat, "read", (const char *path, struct stat *s), (path, s), path, -1, -1)

int __real_fstatat(int in, const char *name, struct stat *s, int flags);
int __wrap_fstatat(int in, const char *name, struct stat *s, int flags);
int __wrap_fstatat(int in, const char *name, struct stat *s, int flags)
{
    char path[8192];
    return happens("read", "fstatat", path_at(in, name, path), -1) ? -1 : __real_fstatat(in, name, s, flags);
}

WRAP(ssize_t, pread, "read", (int fd, void *data, size_t n, off_t at), (fd, data, n, at), NULL, fd, -1)
WRAP(DIR *, fdopendir, "read", (int fd), (fd), NULL, fd, NULL)
WRAP(struct dirent *, readdir, "read", (DIR * d), (d), NULL, dirfd(d), NULL)

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    const char *class = flags & (O_WRONLY | O_RDWR) ? "file" : "read";
    return happens(class, "open", path, -1) ? -1 : __real_open(path, flags, mode);
}

/* ---- the clock ------------------------------------------------------------------------------------------------- */

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    const char *ahead = clock == CLOCK_REALTIME ? getenv("PIPER_FAULT_CLOCK") : NULL;
    int failed = __real_clock_gettime(clock, t);
    t->tv_sec += ahead ? atol(ahead) : 0;
    return failed;
}

/* ---- memory, threads ------------------------------------------------------------------------------------------ */

WRAP(void *, calloc, "mem", (size_t n, size_t size), (n, size), "", -1, NULL)
WRAP(void *, malloc, "mem", (size_t n), (n), "", -1, NULL)
WRAP(void *, realloc, "mem", (void *p, size_t n), (p, n), "", -1, NULL)
WRAP(void *, mmap, "mem", (void *p, size_t n, int prot, int flags, int fd, off_t at), (p, n, prot, flags, fd, at), "",
     -1, MAP_FAILED)

struct begins_late {
    void *(*run)(void *);
    void *arg;
};

static void *begin_late(void *self)
{
    struct begins_late b = *(struct begins_late *)self;
    free(self);
    be_late();
    return b.run(b.arg);
}

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
    if (fault.what != LATE)
        return happens("thread", "pthread_create", "", -1) ? EAGAIN : __real_pthread_create(t, a, run, arg);
    if (!strikes("thread", "pthread_create", "", -1))
        return __real_pthread_create(t, a, run, arg);
    struct begins_late *late = __real_malloc(sizeof *late);
    if (!late)
        return EAGAIN;
    *late = (struct begins_late){ run, arg };
    return __real_pthread_create(t, a, begin_late, late);
}

/* ---- where a run is ------------------------------------------------------------------------------------------- */

struct exec;
struct exec_step;
void __real_watch_phase(const char *phase);
void __wrap_watch_phase(const char *phase);
void __wrap_watch_phase(const char *phase)
{
    happens("phase", "watch_phase", phase, -1);
    __real_watch_phase(phase);
}
void __real_exec_run(struct exec *x, const struct exec_step *step, double *scalars);
void __wrap_exec_run(struct exec *x, const struct exec_step *step, double *scalars);
void __wrap_exec_run(struct exec *x, const struct exec_step *step, double *scalars)
{
    happens("run", "exec_run", "", -1);
    __real_exec_run(x, step, scalars);
}

/* ---- MPI ------------------------------------------------------------------------------------------------------ */

#define MPI(name, params, args)                                                         \
    int MPI_##name params                                                               \
    {                                                                                   \
        return happens("mpi", "MPI_" #name, "", -1) ? MPI_ERR_OTHER : PMPI_##name args; \
    }

MPI(Init_thread, (int *argc, char ***argv, int asked, int *got), (argc, argv, asked, got))
MPI(Finalize, (void), ())
MPI(Comm_dup, (MPI_Comm from, MPI_Comm *to), (from, to))
MPI(Comm_split, (MPI_Comm from, int color, int key, MPI_Comm *to), (from, color, key, to))
MPI(Comm_split_type, (MPI_Comm from, int type, int key, MPI_Info info, MPI_Comm *to), (from, type, key, info, to))
MPI(Comm_create_group, (MPI_Comm from, MPI_Group group, int tag, MPI_Comm *to), (from, group, tag, to))
MPI(Comm_free, (MPI_Comm * c), (c))
MPI(Send, (const void *p, int n, MPI_Datatype type, int to, int tag, MPI_Comm c), (p, n, type, to, tag, c))
MPI(Recv, (void *p, int n, MPI_Datatype type, int from, int tag, MPI_Comm c, MPI_Status *s),
    (p, n, type, from, tag, c, s))
MPI(Isend, (const void *p, int n, MPI_Datatype type, int to, int tag, MPI_Comm c, MPI_Request *r),
    (p, n, type, to, tag, c, r))
MPI(Issend, (const void *p, int n, MPI_Datatype type, int to, int tag, MPI_Comm c, MPI_Request *r),
    (p, n, type, to, tag, c, r))
MPI(Irecv, (void *p, int n, MPI_Datatype type, int from, int tag, MPI_Comm c, MPI_Request *r),
    (p, n, type, from, tag, c, r))
MPI(Test, (MPI_Request * r, int *done, MPI_Status *s), (r, done, s))
MPI(Testall, (int n, MPI_Request *r, int *done, MPI_Status *s), (n, r, done, s))
MPI(Wait, (MPI_Request * r, MPI_Status *s), (r, s))
MPI(Cancel, (MPI_Request * r), (r))
MPI(Ibarrier, (MPI_Comm c, MPI_Request *r), (c, r))
MPI(Ibcast, (void *p, int n, MPI_Datatype type, int root, MPI_Comm c, MPI_Request *r), (p, n, type, root, c, r))
MPI(Iallreduce, (const void *in, void *out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm c, MPI_Request *r),
    (in, out, n, type, op, c, r))
MPI(Iallgather,
    (const void *in, int n, MPI_Datatype type, void *out, int m, MPI_Datatype to, MPI_Comm c, MPI_Request *r),
    (in, n, type, out, m, to, c, r))
