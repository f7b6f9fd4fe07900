/* Traced steps as a picture: what was measured, and under it what was expected, where the trace knows that. */
#ifndef PIPER_DRAW_TRACE_H
#define PIPER_DRAW_TRACE_H

#include <stdio.h>

#include "view/draw.h"
#include "view/trace_view.h"

/* A row for each rank that has events, its streams under it; communications from when all their ends were there. Of the last
 * step that has events, or of all of them one after the other. name: of the run, for the title. */
void draw_trace_svg(const struct trace_view *views, uint32_t n, bool all_steps, const char *name,
                    const struct draw_view *view, FILE *to);

#endif
