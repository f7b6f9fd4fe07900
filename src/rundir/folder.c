#include "rundir/folder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum status folder_make(const char *path, struct err *e)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof part)
        return err_set(e, ST_USAGE, path, "the name is too long for a folder");
    for (size_t n = 1; n <= length; n++) {
        if (path[n] != '/' && path[n] != '\0')
            continue;
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return err_set(e, ST_IO, part, "cannot create directory: %s", strerror(errno));
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
