/* What has become of a run, in a sentence. */
#ifndef PIPER_CMD_RUN_STATE_H
#define PIPER_CMD_RUN_STATE_H

#include "base/dir.h"

struct run_state {
    bool running, killed;
    char text[512]; /* "running since 2026-11-29 12:30:00, process 12 on n1" */
};
/* has_log: something has run there; done: its last step is made. ST_IO. */
enum status run_state_of(const struct dir *run, bool has_log, bool done, struct run_state *out, struct err *e);

#endif
