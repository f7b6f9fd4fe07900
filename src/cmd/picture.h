/* Options of the commands that draw ranks over time. */
#ifndef PIPER_CMD_PICTURE_H
#define PIPER_CMD_PICTURE_H

#include "cmd/options.h"
#include "view/draw.h"

struct picture_options {
    const char *time, *lanes;
    uint64_t width;
};
extern const char *const picture_lanes[];
#define PICTURE_OPTIONS(at, unit)                                                                                  \
    TEXT("time", 0, (at) + offsetof(struct picture_options, time), "A:B",                                          \
         "draw from time A to time B only, in " unit),                                                             \
        CHOICE("lanes", 0, (at) + offsetof(struct picture_options, lanes), "merged|all|none", picture_lanes,       \
               "rows of the streams of a rank: one, one each, none (default: all of up to 8 ranks, else merged)"), \
        NUMBER("width", 0, (at) + offsetof(struct picture_options, width), "PIXELS", 300,                          \
               "width of the picture (default: as the passes need)")

/* ranks: borrowed, as checked by this; NULL: all. option: its name. ST_USAGE. */
enum status picture_view(const struct picture_options *o, const char *option, const char *ranks, struct draw_view *view,
                         struct err *e);
/* One of these was given, which makes no sense without a picture: its name; NULL: none was. */
const char *picture_given(const struct picture_options *o);

#endif
