#include "io/h5.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/h5_private.h"
#include "io/h5_version.h"

/* The types in memory are those of the files. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "piper runs on little-endian machines only");

bool h5__broken;

static void close_library(void)
{
    if (!h5__broken)
        H5close();
}

void h5__quiet(void)
{
    static bool done;
    if (!done) {
        H5dont_atexit(); /* it would crash over a file that could not be closed */
        atexit(close_library);
        done = true;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void h5_version(char *text, size_t size)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(text, size, "%u.%u.%u", major, minor, release);
}

hid_t h5__fapl(void)
{
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(fapl, H5F_LIBVER_V110, H5F_LIBVER_V110);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG); /* a failed read leaves no object open */
#if H5_VERSION_GE(1, 10, 7)
    /* Files are complete when they get their name, and parallel file systems often have no locks. */
    H5Pset_file_locking(fapl, 0, 1);
#endif
    return fapl;
}

/* HDF5 takes such a name with the driver that does not resolve names. */
hid_t h5__descriptor(int fd, char name[64])
{
    hid_t fapl = h5__fapl();
    H5Pset_fapl_stdio(fapl);
    snprintf(name, 64, "/proc/self/fd/%d", fd);
    return fapl;
}

uint64_t h5__elements(const struct h5_data *d)
{
    uint64_t n = 1;
    for (int i = 0; i < d->rank; i++)
        if (__builtin_mul_overflow(n, d->dim[i], &n))
            return UINT64_MAX;
    return n;
}

void h5__name(const struct h5_at *at, const char *name, struct h5_at *out)
{
    char where[sizeof out->where];
    bool root = !strstr(at->where, ": /");
    snprintf(where, sizeof where, "%.380s%s%.120s", at->where, root ? ": /" : "/", name);
    out->id = -1;
    memcpy(out->where, where, sizeof where);
}

void h5_close(struct h5_at *at)
{
    if (at->id > 0) {
        unsigned intent = H5F_ACC_RDWR;
        if (H5Iget_type(at->id) == H5I_FILE) {
            H5Fget_intent(at->id, &intent);
            H5Fclose(at->id);
            if (intent == H5F_ACC_RDONLY)
                h5__unguard();
        } else
            H5Oclose(at->id);
    }
    at->id = -1;
}

struct cause {
    const char *text; /* of the library's first error */
    int system;       /* errno of a call of the system that failed; 0: none did */
};

static herr_t first_cause(unsigned n, const H5E_error2_t *d, void *arg)
{
    (void)n;
    struct cause *c = arg;
    const char *number = d->desc ? strstr(d->desc, "errno = ") : NULL;
    if (!c->text && d->desc && d->desc[0])
        c->text = d->desc;
    if (!c->system && number)
        c->system = atoi(number + strlen("errno = "));
    return 0;
}

enum status h5_fail(struct err *e, enum status st, const struct h5_at *at, const char *fmt, ...)
{
    struct cause cause = { 0 };
    char text[600];
    hid_t stack = H5Eget_current_stack();
    H5Ewalk2(stack, H5E_WALK_UPWARD, first_cause, &cause);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (st == ST_INPUT && cause.system) /* nothing is known of the contents */
        st = err_set(e, ST_IO, at->where, "cannot be read: %s", strerror(cause.system));
    else
        err_set(e, st, at->where, "%s%s%s%s", text, cause.text ? " (HDF5: " : "", cause.text ? cause.text : "",
                cause.text ? ")" : "");
    H5Eclose_stack(stack);
    return st;
}
