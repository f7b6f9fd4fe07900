/* How much memory there is to take: what the machine has, and what limits leave of it. */
#ifndef PIPER_MEMORY_ROOM_H
#define PIPER_MEMORY_ROOM_H

#include <stdint.h>

#include "base/status.h"

struct memory_room {
    uint64_t shared;       /* bytes that the ranks of this machine may take together; UINT64_MAX: not known */
    char of[160];          /* what says so: "this machine", "the cgroup /slurm/job_7 (memory.max)" */
    uint64_t own;          /* bytes of address space that this process may still map; UINT64_MAX: no limit */
    const char *own_limit; /* "ulimit -v", "ulimit -d" */
};

/* root: "" , or a folder that stands for / (tests). */
void memory_room(const char *root, struct memory_room *room);
/* ST_DEVICE where one process cannot have so much: "`where`: `what` take ... MiB of memory, ... has ... MiB: `advice`". */
enum status memory_room_for(double bytes, const char *where, const char *what, const char *advice, struct err *e);

#endif
