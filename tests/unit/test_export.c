/* The config.json that goes with exported weights. */
#include "ir/family/export.h"

#include "base/json.h"
#include "ir/family/family.h"
#include "tests/unit/model.h"
#include "tests/unit/suite.h"

/* Model and configuration; NULL: "model" itself, and what is filled in. */
static const struct {
    const char *model, *config;
} configs[] = {
    /* own keys, theirs under both names, ours gone */
    { "{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"x\":1,\"capacity_factor\":0,\"architectures\":[\"Mine\"],"
      "\"quantization_config\":{\"quant_method\":\"fp8\"},\"torch_dtype\":\"bfloat16\"}",
      "{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"x\":1,\"architectures\":[\"Mine\"],\"torch_dtype\":"
      "\"float32\"}" },
    { "{\"model_type\":\"gpt2\",\"n_layer\":2,\"dtype\":\"float16\"}",
      "{\"model_type\":\"gpt2\",\"n_layer\":2,\"dtype\":\"float32\",\"torch_dtype\":\"float32\","
      "\"architectures\":[\"GPT2LMHeadModel\"]}" },
    /* no layers of multi-token prediction are in the files */
    { "{\"model_type\":\"glm4_moe\",\"num_hidden_layers\":2,\"head_dim\":128,\"num_mtp_layers\":1}",
      "{\"model_type\":\"glm4_moe\",\"num_hidden_layers\":2,\"head_dim\":128,\"num_nextn_predict_layers\":0,\"torch_"
      "dtype\":\"float32\","
      "\"architectures\":[\"Glm4MoeForCausalLM\"]}" },
    /* what transformers 5 needs beside */
    { "{\"model_type\":\"dbrx\",\"n_layers\":1,\"attn_config\":{\"rope_theta\":500000,\"clip_qkv\":8}}",
      "{\"model_type\":\"dbrx\",\"n_layers\":1,\"attn_config\":{\"rope_theta\":500000,\"clip_qkv\":8},\"rope_"
      "parameters\":"
      "{\"rope_type\":\"default\",\"rope_theta\":500000},\"torch_dtype\":\"float32\",\"architectures\":["
      "\"DbrxForCausalLM\"]}" },
    { "{\"model_type\":\"dbrx\",\"n_layers\":1}", "{\"model_type\":\"dbrx\",\"n_layers\":1,\"attn_config\":{\"rope_"
                                                  "theta\":10000.0,\"clip_qkv\":1e30},\"rope_parameters\":"
                                                  "{\"rope_type\":\"default\",\"rope_theta\":10000.0},\"torch_dtype\":"
                                                  "\"float32\",\"architectures\":[\"DbrxForCausalLM\"]}" },
};

static enum status config_of(const char *model, json_t **config)
{
    json_t *doc = parse(model);
    again();
    must_build(json_incref(doc), 16);
    enum status st = ir_family_config(doc, "model.json", &g, config, &err);
    json_decref(doc);
    return st;
}

START_TEST(own_keys)
{
    json_t *config, *want = parse(configs[_i].config);
    ck_assert_int_eq(config_of(configs[_i].model, &config), ST_OK);
    char *text = js_text(config, JSON_COMPACT);
    ck_assert_msg(json_equal(config, want), "%s", text);
    free(text);
    json_decref(config);
    json_decref(want);
}
END_TEST

/* Keys without which a class has no model. */
static const char *needed(const char *type)
{
    static const char *const keys[][2] = {
        { "dots1", ",\"n_routed_experts\":4,\"num_experts_per_tok\":2,\"n_shared_experts\":1" },
        { "deepseek_v2", ",\"num_experts_per_tok\":2" },
        { "glm4_moe", ",\"head_dim\":128" },
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(type, keys[i][0]) == 0)
            return keys[i][1];
    return "";
}

/* Each family has the name of its class, and what it writes it reads as the same model. */
START_TEST(all_families)
{
    for (const struct family *const *f = ir_families; *f; f++) {
        char model[200];
        json_t *config;
        struct ir_graph was;
        snprintf(model, sizeof model, "{\"model_type\":\"%s\"%s}", (*f)->model_type, needed((*f)->model_type));
        ck_assert_msg(config_of(model, &config) == ST_OK, "%s", err.text);
        was = g;
        ir_graph_init(&g);
        must_build(config, 16);
        ck_assert_msg(ir_graph_same(&was, &g, model, sizeof model), "%s: %s", (*f)->model_type, model);
        ir_graph_release(&was);
    }
}
END_TEST

/* A job whose text is not that of its graph. */
START_TEST(another_text)
{
    json_t *doc = parse("{\"model_type\":\"llama\",\"num_hidden_layers\":2}"), *config;
    must_build(parse("{\"model_type\":\"llama\",\"num_hidden_layers\":3}"), 16);
    ck_assert_int_eq(ir_family_config(doc, "model.json", &g, &config, &err), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "is not the configuration of the job's model: "));
    json_decref(doc);
}
END_TEST

/* ---- models given as operators ----------------------------------------------------------------------------------- */

#define LAYER(i, x, y)                                                                             \
    "{\"op\":\"rmsnorm\",\"name\":\"n" i "\",\"in\":[\"" x "\"],\"round_first\":true,\"block\":" y \
    ",\"param\":[\"model.layers." i ".input_layernorm.weight\"]},"                                 \
    "{\"op\":\"linear\",\"name\":\"q" i "\",\"in\":[\"n" i "\"],\"out_features\":8,"               \
    "\"param\":[\"model.layers." i ".self_attn.q_proj.weight\"]},"                                 \
    "{\"op\":\"linear\",\"name\":\"k" i "\",\"in\":[\"n" i "\"],\"out_features\":4,"               \
    "\"param\":[\"model.layers." i ".self_attn.k_proj.weight\"]},"                                 \
    "{\"op\":\"linear\",\"name\":\"v" i "\",\"in\":[\"n" i "\"],\"out_features\":4,"               \
    "\"param\":[\"model.layers." i ".self_attn.v_proj.weight\"]},"                                 \
    "{\"op\":\"rope\",\"name\":\"qr" i "\",\"in\":[\"q" i "\"],\"heads\":2,\"theta\":500},"        \
    "{\"op\":\"rope\",\"name\":\"kr" i "\",\"in\":[\"k" i "\"],\"heads\":1,\"theta\":500},"        \
    "{\"op\":\"attention\",\"name\":\"a" i "\",\"in\":[\"qr" i "\",\"kr" i "\",\"v" i              \
    "\"],\"heads\":2,\"kv_heads\":1},"                                                             \
    "{\"op\":\"linear\",\"name\":\"o" i "\",\"in\":[\"a" i "\"],\"out_features\":8,"               \
    "\"param\":[\"model.layers." i ".self_attn.o_proj.weight\"]},"                                 \
    "{\"op\":\"add\",\"name\":\"s" i "\",\"in\":[\"" x "\",\"o" i "\"]},"                          \
    "{\"op\":\"rmsnorm\",\"name\":\"m" i "\",\"in\":[\"s" i "\"],\"round_first\":true,"            \
    "\"param\":[\"model.layers." i ".post_attention_layernorm.weight\"]},"                         \
    "{\"op\":\"linear\",\"name\":\"g" i "\",\"in\":[\"m" i "\"],\"out_features\":5,"               \
    "\"param\":[\"model.layers." i ".mlp.gate_proj.weight\"]},"                                    \
    "{\"op\":\"linear\",\"name\":\"u" i "\",\"in\":[\"m" i "\"],\"out_features\":5,"               \
    "\"param\":[\"model.layers." i ".mlp.up_proj.weight\"]},"                                      \
    "{\"op\":\"swiglu\",\"name\":\"w" i "\",\"in\":[\"g" i "\",\"u" i "\"]},"                      \
    "{\"op\":\"linear\",\"name\":\"d" i "\",\"in\":[\"w" i "\"],\"out_features\":8,"               \
    "\"param\":[\"model.layers." i ".mlp.down_proj.weight\"]},"                                    \
    "{\"op\":\"add\",\"name\":\"x" i "\",\"in\":[\"s" i "\",\"d" i "\"]},"
#define GRAPH(head)                                                                                                  \
    "{\"vocab_size\":11,\"graph\":[{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"],\"features\":8,"             \
    "\"param\":[\"model.embed_tokens.weight\"]}," LAYER("0", "e", "1")                                               \
        LAYER("1", "x0", "2") "{\"op\":\"rmsnorm\",\"name\":\"f\",\"in\":[\"x1\"],\"round_first\":true,\"block\":3," \
                              "\"param\":[\"model.norm.weight\"]},"                                                  \
                              "{\"op\":\"head_loss\",\"name\":\"h\",\"in\":[\"f\",\"targets\"],\"param\":[\"" head   \
                              "\"]}]}"

/* A "graph" that is a llama says so; one with another name of a parameter fits none. */
START_TEST(graphs)
{
    json_t *config;
    ck_assert_msg(config_of(GRAPH("lm_head.weight"), &config) == ST_OK, "%s", err.text);
    ck_assert_str_eq(json_string_value(json_object_get(config, "model_type")), "llama");
    ck_assert_int_eq(json_integer_value(json_object_get(config, "rope_theta")), 500);
    ck_assert_int_eq(json_integer_value(json_object_get(config, "num_key_value_heads")), 1);
    ck_assert(json_is_false(json_object_get(config, "tie_word_embeddings")));
    json_decref(config);
    ck_assert_msg(config_of(GRAPH("model.embed_tokens.weight"), &config) == ST_OK, "%s", err.text);
    ck_assert(json_is_true(json_object_get(config, "tie_word_embeddings")));
    json_decref(config);
    ck_assert_int_eq(config_of(GRAPH("head.weight"), &config), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "is a \"graph\" that no family of transformers has"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("export");
    TCase *t = tcase_create("config");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, own_keys, 0, (int)(sizeof configs / sizeof *configs));
    tcase_add_test(t, all_families);
    tcase_add_test(t, another_text);
    tcase_add_test(t, graphs);
    suite_add_tcase(s, t);
    return suite_run(s);
}
