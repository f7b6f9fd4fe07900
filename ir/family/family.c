/* The table of families, and what is the same for all: annotations, EP tags, the checks at the end. */
#include "ir/family/decoder.h"

#include <stdio.h>

#include "base/ratio.h"

#define FAMILIES(ROW)     \
    ROW(gpt2)             \
    ROW(llama)            \
    ROW(qwen2)            \
    ROW(qwen3)            \
    ROW(qwen3_moe)        \
    ROW(mistral)          \
    ROW(ministral)        \
    ROW(mixtral)          \
    ROW(olmo)             \
    ROW(olmo2)            \
    ROW(olmo3)            \
    ROW(olmoe)            \
    ROW(smollm3)          \
    ROW(gemma)            \
    ROW(gemma2)           \
    ROW(gemma3_text)      \
    ROW(phi)              \
    ROW(phi3)             \
    ROW(granite)          \
    ROW(glm)              \
    ROW(glm4)             \
    ROW(cohere)           \
    ROW(cohere2)          \
    ROW(seed_oss)         \
    ROW(arcee)            \
    ROW(ernie4_5)         \
    ROW(opt)              \
    ROW(minicpm)          \
    ROW(internlm2)        \
    ROW(exaone4)          \
    ROW(hunyuan_v1_dense) \
    ROW(starcoder2)       \
    ROW(gpt_neox)         \
    ROW(gptj)             \
    ROW(falcon)           \
    ROW(glm4_moe)         \
    ROW(dots1)            \
    ROW(minimax_m2)       \
    ROW(granitemoe)       \
    ROW(gpt_oss)          \
    ROW(dbrx)             \
    ROW(ernie4_5_moe)     \
    ROW(qwen2_moe)        \
    ROW(deepseek_v2)      \
    ROW(deepseek_v3)

#define DECLARE(name) extern const struct family family_##name;
FAMILIES(DECLARE)
#define ENTRY(name) &family_##name,
const struct family *const ir_families[] = { FAMILIES(ENTRY) NULL };

uint32_t ir_capacity(double factor, uint32_t t, uint32_t top_k, uint32_t experts)
{
    const uint64_t rows = ratio_ceil(ratio_of(factor), (uint64_t)t * top_k, experts);
    return rows < t ? (uint32_t)rows : t;
}

/* "gpt2, llama, ..." */
static void list_families(char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (const struct family *const *f = ir_families; *f && n < size; f++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", (*f)->model_type);
}

static enum status find_family(const struct js *model, const struct family **out, struct err *e)
{
    struct js type;
    const char *name;
    char all[1024];
    list_families(all, sizeof all);
    if (!js_has(model, "model_type"))
        return js_wrong(model, e,
                        "found neither \"model_type\", as in a Hugging Face config.json (%s), nor \"graph\", a list of "
                        "operators",
                        all);
    TRY(js_need(model, "model_type", &type, e));
    TRY(js_str(&type, &name, e));
    for (const struct family *const *f = ir_families; *f; f++) {
        if (strcmp((*f)->model_type, name) != 0)
            continue;
        *out = *f;
        return ST_OK;
    }
    const char *why = hf_why_not(name);
    return why ? js_wrong(
                     &type, e,
                     "a %s cannot be described here: it has %s. What today's operators can compute may be given as a "
                     "\"graph\": piper-model(5)",
                     name, why)
               : js_expected(&type, e, "one of %s; what today's operators can compute may be given as a \"graph\"",
                             all);
}

static enum status build_hf(const struct js *model, struct ir_graph *g, struct notices *n, struct err *e)
{
    struct hf_model m = { .js = *model, .notices = n, .g = g, .e = e };
    TRY(find_family(model, &m.family, e));
    TRY(hf_read(&m));
    g->family = m.family->model_type;
    return m.family->build ? m.family->build(&m) : decoder_build(&m);
}

/* Expert regions carry EP, numbered in data flow. */
static enum status tag_experts(const struct js *model, struct ir_graph *g, struct err *e)
{
    int32_t n = 0;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        if (g->ops.at[i].op != IR_OP_EXPERTS)
            continue;
        uint32_t ep = ir_graph_tag(g, "EP");
        if (ep == IR_NONE)
            return js_wrong(model, e,
                            "found %d tags, which leaves none for EP of the expert regions: at most %d are possible",
                            IR_MAX_TAGS, IR_MAX_TAGS);
        g->ops.at[i].tag[ep] = n++;
    }
    return ST_OK;
}

enum status ir_family_build(json_t *model, const char *file, uint32_t seq_len, struct ir_graph *g, struct notices *n,
                            struct err *e)
{
    struct js js = js_root(model, file);
    if (!json_is_object(model))
        return js_expected(&js, e, "an object: a Hugging Face config.json, or {\"graph\": [...]}");
    g->seq_len = seq_len;
    if (js_has(&js, "graph")) {
        g->family = "graph";
        TRY(ir_build_explicit(&js, g, e));
    } else {
        TRY(build_hf(&js, g, n, e));
    }
    struct js annotate;
    TRY(js_opt(&js, "annotate", &annotate, e));
    if (annotate.v)
        TRY(ir_annotate(&annotate, g, e));
    TRY(tag_experts(&js, g, e));
    return ir_graph_validate(g, file, e);
}

uint32_t ir_graph_layers(const struct ir_graph *g)
{
    return g->n_blocks > 2 ? g->n_blocks - 2 : 1;
}

uint32_t ir_graph_stage(const struct ir_graph *g, uint32_t op, uint32_t n)
{
    const uint32_t layers = ir_graph_layers(g), block = g->ops.at[op].block;
    const uint32_t layer = block == 0 ? 0 : block > layers ? layers - 1 : block - 1;
    return (uint32_t)((((uint64_t)layer + 1) * n - 1) / layers); /* the largest s with floor(s*layers/n) <= layer */
}

/* The stage of an operator where what precedes the layers, or follows them, may be one of its own. */
static uint32_t stage_of(const struct ir_graph *g, uint32_t op, uint32_t n, struct ir_ends ends)
{
    const uint32_t block = g->ops.at[op].block, layers = ir_graph_layers(g), inner = n - ends.encoder - ends.head;
    if (ends.encoder && block == 0)
        return 0;
    return ends.head && block > layers ? n - 1 : ends.encoder + ir_graph_stage(g, op, inner);
}

enum status ir_graph_cut_stages(struct ir_graph *g, uint32_t n, struct ir_ends ends, const char *where, struct err *e)
{
    if (ir_graph_find_tag(g, "PP") != IR_NONE)
        return ST_OK;
    uint32_t layers = ir_graph_layers(g);
    const uint32_t inner = n - ends.encoder - ends.head;
    if (inner == 0 || inner > layers)
        return err_set(
            e, ST_INPUT, where,
            "the strategy has %u pipeline stages, but the model has %u layers: use at most %u stages, or annotate "
            "the model's regions with PP",
            inner, layers, layers);
    uint32_t pp = ir_graph_tag(g, "PP");
    if (pp == IR_NONE)
        return err_set(e, ST_INPUT, where, "the model has %d tags, which leaves none for PP", IR_MAX_TAGS);
    uint8_t first = 0, last = 0;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const uint32_t stage = stage_of(g, i, n, ends);
        g->ops.at[i].tag[pp] = (int32_t)stage;
        first |= stage == 0;
        last |= stage == n - 1;
    }
    return first && last ? ST_OK
                         : err_set(e, ST_INPUT, where,
                                   "the model has nothing that %s its layers, which could be a stage of its own: "
                                   "annotate the model's regions with PP",
                                   first ? "follows" : "precedes");
}
