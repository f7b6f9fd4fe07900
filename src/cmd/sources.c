#include "cmd/sources.h"

#include <stdio.h>

#include "comm/comm.h"
#include "job/keep_job.h"

enum status source_options_check(const char *command, const struct source_options *o, bool needed, struct err *e)
{
    if (!needed && !o->model && !o->strategy && !o->train)
        return o->set.n ? err_set(e, ST_USAGE, "--set",
                                  "requires -m, -s and -t: a job file is complete; change a value with piper build")
                        : ST_OK;
    if (o->model && o->strategy && o->train)
        return ST_OK;
    return err_set(e, ST_USAGE, command, "missing required option %s",
                   !o->model      ? "-m model.json"
                   : !o->strategy ? "-s strategy.json"
                                  : "-t train.json");
}

struct job_sources source_files(const struct source_options *o)
{
    return (struct job_sources){
        .model = o->model, .strategy = o->strategy, .train = o->train, .set = o->set.at, .n_set = o->set.n
    };
}

enum status source_build(const struct job_sources *from, struct job *j, struct err *e)
{
    struct notices notices;
    notices_init(&notices);
    enum status st = job_build(from, COMM_SCRATCH, 0, NULL, j, &notices, e);
    for (uint32_t i = 0; st == ST_OK && i < notices.n; i++)
        fprintf(stderr, "note: %s\n", notices.at[i]);
    notices_release(&notices);
    return st;
}

enum status source_or_job(const char *command, struct source_options *o, const struct option_list *operands,
                          const char **job, struct err *e)
{
    *job = operands->n ? operands->at[0] : NULL;
    if (*job && dir_is_folder(*job)) {
        o->run = *job;
        *job = o->kept;
        if (!dir_has_path(o->run, KEEP_JOB, o->kept))
            return err_set(e, ST_MISSING, o->run,
                           "this directory has no %s; expected a job file, or the directory of a run", KEEP_JOB);
    }
    if (*job && o->model)
        return err_set(e, ST_USAGE, command, "job file %s conflicts with -m, -s and -t, from which a job is built",
                       *job);
    if (!*job && !o->model)
        return err_set(e, ST_USAGE, command,
                       "missing job.h5, or the files to build it from: -m model.json -s strategy.json -t train.json");
    return ST_OK;
}
