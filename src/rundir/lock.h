/* One run at a time in a run folder.
 *
 * The file RUNDIR/lock says who runs there; its owner holds the system's lock on it (fcntl, which ends with the process
 * however it ends, and reaches other hosts where the file system carries locks) and changes its time every few seconds.
 * Without the system's lock, the owner is alive as long as that time moves; one that was suspended finds another run named there
 * when it goes on, and ends. The file stays, empty, when nothing runs. */
#ifndef PIPER_LOCK_H
#define PIPER_LOCK_H

#include <stdbool.h>

#include "base/dir.h"
#include "base/status.h"

struct lock_owner {
    char run[24]; /* of one start: random, in hexadecimal */
    char host[128];
    char job[160];  /* "slurm 123", "pbs 123.server" or "none" */
    char since[32]; /* local time of the owner */
    long pid;
};

struct lock; /* held; owned by the caller until lock_release */

struct lock_words {
    void (*note)(void *arg, const char *text); /* before the folder is taken: what it waits for, or has put aside */
    /* The file names another run, or nobody: this one was suspended while another took the folder over. From the beat's thread,
     * or before a write; must not return. */
    void (*lost)(void *arg, const char *text);
    void *arg;
};

/* Takes the folder for this process. What a killed run has left is taken over; where that can only be seen by waiting
 * (another host, or the batch job's own former start is about to end), it waits up to half a minute, and a note says so before.
 * A file of that name that is no lock is put aside. ST_USAGE: another run is alive. ST_IO: the file cannot be written.
 *
 * While it is held, the file is read every few seconds, and by the folder's guard before something is written later than that;
 * when it was removed it is made again. dir stays where it is until release. */
enum status lock_take(struct dir *dir, const struct lock_words *words, struct lock **out, struct err *e);
/* The folder had been removed and dir is open on another one of that path: takes that. Errors as above. */
enum status lock_retake(struct lock *l, struct err *e);
void lock_release(struct lock *l); /* NULL allowed */
/* The owner's run, borrowed until release. */
const char *lock_run(const struct lock *l);

/* True: something about the folder or the file has changed, and this line is to be told. */
enum { LOCK_NEWS = 1024 };
bool lock_news(struct lock *l, char text[LOCK_NEWS]);

/* Who runs in the folder? *running false: nobody, and owner is the last one where its run[0] is not 0. ST_IO: the file cannot be read. */
enum status lock_look(const struct dir *dir, bool *running, struct lock_owner *owner, struct err *e);

#endif
