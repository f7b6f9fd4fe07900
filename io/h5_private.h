/* Shared by the h5*.c files. */
#ifndef PIPER_IO_H5_PRIVATE_H
#define PIPER_IO_H5_PRIVATE_H

#include "io/h5.h"

void h5__quiet(void);   /* first of all: HDF5 prints nothing from now on, and ends when we say so */
extern bool h5__broken; /* a file could not be closed: leave the library alone at exit */
/* From here to h5__unguard() a crash inside the library is answered with a sentence that names `path`, and exit code 65. May be
 * nested. */
void h5__guard(const char *path);
void h5__unguard(void);
hid_t h5__fapl(void); /* v110, no file locks; H5Pclose */
/* h5__fapl for an open file, and the name by which HDF5 opens it again. */
hid_t h5__descriptor(int fd, char name[64]);
hid_t h5__type(enum h5_type t);                                             /* a constant of the library */
uint64_t h5__elements(const struct h5_data *d);                             /* product; UINT64_MAX when it overflows */
void h5__name(const struct h5_at *at, const char *name, struct h5_at *out); /* where = at/name, id = -1 */

bool h5__standard(hid_t type, bool floats); /* an integer (or float) of HDF5's standard types */
/* A fixed-length string of at most `most` bytes; *width is set. */
bool h5__fixed_string(hid_t type, uint64_t most, size_t *width);
/* A padded string of `width` bytes to an ordinary one, the arena's; NULL when it is no UTF-8 text (line: a printable
 * one). */
char *h5__take_string(struct arena *a, const char *s, size_t width, bool line);

#endif
