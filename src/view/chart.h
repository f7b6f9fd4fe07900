/* Curves in scalable vector graphics, for a page of HTML: colours are the page's variables --c0, --c1, ...; text has the class of a
 * page's own. */
#ifndef PIPER_VIEW_CHART_H
#define PIPER_VIEW_CHART_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CHART_COLOURS = 6 };

/* y by x, both [n] and x ascending; what is no number is left out. */
struct chart_series {
    const char *label; /* NULL: not in the legend */
    uint32_t colour;   /* modulo CHART_COLOURS */
    const double *x, *y;
    uint32_t n;
    uint8_t points; /* 1: dots instead of a curve */
};
struct chart {
    const char *title, *x_label; /* borrowed */
    const struct chart_series *series;
    uint32_t n;
    uint8_t from_zero; /* 1: the axis of y begins at 0 */
};

/* An element of HTML, or of another picture; of a chart that has numbers. Of many values one for each of some hundred places is drawn, their mean, in a band from the
 * least to the most of them. */
void chart_svg(const struct chart *c, FILE *to);
bool chart_has_numbers(const struct chart *c);
/* Several of them, one below the other, as a file of their own; each has numbers. */
void chart_file(const struct chart *charts, uint32_t n, FILE *to);

#endif
