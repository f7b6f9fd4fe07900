/* Machine files: what `piper calibrate` measured, in HDF5. Layout: piper-machine(5). */
#ifndef PIPER_IO_MACHINE_H
#define PIPER_IO_MACHINE_H

#include "base/status.h"
#include "ir/machine.h"

/* Replaces the file by name at once, when all of it is written. By one rank. */
enum status machine_write(const struct machine *m, const char *path, struct err *e);
/* Validated whole; *m ends with machine_release. */
enum status machine_read(const char *path, struct machine *m, struct err *e);

#endif
