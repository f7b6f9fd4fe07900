#include "view/trace_walk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "view/text_table.h"

const char *const trace_counters[TRACE_COUNTERS] = { "loss", "tokens_per_second" };

static const int64_t second = 1000000000;

/* A trace of other times than these is damaged; it is shown nevertheless. */
static int64_t nanoseconds(double seconds)
{
    const double most = 1e8;
    return (int64_t)llround(1e9 * (seconds < -most ? -most : seconds > most ? most : seconds));
}

/* ---- launches ----------------------------------------------------------------------------------------------------- */

struct extent {
    int64_t begin, end;
};

static void include(struct extent *x, int64_t begin, int64_t end)
{
    x->begin = begin < x->begin ? begin : x->begin;
    x->end = end > x->end ? end : x->end;
}

static struct extent extent_of(const struct trace_view *v)
{
    struct extent x = { INT64_MAX, INT64_MIN };
    for (uint64_t i = 0; i < v->t.n_events; i++)
        include(&x, nanoseconds(v->t.events[i].t), nanoseconds(v->t.events[i].t + v->t.events[i].dur));
    return x;
}

/* What UTC was at time 0 of a segment's launch, if it was written as soon as its last event had ended; -1: unknown. */
static int64_t epoch_of(const struct trace_view *v, const struct extent *x)
{
    const int64_t most = 4000000000;
    return v->t.written < 0 || v->t.written > most || x->end > v->t.written * second ? -1
                                                                                     : v->t.written * second - x->end;
}

/* Where time 0 of each segment lies: that of the first launch is 0, that of a later one as much later as clocks say, and at
 * least so late that it begins behind the one before. */
static int64_t *place_launches(struct trace_walk *w)
{
    const int64_t latest = 8000000000 * second; /* so that no sum overflows */
    int64_t *shift = mem_alloc((w->n_views + 1) * sizeof *shift), end = INT64_MIN;
    w->epoch = -1;
    for (uint32_t k = 0, launch = 0, next; k < w->n_views; k = next, launch++) {
        struct extent all = { INT64_MAX, INT64_MIN };
        int64_t epoch = -1, at = 0;
        for (next = k; next < w->n_views && w->views[next].t.zero == w->views[k].t.zero; next++) {
            const struct extent x = extent_of(&w->views[next]);
            if (x.begin > x.end)
                continue;
            include(&all, x.begin, x.end);
            epoch = epoch < 0 ? epoch_of(&w->views[next], &x) : epoch;
        }
        if (all.begin <= all.end && end != INT64_MIN) {
            at = epoch > w->epoch && w->epoch >= 0 ? epoch - w->epoch : 0;
            at = all.begin + at < end ? end - all.begin : at;
            at = at > latest ? latest : at;
        }
        if (w->epoch < 0 && epoch >= at)
            w->epoch = epoch - at;
        end = all.begin <= all.end ? all.end + at : end;
        for (uint32_t i = k; i < next; i++) {
            w->launch[i] = launch;
            shift[i] = at;
        }
    }
    return shift;
}

/* ---- tracks --------------------------------------------------------------------------------------------------------- */

/* A slice on its way to a track. */
struct entry {
    uint32_t rank, stream, track; /* stream: number of its name; track: of its stream */
    uint32_t order;               /* on its track, once it has one */
    struct trace_slice slice;
};

static int by_track_and_time(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->stream != y->stream)
        return x->stream < y->stream ? -1 : 1;
    if (x->track != y->track)
        return x->track < y->track ? -1 : 1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    if (x->slice.begin != y->slice.begin)
        return x->slice.begin < y->slice.begin ? -1 : 1;
    if (x->slice.view != y->slice.view)
        return x->slice.view < y->slice.view ? -1 : 1;
    return (x->slice.event > y->slice.event) - (x->slice.event < y->slice.event);
}

static struct entry *list_entries(const struct trace_walk *w, const int64_t *shift, struct text_table *names, size_t n)
{
    struct entry *entries = mem_alloc((n + 1) * sizeof *entries), *next = entries;
    for (uint32_t k = 0; k < w->n_views; k++) {
        const struct trace_view *v = &w->views[k];
        uint32_t *streams = mem_alloc((v->t.n_streams + 1) * sizeof *streams);
        for (uint64_t i = 0; i < v->t.n_streams; i++)
            streams[i] = text_table_number(names, v->t.streams[i], strlen(v->t.streams[i]));
        for (uint32_t i = 0; i < v->t.n_events; i++) {
            const struct trace_event *ev = &v->t.events[i];
            *next++ = (struct entry){
                .rank = trace_rank_of(&v->t, ev),
                .stream = streams[v->t.locations[ev->location].stream],
                .slice = { shift[k] + nanoseconds(ev->t), shift[k] + nanoseconds(ev->t + ev->dur),
                           shift[k] + nanoseconds(v->met[i]), k, i },
            };
        }
        mem_free(streams);
    }
    qsort(entries, n, sizeof *entries, by_track_and_time);
    return entries;
}

/* Threads note one moment at slightly different times: what begins that much before the end of another one follows it. */
static bool follows(const struct trace_slice *s, int64_t end)
{
    const int64_t rounding = 2, near = 1000, overlap = end - s->begin;
    return overlap <= rounding || (overlap <= near && 4 * overlap <= s->end - s->begin);
}

/* Entries of one stream, by begin: each goes to its first track that has room. */
static void spread(struct entry *entries, size_t n)
{
    struct {
        VEC(int64_t);
    } ends = { 0 };
    for (size_t i = 0; i < n; i++) {
        struct entry *x = &entries[i];
        while (x->track < ends.n && !follows(&x->slice, ends.at[x->track]))
            x->track++;
        if (x->track == ends.n)
            vec_add(&ends, x->slice.begin);
        int64_t *end = &ends.at[x->track];
        x->order = (uint32_t)i;
        x->slice.begin = x->slice.begin < *end ? *end : x->slice.begin;
        x->slice.end = x->slice.end < x->slice.begin ? x->slice.begin : x->slice.end;
        x->slice.met = x->slice.met < x->slice.begin ? x->slice.begin : x->slice.met;
        *end = x->slice.end;
    }
    vec_free(&ends);
}

static bool same_stream(const struct entry *a, const struct entry *b)
{
    return a->rank == b->rank && a->stream == b->stream;
}

static void lay_out(struct trace_walk *w, const int64_t *shift)
{
    struct text_table names = { 0 };
    size_t n = 0, of_stream;
    for (uint32_t k = 0; k < w->n_views; k++)
        n += w->views[k].t.n_events;
    struct entry *entries = list_entries(w, shift, &names, n);
    for (size_t i = 0; i < n; i += of_stream) {
        for (of_stream = 1; i + of_stream < n && same_stream(&entries[i], &entries[i + of_stream]);)
            of_stream++;
        spread(&entries[i], of_stream);
    }
    qsort(entries, n, sizeof *entries, by_track_and_time);
    struct extent all = { INT64_MAX, INT64_MIN };
    for (size_t i = 0; i < n; i++) {
        const struct entry *x = &entries[i];
        if (!i || !same_stream(x, &entries[i - 1]) || x->track != entries[i - 1].track) {
            const struct trace *t = &w->views[x->slice.view].t;
            const struct trace_rank *rank = &t->ranks[x->rank];
            vec_add(&w->tracks, ((struct trace_track){ x->rank, x->track, arena_strdup(&w->arena, names.at[x->stream]),
                                                       rank->device, t->hosts[rank->host], (uint32_t)i, 0 }));
        }
        w->tracks.at[w->tracks.n - 1].n++;
        vec_add(&w->slices, x->slice);
        include(&all, x->slice.begin, x->slice.end);
    }
    w->begin = n ? all.begin : 0;
    w->end = n ? all.end : 0;
    mem_free(entries);
    text_table_release(&names);
}

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

static int by_begin(const void *a, const void *b)
{
    const struct trace_step *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

static void find_steps(struct trace_walk *w)
{
    for (uint32_t i = 0; i < w->slices.n; i++) {
        const struct trace_slice *s = &w->slices.at[i];
        const uint64_t number = trace_walk_event(w, s)->step;
        const uint32_t launch = w->launch[s->view];
        uint32_t at = w->steps.n;
        while (at > 0 && (w->steps.at[at - 1].number != number || w->steps.at[at - 1].launch != launch))
            at--;
        if (at == 0) {
            vec_add(&w->steps, ((struct trace_step){ launch, number, s->begin, s->end, { NAN, NAN } }));
            continue;
        }
        struct trace_step *step = &w->steps.at[at - 1];
        step->begin = s->begin < step->begin ? s->begin : step->begin;
        step->end = s->end > step->end ? s->end : step->end;
    }
    if (w->steps.n)
        qsort(w->steps.at, w->steps.n, sizeof *w->steps.at, by_begin);
    for (uint32_t i = 0; i + 1 < w->steps.n; i++) {
        struct trace_step *s = &w->steps.at[i];
        s->end = s->end > s[1].begin ? s[1].begin : s->end;
    }
}

/* A step that was repeated has the numbers that metrics.csv has last. */
static void find_counters(struct trace_walk *w, const struct run_metrics *m)
{
    const uint32_t column = run_metrics_find(m, "step");
    for (uint32_t c = 0; c < TRACE_COUNTERS; c++) {
        const uint32_t values = run_metrics_find(m, trace_counters[c]);
        for (uint32_t i = 0; i < run_metrics_rows(m); i++) {
            const double value = run_metrics_cell(m, i, values), number = run_metrics_cell(m, i, column);
            for (uint32_t k = 0; isfinite(value) && k < w->steps.n; k++)
                if ((double)w->steps.at[k].number == number)
                    w->steps.at[k].counters[c] = value;
        }
    }
}

void trace_walk_make(const struct trace_view *views, uint32_t n, const struct run_metrics *m, struct trace_walk *w)
{
    *w = (struct trace_walk){ .views = views, .n_views = n };
    arena_init(&w->arena);
    w->launch = mem_alloc((n + 1) * sizeof *w->launch);
    int64_t *shift = place_launches(w);
    lay_out(w, shift);
    find_steps(w);
    find_counters(w, m);
    mem_free(shift);
}

void trace_walk_release(struct trace_walk *w)
{
    mem_free(w->launch);
    vec_free(&w->slices);
    vec_free(&w->tracks);
    vec_free(&w->steps);
    arena_release(&w->arena);
    *w = (struct trace_walk){ 0 };
}

void trace_track_name(const struct trace_track *track, char name[TRACE_TRACK_NAME])
{
    if (track->number)
        snprintf(name, TRACE_TRACK_NAME, "%.200s (%u)", track->stream, track->number + 1);
    else
        snprintf(name, TRACE_TRACK_NAME, "%.200s", track->stream);
}
