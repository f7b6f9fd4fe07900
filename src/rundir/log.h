/* What a person sees of a run: log.txt, and the same on standard output, with one progress line on a terminal or a line
 * every few seconds elsewhere. On ranks other than 0 nothing is open and nothing is written. */
#ifndef PIPER_REPORT_H
#define PIPER_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/dir.h"
#include "base/status.h"

struct report {
    FILE *file; /* log.txt; NULL: this rank reports nothing */
    const struct dir *dir;
    bool terminal; /* standard output is one */
    bool line;     /* a progress line stands on it, without its newline */
    bool failed;   /* the log could not be written, and that was said */
    double began, last_line;
    uint64_t began_step;
};

/* Appends to the run's log.txt; dir is borrowed until close. */
enum status report_open(struct report *r, const struct dir *dir, struct err *e);
/* Its name, or the folder, had been removed or given to another file: the log goes on under its name, with what it held. */
enum status report_reopen(struct report *r, struct err *e);
bool report_is_there(const struct report *r); /* the log still has its name */
void report_close(struct report *r);
/* A line on standard output alone, before there is a log. As with all of these, what nobody reads is dropped. */
void report_console(const char *text);
/* A line in the log, with the time of day, and on standard output. */
void report_line(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* In the log alone; on standard output where that cannot be written. */
void report_note(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A line in the log of a run folder, from any rank and any thread, past the open file. Nothing when the folder is not open. */
void report_append(const struct dir *dir, const char *text);

struct report_step {
    uint64_t step, steps; /* of how many */
    double loss, grad_norm, tokens_per_second;
    double now; /* seconds */
};
/* The steps begin: for the estimate of the time left. */
void report_begin(struct report *r, uint64_t step, double now);
void report_step(struct report *r, const struct report_step *s);

#endif
