/* piper watch: a run at a glance, as lines of a terminal. */
#ifndef PIPER_VIEW_LIVE_H
#define PIPER_VIEW_LIVE_H

#include <stdbool.h>
#include <stdio.h>

#include "view/run_metrics.h"

enum { LIVE_TEXT = 512, LIVE_LOG = 8 };

struct live {
    struct run_metrics metrics;
    struct follow log;
    /* from the log */
    char job[LIVE_TEXT], ranks[LIVE_TEXT], memory[LIVE_TEXT]; /* "": not said yet */
    uint64_t steps;                                           /* to be made in all; 0: not known */
    char lines[LIVE_LOG][LIVE_TEXT];                          /* its last ones, by n_lines modulo LIVE_LOG */
    uint64_t n_lines, last_line;                              /* last_line: where it begins in the file */
    /* told by the caller */
    char name[LIVE_TEXT], state[LIVE_TEXT]; /* "running: process 12 on n1 since 12:30" */
    bool running, failed;
    double silent;         /* seconds since the last row was written; < 0: not known */
    uint64_t checkpoint;   /* step of the newest; UINT64_MAX: there is none */
    double checkpoint_age; /* seconds */
};
struct live_screen {
    uint32_t columns, rows; /* rows 0: as many as there are to show */
    bool colour, braille;   /* braille: the terminal shows UTF-8 */
};

/* dir is borrowed until release. */
void live_open(struct live *l, const struct dir *dir);
/* What the run has written since. ST_IO. */
enum status live_read(struct live *l, struct err *e);
/* No line is longer than the screen, and there are no more of them than it has rows; each ends with `end`. */
void live_draw(const struct live *l, const struct live_screen *s, const char *end, FILE *to);
void live_release(struct live *l);

#endif
