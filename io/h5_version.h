/* Which HDF5 this is; for files that know nothing else of it. */
#ifndef PIPER_IO_H5_VERSION_H
#define PIPER_IO_H5_VERSION_H

#include <stddef.h>

void h5_version(char *text, size_t size); /* "1.10.8" */

#endif
