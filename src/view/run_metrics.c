#include "view/run_metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void run_metrics_open(struct run_metrics *m, const struct dir *dir)
{
    *m = (struct run_metrics){ .file = { .dir = dir, .name = "metrics.csv" } };
}

void run_metrics_release(struct run_metrics *m)
{
    follow_release(&m->file);
    mem_free(m->names);
    vec_free(&m->cells);
    m->names = NULL;
    m->columns = 0;
}

static void begin_again(void *self)
{
    struct run_metrics *m = self;
    mem_free(m->names);
    m->names = NULL;
    m->columns = m->cells.n = 0;
    m->last = m->bad = 0;
}

static void take_names(struct run_metrics *m, char *line)
{
    text_printable(line);
    m->names = mem_strdup(line);
    m->columns = 1;
    for (char *at = m->names; (at = strchr(at, ',')); m->columns++)
        *at++ = '\0';
}

static double cell_of(const char *text, size_t n)
{
    char *end;
    const double x = n ? strtod(text, &end) : (double)NAN;
    return n && end == text + n ? x : (double)NAN;
}

static void take_row(struct run_metrics *m, const char *line)
{
    const uint32_t first = vec_grow(&m->cells, m->columns);
    double *to = &m->cells.at[first];
    for (uint32_t i = 0; i < m->columns; i++) {
        const size_t n = strcspn(line, ",");
        to[i] = cell_of(line, n);
        line += n + (line[n] == ',');
    }
}

static void take_line(void *self, uint64_t at, char *line)
{
    struct run_metrics *m = self;
    if (at == 0) {
        if (!m->columns)
            take_names(m, line);
    } else if (*line < '0' || *line > '9') {
        m->bad++;
    } else {
        if (at == m->last)
            m->cells.n -= m->columns;
        m->last = at;
        take_row(m, line);
    }
}

enum status run_metrics_read(struct run_metrics *m, struct err *e)
{
    return follow_read(&m->file, begin_again, take_line, m, e);
}

uint32_t run_metrics_rows(const struct run_metrics *m)
{
    return m->columns ? m->cells.n / m->columns : 0;
}

const char *run_metrics_name(const struct run_metrics *m, uint32_t column)
{
    const char *name = m->names;
    while (column--)
        name += strlen(name) + 1;
    return name;
}

uint32_t run_metrics_find(const struct run_metrics *m, const char *name)
{
    for (uint32_t i = 0; i < m->columns; i++)
        if (strcmp(run_metrics_name(m, i), name) == 0)
            return i;
    return UINT32_MAX;
}

double run_metrics_cell(const struct run_metrics *m, uint32_t row, uint32_t column)
{
    return column < m->columns ? m->cells.at[(size_t)row * m->columns + column] : (double)NAN;
}
