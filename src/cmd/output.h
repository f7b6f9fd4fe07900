/* What a command writes for the user: a file, or standard output where it is called "-". */
#ifndef PIPER_CMD_OUTPUT_H
#define PIPER_CMD_OUTPUT_H

#include <stdio.h>

#include "base/status.h"

/* ST_IO. It ends with output_close. */
enum status output_open(const char *path, FILE **f, struct err *e);
/* st: how the writing ended, which is returned; ST_OK becomes ST_IO where not all of it arrived. */
enum status output_close(const char *path, FILE *f, enum status st, struct err *e);

#endif
