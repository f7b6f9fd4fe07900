/* What a person sees of a run: log.txt, and the same on standard output, with one progress line on a terminal or a line
 * every few seconds elsewhere. On ranks other than 0 nothing is open and nothing is written. */
#ifndef PIPER_LOG_H
#define PIPER_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/dir.h"
#include "base/status.h"

struct log {
    FILE *file; /* log.txt; NULL: this rank writes nothing */
    const struct dir *dir;
    bool terminal; /* standard output is one */
    bool line;     /* a progress line stands on it, without its newline */
    bool failed;   /* the log could not be written, and that was said */
    double began, last_line;
    uint64_t began_step;
};

/* Appends to the run's log.txt; dir is borrowed until close. */
enum status log_open(struct log *l, const struct dir *dir, struct err *e);
/* Its name, or the folder, had been removed or given to another file: the log goes on under its name, with what it held. */
enum status log_reopen(struct log *l, struct err *e);
bool log_is_there(const struct log *l); /* it still has its name */
void log_close(struct log *l);
/* A line on standard output alone, before there is a log. As with all of these, what nobody reads is dropped. */
void log_console(const char *text);
/* A line in the log, with the time of day, and on standard output. */
void log_line(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* In the log alone; on standard output where that cannot be written. */
void log_note(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A line in the log of a run folder, from any rank and any thread, past the open file. Nothing when the folder is not open. */
void log_append(const struct dir *dir, const char *text);

struct log_step {
    uint64_t step, steps; /* of how many */
    double loss, grad_norm, tokens_per_second;
    double now; /* seconds */
};
/* The steps begin: for the estimate of the time left. */
void log_begin(struct log *l, uint64_t step, double now);
void log_step(struct log *l, const struct log_step *s);

#endif
