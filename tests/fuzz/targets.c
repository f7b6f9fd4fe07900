/* The readers. Each gets bytes nobody vouches for and has to end with ST_OK or with a status and a sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "job/config.h"
#include "io/checkpoint.h"
#include "io/job.h"
#include "io/safetensors.h"
#include "io/tokens.h"
#include "io/trace.h"
#include "ir/family/family.h"
#include "sched/sched.h"
#include "tests/fuzz/fuzz.h"

static struct job job;

void fuzz_targets_open(const char *corpus)
{
    char path[4096];
    struct err e = { 0 };
    snprintf(path, sizeof path, "%s/job.h5", corpus);
    if (job_read(path, &job, &e) != ST_OK) {
        fprintf(stderr, "%s\n", e.text);
        exit(99);
    }
    snprintf(path, sizeof path, "%s/tokenizer-chat.json", corpus);
    fuzz_open_chat(path);
    fuzz_open_commands(corpus);
    snprintf(path, sizeof path, "%s/machine.h5", corpus);
    fuzz_make_machine(path);
}

/* The first control character, other than a tab or the end of a line; NULL: there is none. */
static const char *control(const char *text, size_t n)
{
    for (const char *c = text; c < text + n; c++)
        if (((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f ||
            (c + 1 < text + n && memcmp(c, "\xc2", 1) == 0 && (c[1] & 0xe0) == 0x80))
            return c;
    return NULL;
}

void fuzz_quiet(int file)
{
    if (lseek(file, 0, SEEK_CUR) > 0 && (lseek(file, 0, SEEK_SET) != 0 || ftruncate(file, 0) != 0))
        exit(99);
}

void fuzz_check_said(int file)
{
    const off_t n = lseek(file, 0, SEEK_END);
    if (n <= 0)
        return;
    char *text = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, file, 0);
    if (text == MAP_FAILED)
        exit(99);
    const char *found = control(text, (size_t)n);
    if (found) {
        fprintf(stderr, "control character 0x%02x at byte %td of what was written\n", (unsigned char)*found,
                found - text);
        abort();
    }
    munmap(text, (size_t)n);
}

int fuzz_answer(enum status st, const struct err *e)
{
    if (st == ST_OK)
        return 1;
    if (!*e->text || st == ST_BUG || control(e->text, strlen(e->text)) || strchr(e->text, '\n')) {
        fprintf(stderr, "status %d, sentence \"%s\"\n", st, e->text);
        abort();
    }
    return 0;
}

static int run_job(const struct fuzz_input *in, const char *path)
{
    (void)in;
    struct job j;
    struct err e = { 0 };
    enum status st = job_read(path, &j, &e);
    if (st == ST_OK)
        job_release(&j);
    return fuzz_answer(st, &e) && fuzz_show_job(path);
}

static int run_checkpoint(const struct fuzz_input *in, const char *path)
{
    (void)in;
    struct checkpoint_info info;
    struct err e = { 0 };
    float x[4], m[4], v[4];
    struct checkpoint_piece piece = { .param = 0, .first = 1, .count = 4, .data = x, .m = m, .v = v };
    int accepted = fuzz_show_checkpoint(path);
    return accepted & fuzz_answer(checkpoint_read(path, &job.graph, job.model_digest, &piece, 1, &info, &e), &e);
}

static int run_tokens(const struct fuzz_input *in, const char *path)
{
    (void)in;
    struct tokens t;
    struct err e = { 0 };
    const uint32_t length = job.graph.seq_len;
    int32_t *x = mem_alloc((length + 1u) * sizeof *x);
    uint64_t starts[64];
    struct tokens_about about;
    struct arena a;
    enum status st = tokens_open(path, length, job.graph.vocab, &t, &e);
    bool open = st == ST_OK;
    for (uint64_t i = 0; st == ST_OK && i < t.n_windows && i < 64; i++)
        st = tokens_window(&t, i, x, &e);
    if (st == ST_OK && t.n_documents)
        st = tokens_documents(&t, 0, t.n_documents < 64 ? t.n_documents : 64, starts, &e);
    if (open)
        tokens_close(&t);
    arena_init(&a);
    if (st == ST_OK)
        st = tokens_describe(path, &a, &about, &e);
    arena_release(&a);
    mem_free(x);
    return fuzz_answer(st, &e) && fuzz_show_tokens(path);
}

static int run_trace(const struct fuzz_input *in, const char *path)
{
    (void)in;
    struct trace t;
    struct err e = { 0 };
    enum status st = trace_read(path, &t, &e);
    if (st == ST_OK)
        trace_release(&t);
    return fuzz_answer(st, &e) && fuzz_show_trace(path);
}

static int run_safetensors(const struct fuzz_input *in, const char *path)
{
    (void)in;
    struct safetensors s;
    struct err e = { 0 };
    float x[16];
    enum status st = safetensors_open(path, &s, &e);
    if (st != ST_OK)
        return fuzz_answer(st, &e);
    for (uint32_t i = 0; st == ST_OK && i < s.entries.n; i++)
        st = safetensors_read(&s, &s.entries.at[i], 0, 1, x, &e);
    safetensors_close(&s);
    return fuzz_answer(st, &e);
}

/* ---- text ---- */

static json_t *document(const struct fuzz_input *in, struct err *e)
{
    json_t *doc = NULL;
    if (memchr(in->at, 0, in->n) || js_load_text((const char *)in->at, "fuzz.json", &doc, e) != ST_OK)
        return NULL;
    return doc;
}

static int run_model(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct err e = { 0 };
    struct ir_graph g;
    struct notices notices;
    json_t *doc = document(in, &e);
    if (!doc)
        return 0;
    ir_graph_init(&g);
    notices_init(&notices);
    int accepted = fuzz_answer(ir_family_build(doc, "fuzz.json", 8, &g, &notices, &e), &e);
    notices_release(&notices);
    ir_graph_release(&g);
    json_decref(doc);
    return accepted;
}

static int run_train(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct err e = { 0 };
    struct train_config c;
    json_t *doc = document(in, &e);
    if (!doc)
        return 0;
    int accepted = fuzz_answer(config_parse(doc, "fuzz.json", &c, &e), &e);
    json_decref(doc);
    return accepted;
}

static struct sched_input compiler_input(json_t *strategy)
{
    return (struct sched_input){
        .graph = &job.graph,
        .strategy = strategy,
        .strategy_name = "fuzz.json",
        .batch_size = job.train.batch_size,
        .compute = IR_F32,
        .clip = true,
        .target = &ir_target_cpu,
    };
}

/* Everything the compiler makes of a strategy, verified. What it cannot know is who else sees the graph: a copy each time. */
static int compile(json_t *strategy, const struct sched_text *text)
{
    struct err e = { 0 };
    struct sched_output out = { 0 };
    struct sched_input in = compiler_input(strategy);
    in.texts = text;
    in.n_texts = text != NULL;
    const uint32_t tags = job.graph.n_tags;
    int accepted = fuzz_answer(sched_compile(&in, &out, &e), &e);
    sched_output_release(&out);
    job.graph.n_tags = tags;
    return accepted;
}

static int run_strategy(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct err e = { 0 };
    json_t *doc = document(in, &e);
    if (!doc)
        return 0;
    int accepted = compile(doc, NULL);
    json_decref(doc);
    return accepted;
}

static int run_csv(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct err e = { 0 };
    json_t *doc = NULL;
    if (memchr(in->at, 0, in->n))
        return 0;
    const struct sched_text text = { "fuzz.csv", (const char *)in->at };
    js_load_text("[{\"op\":\"layout\",\"pp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"fuzz.csv\"}]",
                 "fuzz.json", &doc, &e);
    int accepted = compile(doc, &text);
    json_decref(doc);
    return accepted;
}

/* ---- plans: a blob that is refused is our fault (ST_BUG), and may not crash ---- */

static int run_plan(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct plan p;
    struct err e = { 0 };
    const struct ir_graph *g = &job.graph;
    void *blob = mem_alloc(in->n);
    memcpy(blob, in->at, in->n);
    enum status st = plan_open(blob, in->n, g->ops.n, g->params.n, g->tensors.n, &p, &e);
    if (st == ST_OK)
        sched_check(&p, 1, g, &ir_target_cpu, &e);
    mem_free(blob);
    return st == ST_OK;
}

static int run_plan_text(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct err e = { 0 };
    void *blob = NULL;
    uint64_t bytes;
    if (memchr(in->at, 0, in->n))
        return 0;
    enum status st = plan_parse((const char *)in->at, &job.graph, &blob, &bytes, &e);
    if (st == ST_OK) {
        struct fuzz_input again = { blob, bytes };
        run_plan(&again, NULL);
        mem_free(blob);
    }
    return st == ST_OK;
}

const struct fuzz_target fuzz_targets[] = {
    { "job", run_job, 1, FUZZ_HDF5 },
    { "checkpoint", run_checkpoint, 1, FUZZ_HDF5 },
    { "tokens", run_tokens, 1, FUZZ_HDF5 },
    { "trace", run_trace, 1, FUZZ_HDF5 },
    { "safetensors", run_safetensors, 1, 0 },
    { "model", run_model, 0, 0 },
    { "strategy", run_strategy, 0, 0 },
    { "train", run_train, 0, 0 },
    { "csv", run_csv, 0, 0 },
    { "plan-text", run_plan_text, 0, 0 },
    { "plan", run_plan, 0, 0 },
    { "machine", fuzz_run_machine, 1, FUZZ_HDF5 },
    { "sheet", fuzz_run_machine, 1, 0 },
    { "topology", fuzz_run_topology, 1, 0 },
    { "products", fuzz_run_products, 1, 0 },
    { "ring", fuzz_run_ring, 0, 0 },
    { "halt", fuzz_run_halt, 0, 0 },
    { "lock", fuzz_run_lock, 0, 0 },
    { "tokenizer", fuzz_run_tokenizer, 0, 0 },
    { "pieces", fuzz_run_tokenizer, 0, 0 },
    { "chat", fuzz_run_chat, 0, 0 },
    { "ranks", fuzz_run_ranks, 0, 0 },
    { "pattern", fuzz_run_pattern, 0, 0 },
    { "lines", fuzz_run_lines, 1, 0 },
    { "packed", fuzz_run_packed, 1, 0 },
    { "ids", fuzz_run_ids, 1, 0 },
    { "index", fuzz_run_index, 0, 0 },
    { "options", fuzz_run_options, 0, 0 },
    { "environment", fuzz_run_environment, 0, FUZZ_SETTING },
    { "folder", fuzz_run_folder, 0, 0 },
    { "run", fuzz_run_run, 0, 0 },
    { 0 },
};
