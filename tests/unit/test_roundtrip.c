/* What is printed can be read: the training DAG after every pass, and the plans, of a dozen strategies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiled.h"
#include "ir/dag_print.h"
#include "tests/unit/suite.h"

struct strategy {
    enum compiled_model model;
    enum ir_cut cut; /* of all chunks, as the strategy cuts them */
    const char *text;
};

#define LAYOUT(pp, dp)    "{\"op\":\"layout\",\"pp\":" #pp ",\"dp\":" #dp "}"
#define SCHEDULE(kind, m) "{\"op\":\"schedule\",\"kind\":\"" kind "\",\"microbatches\":" #m "}"
static const struct strategy strategies[] = {
    { MODEL_LLAMA, IR_CUT_NONE, "[]" },
    { MODEL_GPT2, IR_CUT_NONE, "[]" },
    { MODEL_MOE, IR_CUT_NONE, "[]" },
    { MODEL_LLAMA, IR_CUT_NONE, "[{\"op\":\"split\",\"filter\":{},\"num_microbatches\":4}]" },
    { MODEL_LLAMA, IR_CUT_BLOCK, "[" LAYOUT(1, 4) "]" },
    { MODEL_GPT2, IR_CUT_BLOCK, "[" LAYOUT(2, 1) "," SCHEDULE("1f1b", 4) "]" },
    { MODEL_GPT2, IR_CUT_BLOCK, "[" LAYOUT(2, 2) "," SCHEDULE("gpipe", 2) "]" },
    { MODEL_LLAMA, IR_CUT_BLOCK, "[" LAYOUT(4, 2) "," SCHEDULE("1f1b", 8) "]" },
    { MODEL_MOE, IR_CUT_BLOCK, "[" LAYOUT(2, 4) "," SCHEDULE("1f1b", 2) "]" },
    { MODEL_LLAMA, IR_CUT_BLOCK,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":1,\"placement\":\"v\"},{\"op\":\"split\",\"filter\":{},\"num_microbatches\":"
      "2}]" },
    { MODEL_LLAMA, IR_CUT_NONE,
      "[{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2},"
      "{\"op\":\"place\",\"filter\":{\"PP\":0},\"devices\":[0],\"stream\":\"a\"},"
      "{\"op\":\"place\",\"filter\":{\"PP\":1},\"devices\":[1]},"
      "{\"op\":\"order\",\"filters\":[[{\"PP\":1,\"MB\":0,\"PASS\":\"BI\"}],[{\"PP\":1,\"MB\":1,\"PASS\":\"F\"}],"
      "[{\"PP\":1,\"MB\":0,\"PASS\":\"BW\"}]]}]" },
    { MODEL_MOE, IR_CUT_NONE,
      "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[1,0],\"reduce_stream\":\"dp\"},"
      "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]" },
};
enum { N_STRATEGIES = sizeof strategies / sizeof *strategies };

static char *print_dag(const struct ir_dag *d, const struct ir_chunks *chunks, const struct ir_graph *g)
{
    char *text = NULL;
    size_t bytes;
    FILE *to = open_memstream(&text, &bytes);
    ir_dag_print(d, chunks, g, to);
    fclose(to);
    return text;
}

static char *print_plan(const struct plan *p, const struct ir_graph *g)
{
    char *text = NULL;
    size_t bytes;
    FILE *to = open_memstream(&text, &bytes);
    plan_print(p, g, to);
    fclose(to);
    return text;
}

/* The chunks as the compiler has them. */
static void make_chunks(struct ir_chunks *c, const struct ir_graph *g, enum ir_cut how)
{
    ir_chunks_build(c, g);
    struct ir_cut_rule *rules = mem_alloc(c->chunks.n * sizeof *rules);
    for (uint32_t i = 0; i < c->chunks.n; i++)
        rules[i].how = how;
    ir_chunks_cut(c, g, rules, NULL, IR_F32);
    mem_free(rules);
}

START_TEST(test_dag)
{
    const struct strategy *s = &strategies[_i];
    struct compiled c;
    struct ir_chunks chunks;
    uint32_t dags = 0;
    compiled_init(&c, s->model, s->text, true);
    make_chunks(&chunks, &c.g, s->cut);
    for (char *at = c.dump, *next; at; at = next) {
        struct ir_dag d;
        struct err e = { 0 };
        ck_assert_msg(strncmp(at, "after ", 6) == 0, "%.40s", at);
        char *text = strchr(at, '\n') + 1;
        next = strstr(text, "after ");
        while (next && next[-1] != '\n') /* a kind of edge */
            next = strstr(next + 1, "after ");
        char *one = next ? strndup(text, (size_t)(next - text)) : strdup(text);
        ck_assert_msg(ir_dag_parse(one, &chunks, &c.g, &d, &e) == ST_OK, "%s", e.text);
        char *again = print_dag(&d, &chunks, &c.g);
        size_t same = 0;
        while (again[same] && again[same] == one[same])
            same++;
        ck_assert_msg(again[same] == one[same], "byte %zu: found %.60s, expected %.60s", same, again + same,
                      one + same);
        ck_assert_uint_ge(d.nodes.n, 4);
        free(again);
        free(one);
        ir_dag_release(&d);
        dags++;
    }
    ck_assert_uint_ge(dags, 6);
    ir_chunks_release(&chunks);
    compiled_release(&c);
}
END_TEST

START_TEST(test_plan)
{
    struct compiled c;
    compiled_init(&c, strategies[_i].model, strategies[_i].text, false);
    for (uint32_t i = 0; i < c.out.n_classes; i++) {
        char *text = print_plan(&c.plans[i], &c.g);
        void *blob;
        uint64_t bytes;
        struct err e = { 0 };
        ck_assert_msg(plan_parse(text, &c.g, &blob, &bytes, &e) == ST_OK, "%s", e.text);
        ck_assert_uint_eq(bytes, c.out.classes[i].bytes);
        ck_assert(memcmp(blob, c.out.classes[i].blob, bytes) == 0);
        mem_free(blob);
        free(text);
    }
    compiled_release(&c);
}
END_TEST

/* One word of a good text changed; the answer names the line. */
static const struct {
    const char *from, *to, *expected;
} dag_damages[] = {
    { "node 1 ", "node 2 ", "line 2" },       { "kind=run", "kind=walk", "line 1" },
    { "pass=F", "pass=X", "line 1" },         { "edge 2 0 ", "edge 2 99 ", "edge" },
    { " tensor 0\n", " twig 0\n", "twig" },   { "what=0", "what=99", "does not exist" },
    { "node 0 kind", "knot 0 kind", "knot" },
};

START_TEST(test_damaged_dag)
{
    struct compiled c;
    struct ir_chunks chunks;
    struct ir_dag d;
    struct err e = { 0 };
    compiled_init(&c, MODEL_LLAMA, "[]", true);
    make_chunks(&chunks, &c.g, IR_CUT_NONE);
    char *text = strchr(c.dump, '\n') + 1, *end = strstr(text, "after move:");
    ck_assert_ptr_nonnull(end);
    *end = '\0';
    char *at = strstr(text, dag_damages[_i].from), *bad = NULL;
    ck_assert_msg(at, "%s", text);
    ck_assert_int_gt(
        asprintf(&bad, "%.*s%s%s", (int)(at - text), text, dag_damages[_i].to, at + strlen(dag_damages[_i].from)), 0);
    ck_assert_msg(ir_dag_parse(bad, &chunks, &c.g, &d, &e) == ST_INPUT, "accepted: %s", bad);
    ck_assert_msg(strstr(e.text, dag_damages[_i].expected), "%s", e.text);
    free(bad);
    ir_chunks_release(&chunks);
    compiled_release(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("roundtrip");
    TCase *t = tcase_create("roundtrip");
    tcase_add_loop_test(t, test_dag, 0, N_STRATEGIES);
    tcase_add_loop_test(t, test_plan, 0, N_STRATEGIES);
    tcase_add_loop_test(t, test_damaged_dag, 0, sizeof dag_damages / sizeof *dag_damages);
    suite_add_tcase(s, t);
    return suite_run(s);
}
