#include "cmd/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "view/number_list.h"

const char *const picture_lanes[] = { "merged", "all", "none", NULL };

static enum status read_time(const char *text, struct draw_view *view, struct err *e)
{
    char *end = NULL;
    const char *second = text ? strchr(text, ':') : NULL;
    if (!text)
        return ST_OK;
    view->from = strtod(text, &end);
    bool good = second && end == second && end > text;
    if (good) {
        view->to = strtod(second + 1, &end);
        good = end > second + 1 && !*end && isfinite(view->from) && isfinite(view->to) && view->from >= 0 &&
               view->to > view->from;
    }
    return good ? ST_OK
                : err_set(e, ST_USAGE, "--time",
                          "found \"%s\", expected two times with the later one last, such as 10:25", text);
}

enum status picture_view(const struct picture_options *o, const char *option, const char *ranks, struct draw_view *view,
                         struct err *e)
{
    *view = (struct draw_view){ .ranks = ranks, .width = (double)o->width };
    TRY(number_list_check(option, ranks, e));
    TRY(read_time(o->time, view, e));
    if (o->lanes)
        view->lanes = strcmp(o->lanes, "merged") == 0 ? DRAW_LANES_MERGED
                      : strcmp(o->lanes, "all") == 0  ? DRAW_LANES_ALL
                                                      : DRAW_LANES_NONE;
    return ST_OK;
}

const char *picture_given(const struct picture_options *o)
{
    return o->time ? "--time" : o->lanes ? "--lanes" : o->width ? "--width" : NULL;
}
