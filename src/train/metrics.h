/* metrics.csv: a row a step, written by rank 0. Columns: piper-train(1); new ones come last, since others read them. */
#ifndef PIPER_METRICS_H
#define PIPER_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/dir.h"
#include "base/status.h"

enum { METRICS_ROW = 4096, METRICS_EXTRA = 128, METRICS_NAME = 96 };

/* Columns behind the others, where a job has them: overflow_rounds, of experts with further rounds; samples.NAME, of the sources of a blend; eval_loss.NAME, of sets to evaluate on. */
enum metrics_kind { METRICS_ROUNDS, METRICS_SAMPLES, METRICS_EVAL };
struct metrics_cell {
    enum metrics_kind kind;
    const char *of; /* NAME */
    double value;
};

struct metrics {
    FILE *file; /* NULL: this rank writes nothing */
    const struct dir *dir;
    char note[512];        /* what is to be told of the file that was there; "": nothing */
    char row[METRICS_ROW]; /* the last one; "": there is none */
    long at;               /* its end */
    uint32_t n_extra;      /* columns behind the others: of earlier parts of the run first */
    char extra[METRICS_EXTRA][METRICS_NAME];
};

struct metrics_row {
    uint64_t step;
    double loss, grad_norm, lr;
    uint64_t tokens; /* seen since step 1 */
    double step_seconds, tokens_per_second;
    double aux_loss;
    uint64_t dropped_tokens;
    double mfu; /* NAN: the peak is not known, an empty cell; so too the next: a model without experts */
    double expert_load;
};

/* Opens a run's metrics.csv to go on after step `last`: later rows, and one that was cut off, are taken away (a new file, renamed),
 * earlier ones are kept. One that is damaged is put aside first, as metrics.csv.damaged.1, and m->note says so. last = 0 starts a
 * new file. columns: [n] this run fills in; columns that only earlier parts of it have had stay, and are empty from now on. dir is
 * borrowed until close. */
enum status metrics_open(struct metrics *m, const struct dir *dir, uint64_t last, const struct metrics_cell *columns,
                         uint32_t n, struct err *e);
/* Its name, or the folder, had been removed or given to another file: it goes on under its name, with what it held; m->note says so
 * where it was the name. */
enum status metrics_reopen(struct metrics *m, struct err *e);
bool metrics_is_there(const struct metrics *m); /* it still has its name */
/* Has the run's metrics.csv a row? */
enum status metrics_has_rows(const struct dir *dir, bool *rows, struct err *e);
/* The cells of eval_loss stay empty; add_eval fills those of the last row in. cells: [n], of the columns above. */
enum status metrics_write(struct metrics *m, const struct metrics_row *row, const struct metrics_cell *cells,
                          uint32_t n, struct err *e);
enum status metrics_add_eval(struct metrics *m, double eval_loss, const struct metrics_cell *cells, uint32_t n,
                             struct err *e);
/* The last row is that of this step, and its cell of eval_loss is empty. */
bool metrics_lacks_eval(const struct metrics *m, uint64_t step);
/* What was written so far is durable. Any thread. */
enum status metrics_sync(const struct metrics *m, struct err *e);
enum status metrics_close(struct metrics *m, struct err *e); /* makes it durable */

#endif
