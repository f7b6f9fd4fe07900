/* The picture as SVG. Lengths are pixels; y grows downwards. */
#include <math.h>

#include "view/draw.h"
#include "view/escape.h"

enum {
    LEFT = 100, /* labels of rows */
    RIGHT = 16,
    TOP = 92,         /* title, subtitle, legend */
    RANK = 22,        /* height of a rank's row */
    PREDICTED = 13,   /* of what was expected of it */
    STREAM = 7,       /* of a stream's */
    CURVE = 24,       /* of a curve */
    GAP = 1,          /* above a stream's row */
    RANK_GAP = 9,     /* above a rank's row */
    AXIS = 48,        /* below the last row: axis and note */
    LEGEND_ROOM = 900 /* the least width, for title and legend */
};

/* Told apart by lightness too, not by hue alone: forward blue, backwards green to yellow, communication grey, orange, brown. */
static const struct colour {
    const char *name; /* class */
    uint8_t rgb[3];
} colours[DRAW_KINDS] = { [DRAW_F] = { "f", { 43, 108, 196 } },          [DRAW_B] = { "b", { 27, 138, 90 } },
                          [DRAW_BI] = { "i", { 92, 184, 140 } },         [DRAW_BW] = { "w", { 190, 199, 56 } },
                          [DRAW_UPDATE] = { "u", { 132, 84, 168 } },     [DRAW_MOVE] = { "m", { 125, 132, 142 } },
                          [DRAW_ALL_TO_ALL] = { "a", { 232, 131, 28 } }, [DRAW_REDUCE] = { "r", { 158, 76, 20 } },
                          [DRAW_GATHER] = { "g", { 240, 178, 94 } },     [DRAW_OTHER] = { "o", { 90, 90, 96 } },
                          [DRAW_EXPOSED] = { "x", { 214, 40, 57 } } };

struct svg {
    const struct draw_picture *p;
    FILE *to;
    double scale; /* pixels per unit of time */
    double width, height;
    double *y;        /* by row */
    double pass;      /* pixels of a pass on average */
    uint32_t figures; /* of the largest number */
    bool used[DRAW_KINDS];
};

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

static double row_height(const struct svg *s, uint32_t row)
{
    const struct draw_row *r = &s->p->rows.at[row];
    return r->stream ? STREAM : r->predicted ? PREDICTED : r->curve ? CURVE : RANK;
}

static uint32_t digits(uint32_t number)
{
    uint32_t n = 1;
    for (; number > 9; number /= 10)
        n++;
    return n;
}

/* How long a pass is on average, and how many figures the largest number has. */
static double average_pass(const struct draw_picture *p, uint32_t *figures)
{
    double sum = 0;
    uint32_t most = 0;
    for (uint32_t i = 0; i < p->spans.n; i++) {
        const uint32_t number = p->boxes.at[p->spans.at[i].first].number;
        sum += p->spans.at[i].end - p->spans.at[i].start;
        most = number != DRAW_NO_NUMBER && number > most ? number : most;
    }
    *figures = digits(most);
    return p->spans.n ? sum / p->spans.n : 0;
}

/* Wide enough that a number has room in a pass of average length, and no wider than is pleasant for few of them. */
static double choose_scale(const struct draw_picture *p, double pass, uint32_t figures)
{
    const double duration = p->end - p->start;
    double scale = 1300 / duration;
    if (p->width > 0)
        return fmax(p->width - LEFT - RIGHT, 100) / duration;
    if (pass > 0) {
        scale = fmax(scale, (4 + 5 * figures) / pass);
        scale = fmin(scale, 44 / pass);
    }
    return fmin(scale, 30000 / duration);
}

static void lay_out(struct svg *s)
{
    double y = TOP;
    const double pass = average_pass(s->p, &s->figures);
    s->scale = choose_scale(s->p, pass, s->figures);
    s->pass = pass * s->scale;
    s->y = mem_alloc((s->p->rows.n + 1) * sizeof *s->y);
    for (uint32_t i = 0; i < s->p->rows.n; i++) {
        const struct draw_row *r = &s->p->rows.at[i];
        y += r->stream || r->predicted || r->curve ? GAP : i ? RANK_GAP : 0;
        s->y[i] = y;
        y += row_height(s, i);
    }
    s->height = y + AXIS;
    s->width = LEFT + (s->p->end - s->p->start) * s->scale + RIGHT;
    s->width = fmax(s->width, s->p->width > 0 ? s->p->width : LEGEND_ROOM);
    for (uint32_t i = 0; i < s->p->boxes.n; i++)
        s->used[s->p->boxes.at[i].kind] = true;
}

static double x_of(const struct svg *s, double t)
{
    return LEFT + (t - s->p->start) * s->scale;
}

/* ---- style ---------------------------------------------------------------------------------------------------------- */

static void shaded(const struct svg *s, enum draw_kind kind, uint32_t shade, double rgb[3])
{
    double white = s->p->n_shades > 1 ? 0.58 * shade / (s->p->n_shades - 1) : 0;
    for (int i = 0; i < 3; i++)
        rgb[i] = colours[kind].rgb[i] + white * (255 - colours[kind].rgb[i]);
}

/* Is text on it white? By luminance. */
static bool is_dark(const double rgb[3])
{
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 140;
}

static void write_style(const struct svg *s)
{
    fputs("<style>text{font-family:'DejaVu Sans',Verdana,Arial,sans-serif;font-size:11px;fill:#22252a}"
          ".n{text-anchor:middle}.l{text-anchor:end}.h{font-size:15px;font-weight:bold}.q{fill:#5b616b}"
          ".x{font-size:8px;fill:#5b616b}.v{font-size:6px;fill:#5b616b}.e{fill:#eef0f3}.t{stroke:#c9ced6;stroke-width:."
          "6}.p{fill-opacity:.3}"
          ".c{fill:#8fa3bf;fill-opacity:.55;stroke:#4a5f80;stroke-width:.7}.z{fill:#111;stroke:#fff;stroke-width:2px;"
          "stroke-linejoin:round;paint-order:stroke}\n",
          s->to);
    for (uint32_t k = 0; k < DRAW_KINDS; k++)
        for (uint32_t i = 0; s->used[k] && i < (draw_is_pass((enum draw_kind)k) ? s->p->n_shades : 1); i++) {
            double rgb[3];
            shaded(s, (enum draw_kind)k, i, rgb);
            fprintf(s->to, ".%s%u{fill:#%02x%02x%02x}.%s%ut{fill:%s}\n", colours[k].name, i, (unsigned)rgb[0],
                    (unsigned)rgb[1], (unsigned)rgb[2], colours[k].name, i, is_dark(rgb) ? "#fff" : "#111");
        }
    fputs("</style>\n", s->to);
}

/* ---- text ------------------------------------------------------------------------------------------------------------ */

static void write_text(const struct svg *s, const char *class, double x, double y, const char *text)
{
    fprintf(s->to, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
    escape_text(s->to, text);
    fputs("</text>\n", s->to);
}

static void write_rect(const struct svg *s, const char *class, double x, double y, double w, double h)
{
    fprintf(s->to, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", class, x, y, w, h);
}

static double text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80; /* characters of UTF-8 */
    return 6.4 * (double)n;
}

static void write_legend(const struct svg *s)
{
    double x = LEFT, y = 62;
    for (uint32_t k = 0; k < DRAW_KINDS; k++) {
        uint32_t shades = draw_is_pass((enum draw_kind)k) ? s->p->n_shades : 1;
        if (!s->used[k])
            continue;
        double room = 14 + 5 * (shades - 1) + 5 + text_width(draw_names[k]) + 16;
        if (x + room > s->width && x > LEFT) {
            x = LEFT;
            y += 17;
        }
        for (uint32_t i = 0; i < shades; i++) {
            char class[16];
            snprintf(class, sizeof class, "%s%u", colours[k].name, i);
            write_rect(s, class, x + 5 * i, y - 9, 14, 10);
        }
        write_text(s, "q", x + 14 + 5 * (shades - 1) + 5, y, draw_names[k]);
        x += room;
    }
    if (s->p->n_shades < 2)
        return;
    if (x + text_width(s->p->shades_note) > s->width) {
        x = LEFT;
        y += 17;
    }
    write_text(s, "q", x, y, s->p->shades_note);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static void write_rows(const struct svg *s)
{
    for (uint32_t i = 0; i < s->p->rows.n; i++) {
        const struct draw_row *r = &s->p->rows.at[i];
        double h = row_height(s, i);
        if (!r->stream)
            write_rect(s, "e", LEFT, s->y[i], (s->p->end - s->p->start) * s->scale, h);
        const bool small = r->predicted || r->curve;
        write_text(s,
                   r->stream ? "l v"
                   : small   ? "l x"
                             : "l",
                   LEFT - 6, s->y[i] + (r->stream ? h - 1.2 : h / 2 + (small ? 3 : 4)), r->label);
    }
}

/* 1, 2 or 5 times a power of ten, so that ticks stand 60 pixels apart or more. */
static double tick_step(const struct svg *s)
{
    double least = 60 / s->scale, power = pow(10, floor(log10(least)));
    return least <= power * 1.001 ? power
           : least <= 2 * power   ? 2 * power
           : least <= 5 * power   ? 5 * power
                                  : 10 * power;
}

static void write_axis(const struct svg *s)
{
    double bottom = s->height - AXIS + 4, step = tick_step(s);
    char text[32];
    for (uint32_t i = (uint32_t)ceil(s->p->start / step - 1e-9); i * step <= s->p->end * (1 + 1e-9); i++) {
        double x = x_of(s, i * step);
        fprintf(s->to, "<path class=\"t\" d=\"M%.1f %d V%.1f\"/>\n", x, TOP - 4, bottom);
        snprintf(text, sizeof text, "%.6g", i * step);
        write_text(s, "n q", x, bottom + 12, text);
    }
    write_text(s, "l q", LEFT - 6, bottom + 12, s->p->unit);
    write_text(s, "q", LEFT, bottom + 34, s->p->note);
}

/* ---- boxes ------------------------------------------------------------------------------------------------------------ */

static void vertical(const struct svg *s, const struct draw_box *b, double *y, double *h)
{
    *y = s->y[b->row];
    *h = row_height(s, b->row);
    if (!draw_is_pass((enum draw_kind)b->kind) || s->p->spans.at[b->span].place == DRAW_WHOLE)
        return;
    *h /= 2;
    *y += s->p->spans.at[b->span].place == DRAW_LOWER ? *h : 0;
}

/* A hair of background between neighbours where there is room for it, and never too thin to be seen. */
static double inner(double width)
{
    return width > 3 ? width - 0.6 : fmax(width, 0.8);
}

static void write_hint(const struct svg *s, const struct draw_box *b, double start, double end)
{
    fprintf(s->to, "<title>%s", draw_names[b->kind]);
    if (draw_is_pass((enum draw_kind)b->kind))
        fprintf(s->to, " of stage %u", b->stage);
    if (b->number != DRAW_NO_NUMBER)
        fprintf(s->to, ", microbatch %u", b->number);
    fprintf(s->to, ", %.6g to %.6g %s</title>", start, end, s->p->unit);
}

static void write_number(const struct svg *s, const struct draw_span *span)
{
    const struct draw_box *b = &s->p->boxes.at[span->longest];
    double y, h, width = (b->end - b->start) * s->scale, start = b->start, end = b->end;
    if (b->number == DRAW_NO_NUMBER)
        return;
    vertical(s, b, &y, &h);
    double room = 0.62 * s->figures, font = fmin(11.5, h - 3);
    bool over = b->end - b->start <
                0.6 * (span->end - span->start); /* not in its longest part: over all of it, outlined */
    if (over) {
        start = span->start;
        end = span->end;
        width = (end - start) * s->scale;
    }
    font = fmin(font, (width - 1) / room);
    if (font < 5 && s->pass < 6 && b->number % 8 == 0 &&
        h > 12) { /* there is room for every eighth, over its neighbours */
        over = true;
        font = 8;
    }
    if (font < 5)
        return;
    fputs("<text class=\"n ", s->to);
    if (over)
        fputs("z", s->to);
    else
        fprintf(s->to, "%s%ut", colours[b->kind].name, b->shade);
    fprintf(s->to, "\" x=\"%.1f\" y=\"%.1f\" style=\"font-size:%.1fpx\">%u</text>\n", x_of(s, (start + end) / 2),
            y + h / 2 + 0.36 * font, font, b->number);
}

/* The parts of a pass, and pale what lies between them. */
static void write_span(const struct svg *s, uint32_t index)
{
    const struct draw_span *span = &s->p->spans.at[index];
    const struct draw_box *b = &s->p->boxes.at[span->first];
    double y, h;
    vertical(s, b, &y, &h);
    fprintf(s->to, "<g class=\"%s%u\">", colours[b->kind].name, b->shade);
    write_hint(s, b, span->start, span->end);
    if (span->first != span->last)
        write_rect(s, "p", x_of(s, span->start), y, inner((span->end - span->start) * s->scale), h);
    for (uint32_t i = span->first; i <= span->last; i++) {
        const struct draw_box *part = &s->p->boxes.at[i];
        if (draw_is_pass((enum draw_kind)part->kind) && part->span == index)
            fprintf(s->to, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x_of(s, part->start), y,
                    inner((part->end - part->start) * s->scale), h);
    }
    fputs("</g>\n", s->to);
    write_number(s, span);
}

static void write_other(const struct svg *s, const struct draw_box *b)
{
    double y, h;
    vertical(s, b, &y, &h);
    if (b->kind == DRAW_EXPOSED) {
        y += 0.35 * h;
        h *= 0.3;
    }
    fprintf(s->to, "<rect class=\"%s0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">", colours[b->kind].name,
            x_of(s, b->start), y, inner((b->end - b->start) * s->scale), h);
    write_hint(s, b, b->start, b->end);
    fputs("</rect>\n", s->to);
}

/* The curves of rows: what a value is until the next point. `at`: the first point of the row. */
static uint32_t write_curve(const struct svg *s, uint32_t at)
{
    const struct draw_point *point = &s->p->points.at[at];
    const uint32_t row = point->row;
    const double bottom = s->y[row] + row_height(s, row), height = row_height(s, row) - 2;
    fprintf(s->to, "<path class=\"c\" d=\"M%.1f %.1f", x_of(s, point->t), bottom);
    for (; at < s->p->points.n && s->p->points.at[at].row == row; at++) {
        const double next = at + 1 < s->p->points.n && s->p->points.at[at + 1].row == row ? s->p->points.at[at + 1].t
                                                                                          : s->p->end;
        const double y = bottom - height * s->p->points.at[at].value / s->p->most_value;
        fprintf(s->to, "L%.1f %.1fL%.1f %.1f", x_of(s, s->p->points.at[at].t), y, x_of(s, next), y);
    }
    fprintf(s->to, "L%.1f %.1fZ\"/>\n", x_of(s, s->p->end), bottom);
    return at;
}

void draw_svg(const struct draw_picture *p, FILE *to)
{
    struct svg s = { .p = p, .to = to };
    lay_out(&s);
    fprintf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n",
            s.width, s.height, s.width, s.height);
    write_style(&s);
    fputs("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n", to);
    write_text(&s, "h", LEFT, 24, p->title);
    write_text(&s, "q", LEFT, 42, p->subtitle);
    write_legend(&s);
    write_rows(&s);
    write_axis(&s);
    for (uint32_t i = 0; i < p->spans.n; i++)
        write_span(&s, i);
    for (uint32_t i = 0; i < p->boxes.n; i++)
        if (!draw_is_pass((enum draw_kind)p->boxes.at[i].kind))
            write_other(&s, &p->boxes.at[i]);
    for (uint32_t at = 0; at < p->points.n && p->most_value > 0;)
        at = write_curve(&s, at);
    fputs("</svg>\n", to);
    mem_free(s.y);
}
