/* Safetensors: conversion, validation, names, and weights that go out and come back. */
#include "io/safetensors.h"

#include <fcntl.h>
#include <math.h>

#include "io/checkpoint_private.h"
#include "io/model.h"
#include "ir/family/family.h"
#include "ir/family/files.h"
#include "tests/unit/io_sample.h"
#include "tests/unit/tensor_file.h"
#include "tests/unit/suite.h"

static struct err e;
static const char *folder;
static char file[300], ckpt[300], back[300];
static struct ir_graph graph;
static uint32_t extra; /* of the last import */

static void begin(void)
{
    folder = sample_folder();
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    snprintf(ckpt, sizeof ckpt, "%s/step-000000.h5", folder);
    snprintf(back, sizeof back, "%s/back.safetensors", folder);
    sample_graph(&graph);
    block_words = 1 << 18;
    safetensors_block = 1 << 20;
    err_clear(&e);
}

static void end(void)
{
    ir_graph_release(&graph);
    sample_folder_remove(folder);
}

static float value(uint32_t param, uint64_t i)
{
    return (float)param * 8 + (float)i * 0.125f; /* exact in bfloat16 up to 256 steps of 1/8 below 32; see below */
}

/* All parameters of the sample model; `strip` leaves that prefix out of the names. */
static void add_model(const char *strip, uint32_t without)
{
    for (uint32_t p = 0; p < graph.params.n; p++) {
        const struct ir_param *q = &graph.params.at[p];
        const char *star = strchr(q->name, '*'), *name = q->name;
        size_t skip = strncmp(name, strip, strlen(strip)) == 0 ? strlen(strip) : 0;
        uint32_t n = star ? q->shape.dim[0] : 1;
        uint64_t each = ir_shape_elements(&q->shape) / n;
        float x[200];
        for (uint32_t i = 0; i < n; i++) {
            char full[200], shape[64];
            if (star)
                snprintf(full, sizeof full, "%.*s%u%s", (int)(star - name), name, i, star + 1);
            else
                snprintf(full, sizeof full, "%s", name);
            size_t at = 0;
            for (uint32_t k = star ? 1 : 0; k < q->shape.ndim; k++)
                at += (size_t)sprintf(shape + at, "%s%u", at ? "," : "", q->shape.dim[k]);
            for (uint64_t k = 0; k < each; k++)
                x[k] = value(p, i * each + k);
            if (p != without)
                add_tensor(full + skip, "F32", shape, x, each * 4);
        }
    }
}

static struct checkpoint_info info(void)
{
    struct checkpoint_info i = { .seed = 3, .optimizer = "none", .build = "test" };
    model_digest(&graph, IR_F32, i.model_digest);
    return i;
}

static enum status import(void)
{
    struct checkpoint_info i = info();
    return safetensors_import(file, &graph, &i, ckpt, &extra, &e);
}

static void check_checkpoint(void)
{
    struct checkpoint_info i = info(), got;
    for (uint32_t p = 0; p < graph.params.n; p++) {
        float x[200], m[200];
        uint64_t n = ir_shape_elements(&graph.params.at[p].shape);
        memset(m, 1, sizeof m);
        struct checkpoint_piece piece = { .param = p, .count = n, .data = x, .m = m };
        ASSERT_OK(checkpoint_read(ckpt, &graph, i.model_digest, &piece, 1, &got, &e));
        for (uint64_t k = 0; k < n; k++) {
            ck_assert_msg(x[k] == value(p, k), "param %u element %lu: %g", p, (unsigned long)k, (double)x[k]);
            ck_assert(m[k] == 0);
        }
    }
    ck_assert_uint_eq(got.step, 0);
}

static void check_same(const char *a, const char *b)
{
    static char x[40000], y[40000];
    FILE *fa = fopen(a, "rb"), *fb = fopen(b, "rb");
    ck_assert(fa && fb);
    size_t n = fread(x, 1, sizeof x, fa), m = fread(y, 1, sizeof y, fb);
    ck_assert(n < sizeof x && n == m && memcmp(x, y, n) == 0);
    fclose(fa);
    fclose(fb);
}

static void flip_bit(const char *path, off_t at)
{
    char byte;
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

START_TEST(conversions)
{
    ck_assert(safetensors_from_bf16(0x3f80) == 1.0f && safetensors_from_bf16(0xc049) == -3.140625f);
    ck_assert(safetensors_from_f16(0x3c00) == 1.0f && safetensors_from_f16(0xc000) == -2.0f);
    ck_assert(safetensors_from_f16(0x7bff) == 65504.0f && safetensors_from_f16(0x0001) == 0x1p-24f);
    ck_assert(safetensors_from_f16(0x03ff) == 1023 * 0x1p-24f && safetensors_from_f16(0x0400) == 0x1p-14f);
    ck_assert(safetensors_from_f16(0x3555) == 0x1.554p-2f);
    ck_assert(isinf(safetensors_from_f16(0xfc00)) && isnan(safetensors_from_f16(0x7e00)));
    ck_assert(signbit(safetensors_from_f16(0x8000)) && safetensors_from_f16(0x8000) == 0);
    struct safetensors s;
    uint16_t half[5] = { 0x3c00, 0x0001, 0xc000, 0x7bff, 0x3555 };
    float x[5];
    start_file();
    add_tensor("h", "F16", "5", half, 10);
    end_file(file);
    ASSERT_OK(safetensors_open(file, &s, &e));
    ASSERT_OK(safetensors_read(&s, safetensors_find(&s, "h"), 0, 5, x, &e));
    for (int i = 0; i < 5; i++)
        ck_assert(x[i] == safetensors_from_f16(half[i]));
    ASSERT_OK(safetensors_read(&s, safetensors_find(&s, "h"), 3, 2, x, &e));
    ck_assert(x[0] == 65504.0f);
    ck_assert_ptr_null(safetensors_find(&s, "g"));
    safetensors_close(&s);
}
END_TEST

static const struct {
    const char *header, *part;
} bad[] = {
    { "[]", "expected an object" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", "JSON" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "the shape needs 8" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", "data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", "data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", "fewer than 2^64 bytes" },
    { "{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", "F32, BF16 or F16" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "8 bytes of data, its header describes 4" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "gap" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
      "\"data_offsets\":[0,8]}}",
      "overlap" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", "x" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "data_offsets" },
};

START_TEST(bad_headers)
{
    struct safetensors s;
    float x[2] = { 1, 2 };
    write_raw(file, bad[_i].header, x, sizeof x);
    ASSERT_FAILS(safetensors_open(file, &s, &e), ST_INPUT, bad[_i].part);
}
END_TEST

START_TEST(bad_files)
{
    struct safetensors s;
    ASSERT_FAILS(safetensors_open(file, &s, &e), ST_MISSING, "No such file");
    ASSERT_FAILS(safetensors_open(folder, &s, &e), ST_MISSING, "model.safetensors");
    sample_write_file(file, "abc", 3);
    ASSERT_FAILS(safetensors_open(file, &s, &e), ST_INPUT, "truncated");
    sample_write_file(file, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    ASSERT_FAILS(safetensors_open(file, &s, &e), ST_INPUT, "is not a safetensors file");
    sample_write_file(file, "\x10\0\0\0\0\0\0\0{}", 10);
    ASSERT_FAILS(safetensors_open(file, &s, &e), ST_INPUT,
                 "is not a whole safetensors file: its header has 16 bytes, the file 10");
}
END_TEST

START_TEST(import_and_export)
{
    start_file();
    add_model("", IR_NONE);
    end_file(file);
    ASSERT_OK(import());
    check_checkpoint();
    ASSERT_OK(safetensors_export(NULL, ckpt, back, &e));
    struct safetensors a, b;
    ASSERT_OK(safetensors_open(file, &a, &e));
    ASSERT_OK(safetensors_open(back, &b, &e));
    ck_assert_uint_eq(a.entries.n, b.entries.n);
    ck_assert_uint_eq(a.entries.n, 4 + 3 * SAMPLE_E);
    for (uint32_t i = 0; i < a.entries.n; i++) {
        float x[200], y[200];
        const struct safetensors_entry *s = &a.entries.at[i], *t = &b.entries.at[i];
        ck_assert_str_eq(s->name, t->name);
        ck_assert_uint_eq(s->ndim, t->ndim);
        ck_assert_int_eq(memcmp(s->dim, t->dim, sizeof s->dim), 0);
        ASSERT_OK(safetensors_read(&a, s, 0, s->elements, x, &e));
        ASSERT_OK(safetensors_read(&b, t, 0, t->elements, y, &e));
        ck_assert_int_eq(memcmp(x, y, s->elements * 4), 0);
    }
    safetensors_close(&a);
    safetensors_close(&b);
    strcpy(file, back); /* and in again */
    ASSERT_OK(import());
    check_checkpoint();
}
END_TEST

/* ---- packings --------------------------------------------------------------------------------------------------- */

/* Models whose files pack parameters, the tensor of one of them, and where in it element `at` of that parameter stands. */
static const struct {
    const char *model, *param, *tensor;
    uint64_t at, in_tensor;
} packed[] = {
#define TINY \
    "\"vocab_size\":5,\"hidden_size\":8,\"intermediate_size\":3,\"num_hidden_layers\":1,\"num_attention_heads\":2"
    { "{\"model_type\":\"phi3\"," TINY "}", "model.layers.0.self_attn.q_proj.weight",
      "model.layers.0.self_attn.qkv_proj.weight", 9, 9 },
    { "{\"model_type\":\"phi3\"," TINY ",\"num_key_value_heads\":1}", "model.layers.0.self_attn.v_proj.weight",
      "model.layers.0.self_attn.qkv_proj.weight", 9, (8 + 4) * 8 + 9 },
    { "{\"model_type\":\"glm\"," TINY ",\"head_dim\":4}", "model.layers.0.mlp.up_proj.weight",
      "model.layers.0.mlp.gate_up_proj.weight", 1, 3 * 8 + 1 },
    { "{\"model_type\":\"gpt_neox\"," TINY ",\"rotary_pct\":0.5}", "gpt_neox.layers.0.attention.key.weight",
      "gpt_neox.layers.0.attention.query_key_value.weight", 5 * 8 + 7, ((1 * 3 + 1) * 4 + 1) * 8 + 7 },
    { "{\"model_type\":\"gpt_neox\"," TINY ",\"rotary_pct\":0.5}", "gpt_neox.layers.0.attention.value.bias",
      "gpt_neox.layers.0.attention.query_key_value.bias", 3, 2 * 4 + 3 },
#undef TINY
};

static void build_packed(const char *text)
{
    json_t *doc;
    ir_graph_release(&graph);
    ir_graph_init(&graph);
    ASSERT_OK(js_load_text(text, "model.json", &doc, &e));
    ASSERT_OK(ir_family_build(doc, "model.json", 4, &graph, NULL, &e));
    json_decref(doc);
}

/* The file of the model, each tensor's elements in order from a first one of its own; returns that of the tensor. */
static float add_packed(const char *tensor)
{
    struct arena a;
    float x[1000], begins = 0;
    arena_init(&a);
    start_file();
    for (uint32_t i = 0; i < graph.params.n; i++) {
        const struct ir_place p = ir_file_place(&graph, i, &a);
        char shape[64] = "";
        uint64_t n = 1;
        for (uint32_t k = 0; k < p.ndim; n *= p.dim[k++])
            sprintf(shape + strlen(shape), "%s%u", k ? "," : "", p.dim[k]);
        for (uint64_t k = 0; k < n; k++)
            x[k] = (float)(1000 * i + k);
        if (strcmp(p.tensor, tensor) == 0 && p.part == 0)
            begins = x[0];
        if (p.part == 0)
            add_tensor(p.tensor, "F32", shape, x, n * 4);
    }
    end_file(file);
    arena_release(&a);
    return begins;
}

START_TEST(packings)
{
    build_packed(packed[_i].model);
    const float begins = add_packed(packed[_i].tensor);
    struct checkpoint_info i = info(), got;
    ASSERT_OK(import());
    bool found = false;
    for (uint32_t p = 0; p < graph.params.n; p++) {
        float x[1000], m[1000];
        struct checkpoint_piece piece = {
            .param = p, .count = ir_shape_elements(&graph.params.at[p].shape), .data = x, .m = m
        };
        if (strcmp(graph.params.at[p].name, packed[_i].param) != 0)
            continue;
        found = true;
        ASSERT_OK(checkpoint_read(ckpt, &graph, i.model_digest, &piece, 1, &got, &e));
        ck_assert_msg(x[packed[_i].at] == begins + (float)packed[_i].in_tensor, "found %g",
                      (double)(x[packed[_i].at] - begins));
    }
    ck_assert(found);
    ASSERT_OK(safetensors_export(NULL, ckpt, back, &e));
    struct safetensors a, b;
    ASSERT_OK(safetensors_open(file, &a, &e));
    ASSERT_OK(safetensors_open(back, &b, &e));
    ck_assert_uint_eq(a.entries.n, b.entries.n);
    for (uint32_t k = 0; k < a.entries.n; k++) {
        float x[1000], y[1000];
        const struct safetensors_entry *s = &a.entries.at[k], *t = &b.entries.at[k];
        ck_assert_str_eq(s->name, t->name);
        ck_assert_int_eq(memcmp(s->dim, t->dim, sizeof s->dim), 0);
        ASSERT_OK(safetensors_read(&a, s, 0, s->elements, x, &e));
        ASSERT_OK(safetensors_read(&b, t, 0, t->elements, y, &e));
        ck_assert_msg(memcmp(x, y, s->elements * 4) == 0, "%s", s->name);
    }
    safetensors_close(&a);
    safetensors_close(&b);
}
END_TEST

/* Layers behind the last one are left out and counted, where the family has such; else they are too many. */
START_TEST(multi_token_prediction)
{
#define TINY                                                                                                        \
    "\"vocab_size\":5,\"hidden_size\":8,\"intermediate_size\":3,\"num_hidden_layers\":1,\"num_attention_heads\":2," \
    "\"num_key_value_heads\":2"
    const float x[3] = { 1, 2, 3 };
    for (int known = 0; known < 2; known++) {
        build_packed(known ? "{\"model_type\":\"glm4_moe\"," TINY "}" : "{\"model_type\":\"llama\"," TINY "}");
        add_packed("");
        add_tensor("model.layers.1.enorm.weight", "F32", "3", x, sizeof x);
        add_tensor("model.layers.1.eh_proj.weight", "F32", "3", x, sizeof x);
        end_file(file);
        ck_assert_int_eq(import(), known ? ST_OK : ST_INPUT);
        ck_assert_uint_eq(extra, known ? 2 : 0);
    }
    ck_assert_ptr_nonnull(strstr(e.text, "model.layers.1.eh_proj.weight is not of this model"));
#undef TINY
}
END_TEST

START_TEST(prefixes_buffers_and_tied_heads)
{
    float head[200], zero[4] = { 0 };
    for (uint64_t k = 0; k < SAMPLE_V * SAMPLE_C; k++)
        head[k] = value(0, k);
    start_file();
    add_model("model.", IR_NONE);
    add_tensor("h.0.attn.bias", "F32", "2,2", zero, 16);
    add_tensor("h.0.attn.masked_bias", "F32", "", zero, 4);
    add_tensor("layers.0.self_attn.rotary_emb.inv_freq", "I32", "1", zero, 4);
    add_tensor("lm_head.weight", "F32", "11,6", head, sizeof(float) * SAMPLE_V * SAMPLE_C);
    end_file(file);
    ASSERT_OK(import());
    check_checkpoint();
    head[7]++;
    start_file();
    add_model("", IR_NONE);
    add_tensor("lm_head.weight", "F32", "11,6", head, sizeof(float) * SAMPLE_V * SAMPLE_C);
    end_file(file);
    ASSERT_FAILS(import(), ST_INPUT, "lm_head.weight differs from model.embed_tokens.weight");
}
END_TEST

/* With blocks of any size, one smaller, equal and larger than each tensor: a block more or less is the same file. */
START_TEST(blocks_of_any_size)
{
    /* tensors have 6, 24, 30 and 66 elements */
    static const uint32_t sizes[] = { 2, 5, 6, 7, 23, 24, 25, 29, 30, 31, 65, 66, 67 };
    char second[300];
    float head[200];
    snprintf(second, sizeof second, "%s/second.safetensors", folder);
    start_file();
    add_model("", IR_NONE);
    end_file(file);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        safetensors_block = sizes[i];
        block_words = sizes[sizeof sizes / sizeof *sizes - 1 - i];
        ASSERT_OK(import());
        check_checkpoint();
        ASSERT_OK(safetensors_export(NULL, ckpt, i ? back : second, &e));
        if (i)
            check_same(second, back);
    }
    ck_assert_int_eq(rename(back, file), 0);
    ASSERT_OK(import()); /* what it exports is what it has imported */
    check_checkpoint();
    safetensors_block = 16;
    for (uint32_t at = 0; at < SAMPLE_V * SAMPLE_C; at++) {
        for (uint64_t k = 0; k < SAMPLE_V * SAMPLE_C; k++)
            head[k] = value(0, k) + (float)(k == at);
        start_file();
        add_model("", IR_NONE);
        add_tensor("lm_head.weight", "F32", "11,6", head, sizeof(float) * SAMPLE_V * SAMPLE_C);
        end_file(file);
        ASSERT_FAILS(import(), ST_INPUT, "lm_head.weight differs from model.embed_tokens.weight");
    }
}
END_TEST

/* One bit, anywhere in the contents: no file is made. */
START_TEST(damage_is_not_exported)
{
    struct ckpt__file c;
    start_file();
    add_model("", IR_NONE);
    end_file(file);
    ASSERT_OK(import());
    for (uint32_t p = 0; p < graph.params.n; p++) {
        ASSERT_OK(ckpt__open_here(NULL, ckpt, &c, &e));
        const off_t at = (off_t)(c.place[p].data[CKPT_PARAM] + c.place[p].elements * 4 - 1);
        ckpt__close(&c);
        for (int turn = 0; turn < 2; turn++) { /* and back */
            flip_bit(ckpt, at);
            if (turn == 0)
                ASSERT_FAILS(safetensors_export(NULL, ckpt, back, &e), ST_INPUT, "the file is damaged");
            ck_assert_int_ne(access(back, F_OK), 0);
        }
    }
    ASSERT_OK(safetensors_export(NULL, ckpt, back, &e));
}
END_TEST

START_TEST(what_does_not_fit_is_listed)
{
    float x[36] = { 0 };
    start_file();
    add_model("", 1);
    add_tensor("model.layers.0.input_layernorm.weight", "F32", "7", x, 28);
    add_tensor("model.layers.1.input_layernorm.weight", "F32", "6", x, 24);
    end_file(file);
    ASSERT_FAILS(import(), ST_INPUT,
                 "model.layers.0.input_layernorm.weight has the shape (7), expected (6); "
                 "model.layers.1.input_layernorm.weight is not of this model");
    start_file();
    add_model("", 3);
    end_file(file);
    ASSERT_FAILS(import(), ST_INPUT, "model.layers.0.mlp.experts.0.gate_proj.weight is missing");
    ck_assert_int_eq(access(ckpt, F_OK), -1);
    ASSERT_FAILS(safetensors_export(NULL, ckpt, back, &e), ST_MISSING, "step-000000.h5");
}
END_TEST

START_TEST(shards_and_index)
{
    char a[300], b[300], index[300];
    snprintf(a, sizeof a, "%s/a.safetensors", folder);
    snprintf(b, sizeof b, "%s/b.safetensors", folder);
    snprintf(index, sizeof index, "%s/model.safetensors.index.json", folder);
    float x[2] = { 1, 2 }, y[1] = { 3 };
    struct safetensors s;
    start_file();
    add_tensor("one", "F32", "2", x, 8);
    end_file(a);
    start_file();
    add_tensor("two", "F32", "1", y, 4);
    end_file(b);
    const char *good = "{\"metadata\":{},\"weight_map\":{\"one\":\"a.safetensors\",\"two\":\"b.safetensors\"}}";
    sample_write_file(index, good, strlen(good));
    ASSERT_OK(safetensors_open(folder, &s, &e));
    ck_assert_uint_eq(s.entries.n, 2);
    ASSERT_OK(safetensors_read(&s, safetensors_find(&s, "two"), 0, 1, y, &e));
    ck_assert(y[0] == 3);
    safetensors_close(&s);
    const char *wrong[] = { "{\"weight_map\":{\"one\":\"b.safetensors\",\"two\":\"b.safetensors\"}}",
                            "{\"weight_map\":{\"one\":\"a.safetensors\"}}x",
                            "{\"weight_map\":{\"one\":\"../a.safetensors\"}}",
                            "{\"weight_map\":{\"one\":\"none.safetensors\"}}",
                            "{\"weight_map\":[]}",
                            "{\"weight_map\":{\"two\":\"b.safetensors\",\"three\":\"b.safetensors\"}}" };
    const char *part[] = { "where it is not",    "JSON", "same directory", "none.safetensors",
                           "expected an object", "three" };
    for (int i = 0; i < 6; i++) {
        sample_write_file(index, wrong[i], strlen(wrong[i]));
        ASSERT_FAILS(safetensors_open(folder, &s, &e), i == 3 ? ST_MISSING : ST_INPUT, part[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("io_safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, conversions);
    tcase_add_loop_test(t, bad_headers, 0, (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(t, bad_files);
    tcase_add_test(t, import_and_export);
    tcase_add_loop_test(t, packings, 0, (int)(sizeof packed / sizeof packed[0]));
    tcase_add_test(t, multi_token_prediction);
    tcase_add_test(t, prefixes_buffers_and_tied_heads);
    tcase_add_test(t, blocks_of_any_size);
    tcase_add_test(t, damage_is_not_exported);
    tcase_add_test(t, what_does_not_fit_is_listed);
    tcase_add_test(t, shards_and_index);
    suite_add_tcase(s, t);
    return suite_run(s);
}
