/* piper trace: traced steps as a summary, or as a file for a viewer. */
#include <fnmatch.h>
#include <stdio.h>

#include "cmd/command.h"
#include "view/draw_trace.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "cmd/picture.h"
#include "rundir/flight.h"
#include "view/number_list.h"
#include "view/trace_files.h"
#include "view/trace_summary.h"

struct trace_options {
    struct option_common common;
    const char *dir, *perfetto, *otf2, *svg, *ranks, *steps;
    bool summary, last;
    struct picture_options picture;
    struct draw_view view;
    struct run_metrics metrics; /* of the run, as far as they can be read */
    char traced[160];           /* which steps and ranks there are */
};

/* ---- which events --------------------------------------------------------------------------------------------- */

static bool is_asked_for(const void *self, uint32_t rank, uint64_t step)
{
    const struct trace_options *o = self;
    return number_list_has(o->ranks, rank) && number_list_has(o->steps, step);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* The last part of the run directory's name. */
static void name_of_run(const struct trace_options *o, char name[64])
{
    size_t end = strlen(o->dir);
    while (end > 1 && o->dir[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && o->dir[begin - 1] != '/')
        begin--;
    snprintf(name, 64, "%.*s", (int)(end - begin), o->dir + begin);
    text_printable(name);
}

static enum status write_svg(const struct trace_options *o, const struct trace_view *views, uint32_t n, struct err *e)
{
    FILE *f;
    char name[64];
    name_of_run(o, name);
    TRY(output_open(o->svg, &f, e));
    draw_trace_svg(views, n, o->steps != NULL, name, &o->view, f);
    return output_close(o->svg, f, ST_OK, e);
}

static enum status write_perfetto(const struct trace_options *o, const struct trace_walk *w, struct err *e)
{
    FILE *f;
    TRY(output_open(o->perfetto, &f, e));
    trace_perfetto(w, f);
    return output_close(o->perfetto, f, ST_OK, e);
}

static enum status write_for_viewers(const struct trace_options *o, const struct trace_view *views, uint32_t n,
                                     struct err *e)
{
    struct trace_walk w;
    char name[64];
    enum status st = ST_OK;
    if (!o->perfetto && !o->otf2)
        return ST_OK;
    name_of_run(o, name);
    trace_walk_make(views, n, &o->metrics, &w);
    if (o->perfetto)
        st = write_perfetto(o, &w, e);
    if (st == ST_OK && o->otf2)
        st = trace_otf2(&w, name, o->otf2, e);
    trace_walk_release(&w);
    return st;
}

/* Nothing where one of them is standard output, which holds that file alone. */
static void name_files(const struct trace_options *o, uint64_t events)
{
    if ((o->perfetto && strcmp(o->perfetto, "-") == 0) || (o->svg && strcmp(o->svg, "-") == 0))
        return;
    if (o->perfetto)
        text_print(stdout, "%s: %llu events; open it at https://ui.perfetto.dev\n", o->perfetto,
                   (unsigned long long)events);
    if (o->svg)
        text_print(stdout, "%s: %s%s, drawn\n", o->svg, o->steps ? "steps " : "the last traced step",
                   o->steps ? o->steps : "");
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static enum status show(const struct trace_options *o, const struct trace_view *views, uint32_t n, struct err *e)
{
    uint64_t events = 0, dropped = 0;
    for (uint32_t k = 0; k < n; k++) {
        events += views[k].t.n_events;
        for (uint64_t r = 0; r < views[k].t.n_ranks; r++)
            dropped += views[k].t.ranks[r].dropped;
    }
    if (!events)
        return err_set(e, ST_INPUT, o->dir, "found no events of these ranks and steps; traced are %s", o->traced);
    TRY(write_for_viewers(o, views, n, e));
    if (o->svg)
        TRY(write_svg(o, views, n, e));
    if (o->summary || (!o->perfetto && !o->otf2 && !o->svg))
        trace_summary(views, n, stdout);
    name_files(o, events);
    if (dropped)
        fprintf(stderr, "piper: note: %llu events were dropped: the trace buffers were full\n",
                (unsigned long long)dropped);
    return ST_OK;
}

/* "steps 10, 11 of ranks 0-3" */
static void note_traced(struct trace_options *o, const struct trace_view *views, uint32_t n)
{
    uint64_t ranks = 0, seen[16];
    uint32_t n_seen = 0;
    for (uint32_t k = 0; k < n; k++) {
        ranks = views[k].t.n_ranks > ranks ? views[k].t.n_ranks : ranks;
        for (uint64_t i = 0; i < views[k].t.n_events && n_seen < 16; i++) {
            const uint64_t step = views[k].t.events[i].step;
            uint32_t j = 0;
            while (j < n_seen && seen[j] != step)
                j++;
            if (j == n_seen)
                seen[n_seen++] = step;
        }
    }
    size_t at = (size_t)snprintf(o->traced, sizeof o->traced, "step%s", n_seen == 1 ? "" : "s");
    for (uint32_t j = 0; j < n_seen && at < sizeof o->traced; j++)
        at += (size_t)snprintf(o->traced + at, sizeof o->traced - at, "%s %llu", j ? "," : "",
                               (unsigned long long)seen[j]);
    if (at < sizeof o->traced)
        snprintf(o->traced + at, sizeof o->traced - at, "%s of ranks 0-%llu", n_seen == 16 ? "..." : "",
                 (unsigned long long)(ranks ? ranks - 1 : 0));
}

static enum status read_and_show(struct trace_options *o, const struct dir *run, struct err *e)
{
    uint32_t n = trace_count(run), read = 0;
    TRY(picture_view(&o->picture, "--ranks", o->ranks, &o->view, e));
    TRY(number_list_check("--steps", o->steps, e));
    if (!o->svg && picture_given(&o->picture))
        return err_set(e, ST_USAGE, picture_given(&o->picture), "requires --svg FILE: it says what is drawn");
    if (!n)
        return err_set(e, ST_MISSING, o->dir,
                       "found no trace (trace.0000.h5); list the steps to trace as \"trace_steps\" in train.json");
    struct err unread = { 0 }; /* a trace is worth showing without them */
    run_metrics_open(&o->metrics, run);
    run_metrics_read(&o->metrics, &unread);
    struct trace_view *views = mem_alloc(n * sizeof *views);
    enum status st = ST_OK;
    while (st == ST_OK && read < n) {
        st = trace_view_open(run, read, &views[read], e);
        read += st == ST_OK;
    }
    if (st == ST_OK) {
        note_traced(o, views, n);
        for (uint32_t k = 0; k < n; k++)
            trace_view_select(&views[k], is_asked_for, o);
        st = show(o, views, n, e);
    }
    while (read > 0)
        trace_view_release(&views[--read]);
    mem_free(views);
    run_metrics_release(&o->metrics);
    return st;
}

static bool rank_is_wanted(void *options, uint32_t rank)
{
    const struct trace_options *o = options;
    return number_list_has(o->ranks, rank);
}

static enum status show_last(struct trace_options *o, const struct dir *run, struct err *e)
{
    if (o->summary || o->perfetto || o->otf2 || o->svg || o->steps)
        return err_set(e, ST_USAGE, "--last", "can only be combined with --ranks");
    TRY(number_list_check("--ranks", o->ranks, e));
    return flight_print(run, rank_is_wanted, o, stdout, e);
}

#define AT(member) offsetof(struct trace_options, member)
static const struct option options[] = {
    FLAG("summary", 0, AT(summary), "time by rank and by kind (the default)"),
    TEXT("perfetto", 0, AT(perfetto), "FILE", "write the events for ui.perfetto.dev (-: standard output)"),
    TEXT("otf2", 0, AT(otf2), "DIR", "write an OTF2 archive, for Vampir and the tools of OTF2"),
    FLAG("last", 0, AT(last), "print where each rank was last, also after a crash"),
    TEXT("svg", 0, AT(svg), "FILE", "draw ranks over time: the last traced step, or those of --steps"),
    TEXT("ranks", 0, AT(ranks), "LIST", "only these ranks, e.g. 0-3,8"),
    TEXT("steps", 0, AT(steps), "LIST", "only these steps"),
    PICTURE_OPTIONS(AT(picture), "milliseconds of the first step drawn"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "trace",
    .synopsis = "RUNDIR [--last] [--summary] [--perfetto FILE] [--otf2 DIR] [--svg FILE] [--ranks LIST] "
                "[--steps LIST] [--time A:B] [--lanes HOW] [--width PIXELS]",
    .about = "Shows what the ranks did in the traced steps, or where each was last.",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

/* The run directory, where the name is that of a trace in it. */
static char *run_of(const char *path)
{
    char *dir = mem_strdup(path), *name = strrchr(dir, '/');
    name = name ? name + 1 : dir;
    if (fnmatch("trace.[0-9][0-9][0-9][0-9].h5", name, 0) == 0)
        strcpy(name, name == dir ? "." : "");
    return dir;
}

static enum status trace_command(int argc, char **argv, struct err *e)
{
    struct trace_options o = { 0 };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help) {
        struct dir run;
        char *dir = run_of(o.common.operands.at[0]);
        o.dir = dir;
        st = dir_open(o.dir, &run, e);
        if (st == ST_OK)
            st = o.last ? show_last(&o, &run, e) : read_and_show(&o, &run, e);
        dir_close(&run);
        mem_free(dir);
    }
    vec_free(&o.common.operands);
    return st;
}

const struct command command_trace = { "trace", "show where the time of traced steps went", trace_command };
