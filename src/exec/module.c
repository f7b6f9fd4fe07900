#include "exec/module.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/version.h"
#include "build-config.h"
#include "rundir/folder.h"

enum { PATH_BYTES = FOLDER_BYTES };
static const char file_name[] = "piper_cuda.so";

/* The first place that has the file. */
static enum status find(char path[PATH_BYTES + 32], struct err *e)
{
    char dir[PATH_BYTES];
    const char *named = getenv("PIPER_CUDA_MODULE");
    if (named) {
        snprintf(path, PATH_BYTES + 32, "%s", named);
        return access(path, R_OK) == 0
                   ? ST_OK
                   : err_set(e, ST_DEVICE, "cuda", "PIPER_CUDA_MODULE names %s, which cannot be read", named);
    }
    folder_of_program(dir);
    snprintf(path, PATH_BYTES + 32, "%s/.libs/%s", dir, file_name);
    if (access(path, R_OK) == 0)
        return ST_OK;
    snprintf(path, PATH_BYTES + 32, "%s/../lib/piper/%s", dir, file_name);
    if (access(path, R_OK) == 0)
        return ST_OK;
    snprintf(path, PATH_BYTES + 32, "%s/%s", PKGLIBDIR, file_name);
    if (access(path, R_OK) == 0)
        return ST_OK;
#ifdef HAVE_CUDA
    return err_set(e, ST_DEVICE, "cuda", "its module is not in %s/.libs, %s/../lib/piper or %s (%s)", dir, dir,
                   PKGLIBDIR, file_name);
#else
    return err_set(e, ST_DEVICE, "cuda", "built without CUDA (configure --with-cuda)");
#endif
}

static enum status load(const struct module **out, struct err *e)
{
    char path[PATH_BYTES + 32];
    TRY(find(path, e));
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so)
        return err_set(e, ST_DEVICE, "cuda", "the module cannot be loaded: %s", dlerror());
    const struct module *m = dlsym(so, MODULE_SYMBOL);
    if (!m || strcmp(m->commit, piper_commit) != 0 || m->sizes != MODULE_SIZES)
        return err_set(e, ST_DEVICE, "cuda",
                       "%s belongs to another build (commit %s); this is piper %s, commit %s: install both together",
                       path, m ? m->commit : "unknown", piper_version, piper_commit);
    *out = m;
    return ST_OK;
}

enum status module_cuda(const struct module **out, struct err *e)
{
    static const struct module *loaded;
    static struct err why;
    if (!loaded && why.status == ST_OK)
        load(&loaded, &why);
    *out = loaded;
    return loaded ? ST_OK : err_set(e, why.status, NULL, "%s", why.text);
}

/* Streams that share one of the device's queues wait for each other; 32 is as many as there can be. */
void module_environment(void)
{
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}
