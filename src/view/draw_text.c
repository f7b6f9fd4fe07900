/* The picture as text: what a rank does in the middle of each unit of time. */
#include <math.h>

#include "view/draw.h"

enum { MOST_LINES = 40, PLAIN = 0 };

/* Colours of the 256 of terminals: background, then text. */
static const uint8_t colours[DRAW_KINDS][2][2] = {
    [DRAW_F] = { { 26, 231 }, { 153, 16 } },      [DRAW_B] = { { 29, 231 }, { 115, 16 } },
    [DRAW_BI] = { { 72, 231 }, { 151, 16 } },     [DRAW_BW] = { { 148, 16 }, { 193, 16 } },
    [DRAW_UPDATE] = { { 97, 231 }, { 97, 231 } },
};

static char letter(const struct draw_box *b)
{
    static const char first[DRAW_KINDS] = { [DRAW_F] = '0', [DRAW_B] = 'a', [DRAW_BI] = 'a', [DRAW_BW] = 'A' };
    return draw_is_pass((enum draw_kind)b->kind) ? (char)(first[b->kind] + b->number % 10)
           : b->kind == DRAW_UPDATE              ? 'u'
                                                 : '.';
}

static double cells_of(const struct draw_picture *p, double cell)
{
    return ceil(p->end / cell - 1e-6);
}

/* The cells of a rank; `at` is its first box. */
static void write_cells(const struct draw_picture *p, uint32_t at, uint32_t row, double cell, bool colour, FILE *to)
{
    unsigned was = PLAIN;
    uint32_t n = (uint32_t)cells_of(p, cell);
    for (uint32_t i = 0; i < n; i++) {
        double t = (i + 0.5) * cell;
        while (at < p->boxes.n && p->boxes.at[at].row == row && p->boxes.at[at].end <= t)
            at++;
        const struct draw_box *b = &p->boxes.at[at];
        bool busy = at < p->boxes.n && b->row == row && b->start <= t && letter(b) != '.';
        const uint8_t *c = busy ? colours[b->kind][b->shade > 0] : NULL;
        unsigned now = busy ? c[0] : PLAIN;
        if (colour && now != was && busy)
            fprintf(to, "\033[48;5;%u;38;5;%um", c[0], c[1]);
        else if (colour && now != was)
            fputs("\033[0m", to);
        was = now;
        putc(busy ? letter(b) : '.', to);
    }
    fputs(colour && was != PLAIN ? "\033[0m\n" : "\n", to);
}

bool draw_text(const struct draw_picture *p, double cell, uint32_t columns, bool colour, FILE *to)
{
    uint32_t lines = 0, width = 0, at = 0;
    for (uint32_t i = 0; i < p->rows.n; i++) {
        uint32_t n = (uint32_t)strlen(p->rows.at[i].label);
        if (p->rows.at[i].stream)
            continue;
        lines++;
        width = n > width ? n : width;
    }
    if (lines > MOST_LINES || cells_of(p, cell) + width + 2 > columns)
        return false;
    for (uint32_t i = 0; i < p->rows.n; i++) {
        for (; at < p->boxes.n && p->boxes.at[at].row < i; at++)
            ;
        if (p->rows.at[i].stream)
            continue;
        fprintf(to, "%-*s  ", (int)width, p->rows.at[i].label);
        write_cells(p, at, i, cell, colour, to);
    }
    return true;
}
