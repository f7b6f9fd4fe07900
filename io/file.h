/* Plain files: whole reads and writes at an offset, and the one way in which a new file takes its name. */
#ifndef PIPER_IO_FILE_H
#define PIPER_IO_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Whole file into memory (mem_free). Opened by file_open_read; ST_INPUT when it is larger than `most`. */
enum status file_read_all(const char *path, uint64_t most, void **data, uint64_t *size, struct err *e);
/* All bytes or ST_IO with the system's reason; a file that ends early is ST_INPUT. `path` is for the message. */
enum status file_pread(int fd, const char *path, void *data, uint64_t bytes, uint64_t offset, struct err *e);
enum status file_pwrite(int fd, const char *path, const void *data, uint64_t bytes, uint64_t offset, struct err *e);
/* Only regular files are opened for reading. With the reason, ST_MISSING: there is none, or it may not be read; ST_IO: the
 * system could not (ESTALE, EIO, EMFILE, ...), which may pass. */
enum status file_open_read(const char *path, int *fd, uint64_t *size, struct err *e);
/* An existing file, to be filled in with file_pwrite. */
enum status file_open_write(const char *path, int *fd, struct err *e);
/* The same; made when it is missing, but not emptied. */
enum status file_open_make(const char *path, int *fd, struct err *e);
/* ST_USAGE where `out`, which is to be made, is the file `in`, by whatever name: the input would be lost. */
enum status file_differs(const char *out, const char *in, struct err *e);
/* fsync and close: bytes written from this host are on the disk. ST_IO with the reason. */
enum status file_sync_close(int fd, const char *path, struct err *e);
/* fsync temp, rename to path, fsync of the folder: after it the file is there even if the power fails. */
enum status file_publish(const char *temp, const char *path, struct err *e);

#endif
