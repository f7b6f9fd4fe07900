/* Inside a training run: state that its phases share. */
#ifndef PIPER_TRAIN_PRIVATE_H
#define PIPER_TRAIN_PRIVATE_H

#include "base/clock.h"
#include "base/fail.h"
#include "exec/exec.h"
#include "train/feed.h"
#include "io/checkpoint.h"
#include "io/job.h"
#include "io/trace.h"
#include "ir/machine.h"
#include "rundir/events.h"
#include "rundir/lock.h"
#include "train/load.h"
#include "train/metrics.h"
#include "train/pieces.h"
#include "train/replicas.h"
#include "rundir/log.h"
#include "host/threads.h"
#include "train/train.h"

/* What ends a run before its last step, beside signals. Rank 0 alone looks at clock and run folder: one rank's wish is
 * enough. */
struct train_stop {
    struct lock *lock;
    double deadline;      /* clock_now(); INFINITY: none */
    double next_look;     /* for a request of piper halt */
    uint64_t checkpoints; /* still to be written before the stop; 0: not asked for */
    bool now;             /* stop at the next opportunity */
    char asked_by[64];    /* of piper halt: "user on host"; empty: it has not asked */
};

/* What the time outside of the lists goes into; TRAIN_STEPS: all of the steps, with the lists and the wait for data. */
enum train_spent {
    TRAIN_START,
    TRAIN_STEPS,
    TRAIN_LISTS,
    TRAIN_DATA,
    TRAIN_CHECKPOINTS, /* but for what updates wait for them */
    TRAIN_EVALUATIONS,
    TRAIN_SAMPLES,
    TRAIN_COMPARISONS,
    TRAIN_SPENT
};

struct train {
    const struct train_options *o;
    struct dir *dir;       /* the run folder; open on all ranks when the ranks are ready */
    struct job job;        /* its graph: as the compiler has it, which the plans speak of */
    struct ir_graph model; /* the model's own: what is initialised, saved, restored and compared */
    void *image;           /* the job as it was given, before the compiler adds to it; rank 0 */
    uint64_t image_bytes;
    struct machine machine;     /* on rank 0, while plans are made: what o->machine names */
    double flops;               /* model flops of a step */
    double peak;                /* flop/s of a rank, of the job's type; 0: not known. On rank 0, as the next */
    char peak_of[MACHINE_NAME]; /* name of the machine whose peak it is */
    bool have_job;
    const char *job_name;              /* for messages */
    struct notices notices;            /* of a job that was built here; rank 0 */
    const struct train_config *config; /* of the job */
    const struct train_sources *data;
    struct train_sources own_data; /* of --data */
    uint64_t last_step;
    double began; /* seconds */

    char compiled[160]; /* figures of the compilation, for the log; rank 0 */
    void *blob;
    struct plan plan;
    uint32_t train_list, eval_list; /* eval_list PLAN_NONE: no evaluation */
    struct exec *exec;
    const struct compute_backend *compute;
    uint32_t multiprocessors; /* of the smallest device; 0: hosts compute */
    struct feed feed;
    struct feed *eval_feeds; /* [config->eval_data.n] */
    struct replicas *replicas;
    double *predicted; /* start of every instruction of the training list, seconds; NULL: no predictions */
    int threads;
    char threads_why[THREADS_TEXT];

    uint64_t step, sample; /* done; the next one */
    uint64_t first_step;   /* done when the steps of this run began: its first run of the feed is the one after it */
    double targets;        /* that count in the next step, over all ranks */
    uint64_t updates;      /* made since the optimizer's state was zero: skipped steps make none */
    struct checkpoint_info saved; /* the newest checkpoint; saved.step is 0 before there is one */
    bool has_saved;
    struct pieces pieces; /* what this rank writes of a checkpoint */
    struct checkpoint_saver *saver;
    bool saving;          /* one is under way, */
    uint64_t saving_step; /* of this step; */
    struct err rows;      /* of metrics.csv, when it began: what kept them from being written; rank 0 */
    double waited;        /* seconds that training has waited for it so far, but for its updates */
    double copy_waited;   /* exec_copy_waited() when it began */
    struct log log;
    struct metrics metrics;
    struct events curves;      /* rank 0, with o->tensorboard */
    struct load load;          /* rank 0 */
    bool rounds;               /* rank 0: experts have further rounds, which are counted */
    double spent[TRAIN_SPENT]; /* seconds */

    struct train_samples *samples; /* rank 0, where there are any */

    struct train_stop stop;
    double slowest_step, slowest_checkpoint, slowest_eval, slowest_batch; /* seconds; batch: of an evaluation */
    uint64_t allocations;                                                 /* made by the steps */
    uint64_t skipped, skipped_in_row; /* steps without update: numbers were not finite */
    struct err trouble;               /* of this rank alone, until the next agreement: it asks the others to stop */
    struct err unread, eval_unread;   /* the same, of data that were to be read ahead: the state is good, and is kept */
    bool eval_is_left;                /* an evaluation is due, and was not made */
    double last_save;                 /* when the newest checkpoint was begun, or the steps; clock_now() */
    bool tracing;
    struct trace_writer trace;
    struct trace_event *events; /* [instructions of the training list] what is the same in every step */
};

/* train/start.c: from the job to ranks that are ready to run. Collective. */
enum status train__start(struct train *t, struct err *e);
/* train/keep.c: the job and its tokenizer, in the run directory. Rank 0. */
enum status train__keep_job(struct train *t, struct err *e);
/* train/data.c: the executor and the token files, which are open, meet; every token is looked at. ST_INPUT, ST_IO. Collective. */
enum status train__check_data(struct train *t, struct err *e);
/* train/threads.c: how many threads this rank computes with, and why; when they are set, what is to be said of them. Collective. */
enum status train__choose_threads(struct train *t, struct err *e);
void train__report_threads(struct train *t);
/* train/shared.c: ST_IO where ranks do not see the same run folder, which exists. Collective. */
enum status train__check_shared(const struct train *t, struct err *e);
/* train.c: a line in the log, from any rank. */
void train__tell(const char *text);
/* train/state.c: first values, or those of a checkpoint. Collective. */
enum status train__restore(struct train *t, struct err *e);
/* train/save.c: writing checkpoints. Collective. save() begins one of the step just done, after the one under way; advance()
 * takes the one under way further, when all ranks have said that they are ready for it; finish() waits until it is durable. */
enum status train__save_open(struct train *t, struct err *e);
enum status train__save(struct train *t, struct err *e);
enum status train__save_advance(struct train *t, struct err *e);
enum status train__save_finish(struct train *t, struct err *e);
void train__save_close(struct train *t);
/* A checkpoint of the step just done is written or under way. */
bool train__is_saved(const struct train *t);
/* Does this rank want one: by USR2, or because so much time has passed (rank 0)? */
bool train__save_asked(struct train *t);
/* train/spent.c: what has passed since is time of that kind; and the table of all ranks at the end, in the log. Collective. */
void train__spend(struct train *t, enum train_spent on, double since);
void train__report_spent(struct train *t);
/* train.c: values of a step for TensorBoard; where they cannot be written that is said once. */
void train__show_values(struct train *t, const struct events_value *values, uint32_t n);
/* train/loop.c: the steps. Collective. */
enum status train__loop(struct train *t, struct err *e);
double train__sequences(const struct train *t, uint32_t list); /* of a run of a list, over all ranks */
/* train/eval.c. evaluate(), which is collective, adds to the last row of metrics.csv; *stop: the run is to stop, and
 * t->eval_is_left tells whether it was left for that. seconds(): what one takes, or is expected to. */
bool train__eval_is_due(const struct train *t);
double train__eval_seconds(const struct train *t);
enum status train__evaluate(struct train *t, bool *stop, struct err *e);
/* train/samples.c: texts that the model continues, in the log. Collective. open() refuses what cannot be later: ST_INPUT, ST_DEVICE. */
bool train__sample_is_due(const struct train *t);
enum status train__sample_open(struct train *t, struct err *e);
enum status train__sample(struct train *t, struct err *e);
void train__sample_close(struct train *t);
/* train/stop.c: reasons to stop. The folder's lock, before anything is written there (rank 0); the limits of time, when the
 * log is open (rank 0). */
enum status train__stop_lock(struct train *t, struct err *e);
void train__stop_open(struct train *t);
/* Does this rank want the run to end? So many seconds would pass before anything comes of the answer "no"; `saves`: a checkpoint is
 * written meanwhile in any case. */
bool train__stop_asked(struct train *t, double seconds, bool saves);
/* The same when no step is under way, agreed: before another step, before something else, and by signals alone. Collective. */
bool train__stop_agreed(struct train *t);
bool train__stop_agreed_before(struct train *t, double seconds);
bool train__stop_signalled(void);
void train__stop_saved(struct train *t);                 /* a checkpoint was written */
void train__stop_close(struct train *t, enum status st); /* st: how the run ends */
/* train/trace.c: the job's traced steps. Collective, but for the first. step() comes after the step that was traced. */
bool train__is_traced(const struct train *t, uint64_t step);
enum status train__trace_open(struct train *t, struct err *e);
enum status train__trace_step(struct train *t, struct err *e);
enum status train__trace_close(struct train *t, struct err *e);

/* Kernels only take their time: there are neither data nor parameters. */
static inline bool train__emulates(const struct train *t)
{
    return t->compute && !t->compute->kernel;
}
/* Checkpoints are looked for and written. */
static inline bool train__keeps(const struct train *t)
{
    return !t->o->no_checkpoint && !train__emulates(t);
}
/* Traces tell what was expected. The same on all ranks. */
static inline bool train__predicts(const struct train *t)
{
    return (train__emulates(t) || t->o->machine) && t->config->n_trace_steps > 0;
}
/* Named sets of data to evaluate on; one without a name counts. */
static inline uint32_t train__eval_sets(const struct train *t)
{
    return t->eval_list == PLAN_NONE ? 0 : t->config->eval_data.n;
}
static inline uint64_t train__batch(const struct train *t)
{
    return t->config->batch_size;
}

#endif
