/* Token data for the executor: samples in the job's order, or one after the other for evaluation. */
#ifndef PIPER_FEED_H
#define PIPER_FEED_H

#include "exec.h"
#include "io/checkpoint.h"
#include "io/order.h"
#include "io/tokens.h"

struct feed {
    struct tokens tokens;
    struct data_order order;
    struct checkpoint_source source; /* which data they are */
    int32_t *scratch;                /* a window's other half, owned */
};

/* order.n is filled in here. On success the caller ends with feed_close. */
enum status feed_open(const char *path, const struct ir_graph *g, uint64_t seed, bool shuffle, struct feed *f,
                      struct err *e);
/* Collective: every rank reads the same data, as rank 0 does. ST_INPUT */
enum status feed_agree(const struct feed *f, struct err *e);
void feed_close(struct feed *f);            /* safe on a zeroed struct */
struct exec_data feed_data(struct feed *f); /* borrows f */

#endif
