/* piper build: three files that people write become one that all ranks read. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "cmd/command.h"
#include "comm/comm.h"
#include "job/compile_job.h"
#include "job/config.h"
#include "io/file.h"
#include "ir/family/family.h"
#include "cmd/options.h"

struct build {
    struct option_common common;
    const char *model, *strategy, *train, *out;
    struct option_list set;
    json_t *model_doc, *train_doc;
    struct notices notices;
    struct job job;
};

enum { TEXT_MOST = 64 << 20 };

/* The text of an input file, owned by the job. */
static enum status read_text(struct build *b, const char *path, const char **text, struct err *e)
{
    void *data;
    uint64_t size;
    TRY(file_read_all(path, TEXT_MOST, &data, &size, e));
    char *s = arena_alloc(&b->job.texts, size + 1);
    memcpy(s, data, size);
    mem_free(data);
    if (memchr(s, '\0', size))
        return err_set(e, ST_INPUT, path, "found a NUL byte, expected JSON text");
    *text = s;
    return ST_OK;
}

static enum status read_sources(struct build *b, struct err *e)
{
    const char *train_text;
    TRY(read_text(b, b->model, &b->job.model_text, e));
    TRY(read_text(b, b->strategy, &b->job.strategy_text, e));
    TRY(read_text(b, b->train, &train_text, e));
    b->job.model_file = job_text(&b->job, b->model);
    b->job.strategy_file = job_text(&b->job, b->strategy);
    TRY(js_load_text(b->job.model_text, b->model, &b->model_doc, e));
    TRY(js_load_text(train_text, b->train, &b->train_doc, e));
    for (uint32_t i = 0; i < b->set.n; i++)
        TRY(config_set(b->model_doc, b->train_doc, b->set.at[i], e));
    return ST_OK;
}

/* The files that the strategy names (csv schedules), by paths relative to its own, become part of the job. */
static enum status attach_files(struct build *b, struct err *e)
{
    json_t *strategy;
    TRY(js_load_text(b->job.strategy_text, b->strategy, &strategy, e));
    const char *slash = strrchr(b->strategy, '/'), *name;
    int folder = slash ? (int)(slash + 1 - b->strategy) : 0;
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && (name = sched_file(strategy, i)); i++) {
        struct job_attachment a = { .name = job_text(&b->job, name) };
        const char *path = *name == '/' ? name : arena_printf(&b->job.texts, "%.*s%s", folder, b->strategy, name);
        struct err missing = { 0 };
        st = read_text(b, path, &a.text, &missing);
        if (st != ST_OK)
            err_set(e, st, b->strategy, "schedule \"%s\": %s", name, missing.text);
        if (st == ST_OK && !job_attachment(&b->job, name))
            vec_add(&b->job.attachments, a);
    }
    json_decref(strategy);
    return st;
}

/* The strategy as primitives, one a line. */
static const char *primitives_text(struct build *b, json_t *list)
{
    char *text = mem_strdup("[");
    size_t n = 1, i;
    json_t *directive;
    json_array_foreach(list, i, directive)
    {
        char *one = json_dumps(directive, JSON_COMPACT);
        size_t length = strlen(one);
        text = mem_realloc(text, n + length + 8);
        n += (size_t)snprintf(text + n, length + 8, "%s\n  %s", i ? "," : "", one);
        free(one);
    }
    text = mem_realloc(text, n + 4);
    snprintf(text + n, 4, "\n]\n");
    const char *kept = job_text(&b->job, text);
    mem_free(text);
    return kept;
}

/* The strategy is compiled, so that what cannot run is refused here; where it leaves the number of ranks open, for the least
 * number. For a device that can do everything: this machine need not be the one that trains. */
static enum status check_strategy(struct build *b, struct err *e)
{
    struct sched_input in;
    json_t *primitives = NULL;
    uint32_t ranks = 0;
    TRY(compile_input(&b->job, "emulate", 0, COMM_SCRATCH, &in, e));
    in.ranks = sched_least_ranks(in.strategy);
    enum status st = sched_expand(&in, &primitives, &ranks, e);
    if (st == ST_OK && !in.ranks)
        b->job.strategy_expanded = primitives_text(b, primitives);
    if (st == ST_OK)
        json_decref(primitives);
    if (st == ST_OK && ranks) {
        struct sched_output out = { 0 };
        st = sched_compile(&in, &out, e);
        sched_output_release(&out);
    }
    json_decref(in.strategy);
    return st;
}

static enum status build(struct build *b, int argc, char **argv, struct err *e)
{
    const char *const inputs[] = { b->model, b->strategy, b->train };
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        TRY(file_differs(b->out, inputs[i], e));
    TRY(read_sources(b, e));
    TRY(config_parse(b->train_doc, b->train, &b->job.train, e));
    config_notes(&b->job.train, b->train, &b->notices);
    TRY(ir_family_build(b->model_doc, b->model, b->job.train.seq_len, &b->job.graph, &b->notices, e));
    TRY(attach_files(b, e));
    TRY(check_strategy(b, e));
    job_sign(&b->job, argc, argv);
    TRY(job_write(b->out, &b->job, e));
    for (uint32_t i = 0; i < b->notices.n; i++)
        printf("note: %s\n", b->notices.at[i]);
    printf("%s: %s, %llu parameters, batch %u x %u tokens, %llu steps\n", b->out, b->job.graph.family,
           (unsigned long long)ir_graph_param_count(&b->job.graph), b->job.train.batch_size, b->job.train.seq_len,
           (unsigned long long)b->job.train.steps);
    return ST_OK;
}

static enum status check_options(const struct build *b, struct err *e)
{
    if (!b->model || !b->strategy || !b->train || !b->out)
        return err_set(e, ST_USAGE, "build", "missing required option %s",
                       !b->model      ? "-m model.json"
                       : !b->strategy ? "-s strategy.json"
                       : !b->train    ? "-t train.json"
                                      : "-o job.h5");
    return ST_OK;
}

#define AT(member) offsetof(struct build, member)
static const struct option options[] = {
    TEXT("model", 'm', AT(model), "FILE", "model.json: a Hugging Face config.json, or a \"graph\""),
    TEXT("strategy", 's', AT(strategy), "FILE", "strategy.json: a list of directives"),
    TEXT("train", 't', AT(train), "FILE", "train.json: training settings"),
    TEXT("output", 'o', AT(out), "FILE", "job file to write"),
    LIST("set", 0, AT(set), "KEY=VALUE", "override one value of the model or the settings, e.g. train.steps=100"),
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
    job_init(&b.job);
    notices_init(&b.notices);
    enum status st = options_parse(&usage, argc, argv, &b, e);
    if (st == ST_OK && !b.common.help)
        st = check_options(&b, e);
    if (st == ST_OK && !b.common.help)
        st = build(&b, argc, argv, e);
    json_decref(b.model_doc);
    json_decref(b.train_doc);
    notices_release(&b.notices);
    job_release(&b.job);
    vec_free(&b.set);
    vec_free(&b.common.operands);
    return st;
}

const struct command command_build = { "build", "build a job file from model, strategy and training settings",
                                       build_command };
