/* Inside a training run: state that its phases share. */
#ifndef PIPER_TRAIN_PRIVATE_H
#define PIPER_TRAIN_PRIVATE_H

#include "exec.h"
#include "feed.h"
#include "io/checkpoint.h"
#include "io/job.h"
#include "io/trace.h"
#include "metrics.h"
#include "pieces.h"
#include "replicas.h"
#include "report.h"
#include "train.h"

struct train {
    const struct train_options *o;
    struct job job;
    bool have_job;
    const struct train_config *config; /* of the job */
    const char *data;
    uint64_t last_step;
    double began; /* seconds */

    void *blob;
    struct plan plan;
    uint32_t train_list, eval_list; /* eval_list PLAN_NONE: no evaluation */
    struct exec *exec;
    const struct compute_backend *compute;
    struct feed feed, eval_feed;
    struct replicas *replicas;
    int threads;

    uint64_t step, sample;        /* done; the next one */
    struct checkpoint_info saved; /* the newest checkpoint; saved.step is 0 before there is one */
    bool has_saved;
    struct report report;
    struct metrics metrics;

    double slowest_step, slowest_checkpoint; /* seconds */
    uint64_t allocations;                    /* made by the steps */
    struct err trouble; /* of this rank alone, until the next agreement: it asks the others to stop */
    bool tracing;
    struct trace_writer trace;
    struct trace_event *events; /* [instructions of the training list] what is the same in every step */
};

/* train_start.c: from the job to ranks that are ready to run. Collective. */
enum status train__start(struct train *t, struct err *e);
/* train_state.c: first values, or those of a checkpoint; and writing one. Collective. */
enum status train__restore(struct train *t, struct err *e);
enum status train__save(struct train *t, struct err *e);
/* train_loop.c: the steps. Collective. */
enum status train__loop(struct train *t, struct err *e);
/* train_trace.c: the job's traced steps. Collective, but for the first. step() comes after the step that was traced. */
bool train__is_traced(const struct train *t, uint64_t step);
enum status train__trace_open(struct train *t, struct err *e);
enum status train__trace_step(struct train *t, struct err *e);
enum status train__trace_close(struct train *t, struct err *e);

static inline uint64_t train__batch(const struct train *t)
{
    return t->config->batch_size;
}

#endif
