/* One run at a time in a run folder.
 *
 * The file RUNDIR/lock says who runs there; its owner holds the system's lock on it (fcntl, which ends with the process
 * however it ends, and reaches other hosts where the file system carries locks) and changes its time every few seconds.
 * Without the system's lock, the owner is alive as long as that time moves. The file stays, empty, when nothing runs. */
#ifndef PIPER_LOCK_H
#define PIPER_LOCK_H

#include <stdbool.h>

#include "base/status.h"

struct lock_owner {
    char run[24]; /* of one start: random, in hexadecimal */
    char host[128];
    char job[160];  /* "slurm 123", "pbs 123.server" or "none" */
    char since[32]; /* local time of the owner */
    long pid;
};

struct lock; /* held; owned by the caller until lock_release */

/* Takes the folder for this process. What a killed run has left is taken over; where that can only be seen by waiting
 * (another host, or the batch job's own former start is about to end), it waits up to half a minute, and note(arg, sentence)
 * says so before. ST_USAGE: another run is alive. ST_IO: the file cannot be written. */
enum status lock_take(const char *dir, void (*note)(void *arg, const char *text), void *arg, struct lock **out,
                      struct err *e);
void lock_release(struct lock *l); /* NULL allowed */
/* The owner's run, borrowed until release. */
const char *lock_run(const struct lock *l);

/* Who runs in the folder? *running false: nobody. ST_MISSING: there is no such folder. */
enum status lock_look(const char *dir, bool *running, struct lock_owner *owner, struct err *e);

#endif
