/* Traced steps as viewers show them: tracks, whose slices do not overlap, and above them the steps with what metrics.csv says
 * of them. Each format that piper trace writes goes over this once. Times are nanoseconds. */
#ifndef PIPER_TRACE_WALK_H
#define PIPER_TRACE_WALK_H

#include "view/run_metrics.h"
#include "view/trace_view.h"

struct trace_slice {
    int64_t begin, end, met; /* met: as in struct trace_view */
    uint32_t view, event;
};
/* A stream of a rank. Where slices of a stream overlap, those that find no room on its first track are on further ones. */
struct trace_track {
    uint32_t rank, number; /* number: 0 is the first of its stream */
    const char *stream, *device, *host;
    uint32_t first, n; /* slices, by begin */
};
/* Numbers of metrics.csv that are shown with a step. */
enum { TRACE_COUNTERS = 2 };
extern const char *const trace_counters[TRACE_COUNTERS];
/* From the first event of a step on any rank to the last, or to where the next step begins. */
struct trace_step {
    uint32_t launch;
    uint64_t number;
    int64_t begin, end;
    double counters[TRACE_COUNTERS]; /* NAN: unknown */
};

struct trace_walk {
    const struct trace_view *views; /* borrowed */
    uint32_t n_views;
    /* By view. A run that was resumed has several launches, each with clocks and groups of its own: they follow each other. */
    uint32_t *launch;
    struct {
        VEC(struct trace_slice);
    } slices;
    struct {
        VEC(struct trace_track); /* by rank; the first of a rank is that of its compute stream */
    } tracks;
    struct {
        VEC(struct trace_step); /* by begin */
    } steps;
    struct arena arena;
    int64_t begin, end; /* of all slices */
    int64_t epoch;      /* nanoseconds of UTC at time 0, from 1970, to a second or so; -1: unknown */
};

/* Ends with trace_walk_release. Views without events are allowed. */
void trace_walk_make(const struct trace_view *views, uint32_t n, const struct run_metrics *m, struct trace_walk *w);
void trace_walk_release(struct trace_walk *w);

static inline const struct trace_event *trace_walk_event(const struct trace_walk *w, const struct trace_slice *s)
{
    return &w->views[s->view].t.events[s->event];
}
static inline const struct trace_instruction *trace_walk_instruction(const struct trace_walk *w,
                                                                     const struct trace_slice *s)
{
    return &w->views[s->view].t.instructions[trace_walk_event(w, s)->instruction];
}

/* "pp.f0-1", "pp.f0-1 (2)" */
enum { TRACE_TRACK_NAME = 256 };
void trace_track_name(const struct trace_track *track, char name[TRACE_TRACK_NAME]);

#endif
