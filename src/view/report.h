/* piper report: runs as a page of HTML: one file, which needs no network and no scripts. */
#ifndef PIPER_VIEW_REPORT_H
#define PIPER_VIEW_REPORT_H

#include <stdio.h>

#include "view/run_log.h"
#include "view/run_metrics.h"

/* All borrowed. */
struct report_run {
    const char *name, *state;
    struct run_metrics metrics;
    struct run_log log;
    const char *trace; /* a picture of a traced step, SVG; NULL: there is none, */
    size_t trace_bytes;
    const char *no_trace; /* for this reason */
};

void report_write(const struct report_run *runs, uint32_t n, FILE *to);

#endif
