/* -m, -s, -t and --set: the files from which a job is built. piper build needs them; piper plan and piper train take them in the place
 * of a job file. */
#ifndef PIPER_CMD_SOURCES_H
#define PIPER_CMD_SOURCES_H

#include "base/dir.h"
#include "cmd/options.h"
#include "job/build_job.h"

struct source_options {
    const char *model, *strategy, *train;
    struct option_list set; /* vec_free */
    const char *run;        /* a run directory that an operand names; NULL: it names none */
    char kept[DIR_PATH];    /* the job file there */
};

/* Rows of an option table; at: offset of the struct in what the command reads into. */
#define SOURCE_OPTIONS(at)                                                                                          \
    TEXT("model", 'm', (at) + offsetof(struct source_options, model), "FILE",                                       \
         "model.json: a Hugging Face config.json, or a \"graph\""),                                                 \
        TEXT("strategy", 's', (at) + offsetof(struct source_options, strategy), "FILE",                             \
             "strategy.json: a list of directives"),                                                                \
        TEXT("train", 't', (at) + offsetof(struct source_options, train), "FILE", "train.json: training settings"), \
        LIST("set", 0, (at) + offsetof(struct source_options, set), "KEY=VALUE",                                    \
             "override a value, e.g. train.steps=100, model.num_hidden_layers=4, strategy[1].microbatches=8")

/* All three, or, where they are not needed, none of them and no --set either. ST_USAGE. */
enum status source_options_check(const char *command, const struct source_options *o, bool needed, struct err *e);
/* The job file among the operands, or of the run directory that is there (o->run), or NULL where the three files are given; not both, not neither.
 * ST_USAGE; ST_MISSING: a directory without job.h5. */
enum status source_or_job(const char *command, struct source_options *o, const struct option_list *operands,
                          const char **job, struct err *e);
/* Borrows from o. */
struct job_sources source_files(const struct source_options *o);
/* job_build(), for a look at the job. Notes go to standard error: standard output may be JSON, or a picture. */
enum status source_build(const struct job_sources *from, struct job *j, struct err *e);

#endif
