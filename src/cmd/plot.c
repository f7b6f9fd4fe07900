/* piper plot: columns of metrics.csv as curves. */
#include <stdio.h>
#include <string.h>

#include "cmd/command.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "view/curves.h"

enum { MOST_CHARTS = 32 };

struct plot_options {
    struct option_common common;
    const char *output, *columns;
};

/* ---- which columns ---------------------------------------------------------------------------------------------- */

static enum status unknown_column(const struct curves *c, const char *name, struct err *e)
{
    char all[512] = "";
    size_t n = 0;
    for (uint32_t i = 1; i < c->runs[0].metrics->columns && n < sizeof all; i++)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i > 1 ? ", " : "",
                              run_metrics_name(c->runs[0].metrics, i));
    return err_set(e, ST_USAGE, "--columns", "found no numbers of \"%s\" in these runs; their metrics.csv has %s", name,
                   all);
}

/* names: the list, cut at its commas; one chart each. */
static enum status make_charts(const struct curves *c, char *names, struct curve_chart *charts, uint32_t *n,
                               struct err *e)
{
    for (char *save = NULL, *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        if (*n == MOST_CHARTS)
            return err_set(e, ST_USAGE, "--columns", "names more than %d columns", MOST_CHARTS);
        curve_make(c, name, name, false, &charts[(*n)++]);
        if (!chart_has_numbers(&charts[*n - 1].chart))
            return unknown_column(c, name, e);
    }
    return *n ? ST_OK : err_set(e, ST_USAGE, "--columns", "names no column");
}

static enum status write_charts(const char *path, const struct curve_chart *made, uint32_t n, struct err *e)
{
    struct chart charts[MOST_CHARTS];
    FILE *to;
    TRY(output_open(path, &to, e));
    for (uint32_t i = 0; i < n; i++)
        charts[i] = made[i].chart;
    chart_file(charts, n, to);
    return output_close(path, to, ST_OK, e);
}

/* ---- the command ------------------------------------------------------------------------------------------------ */

static enum status plot_runs(const struct plot_options *o, const struct curves *c, struct err *e)
{
    struct curve_chart charts[MOST_CHARTS];
    char *names = mem_strdup(o->columns);
    uint32_t n = 0;
    enum status st = make_charts(c, names, charts, &n, e);
    if (st == ST_OK)
        st = write_charts(o->output, charts, n, e);
    if (st == ST_OK && strcmp(o->output, "-") != 0)
        text_print(stdout, "%s: %s of %u run%s\n", o->output, o->columns, c->n, c->n == 1 ? "" : "s");
    while (n > 0)
        curve_release(&charts[--n]);
    mem_free(names);
    return st;
}

static enum status plot(const struct plot_options *o, struct err *e)
{
    const uint32_t n = o->common.operands.n;
    struct dir *dirs = mem_alloc(n * sizeof *dirs);
    struct run_metrics *metrics = mem_alloc(n * sizeof *metrics);
    struct curves_run *runs = mem_alloc(n * sizeof *runs);
    uint32_t opened = 0;
    enum status st = ST_OK;
    for (; st == ST_OK && opened < n; opened++) {
        dirs[opened].fd = -1;
        st = dir_open(o->common.operands.at[opened], &dirs[opened], e);
        run_metrics_open(&metrics[opened], &dirs[opened]);
        if (st == ST_OK)
            st = run_metrics_read(&metrics[opened], e);
        if (st == ST_OK && !run_metrics_rows(&metrics[opened]))
            st = err_set(e, ST_MISSING, o->common.operands.at[opened], "metrics.csv is missing or has no row yet");
        runs[opened] = (struct curves_run){ o->common.operands.at[opened], &metrics[opened] };
    }
    if (st == ST_OK)
        st = plot_runs(o, &(struct curves){ runs, n }, e);
    while (opened > 0) {
        run_metrics_release(&metrics[--opened]);
        dir_close(&dirs[opened]);
    }
    mem_free(runs);
    mem_free(metrics);
    mem_free(dirs);
    return st;
}

#define AT(member) offsetof(struct plot_options, member)
static const struct option options[] = {
    TEXT("columns", 0, AT(columns), "LIST", "columns of metrics.csv, one below the other (loss)"),
    TEXT("output", 'o', AT(output), "FILE", "the picture to write, SVG (plot.svg; -: standard output)"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "plot",
    .synopsis = "RUNDIR [RUNDIR...] [--columns LIST] [-o FILE]",
    .about = "Draws columns of metrics.csv over the steps, of one run or of several.",
    .options = options,
    .min_operands = 1,
    .max_operands = 64,
};

static enum status plot_command(int argc, char **argv, struct err *e)
{
    struct plot_options o = { .output = "plot.svg", .columns = "loss" };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help)
        st = plot(&o, e);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_plot = { "plot", "draw curves of runs", plot_command };
