/* piper tune: the command line; the search is src/tune. */
#include "cmd/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/command.h"
#include "comm/comm.h"
#include "job/compile_job.h"
#include "job/machine_file.h"

static const char *const devices[] = { "cpu", "cuda", NULL };
#define AT(member) offsetof(struct tune_options, member)
static const struct option options[] = {
    SOURCE_OPTIONS(AT(from)),
    NUMBER("ranks", 'n', AT(ranks), "RANKS", 1, "number of ranks to find a strategy for"),
    TEXT("machine", 0, AT(machine), "FILE", "machine file of piper calibrate, or a data sheet (a100, h100)"),
    TEXT("topology", 0, AT(topology), "FILE", "ranks per node, nodes per island and links, overriding the machine's"),
    CHOICE("device", 0, AT(device), "D", devices, "plan for cpu or cuda (default: what the machine is)"),
    TEXT("memory", 0, AT(memory), "BYTES", "memory per rank, e.g. 80G, 75GiB (default: the machine's)"),
    NUMBER("best", 0, AT(best), "N", 1, "find the N best strategies (default 10)"),
    NUMBER("limit", 0, AT(limit), "N", 1, "compile at most N strategies (default 1000)"),
    TEXT("output", 'o', AT(output), "DIR", "write the best strategies, a picture and a report to this directory"),
    NUMBER("measure", 0, AT(measure), "K", 1,
           "train the K best here for a few steps by mpirun, and order them by that"),
    NUMBER("audit", 0, AT(audit), "N", 1,
           "also compile N of those that bounds dropped, and report whether one is better"),
    TEXT("csv", 0, AT(csv), "FILE", "write every candidate with its bound and the rule that dropped it"),
    FLAG("json", 0, AT(json), "print the result as JSON"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "tune",
    .synopsis = "-m model.json -t train.json -n RANKS --machine FILE [-s start.json] [options]",
    .about =
        "Searches layouts, schedules and their settings for the strategy with the shortest predicted step that fits "
        "into memory. Needs no MPI.",
    .options = options,
};

static enum status check_options(const struct tune_options *o, struct err *e)
{
    const char *missing = !o->from.model   ? "-m model.json"
                          : !o->from.train ? "-t train.json"
                          : !o->ranks      ? "-n RANKS"
                                           : NULL;
    if (missing)
        return err_set(e, ST_USAGE, "tune", "missing required option %s", missing);
    if (!o->machine)
        return err_set(
            e, ST_USAGE, "tune",
            "missing required option --machine FILE: what is fastest depends on it; a file of piper calibrate, or "
            "a data sheet such as h100");
    if (o->ranks > UINT32_MAX || o->best > UINT32_MAX || o->limit > UINT32_MAX || o->audit > UINT32_MAX)
        return err_set(e, ST_USAGE, "tune", "found a number of 2^32 or more");
    if (o->measure && !o->output)
        return err_set(e, ST_USAGE, "--measure", "requires -o DIR, from which the strategies are trained");
    if (o->measure > o->best)
        return err_set(e, ST_USAGE, "--measure", "found %llu, but --best is %llu", (unsigned long long)o->measure,
                       (unsigned long long)o->best);
    return ST_OK;
}

/* "80G", "75.5GiB", a number of bytes. */
static enum status read_memory(const char *text, double *bytes, struct err *e)
{
    static const char units[] = "KMGT";
    char *end;
    double x = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    const bool binary = unit && end[1] == 'i';
    for (long i = 0; unit && i <= unit - units; i++)
        x *= binary ? 1024 : 1000;
    const char *rest = unit ? end + 1 + binary : end;
    if (end == text || !(x >= 1 && x < 1e18) || (strcmp(rest, "") && strcmp(rest, "B")) || (*rest && !unit))
        return err_set(e, ST_USAGE, "--memory",
                       "found \"%s\", expected bytes per rank such as 80G (10^9) or 75GiB (2^30)", text);
    *bytes = x;
    return ST_OK;
}

/* What the machine's ranks compute on, and whether that is what is planned for. */
static enum status choose_device(const struct tune_options *o, const struct machine *m, const char **device,
                                 struct err *e)
{
    const bool gpu = m->units > 0 || *m->device;
    *device = o->device ? o->device : gpu ? "cuda" : "cpu";
    if (gpu == !strcmp(*device, "cuda"))
        return ST_OK;
    return err_set(
        e, ST_USAGE, "--device",
        "found %s, but the machine %s is %s: its times are of another device; omit --device or give another --machine",
        *device, m->name, gpu ? "a GPU" : "no GPU");
}

static void show_progress(void *arg, const struct tune_search *s)
{
    (void)arg;
    fprintf(stderr, "\r%u compiled, best step %.6g s ", s->compiled, s->n_order ? s->results.at[s->order[0]].step : 0);
}

static enum status report(const struct tune_options *o, struct tune_search *s, struct err *e)
{
    struct tune_audit audit = { 0 };
    const struct tune_found found = { o, s, o->audit ? &audit : NULL };
    if (o->csv)
        TRY(tune_write_csv(&found, o->csv, e));
    if (!s->n_order)
        return tune_nothing(&found, e);
    if (o->audit)
        audit = tune_search_audit(s, (uint32_t)o->audit);
    if (o->output)
        TRY(tune_write_files(&found, o->output, e));
    if (o->measure) {
        TRY(tune_measure(&found, o->output, e));
        TRY(tune_write_files(&found, o->output, e));
    }
    if (o->json)
        tune_print_json(&found, stdout);
    else
        tune_print(&found, stdout);
    return ST_OK;
}

static enum status search(const struct tune_options *o, struct tune_search *s, const struct tune_start *start,
                          struct err *e)
{
    const struct bound_job job = { .graph = s->in.graph,
                                   .machine = s->in.machine,
                                   .target = s->in.target,
                                   .ranks = s->in.ranks,
                                   .batch_size = s->in.batch_size,
                                   .compute = s->in.compute,
                                   .optimizer = s->in.optimizer,
                                   .clip = s->in.clip,
                                   .snapshot = s->in.snapshot,
                                   .comm_units = start->streams ? 0 : s->in.machine->comm_units };
    struct tune_space space;
    s->bound = bound_new(&job);
    enum status st = tune_space_make(start, &job, s->bound, &space, e);
    if (st == ST_OK) {
        s->space = &space;
        if (isatty(STDERR_FILENO))
            s->progress = show_progress;
        tune_search_run(s);
        if (s->progress)
            fputs("\r\033[K", stderr);
        st = report(o, s, e);
        tune_search_release(s);
        tune_space_release(&space);
    }
    bound_free(s->bound);
    return st;
}

/* The job, without a strategy of its own. */
static enum status search_job(const struct tune_options *o, const struct machine *m, const struct tune_start *start,
                              struct err *e)
{
    struct tune_search s = { .memory = m->memory, .best = (uint32_t)o->best, .limit = (uint32_t)o->limit };
    struct job_sources from = source_files(&o->from);
    struct job j;
    const char *device;
    from.strategy = NULL;
    TRY(choose_device(o, m, &device, e));
    if (o->memory)
        TRY(read_memory(o->memory, &s.memory, e));
    TRY(source_build(&from, &j, e));
    enum status st = compile_input(&j, device, (uint32_t)o->ranks, COMM_SCRATCH, &s.in, e);
    if (st == ST_OK) {
        json_decref(s.in.strategy);
        s.in.machine = m;
        s.in.multiprocessors = s.in.target->multiprocessors ? m->units : 0;
        st = search(o, &s, start, e);
    }
    job_release(&j);
    return st;
}

static enum status tune(const struct tune_options *o, struct err *e)
{
    struct machine m = { 0 };
    struct tune_start start;
    json_t *doc = NULL;
    TRY(machine_load(o->machine, o->topology, &m, e));
    enum status st = o->from.strategy ? js_load_file(o->from.strategy, &doc, e) : ST_OK;
    if (st == ST_OK)
        st = tune_start_read(doc, o->from.strategy, &start, e);
    json_decref(doc);
    if (st == ST_OK) {
        st = search_job(o, &m, &start, e);
        tune_start_release(&start);
    }
    machine_release(&m);
    return st;
}

static enum status tune_command(int argc, char **argv, struct err *e)
{
    struct tune_options o = { .best = 10, .limit = 1000 };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help)
        st = check_options(&o, e);
    if (st == ST_OK && !o.common.help)
        st = tune(&o, e);
    vec_free(&o.from.set);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_tune = { "tune", "find a strategy: search layouts and schedules on a machine model",
                                      tune_command };
