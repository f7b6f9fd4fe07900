/* The simulation of compiled plans: bubbles of schedules equal the formulas of the papers, streams and
 * rendezvous keep their order, and times that the caller gives are the times that come out. */
#include <check.h>
#include <stdio.h>

#include "ir/family/family.h"
#include "sched/sched.h"
#include "sched/cost/timeline.h"
#include "tests/unit/suite.h"

struct job {
    struct ir_graph g;
    json_t *strategy;
    struct sched_output out;
    struct plan *plans;
};

static void compile(struct job *j, const char *model, const char *strategy)
{
    json_t *doc;
    struct err e = { 0 };
    struct notices notices = { 0 };
    *j = (struct job){ 0 };
    ir_graph_init(&j->g);
    ck_assert_msg(js_load_text(model, "model.json", &doc, &e) == ST_OK, "%s", e.text);
    ck_assert_msg(ir_family_build(doc, "model.json", 4, &j->g, &notices, &e) == ST_OK, "%s", e.text);
    notices_release(&notices);
    json_decref(doc);
    ck_assert_msg(js_load_text(strategy, "strategy.json", &j->strategy, &e) == ST_OK, "%s", e.text);
    struct sched_input in = { .graph = &j->g,
                              .strategy = j->strategy,
                              .strategy_name = "strategy.json",
                              .batch_size = 32 * 9 * 5,
                              .compute = IR_F32,
                              .clip = true,
                              .eval = true,
                              .target = ir_target_by_name("cpu") };
    ck_assert_msg(sched_compile(&in, &j->out, &e) == ST_OK, "%s: %s", strategy, e.text);
    j->plans = mem_alloc(j->out.n_classes * sizeof *j->plans);
    for (uint32_t c = 0; c < j->out.n_classes; c++)
        ck_assert_int_eq(plan_open(j->out.classes[c].blob, j->out.classes[c].bytes, j->g.ops.n, j->g.params.n,
                                   j->g.tensors.n, &j->plans[c], &e),
                         ST_OK);
}

static void release(struct job *j)
{
    mem_free(j->plans);
    sched_output_release(&j->out);
    json_decref(j->strategy);
    ir_graph_release(&j->g);
}

static const char *llama(uint32_t layers)
{
    static char text[512];
    snprintf(text, sizeof text,
             "{\"model_type\":\"llama\",\"vocab_size\":16,\"hidden_size\":8,\"num_hidden_layers\":%u,"
             "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":8,"
             "\"tie_word_embeddings\":false,\"max_position_embeddings\":16}",
             layers);
    return text;
}

static void unit_times(const struct job *j, const struct timeline_units *given, struct timeline *t)
{
    struct timeline_units u = *given;
    timeline_units_init(&u, j->plans, j->out.n_classes, &j->g);
    timeline_run(j->plans, j->out.n_classes, "train",
                 &(struct timeline_cost){ .time = timeline_units_time, .self = &u }, t);
    timeline_units_release(&u);
}

/* ---- schedules --------------------------------------------------------------------------------------------------- */

/* Idle time of a step beside 3m units of work a chunk, F = BI = BW = 1, in units of a chunk. */
static const struct row {
    const char *kind, *placement;
    uint32_t chunks;
} rows[] = {
    { "gpipe", "standard", 1 },
    { "1f1b", "standard", 1 },
    { "interleaved", "interleaved", 2 },
    { "interleaved", "interleaved", 3 },
    { "zb-h1", "standard", 1 },
    { "zb-h2", "standard", 1 },
    { "zb-v", "v", 2 },
    { "interleaved-zb", "interleaved", 2 },
};

/* Bubble of the whole step at tF = tB = tW = 1. */
static double bubble_of(const struct row *r, double p)
{
    bool fused = !strcmp(r->kind, "gpipe") || !strcmp(r->kind, "1f1b") || !strcmp(r->kind, "interleaved");
    return fused ? 3 * (p - 1) : p - 1; /* split: tF + tB - tW, or tF */
}

START_TEST(bubbles)
{
    const struct row *r = &rows[_i];
    for (uint32_t p = 1; p <= 5; p++)
        for (uint32_t dp = 1; dp <= 2; dp++) {
            struct job j;
            struct timeline t;
            char strategy[400];
            uint32_t m = p == 1 ? 3 : 2 * p;
            snprintf(strategy, sizeof strategy,
                     "[{\"op\":\"layout\",\"pp\":%u,\"dp\":%u,\"placement\":\"%s\",\"chunks\":%u},"
                     "{\"op\":\"schedule\",\"kind\":\"%s\",\"microbatches\":%u}]",
                     p, dp, r->placement, r->chunks, r->kind, m);
            compile(&j, llama(p * r->chunks * 2), strategy);
            unit_times(&j, &(struct timeline_units){ 0 }, &t);
            double busy = 3.0 * m * r->chunks, step = busy + bubble_of(r, p);
            ck_assert_msg(t.step > step - 1e-9 && t.step < step + 1e-9, "%s: step %g, expected %g", strategy, t.step,
                          step);
            ck_assert_double_eq_tol(t.bubble, 1 - busy / step, 1e-12);
            for (uint32_t c = 0; c < t.n_classes; c++)
                ck_assert_double_eq_tol(t.classes[c].busy, busy, 1e-9);
            timeline_release(&t);
            release(&j);
        }
}
END_TEST

/* One microbatch over p stages has 2(p-1) moves, one after the other. */
START_TEST(moves_take_time)
{
    struct job j;
    struct timeline t;
    compile(&j, llama(4),
            "[{\"op\":\"layout\",\"pp\":4,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":1}]");
    unit_times(&j, &(struct timeline_units){ .move = 0.25 }, &t);
    ck_assert_double_eq_tol(t.step, 4 * 3 + 6 * 0.25, 1e-9);
    timeline_release(&t);
    release(&j);
}
END_TEST

/* ---- every instruction ------------------------------------------------------------------------------------------- */

static const char *moe_layers(uint32_t layers)
{
    static char text[512];
    snprintf(text, sizeof text,
             "{\"model_type\":\"qwen3_moe\",\"vocab_size\":16,\"hidden_size\":8,\"num_hidden_layers\":%u,"
             "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"intermediate_size\":8,"
             "\"moe_intermediate_size\":8,\"num_experts\":4,\"num_experts_per_tok\":2,\"capacity_factor\":1.0,"
             "\"tie_word_embeddings\":false,\"max_position_embeddings\":16}",
             layers);
    return text;
}

static const char moe[] = "{\"model_type\":\"qwen3_moe\",\"vocab_size\":16,\"hidden_size\":8,\"num_hidden_layers\":4,"
                          "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"intermediate_size\":8,"
                          "\"moe_intermediate_size\":8,\"num_experts\":4,\"num_experts_per_tok\":2,"
                          "\"decoder_sparse_step\":1,\"mlp_only_layers\":[],\"tie_word_embeddings\":false,"
                          "\"max_position_embeddings\":16}";
static const char *const strategies[] = {
    "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"zero\":3},"
    "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4}]",
    "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"zero\":1,\"placement\":\"v\"},"
    "{\"op\":\"schedule\",\"kind\":\"dualpipev\",\"microbatches\":4}]",
    "[{\"op\":\"layout\",\"pp\":2,\"dp\":1,\"placement\":\"two-way\"},"
    "{\"op\":\"schedule\",\"kind\":\"dualpipe\",\"microbatches\":4}]",
};

struct asked {
    double last; /* start of the call before */
    uint32_t calls, ends, communications;
};

/* Uneven times, from the node, so that both ends of a transfer would give the same. */
static double odd_time(void *self, uint32_t cls, const struct plan_instr *in, double start)
{
    struct asked *a = self;
    (void)cls;
    ck_assert(start >= a->last);
    a->last = start;
    a->calls++;
    ck_assert(in->op != PLAN_RECV);
    return 0.5 + in->node % 7;
}

/* Ends by node: a transfer's are the same on all its ends. */
static void check_spans(const struct job *j, const struct timeline *t, struct asked *a)
{
    static struct timeline_span by_node[1 << 16];
    memset(by_node, 0, sizeof by_node);
    for (uint32_t c = 0; c < t->n_classes; c++) {
        const struct plan *p = &j->plans[c];
        const struct plan_instr *in = &p->instrs[p->lists[t->classes[c].list].first_instr];
        double last[64] = { 0 };
        for (uint32_t i = 0; i < t->classes[c].n; i++) {
            struct timeline_span s = t->classes[c].spans[i], *other = &by_node[in[i].node];
            ck_assert_double_eq(s.end - s.start, 0.5 + in[i].node % 7);
            ck_assert(s.start >= last[in[i].stream]);
            last[in[i].stream] = s.end;
            for (uint32_t w = 0; w < in[i].n_waits; w++)
                ck_assert(s.start >= t->classes[c].spans[p->waits[in[i].first_wait + w]].end);
            if (in[i].channel == PLAN_NONE && in[i].op != PLAN_SEND && in[i].op != PLAN_RECV) {
                a->ends++;
            } else if (other->end > 0) {
                ck_assert(other->start == s.start && other->end == s.end);
            } else {
                *other = s;
                a->communications++;
            }
        }
    }
}

START_TEST(order_is_kept)
{
    struct job j;
    struct timeline t;
    struct asked a = { 0 };
    compile(&j, moe, strategies[_i]);
    timeline_run(j.plans, j.out.n_classes, "train", &(struct timeline_cost){ .time = odd_time, .self = &a }, &t);
    check_spans(&j, &t, &a);
    ck_assert_uint_eq(a.calls, a.ends + a.communications);
    ck_assert(a.communications > 10);
    ck_assert(t.step > 0 && t.bubble > 0 && t.bubble < 1);
    timeline_release(&t);
    release(&j);
}
END_TEST

/* A pass over a stage takes the same time however it is cut, and about one forward more where it is recomputed. */
START_TEST(units_of_a_stage)
{
    static const char *const more[] = { "", "{\"op\":\"recompute\",\"filter\":{}}," };
    char strategy[400];
    for (int recompute = 0; recompute < 2; recompute++) {
        struct job j;
        struct timeline t;
        snprintf(strategy, sizeof strategy,
                 "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2},%s"
                 "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4}]",
                 more[recompute]);
        compile(&j, moe, strategy);
        unit_times(&j, &(struct timeline_units){ 0 }, &t);
        for (uint32_t c = 0; c < t.n_classes; c++)
            if (recompute) /* but for what no backward reads */
                ck_assert(t.classes[c].busy > 4 * 3.9 && t.classes[c].busy < 4 * 4 + 1e-9);
            else
                ck_assert_double_eq_tol(t.classes[c].busy, 4 * 3, 1e-9);
        timeline_release(&t);
        release(&j);
    }
}
END_TEST

START_TEST(update_and_collectives)
{
    struct job j;
    struct timeline t;
    compile(&j, llama(2), "[{\"op\":\"layout\",\"pp\":1,\"dp\":2}]");
    unit_times(&j, &(struct timeline_units){ .collective = 5, .update = 2 }, &t);
    ck_assert_double_eq_tol(t.classes[0].busy, 3 + 2, 1e-9);
    double reduced = 0;
    const struct plan *p = &j.plans[0];
    for (uint32_t i = 0; i < t.classes[0].n; i++)
        if (p->instrs[p->lists[t.classes[0].list].first_instr + i].op == PLAN_ALL_REDUCE)
            reduced += t.classes[0].spans[i].end - t.classes[0].spans[i].start;
    ck_assert_double_eq_tol(reduced, 5, 1e-9);
    ck_assert(t.step > 3 + 2 + 1 && t.step < 3 + 2 + 5); /* some of it under the backward */
    timeline_release(&t);
    release(&j);
}
END_TEST

START_TEST(stages)
{
    struct job j;
    compile(&j, llama(4),
            "[{\"op\":\"layout\",\"pp\":2,\"dp\":1,\"placement\":\"v\"},"
            "{\"op\":\"schedule\",\"kind\":\"zb-v\",\"microbatches\":4}]");
    for (uint32_t c = 0; c < 2; c++) {
        bool seen[4] = { 0 };
        for (uint32_t i = 0; i < j.plans[c].h->count[PLAN_S_PROGRAMS]; i++)
            seen[timeline_stage(&j.plans[c], i, &j.g)] = true;
        for (uint32_t s = 0; s < 4; s++)
            ck_assert_int_eq(seen[s], (s < 2 ? s : 3 - s) == c);
    }
    release(&j);
}
END_TEST

/* Share of the time of all-to-alls during which the compute stream of the same class works. */
static double hidden_share(const struct job *j, const struct timeline *t)
{
    double all = 0, hidden = 0;
    for (uint32_t c = 0; c < t->n_classes; c++) {
        const struct plan *p = &j->plans[c];
        const struct timeline_class *k = &t->classes[c];
        const struct plan_instr *in = &p->instrs[p->lists[k->list].first_instr];
        for (uint32_t i = 0; i < k->n; i++)
            for (uint32_t r = 0; r < k->n && in[i].op == PLAN_ALL_TO_ALL; r++) {
                if (r == 0)
                    all += k->spans[i].end - k->spans[i].start;
                double lo = k->spans[r].start > k->spans[i].start ? k->spans[r].start : k->spans[i].start;
                double hi = k->spans[r].end < k->spans[i].end ? k->spans[r].end : k->spans[i].end;
                if (in[r].op == PLAN_RUN && hi > lo)
                    hidden += hi - lo;
            }
    }
    return all > 0 ? hidden / all : 1;
}

/* An MoE model whose all-to-alls take as long as its forward (the ratio of DeepSeek-V3): overlapped pairs hide them, 1f1b
 * cannot. The figures are printed. */
START_TEST(experts_are_hidden)
{
    static const char *const kinds[2][2] = { { "standard", "1f1b" }, { "v", "dualpipev" } };
    double share[2], step[2];
    for (int i = 0; i < 2; i++) {
        struct job j;
        struct timeline t;
        char strategy[400];
        snprintf(strategy, sizeof strategy,
                 "[{\"op\":\"layout\",\"pp\":4,\"dp\":2,\"ep\":2,\"placement\":\"%s\"},"
                 "{\"op\":\"schedule\",\"kind\":\"%s\",\"microbatches\":16}]",
                 kinds[i][0], kinds[i][1]);
        compile(&j, moe_layers(8), strategy);
        /* a stage of 1f1b holds two chunks of dualpipev: a chunk's forward is the unit, so halve the latter's step */
        unit_times(&j, &(struct timeline_units){ .all_to_all = 1 }, &t);
        share[i] = hidden_share(&j, &t);
        step[i] = t.step / (i + 1);
        printf("# %s: %.0f%% of the all-to-all time is hidden under compute, step %.1f stage units\n", kinds[i][1],
               100 * share[i], step[i]);
        timeline_release(&t);
        release(&j);
    }
    printf("# dualpipev over 1f1b: %.0f%% more throughput\n", 100 * (step[0] / step[1] - 1));
    ck_assert(share[1] > 0.5 && share[1] > share[0] + 0.5);
    ck_assert(step[1] < step[0]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timeline");
    TCase *tc = tcase_create("timeline");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, bubbles, 0, (int)(sizeof rows / sizeof *rows));
    tcase_add_test(tc, moves_take_time);
    tcase_add_loop_test(tc, order_is_kept, 0, (int)(sizeof strategies / sizeof *strategies));
    tcase_add_test(tc, units_of_a_stage);
    tcase_add_test(tc, update_and_collectives);
    tcase_add_test(tc, stages);
    tcase_add_test(tc, experts_are_hidden);
    suite_add_tcase(s, tc);
    return suite_run(s);
}
