/* The table of families, and what is the same for all: annotations, EP tags, the checks at the end. */
#include "ir/family/family.h"

#include <stdio.h>

#include "base/ratio.h"

const struct family ir_families[] = {
    { "gpt2", hf_gpt2_keys, hf_build_gpt2 },          { "llama", hf_llama_keys, hf_build_llama },
    { "qwen3", hf_qwen3_keys, hf_build_qwen3 },       { "qwen3_moe", hf_qwen3_moe_keys, hf_build_qwen3_moe },
    { "mixtral", hf_mixtral_keys, hf_build_mixtral }, { NULL, NULL, NULL },
};

uint32_t ir_capacity(double factor, uint32_t t, uint32_t top_k, uint32_t experts)
{
    const uint64_t rows = ratio_ceil(ratio_of(factor), (uint64_t)t * top_k, experts);
    return rows < t ? (uint32_t)rows : t;
}

static enum status find_family(const struct js *model, const struct family **out, struct err *e)
{
    struct js type;
    const char *name;
    if (!js_has(model, "model_type"))
        return js_wrong(model, e,
                        "found neither \"model_type\", as in a Hugging Face config.json (gpt2, llama, qwen3, "
                        "qwen3_moe, mixtral), nor \"graph\", a list of operators");
    TRY(js_need(model, "model_type", &type, e));
    TRY(js_str(&type, &name, e));
    for (*out = ir_families; (*out)->model_type; (*out)++)
        if (strcmp((*out)->model_type, name) == 0)
            return ST_OK;
    return js_expected(&type, e, "gpt2, llama, qwen3, qwen3_moe or mixtral");
}

static enum status build_hf(const struct js *model, struct ir_graph *g, struct notices *n, struct err *e)
{
    const struct family *f = NULL;
    TRY(find_family(model, &f, e));
    struct hf_model m = { .js = *model, .keys = f->keys, .notices = n, .g = g, .e = e };
    TRY(hf_check_keys(&m));
    g->family = f->model_type;
    return f->build(&m);
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

enum status ir_graph_cut_stages(struct ir_graph *g, uint32_t n, const char *where, struct err *e)
{
    if (ir_graph_find_tag(g, "PP") != IR_NONE)
        return ST_OK;
    uint32_t layers = g->n_blocks > 2 ? g->n_blocks - 2 : 1;
    if (n == 0 || n > layers)
        return err_set(
            e, ST_INPUT, where,
            "the strategy has %u pipeline stages, but the model has %u layers: use at most %u stages, or annotate "
            "the model's regions with PP",
            n, layers, layers);
    uint32_t pp = ir_graph_tag(g, "PP");
    if (pp == IR_NONE)
        return err_set(e, ST_INPUT, where, "the model has %d tags, which leaves none for PP", IR_MAX_TAGS);
    for (uint32_t i = 0; i < g->ops.n; i++) {
        uint32_t block = g->ops.at[i].block;
        uint32_t layer = block == 0 ? 0 : block > layers ? layers - 1 : block - 1;
        /* the largest s with floor(s*layers/n) <= layer */
        g->ops.at[i].tag[pp] = (int32_t)((((uint64_t)layer + 1) * n - 1) / layers);
    }
    return ST_OK;
}
