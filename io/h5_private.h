/* Shared by h5_read.c and h5_write.c. */
#ifndef PIPER_IO_H5_PRIVATE_H
#define PIPER_IO_H5_PRIVATE_H

#include "io/h5.h"

void h5__quiet(void);           /* first of all: HDF5 prints nothing from now on, and ends when we say so */
extern bool h5__broken;         /* a file could not be closed: leave the library alone at exit */
hid_t h5__fapl(void);           /* v110, no file locks; H5Pclose */
hid_t h5__type(enum h5_type t); /* a constant of the library */
uint64_t h5__elements(const struct h5_data *d);                             /* product; UINT64_MAX when it overflows */
void h5__name(const struct h5_at *at, const char *name, struct h5_at *out); /* where = at/name, id = -1 */

#endif
