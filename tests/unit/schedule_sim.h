/* An event simulator of schedule orders, for tests: ranks run their cells in order, a cell starts when its inputs are there,
 * communication takes no time and holds nobody up. */
#ifndef PIPER_TESTS_SCHEDULE_SIM_H
#define PIPER_TESTS_SCHEDULE_SIM_H

#include "sched/compile.h"

struct sim_input {
    const struct cells *rows;
    uint32_t ranks, m;           /* m: of one direction */
    uint32_t stages, directions; /* stage numbers d*stages .. (d+1)*stages-1 are direction d */
    double f, b, w, pair;        /* a fused B takes b + w; pair: a forward and a backward in one group */
};
struct sim_rank {
    double start, end, busy;
    uint32_t peak; /* forwards whose B or W is not done: chunks */
};
struct sim_output {
    struct sim_rank *rank; /* [ranks], owned: sim_release */
    double end;
    bool stuck; /* no rank can go on */
    uint32_t stuck_rank, stuck_cell;
};

void sim_run(const struct sim_input *in, struct sim_output *out);
void sim_release(struct sim_output *out);

/* Orders of all ranks of a kind; freed with sim_rows_free. */
struct cells *sim_rows(const struct schedule_kind *k, uint32_t p, uint32_t m, uint32_t v);
void sim_rows_free(struct cells *rows, uint32_t p);
/* The row of a rank in the text form, ending in a newline; owned by the caller. */
char *sim_text(const struct cells *row);

#endif
