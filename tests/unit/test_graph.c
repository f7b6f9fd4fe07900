/* The model graph: building, comparing, and a reader's check on everything that can be wrong. */
#include <check.h>

#include "ir/family/family.h"
#include "tests/unit/suite.h"

/* All operators in one small model: dense attention, then experts. */
static const char *const model =
    "{\"vocab_size\": 11, \"graph\": ["
    "{\"op\":\"embed\",\"name\":\"embed\",\"in\":[\"tokens\"],\"features\":8},"
    "{\"op\":\"pos_embed\",\"name\":\"embed.pos\",\"in\":[\"embed\"]},"
    "{\"op\":\"layernorm\",\"name\":\"a.norm\",\"in\":[\"embed.pos\"],\"block\":1},"
    "{\"op\":\"linear\",\"name\":\"a.qkv\",\"in\":[\"a.norm\"],\"out_features\":24,\"bias\":true},"
    "{\"op\":\"attention\",\"name\":\"a.core\",\"in\":[\"a.qkv\"],\"heads\":2,\"packed\":true},"
    "{\"op\":\"add\",\"name\":\"a.add\",\"in\":[\"embed.pos\",\"a.core\"]},"
    "{\"op\":\"router\",\"name\":\"m.router\",\"in\":[\"a.add\"],\"experts\":3,\"top_k\":2},"
    "{\"op\":\"dispatch\",\"name\":\"m.dispatch\",\"in\":[\"a.add\",\"m.router.1\"]},"
    "{\"op\":\"experts\",\"name\":\"m.experts\",\"in\":[\"m.dispatch\",\"m.dispatch.2\"],\"ffn\":5},"
    "{\"op\":\"combine\",\"name\":\"m.combine\",\"in\":[\"m.experts\",\"m.dispatch.1\",\"m.router\"]},"
    "{\"op\":\"head_loss\",\"name\":\"head\",\"in\":[\"m.combine\",\"targets\"],\"block\":2,\"param\":[\"embed."
    "weight\"]}]}";
enum { T = 6 };

static void build(struct ir_graph *g)
{
    json_t *doc;
    struct err e = { 0 };
    ck_assert_int_eq(js_load_text(model, "m.json", &doc, &e), ST_OK);
    ir_graph_init(g);
    ck_assert_msg(ir_family_build(doc, "m.json", T, g, NULL, &e) == ST_OK, "%s", e.text);
    json_decref(doc);
}

static uint32_t find(const struct ir_graph *g, const char *op)
{
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (strcmp(g->ops.at[i].name, op) == 0)
            return i;
    ck_abort_msg("no operator %s", op);
}

START_TEST(built_graph)
{
    struct ir_graph g;
    build(&g);
    ck_assert_uint_eq(g.ops.n, 11);
    ck_assert_uint_eq(g.n_blocks, 3);
    ck_assert_uint_eq(g.tensors.n, 2 + 10 + 1 + 2); /* inputs, one output each, router's and dispatch's others */
    ck_assert_uint_eq(ir_graph_param_count(&g), 88 + 48 + 16 + 24 * 9 + 24 + 3 * (3 * 5 * 8));
    const struct ir_node_op *o = &g.ops.at[find(&g, "m.combine")];
    ck_assert_str_eq(g.tensors.at[o->in[1]].name, "m.dispatch.1");
    ck_assert_uint_eq(o->attrs.top_k, 2);
    ck_assert_uint_eq(ir_graph_out(&g, find(&g, "m.router"), 0), o->in[2]);
    ck_assert_uint_eq(g.ops.at[find(&g, "head")].param[0], g.ops.at[0].param[0]);
    ck_assert_double_eq(ir_graph_flops(&g), 6.0 * T * (24 * 8 + 88 + 24 + 2 * 3 * 40) + 12 * 8 * T * T);
    ck_assert_uint_eq(ir_graph_find_tag(&g, "EP"), 0);
    ck_assert_uint_eq(ir_graph_find_tag(&g, "PP"), IR_NONE);
    for (int i = 1; i < IR_MAX_TAGS; i++) {
        char name[8] = { 'A', (char)('a' + i), '\0' };
        ck_assert_uint_eq(ir_graph_tag(&g, name), i);
    }
    ck_assert_uint_eq(ir_graph_tag(&g, "Ab"), 1);
    ck_assert_uint_eq(ir_graph_tag(&g, "Z"), IR_NONE);
    ir_graph_release(&g);
}
END_TEST

static const struct ir_param *param_of(const struct ir_graph *g, const char *op, int i)
{
    return &g->params.at[g->ops.at[find(g, op)].param[i]];
}

/* Packed q, k and v as three tensors: a valid graph with the same parameters, whose parts cover the packed ones; and the model's own again. */
START_TEST(taken_apart)
{
    struct ir_graph g, own, other;
    struct err e = { 0 };
    char text[400];
    build(&g);
    build(&other);
    const uint32_t weight = g.ops.at[find(&g, "a.qkv")].param[0], bias = g.ops.at[find(&g, "a.qkv")].param[1];
    const uint64_t elements = ir_graph_param_count(&g);
    ir_graph_unpack(&g);
    ir_graph_unpack(&g);
    ck_assert_msg(ir_graph_validate(&g, "g", &e) == ST_OK, "%s", e.text);
    ck_assert_uint_eq(g.ops.n, other.ops.n + 2);
    ck_assert_uint_eq(ir_graph_param_count(&g), elements);
    ck_assert_double_eq(ir_graph_flops(&g), ir_graph_flops(&other));
    static const char *const parts[] = { "a.qkv.q", "a.qkv.k", "a.qkv.v" };
    const struct ir_node_op *core = &g.ops.at[find(&g, "a.core")];
    ck_assert_uint_eq(core->attrs.flags & IR_PACKED, 0);
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t o = find(&g, parts[i]);
        ck_assert_uint_eq(core->in[i], g.ops.at[o].out[0]);
        ck_assert_uint_eq(g.ops.at[o].attrs.out_features, 8);
        ck_assert_uint_eq(param_of(&g, parts[i], 0)->part_of, weight + 1);
        ck_assert_uint_eq(param_of(&g, parts[i], 0)->first, i * 8 * 8);
        ck_assert_uint_eq(param_of(&g, parts[i], 1)->part_of, bias + 1);
        ck_assert_uint_eq(param_of(&g, parts[i], 1)->first, i * 8);
        ck_assert(param_of(&g, parts[i], 0)->decays && !param_of(&g, parts[i], 1)->decays);
    }
    ck_assert_uint_eq(g.ops.at[find(&g, "head")].param[0], other.ops.at[find(&other, "head")].param[0]);
    ir_graph_borrow(&g, &own);
    ck_assert_msg(ir_graph_same(&own, &other, text, sizeof text), "%s", text);
    ir_graph_release(&own);
    ir_graph_release(&g);
    ir_graph_release(&other);
}
END_TEST

/* Where documents are apart, and in columns of a weight (in,out); not where something else reads what is packed. */
START_TEST(taken_apart_or_not)
{
    struct ir_graph g, own;
    build(&g);
    g.ops.at[find(&g, "a.qkv")].attrs.flags |= IR_TRANSPOSED;
    g.params.at[g.ops.at[find(&g, "a.qkv")].param[0]].shape = (struct ir_shape){ IR_COMPUTE, 2, { 8, 24, 0 } };
    ir_graph_separate(&g);
    ir_graph_unpack(&g);
    ck_assert_uint_eq(g.ops.at[find(&g, "a.core")].in[3], ir_graph_find_input(&g, "documents"));
    ck_assert_uint_eq(param_of(&g, "a.qkv.v", 0)->first, 16);
    ck_assert_uint_eq(param_of(&g, "a.qkv.v", 0)->stride, 24);
    ck_assert_uint_eq(param_of(&g, "a.qkv.v", 0)->shape.dim[1], 8);
    ir_graph_borrow(&g, &own);
    ck_assert_uint_eq(ir_graph_find_input(&own, "documents"), IR_NONE);
    ck_assert_uint_eq(own.ops.at[find(&own, "a.core")].attrs.flags, IR_PACKED);
    ir_graph_release(&own);
    ir_graph_release(&g);

    build(&g);
    g.ops.at[find(&g, "m.router")].in[0] = g.ops.at[find(&g, "a.qkv")].out[0];
    ir_graph_unpack(&g);
    ck_assert(!g.whole && g.ops.at[find(&g, "a.core")].attrs.flags & IR_PACKED);
    ir_graph_release(&g);
}
END_TEST

START_TEST(same_and_different)
{
    struct ir_graph a, b;
    char text[256] = "";
    build(&a);
    build(&b);
    ck_assert(ir_graph_same(&a, &b, text, sizeof text));
    b.ops.at[3].tag[0] = 5;
    ck_assert(ir_graph_same(&a, &b, text, sizeof text));
    b.ops.at[2].attrs.eps = 1e-6f;
    ck_assert(!ir_graph_same(&a, &b, text, sizeof text));
    ck_assert_str_eq(text, "operator a.norm has eps 9.99999975e-06 in one and 9.99999997e-07 in the other");
    b.ops.at[2].attrs.eps = a.ops.at[2].attrs.eps;
    b.ops.at[4].in[0] = 2;
    ck_assert(!ir_graph_same(&a, &b, text, sizeof text));
    ck_assert_ptr_nonnull(strstr(text, "a.core reads other"));
    b.ops.at[4].in[0] = a.ops.at[4].in[0];
    b.params.at[1].shape.dim[0]++;
    ck_assert(!ir_graph_same(&a, &b, text, sizeof text));
    ck_assert_str_eq(text, "parameter embed.pos.weight is (6,8) compute in one and (7,8) compute in the other");
    b.params.at[1].shape.dim[0]--;
    b.params.n--;
    ck_assert(!ir_graph_same(&a, &b, text, sizeof text));
    ck_assert_ptr_nonnull(strstr(text, "m.experts.*.down.weight"));
    b.params.n++;
    b.vocab++;
    ck_assert(!ir_graph_same(&a, &b, text, sizeof text));
    ir_graph_release(&a);
    ir_graph_release(&b);
}
END_TEST

/* ---- one thing wrong at a time -------------------------------------------------------------------------------- */

static void seq_len_zero(struct ir_graph *g)
{
    g->seq_len = 0;
}
static void seq_len_other(struct ir_graph *g)
{
    g->seq_len = T + 1;
}
static void vocab_huge(struct ir_graph *g)
{
    g->vocab = UINT32_MAX;
}
static void vocab_beyond_table(struct ir_graph *g)
{
    g->vocab = 12;
}
static void no_blocks(struct ir_graph *g)
{
    g->n_blocks = 0;
}
static void block_outside(struct ir_graph *g)
{
    g->ops.at[1].block = 3;
}
static void too_many_tags(struct ir_graph *g)
{
    g->n_tags = IR_MAX_TAGS + 1;
}
static void no_name(struct ir_graph *g)
{
    g->ops.at[2].name = NULL;
}
static void empty_name(struct ir_graph *g)
{
    g->tensors.at[2].name = "";
}
static void slash_in_name(struct ir_graph *g)
{
    g->params.at[0].name = "../../etc";
}
static void control_in_name(struct ir_graph *g)
{
    g->tags[0] = "E\n";
}
static void star_in_op(struct ir_graph *g)
{
    g->ops.at[1].name = "a.*";
}
static void two_stars(struct ir_graph *g)
{
    g->params.at[0].name = "a.*.*";
}
static void star_on_vector(struct ir_graph *g)
{
    g->params.at[2].name = "a.*";
}
static void twice_op(struct ir_graph *g)
{
    g->ops.at[1].name = "head";
}
static void twice_tensor(struct ir_graph *g)
{
    g->tensors.at[3].name = "tokens";
}
static void twice_param(struct ir_graph *g)
{
    g->params.at[1].name = "embed.weight";
}
static void input_unknown(struct ir_graph *g)
{
    g->tensors.at[0].name = "mask";
}
static void producer_outside(struct ir_graph *g)
{
    g->tensors.at[2].producer = 99;
}
static void producer_other(struct ir_graph *g)
{
    g->tensors.at[2].producer = 1;
}
static void output_outside(struct ir_graph *g)
{
    g->tensors.at[2].output = 200;
}
static void kind_outside(struct ir_graph *g)
{
    g->ops.at[2].op = IR_OP_COUNT + 1;
}
static void kind_of_compiler(struct ir_graph *g)
{
    g->ops.at[5].op = IR_OP_SUM;
}
static void attr_wrong(struct ir_graph *g)
{
    g->ops.at[4].attrs.heads = 0;
}
static void attr_other_shape(struct ir_graph *g)
{
    g->ops.at[3].attrs.out_features = 25;
}
static void in_outside(struct ir_graph *g)
{
    g->ops.at[2].in[0] = 1000;
}
static void in_one_beyond(struct ir_graph *g)
{
    g->ops.at[2].in[0] = g->tensors.n;
}
static void in_missing(struct ir_graph *g)
{
    g->ops.at[2].in[0] = IR_NONE;
}
static void in_too_many(struct ir_graph *g)
{
    g->ops.at[2].in[1] = 2;
}
static void in_later(struct ir_graph *g)
{
    g->ops.at[2].in[0] = g->ops.at[5].out[0];
}
static void in_itself(struct ir_graph *g)
{
    g->ops.at[2].in[0] = g->ops.at[2].out[0];
}
static void out_missing(struct ir_graph *g)
{
    g->ops.at[2].out[0] = IR_NONE;
}
static void out_shared(struct ir_graph *g)
{
    g->ops.at[2].out[0] = g->ops.at[1].out[0];
}
static void out_too_many(struct ir_graph *g)
{
    g->ops.at[2].out[1] = 3;
}
static void tensor_shape(struct ir_graph *g)
{
    g->tensors.at[4].shape.dim[1] = 9;
}
static void tensor_ndim(struct ir_graph *g)
{
    g->tensors.at[4].shape.ndim = 200;
}
static void param_outside(struct ir_graph *g)
{
    g->ops.at[2].param[1] = 77;
}
static void param_missing(struct ir_graph *g)
{
    g->ops.at[2].param[1] = IR_NONE;
}
static void param_too_many(struct ir_graph *g)
{
    g->ops.at[2].param[2] = 0;
}
static void param_same(struct ir_graph *g)
{
    g->ops.at[2].param[1] = g->ops.at[2].param[0];
}
static void param_shape(struct ir_graph *g)
{
    g->params.at[1].shape.dim[0] = 7;
}
static void param_ndim(struct ir_graph *g)
{
    g->params.at[0].shape.ndim = 100;
}
static void param_empty(struct ir_graph *g)
{
    g->params.at[0].shape.dim[0] = 0;
}
static void param_huge(struct ir_graph *g)
{
    g->params.at[6].shape = (struct ir_shape){ IR_COMPUTE, 3, { UINT32_MAX, UINT32_MAX, UINT32_MAX } };
}
static void param_init(struct ir_graph *g)
{
    g->params.at[0].init = 9;
}
static void param_std(struct ir_graph *g)
{
    g->params.at[0].std = -1;
}
static void tag_below(struct ir_graph *g)
{
    g->ops.at[2].tag[0] = -2;
}
static void tag_above(struct ir_graph *g)
{
    g->ops.at[2].tag[0] = INT32_MAX;
}
static void tag_unnamed(struct ir_graph *g)
{
    g->ops.at[2].tag[3] = 0;
}
static void pp_gap(struct ir_graph *g)
{
    g->ops.at[2].tag[ir_graph_tag(g, "PP")] = 1;
}
static void embed_targets(struct ir_graph *g)
{
    g->ops.at[0].in[0] = 1;
}
static void no_loss(struct ir_graph *g)
{
    g->ops.n--;
}
static void nothing_reads(struct ir_graph *g)
{
    g->ops.at[find(g, "head")].in[0] = ir_graph_out(g, find(g, "a.add"), 0);
}
static void other_capacity(struct ir_graph *g)
{
    struct ir_node_op *o = &g->ops.at[find(g, "m.combine")];
    o->attrs.capacity = 4; /* 3 experts * 4 rows = 6 tokens * 2: the shapes agree */
}
static void slot_is_index(struct ir_graph *g)
{
    g->ops.at[find(g, "m.combine")].in[1] = ir_graph_out(g, find(g, "m.router"), 1);
}
static void unused_param(struct ir_graph *g)
{
    ir_graph_param(g, "left.over", (struct ir_shape){ IR_COMPUTE, 1, { 3, 0, 0 } }, IR_INIT_ZEROS, 0);
}

static const struct {
    void (*spoil)(struct ir_graph *g);
    const char *says;
} wrongs[] = {
    { seq_len_zero, "sequence length 0" },
    { seq_len_other, "graph input tokens" },
    { vocab_huge, "vocabulary 4294967295" },
    { vocab_beyond_table, "token ids go up to 11" },
    { no_blocks, "blocks 0" },
    { block_outside, "embed.pos is in block 3 of 3" },
    { too_many_tags, "9 tags" },
    { no_name, "operator 2 has no name" },
    { empty_name, "tensor 2 has no name" },
    { slash_in_name, "the name of parameter 0 is not allowed" },
    { control_in_name, "the name of tag 0 is not allowed" },
    { star_in_op, "has a *" },
    { two_stars, "more than one *" },
    { star_on_vector, "a * needs two dimensions" },
    { twice_op, "two operators are named head" },
    { twice_tensor, "two tensors are named tokens" },
    { twice_param, "two parameters are named embed.weight" },
    { input_unknown, "tensor mask has no producer" },
    { producer_outside, "producer 99" },
    { producer_other, "does not have it as output 0" },
    { output_outside, "does not have it as output 200" },
    { kind_outside, "those of a model graph" },
    { kind_of_compiler, "those of a model graph" },
    { attr_wrong, "operator a.core (attention)" },
    { attr_other_shape, "output a.qkv is (6,24) compute, but the operator's attributes say (6,25) compute" },
    { in_outside, "input 0 is tensor 1000" },
    { in_one_beyond, "input 0 is tensor 15 of 15" },
    { in_missing, "input 0 is tensor 4294967295" },
    { in_too_many, "more than 1 inputs" },
    { in_later, "reads a.add before it is produced" },
    { in_itself, "reads a.norm before it is produced" },
    { out_missing, "does not have it as output 0" },
    { out_shared, "does not have it as output 0" },
    { out_too_many, "more than 1 outputs" },
    { tensor_shape, "output a.norm is (6,9)" },
    { tensor_ndim, "a.norm" },
    { param_outside, "parameter 1 is number 77" },
    { param_missing, "parameter 1 is number 4294967295" },
    { param_too_many, "more than 2 parameters" },
    { param_same, "uses parameter a.norm.weight twice" },
    { param_shape, "parameter embed.pos.weight is (7,8)" },
    { param_ndim, "100 dimensions" },
    { param_empty, "no elements" },
    { param_huge, "more than 2^52" },
    { param_init, "init or std" },
    { param_std, "init or std" },
    { tag_below, "index -2 under tag 0" },
    { tag_above, "index 2147483647 under tag 0" },
    { tag_unnamed, "index 0 under tag 3" },
    { pp_gap, "no operator has PP 0" },
    { embed_targets, "must read the graph's input tokens" },
    { no_loss, "no head_loss" },
    { nothing_reads, "nothing reads tensor m.combine" },
    { other_capacity, "output 1 of a dispatch with the same experts, top_k and capacity" },
    { slot_is_index, "output 1 of a dispatch" },
    { unused_param, "no operator uses parameter left.over" },
};

START_TEST(each_wrong_is_named)
{
    struct ir_graph g;
    struct err e = { 0 };
    build(&g);
    ck_assert_int_eq(ir_graph_validate(&g, "job.h5", &e), ST_OK);
    wrongs[_i].spoil(&g);
    ck_assert_int_eq(ir_graph_validate(&g, "job.h5", &e), ST_INPUT);
    ck_assert_msg(strncmp(e.text, "job.h5: ", 8) == 0 && strstr(e.text, wrongs[_i].says), "%d: %s", _i, e.text);
    ir_graph_release(&g);
}
END_TEST

/* Any 32-bit word of the graph's arrays set to any of a few values: an answer, never a crash. */
static void flip_words(void *at, size_t bytes, const struct ir_graph *g, uint32_t *refused)
{
    static const uint32_t values[] = { 0, 1, 2, 3, 7, 255, 0x7fffffff, 0x80000000, UINT32_MAX };
    for (size_t w = 0; w < bytes / 4; w++) {
        uint32_t *word = (uint32_t *)at + w, was = *word;
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            struct err e = { 0 };
            *word = values[v];
            *refused += ir_graph_validate(g, "x", &e) != ST_OK;
        }
        *word = was;
    }
}

START_TEST(flipped_words_never_crash)
{
    struct ir_graph g;
    uint32_t refused = 0;
    build(&g);
    for (uint32_t i = 0; i < g.ops.n; i++) /* all but the name */
        flip_words(&g.ops.at[i].op, sizeof *g.ops.at - offsetof(struct ir_node_op, op), &g, &refused);
    for (uint32_t i = 0; i < g.tensors.n; i++)
        flip_words(&g.tensors.at[i].shape, sizeof *g.tensors.at - offsetof(struct ir_tensor, shape), &g, &refused);
    for (uint32_t i = 0; i < g.params.n; i++) { /* but for what is true or false, which only C writes */
        struct ir_param *p = &g.params.at[i];
        flip_words(&p->shape, offsetof(struct ir_param, decays) - offsetof(struct ir_param, shape), &g, &refused);
        flip_words(&p->part_of, sizeof *p - offsetof(struct ir_param, part_of), &g, &refused);
    }
    ck_assert_uint_gt(refused, 3500);
    ir_graph_release(&g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("graph");
    TCase *c = tcase_create("graph");
    tcase_add_test(c, built_graph);
    tcase_add_test(c, same_and_different);
    tcase_add_test(c, taken_apart);
    tcase_add_test(c, taken_apart_or_not);
    tcase_add_loop_test(c, each_wrong_is_named, 0, (int)(sizeof wrongs / sizeof *wrongs));
    tcase_add_test(c, flipped_words_never_crash);
    suite_add_tcase(s, c);
    return suite_run(s);
}
