/* Columns of metrics.csv of some runs as curves over the steps. */
#ifndef PIPER_VIEW_CURVES_H
#define PIPER_VIEW_CURVES_H

#include "view/chart.h"
#include "view/run_metrics.h"

struct curves_run {
    const char *name;
    const struct run_metrics *metrics;
};
struct curves {
    const struct curves_run *runs; /* borrowed, as all */
    uint32_t n;
};
struct curve_chart {
    struct chart chart;
    struct chart_series *series; /* owned, with their numbers */
};
/* One curve a run of a column; loss with the evaluations as dots. title is borrowed. */
void curve_make(const struct curves *c, const char *title, const char *column, bool from_zero, struct curve_chart *out);
void curve_release(struct curve_chart *c);

#endif
