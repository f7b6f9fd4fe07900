/* What `piper halt` asks of a running job: a small file in the run folder, RUNDIR/halt, that the run takes away when it has
 * read it. It names the run that it is for (the lock's), so that one that comes too late does not stop the next run.
 * RUNDIR/halted is what the run leaves when it has stopped for that reason: job scripts do not start it again then. */
#ifndef PIPER_HALT_H
#define PIPER_HALT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dir.h"
#include "base/status.h"

enum halt_kind {
    HALT_NOW,         /* after the current step */
    HALT_CHECKPOINTS, /* after so many more checkpoints */
    HALT_BEFORE,      /* so early that it has ended by a time */
};
struct halt_request {
    enum halt_kind kind;
    uint64_t number; /* checkpoints, or seconds since 1970 */
    char by[64];     /* "user on host" */
};

/* Appears in the folder whole, in place of an earlier one. */
enum status halt_write(const struct dir *dir, const char *run, const struct halt_request *r, struct err *e);
/* Takes the folder's request away; true when it was one for this run. Cheap when there is none. */
bool halt_take(const struct dir *dir, const char *run, struct halt_request *r);

/* RUNDIR/halted, with a sentence. */
void halt_mark(const struct dir *dir, const char *by);
void halt_unmark(const struct dir *dir);

#endif
