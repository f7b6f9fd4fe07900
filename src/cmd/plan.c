/* piper plan: compile a job and show it, without MPI and without the device. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cmd/command.h"
#include "comm/comm.h"
#include "job/compile_job.h"
#include "job/expert_note.h"
#include "cmd/output.h"
#include "cmd/picture.h"
#include "cmd/plan_memory.h"
#include "cmd/plan_zero.h"
#include "view/draw_plan.h"
#include "job/machine_file.h"
#include "job/progress.h"
#include "cmd/sources.h"
#include "view/simulate_text.h"

struct plan_options {
    struct option_common common;
    struct source_options from;
    const char *job, *device, *dot, *csv, *svg, *machine, *topology;
    uint64_t ranks;
    void *image; /* of the job, for --simulate, which compiles other strategies too */
    uint64_t image_bytes;
    const char *json; /* NULL: not asked for; "", "classes" */
    bool expand, dump, simulate, memory;
    const char *rows; /* ranks that are drawn */
    struct picture_options picture;
    struct draw_view view;
};

/* ---- output --------------------------------------------------------------------------------------------------- */

static json_t *peak_json(const struct plan *p, const struct ir_target *target)
{
    const struct plan_places at = plan_places(p, target->device);
    json_t *peak = json_object();
    for (uint32_t k = 0; k < MEM_KINDS; k++)
        json_object_set_new(peak, plan_memory_name((enum plan_kind_of_memory)k),
                            json_integer((json_int_t)p->h->peak_bytes[k]));
    json_object_set_new(peak, "device", json_integer((json_int_t)at.device));
    json_object_set_new(peak, "host", json_integer((json_int_t)at.host));
    json_object_set_new(peak, "total", json_integer((json_int_t)p->h->total_bytes));
    return peak;
}

static json_t *per_class(const struct sched_output *out, const struct plan *plans, const struct ir_target *target)
{
    json_t *all = json_array();
    for (uint32_t c = 0; c < out->n_classes; c++) {
        const struct plan *p = &plans[c];
        json_array_append_new(
            all, json_pack("{s:I, s:I, s:o}", "first_rank", (json_int_t)plan_set_at(p, p->h->devices, 0), "ranks",
                           (json_int_t)p->sets[p->h->devices].size, "peak_bytes", peak_json(p, target)));
    }
    return all;
}

static json_t *per_rank(const struct sched_output *out, const struct plan *plans, const struct ir_target *target)
{
    json_t *all = json_array();
    for (uint32_t r = 0; r < out->ranks; r++)
        json_array_append_new(
            all, json_pack("{s:i, s:o}", "rank", (int)r, "peak_bytes", peak_json(&plans[out->class_of[r]], target)));
    return all;
}

/* in: NULL without --simulate. */
static void print_json(const struct sched_output *out, const struct plan *plans, const struct ir_target *target,
                       bool classes, const struct simulate_input *in, const struct simulate_job *job)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < out->n_classes; i++)
        bytes += out->classes[i].bytes;
    json_t *all = json_pack("{s:i, s:I, s:I, s:f, s:f, s:I}", "ranks", (int)out->ranks, "nodes", (json_int_t)out->nodes,
                            "instructions", (json_int_t)out->instructions, "compile_seconds", out->compile_seconds,
                            "verify_seconds", out->verify_seconds, "plan_bytes", (json_int_t)bytes);
    json_object_set_new(all, classes ? "per_class" : "per_rank",
                        classes ? per_class(out, plans, target) : per_rank(out, plans, target));
    if (in)
        simulate_json(in, job, all);
    if (in && out->rounds) /* of exchanges of experts, whatever a step needs */
        json_object_set_new(all, "simulated_rounds", json_integer(1));
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(all);
}

/* ", a sequence on 8 devices: tp 4, cp 2, zigzag" */
static void print_share(const struct plan *p)
{
    const struct plan_header *h = p->h;
    if (h->share)
        printf(", a sequence on %u devices: tp %u, cp %u%s", h->share, h->tensor, h->context,
               h->zigzag ? ", zigzag" : "");
    putchar('\n');
}

static void print_summary(const struct job *j, const struct sched_output *out, const struct plan *plans,
                          const struct ir_target *target, uint32_t multiprocessors)
{
    const struct plan_list *l = &plans[0].lists[plan_find_list(&plans[0], "train")];
    uint64_t bytes = 0;
    char text[32], parameters[80];
    for (uint32_t i = 0; i < out->n_classes; i++)
        bytes += out->classes[i].bytes;
    printf("model         %s, %s, %s\n", j->graph.family, compile_parameters(&j->graph, parameters),
           ir_dtype_name((enum ir_dtype)j->train.dtype));
    printf("ranks         %u in %u rank %s, %u data-parallel %s", out->ranks, out->n_classes,
           out->n_classes == 1 ? "class" : "classes", l->replicas, l->replicas == 1 ? "replica" : "replicas");
    plan_print_zero_groups(plans, out->n_classes);
    print_share(&plans[0]);
    printf("batch         %u sequences of %u tokens: %u %s of %u per replica\n", j->train.batch_size, j->train.seq_len,
           l->microbatches, l->microbatches == 1 ? "microbatch" : "microbatches", l->microbatch_size);
    printf("training DAG  %llu nodes, %llu instructions per step, plans of %s\n", (unsigned long long)out->nodes,
           (unsigned long long)out->instructions, compile_bytes((double)bytes, text));
    printf("compiled      in %.3f s, verified in %.3f s, for %s", out->compile_seconds, out->verify_seconds,
           target->name);
    if (target->multiprocessors)
        printf(" with %u multiprocessors", multiprocessors ? multiprocessors : target->multiprocessors);
    putchar('\n');
    plan_print_memory(out, plans, target);
    printf("\nEach column is its own peak, so columns do not add up to total: what a rank allocates, gaps between "
           "buffers included. %sThe libraries column is an estimate.\n",
           target->device ? "Device memory holds the device and libraries columns. " : "");
}

/* A picture in text is as wide as the terminal, or 120 columns in a file. */
static struct draw_terminal find_terminal(void)
{
    struct winsize size = { 0 };
    struct draw_terminal t = { .columns = 120 };
    if (!isatty(STDOUT_FILENO))
        return t;
    t.colour = !getenv("NO_COLOR");
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
        t.columns = size.ws_col;
    return t;
}

static void print_expert_note(const struct plan_options *o, const struct sched_input *in,
                              const struct sched_output *out)
{
    char text[EXPERT_NOTE];
    if (o->image &&
        expert_note_write(
            &(struct expert_note){ o->image, o->image_bytes, o->device, out->ranks, in->comm_scratch, out }, text))
        printf("\nnote: %s\n", text);
}

typedef enum status (*print_fn)(const struct sched_input *in, FILE *to, struct err *e);

static enum status print_to(const struct sched_input *in, const char *path, print_fn print, struct err *e)
{
    FILE *f;
    TRY(output_open(path, &f, e));
    return output_close(path, f, print(in, f, e), e);
}

static enum status print_svg(const char *path, const struct simulate_input *in, const struct draw_view *view,
                             bool quiet, struct err *e)
{
    FILE *f;
    TRY(output_open(path, &f, e));
    if (in->machine)
        draw_simulated_svg(in, view, f);
    else
        draw_plan_svg(in->plans, in->n_classes, in->graph, view, f);
    TRY(output_close(path, f, ST_OK, e));
    if (f != stdout && !quiet)
        text_print(stdout, "%s: the schedule of %u ranks, drawn\n", path, in->plans[0].h->world);
    return ST_OK;
}

static enum status print_primitives(const struct sched_input *in, struct err *e)
{
    json_t *primitives, *directive;
    uint32_t ranks;
    size_t i;
    TRY(sched_expand(in, &primitives, &ranks, e));
    json_array_foreach(primitives, i, directive)
    {
        fputs(i ? ",\n  " : "[\n  ", stdout);
        json_dumpf(directive, stdout, JSON_COMPACT);
    }
    puts(json_array_size(primitives) ? "\n]" : "[]");
    json_decref(primitives);
    return ST_OK;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static enum status show(const struct plan_options *o, const struct job *j, const struct sched_input *in,
                        const struct sched_output *out, struct err *e)
{
    struct plan *plans = mem_alloc(out->n_classes * sizeof *plans);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < out->n_classes && st == ST_OK; i++)
        st = plan_open(out->classes[i].blob, out->classes[i].bytes, j->graph.ops.n, j->graph.params.n,
                       j->graph.tensors.n, &plans[i], e);
    if (st == ST_OK && o->dump)
        for (uint32_t i = 0; i < out->n_classes; i++)
            plan_print(&plans[i], &j->graph, stdout);
    const struct simulate_input input = { o->simulate ? in->machine : NULL, plans, out->n_classes, &j->graph, "train" };
    const struct simulate_job job = { .image = o->image,
                                      .image_bytes = o->image_bytes,
                                      .device = o->device,
                                      .ranks = out->ranks,
                                      .strategy = in->strategy,
                                      .machine = in->machine,
                                      .tokens = (double)j->train.batch_size * j->train.seq_len,
                                      .comm_scratch = in->comm_scratch };
    if (st == ST_OK && o->svg)
        st = print_svg(o->svg, &input, &o->view, o->json || o->dump, e);
    if (st == ST_OK && o->json) {
        print_json(out, plans, in->target, *o->json, o->simulate ? &input : NULL, &job);
    } else if (st == ST_OK && o->simulate && !(o->svg && !strcmp(o->svg, "-"))) {
        simulate_print(&input, &job, stdout);
        if (out->rounds)
            printf("\nnote: simulated with one round of the exchanges of experts, as if their rows never exceeded "
                   "\"expert_bound\"; a further round takes their exchanges and products once more, exposed\n");
    } else if (st == ST_OK && !o->dump && !o->svg) {
        print_summary(j, out, plans, in->target, in->multiprocessors);
        const struct draw_terminal terminal = find_terminal();
        draw_plan_text(plans, out->n_classes, &j->graph, &terminal, stdout);
    }
    if (st == ST_OK && in->machine && !o->json && !o->dump && !(o->svg && !strcmp(o->svg, "-"))) {
        plan_note_memory(out, plans, in->target, in->machine, stdout);
        if (o->machine || o->topology) /* else nobody has said what a node is */
            plan_note_zero_groups(plans, out->n_classes, in->machine, stdout);
    }
    if (st == ST_OK && !o->json && !o->dump && !o->svg && !o->simulate)
        print_expert_note(o, in, out);
    mem_free(plans);
    return st;
}

/* Does the command compile the job, and write nothing before that? */
static bool compiles_first(const struct plan_options *o)
{
    return !o->expand && !o->dot && !o->csv && !o->dump;
}

static enum status compile_and_show(const struct plan_options *o, struct job *j, struct sched_input *in, struct err *e)
{
    if (o->expand)
        return print_primitives(in, e);
    if (o->dot)
        TRY(print_to(in, o->dot, sched_dot, e));
    if (o->csv)
        TRY(print_to(in, o->csv, sched_csv, e));
    if ((o->dot || o->csv) && !o->svg && !o->json && !o->dump && !o->simulate)
        return ST_OK;
    struct sched_output out = { 0 };
    in->dump = o->dump ? stdout : NULL;
    progress_begin("the strategy");
    enum status st = sched_compile(in, &out, e);
    progress_end();
    if (st == ST_OK)
        st = show(o, j, in, &out, e);
    sched_output_release(&out);
    return st;
}

static enum status plan_job(struct plan_options *o, struct err *e)
{
    struct job_sources from = source_files(&o->from);
    struct job j;
    struct sched_input in;
    if (o->ranks > UINT32_MAX)
        return err_set(e, ST_USAGE, "-n", "found %llu ranks, expected fewer than 2^32", (unsigned long long)o->ranks);
    struct machine machine = { 0 };
    from.compiles = compiles_first(o);
    if (o->simulate || o->machine)
        TRY(machine_load(o->machine, o->topology, &machine, e));
    enum status st = o->job ? job_read(o->job, &j, e) : source_build(&from, &j, e);
    if (st == ST_OK) {
        st = compile_input(&j, o->device, (uint32_t)o->ranks, COMM_SCRATCH, &in, e);
        if (st == ST_OK) {
            if (o->simulate || expert_note_applies(in.graph, in.strategy))
                st = job_encode("job", &j, &o->image, &o->image_bytes, e);
            in.machine = o->simulate || o->machine ? &machine : NULL;
            in.multiprocessors = in.target->multiprocessors && o->machine ? machine.units : 0;
            if (st == ST_OK)
                st = compile_and_show(o, &j, &in, e);
            json_decref(in.strategy);
        }
        job_release(&j);
        mem_free(o->image);
    }
    machine_release(&machine);
    return st;
}

#define AT(member) offsetof(struct plan_options, member)
static const char *const json_words[] = { "classes", NULL };
static const struct option options[] = {
    SOURCE_OPTIONS(AT(from)),
    NUMBER("ranks", 'n', AT(ranks), "RANKS", 1, "number of ranks, if the strategy leaves it open"),
    TEXT("device", 0, AT(device), "D", "plan for cpu (default), cuda or emulate"),
    MAYBE("json", 0, AT(json), "classes", json_words, "print the figures as JSON, of each rank or of each rank class"),
    FLAG("expand", 0, AT(expand), "print the strategy as primitive directives"),
    FLAG("dump", 0, AT(dump), "print the training DAG after every pass, and the plans"),
    TEXT("dot", 0, AT(dot), "FILE", "write the training DAG for Graphviz (-: standard output)"),
    TEXT("csv", 0, AT(csv), "FILE", "write the schedule as text, one line per pipeline rank"),
    TEXT("svg", 0, AT(svg), "FILE", "draw the schedule, ranks over time"),
    TEXT("rows", 0, AT(rows), "LIST", "draw these ranks only, e.g. 0-3,8"),
    PICTURE_OPTIONS(AT(picture), "the picture's unit"),
    FLAG("memory", 0, AT(memory), "draw the memory that is in use under each rank"),
    FLAG("simulate", 0, AT(simulate), "predict a step on a machine: time, exposed communication, what would help"),
    TEXT("machine", 0, AT(machine), "FILE", "machine file of piper calibrate, or a data sheet (a100, h100)"),
    TEXT("topology", 0, AT(topology), "FILE", "ranks per node, nodes per island and links, overriding the machine's"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "plan",
    .synopsis =
        "job.h5 | RUNDIR | -m model.json -s strategy.json -t train.json [-n RANKS] [--device D] [--json[=classes]] "
        "[--expand] "
        "[--dump] [--dot FILE] [--csv FILE] [--svg FILE [--rows LIST] [--time A:B] [--lanes HOW] [--width PIXELS] "
        "[--memory]] "
        "[--simulate [--machine FILE] [--topology FILE]]",
    .about = "Compiles and verifies a job, and shows its schedule and the memory of its ranks. Needs no MPI.",
    .options = options,
    .max_operands = 1,
};

static enum status check_options(struct plan_options *o, struct err *e)
{
    TRY(source_options_check("plan", &o->from, false, e));
    TRY(source_or_job("plan", &o->from, &o->common.operands, &o->job, e));
    if ((o->json != NULL) + o->expand + o->dump > 1)
        return err_set(e, ST_USAGE, "plan",
                       "--json, --expand and --dump are mutually exclusive: each replaces the output");
    TRY(picture_view(&o->picture, "--rows", o->rows, &o->view, e));
    o->view.memory = o->memory;
    const char *given = o->rows ? "--rows" : o->memory ? "--memory" : picture_given(&o->picture);
    if (!o->svg && given)
        return err_set(e, ST_USAGE, given, "requires --svg FILE: it says what is drawn");
    if (o->topology && !o->simulate && !o->machine)
        return err_set(e, ST_USAGE, "--topology", "requires --simulate or --machine");
    if (o->simulate && (o->expand || o->dump))
        return err_set(e, ST_USAGE, "--simulate", "conflicts with %s, which replaces the output",
                       o->expand ? "--expand" : "--dump");
    return ST_OK;
}

static enum status plan_command(int argc, char **argv, struct err *e)
{
    struct plan_options o = { .device = "cpu" };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help)
        st = check_options(&o, e);
    if (st == ST_OK && !o.common.help)
        st = plan_job(&o, e);
    vec_free(&o.from.set);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_plan = { "plan", "compile a job and show its schedule and memory", plan_command };
