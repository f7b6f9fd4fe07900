#include "view/trace_view.h"

#include <stdlib.h>

#include "view/trace_words.h"

/* An end of a communication. Equal but for the event: the same communication. */
struct end {
    uint64_t step;
    int64_t group;     /* -1: between two ranks */
    uint32_t from, to; /* those; of an exchange the lower rank first */
    uint32_t seq, event;
};

static int compare_keys(const struct end *a, const struct end *b)
{
    if (a->step != b->step)
        return a->step < b->step ? -1 : 1;
    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->to != b->to)
        return a->to < b->to ? -1 : 1;
    return (a->seq > b->seq) - (a->seq < b->seq);
}

static int compare_ends(const void *x, const void *y)
{
    const struct end *a = x, *b = y;
    int c = compare_keys(a, b);
    return c ? c : (a->event > b->event) - (a->event < b->event);
}

static struct end end_of(const struct trace *t, uint32_t i)
{
    const struct trace_event *ev = &t->events[i];
    struct end end = { .step = ev->step, .group = ev->group, .seq = ev->seq, .event = i };
    if (ev->group >= 0)
        return end;
    const enum trace_kind kind = trace_kind_of(t->instructions[ev->instruction].name);
    uint32_t me = trace_rank_of(t, ev), peer = (uint32_t)ev->peer;
    end.from = kind == TRACE_SEND || (kind != TRACE_RECEIVE && me < peer) ? me : peer;
    end.to = end.from == me ? peer : me;
    return end;
}

/* Ends first .. first+n-1 are one communication. */
static void meet(struct trace_view *v, const struct end *ends, uint32_t n, uint32_t number)
{
    double all = v->t.events[ends->event].t;
    for (uint32_t i = 1; i < n; i++)
        all = v->t.events[ends[i].event].t > all ? v->t.events[ends[i].event].t : all;
    for (uint32_t i = 0; i < n; i++) {
        const struct trace_event *ev = &v->t.events[ends[i].event];
        double last = ev->t + ev->dur;
        v->match[ends[i].event] = n > 1 ? number : 0;
        v->met[ends[i].event] = all < last ? all : last; /* clocks are not known better than that */
    }
}

static void match_ends(struct trace_view *v)
{
    struct {
        VEC(struct end);
    } ends = { 0 };
    for (uint32_t i = 0; i < v->t.n_events; i++) {
        v->met[i] = v->t.events[i].t;
        if (trace_is_communication(&v->t.events[i]))
            vec_add(&ends, end_of(&v->t, i));
    }
    if (ends.n)
        qsort(ends.at, ends.n, sizeof *ends.at, compare_ends);
    for (uint32_t i = 0, number = 0, n; i < ends.n; i += n) {
        for (n = 1; i + n < ends.n && compare_keys(&ends.at[i], &ends.at[i + n]) == 0;)
            n++;
        meet(v, &ends.at[i], n, ++number);
    }
    vec_free(&ends);
}

enum status trace_view_open(const struct dir *run, uint32_t segment, struct trace_view *v, struct err *e)
{
    *v = (struct trace_view){ 0 };
    TRY(trace_read_segment(run, segment, &v->t, e));
    v->met = mem_alloc((v->t.n_events + 1) * sizeof *v->met);
    v->match = mem_alloc((v->t.n_events + 1) * sizeof *v->match);
    match_ends(v);
    return ST_OK;
}

void trace_view_release(struct trace_view *v)
{
    mem_free(v->met);
    mem_free(v->match);
    trace_release(&v->t);
}

void trace_view_select(struct trace_view *v, bool (*keep)(const void *self, uint32_t rank, uint64_t step),
                       const void *self)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < v->t.n_events; i++) {
        const struct trace_event *ev = &v->t.events[i];
        if (!keep(self, trace_rank_of(&v->t, ev), ev->step))
            continue;
        v->t.events[n] = *ev;
        v->met[n] = v->met[i];
        v->match[n++] = v->match[i];
    }
    v->t.n_events = n;
}
