/* Plans that were accepted once though they computed something else, or stopped a run with the wrong advice: each is refused, by the rule
 * that is about it. An example is a way to change a compiled plan; it is tried wherever the plan has such a thing, and no place of it may
 * pass. Random single-field mutants, run where they are accepted: tests/mutants. */
#include "mutants.h"
#include "tests/unit/suite.h"

/* ---- jobs ------------------------------------------------------------------------------------------------------- */

static const struct job {
    enum compiled_model model;
    const char *strategy;
} jobs[] = {
    { MODEL_LLAMA,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_GPT2,
      "[{\"op\":\"layout\",\"dp\":4,\"zero\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":2},{\"op\":\"schedule\",\"kind\":\"1f1b\","
                   "\"microbatches\":2},{\"op\":\"recompute\",\"filter\":{}}]" },
    { MODEL_GPT2,
      "[{\"op\":\"layout\",\"dp\":2,\"zero\":3},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_MOE,
      "[{\"op\":\"layout\",\"dp\":4,\"ep\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_MOE,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_GPT2, "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":2,\"zero\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                  "\"microbatches\":2}]" },
    { MODEL_LLAMA,
      "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA,
      "[{\"op\":\"layout\",\"pp\":2,\"tp\":4,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"cp\":2,\"dp\":1,\"order\":\"contiguous\",\"keep\":\"whole\"}]" },
    { MODEL_GPT2, "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":1,\"exchange\":\"all-to-all\"}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":1,\"exchange\":\"ring\"},{\"op\":\"schedule\","
                   "\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"tp\":2,\"dp\":2,\"vocab\":true},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                   "\"microbatches\":2}]" },
    { MODEL_GPT2, "[{\"op\":\"layout\",\"pp\":2,\"tp\":2,\"dp\":2,\"vocab\":true,\"zero\":1},{\"op\":\"schedule\","
                  "\"kind\":\"1f1b\",\"microbatches\":2}]" },
    { MODEL_GPT2, "[{\"op\":\"layout\",\"dp\":4,\"zero\":1,\"zero_group\":2,\"reduce\":\"each\"},{\"op\":\"schedule\","
                  "\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"zero\":3,\"zero_group\":2,\"zero_optimizer\":\"all\"},"
                   "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":2}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"dp\":8,\"ep\":2,\"zero\":2,\"zero_group\":4},{\"op\":\"schedule\","
                 "\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_BRANCH, "[{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]" },
    { MODEL_BRANCH,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_DROPLESS,
      "[{\"op\":\"layout\",\"dp\":2,\"ep\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"cp\":2,\"dp\":1,\"ep\":2},{\"op\":\"recompute\",\"filter\":{\"PP\":0}}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"tp\":2,\"dp\":2,\"ep\":4},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                 "\"microbatches\":2}]" },
    { MODEL_MOE,
      "[{\"op\":\"replicate\",\"filter\":{\"PP\":0},\"rotate\":[[0,1],[2,3]],\"zero\":1},{\"op\":\"replicate\","
      "\"filter\":{\"PP\":1},\"rotate\":[[2,3],[0,1]]},{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2},"
      "{\"op\":\"shard\",\"filter\":{\"PP\":0,\"EP\":\"*\",\"MB\":0},\"devices\":[0,1]},"
      "{\"op\":\"shard\",\"filter\":{\"PP\":0,\"EP\":\"*\",\"MB\":1},\"devices\":[2,3]},"
      "{\"op\":\"shard\",\"filter\":{\"PP\":1,\"EP\":\"*\",\"MB\":0},\"devices\":[2,3]},"
      "{\"op\":\"shard\",\"filter\":{\"PP\":1,\"EP\":\"*\",\"MB\":1},\"devices\":[0,1]}]" },
    { MODEL_OLMO2, "[{\"op\":\"layout\",\"tp\":2,\"dp\":2,\"zero\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                   "\"microbatches\":2},{\"op\":\"recompute\",\"filter\":{}}]" },
    { MODEL_OLMO2,
      "[{\"op\":\"layout\",\"pp\":2,\"tp\":2,\"dp\":2,\"tp_stream\":\"default_stream\"},{\"op\":\"schedule\","
      "\"kind\":\"1f1b\",\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"dp\":2,\"zero\":1}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"dp\":2,\"ep\":2}]" },
};
enum { N_JOBS = sizeof jobs / sizeof *jobs, UNCLIPPED = N_JOBS - 2, MOST = 200 }; /* the last two */

/* What the checks say of variant nth of an example in the plan of a class; false: there is no such variant. */
static bool try_variant(const struct compiled *c, const char *strategy, uint32_t cls, const struct mutant *x,
                        uint32_t nth, struct err *e)
{
    struct plan_builder b;
    uint64_t bytes;
    plan_unpack(&c->plans[cls], &b);
    const bool there = x->apply(c, &b, nth);
    if (there) {
        void *blob = plan_build(&b, &bytes);
        struct plan *plans = mem_alloc(c->out.n_classes * sizeof *plans);
        memcpy(plans, c->plans, c->out.n_classes * sizeof *plans);
        if (plan_open(blob, bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[cls], e) == ST_OK)
            ck_assert_msg(sched_check(plans, c->out.n_classes, &c->g, &ir_target_cpu, e) != ST_OK,
                          "%s, variant %u of class %u of %s: accepted", x->name, nth, cls, strategy);
        mem_free(plans);
        mem_free(blob);
    }
    plan_builder_release(&b);
    return there;
}

static struct compiled compiled[N_JOBS];

static void compile(void)
{
    for (int j = 0; j < N_JOBS; j++)
        compiled_clipped(&compiled[j], jobs[j].model, jobs[j].strategy, false, j < UNCLIPPED);
}

static void release(void)
{
    for (int j = 0; j < N_JOBS; j++)
        compiled_release(&compiled[j]);
}

/* Of all tables, one behind the other; NULL: there are not so many. */
static const struct mutant *mutant_number(uint32_t nth)
{
    static const struct mutant *const tables[] = { mutants_of_programs, mutants_of_zero, mutants_of_share };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const struct mutant *x = tables[i]; x->name; x++)
            if (nth-- == 0)
                return x;
    return NULL;
}

START_TEST(test_example)
{
    const struct mutant *x = mutant_number((uint32_t)_i);
    uint32_t variants = 0, by_rule = 0;
    char rule[64], said[sizeof((struct err *)0)->text] = "";
    snprintf(rule, sizeof rule, "rule %s: ", x->rule);
    for (int j = 0; j < N_JOBS; j++)
        for (uint32_t cls = 0; cls < compiled[j].out.n_classes; cls++)
            for (uint32_t nth = 0; nth < MOST; nth++) {
                struct err e = { 0 };
                if (!try_variant(&compiled[j], jobs[j].strategy, cls, x, nth, &e))
                    break;
                variants++;
                by_rule += strstr(e.text, rule) != NULL;
                snprintf(said, sizeof said, "%s", e.text);
            }
    ck_assert_msg(variants >= x->least, "%s: %u variants, expected %u", x->name, variants, x->least);
    ck_assert_msg(by_rule > 0, "%s: never refused by rule %s, but: %s", x->name, x->rule, said);
}
END_TEST

int main(void)
{
    int n = 0;
    while (mutant_number((uint32_t)n))
        n++;
    Suite *s = suite_create("mutants");
    TCase *t = tcase_create("mutants");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, compile, release);
    tcase_add_loop_test(t, test_example, 0, n);
    suite_add_tcase(s, t);
    return suite_run(s);
}
