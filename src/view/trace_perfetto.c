/* The JSON trace event format, as ui.perfetto.dev and chrome://tracing read it: times in microseconds. */
#include <math.h>
#include <stdlib.h>

#include "view/trace_summary.h"

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

/* A process a rank, a thread a stream; only of ranks that have events. */
static void print_tracks(FILE *f, const struct trace *t, const char **comma)
{
    bool *seen = mem_alloc(t->n_ranks + 1), *named = mem_alloc(t->n_ranks + 1);
    for (uint64_t i = 0; i < t->n_events; i++)
        seen[trace_rank_of(t, &t->events[i])] = true;
    for (uint32_t i = 0; i < t->n_locations; i++) {
        uint32_t rank = t->locations[i].rank;
        if (!seen[rank])
            continue;
        if (!named[rank])
            fprintf(f, "%s{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_name\",\"args\":{\"name\":\"rank %u\"}}", *comma,
                    rank, rank);
        named[rank] = true;
        *comma = ",\n";
        fprintf(f, ",\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":", rank, i);
        print_string(f, t->streams[t->locations[i].stream]);
        fprintf(f,
                "}},\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%u}}",
                rank, i, i);
    }
    mem_free(seen);
    mem_free(named);
}

/* An arrow from a send to its receive: its ends lie where both were there. */
static void print_flow(FILE *f, const struct trace_view *v, uint64_t i, unsigned long long id)
{
    const struct trace_event *ev = &v->t.events[i];
    const char *name = v->t.instructions[ev->instruction].name;
    bool sends = strncmp(name, "send", 4) == 0;
    if (!v->match[i] || ev->peer < 0 || (!sends && strncmp(name, "receive", 7) != 0))
        return;
    fprintf(f,
            ",\n{\"ph\":\"%s\",\"id\":%llu,\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"cat\":\"message\",\"name\":\"message\"}",
            sends ? "s" : "f\",\"bp\":\"e", id, trace_rank_of(&v->t, ev), ev->location, 1e6 * v->met[i]);
}

static void print_event(FILE *f, const struct trace_view *v, uint64_t i)
{
    const struct trace *t = &v->t;
    const struct trace_event *ev = &t->events[i];
    const struct trace_instruction *in = &t->instructions[ev->instruction];
    fprintf(f, ",\n{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"cat\":\"%s\",\"name\":",
            trace_rank_of(t, ev), ev->location, 1e6 * ev->t, 1e6 * ev->dur,
            trace_is_communication(ev) ? "communication" : "compute");
    print_string(f, in->name);
    fprintf(f, ",\"args\":{\"step\":%llu,\"tags\":", (unsigned long long)ev->step);
    print_string(f, in->tags);
    if (ev->bytes)
        fprintf(f, ",\"bytes\":%llu", (unsigned long long)ev->bytes);
    if (trace_is_communication(ev))
        fprintf(f, ",\"waited_ms\":%.6g", 1e3 * (v->met[i] - ev->t));
    if (in->predicted > 0)
        fprintf(f, ",\"predicted_ms\":%.6g", 1e3 * in->predicted);
    if (ev->group >= 0)
        fprintf(f, ",\"group\":%d,\"seq\":%u", ev->group, ev->seq);
    if (ev->peer >= 0)
        fprintf(f, ",\"peer\":%d", ev->peer);
    fputs("}}", f);
}

struct place {
    uint32_t location;
    double t;
    uint64_t event;
};

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->location != y->location)
        return x->location < y->location ? -1 : 1;
    if (x->t != y->t)
        return x->t < y->t ? -1 : 1;
    return (x->event > y->event) - (x->event < y->event);
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

struct step {
    uint64_t number;
    double begin, end;
};
struct steps {
    VEC(struct step);
};

/* From the first event of a step on any rank to the last end. */
static void find_steps(const struct trace_view *views, uint32_t n, struct steps *s)
{
    for (uint32_t k = 0; k < n; k++)
        for (uint64_t i = 0; i < views[k].t.n_events; i++) {
            const struct trace_event *ev = &views[k].t.events[i];
            uint32_t at = s->n;
            while (at > 0 && s->at[at - 1].number != ev->step)
                at--;
            if (at == 0) {
                vec_add(s, ((struct step){ ev->step, ev->t, ev->t + ev->dur }));
                continue;
            }
            struct step *step = &s->at[at - 1];
            step->begin = ev->t < step->begin ? ev->t : step->begin;
            step->end = ev->t + ev->dur > step->end ? ev->t + ev->dur : step->end;
        }
}

/* A number of metrics.csv over the time of its step. */
static void print_counter(FILE *f, uint32_t process, const struct step *step, const struct run_metrics *m,
                          const char *name)
{
    const uint32_t column = run_metrics_find(m, name), steps = run_metrics_find(m, "step");
    for (uint32_t i = 0; i < run_metrics_rows(m); i++) {
        const double value = run_metrics_cell(m, i, column);
        if (run_metrics_cell(m, i, steps) == (double)step->number && isfinite(value))
            fprintf(f, ",\n{\"ph\":\"C\",\"pid\":%u,\"ts\":%.3f,\"name\":\"%s\",\"args\":{\"%s\":%.9g}}", process,
                    1e6 * step->begin, name, name, value);
    }
}

/* A process of its own behind those of the ranks: the steps, and loss and speed. */
static void print_steps(FILE *f, const struct trace_view *views, uint32_t n, const struct run_metrics *m)
{
    struct steps steps = { 0 };
    uint32_t process = 0, track = 0;
    for (uint32_t k = 0; k < n; k++) {
        process = views[k].t.n_ranks > process ? (uint32_t)views[k].t.n_ranks : process;
        track = views[k].t.n_locations > track ? (uint32_t)views[k].t.n_locations : track;
    }
    find_steps(views, n, &steps);
    if (steps.n)
        fprintf(f,
                ",\n{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_name\",\"args\":{\"name\":\"training\"}}"
                ",\n{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_sort_index\",\"args\":{\"sort_index\":-1}}"
                ",\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":\"steps\"}}",
                process, process, process, track);
    for (uint32_t i = 0; i < steps.n; i++) {
        const struct step *s = &steps.at[i];
        fprintf(
            f,
            ",\n{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"cat\":\"step\",\"name\":\"step %llu\"}",
            process, track, 1e6 * s->begin, 1e6 * (s->end - s->begin), (unsigned long long)s->number);
        print_counter(f, process, s, m, "loss");
        print_counter(f, process, s, m, "tokens_per_second");
    }
    vec_free(&steps);
}

void trace_perfetto(const struct trace_view *views, uint32_t n, const struct run_metrics *m, FILE *f)
{
    const char *comma = "";
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", f);
    for (uint32_t k = 0; k < n; k++) {
        const struct trace *t = &views[k].t;
        struct place *places = mem_alloc((t->n_events + 1) * sizeof *places);
        print_tracks(f, t, &comma);
        for (uint64_t i = 0; i < t->n_events; i++)
            places[i] = (struct place){ t->events[i].location, t->events[i].t, i };
        qsort(places, t->n_events, sizeof *places, by_place);
        for (uint64_t i = 0; i < t->n_events; i++) {
            uint64_t event = places[i].event;
            print_event(f, &views[k], event);
            print_flow(f, &views[k], event, (unsigned long long)k << 32 | views[k].match[event]);
        }
        mem_free(places);
    }
    print_steps(f, views, n, m);
    fputs("\n]}\n", f);
}
