/* piper plan --simulate: a predicted step in words and in JSON. */
#ifndef PIPER_SIMULATE_TEXT_H
#define PIPER_SIMULATE_TEXT_H

#include <stdio.h>

#include "base/json.h"
#include "sched/cost/simulate.h"

/* What a simulation says of other strategies for the same job: sentences. */
struct simulate_advice {
    VEC(char *); /* owned */
};
struct simulate_job {
    const void *image; /* the job as job_encode() gives it; borrowed */
    uint64_t image_bytes;
    const char *device; /* borrowed */
    uint32_t ranks;
    const json_t *strategy;
    const struct machine *machine;
    double tokens;         /* of a step */
    uint64_t comm_scratch; /* as compile_input() takes it */
};
/* Compiles and simulates the strategy with one of its choices undone, where it has made one (a schedule that overlaps or
 * interleaves, zero 3), and says where that choice does not pay. step: what the strategy as it is takes. */
void simulate_alternatives(const struct simulate_job *job, const char *list, double step,
                           struct simulate_advice *advice);
void simulate_advice_release(struct simulate_advice *advice);

void simulate_print(const struct simulate_input *in, const struct simulate_job *job, FILE *to);
/* Adds step_seconds, bubble_fraction and more to an object. */
void simulate_json(const struct simulate_input *in, const struct simulate_job *job, json_t *to);

#endif
