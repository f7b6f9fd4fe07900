/* piper report: runs as a page of HTML. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/command.h"
#include "cmd/options.h"
#include "cmd/run_state.h"
#include "view/draw_trace.h"
#include "view/report.h"

struct report_options {
    struct option_common common;
    const char *output;
};

/* A run that is open, and what its part of the page points to. */
struct opened {
    struct dir dir;
    struct run_state state;
    char *name, *trace;
};

/* ---- a traced step ---------------------------------------------------------------------------------------------- */

enum { TRACE_RANKS = 16, TRACE_BYTES = 600000 };

static bool is_shown(const void *self, uint32_t rank, uint64_t step)
{
    (void)self, (void)step;
    return rank < TRACE_RANKS;
}

/* Of the first ranks and the last step: as much as a page takes. */
static void draw_trace(const struct dir *run, struct opened *o, struct report_run *r)
{
    struct err why = { 0 };
    struct trace_view view;
    r->no_trace = "no step was traced: list those to trace as \"trace_steps\" in train.json";
    if (!trace_count(run))
        return;
    r->no_trace = "the trace cannot be read; piper trace tells why";
    if (trace_view_open(run, 0, &view, &why) != ST_OK)
        return;
    trace_view_select(&view, is_shown, NULL);
    r->no_trace = "the trace has no event yet";
    FILE *to = view.t.n_events ? open_memstream(&o->trace, &r->trace_bytes) : NULL;
    if (to) {
        draw_trace_svg(&view, 1, false, o->name, &(struct draw_view){ .width = 1150 }, to);
        fclose(to);
        r->no_trace = "the picture of a step is larger than a page takes: piper trace RUNDIR --svg FILE draws it";
        r->trace = r->trace_bytes <= TRACE_BYTES ? o->trace : NULL;
    }
    trace_view_release(&view);
}

/* ---- a run ------------------------------------------------------------------------------------------------------ */

/* Is the last step that the newest start was to make done? */
static bool is_done(const struct report_run *r)
{
    const uint32_t rows = run_metrics_rows(&r->metrics), parts = r->log.parts.n;
    const char *job = parts ? r->log.parts.at[parts - 1].job : NULL, *steps = job ? strstr(job, ", steps to ") : NULL;
    return steps && rows &&
           run_metrics_cell(&r->metrics, rows - 1, run_metrics_find(&r->metrics, "step")) >=
               strtod(steps + strlen(", steps to "), NULL);
}

static enum status open_run(const char *path, struct opened *o, struct report_run *r, struct err *e)
{
    TRY(dir_open(path, &o->dir, e));
    o->name = mem_strdup(path);
    text_printable(o->name);
    run_metrics_open(&r->metrics, &o->dir);
    TRY(run_metrics_read(&r->metrics, e));
    TRY(run_log_read(&o->dir, &r->log, e));
    if (!r->log.lines && !r->metrics.columns)
        return err_set(e, ST_MISSING, path, "has neither log.txt nor metrics.csv, expected a run directory");
    TRY(run_state_of(&o->dir, r->log.parts.n > 0, is_done(r), &o->state, e));
    r->name = o->name;
    r->state = o->state.text;
    draw_trace(&o->dir, o, r);
    return ST_OK;
}

static void close_run(struct opened *o, struct report_run *r)
{
    run_metrics_release(&r->metrics);
    run_log_release(&r->log);
    free(o->trace);
    mem_free(o->name);
    dir_close(&o->dir);
}

/* ---- the command ------------------------------------------------------------------------------------------------ */

static enum status write_page(const char *path, const struct report_run *runs, uint32_t n, struct err *e)
{
    if (strcmp(path, "-") == 0) {
        report_write(runs, n, stdout);
        return fflush(stdout) == 0 && !ferror(stdout) ? ST_OK
                                                      : err_set(e, ST_IO, "standard output", "cannot be written");
    }
    struct dir_new file;
    enum status st = dir_new_begin(NULL, path, &file, e);
    if (st == ST_OK) {
        FILE *to = fdopen(dup(file.fd), "w");
        long bytes = 0;
        if (to) {
            report_write(runs, n, to);
            bytes = ftell(to);
        }
        const bool good = to && fflush(to) == 0 && !ferror(to);
        const int why = errno;
        if (to)
            fclose(to);
        st = good ? dir_new_publish(&file, e) : err_set(e, ST_IO, path, "cannot be written: %s", strerror(why));
        if (st == ST_OK)
            text_print(stdout, "%s: %u run%s, %.0f KB; open it in a browser\n", path, n, n == 1 ? "" : "s",
                       1e-3 * (double)bytes);
    }
    dir_new_drop(&file);
    return st;
}

#define AT(member) offsetof(struct report_options, member)
static const struct option options[] = {
    TEXT("output", 'o', AT(output), "FILE", "the page to write (report.html; -: standard output)"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "report",
    .synopsis = "RUNDIR [RUNDIR...] [-o FILE]",
    .about = "Writes a page of HTML about one run, or about several side by side: curves, where the time went, a "
             "traced step, data, "
             "checkpoints, warnings.",
    .options = options,
    .min_operands = 1,
    .max_operands = 64,
};

static enum status report(const struct report_options *o, struct err *e)
{
    const uint32_t n = o->common.operands.n;
    struct report_run *runs = mem_alloc(n * sizeof *runs);
    struct opened *opened = mem_alloc(n * sizeof *opened);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < n; i++)
        opened[i].dir.fd = -1;
    for (uint32_t i = 0; st == ST_OK && i < n; i++)
        st = open_run(o->common.operands.at[i], &opened[i], &runs[i], e);
    if (st == ST_OK)
        st = write_page(o->output, runs, n, e);
    for (uint32_t i = 0; i < n; i++)
        close_run(&opened[i], &runs[i]);
    mem_free(opened);
    mem_free(runs);
    return st;
}

static enum status report_command(int argc, char **argv, struct err *e)
{
    struct report_options o = { .output = "report.html" };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help)
        st = report(&o, e);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_report = { "report", "write a page of HTML about runs", report_command };
