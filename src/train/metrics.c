#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char header[] =
    "step,loss,grad_norm,lr,tokens,step_seconds,tokens_per_second,eval_loss,aux_loss,dropped_tokens,mfu,expert_load";
enum { EVAL_COLUMN = 7, COLUMNS = 12 };

static const char file_name[] = "metrics.csv";

static enum status cannot(const struct metrics *m, const char *what, struct err *e)
{
    char path[DIR_PATH];
    snprintf(path, sizeof path, "%.4000s/%s", m->dir->path, file_name);
    return err_set(e, ST_IO, path, "cannot be %s: %s", what, strerror(errno));
}

/* ---- columns behind the others ---------------------------------------------------------------------------------- */

static void column_name(const struct metrics_cell *c, char name[METRICS_NAME])
{
    if (c->kind == METRICS_ROUNDS)
        snprintf(name, METRICS_NAME, "overflow_rounds");
    else
        snprintf(name, METRICS_NAME, "%s.%.80s", c->kind == METRICS_SAMPLES ? "samples" : "eval_loss", c->of);
}

/* The number of an extra column; m->n_extra: there is none of that name. */
static uint32_t find_column(const struct metrics *m, const char *name)
{
    uint32_t i = 0;
    while (i < m->n_extra && strcmp(m->extra[i], name) != 0)
        i++;
    return i;
}

static void add_column(struct metrics *m, const char *name)
{
    if (find_column(m, name) == m->n_extra && m->n_extra < METRICS_EXTRA && *name && strlen(name) < METRICS_NAME)
        strcpy(m->extra[m->n_extra++], name);
}

/* Those of an earlier part of the run. */
static void take_columns(struct metrics *m, char *line)
{
    uint32_t i = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *save, *name = strtok_r(line, ",", &save); name; name = strtok_r(NULL, ",", &save))
        if (i++ >= COLUMNS)
            add_column(m, name);
}

static void put_header(const struct metrics *m, FILE *to)
{
    fputs(header, to);
    for (uint32_t i = 0; i < m->n_extra; i++)
        fprintf(to, ",%s", m->extra[i]);
    fputc('\n', to);
}

/* Where a cell of a row begins; NULL: the row ends before it. */
static char *find_cell(char *row, uint32_t column)
{
    for (uint32_t i = 0; row && i < column; i++) {
        row = strchr(row, ',');
        row = row ? row + 1 : NULL;
    }
    return row;
}

static void fill_cell(char row[METRICS_ROW], uint32_t column, const char *text)
{
    char *cell = find_cell(row, column), rest[METRICS_ROW];
    if (!cell || (*cell != ',' && *cell != '\n') || strlen(row) + strlen(text) >= METRICS_ROW)
        return;
    strcpy(rest, cell);
    strcpy(cell, text);
    strcat(cell, rest);
}

static void fill_extra(const struct metrics *m, char row[METRICS_ROW], const struct metrics_cell *c)
{
    char name[METRICS_NAME], text[32];
    column_name(c, name);
    uint32_t i = find_column(m, name);
    bool whole = fabs(c->value) < 1e15 && c->value == floor(c->value);
    snprintf(text, sizeof text, whole ? "%.0f" : "%.9g", c->value);
    if (i < m->n_extra)
        fill_cell(row, COLUMNS + i, text);
}

/* Empty cells up to the last column, where there are columns behind the usual ones. */
static void pad_row(const struct metrics *m, char row[METRICS_ROW])
{
    uint32_t n = 1;
    size_t end = strcspn(row, "\n");
    for (size_t i = 0; i < end; i++)
        n += row[i] == ',';
    for (; m->n_extra && n < COLUMNS + m->n_extra && end + 2 < METRICS_ROW; n++)
        row[end++] = ',';
    strcpy(row + end, "\n");
}

/* ---- going on with an earlier run's rows ---------------------------------------------------------------------- */

struct rows {
    FILE *from, *to;
    uint64_t last;      /* later ones are left out */
    char *newest;       /* [METRICS_ROW] the last that was not */
    uint64_t line, bad; /* lines read; the first that is damaged, 0: none */
};

/* A row of numbers. */
static bool is_row(const char *line, size_t n, uint64_t *step)
{
    char *end;
    if (n == 0 || n >= METRICS_ROW || line[n - 1] != '\n' || *line < '0' || *line > '9' ||
        strspn(line, "0123456789+-.eEnaif,") != n - 1)
        return false;
    errno = 0;
    *step = strtoull(line, &end, 10);
    return errno == 0 && *end == ',' && *step > 0;
}

/* Copies the rows of steps up to `last`. Columns that an older program did not write stay away from its rows, those behind the usual
 * ones are empty there. What is no row, or missing, before that step is damage; behind it a kill or a lost machine may have left anything. */
static void keep_rows(const struct metrics *m, struct rows *r)
{
    char *line = NULL;
    size_t room = 0;
    uint64_t step, before = 0;
    for (ssize_t n; (n = getline(&line, &room, r->from)) > 0;) {
        bool head = ++r->line == 1 && strncmp(line, "step,", 5) == 0;
        if (!head && r->line == 1)
            r->bad = 1;
        if (!head && is_row(line, (size_t)n, &step) && step > before && step <= r->last) {
            memcpy(r->newest, line, (size_t)n + 1);
            pad_row(m, r->newest);
            fputs(r->newest, r->to);
            before = step;
        } else if (!head && !r->bad && before < r->last) {
            r->bad = r->line;
        }
    }
    if (!r->bad && before < r->last) /* the end is missing */
        r->bad = r->line + 1;
    free(line);
}

/* What is to be a new file, of the header and what there is to keep. */
static enum status put_rows(struct metrics *m, struct rows *r, struct dir_new *new, struct err *e)
{
    int fd = fcntl(new->fd, F_DUPFD_CLOEXEC, 0);
    r->to = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!r->to)
        return cannot(m, "written", e);
    put_header(m, r->to);
    errno = 0;
    if (r->from)
        keep_rows(m, r);
    bool read = !r->from || !ferror(r->from);
    int why = errno;
    bool good = fflush(r->to) == 0 && !ferror(r->to);
    m->at = ftell(r->to);
    if (fclose(r->to) != 0 || !good)
        return cannot(m, "written", e);
    errno = why;
    return read ? ST_OK : cannot(m, "read", e);
}

/* The history is not lost because a disk has lost a part of it: the file stays, under another name. */
static enum status put_aside(struct metrics *m, const struct rows *r, struct err *e)
{
    char aside[DIR_NAME];
    TRY(dir_keep_aside(m->dir, file_name, "damaged", aside, e));
    snprintf(
        m->note, sizeof m->note,
        "warning: line %llu of metrics.csv is damaged or missing: the file is renamed to %s, its good rows are kept",
        (unsigned long long)r->bad, aside);
    return ST_OK;
}

static enum status open_old(struct metrics *m, struct rows *r, struct err *e)
{
    struct err why = { 0 };
    uint64_t bytes;
    bool there = false;
    int fd;
    if (r->last)
        TRY(dir_find(m->dir, file_name, &there, e));
    if (!there)
        return ST_OK;
    if (dir_read(m->dir, file_name, &fd, &bytes, &why) != ST_OK)
        return err_set(e, ST_IO, NULL, "%s", why.text);
    r->from = fdopen(fd, "r");
    CHECK(r->from);
    return ST_OK;
}

static enum status open_new(struct metrics *m, struct err *e)
{
    int fd;
    TRY(dir_change(m->dir, file_name, &fd, e));
    m->file = fdopen(fd, "r+");
    CHECK(m->file);
    return fseek(m->file, m->at, SEEK_SET) == 0 ? ST_OK : cannot(m, "written", e);
}

enum status metrics_has_rows(const struct dir *dir, bool *rows, struct err *e)
{
    struct metrics m = { .dir = dir };
    struct rows r = { .last = 1 };
    char line[METRICS_ROW];
    *rows = false;
    TRY(open_old(&m, &r, e));
    if (!r.from)
        return ST_OK;
    *rows = fgets(line, sizeof line, r.from) && fgets(line, sizeof line, r.from);
    bool good = !ferror(r.from);
    fclose(r.from);
    return good ? ST_OK : cannot(&m, "read", e);
}

/* What the file that was there has behind the usual columns, then what this run adds. */
static void choose_columns(struct metrics *m, const struct rows *r, const struct metrics_cell *columns, uint32_t n)
{
    char *line = NULL, name[METRICS_NAME];
    size_t room = 0;
    if (r->from && getline(&line, &room, r->from) > 0 && strncmp(line, "step,", 5) == 0)
        take_columns(m, line);
    free(line);
    if (r->from)
        rewind(r->from);
    for (uint32_t i = 0; i < n; i++) {
        column_name(&columns[i], name);
        add_column(m, name);
    }
}

enum status metrics_open(struct metrics *m, const struct dir *dir, uint64_t last, const struct metrics_cell *columns,
                         uint32_t n, struct err *e)
{
    struct rows r = { .last = last, .newest = m->row };
    struct dir_new new;
    *m = (struct metrics){ .dir = dir };
    TRY(open_old(m, &r, e));
    choose_columns(m, &r, columns, n);
    enum status st = dir_new_begin(dir, file_name, &new, e);
    if (st == ST_OK)
        st = put_rows(m, &r, &new, e);
    if (r.from)
        fclose(r.from);
    if (st == ST_OK && r.bad)
        st = put_aside(m, &r, e);
    if (st == ST_OK)
        st = dir_new_publish(&new, e);
    dir_new_drop(&new);
    return st == ST_OK ? open_new(m, e) : st;
}

enum status metrics_reopen(struct metrics *m, struct err *e)
{
    char aside[DIR_NAME];
    if (!m->file)
        return ST_OK;
    TRY(dir_restore(m->dir, file_name, fileno(m->file), aside, e));
    FILE *old = m->file;
    TRY(open_new(m, e));
    fclose(old);
    snprintf(m->note, sizeof m->note, "warning: metrics.csv was %s%s: it is recreated with all its rows",
             *aside ? "replaced by another file, now " : "removed", aside);
    return ST_OK;
}

bool metrics_is_there(const struct metrics *m)
{
    return !m->file || dir_leads_to(m->dir, file_name, fileno(m->file));
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

bool metrics_lacks_eval(const struct metrics *m, uint64_t step)
{
    char row[sizeof m->row];
    memcpy(row, m->row, sizeof row);
    const char *cell = find_cell(row, EVAL_COLUMN);
    return strtoull(row, NULL, 10) == step && cell && *cell == ',';
}

static enum status write_row(struct metrics *m, struct err *e)
{
    dir_guard(m->dir);
    fputs(m->row, m->file);
    return fflush(m->file) == 0 ? ST_OK : cannot(m, "written", e);
}

/* One call of the system: a run that is killed leaves the one row or the other. */
enum status metrics_add_eval(struct metrics *m, double eval_loss, const struct metrics_cell *cells, uint32_t n,
                             struct err *e)
{
    char row[sizeof m->row], text[32], *cell = find_cell(m->row, EVAL_COLUMN);
    if (!m->file || !cell || *cell != ',')
        return ST_OK;
    strcpy(row, m->row);
    snprintf(text, sizeof text, "%.9g", eval_loss);
    fill_cell(row, EVAL_COLUMN, text);
    for (uint32_t i = 0; i < n; i++)
        fill_extra(m, row, &cells[i]);
    m->at -= (long)strlen(m->row);
    if (fseek(m->file, m->at, SEEK_SET) != 0)
        return cannot(m, "written", e);
    strcpy(m->row, row);
    m->at += (long)strlen(row);
    return write_row(m, e);
}

/* "nan", not "-nan": the sign of a NaN means nothing. */
static double unsigned_nan(double x)
{
    return isnan(x) ? (double)NAN : x;
}

/* Empty where there is no number. */
static int write_cell(char *to, size_t size, double x, char end)
{
    return isnan(x) ? snprintf(to, size, "%c", end) : snprintf(to, size, "%.9g%c", x, end);
}

enum status metrics_write(struct metrics *m, const struct metrics_row *r, const struct metrics_cell *cells,
                          uint32_t n_cells, struct err *e)
{
    if (!m->file)
        return ST_OK;
    int n = snprintf(m->row, sizeof m->row, "%llu,%.9g,%.9g,%.9g,%llu,%.9g,%.9g,,%.9g,%llu,",
                     (unsigned long long)r->step, unsigned_nan(r->loss), unsigned_nan(r->grad_norm), r->lr,
                     (unsigned long long)r->tokens, r->step_seconds, r->tokens_per_second, unsigned_nan(r->aux_loss),
                     (unsigned long long)r->dropped_tokens);
    n += write_cell(m->row + n, sizeof m->row - (size_t)n, r->mfu, ',');
    write_cell(m->row + n, sizeof m->row - (size_t)n, r->expert_load, '\n');
    pad_row(m, m->row);
    for (uint32_t i = 0; i < n_cells; i++)
        fill_extra(m, m->row, &cells[i]);
    m->at += (long)strlen(m->row);
    return write_row(m, e);
}

enum status metrics_sync(const struct metrics *m, struct err *e)
{
    return !m->file || fsync(fileno(m->file)) == 0 ? ST_OK : cannot(m, "written", e);
}

enum status metrics_close(struct metrics *m, struct err *e)
{
    if (!m->file)
        return ST_OK;
    bool good = fflush(m->file) == 0 && fsync(fileno(m->file)) == 0;
    good = fclose(m->file) == 0 && good;
    m->file = NULL;
    return good ? ST_OK : cannot(m, "written", e);
}
