/* Evaluation: the mean loss over the whole batches of the evaluation data, of each set and of all together. It comes after the checkpoint of its step is begun, and
 * between two batches it can be left: it is made anew, first of all, when the run is resumed. */
#include <math.h>
#include <stdio.h>

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

static uint64_t batches(const struct train *t, uint32_t set)
{
    return feed_windows(&t->eval_feeds[set]) / batch_size(t);
}

/* Before one was made: a forward is a third of a step. */
double train__eval_seconds(const struct train *t)
{
    if (t->eval_list == PLAN_NONE)
        return 0;
    uint64_t n = 0;
    for (uint32_t i = 0; i < train__eval_sets(t); i++)
        n += batches(t, i);
    return t->slowest_eval > 0 ? t->slowest_eval : (double)n * t->slowest_step / 3;
}

/* What cannot be read ends the run like a signal. */
static void wait_batch(struct train *t, uint32_t set, uint64_t i)
{
    watch_phase("load data");
    if (i < batches(t, set) && t->eval_unread.status == ST_OK)
        feed_wait(&t->eval_feeds[set], i, &t->eval_unread);
    watch_phase("evaluation");
}

/* What a batch's sums say: the loss, and whether the ranks are to go on. */
static enum status run_batch(struct train *t, uint32_t set, uint64_t i, double *scalars, struct err *e)
{
    struct feed *f = &t->eval_feeds[set];
    struct exec_data data = feed_data(f);
    wait_batch(t, set, i + 1);
    double begin = clock_now();
    struct exec_step step = {
        .list = t->eval_list,
        .step = t->step,
        .sample = i * batch_size(t),
        .stop = train__stop_asked(t, 2 * t->slowest_batch, false) || t->eval_unread.status != ST_OK,
        .save = train__save_asked(t),
        .written = t->saving && checkpoint_save_idle(t->saver),
        .data = &data,
        .counted = feed_counted(f, i),
    };
    exec_run(t->exec, &step, scalars);
    t->slowest_batch = fmax(t->slowest_batch, clock_now() - begin);
    if (scalars[SCALAR_WRITTEN] == world_size())
        TRY(train__save_advance(t, e));
    return scalars[SCALAR_SAVE] > 0 ? train__save(t, e) : ST_OK;
}

/* The sum of the losses of one set of data, and how many targets it is of. */
struct result {
    double loss, targets;
};

static enum status evaluate_set(struct train *t, uint32_t set, struct result *to, bool *stop, struct err *e)
{
    struct feed *f = &t->eval_feeds[set];
    const uint64_t n = batches(t, set);
    double scalars[SCALAR_COUNT];
    *to = (struct result){ 0 };
    feed_start(f, 0, batch_size(t), n);
    wait_batch(t, set, 0);
    uint64_t unread = t->eval_unread.status != ST_OK;
    world_max_u64(&unread, 1);
    *stop = unread;
    for (uint64_t i = 0; i < n && !*stop; i++) {
        TRY(run_batch(t, set, i, scalars, e));
        to->loss += scalars[SCALAR_LOSS];
        to->targets += f->counts ? scalars[SCALAR_COUNTED] : (double)batch_size(t) * f->seq_len;
        *stop = scalars[SCALAR_STOP] > 0;
        t->eval_is_left = set + 1 < train__eval_sets(t) || i + 1 < n;
    }
    return ST_OK;
}

static void record(struct train *t, const struct result *all, const struct result *sets)
{
    const struct train_sources *s = &t->config->eval_data;
    struct metrics_cell cells[TRAIN_SOURCES_MAX];
    char text[TRAIN_NAME_BYTES + 24];
    uint32_t n = *s->at[0].name ? s->n : 0;
    struct events_value values[1 + TRAIN_SOURCES_MAX] = { { "eval/loss", all->loss / all->targets } };
    char tags[TRAIN_SOURCES_MAX][TRAIN_NAME_BYTES + 8];
    log_note(&t->log, "step %llu  eval_loss %.5f", (unsigned long long)t->step, all->loss / all->targets);
    for (uint32_t i = 0; i < n; i++) {
        cells[i] =
            (struct metrics_cell){ .kind = METRICS_EVAL, .of = s->at[i].name, .value = sets[i].loss / sets[i].targets };
        snprintf(text, sizeof text, "eval_loss.%s %.5f", s->at[i].name, cells[i].value);
        log_note(&t->log, "step %llu  %s", (unsigned long long)t->step, text);
        snprintf(tags[i], sizeof tags[i], "eval/%s", s->at[i].name);
        values[1 + i] = (struct events_value){ tags[i], cells[i].value };
    }
    train__show_values(t, values, 1 + n);
    if (t->trouble.status == ST_OK)
        metrics_add_eval(&t->metrics, all->loss / all->targets, cells, n, &t->trouble);
}

enum status train__evaluate(struct train *t, bool *stop, struct err *e)
{
    struct result sets[TRAIN_SOURCES_MAX], all = { 0 };
    double begin = clock_now();
    t->eval_is_left = true;
    *stop = false;
    for (uint32_t i = 0; i < train__eval_sets(t) && !*stop; i++) {
        TRY(evaluate_set(t, i, &sets[i], stop, e));
        all.loss += sets[i].loss;
        all.targets += sets[i].targets;
    }
    t->slowest_eval = fmax(t->slowest_eval, clock_now() - begin);
    if (t->eval_is_left) {
        log_line(&t->log, "the evaluation after step %llu is deferred until the run is resumed",
                 (unsigned long long)t->step);
        return ST_OK;
    }
    record(t, &all, sets);
    *stop = *stop || train__stop_agreed(t); /* it may have taken long */
    return ST_OK;
}
