/* Evaluation: the mean loss over the whole batches of the evaluation data. It comes after the checkpoint of its step is begun, and
 * between two batches it can be left: it is made anew, first of all, when the run is resumed. */
#include <math.h>

#include "train/private.h"
#include "watch/watch.h"

/* The last step is the job's, or one beyond it; a run that stops earlier (--steps) writes the rows of one that does not. */
bool train__eval_is_due(const struct train *t)
{
    if (t->eval_list == PLAN_NONE)
        return false;
    uint64_t last = t->last_step > t->config->steps ? t->last_step : t->config->steps;
    return t->step == last || (t->config->eval_every && t->step % t->config->eval_every == 0);
}

static uint64_t batch_size(const struct train *t)
{
    return (uint64_t)train__sequences(t, t->eval_list);
}

static uint64_t batches(const struct train *t)
{
    return t->eval_feed.tokens.n_windows / batch_size(t);
}

/* Before one was made: a forward is a third of a step. */
double train__eval_seconds(const struct train *t)
{
    if (t->eval_list == PLAN_NONE)
        return 0;
    return t->slowest_eval > 0 ? t->slowest_eval : (double)batches(t) * t->slowest_step / 3;
}

/* What cannot be read ends the run like a signal. */
static void read_batch(struct train *t, uint64_t i)
{
    if (i < batches(t) && t->eval_unread.status == ST_OK)
        feed_ahead(&t->eval_feed, i * batch_size(t), &t->eval_unread);
}

/* While a batch runs: the next one has been read. */
struct beside {
    struct train *t;
    uint64_t batch;
};

static void read_beside(void *self)
{
    const struct beside *b = self;
    read_batch(b->t, b->batch + 2);
}

/* What a batch's sums say: the loss, and whether the ranks are to go on. */
static enum status run_batch(struct train *t, uint64_t i, double *scalars, struct err *e)
{
    struct exec_data data = feed_data(&t->eval_feed);
    struct beside beside = { t, i };
    double begin = clock_now();
    struct exec_step step = {
        .list = t->eval_list,
        .step = t->step,
        .sample = i * batch_size(t),
        .stop = train__stop_asked(t, 2 * t->slowest_batch, false) || t->eval_unread.status != ST_OK,
        .save = train__save_asked(t),
        .written = t->saving && checkpoint_save_idle(t->saver),
        .data = &data,
        .beside = read_beside,
        .beside_self = &beside,
    };
    exec_run(t->exec, &step, scalars);
    t->slowest_batch = fmax(t->slowest_batch, clock_now() - begin);
    if (scalars[SCALAR_WRITTEN] == world_size())
        TRY(train__save_advance(t, e));
    return scalars[SCALAR_SAVE] > 0 ? train__save(t, e) : ST_OK;
}

enum status train__evaluate(struct train *t, bool *stop, struct err *e)
{
    const uint64_t n = batches(t);
    double begin = clock_now(), sum = 0, scalars[SCALAR_COUNT];
    t->eval_is_left = true;
    read_batch(t, 0);
    uint64_t unread = t->eval_unread.status != ST_OK;
    world_max_u64(&unread, 1);
    *stop = unread;
    read_batch(t, 1);
    for (uint64_t i = 0; i < n && !*stop; i++) {
        TRY(run_batch(t, i, scalars, e));
        sum += scalars[SCALAR_LOSS];
        *stop = scalars[SCALAR_STOP] > 0;
        t->eval_is_left = i + 1 < n;
    }
    t->slowest_eval = fmax(t->slowest_eval, clock_now() - begin);
    if (t->eval_is_left) {
        log_line(&t->log, "the evaluation after step %llu is deferred until the run is resumed",
                 (unsigned long long)t->step);
        return ST_OK;
    }
    double loss = sum / ((double)n * (double)batch_size(t) * t->job.graph.seq_len);
    log_note(&t->log, "step %llu  eval_loss %.5f", (unsigned long long)t->step, loss);
    if (t->trouble.status == ST_OK)
        metrics_add_eval(&t->metrics, loss, &t->trouble);
    *stop = *stop || train__stop_agreed(t); /* it may have taken long */
    return ST_OK;
}
