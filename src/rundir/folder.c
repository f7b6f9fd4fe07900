#include "rundir/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of what is in it; one that may not be read cannot be. */
static bool sync_names(const char *path)
{
    char above[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(above, sizeof above, "%.*s", slash == path ? 1 : slash ? (int)(slash - path) : 1, slash ? path : ".");
    int fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return true;
    bool good = fsync(fd) == 0 || errno == EINVAL; /* a file system that cannot sync folders */
    int why = errno;
    close(fd);
    errno = why;
    return good;
}

/* Or may be one: what cannot be looked at is left to those who open it. */
static bool is_folder(const char *path)
{
    struct stat found;
    return stat(path, &found) != 0 || S_ISDIR(found.st_mode);
}

enum status folder_make(const char *path, struct err *e)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof part)
        return err_set(e, ST_USAGE, path, "the name is too long for a directory");
    for (size_t n = 1; n <= length; n++) {
        if (path[n] != '/' && path[n] != '\0')
            continue;
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        bool made = mkdir(part, 0777) == 0;
        if ((!made && errno != EEXIST) || (made && !sync_names(part)))
            return err_set(e, ST_IO, part, "cannot create directory: %s", strerror(errno));
        if (!made && !is_folder(part))
            return err_set(e, ST_IO, part, "is not a directory; name another one");
    }
    return ST_OK;
}

void folder_of_program(char dir[FOLDER_BYTES])
{
    ssize_t n = readlink("/proc/self/exe", dir, FOLDER_BYTES - 1);
    dir[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = '\0';
}
