/* piper train: the command line; the run itself is train.c. */
#include "comm/comm.h"
#include "command.h"
#include "options.h"
#include "train.h"

/* "H:M:S", "M:S" or seconds. */
static enum status read_duration(const char *text, uint64_t *seconds, struct err *e)
{
    uint64_t sum = 0;
    const char *s = text;
    for (int parts = 0; parts < 3; parts++) {
        char number[16];
        uint64_t x;
        size_t n = strcspn(s, ":");
        if (n >= sizeof number)
            break;
        memcpy(number, s, n);
        number[n] = '\0';
        if (!options_number(number, &x) || x > 1000000000 || (parts && x > 59))
            break;
        sum = 60 * sum + x;
        s += n;
        if (!*s && sum) {
            *seconds = sum;
            return ST_OK;
        }
        if (!*s++)
            break;
    }
    return err_set(e, ST_USAGE, "--max-time", "found \"%s\", expected hours:minutes:seconds, as in 1:30:00", text);
}

static enum status parse(int argc, char **argv, struct train_options *o, bool *help, struct err *e)
{
    static const char *const devices[] = { "auto", "cpu", "cuda", "emulate", NULL };
    static const char *const comms[] = { "auto", "mpi", "nccl", NULL };
    static const char *const on_off[] = { "on", "off", NULL };
    static const char *const checkpoints[] = { "sync", NULL };
    const char *checkpoint = "sync", *max_time = NULL, *graphs = "on";
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
        { .name = "fresh", .kind = OPTION_FLAG, .to = &o->fresh, .help = "start over; what is there is put aside" },
        { .name = "device",
          .kind = OPTION_CHOICE,
          .to = &o->device,
          .value = "D",
          .words = devices,
          .help = "cpu, cuda, emulate or auto" },
        { .name = "comm",
          .kind = OPTION_CHOICE,
          .to = &o->comm,
          .value = "C",
          .words = comms,
          .help = "mpi, nccl or auto" },
        { .name = "max-time",
          .kind = OPTION_TEXT,
          .to = &max_time,
          .value = "H:M:S",
          .help = "stop with a checkpoint before this much time has passed" },
        { .name = "checkpoint",
          .kind = OPTION_CHOICE,
          .to = &checkpoint,
          .value = "sync",
          .words = checkpoints,
          .help = "training waits while a checkpoint is written" },
        { .name = "cuda-graph",
          .kind = OPTION_CHOICE,
          .to = &graphs,
          .value = "on|off",
          .words = on_off,
          .help = "off: a device gets its work piece by piece, to look inside with a profiler" },
        { .name = "check-numbers",
          .kind = OPTION_FLAG,
          .to = &o->check_numbers,
          .help = "look for NaN and Inf after every operator" },
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
        .about = "Trains, or goes on from the newest checkpoint of the run folder. Started by mpirun or srun.",
        .options = options,
        .min_operands = 1,
        .max_operands = 1,
    };
    struct option_list operands = { 0 };
    enum status st = options_parse(&usage, argc, argv, &operands, help, e);
    if (st == ST_OK && !*help) {
        o->job = operands.at[0];
        o->graphs = strcmp(graphs, "on") == 0;
        if (!o->dir)
            st = err_set(e, ST_USAGE, "train", "-o RUNDIR is missing: the folder for metrics and checkpoints");
        else if (max_time)
            st = read_duration(max_time, &o->max_seconds, e);
    }
    vec_free(&operands);
    return st;
}

static enum status train_command(int argc, char **argv, struct err *e)
{
    struct train_options o = { .device = "auto", .comm = "auto" };
    bool help = false;
    enum status st = parse(argc, argv, &o, &help, e);
    if (st == ST_OK && help)
        return ST_OK;
    struct err mpi = { 0 };
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

const struct command command_train = { "train", "train, or go on training (started by mpirun or srun)", train_command };
