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
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":1,\"placement\":\"two-way\"},{\"op\":\"schedule\","
                   "\"kind\":\"dualpipe\",\"microbatches\":4}]" },
    { MODEL_DROPLESS, "[{\"op\":\"layout\",\"dp\":2,\"ep\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                      "\"microbatches\":2},{\"op\":\"recompute\",\"filter\":{},\"received\":\"again\"}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\","
                 "\"microbatches\":2},{\"op\":\"recompute\",\"filter\":{\"EP\":\"*\"},\"received\":\"again\"}]" },
    { MODEL_DROPLESS, "[{\"op\":\"layout\",\"dp\":2,\"ep\":2,\"expert_bound\":1,\"overflow\":\"rounds\"},{\"op\":"
                      "\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_DROPLESS, "[{\"op\":\"layout\",\"dp\":2,\"ep\":2,\"zero\":2,\"expert_bound\":1,\"overflow\":\"rounds\"},"
                      "{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_DROPLESS, "[{\"op\":\"layout\",\"dp\":4,\"ep\":2,\"zero\":2,\"expert_bound\":1,\"overflow\":\"rounds\"},"
                      "{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":2}]" },
    { MODEL_DROPLESS, "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"expert_bound\":1,\"overflow\":\"rounds\"},"
                      "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":2},{\"op\":\"recompute\",\"filter\":{},"
                      "\"received\":\"again\"}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"cp\":2,\"dp\":1,\"ep\":2,\"expert_bound\":1,\"overflow\":\"rounds\"}]" },
    { MODEL_FROZEN, "[{\"op\":\"layout\",\"dp\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"placement\":\"two-way\"},{\"op\":\"schedule\","
                 "\"kind\":\"dualpipe\",\"microbatches\":4,\"peak\":1000}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"zero\":2},{\"op\":\"schedule\","
                 "\"kind\":\"1f1b\",\"microbatches\":2,\"peak\":1000}]" },
    { MODEL_TIES, "[{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                  "\"microbatches\":2}]" },
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"dp\":2,\"zero\":1}]" },
    { MODEL_MOE, "[{\"op\":\"layout\",\"dp\":2,\"ep\":2}]" },
};
enum { N_JOBS = sizeof jobs / sizeof *jobs, UNCLIPPED = N_JOBS - 2, MOST = 200 }; /* the last two */

/* Are the plans of a job accepted, where b stands for that of a class? */
static bool accepted(const struct compiled *c, uint32_t cls, struct plan_builder *b, struct err *e)
{
    uint64_t bytes;
    void *blob = plan_build(b, &bytes);
    struct plan *plans = mem_alloc(c->out.n_classes * sizeof *plans);
    memcpy(plans, c->plans, c->out.n_classes * sizeof *plans);
    enum status st = plan_open(blob, bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[cls], e);
    if (st == ST_OK)
        st = sched_check(plans, c->out.n_classes, &c->g, &ir_target_cpu, e);
    mem_free(plans);
    mem_free(blob);
    return st == ST_OK;
}

/* What the checks say of variant nth of an example in the plan of a class; false: there is no such variant. */
static bool try_variant(const struct compiled *c, const char *strategy, uint32_t cls, const struct mutant *x,
                        uint32_t nth, struct err *e)
{
    struct plan_builder b;
    plan_unpack(&c->plans[cls], &b);
    const bool there = x->apply(c, &b, nth);
    if (there)
        ck_assert_msg(!accepted(c, cls, &b, e), "%s, variant %u of class %u of %s: accepted", x->name, nth, cls,
                      strategy);
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
    static const struct mutant *const tables[] = { mutants_of_programs, mutants_of_rounds, mutants_of_rules,
                                                   mutants_of_share, mutants_of_zero };
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

/* ---- every operation, and each of its bases ----------------------------------------------------------------------- */

/* Of an instruction: it is left out, comes twice, has fewer elements, is of another microbatch or thing; or one field of a base is changed. */
enum way {
    LEFT_OUT,
    TWICE,
    FEWER,
    OTHER_MICROBATCH,
    OTHER_THING,
    OF_BASES,
    READS = OF_BASES,
    WRITES,
    OWN,
    PART,
    FIRST,
    LATER,
    EARLIER,
    OTHER_BUFFER,
    OTHER_ARENA,
    WAYS
};
static const char *const way_names[WAYS] = { "left out",     "twice",     "fewer",        "other microbatch",
                                             "other thing",  "read bit",  "write bit",    "own bit",
                                             "part bit",     "first",     "a unit later", "unit earlier",
                                             "other buffer", "next arena" };

/* False: there is nothing to change. */
static bool change(struct plan_builder *b, uint32_t instr, uint32_t base, enum way way)
{
    struct plan_instr *in = &b->instrs.at[instr];
    struct plan_base *x = &b->bases.at[in->first_base + base];
    if (way < OF_BASES ? base > 0 : in->n_bases == 0)
        return false;
    switch (way) {
    case LEFT_OUT:
        return mutant_drop(b, instr);
    case TWICE: /* copies of what is there change nothing */
        if (in->op != PLAN_RUN && in->op != PLAN_ADD && in->op != PLAN_ALL_REDUCE && in->n_bases > 0)
            return false;
        return mutant_repeat(b, instr);
    case FEWER:
        in->count /= 2;
        return in->op != PLAN_RUN && in->count > 0;
    case OTHER_MICROBATCH:
        in->mb ^= 1;
        return in->op == PLAN_RUN || in->op == PLAN_LOAD;
    case OTHER_THING:
        in->what++;
        return in->op != PLAN_SCALARS;
    case READS:
    case WRITES:
    case OWN:
    case PART:
        x->access ^= (uint16_t)(1u << (way - READS));
        return true;
    case FIRST:
        x->first ^= 1;
        return true;
    case LATER:
        x->offset += ir_target_cpu.alignment;
        return true;
    case EARLIER:
        x->offset -= ir_target_cpu.alignment;
        return true;
    case OTHER_BUFFER:
        x->buffer++;
        return true;
    default:
        x->arena = (uint8_t)((x->arena + 1) % ARENA_COUNT);
        return true;
    }
}

/* Instruction number nth, counted round, of an operation that has such a base; PLAN_NONE: there is none. */
static uint32_t nth_of(const struct plan_builder *b, uint32_t op, uint32_t base, uint32_t nth)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->instrs.n; i++)
        n += b->instrs.at[i].op == op && (!base || base < b->instrs.at[i].n_bases);
    nth = n ? nth % n : 0;
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == op && (!base || base < b->instrs.at[i].n_bases) && nth-- == 0)
            return i;
    return PLAN_NONE;
}

/* Changes an instruction of each operation, and each of its bases; another instruction for each class, job and way. Each of them is
 * refused. hits: by operation. */
static void try_operations(const struct compiled *c, uint32_t job, uint32_t cls, uint32_t hits[PLAN_OP_COUNT])
{
    enum { BASES = 4 };
    for (uint32_t nth = 0; nth < PLAN_OP_COUNT * BASES * WAYS; nth++) {
        const uint32_t op = nth / (BASES * WAYS), base = nth / WAYS % BASES, way = nth % WAYS;
        struct plan_builder b;
        struct err e = { 0 };
        if ((job + way) % 2) /* the others with the next job */
            continue;
        plan_unpack(&c->plans[cls], &b);
        const uint32_t i = nth_of(&b, op, base, 7 * job + 3 * cls + way);
        if (i != PLAN_NONE && change(&b, i, base, (enum way)way)) {
            ck_assert_msg(!accepted(c, cls, &b, &e), "instruction %u %s, base %u, %s, class %u of %s: accepted", i,
                          plan_op_name((enum plan_op)op), base, way_names[way], cls, jobs[job].strategy);
            hits[op]++;
        }
        plan_builder_release(&b);
    }
}

START_TEST(test_every_operation)
{
    uint32_t hits[PLAN_OP_COUNT] = { 0 };
    for (uint32_t j = 0; j < N_JOBS; j++)
        for (uint32_t cls = 0; cls < compiled[j].out.n_classes; cls++) {
            struct plan_builder b;
            struct err e = { 0 };
            plan_unpack(&compiled[j].plans[cls], &b);
            ck_assert_msg(accepted(&compiled[j], cls, &b, &e), "%s: %s", jobs[j].strategy, e.text);
            plan_builder_release(&b);
            try_operations(&compiled[j], j, cls, hits);
        }
    for (uint32_t op = 0; op < PLAN_OP_COUNT; op++)
        ck_assert_msg(hits[op] >= 8, "%s was changed %u times", plan_op_name((enum plan_op)op), hits[op]);
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
    tcase_add_test(t, test_every_operation);
    suite_add_tcase(s, t);
    return suite_run(s);
}
