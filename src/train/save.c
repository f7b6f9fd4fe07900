/* Writing checkpoints. State changes only in the updates, so what a checkpoint is to hold is copied while the next forward and
 * backward run; a thread writes it while training goes on. Ranks tell each other in the sums of the steps how far they are. */
#include <math.h>
#include <stdio.h>

#include "base/version.h"
#include "rundir/folder.h"
#include "rundir/signals.h"
#include "train/private.h"
#include "watch/watch.h"

/* Nothing may be missing of the steps that the checkpoint lets a restart pass over: their rows are durable before it is. */
static enum status ready(void *x, struct err *e)
{
    const struct train *t = x;
    exec_copy_wait(t->exec);
    TRY(metrics_sync(&t->metrics, e));
    return t->rows.status == ST_OK ? ST_OK : err_set(e, t->rows.status, NULL, "%s", t->rows.text);
}

/* What was written is what the update left. */
static enum status check(void *x, struct err *e)
{
    return exec_copy_check(((const struct train *)x)->exec, e);
}

enum status train__save_open(struct train *t, struct err *e)
{
    if (!train__keeps(t))
        return ST_OK;
    struct checkpoint_setup setup = {
        .dir = t->dir,
        .graph = &t->model,
        .info = { .seed = t->config->seed },
        .keep = { (uint32_t)t->config->checkpoint_keep, t->config->checkpoint_keep_every },
        .loaded = t->has_saved ? t->saved.step : UINT64_MAX,
        .ready = ready,
        .check = check,
        .arg = t,
    };
    struct checkpoint_info *info = &setup.info;
    snprintf(info->optimizer, sizeof info->optimizer, "%s", optimizer_name(t->config->optimizer));
    info->data.n = t->feed.n_sources;
    for (uint32_t i = 0; i < t->feed.n_sources; i++)
        info->data.at[i] = t->feed.sources[i].source;
    memcpy(info->job_digest, t->job.digest, sizeof info->job_digest);
    memcpy(info->model_digest, t->job.model_digest, sizeof info->model_digest);
    snprintf(info->build, sizeof info->build, "piper %s (%s)", piper_version, piper_commit);
    pieces_to_write(&t->plan, world_rank(), exec_arenas(t->exec), &t->pieces);
    setup.pieces = t->pieces.list.at;
    setup.n_pieces = t->pieces.list.n;
    return checkpoint_saver_open(&setup, &t->saver, e);
}

void train__save_close(struct train *t)
{
    checkpoint_saver_close(t->saver);
    pieces_release(&t->pieces);
}

enum status train__save_advance(struct train *t, struct err *e)
{
    bool done;
    double begin = clock_now();
    enum status st = checkpoint_save_advance(t->saver, &done, e);
    t->waited += clock_now() - begin;
    t->saving = !done;
    TRY(st);
    if (!done)
        return ST_OK;
    double seconds = checkpoint_save_seconds(t->saver);
    t->slowest_checkpoint = fmax(t->slowest_checkpoint, seconds);
    t->saved.step = t->saving_step;
    t->has_saved = true;
    uint64_t later = t->step - t->saved.step;
    log_note(&t->log, "checkpoint of step %llu written in %.2f s, %llu step%s later; training waited %.4f s",
             (unsigned long long)t->saved.step, seconds, (unsigned long long)later, later == 1 ? "" : "s",
             t->waited + exec_copy_waited(t->exec) - t->copy_waited);
    return ST_OK;
}

enum status train__save_finish(struct train *t, struct err *e)
{
    while (t->saving)
        TRY(train__save_advance(t, e));
    return ST_OK;
}

/* Rank 0: the folder at the same path, with what the open files hold. */
static enum status make_again(struct train *t, struct err *e)
{
    char path[DIR_PATH];
    dir_path_again(t->dir, path);
    TRY(folder_make(path, e));
    TRY(dir_reopen(t->dir, e));
    TRY(lock_retake(t->stop.lock, e));
    TRY(log_reopen(&t->log, e));
    TRY(metrics_reopen(&t->metrics, e));
    log_line(&t->log,
             "warning: the run directory %s was removed and is recreated; its contents except log and metrics are lost",
             t->dir->path);
    return ST_OK;
}

/* Rank 0: what is written to a file without a name, or one that another file has taken (an editor's), would be lost with this run. */
static enum status see_files(struct train *t, struct err *e)
{
    struct err ignored = { 0 }; /* a log is no reason to end a run */
    if (world_rank() != 0)
        return ST_OK;
    if (!log_is_there(&t->log) && log_reopen(&t->log, &ignored) == ST_OK)
        log_line(&t->log, "warning: log.txt was removed or replaced and is recreated");
    if (!metrics_is_there(&t->metrics)) {
        TRY(metrics_reopen(&t->metrics, e));
        log_line(&t->log, "%s", t->metrics.note);
    }
    return ST_OK;
}

/* Somebody may have removed the folder under the run, or files in it: a checkpoint is worth a new one. */
static enum status see_folder(struct train *t, struct err *e)
{
    uint64_t removed = world_rank() == 0 && dir_is_removed(t->dir);
    world_max_u64(&removed, 1);
    if (!removed)
        return world_agree(see_files(t, e), e);
    TRY(world_agree(world_rank() == 0 ? make_again(t, e) : ST_OK, e));
    TRY(world_agree(world_rank() == 0 ? ST_OK : dir_reopen(t->dir, e), e));
    watch_record_again();
    return ST_OK;
}

bool train__is_saved(const struct train *t)
{
    return (t->has_saved && t->saved.step == t->step) || (t->saving && t->saving_step == t->step);
}

bool train__save_asked(struct train *t)
{
    double seconds = 60 * t->config->checkpoint_minutes;
    bool late = world_rank() == 0 && seconds > 0 && !t->saving && train__keeps(t) &&
                clock_now() - t->last_save >= seconds;
    return signals_save() || late;
}

enum status train__save(struct train *t, struct err *e)
{
    if (!train__keeps(t) || train__is_saved(t))
        return ST_OK;
    TRY(train__save_finish(t, e));
    TRY(see_folder(t, e));
    t->last_save = clock_now();
    if (world_rank() == 0)
        load_report(&t->load, t->step, &t->log);
    double begin = clock_now();
    t->saving = true;
    t->saving_step = t->step;
    t->rows = t->trouble;
    t->copy_waited = exec_copy_waited(t->exec);
    exec_copy_begin(t->exec, t->pieces.copies.at, t->pieces.copies.n);
    checkpoint_save_begin(t->saver, t->step, t->sample, t->updates);
    t->waited = clock_now() - begin;
    return t->o->sync ? train__save_finish(t, e) : ST_OK;
}
