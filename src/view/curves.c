#include "view/curves.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static double *column_of(const struct run_metrics *m, const char *name)
{
    const uint32_t n = run_metrics_rows(m), column = run_metrics_find(m, name);
    double *values = mem_alloc((n + 1) * sizeof *values);
    for (uint32_t i = 0; i < n; i++)
        values[i] = run_metrics_cell(m, i, column);
    return values;
}

static void add_column(struct curve_chart *out, const struct curves *c, uint32_t run, const char *name,
                       const char *label)
{
    const struct run_metrics *m = c->runs[run].metrics;
    out->series[out->chart.n++] = (struct chart_series){ .label = label,
                                                         .colour = run,
                                                         .x = column_of(m, "step"),
                                                         .y = column_of(m, name),
                                                         .n = run_metrics_rows(m),
                                                         .points = strncmp(name, "eval_loss", 9) == 0 };
}

void curve_make(const struct curves *c, const char *title, const char *column, bool from_zero, struct curve_chart *out)
{
    const bool loss = strcmp(column, "loss") == 0, several = c->n > 1;
    *out = (struct curve_chart){ .chart = { .title = title, .x_label = "step", .from_zero = from_zero } };
    out->series = mem_alloc((2 * (size_t)c->n + 1) * sizeof *out->series);
    out->chart.series = out->series;
    for (uint32_t i = 0; i < c->n; i++)
        add_column(out, c, i, column, several ? c->runs[i].name : loss ? "training" : NULL);
    for (uint32_t i = 0; loss && i < c->n; i++)
        add_column(out, c, i, "eval_loss", several ? NULL : "evaluation");
}

void curve_release(struct curve_chart *c)
{
    for (uint32_t i = 0; i < c->chart.n; i++) {
        mem_free((void *)(uintptr_t)c->series[i].x);
        mem_free((void *)(uintptr_t)c->series[i].y);
    }
    mem_free(c->series);
}
