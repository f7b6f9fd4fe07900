/* Families: real configuration files, their keys, annotations, default cuts. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ir/family/files.h"
#include "ir/family/hf.h"
#include "model.h"
#include "tests/unit/suite.h"

/* ---- real files: the parameter counts are the published ones -------------------------------------------------- */

static const struct {
    const char *file;
    uint64_t params;
    uint32_t ops, blocks, seq_len;
} real[] = {
    { "gpt2", 124439808, 2 + 12 * 10 + 2, 14, 1024 },
    { "llama-2-7b", 6738415616, 1 + 32 * 15 + 2, 34, 4096 },
    { "llama-3-8b", 8030261248, 1 + 32 * 15 + 2, 34, 8192 },
    { "qwen3-0.6b", 596049920, 1 + 28 * 17 + 2, 30, 4096 },
    { "qwen3-30b-a3b", 30532122624, 1 + 48 * 17 + 2, 50, 4096 },
    { "mixtral-8x7b", 46702792704, 1 + 32 * 15 + 2, 34, 4096 },
    { "qwen3-v5", 128 * 48 * 2 + 48 + 2 * (2 * 48 + 2 * 16 + 2 * 48 * 64 + 2 * 48 * 32 + 3 * 48 * 96), 1 + 2 * 17 + 2,
      4, 16 },
};

START_TEST(real_files)
{
    must_build(load(real[_i].file), real[_i].seq_len);
    ck_assert_uint_eq(ir_graph_param_count(&g), real[_i].params);
    ck_assert_uint_eq(g.ops.n, real[_i].ops);
    ck_assert_uint_eq(g.n_blocks, real[_i].blocks);
    for (uint32_t i = 0; i < notices.n; i++)
        ck_assert_msg(strstr(notices.at[i], "pdrop: dropout 0.1 is not applied: it trains as 0") != NULL, "%s",
                      notices.at[i]);
    ck_assert_uint_eq(notices.n, _i == 0 ? 3 : 0);
}
END_TEST

/* Configurations of published models, descriptive keys left out: each is read, and has as many parameters as its files, where that is
 * known; or it is refused with the reason. */
START_TEST(published_models)
{
    json_t *doc = load("published"), *row;
    size_t i;
    uint32_t read = 0, refused = 0;
    json_array_foreach(doc, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "model"));
        const char *why = json_string_value(json_object_get(row, "refused"));
        const uint64_t want = (uint64_t)json_integer_value(json_object_get(row, "parameters"));
        again();
        enum status st = build(json_incref(json_object_get(row, "config")), 512);
        ck_assert_msg((st == ST_OK) == !why, "%s: %s", name, err.text);
        ck_assert_msg(!why || strstr(err.text, why), "%s: %s", name, err.text);
        const uint64_t found = st == ST_OK ? ir_graph_param_count(&g) : 0;
        ck_assert_msg(!want || want == found, "%s: %llu parameters, expected %llu", name, (unsigned long long)found,
                      (unsigned long long)want);
        read += st == ST_OK;
        refused += st != ST_OK;
    }
    printf("# %u configurations read, %u refused\n", read, refused);
    json_decref(doc);
}
END_TEST

START_TEST(gpt2_is_gpt2)
{
    must_build(load("gpt2"), 64);
    ck_assert_str_eq(g.family, "gpt2");
    ck_assert_uint_eq(g.vocab, 50257);
    ck_assert_uint_eq(op("head")->param[0], op("embed")->param[0]); /* tied */
    ck_assert_uint_eq(op("layers.3.attn.c_attn")->attrs.flags, IR_TRANSPOSED | IR_BIAS);
    ck_assert_uint_eq(op("layers.3.attn.core")->attrs.flags, IR_PACKED);
    ck_assert_float_eq(op("layers.3.attn.core")->attrs.scale, 0.125f);
    ck_assert_uint_eq(op("layers.3.mlp.act")->attrs.flags, 0);
    reads("embed.pos", 0, "embed");
    reads("layers.0.attn.norm", 0, "embed.pos");
    reads("layers.1.attn.add", 0, "layers.0.mlp.add");
    reads("layers.1.attn.add", 1, "layers.1.attn.o_proj");
    reads("layers.1.mlp.add", 0, "layers.1.attn.add");
    reads("norm", 0, "layers.11.mlp.add");
    reads("head", 1, "targets");
    ck_assert_uint_eq(param("transformer.h.0.attn.c_attn.weight")->shape.dim[0], 768);
    ck_assert_uint_eq(param("transformer.h.0.attn.c_attn.weight")->shape.dim[1], 2304);
    ck_assert_uint_eq(param("transformer.h.11.mlp.c_fc.bias")->shape.dim[0], 3072);
    ck_assert_float_eq(param("transformer.wte.weight")->std, 0.02f);
    ck_assert_float_eq(param("transformer.h.2.mlp.c_fc.weight")->std, 0.02f);
    ck_assert_float_eq(param("transformer.h.2.mlp.c_proj.weight")->std, (float)(0.02f / sqrt(24)));
    ck_assert_float_eq(param("transformer.h.2.attn.c_proj.weight")->std, (float)(0.02f / sqrt(24)));
    ck_assert_int_eq(param("transformer.ln_f.weight")->init, IR_INIT_ONES);
    ck_assert_int_eq(param("transformer.ln_f.bias")->init, IR_INIT_ZEROS);
    ck_assert_uint_eq(op("embed.pos")->block, 0);
    ck_assert_uint_eq(op("layers.11.mlp.add")->block, 12);
    ck_assert_uint_eq(op("head")->block, 13);
}
END_TEST

START_TEST(gpt2_keys)
{
    /* the class's defaults are the 124M model */
    must_build(parse("{\"model_type\":\"gpt2\"}"), 64);
    ck_assert_uint_eq(ir_graph_param_count(&g), 124439808);
    again(); /* other names of the keys, another activation, an inner size, an untied head */
    must_build(parse("{\"model_type\":\"gpt2\",\"hidden_size\":24,\"num_hidden_layers\":2,\"num_attention_heads\":3,"
                     "\"max_position_embeddings\":32,\"n_inner\":40,\"activation_function\":\"gelu\",\"vocab_size\":10,"
                     "\"tie_word_embeddings\":false}"),
               32);
    ck_assert_uint_eq(op("layers.1.mlp.act")->attrs.features, 40);
    ck_assert_uint_eq(op("layers.1.mlp.act")->attrs.flags, IR_EXACT);
    ck_assert_uint_eq(param("lm_head.weight")->shape.dim[0], 10);
    again();
    ck_assert_int_eq(build(parse("{\"model_type\":\"gpt2\",\"hidden_size\":24,\"n_embd\":48}"), 8), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "$.hidden_size: found 24"));
    again();
    ck_assert_int_eq(build(load("gpt2"), 1025), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "n_positions is 1024"));
}
END_TEST

START_TEST(llama_is_llama)
{
    must_build(load("llama-3-8b"), 512);
    const struct ir_node_op *core = op("layers.31.attn.core");
    ck_assert_uint_eq(core->attrs.heads, 32);
    ck_assert_uint_eq(core->attrs.kv_heads, 8);
    ck_assert_uint_eq(core->attrs.head_dim, 128);
    ck_assert_float_eq(op("layers.0.attn.k_rope")->attrs.theta, 500000);
    ck_assert_uint_eq(op("layers.0.attn.k_rope")->attrs.heads, 8);
    ck_assert_float_eq(op("layers.0.attn.norm")->attrs.eps, 1e-5f);
    reads("layers.0.attn.core", 0, "layers.0.attn.q_rope");
    reads("layers.0.attn.core", 1, "layers.0.attn.k_rope");
    reads("layers.0.attn.core", 2, "layers.0.attn.v_proj");
    reads("layers.0.mlp.act", 0, "layers.0.mlp.gate_proj");
    reads("layers.0.mlp.act", 1, "layers.0.mlp.up_proj");
    ck_assert_uint_eq(param("model.layers.7.self_attn.k_proj.weight")->shape.dim[0], 1024);
    ck_assert_uint_eq(param("model.layers.7.mlp.down_proj.weight")->shape.dim[1], 14336);
    ck_assert(op("head")->param[0] != op("embed")->param[0]);
    again();
    must_build(load("llama-2-7b"), 512); /* an older file: no rope_theta, the class's default */
    ck_assert_float_eq(op("layers.0.attn.k_rope")->attrs.theta, 10000);
    again();
    must_build(with(with(load("llama-3-8b"), "attention_bias", "true"), "mlp_bias", "true"), 512);
    ck_assert_uint_eq(param("model.layers.0.self_attn.o_proj.bias")->shape.dim[0], 4096);
    ck_assert_uint_eq(param("model.layers.0.mlp.gate_proj.bias")->shape.dim[0], 14336);
    again();
    must_build(with(with(load("llama-3-8b"), "head_dim", "64"), "num_key_value_heads", "null"), 512);
    ck_assert_uint_eq(op("layers.0.attn.core")->attrs.kv_heads, 32);
    ck_assert_uint_eq(param("model.layers.0.self_attn.q_proj.weight")->shape.dim[0], 2048);
    again();
    must_build(load("llama-2-7b"), 4097);
    ck_assert(noticed("is beyond max_position_embeddings, 4096"));
}
END_TEST

START_TEST(qwen3_is_qwen3)
{
    must_build(load("qwen3-0.6b"), 128);
    ck_assert_uint_eq(op("layers.0.attn.core")->attrs.head_dim, 128); /* hidden/heads is 64 */
    ck_assert_uint_eq(op("layers.0.attn.q_norm")->attrs.heads, 16);
    ck_assert_uint_eq(op("layers.0.attn.q_norm")->attrs.features, 128);
    ck_assert_uint_eq(op("layers.0.attn.k_norm")->attrs.heads, 8);
    reads("layers.0.attn.q_norm", 0, "layers.0.attn.q_proj"); /* norm before rotation */
    reads("layers.0.attn.q_rope", 0, "layers.0.attn.q_norm");
    ck_assert_uint_eq(param("model.layers.0.self_attn.q_norm.weight")->shape.dim[0], 128);
    ck_assert_uint_eq(op("head")->param[0], op("embed")->param[0]);
    ck_assert_float_eq(op("layers.0.attn.q_rope")->attrs.theta, 1e6f);
    again(); /* the class's defaults */
    must_build(parse("{\"model_type\":\"qwen3\"}"), 128);
    ck_assert_uint_eq(op("layers.31.attn.core")->attrs.kv_heads, 32);
    ck_assert_uint_eq(op("layers.31.mlp.act")->attrs.features, 22016);
    ck_assert_float_eq(op("layers.0.attn.q_rope")->attrs.theta, 10000);
}
END_TEST

START_TEST(qwen3_moe_is_qwen3_moe)
{
    must_build(load("qwen3-30b-a3b"), 128);
    const struct ir_node_op *router = op("layers.5.mlp.router");
    ck_assert_uint_eq(router->attrs.experts, 128);
    ck_assert_uint_eq(router->attrs.top_k, 8);
    ck_assert_uint_eq(router->attrs.flags, IR_NORM_TOPK);
    ck_assert_float_eq(router->attrs.aux_coef, 0); /* output_router_logits is false */
    ck_assert_uint_eq(op("layers.5.mlp.dispatch")->attrs.capacity, 0);
    reads("layers.5.mlp.dispatch", 1, "layers.5.mlp.router.1");
    reads("layers.5.experts", 1, "layers.5.mlp.dispatch.2");
    reads("layers.5.mlp.combine", 1, "layers.5.mlp.dispatch.1");
    reads("layers.5.mlp.combine", 2, "layers.5.mlp.router");
    reads("layers.5.mlp.add", 1, "layers.5.mlp.combine");
    const struct ir_param *up = param("model.layers.5.mlp.experts.*.up_proj.weight");
    ck_assert_uint_eq(up->shape.dim[0], 128);
    ck_assert_uint_eq(up->shape.dim[1], 768);
    ck_assert_uint_eq(up->shape.dim[2], 2048);
    ck_assert_uint_eq(op("layers.5.experts")->param[1], (uint32_t)(up - g.params.at));
    ck_assert_uint_eq(param("model.layers.5.mlp.gate.weight")->shape.dim[0], 128);
    ck_assert_int_eq(tag("layers.5.experts", "EP"), 5);
    ck_assert_int_eq(tag("layers.5.mlp.dispatch", "EP"), -1);
    ck_assert_int_eq(tag("layers.5.mlp.combine", "EP"), -1);

    again(); /* dense layers: 0, 2 (step 2) and 3 (listed) of 6 */
    json_t *doc = with(with(load("qwen3-30b-a3b"), "decoder_sparse_step", "2"), "mlp_only_layers", "[3]");
    must_build(
        with(with(with(doc, "num_hidden_layers", "6"), "capacity_factor", "1.25"), "output_router_logits", "true"),
        128);
    op("layers.0.mlp.act");
    op("layers.2.mlp.act");
    op("layers.3.mlp.act");
    ck_assert_uint_eq(op("layers.3.mlp.act")->attrs.features, 6144);
    ck_assert_int_eq(tag("layers.1.experts", "EP"), 0);
    ck_assert_int_eq(tag("layers.5.experts", "EP"), 1);
    ck_assert_uint_eq(op("layers.1.mlp.dispatch")->attrs.capacity, 10);     /* 1.25 * 128 * 8 / 128 */
    ck_assert_float_eq(op("layers.1.mlp.router")->attrs.aux_coef, 0.0005f); /* half of 0.001: two layers with experts */
}
END_TEST

START_TEST(mixtral_is_mixtral)
{
    must_build(load("mixtral-8x7b"), 128);
    ck_assert_uint_eq(op("layers.0.mlp.router")->attrs.flags, IR_NORM_TOPK);
    ck_assert_uint_eq(param("model.layers.0.block_sparse_moe.gate.weight")->shape.dim[0], 8);
    const struct ir_node_op *experts = op("layers.0.experts");
    ck_assert_str_eq(g.params.at[experts->param[0]].name, "model.layers.0.block_sparse_moe.experts.*.w1.weight");
    ck_assert_str_eq(g.params.at[experts->param[1]].name, "model.layers.0.block_sparse_moe.experts.*.w3.weight");
    ck_assert_str_eq(g.params.at[experts->param[2]].name, "model.layers.0.block_sparse_moe.experts.*.w2.weight");
    ck_assert_uint_eq(experts->attrs.ffn, 14336);
    again(); /* the class's defaults are Mixtral 8x7B */
    must_build(parse("{\"model_type\":\"mixtral\"}"), 128);
    ck_assert_uint_eq(ir_graph_param_count(&g), 46702792704);
    ck_assert_float_eq(op("layers.0.attn.q_rope")->attrs.theta, 1e6f);
    again(); /* a window as long as the sequence changes nothing */
    must_build(with(load("mixtral-8x7b"), "sliding_window", "128"), 128);
}
END_TEST

/* ---- keys that are refused ------------------------------------------------------------------------------------ */

static const struct {
    const char *file, *key, *value, *says;
} refused[] = {
    { "llama-3-8b", "rope_scaling", "{\"type\":\"ntk\",\"factor\":2}", "$.rope_scaling.type: found \"ntk\"" },
    { "llama-3-8b", "rope_scaling", "{\"type\":\"linear\"}", "$.rope_scaling: factor must be above 0" },
    { "llama-3-8b", "rope_scaling", "{\"type\":\"linear\",\"mscale\":2}", "mscale" },
    { "llama-3-8b", "rope_scaling", "{\"partial_rotary_factor\":0.5}", "turn as a whole" },
    { "phi3-mini-128k", "rope_scaling", "{\"type\":\"su\",\"short_factor\":[1],\"long_factor\":[2]}",
      "$.rope_scaling.short_factor: found 1 factors, expected one for each of the 48 pairs" },
    { "llama-3-8b", "rope_parameters", "{\"rope_theta\":10000}", "$.rope_parameters.rope_theta: found 10000" },
    { "llama-3-8b", "rope_parameters", "{\"full_attention\":{}}", "by kind of layer" },
    { "llama-3-8b", "partial_rotary_factor", "0.5", "$.partial_rotary_factor: found 0.5" },
    { "llama-3-8b", "hidden_act", "\"mish\"", "$.hidden_act: found \"mish\"" },
    { "llama-3-8b", "num_key_value_heads", "5", "num_attention_heads 32 is not a multiple of num_key_value_heads 5" },
    { "llama-3-8b", "num_attention_heads", "33", "num_attention_heads 33 is not a multiple" },
    { "llama-3-8b", "head_dim", "63", "an even number" },
    { "llama-3-8b", "num_hidden_layers", "0", "$.num_hidden_layers: found 0" },
    { "llama-3-8b", "num_hidden_layers", "2000000000", "num_hidden_layers is 2000000000" },
    { "llama-3-8b", "hidden_size", "\"4096\"", "$.hidden_size: found \"4096\"" },
    { "llama-3-8b", "quantization_config", "{\"bits\":4}", "found no quant_method, expected fp8 or mxfp4" },
    { "llama-3-8b", "quantization_config", "{\"load_in_8bit\":true}", "the method is bitsandbytes, expected fp8 or" },
    { "llama-3-8b", "quantization_config", "{\"quant_method\":\"gptq\",\"bits\":4}", "the method is gptq" },
    { "llama-3-8b", "quantization_config", "{\"quant_method\":\"awq\"}", "the method is awq" },
    { "llama-3-8b", "quantization_config", "{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}",
      "found \"e5m2\", expected e4m3" },
    { "llama-3-8b", "quantization_config", "{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}", "two sizes" },
    { "llama-3-8b", "model_type", "\"bert\"", "$.model_type: a bert cannot be described here: it has an encoder" },
    { "llama-3-8b", "model_type", "\"mamba2\"",
      "recurrent state. What today's operators can compute may be given as a \"graph\"" },
    { "llama-3-8b", "model_type", "\"lama\"", "$.model_type: found \"lama\", expected one of gpt2, llama, " },
    { "llama-3-8b", "model_type", "null", "found neither \"model_type\"" },
    { "llama-3-8b", "attention_dropout", "2", "$.attention_dropout: found 2" },
    { "qwen3-0.6b", "layer_types", "[\"full_attention\"]",
      "$.layer_types: found 1 kinds, expected one for each of the 28 layers" },
    { "qwen3-0.6b", "use_sliding_window", "1", "$.use_sliding_window" },
    { "llama-3-8b", "sliding_window", "127",
      "$.sliding_window: found 127, expected no such key: a llama has no sliding_window, as has qwen2" },
    { "mixtral-8x7b", "router_jitter_noise", "-1", "$.router_jitter_noise: found -1" },
    { "mixtral-8x7b", "num_experts_per_tok", "9", "num_experts_per_tok is 9, but there are 8 experts" },
    { "mixtral-8x7b", "num_experts", "16", "$.num_experts: found 16" },
    { "qwen3-30b-a3b", "mlp_only_layers", "[48]", "$.mlp_only_layers[0]: found 48" },
    { "gpt2", "scale_attn_weights", "false", "$.scale_attn_weights: found false" },
    { "gpt2", "scale_attn_by_inverse_layer_idx", "true", "$.scale_attn_by_inverse_layer_idx" },
    { "gpt2", "add_cross_attention", "true", "cross attention" },
    { "gpt2", "activation_function", "\"relu\"", "$.activation_function: found \"relu\"" },
    { "gpt2", "n_head", "7", "n_embd 768 is not a multiple of n_head 7" },
    { "gpt2", "n_embd", "2000000004", "too large" },
    { "glm-4.5-air", "n_shared_experts", "2000000000", "n_shared_experts 2000000000 times moe_intermediate_size 1408" },
    { "glm-4.5-air", "topk_method", "\"greedy\"", "$.topk_method: found \"greedy\", expected \"noaux_tc\"" },
    { "glm-4.5-air", "n_group", "3", "n_group is 3 and topk_group 1, with 128 experts" },
};

START_TEST(refused_keys)
{
    ck_assert_int_eq(build(with(load(refused[_i].file), refused[_i].key, refused[_i].value), 128), ST_INPUT);
    ck_assert_msg(strstr(err.text, refused[_i].says) && strncmp(err.text, "model.json: ", 12) == 0, "%s", err.text);
}
END_TEST

/* ---- windows and positions ------------------------------------------------------------------------------------ */

/* Windows of the first layers, as numbers; a layer without rotation is marked. */
static const char *layers_text(uint32_t n)
{
    static char text[256];
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "layers.%u.attn.core", i);
        const struct ir_node_op *core = op(name), *q = &g.ops.at[g.tensors.at[core->in[0]].producer];
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%u%s", i ? " " : "", core->attrs.window,
                               q->op == IR_OP_ROPE ? "" : "-");
    }
    return text;
}

/* With sequences of 8192 tokens, which every default is shorter than. */
static const struct {
    const char *model, *layers;
} windows_of[] = {
    { "{\"model_type\":\"llama\"}", "0 0 0 0" },
    { "{\"model_type\":\"qwen2\"}", "0 0 0 0" },
    { "{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":2}", "0 0 4096 4096" },
    { "{\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":null,\"max_window_layers\":2}",
      "0 0 0 0" },
    { "{\"model_type\":\"qwen3\",\"use_sliding_window\":true,\"sliding_window\":64,\"num_hidden_layers\":2,"
      "\"layer_types\":[\"sliding_attention\",\"full_attention\"]}",
      "64 0" },
    { "{\"model_type\":\"qwen3_moe\",\"use_sliding_window\":true}", "4096 4096 4096 4096" },
    { "{\"model_type\":\"mistral\"}", "4096 4096 4096 4096" },
    { "{\"model_type\":\"mistral\",\"sliding_window\":null}", "0 0 0 0" },
    { "{\"model_type\":\"ministral\"}", "4096 4096 4096 4096" },
    { "{\"model_type\":\"mixtral\"}", "0 0 0 0" },
    { "{\"model_type\":\"mixtral\",\"sliding_window\":8192}", "0 0 0 0" },
    { "{\"model_type\":\"mixtral\",\"sliding_window\":8191}", "8191 8191 8191 8191" },
    { "{\"model_type\":\"olmo3\"}", "4096 4096 4096 0" },
    { "{\"model_type\":\"smollm3\"}", "0 0 0 0-" },
    { "{\"model_type\":\"smollm3\",\"use_sliding_window\":true,\"sliding_window\":9}", "0 0 0 9-" },
    { "{\"model_type\":\"phi3\",\"sliding_window\":2047}", "2047 2047 2047 2047" },
    { "{\"model_type\":\"exaone4\"}", "4096 4096 4096 0-" },
    { "{\"model_type\":\"exaone4\",\"sliding_window\":null}", "0 0 0 0" },
};

START_TEST(windows)
{
    must_build(parse(windows_of[_i].model), 8192);
    ck_assert_str_eq(layers_text(g.n_blocks - 2 < 4 ? g.n_blocks - 2 : 4), windows_of[_i].layers);
}
END_TEST

START_TEST(notices_for_unknown_keys)
{
    json_t *doc = with(with(load("llama-3-8b"), "hiden_size", "1"), "xyzzy", "{}");
    must_build(with(with(doc, "attention_dropout", "0.25"), "pretraining_tp", "2"), 128);
    ck_assert_uint_eq(notices.n, 3);
    ck_assert(noticed("model.json: $.hiden_size: unknown key, ignored; did you mean \"hidden_size\"?"));
    ck_assert(noticed("$.xyzzy: unknown key, ignored"));
    ck_assert(noticed("$.attention_dropout: dropout 0.25 is not applied: it trains as 0"));
    again();
    must_build(with(load("mixtral-8x7b"), "router_jitter_noise", "0.1"), 128);
    ck_assert(noticed("$.router_jitter_noise: noise 0.1 is not applied: it trains as 0"));
}
END_TEST

/* ---- roles of parameters ---------------------------------------------------------------------------------------- */

#define SMALL                                                                                                       \
    "\"vocab_size\":9,\"hidden_size\":8,\"intermediate_size\":6,\"num_hidden_layers\":1,\"num_attention_heads\":2," \
    "\"num_key_value_heads\":2"
static const struct {
    const char *model, *param;
    uint8_t init;
    bool decays;
    uint8_t ndim;
} roles[] = {
    { "{\"model_type\":\"gpt_oss\"," SMALL "}", "model.layers.0.mlp.experts.gate_proj", IR_INIT_NORMAL, true, 3 },
    { "{\"model_type\":\"gpt_oss\"," SMALL "}", "model.layers.0.mlp.experts.gate_proj_bias", IR_INIT_ZEROS, false, 2 },
    { "{\"model_type\":\"gpt_oss\"," SMALL "}", "model.layers.0.mlp.router.weight", IR_INIT_NORMAL, true, 2 },
    { "{\"model_type\":\"gpt_oss\"," SMALL "}", "model.layers.0.mlp.router.bias", IR_INIT_NORMAL, false, 1 },
    { "{\"model_type\":\"gpt_oss\"," SMALL "}", "model.layers.0.self_attn.sinks", IR_INIT_NORMAL, false, 1 },
    { "{\"model_type\":\"gpt_oss\"," SMALL "}", "model.layers.0.self_attn.o_proj.bias", IR_INIT_ZEROS, false, 1 },
    { "{\"model_type\":\"gemma2\"," SMALL "}", "model.layers.0.input_layernorm.weight", IR_INIT_ZEROS, false, 1 },
    { "{\"model_type\":\"gemma2\"," SMALL "}", "model.embed_tokens.weight", IR_INIT_NORMAL, true, 2 },
    { "{\"model_type\":\"cohere\",\"use_qk_norm\":true," SMALL "}", "model.layers.0.self_attn.q_norm.weight",
      IR_INIT_ONES, false, 2 },
    { "{\"model_type\":\"glm4_moe\",\"first_k_dense_replace\":0," SMALL "}",
      "model.layers.0.mlp.gate.e_score_correction_bias", IR_INIT_ZEROS, false, 1 },
    { "{\"model_type\":\"phi\"," SMALL "}", "lm_head.bias", IR_INIT_ZEROS, false, 1 },
};

/* A llama of before, whose norms were rounded once, is the same model. */
START_TEST(rounding_is_no_mathematics)
{
    char text[256];
    struct ir_graph was;
    ir_graph_init(&was);
    json_t *doc = parse("{\"model_type\":\"llama\"," SMALL "}");
    ck_assert_int_eq(ir_family_build(doc, "model.json", 8, &was, NULL, &err), ST_OK);
    must_build(doc, 8);
    for (uint32_t i = 0; i < was.ops.n; i++)
        was.ops.at[i].attrs.flags &= ~(uint32_t)IR_ROUND_FIRST;
    ck_assert_uint_ne(was.ops.at[1].attrs.flags, g.ops.at[1].attrs.flags);
    ck_assert_msg(ir_graph_same(&was, &g, text, sizeof text), "%s", text);
    was.ops.at[1].attrs.flags |= IR_ONE_PLUS;
    ck_assert(!ir_graph_same(&was, &g, text, sizeof text));
    ir_graph_release(&was);
}
END_TEST

/* Float32 is no mathematics: a checkpoint of before is the same model, and a graph that is read gets the types of now. */
START_TEST(selection_bias_is_state)
{
    char text[256];
    struct ir_graph was;
    ir_graph_init(&was);
    json_t *doc = parse("{\"model_type\":\"glm4_moe\",\"first_k_dense_replace\":0," SMALL "}");
    ck_assert_int_eq(ir_family_build(doc, "model.json", 8, &was, NULL, &err), ST_OK);
    must_build(doc, 8);
    const struct ir_param *bias = param("model.layers.0.mlp.gate.e_score_correction_bias");
    ck_assert(bias->state && bias->shape.dtype == IR_F32);
    ck_assert(!param("model.layers.0.mlp.gate.weight")->state);
    ck_assert_int_eq(param("model.layers.0.mlp.gate.weight")->shape.dtype, IR_F32);
    ck_assert_int_eq(param("model.layers.0.self_attn.o_proj.weight")->shape.dtype, IR_COMPUTE);
    for (uint32_t i = 0; i < was.ops.n; i++)
        was.ops.at[i].attrs.flags &= ~(uint32_t)IR_FLOAT32;
    for (uint32_t i = 0; i < was.params.n; i++)
        was.params.at[i].shape.dtype = IR_COMPUTE;
    ck_assert_msg(ir_graph_same(&was, &g, text, sizeof text), "%s", text);
    ir_graph_roles(&was);
    ck_assert_int_eq(was.params.at[bias - g.params.at].shape.dtype, IR_F32);
    ir_graph_release(&was);
}
END_TEST

START_TEST(losses_of_routers)
{
    static const char v3[] = "{\"model_type\":\"deepseek_v3\",\"n_routed_experts\":16,\"n_group\":1,\"topk_group\":1,"
                             "\"first_k_dense_replace\":0," SMALL "}";
    static const char v2[] = "{\"model_type\":\"deepseek_v2\",\"n_routed_experts\":16,\"num_experts_per_tok\":4,"
                             "\"aux_loss_alpha\":0.02,\"router_z_loss_coef\":0.5," SMALL "}";
    must_build(parse(v3), 8);
    const struct ir_attrs *a = &op("layers.0.mlp.router")->attrs;
    ck_assert(a->aux_coef == 0 && a->z_coef == 0 && !(a->flags & IR_SEQUENCE_LOSS));
    again();
    must_build(with(with(parse(v3), "aux_loss_alpha", "0.02"), "router_z_loss_coef", "0.25"), 8);
    a = &op("layers.0.mlp.router")->attrs;
    ck_assert(a->aux_coef == 0.02f && a->z_coef == 0.25f && a->flags & IR_SEQUENCE_LOSS);
    again(); /* counts tokens by what was chosen, and not divided by their number of experts */
    must_build(parse(v2), 8);
    a = &op("layers.0.mlp.router")->attrs;
    ck_assert(a->aux_coef == 0.02f / 4 && a->z_coef == 0.5f && !(a->flags & IR_SEQUENCE_LOSS));
    static const char ernie[] =
        "{\"model_type\":\"ernie4_5_moe\",\"router_z_loss_coef\":0.25,\"moe_layer_start_index\":0," SMALL "}";
    static const char dbrx[] = "{\"model_type\":\"dbrx\",\"router_z_loss_coef\":0.25,\"n_layers\":1}";
    again();
    must_build(parse(ernie), 8);
    ck_assert(op("layers.0.mlp.router")->attrs.z_coef == 0.25f);
    again();
    must_build(parse(dbrx), 8);
    ck_assert(op("layers.0.mlp.router")->attrs.z_coef == 0.25f);
    again();
    json_t *doc = with(with(parse(v3), "aux_loss_alpha", "0.02"), "seq_aux", "false");
    ck_assert_int_eq(build(doc, 8), ST_INPUT);
    ck_assert_msg(strstr(err.text, "$.seq_aux: found false with aux_loss_alpha 0.02") != NULL, "%s", err.text);
}
END_TEST

/* How it begins is the class's _init_weights; decay goes by role, not by shape. */
START_TEST(parameter_roles)
{
    must_build(parse(roles[_i].model), 8);
    const struct ir_param *p = param(roles[_i].param);
    ck_assert_int_eq(p->init, roles[_i].init);
    ck_assert_int_eq(p->decays, roles[_i].decays);
    ck_assert_int_eq(p->shape.ndim, roles[_i].ndim);
    ck_assert_float_eq(p->std, p->init == IR_INIT_NORMAL ? 0.02f : 0);
}
END_TEST
#undef SMALL

/* ---- keys of other families ------------------------------------------------------------------------------------- */

static const struct hf_key *find_key(const struct hf_key *list, const char *name)
{
    for (; list->kind != HF_END; list++)
        if (strcmp(list->name, name) == 0)
            return list;
    return NULL;
}

static bool changes_mathematics(const struct hf_key *k)
{
    return k->kind != HF_INFO && k->kind != HF_NOISE;
}

/* Every key that a family uses is in the list of those that the others refuse. */
START_TEST(keys_are_listed)
{
    for (const struct family *const *f = ir_families; *f; f++)
        for (const struct hf_key *k = (*f)->keys; k->kind != HF_END; k++)
            ck_assert_msg(!changes_mathematics(k) || find_key(hf_math_keys, k->name) ||
                              find_key(hf_common_keys, k->name),
                          "%s: %s is not among the keys that change the mathematics", (*f)->model_type, k->name);
}
END_TEST

/* As hf.c has it: equal numbers, and lists of nothing else. */
static bool neutral(const json_t *v, const char *word)
{
    json_t *n = word ? json_loads(word, JSON_DECODE_ANY, NULL) : NULL;
    bool same = n && (json_equal(v, n) ||
                      (json_is_number(v) && json_is_number(n) && json_number_value(v) == json_number_value(n)));
    json_decref(n);
    return same;
}

/* Each key that changes the mathematics of some family, with values that are not neutral, in each family that has it not: refused, with
 * the key and the value. */
START_TEST(foreign_keys)
{
    static const char *const values[] = { "7", "0.37", "true", "false", "\"odd\"", "[0,1]", "{\"a\":2}" };
    const struct family *f = ir_families[_i];
    uint32_t tried = 0;
    for (const struct hf_key *k = hf_math_keys; k->kind != HF_END; k++) {
        if (find_key(f->keys, k->name))
            continue;
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            json_t *doc = json_pack("{s:s}", "model_type", f->model_type),
                   *v = json_loads(values[i], JSON_DECODE_ANY, NULL);
            char want[128];
            snprintf(want, sizeof want, "model.json: $.%s: found %s", k->name, json_is_object(v) ? "" : values[i]);
            const bool is_neutral = neutral(v, k->word), is_list = json_is_array(v);
            json_object_set_new(doc, k->name, v);
            again();
            if (is_neutral) {
                json_decref(doc);
                continue;
            }
            ck_assert_msg(build(doc, 16) == ST_INPUT, "%s takes %s %s", f->model_type, k->name, values[i]);
            if (!is_list)
                ck_assert_msg(strncmp(err.text, want, strlen(want)) == 0, "%s: %s", f->model_type, err.text);
            ck_assert_uint_eq(notices.n, 0);
            tried++;
        }
    }
    ck_assert_uint_ge(tried, 200);
}
END_TEST

/* ---- annotations and cuts ------------------------------------------------------------------------------------- */

static json_t *tiny(const char *annotate)
{
    json_t *doc = parse(
        "{\"model_type\":\"qwen3_moe\",\"hidden_size\":16,\"num_hidden_layers\":12,\"vocab_size\":20,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"num_experts\":4,\"num_experts_per_tok\":2,"
        "\"moe_intermediate_size\":8,\"intermediate_size\":8,\"decoder_sparse_step\":3}");
    return annotate ? with(doc, "annotate", annotate) : doc;
}

START_TEST(annotate_with_index)
{
    must_build(tiny("[{\"tag\":\"PP\",\"index\":0,\"match\":[\"embed\",\"layers.0-5\"]},"
                    "{\"tag\":\"PP\",\"index\":1,\"match\":[\"layers.6-10\",\"layers.11\",\"norm\",\"head\"]},"
                    "{\"tag\":\"X\",\"index\":7,\"match\":[\"layers.*.attn\"]}]"),
               8);
    ck_assert_int_eq(tag("embed", "PP"), 0);
    ck_assert_int_eq(tag("layers.1.mlp.add", "PP"), 0);
    ck_assert_int_eq(tag("layers.10.mlp.add", "PP"), 1); /* layers.1 is no prefix of it */
    ck_assert_int_eq(tag("layers.11.experts", "PP"), 1);
    ck_assert_int_eq(tag("head", "PP"), 1);
    ck_assert_int_eq(tag("layers.4.attn.q_norm", "X"), 7);
    ck_assert_int_eq(tag("layers.4.mlp.norm", "X"), -1);
    ck_assert_int_eq(tag("layers.11.experts", "EP"), 3);
}
END_TEST

START_TEST(annotate_numbered)
{
    must_build(tiny("[{\"tag\":\"A\",\"match\":[\"layers.*.attn\"]},"
                    "{\"tag\":\"PP\",\"match\":[\"layers.6-11\",\"norm\",\"head\"]},"
                    "{\"tag\":\"PP\",\"match\":[\"embed\",\"layers.0-5\"]},"
                    "{\"tag\":\"E\",\"match\":[\"layers.*.experts\"]},"
                    "{\"tag\":\"B\",\"match\":[\"layers.0\",\"layers.1\",\"layers.5\"]}]"),
               8);
    ck_assert_int_eq(tag("layers.0.attn.norm", "A"), 0);
    ck_assert_int_eq(tag("layers.11.attn.add", "A"), 11);
    ck_assert_int_eq(tag("embed", "PP"), 0); /* by data flow, not by the order of entries */
    ck_assert_int_eq(tag("layers.5.mlp.add", "PP"), 0);
    ck_assert_int_eq(tag("layers.6.attn.norm", "PP"), 1);
    ck_assert_int_eq(tag("head", "PP"), 1);
    ck_assert_int_eq(tag("layers.5.experts", "E"), 1);
    ck_assert_int_eq(tag("layers.0.attn.add", "B"), 0); /* connected: layers 0 and 1 are one part */
    ck_assert_int_eq(tag("layers.1.mlp.act", "B"), 0);
    ck_assert_int_eq(tag("layers.5.attn.add", "B"), 1);
}
END_TEST

static const struct {
    const char *annotate, *says;
} bad_annotations[] = {
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[\"layers.12\"]}]",
      "$.annotate[0].match[0]: found \"layers.12\", expected a region of the model: embed, layers.0-11, norm, head" },
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[\"layers.3-12\"]}]", "a range of existing regions" },
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[\"layers.5-3\"]}]", "expected a region" },
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[\"layer\"]}]", "expected a region" },
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[\"\"]}]", "expected a region" },
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[]}]", "$.annotate[0].match: found a list of 0" },
    { "[{\"tag\":\"PP\",\"index\":1,\"match\":[\"*\"]}]", "no operator has PP 0" },
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[\"embed\"]},{\"tag\":\"PP\",\"index\":1,\"match\":[\"*\"]}]",
      "covers operator embed, which entry 0 already gives the tag PP" },
    { "[{\"tag\":\"PP\",\"index\":0,\"match\":[\"embed\"]},{\"tag\":\"PP\",\"match\":[\"head\"]}]",
      "give an index to every entry of tag PP or to none" },
    { "[{\"tag\":\"EP\",\"index\":0,\"match\":[\"layers.0\"]}]", "$.annotate[0].tag: found \"EP\"" },
    { "[{\"tag\":\"PP\",\"index\":-1,\"match\":[\"embed\"]}]", "$.annotate[0].index: found -1" },
    { "[{\"tag\":\"PP\",\"idx\":1,\"match\":[\"embed\"]}]", "unknown key \"idx\"" },
    { "[{\"tag\":\"PP\",\"index\":1}]", "missing key \"match\"" },
    { "{}", "$.annotate: found an object" },
    { "[{\"tag\":\"A\",\"match\":[\"*\"]},{\"tag\":\"B\",\"match\":[\"*\"]},{\"tag\":\"C\",\"match\":[\"*\"]},"
      "{\"tag\":\"D\",\"match\":[\"*\"]},{\"tag\":\"E\",\"match\":[\"*\"]},{\"tag\":\"F\",\"match\":[\"*\"]},"
      "{\"tag\":\"G\",\"match\":[\"*\"]},{\"tag\":\"H\",\"match\":[\"*\"]}]",
      "at most 8 are possible" },
};

START_TEST(annotate_mistakes)
{
    ck_assert_int_eq(build(tiny(bad_annotations[_i].annotate), 8), ST_INPUT);
    ck_assert_msg(strstr(err.text, bad_annotations[_i].says) != NULL, "%s", err.text);
}
END_TEST

START_TEST(default_cut)
{
    must_build(tiny(NULL), 8);
    ck_assert_int_eq(ir_graph_cut_stages(&g, 5, (struct ir_ends){ 0 }, "strategy.json", &err), ST_OK);
    for (int i = 0; i < 12; i++) {
        char name[64];
        int32_t s = 0;
        while ((s + 1) * 12 / 5 <= i) /* the definition */
            s++;
        snprintf(name, sizeof name, "layers.%d.attn.norm", i);
        ck_assert_int_eq(tag(name, "PP"), s);
    }
    ck_assert_int_eq(tag("embed", "PP"), 0);
    ck_assert_int_eq(tag("norm", "PP"), 4);
    ck_assert_int_eq(tag("head", "PP"), 4);
    ck_assert_int_eq(ir_graph_validate(&g, "x", &err), ST_OK);
    ck_assert_int_eq(ir_graph_cut_stages(&g, 2, (struct ir_ends){ 0 }, "strategy.json", &err),
                     ST_OK); /* annotated: left as it is */
    ck_assert_int_eq(tag("head", "PP"), 4);
    again();
    must_build(tiny(NULL), 8);
    ck_assert_int_eq(ir_graph_cut_stages(&g, 13, (struct ir_ends){ 0 }, "strategy.json", &err), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "strategy.json: the strategy has 13 pipeline stages, but the model has 12"));
    for (uint32_t n = 1; n <= 12; n++) { /* every stage has a layer */
        again();
        must_build(tiny(NULL), 8);
        ck_assert_int_eq(ir_graph_cut_stages(&g, n, (struct ir_ends){ 0 }, "x", &err), ST_OK);
        ck_assert_int_eq(ir_graph_validate(&g, "x", &err), ST_OK);
        ck_assert_int_eq(tag("head", "PP"), (int32_t)n - 1);
    }
    again(); /* ends that are stages of their own */
    must_build(tiny(NULL), 8);
    ck_assert_int_eq(ir_graph_cut_stages(&g, 4, (struct ir_ends){ .encoder = true, .head = true }, "x", &err), ST_OK);
    ck_assert_int_eq(ir_graph_validate(&g, "x", &err), ST_OK);
    ck_assert_int_eq(tag("embed", "PP"), 0);
    ck_assert_int_eq(tag("layers.5.attn.norm", "PP"), 1);
    ck_assert_int_eq(tag("layers.6.attn.norm", "PP"), 2);
    ck_assert_int_eq(tag("norm", "PP"), 3);
    ck_assert_int_eq(tag("head", "PP"), 3);
}
END_TEST

/* Every factor of up to three places that is a whole number of rows, and one that is just more. */
START_TEST(capacity_of_whole_numbers)
{
    for (uint32_t rows = 1; rows <= 100; rows++)
        for (uint32_t experts = 2; experts <= 10; experts += 4) {
            char text[32];
            const uint32_t t = 1000 * experts;
            snprintf(text, sizeof text, "%.3f", rows / 1e3);
            ck_assert_uint_eq(ir_capacity(strtod(text, NULL), t, 1, experts), rows);
            snprintf(text, sizeof text, "%.3f000000001", rows / 1e3);
            ck_assert_uint_eq(ir_capacity(strtod(text, NULL), t, 1, experts), rows + 1);
        }
}
END_TEST

/* Families and graphs hand the number over as it was written. */
START_TEST(capacity_of_models)
{
    static const char *const models[] = {
        "{\"model_type\":\"mixtral\",\"vocab_size\":11,\"hidden_size\":8,\"intermediate_size\":4,\"num_hidden_layers\":"
        "1,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"num_local_experts\":2,\"num_experts_per_tok\":1,"
        "\"capacity_factor\":1.1}",
        "{\"vocab_size\":11,\"graph\":[{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"],\"features\":8},"
        "{\"op\":\"router\",\"name\":\"r\",\"in\":[\"e\"],\"experts\":2,\"top_k\":1},"
        "{\"op\":\"dispatch\",\"name\":\"d\",\"in\":[\"e\",\"r.1\"],\"capacity_factor\":1.1},"
        "{\"op\":\"experts\",\"name\":\"x\",\"in\":[\"d\",\"d.2\"],\"ffn\":4},"
        "{\"op\":\"combine\",\"name\":\"c\",\"in\":[\"x\",\"d.1\",\"r\"]},"
        "{\"op\":\"head_loss\",\"name\":\"h\",\"in\":[\"c\",\"targets\"]}]}",
    };
    ck_assert_msg(build(parse(models[_i]), 20) == ST_OK, "%s", err.text);
    uint32_t n = 0;
    for (uint32_t i = 0; i < g.ops.n; i++)
        if (g.ops.at[i].op == IR_OP_DISPATCH || g.ops.at[i].op == IR_OP_EXPERTS || g.ops.at[i].op == IR_OP_COMBINE) {
            ck_assert_uint_eq(g.ops.at[i].attrs.capacity, 11);
            n++;
        }
    ck_assert_uint_eq(n, 3);
}
END_TEST

START_TEST(capacity)
{
    ck_assert_uint_eq(ir_capacity(0, 100, 2, 4), 0);
    ck_assert_uint_eq(ir_capacity(1, 100, 2, 4), 50);
    ck_assert_uint_eq(ir_capacity(1.01, 100, 2, 4), 51);
    ck_assert_uint_eq(ir_capacity(0.001, 100, 2, 4), 1);
    ck_assert_uint_eq(ir_capacity(1.1, 20, 1, 2), 11); /* 12 in floating point */
    ck_assert_uint_eq(ir_capacity(0.3, 20, 1, 2), 3);
    ck_assert_uint_eq(ir_capacity(1e6, 100, 2, 4), 100); /* an expert sees a token once */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("family");
    TCase *c = tcase_create("family");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, real_files, 0, (int)(sizeof real / sizeof *real));
    tcase_add_test(c, published_models);
    tcase_add_test(c, gpt2_is_gpt2);
    tcase_add_test(c, gpt2_keys);
    tcase_add_test(c, llama_is_llama);
    tcase_add_test(c, qwen3_is_qwen3);
    tcase_add_test(c, qwen3_moe_is_qwen3_moe);
    tcase_add_test(c, mixtral_is_mixtral);
    tcase_add_loop_test(c, refused_keys, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_loop_test(c, windows, 0, (int)(sizeof windows_of / sizeof *windows_of));
    tcase_add_test(c, notices_for_unknown_keys);
    tcase_add_loop_test(c, parameter_roles, 0, (int)(sizeof roles / sizeof *roles));
    tcase_add_test(c, rounding_is_no_mathematics);
    tcase_add_test(c, selection_bias_is_state);
    tcase_add_test(c, losses_of_routers);
    tcase_add_test(c, keys_are_listed);
    for (int i = 0; ir_families[i]; i++)
        tcase_add_loop_test(c, foreign_keys, i, i + 1);
    tcase_add_test(c, annotate_with_index);
    tcase_add_test(c, annotate_numbered);
    tcase_add_loop_test(c, annotate_mistakes, 0, (int)(sizeof bad_annotations / sizeof *bad_annotations));
    tcase_add_test(c, default_cut);
    tcase_add_test(c, capacity);
    tcase_add_test(c, capacity_of_whole_numbers);
    tcase_add_loop_test(c, capacity_of_models, 0, 2);
    suite_add_tcase(s, c);
    return suite_run(s);
}
