/* The events of one segment that were asked for, and what belongs together on several ranks. */
#ifndef PIPER_TRACE_VIEW_H
#define PIPER_TRACE_VIEW_H

#include <stdbool.h>

#include "io/trace.h"

struct trace_view {
    struct trace t;
    /* By event. met: when the last end of a communication was there, at least t and at most t+dur; before it an end waits for
     * the others. Other events: t. */
    double *met;
    /* The communication it is an end of, 1 and up, the same number on all ends; 0: none, or the only end there is. */
    uint32_t *match;
};

/* ST_MISSING, ST_INPUT as trace_read_segment. On success ends with trace_view_release. */
enum status trace_view_open(const struct dir *run, uint32_t segment, struct trace_view *v, struct err *e);
void trace_view_release(struct trace_view *v);
/* Keeps event i where keep(self, rank, step) is true. */
void trace_view_select(struct trace_view *v, bool (*keep)(const void *self, uint32_t rank, uint64_t step),
                       const void *self);

static inline bool trace_is_communication(const struct trace_event *ev)
{
    return ev->group >= 0 || ev->peer >= 0;
}
static inline uint32_t trace_rank_of(const struct trace *t, const struct trace_event *ev)
{
    return t->locations[ev->location].rank;
}

#endif
