/* The step loop. */
#include <math.h>
#include <stdio.h>

#include "config.h"
#include "signals.h"
#include "train_private.h"
#include "watch.h"

/* What the sums of a step say. */
struct outcome {
    double loss, grad_norm, aux_loss;
    uint64_t dropped;
    bool finite, stop, save, written; /* written: every rank has done its share of the checkpoint under way */
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
        .written = sums[SCALAR_WRITTEN] == ctl_size(),
    };
    if (train__emulates(t)) {
        o.loss = o.grad_norm = o.aux_loss = NAN;
        o.finite = true;
        return o;
    }
    /* as the back end's clip() judges, which leaves out the update */
    o.finite = isfinite(o.loss) && isfinite(o.aux_loss) && isfinite(o.grad_norm) && sums[SCALAR_NONFINITE] == 0;
    return o;
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

static bool save_is_due(const struct train *t, uint64_t step)
{
    return step == t->last_step || (t->config->checkpoint_every && step % t->config->checkpoint_every == 0);
}

static struct outcome run_step(struct train *t, double *seconds)
{
    struct exec_data data = feed_data(&t->feed);
    struct exec_step step = {
        .list = t->train_list,
        .step = t->step + 1,
        .update = t->updates + 1,
        .sample = t->sample,
        .lr = config_lr(t->config, t->step + 1),
        /* a "no" lets the step after this one be made too */
        .stop = train__stop_asked(t, 2, save_is_due(t, t->step + 1)) || t->trouble.status != ST_OK,
        .save = signals_save(),
        .written = t->saving && checkpoint_save_idle(t->saver),
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

static void record(struct train *t, struct outcome *o, double seconds)
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
        .mfu = t->peak > 0 ? t->flops / seconds / (t->peak * ctl_size()) : (double)NAN,
    };
    if ((o->finite || t->o->skip_not_finite) && eval_is_due(t)) {
        double begin = ctl_time();
        row.eval_loss = evaluate(t);
        t->slowest_eval = fmax(t->slowest_eval, ctl_time() - begin);
        o->stop |= train__stop_agreed(t); /* evaluating may have taken long */
        report_note(&t->report, "step %llu  eval_loss %.5f", (unsigned long long)t->step, row.eval_loss);
    }
    if (t->trouble.status == ST_OK) /* no row behind half a row */
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

/* The update of this step was left out on all ranks, which read the same sums. */
static enum status skipped(struct train *t, const struct outcome *o, struct err *e)
{
    enum { MOST = 10 }; /* in a row: then it is no accident of the data */
    t->skipped++;
    t->skipped_in_row++;
    report_note(&t->report,
                "step %llu: the loss is %g and the norm of the gradients %g: its update is left out, %llu so far",
                (unsigned long long)t->step, isnan(o->loss) ? (double)NAN : o->loss,
                isnan(o->grad_norm) ? (double)NAN : o->grad_norm, (unsigned long long)t->skipped);
    if (t->skipped_in_row < MOST)
        return ST_OK;
    struct err why = { 0 };
    enum status st = diverged(t, o, &why);
    return err_set(e, st, NULL, "the updates of %d steps in a row were left out. %s", MOST, why.text);
}

static enum status compare(struct train *t, struct err *e)
{
    watch_phase("comparison of replicas");
    exec_download(t->exec);
    enum status st = replicas_compare(t->replicas, t->step, e);
    watch_phase("between steps");
    return st;
}

static enum status save(struct train *t, struct err *e)
{
    watch_phase("checkpoint");
    enum status st = train__save(t, e);
    watch_phase("between steps");
    return st;
}

static enum status advance(struct train *t, struct err *e)
{
    watch_phase("checkpoint");
    enum status st = train__save_advance(t, e);
    watch_phase("between steps");
    return st;
}

/* What comes after a step and what every rank decides alike. */
static enum status after_step(struct train *t, struct outcome *o, struct err *e)
{
    if (o->finite) {
        t->skipped_in_row = 0;
    } else if (t->o->skip_not_finite) {
        TRY(skipped(t, o, e));
    } else {
        TRY(train__save_finish(t, e));
        return diverged(t, o, e);
    }
    if (o->written)
        TRY(advance(t, e));
    if (t->o->check_replicas && t->step % t->o->check_replicas == 0)
        TRY(compare(t, e));
    if (!save_is_due(t, t->step) && !o->save && !o->stop)
        return ST_OK;
    TRY(save(t, e));
    train__stop_saved(t);
    o->stop = o->stop || train__stop_agreed(t); /* now a stop costs nothing more */
    return ST_OK;
}

static enum status run_steps(struct train *t, struct err *e)
{
    /* asked while it started: what is there is kept already. Without a checkpoint a step is made, and then one */
    bool stop = t->has_saved && train__stop_signalled();
    watch_phase("between steps");
    report_begin(&t->report, t->step, ctl_time());
    while (t->step < t->last_step && !stop) {
        double seconds;
        struct outcome o = run_step(t, &seconds);
        t->step++;
        t->updates += o.finite;
        t->sample += train__batch(t);
        if (t->tracing && train__is_traced(t, t->step))
            TRY(train__trace_step(t, e));
        record(t, &o, seconds);
        TRY(after_step(t, &o, e));
        stop = o.stop;
    }
    enum status st = ctl_agree(t->trouble.status, &t->trouble);
    return st == ST_OK ? ST_OK : err_set(e, st, NULL, "%s", t->trouble.text);
}

enum status train__loop(struct train *t, struct err *e)
{
    struct err saving = { 0 };
    enum status st = run_steps(t, e), saved = train__save_finish(t, &saving);
    if (st != ST_OK)
        return st;
    if (saved != ST_OK)
        return err_set(e, saved, NULL, "%s", saving.text);
    if (t->step < t->last_step && !train__keeps(t))
        return err_set(e, ST_STOPPED, NULL, "stopped after step %llu of %llu; %s starts over each time",
                       (unsigned long long)t->step, (unsigned long long)t->last_step,
                       train__emulates(t) ? "an emulation" : "--no-checkpoint");
    if (t->step < t->last_step)
        return err_set(e, ST_STOPPED, NULL,
                       "stopped after step %llu of %llu with a checkpoint; the same command goes on",
                       (unsigned long long)t->step, (unsigned long long)t->last_step);
    return ST_OK;
}
