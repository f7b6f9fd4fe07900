/* Parameters and moments: first values, or those of a checkpoint. */
#include <stdio.h>

#include "job/keep_job.h"
#include "train/init_params.h"
#include "train/private.h"

static void warn(void *arg, const char *text)
{
    log_line(arg, "warning: %s", text);
}

/* --fresh: what an earlier run has left goes to a folder of its own, old.1, old.2 and so on; nothing is deleted. Rank 0. */
static enum status move_old(const struct dir *run, const char *name, const char *folder, struct dir *old, struct err *e)
{
    bool there;
    TRY(dir_find(run, name, &there, e));
    if (!there)
        return ST_OK;
    if (old->fd < 0)
        TRY(dir_enter(run, folder, DIR_MAKE, old, e));
    return strcmp(name, KEEP_JOB) == 0 ? keep_move(run, old, e) : dir_rename(run, name, old, name, e);
}

static enum status move_all(const struct dir *run, const char *folder, struct dir *old, struct err *e)
{
    static const char *const names[] = { "checkpoints", "metrics.csv", "tensorboard", KEEP_JOB, KEEP_TOKENIZER };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        TRY(move_old(run, names[i], folder, old, e));
    for (uint32_t i = trace_count(run); i-- > 0;) { /* the last first: numbers stay without gaps */
        char name[TRACE_NAME];
        trace_name(i, name);
        TRY(move_old(run, name, folder, old, e));
    }
    return ST_OK;
}

/* The first of old.1, old.2, ... that is not there. */
static enum status name_old(const struct dir *run, char folder[DIR_NAME], struct err *e)
{
    bool there = true;
    for (unsigned n = 1; there; n++) {
        snprintf(folder, DIR_NAME, "old.%u", n);
        TRY(dir_find(run, folder, &there, e));
    }
    return ST_OK;
}

static enum status put_aside(struct train *t, struct err *e)
{
    struct dir old = { .fd = -1 };
    char folder[DIR_NAME];
    bool kept;
    TRY(dir_find(t->dir, "checkpoints", &kept, e));
    if (!t->o->fresh && kept)
        return err_set(e, ST_USAGE, t->o->dir,
                       "contains the checkpoints of a training run, but %s always starts from scratch; use another run "
                       "directory, or --fresh to move them to old.N/",
                       train__emulates(t) ? "an emulation" : "--no-checkpoint");
    TRY(name_old(t->dir, folder, e));
    enum status st = move_all(t->dir, folder, &old, e);
    if (st == ST_OK && old.fd >= 0)
        log_line(&t->log, "existing files of the run directory are now in %s", old.path);
    dir_close(&old);
    return st;
}

/* Are the moments those of the checkpoint? */
static bool same_optimizer(const struct train *t, const struct checkpoint_info *info)
{
    return strcmp(info->optimizer, optimizer_name(t->config->optimizer)) == 0;
}

static bool same_source(const struct checkpoint_source *a, const struct checkpoint_source *b)
{
    return a->tokens == b->tokens && memcmp(a->sample, b->sample, sizeof a->sample) == 0;
}

/* Samples that the earlier run took from its source i. */
static uint64_t taken_before(const struct checkpoint_info *was, uint32_t i)
{
    double weights[CHECKPOINT_MOST_DATA];
    struct data_blend blend;
    if (was->data.n == 1 && was->data.at[0].weight == 0)
        return was->sample;
    for (uint32_t k = 0; k < was->data.n; k++)
        if ((weights[k] = was->data.at[k].weight) <= 0)
            return 0; /* a list: its files are not told apart */
    data_blend_init(&blend, weights, was->data.n, was->seed);
    return data_blend_count(&blend, i, was->sample) + (uint64_t)was->data.at[i].offset;
}

/* Each source of a blend goes on where it was left, whatever the weights and the other sources are now. */
static void continue_blend(struct train *t, const struct checkpoint_info *was)
{
    struct feed *f = &t->feed;
    for (uint32_t i = 0; i < f->n_sources; i++) {
        const struct checkpoint_source *now = &f->sources[i].source;
        uint32_t k = 0;
        while (k < was->data.n && !same_source(now, &was->data.at[k]))
            k++;
        const uint64_t taken = k < was->data.n ? taken_before(was, k) : 0;
        const bool moved = taken != feed_taken(f, i, was->sample);
        feed_continue(f, i, was->sample, taken);
        if (moved || k == was->data.n)
            log_line(&t->log, "data %s: %s, continuing at its sample %llu", now->name,
                     k == was->data.n ? "not among the earlier data" : "its share has changed",
                     (unsigned long long)taken);
    }
}

/* Version 1 of checkpoints, and imported weights, do not say what the data were. */
static void report_data(struct train *t, const struct checkpoint_data *was)
{
    const struct feed *f = &t->feed;
    const struct checkpoint_source *now = &f->sources[0].source, *old = &was->at[0];
    bool same = was->n == f->n_sources;
    for (uint32_t i = 0; same && i < was->n; i++) {
        now = &f->sources[i].source;
        old = &was->at[i];
        same = same_source(now, old);
    }
    if (was->n == 0 || same)
        return;
    log_line(&t->log,
             "warning: the data were %s (%llu tokens%s) and are %s (%llu tokens%s): the next samples do not continue "
             "the earlier data",
             old->name, (unsigned long long)old->tokens, was->n > 1 ? ", and others" : "", now->name,
             (unsigned long long)now->tokens,
             f->n_sources > 1                            ? ", and others"
             : old->tokens == now->tokens && was->n == 1 ? ", other contents"
                                                         : "");
}

/* Rows without a checkpoint: of a run that was lost before its first one, or whose checkpoints are elsewhere. */
static enum status begin_anew(struct train *t, struct err *e)
{
    struct dir old = { .fd = -1 };
    char folder[DIR_NAME];
    bool rows;
    log_line(&t->log, "no checkpoint in %s: starting at step 1", t->o->dir);
    TRY(metrics_has_rows(t->dir, &rows, e));
    if (!rows)
        return ST_OK;
    TRY(name_old(t->dir, folder, e));
    enum status st = move_old(t->dir, "metrics.csv", folder, &old, e);
    if (st == ST_OK)
        log_line(&t->log, "warning: %s/metrics.csv has rows, but there is no checkpoint; it is now in %s", t->o->dir,
                 old.path);
    dir_close(&old);
    return st;
}

/* What may change when a run goes on, said where it did. */
static void report_changes(struct train *t, const struct checkpoint_info *info)
{
    struct log *l = &t->log;
    char next[48] = "";
    if (info->step < t->last_step)
        snprintf(next, sizeof next, ": starting at step %llu", (unsigned long long)info->step + 1);
    log_line(l, "resuming from the checkpoint of step %llu, written %s by %s%s", (unsigned long long)info->step,
             info->time, info->build, next);
    if (info->seed != t->config->seed)
        log_line(l, "warning: the seed was %llu and is %llu: the order of the data changes",
                 (unsigned long long)info->seed, (unsigned long long)t->config->seed);
    if (t->feed.blend.n && info->data.n)
        continue_blend(t, info);
    else
        report_data(t, &info->data);
    if (info->sample != info->step * train__batch(t))
        log_line(l, "warning: the batch size changed: the data continue at sample %llu",
                 (unsigned long long)info->sample);
    if (strcmp(info->optimizer, "none") == 0)
        log_line(l, "the checkpoint has weights only: moments start at zero");
    else if (!same_optimizer(t, info))
        log_line(l, "warning: the optimizer was %s and is %s: moments start at zero", info->optimizer,
                 optimizer_name(t->config->optimizer));
}

static enum status read_newest(struct train *t, bool *found, struct err *e)
{
    uint32_t rank = world_rank();
    unsigned char *const *base = exec_arenas(t->exec);
    struct checkpoint_expect expect = { &t->model, t->job.model_digest, warn, &t->log };
    struct pieces pieces;
    pieces_to_read(&t->plan, rank, base, &pieces);
    enum status st = checkpoint_resume(t->dir, &expect, pieces.list.at, pieces.list.n, found, &t->saved, e);
    if (st == ST_OK && *found)
        pieces_take(&t->plan, rank, base, &pieces);
    pieces_release(&pieces);
    return st;
}

enum status train__restore(struct train *t, struct err *e)
{
    bool found = false;
    if (t->o->fresh || !train__keeps(t))
        TRY(world_agree(world_rank() == 0 ? put_aside(t, e) : ST_OK, e));
    if (train__emulates(t))
        return ST_OK;
    if (train__keeps(t))
        TRY(read_newest(t, &found, e));
    t->has_saved = found;
    if (found) {
        t->step = t->saved.step;
        t->sample = t->saved.sample;
        t->updates = same_optimizer(t, &t->saved) ? t->saved.updates : 0;
        report_changes(t, &t->saved);
    } else {
        TRY(world_agree(world_rank() == 0 ? begin_anew(t, e) : ST_OK, e));
        init_params(&t->model, &t->plan, world_rank(), exec_arenas(t->exec), t->config->seed);
    }
    exec_upload(t->exec);
    exec_sums_take(t->exec, t->step);
    if (t->step >= t->last_step)
        log_line(&t->log, "step %llu of %llu is already done: nothing to do; %s", (unsigned long long)t->step,
                 (unsigned long long)t->last_step,
                 t->o->steps ? "a larger --steps continues it, --fresh starts from scratch"
                             : "--steps N continues it to step N, --fresh starts from scratch");
    return ST_OK;
}
