/* What the tests of io share: a small mixture-of-experts model, a job around it, a folder of their own. */
#ifndef PIPER_TESTS_UNIT_IO_SAMPLE_H
#define PIPER_TESTS_UNIT_IO_SAMPLE_H

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/graph.h"

enum { SAMPLE_T = 8, SAMPLE_C = 6, SAMPLE_V = 11, SAMPLE_E = 4, SAMPLE_F = 5 };

static inline struct ir_op_in sample_in(uint32_t a, uint32_t b, uint32_t c, uint32_t p, uint32_t q, uint32_t r)
{
    return (struct ir_op_in){ { a, b, c }, { p, q, r } };
}

/* tokens -> embed -> norm -> router, dispatch, experts, combine -> add -> norm -> head (tied to embed). */
static inline void sample_graph_of(struct ir_graph *g, uint32_t vocab)
{
    const uint32_t no = IR_NONE;
    struct ir_shape row = { IR_I32, 1, { SAMPLE_T } }, vec = { IR_COMPUTE, 1, { SAMPLE_C } };
    struct ir_shape table = { IR_COMPUTE, 2, { vocab, SAMPLE_C } }, router = { IR_COMPUTE, 2, { SAMPLE_E, SAMPLE_C } };
    struct ir_shape up = { IR_COMPUTE, 3, { SAMPLE_E, SAMPLE_F, SAMPLE_C } };
    struct ir_shape down = { IR_COMPUTE, 3, { SAMPLE_E, SAMPLE_C, SAMPLE_F } };
    struct ir_attrs embed = { .vocab = vocab, .features = SAMPLE_C };
    struct ir_attrs norm = { .features = SAMPLE_C, .heads = 1, .eps = 1e-6f }, plain = { .features = SAMPLE_C };
    struct ir_attrs route = {
        .features = SAMPLE_C, .experts = SAMPLE_E, .top_k = 2, .flags = IR_NORM_TOPK, .aux_coef = 0.01f
    };
    struct ir_attrs routed = { .features = SAMPLE_C, .experts = SAMPLE_E, .top_k = 2 }, moe = routed;
    moe.ffn = SAMPLE_F;
    ir_graph_init(g);
    g->family = "qwen3_moe";
    g->seq_len = SAMPLE_T;
    g->vocab = vocab;
    g->n_blocks = 3;
    uint32_t tokens = ir_graph_input(g, "tokens", row), targets = ir_graph_input(g, "targets", row);
    uint32_t wte = ir_graph_param(g, "model.embed_tokens.weight", table, IR_INIT_NORMAL, 0.02f);
    uint32_t w1 = ir_graph_param(g, "model.layers.0.input_layernorm.weight", vec, IR_INIT_ONES, 0);
    uint32_t wr = ir_graph_param(g, "model.layers.0.mlp.gate.weight", router, IR_INIT_NORMAL, 0.02f);
    uint32_t wg = ir_graph_param(g, "model.layers.0.mlp.experts.*.gate_proj.weight", up, IR_INIT_NORMAL, 0.02f);
    uint32_t wu = ir_graph_param(g, "model.layers.0.mlp.experts.*.up_proj.weight", up, IR_INIT_NORMAL, 0.02f);
    uint32_t wd = ir_graph_param(g, "model.layers.0.mlp.experts.*.down_proj.weight", down, IR_INIT_NORMAL, 0.01f);
    uint32_t w2 = ir_graph_param(g, "model.norm.weight", vec, IR_INIT_ONES, 0);
    struct ir_op_in in = sample_in(tokens, no, no, wte, no, no);
    uint32_t e = ir_graph_op(g, IR_OP_EMBED, "embed", 0, &embed, &in), x = ir_graph_out(g, e, 0);
    in = sample_in(x, no, no, w1, no, no);
    uint32_t n = ir_graph_out(g, ir_graph_op(g, IR_OP_RMSNORM, "layers.0.norm", 1, &norm, &in), 0);
    in = sample_in(n, no, no, wr, no, no);
    uint32_t r = ir_graph_op(g, IR_OP_ROUTER, "layers.0.mlp.router", 1, &route, &in);
    in = sample_in(n, ir_graph_out(g, r, 1), no, no, no, no);
    uint32_t d = ir_graph_op(g, IR_OP_DISPATCH, "layers.0.mlp.dispatch", 1, &routed, &in);
    in = sample_in(ir_graph_out(g, d, 0), ir_graph_out(g, d, 2), no, wg, wu, wd);
    uint32_t ex = ir_graph_op(g, IR_OP_EXPERTS, "layers.0.mlp.experts", 1, &moe, &in);
    in = sample_in(ir_graph_out(g, ex, 0), ir_graph_out(g, d, 1), ir_graph_out(g, r, 0), no, no, no);
    uint32_t c = ir_graph_op(g, IR_OP_COMBINE, "layers.0.mlp.combine", 1, &routed, &in);
    in = sample_in(x, ir_graph_out(g, c, 0), no, no, no, no);
    uint32_t add = ir_graph_op(g, IR_OP_ADD, "layers.0.mlp.add", 1, &plain, &in);
    in = sample_in(ir_graph_out(g, add, 0), no, no, w2, no, no);
    uint32_t fin = ir_graph_op(g, IR_OP_RMSNORM, "norm", 2, &norm, &in);
    in = sample_in(ir_graph_out(g, fin, 0), targets, no, wte, no, no);
    uint32_t head = ir_graph_op(g, IR_OP_HEAD_LOSS, "head", 2, &embed, &in);
    uint32_t pp = ir_graph_tag(g, "PP"), ep = ir_graph_tag(g, "EP");
    for (uint32_t i = 0; i < g->ops.n; i++)
        g->ops.at[i].tag[pp] = i == head || i == fin ? 1 : 0;
    g->ops.at[ex].tag[ep] = 0;
}

static inline void sample_graph(struct ir_graph *g)
{
    sample_graph_of(g, SAMPLE_V);
}

/* A folder for the files of a test, removed with them by sample_folder_remove(). */
static inline const char *sample_folder(void)
{
    static char path[200];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/piper-io-XXXXXX", base && strlen(base) < 150 ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}

static inline void sample_folder_remove(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        char name[4096];
        struct stat s;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%.3000s/%s", path, entry->d_name);
        if (lstat(name, &s) == 0 && S_ISDIR(s.st_mode))
            sample_folder_remove(name);
        else
            unlink(name);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

static inline void sample_write_file(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

#define ASSERT_OK(call)                                                                     \
    do {                                                                                    \
        enum status assert_st_ = (call);                                                    \
        ck_assert_msg(assert_st_ == ST_OK, "%s: status %d: %s", #call, assert_st_, e.text); \
    } while (0)
#define ASSERT_FAILS(call, want, part)                                                                          \
    do {                                                                                                        \
        err_clear(&e);                                                                                          \
        enum status assert_st_ = (call);                                                                        \
        ck_assert_msg(assert_st_ == (want), "%s: status %d, expected %d: %s", #call, assert_st_, want, e.text); \
        ck_assert_msg(strstr(e.text, part) != NULL, "%s: \"%s\" lacks \"%s\"", #call, e.text, part);            \
        err_clear(&e);                                                                                          \
    } while (0)

#endif
