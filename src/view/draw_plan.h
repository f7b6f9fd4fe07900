/* A step of a compiled job as a picture, in the unit times of sched/cost/timeline.h. */
#ifndef PIPER_DRAW_PLAN_H
#define PIPER_DRAW_PLAN_H

#include <stdbool.h>
#include <stdio.h>

#include "ir/graph.h"
#include "ir/plan.h"

/* A row for each place of the pipeline: the ranks that are replica 0 of a stage. plans[i] is the view of class i. */
void draw_plan_svg(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g, FILE *to);
/* The same in predicted times. */
struct simulate_input;
void draw_simulated_svg(const struct simulate_input *in, FILE *to);
/* For a terminal: a heading, and the rows where they fit into 120 columns. Communication takes no time here. */
void draw_plan_text(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g, bool colour, FILE *to);

#endif
