/* Jobs compiled from text, for the tests of what the compiler makes. */
#ifndef TESTS_UNIT_COMPILED_H
#define TESTS_UNIT_COMPILED_H

#include <check.h>

#include "ir/family/family.h"
#include "sched/sched.h"

enum compiled_model { MODEL_LLAMA, MODEL_GPT2, MODEL_MOE, MODELS };

/* Four layers each; gpt2 is tied; the experts of qwen3_moe have a capacity. */
static const char *const model_texts[MODELS] = {
    [MODEL_LLAMA] = "{\"model_type\":\"llama\",\"vocab_size\":48,\"hidden_size\":16,\"num_hidden_layers\":4,"
                    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":24}",
    [MODEL_GPT2] =
        "{\"model_type\":\"gpt2\",\"vocab_size\":48,\"n_embd\":16,\"n_layer\":4,\"n_head\":2,\"n_positions\":8}",
    [MODEL_MOE] = "{\"model_type\":\"qwen3_moe\",\"vocab_size\":48,\"hidden_size\":16,\"num_hidden_layers\":4,"
                  "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":8,\"moe_intermediate_size\":8,"
                  "\"num_experts\":4,\"num_experts_per_tok\":2,\"capacity_factor\":1.5}",
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

static inline void compiled_graph(enum compiled_model model, struct ir_graph *g)
{
    struct notices notices;
    struct err e = { 0 };
    json_t *doc = compiled_json(model_texts[model]);
    ir_graph_init(g);
    notices_init(&notices);
    ck_assert_msg(ir_family_build(doc, "model.json", 8, g, &notices, &e) == ST_OK, "%s", e.text);
    notices_release(&notices);
    json_decref(doc);
}

/* Compiles `strategy` for 16 sequences of 8 tokens; AdamW, clipped, with a plan for evaluation, as odd strategies have it
 * too. What the compiler refuses fails the test. */
static inline void compiled_init(struct compiled *c, enum compiled_model model, const char *strategy, bool dump)
{
    struct err e = { 0 };
    size_t bytes;
    *c = (struct compiled){ .dump = NULL };
    compiled_graph(model, &c->g);
    json_t *list = compiled_json(strategy);
    FILE *to = dump ? open_memstream(&c->dump, &bytes) : NULL;
    struct sched_input in = {
        .graph = &c->g,
        .strategy = list,
        .strategy_name = "strategy.json",
        .batch_size = 16,
        .compute = IR_F32,
        .clip = true,
        .eval = true,
        .snapshot = true,
        .target = &ir_target_cpu,
        .dump = to,
    };
    enum status st = sched_compile(&in, &c->out, &e);
    if (to)
        fclose(to);
    ck_assert_msg(st == ST_OK, "%s\n%s\n%s", model_texts[model], strategy, e.text);
    json_decref(list);
    c->plans = mem_alloc(c->out.n_classes * sizeof *c->plans);
    for (uint32_t i = 0; i < c->out.n_classes; i++) {
        st = plan_open(c->out.classes[i].blob, c->out.classes[i].bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n,
                       &c->plans[i], &e);
        ck_assert_msg(st == ST_OK, "%s\n%s", strategy, e.text);
    }
}

#endif
