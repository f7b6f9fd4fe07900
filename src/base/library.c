#include "base/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The loader's own places, then the folder of the build. `why`: what the loader says. */
static void *open_library(const struct library *l, char *why, size_t size)
{
    char path[1024];
    void *so = dlopen(l->file, RTLD_NOW | RTLD_LOCAL);
    if (so)
        return so;
    snprintf(why, size, "%s", dlerror());
    snprintf(path, sizeof path, "%s/%s", l->folder, l->file);
    if (access(path, R_OK) != 0)
        return NULL;
    so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so)
        snprintf(why, size, "%s", dlerror());
    return so;
}

static enum status missing(const struct library *l, const char *why, struct err *e)
{
    const char *path = getenv("LD_LIBRARY_PATH");
    return err_set(
        e, ST_DEVICE, l->name,
        "%s is required and cannot be loaded: %s. Searched: LD_LIBRARY_PATH (%.600s), the system's directories and %s. "
        "Add its directory to LD_LIBRARY_PATH (Python wheels have it in site-packages/%s), or %s",
        l->file, why, path ? path : "not set", l->folder, l->wheel, l->instead);
}

enum status library_load(const struct library *l, void *functions, struct err *e)
{
    char why[600];
    void *so = open_library(l, why, sizeof why), *found[64];
    CHECK(l->n <= sizeof found / sizeof *found);
    if (!so)
        return missing(l, why, e);
    for (unsigned i = 0; i < l->n; i++) {
        found[i] = dlsym(so, l->names[i]);
        if (!found[i]) {
            dlclose(so);
            return err_set(
                e, ST_DEVICE, l->name,
                "the %s found has no %s: it is older than %s; put a newer one first in LD_LIBRARY_PATH, or %s", l->file,
                l->names[i], l->oldest, l->instead);
        }
    }
    memcpy(functions, found, l->n * sizeof *found); /* an object's pointer and a function's: alike in POSIX */
    return ST_OK;
}
