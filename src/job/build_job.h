/* Three files that people write, and values that override theirs, become one job: what `piper build` writes, and what `piper plan` and
 * `piper train` make for themselves where they are given the three files instead of a job file. */
#ifndef PIPER_BUILD_JOB_H
#define PIPER_BUILD_JOB_H

#include "io/job.h"
#include "ir/notices.h"

struct job_sources {
    /* file names; model NULL: there is a job file instead; strategy NULL: the job has none yet, an empty list */
    const char *model, *strategy, *train;
    const char *const *set; /* KEY=VALUE: model., train. or strategy[i]. */
    uint32_t n_set;
    const char *out; /* the job file that will be written; NULL: none */
    bool compiles;   /* the caller compiles the job itself, and does not write it: here its strategy is expanded only */
};

/* Reads, validates and compiles once, unless the caller does, for the least number of ranks where the strategy leaves it open. comm_scratch as for
 * compile_input(). The command line is kept as provenance. *j is initialised here; on success the caller ends with job_release.
 * ST_MISSING, ST_INPUT, ST_USAGE: the place, found, expected. Serial. */
enum status job_build(const struct job_sources *s, uint64_t comm_scratch, int argc, char *const *argv, struct job *j,
                      struct notices *notices, struct err *e);

#endif
