/* metrics.csv: a row a step, written by rank 0. Columns: piper-train(1); new ones come last, since others read them. */
#ifndef PIPER_METRICS_H
#define PIPER_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

struct metrics {
    FILE *file; /* NULL: this rank writes nothing */
    char path[4096];
};

struct metrics_row {
    uint64_t step;
    double loss, grad_norm, lr;
    uint64_t tokens; /* seen since step 1 */
    double step_seconds, tokens_per_second;
    double eval_loss; /* NAN: no evaluation after this step, an empty cell */
    double aux_loss;
    uint64_t dropped_tokens;
    double mfu; /* NAN: the peak is not known, an empty cell */
};

/* Opens RUNDIR/metrics.csv to go on after step `last`: later rows, and one that was cut off, are taken away (a new file, renamed),
 * earlier ones are kept. last = 0 starts a new file. */
enum status metrics_open(struct metrics *m, const char *dir, uint64_t last, struct err *e);
/* Has RUNDIR/metrics.csv a row? */
enum status metrics_has_rows(const char *dir, bool *rows, struct err *e);
enum status metrics_write(struct metrics *m, const struct metrics_row *row, struct err *e);
/* What was written so far is durable. Any thread. */
enum status metrics_sync(const struct metrics *m, struct err *e);
enum status metrics_close(struct metrics *m, struct err *e); /* makes it durable */

#endif
