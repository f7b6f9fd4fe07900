/* Where the time of traced steps went. */
#ifndef PIPER_TRACE_SUMMARY_H
#define PIPER_TRACE_SUMMARY_H

#include <stdio.h>

#include "view/trace_view.h"

/* Per rank, in time of a step on average: computing; communicating (at least one transfer under way, all its ends there);
 * exposed: communicating while nothing is computed; idle: neither. Then what took most, whom collectives waited for, and
 * what missed its prediction. views: n segments. */
void trace_summary(const struct trace_view *views, uint32_t n, FILE *to);

#endif
