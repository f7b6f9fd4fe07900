/* Pictures of who does what when: rows by time, one for what a rank computes and a thin one for each of its streams under it.
 * Where the times come from (a simulation, a trace) is not known here. */
#ifndef PIPER_DRAW_H
#define PIPER_DRAW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"

enum draw_kind {
    DRAW_F,
    DRAW_B,
    DRAW_BI,
    DRAW_BW,
    DRAW_UPDATE,
    DRAW_MOVE,
    DRAW_ALL_TO_ALL,
    DRAW_REDUCE,
    DRAW_GATHER,
    DRAW_OTHER,
    DRAW_EXPOSED, /* on a rank's row: it computes nothing, and a communication of it is under way */
    DRAW_KINDS
};
static inline bool draw_is_pass(enum draw_kind k)
{
    return k <= DRAW_BW;
}
extern const char *const draw_names[DRAW_KINDS]; /* "forward", ... as in the legend */

enum { DRAW_NO_NUMBER = UINT32_MAX };

struct draw_box {
    double start, end; /* >= start */
    uint32_t row;
    uint32_t stage, number; /* number: the microbatch, or DRAW_NO_NUMBER */
    uint8_t kind;           /* enum draw_kind */
    uint8_t shade;          /* of a pass: 0 the rank's first stage, 1, ... */
    uint32_t span;          /* of a pass: index in spans, by draw_find_spans */
};
struct draw_row {
    const char *label; /* "rank 0", or a stream's name */
    bool stream;       /* a thin row under the rank's */
    bool predicted;    /* of a rank whose measured row stands above: what was expected */
    bool curve;        /* under the rank's: a curve */
    uint32_t rank;     /* that it belongs to */
};
/* A point of the curve of a row: from t on it has that value. */
struct draw_point {
    double t, value;
    uint32_t row;
};
/* A pass of a stage: the boxes of its parts, and the time between them. Two at most are open at a time on a row. */
struct draw_span {
    double start, end;
    uint32_t first, last; /* boxes; those of another pass lie between them where the two alternate */
    uint32_t longest;     /* box */
    uint8_t place;        /* enum draw_place */
};
enum draw_place { DRAW_WHOLE, DRAW_UPPER, DRAW_LOWER }; /* half the height each where two passes overlap */

struct draw_picture {
    struct arena text;                   /* of labels */
    const char *title, *subtitle, *note; /* note: under the axis */
    const char *shades_note;             /* what a lighter shade means */
    const char *unit;                    /* of time: "units", "ms" */
    struct {
        VEC(struct draw_row);
    } rows; /* a rank's row, then its streams */
    struct {
        VEC(struct draw_box);
    } boxes; /* by row; within a row by start, compute without overlap */
    struct {
        VEC(struct draw_point);
    } points;          /* by row, then by time */
    double most_value; /* of all points: the height of a curve's row; 0: there are none */
    struct {
        VEC(struct draw_span);
    } spans; /* by first box */
    uint32_t n_shades;
    double slack;      /* parts of a pass with less than this between them follow each other without a break */
    double start, end; /* of the time axis, end > start */
    double width;      /* pixels of an SVG; 0: as the passes need */
};

/* What of a picture is to be drawn. */
enum draw_lanes {
    DRAW_LANES_CHOSEN, /* all of a few ranks, merged of many */
    DRAW_LANES_ALL,
    DRAW_LANES_MERGED, /* the streams of a rank in one row */
    DRAW_LANES_NONE
};
struct draw_view {
    const char *ranks; /* a number_list; NULL: all */
    double from, to;   /* of the time axis, in its unit; to 0: all of it */
    double width;      /* pixels; 0: as the passes need */
    bool memory;       /* a curve of the memory under each rank, where the times come from a plan */
    enum draw_lanes lanes;
};
/* Marks what is exposed, then leaves out what the view leaves out. Before draw_find_spans. */
void draw_select(struct draw_picture *p, const struct draw_view *v);

/* Drops boxes without duration, joins those of a pass that follow each other without a break, finds the passes. Every way
 * of drawing needs it, once. */
void draw_find_spans(struct draw_picture *p);
void draw_release(struct draw_picture *p);

/* Scalable vector graphics, one file without references. */
void draw_svg(const struct draw_picture *p, FILE *to);

/* A line a rank, a column a unit of time `cell` long. F: digits, B and BI: small letters, BW: capitals, the microbatch modulo
 * 10; u an update, '.' idle. False, and nothing is written, when a line is longer than `columns` or there are more than 40. */
bool draw_text(const struct draw_picture *p, double cell, uint32_t columns, bool colour, FILE *to);

#endif
