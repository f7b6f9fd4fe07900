#include "rundir/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rundir/duration.h"

static const double seconds_between_lines = 5, seconds_between_updates = 0.1;

/* mpirun gives its ranks a terminal whatever its own output is: under a launcher, the launcher's output decides. */
static bool on_terminal(void)
{
    if (!isatty(STDOUT_FILENO))
        return false;
    if (!getenv("OMPI_COMM_WORLD_SIZE") && !getenv("PMI_SIZE") && !getenv("SLURM_STEP_ID"))
        return true;
    char path[64], to[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    ssize_t n = readlink(path, to, sizeof to - 1);
    if (n < 0)
        return false;
    to[n] = '\0';
    return strncmp(to, "/dev/pts/", 9) == 0 || strncmp(to, "/dev/tty", 8) == 0;
}

static const char log_name[] = "log.txt";

enum status report_open(struct report *r, const struct dir *dir, struct err *e)
{
    int fd;
    TRY(dir_append(dir, log_name, true, &fd, e));
    r->file = fdopen(fd, "a+");
    CHECK(r->file);
    r->dir = dir;
    r->terminal = on_terminal();
    return ST_OK;
}

enum status report_reopen(struct report *r, struct err *e)
{
    char aside[DIR_NAME];
    int fd;
    TRY(dir_restore(r->dir, log_name, fileno(r->file), aside, e));
    TRY(dir_append(r->dir, log_name, false, &fd, e));
    FILE *file = fdopen(fd, "a+");
    CHECK(file);
    fclose(r->file);
    r->file = file;
    return ST_OK;
}

bool report_is_there(const struct report *r)
{
    return !r->file || dir_leads_to(r->dir, log_name, fileno(r->file));
}

static void time_of_day(char when[32])
{
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(when, 32, "%Y-%m-%d %H:%M:%S", &tm);
}

void report_append(const struct dir *dir, const char *text)
{
    char when[32];
    struct err ignored = { 0 };
    int f;
    if (dir->fd < 0 || dir_append(dir, log_name, false, &f, &ignored) != ST_OK) /* without a log it is no run folder */
        return;
    time_of_day(when);
    dprintf(f, "%s  %s\n", when, text);
    close(f);
}

/* On standard output; true: from here on nobody reads it (a pipe's reader has left, a terminal was closed). Then what is
 * written there is dropped, and that is no error. */
static bool put(const char *before, const char *text, const char *after)
{
    errno = 0;
    fputs(before, stdout);
    fputs(text, stdout);
    fputs(after, stdout);
    fflush(stdout);
    return ferror(stdout) && (errno == EPIPE || errno == EIO) && freopen("/dev/null", "w", stdout);
}

void report_console(const char *text)
{
    put("", text, "\n");
}

/* False: the disk does not take it; that is said once. No reason to end a run. */
static bool write_file(struct report *r, const char *text);

/* A line, or, with keep, what the next one takes the place of. */
static void write_console(struct report *r, const char *text, bool keep)
{
    bool gone = put(r->line || keep ? "\r\033[K" : "", text, keep ? "" : "\n");
    r->line = keep;
    if (!gone)
        return;
    r->terminal = r->line = false;
    write_file(r, "nobody reads standard output any more: what is said stands here alone");
}

static bool write_file(struct report *r, const char *text)
{
    char when[32], why[256];
    dir_guard(r->dir);
    time_of_day(when);
    if (fprintf(r->file, "%s  %s\n", when, text) >= 0 && fflush(r->file) == 0)
        return true;
    snprintf(why, sizeof why, "log.txt cannot be written: %s; its lines come here", strerror(errno));
    if (!r->failed)
        write_console(r, why, false);
    r->failed = true;
    return false;
}

void report_close(struct report *r)
{
    if (!r->file)
        return;
    if (r->line)
        put("", "", "\n");
    fclose(r->file);
    *r = (struct report){ 0 };
}

void report_line(struct report *r, const char *fmt, ...)
{
    if (!r->file)
        return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    write_file(r, text);
    write_console(r, text, false);
}

void report_note(struct report *r, const char *fmt, ...)
{
    if (!r->file)
        return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!write_file(r, text))
        write_console(r, text, false);
}

void report_begin(struct report *r, uint64_t step, double now)
{
    r->began = r->last_line = now;
    r->began_step = step;
}

void report_step(struct report *r, const struct report_step *s)
{
    if (!r->file)
        return;
    bool last = s->step == s->steps;
    if (!last && s->now - r->last_line < (r->terminal ? seconds_between_updates : seconds_between_lines))
        return;
    r->last_line = s->now;
    char left[DURATION_BYTES], text[256];
    uint64_t done = s->step - r->began_step;
    duration_write(done ? (s->now - r->began) / (double)done * (double)(s->steps - s->step) : 0, left);
    snprintf(text, sizeof text, "step %llu/%llu  loss %.4f  grad_norm %.3g  %.0f tokens/s  %s left",
             (unsigned long long)s->step, (unsigned long long)s->steps, s->loss, s->grad_norm, s->tokens_per_second,
             left);
    if (!r->terminal) {
        report_line(r, "%s", text);
        return;
    }
    write_console(r, text, true);
}
