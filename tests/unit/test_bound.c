/* The bounds of src/tune's search: never above what the compiler plans and the simulator predicts; and the search: what it drops is no
 * better than what it finds. */
#include <math.h>

#include "compiled.h"
#include "ir/freeze.h"
#include "tune/search.h"
#include "tests/unit/suite.h"

static const char everything[] =
    "[{\"op\":\"layout\",\"pp\":\"?\",\"ep\":\"?\",\"tp\":{\"in\":[1,2,4]},\"cp\":{\"in\":[1,2]},\"zero\":\"?\",\"zero_"
    "group\":\"?\","
    "\"vocab\":\"?\",\"bucket_size\":\"?\",\"expert_bound\":{\"in\":[1.25,2,64]}},"
    "{\"op\":\"schedule\",\"kind\":\"?\",\"microbatches\":\"?\",\"backward\":\"?\"},{\"op\":\"recompute\",\"filter\":"
    "\"?\"}]";

/* Machines that differ in what bounds may get wrong: rings and pairs, links faster and slower than computing, points, contention. */
enum { MACHINES = 5 };
static void machine_of(int kind, struct machine *m)
{
    machine_generic(m);
    m->ranks_per_node = 4;
    if (kind == 1) { /* links decide */
        m->ring = 1;
        for (int l = 0; l < LINK_COUNT; l++)
            m->links[l] = (struct machine_links){ 1e-7, 2e8 / (l + 1), l ? 3e8 : 0 };
    }
    if (kind == 2) { /* kernels by points, and all slows all down */
        m->ring = 0;
        m->units = 0;
        m->compute_beside = m->transfer_beside = 0.6;
        for (uint32_t op = 0; op < IR_OP_GRAPH_COUNT; op++)
            for (int pass = IR_PASS_F; pass <= IR_PASS_BW; pass++)
                for (int i = 0; i < 4; i++)
                    vec_add(&m->points,
                            ((struct machine_point){ op, (uint32_t)pass, IR_F32, i % 2 ? 64 : 4, i < 2 ? 1e3 : 1e5,
                                                     (i < 2 ? 1e-6 : 2e-5) * (i % 2 ? 1 : 2.5) }));
        machine_sort(m);
    }
    if (kind == 3) { /* computing decides */
        m->flops[0] = m->flops[1] = 1e9;
        m->bandwidth = 1e9;
        m->launch = 0;
    }
    if (kind == 4) { /* latency decides */
        m->launch = 1e-9;
        for (int l = 0; l < LINK_COUNT; l++)
            m->links[l] = (struct machine_links){ 1e-4, 1e12, 0 };
    }
}

struct bench {
    int kind;
    struct ir_graph g;
    struct machine machine;
    struct bound_job job;
    struct tune_start start;
    struct tune_space space;
    struct tune_search search;
};

static void bench_init(struct bench *b, enum compiled_model model, uint32_t ranks, int machine, bool device,
                       const char *start)
{
    struct err e = { 0 };
    *b = (struct bench){ .kind = machine, .search = { .best = 1, .limit = UINT32_MAX } };
    compiled_graph(model, &b->g);
    if (machine == 4) /* not in all models */
        ir_freeze(&b->g, "model.layers.[01].*");
    machine_of(machine, &b->machine);
    json_t *doc = compiled_json(start);
    ck_assert_msg(tune_start_read(doc, "start.json", &b->start, &e) == ST_OK, "%s", e.text);
    json_decref(doc);
    const struct ir_target *target = device ? &ir_target_cuda : &ir_target_cpu;
    b->job = (struct bound_job){ &b->g,     &b->machine,  target, ranks, 32, device ? IR_BF16 : IR_F32,
                                 OPT_ADAMW, machine != 3, true };
    b->search.bound = bound_new(&b->job);
    ck_assert_msg(tune_space_make(&b->start, &b->job, b->search.bound, &b->space, &e) == ST_OK, "%s", e.text);
    b->search.space = &b->space;
    b->search.in = (struct sched_input){ .graph = &b->g,
                                         .strategy_name = "strategy.json",
                                         .ranks = ranks,
                                         .batch_size = b->job.batch_size,
                                         .compute = b->job.compute,
                                         .clip = b->job.clip,
                                         .snapshot = true,
                                         .target = target,
                                         .comm_scratch = 1 << 20,
                                         .machine = &b->machine };
}

static void bench_release(struct bench *b)
{
    tune_search_release(&b->search);
    tune_space_release(&b->space);
    bound_free(b->search.bound);
    tune_start_release(&b->start);
    machine_release(&b->machine);
    ir_graph_release(&b->g);
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

struct seen {
    uint32_t n, wrong, refused, shared, sharded, again, whole, longer, leaner, kinds;
    double compute, order, links, memory; /* means of bound by fact; links: the greatest */
};

/* With whole backwards bubbles come back, and no BW waits: no bound of memory is above that with them split. */
static void hold_whole(struct bench *b, const struct bound_shape *s, struct seen *seen)
{
    struct bound_shape split = *s;
    double by_kind[MEM_KINDS];
    split.backward = 0;
    const double whole_bytes = bound_memory(b->search.bound, s, by_kind),
                 split_bytes = bound_memory(b->search.bound, &split, by_kind);
    ck_assert_double_le(whole_bytes, split_bytes);
    seen->whole++;
    seen->leaner += whole_bytes < split_bytes;
    seen->longer += bound_order(b->search.bound, s) > bound_order(b->search.bound, &split);
}

/* Of one shape. */
static void hold(struct bench *b, const struct bound_shape *s, struct seen *seen)
{
    char text[TUNE_TEXT];
    struct tune_result r;
    struct err e = { 0 };
    double by_kind[MEM_KINDS];
    if (!tune_evaluate(&b->search, s, &r, &e)) {
        seen->refused++;
        if (getenv("WHY"))
            printf("# refused: %s\n", e.text);
        return;
    }
    const double above = 1 + 1e-6; /* predicted times are float */
    tune_shape_text(s, text);
    const double compute = bound_compute(b->search.bound, s), order = bound_order(b->search.bound, s),
                 links = bound_links(b->search.bound, s), memory = bound_memory(b->search.bound, s, by_kind);
    const struct {
        const char *name;
        double bound, fact;
    } all[] = { { "compute", compute, r.step * above },
                { "order", order, r.step * above },
                { "links", links, r.step * above },
                { "memory", memory, r.need } };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].bound > all[i].fact) {
            seen->wrong++;
            printf("# %s %.9g, fact %.9g: %s, machine %d: %s\n", all[i].name, all[i].bound, all[i].fact, b->g.family,
                   b->kind, text);
        }
    seen->n++;
    seen->shared += s->tp * s->cp > 1;
    seen->sharded += s->ep > 1;
    seen->again += s->again;
    if (s->backward)
        hold_whole(b, s, seen);
    seen->kinds |= 1u << s->kind;
    seen->compute += compute / r.step;
    seen->order += order / r.step;
    seen->links = fmax(seen->links, links / r.step);
    seen->memory += memory / r.need;
}

START_TEST(below_what_is_planned)
{
    static const uint32_t ranks[] = { 1, 2, 4, 8, 16, 12 };
    const char *more = getenv("BOUND_TESTS");
    const uint32_t times = more ? (uint32_t)atoi(more) : 12;
    struct seen seen = { 0 };
    const char *seed = getenv("BOUND_SEED");
    uint32_t state = seed ? (uint32_t)atoi(seed) : 7;
    for (int model = 0; model < 4; model++)
        for (int machine = 0; machine < MACHINES; machine++) {
            struct bench b;
            bench_init(&b, (const enum compiled_model[]){ MODEL_LLAMA, MODEL_GPT2, MODEL_MOE, MODEL_DROPLESS }[model],
                       ranks[next(&state) % 6], machine, machine == 1, everything);
            for (uint32_t i = 0; i < times; i++) {
                struct bound_shape s = b.space.shapes.at[next(&state) % b.space.shapes.n];
                s.again = s.recompute && s.ep > 1 && i % 2;
                hold(&b, &s, &seen);
            }
            bench_release(&b);
        }
    printf("# %u shapes, %u refused by the compiler; means of bound by fact: compute %.2f, order %.2f, memory %.2f; "
           "links at most %.2f\n",
           seen.n, seen.refused, seen.compute / seen.n, seen.order / seen.n, seen.memory / seen.n, seen.links);
    fflush(stdout); /* what fails ends this process at once */
    ck_assert_uint_eq(seen.wrong, 0);
    ck_assert_uint_gt(seen.n, times * 10);
    ck_assert_uint_gt(seen.shared, times);
    ck_assert_uint_gt(seen.sharded, times / 2);
    ck_assert_uint_gt(seen.again, times / 8);
    ck_assert_uint_gt(seen.whole, times);
    ck_assert_uint_gt(seen.leaner, times / 2);
    ck_assert_uint_gt(seen.longer, times / 2);
    ck_assert_uint_eq(seen.kinds, (1u << 9) - 1);
    ck_assert_double_gt(seen.order / seen.n, 0.5);
    ck_assert_double_gt(seen.memory / seen.n, 0.4);
    ck_assert_double_gt(seen.links, 0.3);
}
END_TEST

/* The manual's words for open keys: microbatches of 1, 2, 4, 8 and 16 sequences, and one; a zero group of the ranks of a node, where there are
 * more. Bits by value. */
static void check_open(uint32_t ranks, uint64_t microbatches, uint64_t zero_groups)
{
    struct bench b;
    uint64_t found[2] = { 0, 0 };
    bench_init(&b, MODEL_LLAMA, ranks, 0, false,
               "[{\"op\":\"layout\",\"pp\":1,\"zero\":\"?\",\"zero_group\":\"?\"},"
               "{\"op\":\"schedule\",\"kind\":\"?\",\"microbatches\":\"?\"}]");
    for (uint32_t i = 0; i < b.space.shapes.n; i++) {
        found[0] |= UINT64_C(1) << b.space.shapes.at[i].microbatches;
        found[1] |= UINT64_C(1) << b.space.shapes.at[i].zero_group;
    }
    ck_assert_uint_eq(found[0], microbatches);
    ck_assert_uint_eq(found[1], zero_groups);
    bench_release(&b);
}
START_TEST(open_keys) /* 32 sequences, 4 ranks a node */
{
    const uint64_t one = 1;
    check_open(1, one << 32 | one << 16 | one << 8 | one << 4 | one << 2 | one << 1, one);
    check_open(4, one << 8 | one << 4 | one << 2 | one << 1, one);
    check_open(8, one << 4 | one << 2 | one << 1, one | one << 4);
}
END_TEST

static int by_step(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Results come by their step; of equal steps the one that needs less memory is first, as the manual says. Returns how many are equal. */
static uint32_t check_order(const struct tune_search *s)
{
    uint32_t equal = 0;
    for (uint32_t i = 1; i < s->n_order; i++) {
        const struct tune_result *x = &s->results.at[s->order[i - 1]], *y = &s->results.at[s->order[i]];
        ck_assert(x->step < y->step || (x->step == y->step && x->need <= y->need));
        equal += x->step == y->step && x->need < y->need;
    }
    return equal;
}

/* Compiles every candidate by itself: the search finds the best of those that fit, though it compiles few. Adds to what it has, compiles, and
 * audits. */
static void find_best(uint32_t seen[3], enum compiled_model model, uint32_t ranks, int machine, double part_of_memory)
{
    static const char start[] = "[{\"op\":\"layout\",\"pp\":\"?\",\"zero\":{\"in\":[1,3]}},"
                                "{\"op\":\"schedule\",\"kind\":\"?\",\"microbatches\":\"?\",\"backward\":\"?\"},"
                                "{\"op\":\"recompute\",\"filter\":\"?\"}]";
    enum { BEST = 3 };
    struct bench b;
    bench_init(&b, model, ranks, machine, false, start);
    const uint32_t n = b.space.shapes.n;
    struct tune_result *all = mem_alloc(n * sizeof *all);
    double *steps = mem_alloc(n * sizeof *steps), most = 0, least = INFINITY;
    uint32_t good = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct err e = { 0 };
        if (!tune_evaluate(&b.search, &b.space.shapes.at[i], &all[i], &e)) {
            all[i].need = INFINITY;
            continue;
        }
        most = fmax(most, all[i].need);
        least = fmin(least, all[i].need);
    }
    b.search.memory = least + part_of_memory * (most - least);
    b.search.best = BEST;
    for (uint32_t i = 0; i < n; i++)
        if (all[i].need <= b.search.memory)
            steps[good++] = all[i].step;
    qsort(steps, good, sizeof *steps, by_step);
    tune_search_run(&b.search);
    ck_assert_uint_ge(b.search.n_order, good < BEST ? good : BEST);
    for (uint32_t i = 0; i < BEST && i < good; i++)
        ck_assert_double_eq(b.search.results.at[b.search.order[i]].step, steps[i]);
    seen[0] += n;
    seen[1] += b.search.compiled;
    printf("# %u candidates, %u fit, %u compiled\n", n, good, b.search.compiled);
    check_order(&b.search);
    const struct tune_audit audit = tune_search_audit(&b.search, 10);
    ck_assert_uint_eq(audit.better, 0);
    seen[2] += audit.looked;
    mem_free(all);
    mem_free(steps);
    bench_release(&b);
}

START_TEST(finds_the_best)
{
    uint32_t seen[3] = { 0 };
    find_best(seen, MODEL_LLAMA, 4, 0, 1);
    find_best(seen, MODEL_LLAMA, 4, 3, 0.2);
    find_best(seen, MODEL_LLAMA, 4, 3, 0.02);
    find_best(seen, MODEL_DROPLESS, 4, 1, 0.5);
    find_best(seen, MODEL_GPT2, 2, 2, 0.5);
    ck_assert_uint_lt(2 * seen[1], seen[0]);
    ck_assert_uint_ge(seen[2], 30);
}
END_TEST

START_TEST(orders_results)
{
    struct bench b;
    bench_init(&b, MODEL_LLAMA, 4, 3, false,
               "[{\"op\":\"layout\",\"pp\":\"?\",\"zero\":{\"in\":[1,3]}},{\"op\":\"schedule\",\"kind\":\"?\","
               "\"microbatches\":2}]");
    b.search.best = UINT32_MAX;
    tune_search_run(&b.search);
    ck_assert_uint_eq(b.search.n_order, b.space.shapes.n);
    ck_assert_uint_gt(check_order(&b.search), 0);
    bench_release(&b);
}
END_TEST

START_TEST(names_rules)
{
    for (int r = 0; r < TUNE_RULES; r++)
        ck_assert_ptr_nonnull(tune_rule_name((enum tune_rule)r));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bound");
    TCase *c = tcase_create("bound");
    tcase_set_timeout(c, 0);
    tcase_add_test(c, names_rules);
    tcase_add_test(c, below_what_is_planned);
    tcase_add_test(c, open_keys);
    tcase_add_test(c, finds_the_best);
    tcase_add_test(c, orders_results);
    suite_add_tcase(s, c);
    return suite_run(s);
}
