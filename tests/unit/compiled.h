/* Jobs compiled from text, for the tests of what the compiler makes. */
#ifndef TESTS_UNIT_COMPILED_H
#define TESTS_UNIT_COMPILED_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/family/family.h"
#include "ir/freeze.h"
#include "sched/sched.h"

/* The first MODELS are tried with every strategy. */
enum compiled_model {
    MODEL_LLAMA,
    MODEL_GPT2,
    MODEL_MOE,
    MODELS,
    MODEL_DROPLESS = MODELS,
    MODEL_BRANCH,
    MODEL_OLMO2,
    MODEL_TIED,
    MODEL_TIES,
    MODEL_FROZEN,
    MODEL_TABLE,
    MODEL_FILES
};

/* Files of tests/jobs. Four layers each; gpt2 is tied; the experts of qwen3_moe have a capacity; olmo2 norms q and k over all heads.
 * MODEL_FROZEN: of the model of llama.json layer 1 is frozen. MODEL_TABLE: nearly all of it is a tied table. */
static const char *const model_files[MODEL_FILES] = {
    [MODEL_LLAMA] = "llama.json",       [MODEL_GPT2] = "gpt2.json",     [MODEL_MOE] = "qwen3_moe.json",
    [MODEL_DROPLESS] = "dropless.json", [MODEL_BRANCH] = "branch.json", [MODEL_OLMO2] = "olmo2.json",
    [MODEL_TIED] = "tied.json",         [MODEL_TIES] = "ties.json",     [MODEL_FROZEN] = "llama.json",
    [MODEL_TABLE] = "table.json",
};

struct compiled {
    struct ir_graph g;
    struct sched_output out;
    struct plan *plans; /* [out.n_classes] */
    char *dump;         /* what --dump prints before the plans; NULL: not asked for */
};

static inline void compiled_release(struct compiled *c)
{
    mem_free(c->plans);
    free(c->dump);
    sched_output_release(&c->out);
    ir_graph_release(&c->g);
}

static inline json_t *compiled_json(const char *text)
{
    struct err e = { 0 };
    json_t *doc = NULL;
    ck_assert_msg(js_load_text(text, "text", &doc, &e) == ST_OK, "%s: %s", e.text, text);
    return doc;
}

static inline FILE *compiled_file(const char *name)
{
    const char *top = getenv("top_srcdir");
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/jobs/%s", top ? top : ".", name);
    FILE *f = fopen(path, "r");
    CHECK(f); /* also called where no test runs */
    return f;
}

/* A line of tests/jobs/strategies: what it makes, and its directives. */
struct compiled_strategy {
    uint32_t ranks, microbatches, replicas;
    const char *text;
};
static inline const struct compiled_strategy *compiled_strategies(int *n)
{
    enum { MOST = 100 };
    static struct compiled_strategy all[MOST];
    static int have;
    char *line = NULL;
    size_t size = 0;
    FILE *f = have ? NULL : compiled_file("strategies");
    while (f && getline(&line, &size, f) > 0) {
        struct compiled_strategy *s = &all[have];
        int at = 0;
        if (*line == '#')
            continue;
        CHECK(have + 1 < MOST && sscanf(line, "%u %u %u %n", &s->ranks, &s->microbatches, &s->replicas, &at) == 3);
        s->text = strdup(line + at);
        have++;
    }
    free(line);
    if (f)
        fclose(f);
    *n = have;
    return all;
}

static inline void compiled_graph(enum compiled_model model, struct ir_graph *g)
{
    struct notices notices;
    struct err e = { 0 };
    FILE *f = compiled_file(model_files[model]);
    json_t *doc = json_loadf(f, 0, NULL);
    fclose(f);
    ir_graph_init(g);
    notices_init(&notices);
    ck_assert_msg(ir_family_build(doc, "model.json", 8, g, &notices, &e) == ST_OK, "%s", e.text);
    notices_release(&notices);
    json_decref(doc);
    if (model == MODEL_FROZEN)
        ck_assert_uint_gt(ir_freeze(g, "model.layers.1.*"), 0);
}

/* The usual settings: 16 sequences of 8 tokens, AdamW, clipping, a plan for evaluation, as odd strategies have it too. */
static inline struct sched_input compiled_settings(void)
{
    return (struct sched_input){
        .strategy_name = "strategy.json",
        .batch_size = 16,
        .compute = IR_F32,
        .clip = true,
        .eval = true,
        .snapshot = true,
        .target = &ir_target_cpu,
        .comm_scratch = 1 << 20,
    };
}

/* Compiles `strategy` with such settings. What the compiler refuses fails the test. */
static inline void compiled_as(struct compiled *c, enum compiled_model model, const char *strategy, bool dump,
                               struct sched_input in)
{
    struct err e = { 0 };
    size_t bytes;
    *c = (struct compiled){ .dump = NULL };
    compiled_graph(model, &c->g);
    json_t *list = compiled_json(strategy);
    FILE *to = dump ? open_memstream(&c->dump, &bytes) : NULL;
    in.graph = &c->g;
    in.strategy = list;
    in.dump = to;
    enum status st = sched_compile(&in, &c->out, &e);
    if (to)
        fclose(to);
    ck_assert_msg(st == ST_OK, "%s\n%s\n%s", model_files[model], strategy, e.text);
    json_decref(list);
    c->plans = mem_alloc(c->out.n_classes * sizeof *c->plans);
    for (uint32_t i = 0; i < c->out.n_classes; i++) {
        st = plan_open(c->out.classes[i].blob, c->out.classes[i].bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n,
                       &c->plans[i], &e);
        ck_assert_msg(st == ST_OK, "%s\n%s", strategy, e.text);
    }
}
static inline void compiled_clipped(struct compiled *c, enum compiled_model model, const char *strategy, bool dump,
                                    bool clip)
{
    struct sched_input in = compiled_settings();
    in.clip = clip;
    compiled_as(c, model, strategy, dump, in);
}
static inline void compiled_init(struct compiled *c, enum compiled_model model, const char *strategy, bool dump)
{
    compiled_clipped(c, model, strategy, dump, true);
}
static inline bool compiled_same(const struct compiled *a, const struct compiled *b)
{
    bool same = a->out.n_classes == b->out.n_classes;
    for (uint32_t i = 0; i < a->out.n_classes && same; i++)
        same = a->out.classes[i].bytes == b->out.classes[i].bytes &&
               memcmp(a->out.classes[i].blob, b->out.classes[i].blob, a->out.classes[i].bytes) == 0;
    return same;
}
/* Case i: a strategy of tests/jobs/strategies with one of the MODELS; there are as many cases as strategies times those. Every second one
 * does not clip: its updates wait for no norm, and its layers may share memory of gradients. */
static inline const struct compiled_strategy *compiled_case(struct compiled *c, int i)
{
    int n;
    const struct compiled_strategy *s = &compiled_strategies(&n)[i / MODELS];
    compiled_clipped(c, (enum compiled_model)(i % MODELS), s->text, false, i % 2 == 0);
    return s;
}

#endif
