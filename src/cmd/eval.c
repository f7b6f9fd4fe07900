/* piper eval: loss and perplexity of a model on token files. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "cmd/asked.h"
#include "cmd/command.h"
#include "speak/evaluate.h"
#include "speak/tokens.h"

enum { SEQ_LEN = 1024 /* of a directory that transformers loads, without a job */ };

struct eval_options {
    struct option_common common;
    const char *job, *dtype;
    struct option_list data;
    uint64_t seq_len, threads;
};

struct evaluating {
    const struct eval_options *o;
    struct asked from;
    struct train_sources sets; /* what to evaluate on */
    struct speak_model m;
    uint64_t batch; /* sequences; evaluation takes whole batches, as in training */
    bool apart;     /* documents */
    struct speak_result all;
    double bytes; /* of the text of all targets; NAN: not known */
};

/* ---- which files -------------------------------------------------------------------------------------------------- */

static enum status add_file(struct evaluating *v, const char *path, struct err *e)
{
    struct train_source *s = &v->sets.at[v->sets.n];
    if (v->sets.n == TRAIN_SOURCES_MAX)
        return err_set(e, ST_USAGE, "--data", "found more than %d files", TRAIN_SOURCES_MAX);
    if (strlen(path) >= sizeof s->path)
        return err_set(e, ST_USAGE, "--data", "the path is too long, expected fewer than %zu bytes", sizeof s->path);
    strcpy(s->path, path);
    v->sets.n++;
    return ST_OK;
}

static enum status choose_files(struct evaluating *v, struct err *e)
{
    for (uint32_t i = 0; i < v->o->data.n; i++)
        TRY(add_file(v, v->o->data.at[i], e));
    if (v->sets.n == 0 && v->from.has_job)
        v->sets = v->from.job.train.eval_data;
    if (v->sets.n)
        return ST_OK;
    return v->from.has_job
               ? err_set(e, ST_USAGE, v->from.from, "the job has no eval_data; name a token file with --data FILE")
               : err_set(e, ST_USAGE, v->from.from,
                         "there is no job.h5 whose eval_data could be taken; name the job with --job JOB, or a token "
                         "file with --data FILE");
}

/* ---- the model ---------------------------------------------------------------------------------------------------- */

static enum status open_model(struct evaluating *v, struct err *e)
{
    const struct speak_want want = { SPEAK_EVALUATE, asked_dtype(v->o->dtype) };
    if (v->o->seq_len && !v->from.is_folder)
        return err_set(e, ST_USAGE, "--seq-len",
                       "is for a directory that transformers loads; a checkpoint is evaluated as it was trained");
    if (v->o->seq_len > UINT32_MAX / 4)
        return err_set(e, ST_USAGE, "--seq-len", "expected at most %u", UINT32_MAX / 4);
    const struct ir_graph *job = v->from.has_job ? &v->from.job.graph : NULL;
    TRY(asked_load(&v->from, v->o->seq_len ? (uint32_t)v->o->seq_len : job ? job->seq_len : SEQ_LEN, &want, &v->m, e));
    char text[512];
    if (v->o->seq_len && v->m.graph.seq_len != v->o->seq_len)
        return err_set(e, ST_USAGE, "--seq-len", "found %" PRIu64 ", expected at most %u, the positions of the model",
                       v->o->seq_len, v->m.graph.seq_len);
    v->batch = 1;
    if (!job)
        return ST_OK;
    ir_graph_join(&v->from.job.graph);
    if (!v->from.is_folder && !ir_graph_same(&v->m.graph, job, text, sizeof text))
        return err_set(e, ST_INPUT, v->from.from, "is a model of another job: %s; name its own with --job JOB", text);
    if (!v->o->seq_len)
        v->batch = v->from.job.train.batch_size;
    v->apart = v->from.job.train.documents == DOCUMENTS_SEPARATE;
    if (v->apart)
        ir_graph_separate(&v->m.graph);
    return ST_OK;
}

/* ---- one file after the other -------------------------------------------------------------------------------------- */

/* Bytes of the text that targets stand for. */
struct counting {
    struct tokenizer *t; /* NULL: each is one */
    struct token_ids ids;
    struct text_bytes text;
    double bytes;
};

static enum status open_tokenizer(const char *tokens, struct tokenizer **t, struct err *e)
{
    struct err plain = { 0 };
    enum status st = speak_tokenizer_of(tokens, NULL, t, &plain);
    if (st == ST_USAGE) /* a rank file: how it splits text does not matter here */
        return speak_tokenizer_of(tokens, "gpt2", t, e);
    return st == ST_OK ? st : err_set(e, st, NULL, "%s", plain.text);
}

static void count_bytes(void *arg, const int32_t *targets, uint32_t n)
{
    struct counting *c = arg;
    c->ids.n = 0;
    c->text.n = 0;
    for (uint32_t i = 0; i < n; i++)
        if (targets[i] >= 0)
            vec_add(&c->ids, (uint32_t)targets[i]);
    if (c->t)
        tokenizer_decode(c->t, c->ids.at, c->ids.n, false, &c->text);
    c->bytes += c->t ? (double)c->text.n : (double)c->ids.n;
}

static void print_result(const char *name, const struct speak_result *r, double bytes)
{
    const double loss = r->loss / r->targets;
    text_print(stdout, "%s: loss %.9g, perplexity %.6g", name, loss, exp(loss));
    if (bytes > 0)
        printf(", %.6g bits per byte", r->loss / (log(2) * bytes));
    printf(", %.0f tokens\n", r->targets);
}

static enum status evaluate_open(struct evaluating *v, const struct train_source *s, struct tokens *t, struct err *e)
{
    const uint64_t windows = t->n_windows / v->batch * v->batch;
    struct counting c = { 0 };
    struct speak_result r;
    if (v->apart && !t->n_documents)
        return err_set(e, ST_INPUT, s->path,
                       "marks no documents, which \"documents\": \"separate\" of the job requires");
    if (windows == 0)
        return err_set(e, ST_INPUT, s->path,
                       "has %" PRIu64 " sequences of %u tokens, expected a whole batch of %" PRIu64, t->n_windows,
                       t->seq_len, v->batch);
    TRY(open_tokenizer(s->path, &c.t, e));
    const bool known = c.t || t->file_vocab == 256;
    const struct speak_data data = { t, windows, v->apart, known ? count_bytes : NULL, &c };
    enum status st = speak_evaluate(&v->m, &data, &r, e);
    if (st == ST_OK && r.targets == 0)
        st = err_set(e, ST_INPUT, s->path, "no token of its %" PRIu64 " sequences is a target, expected one at least",
                     windows);
    if (st == ST_OK) {
        print_result(*s->name ? s->name : s->path, &r, known ? c.bytes : 0);
        v->all.loss += r.loss;
        v->all.targets += r.targets;
        v->bytes += known ? c.bytes : (double)NAN;
    }
    tokenizer_free(c.t);
    vec_free(&c.ids);
    text_bytes_free(&c.text);
    return st;
}

static enum status evaluate_file(struct evaluating *v, const struct train_source *s, struct err *e)
{
    struct tokens t;
    struct err why = { 0 };
    enum status st = tokens_open(s->path, v->m.graph.seq_len, v->m.graph.vocab, &t, &why);
    if (st != ST_OK)
        return err_set(e, st, NULL, "%s%s", why.text,
                       st == ST_MISSING && !v->o->data.n ? " (the job's eval_data, relative to the job file or to the "
                                                           "current directory; --data FILE names another)"
                                                         : "");
    st = evaluate_open(v, s, &t, e);
    tokens_close(&t);
    return st;
}

static enum status evaluate(struct evaluating *v, struct err *e)
{
    TRY(asked_threads(v->o->threads, e));
    TRY(asked_open(v->o->common.operands.at[0], v->o->job, &v->from, e));
    TRY(choose_files(v, e));
    TRY(open_model(v, e));
    for (uint32_t i = 0; i < v->sets.n; i++) {
        TRY(evaluate_file(v, &v->sets.at[i], e));
        fflush(stdout);
    }
    if (v->sets.n > 1)
        print_result("all", &v->all, v->bytes);
    return ST_OK;
}

#define AT(member) offsetof(struct eval_options, member)
static const struct option options[] = {
    LIST("data", 'd', AT(data), "FILE", "token file to evaluate on; several times (default: eval_data of the job)"),
    TEXT("job", 'j', AT(job), "JOB", "job file of the run (default: RUNDIR/job.h5)"),
    CHOICE("dtype", 0, AT(dtype), "TYPE", asked_dtypes, "compute in float32 or bfloat16 (default: as it was trained)"),
    NUMBER("seq-len", 0, AT(seq_len), "N", 1,
           "of a directory that transformers loads: tokens per sequence (default: of the job, else 1024)"),
    NUMBER("threads", 0, AT(threads), "N", 1, "threads (default: OMP_NUM_THREADS, else all CPUs)"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "eval",
    .synopsis = "RUNDIR|FILE|DIR [--data FILE]... [options]",
    .about =
        "Prints loss and perplexity of a model on token files: the newest checkpoint of a run directory, a checkpoint "
        "file, or a directory that transformers loads.",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

static enum status eval_command(int argc, char **argv, struct err *e)
{
    struct eval_options o = { .job = NULL };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help) {
        struct evaluating v = { .o = &o };
        st = evaluate(&v, e);
        speak_model_free(&v.m);
        asked_close(&v.from);
    }
    vec_free(&o.data);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_eval = { "eval", "loss and perplexity of a model on token files", eval_command };
