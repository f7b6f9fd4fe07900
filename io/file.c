#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* Reasons that another name, or the owner, can cure; all others are the system's or pass. */
static enum status why_not_opened(int why)
{
    static const int missing[] = { ENOENT, ENOTDIR, EACCES, EPERM, ELOOP, ENAMETOOLONG, ENXIO };
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
        if (why == missing[i])
            return ST_MISSING;
    return ST_IO;
}

enum status file_open_read(const char *path, int *fd, uint64_t *size, struct err *e)
{
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us; it is refused below */
    if (f < 0)
        return err_set(e, why_not_opened(errno), path, "cannot be read: %s", strerror(errno));
    struct stat s;
    enum status st = ST_OK;
    if (fstat(f, &s) != 0)
        st = err_set(e, ST_IO, path, "cannot be read: %s", strerror(errno));
    else if (!S_ISREG(s.st_mode))
        st = err_set(e, ST_MISSING, path, "cannot be read: it is not a regular file");
    if (st != ST_OK) {
        close(f);
        return st;
    }
    *fd = f;
    *size = (uint64_t)s.st_size;
    return ST_OK;
}

enum status file_pread(int fd, const char *path, void *data, uint64_t bytes, uint64_t offset, struct err *e)
{
    char *to = data;
    while (bytes) {
        ssize_t n = pread(fd, to, bytes < SSIZE_MAX ? bytes : SSIZE_MAX, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, ST_IO, path, "cannot be read at byte %" PRIu64 ": %s", offset, strerror(errno));
        if (n == 0)
            return err_set(e, ST_INPUT, path,
                           "ends at byte %" PRIu64 ", expected %" PRIu64 " more: the file is cut off", offset, bytes);
        to += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return ST_OK;
}

enum status file_pwrite(int fd, const char *path, const void *data, uint64_t bytes, uint64_t offset, struct err *e)
{
    const char *from = data;
    while (bytes) {
        ssize_t n = pwrite(fd, from, bytes < SSIZE_MAX ? bytes : SSIZE_MAX, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, ST_IO, path, "cannot be written at byte %" PRIu64 ": %s", offset,
                           n < 0 ? strerror(errno) : "nothing was written");
        from += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return ST_OK;
}

enum status file_open_write(const char *path, int *fd, struct err *e)
{
    *fd = open(path, O_WRONLY | O_CLOEXEC);
    return *fd < 0 ? err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno)) : ST_OK;
}

enum status file_open_make(const char *path, int *fd, struct err *e)
{
    *fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    return *fd < 0 ? err_set(e, ST_IO, path, "cannot be created: %s", strerror(errno)) : ST_OK;
}

enum status file_differs(const char *out, const char *in, struct err *e)
{
    struct stat a, b;
    if (stat(out, &a) != 0 || stat(in, &b) != 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return ST_OK;
    return err_set(e, ST_USAGE, out, "is the input %s, expected another name for the output", in);
}

enum status file_sync_close(int fd, const char *path, struct err *e)
{
    int bad = fsync(fd), why = errno;
    if (close(fd) != 0 && !bad) {
        bad = 1;
        why = errno;
    }
    return bad ? err_set(e, ST_IO, path, "cannot be made durable: %s", strerror(why)) : ST_OK;
}

enum status file_read_all(const char *path, uint64_t most, void **data, uint64_t *size, struct err *e)
{
    int fd;
    TRY(file_open_read(path, &fd, size, e));
    enum status st = ST_OK;
    *data = NULL;
    if (*size > most) {
        st = err_set(e, ST_INPUT, path, "found %" PRIu64 " bytes, expected at most %" PRIu64, *size, most);
    } else {
        *data = mem_alloc(*size);
        st = file_pread(fd, path, *data, *size, 0, e);
    }
    close(fd);
    if (st != ST_OK) {
        mem_free(*data);
        *data = NULL;
    }
    return st;
}

static int sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int bad = fsync(fd), why = errno;
    if (bad && why == EINVAL && flags & O_DIRECTORY) /* a file system that cannot sync folders */
        bad = 0;
    if (close(fd) != 0 && !bad)
        return -1;
    errno = why;
    return bad;
}

enum status file_publish(const char *temp, const char *path, struct err *e)
{
    if (sync_path(temp, O_RDWR) != 0)
        return err_set(e, ST_IO, temp, "cannot be made durable: %s", strerror(errno));
    if (rename(temp, path) != 0)
        return err_set(e, ST_IO, path, "cannot take this name: %s", strerror(errno));
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", slash ? slash == path ? 1 : (int)(slash - path) : 1, slash ? path : ".");
    if (sync_path(folder, O_RDONLY | O_DIRECTORY) != 0)
        return err_set(e, ST_IO, folder, "folder cannot be made durable: %s", strerror(errno));
    return ST_OK;
}
