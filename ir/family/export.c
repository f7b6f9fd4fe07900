#include "ir/family/export.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ir/family/hf.h"

/* The classes of transformers' AutoModelForCausalLM, and of published code where it has none. */
static const struct {
    const char *model_type, *architecture;
    bool in_transformers;
} classes[] = {
    { "gpt2", "GPT2LMHeadModel", true },
    { "llama", "LlamaForCausalLM", true },
    { "qwen2", "Qwen2ForCausalLM", true },
    { "qwen3", "Qwen3ForCausalLM", true },
    { "qwen3_moe", "Qwen3MoeForCausalLM", true },
    { "mistral", "MistralForCausalLM", true },
    { "ministral", "MinistralForCausalLM", true },
    { "mixtral", "MixtralForCausalLM", true },
    { "olmo", "OlmoForCausalLM", true },
    { "olmo2", "Olmo2ForCausalLM", true },
    { "olmo3", "Olmo3ForCausalLM", true },
    { "olmoe", "OlmoeForCausalLM", true },
    { "smollm3", "SmolLM3ForCausalLM", true },
    { "gemma", "GemmaForCausalLM", true },
    { "gemma2", "Gemma2ForCausalLM", true },
    { "gemma3_text", "Gemma3ForCausalLM", true },
    { "phi", "PhiForCausalLM", true },
    { "phi3", "Phi3ForCausalLM", true },
    { "granite", "GraniteForCausalLM", true },
    { "glm", "GlmForCausalLM", true },
    { "glm4", "Glm4ForCausalLM", true },
    { "cohere", "CohereForCausalLM", true },
    { "cohere2", "Cohere2ForCausalLM", true },
    { "seed_oss", "SeedOssForCausalLM", true },
    { "arcee", "ArceeForCausalLM", true },
    { "ernie4_5", "Ernie4_5ForCausalLM", true },
    { "opt", "OPTForCausalLM", true },
    { "minicpm", "MiniCPMForCausalLM", false },
    { "internlm2", "InternLM2ForCausalLM", false },
    { "exaone4", "Exaone4ForCausalLM", true },
    { "hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", true },
    { "starcoder2", "Starcoder2ForCausalLM", true },
    { "gpt_neox", "GPTNeoXForCausalLM", true },
    { "gptj", "GPTJForCausalLM", true },
    { "falcon", "FalconForCausalLM", true },
    { "glm4_moe", "Glm4MoeForCausalLM", true },
    { "dots1", "Dots1ForCausalLM", true },
    { "minimax_m2", "MiniMaxM2ForCausalLM", true },
    { "granitemoe", "GraniteMoeForCausalLM", true },
    { "gpt_oss", "GptOssForCausalLM", true },
    { "dbrx", "DbrxForCausalLM", true },
    { "ernie4_5_moe", "Ernie4_5_MoeForCausalLM", true },
    { "qwen2_moe", "Qwen2MoeForCausalLM", true },
    { "deepseek_v2", "DeepseekV2ForCausalLM", true },
    { "deepseek_v3", "DeepseekV3ForCausalLM", true },
};

static size_t class_of(const char *model_type)
{
    size_t i = 0;
    while (i < sizeof classes / sizeof *classes && strcmp(classes[i].model_type, model_type) != 0)
        i++;
    CHECK(i < sizeof classes / sizeof *classes); /* a family without a row: tests/unit/test_export.c */
    return i;
}

bool ir_family_in_transformers(const char *model_type)
{
    return classes[class_of(model_type)].in_transformers;
}

static const struct family *family_of(const char *model_type)
{
    for (const struct family *const *f = ir_families; *f; f++)
        if (strcmp((*f)->model_type, model_type) == 0)
            return *f;
    return NULL;
}

static bool has_key(const struct family *f, const char *key)
{
    for (const struct hf_key *k = f->keys; k->kind != HF_END; k++)
        if (strcmp(k->name, key) == 0)
            return true;
    return false;
}

static void finish(json_t *config, const struct family *f)
{
    static const char *const not_theirs[] = { "annotate", "capacity_factor", "quantization_config" };
    for (size_t i = 0; i < sizeof not_theirs / sizeof *not_theirs; i++)
        json_object_del(config, not_theirs[i]);
    if (!json_is_array(json_object_get(config, "architectures")))
        json_object_set_new(config, "architectures", json_pack("[s]", classes[class_of(f->model_type)].architecture));
    if (json_object_get(config, "dtype"))
        json_object_set_new(config, "dtype", json_string("float32"));
    json_object_set_new(config, "torch_dtype", json_string("float32"));
    if (f->mtp) {
        json_object_del(config, "num_mtp_layers");
        json_object_set_new(config, "num_nextn_predict_layers", json_integer(0));
    }
    if (f->complete)
        f->complete(config);
}

/* ---- a "graph" -------------------------------------------------------------------------------------------------- */

static const struct ir_attrs *first_of(const struct ir_graph *g, enum ir_op op)
{
    static const struct ir_attrs none;
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (g->ops.at[i].op == op)
            return &g->ops.at[i].attrs;
    return &none;
}

static uint32_t count_of(const struct ir_graph *g, enum ir_op op)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->ops.n; i++)
        n += g->ops.at[i].op == op;
    return n;
}

/* The family's configuration with the sizes of the graph, as far as its class has keys for them. */
static json_t *sizes_of(const struct ir_graph *g, const struct family *f)
{
    const struct ir_attrs *attention = first_of(g, IR_OP_ATTENTION), *rope = first_of(g, IR_OP_ROPE),
                          *rms = first_of(g, IR_OP_RMSNORM), *layer = first_of(g, IR_OP_LAYERNORM),
                          *gated = first_of(g, IR_OP_SWIGLU), *act = first_of(g, IR_OP_ACT),
                          *gelu = first_of(g, IR_OP_GELU), *experts = first_of(g, IR_OP_EXPERTS);
    const uint32_t inner = gated->features ? gated->features : act->features ? act->features : gelu->features;
    const uint32_t tables = count_of(g, IR_OP_EMBED);
    bool tied = false;
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (g->ops.at[i].op == IR_OP_HEAD_LOSS)
            tied = tables && g->ops.at[i].param[0] == g->ops.at[0].param[0];
    const struct {
        const char *key;
        double x;
    } sizes[] = {
        { "vocab_size", g->vocab },
        { "hidden_size", first_of(g, IR_OP_EMBED)->features },
        { "num_hidden_layers", count_of(g, IR_OP_ATTENTION) },
        { "num_attention_heads", attention->heads },
        { "num_key_value_heads", attention->kv_heads },
        { "head_dim", attention->head_dim },
        { "intermediate_size", inner ? inner : experts->ffn },
        { "n_inner", inner },
        { "max_position_embeddings",
          first_of(g, IR_OP_POS_EMBED)->positions ? first_of(g, IR_OP_POS_EMBED)->positions : g->seq_len },
        { "rms_norm_eps", (double)rms->eps },
        { "layer_norm_epsilon", (double)layer->eps },
        { "layer_norm_eps", (double)layer->eps },
        { "norm_epsilon", (double)layer->eps },
        { "rope_theta", (double)rope->theta },
        { "num_experts", experts->experts },
        { "num_local_experts", experts->experts },
        { "num_experts_per_tok", experts->top_k },
        { "moe_intermediate_size", experts->ffn },
    };
    json_t *config = json_pack("{s:s}", "model_type", f->model_type);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].x != 0 && has_key(f, sizes[i].key)) {
            /* floats with the digits that they were given with */
            char text[32];
            snprintf(text, sizeof text, "%.7g", sizes[i].x);
            json_object_set_new(config, sizes[i].key,
                                sizes[i].x == floor(sizes[i].x) && sizes[i].x < 1e15
                                    ? json_integer((json_int_t)sizes[i].x)
                                    : json_loads(text, JSON_DECODE_ANY, NULL));
        }
    if (has_key(f, "tie_word_embeddings"))
        json_object_set_new(config, "tie_word_embeddings", json_boolean(tied));
    return config;
}

static json_t *fitting(const struct ir_graph *g, const struct family *f)
{
    char text[512];
    struct err ignored = { 0 };
    struct ir_graph built;
    struct notices notices;
    json_t *config = sizes_of(g, f);
    ir_graph_init(&built);
    notices_init(&notices);
    bool same = ir_family_build(config, "", g->seq_len, &built, &notices, &ignored) == ST_OK;
    for (uint32_t i = 0; same && i < g->ops.n && i < built.ops.n; i++)
        built.ops.at[i].name = g->ops.at[i].name; /* of operators there is nothing in files */
    same = same && ir_graph_same(g, &built, text, sizeof text);
    notices_release(&notices);
    ir_graph_release(&built);
    if (!same)
        json_decref(config);
    return same ? config : NULL;
}

static enum status from_graph(const struct js *js, const struct ir_graph *g, json_t **out, struct err *e)
{
    for (const struct family *const *f = ir_families; *f; f++) {
        if (!ir_family_in_transformers((*f)->model_type) || !(*out = fitting(g, *f)))
            continue;
        finish(*out, *f);
        return ST_OK;
    }
    return js_wrong(js, e,
                    "is a \"graph\" that no family of transformers has, with these operators and names of parameters: "
                    "there is no config.json for it. Without --job its weights alone are exported");
}

/* ----------------------------------------------------------------------------------------------------------------- */

/* A job says what its model was made from; that it was is not taken for granted. */
static enum status check_same(json_t *model, const struct js *js, const struct ir_graph *g, struct err *e)
{
    char text[512];
    struct ir_graph built;
    struct notices notices;
    ir_graph_init(&built);
    notices_init(&notices);
    enum status st = ir_family_build(model, js->file, g->seq_len, &built, &notices, e);
    if (st == ST_OK && !ir_graph_same(g, &built, text, sizeof text))
        st = js_wrong(js, e, "is not the configuration of the job's model: %s", text);
    notices_release(&notices);
    ir_graph_release(&built);
    return st;
}

enum status ir_family_config(json_t *model, const char *file, const struct ir_graph *g, json_t **out, struct err *e)
{
    struct js js = js_root(model, file);
    if (js_has(&js, "graph"))
        return from_graph(&js, g, out, e);
    TRY(check_same(model, &js, g, e));
    *out = json_deep_copy(model);
    finish(*out, family_of(json_string_value(json_object_get(model, "model_type"))));
    return ST_OK;
}
