/* Shared by trace_write.c and trace_read.c: the columns of /events. */
#ifndef PIPER_IO_TRACE_PRIVATE_H
#define PIPER_IO_TRACE_PRIVATE_H

#include <stddef.h>

#include "io/h5.h"
#include "io/trace.h"

enum { TRACE_COLUMNS = 9, TRACE_VERSION = 2 };
struct trace__column {
    const char *name, *units;
    enum h5_type type;
    uint32_t width;
    size_t offset; /* in struct trace_event */
};
extern const struct trace__column trace__columns[TRACE_COLUMNS];
extern const char trace__schema[];

#endif
