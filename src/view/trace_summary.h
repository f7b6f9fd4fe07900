/* Where the time of traced steps went. */
#ifndef PIPER_TRACE_SUMMARY_H
#define PIPER_TRACE_SUMMARY_H

#include <stdio.h>

#include "view/run_metrics.h"
#include "view/trace_view.h"

/* Per rank, in time of a step on average: computing; communicating (at least one transfer under way, all its ends there);
 * exposed: communicating while nothing is computed; idle: neither. Then what took most, whom collectives waited for, and
 * what missed its prediction. views: n segments. */
void trace_summary(const struct trace_view *views, uint32_t n, FILE *to);

/* The events as a file for a viewer, with the steps, and their loss and speed as the run's metrics have them. */
void trace_perfetto(const struct trace_view *views, uint32_t n, const struct run_metrics *m, FILE *to);

#endif
