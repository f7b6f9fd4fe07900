/* A shape as a strategy, and what a starting strategy leaves open. */
#ifndef PIPER_TUNE_STRATEGY_H
#define PIPER_TUNE_STRATEGY_H

#include "base/json.h"
#include "sched/cost/bound.h"

/* What may be chosen, in the order of enumeration: the first varies slowest. */
enum tune_key {
    TUNE_TP,
    TUNE_CP,
    TUNE_PP,
    TUNE_EP,
    TUNE_DP,
    TUNE_KIND,
    TUNE_PLACEMENT,
    TUNE_CHUNKS,
    TUNE_MICROBATCHES,
    TUNE_BACKWARD,
    TUNE_RECOMPUTE,
    TUNE_ZERO,
    TUNE_ZERO_GROUP,
    TUNE_VOCAB,
    TUNE_BUCKET,
    TUNE_EXPERT_BOUND,
    TUNE_KEYS,
    TUNE_FIRST_VARIANT = TUNE_ZERO /* from here on keys leave the schedule as it is */
};
const char *tune_key_name(enum tune_key k); /* as in layout and schedule */

/* Values of one key. open: all that make sense, which the space knows; else those listed, of which there is one at least. */
struct tune_values {
    bool open;
    VEC(double); /* words: their number; true 1; bucket_size "layer" and expert_bound none 0 */
};
struct tune_start {
    json_t *list; /* the directives, layout and schedule as far as they are not chosen; owned */
    struct tune_values keys[TUNE_KEYS];
    bool recomputes; /* list has a recompute of its own */
    bool streams;    /* and a stream, which may take fewer of the device's processors */
};
/* start: borrowed, NULL: everything is open. "?" is an open value, {"in":[...]} some values, of a key of layout or of schedule; a directive
 * {"op":"recompute","filter":"?"} is one that may be left out. ST_INPUT. Ends with tune_start_release. */
enum status tune_start_read(json_t *start, const char *file, struct tune_start *out, struct err *e);
void tune_start_release(struct tune_start *s);

/* The directives of a shape, a new reference. */
json_t *tune_strategy(const struct tune_start *start, const struct bound_shape *s);
/* "pp 4, dp 8, zero 1; 1f1b of 16" */
enum { TUNE_TEXT = 256 };
const char *tune_shape_text(const struct bound_shape *s, char text[TUNE_TEXT]);

#endif
