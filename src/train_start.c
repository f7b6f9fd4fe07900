/* From the job file to ranks that are ready: read, compile, hand out, bind, open the data. The ranks agree after each. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "compile_job.h"
#include "folder.h"
#include "number.h"
#include "train_private.h"
#include "watch.h"

/* ---- the run folder ------------------------------------------------------------------------------------------- */

/* One that is there is opened first of all, so that its log tells why a run did not start; one that is not is made last of
 * all, so that a run that cannot start leaves none behind. */
static enum status open_folder(struct train *t, bool make, struct err *e)
{
    struct stat s;
    if (ctl_rank() != 0 || t->report.file || (!make && stat(t->o->dir, &s) != 0))
        return ST_OK;
    TRY(folder_make(t->o->dir, e));
    TRY(train__stop_lock(t, e));
    TRY(report_open(&t->report, t->o->dir, e));
    train__stop_open(t);
    return ST_OK;
}

/* ---- devices -------------------------------------------------------------------------------------------------- */

/* Ranks on this machine, by the names of their hosts. */
static uint32_t count_local_ranks(void)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    uint64_t mine = number_hash(host, strlen(host), 0), *all = mem_alloc(ctl_size() * sizeof *all);
    uint32_t n = 0;
    ctl_all_gather(&mine, sizeof mine, all);
    for (uint32_t i = 0; i < ctl_size(); i++)
        n += all[i] == mine;
    mem_free(all);
    return n;
}

static int choose_threads(uint32_t local_ranks)
{
    const char *asked = getenv("OMP_NUM_THREADS");
    if (asked && atoi(asked) > 0)
        return atoi(asked);
    cpu_set_t cores;
    int n = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return n > (int)local_ranks ? n / (int)local_ranks : 1;
}

/* Only where updates wait for the norm can a step be left out after it is known. */
static enum status check_policy(const struct train *t, struct err *e)
{
    if (!t->o->skip_not_finite || t->config->clip_norm > 0)
        return ST_OK;
    return err_set(
        e, ST_USAGE, "--on-nan skip",
        "the job has clip_norm 0, so updates do not wait for the norm of the gradients and cannot be left out; a "
        "clip_norm that is never reached, as 1e9, makes them wait");
}

static enum status choose_back_ends(const struct train *t, const struct comm_backend **comm, struct err *e)
{
    if (strcmp(t->o->device, "auto") != 0 && strcmp(t->o->device, "cpu") != 0)
        return err_set(e, ST_DEVICE, "--device", "this build has no back end %s; it has cpu", t->o->device);
    const char *name = t->o->comm;
    if (strcmp(name, "auto") == 0)
        name = ctl_size() == 1 ? "null" : "mpi";
    *comm = comm_backend_by_name(name);
    return *comm ? ST_OK : err_set(e, ST_DEVICE, "--comm", "this build has no back end %s; it has mpi", name);
}

/* ---- plans ---------------------------------------------------------------------------------------------------- */

static enum status compile(struct train *t, struct sched_output *out, struct err *e)
{
    if (ctl_rank() != 0)
        return ST_OK;
    struct sched_input in;
    TRY(compile_input(&t->job, "cpu", ctl_size(), &in, e));
    in.snapshot = !t->o->sync;
    enum status st = sched_compile(&in, out, e);
    json_decref(in.strategy);
    return st;
}

/* Every rank gets the plan of its class. */
static void hand_out(struct train *t, const struct sched_output *out, uint64_t *bytes)
{
    void *classes = out->class_of;
    uint64_t size = (uint64_t)out->ranks * sizeof *out->class_of, n_classes = out->n_classes;
    ctl_max_u64(&n_classes, 1);
    ctl_broadcast(&classes, &size);
    void **blobs = mem_alloc(n_classes * sizeof *blobs);
    uint64_t *sizes = mem_alloc(n_classes * sizeof *sizes);
    for (uint32_t i = 0; i < out->n_classes; i++) {
        blobs[i] = out->classes[i].blob;
        sizes[i] = out->classes[i].bytes;
    }
    ctl_scatter_classes(classes, (uint32_t)n_classes, blobs, sizes, &t->blob, bytes);
    mem_free(blobs);
    mem_free(sizes);
    if (ctl_rank() != 0)
        mem_free(classes);
}

/* Where the strategy cuts the model, the compiler on rank 0 has tagged its operators: the others tag theirs, so that all
 * give the same names to the same things. */
static void share_stages(struct train *t)
{
    struct ir_graph *g = &t->job.graph;
    uint32_t tag = ir_graph_tag(g, "PP");
    if (tag == IR_NONE) /* the model's own tags fill the table: it was not cut */
        return;
    uint64_t bytes = g->ops.n * sizeof(int32_t);
    int32_t *mine = mem_alloc(bytes);
    void *stages = mine;
    for (uint32_t i = 0; i < g->ops.n; i++)
        mine[i] = g->ops.at[i].tag[tag];
    ctl_broadcast(&stages, &bytes);
    for (uint32_t i = 0; i < g->ops.n; i++)
        g->ops.at[i].tag[tag] = ((int32_t *)stages)[i];
    if (stages != mine)
        mem_free(stages);
    mem_free(mine);
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
    enum status st = ctl_agree(compile(t, &out, e), e);
    if (st == ST_OK) {
        uint64_t bytes = 0;
        hand_out(t, &out, &bytes);
        share_stages(t);
        st = ctl_agree(open_plan(t, bytes, e), e);
        if (st == ST_OK && ctl_rank() == 0)
            snprintf(t->compiled, sizeof t->compiled,
                     "compiled in %.3f s, verified in %.3f s: %llu nodes, %llu instructions a step, %u %s",
                     out.compile_seconds, out.verify_seconds, (unsigned long long)out.nodes,
                     (unsigned long long)out.instructions, out.n_classes,
                     out.n_classes == 1 ? "class of ranks" : "classes of ranks");
    }
    sched_output_release(&out);
    return st;
}

/* ---- data ----------------------------------------------------------------------------------------------------- */

/* A token file that is not there: the job names it, and names are looked up from the current folder. */
static enum status open_feed(struct train *t, const char *path, bool shuffle, struct feed *feed, const char *hint,
                             struct err *e)
{
    struct err why = { 0 };
    enum status st = feed_open(path, &t->job.graph, t->config->seed, shuffle, feed, &why);
    return st == ST_OK ? ST_OK : err_set(e, st, NULL, "%s%s", why.text, st == ST_MISSING ? hint : "");
}

static enum status open_data(struct train *t, struct err *e)
{
    const struct train_config *c = t->config;
    t->data = t->o->data ? t->o->data : c->data;
    if (!*t->data)
        return err_set(e, ST_USAGE, "train", "the job names no data; say --data FILE");
    TRY(open_feed(t, t->data, c->shuffle, &t->feed,
                  t->o->data ? "" : " (the job's data, looked for from the current folder; --data FILE names another)",
                  e));
    if (t->eval_list == PLAN_NONE)
        return ST_OK;
    TRY(open_feed(t, c->eval_data, false, &t->eval_feed, " (the job's eval_data, looked for from the current folder)",
                  e));
    if (t->eval_feed.tokens.n_windows < c->batch_size)
        return err_set(e, ST_INPUT, c->eval_data,
                       "found %llu sequences of %u tokens, expected at least one batch of %u to evaluate on",
                       (unsigned long long)t->eval_feed.tokens.n_windows, t->job.graph.seq_len, c->batch_size);
    return ST_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static enum status bind(struct train *t, const struct comm_backend *comm, uint32_t local_ranks, struct err *e)
{
    const struct train_config *c = t->config;
    struct exec_setup setup = {
        .plan = &t->plan,
        .graph = &t->job.graph,
        .compute = &compute_cpu,
        .comm = comm,
        .optimizer = { .kind = (enum optimizer)c->optimizer,
                       .beta1 = (float)c->beta1,
                       .beta2 = (float)c->beta2,
                       .eps = (float)c->eps,
                       .weight_decay = (float)c->weight_decay },
        .clip_norm = c->clip_norm,
        .local_ranks = local_ranks,
        .check_numbers = t->o->check_numbers,
        .tell_number = t->o->skip_not_finite ? train__tell_number : NULL,
        .times = c->n_trace_steps > 0,
    };
    TRY(exec_open(&setup, &t->exec, e));
    watch_attach(t->exec);
    if (t->o->check_replicas)
        t->replicas = replicas_open(&t->job.graph, &t->plan, ctl_rank(), exec_arenas(t->exec));
    return ST_OK;
}

static void report_job(struct train *t, uint32_t local_ranks, const struct comm_backend *comm)
{
    const struct train_config *c = t->config;
    const struct plan_list *l = &t->plan.lists[t->train_list];
    struct report *r = &t->report;
    char most[32];
    uint64_t total = t->plan.h->total_bytes;
    ctl_max_u64(&total, 1);
    report_line(r, "%s", t->compiled);
    report_line(r, "job %s: %s, %llu parameters, %s, %s; batch %u x %u tokens, steps to %llu", t->o->job,
                t->job.graph.family, (unsigned long long)ir_graph_param_count(&t->job.graph),
                ir_dtype_name((enum ir_dtype)c->dtype), train_optimizer_name(c->optimizer), c->batch_size, c->seq_len,
                (unsigned long long)t->last_step);
    report_line(r, "data %s: %llu sequences, %.3g epochs in all", t->data, (unsigned long long)t->feed.tokens.n_windows,
                (double)t->last_step * c->batch_size / (double)t->feed.tokens.n_windows);
    report_line(r, "%u %s (%u on this machine, %d %s each), %u %s, %u %s of %u", ctl_size(),
                ctl_size() == 1 ? "rank" : "ranks", local_ranks, t->threads, t->threads == 1 ? "thread" : "threads",
                l->replicas, l->replicas == 1 ? "replica" : "replicas", l->microbatches,
                l->microbatches == 1 ? "microbatch" : "microbatches", l->microbatch_size);
    char every[48] = "after the last step";
    if (c->checkpoint_every)
        snprintf(every, sizeof every, "every %llu steps", (unsigned long long)c->checkpoint_every);
    report_line(r, "checkpoints %s, %s; the last %llu stay", every,
                t->o->sync ? "sync: training waits" : "async: written beside training",
                (unsigned long long)c->checkpoint_keep);
    report_line(r, "device cpu%s; communication %s%s; memory of a rank at most %s",
                strcmp(t->o->device, "auto") == 0 ? " (auto: this build has no other)" : "", comm->name,
                strcmp(t->o->comm, "auto") == 0 ? ctl_size() == 1 ? " (auto: one rank)" : " (auto: host memory)" : "",
                compile_bytes((double)total, most));
}

enum status train__start(struct train *t, struct err *e)
{
    const struct comm_backend *comm = NULL;
    enum status st = job_read(t->o->job, &t->job, e);
    t->have_job = st == ST_OK;
    TRY(ctl_agree(st, e));
    t->config = &t->job.train;
    t->last_step = t->o->steps ? t->o->steps : t->config->steps;
    TRY(ctl_agree(check_policy(t, e), e));
    TRY(ctl_agree(choose_back_ends(t, &comm, e), e));
    TRY(ctl_agree(open_folder(t, false, e), e));
    watch_phase(ctl_rank() == 0 ? "compile" : "wait for the compiler");
    TRY(make_plans(t, e));
    watch_phase("open data and memory");
    TRY(ctl_agree(open_data(t, e), e));
    uint32_t local_ranks = count_local_ranks();
    t->threads = choose_threads(local_ranks);
    compute_cpu.set_threads(t->threads);
#ifdef _OPENMP
    omp_set_num_threads(t->threads); /* for what is not a kernel */
#endif
    TRY(bind(t, comm, local_ranks, e));
    TRY(ctl_agree(open_folder(t, true, e), e));
    TRY(ctl_agree(watch_record(e), e));
    report_job(t, local_ranks, comm);
    if (watch_note())
        report_line(&t->report, "%s", watch_note());
    return ST_OK;
}
