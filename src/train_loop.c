/* The step loop. */
#include <math.h>
#include <stdio.h>

#include "config.h"
#include "signals.h"
#include "train_private.h"

/* What the sums of a step say. */
struct outcome {
    double loss, grad_norm, aux_loss;
    uint64_t dropped;
    bool finite, stop, save;
};

static double sequences(const struct train *t, uint32_t list)
{
    const struct plan_list *l = &t->plan.lists[list];
    return (double)l->replicas * l->microbatches * l->microbatch_size;
}

static struct outcome read_sums(const struct train *t, const double *sums)
{
    double n = sequences(t, t->train_list);
    struct outcome o = {
        .loss = sums[SCALAR_LOSS] / (n * t->job.graph.seq_len),
        .grad_norm = sqrt(sums[SCALAR_NORM2]),
        .aux_loss = sums[SCALAR_AUX] / n,
        .dropped = (uint64_t)sums[SCALAR_DROPPED],
        .stop = sums[SCALAR_STOP] > 0,
        .save = sums[SCALAR_SAVE] > 0,
    };
    o.finite = isfinite(o.loss) && isfinite(o.grad_norm) && sums[SCALAR_NONFINITE] == 0;
    return o;
}

/* Enough time is left for one more step and the checkpoint after it, and for one step of doubt: ranks learn of the wish to
 * stop within the step that follows it. */
static bool time_is_up(const struct train *t)
{
    if (!t->o->max_seconds)
        return false;
    double needed = 2 * t->slowest_step + 1.5 * t->slowest_checkpoint + 1;
    return ctl_time() - t->began + needed > (double)t->o->max_seconds;
}

/* ---- evaluation ----------------------------------------------------------------------------------------------- */

/* The last step is the job's, or one beyond it; a run that stops earlier (--steps) writes the rows of one that does not. */
static bool eval_is_due(const struct train *t)
{
    if (t->eval_list == PLAN_NONE)
        return false;
    uint64_t last = t->last_step > t->config->steps ? t->last_step : t->config->steps;
    return t->step == last || (t->config->eval_every && t->step % t->config->eval_every == 0);
}

/* Mean loss over the whole batches of the evaluation data. */
static double evaluate(struct train *t)
{
    const uint64_t batch = (uint64_t)sequences(t, t->eval_list), batches = t->eval_feed.tokens.n_windows / batch;
    struct exec_data data = feed_data(&t->eval_feed);
    double sum = 0, scalars[SCALAR_COUNT];
    for (uint64_t i = 0; i < batches; i++) {
        struct exec_step step = { .list = t->eval_list, .step = t->step, .sample = i * batch, .data = &data };
        exec_run(t->exec, &step, scalars);
        sum += scalars[SCALAR_LOSS];
    }
    return sum / ((double)batches * (double)batch * t->job.graph.seq_len);
}

/* ---- a step --------------------------------------------------------------------------------------------------- */

static struct outcome run_step(struct train *t, double *seconds)
{
    struct exec_data data = feed_data(&t->feed);
    struct exec_step step = {
        .list = t->train_list,
        .step = t->step + 1,
        .sample = t->sample,
        .lr = config_lr(t->config, t->step + 1),
        .stop = signals_stop() || time_is_up(t) || t->trouble.status != ST_OK,
        .save = signals_save(),
        .traced = t->tracing && train__is_traced(t, t->step + 1),
        .data = &data,
    };
    double scalars[SCALAR_COUNT], begin = ctl_time();
    uint64_t calls = mem_stats().calls;
    exec_run(t->exec, &step, scalars);
    t->allocations += mem_stats().calls - calls;
    *seconds = ctl_time() - begin;
    t->slowest_step = fmax(t->slowest_step, *seconds);
    return read_sums(t, scalars);
}

static void record(struct train *t, const struct outcome *o, double seconds)
{
    double tokens = (double)train__batch(t) * t->job.graph.seq_len;
    struct metrics_row row = {
        .step = t->step,
        .loss = o->loss,
        .grad_norm = o->grad_norm,
        .lr = config_lr(t->config, t->step),
        .tokens = t->sample * t->job.graph.seq_len,
        .step_seconds = seconds,
        .tokens_per_second = tokens / seconds,
        .eval_loss = NAN,
        .aux_loss = o->aux_loss,
        .dropped_tokens = o->dropped,
    };
    if (o->finite && eval_is_due(t)) {
        row.eval_loss = evaluate(t);
        report_note(&t->report, "step %llu  eval_loss %.5f", (unsigned long long)t->step, row.eval_loss);
    }
    metrics_write(&t->metrics, &row, &t->trouble);
    report_step(&t->report, &(struct report_step){ .step = t->step,
                                                   .steps = t->last_step,
                                                   .loss = o->loss,
                                                   .grad_norm = o->grad_norm,
                                                   .tokens_per_second = row.tokens_per_second,
                                                   .now = ctl_time() });
}

static enum status diverged(const struct train *t, const struct outcome *o, struct err *e)
{
    char kept[128] = "there is no checkpoint yet";
    if (t->has_saved)
        snprintf(kept, sizeof kept, "the checkpoint of step %llu is kept", (unsigned long long)t->saved.step);
    return err_set(
        e, ST_INPUT, NULL,
        "step %llu: the loss is %g and the norm of the gradients %g: training has diverged. A lower learning "
        "rate, a longer warm-up or clip_norm may help; --check-numbers names the operator where it begins; %s",
        (unsigned long long)t->step, isnan(o->loss) ? (double)NAN : o->loss,
        isnan(o->grad_norm) ? (double)NAN : o->grad_norm, kept);
}

/* What comes after a step and what every rank decides alike. */
static enum status after_step(struct train *t, const struct outcome *o, struct err *e)
{
    if (!o->finite)
        return diverged(t, o, e);
    if (t->o->check_replicas && t->step % t->o->check_replicas == 0) {
        exec_download(t->exec);
        TRY(replicas_compare(t->replicas, t->step, e));
    }
    bool due = t->config->checkpoint_every && t->step % t->config->checkpoint_every == 0;
    if (due || o->save || o->stop || t->step == t->last_step)
        TRY(train__save(t, e));
    return ST_OK;
}

enum status train__loop(struct train *t, struct err *e)
{
    bool stop = false;
    report_begin(&t->report, t->step, ctl_time());
    while (t->step < t->last_step && !stop) {
        double seconds;
        struct outcome o = run_step(t, &seconds);
        t->step++;
        t->sample += train__batch(t);
        if (t->tracing && train__is_traced(t, t->step))
            TRY(train__trace_step(t, e));
        record(t, &o, seconds);
        TRY(after_step(t, &o, e));
        stop = o.stop;
    }
    enum status st = ctl_agree(t->trouble.status, &t->trouble);
    if (st != ST_OK) {
        *e = t->trouble;
        return st;
    }
    if (t->step < t->last_step)
        return err_set(e, ST_STOPPED, NULL,
                       "stopped after step %llu of %llu with a checkpoint; the same command goes on",
                       (unsigned long long)t->step, (unsigned long long)t->last_step);
    return ST_OK;
}
