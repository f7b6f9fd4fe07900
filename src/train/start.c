/* From the job file to ranks that are ready: read, compile, hand out, bind, open the data. The ranks agree after each. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "exec/backends.h"
#include "job/compile_job.h"
#include "job/data_path.h"
#include "job/expert_note.h"
#include "job/keep_job.h"
#include "rundir/folder.h"
#include "job/machine_file.h"
#include "job/progress.h"
#include "base/number.h"
#include "train/predict.h"
#include "train/head.h"
#include "train/private.h"
#include "watch/watch.h"

/* ---- the run folder ------------------------------------------------------------------------------------------- */

static bool is_of_run(const char *name)
{
    static const char *const names[] = { KEEP_JOB, "metrics.csv", "log.txt", "halted", "algorithms", ".clock" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "trace.", 6) == 0;
}

/* One that is there is opened first of all, so that its log tells why a run did not start; one that is not is made last of
 * all, so that a run that cannot start leaves none behind. */
static enum status open_folder(struct train *t, bool make, struct err *e)
{
    struct stat s;
    if (world_rank() != 0 || t->log.file || (!make && stat(t->o->dir, &s) != 0 && errno == ENOENT))
        return ST_OK;
    TRY(folder_make(t->o->dir, e));
    TRY(dir_open(t->o->dir, t->dir, e));
    enum status st = train__stop_lock(t, e);
    if (st != ST_OK) {
        dir_close(t->dir); /* its log is another run's */
        return st;
    }
    dir_remove_unfinished(t->dir, is_of_run);
    TRY(log_open(&t->log, t->dir, e));
    train__stop_open(t);
    return ST_OK;
}

/* ---- the job -------------------------------------------------------------------------------------------------- */

/* Rank 0 builds it; the others receive what they would read from a file. */
static enum status build_job(struct train *t, struct err *e)
{
    struct job built;
    void *bytes = NULL;
    uint64_t size = 0;
    enum status st = ST_OK;
    if (world_rank() == 0) {
        st = job_build(&t->o->sources, COMM_SCRATCH, t->o->argc, t->o->argv, &built, &t->notices, e);
        if (st == ST_OK) {
            st = job_encode(KEEP_JOB, &built, &bytes, &size, e);
            job_release(&built);
        }
    }
    TRY(world_agree(st, e));
    st = job_receive(KEEP_JOB, bytes, size, &t->job, e);
    mem_free(bytes);
    return st;
}

static enum status read_job(struct train *t, struct err *e)
{
    t->job_name = t->o->job ? t->o->job : KEEP_JOB;
    enum status st = t->o->job ? job_read(t->o->job, &t->job, e) : build_job(t, e);
    t->have_job = st == ST_OK;
    if (st == ST_OK && t->o->job) {
        data_paths_beside(t->o->job, &t->job.train.data);
        data_paths_beside(t->o->job, &t->job.train.eval_data);
    }
    if (st == ST_OK && world_rank() == 0)
        st = job_encode(t->job_name, &t->job, &t->image, &t->image_bytes, e);
    return world_agree(st, e);
}

/* --resume: is there anything to resume? Before the compiler works, and before a folder is made. */
static enum status check_resume(const struct train *t, struct err *e)
{
    if (!t->o->resume || world_rank() != 0)
        return ST_OK;
    struct checkpoint_entries list = { 0 };
    if (t->dir->fd >= 0)
        TRY(checkpoint_list(t->dir, &list, e));
    uint32_t n = list.n;
    checkpoint_entries_release(&list);
    return n ? ST_OK
             : err_set(e, ST_MISSING, t->o->dir,
                       "--resume found no checkpoint in it. Is this the run directory, and is its file system mounted? "
                       "Without --resume training starts at step 1");
}

/* What a rank finds on its machine. */
struct local {
    uint32_t ranks, rank; /* of this job: how many, and the place of this one among them */
    struct backends backends;
};

/* ---- devices -------------------------------------------------------------------------------------------------- */

/* Ranks on this machine, by the names of their hosts, and how many of them come before this one. */
static void count_local_ranks(uint32_t *n, uint32_t *before)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    uint64_t mine = number_hash(host, strlen(host), 0), *all = mem_alloc(world_size() * sizeof *all);
    *n = *before = 0;
    world_all_gather(&mine, sizeof mine, all);
    for (uint32_t i = 0; i < world_size(); i++) {
        *n += all[i] == mine;
        *before += all[i] == mine && i < world_rank();
    }
    mem_free(all);
}

/* Only where updates wait for the norm can a step be left out after it is known. */
static enum status check_policy(const struct train *t, struct err *e)
{
    if (!t->o->skip_not_finite || t->config->clip_norm > 0)
        return ST_OK;
    return err_set(e, ST_USAGE, "--on-nan skip",
                   "the job has clip_norm 0, so updates do not wait for the gradient norm and cannot be skipped; set a "
                   "clip_norm that is never reached, such as 1e9");
}

/* What a forward of a stage takes, seconds, where no machine says it. */
static double emulated_unit(const struct train *t)
{
    return t->o->emulate_forward >= 0 ? t->o->emulate_forward : PREDICT_UNIT;
}

/* Options that only one of the two kinds of runs can obey. */
static enum status check_emulation(const struct train *t, struct err *e)
{
    const struct train_options *o = t->o;
    bool emulates = strcmp(o->device, compute_emulate.name) == 0;
    if (o->topology && !o->machine)
        return err_set(e, ST_USAGE, "--topology", "requires --machine");
    if (o->machine && o->emulate_forward >= 0)
        return err_set(e, ST_USAGE, "--emulate-forward",
                       "conflicts with --machine, which gives the duration of everything");
    if (!emulates && o->emulate_forward >= 0)
        return err_set(e, ST_USAGE, "--emulate-forward", "requires --device emulate; found --device %s", o->device);
    if (emulates && o->resume)
        return err_set(e, ST_USAGE, "--resume", "an emulation cannot be resumed; drop it");
    if (emulates && (o->check_numbers || o->check_replicas))
        return err_set(e, ST_USAGE, o->check_numbers ? "--check-numbers" : "--check-replicas",
                       "an emulation has no numbers to check; drop it, or use another --device");
    return ST_OK;
}

static enum status choose_back_ends(struct train *t, struct local *local, struct err *e)
{
    count_local_ranks(&local->ranks, &local->rank);
    const struct backends_asked asked = {
        .device = t->o->device,
        .comm = t->o->comm,
        .graph = &t->job.graph,
        .compute = (enum ir_dtype)t->config->dtype,
        .local_rank = local->rank,
        .local_ranks = local->ranks,
    };
    TRY(backends_choose(&asked, &local->backends, e));
    t->compute = local->backends.compute;
    t->multiprocessors = local->backends.multiprocessors;
    return ST_OK;
}

/* ---- plans ---------------------------------------------------------------------------------------------------- */

/* What mfu is a share of. */
static void take_peak(struct train *t, const struct machine *m)
{
    bool narrow = t->config->dtype == IR_BF16;
    t->peak = m->peak[narrow] > 0 ? m->peak[narrow] : m->flops[narrow];
    snprintf(t->peak_of, sizeof t->peak_of, "%s", m->name);
}

/* A device's own; a machine that is named comes after it and counts. */
static void find_peak(struct train *t, const char *device)
{
    struct machine m;
    if (!machine_of_device(device, &m))
        return;
    take_peak(t, &m);
    machine_release(&m);
}

/* Most who meet "the job has 1 rank" forgot the launcher. */
static void say_how_to_launch(const struct train *t, struct sched_input *in, struct err *e)
{
    json_t *primitives = NULL;
    uint32_t ranks = 0;
    struct err why = { 0 }, said = *e;
    in->ranks = sched_least_ranks(in->strategy);
    if (sched_expand(in, &primitives, &ranks, &why) != ST_OK)
        return; /* it is not the number alone */
    json_decref(primitives);
    ranks = ranks ? ranks : in->ranks;
    if (!ranks || ranks == world_size())
        return;
    err_clear(e);
    if (t->o->job)
        err_set(e, ST_USAGE, NULL, "%s; launch it with mpirun -n %u piper train %s -o %s (Slurm: srun -n %u)",
                said.text, ranks, t->o->job, t->o->dir, ranks);
    else
        err_set(e, ST_USAGE, NULL, "%s; launch it with mpirun -n %u (Slurm: srun -n %u)", said.text, ranks, ranks);
}

static void note_experts(struct train *t, const struct sched_output *out)
{
    char text[EXPERT_NOTE];
    const struct expert_note note = { t->image, t->image_bytes, t->compute->target, world_size(), COMM_SCRATCH, out };
    if (expert_note_write(&note, text))
        notices_add(&t->notices, "memory", "%s", text);
}

static enum status compile(struct train *t, struct sched_output *out, struct err *e)
{
    if (world_rank() != 0)
        return ST_OK;
    struct sched_input in;
    TRY(compile_input(&t->job, t->compute->target, world_size(), COMM_SCRATCH, &in, e));
    in.snapshot = !t->o->sync && train__keeps(t);
    in.eval &= !train__emulates(t); /* there is nothing to evaluate */
    in.machine = t->o->machine ? &t->machine : NULL;
    in.multiprocessors = t->multiprocessors;
    enum status st = t->o->machine ? machine_load(t->o->machine, t->o->topology, &t->machine, e) : ST_OK;
    if (st == ST_OK && t->o->machine)
        take_peak(t, &t->machine);
    const bool note = st == ST_OK && expert_note_applies(in.graph, in.strategy);
    if (st == ST_OK) {
        progress_begin("the strategy");
        st = sched_compile(&in, out, e);
        progress_end();
    }
    if (st == ST_OK && note)
        note_experts(t, out);
    t->rounds = st == ST_OK && out->rounds;
    if (st == ST_USAGE)
        say_how_to_launch(t, &in, e);
    if (st == ST_OK && train__emulates(t) && !t->o->machine)
        predict_unit_times(out, &t->job.graph, emulated_unit(t));
    json_decref(in.strategy);
    return st;
}

/* Every rank gets the plan of its class. */
static void hand_out(struct train *t, const struct sched_output *out, uint64_t *bytes)
{
    uint32_t *class_of = mem_alloc(world_size() * sizeof *class_of);
    uint64_t n_classes = out->n_classes;
    if (world_rank() == 0)
        memcpy(class_of, out->class_of, world_size() * sizeof *class_of);
    world_broadcast(&n_classes, sizeof n_classes);
    world_broadcast(class_of, world_size() * sizeof *class_of);
    void **blobs = mem_alloc(n_classes * sizeof *blobs);
    uint64_t *sizes = mem_alloc(n_classes * sizeof *sizes);
    for (uint32_t i = 0; i < out->n_classes; i++) {
        blobs[i] = out->classes[i].blob;
        sizes[i] = out->classes[i].bytes;
    }
    const struct world_classes c = { class_of, (uint32_t)n_classes, blobs, sizes };
    world_scatter(&c, &t->blob, bytes);
    if (train__predicts(t)) {
        uint64_t size_of_starts;
        void *starts = NULL;
        if (world_rank() == 0)
            predict_starts(out, &t->job.graph, t->o->machine ? &t->machine : NULL, blobs, sizes);
        world_scatter(&c, &starts, &size_of_starts);
        t->predicted = starts;
        for (uint32_t i = 0; i < out->n_classes; i++)
            mem_free(blobs[i]);
    }
    mem_free(blobs);
    mem_free(sizes);
    mem_free(class_of);
}

/* The compiler on rank 0 may have taken packed queries, keys and values apart, and tagged operators where the strategy cuts the model:
 * the others do so too, so that all give the same names to the same things. */
static void share_graph(struct train *t)
{
    struct ir_graph *g = &t->job.graph;
    uint8_t unpacked = g->whole != NULL;
    world_broadcast(&unpacked, sizeof unpacked);
    if (unpacked)
        ir_graph_unpack(g);
    uint32_t tag = ir_graph_tag(g, "PP");
    if (tag == IR_NONE) /* the model's own tags fill the table: it was not cut */
        return;
    int32_t *stages = mem_alloc(g->ops.n * sizeof *stages);
    for (uint32_t i = 0; i < g->ops.n; i++)
        stages[i] = g->ops.at[i].tag[tag];
    world_broadcast(stages, g->ops.n * sizeof *stages);
    for (uint32_t i = 0; i < g->ops.n; i++)
        g->ops.at[i].tag[tag] = stages[i];
    mem_free(stages);
}

static enum status open_plan(struct train *t, uint64_t bytes, struct err *e)
{
    const struct ir_graph *g = &t->job.graph;
    TRY(plan_open(t->blob, bytes, g->ops.n, g->params.n, g->tensors.n, &t->plan, e));
    t->train_list = plan_find_list(&t->plan, "train");
    t->eval_list = plan_find_list(&t->plan, "eval");
    if (t->train_list == PLAN_NONE)
        return err_set(e, ST_BUG, "plan", "there is no list \"train\"");
    return ST_OK;
}

static enum status make_plans(struct train *t, struct err *e)
{
    struct sched_output out = { 0 };
    ir_graph_borrow(&t->job.graph, &t->model);
    enum status st = world_agree(compile(t, &out, e), e);
    if (st == ST_OK) {
        uint64_t bytes = 0;
        hand_out(t, &out, &bytes);
        share_graph(t);
        st = world_agree(open_plan(t, bytes, e), e);
        if (st == ST_OK && world_rank() == 0)
            snprintf(t->compiled, sizeof t->compiled,
                     "compiled in %.3f s, verified in %.3f s: %llu nodes, %llu instructions per step, %u %s",
                     out.compile_seconds, out.verify_seconds, (unsigned long long)out.nodes,
                     (unsigned long long)out.instructions, out.n_classes,
                     out.n_classes == 1 ? "rank class" : "rank classes");
    }
    sched_output_release(&out);
    machine_release(&t->machine);
    return st;
}

/* ---- data ----------------------------------------------------------------------------------------------------- */

/* A token file that is not there: the job names it, and names are looked up from the current folder. */
static enum status open_feed(struct train *t, const struct train_sources *data, bool shuffle, struct feed *feed,
                             const char *hint, struct err *e)
{
    const struct feed_setup setup = { .data = data,
                                      .graph = &t->job.graph,
                                      .seed = t->config->seed,
                                      .shuffle = shuffle,
                                      .apart = t->config->documents == DOCUMENTS_SEPARATE };
    struct err why = { 0 };
    enum status st = feed_open(&setup, feed, &why);
    return st == ST_OK ? ST_OK : err_set(e, st, NULL, "%s%s", why.text, st == ST_MISSING ? hint : "");
}

static enum status open_eval_set(struct train *t, uint32_t i, struct err *e)
{
    const struct train_config *c = t->config;
    struct train_sources one = { .n = 1 };
    one.at[0] = c->eval_data.at[i];
    TRY(open_feed(t, &one, false, &t->eval_feeds[i],
                  " (the job's eval_data, relative to the job file or to the current directory)", e));
    const uint64_t windows = feed_windows(&t->eval_feeds[i]);
    if (windows >= c->batch_size)
        return ST_OK;
    return err_set(e, ST_INPUT, one.at[0].path,
                   "found %llu sequences of %u tokens, expected at least one batch of %u to evaluate on",
                   (unsigned long long)windows, t->job.graph.seq_len, c->batch_size);
}

/* epochs: now it is known how many steps they are. */
static void count_steps(struct train *t)
{
    struct train_config *c = &t->job.train;
    if (!c->steps)
        c->steps = (uint64_t)fmax(ceil(c->epochs * (double)feed_windows(&t->feed) / c->batch_size), 1);
}

/* --data: one file, whatever the job has. */
static enum status take_data_option(struct train *t, struct err *e)
{
    if (!t->o->data)
        return ST_OK;
    if (!*t->o->data || strlen(t->o->data) >= TRAIN_PATH_BYTES)
        return err_set(e, ST_USAGE, "--data", "expected a file name of 1 to %d bytes", TRAIN_PATH_BYTES - 1);
    t->own_data.n = 1;
    strcpy(t->own_data.at[0].path, t->o->data);
    return ST_OK;
}

static enum status open_data(struct train *t, struct err *e)
{
    const struct train_config *c = t->config;
    if (train__emulates(t))
        return ST_OK;
    t->data = t->o->data ? &t->own_data : &c->data;
    if (!t->data->n)
        return err_set(e, ST_USAGE, "train", "the job names no data; use --data FILE");
    TRY(open_feed(
        t, t->data, c->shuffle, &t->feed,
        t->o->data
            ? ""
            : " (the job's data, relative to the job file or to the current directory; --data FILE names another)",
        e));
    count_steps(t);
    t->eval_feeds = mem_alloc((c->eval_data.n + 1) * sizeof *t->eval_feeds);
    for (uint32_t i = 0; i < train__eval_sets(t); i++)
        TRY(open_eval_set(t, i, e));
    return ST_OK;
}

static enum status agree_on_data(const struct train *t, struct err *e)
{
    if (train__emulates(t))
        return ST_OK;
    TRY(feed_agree(&t->feed, e));
    for (uint32_t i = 0; i < train__eval_sets(t); i++)
        TRY(feed_agree(&t->eval_feeds[i], e));
    return ST_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static enum status bind(struct train *t, const struct local *local, struct err *e)
{
    const struct train_config *c = t->config;
    char algorithms[PATH_MAX];
    snprintf(algorithms, sizeof algorithms, "%s/algorithms", t->o->dir);
    struct exec_setup setup = {
        .plan = &t->plan,
        .graph = &t->job.graph,
        .machine = local->backends.machine,
        .compute = t->compute,
        .comm = local->backends.comm,
        .optimizer = { .kind = (enum optimizer)c->optimizer,
                       .beta1 = (float)c->beta1,
                       .beta2 = (float)c->beta2,
                       .eps = (float)c->eps,
                       .weight_decay = (float)c->weight_decay },
        .clip_norm = c->clip_norm,
        .balance_rate = c->bias_update_rate,
        .local_ranks = local->ranks,
        .local_rank = local->rank,
        .algorithms = algorithms,
        .graphs = t->o->graphs,
        .fuse = t->o->fuse,
        .check_numbers = t->o->check_numbers,
        .tell_number = t->o->skip_not_finite ? train__tell : NULL,
        .checksums = t->o->checksums,
        .times = c->n_trace_steps > 0,
    };
    TRY(exec_open(&setup, &t->exec, e));
    watch_attach(t->exec);
    if (t->o->check_replicas)
        t->replicas = replicas_open(&t->model, &t->plan, world_rank(), exec_arenas(t->exec));
    return ST_OK;
}

static void report_emulation(struct train *t)
{
    if (t->o->machine)
        log_line(&t->log, "emulation: kernels and transfers take their predicted time on the machine %s",
                 t->o->machine);
    else
        log_line(&t->log, "emulation: F, BI and BW of a stage take %g ms each, B twice that", 1e3 * emulated_unit(t));
    log_line(&t->log, "nothing is computed: no data are read, loss and gradient norm are NaN; no checkpoints are "
                      "written, whatever --checkpoint says");
}

static void report_notes(struct train *t)
{
    for (uint32_t i = 0; i < t->notices.n; i++)
        log_line(&t->log, "note: %s", t->notices.at[i]);
    for (const char *at = exec_notes(t->exec), *end; (end = strchr(at, '\n')); at = end + 1)
        log_line(&t->log, "%.*s", (int)(end - at), at);
}

static void report_eval_set(struct train *t, uint32_t i)
{
    const struct train_source *s = &t->config->eval_data.at[i];
    const uint64_t windows = feed_windows(&t->eval_feeds[i]), rest = windows % train__batch(t);
    char left[96] = "";
    if (rest)
        snprintf(left, sizeof left, ", the last %llu of them not evaluated: not a whole batch",
                 (unsigned long long)rest);
    log_line(&t->log, "evaluation data %s%s%s: %llu sequences%s", s->name, *s->name ? ", " : "", s->path,
             (unsigned long long)windows, left);
}

static void report_data(struct train *t)
{
    const struct feed *f = &t->feed;
    const uint64_t samples = t->last_step * train__batch(t);
    if (!f->blend.n)
        log_line(&t->log, "data %s%s: %llu sequences, %.3g epochs in total", t->data->at[0].path,
                 f->n_sources > 1 ? " and others" : "", (unsigned long long)feed_windows(f),
                 (double)samples / (double)feed_windows(f));
    for (uint32_t i = 0; f->blend.n && i < f->n_sources; i++) {
        const uint64_t n = f->sources[i].tokens.n_windows, taken = data_blend_count(&f->blend, i, samples);
        log_line(&t->log, "data %s, %s: %llu sequences, %.4g%% of the samples, %.3g epochs in total",
                 f->sources[i].source.name, t->data->at[i].path, (unsigned long long)n,
                 100.0 * (double)taken / (double)samples, (double)taken / (double)n);
    }
    if (f->apart)
        log_line(&t->log, "documents are separate: attention and positions stay within a document");
    if (f->counts)
        log_line(&t->log, "the loss is the mean over the targets of a step that count");
    for (uint32_t i = 0; i < train__eval_sets(t); i++)
        report_eval_set(t, i);
}

static void report_job(struct train *t, const struct local *local)
{
    const struct train_config *c = t->config;
    const struct plan_list *l = &t->plan.lists[t->train_list];
    struct log *out = &t->log;
    char most[32], snapshot[32], parameters[80];
    const struct plan_places at = plan_places(&t->plan, t->compute->device != NULL);
    uint64_t worst[] = { at.device, at.host };
    world_max_u64(worst, 2);
    log_line(out, "%s", t->compiled);
    log_line(out, "job %s: %s, %s, %s, %s; batch %u x %u tokens, steps to %llu", t->job_name, t->job.graph.family,
             compile_parameters(&t->job.graph, parameters), ir_dtype_name((enum ir_dtype)c->dtype),
             optimizer_name(c->optimizer), c->batch_size, c->seq_len, (unsigned long long)t->last_step);
    if (train__emulates(t))
        report_emulation(t);
    else
        report_data(t);
    log_line(out, "%u %s (%u on this node, %d %s each), %u %s, %u %s of %u", world_size(),
             world_size() == 1 ? "rank" : "ranks", local->ranks, t->threads, t->threads == 1 ? "thread" : "threads",
             l->replicas, l->replicas == 1 ? "replica" : "replicas", l->microbatches,
             l->microbatches == 1 ? "microbatch" : "microbatches", l->microbatch_size);
    if (t->compute->uses)
        log_line(out, "instruction set: %s", t->compute->uses());
    char steps[48] = "", minutes[48] = "";
    if (c->checkpoint_every)
        snprintf(steps, sizeof steps, "every %llu steps, ", (unsigned long long)c->checkpoint_every);
    if (c->checkpoint_minutes > 0)
        snprintf(minutes, sizeof minutes, "every %g minutes, ", c->checkpoint_minutes);
    if (train__keeps(t))
        log_line(out, "checkpoint %s%safter the last step (%s), keeping the last %llu", steps, minutes,
                 t->o->sync ? "sync" : "async", (unsigned long long)c->checkpoint_keep);
    else if (!train__emulates(t))
        log_line(out, "no checkpoints are written (--no-checkpoint)");
    log_line(out, "device: %s%s; communication: %s%s; memory per rank: %s%s%s%s", local->backends.device,
             local->backends.device_why, local->backends.comm->name, local->backends.comm_why,
             compile_bytes((double)worst[t->compute->device == NULL], most), worst[0] ? " device, " : "",
             worst[0] ? compile_bytes((double)worst[1], snapshot) : "", worst[0] ? " host" : "");
    report_notes(t);
    if (t->peak > 0)
        log_line(out, "mfu is relative to %.4g Tflop/s per rank in %s, the peak of %s", 1e-12 * t->peak,
                 ir_dtype_name((enum ir_dtype)c->dtype), t->peak_of);
}

enum status train__start(struct train *t, struct err *e)
{
    struct local local;
    TRY(read_job(t, e));
    t->config = &t->job.train;
    t->flops = (double)train__batch(t) * ir_graph_flops(&t->job.graph);
    TRY(world_agree(check_policy(t, e), e));
    TRY(world_agree(check_emulation(t, e), e));
    TRY(choose_back_ends(t, &local, e));
    TRY(world_agree(open_folder(t, false, e), e));
    TRY(world_agree(check_resume(t, e), e));
    if (world_rank() == 0 && t->compute->device)
        find_peak(t, local.backends.device);
    watch_phase(world_rank() == 0 ? "compile" : "wait for the compiler");
    TRY(make_plans(t, e));
    watch_phase("open data and memory");
    TRY(world_agree(take_data_option(t, e), e));
    TRY(world_agree(open_data(t, e), e));
    t->last_step = t->o->steps ? t->o->steps : t->config->steps;
    if (!t->last_step)
        return world_agree(
            err_set(e, ST_USAGE, "--device emulate",
                    "requires --steps N: the job gives its length in epochs, and an emulation reads no data"),
            e);
    TRY(agree_on_data(t, e));
    TRY(train__choose_threads(t, e));
    if (t->compute->set_threads)
        t->compute->set_threads(t->threads);
#ifdef _OPENMP
    omp_set_num_threads(t->threads); /* for what is not a kernel */
#endif
    TRY(bind(t, &local, e));
    TRY(world_agree(open_folder(t, true, e), e));
    TRY(train__check_shared(t, e));
    TRY(world_agree(world_rank() == 0 ? ST_OK : dir_open(t->o->dir, t->dir, e), e));
    TRY(world_agree(watch_record(e), e));
    head_report(&t->log, t->o->argc, t->o->argv);
    report_job(t, &local);
    train__report_threads(t);
    if (watch_note())
        log_line(&t->log, "%s", watch_note());
    return train__check_data(t, e);
}
