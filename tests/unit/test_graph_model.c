/* Models given as operators ("graph"): what they may say, and every mistake. */
#include "model.h"
#include "tests/unit/suite.h"

#define EMBED      "{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"],\"features\":12}"
#define HEAD(x)    "{\"op\":\"head_loss\",\"name\":\"h\",\"in\":[\"" x "\",\"targets\"]}"
#define GRAPH(ops) "{\"vocab_size\":9,\"graph\":[" ops "]}"

START_TEST(explicit_graph)
{
    must_build(
        parse(GRAPH(
            EMBED
            ","
            "{\"op\":\"rmsnorm\",\"name\":\"qn\",\"in\":[\"e\"],\"features\":4,\"block\":1,\"tags\":{\"X\":3}},"
            "{\"op\":\"rope\",\"name\":\"r\",\"in\":[\"qn\"],\"head_dim\":4},"
            "{\"op\":\"linear\",\"name\":\"kv\",\"in\":[\"qn\"],\"out_features\":4,\"transposed\":true,\"std\":0.5},"
            "{\"op\":\"linear\",\"name\":\"kv2\",\"in\":[\"qn\"],\"out_features\":4,\"transposed\":true,\"bias\":true,"
            "\"param\":[\"kv.weight\",null]},"
            "{\"op\":\"attention\",\"name\":\"a\",\"in\":[\"r\",\"kv\",\"kv2\"],\"heads\":3,\"kv_heads\":1},"
            "{\"op\":\"router\",\"name\":\"ro\",\"in\":[\"a\"],\"experts\":4,\"top_k\":2,\"norm_topk\":true},"
            "{\"op\":\"dispatch\",\"name\":\"d\",\"in\":[\"a\",\"ro.1\"],\"capacity_factor\":1.5},"
            "{\"op\":\"experts\",\"name\":\"x\",\"in\":[\"d\",\"d.2\"],\"ffn\":6,\"init\":\"zeros\"},"
            "{\"op\":\"combine\",\"name\":\"c\",\"in\":[\"x\",\"d.1\",\"ro\"]},"
            "{\"op\":\"linear\",\"name\":\"down\",\"in\":[\"c\"],\"out_features\":12},"
            "{\"op\":\"head_loss\",\"name\":\"h\",\"in\":[\"down\",\"targets\"],\"param\":[\"e.weight\"],\"block\":"
            "2}")),
        8);
    ck_assert_str_eq(g.family, "graph");
    ck_assert_uint_eq(op("qn")->attrs.heads, 3);
    ck_assert_uint_eq(op("r")->attrs.heads, 3);
    ck_assert_float_eq(op("r")->attrs.theta, 10000);
    ck_assert_uint_eq(op("a")->attrs.head_dim, 4);
    ck_assert_float_eq(op("a")->attrs.scale, 0.5f);
    ck_assert_uint_eq(op("kv")->param[0], op("kv2")->param[0]);
    ck_assert_float_eq(param("kv.weight")->std, 0.5f);
    ck_assert_int_eq(param("kv2.bias")->init, IR_INIT_ZEROS);
    ck_assert_uint_eq(op("c")->attrs.capacity, 6); /* ceil(1.5 * 8 * 2 / 4) */
    ck_assert_int_eq(param("x.*.down.weight")->init, IR_INIT_ZEROS);
    ck_assert_int_eq(param("qn.weight")->init, IR_INIT_ONES);
    ck_assert_int_eq(tag("qn", "X"), 3);
    ck_assert_int_eq(tag("x", "EP"), 0);
    ck_assert_uint_eq(op("down")->block, 1);
}
END_TEST

START_TEST(explicit_attention)
{
    must_build(parse(GRAPH(EMBED ",{\"op\":\"linear\",\"name\":\"qkv\",\"in\":[\"e\"],\"out_features\":28},"
                                 "{\"op\":\"attention\",\"name\":\"a\",\"in\":[\"qkv\"],\"heads\":3,\"kv_heads\":1,"
                                 "\"packed\":true,\"v_head_dim\":8,\"window\":3,\"score_cap\":50,\"sinks\":true},"
                                 "{\"op\":\"linear\",\"name\":\"o\",\"in\":[\"a\"],\"out_features\":12}," HEAD("o"))),
               8);
    const struct ir_attrs *a = &op("a")->attrs;
    ck_assert_uint_eq(a->head_dim, 5); /* (28 - 8) / 4 */
    ck_assert(a->v_head_dim == 8 && a->window == 3 && a->score_cap == 50 && a->flags == (IR_PACKED | IR_SINKS));
    ck_assert_uint_eq(op("o")->attrs.in_features, 24);
    ck_assert_uint_eq(param("a.sinks")->shape.dim[0], 3);
    ck_assert_int_eq(param("a.sinks")->shape.ndim, 1);
}
END_TEST

/* Each attribute of the operators that families are made of. */
START_TEST(explicit_operators)
{
    must_build(
        parse(GRAPH(
            EMBED ",{\"op\":\"layernorm\",\"name\":\"ln\",\"in\":[\"e\"],\"heads\":3,\"features\":4,\"per_head\":true,"
                  "\"no_bias\":true},"
                  "{\"op\":\"rmsnorm\",\"name\":\"rn\",\"in\":[\"ln\"],\"one_plus\":true,\"round_first\":true},"
                  "{\"op\":\"act\",\"name\":\"ac\",\"in\":[\"rn\"],\"act\":\"relu2\"},"
                  "{\"op\":\"swiglu\",\"name\":\"gl\",\"in\":[\"ac\",\"rn\"],\"act\":\"gelu_tanh\",\"clamp\":7},"
                  "{\"op\":\"scale\",\"name\":\"sc\",\"in\":[\"gl\"],\"scale\":0.22},"
                  "{\"op\":\"clamp\",\"name\":\"cl\",\"in\":[\"sc\"],\"clamp\":8},"
                  "{\"op\":\"linear\",\"name\":\"g\",\"in\":[\"cl\"],\"out_features\":1},"
                  "{\"op\":\"row_gate\",\"name\":\"rg\",\"in\":[\"cl\",\"g\"]},"
                  "{\"op\":\"linear\",\"name\":\"kr\",\"in\":[\"rg\"],\"out_features\":2},"
                  "{\"op\":\"join_heads\",\"name\":\"j\",\"in\":[\"rg\",\"kr\"],\"heads\":3},"
                  "{\"op\":\"router\",\"name\":\"ro\",\"in\":[\"j\"],\"experts\":6,\"top_k\":2,\"sigmoid\":true,"
                  "\"select_bias\":true,\"groups\":3,\"top_groups\":1,\"eps\":1e-20,\"scale\":2.5,\"norm_topk\":true},"
                  "{\"op\":\"dispatch\",\"name\":\"d\",\"in\":[\"j\",\"ro.1\"]},"
                  "{\"op\":\"experts\",\"name\":\"x\",\"in\":[\"d\",\"d.2\"],\"ffn\":6,\"bias\":true,\"alpha\":1.702,"
                  "\"one_plus\":true},"
                  "{\"op\":\"combine\",\"name\":\"c\",\"in\":[\"x\",\"d.1\",\"ro\"]},"
                  "{\"op\":\"head_loss\",\"name\":\"h\",\"in\":[\"c\",\"targets\"],\"bias\":true,\"scale\":0.125,"
                  "\"score_cap\":30,\"block\":1}")),
        8);
    ck_assert(op("ln")->attrs.heads == 3 && op("ln")->attrs.flags == (IR_PER_HEAD | IR_NO_BIAS));
    ck_assert(param("ln.weight")->shape.ndim == 2 && op("ln")->param[1] == IR_NONE);
    ck_assert(op("rn")->attrs.flags == (IR_ONE_PLUS | IR_ROUND_FIRST) && param("rn.weight")->init == IR_INIT_ZEROS);
    ck_assert(op("ac")->attrs.act == IR_ACT_RELU2);
    ck_assert(op("gl")->attrs.act == IR_ACT_GELU_TANH && op("gl")->attrs.clamp == 7);
    ck_assert(op("sc")->attrs.scale == 0.22f && op("cl")->attrs.clamp == 8);
    ck_assert(op("j")->attrs.head_dim == 6 && op("j")->attrs.rotary_dim == 2);
    const struct ir_attrs *ro = &op("ro")->attrs, *x = &op("x")->attrs, *h = &op("h")->attrs;
    ck_assert(ro->flags == (IR_SIGMOID | IR_SELECT_BIAS | IR_NORM_TOPK) && ro->groups == 3 && ro->top_groups == 1);
    ck_assert(ro->eps == 1e-20f && ro->scale == 2.5f && param("ro.select_bias")->init == IR_INIT_ZEROS);
    ck_assert(x->flags == (IR_BIAS | IR_ONE_PLUS) && x->alpha == 1.702f && param("x.*.up.bias")->init == IR_INIT_ZEROS);
    ck_assert_uint_eq(param("x.*.down.bias")->shape.dim[1], 18);
    ck_assert(h->flags == IR_BIAS && h->scale == 0.125f && h->score_cap == 30 && param("h.bias")->shape.dim[0] == 9);
}
END_TEST

START_TEST(explicit_rope)
{
    must_build(parse(GRAPH(EMBED ",{\"op\":\"rope\",\"name\":\"r\",\"in\":[\"e\"],\"heads\":1,\"inv_freq\":[1,0.5],"
                                 "\"rotary_dim\":4,\"rotary_offset\":3,\"scale\":1.25,\"pairs\":true}," HEAD("r"))),
               8);
    const struct ir_attrs *a = &op("r")->attrs;
    ck_assert(a->head_dim == 12 && a->theta == 0 && a->inv_freq->n == 2 && a->inv_freq->at[1] == 0.5f);
    ck_assert(a->rotary_dim == 4 && a->rotary_offset == 3 && a->scale == 1.25f && a->flags == IR_PAIRS);
}
END_TEST

static const struct {
    const char *text, *says;
} bad_graphs[] = {
    { GRAPH(EMBED ",{\"op\":\"act\",\"name\":\"g\",\"in\":[\"e\"],\"act\":\"mish\"}," HEAD("g")),
      "$.graph[1].act: found \"mish\", expected one of silu, gelu" },
    { GRAPH(EMBED ",{\"op\":\"clamp\",\"name\":\"g\",\"in\":[\"e\"]}," HEAD("g")),
      "operator g (clamp) requires clamp" },
    { GRAPH(EMBED ",{\"op\":\"rope\",\"name\":\"r\",\"in\":[\"e\"],\"heads\":1,\"inv_freq\":[1,2]}," HEAD("r")),
      "operator r (rope): inv_freq must have a number for each pair" },
    { GRAPH(EMBED ",{\"op\":\"rope\",\"name\":\"r\",\"in\":[\"e\"],\"heads\":1,\"inv_freq\":[1,-2]}," HEAD("r")),
      "$.graph[1].inv_freq[1]: found -2" },
    { GRAPH(EMBED ",{\"op\":\"rope\",\"name\":\"r\",\"in\":[\"e\"],\"heads\":1,\"theta\":5,\"rotary_dim\":2,\"inv_"
                  "freq\":[1]}," HEAD("r")),
      "theta or inv_freq" },
    { "[]", "$: found a list of 0" },
    { "{\"graph\":[]}", "vocab_size" },
    { "{\"graph\":[],\"vocab_size\":5}", "$.graph: found a list of 0" },
    { "{\"graph\":[],\"vocab_size\":5,\"model_type\":\"gpt2\"}", "unknown key \"model_type\"" },
    { GRAPH("{\"op\":\"embd\",\"name\":\"e\",\"in\":[\"tokens\"]}"),
      "$.graph[0].op: found \"embd\", expected an operator; did you mean \"embed\"?" },
    { GRAPH("{\"op\":\"sum\",\"name\":\"e\",\"in\":[\"tokens\"]}"), "$.graph[0].op: found \"sum\"" },
    { GRAPH("{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"]}"), "operator e (embed) requires features" },
    { GRAPH("{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"],\"features\":4,\"heads\":2}"),
      "unknown key \"heads\"" },
    { GRAPH("{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"targets\"],\"features\":4}," HEAD("e")),
      "must read the graph's input tokens" },
    { GRAPH("{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"],\"features\":4,\"vocab\":8}," HEAD("e")),
      "token ids go up to 8" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"f\"]}," HEAD("g")), "$.graph[1].in[0]: found \"f\"" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"g\"]}," HEAD("g")), "$.graph[1].in[0]: found \"g\"" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"e\",\"e\"]}," HEAD("g")), "expected 1 inputs" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"e\"],\"features\":5}," HEAD("g")),
      "(8,12) compute, but the operator's attributes say (8,5)" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"e\",\"in\":[\"e\"]}," HEAD("e")), "named e" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g h\",\"in\":[\"e\"]}," HEAD("g h")), "not allowed" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"e\"]}," HEAD("e")), "nothing reads tensor g" },
    { GRAPH(EMBED), "no head_loss" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"e\"],\"block\":2}," HEAD("g")),
      "$.graph[1].block: found 2" },
    { GRAPH(
          EMBED
          ",{\"op\":\"linear\",\"name\":\"g\",\"in\":[\"e\"],\"out_features\":12,\"param\":[\"e.weight\"]}," HEAD("g")),
      "parameter e.weight has shape (9,12) compute where it is used first, (12,12) compute here" },
    { GRAPH(
          EMBED
          ",{\"op\":\"linear\",\"name\":\"g\",\"in\":[\"e\"],\"out_features\":12,\"param\":[\"a\",\"b\"]}," HEAD("g")),
      "at most 1 parameters" },
    { GRAPH(EMBED
            ",{\"op\":\"linear\",\"name\":\"g\",\"in\":[\"e\"],\"out_features\":12,\"init\":\"xavier\"}," HEAD("g")),
      "$.graph[1].init: found \"xavier\"" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"e\"],\"tags\":{\"EP\":1}}," HEAD("g")),
      "$.graph[1].tags.EP: found 1" },
    { GRAPH(EMBED ",{\"op\":\"gelu\",\"name\":\"g\",\"in\":[\"e\"],\"tags\":{\"PP\":1}}," HEAD("g")),
      "no operator has PP 0" },
    { GRAPH(EMBED ",{\"op\":\"attention\",\"name\":\"a\",\"in\":[\"e\"],\"heads\":5,\"packed\":true}," HEAD("a")),
      "requires head_dim" },
    { GRAPH(EMBED ",{\"op\":\"pos_embed\",\"name\":\"p\",\"in\":[\"e\"],\"positions\":7}," HEAD("p")),
      "longer than the table" },
    { GRAPH(EMBED ",{\"op\":\"experts\",\"name\":\"x\",\"in\":[\"e\",\"targets\"],\"ffn\":6}," HEAD("e")),
      "requires experts" },
    { GRAPH(EMBED ",{\"op\":\"linear\",\"name\":\"g\",\"in\":[\"e\"],\"out_features\":2147483647},"
                  "{\"op\":\"linear\",\"name\":\"i\",\"in\":[\"g\"],\"out_features\":2147483647}," HEAD("i")),
      "$.graph[2]: operator i (linear): the sizes multiply to more than" },
};

START_TEST(explicit_mistakes)
{
    ck_assert_int_eq(build(parse(bad_graphs[_i].text), 8), ST_INPUT);
    ck_assert_msg(strstr(err.text, bad_graphs[_i].says) != NULL, "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("graph model");
    TCase *c = tcase_create("graph model");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, explicit_graph);
    tcase_add_test(c, explicit_attention);
    tcase_add_test(c, explicit_operators);
    tcase_add_test(c, explicit_rope);
    tcase_add_loop_test(c, explicit_mistakes, 0, (int)(sizeof bad_graphs / sizeof *bad_graphs));
    suite_add_tcase(s, c);
    return suite_run(s);
}
