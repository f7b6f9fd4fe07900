/* A training run: from the job file to the last checkpoint, on all ranks together. */
#ifndef PIPER_TRAIN_H
#define PIPER_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "job/build_job.h"

struct train_options {
    const char *dir;            /* run directory */
    const char *job;            /* job file; NULL: built from */
    struct job_sources sources; /* these, and kept as job.h5 in the run directory */
    int argc;                   /* the command line, provenance of a job that is built */
    char **argv;
    const char *data;     /* token file instead of the job's; NULL: the job's */
    uint64_t steps;       /* the last step instead of the job's; 0: the job's. The learning rate keeps to the job's */
    bool fresh;           /* do not go on from the folder's checkpoints */
    bool resume;          /* there must be one */
    const char *device;   /* "auto", "cpu", ... */
    const char *comm;     /* "auto", "mpi", ... */
    uint64_t max_seconds; /* 0: no limit */
    bool max_auto;        /* the limit is what the batch system says */
    bool sync;            /* training waits while a checkpoint is written */
    bool no_checkpoint;   /* none is written, and none is looked for */
    const char *machine, *topology; /* predicted times: machine_load(); NULL: none */
    double emulate_forward;         /* seconds of a unit of time of an emulation; below 0: PREDICT_UNIT */
    bool graphs;                    /* --cuda-graph */
    bool fuse;                      /* --fuse */
    bool check_numbers;
    bool tensorboard;        /* event files beside metrics.csv */
    uint64_t hang_timeout;   /* seconds; 0: no watchdog */
    bool skip_not_finite;    /* a step whose loss or norm is no number is left out; else training ends there */
    bool checksums;          /* of parameters and optimizer state, from update to update */
    uint64_t check_replicas; /* every so many steps; 0: never */
};

/* Collective over all ranks, which all return the same. The world is up. */
enum status train_run(const struct train_options *o, struct err *e);

#endif
