#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/words.h"
#include "io/file.h"
#include "io/h5.h"
#include "io/h5_private.h"

static const uint64_t text_most = UINT64_C(1) << 26;

/* ---- opening ---- */

enum { HEAD = 9 }; /* bytes that tell what a file is */

/* What a file of the schema is called, and where one comes from. */
static const char *kind_of(const char *schema)
{
    static const struct {
        const char *schema, *kind;
    } kinds[] = {
        { "piper-job", "a job file (piper build writes one)" },
        { "piper-tokens", "a token file (piper data writes one)" },
        { "piper-checkpoint", "a checkpoint (piper train writes them to RUNDIR/checkpoints)" },
        { "piper-machine", "a machine file (piper calibrate writes one)" },
        { "piper-trace", "a trace (piper train writes one)" },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(schema, kinds[i].schema) == 0)
            return kinds[i].kind;
    return schema;
}

/* n bytes of the file's beginning, at most HEAD. */
static enum status not_hdf5(const char *path, const uint8_t *head, size_t n, const char *schema, struct err *e)
{
    size_t text = 0, space = 0;
    while (text < n && (head[text] >= ' ' || strchr("\t\r\n", head[text])) && head[text])
        text++;
    space = strspn((const char *)head, " \t\r\n");
    const char *found = !n                                         ? "is empty"
                        : text < n                                 ? "is not an HDF5 file"
                        : head[space] == '{' || head[space] == '[' ? "is JSON text"
                                                                   : "is text";
    return err_set(e, ST_INPUT, path, "%s, expected %s", found, kind_of(schema));
}

/* The first bytes of a file of `size` bytes; a NUL follows them. */
static enum status check_format(const uint8_t head[HEAD + 1], uint64_t size, const char *path, const char *schema,
                                struct err *e)
{
    static const uint8_t signature[8] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };
    if (size < HEAD || memcmp(head, signature, 8) != 0)
        return not_hdf5(path, head, size < HEAD ? (size_t)size : HEAD, schema, e);
    if (size < 48)
        return err_set(e, ST_INPUT, path, "is truncated: it has %" PRIu64 " bytes", size);
    if (head[8] < 2) /* files of the old format carry no checksums, and the library trusts them */
        return err_set(e, ST_INPUT, path,
                       "has the old HDF5 format (superblock version %d), expected the v110 format: with h5py, create "
                       "the file with libver=\"v110\"",
                       head[8]);
    return ST_OK;
}

static enum status check_schema(struct h5_at *root, const char *schema, uint32_t version, struct err *e)
{
    struct arena a;
    arena_init(&a);
    const char *found = "";
    uint64_t v = 0;
    enum status st = h5_get_attr_text(root, "schema", &a, &found, e);
    if (st == ST_OK && strcmp(found, schema) != 0)
        st = err_set(e, ST_INPUT, root->where, "attribute schema: found \"%s\", expected \"%s\", %s", found, schema,
                     kind_of(schema));
    if (st == ST_OK)
        st = h5_get_attr_u64(root, "schema_version", UINT32_MAX, &v, e);
    if (st == ST_OK && v > version)
        st = err_set(e, ST_INPUT, root->where,
                     "attribute schema_version: found %" PRIu64 ", this version of piper reads versions up to %" PRIu32
                     ": the file was written by a newer piper; use that one",
                     v, version);
    else if (st == ST_OK && v == 0)
        st = err_set(e, ST_INPUT, root->where, "attribute schema_version: found 0, expected 1 to %" PRIu32, version);
    root->version = (uint32_t)v;
    arena_release(&a);
    if (st != ST_OK)
        h5_close(root);
    return st;
}

/* `file` is what HDF5 calls it; takes fapl. */
static enum status open_root(const char *file, hid_t fapl, const char *schema, uint32_t version, struct h5_at *root,
                             struct err *e)
{
    enum status st = ST_OK;
    h5__guard(root->where);
    root->id = H5Fopen(file, H5F_ACC_RDONLY, fapl);
    if (root->id < 0) {
        st = h5_fail(e, ST_INPUT, root, "cannot be opened as HDF5; it may be truncated or damaged");
        h5__unguard();
    }
    H5Pclose(fapl);
    return st == ST_OK ? check_schema(root, schema, version, e) : st;
}

enum status h5_open_bytes(const void *bytes, size_t n, const char *path, const char *schema, uint32_t version,
                          struct h5_at *root, struct err *e)
{
    *root = (struct h5_at){ .id = -1 };
    snprintf(root->where, sizeof root->where, "%.400s", path);
    h5__quiet();
    uint8_t head[HEAD + 1] = { 0 };
    memcpy(head, bytes, n < HEAD ? n : HEAD);
    TRY(check_format(head, n, path, schema, e));
    hid_t fapl = h5__fapl();
    H5Pset_fapl_core(fapl, 1 << 16, 0);
    H5Pset_file_image(fapl, (void *)(uintptr_t)bytes, n); /* copies; it never writes to the buffer */
    static unsigned count;
    char name[40]; /* HDF5 wants one that no file has, and one for each that is open */
    snprintf(name, sizeof name, "/dev/null/%u", count++);
    return open_root(name, fapl, schema, version, root, e);
}

/* Looked at and read by one descriptor: it is the same file, whatever happens to its name. */
enum status h5_open_in(const struct dir *in, const char *name, const char *schema, uint32_t version, struct h5_at *root,
                       struct err *e)
{
    char link[64];
    int fd;
    uint64_t size;
    uint8_t head[HEAD + 1] = { 0 };
    *root = (struct h5_at){ .id = -1 };
    if (in)
        snprintf(root->where, sizeof root->where, "%.300s/%.99s", in->path, name);
    else
        snprintf(root->where, sizeof root->where, "%.400s", name);
    h5__quiet();
    TRY(dir_read(in, name, &fd, &size, e));
    enum status st = file_pread(fd, root->where, head, size < HEAD ? size : HEAD, 0, e);
    if (st == ST_OK)
        st = check_format(head, size, root->where, schema, e);
    if (st == ST_OK) {
        hid_t fapl = h5__descriptor(fd, link);
        st = open_root(link, fapl, schema, version, root, e);
    }
    close(fd);
    return st;
}

enum status h5_open(const char *path, const char *schema, uint32_t version, struct h5_at *root, struct err *e)
{
    return h5_open_in(NULL, path, schema, version, root, e);
}

/* ---- links ---- */

static enum status check_link(const struct h5_at *at, const char *name, struct err *e)
{
    if (strchr(name, '/') || H5Lexists(at->id, name, H5P_DEFAULT) <= 0) /* a path would follow links on its way */
        return err_set(e, ST_INPUT, at->where, "has no member \"%s\"", name);
    H5L_info_t info;
    if (H5Lget_info(at->id, name, &info, H5P_DEFAULT) < 0)
        return h5_fail(e, ST_INPUT, at, "member %s cannot be read", name);
    if (info.type != H5L_TYPE_HARD)
        return err_set(e, ST_INPUT, at->where, "member \"%s\" is a soft or external link, expected the object itself",
                       name);
    return ST_OK;
}

bool h5_has(const struct h5_at *at, const char *name)
{
    return H5Lexists(at->id, name, H5P_DEFAULT) > 0;
}

static enum status open_member(const struct h5_at *at, const char *name, H5I_type_t kind, struct h5_at *out,
                               struct err *e)
{
    h5__name(at, name, out);
    TRY(check_link(at, name, e));
    out->id = H5Oopen(at->id, name, H5P_DEFAULT);
    if (out->id < 0)
        return h5_fail(e, ST_INPUT, out, "cannot be opened");
    if (H5Iget_type(out->id) == kind)
        return ST_OK;
    H5Oclose(out->id);
    out->id = -1;
    return err_set(e, ST_INPUT, out->where, "is not a %s", kind == H5I_GROUP ? "group" : "dataset");
}

enum status h5_group(const struct h5_at *at, const char *name, struct h5_at *out, struct err *e)
{
    return open_member(at, name, H5I_GROUP, out, e);
}

/* "a, b, c": the start of the list of what may be there. */
static void list_known(const char *const *names, char *text, size_t size)
{
    size_t n = 0;
    for (text[0] = '\0'; *names && n + strlen(*names) + 8 < size; names++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", *names);
    if (*names)
        snprintf(text + n, size - n, ", ...");
}

static enum status unknown_ones(const struct h5_at *at, const char *kind, uint64_t there, uint64_t known,
                                const char *const *names, struct err *e)
{
    char text[400];
    list_known(names, text, sizeof text);
    return err_set(e, ST_INPUT, at->where, "has %" PRIu64 " %s, of which %" PRIu64 " are known (%s)", there, kind,
                   known, text);
}

struct member_search {
    const char *const *names;
    const char *unknown; /* mem_strdup */
};

static herr_t find_unknown(hid_t id, const char *name, const H5L_info_t *info, void *arg)
{
    (void)id, (void)info;
    struct member_search *f = arg;
    for (const char *const *k = f->names; *k; k++)
        if (strcmp(name, *k) == 0)
            return 0;
    f->unknown = mem_strdup(name);
    return 1;
}

/* Counts instead of listing: HDF5 1.10 crashes when it lists a large group whose heap is damaged. Small groups (compact
 * ones, whose links lie in the object's own checked header) are listed for the sake of the message. */
enum status h5_only(const struct h5_at *at, const char *const *names, struct err *e)
{
    H5G_info_t info;
    uint64_t known = 0;
    if (H5Gget_info(at->id, &info) < 0)
        return h5_fail(e, ST_INPUT, at, "cannot be read");
    for (const char *const *k = names; *k; k++)
        known += H5Lexists(at->id, *k, H5P_DEFAULT) > 0;
    if (known == info.nlinks)
        return ST_OK;
    struct member_search f = { names, NULL };
    hsize_t first = 0;
    if (info.storage_type == H5G_STORAGE_TYPE_COMPACT)
        H5Literate(at->id, H5_INDEX_NAME, H5_ITER_INC, &first, find_unknown, &f);
    if (!f.unknown)
        return unknown_ones(at, "members", info.nlinks, known, names, e);
    char hint[WORDS_HINT];
    err_set(e, ST_INPUT, at->where, "unknown member \"%.200s\"%s", f.unknown, words_hint(f.unknown, names, hint));
    mem_free((char *)(uintptr_t)f.unknown);
    return ST_INPUT;
}

enum status h5_count(const struct h5_at *at, uint64_t *n, struct err *e)
{
    H5G_info_t info;
    if (H5Gget_info(at->id, &info) < 0)
        return h5_fail(e, ST_INPUT, at, "cannot be read");
    *n = info.nlinks;
    return ST_OK;
}

enum status h5_only_attrs(const struct h5_at *at, const char *const *names, struct err *e)
{
    uint64_t known = 0;
#if H5_VERSION_GE(1, 12, 0)
    H5O_info2_t info;
    herr_t bad = H5Oget_info3(at->id, &info, H5O_INFO_NUM_ATTRS);
#else
    H5O_info_t info;
    herr_t bad = H5Oget_info2(at->id, &info, H5O_INFO_NUM_ATTRS);
#endif
    if (bad < 0)
        return h5_fail(e, ST_INPUT, at, "attributes cannot be counted");
    for (const char *const *k = names; *k; k++)
        known += h5_has_attr(at, *k);
    return known == info.num_attrs ? ST_OK : unknown_ones(at, "attributes", info.num_attrs, known, names, e);
}

/* ---- datasets ---- */

/* Extents against what d asks for; fills in H5_ANY. */
static enum status check_extent(const struct h5_at *at, hid_t ds, struct h5_data *d, uint64_t most, struct err *e)
{
    hid_t space = H5Dget_space(ds);
    H5S_class_t cls = space < 0 ? H5S_NO_CLASS : H5Sget_simple_extent_type(space);
    int rank = cls == H5S_SIMPLE || cls == H5S_SCALAR ? H5Sget_simple_extent_ndims(space) : -1;
    hsize_t dim[H5S_MAX_RANK] = { 0 };
    if (rank >= 0 && rank <= 4)
        H5Sget_simple_extent_dims(space, dim, NULL);
    if (space >= 0)
        H5Sclose(space);
    if (rank != d->rank)
        return err_set(e, ST_INPUT, at->where, "found %d dimensions, expected %d", rank, d->rank);
    for (int i = 0; i < rank; i++) {
        if (d->dim[i] != H5_ANY && d->dim[i] != dim[i])
            return err_set(e, ST_INPUT, at->where, "dimension %d: found %" PRIu64 ", expected %" PRIu64, i,
                           (uint64_t)dim[i], d->dim[i]);
        d->dim[i] = dim[i];
    }
    if (h5__elements(d) > most)
        return err_set(e, ST_INPUT, at->where, "found more than %" PRIu64 " elements", most);
    return ST_OK;
}

/* Contiguous or compact, in this file, with all its bytes. */
static enum status check_storage(const struct h5_at *at, hid_t ds, uint64_t bytes, struct err *e)
{
    hid_t dcpl = H5Dget_create_plist(ds);
    H5D_layout_t layout = dcpl < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(dcpl);
    int external = layout == H5D_CONTIGUOUS ? H5Pget_external_count(dcpl) : 0;
    if (dcpl >= 0)
        H5Pclose(dcpl);
    if ((layout != H5D_CONTIGUOUS && layout != H5D_COMPACT) || external)
        return err_set(e, ST_INPUT, at->where,
                       "is stored chunked, external or virtual, expected contiguous (no chunks, no filters)");
    uint64_t there = H5Dget_storage_size(ds);
    if (there != bytes)
        return err_set(e, ST_INPUT, at->where, "holds %" PRIu64 " bytes, expected %" PRIu64 "%s", there, bytes,
                       there ? "" : ": the dataset was never written");
    return ST_OK;
}

enum want { WANT_INT, WANT_NUMBER, WANT_STRING, WANT_EXACT };

/* Opens, checks type, extents and storage. *type must be closed when ST_OK. */
static enum status open_dataset(const struct h5_at *at, struct h5_data *d, enum want want, uint64_t most,
                                struct h5_at *out, hid_t *type, struct err *e)
{
    static const char *const wanted[] = { "a standard integer", "a standard integer or float",
                                          "a fixed-length string (numpy: S, not variable-length)", "" };
    TRY(open_member(at, d->name, H5I_DATASET, out, e));
    size_t width;
    *type = H5Dget_type(out->id);
    bool fits = *type >= 0;
    if (fits && want == WANT_STRING)
        fits = h5__fixed_string(*type, text_most, &width);
    else if (fits && want != WANT_EXACT)
        fits = h5__standard(*type, want == WANT_NUMBER);
    enum status st = ST_OK;
    if (!fits)
        st = err_set(e, ST_INPUT, out->where, "has another element type, expected %s", wanted[want]);
    if (st == ST_OK)
        st = check_extent(out, out->id, d, most, e);
    if (st == ST_OK)
        st = check_storage(out, out->id, h5__elements(d) * H5Tget_size(*type), e);
    if (st != ST_OK) {
        if (*type >= 0)
            H5Tclose(*type);
        h5_close(out);
    }
    return st;
}

static enum status read_as(const struct h5_at *at, struct h5_data *d, enum want want, hid_t memory, struct arena *a,
                           void **out, struct err *e)
{
    struct h5_at ds;
    hid_t type;
    TRY(open_dataset(at, d, want, H5_MOST, &ds, &type, e));
    uint64_t n = h5__elements(d);
    *out = arena_alloc(a, n * 8);
    enum status st = ST_OK;
    if (n && H5Dread(ds.id, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) < 0)
        st = h5_fail(e, ST_INPUT, &ds, "cannot be read");
    H5Tclose(type);
    h5_close(&ds);
    return st;
}

enum status h5_get_i64(const struct h5_at *at, struct h5_data *d, int64_t lo, int64_t hi, struct arena *a,
                       int64_t **out, struct err *e)
{
    void *data = NULL;
    TRY(read_as(at, d, WANT_INT, H5T_NATIVE_INT64, a, &data, e));
    *out = data;
    for (uint64_t i = 0; i < h5__elements(d); i++)
        if ((*out)[i] < lo || (*out)[i] > hi)
            return err_set(e, ST_INPUT, at->where,
                           "%s, element %" PRIu64 ": found %" PRId64 ", expected %" PRId64 " to %" PRId64, d->name, i,
                           (*out)[i], lo, hi);
    return ST_OK;
}

enum status h5_get_f64(const struct h5_at *at, struct h5_data *d, struct arena *a, double **out, struct err *e)
{
    void *data = NULL;
    TRY(read_as(at, d, WANT_NUMBER, H5T_NATIVE_DOUBLE, a, &data, e));
    *out = data;
    return ST_OK;
}

static enum status get_strings(const struct h5_at *at, struct h5_data *d, bool line, struct arena *a, const char ***out,
                               struct err *e)
{
    struct h5_at ds;
    hid_t type;
    TRY(open_dataset(at, d, WANT_STRING, H5_MOST, &ds, &type, e));
    uint64_t n = h5__elements(d);
    size_t width = H5Tget_size(type);
    enum status st = ST_OK;
    char *flat = mem_alloc(n * width);
    if (n && H5Dread(ds.id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, flat) < 0)
        st = h5_fail(e, ST_INPUT, &ds, "cannot be read");
    *out = arena_array(a, const char *, n);
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        (*out)[i] = h5__take_string(a, flat + i * width, width, line);
        if (!(*out)[i])
            st = err_set(e, ST_INPUT, ds.where, "element %" PRIu64 " is not %s UTF-8 text", i,
                         line ? "printable" : "clean");
    }
    mem_free(flat);
    H5Tclose(type);
    h5_close(&ds);
    return st;
}

enum status h5_get_strings(const struct h5_at *at, const char *name, uint64_t *n, struct arena *a, const char ***out,
                           struct err *e)
{
    struct h5_data d = { .name = name, .rank = 1, .dim = { *n } };
    TRY(get_strings(at, &d, true, a, out, e));
    *n = d.dim[0];
    return ST_OK;
}

enum status h5_get_text(const struct h5_at *at, const char *name, struct arena *a, const char **out, struct err *e)
{
    const char **s = NULL;
    TRY(get_strings(at, &(struct h5_data){ .name = name }, false, a, &s, e));
    *out = s[0];
    return ST_OK;
}

enum status h5_type_of(const struct h5_at *at, const char *name, enum h5_type *type, struct err *e)
{
    struct h5_at ds;
    TRY(open_member(at, name, H5I_DATASET, &ds, e));
    hid_t t = H5Dget_type(ds.id);
    int found = -1;
    for (int i = H5_U8; i <= H5_F64 && t >= 0; i++)
        if (H5Tequal(t, h5__type((enum h5_type)i)) > 0)
            found = i;
    if (t >= 0)
        H5Tclose(t);
    enum status st = ST_OK;
    if (found < 0)
        st = err_set(e, ST_INPUT, ds.where, "has an unknown element type");
    else
        *type = (enum h5_type)found;
    h5_close(&ds);
    return st;
}

enum status h5_locate(const struct h5_at *at, struct h5_data *d, enum h5_type want, uint64_t *offset, struct err *e)
{
    struct h5_at ds;
    hid_t type;
    TRY(open_dataset(at, d, WANT_EXACT, UINT64_MAX / 8, &ds, &type, e));
    enum status st = ST_OK;
    hsize_t size = 0;
    haddr_t where = H5Dget_offset(ds.id);
    uint64_t bytes = h5__elements(d) * H5Tget_size(type);
    hid_t file = H5Iget_file_id(ds.id);
    H5Fget_filesize(file, &size);
    H5Fclose(file);
    if (H5Tequal(type, h5__type(want)) <= 0)
        st = err_set(e, ST_INPUT, ds.where, "has another element type than expected");
    else if (bytes && (where == HADDR_UNDEF || where > size || bytes > size - where))
        st = err_set(e, ST_INPUT, ds.where, "lies outside the file: it is truncated, or the dataset is not contiguous");
    *offset = where;
    H5Tclose(type);
    h5_close(&ds);
    return st;
}
