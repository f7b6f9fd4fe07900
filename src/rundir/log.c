#include "rundir/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/duration.h"

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

enum status log_open(struct log *l, const struct dir *dir, struct err *e)
{
    int fd;
    TRY(dir_append(dir, log_name, true, &fd, e));
    l->file = fdopen(fd, "a+");
    CHECK(l->file);
    l->dir = dir;
    l->terminal = on_terminal();
    return ST_OK;
}

enum status log_reopen(struct log *l, struct err *e)
{
    char aside[DIR_NAME];
    int fd;
    TRY(dir_restore(l->dir, log_name, fileno(l->file), aside, e));
    TRY(dir_append(l->dir, log_name, false, &fd, e));
    FILE *file = fdopen(fd, "a+");
    CHECK(file);
    fclose(l->file);
    l->file = file;
    return ST_OK;
}

bool log_is_there(const struct log *l)
{
    return !l->file || dir_leads_to(l->dir, log_name, fileno(l->file));
}

static void time_of_day(char when[32])
{
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(when, 32, "%Y-%m-%d %H:%M:%S", &tm);
}

void log_append(const struct dir *dir, const char *text)
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

void log_console(const char *text)
{
    put("", text, "\n");
}

/* False: the disk does not take it; that is said once. No reason to end a run. */
static bool write_file(struct log *l, const char *text);

/* A line, or, with keep, what the next one takes the place of. */
static void write_console(struct log *l, const char *text, bool keep)
{
    bool gone = put(l->line || keep ? "\r\033[K" : "", text, keep ? "" : "\n");
    l->line = keep;
    if (!gone)
        return;
    l->terminal = l->line = false;
    write_file(l, "standard output is closed: messages now go to this file only");
}

static bool write_file(struct log *l, const char *text)
{
    char when[32], why[256];
    dir_guard(l->dir);
    time_of_day(when);
    if (fprintf(l->file, "%s  %s\n", when, text) >= 0 && fflush(l->file) == 0)
        return true;
    snprintf(why, sizeof why, "cannot write log.txt: %s; its lines go to standard output", strerror(errno));
    if (!l->failed)
        write_console(l, why, false);
    l->failed = true;
    return false;
}

void log_close(struct log *l)
{
    if (!l->file)
        return;
    if (l->line)
        put("", "", "\n");
    fclose(l->file);
    *l = (struct log){ 0 };
}

static void write_text(struct log *l, bool console, const char *fmt, va_list ap)
{
    char text[2048];
    if (!l->file)
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    text_printable(text);
    if (!write_file(l, text) || console)
        write_console(l, text, false);
}

void log_line(struct log *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_text(l, true, fmt, ap);
    va_end(ap);
}

void log_note(struct log *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_text(l, false, fmt, ap);
    va_end(ap);
}

void log_begin(struct log *l, uint64_t step, double now)
{
    l->began = l->last_line = now;
    l->began_step = step;
}

void log_step(struct log *l, const struct log_step *s)
{
    if (!l->file)
        return;
    bool last = s->step == s->steps;
    if (!last && s->now - l->last_line < (l->terminal ? seconds_between_updates : seconds_between_lines))
        return;
    l->last_line = s->now;
    char left[DURATION_BYTES], text[256];
    uint64_t done = s->step - l->began_step;
    duration_write(done ? (s->now - l->began) / (double)done * (double)(s->steps - s->step) : 0, left);
    snprintf(text, sizeof text, "step %llu/%llu  loss %.4f  grad_norm %.3g  %.0f tokens/s  %s left",
             (unsigned long long)s->step, (unsigned long long)s->steps, s->loss, s->grad_norm, s->tokens_per_second,
             left);
    if (!l->terminal) {
        log_line(l, "%s", text);
        return;
    }
    write_console(l, text, true);
}
