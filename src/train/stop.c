/* When a run ends before its last step: signals, limits of time, piper halt. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "rundir/batch_time.h"
#include "base/duration.h"
#include "rundir/halt.h"
#include "rundir/signals.h"
#include "train/private.h"

/* ---- the folder and the clock --------------------------------------------------------------------------------- */

static void print_note(void *arg, const char *text)
{
    (void)arg; /* log.txt is the other run's as long as it is alive */
    log_console(text);
}

static void lost_folder(void *arg, const char *text)
{
    (void)arg;
    process_ways.log = NULL; /* it is the other run's */
    process_end(ST_HANG, text, world_abort);
}

enum status train__stop_lock(struct train *t, struct err *e)
{
    return lock_take(t->dir, &(struct lock_words){ .note = print_note, .lost = lost_folder }, &t->stop.lock, e);
}

/* The batch system's limit, less a little for the launcher's and the job script's last words: a twentieth, 30 s at most. */
static void ask_batch_system(struct train *t)
{
    double left = 0;
    char answer[256];
    if (batch_time_left(&left, answer, sizeof answer)) {
        t->stop.deadline = clock_now() + left - fmin(left / 20, 30);
        log_line(&t->log, "time: %s; training stops with a checkpoint before that", answer);
    } else {
        log_line(&t->log, "time: %s", answer);
    }
}

void train__stop_open(struct train *t)
{
    struct halt_request old;
    halt_take(t->dir, lock_run(t->stop.lock), &old); /* for a run before this one */
    halt_unmark(t->dir);
    t->stop.deadline = t->o->max_seconds ? t->began + (double)t->o->max_seconds : INFINITY;
    if (t->o->max_auto)
        ask_batch_system(t);
}

void train__stop_close(struct train *t, enum status st)
{
    if (st == ST_STOPPED && t->stop.asked_by[0])
        halt_mark(t->dir, t->stop.asked_by);
    lock_release(t->stop.lock);
}

/* ---- piper halt ----------------------------------------------------------------------------------------------- */

static void take_request(struct train *t)
{
    struct train_stop *s = &t->stop;
    struct halt_request r;
    char news[LOCK_NEWS];
    double now = clock_now();
    if (now < s->next_look)
        return;
    s->next_look = now + 1;
    if (lock_news(s->lock, news))
        log_line(&t->log, "%s", news);
    if (!halt_take(t->dir, lock_run(s->lock), &r))
        return;
    char what[64] = "now", left[DURATION_BYTES];
    if (r.kind == HALT_CHECKPOINTS) {
        s->checkpoints = r.number;
        snprintf(what, sizeof what, "after %llu more checkpoints", (unsigned long long)r.number);
    } else if (r.kind == HALT_BEFORE) {
        double seconds = (double)r.number - (double)time(NULL);
        s->deadline = fmin(s->deadline, now + seconds);
        snprintf(what, sizeof what, "within %s", duration_write(seconds, left));
    } else {
        s->now = true;
    }
    snprintf(s->asked_by, sizeof s->asked_by, "%s", r.by);
    log_line(&t->log, "piper halt (%s): will stop %s", r.by, what);
}

/* ---- the decision --------------------------------------------------------------------------------------------- */

/* Before the first checkpoint its time is a guess: three numbers of 4 bytes a parameter, 100 MB/s. */
static double checkpoint_seconds(const struct train *t)
{
    return t->slowest_checkpoint > 0 ? t->slowest_checkpoint : 12e-8 * (double)ir_graph_param_count(&t->job.graph);
}

/* Enough time for that and a checkpoint? */
static bool time_is_up(const struct train *t, double seconds)
{
    return clock_now() + seconds + 1.5 * checkpoint_seconds(t) + 1 > t->stop.deadline;
}

bool train__stop_asked(struct train *t, double seconds, bool saves)
{
    if (signals_stop())
        return true;
    if (world_rank() != 0)
        return false;
    take_request(t);
    return t->stop.now || time_is_up(t, seconds) || (saves && t->stop.checkpoints == 1);
}

bool train__stop_signalled(void)
{
    uint64_t asked = signals_stop();
    world_max_u64(&asked, 1);
    return asked;
}

bool train__stop_agreed_before(struct train *t, double seconds)
{
    uint64_t asked = train__stop_asked(t, seconds, false);
    world_max_u64(&asked, 1);
    return asked;
}

bool train__stop_agreed(struct train *t)
{
    return train__stop_agreed_before(t, t->slowest_step);
}

void train__stop_saved(struct train *t)
{
    struct train_stop *s = &t->stop;
    if (s->checkpoints && --s->checkpoints == 0)
        s->now = true;
}
