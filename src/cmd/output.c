#include "cmd/output.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum status output_open(const char *path, FILE **f, struct err *e)
{
    *f = strcmp(path, "-") ? fopen(path, "w") : stdout;
    return *f ? ST_OK : err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno));
}

enum status output_close(const char *path, FILE *f, enum status st, struct err *e)
{
    bool good = fflush(f) == 0 && !ferror(f);
    if (f != stdout && fclose(f) != 0)
        good = false;
    return st == ST_OK && !good ? err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno)) : st;
}
