/* Token data for the executor: samples in the job's order, or one after the other for evaluation. What a run of a list loads
 * is read before it begins, so that data that cannot be read end no step. */
#ifndef PIPER_FEED_H
#define PIPER_FEED_H

#include "exec/exec.h"
#include "io/checkpoint.h"
#include "io/order.h"
#include "io/tokens.h"

struct feed {
    struct tokens tokens;
    struct data_order order;
    struct checkpoint_source source; /* which data they are */
    uint64_t *places;                /* [n] samples of a run that this rank loads: their places in it, ascending */
    uint32_t n;
    struct feed_run {
        bool full;
        uint64_t sample; /* the first of the run, over all ranks */
        int32_t *rows;   /* (n, T+1): tokens, and one further the targets */
    } runs[2];           /* this one and the next */
    int next;            /* where the next one goes */
};

/* order.n is filled in here. On success the caller ends with feed_close. */
enum status feed_open(const char *path, const struct ir_graph *g, uint64_t seed, bool shuffle, struct feed *f,
                      struct err *e);
/* Collective: every rank reads the same data, as rank 0 does. ST_INPUT */
enum status feed_agree(const struct feed *f, struct err *e);
/* What this rank loads in a run: exec_samples(), taken over. */
void feed_bind(struct feed *f, uint64_t *places, uint32_t n);
void feed_close(struct feed *f); /* safe on a zeroed struct */
/* Reads this rank's samples of the run that begins with `sample`; those of the run before stay. Errors of tokens_window(). */
enum status feed_ahead(struct feed *f, uint64_t sample, struct err *e);
struct exec_data feed_data(struct feed *f); /* borrows f; samples that were read ahead */

#endif
