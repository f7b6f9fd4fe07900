#include "io/file.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/mem.h"

enum status file_open_read(const char *path, int *fd, uint64_t *size, struct err *e)
{
    return dir_read(NULL, path, fd, size, e);
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
                           "ends at byte %" PRIu64 ", expected %" PRIu64 " more: the file is truncated", offset, bytes);
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

enum status file_differs(const char *out, const char *in, struct err *e)
{
    struct stat a, b;
    if (stat(out, &a) != 0 || stat(in, &b) != 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return ST_OK;
    return err_set(e, ST_USAGE, out, "is also the input %s; name another output file", in);
}

enum status file_sync_close(int fd, const char *path, struct err *e)
{
    int bad = fsync(fd), why = errno;
    if (close(fd) != 0 && !bad) {
        bad = 1;
        why = errno;
    }
    return bad ? err_set(e, ST_IO, path, "cannot be synced to disk: %s", strerror(why)) : ST_OK;
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
