/* Choices of a strategy, undone one at a time and simulated. */
#include <stdarg.h>

#include "job/compile_job.h"
#include "view/simulate_text.h"

static void say(struct simulate_advice *advice, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct simulate_advice *advice, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    vec_add(advice, mem_strdup(text));
}

void simulate_advice_release(struct simulate_advice *advice)
{
    for (uint32_t i = 0; i < advice->n; i++)
        mem_free(advice->at[i]);
    vec_free(advice);
}

static double simulate_compiled(const struct sched_input *in, const struct sched_output *out, const char *list)
{
    struct plan *plans = mem_alloc(out->n_classes * sizeof *plans);
    struct timeline t = { 0 };
    struct err e = { 0 };
    enum status st = ST_OK;
    for (uint32_t c = 0; c < out->n_classes && st == ST_OK; c++)
        st = plan_open(out->classes[c].blob, out->classes[c].bytes, in->graph->ops.n, in->graph->params.n,
                       in->graph->tensors.n, &plans[c], &e);
    if (st == ST_OK)
        simulate_run(&(struct simulate_input){ in->machine, plans, out->n_classes, in->graph, list }, NULL, &t);
    double step = st == ST_OK ? t.step : -1;
    timeline_release(&t);
    mem_free(plans);
    return step;
}

/* Step of the job with another strategy, on as many ranks; below 0: it does not compile. Compiling cuts the model into stages,
 * so it is made anew from its image. */
static double step_of(const struct simulate_job *job, json_t *strategy, const char *list)
{
    struct job j;
    struct sched_input in;
    struct sched_output out = { 0 };
    struct err e = { 0 };
    double step = -1;
    if (job_decode("job", job->image, job->image_bytes, &j, &e) != ST_OK)
        return step;
    if (compile_input(&j, job->device, job->ranks, job->comm_scratch, &in, &e) == ST_OK) {
        json_decref(in.strategy);
        in.strategy = strategy;
        in.machine = job->machine;
        if (sched_compile(&in, &out, &e) == ST_OK)
            step = simulate_compiled(&in, &out, list);
        sched_output_release(&out);
    }
    job_release(&j);
    return step;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* The directive of that kind, borrowed; NULL. */
static json_t *find(const json_t *strategy, const char *op)
{
    size_t i;
    json_t *d;
    json_array_foreach(strategy, i, d)
    {
        if (!strcmp(text_of(d, "op"), op))
            return d;
    }
    return NULL;
}

/* The strategy with 1f1b in place of its schedule and one stage a rank. */
static json_t *with_1f1b(const json_t *strategy)
{
    json_t *other = json_deep_copy(strategy), *layout = find(other, "layout"), *schedule = find(other, "schedule");
    json_object_set_new(schedule, "kind", json_string("1f1b"));
    json_object_del(layout, "placement");
    json_object_del(layout, "chunks");
    return other;
}

static void try_1f1b(const struct simulate_job *job, const char *list, double step, struct simulate_advice *advice)
{
    const char *kind = text_of(find(job->strategy, "schedule"), "kind");
    if (!find(job->strategy, "layout") || !*kind || !strcmp(kind, "1f1b") || !strcmp(kind, "gpipe") ||
        !strcmp(kind, "csv"))
        return;
    json_t *other = with_1f1b(job->strategy);
    double plain = step_of(job, other, list);
    json_decref(other);
    if (plain > 0 && plain < 0.995 * step)
        say(advice, "%s does not pay off here: 1f1b with one stage per rank takes %.1f%% less time.", kind,
            100 * (1 - plain / step));
}

/* Sets "zero" to 1 wherever it is 3; false: nowhere. */
static bool keep_parameters(json_t *strategy)
{
    bool any = false;
    size_t i;
    json_t *d;
    json_array_foreach(strategy, i, d)
    {
        if (json_integer_value(json_object_get(d, "zero")) != 3 && !json_is_true(json_object_get(d, "shard_params")))
            continue;
        json_object_del(d, "shard_params");
        json_object_del(d, "shard_grads");
        json_object_set_new(d, "zero", json_integer(1));
        any = true;
    }
    return any;
}

static void try_zero_1(const struct simulate_job *job, const char *list, double step, struct simulate_advice *advice)
{
    json_t *other = json_deep_copy(job->strategy);
    double whole = keep_parameters(other) ? step_of(job, other, list) : -1;
    json_decref(other);
    if (whole > 0 && whole < 0.995 * step)
        say(advice,
            "Sharded parameters (zero 3) cost %.1f%% of the step in exposed gathers: zero 1 saves that, if its memory "
            "fits.",
            100 * (1 - whole / step));
}

/* The same batch in more, smaller microbatches. */
static void try_more_microbatches(const struct simulate_job *job, const char *list, double step,
                                  struct simulate_advice *advice)
{
    json_t *other = json_deep_copy(job->strategy), *schedule = find(other, "schedule");
    json_int_t n = 2 * json_integer_value(json_object_get(schedule, "microbatches"));
    json_object_set_new(schedule, "microbatches", json_integer(n));
    double more = n ? step_of(job, other, list) : -1;
    json_decref(other);
    if (more > 0 && more < 0.99 * step)
        say(advice, "%lld microbatches of half the size take %.1f%% less time.", (long long)n, 100 * (1 - more / step));
}

void simulate_alternatives(const struct simulate_job *job, const char *list, double step,
                           struct simulate_advice *advice)
{
    try_1f1b(job, list, step, advice);
    try_zero_1(job, list, step, advice);
    try_more_microbatches(job, list, step, advice);
}
