/* Plain files: whole reads and writes at an offset. How files are opened and made: base/dir.h. */
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
/* A path of the user's own, see dir_read(). ST_MISSING with the reason. */
enum status file_open_read(const char *path, int *fd, uint64_t *size, struct err *e);
/* ST_USAGE where `out`, which is to be made, is the file `in`, by whatever name: the input would be lost. */
enum status file_differs(const char *out, const char *in, struct err *e);
/* fsync and close: bytes written from this host are on the disk. ST_IO with the reason. */
enum status file_sync_close(int fd, const char *path, struct err *e);

#endif
