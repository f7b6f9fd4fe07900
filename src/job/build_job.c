#include "job/build_job.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "io/file.h"
#include "io/tokens.h"
#include "ir/family/family.h"
#include "job/compile_job.h"
#include "job/config.h"
#include "job/data_path.h"
#include "job/progress.h"

struct build {
    const struct job_sources *from;
    json_t *model, *strategy, *train; /* the documents */
    struct notices *notices;
    struct job *job;
    uint64_t comm_scratch;
};

enum { TEXT_MOST = 64 << 20 };

/* The text of an input file, owned by the job. */
static enum status read_text(struct build *b, const char *path, const char **text, struct err *e)
{
    void *data;
    uint64_t size;
    TRY(file_read_all(path, TEXT_MOST, &data, &size, e));
    char *s = arena_alloc(&b->job->texts, size + 1);
    memcpy(s, data, size);
    mem_free(data);
    if (memchr(s, '\0', size))
        return err_set(e, ST_INPUT, path, "found a NUL byte, expected JSON text");
    *text = s;
    return ST_OK;
}

/* A list of directives as text, one a line. */
static const char *list_text(struct build *b, json_t *list)
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
    const char *kept = job_text(b->job, text);
    mem_free(text);
    return kept;
}

static enum status read_sources(struct build *b, struct err *e)
{
    const char *train_text;
    const struct job_sources *from = b->from;
    TRY(read_text(b, from->model, &b->job->model_text, e));
    if (from->strategy)
        TRY(read_text(b, from->strategy, &b->job->strategy_text, e));
    else
        b->job->strategy_text = job_text(b->job, "[]\n");
    TRY(read_text(b, from->train, &train_text, e));
    b->job->model_file = job_text(b->job, from->model);
    b->job->strategy_file = job_text(b->job, from->strategy ? from->strategy : "");
    TRY(js_load_text(b->job->model_text, from->model, &b->model, e));
    TRY(js_load_text(b->job->strategy_text, b->job->strategy_file, &b->strategy, e));
    TRY(js_load_text(train_text, from->train, &b->train, e));
    bool changed = false; /* the strategy, whose text is part of the job */
    for (uint32_t i = 0; i < from->n_set; i++) {
        TRY(config_set(&(struct config_documents){ b->model, b->strategy, b->train }, from->set[i], e));
        changed |= strncmp(from->set[i], "strategy", 8) == 0;
    }
    if (from->n_set) { /* the job's text is that of its model */
        char *text = js_text(b->model, JSON_INDENT(2));
        b->job->model_text = job_text(b->job, text);
        free(text);
    }
    if (changed)
        b->job->strategy_text = list_text(b, b->strategy);
    return ST_OK;
}

/* The files that the strategy names (csv schedules), by paths relative to its own, become part of the job. */
static enum status attach_files(struct build *b, struct err *e)
{
    const char *file = b->from->strategy, *slash = strrchr(file, '/'), *name;
    int folder = slash ? (int)(slash + 1 - file) : 0;
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && (name = sched_file(b->strategy, i)); i++) {
        struct job_attachment a = { .name = job_text(b->job, name) };
        const char *path = *name == '/' ? name : arena_printf(&b->job->texts, "%.*s%s", folder, file, name);
        struct err missing = { 0 };
        st = read_text(b, path, &a.text, &missing);
        if (st != ST_OK)
            err_set(e, st, file, "schedule \"%s\": %s", name, missing.text);
        if (st == ST_OK && !job_attachment(b->job, name))
            vec_add(&b->job->attachments, a);
    }
    return st;
}

/* The strategy is compiled, so that what cannot run is refused here; where it leaves the number of ranks open, for the least
 * number. For a device that can do everything: this machine need not be the one that trains. */
static enum status check_strategy(struct build *b, struct err *e)
{
    struct sched_input in;
    json_t *primitives = NULL;
    uint32_t ranks = 0;
    TRY(compile_input(b->job, "emulate", 0, b->comm_scratch, &in, e));
    in.ranks = sched_least_ranks(in.strategy);
    in.notices = b->notices;
    enum status st = sched_expand(&in, &primitives, &ranks, e);
    in.notices = NULL; /* said once */
    if (st == ST_OK && !in.ranks && !b->from->compiles)
        b->job->strategy_expanded = list_text(b, primitives);
    if (st == ST_OK)
        json_decref(primitives);
    if (st == ST_OK && ranks && !b->from->compiles) {
        struct sched_output out = { 0 };
        st = sched_compile(&in, &out, e);
        sched_output_release(&out);
    }
    json_decref(in.strategy);
    return st;
}

/* What runs, and seldom is what was meant. */
static void note_strategy(struct build *b)
{
    size_t i;
    json_t *d;
    json_int_t stages = 1;
    bool ordered = false;
    json_array_foreach(b->strategy, i, d)
    {
        const char *op = json_string_value(json_object_get(d, "op"));
        if (op && strcmp(op, "layout") == 0 && json_integer_value(json_object_get(d, "pp")) > 1)
            stages = json_integer_value(json_object_get(d, "pp"));
        ordered |= op && (strcmp(op, "schedule") == 0 || strcmp(op, "split") == 0);
        if (op && strcmp(op, "fuse_collectives") == 0)
            notices_add(b->notices, b->from->strategy,
                        "$[%zu]: fuse_collectives has no effect: buckets are communicated together anyway", i);
    }
    if (stages > 1 && !ordered)
        notices_add(b->notices, b->from->strategy,
                    "$: %lld pipeline stages and one microbatch: at any time one stage works. Add a schedule, e.g. "
                    "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":%lld}",
                    (long long)stages, (long long)(4 * stages));
}

/* Selection biases that nothing moves, which may be an omission, and a rate that moves nothing. */
static void note_balance(struct build *b)
{
    static const char key[] = "moe_router_bias_update_rate";
    const struct ir_ops *ops = &b->job->graph.ops;
    uint32_t biased = 0;
    for (uint32_t i = 0; i < ops->n; i++)
        biased += ops->at[i].op == IR_OP_ROUTER && ops->at[i].attrs.flags & IR_SELECT_BIAS;
    if (biased && !json_object_get(b->train, key))
        notices_add(b->notices, b->from->train,
                    "$.%s: missing, so the selection biases of %u routers do not move, and do not balance the load of "
                    "experts: 0.001 is usual, an explicit 0 keeps them without this note",
                    key, biased);
    if (!biased && b->job->train.bias_update_rate > 0)
        notices_add(b->notices, b->from->train, "$.%s: %g has no effect: no router of the model has a selection bias",
                    key, b->job->train.bias_update_rate);
}

/* What training would say about its data, where it is there already: a job may be built before them. A model's vocabulary may be
 * larger than the file's (padded), not the other way round. */
static void note_file(struct build *b, const char *key, const char *path)
{
    struct tokens t;
    struct err why = { 0 };
    if (tokens_open(path, b->job->train.seq_len, UINT32_MAX, &t, &why) != ST_OK) {
        notices_add(b->notices, b->from->train, "$.%s: %s", key, why.text);
        return;
    }
    const uint32_t vocab = b->job->graph.vocab;
    if (t.file_vocab > vocab)
        notices_add(b->notices, b->from->train,
                    "$.%s: %s has a vocabulary of %u tokens, the model %u: training stops at an id from %u on", key,
                    path, t.file_vocab, vocab, vocab);
    if (b->job->train.documents == DOCUMENTS_SEPARATE && !t.n_documents)
        notices_add(b->notices, b->from->train, "$.%s: %s marks no documents, which $.documents requires", key, path);
    tokens_close(&t);
}

static void take_data(struct build *b, const char *key, struct train_sources *s)
{
    data_paths_beside(b->from->train, s);
    for (uint32_t i = 0; i < s->n; i++)
        note_file(b, key, s->at[i].path);
    if (b->from->out)
        data_paths_for(b->from->out, s);
}

static enum status build(struct build *b, struct err *e)
{
    struct job *j = b->job;
    TRY(read_sources(b, e));
    progress_say("the model");
    TRY(config_parse(b->train, b->from->train, &j->train, e));
    config_notes(&j->train, b->from->train, b->notices);
    TRY(ir_family_build(b->model, b->from->model, j->train.seq_len, &j->graph, b->notices, e));
    if (j->train.documents == DOCUMENTS_SEPARATE)
        ir_graph_separate(&j->graph);
    TRY(job_freeze(j, b->from->train, e));
    if (b->from->strategy) { /* one that is still to be found is not judged */
        TRY(attach_files(b, e));
        TRY(check_strategy(b, e));
        note_strategy(b);
    }
    note_balance(b);
    take_data(b, "data", &j->train.data);
    take_data(b, "eval_data", &j->train.eval_data);
    return ST_OK;
}

enum status job_build(const struct job_sources *s, uint64_t comm_scratch, int argc, char *const *argv, struct job *j,
                      struct notices *notices, struct err *e)
{
    struct build b = { .from = s, .notices = notices, .job = j, .comm_scratch = comm_scratch };
    job_init(j);
    job_sign(j, argc, argv);
    progress_begin("reading files");
    enum status st = build(&b, e);
    progress_end();
    json_decref(b.model);
    json_decref(b.strategy);
    json_decref(b.train);
    if (st != ST_OK)
        job_release(j);
    return st;
}
