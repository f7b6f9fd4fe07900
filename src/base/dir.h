/* Files of a run: all that lies in a run folder is opened, made, renamed, removed and listed here.
 *
 * A run folder may be on a disk that others write to, so a name in it is not taken for what it says. The folder is opened
 * once, by the path that the user gave (links on that way are the user's); from then on all in it is named from that
 * descriptor, so that a folder that is renamed or replaced under a run does not split it. In it no symbolic link is
 * followed, but for a folder where the caller allows it (RUNDIR/checkpoints on another disk), and that only when the
 * link is of this user, of root or of the owner of what it leads to: nobody is led into a third one's files. Only regular
 * files are opened, and without waiting: a fifo, a device, a socket or a folder is refused with a sentence. A new file is
 * written under a name that nobody can foresee and that must not be there, and takes its own when it is durable. Modes are
 * those of the umask, groups those of the folder (set-group-ID).
 *
 * Where a function takes a folder and a name, the folder NULL means that the name is a path of the user's own, as of -o:
 * links are followed. Nothing here uses MPI. Messages begin with the whole path. */
#ifndef PIPER_BASE_DIR_H
#define PIPER_BASE_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"

enum { DIR_PATH = 4096, DIR_NAME = 256 }; /* bytes */

struct dir {
    int fd;     /* -1: none */
    char *path; /* for messages; owned */
    /* Called before anything in the folder is made, changed or removed through this struct; may be NULL. A folder that is
     * entered from this one inherits it. */
    void (*guard)(void *arg);
    void *arg;
};

/* The folder that a path of the user's own leads to. ST_MISSING: there is none, or something else; ST_IO: it cannot be opened, or is a
 * link to one that is not there. */
enum status dir_open(const char *path, struct dir *d, struct err *e);
/* Is there a folder of that path, or a link to one? */
bool dir_is_folder(const char *path);
/* A name in a folder of the user's own: its path, and whether there is something. */
bool dir_has_path(const char *folder, const char *name, char path[DIR_PATH]);
/* A folder in a folder. ST_MISSING: there is none of that name; ST_IO. */
enum { DIR_MAKE = 1 /* when it is missing */, DIR_LINK = 2 /* it may be a link to a folder */ };
enum status dir_enter(const struct dir *in, const char *name, int flags, struct dir *d, struct err *e);
/* Another struct for the same open folder. ST_IO. */
enum status dir_copy(const struct dir *from, struct dir *d, struct err *e);
/* The folder that a file of the user's own is in, or will be, and its name there: where links lead. ST_IO. */
enum status dir_of_path(const char *path, struct dir *in, char name[DIR_NAME], struct err *e);
void dir_close(struct dir *d); /* one that is not open is allowed when it is zeroed or {-1} */
/* The path at which a folder that has been removed is to be made again: its own, or, where that leads nowhere (a link, a current folder
 * that is gone too), the one it had. */
void dir_path_again(const struct dir *d, char path[DIR_PATH]);
/* The folder of that path in place of the one that is open: it has been made again. ST_IO. */
enum status dir_reopen(struct dir *d, struct err *e);
/* No name leads to it any more: what is written there is lost. */
bool dir_is_removed(const struct dir *d);
/* Does its path still lead to it? `now` gets another one that does, if that can be told, or "". */
enum dir_place { DIR_HERE, DIR_MOVED /* the path leads elsewhere, or nowhere */, DIR_REMOVED, DIR_UNKNOWN };
enum dir_place dir_look(const struct dir *d, char now[DIR_PATH]);
/* Runs the guard; for what changes files that are open already. */
void dir_guard(const struct dir *d);

/* There is something of that name; a link is something. False also where the system cannot say: for what may be missed. */
bool dir_has(const struct dir *d, const char *name);
/* The same where it matters: what is written next would take its place. ST_IO: the system cannot say. */
enum status dir_find(const struct dir *d, const char *name, bool *there, struct err *e);
/* Does the name still lead to this open file? Yes where the system cannot say. */
bool dir_leads_to(const struct dir *d, const char *name, int fd);
/* The regular file of that name, its size and what tells whether it is still the same. False: there is none. */
struct dir_identity {
    uint64_t device, inode, bytes;
    int64_t seconds, nanoseconds; /* of its last change */
};
bool dir_identify(const struct dir *d, const char *name, struct dir_identity *id);

/* For reading. ST_MISSING: there is none, it is no regular file, or it may not be read; ST_IO: the system could not open it (ESTALE,
 * EIO, EMFILE, ...), which may pass. */
enum status dir_read(const struct dir *in, const char *name, int *fd, uint64_t *bytes, struct err *e);
/* One that is there, for reading and writing; it is not emptied. ST_MISSING: there is none; ST_IO. */
enum status dir_change(const struct dir *in, const char *name, int *fd, struct err *e);
/* For reading, and writing at its end. With `make` a missing one is made, and one that has other names (hard links) is copied first:
 * what another name leads to stays as it is. ST_MISSING, ST_IO. */
enum status dir_append(const struct dir *in, const char *name, bool make, int *fd, struct err *e);
/* A new one with what an open file holds, whose name or folder was removed or given to another file; that one is put aside as
 * NAME.replaced.1, which `aside` tells; "": there was none. What cannot be read is left out. ST_IO. */
enum status dir_restore(const struct dir *in, const char *name, int from, char aside[DIR_NAME], struct err *e);
/* A new one, for reading and writing. ST_IO: something of that name is there, or it cannot be made. */
enum status dir_make(const struct dir *in, const char *name, int *fd, struct err *e);
/* Empties the name: removes what is there but a folder, and makes a new file. ST_IO. */
enum status dir_replace(const struct dir *in, const char *name, int *fd, struct err *e);
/* False, with errno, when it cannot be removed; a link is removed, not what it leads to. */
bool dir_remove(const struct dir *d, const char *name);
bool dir_remove_folder(const struct dir *d, const char *name);
/* Within a folder or between two. ST_IO. */
enum status dir_rename(const struct dir *from, const char *name, const struct dir *to, const char *new_name,
                       struct err *e);
/* Renames it to NAME.WORD.1, or the first such number that is free, which it tells. */
enum status dir_put_aside(const struct dir *d, const char *name, const char *word, char aside[DIR_NAME], struct err *e);
/* The same for one whose name another file is about to take: until then it has both, so that a kill in between loses neither. */
enum status dir_keep_aside(const struct dir *d, const char *name, const char *word, char aside[DIR_NAME],
                           struct err *e);

struct dir_names {
    VEC(char *);
};
/* All names but . and .., in no order. ST_IO. */
enum status dir_list(const struct dir *d, struct dir_names *names, struct err *e);
void dir_names_release(struct dir_names *names);

/* A file on its way to its name. */
struct dir_new {
    struct dir in; /* where it will be; not its own path of messages */
    char name[DIR_NAME], temp[DIR_NAME];
    char *path; /* of the name, for messages; owned */
    int fd;     /* for reading and writing; -1: nothing was begun */
};
/* `folder` NULL: `name` is a path of the user's own; where a link stands there, what it leads to is replaced, not the link.
 * ST_USAGE: a folder or a device has the name; ST_IO. It ends with dir_new_publish or dir_new_drop. */
enum status dir_new_begin(const struct dir *folder, const char *name, struct dir_new *n, struct err *e);
/* fsync, the name, fsync of the folder: after it the file is there even if the power fails. It uses no memory of the heap.
 * After a failure it still ends with dir_new_drop. */
enum status dir_new_publish(struct dir_new *n, struct err *e);
/* Frees; removes the file if it has not got its name. Safe on a zeroed one. */
void dir_new_drop(struct dir_new *n);
/* Removes what killed processes have left of files on their way to a name of which ours() says yes. */
void dir_remove_unfinished(const struct dir *d, bool (*ours)(const char *name));

/* 16 hexadecimal digits that nobody can foresee. */
void dir_random_word(char word[17]);

#endif
