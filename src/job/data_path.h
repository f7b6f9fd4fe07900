/* Token files that a file names: a relative path is relative to the directory of that file; where nothing is there, to the current one. */
#ifndef PIPER_DATA_PATH_H
#define PIPER_DATA_PATH_H

#include "ir/train.h"

/* Paths that `file` names become paths from the current directory, where something is there beside it. */
void data_paths_beside(const char *file, struct train_sources *s);
/* Relative paths, from the current directory, become such that are found from `file`, which is about to be written, where something is
 * there: relative ones, so that a directory with both can be moved, or absolute ones where the two share nothing but the root. */
void data_paths_for(const char *file, struct train_sources *s);

#endif
