/* Which program runs, where, and how it was called: the first lines of log.txt. */
#ifndef PIPER_TRAIN_HEAD_H
#define PIPER_TRAIN_HEAD_H

#include "rundir/log.h"

enum { HEAD_VERSIONS = 512 };
/* "gcc 12.2.0; Open MPI v4.1.4; HDF5 1.10.8" */
void head_versions(char text[HEAD_VERSIONS]);
/* argv[0]: the command's name. Collective; rank 0 has the log open. */
void head_report(struct log *l, int argc, char *const *argv);

#endif
