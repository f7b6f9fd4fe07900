/* Schedules: the order of a pipeline rank as cells, and the kinds that make one; where a layout puts stages. Private to sched/. */
#ifndef PIPER_SCHED_SCHEDULE_H
#define PIPER_SCHED_SCHEDULE_H

#include "base/json.h"
#include "ir/family/family.h"
#include "ir/op.h"

/* The order of a pipeline rank as cells. Stages of the second direction of a two-way placement are numbered stages,
 * stages+1, ..: the model's stage is the number modulo stages; microbatches count from 0 in each direction. */
struct cell {
    uint32_t stage, mb;
    enum ir_pass pass;
    bool with_next; /* in one group with the cell after it */
};
struct cells {
    VEC(struct cell);
    uint32_t line; /* of the file that has them, from 1; 0: none */
    struct {
        VEC(uint32_t);
    } columns; /* there, by cell, from 1 */
};
void cells_release(struct cells *c);
/* How a layout directive puts stages on pipeline ranks; see there. Of JSON that may be wrong: chunks of the default,
 * PLACEMENTS for a name that is none. layout_find: the last layout of a list, NULL when there is none. */
enum placement { PLACE_STANDARD, PLACE_INTERLEAVED, PLACE_V, PLACE_TWO_WAY, PLACEMENTS };
extern const char *const placement_names[PLACEMENTS + 1]; /* ends with NULL */
uint32_t layout_chunks(const json_t *layout);
/* Which ends of the model are stages of their own, that go in turn to all pipeline ranks. */
struct ir_ends layout_spread(const json_t *layout);
enum placement layout_placement(const json_t *layout);
const json_t *layout_find(const json_t *strategy);
/* The key of a layout that a primitive of it is about; NULL: there is no such one. */
const char *layout_key(const json_t *layout, const json_t *primitive);

struct sched;
struct directive;
/* A row a kind; sched/schedules/. */
struct schedule_kind {
    const char *name;
    enum placement placement; /* that its stages need */
    uint32_t chunks;          /* stages per rank: 0 as the layout says */
    /* NULL or a sentence why p ranks, m microbatches (of both directions together), v stages per rank do not work. */
    const char *(*refuse)(uint32_t p, uint32_t m, uint32_t v);
    /* Appends the order of rank r. */
    void (*build)(uint32_t p, uint32_t m, uint32_t v, uint32_t r, struct cells *out);
};
extern const struct schedule_kind *const sched_schedule_kinds[]; /* NULL-terminated */
/* Whether a backward is split into BI and BW: where the kind does, or nowhere. */
enum { BACKWARD_SPLIT, BACKWARD_WHOLE, BACKWARDS };
extern const char *const backward_names[BACKWARDS + 1]; /* ends with NULL */
bool schedule_splits_backwards(const struct cells *cells);
/* B in the place of each BI, and no BW. */
void schedule_join_backwards(struct cells *cells);
/* The order directive of a row: into d, whose js is set; and as JSON, a new reference. */
enum status order_of_cells(struct sched *s, const struct cells *cells, uint32_t stages, struct directive *d,
                           struct err *e);
/* "peak" of an order or a schedule: into s->peak. */
enum status order_peak(struct sched *s, const struct js *js, struct err *e);
/* Stages of the model: indices under PP are 0 .. n-1. */
uint32_t schedule_stages(const struct sched *s);
json_t *schedule_row_json(const struct cells *cells, uint32_t stages);

#endif
