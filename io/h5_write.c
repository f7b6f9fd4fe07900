#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/h5.h"
#include "io/h5_private.h"

hid_t h5__type(enum h5_type t)
{
    switch (t) {
    case H5_U8:
        return H5T_STD_U8LE;
    case H5_U16:
        return H5T_STD_U16LE;
    case H5_U32:
        return H5T_STD_U32LE;
    case H5_U64:
        return H5T_STD_U64LE;
    case H5_I32:
        return H5T_STD_I32LE;
    case H5_F32:
        return H5T_IEEE_F32LE;
    case H5_F64:
        return H5T_IEEE_F64LE;
    }
    return -1;
}

static hid_t string_type(size_t width) /* with its NUL: padded strings are ugly in h5dump */
{
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, width);
    H5Tset_strpad(t, H5T_STR_NULLTERM);
    H5Tset_cset(t, H5T_CSET_UTF8);
    return t;
}

/* Links and attributes lie in the object's own header, which carries a checksum, unless there are many. */
static void stay_compact(hid_t plist)
{
    H5Pset_link_phase_change(plist, 64, 32);
    H5Pset_attr_phase_change(plist, 64, 32);
    H5Pset_obj_track_times(plist, 0); /* equal contents make equal files */
}

enum status h5_create_image(const char *where, const char *schema, uint32_t version, struct h5_out *o, struct err *e)
{
    char name[64];
    *o = (struct h5_out){ .path = mem_strdup(where),
                          .file = { .fd = -1 },
                          .memory = memfd_create("piper-h5", MFD_CLOEXEC) };
    snprintf(o->root.where, sizeof o->root.where, "%.400s", where);
    h5__quiet();
    enum status st = ST_OK;
    if (o->memory < 0) {
        st = err_set(e, ST_IO, where, "cannot be prepared in memory: %s", strerror(errno));
    } else {
        hid_t fapl = h5__descriptor(o->memory, name), fcpl = H5Pcreate(H5P_FILE_CREATE);
        stay_compact(fcpl);
        o->root.id = H5Fcreate(name, H5F_ACC_TRUNC, fcpl, fapl);
        st = o->root.id < 0 ? h5_fail(e, ST_IO, &o->root, "cannot be created") : ST_OK;
        H5Pclose(fapl);
        H5Pclose(fcpl);
    }
    if (st == ST_OK)
        st = h5_attr_text(&o->root, "schema", schema, e);
    if (st == ST_OK)
        st = h5_attr_u64(&o->root, "schema_version", version, e);
    if (st != ST_OK)
        h5_abandon(o);
    return st;
}

enum status h5_create_in(const struct dir *in, const char *name, const char *schema, uint32_t version, struct h5_out *o,
                         struct err *e)
{
    struct dir_new file;
    *o = (struct h5_out){ .file = { .fd = -1 } };
    TRY(dir_new_begin(in, name, &file, e));
    enum status st = h5_create_image(file.path, schema, version, o, e);
    if (st == ST_OK)
        o->file = file;
    else
        dir_new_drop(&file);
    return st;
}

enum status h5_create(const char *path, const char *schema, uint32_t version, struct h5_out *o, struct err *e)
{
    return h5_create_in(NULL, path, schema, version, o, e);
}

enum status h5_close_image(struct h5_out *o, struct err *e)
{
    hid_t id = o->root.id;
    o->root.id = -1;
    errno = 0;
    if (id > 0 && H5Fclose(id) < 0) {
        h5__broken = true;
        return h5_fail(e, ST_IO, &o->root, "cannot be written: %s", errno ? strerror(errno) : "HDF5 failed");
    }
    return ST_OK;
}

enum status h5_open_image(struct h5_out *o, struct err *e)
{
    char name[64];
    hid_t fapl = h5__descriptor(o->memory, name);
    o->root.id = H5Fopen(name, H5F_ACC_RDWR, fapl);
    H5Pclose(fapl);
    return o->root.id < 0 ? h5_fail(e, ST_BUG, &o->root, "cannot be reopened in memory") : ST_OK;
}

enum status h5_read_image(const struct h5_out *o, void **bytes, uint64_t *size, struct err *e)
{
    *size = h5_image_bytes(o);
    char *to = mem_alloc(*size);
    for (uint64_t done = 0; done < *size;) {
        ssize_t n = pread(o->memory, to + done, *size - done, (off_t)done);
        if (n <= 0 && errno != EINTR) {
            mem_free(to);
            return h5_fail(e, ST_IO, &o->root, "cannot be read from memory: %s", strerror(errno));
        }
        done += n > 0 ? (uint64_t)n : 0;
    }
    *bytes = to;
    return ST_OK;
}

/* The whole of the file at once: room that is there now cannot be missing later. */
static enum status set_size(const struct h5_out *o, int to, const char *path, struct err *e)
{
    off_t size = lseek(o->memory, 0, SEEK_END);
    if (ftruncate(to, size) != 0 || (fallocate(to, 0, 0, size) != 0 && (errno == ENOSPC || errno == EDQUOT)))
        return err_set(e, ST_IO, path, "no space for %jd bytes: %s", (intmax_t)size, strerror(errno));
    return ST_OK;
}

static enum status copy_range(const struct h5_out *o, int to, const char *path, struct h5_range r, struct err *e)
{
    char part[1 << 16];
    for (uint64_t n; r.first < r.end; r.first += n) {
        n = r.end - r.first < sizeof part ? r.end - r.first : sizeof part;
        TRY(file_pread(o->memory, o->path, part, n, r.first, e));
        TRY(file_pwrite(to, path, part, n, r.first, e));
    }
    return ST_OK;
}

enum status h5_copy_image(const struct h5_out *o, int to, const char *path, const struct h5_range *range, uint32_t n,
                          struct err *e)
{
    TRY(set_size(o, to, path, e));
    for (uint32_t i = 0; i < n; i++)
        TRY(copy_range(o, to, path, range[i], e));
    return ST_OK;
}

/* What HDF5 has written, without the holes of reserved datasets. */
static enum status copy_out(const struct h5_out *o, struct err *e)
{
    off_t size = lseek(o->memory, 0, SEEK_END), at = 0, hole;
    TRY(set_size(o, o->file.fd, o->path, e));
    for (; at < size && (at = lseek(o->memory, at, SEEK_DATA)) >= 0; at = hole) {
        hole = lseek(o->memory, at, SEEK_HOLE);
        TRY(copy_range(o, o->file.fd, o->path, (struct h5_range){ (uint64_t)at, (uint64_t)hole }, e));
    }
    return ST_OK;
}

uint64_t h5_image_bytes(const struct h5_out *o)
{
    return (uint64_t)lseek(o->memory, 0, SEEK_END);
}

enum status h5_finish(struct h5_out *o, struct err *e)
{
    if (o->root.id <= 0)
        return ST_OK;
    TRY(h5_close_image(o, e));
    enum status st = copy_out(o, e);
    close(o->memory);
    o->memory = -1;
    return st;
}

enum status h5_commit(struct h5_out *o, struct err *e)
{
    enum status st = h5_finish(o, e);
    if (st == ST_OK)
        st = dir_new_publish(&o->file, e);
    h5_abandon(o);
    return st;
}

void h5_abandon(struct h5_out *o)
{
    h5_close(&o->root);
    if (o->path && o->memory >= 0)
        close(o->memory);
    dir_new_drop(&o->file);
    mem_free(o->path);
    *o = (struct h5_out){ .file = { .fd = -1 } };
}

/* The groups that a name such as "a/b/c" leads through. HDF5 would make them too, with the time of day in their headers. */
static enum status make_parents(const struct h5_at *at, const char *name, struct err *e)
{
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        char parent[512];
        struct h5_at group;
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - name), name);
        TRY(h5_make_group(at, parent, &group, e));
        h5_close(&group);
    }
    return ST_OK;
}

enum status h5_make_group(const struct h5_at *at, const char *name, struct h5_at *out, struct err *e)
{
    h5__name(at, name, out);
    TRY(make_parents(at, name, e));
    if (h5_has(at, name)) {
        out->id = H5Gopen2(at->id, name, H5P_DEFAULT);
    } else {
        hid_t gcpl = H5Pcreate(H5P_GROUP_CREATE);
        stay_compact(gcpl);
        out->id = H5Gcreate2(at->id, name, H5P_DEFAULT, gcpl, H5P_DEFAULT);
        H5Pclose(gcpl);
    }
    return out->id < 0 ? err_set(e, ST_IO, out->where, "cannot create a group") : ST_OK;
}

static hid_t make_space(const struct h5_data *d)
{
    hsize_t dim[4];
    for (int i = 0; i < d->rank; i++)
        dim[i] = d->dim[i];
    return d->rank ? H5Screate_simple(d->rank, dim, NULL) : H5Screate(H5S_SCALAR);
}

/* A limit on the size of files (ulimit -f) holds in memory too. HDF5 cannot close a file that hit it, and then crashes at its
 * own end: so it is asked before. The metadata of a dataset take less than MARGIN. */
static enum status check_limit(const struct h5_at *at, const struct h5_data *d, hid_t type, struct err *e)
{
    enum { MARGIN = 1 << 16 };
    struct rlimit most;
    hsize_t size = 0;
    if (getrlimit(RLIMIT_FSIZE, &most) != 0 || most.rlim_cur == RLIM_INFINITY)
        return ST_OK;
    hid_t file = H5Iget_file_id(at->id);
    H5Fget_filesize(file, &size);
    H5Fclose(file);
    double bytes = (double)H5Tget_size(type);
    for (int i = 0; i < d->rank; i++)
        bytes *= (double)d->dim[i];
    if ((double)size + bytes + MARGIN <= (double)most.rlim_cur)
        return ST_OK;
    return err_set(e, ST_IO, at->where, "no space for %s of %.0f bytes at offset %ju: %s (ulimit -f)", d->name, bytes,
                   (uintmax_t)size, strerror(EFBIG));
}

static enum status make_dataset(const struct h5_at *at, const struct h5_data *d, hid_t type, bool reserve, hid_t *out,
                                struct err *e)
{
    TRY(check_limit(at, d, type, e));
    TRY(make_parents(at, d->name, e));
    hid_t space = make_space(d), dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(dcpl, H5D_CONTIGUOUS);
    H5Pset_obj_track_times(dcpl, 0);
    if (reserve) {
        H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
        H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER);
    }
    hid_t ds = H5Dcreate2(at->id, d->name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    enum status st = ds < 0 ? h5_fail(e, ST_IO, at, "dataset %s cannot be created", d->name) : ST_OK;
    H5Pclose(dcpl);
    H5Sclose(space);
    *out = ds;
    return st;
}

static enum status put_units(hid_t ds, const struct h5_at *at, const char *units, struct err *e)
{
    struct h5_at here = { .id = ds };
    memcpy(here.where, at->where, sizeof here.where);
    return units ? h5_attr_text(&here, "units", units, e) : ST_OK;
}

static enum status put(const struct h5_at *at, const struct h5_data *d, hid_t type, const void *data, struct err *e)
{
    hid_t ds;
    TRY(make_dataset(at, d, type, false, &ds, e));
    enum status st = ST_OK;
    if (h5__elements(d) && H5Dwrite(ds, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        st = h5_fail(e, ST_IO, at, "dataset %s cannot be written", d->name);
    if (st == ST_OK)
        st = put_units(ds, at, d->units, e);
    H5Dclose(ds);
    return st;
}

enum status h5_put(const struct h5_at *at, const struct h5_data *d, enum h5_type type, const void *data, struct err *e)
{
    return put(at, d, h5__type(type), data, e);
}

enum status h5_reserve(const struct h5_at *at, const struct h5_data *d, enum h5_type type, uint64_t *offset,
                       struct err *e)
{
    hid_t ds;
    TRY(make_dataset(at, d, h5__type(type), true, &ds, e));
    enum status st = ST_OK;
    *offset = H5Dget_offset(ds);
    if (*offset == HADDR_UNDEF && h5__elements(d))
        st = h5_fail(e, ST_IO, at, "dataset %s has no storage in the file", d->name);
    if (st == ST_OK)
        st = put_units(ds, at, d->units, e);
    H5Dclose(ds);
    return st;
}

enum status h5_put_strings(const struct h5_at *at, const char *name, const char *const *s, uint64_t n, struct err *e)
{
    size_t width = 1;
    for (uint64_t i = 0; i < n; i++)
        width = strlen(s[i]) + 1 > width ? strlen(s[i]) + 1 : width;
    char *flat = mem_alloc(width * n);
    for (uint64_t i = 0; i < n; i++)
        memcpy(flat + i * width, s[i], strlen(s[i]));
    hid_t type = string_type(width);
    enum status st = put(at, &(struct h5_data){ .name = name, .rank = 1, .dim = { n } }, type, flat, e);
    H5Tclose(type);
    mem_free(flat);
    return st;
}

enum status h5_put_text(const struct h5_at *at, const char *name, const char *text, struct err *e)
{
    hid_t type = string_type(strlen(text) + 1);
    enum status st = put(at, &(struct h5_data){ .name = name }, type, text, e);
    H5Tclose(type);
    return st;
}

static enum status put_attr(const struct h5_at *at, const char *name, hid_t type, const void *data, struct err *e)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Aexists(at->id, name) > 0 ? H5Aopen(at->id, name, H5P_DEFAULT)
                                          : H5Acreate2(at->id, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    enum status st = ST_OK;
    if (a < 0 || H5Awrite(a, type, data) < 0)
        st = h5_fail(e, ST_IO, at, "attribute %s cannot be written", name);
    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    return st;
}

enum status h5_attr_text(const struct h5_at *at, const char *name, const char *text, struct err *e)
{
    hid_t type = string_type(strlen(text) + 1);
    enum status st = put_attr(at, name, type, text, e);
    H5Tclose(type);
    return st;
}

enum status h5_attr_u64(const struct h5_at *at, const char *name, uint64_t x, struct err *e)
{
    return put_attr(at, name, H5T_STD_U64LE, &x, e);
}

enum status h5_attr_f64(const struct h5_at *at, const char *name, double x, struct err *e)
{
    return put_attr(at, name, H5T_IEEE_F64LE, &x, e);
}
