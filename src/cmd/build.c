/* piper build: three files that people write become one job file that all ranks read. */
#include <stdio.h>

#include "cmd/command.h"
#include "cmd/sources.h"
#include "comm/comm.h"
#include "io/file.h"
#include "job/compile_job.h"

struct build {
    struct option_common common;
    struct source_options from;
    const char *out;
};

static enum status write_job(const struct build *b, struct job *j, const struct notices *notices, struct err *e)
{
    TRY(job_write(b->out, j, e));
    for (uint32_t i = 0; i < notices->n; i++)
        printf("note: %s\n", notices->at[i]);
    char length[48];
    if (j->train.steps)
        snprintf(length, sizeof length, "%llu steps", (unsigned long long)j->train.steps);
    else
        snprintf(length, sizeof length, "%g epochs", j->train.epochs);
    char parameters[80];
    text_print(stdout, "%s: %s, %s, batch %u x %u tokens, %s\n", b->out, j->graph.family,
               compile_parameters(&j->graph, parameters), j->train.batch_size, j->train.seq_len, length);
    return ST_OK;
}

static enum status build(const struct build *b, int argc, char **argv, struct err *e)
{
    struct job_sources from = source_files(&b->from);
    from.out = b->out;
    const char *const inputs[] = { from.model, from.strategy, from.train };
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        TRY(file_differs(b->out, inputs[i], e));
    struct job j;
    struct notices notices;
    notices_init(&notices);
    enum status st = job_build(&from, COMM_SCRATCH, argc, argv, &j, &notices, e);
    if (st == ST_OK) {
        st = write_job(b, &j, &notices, e);
        job_release(&j);
    }
    notices_release(&notices);
    return st;
}

static enum status check_options(const struct build *b, struct err *e)
{
    TRY(source_options_check("build", &b->from, true, e));
    return b->out ? ST_OK : err_set(e, ST_USAGE, "build", "missing required option -o job.h5");
}

#define AT(member) offsetof(struct build, member)
static const struct option options[] = {
    SOURCE_OPTIONS(AT(from)),
    TEXT("output", 'o', AT(out), "FILE", "job file to write"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "build",
    .synopsis = "-m model.json -s strategy.json -t train.json -o job.h5 [--set KEY=VALUE]...",
    .about = "Validates model, strategy and training settings together and writes them to one job file.",
    .options = options,
};

static enum status build_command(int argc, char **argv, struct err *e)
{
    struct build b = { 0 };
    enum status st = options_parse(&usage, argc, argv, &b, e);
    if (st == ST_OK && !b.common.help)
        st = check_options(&b, e);
    if (st == ST_OK && !b.common.help)
        st = build(&b, argc, argv, e);
    vec_free(&b.from.set);
    vec_free(&b.common.operands);
    return st;
}

const struct command command_build = { "build", "build a job file from model, strategy and training settings",
                                       build_command };
