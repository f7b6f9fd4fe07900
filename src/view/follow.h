/* A text file of a run that grows while it is read: its lines, from where the last look ended. */
#ifndef PIPER_VIEW_FOLLOW_H
#define PIPER_VIEW_FOLLOW_H

#include "base/dir.h"

struct follow {
    const struct dir *dir; /* borrowed, as name */
    const char *name;
    uint64_t device, inode; /* of the file that was read */
    uint64_t at;            /* where its last whole line begins: it may be written again, longer */
    char *text;             /* room for lines; owned */
    size_t room;
};

/* The file is another one, or has become shorter: all lines come again. */
typedef void (*follow_again)(void *self);
/* A whole line, without its newline; `at` is where it begins. The one that was the last comes a second time. */
typedef void (*follow_line)(void *self, uint64_t at, char *line);

/* What is new; nothing where there is no such file. ST_IO. */
enum status follow_read(struct follow *f, follow_again again, follow_line line, void *self, struct err *e);
void follow_release(struct follow *f);

/* How long the time of day at the beginning of a line of a log is, "2026-11-29 12:30:00  "; 0: there is none. */
size_t follow_time(const char *line);

#endif
