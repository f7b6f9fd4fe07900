/* Folders. */
#ifndef PIPER_FOLDER_H
#define PIPER_FOLDER_H

#include "base/status.h"

/* Makes the folder and those above it that are missing. ST_IO with the system's reason. */
enum status folder_make(const char *path, struct err *e);

enum { FOLDER_BYTES = 4096 };
/* The folder of the running program, without a slash at its end. */
void folder_of_program(char dir[FOLDER_BYTES]);

#endif
