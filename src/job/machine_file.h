/* Machines that a user names: measured files (HDF5), data sheets (JSON), both described in piper-machine(5). */
#ifndef PIPER_MACHINE_FILE_H
#define PIPER_MACHINE_FILE_H

#include "base/status.h"
#include "ir/machine.h"

/* path: a file, or the name of a data sheet that is installed ("h100"); NULL: the generic machine. topology: NULL, or a JSON
 * file whose keys replace the machine's. *m ends with machine_release. */
enum status machine_load(const char *path, const char *topology, struct machine *m, struct err *e);
/* The installed data sheet of a device, by its name ("cuda, NVIDIA H100 80GB HBM3, ..."). True: *m ends with machine_release;
 * false: there is none, and *m holds nothing. */
bool machine_of_device(const char *device, struct machine *m);

#endif
