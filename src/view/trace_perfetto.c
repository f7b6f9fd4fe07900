/* The JSON trace event format, as ui.perfetto.dev and chrome://tracing read it: times in microseconds. */
#include <math.h>

#include "view/trace_files.h"
#include "view/trace_words.h"

static double us(int64_t ns)
{
    return 1e-3 * (double)ns;
}

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

/* ---- ranks: a process each, with a thread for each track ----------------------------------------------------------- */

static void print_track(FILE *f, const struct trace_walk *w, uint32_t i, const char *comma)
{
    const struct trace_track *track = &w->tracks.at[i];
    char name[TRACE_TRACK_NAME];
    if (!i || track[-1].rank != track->rank)
        fprintf(f, "%s{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_name\",\"args\":{\"name\":\"rank %u\"}}", comma,
                track->rank, track->rank);
    fprintf(f, ",\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":", track->rank, i);
    trace_track_name(track, name);
    print_string(f, name);
    fprintf(f, "}},\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%u}}",
            track->rank, i, i);
}

static void print_slice(FILE *f, const struct trace_walk *w, uint32_t track, const struct trace_slice *s)
{
    const struct trace_event *ev = trace_walk_event(w, s);
    const struct trace_instruction *in = trace_walk_instruction(w, s);
    fprintf(f, ",\n{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"cat\":\"%s\",\"name\":",
            w->tracks.at[track].rank, track, us(s->begin), us(s->end - s->begin),
            trace_is_communication(ev) ? "communication" : "compute");
    print_string(f, in->name);
    fprintf(f, ",\"args\":{\"step\":%llu,\"tags\":", (unsigned long long)ev->step);
    print_string(f, in->tags);
    if (ev->bytes)
        fprintf(f, ",\"bytes\":%llu", (unsigned long long)ev->bytes);
    if (trace_is_communication(ev))
        fprintf(f, ",\"waited_ms\":%.6g", 1e-6 * (double)(s->met - s->begin));
    if (in->predicted > 0)
        fprintf(f, ",\"predicted_ms\":%.6g", 1e3 * in->predicted);
    if (ev->group >= 0)
        fprintf(f, ",\"group\":%d,\"seq\":%u", ev->group, ev->seq);
    if (ev->peer >= 0)
        fprintf(f, ",\"peer\":%d", ev->peer);
    fputs("}}", f);
}

/* An arrow from a send to its receive: its ends lie where both were there. */
static void print_flow(FILE *f, const struct trace_walk *w, uint32_t track, const struct trace_slice *s)
{
    const struct trace_event *ev = trace_walk_event(w, s);
    const enum trace_kind kind = trace_kind_of(trace_walk_instruction(w, s)->name);
    const uint32_t match = w->views[s->view].match[s->event];
    if (!match || ev->peer < 0 || (kind != TRACE_SEND && kind != TRACE_RECEIVE))
        return;
    fprintf(f,
            ",\n{\"ph\":\"%s\",\"id\":%llu,\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"cat\":\"message\",\"name\":\"message\"}",
            kind == TRACE_SEND ? "s" : "f\",\"bp\":\"e", (unsigned long long)s->view << 32 | match,
            w->tracks.at[track].rank, track, us(s->met));
}

static void print_rank(FILE *f, const struct trace_walk *w, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++)
        print_track(f, w, i, i ? ",\n" : "");
    for (uint32_t i = first; i < end; i++)
        for (uint32_t k = 0; k < w->tracks.at[i].n; k++) {
            const struct trace_slice *s = &w->slices.at[w->tracks.at[i].first + k];
            print_slice(f, w, i, s);
            print_flow(f, w, i, s);
        }
}

/* ---- steps: a process of their own behind the ranks, with loss and speed ------------------------------------------- */

static void print_step(FILE *f, uint32_t process, uint32_t track, const struct trace_step *s)
{
    fprintf(f,
            ",\n{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"cat\":\"step\",\"name\":\"step %llu\"}",
            process, track, us(s->begin), us(s->end - s->begin), (unsigned long long)s->number);
    for (uint32_t c = 0; c < TRACE_COUNTERS; c++)
        if (isfinite(s->counters[c]))
            fprintf(f, ",\n{\"ph\":\"C\",\"pid\":%u,\"ts\":%.3f,\"name\":\"%s\",\"args\":{\"%s\":%.9g}}", process,
                    us(s->begin), trace_counters[c], trace_counters[c], s->counters[c]);
}

static void print_steps(FILE *f, const struct trace_walk *w)
{
    uint32_t process = 0;
    for (uint32_t k = 0; k < w->n_views; k++)
        process = w->views[k].t.n_ranks > process ? (uint32_t)w->views[k].t.n_ranks : process;
    if (w->steps.n)
        fprintf(f,
                ",\n{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_name\",\"args\":{\"name\":\"training\"}}"
                ",\n{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_sort_index\",\"args\":{\"sort_index\":-1}}"
                ",\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":\"steps\"}}",
                process, process, process, w->tracks.n);
    for (uint32_t i = 0; i < w->steps.n; i++)
        print_step(f, process, w->tracks.n, &w->steps.at[i]);
}

void trace_perfetto(const struct trace_walk *w, FILE *f)
{
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", f);
    for (uint32_t first = 0, end; first < w->tracks.n; first = end) {
        for (end = first + 1; end < w->tracks.n && w->tracks.at[end].rank == w->tracks.at[first].rank;)
            end++;
        print_rank(f, w, first, end);
    }
    print_steps(f, w);
    fputs("\n]}\n", f);
}
