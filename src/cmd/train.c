/* piper train: the command line; the run itself is train.c. */
#include <stdlib.h>

#include "comm/world.h"
#include "cmd/command.h"
#include "base/duration.h"
#include "cmd/sources.h"
#include "rundir/signals.h"
#include "train/train.h"
#include "watch/watch.h"

/* "auto" or a duration. */
static enum status read_max_time(const char *text, struct train_options *o, struct err *e)
{
    o->max_auto = strcmp(text, "auto") == 0;
    if (o->max_auto || (duration_read(text, &o->max_seconds) && o->max_seconds))
        return ST_OK;
    return err_set(
        e, ST_USAGE, "--max-time",
        "found \"%s\", expected hours:minutes:seconds such as 1:30:00, 1h30m, days-hours:minutes, seconds, or auto "
        "(ask the batch system)",
        text);
}

static enum status read_seconds(const char *option, const char *text, double *seconds, struct err *e)
{
    char *end;
    *seconds = strtod(text, &end);
    if (end == text || *end || !(*seconds >= 0 && *seconds <= 3600))
        return err_set(e, ST_USAGE, option, "found \"%s\", expected seconds from 0 to 3600", text);
    return ST_OK;
}

/* What the command line says. */
struct train_words {
    struct option_common common;
    struct source_options from;
    struct train_options run;
    const char *on_nan, *checkpoint, *max_time, *forward, *graphs, *fuse, *checksums;
};

static const char *const devices[] = { "auto", "cpu", "cuda", "emulate", NULL };
static const char *const comms[] = { "auto", "mpi", "nccl", NULL };
static const char *const on_off[] = { "on", "off", NULL };
static const char *const checkpoints[] = { "async", "sync", NULL };
static const char *const policies[] = { "stop", "skip", NULL };
#define AT(member) offsetof(struct train_words, member)
static const struct option options[] = {
    SOURCE_OPTIONS(AT(from)),
    TEXT("output", 'o', AT(run.dir), "RUNDIR", "run directory: metrics, log, checkpoints, traces"),
    TEXT("data", 0, AT(run.data), "FILE", "token file to use instead of the job's"),
    NUMBER("steps", 0, AT(run.steps), "N", 1, "train up to step N instead of the job's last step"),
    FLAG("fresh", 0, AT(run.fresh), "start from scratch; move existing checkpoints and metrics to old.N/"),
    FLAG("resume", 0, AT(run.resume), "only resume: exit with 66 if there is no checkpoint"),
    CHOICE("device", 0, AT(run.device), "D", devices, "cpu, cuda, emulate or auto"),
    TEXT("machine", 0, AT(run.machine), "FILE",
         "machine file of piper calibrate, or a data sheet: predicted times, used by an emulation"),
    TEXT("topology", 0, AT(run.topology), "FILE",
         "ranks per node, nodes per island and links, overriding the machine's"),
    TEXT("emulate-forward", 0, AT(forward), "SECONDS",
         "with --device emulate: duration of a stage's forward (default 0.01)"),
    CHOICE("comm", 0, AT(run.comm), "C", comms, "mpi, nccl or auto"),
    TEXT("max-time", 0, AT(max_time), "H:M:S|auto",
         "checkpoint and stop within this time; auto: before the time limit of the batch job"),
    CHOICE("checkpoint", 0, AT(checkpoint), "HOW", checkpoints,
           "async (default): write in the background; sync: training waits"),
    FLAG("no-checkpoint", 0, AT(run.no_checkpoint), "neither write nor look for checkpoints, e.g. for benchmarks"),
    CHOICE("cuda-graph", 0, AT(graphs), "on|off", on_off,
           "off: launch kernels one by one instead of as CUDA graphs (for profiling)"),
    CHOICE("fuse", 0, AT(fuse), "on|off", on_off, "off: run every operator on a device as a kernel of its own"),
    FLAG("check-numbers", 0, AT(run.check_numbers), "check for NaN and Inf after every operator"),
    CHOICE("on-nan", 0, AT(on_nan), "stop|skip", policies,
           "on a NaN or Inf loss or gradient norm: stop, or skip that update"),
    NUMBER("hang-timeout", 0, AT(run.hang_timeout), "S", 0,
           "declare a hang after S seconds without progress (default 5; 0: no watchdog)"),
    NUMBER("check-replicas", 0, AT(run.check_replicas), "N", 1,
           "verify every N steps that all replicas of the parameters are bitwise identical"),
    CHOICE("checksums", 0, AT(checksums), "on|off", on_off,
           "off: no checksums of parameters and optimizer state, which detect memory errors"),
    FLAG("tensorboard", 0, AT(run.tensorboard), "write the curves for TensorBoard too, in RUNDIR/tensorboard"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "train",
    .synopsis = "job.h5 | RUNDIR | -m model.json -s strategy.json -t train.json -o RUNDIR [options]",
    .about = "Trains a job, resuming from the latest checkpoint in the run directory if there is one. Launch it with "
             "mpirun or srun.",
    .options = options,
    .max_operands = 1,
};

static enum status understand(struct train_words *w, struct err *e)
{
    struct train_options *o = &w->run;
    TRY(source_options_check("train", &w->from, false, e));
    TRY(source_or_job("train", &w->from, &w->common.operands, &o->job, e));
    o->sources = source_files(&w->from);
    o->sync = w->checkpoint && strcmp(w->checkpoint, "sync") == 0;
    o->skip_not_finite = strcmp(w->on_nan, "skip") == 0;
    o->graphs = strcmp(w->graphs, "on") == 0;
    o->fuse = strcmp(w->fuse, "on") == 0;
    o->checksums = strcmp(w->checksums, "on") == 0;
    if (!o->dir)
        o->dir = w->from.run;
    if (!o->dir)
        return err_set(e, ST_USAGE, "train",
                       "missing required option -o RUNDIR, the directory for metrics and checkpoints");
    if (o->resume && o->fresh)
        return err_set(e, ST_USAGE, "train", "--resume and --fresh are mutually exclusive");
    if (o->no_checkpoint && (w->checkpoint || w->max_time || o->resume))
        return err_set(e, ST_USAGE, "--no-checkpoint",
                       "conflicts with %s, which is about checkpoints; drop one of them",
                       w->checkpoint ? "--checkpoint"
                       : w->max_time ? "--max-time"
                                     : "--resume");
    if (w->max_time)
        TRY(read_max_time(w->max_time, o, e));
    return w->forward ? read_seconds("--emulate-forward", w->forward, &o->emulate_forward, e) : ST_OK;
}

static enum status train_command(int argc, char **argv, struct err *e)
{
    struct train_words w = {
        .run = { .argc = argc,
                 .argv = argv,
                 .device = "auto",
                 .comm = "auto",
                 .emulate_forward = -1,
                 .hang_timeout = 5 },
        .on_nan = "stop",
        .graphs = "on",
        .fuse = "on",
        .checksums = "on",
    };
    enum status st = options_parse(&usage, argc, argv, &w, e);
    if (st == ST_OK && !w.common.help)
        st = understand(&w, e);
    vec_free(&w.common.operands);
    if (st == ST_OK && w.common.help) {
        vec_free(&w.from.set);
        return ST_OK;
    }
    signals_install(); /* MPI's own start takes seconds on many nodes */
    watch_beside_begin(st == ST_OK ? (double)w.run.hang_timeout : 0);
    enum status up = world_init(&argc, &argv, e);
    st = world_agree(st == ST_OK ? up : st, e);
    if (st == ST_OK)
        st = train_run(&w.run, e);
    vec_free(&w.from.set);
    return st;
}

const struct command command_train = { "train", "train or resume a job (under mpirun or srun)", train_command };
