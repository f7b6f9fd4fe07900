/* Schedules as text (--csv in piper-plan(1)): a line for each rank of the pipeline, cells `[stage][F|B|I|W][microbatch]`,
 * `(0F9;7B8)OVERLAP_F_B` for two that stand in one order group. Private to sched/. */
#ifndef PIPER_SCHED_CSV_H
#define PIPER_SCHED_CSV_H

#include <stdio.h>

#include "sched/compile.h"

struct csv {
    struct csv_rows {
        VEC(struct cells);
    } rows;                        /* by line */
    uint32_t stages, microbatches; /* the highest number of each, plus one; at least 1 */
    uint32_t *row_of;              /* [stage * microbatches + mb] */
    uint32_t dropped;              /* cells of communication */
    char first_dropped[24];        /* of these, shortened */
};

/* Reads and checks that every pass of every microbatch stands there exactly once, B or I and W, in an order that its stage can
 * run, and that a stage is on one line, or, with `apart`, the passes of each of its microbatches are. Empty cells (idle time in other tools'
 * files) are passed over; cells of communication (PyTorch's UNSHARD, RESHARD, REDUCE_GRAD, SEND_F and so on) are dropped and
 * counted. An error names line and cell, counted from 1. The caller ends with csv_release, also after an error. */
enum status csv_read(const char *text, const char *file, bool apart, struct csv *out, struct err *e);
void csv_release(struct csv *c);

/* For a file with the 2 x stages of two directions: line r and its mirror image, which has stages s+stages for s, must say the
 * same. Empties the second of each two lines. */
enum status csv_fold(struct csv *c, uint32_t stages, const char *file, struct err *e);

/* The compiled plan's schedule (sched_csv in sched/sched.h). Needs list.order of "train". */
enum status csv_write(const struct sched *s, FILE *to, struct err *e);

#endif
