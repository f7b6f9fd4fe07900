#include "job/data_path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Characters of the directory in a file's name, with the slash; 0: it is in the current one. */
static size_t directory_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? (size_t)(slash + 1 - file) : 0;
}

static void set_path(struct train_source *s, const char *path)
{
    if (strlen(path) < sizeof s->path)
        strcpy(s->path, path);
}

void data_paths_beside(const char *file, struct train_sources *s)
{
    char path[PATH_MAX + TRAIN_PATH_BYTES];
    const size_t n = directory_of(file);
    for (uint32_t i = 0; n && n < PATH_MAX && i < s->n; i++) {
        snprintf(path, sizeof path, "%.*s%s", (int)n, file, s->at[i].path);
        if (s->at[i].path[0] != '/' && access(path, F_OK) == 0)
            set_path(&s->at[i], path);
    }
}

void data_paths_for(const char *file, struct train_sources *s)
{
    for (uint32_t i = 0; directory_of(file) && i < s->n; i++) {
        char *path = s->at[i].path[0] != '/' ? realpath(s->at[i].path, NULL) : NULL;
        if (path)
            set_path(&s->at[i], path);
        free(path);
    }
}
