/* HDF5 as piper uses it: a narrow way to write files that people can read, and a strict way to read files that nobody
 * vouches for.
 *
 * Files have the v110 format (metadata carries checksums), root attributes `schema` and `schema_version`, fixed-length
 * strings, contiguous or compact datasets, and a `units` attribute where a number has a unit.
 *
 * The reader opens what it expects by name and looks before it reads: hard links only; class, size, rank, extents,
 * layout and storage size are checked before a byte is converted. Unknown names are mistakes. Variable-length data,
 * references, filters, external and virtual storage are refused. HDF5's own printing is turned off; its sentence ends
 * ours.
 *
 * The HDF5 library is not thread-safe: all calls come from one thread. */
#ifndef PIPER_IO_H5_H
#define PIPER_IO_H5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/dir.h"
#include "base/mem.h"
#include "base/status.h"

/* An open group (or the root) and what to call it in messages. */
struct h5_at {
    hid_t id;
    char where[512];  /* "job.h5: /model/operators" */
    uint32_t version; /* of a root that was opened: its schema_version */
};

/* err_set, followed by what HDF5 says was the cause. */
enum status h5_fail(struct err *e, enum status st, const struct h5_at *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void h5_close(struct h5_at *at); /* closes the group or file; safe on one that was never opened (id <= 0) */

/* ---- writing: under another name, which h5_commit changes when the file is durable ----
 *
 * HDF5 writes to memory (a sparse memory file: reserved datasets take no room), and we write what it made to the disk.
 * So a full disk is answered with the system's reason, the library is never left with a file that it cannot close (it
 * crashes at exit then), and metadata go out in one sweep instead of many small writes. */

struct h5_out {
    struct h5_at root;
    char *path;          /* of messages; owned */
    struct dir_new file; /* of an image: none */
    int memory;
};
/* A path of the user's own; h5_create_in: a name in the folder of a run. ST_IO when the folder cannot be written. On success the
 * caller ends with h5_commit or h5_abandon. */
enum status h5_create_in(const struct dir *in, const char *name, const char *schema, uint32_t version, struct h5_out *o,
                         struct err *e);
enum status h5_create(const char *path, const char *schema, uint32_t version, struct h5_out *o, struct err *e);
/* Closes the HDF5 file and writes it to o->file.fd, of full size, for those who fill in reserved datasets; others can open it
 * as o->file.temp. */
enum status h5_finish(struct h5_out *o, struct err *e);
/* h5_finish if not done, fsync, rename, fsync of the folder. */
enum status h5_commit(struct h5_out *o, struct err *e);
void h5_abandon(struct h5_out *o); /* removes the temporary file */

/* An image: the memory file alone, for many files that are alike but for some attributes. Made, closed, opened again to
 * change attributes, and copied while it is closed; ends with h5_abandon. */
enum status h5_create_image(const char *where, const char *schema, uint32_t version, struct h5_out *o, struct err *e);
enum status h5_close_image(struct h5_out *o, struct err *e);
enum status h5_open_image(struct h5_out *o, struct err *e);
uint64_t h5_image_bytes(const struct h5_out *o);
/* A copy of a closed image. *bytes: mem_free. */
enum status h5_read_image(const struct h5_out *o, void **bytes, uint64_t *size, struct err *e);
/* Gives the file `to` (`path` in messages) its full size and copies these bytes [first, end) of the image to it: all that is
 * not reserved, others may be filling in that. Does not call HDF5 and does not allocate. */
struct h5_range {
    uint64_t first, end;
};
enum status h5_copy_image(const struct h5_out *o, int to, const char *path, const struct h5_range *range, uint32_t n,
                          struct err *e);

/* Group `name` below `at`; names with '/' make groups on the way, existing ones are opened. */
enum status h5_make_group(const struct h5_at *at, const char *name, struct h5_at *out, struct err *e);

struct h5_data {
    const char *name;  /* '/' makes groups on the way */
    const char *units; /* NULL: none */
    int rank;          /* 0: scalar */
    uint64_t dim[4];
};
enum h5_type { H5_U8, H5_U16, H5_U32, H5_U64, H5_I32, H5_F32, H5_F64 }; /* little-endian in the file */
enum status h5_put(const struct h5_at *at, const struct h5_data *d, enum h5_type type, const void *data, struct err *e);
/* Column of n fixed-length strings, as wide as the longest. */
enum status h5_put_strings(const struct h5_at *at, const char *name, const char *const *s, uint64_t n, struct err *e);
enum status h5_put_text(const struct h5_at *at, const char *name, const char *text, struct err *e); /* scalar */
/* A contiguous dataset whose bytes will be written by others at *offset of the file; nothing is written now. */
enum status h5_reserve(const struct h5_at *at, const struct h5_data *d, enum h5_type type, uint64_t *offset,
                       struct err *e);
/* Makes an attribute, or overwrites one of the same type and length. */
enum status h5_attr_text(const struct h5_at *at, const char *name, const char *text, struct err *e);
enum status h5_attr_u64(const struct h5_at *at, const char *name, uint64_t x, struct err *e);
enum status h5_attr_f64(const struct h5_at *at, const char *name, double x, struct err *e);

/* ---- reading ---- */

/* Opens a file, by a path of the user's own or a name in the folder of a run, or its bytes (borrowed until h5_close), read-only.
 * ST_MISSING when there is no such file or it cannot be read; ST_INPUT when it is not of this schema and of a version from 1 to this
 * one. The root must be closed with h5_close. */
enum status h5_open_in(const struct dir *in, const char *name, const char *schema, uint32_t version, struct h5_at *root,
                       struct err *e);
enum status h5_open(const char *path, const char *schema, uint32_t version, struct h5_at *root, struct err *e);
enum status h5_open_bytes(const void *bytes, size_t n, const char *path, const char *schema, uint32_t version,
                          struct h5_at *root, struct err *e);

enum status h5_group(const struct h5_at *at, const char *name, struct h5_at *out, struct err *e);
bool h5_has(const struct h5_at *at, const char *name); /* a hard link of that name exists */
/* Only these members (NULL-terminated) may be there. */
enum status h5_only(const struct h5_at *at, const char *const *names, struct err *e);
/* Only these attributes may be there. */
enum status h5_only_attrs(const struct h5_at *at, const char *const *names, struct err *e);
enum status h5_count(const struct h5_at *at, uint64_t *n, struct err *e); /* members */

/* What a dataset must be; dim[i] = H5_ANY takes what is there (then d->dim holds it), up to H5_MOST elements in all. */
#define H5_ANY  UINT64_MAX
#define H5_MOST (UINT64_C(1) << 28)
/* Numbers of any standard integer or float type, converted; a value outside [lo, hi] is an error with its index. Arrays
 * are the arena's. */
enum status h5_get_i64(const struct h5_at *at, struct h5_data *d, int64_t lo, int64_t hi, struct arena *a,
                       int64_t **out, struct err *e);
enum status h5_get_f64(const struct h5_at *at, struct h5_data *d, struct arena *a, double **out, struct err *e);
/* n strings (H5_ANY), NUL-terminated, the arena's; printable characters only. */
enum status h5_get_strings(const struct h5_at *at, const char *name, uint64_t *n, struct arena *a, const char ***out,
                           struct err *e);
/* A text; any characters but NUL. */
enum status h5_get_text(const struct h5_at *at, const char *name, struct arena *a, const char **out, struct err *e);
/* A contiguous dataset of exactly this type; its place in the file. Extent up to the size of the file. */
enum status h5_locate(const struct h5_at *at, struct h5_data *d, enum h5_type type, uint64_t *offset, struct err *e);
/* Tells which of the types a dataset has (locate takes exactly one). */
enum status h5_type_of(const struct h5_at *at, const char *name, enum h5_type *type, struct err *e);

enum status h5_get_attr_text(const struct h5_at *at, const char *name, struct arena *a, const char **out,
                             struct err *e);
enum status h5_get_attr_u64(const struct h5_at *at, const char *name, uint64_t hi, uint64_t *out, struct err *e);
enum status h5_get_attr_f64(const struct h5_at *at, const char *name, double *out, struct err *e);
bool h5_has_attr(const struct h5_at *at, const char *name);

#endif
