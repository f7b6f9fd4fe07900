/* Weights in 8 and 4 bits: bitwise what transformers makes of them, at every border, and what is refused. */
#include <math.h>
#include <sys/stat.h>

#include "base/number.h"
#include "io/model.h"
#include "io/safetensors.h"
#include "ir/family/family.h"
#include "tests/unit/data/quantized_table.h"
#include "tests/unit/io_sample.h"
#include "tests/unit/tensor_file.h"
#include "tests/unit/suite.h"

static struct err e;
static const char *folder;
static char file[300], config[300], ckpt[300];

enum { FP8_ALL = FP8_ROWS * FP8_COLUMNS, FP4_COLUMNS = 32 * FP4_GROUPS };
enum { FP4_ALL = FP4_EXPERTS * FP4_ROWS * FP4_COLUMNS };

static void begin(void)
{
    folder = sample_folder();
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    snprintf(config, sizeof config, "%s/config.json", folder);
    snprintf(ckpt, sizeof ckpt, "%s/step-000000.h5", folder);
    safetensors_block = 1 << 20;
    err_clear(&e);
    start_file();
}

static void end(void)
{
    sample_folder_remove(folder);
}

static void write_config(const char *quantization)
{
    char text[400];
    sample_write_file(config, text, (size_t)snprintf(text, sizeof text, "{\"quantization_config\":%s}", quantization));
}

static void check_value(float x, uint32_t want, uint64_t at)
{
    float y;
    uint32_t bits;
    memcpy(&y, &want, 4);
    memcpy(&bits, &x, 4);
    ck_assert_msg(isnan(y) ? isnan(x) : bits == want, "element %lu: %a, expected %a", (unsigned long)at, (double)x,
                  (double)y);
}

static void check_half(float x, uint16_t want, uint64_t at)
{
    const float y = number_from_bf16(want);
    ck_assert_msg(isnan(y) ? isnan(x) : number_to_bf16(x) == want, "element %lu: %a, expected %a", (unsigned long)at,
                  (double)x, (double)y);
}

/* From every first element to every last one. */
static void check_all(const uint32_t *want, uint64_t n)
{
    struct safetensors s;
    float x[FP8_ALL + FP4_ALL];
    ASSERT_OK(safetensors_open(folder, &s, &e));
    const struct safetensors_entry *t = safetensors_find(&s, "w.weight");
    for (uint64_t first = 0; first < n; first += first < 40 ? 1 : 7)
        for (uint64_t count = 0; count <= n - first; count += count < 40 ? 1 : 13) {
            ASSERT_OK(safetensors_read(&s, t, first, count, x, &e));
            for (uint64_t i = 0; i < count; i++)
                check_value(x[i], want[first + i], first + i);
        }
    safetensors_close(&s);
}

START_TEST(fp8)
{
    struct safetensors s;
    float x[FP8_ALL];
    add_tensor("w.weight", "F8_E4M3", "16,16", fp8_codes, sizeof fp8_codes);
    add_tensor("w.weight_scale_inv", "F32", "4,2", fp8_scales, sizeof fp8_scales);
    end_file(file);
    write_config("{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\",\"weight_block_size\":[4,8]}");
    check_all(fp8_float32, FP8_ALL);
    ASSERT_OK(safetensors_open(folder, &s, &e));
    ASSERT_OK(safetensors_read(&s, safetensors_find(&s, "w.weight"), 0, FP8_ALL, x, &e));
    for (uint32_t i = 0; i < FP8_ALL; i++)
        check_half(x[i], fp8_bfloat16[i], i);
    safetensors_close(&s);
}
END_TEST

START_TEST(fp8_powers_of_two)
{
    add_tensor("w.weight", "F8_E4M3", "16,16", fp8_codes, sizeof fp8_codes);
    add_tensor("w.weight_scale_inv", "F8_E8M0", "4,2", fp8_powers, sizeof fp8_powers);
    end_file(file);
    write_config("{\"quant_method\":\"fp8\",\"weight_block_size\":[4,8]}");
    check_all(fp8_by_powers, FP8_ALL);
}
END_TEST

/* Blocks of 128 x 128 where nothing is said, and the last ones are smaller: 576 rows of DeepSeek-V3 have 5. */
START_TEST(fp8_last_blocks)
{
    static uint8_t codes[130 * 129];
    const float scales[4] = { 1, 2, 4, 8 };
    float x[130 * 129];
    struct safetensors s;
    memset(codes, 0x38, sizeof codes); /* 1 */
    add_tensor("w.weight", "F8_E4M3", "130,129", codes, sizeof codes);
    add_tensor("w.weight_scale_inv", "F32", "2,2", scales, sizeof scales);
    end_file(file);
    ASSERT_OK(safetensors_open(file, &s, &e));
    ASSERT_OK(safetensors_read(&s, safetensors_find(&s, "w.weight"), 0, 130 * 129, x, &e));
    for (int i = 0; i < 130 * 129; i++)
        ck_assert(x[i] == scales[2 * (i / 129 / 128) + i % 129 / 128]);
    safetensors_close(&s);
}
END_TEST

START_TEST(fp8_one_factor)
{
    const uint8_t codes[3] = { 0x38, 0x08, 0xfe };
    const float scale = 3;
    float x[3];
    struct safetensors s;
    add_tensor("w.weight", "F8_E4M3", "3", codes, 3);
    add_tensor("w.weight_scale_inv", "F32", "", &scale, 4);
    end_file(file);
    write_config("{\"quant_method\":\"fp8\",\"weight_block_size\":null}");
    ASSERT_OK(safetensors_open(folder, &s, &e));
    ASSERT_OK(safetensors_read(&s, safetensors_find(&s, "w.weight"), 0, 3, x, &e));
    ck_assert(x[0] == 3 && x[1] == 3 * 0x1p-6f && x[2] == -3 * 448.0f);
    safetensors_close(&s);
}
END_TEST

static void add_fp4(const char *name)
{
    char text[200];
    snprintf(text, sizeof text, "%s_blocks", name);
    add_tensor(text, "U8", "2,6,2,16", fp4_blocks, sizeof fp4_blocks);
    snprintf(text, sizeof text, "%s_scales", name);
    add_tensor(text, "U8", "2,6,2", fp4_scales, sizeof fp4_scales);
}

/* The table has columns first, as transformers. */
static uint32_t in_table(uint32_t at)
{
    const uint32_t column = at % FP4_COLUMNS, row = at / FP4_COLUMNS % FP4_ROWS, expert = at / FP4_COLUMNS / FP4_ROWS;
    return (expert * FP4_COLUMNS + column) * FP4_ROWS + row;
}

START_TEST(mxfp4)
{
    uint32_t want[FP4_ALL];
    float x[FP4_ALL];
    struct safetensors s;
    add_fp4("w.weight");
    end_file(file);
    write_config("{\"quant_method\":\"mxfp4\",\"modules_to_not_convert\":[\"lm_head\"]}");
    for (uint32_t i = 0; i < FP4_ALL; i++)
        want[i] = fp4_float32[in_table(i)];
    check_all(want, FP4_ALL);
    ASSERT_OK(safetensors_open(folder, &s, &e));
    ASSERT_OK(safetensors_read(&s, safetensors_find(&s, "w.weight"), 0, FP4_ALL, x, &e));
    for (uint32_t i = 0; i < FP4_ALL; i++)
        check_half(x[i], fp4_bfloat16[in_table(i)], i);
    safetensors_close(&s);
}
END_TEST

/* ---- into models ------------------------------------------------------------------------------------------------ */

static struct ir_graph graph;

static enum status import(const char *model, const char *from)
{
    struct checkpoint_info info = { .optimizer = "none", .build = "test" };
    json_t *doc;
    uint32_t extra;
    ir_graph_init(&graph);
    ASSERT_OK(js_load_text(model, "model.json", &doc, &e));
    ASSERT_OK(ir_family_build(doc, "model.json", 4, &graph, NULL, &e));
    json_decref(doc);
    model_digest(&graph, IR_F32, info.model_digest);
    return safetensors_import(from, &graph, &info, ckpt, &extra, &e);
}

/* Element i of a parameter of the checkpoint. */
static void read_param(const char *name, float *x)
{
    struct checkpoint_info info;
    uint8_t digest[SHA256_BYTES];
    model_digest(&graph, IR_F32, digest);
    for (uint32_t p = 0; p < graph.params.n; p++) {
        const struct checkpoint_piece piece = { .param = p,
                                                .count = ir_shape_elements(&graph.params.at[p].shape),
                                                .data = x };
        if (strcmp(graph.params.at[p].name, name) == 0)
            ASSERT_OK(checkpoint_read(ckpt, &graph, digest, &piece, 1, &info, &e));
    }
}

/* The parameters of a model but those that `without` is part of. */
static void add_others(const char *model, const char *without)
{
    static const float zero[4096];
    json_t *doc;
    struct ir_graph g;
    ir_graph_init(&g);
    ASSERT_OK(js_load_text(model, "model.json", &doc, &e));
    ASSERT_OK(ir_family_build(doc, "model.json", 4, &g, NULL, &e));
    json_decref(doc);
    for (uint32_t i = 0; i < g.params.n; i++) {
        const struct ir_param *p = &g.params.at[i];
        char shape[64] = "";
        for (uint32_t k = 0; k < p->shape.ndim; k++)
            sprintf(shape + strlen(shape), "%s%u", k ? "," : "", p->shape.dim[k]);
        if (!strstr(p->name, without) && !strstr(p->name, "experts"))
            add_tensor(p->name, "F32", shape, zero, 4 * ir_shape_elements(&p->shape));
    }
    ir_graph_release(&g);
}

#define LLAMA                                                                                                        \
    "{\"model_type\":\"llama\",\"vocab_size\":3,\"hidden_size\":16,\"intermediate_size\":2,\"num_hidden_layers\":1," \
    "\"num_attention_heads\":2,\"tie_word_embeddings\":true}"
#define GPT_OSS                                                                                               \
    "{\"model_type\":\"gpt_oss\",\"vocab_size\":2,\"hidden_size\":64,\"intermediate_size\":3,\"head_dim\":2," \
    "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"num_local_experts\":2,"    \
    "\"num_experts_per_tok\":1,\"tie_word_embeddings\":true}"

START_TEST(fp8_of_a_model)
{
    float x[FP8_ALL];
    add_others(LLAMA, "self_attn.k_proj");
    add_tensor("model.layers.0.self_attn.k_proj.weight", "F8_E4M3", "16,16", fp8_codes, sizeof fp8_codes);
    add_tensor("model.layers.0.self_attn.k_proj.weight_scale_inv", "F32", "4,2", fp8_scales, sizeof fp8_scales);
    end_file(file);
    write_config("{\"quant_method\":\"fp8\",\"weight_block_size\":[4,8]}");
    for (safetensors_block = 300; safetensors_block > 2; safetensors_block /= 3) {
        ASSERT_OK(import(LLAMA, folder));
        read_param("model.layers.0.self_attn.k_proj.weight", x);
        for (uint32_t i = 0; i < FP8_ALL; i++)
            check_value(x[i], fp8_float32[i], i);
        ir_graph_release(&graph);
    }
}
END_TEST

/* gate_up_proj is (experts, columns, rows) there, gate and up by turn in the rows. */
START_TEST(mxfp4_of_a_model)
{
    static const float zero[64 * 3 * 2];
    float x[2][FP4_ALL / 2];
    add_others(GPT_OSS, "experts");
    add_fp4("model.layers.0.mlp.experts.gate_up_proj");
    add_tensor("model.layers.0.mlp.experts.gate_up_proj_bias", "F32", "2,6", zero, 48);
    add_tensor("model.layers.0.mlp.experts.down_proj", "F32", "2,3,64", zero, sizeof zero);
    add_tensor("model.layers.0.mlp.experts.down_proj_bias", "F32", "2,64", zero, 512);
    end_file(file);
    ASSERT_OK(import(GPT_OSS, file));
    read_param("model.layers.0.mlp.experts.gate_proj", x[0]);
    read_param("model.layers.0.mlp.experts.up_proj", x[1]);
    for (uint32_t i = 0; i < FP4_ALL; i++) {
        const uint32_t row = i / FP4_COLUMNS; /* of all experts */
        check_value(x[row % 2][row / 2 * FP4_COLUMNS + i % FP4_COLUMNS], fp4_float32[in_table(i)], i);
    }
    ir_graph_release(&graph);
}
END_TEST

/* ---- refused ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *config, *name, *type, *shape, *scale, *scale_type, *scale_shape, *part;
    size_t bytes, scale_bytes;
} refused[] = {
#define K "model.layers.0.self_attn.k_proj.weight"
    { NULL, K, "F8_E4M3", "16,16", NULL, NULL, NULL,
      K " has the type F8_E4M3, expected F32, BF16, F16, F8_E4M3 with a tensor ..._scale_inv, or MXFP4", 256, 0 },
    { NULL, K, "F8_E5M2", "16,16", K "_scale_inv", "F32", "1", K " has the type F8_E5M2", 256, 4 },
    { NULL, K, "F8_E4M3", "16,16", K "_scale_inv", "F32", "2,1",
      "has 2 factors, expected 1 x 1: one for each 128 x 128 elements", 256, 8 },
    { NULL, K, "F8_E4M3", "16,16", K "_scale_inv", "F16", "1,1", "has the type F16, expected F32, BF16 or F8_E8M0", 256,
      2 },
    { NULL, K "_blocks", "U8", "1,16,1,16", K "_scales", "U8", "1,15,1", "is expected to have 4 dimensions", 256, 15 },
    { NULL, K "_blocks", "U8", "1,8,2,16", NULL, NULL, NULL, "is expected to have 4 dimensions", 256, 0 },
    { NULL, "model.layers.0.self_attn.k_proj.qweight", "I32", "8,8", NULL, NULL, NULL, "quantized by GPTQ or AWQ", 256,
      0 },
    { NULL, K, "I8", "16,16", "model.layers.0.self_attn.k_proj.SCB", "F32", "16", "quantized by bitsandbytes", 256,
      64 },
    { "{\"quant_method\":\"gptq\"}", K, "F8_E4M3", "16,16", NULL, NULL, NULL,
      "the method is gptq, expected fp8 or mxfp4", 256, 0 },
    { "{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}", K, "F8_E5M2", "16,16", NULL, NULL, NULL, "found \"e5m2\"", 256,
      0 },
#undef K
};

START_TEST(what_is_refused)
{
    static const uint8_t zero[256];
    add_others(LLAMA, "self_attn.k_proj");
    add_tensor(refused[_i].name, refused[_i].type, refused[_i].shape, zero, refused[_i].bytes);
    if (refused[_i].scale)
        add_tensor(refused[_i].scale, refused[_i].scale_type, refused[_i].scale_shape, zero, refused[_i].scale_bytes);
    end_file(file);
    if (refused[_i].config)
        write_config(refused[_i].config);
    ASSERT_FAILS(import(LLAMA, folder), ST_INPUT, refused[_i].part);
    ir_graph_release(&graph);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("io_quantized");
    TCase *t = tcase_create("quantized");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, fp8);
    tcase_add_test(t, fp8_powers_of_two);
    tcase_add_test(t, fp8_last_blocks);
    tcase_add_test(t, fp8_one_factor);
    tcase_add_test(t, mxfp4);
    tcase_add_test(t, fp8_of_a_model);
    tcase_add_test(t, mxfp4_of_a_model);
    tcase_add_loop_test(t, what_is_refused, 0, (int)(sizeof refused / sizeof *refused));
    suite_add_tcase(s, t);
    return suite_run(s);
}
