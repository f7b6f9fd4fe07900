#include "train/private.h"

#include <stdio.h>
#include <sys/resource.h>

#include "watch/watch.h"

static struct dir run_folder = { .fd = -1 }; /* of the one run of this process, for failures that come from anywhere */

void train__tell(const char *text)
{
    log_append(&run_folder, text);
}

/* The worst rank's figures. */
static void report_memory(struct train *t)
{
    struct exec_memory m = exec_memory(t->exec);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    uint64_t own = mem_stats().live_bytes;
    uint64_t worst[] = { m.planned, m.touched, own, (uint64_t)usage.ru_maxrss << 10, t->allocations };
    world_max_u64(worst, sizeof worst / sizeof *worst);
    const double mib = 1024 * 1024;
    log_line(&t->log,
             "peak memory per rank: %.1f MiB planned, %.1f MiB touched, %.1f MiB other heap, %.1f MiB resident (RSS); "
             "allocations in steps: %llu",
             (double)worst[0] / mib, (double)worst[1] / mib, (double)worst[2] / mib, (double)worst[3] / mib,
             (unsigned long long)worst[4]);
}

static void report_end(struct train *t)
{
    const char *dir = t->dir->path;
    if (t->has_saved)
        log_line(&t->log, "checkpoint: %s/checkpoints/step-%06llu.h5", dir, (unsigned long long)t->saved.step);
    log_line(&t->log, "metrics:    %s/metrics.csv", dir);
    if (t->tracing)
        log_line(&t->log, "trace:      piper trace %s --summary", dir);
}

static enum status open_metrics(struct train *t, struct err *e)
{
    struct metrics_cell columns[2 * TRAIN_SOURCES_MAX + 1];
    const struct train_sources *sets = &t->config->eval_data;
    uint32_t n = 0;
    if (t->rounds)
        columns[n++] = (struct metrics_cell){ .kind = METRICS_ROUNDS };
    for (uint32_t i = 0; i < t->feed.blend.n; i++)
        columns[n++] = (struct metrics_cell){ .kind = METRICS_SAMPLES, .of = t->feed.sources[i].source.name };
    for (uint32_t i = 0; i < train__eval_sets(t) && *sets->at[i].name; i++)
        columns[n++] = (struct metrics_cell){ .kind = METRICS_EVAL, .of = sets->at[i].name };
    TRY(metrics_open(&t->metrics, t->dir, t->step, columns, n, e));
    return t->o->tensorboard ? events_open(&t->curves, t->dir, e) : ST_OK;
}

void train__show_values(struct train *t, const struct events_value *values, uint32_t n)
{
    if (!events_write(&t->curves, t->step, values, n))
        log_line(&t->log, "warning: the event file in %s/tensorboard cannot be written and ends here", t->dir->path);
}

/* How the data were read. */
static void report_feed(struct train *t)
{
    const struct feed *f = &t->feed;
    double waited = f->waited;
    world_sum_f64(&waited, 1);
    if (train__emulates(t))
        return;
    for (uint32_t i = 0; i < f->blend.n; i++)
        log_line(&t->log, "data %s: %llu of %llu samples so far", f->sources[i].source.name,
                 (unsigned long long)feed_taken(f, i, t->sample), (unsigned long long)t->sample);
    log_line(&t->log, "training waited %.3f s per rank for its data", waited / world_size());
}

static enum status phases(struct train *t, struct err *e)
{
    TRY(train__start(t, e));
    watch_phase("resume");
    TRY(train__restore(t, e));
    TRY(world_agree(world_rank() == 0 ? train__keep_job(t, e) : ST_OK, e));
    TRY(train__save_open(t, e));
    TRY(train__sample_open(t, e));
    if (world_rank() == 0)
        load_open(&t->load, &t->job.graph);
    enum status st = world_agree(world_rank() == 0 ? open_metrics(t, e) : ST_OK, e);
    if (t->metrics.note[0])
        log_line(&t->log, "%s", t->metrics.note);
    if (st == ST_OK)
        st = train__trace_open(t, e);
    if (st == ST_OK)
        st = train__loop(t, e);
    watch_phase("end");
    if (st == ST_OK || st == ST_STOPPED) {
        report_memory(t);
        report_feed(t);
        train__report_spent(t);
        report_end(t);
    }
    load_close(&t->load);
    events_close(&t->curves);
    struct err closing = { 0 };
    enum status closed = world_agree(metrics_close(&t->metrics, &closing), &closing);
    if (closed == ST_OK)
        closed = train__trace_close(t, &closing);
    if (st == ST_OK && closed != ST_OK) {
        *e = closing;
        st = closed;
    }
    return st;
}

enum status train_run(const struct train_options *o, struct err *e)
{
    dir_close(&run_folder); /* of the run before, in a process that has several */
    struct train t = { .o = o, .dir = &run_folder, .began = clock_now() };
    process_ways.where = watch_where;
    process_ways.log = train__tell;
    notices_init(&t.notices);
    watch_phase("start");
    enum status st = watch_open(&(struct watch_setup){ .dir = t.dir, .timeout = (double)o->hang_timeout }, e);
    if (st == ST_OK)
        st = phases(&t, e);
    watch_phase("end");
    watch_attach(NULL);
    train__save_close(&t);
    train__sample_close(&t);
    replicas_close(t.replicas);
    exec_close(t.exec);
    feed_close(&t.feed);
    for (uint32_t i = 0; t.eval_feeds && i < t.config->eval_data.n; i++)
        feed_close(&t.eval_feeds[i]);
    mem_free(t.eval_feeds);
    mem_free(t.image);
    mem_free(t.blob);
    mem_free(t.predicted);
    ir_graph_release(&t.model);
    if (t.have_job)
        job_release(&t.job);
    notices_release(&t.notices);
    train__stop_close(&t, st);
    log_close(&t.log);
    watch_close();
    return st;
}
