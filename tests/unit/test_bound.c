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
    b->job = (struct bound_job){
        &b->g, &b->machine,          target, ranks, 32, device ? IR_BF16 : IR_F32, OPT_ADAMW, machine != 3,
        true,  b->machine.comm_units
    };
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

/* What a family has in common is not above what any of its candidates is bounded by, and the same for all that it is said to be the same for. */
static void hold_family(struct bench *b, const struct bound_shape *s)
{
    struct bound_shape other = *s;
    other.zero = s->zero ? 1 : 0;
    other.vocab = false;
    const double kernels = bound_kernels(b->search.bound, s), passes = bound_passes(b->search.bound, s);
    ck_assert_double_le(kernels, bound_compute(b->search.bound, s));
    ck_assert_double_le(passes, bound_order(b->search.bound, s) * (1 + 1e-12));
    ck_assert_double_eq(passes, bound_passes(b->search.bound, &other));
    other.zero_group = 0;
    ck_assert_double_eq(kernels, bound_kernels(b->search.bound, &other));
}

/* Bounds that share what other shapes have left behind are those of a shape alone. */
static void hold_alone(struct bench *b, const struct bound_shape *s)
{
    struct bound *alone = bound_new(&b->job);
    double shared_by[MEM_KINDS], by[MEM_KINDS];
    ck_assert_double_eq(bound_order(b->search.bound, s), bound_order(alone, s));
    ck_assert_double_eq(bound_links(b->search.bound, s), bound_links(alone, s));
    ck_assert_double_eq(bound_compute(b->search.bound, s), bound_compute(alone, s));
    ck_assert_double_eq(bound_memory(b->search.bound, s, shared_by), bound_memory(alone, s, by));
    ck_assert_mem_eq(shared_by, by, sizeof by);
    bound_free(alone);
}

struct seen {
    uint32_t n, wrong, refused, shared, sharded, again, peaks, whole, longer, leaner, kinds;
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
    b->search.memory = seen->n % 2 ? 1e18
                                   : 0; /* as much as the fastest order takes, or no more than with every B whole */
    if (!tune_evaluate(&b->search, s, true, &r, &e)) {
        seen->refused++;
        if (getenv("WHY"))
            printf("# refused: %s\n", e.text);
        return;
    }
    const double above = 1 + 1e-6; /* predicted times are float */
    hold_family(b, s);
    hold_alone(b, s);
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
    seen->peaks += r.shape.peak > 0;
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
                struct bound_shape s = tune_space_shape(&b.space, next(&state) % b.space.candidates);
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
    ck_assert_uint_gt(seen.peaks, times / 8);
    ck_assert_uint_gt(seen.whole, times);
    ck_assert_uint_gt(seen.leaner, times / 2);
    ck_assert_uint_gt(seen.longer, times / 2);
    ck_assert_uint_eq(seen.kinds, (1u << 9) - 1);
    ck_assert_double_gt(seen.order / seen.n, 0.5);
    ck_assert_double_gt(seen.memory / seen.n, 0.4);
    ck_assert_double_gt(seen.links, 0.3);
}
END_TEST

/* Of all candidates of a start. */
static void hold_all(enum compiled_model model, uint32_t ranks, int machine, const char *start, struct seen *seen)
{
    struct bench b;
    bench_init(&b, model, ranks, machine, false, start);
    for (uint32_t i = 0; i < b.space.candidates; i++) {
        const struct bound_shape s = tune_space_shape(&b.space, i);
        hold(&b, &s, seen);
    }
    bench_release(&b);
}

/* A tied table is held by two stages, which may shard its state together. */
START_TEST(below_what_a_table_takes)
{
    struct seen seen = { 0 };
    for (uint32_t ranks = 2; ranks <= 4; ranks += 2)
        hold_all(MODEL_TABLE, ranks, 0,
                 "[{\"op\":\"layout\",\"pp\":2,\"zero\":{\"in\":[0,1]}},"
                 "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":16}]",
                 &seen);
    ck_assert_uint_eq(seen.wrong, 0);
    ck_assert_uint_ge(seen.n, 3);
    ck_assert_double_gt(seen.memory / seen.n, 0.7);
}
END_TEST

/* A gradient is passed on before the BW of several layers. */
START_TEST(below_what_one_backward_takes)
{
    struct seen seen = { 0 };
    for (int i = 0; i < 2; i++) /* without memory to spare, and with it */
        hold_all(MODEL_DROPLESS, 8, 3,
                 "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"cp\":2,\"ep\":4,\"bucket_size\":256,\"expert_bound\":1.25},"
                 "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":1}]",
                 &seen);
    ck_assert_uint_eq(seen.wrong, 0);
    ck_assert_uint_eq(seen.n, 2);
    ck_assert_double_gt(seen.order / seen.n, 0.7);
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
    for (uint32_t i = 0; i < b.space.candidates; i++) {
        const struct bound_shape s = tune_space_shape(&b.space, i);
        found[0] |= UINT64_C(1) << s.microbatches;
        found[1] |= UINT64_C(1) << s.zero_group;
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

/* Families have every candidate once, in the order of their numbers, and differ in what a family has in common. */
START_TEST(families_are_all)
{
    struct bench b;
    uint32_t n = 0, with = 0;
    bench_init(&b, MODEL_DROPLESS, 8, 0, false, everything);
    for (uint32_t f = 0; f < b.space.families.n; f++) {
        const struct tune_family *at = &b.space.families.at[f];
        ck_assert_uint_eq(at->first, n);
        for (uint32_t v = 0; v < tune_family_variants(&b.space, at)->n; v++, n++) {
            const struct bound_shape s = tune_space_shape(&b.space, n), same = tune_family_shape(&b.space, at, v);
            char text[TUNE_TEXT], same_text[TUNE_TEXT];
            ck_assert_str_eq(tune_shape_text(&s, text), tune_shape_text(&same, same_text));
            ck_assert_ptr_null(bound_refuse(b.search.bound, &s, text));
            ck_assert(s.pp == at->shape.pp && s.kind == at->shape.kind && s.recompute == at->shape.recompute);
        }
        with += at->shape.recompute && f && !at[-1].shape.recompute && at[-1].shape.kind == at->shape.kind;
    }
    ck_assert_uint_eq(n, b.space.candidates);
    ck_assert_uint_eq(2 * with, b.space.families.n);
    ck_assert_uint_gt(n, 4 * b.space.families.n);
    bench_release(&b);
}
END_TEST

/* A search by families drops as many as there are, each by a rule, and what it leaves at its limit is bounded. */
START_TEST(counts_are_all)
{
    struct bench b;
    uint32_t sum = 0, whole = 0;
    double least = INFINITY;
    bench_init(&b, MODEL_DROPLESS, 8, 1, false, everything);
    b.search.limit = 12;
    for (uint32_t i = 0; i < b.space.candidates; i++) {
        const struct bound_shape s = tune_space_shape(&b.space, i);
        double by_kind[MEM_KINDS];
        b.search.memory += bound_memory(b.search.bound, &s, by_kind) / b.space.candidates;
    }
    tune_search_run(&b.search);
    for (int r = 0; r < TUNE_RULES; r++)
        sum += b.search.counts[r];
    ck_assert_uint_eq(sum, b.space.candidates);
    ck_assert_uint_eq(b.search.counts[TUNE_OPEN], 0);
    for (uint32_t f = 0; f < b.space.families.n; f++) {
        whole += b.search.parts[f].at == NULL;
        for (uint32_t v = 0; v < tune_family_variants(&b.space, &b.space.families.at[f])->n; v++) {
            const struct tune_candidate *c = tune_search_at(&b.search, f, v);
            const struct bound_shape s = tune_family_shape(&b.space, &b.space.families.at[f], v);
            least = c->rule == TUNE_LIMIT ? fmin(least, c->bound) : least;
            if (c->rule == TUNE_LIMIT || c->rule == TUNE_COMPUTE || c->rule == TUNE_ORDER)
                ck_assert_double_le(c->bound,
                                    fmax(bound_compute(b.search.bound, &s),
                                         fmax(bound_order(b.search.bound, &s), bound_links(b.search.bound, &s))) *
                                        (1 + 1e-12));
        }
    }
    printf("# %u of %u families dropped or left as a whole\n", whole, b.space.families.n);
    ck_assert_uint_gt(whole, b.space.families.n / 10);
    ck_assert_uint_lt(whole, b.space.families.n);
    ck_assert_uint_gt(b.search.counts[TUNE_MEMORY], 0);
    ck_assert_double_eq(least, b.search.least_left);
    bench_release(&b);
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
    enum { BEST = 8 };
    struct bench b;
    bench_init(&b, model, ranks, machine, false, start);
    const uint32_t n = b.space.candidates;
    struct tune_result *all = mem_alloc(n * sizeof *all);
    double *steps = mem_alloc(n * sizeof *steps), most = 0, least = INFINITY;
    uint32_t good = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct err e = { 0 };
        const struct bound_shape shape = tune_space_shape(&b.space, i);
        if (!tune_evaluate(&b.search, &shape, true, &all[i], &e)) {
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
    ck_assert(isinf(b.search.least_left)); /* nothing was left over */
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
    ck_assert_uint_eq(b.search.n_order, b.space.candidates);
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
    tcase_add_test(c, below_what_a_table_takes);
    tcase_add_test(c, below_what_one_backward_takes);
    tcase_add_test(c, open_keys);
    tcase_add_test(c, families_are_all);
    tcase_add_test(c, counts_are_all);
    tcase_add_test(c, finds_the_best);
    tcase_add_test(c, orders_results);
    suite_add_tcase(s, c);
    return suite_run(s);
}
