/* State of routers in plans: selection biases have buckets of their own, that nothing reduces and that are moved after the loads are
 * known; and the checker refuses plans where that is not so. */
#include "compiled.h"
#include "plan_edit.h"
#include "tests/unit/suite.h"

#define HEAD                                                                                          \
    "{\"vocab_size\": 32, \"graph\": ["                                                               \
    "{\"op\": \"embed\", \"name\": \"embed\", \"in\": [\"tokens\"], \"features\": 16, \"block\": 0}," \
    "{\"op\": \"rmsnorm\", \"name\": \"n\", \"in\": [\"embed\"], \"block\": 1},"
/* Experts called x, added to `from`; bias: the selection bias' name, in JSON. */
#define EXPERTS(x, from, bias)                                                                                      \
    "{\"op\": \"router\", \"name\": \"" x "ro\", \"in\": [\"n\"], \"experts\": 4, \"top_k\": 2, \"sigmoid\": true," \
    " \"select_bias\": true, \"float32\": true, \"param\": [null, " bias "]},"                                      \
    "{\"op\": \"dispatch\", \"name\": \"" x "di\", \"in\": [\"n\", \"" x "ro.1\"]},"                                \
    "{\"op\": \"experts\", \"name\": \"" x "ex\", \"in\": [\"" x "di\", \"" x                                       \
    "di.2\"], \"experts\": 4, \"top_k\": 2, \"ffn\": 8},"                                                           \
    "{\"op\": \"combine\", \"name\": \"" x "co\", \"in\": [\"" x "ex\", \"" x "di.1\", \"" x                        \
    "ro\"], \"experts\": 4, \"top_k\": 2},"                                                                         \
    "{\"op\": \"add\", \"name\": \"" x "ad\", \"in\": [\"" from "\", \"" x "co\"]},"
#define END(from) "{\"op\": \"head_loss\", \"name\": \"head\", \"in\": [\"" from "\", \"targets\"], \"block\": 2}]}"
static const char model[] = HEAD EXPERTS("", "embed", "null") END("ad");
static const char shared[] = HEAD EXPERTS("", "embed", "null") EXPERTS("s", "ad", "\"ro.select_bias\"") END("sad");

static struct err err;
static struct ir_graph g;
static struct sched_output out;
static struct plan plan;

/* Two replicas with ZeRO level `zero`, one class. */
static void compile(int zero, enum ir_dtype compute, bool clip)
{
    struct notices notices;
    char text[128];
    json_t *doc = compiled_json(model);
    ir_graph_init(&g);
    notices_init(&notices);
    ck_assert_msg(ir_family_build(doc, "model.json", 8, &g, &notices, &err) == ST_OK, "%s", err.text);
    notices_release(&notices);
    json_decref(doc);
    snprintf(text, sizeof text, "[{\"op\":\"layout\",\"pp\":1,\"dp\":2,\"zero\":%d}]", zero);
    json_t *strategy = compiled_json(text);
    const struct sched_input in = { .graph = &g,
                                    .strategy = strategy,
                                    .strategy_name = "strategy.json",
                                    .batch_size = 4,
                                    .compute = compute,
                                    .clip = clip,
                                    .target = &ir_target_cpu };
    ck_assert_msg(sched_compile(&in, &out, &err) == ST_OK, "%s", err.text);
    json_decref(strategy);
    ck_assert_uint_eq(out.n_classes, 1);
    ck_assert_int_eq(
        plan_open(out.classes[0].blob, out.classes[0].bytes, g.ops.n, g.params.n, g.tensors.n, &plan, &err), ST_OK);
}

static void release(void)
{
    sched_output_release(&out);
    ir_graph_release(&g);
}

static const struct plan_bucket *bucket_of(const char *name)
{
    for (uint64_t i = 0; i < plan.h->count[PLAN_S_PIECES]; i++)
        if (strcmp(g.params.at[plan.pieces[i].param].name, name) == 0)
            return &plan.buckets[plan.pieces[i].bucket];
    ck_abort_msg("%s is in no bucket", name);
    return NULL;
}

static uint32_t count(enum plan_op op, const struct plan_bucket *b)
{
    uint32_t n = 0;
    for (uint64_t i = 0; i < plan.h->count[PLAN_S_INSTRS]; i++)
        n += plan.instrs[i].op == op && &plan.buckets[plan.instrs[i].bucket] == b;
    return n;
}

/* zero: level; every level. */
START_TEST(buckets)
{
    const enum ir_dtype compute = _i < 4 ? IR_F32 : IR_BF16;
    compile(_i % 4, compute, true);
    const struct plan_bucket *bias = bucket_of("ro.select_bias"), *w = bucket_of("ro.weight"),
                             *n = bucket_of("n.weight");
    ck_assert(bias->rule == PLAN_RULE_BALANCE && bias->type == IR_F32 && bias->zero == ZERO_NONE);
    ck_assert(bias->grad == UINT64_MAX && bias->master == UINT64_MAX && bias->m == UINT64_MAX && bias->v == UINT64_MAX);
    ck_assert_uint_eq(bias->n_pieces, 1);
    ck_assert(count(PLAN_UPDATE, bias) == 1 && count(PLAN_SUMSQ, bias) == 0 && count(PLAN_ALL_REDUCE, bias) == 0);
    ck_assert(w->rule == PLAN_RULE_OPTIMIZER && w->type == IR_F32 && w->zero == (uint32_t)_i % 4);
    ck_assert((w == n) == (compute == IR_F32) && n->type == (uint32_t)compute);
    ck_assert((w->master == UINT64_MAX) && (n->master == UINT64_MAX) == (compute == IR_F32));
    ck_assert_uint_eq(plan.h->arena_bytes[ARENA_SCALARS], (SCALAR_COUNT + 4) * sizeof(double));
    release();
}
END_TEST

/* ---- what the checker refuses ----------------------------------------------------------------------------------- */

static uint32_t find(const struct plan_records *r, enum plan_op op, uint32_t bucket)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->at[i].in.op == op && (op == PLAN_SCALARS || r->at[i].in.bucket == bucket))
            return i;
    ck_abort_msg("no such instruction");
    return 0;
}

/* b: of the selection bias, w: of other weights. */
static void moved_early(struct plan_edit *e, uint32_t b, uint32_t w)
{
    struct plan_records *r = &e->lists[0];
    (void)w;
    struct plan_record x = r->at[find(r, PLAN_UPDATE, b)];
    plan_edit_drop(r, find(r, PLAN_UPDATE, b));
    plan_edit_insert(r, find(r, PLAN_SCALARS, 0), x);
}

static void moved_twice(struct plan_edit *e, uint32_t b, uint32_t w)
{
    struct plan_records *r = &e->lists[0];
    (void)w;
    plan_edit_insert(r, r->n, r->at[find(r, PLAN_UPDATE, b)]);
}

static void never_moved(struct plan_edit *e, uint32_t b, uint32_t w)
{
    (void)w;
    plan_edit_drop(&e->lists[0], find(&e->lists[0], PLAN_UPDATE, b));
}

static void in_the_norm(struct plan_edit *e, uint32_t b, uint32_t w)
{
    struct plan_records *r = &e->lists[0];
    struct plan_record x = r->at[find(r, PLAN_SUMSQ, w)];
    x.in.bucket = b;
    plan_edit_insert(r, find(r, PLAN_SCALARS, 0), x);
}

/* A plan that was made for another graph. */
static void other_rule(struct plan_edit *e, uint32_t b, uint32_t w)
{
    (void)w;
    g.params.at[e->b->pieces.at[e->b->buckets.at[b].first_piece].param].state = false;
}

static void other_type(struct plan_edit *e, uint32_t b, uint32_t w)
{
    (void)b;
    g.params.at[e->b->pieces.at[e->b->buckets.at[w].first_piece].param].shape.dtype = IR_BF16;
}

static const struct {
    const char *says;
    void (*change)(struct plan_edit *e, uint32_t b, uint32_t w);
} changes[] = {
    { "is moved before the loads of experts are reduced", moved_early },
    { "is updated a second time", moved_twice },
    { "is never updated", never_moved },
    { "counts in the norm, but is state without gradients", in_the_norm },
    { "ro.select_bias is float32, bucket 2 is for float32 and state", other_rule },
    { "ro.weight is bfloat16, bucket 1 is for float32", other_type },
};

START_TEST(refused)
{
    struct plan_builder b;
    struct plan_edit e;
    struct plan changed;
    uint64_t bytes;
    compile(0, IR_F32, _i > 0); /* without clipping the optimizer's updates do not wait */
    const uint32_t bias = (uint32_t)(bucket_of("ro.select_bias") - plan.buckets),
                   w = (uint32_t)(bucket_of("n.weight") - plan.buckets);
    plan_unpack(&plan, &b);
    plan_edit_begin(&b, &e);
    changes[_i].change(&e, bias, w);
    plan_edit_end(&e);
    void *blob = plan_build(&b, &bytes);
    enum status st = plan_open(blob, bytes, g.ops.n, g.params.n, g.tensors.n, &changed, &err);
    if (st == ST_OK)
        st = sched_check(&changed, 1, &g, &ir_target_cpu, &err);
    ck_assert_int_eq(st, ST_BUG);
    ck_assert_msg(strstr(err.text, changes[_i].says) != NULL, "%s", err.text);
    plan_builder_release(&b);
    mem_free(blob);
    release();
}
END_TEST

/* A selection bias is one router's. */
START_TEST(shared_bias)
{
    json_t *doc = compiled_json(shared);
    ir_graph_init(&g);
    ck_assert_int_ne(ir_family_build(doc, "model.json", 8, &g, NULL, &err), ST_OK);
    ck_assert_msg(
        strstr(err.text, "ro.select_bias is the selection bias of a router, and another operator uses it too") != NULL,
        "%s", err.text);
    json_decref(doc);
    ir_graph_release(&g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("balance");
    TCase *t = tcase_create("balance");
    tcase_add_loop_test(t, buckets, 0, 8);
    tcase_add_loop_test(t, refused, 0, sizeof changes / sizeof *changes);
    tcase_add_test(t, shared_bias);
    suite_add_tcase(s, t);
    return suite_run(s);
}
