#include "view/live.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"

/* ---- what the log says ------------------------------------------------------------------------------------------ */

void live_open(struct live *l, const struct dir *dir)
{
    *l = (struct live){ .log = { .dir = dir, .name = "log.txt" }, .silent = -1, .checkpoint = UINT64_MAX };
    run_metrics_open(&l->metrics, dir);
}

void live_release(struct live *l)
{
    run_metrics_release(&l->metrics);
    follow_release(&l->log);
}

static void log_again(void *self)
{
    struct live *l = self;
    l->n_lines = l->last_line = 0;
    l->job[0] = l->ranks[0] = l->memory[0] = '\0';
    l->steps = 0;
}

static void copy_text(char to[LIVE_TEXT], const char *text)
{
    snprintf(to, LIVE_TEXT, "%.*s", LIVE_TEXT - 1, text);
}

static void log_line_read(void *self, uint64_t at, char *line)
{
    struct live *l = self;
    text_printable(line);
    const char *text = line + follow_time(line), *part;
    if (strncmp(text, "job ", 4) == 0 && (part = strstr(text, ", steps to "))) {
        copy_text(l->job, text + 4);
        l->steps = strtoull(part + strlen(", steps to "), NULL, 10);
    } else if (strncmp(text, "device: ", 8) == 0 && (part = strstr(text, "memory per rank: "))) {
        copy_text(l->memory, part);
    } else if (*text >= '0' && *text <= '9' && (strstr(text, " ranks (") || strstr(text, " rank ("))) {
        copy_text(l->ranks, text);
    }
    if (l->n_lines && at == l->last_line) /* the last one comes a second time */
        l->n_lines--;
    l->last_line = at;
    copy_text(l->lines[l->n_lines++ % LIVE_LOG], text);
}

enum status live_read(struct live *l, struct err *e)
{
    TRY(run_metrics_read(&l->metrics, e));
    return follow_read(&l->log, log_again, log_line_read, l, e);
}

/* ---- lines ------------------------------------------------------------------------------------------------------ */

struct page {
    const struct live_screen *s;
    const char *end;
    FILE *to;
    uint32_t rows; /* written */
};

static bool has_room(const struct page *p, uint32_t rows)
{
    return p->s->rows == 0 || p->rows + rows <= p->s->rows;
}

/* A line, cut to the screen; colour: of SGR, "": none. */
static void put_line(struct page *p, const char *colour, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void put_line(struct page *p, const char *colour, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (!has_room(p, 1))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const bool coloured = p->s->colour && *colour;
    fprintf(p->to, "%s%s%s%.*s%s%s", coloured ? "\033[" : "", coloured ? colour : "", coloured ? "m" : "",
            (int)p->s->columns, text, coloured ? "\033[0m" : "", p->end);
    p->rows++;
}

/* 1234567 as "1,234,567". */
static const char *grouped(double x, char text[40])
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.0f", x);
    size_t n = strlen(digits), k = 0;
    for (size_t i = 0; i < n && k < 38; i++) {
        if (i && (n - i) % 3 == 0 && digits[i - 1] != '-')
            text[k++] = ',';
        text[k++] = digits[i];
    }
    text[k] = '\0';
    return text;
}

/* Of the last rows of a column, those that are numbers. */
static double mean_of_last(const struct run_metrics *m, uint32_t column, uint32_t rows)
{
    const uint32_t n = run_metrics_rows(m);
    double sum = 0, count = 0;
    for (uint32_t i = n > rows ? n - rows : 0; i < n; i++) {
        const double x = run_metrics_cell(m, i, column);
        if (isfinite(x)) {
            sum += x;
            count++;
        }
    }
    return count > 0 ? sum / count : (double)NAN;
}

/* ---- the curve of the loss ------------------------------------------------------------------------------------------ */

enum { LABEL = 9 }; /* columns left of it */

struct curve {
    uint32_t columns, rows; /* of dots */
    double *mean;           /* [columns] NAN: no row falls there */
    double least, most;
};

/* Rows of steps are spread over the columns: of those in one column the mean counts, one may have several columns. */
static void fill_curve(struct curve *c, const struct run_metrics *m, uint32_t column)
{
    const uint32_t n = run_metrics_rows(m);
    c->least = INFINITY;
    c->most = -INFINITY;
    for (uint32_t i = 0; i < c->columns; i++) {
        double sum = 0, count = 0;
        const uint32_t first = (uint32_t)((uint64_t)n * i / c->columns),
                       end = (uint32_t)((uint64_t)n * (i + 1) / c->columns);
        for (uint32_t k = first; k < end || k == first; k++)
            if (isfinite(run_metrics_cell(m, k, column))) {
                sum += run_metrics_cell(m, k, column);
                count++;
            }
        c->mean[i] = count > 0 ? sum / count : (double)NAN;
        if (count > 0) {
            c->least = fmin(c->least, c->mean[i]);
            c->most = fmax(c->most, c->mean[i]);
        }
    }
}

/* The dot of a column, from the top. */
static uint32_t dot(const struct curve *c, uint32_t i)
{
    const double height = c->most > c->least ? (c->mean[i] - c->least) / (c->most - c->least) : 0.5;
    return (uint32_t)lround((1 - height) * (c->rows - 1));
}

/* U+2800 + its dots: 2 columns by 4 rows of them. */
static void put_braille(const struct curve *c, uint32_t x, uint32_t y, FILE *to)
{
    static const unsigned char bits[2][4] = { { 0x01, 0x02, 0x04, 0x40 }, { 0x08, 0x10, 0x20, 0x80 } };
    unsigned cell = 0;
    for (uint32_t i = 0; i < 2; i++)
        if (!isnan(c->mean[2 * x + i]) && dot(c, 2 * x + i) / 4 == y)
            cell |= bits[i][dot(c, 2 * x + i) % 4];
    fprintf(to, "\342%c%c", 0xa0 | (int)(cell >> 6), 0x80 | (int)(cell & 0x3f));
}

static void put_curve(struct page *p, const struct run_metrics *m, uint32_t rows)
{
    const uint32_t columns = p->s->columns - LABEL, column = run_metrics_find(m, "loss");
    const bool braille = p->s->braille;
    struct curve c = { .columns = columns * (braille ? 2 : 1), .rows = rows * (braille ? 4 : 1) };
    c.mean = mem_alloc(c.columns * sizeof *c.mean);
    fill_curve(&c, m, column);
    for (uint32_t y = 0; y < rows && c.least <= c.most; y++) {
        if (y == 0 || y == rows - 1)
            fprintf(p->to, "%8.4g ", y ? c.least : c.most);
        else
            fprintf(p->to, "%*s", LABEL, y == rows / 2 && LABEL > 5 ? "loss " : "");
        for (uint32_t x = 0; x < columns; x++)
            if (braille)
                put_braille(&c, x, y, p->to);
            else
                fputc(!isnan(c.mean[x]) && dot(&c, x) == y ? '*' : ' ', p->to);
        fputs(p->end, p->to);
        p->rows++;
    }
    mem_free(c.mean);
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

static void put_progress(struct page *p, const struct live *l)
{
    const struct run_metrics *m = &l->metrics;
    const uint32_t n = run_metrics_rows(m);
    const double step = run_metrics_cell(m, n - 1, run_metrics_find(m, "step"));
    const double seconds = mean_of_last(m, run_metrics_find(m, "step_seconds"), 100);
    char bar[96] = "", left[48] = "", time[DURATION_BYTES];
    if (l->steps && step <= (double)l->steps) {
        const double part = step / (double)l->steps;
        const int width = p->s->columns >= 70 ? 30 : 10, full = (int)(part * width);
        snprintf(bar, sizeof bar, "  [%.*s%.*s] ", full, "########################################", width - full,
                 "........................................");
        if (l->running && step < (double)l->steps && isfinite(seconds))
            snprintf(left, sizeof left, "  %s left", duration_write(seconds * ((double)l->steps - step), time));
    }
    if (l->steps)
        put_line(p, "1", "step %.0f/%" PRIu64 "%s%.0f%%%s", step, l->steps, *bar ? bar : " ",
                 fmin(100 * step / (double)l->steps, 100), left);
    else
        put_line(p, "1", "step %.0f", step);
}

static void put_numbers(struct page *p, const struct live *l)
{
    const struct run_metrics *m = &l->metrics;
    const uint32_t last = run_metrics_rows(m) - 1;
#define LAST(name) run_metrics_cell(m, last, run_metrics_find(m, name))
    char speed[40], mean[40], mfu[40] = "", lost[64] = "";
    put_line(p, "", "loss %.4f  grad_norm %.3g  lr %.4g", LAST("loss"), LAST("grad_norm"), LAST("lr"));
    if (isfinite(LAST("mfu")))
        snprintf(mfu, sizeof mfu, "  mfu %.1f%%", 100 * LAST("mfu"));
    if (LAST("dropped_tokens") > 0)
        snprintf(lost, sizeof lost, "  %s tokens dropped", grouped(LAST("dropped_tokens"), mean));
    put_line(p, "", "%s tokens/s (mean of 100 steps %s)  step %.4g s%s%s", grouped(LAST("tokens_per_second"), speed),
             grouped(mean_of_last(m, run_metrics_find(m, "tokens_per_second"), 100), mean), LAST("step_seconds"), mfu,
             lost);
#undef LAST
}

/* The newest evaluation, and the newest checkpoint. */
static void put_events(struct page *p, const struct live *l)
{
    const struct run_metrics *m = &l->metrics;
    const uint32_t column = run_metrics_find(m, "eval_loss");
    char evaluation[96] = "", kept[96] = "no checkpoint yet", age[DURATION_BYTES];
    for (uint32_t i = run_metrics_rows(m); i-- > 0;)
        if (isfinite(run_metrics_cell(m, i, column))) {
            snprintf(evaluation, sizeof evaluation, "eval_loss %.4f at step %.0f  ", run_metrics_cell(m, i, column),
                     run_metrics_cell(m, i, run_metrics_find(m, "step")));
            break;
        }
    if (l->checkpoint != UINT64_MAX)
        snprintf(kept, sizeof kept, "checkpoint of step %" PRIu64 ", %s ago", l->checkpoint,
                 duration_write(l->checkpoint_age, age));
    put_line(p, "", "%s%s", evaluation, kept);
}

static void put_log(struct page *p, const struct live *l, uint32_t lines)
{
    const uint64_t first = l->n_lines > lines ? l->n_lines - lines : 0;
    for (uint64_t i = first; i < l->n_lines; i++)
        put_line(p, "2", "%s", l->lines[i % LIVE_LOG]);
}

void live_draw(const struct live *l, const struct live_screen *s, const char *end, FILE *to)
{
    enum { LEAST_CURVE = 3, MOST_CURVE = 16, LOG = 4 };
    struct page p = { .s = s, .end = end, .to = to };
    const uint32_t rows = run_metrics_rows(&l->metrics);
    char silent[DURATION_BYTES];
    put_line(&p, l->failed ? "1;31" : l->running ? "1;32" : "1", "%s: %s", l->name, l->state);
    if (l->job[0])
        put_line(&p, "", "%s", l->job);
    if (l->ranks[0])
        put_line(&p, "", "%s", l->ranks);
    if (l->memory[0])
        put_line(&p, "", "%s", l->memory);
    if (rows) {
        put_progress(&p, l);
        put_numbers(&p, l);
    } else {
        put_line(&p, "", "no step yet");
    }
    put_events(&p, l);
    if (l->running && rows &&
        l->silent > 10 + 5 * mean_of_last(&l->metrics, run_metrics_find(&l->metrics, "step_seconds"), 100))
        put_line(&p, "1;33", "no new step for %s", duration_write(l->silent, silent));
    const uint32_t free_rows = s->rows ? s->rows - (p.rows < s->rows ? p.rows : s->rows) : MOST_CURVE + LOG;
    if (rows > 1 && s->columns >= 2 * LABEL && free_rows >= LEAST_CURVE + LOG)
        put_curve(&p, &l->metrics, free_rows - LOG < MOST_CURVE ? free_rows - LOG : MOST_CURVE);
    put_log(&p, l, LOG);
}
