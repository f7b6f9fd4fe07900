/* piper calibrate: measures this machine for the cost model. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "cmd/calibrate.h"
#include "cmd/command.h"
#include "io/machine.h"
#include "cmd/options.h"

struct calibrate_options {
    struct option_common common;
    const char *output, *device;
};

/* The best speed of a kernel in operations or bytes per second, of float32. */
static double best(const struct machine *m, uint32_t kind, uint32_t pass)
{
    double most = 0;
    for (uint32_t i = 0; i < m->points.n; i++) {
        const struct machine_point *p = &m->points.at[i];
        double speed = p->work / p->seconds;
        if (p->kind == kind && p->pass == pass && p->dtype == IR_F32 && speed > most)
            most = speed;
    }
    return most;
}

static void print_machine(const struct machine *m, const char *path)
{
    printf("%-14s %-16s %-16s %s\n", "best of", "F", "BI", "BW (float32)");
    for (uint32_t kind = 0; kind < IR_OP_GRAPH_COUNT; kind++) {
        printf("%-14s", machine_kind_name(kind));
        for (uint32_t pass = 0; pass < IR_PASS_NONE; pass++) {
            double speed = pass == IR_PASS_B ? 0 : best(m, kind, pass);
            char text[32] = "-";
            if (speed > 0)
                snprintf(text, sizeof text, "%.4g %s", speed / 1e9, machine_by_flops(kind) ? "Gflop/s" : "GB/s");
            if (pass != IR_PASS_B)
                printf(" %-16s", text);
        }
        putchar('\n');
    }
    for (uint32_t kind = 0; kind < OPTIMIZERS; kind++)
        printf("%-14s %.4g GB/s\n", optimizer_name(kind), best(m, MACHINE_UPDATE + kind, IR_PASS_NONE) / 1e9);
    if (world_size() > 1) {
        for (int l = 0; l < LINK_COUNT - 1; l++)
            printf("%-14s %.3g us, %.4g GB/s\n", machine_link_name((enum machine_link)l), m->links[l].latency * 1e6,
                   m->links[l].bandwidth / 1e9);
        printf("%-14s computation at %.0f%%, transfers at %.0f%% of full speed, a message waits %.3g us\n",
               "overlapped", 100 * m->compute_beside, 100 * m->transfer_beside, m->latency_beside * 1e6);
    } else {
        puts("links          not measured: run under mpirun with as many ranks as a node will have");
    }
    text_print(stdout, "written        %s, %u points\n", path, m->points.n);
}

/* Where the figures come from, and whether they are to be trusted. */
static void describe(struct machine *m, const struct calibrate_runs *runs)
{
    int n = snprintf(m->source, sizeof m->source, "measured by piper calibrate with %u %s", world_size(),
                     world_size() == 1 ? "rank" : "ranks");
    m->spread = runs->spread;
    m->noisy = runs->noisy;
    if (runs->noisy)
        snprintf(m->source + n, sizeof m->source - (size_t)n,
                 " while it was busy: runs of %u of %u measurements differ by more than %.0f%%, those of %s by %.0f%%",
                 runs->noisy, runs->measured, 100 * MACHINE_NOISY, runs->what, 100 * runs->spread);
}

static enum status calibrate(const struct calibrate_options *o, struct err *e)
{
    struct machine m = { .compute_beside = 1, .transfer_beside = 1 };
    struct calibrate_runs runs = { .measured = 0 };
    const struct ir_target *target = ir_target_by_name("cpu");
    const struct compute_backend *back = &compute_cpu;
    char host[MACHINE_NAME] = "";
    gethostname(host, sizeof host - 1);
    snprintf(m.name, sizeof m.name, "%s", host);
    (void)o->device; /* the one that there is */
    double start = clock_now();
    calibrate_compute(back, target, &m, &runs);
    enum status st = calibrate_links(world_size() == 1 ? &comm_null : &comm_mpi, back, target, &m, &runs, e);
    machine_sort(&m);
    describe(&m, &runs);
    if (st == ST_OK && world_rank() == 0) {
        st = machine_write(&m, o->output, e);
        if (st == ST_OK) {
            print_machine(&m, o->output);
            printf("took           %.1f s\n", clock_now() - start);
            if (m.noisy)
                fprintf(stderr,
                        "warning: runs of %u of %u measurements differ by more than %.0f%%: the machine was busy, and "
                        "predictions from %s are less exact; calibrate again when it is idle\n",
                        m.noisy, runs.measured, 100 * MACHINE_NOISY, o->output);
        }
    }
    st = world_agree(st, e);
    machine_release(&m);
    return st;
}

static const char *const devices[] = { "cpu", NULL };
#define AT(member) offsetof(struct calibrate_options, member)
static const struct option options[] = {
    TEXT("output", 'o', AT(output), "FILE", "machine file to write"),
    CHOICE("device", 0, AT(device), "D", devices, "back end to measure: cpu"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "calibrate",
    .synopsis = "-o machine.h5 [--device D]",
    .about =
        "Measures the kernels and links of the nodes it runs on, for piper plan --simulate. Launch it with mpirun or "
        "srun and\nas many ranks per node as training will use; a single process measures one rank and no links.",
    .options = options,
};

static enum status parse(int argc, char **argv, struct calibrate_options *o, struct err *e)
{
    enum status st = options_parse(&usage, argc, argv, o, e);
    if (st == ST_OK && !o->common.help && !o->output)
        st = err_set(e, ST_USAGE, "calibrate", "missing required option -o FILE, the machine file to write");
    uint64_t threads;
    if (st == ST_OK && !o->common.help)
        st = parse_omp_threads(&threads, e);
    vec_free(&o->common.operands);
    return st;
}

static enum status calibrate_command(int argc, char **argv, struct err *e)
{
    struct calibrate_options o = { .device = "cpu" };
    enum status st = parse(argc, argv, &o, e);
    if (st == ST_OK && o.common.help)
        return ST_OK;
    enum status up = world_init(&argc, &argv, e);
    TRY(world_agree(st == ST_OK ? up : st, e));
    return calibrate(&o, e);
}

const struct command command_calibrate = { "calibrate", "measure this machine for the cost model", calibrate_command };
