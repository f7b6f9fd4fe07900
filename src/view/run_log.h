/* log.txt of a run, read whole: its starts, and what each of them said. */
#ifndef PIPER_VIEW_RUN_LOG_H
#define PIPER_VIEW_RUN_LOG_H

#include "base/dir.h"

struct run_texts {
    VEC(const char *); /* owned by the log */
};
/* A row of the table of where the time went. */
struct run_spent {
    const char *name;
    double mean, percent, least, most; /* seconds */
    uint32_t least_rank, most_rank;
};
/* One start. Texts without the time of day; NULL: not said. */
struct run_part {
    const char *when; /* of its first line, "2026-11-29 12:30:00" */
    const char *last; /* of its last one */
    const char *program, *command, *hosts, *job, *ranks, *device, *begins, *memory, *mean, *slowest;
    struct run_texts data;  /* what it is trained and evaluated on */
    struct run_texts notes; /* notes, warnings, skipped steps, requests */
    struct {
        VEC(struct run_spent);
    } spent;
};
struct run_checkpoint {
    const char *when;
    uint64_t step;
    double seconds, waited;
};
struct run_log {
    struct arena memory;
    struct {
        VEC(struct run_part);
    } parts;
    struct {
        VEC(struct run_checkpoint);
    } checkpoints;
    uint64_t lines;
};

/* What is not printable is "?". Without a log: no parts. ST_IO. Ends with run_log_release. */
enum status run_log_read(const struct dir *dir, struct run_log *l, struct err *e);
void run_log_release(struct run_log *l);

#endif
