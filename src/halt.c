#include "halt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const words[] = { "now", "checkpoints", "before" };
enum { N_WORDS = sizeof words / sizeof *words };

static void path_of(const char *dir, const char *name, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
}

enum status halt_write(const char *dir, const char *run, const struct halt_request *r, struct err *e)
{
    char path[PATH_MAX], temporary[PATH_MAX], name[64];
    snprintf(name, sizeof name, ".halt-%ld", (long)getpid());
    path_of(dir, "halt", path);
    path_of(dir, name, temporary);
    FILE *f = fopen(temporary, "w");
    if (!f)
        return err_set(e, ST_IO, temporary, "cannot be written: %s", strerror(errno));
    fprintf(f, "run %s\n%s %" PRIu64 "\nby %s\n", run, words[r->kind], r->number, r->by);
    bool good = fflush(f) == 0 && fsync(fileno(f)) == 0;
    good = fclose(f) == 0 && good;
    if (good && rename(temporary, path) == 0)
        return ST_OK;
    err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno));
    unlink(temporary);
    return ST_IO;
}

static bool parse(const char *text, const char *run, struct halt_request *r)
{
    char for_run[24], word[16];
    *r = (struct halt_request){ .kind = HALT_NOW };
    if (sscanf(text, "run %23s %15s %" SCNu64 " by %63[^\n]", for_run, word, &r->number, r->by) != 4 ||
        strcmp(for_run, run) != 0)
        return false;
    for (int i = 0; i < N_WORDS; i++)
        if (strcmp(word, words[i]) == 0) {
            r->kind = (enum halt_kind)i;
            return true;
        }
    return false;
}

bool halt_take(const char *dir, const char *run, struct halt_request *r)
{
    char path[PATH_MAX], text[256];
    path_of(dir, "halt", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    unlink(path);
    text[n > 0 ? n : 0] = '\0';
    return parse(text, run, r);
}

void halt_mark(const char *dir, const char *by)
{
    char path[PATH_MAX];
    path_of(dir, "halted", path);
    FILE *f = fopen(path, "w");
    if (!f)
        return;
    fprintf(f, "stopped by piper halt (%s)\n", by);
    fclose(f);
}

void halt_unmark(const char *dir)
{
    char path[PATH_MAX];
    path_of(dir, "halted", path);
    unlink(path);
}
