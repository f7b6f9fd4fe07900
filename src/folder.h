/* Folders. */
#ifndef PIPER_FOLDER_H
#define PIPER_FOLDER_H

#include "base/status.h"

/* Makes the folder and those above it that are missing. ST_IO with the system's reason. */
enum status folder_make(const char *path, struct err *e);

#endif
