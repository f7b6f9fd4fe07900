/* piper trace: traced steps as a summary, or as a file for a viewer. */
#include <errno.h>
#include <stdio.h>

#include "command.h"
#include "options.h"
#include "ring.h"
#include "trace_summary.h"

struct trace_options {
    const char *dir, *perfetto, *ranks, *steps;
    bool summary, last;
};

/* ---- which events --------------------------------------------------------------------------------------------- */

/* Is x in "0-3,8,10-12"? NULL: everything is. */
static bool in_list(const char *list, uint64_t x)
{
    if (!list)
        return true;
    for (const char *s = list; *s;) {
        unsigned long long first = 0, last;
        int n = 0;
        sscanf(s, "%llu%n", &first, &n);
        s += n;
        last = first;
        if (*s == '-') {
            sscanf(s + 1, "%llu%n", &last, &n);
            s += 1 + n;
        }
        if (x >= first && x <= last)
            return true;
        s += *s == ',';
    }
    return false;
}

static enum status check_list(const char *option, const char *list, struct err *e)
{
    for (const char *s = list; s;) {
        size_t n = strspn(s, "0123456789"), m = 0;
        const char *after = s + n;
        if (*after == '-') {
            m = strspn(after + 1, "0123456789");
            after += 1 + m;
        }
        if (!n || n > 18 || m > 18 || (s[n] == '-' && !m) || (*after && *after != ',') || (*after == ',' && !after[1]))
            return err_set(e, ST_USAGE, option, "found \"%s\", expected numbers and ranges, as in 0-3,8", list);
        s = *after ? after + 1 : NULL;
    }
    return ST_OK;
}

/* Keeps the events that were asked for. */
static void select_events(const struct trace_options *o, struct trace *t)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < t->n_events; i++)
        if (in_list(o->ranks, t->locations[t->events[i].location].rank) && in_list(o->steps, t->events[i].step))
            t->events[n++] = t->events[i];
    t->n_events = n;
}

/* ---- Perfetto: the JSON trace event format -------------------------------------------------------------------- */

static void print_string(FILE *f, const char *s)
{
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            putc('\\', f);
        putc((unsigned char)*s < 0x20 ? ' ' : *s, f);
    }
    putc('"', f);
}

/* A process a rank, a thread a stream. */
static void print_tracks(FILE *f, const struct trace *t, const char **comma)
{
    for (uint64_t i = 0; i < t->n_locations; i++) {
        uint32_t rank = t->locations[i].rank, stream = (uint32_t)(i);
        fprintf(f, "%s{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_name\",\"args\":{\"name\":\"rank %u\"}},\n", *comma,
                rank, rank);
        fprintf(f, "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":", rank, stream);
        print_string(f, t->streams[t->locations[i].stream]);
        fprintf(f,
                "}},\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%u}}",
                rank, stream, stream);
        *comma = ",\n";
    }
}

static void print_event(FILE *f, const struct trace *t, const struct trace_event *ev)
{
    const struct trace_instruction *in = &t->instructions[ev->instruction];
    fprintf(f, ",\n{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"cat\":\"%s\",\"name\":",
            t->locations[ev->location].rank, ev->location, 1e6 * ev->t, 1e6 * ev->dur,
            trace_is_communication(ev) ? "communication" : "compute");
    print_string(f, in->name);
    fprintf(f, ",\"args\":{\"step\":%llu,\"tags\":", (unsigned long long)ev->step);
    print_string(f, in->tags);
    if (ev->bytes)
        fprintf(f, ",\"bytes\":%llu", (unsigned long long)ev->bytes);
    if (ev->group >= 0)
        fprintf(f, ",\"group\":%d,\"seq\":%u", ev->group, ev->seq);
    if (ev->peer >= 0)
        fprintf(f, ",\"peer\":%d", ev->peer);
    fputs("}}", f);
}

static enum status write_perfetto(const char *path, const struct trace *traces, uint32_t n, struct err *e)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdout : fopen(path, "w");
    const char *comma = "";
    if (!f)
        return err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno));
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", f);
    for (uint32_t k = 0; k < n; k++) {
        print_tracks(f, &traces[k], &comma);
        for (uint64_t i = 0; i < traces[k].n_events; i++)
            print_event(f, &traces[k], &traces[k].events[i]);
    }
    fputs("\n]}\n", f);
    bool good = fflush(f) == 0 && !ferror(f);
    if (!standard && fclose(f) != 0)
        good = false;
    return good ? ST_OK : err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno));
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static enum status show(const struct trace_options *o, const struct trace *traces, uint32_t n, struct err *e)
{
    uint64_t events = 0, dropped = 0;
    for (uint32_t k = 0; k < n; k++) {
        events += traces[k].n_events;
        for (uint64_t r = 0; r < traces[k].n_ranks; r++)
            dropped += traces[k].ranks[r].dropped;
    }
    if (!events)
        return err_set(e, ST_INPUT, o->dir, "found no events of these ranks and steps, expected some");
    if (o->perfetto)
        TRY(write_perfetto(o->perfetto, traces, n, e));
    if (o->summary || !o->perfetto)
        trace_summary(traces, n, stdout);
    if (dropped)
        fprintf(stderr, "piper: note: %llu events did not fit into the buffers and are missing\n",
                (unsigned long long)dropped);
    return ST_OK;
}

static enum status read_and_show(const struct trace_options *o, struct err *e)
{
    uint32_t n = trace_count(o->dir), read = 0;
    TRY(check_list("--ranks", o->ranks, e));
    TRY(check_list("--steps", o->steps, e));
    if (!n)
        return err_set(e, ST_MISSING, o->dir,
                       "there is no trace.0000.h5; \"trace_steps\" in train.json says which steps to trace");
    struct trace *traces = mem_alloc(n * sizeof *traces);
    enum status st = ST_OK;
    while (st == ST_OK && read < n) {
        char *path = trace_path(o->dir, read);
        st = trace_read(path, &traces[read], e);
        if (st == ST_OK)
            select_events(o, &traces[read++]);
        mem_free(path);
    }
    if (st == ST_OK)
        st = show(o, traces, n, e);
    while (read > 0)
        trace_release(&traces[--read]);
    mem_free(traces);
    return st;
}

static bool rank_is_wanted(void *options, uint32_t rank)
{
    const struct trace_options *o = options;
    return in_list(o->ranks, rank);
}

static enum status show_last(struct trace_options *o, struct err *e)
{
    if (o->summary || o->perfetto || o->steps)
        return err_set(e, ST_USAGE, "--last", "goes with --ranks alone");
    TRY(check_list("--ranks", o->ranks, e));
    return ring_print(o->dir, rank_is_wanted, o, stdout, e);
}

static enum status trace_command(int argc, char **argv, struct err *e)
{
    struct trace_options o = { 0 };
    const struct option options[] = {
        { .name = "summary",
          .kind = OPTION_FLAG,
          .to = &o.summary,
          .help = "where the time went, by rank (the default)" },
        { .name = "perfetto",
          .kind = OPTION_TEXT,
          .to = &o.perfetto,
          .value = "FILE",
          .help = "a file for ui.perfetto.dev (- is standard output)" },
        { .name = "last", .kind = OPTION_FLAG, .to = &o.last, .help = "where each rank was last, also after a crash" },
        { .name = "ranks",
          .kind = OPTION_TEXT,
          .to = &o.ranks,
          .value = "LIST",
          .help = "of these ranks only, as in 0-3,8" },
        { .name = "steps", .kind = OPTION_TEXT, .to = &o.steps, .value = "LIST", .help = "of these steps only" },
        { .name = NULL },
    };
    const struct option_usage usage = {
        .command = "trace",
        .synopsis = "RUNDIR [--last] [--summary] [--perfetto FILE] [--ranks LIST] [--steps LIST]",
        .about = "Shows what the ranks did in the steps that the job traced, or where they were last.",
        .options = options,
        .min_operands = 1,
        .max_operands = 1,
    };
    struct option_list operands = { 0 };
    bool help;
    enum status st = options_parse(&usage, argc, argv, &operands, &help, e);
    if (st == ST_OK && !help) {
        o.dir = operands.at[0];
        st = o.last ? show_last(&o, e) : read_and_show(&o, e);
    }
    vec_free(&operands);
    return st;
}

const struct command command_trace = { "trace", "where the time of traced steps went", trace_command };
