#include "view/chart.h"

#include <math.h>
#include <stdbool.h>

#include "view/escape.h"

enum { WIDTH = 560, HEIGHT = 240, LEFT = 58, RIGHT = 12, TOP = 30, BOTTOM = 34, PLACES = 480 };

/* ---- axes ------------------------------------------------------------------------------------------------------- */

struct axis {
    double least, most, tick;
};

static void widen(struct axis *a, double x)
{
    a->least = fmin(a->least, x);
    a->most = fmax(a->most, x);
}

/* Ticks of 1, 2 or 5 by a power of ten, about `wanted` of them; the axis ends at ticks where it may. */
static void choose_ticks(struct axis *a, int wanted, bool whole)
{
    if (!(a->most > a->least)) {
        const double around = a->least != 0 ? 0.1 * fabs(a->least) : 1;
        a->least -= around;
        a->most += around;
    }
    const double raw = (a->most - a->least) / wanted, power = pow(10, floor(log10(raw))), digit = raw / power;
    a->tick = power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
    if (whole) {
        a->least = a->tick * floor(a->least / a->tick);
        a->most = a->tick * ceil(a->most / a->tick);
    }
}

static double place_x(const struct axis *x, double at)
{
    return LEFT + (at - x->least) / (x->most - x->least) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct axis *y, double at)
{
    return HEIGHT - BOTTOM - (at - y->least) / (y->most - y->least) * (HEIGHT - TOP - BOTTOM);
}

/* "12k", "0.001" */
static void put_number(FILE *to, double x)
{
    const double size = fabs(x);
    if (size >= 1e9)
        fprintf(to, "%.4gG", x / 1e9);
    else if (size >= 1e6)
        fprintf(to, "%.4gM", x / 1e6);
    else if (size >= 1e4)
        fprintf(to, "%.4gk", x / 1e3);
    else
        fprintf(to, "%.4g", size < 1e-12 ? 0 : x);
}

static void put_axes(const struct chart *c, const struct axis *x, const struct axis *y, FILE *to)
{
    for (double at = y->least; at <= y->most + y->tick / 2; at += y->tick) {
        fprintf(to,
                "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">",
                LEFT, WIDTH - RIGHT, place_y(y, at), place_y(y, at), LEFT - 6, place_y(y, at) + 4);
        put_number(to, at);
        fputs("</text>\n", to);
    }
    for (double at = x->tick * ceil(x->least / x->tick); at <= x->most; at += x->tick) {
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", place_x(x, at), HEIGHT - BOTTOM + 16);
        put_number(to, at);
        fputs("</text>\n", to);
    }
    fprintf(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", WIDTH - RIGHT, HEIGHT - 3);
    escape_text(to, c->x_label);
    fputs("</text>\n", to);
}

/* ---- curves ----------------------------------------------------------------------------------------------------- */

/* What falls on one place of the width. */
struct place {
    double x, least, most, sum;
    uint32_t n;
};

static uint32_t gather(const struct chart_series *s, const struct axis *x, struct place *places)
{
    uint32_t n = 0, last = UINT32_MAX;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!isfinite(s->y[i]) || !isfinite(s->x[i]))
            continue;
        const uint32_t at = (uint32_t)((s->x[i] - x->least) / (x->most - x->least) * (PLACES - 1));
        if (at != last)
            places[n++] = (struct place){ .least = s->y[i], .most = s->y[i] };
        last = at;
        struct place *p = &places[n - 1];
        p->x += s->x[i];
        p->sum += s->y[i];
        p->least = fmin(p->least, s->y[i]);
        p->most = fmax(p->most, s->y[i]);
        p->n++;
    }
    return n;
}

static void put_band(const struct place *p, uint32_t n, const struct chart_series *s, const struct axis *x,
                     const struct axis *y, FILE *to)
{
    bool wide = false;
    for (uint32_t i = 0; i < n; i++)
        wide = wide || p[i].n > 1;
    if (!wide)
        return;
    fprintf(to, "<path class=\"band\" fill=\"var(--c%u)\" d=\"", s->colour % CHART_COLOURS);
    for (uint32_t i = 0; i < n; i++)
        fprintf(to, "%c%.1f %.1f", i ? 'L' : 'M', place_x(x, p[i].x / p[i].n), place_y(y, p[i].most));
    for (uint32_t i = n; i-- > 0;)
        fprintf(to, "L%.1f %.1f", place_x(x, p[i].x / p[i].n), place_y(y, p[i].least));
    fputs("Z\"/>\n", to);
}

static void put_series(const struct chart_series *s, const struct axis *x, const struct axis *y, FILE *to)
{
    struct place p[PLACES + 1];
    const uint32_t n = gather(s, x, p), colour = s->colour % CHART_COLOURS;
    if (!s->points)
        put_band(p, n, s, x, y, to);
    if (n > 1 && !s->points) {
        fprintf(to, "<path class=\"curve\" stroke=\"var(--c%u)\" d=\"", colour);
        for (uint32_t i = 0; i < n; i++)
            fprintf(to, "%c%.1f %.1f", i ? 'L' : 'M', place_x(x, p[i].x / p[i].n), place_y(y, p[i].sum / p[i].n));
        fputs("\"/>\n", to);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        fprintf(to, "<circle class=\"dot\" fill=\"var(--c%u)\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", colour,
                place_x(x, p[i].x / p[i].n), place_y(y, p[i].sum / p[i].n));
}

static void put_legend(const struct chart *c, FILE *to)
{
    double at = LEFT;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct chart_series *s = &c->series[i];
        uint32_t length = 0;
        if (!s->label || !s->n)
            continue;
        while (s->label[length])
            length++;
        fprintf(to,
                "<rect x=\"%.0f\" y=\"%d\" width=\"10\" height=\"%d\" rx=\"%d\" fill=\"var(--c%u)\"/><text x=\"%.0f\" "
                "y=\"%d\">",
                at, s->points ? TOP - 16 : TOP - 13, s->points ? 10 : 4, s->points ? 5 : 0, s->colour % CHART_COLOURS,
                at + 15, TOP - 8);
        escape_text(to, s->label);
        fputs("</text>\n", to);
        at += 15 + 7.0 * length + 18;
    }
}

/* From the least to the most of all series; least > most: there is no number. */
static void find_range(const struct chart *c, struct axis *x, struct axis *y)
{
    *x = (struct axis){ INFINITY, -INFINITY, 1 };
    *y = c->from_zero ? (struct axis){ 0, 0, 1 } : *x;
    for (uint32_t i = 0; i < c->n; i++)
        for (uint32_t k = 0; k < c->series[i].n; k++)
            if (isfinite(c->series[i].y[k]) && isfinite(c->series[i].x[k])) {
                widen(x, c->series[i].x[k]);
                widen(y, c->series[i].y[k]);
            }
}

bool chart_has_numbers(const struct chart *c)
{
    struct axis x, y;
    find_range(c, &x, &y);
    return x.least <= x.most;
}

void chart_svg(const struct chart *c, FILE *to)
{
    struct axis x, y;
    find_range(c, &x, &y);
    choose_ticks(&x, 6, false);
    choose_ticks(&y, 5, true);
    fprintf(to, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    escape_text(to, c->title);
    fputs("\">\n", to);
    put_axes(c, &x, &y, to);
    for (uint32_t i = 0; i < c->n; i++)
        put_series(&c->series[i], &x, &y, to);
    put_legend(c, to);
    fputs("</svg>\n", to);
}

void chart_file(const struct chart *charts, uint32_t n, FILE *to)
{
    fprintf(to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n"
            "<style>svg{--dim:#444;--line:#e1e4e8;--c0:#2563b0;--c1:#c2410c;--c2:#0f766e;--c3:#7e22ce;--c4:#a16207;--"
            "c5:#be123c}"
            "text{font-family:'DejaVu Sans',Verdana,Arial,sans-serif;font-size:12px;fill:#444}.grid{stroke:#e1e4e8}"
            ".curve{fill:none;stroke-width:1.6}.band{opacity:.22}</style>\n<rect width=\"100%%\" height=\"100%%\" "
            "fill=\"#fff\"/>\n",
            WIDTH, HEIGHT * (int)n, WIDTH, HEIGHT * (int)n);
    for (uint32_t i = 0; i < n; i++) {
        fprintf(to, "<svg y=\"%d\" width=\"%d\" height=\"%d\">\n", HEIGHT * (int)i, WIDTH, HEIGHT);
        chart_svg(&charts[i], to);
        fprintf(to, "<text x=\"4\" y=\"14\">");
        escape_text(to, charts[i].title);
        fputs("</text></svg>\n", to);
    }
    fputs("</svg>\n", to);
}
