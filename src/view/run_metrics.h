/* metrics.csv of a run, read while it grows: columns by name, a row a step. */
#ifndef PIPER_VIEW_RUN_METRICS_H
#define PIPER_VIEW_RUN_METRICS_H

#include "view/follow.h"

struct run_metrics {
    struct follow file;
    char *names; /* of the columns, each with its end; owned */
    uint32_t columns;
    uint64_t last; /* where the last row begins in the file; 0: there is none */
    uint64_t bad;  /* lines that are no rows */
    struct {
        VEC(double);
    } cells; /* row by row; NAN: empty */
};

/* dir is borrowed until release. */
void run_metrics_open(struct run_metrics *m, const struct dir *dir);
/* What is new. ST_IO. */
enum status run_metrics_read(struct run_metrics *m, struct err *e);
void run_metrics_release(struct run_metrics *m);

uint32_t run_metrics_rows(const struct run_metrics *m);
const char *run_metrics_name(const struct run_metrics *m, uint32_t column);
uint32_t run_metrics_find(const struct run_metrics *m, const char *name); /* UINT32_MAX: there is no such column */
/* NAN where the cell is empty or there is no such column. */
double run_metrics_cell(const struct run_metrics *m, uint32_t row, uint32_t column);

#endif
