/* The step loop. */
#include <math.h>
#include <stdio.h>

#include "job/config.h"
#include "rundir/signals.h"
#include "train/private.h"
#include "watch/watch.h"

/* What the sums of a step say. */
struct outcome {
    double loss, grad_norm, aux_loss;
    uint64_t dropped;
    double rounds;
    bool empty;                       /* no target counted */
    bool finite, stop, save, written; /* written: every rank has done its share of the checkpoint under way */
};

double train__sequences(const struct train *t, uint32_t list)
{
    const struct plan_list *l = &t->plan.lists[list];
    return (double)l->replicas * l->microbatches * l->microbatch_size;
}

static struct outcome read_sums(const struct train *t, const double *sums)
{
    double n = train__sequences(t, t->train_list);
    struct outcome o = {
        .loss = sums[SCALAR_LOSS] / t->targets, /* none: NaN */
        .grad_norm = sqrt(sums[SCALAR_NORM2]),
        .aux_loss = sums[SCALAR_AUX] / n,
        .dropped = (uint64_t)sums[SCALAR_DROPPED],
        .rounds = sums[SCALAR_ROUNDS],
        .stop = sums[SCALAR_STOP] > 0,
        .save = sums[SCALAR_SAVE] > 0,
        .written = sums[SCALAR_WRITTEN] == world_size(),
        .empty = t->targets == 0,
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

/* ---- a step --------------------------------------------------------------------------------------------------- */

static bool save_is_due(const struct train *t, uint64_t step)
{
    return step == t->last_step || (t->config->checkpoint_every && step % t->config->checkpoint_every == 0);
}

/* The number of a step's run in the feed, and whether there is such a step. */
static uint64_t run_of(const struct train *t, uint64_t step)
{
    return step - t->first_step - 1;
}

/* The data of a step are there when the one before it begins, so that all ranks can end with that one what the next would not have;
 * what cannot be read ends the run like a signal, with a checkpoint of the steps before it. */
static void wait_data(struct train *t, uint64_t step)
{
    if (train__emulates(t) || t->unread.status != ST_OK || step > t->last_step)
        return;
    double begin = clock_now();
    watch_phase("load data");
    feed_wait(&t->feed, run_of(t, step), &t->unread);
    train__spend(t, TRAIN_DATA, begin);
    watch_phase("between steps");
}

/* This rank's share of the targets of a step. */
static double counted(const struct train *t, uint64_t step)
{
    return train__emulates(t) || step > t->last_step ? 0 : feed_counted(&t->feed, run_of(t, step));
}

static double all_targets(const struct train *t)
{
    return (double)train__batch(t) * t->job.graph.seq_len;
}

static struct outcome run_step(struct train *t, double *seconds)
{
    double scalars[SCALAR_COUNT], begin = clock_now();
    struct exec_data data = feed_data(&t->feed);
    wait_data(t, t->step + 2);
    struct exec_step step = {
        .list = t->train_list,
        .step = t->step + 1,
        .update = t->updates + 1,
        .sample = t->sample,
        .lr = config_lr(t->config, t->step + 1),
        /* a "no" lets the step after this one be made too */
        .stop = train__stop_asked(t, 2 * t->slowest_step, save_is_due(t, t->step + 1)) || t->trouble.status != ST_OK ||
                t->unread.status != ST_OK,
        .save = train__save_asked(t),
        .written = t->saving && checkpoint_save_idle(t->saver),
        .traced = t->tracing && train__is_traced(t, t->step + 1),
        .data = &data,
        .targets = t->targets,
        .skip = t->targets == 0,
        .counted = counted(t, t->step + 2), /* the next step divides by the sum of this */
    };
    uint64_t calls = mem_stats().calls;
    double list = clock_now();
    exec_run(t->exec, &step, scalars);
    train__spend(t, TRAIN_LISTS, list);
    t->allocations += mem_stats().calls - calls;
    *seconds = clock_now() - begin;
    t->spent[TRAIN_STEPS] += *seconds;
    t->slowest_step = fmax(t->slowest_step, *seconds);
    const struct outcome o = read_sums(t, scalars);
    t->targets = t->feed.counts ? scalars[SCALAR_COUNTED] : all_targets(t);
    return o;
}

static struct metrics_row row_of(struct train *t, const struct outcome *o, double seconds)
{
    return (struct metrics_row){
        .step = t->step,
        .loss = o->loss,
        .grad_norm = o->grad_norm,
        .lr = config_lr(t->config, t->step),
        .tokens = t->sample * t->job.graph.seq_len,
        .step_seconds = seconds,
        .tokens_per_second = (double)train__batch(t) * t->job.graph.seq_len / seconds,
        .aux_loss = o->aux_loss,
        .dropped_tokens = o->dropped,
        .mfu = t->peak > 0 ? t->flops / seconds / (t->peak * world_size()) : (double)NAN,
        .expert_load = world_rank() == 0 ? load_add(&t->load, t->step, exec_loads(t->exec)) : (double)NAN,
    };
}

/* Further rounds of the step, and how many samples of each source of a blend there were so far. */
static uint32_t more_cells(const struct train *t, double rounds, struct metrics_cell *cells)
{
    if (t->rounds)
        *cells++ = (struct metrics_cell){ .kind = METRICS_ROUNDS, .value = rounds };
    for (uint32_t i = 0; i < t->feed.blend.n; i++)
        cells[i] = (struct metrics_cell){ METRICS_SAMPLES, t->feed.sources[i].source.name,
                                          (double)feed_taken(&t->feed, i, t->sample) };
    return t->feed.blend.n + t->rounds;
}

static void show_row(struct train *t, const struct metrics_row *row)
{
    const struct events_value values[] = { { "train/loss", row->loss },
                                           { "train/grad_norm", row->grad_norm },
                                           { "train/lr", row->lr },
                                           { "train/aux_loss", row->aux_loss != 0 ? row->aux_loss : (double)NAN },
                                           { "train/expert_load", row->expert_load },
                                           { "speed/tokens_per_second", row->tokens_per_second },
                                           { "speed/step_seconds", row->step_seconds },
                                           { "speed/mfu", row->mfu } };
    train__show_values(t, values, sizeof values / sizeof *values);
}

static void record(struct train *t, const struct metrics_row *row, double rounds)
{
    struct metrics_cell cells[TRAIN_SOURCES_MAX + 1];
    if (t->trouble.status == ST_OK) /* no row behind half a row */
        metrics_write(&t->metrics, row, cells, more_cells(t, rounds, cells), &t->trouble);
    show_row(t, row);
    log_step(&t->log, &(struct log_step){ .step = row->step,
                                          .steps = t->last_step,
                                          .loss = row->loss,
                                          .grad_norm = row->grad_norm,
                                          .tokens_per_second = row->tokens_per_second,
                                          .now = clock_now() });
}

static enum status diverged(const struct train *t, const struct outcome *o, struct err *e)
{
    char kept[128] = "there is no checkpoint yet";
    if (t->has_saved)
        snprintf(kept, sizeof kept, "the checkpoint of step %llu is kept", (unsigned long long)t->saved.step);
    return err_set(e, ST_INPUT, NULL,
                   "step %llu: the loss is %g and the gradient norm %g: training has diverged. A lower learning rate, "
                   "a longer warm-up or clip_norm may help; --check-numbers names the operator where it starts; %s",
                   (unsigned long long)t->step, isnan(o->loss) ? (double)NAN : o->loss,
                   isnan(o->grad_norm) ? (double)NAN : o->grad_norm, kept);
}

/* The update of this step was left out on all ranks, which read the same sums. */
static enum status skipped(struct train *t, const struct outcome *o, struct err *e)
{
    enum { MOST = 10 }; /* in a row: then it is no accident of the data */
    t->skipped++;
    t->skipped_in_row++;
    log_note(&t->log, "step %llu: the loss is %g and the gradient norm %g: its update is skipped, %llu so far",
             (unsigned long long)t->step, isnan(o->loss) ? (double)NAN : o->loss,
             isnan(o->grad_norm) ? (double)NAN : o->grad_norm, (unsigned long long)t->skipped);
    if (t->skipped_in_row < MOST)
        return ST_OK;
    struct err why = { 0 };
    enum status st = diverged(t, o, &why);
    return err_set(e, st, NULL, "the updates of %d consecutive steps were skipped. %s", MOST, why.text);
}

/* A step without update because there was nothing to learn from. */
static enum status no_targets(struct train *t, struct err *e)
{
    enum { MOST = 10 };
    t->skipped_in_row++;
    log_note(&t->log, "step %llu: none of its tokens is a target that counts: its update is skipped",
             (unsigned long long)t->step);
    if (t->skipped_in_row < MOST)
        return ST_OK;
    return err_set(e, ST_INPUT, t->data->at[0].path,
                   "no token of %d consecutive steps is a target that counts; check the mask (piper data info)", MOST);
}

static enum status compare(struct train *t, struct err *e)
{
    watch_phase("comparison of replicas");
    double begin = clock_now();
    exec_sums_check(t->exec); /* which of two that differ is the wrong one? */
    exec_download(t->exec);
    enum status st = replicas_compare(t->replicas, t->step, e);
    train__spend(t, TRAIN_COMPARISONS, begin);
    watch_phase("between steps");
    return st;
}

static enum status save(struct train *t, struct err *e)
{
    if (train__is_saved(t)) /* or is being written */
        return ST_OK;
    double begin = clock_now();
    watch_phase("checkpoint");
    TRY(train__save(t, e));
    watch_phase("between steps");
    train__spend(t, TRAIN_CHECKPOINTS, begin);
    train__stop_saved(t);
    return ST_OK;
}

static enum status advance(struct train *t, struct err *e)
{
    double begin = clock_now();
    watch_phase("checkpoint");
    enum status st = train__save_advance(t, e);
    watch_phase("between steps");
    train__spend(t, TRAIN_CHECKPOINTS, begin);
    return st;
}

/* Its checkpoint, if one is due, is under way: an evaluation may take longer than all that was trained since the last one. */
static enum status evaluate(struct train *t, bool *stop, struct err *e)
{
    bool asked = *stop || train__stop_agreed_before(t, train__eval_seconds(t));
    t->eval_is_left = asked;
    if (!asked) {
        double begin = clock_now();
        watch_phase("evaluation");
        TRY(train__evaluate(t, &asked, e));
        watch_phase("between steps");
        train__spend(t, TRAIN_EVALUATIONS, begin);
    }
    *stop = asked;
    return asked ? save(t, e) : ST_OK;
}

/* What comes after a step and what every rank decides alike. */
static enum status after_step(struct train *t, struct outcome *o, struct err *e)
{
    if (o->finite) {
        t->skipped_in_row = 0;
    } else if (o->empty) {
        TRY(no_targets(t, e));
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
    if (save_is_due(t, t->step) || o->save || o->stop) {
        TRY(save(t, e));
        o->stop = o->stop || train__stop_agreed(t); /* now a stop costs nothing more */
    }
    if (train__sample_is_due(t))
        TRY(train__sample(t, e));
    return train__eval_is_due(t) ? evaluate(t, &o->stop, e) : ST_OK;
}

/* The data of the first step. An evaluation that a stop, or a kill, has left is made first: metrics.csv lacks it. */
static enum status begin(struct train *t, bool *stop, struct err *e)
{
    t->first_step = t->step;
    uint64_t left = t->has_saved && train__eval_is_due(t) && metrics_lacks_eval(&t->metrics, t->step);
    if (t->step < t->last_step) {
        if (!train__emulates(t))
            feed_start(&t->feed, t->sample, train__batch(t), t->last_step - t->step);
        wait_data(t, t->step + 1);
        struct err why = t->unread;
        enum status st = world_agree(why.status, &why);
        if (st != ST_OK)
            return err_set(e, st, NULL, "%s", why.text);
        t->targets = counted(t, t->step + 1);
        world_sum_f64(&t->targets, 1);
        if (!t->feed.counts)
            t->targets = all_targets(t);
    }
    world_max_u64(&left, 1);
    return left ? evaluate(t, stop, e) : ST_OK;
}

static enum status unread(struct train *t, struct err *what, struct err *e)
{
    enum status st = world_agree(what->status, what);
    if (st == ST_OK)
        return ST_OK;
    TRY(train__save_finish(t, e));
    char kept[64] = "";
    if (t->has_saved)
        snprintf(kept, sizeof kept, "; the checkpoint of step %llu is kept", (unsigned long long)t->saved.step);
    return err_set(e, st, NULL, "%s. Training stopped before the step that needs it%s", what->text, kept);
}

/* What has come up in the steps on some rank, and stopped them. */
static enum status troubles(struct train *t, struct err *e)
{
    enum status st = world_agree(t->trouble.status, &t->trouble);
    if (st != ST_OK)
        return err_set(e, st, NULL, "%s", t->trouble.text);
    TRY(unread(t, &t->unread, e));
    return unread(t, &t->eval_unread, e);
}

static enum status run_steps(struct train *t, struct err *e)
{
    /* asked while it started: what is there is kept already. Without a checkpoint a step is made, and then one */
    bool stop = t->has_saved && train__stop_signalled();
    watch_phase("between steps");
    log_begin(&t->log, t->step, clock_now());
    t->last_save = clock_now();
    TRY(begin(t, &stop, e));
    while (t->step < t->last_step && !stop) {
        double seconds;
        struct outcome o = run_step(t, &seconds);
        t->step++;
        t->updates += o.finite;
        t->sample += train__batch(t);
        if (t->tracing && train__is_traced(t, t->step))
            TRY(train__trace_step(t, e));
        const struct metrics_row row = row_of(t, &o, seconds);
        record(t, &row, o.rounds);
        TRY(after_step(t, &o, e));
        stop = o.stop;
    }
    return troubles(t, e);
}

enum status train__loop(struct train *t, struct err *e)
{
    struct err saving = { 0 };
    train__spend(t, TRAIN_START, t->began);
    enum status st = run_steps(t, e);
    double begin = clock_now();
    enum status saved = train__save_finish(t, &saving);
    train__spend(t, TRAIN_CHECKPOINTS, begin);
    if (st != ST_OK)
        return st;
    if (saved != ST_OK)
        return err_set(e, saved, NULL, "%s", saving.text);
    bool left = t->step < t->last_step || t->eval_is_left;
    if (left && !train__keeps(t))
        return err_set(e, ST_STOPPED, NULL, "stopped after step %llu of %llu; not resumable (%s)",
                       (unsigned long long)t->step, (unsigned long long)t->last_step,
                       train__emulates(t) ? "an emulation" : "--no-checkpoint");
    if (left)
        return err_set(e, ST_STOPPED, NULL,
                       "stopped after step %llu of %llu%s after writing a checkpoint; rerun the same command to resume",
                       (unsigned long long)t->step, (unsigned long long)t->last_step,
                       t->eval_is_left ? ", before its evaluation," : "");
    return ST_OK;
}
