/* piper train: the command line; the run itself is train.c. */
#include <stdlib.h>

#include "comm/world.h"
#include "cmd/command.h"
#include "rundir/duration.h"
#include "cmd/options.h"
#include "rundir/signals.h"
#include "train/train.h"
#include "watch/watch.h"

/* "auto" or a duration. */
static enum status read_max_time(const char *text, struct train_options *o, struct err *e)
{
    o->max_auto = strcmp(text, "auto") == 0;
    if (o->max_auto || (duration_read(text, &o->max_seconds) && o->max_seconds))
        return ST_OK;
    return err_set(e, ST_USAGE, "--max-time",
                   "found \"%s\", expected hours:minutes:seconds, as in 1:30:00, days-hours:minutes, seconds, or auto: "
                   "ask the batch system",
                   text);
}

static enum status read_seconds(const char *option, const char *text, double *seconds, struct err *e)
{
    char *end;
    *seconds = strtod(text, &end);
    if (end == text || *end || !(*seconds >= 0 && *seconds <= 3600))
        return err_set(e, ST_USAGE, option, "found \"%s\", expected seconds, from 0 to 3600", text);
    return ST_OK;
}

static enum status parse(int argc, char **argv, struct train_options *o, bool *help, struct err *e)
{
    static const char *const devices[] = { "auto", "cpu", "cuda", "emulate", NULL };
    static const char *const comms[] = { "auto", "mpi", "nccl", NULL };
    static const char *const on_off[] = { "on", "off", NULL };
    static const char *const checkpoints[] = { "async", "sync", NULL };
    static const char *const policies[] = { "stop", "skip", NULL };
    const char *on_nan = "stop", *checkpoint = NULL, *max_time = NULL, *forward = NULL, *graphs = "on", *fuse = "on";
    const struct option options[] = {
        { .name = "output",
          .letter = 'o',
          .kind = OPTION_TEXT,
          .to = &o->dir,
          .value = "RUNDIR",
          .help = "run folder: metrics, log, checkpoints, traces" },
        { .name = "data",
          .kind = OPTION_TEXT,
          .to = &o->data,
          .value = "FILE",
          .help = "token file instead of the job's" },
        { .name = "steps",
          .kind = OPTION_NUMBER,
          .to = &o->steps,
          .value = "N",
          .least = 1,
          .help = "train up to step N instead of the job's last one" },
        { .name = "fresh",
          .kind = OPTION_FLAG,
          .to = &o->fresh,
          .help = "start from scratch; move existing checkpoints and metrics to old.N/" },
        { .name = "resume",
          .kind = OPTION_FLAG,
          .to = &o->resume,
          .help = "only resume: without a checkpoint in the run folder end with 66" },
        { .name = "device",
          .kind = OPTION_CHOICE,
          .to = &o->device,
          .value = "D",
          .words = devices,
          .help = "cpu, cuda, emulate or auto" },
        { .name = "machine",
          .kind = OPTION_TEXT,
          .to = &o->machine,
          .value = "FILE",
          .help = "what piper calibrate measured, or a data sheet: predicted times, which an emulation takes" },
        { .name = "topology",
          .kind = OPTION_TEXT,
          .to = &o->topology,
          .value = "FILE",
          .help = "ranks per node, nodes per island and links, in place of the machine's" },
        { .name = "emulate-forward",
          .kind = OPTION_TEXT,
          .to = &forward,
          .value = "SECONDS",
          .help = "with --device emulate: what the forward of a stage takes (0.01)" },
        { .name = "comm",
          .kind = OPTION_CHOICE,
          .to = &o->comm,
          .value = "C",
          .words = comms,
          .help = "mpi, nccl or auto" },
        { .name = "max-time",
          .kind = OPTION_TEXT,
          .to = &max_time,
          .value = "H:M:S|auto",
          .help = "stop with a checkpoint in time; auto: before the batch job's time is up" },
        { .name = "checkpoint",
          .kind = OPTION_CHOICE,
          .to = &checkpoint,
          .value = "HOW",
          .words = checkpoints,
          .help = "async (default): written beside the steps; sync: training waits" },
        { .name = "no-checkpoint",
          .kind = OPTION_FLAG,
          .to = &o->no_checkpoint,
          .help = "write none and look for none, as for a measurement" },
        { .name = "cuda-graph",
          .kind = OPTION_CHOICE,
          .to = &graphs,
          .value = "on|off",
          .words = on_off,
          .help = "off: launch kernels one by one instead of as CUDA graphs (for profiling)" },
        { .name = "fuse",
          .kind = OPTION_CHOICE,
          .to = &fuse,
          .value = "on|off",
          .words = on_off,
          .help = "off: a device runs every operator as a kernel of its own" },
        { .name = "check-numbers",
          .kind = OPTION_FLAG,
          .to = &o->check_numbers,
          .help = "look for NaN and Inf after every operator" },
        { .name = "on-nan",
          .kind = OPTION_CHOICE,
          .to = &on_nan,
          .value = "stop|skip",
          .words = policies,
          .help = "on a NaN or Inf loss or gradient norm: stop, or skip that update" },
        { .name = "hang-timeout",
          .kind = OPTION_NUMBER,
          .to = &o->hang_timeout,
          .value = "S",
          .help = "declare a hang after S seconds without progress (default 5; 0: no watchdog)" },
        { .name = "check-replicas",
          .kind = OPTION_NUMBER,
          .to = &o->check_replicas,
          .value = "N",
          .least = 1,
          .help = "every N steps: are all copies of all parameters equal?" },
        { .name = NULL },
    };
    const struct option_usage usage = {
        .command = "train",
        .synopsis = "job.h5 -o RUNDIR [options]",
        .about = "Trains a job, resuming from the latest checkpoint in the run folder if there is one. Started by "
                 "mpirun or srun.",
        .options = options,
        .min_operands = 1,
        .max_operands = 1,
    };
    struct option_list operands = { 0 };
    enum status st = options_parse(&usage, argc, argv, &operands, help, e);
    if (st == ST_OK && !*help) {
        o->job = operands.at[0];
        o->sync = checkpoint && strcmp(checkpoint, "sync") == 0;
        o->skip_not_finite = strcmp(on_nan, "skip") == 0;
        o->graphs = strcmp(graphs, "on") == 0;
        o->fuse = strcmp(fuse, "on") == 0;
        if (!o->dir)
            st = err_set(e, ST_USAGE, "train", "-o RUNDIR is missing: the folder for metrics and checkpoints");
        else if (o->resume && o->fresh)
            st = err_set(e, ST_USAGE, "train", "found --resume and --fresh, expected one of them");
        else if (o->no_checkpoint && (checkpoint || max_time || o->resume))
            st = err_set(e, ST_USAGE, "--no-checkpoint", "found %s with it, which is about checkpoints; leave one out",
                         checkpoint ? "--checkpoint"
                         : max_time ? "--max-time"
                                    : "--resume");
        else if (max_time)
            st = read_max_time(max_time, o, e);
        if (st == ST_OK && forward)
            st = read_seconds("--emulate-forward", forward, &o->emulate_forward, e);
    }
    vec_free(&operands);
    return st;
}

static enum status train_command(int argc, char **argv, struct err *e)
{
    struct train_options o = { .device = "auto", .comm = "auto", .emulate_forward = -1, .hang_timeout = 5 };
    bool help = false;
    enum status st = parse(argc, argv, &o, &help, e);
    if (st == ST_OK && help)
        return ST_OK;
    signals_install(); /* MPI's own start takes seconds on many nodes */
    watch_beside_begin(st == ST_OK ? (double)o.hang_timeout : 0);
    enum status up = world_init(&argc, &argv, e);
    TRY(world_agree(st == ST_OK ? up : st, e));
    return train_run(&o, e);
}

const struct command command_train = { "train", "train, or go on training (started by mpirun or srun)", train_command };
