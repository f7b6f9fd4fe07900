/* piper train: the command line; the run itself is train.c. */
#include <stdlib.h>

#include "comm/comm.h"
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
                   "found \"%s\", expected hours:minutes:seconds such as 1:30:00, days-hours:minutes, seconds, or auto "
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
          .help = "run directory: metrics, log, checkpoints, traces" },
        { .name = "data",
          .kind = OPTION_TEXT,
          .to = &o->data,
          .value = "FILE",
          .help = "token file to use instead of the job's" },
        { .name = "steps",
          .kind = OPTION_NUMBER,
          .to = &o->steps,
          .value = "N",
          .least = 1,
          .help = "train up to step N instead of the job's last step" },
        { .name = "fresh",
          .kind = OPTION_FLAG,
          .to = &o->fresh,
          .help = "start from scratch; move existing checkpoints and metrics to old.N/" },
        { .name = "resume",
          .kind = OPTION_FLAG,
          .to = &o->resume,
          .help = "only resume: exit with 66 if there is no checkpoint" },
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
          .help = "machine file of piper calibrate, or a data sheet: predicted times, used by an emulation" },
        { .name = "topology",
          .kind = OPTION_TEXT,
          .to = &o->topology,
          .value = "FILE",
          .help = "ranks per node, nodes per island and links, overriding the machine's" },
        { .name = "emulate-forward",
          .kind = OPTION_TEXT,
          .to = &forward,
          .value = "SECONDS",
          .help = "with --device emulate: duration of a stage's forward (default 0.01)" },
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
          .help = "checkpoint and stop within this time; auto: before the time limit of the batch job" },
        { .name = "checkpoint",
          .kind = OPTION_CHOICE,
          .to = &checkpoint,
          .value = "HOW",
          .words = checkpoints,
          .help = "async (default): write in the background; sync: training waits" },
        { .name = "no-checkpoint",
          .kind = OPTION_FLAG,
          .to = &o->no_checkpoint,
          .help = "neither write nor look for checkpoints, e.g. for benchmarks" },
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
          .help = "off: run every operator on a device as a kernel of its own" },
        { .name = "check-numbers",
          .kind = OPTION_FLAG,
          .to = &o->check_numbers,
          .help = "check for NaN and Inf after every operator" },
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
          .help = "verify every N steps that all replicas of the parameters are bitwise identical" },
        { .name = NULL },
    };
    const struct option_usage usage = {
        .command = "train",
        .synopsis = "job.h5 -o RUNDIR [options]",
        .about = "Trains a job, resuming from the latest checkpoint in the run directory if there is one. Launch it "
                 "with mpirun or srun.",
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
            st = err_set(e, ST_USAGE, "train",
                         "missing required option -o RUNDIR, the directory for metrics and checkpoints");
        else if (o->resume && o->fresh)
            st = err_set(e, ST_USAGE, "train", "--resume and --fresh are mutually exclusive");
        else if (o->no_checkpoint && (checkpoint || max_time || o->resume))
            st = err_set(e, ST_USAGE, "--no-checkpoint",
                         "conflicts with %s, which is about checkpoints; drop one of them",
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
    struct err mpi = { 0 };
    watch_beside_begin(st == ST_OK ? (double)o.hang_timeout : 0);
    enum status up = ctl_init(&argc, &argv, &mpi);
    if (up != ST_OK) {
        *e = mpi;
        return up;
    }
    st = ctl_agree(st, e);
    if (st == ST_OK)
        st = train_run(&o, e);
    /* once, and before the launcher may think that the rank has ended */
    if (ctl_rank() != 0)
        e->text[0] = '\0';
    command_print_error(e);
    ctl_finalize();
    return st;
}

const struct command command_train = { "train", "train or resume a job (under mpirun or srun)", train_command };
