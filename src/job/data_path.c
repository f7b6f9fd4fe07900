#include "job/data_path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* "run/" and "../a" become "" and "a", unless run is a link: then the directory above it is another one. */
static const char *shorten(char *directory, const char *path)
{
    struct stat s;
    while (strncmp(path, "../", 3) == 0 && *directory) {
        char *end = directory + strlen(directory) - 1, *name;
        *end = '\0'; /* its slash */
        name = strrchr(directory, '/') ? strrchr(directory, '/') + 1 : directory;
        if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || lstat(directory, &s) != 0 ||
            !S_ISDIR(s.st_mode)) {
            *end = '/';
            break;
        }
        *name = '\0';
        path += 3;
    }
    return path;
}

void data_paths_beside(const char *file, struct train_sources *s)
{
    char path[PATH_MAX + TRAIN_PATH_BYTES], directory[PATH_MAX];
    const size_t n = directory_of(file);
    for (uint32_t i = 0; n && n < PATH_MAX && i < s->n; i++) {
        snprintf(directory, sizeof directory, "%.*s", (int)n, file);
        const char *rest = shorten(directory, s->at[i].path);
        snprintf(path, sizeof path, "%s%s", directory, rest);
        if (s->at[i].path[0] != '/' && access(path, F_OK) == 0)
            set_path(&s->at[i], path);
    }
}

/* The directory that a file is in, or will be, without links, and what is behind it in the file's name. NULL: there is none. */
static char *real_directory(const char *file, const char **name)
{
    char directory[PATH_MAX] = ".";
    const size_t n = directory_of(file);
    *name = file + n;
    if (n >= sizeof directory)
        return NULL;
    if (n)
        snprintf(directory, sizeof directory, "%.*s", (int)n, file);
    return realpath(directory, NULL);
}

/* How one directory is reached from another, with a slash at its end; both absolute. Where they share nothing but the root, `to` itself:
 * they will hardly be moved together. */
static void way(const char *from, const char *to, char path[PATH_MAX])
{
    size_t shared = 0, i = 0, n = 0;
    for (; from[i] && from[i] == to[i]; i++)
        if (from[i] == '/')
            shared = i;
    if ((!from[i] || from[i] == '/') && (!to[i] || to[i] == '/'))
        shared = i;
    if (shared == 0) {
        snprintf(path, PATH_MAX, "%s%s", to, to[1] ? "/" : "");
        return;
    }
    path[0] = '\0';
    for (const char *s = from + shared; *s && n + 4 < PATH_MAX; s++)
        if (*s == '/')
            n += (size_t)snprintf(path + n, PATH_MAX - n, "../");
    if (to[shared])
        snprintf(path + n, PATH_MAX - n, "%s/", to + shared + 1);
}

void data_paths_for(const char *file, struct train_sources *s)
{
    char between[PATH_MAX], path[PATH_MAX + TRAIN_PATH_BYTES];
    const char *name;
    char *here = directory_of(file) ? real_directory(file, &name) : NULL;
    for (uint32_t i = 0; here && i < s->n; i++) {
        const char *was = s->at[i].path;
        char *there = *was != '/' && access(was, F_OK) == 0 ? real_directory(was, &name) : NULL;
        if (there) {
            way(here, there, between);
            snprintf(path, sizeof path, "%s%s", between, name);
            set_path(&s->at[i], path);
        }
        free(there);
    }
    free(here);
}
