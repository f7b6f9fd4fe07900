/* Where the time of traced steps went. */
#ifndef PIPER_TRACE_SUMMARY_H
#define PIPER_TRACE_SUMMARY_H

#include <stdbool.h>
#include <stdio.h>

#include "io/trace.h"

/* Per rank, in time of a step on average: computing; communicating (at least one transfer under way); exposed: communicating
 * while nothing is computed; idle: neither. Then what took most. traces: n segments. */
void trace_summary(const struct trace *traces, uint32_t n, FILE *to);

static inline bool trace_is_communication(const struct trace_event *ev)
{
    return ev->group >= 0 || ev->peer >= 0;
}

#endif
