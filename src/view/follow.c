#include "view/follow.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 16 };

/* Lines of a block of `n` bytes at offset f->at. Returns how many bytes its whole lines are, *last where the last begins. */
static size_t give_lines(struct follow *f, size_t n, follow_line line, void *self, size_t *last)
{
    size_t begin = 0;
    for (char *end; (end = memchr(f->text + begin, '\n', n - begin)); begin = (size_t)(end - f->text) + 1) {
        *end = '\0';
        *last = begin;
        line(self, f->at + begin, f->text + begin);
    }
    return begin;
}

static enum status read_lines(struct follow *f, int fd, follow_line line, void *self, struct err *e)
{
    for (;;) {
        if (!f->room)
            f->text = mem_realloc(f->text, f->room = BLOCK);
        const ssize_t n = pread(fd, f->text, f->room, (off_t)f->at);
        if (n < 0)
            return err_set(e, ST_IO, f->dir->path, "cannot read %s: %s", f->name, strerror(errno));
        size_t last = 0;
        const bool full = (size_t)n == f->room;
        const size_t whole = give_lines(f, (size_t)n, line, self, &last);
        if (!full) {
            f->at += last;
            return ST_OK;
        }
        f->at += whole;
        if (!whole) /* a line that is longer than the room */
            f->text = mem_realloc(f->text, f->room *= 2);
    }
}

enum status follow_read(struct follow *f, follow_again again, follow_line line, void *self, struct err *e)
{
    struct err why = { 0 };
    struct stat s;
    uint64_t bytes;
    int fd;
    const enum status st = dir_read(f->dir, f->name, &fd, &bytes, &why);
    if (st == ST_MISSING)
        return ST_OK;
    if (st != ST_OK)
        return err_set(e, st, NULL, "%s", why.text);
    enum status done = ST_OK;
    if (fstat(fd, &s) != 0)
        done = err_set(e, ST_IO, f->dir->path, "cannot look at %s: %s", f->name, strerror(errno));
    if (done == ST_OK && (s.st_dev != f->device || s.st_ino != f->inode || (uint64_t)s.st_size < f->at)) {
        f->device = s.st_dev;
        f->inode = s.st_ino;
        f->at = 0;
        again(self);
    }
    if (done == ST_OK)
        done = read_lines(f, fd, line, self, e);
    close(fd);
    return done;
}

void follow_release(struct follow *f)
{
    mem_free(f->text);
    f->text = NULL;
    f->room = 0;
}

size_t follow_time(const char *line)
{
    static const char form[] = "dddd-dd-dd dd:dd:dd  ";
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'd' ? line[i] < '0' || line[i] > '9' : line[i] != form[i])
            return 0;
    return sizeof form - 1;
}
