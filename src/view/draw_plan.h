/* A step of a compiled job as a picture, in the unit times of sched/cost/timeline.h. */
#ifndef PIPER_DRAW_PLAN_H
#define PIPER_DRAW_PLAN_H

#include <stdbool.h>
#include <stdio.h>

#include "ir/graph.h"
#include "ir/plan.h"
#include "view/draw.h"

/* A row for each place of the pipeline: the ranks that are replica 0 of a stage. plans[i] is the view of class i. */
void draw_plan_svg(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g, const struct draw_view *view,
                   FILE *to);
/* The same in predicted times. */
struct simulate_input;
void draw_simulated_svg(const struct simulate_input *in, const struct draw_view *view, FILE *to);
/* For a terminal: a heading, and the rows where they fit. Communication takes no time here. */
struct draw_terminal {
    uint32_t columns;
    bool colour;
};
void draw_plan_text(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g,
                    const struct draw_terminal *terminal, FILE *to);

#endif
