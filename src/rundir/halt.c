#include "rundir/halt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const words[] = { "now", "checkpoints", "before" };
enum { N_WORDS = sizeof words / sizeof *words };

static const char request[] = "halt", mark[] = "halted";

/* Appears in the folder whole. */
static enum status put(const struct dir *dir, const char *name, const char *text, struct err *e)
{
    struct dir_new n;
    TRY(dir_new_begin(dir, name, &n, e));
    enum status st = dprintf(n.fd, "%s", text) < 0 ? err_set(e, ST_IO, n.path, "cannot be written: %s", strerror(errno))
                                                   : dir_new_publish(&n, e);
    dir_new_drop(&n);
    return st;
}

enum status halt_write(const struct dir *dir, const char *run, const struct halt_request *r, struct err *e)
{
    char text[256];
    snprintf(text, sizeof text, "run %s\n%s %" PRIu64 "\nby %s\n", run, words[r->kind], r->number, r->by);
    return put(dir, request, text, e);
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

bool halt_take(const struct dir *dir, const char *run, struct halt_request *r)
{
    char text[256];
    struct err ignored = { 0 };
    uint64_t bytes;
    ssize_t n = 0;
    int fd;
    if (!dir_has(dir, request))
        return false;
    enum status st = dir_read(dir, request, &fd, &bytes, &ignored);
    if (st == ST_IO) /* which may pass: the next look reads it */
        return false;
    if (st == ST_OK) {
        n = read(fd, text, sizeof text - 1);
        close(fd);
    }
    dir_remove(dir, request);
    text[n > 0 ? n : 0] = '\0';
    bool good = parse(text, run, r);
    text_printable(r->by);
    return good;
}

void halt_mark(const struct dir *dir, const char *by)
{
    char text[128];
    struct err ignored = { 0 };
    snprintf(text, sizeof text, "stopped by piper halt (%s)\n", by);
    put(dir, mark, text, &ignored);
}

void halt_unmark(const struct dir *dir)
{
    dir_remove(dir, mark);
}
