/* Token data for the executor: samples in the job's order, or one after the other for evaluation. A thread reads the samples of a
 * few runs of a list ahead, so that no step waits for a disk that is fast enough on average, and what cannot be read is known a step
 * before it is needed.
 *
 * Which sequence of which file a sample is depends on settings and its number alone. Of the samples of a run each rank also counts
 * the targets of an equal share, whatever of them it loads: summed over the ranks these are the targets of the run, however it is
 * spread over them. */
#ifndef PIPER_FEED_H
#define PIPER_FEED_H

#include <pthread.h>

#include "exec/exec.h"
#include "io/checkpoint.h"
#include "io/order.h"
#include "io/tokens.h"
#include "ir/train.h"

enum { FEED_RUNS = 4 }; /* the one that runs, the next, and two that are read ahead */

struct feed {
    /* what there is */
    uint32_t n_sources;
    struct feed_source {
        struct tokens tokens;
        struct data_order order;         /* of a blend's source: its own, seeded with its name */
        struct checkpoint_source source; /* which data they are, and where in them they are */
        uint64_t first;                  /* of a list: sequences of the files before */
    } sources[TRAIN_SOURCES_MAX];
    struct data_order order; /* of all sequences of a list */
    struct data_blend blend; /* n 0: there is none */
    uint32_t seq_len;
    bool apart, counts; /* documents are apart; not all targets count */

    /* what this rank loads in a run */
    uint64_t *places; /* [n] samples: their places in it, ascending */
    uint32_t n;
    uint64_t width; /* elements of a sample: tokens (T+1); where not all targets count, targets (T); documents (T) */

    /* runs, the first of sample `begin`; and the thread that reads them */
    struct feed_run {
        int32_t *rows; /* (n, width) */
        double counted;
    } runs[FEED_RUNS];
    uint64_t begin, stride, n_runs, read, done; /* samples of a run; runs: all, read, no longer needed */
    struct err unread;                          /* of run `read` */
    double waited;                              /* seconds, by feed_wait() */
    bool has_thread, busy, quit;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

struct feed_setup {
    const struct train_sources *data;
    const struct ir_graph *graph;
    uint64_t seed;
    bool shuffle, apart;
};
/* Token files, open. ST_MISSING, ST_INPUT. On success the caller ends with feed_close. */
enum status feed_open(const struct feed_setup *s, struct feed *f, struct err *e);
/* Collective: every rank reads the same data, as rank 0 does. ST_INPUT */
enum status feed_agree(const struct feed *f, struct err *e);
/* What this rank loads in a run: exec_samples(), taken over. Starts the thread. ST_DEVICE */
enum status feed_bind(struct feed *f, uint64_t *places, uint32_t n, struct err *e);
void feed_close(struct feed *f); /* safe on a zeroed struct */

uint64_t feed_windows(const struct feed *f); /* sequences of all sources */
/* Samples of source s among the first `sample` ones. */
uint64_t feed_taken(const struct feed *f, uint32_t s, uint64_t sample);
/* From `sample` on source s goes on where `taken` of its samples were read. */
void feed_continue(struct feed *f, uint32_t s, uint64_t sample, uint64_t taken);

/* Runs of `stride` samples from `begin` on are going to be asked for; what was read before is forgotten. */
void feed_start(struct feed *f, uint64_t begin, uint64_t stride, uint64_t n_runs);
/* Returns when run number `run` is read; those before it, but one, may be forgotten. Errors of tokens_window(). */
enum status feed_wait(struct feed *f, uint64_t run, struct err *e);
/* The targets of this rank's share of a run that was waited for; 0 where all count. */
double feed_counted(const struct feed *f, uint64_t run);
struct exec_data feed_data(struct feed *f); /* borrows f; samples of runs that were waited for */

#endif
