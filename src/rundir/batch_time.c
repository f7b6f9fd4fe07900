#include "rundir/batch_time.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/duration.h"

extern char **environ;

/* qstat -f prints the job's environment too */
enum { OUTPUT_BYTES = 1 << 18, LIMIT = 10 }; /* bytes; seconds */

/* ---- another program's answer --------------------------------------------------------------------------------- */

/* posix_spawn, because a plain fork of a process that runs MPI is not safe. Returns the end of its output, or -1. */
static int spawn(const char *const *argv, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, own;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    sigemptyset(&none);
    sigemptyset(&own);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    sigaddset(&own, SIGPIPE); /* ignored here */
    posix_spawnattr_setsigdefault(&attributes, &own);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
    int failed = posix_spawnp(pid, argv[0], &files, &attributes, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    close(ends[1]);
    if (failed)
        close(ends[0]);
    return failed ? -1 : ends[0];
}

/* Its exit status is 0; one that does not end in time is killed. */
static bool ended_well(pid_t pid, double deadline)
{
    int status = -1;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_now() >= deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return false;
        }
        clock_nap(0.01);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* What the program prints, or NULL: it is missing, fails or takes too long. mem_free. */
static char *output_of(const char *const *argv)
{
    pid_t pid;
    int from = spawn(argv, &pid);
    if (from < 0)
        return NULL;
    const double deadline = clock_now() + LIMIT;
    char *text = mem_alloc(OUTPUT_BYTES);
    size_t n = 0;
    for (;;) {
        struct pollfd p = { .fd = from, .events = POLLIN };
        int left = (int)(1e3 * (deadline - clock_now()));
        if (left <= 0)
            break;
        if (poll(&p, 1, left) <= 0)
            continue;
        ssize_t got = read(from, text + n, OUTPUT_BYTES - 1 - n);
        if (got == 0 || (got < 0 && errno != EINTR))
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    close(from);
    text[n] = '\0';
    if (ended_well(pid, deadline))
        return text;
    mem_free(text);
    return NULL;
}

/* Job ids come from the environment and become arguments: letters, digits and what ids have beside them. */
static bool is_id(const char *id)
{
    return *id && *id != '-' && strlen(id) < 128 &&
           strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-[]+") == strlen(id);
}

/* The first word after key in text: "TimeLimit=", "Resource_List.walltime = ". */
static bool find_duration(const char *text, const char *key, uint64_t *seconds)
{
    const char *at = strstr(text, key);
    char word[32] = "";
    return at && sscanf(at + strlen(key), "%31s", word) == 1 && duration_read(word, seconds);
}

/* ---- Slurm ---------------------------------------------------------------------------------------------------- */

/* The line that begins so; NULL: none does. The id of an array is that of one of its tasks too, and stands for all of them: the
 * answer has other tasks' lines before ours. */
static char *line_of(char *text, const char *begin)
{
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, begin, strlen(begin)) == 0) {
            line[strcspn(line, "\n")] = '\0';
            return line;
        }
    }
    return NULL;
}

static bool ask_squeue(const char *id, double *seconds, bool *unlimited)
{
    char *text = output_of((const char *const[]){ "squeue", "-h", "-j", id, "-o", "%A %L", NULL }), begin[160];
    snprintf(begin, sizeof begin, "%s ", id);
    uint64_t left;
    const char *line = line_of(text, begin), *value = line ? line + strlen(begin) : NULL;
    bool found = value && find_duration(value, "", &left);
    *unlimited = value && strncmp(value, "UNLIMITED", 9) == 0;
    if (found)
        *seconds = (double)left;
    mem_free(text);
    return found;
}

static bool ask_scontrol(const char *id, double *seconds)
{
    char *text = output_of((const char *const[]){ "scontrol", "-o", "show", "job", id, NULL }), begin[160];
    snprintf(begin, sizeof begin, "JobId=%s ", id);
    uint64_t limit, used;
    const char *line = line_of(text, begin);
    bool found = line && find_duration(line, " TimeLimit=", &limit) && find_duration(line, " RunTime=", &used);
    if (found)
        *seconds = (double)limit - (double)used;
    mem_free(text);
    return found;
}

/* Seconds since 1970, of newer Slurms. */
static bool ask_slurm_environment(double *seconds)
{
    uint64_t at = 0;
    if (parse_environment("SLURM_JOB_END_TIME", 1000000000, 100000000000, &at, NULL) != ST_OK || !at)
        return false;
    *seconds = (double)at - (double)time(NULL);
    return true;
}

static bool ask_slurm(const char *id, double *seconds, char *answer, size_t size)
{
    bool unlimited = false;
    const char *by = ask_slurm_environment(seconds)            ? "SLURM_JOB_END_TIME"
                     : !is_id(id)                              ? NULL
                     : ask_squeue(id, seconds, &unlimited)     ? "squeue"
                     : !unlimited && ask_scontrol(id, seconds) ? "scontrol"
                                                               : NULL;
    char left[DURATION_BYTES];
    if (by)
        snprintf(answer, size, "Slurm job %.64s has %s left (%s)", id, duration_write(*seconds, left), by);
    else
        snprintf(answer, size, "%s Slurm job %.64s",
                 unlimited ? "no time limit for" : "could not find out the time limit of", id);
    return by != NULL;
}

/* ---- PBS ------------------------------------------------------------------------------------------------------ */

/* Since the job began: the largest of what qstat counts, which it does rarely, and of the time since it says that the job
 * began. */
static double pbs_used(const char *text)
{
    static const char key[] = "stime = ";
    uint64_t counted = 0;
    double used = find_duration(text, "resources_used.walltime = ", &counted) ? (double)counted : 0;
    struct tm tm = { .tm_isdst = -1 };
    const char *at = strstr(text, key);
    if (at && strptime(at + strlen(key), "%a %b %d %H:%M:%S %Y", &tm)) {
        double since = difftime(time(NULL), mktime(&tm));
        used = since > used ? since : used;
    }
    return used;
}

static bool ask_qstat(const char *id, double *seconds)
{
    char *text = output_of((const char *const[]){ "qstat", "-f", id, NULL });
    uint64_t limit;
    bool found = text && find_duration(text, "Resource_List.walltime = ", &limit);
    if (found)
        *seconds = (double)limit - pbs_used(text);
    mem_free(text);
    return found;
}

/* The node file is written when the job begins. */
static bool ask_pbs_environment(double *seconds)
{
    const char *limit = getenv("PBS_WALLTIME"), *nodes = getenv("PBS_NODEFILE");
    uint64_t whole;
    struct stat s;
    if (!limit || !duration_read(limit, &whole))
        return false;
    *seconds = (double)whole - (nodes && stat(nodes, &s) == 0 ? difftime(time(NULL), s.st_mtime) : 0);
    return true;
}

static bool ask_pbs(const char *id, double *seconds, char *answer, size_t size)
{
    const char *by = is_id(id) && ask_qstat(id, seconds) ? "qstat"
                     : ask_pbs_environment(seconds)      ? "PBS_WALLTIME"
                                                         : NULL;
    char left[DURATION_BYTES];
    if (by)
        snprintf(answer, size, "PBS job %.64s has %s left (%s)", id, duration_write(*seconds, left), by);
    else
        snprintf(answer, size, "could not find out the time limit of PBS job %.64s", id);
    return by != NULL;
}

bool batch_time_left(double *seconds, char *answer, size_t size)
{
    const char *slurm = getenv("SLURM_JOB_ID"), *pbs = getenv("PBS_JOBID");
    if (slurm)
        return ask_slurm(slurm, seconds, answer, size);
    if (pbs)
        return ask_pbs(pbs, seconds, answer, size);
    snprintf(answer, size, "not in a Slurm or PBS job, so there is no time limit");
    return false;
}
