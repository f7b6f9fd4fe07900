/* Traced steps as files for viewers. */
#ifndef PIPER_TRACE_FILES_H
#define PIPER_TRACE_FILES_H

#include <stdio.h>

#include "view/trace_walk.h"

/* The JSON trace event format. */
void trace_perfetto(const struct trace_walk *w, FILE *to);

/* An OTF2 archive: the new directory `path`, with traces.otf2. It gets its name when it is whole. name: of the run. ST_USAGE: this
 * build has no OTF2, or there is something of that name; ST_IO: it cannot be written. */
enum status trace_otf2(const struct trace_walk *w, const char *name, const char *path, struct err *e);

#endif
