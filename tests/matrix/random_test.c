/* Random strategies, in this process: legal ones compile, pass the checker and survive the text form of their plans; ones
 * with a mistake are refused, by name.
 *
 *   random_test                          what make check runs, as TAP
 *   random_test legal|illegal FIRST N    the same for other seeds; of illegal ones N of each kind
 *   random_test write SEED DIR           model.json, strategy.json, and on stdout: model ranks batch seq_len what
 *   random_test break SEED KIND          strategy, answer, and what was wanted */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/json.h"
#include "ir/family/family.h"
#include "random.h"
#include "sched/sched.h"

enum { LEGAL_SEEDS = 1500, ILLEGAL_EACH = 25, SHOWN = 20 };

static char current[128]; /* for what ends the process */

static void on_signal(int number)
{
    ssize_t n = write(STDOUT_FILENO, current, strlen(current));
    (void)n;
    signal(number, SIG_DFL);
    raise(number);
}

static void on_fail(const char *text)
{
    printf("%s# %s\n", current, text);
}

/* ---- compiling --------------------------------------------------------------------------------------------------- */

struct compiled {
    struct ir_graph g;
    const struct ir_target *target;
    struct sched_output out;
};

/* Settings vary with the seed: they are no part of the strategy. */
static enum status compile(const struct random_job *j, uint32_t ranks, struct compiled *c, struct err *e)
{
    struct notices notices;
    *c = (struct compiled){ .target = j->seed % 5 == 0 ? &ir_target_emulate : &ir_target_cpu };
    ir_graph_init(&c->g);
    notices_init(&notices);
    enum status st = ir_family_build(j->model.json, "model.json", j->model.seq_len, &c->g, &notices, e);
    notices_release(&notices);
    CHECK(st == ST_OK);
    struct sched_input in = {
        .graph = &c->g,
        .strategy = j->strategy,
        .strategy_name = "strategy.json",
        .ranks = ranks,
        .batch_size = j->model.batch,
        .compute = j->seed % 5 == 0 ? IR_BF16 : IR_F32,
        .optimizer = j->seed / 5 % 2,
        .clip = j->seed / 10 % 3 > 0,
        .eval = j->seed / 30 % 2,
        .snapshot = j->seed / 60 % 2,
        .target = c->target,
    };
    return sched_compile(&in, &c->out, e);
}

static void compiled_release(struct compiled *c)
{
    sched_output_release(&c->out);
    ir_graph_release(&c->g);
}

/* Prints a plan, parses the text, and compares. */
static enum status round_trip(const struct compiled *c, uint32_t i, void **again, struct err *e)
{
    struct plan p;
    char *text = NULL;
    size_t size;
    uint64_t bytes;
    TRY(plan_open(c->out.classes[i].blob, c->out.classes[i].bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &p, e));
    FILE *to = open_memstream(&text, &size);
    plan_print(&p, &c->g, to);
    fclose(to);
    enum status st = plan_parse(text, &c->g, again, &bytes, e);
    free(text);
    if (st == ST_OK && (bytes != c->out.classes[i].bytes || memcmp(*again, c->out.classes[i].blob, bytes) != 0))
        st = err_set(e, ST_BUG, NULL, "the plan of class %u is another after printing and parsing", i);
    return st;
}

static enum status verify(const struct compiled *c, struct err *e)
{
    uint32_t n = c->out.n_classes;
    struct plan *plans = mem_alloc(n * sizeof *plans);
    void **blobs = mem_alloc(n * sizeof *blobs);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < n && st == ST_OK; i++) {
        st = round_trip(c, i, &blobs[i], e);
        if (st == ST_OK)
            st = plan_open(blobs[i], c->out.classes[i].bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[i], e);
    }
    if (st == ST_OK)
        st = sched_check(plans, n, &c->g, c->target, e);
    for (uint32_t i = 0; i < n; i++)
        mem_free(blobs[i]);
    mem_free(blobs);
    mem_free(plans);
    return st;
}

/* ---- legal ------------------------------------------------------------------------------------------------------- */

/* What the strategies are to be made of, as pieces of their text. */
static const char *const features[] = {
    "\"place\"",
    "\"replicate\"",
    "\"shard\"",
    "\"split\"",
    "\"order\"",
    "\"recompute\"",
    "\"rotate\"",
    "\"op\":\"stream\"",
    "\"layout\"",
    "\"zero\":1",
    "\"zero\":2",
    "\"zero\":3",
    "\"zero_group\":2",
    "\"zero_optimizer\":\"all\"",
    "\"shard_grads\"",
    "\"shard_params\"",
    "\"reduce\":\"each\"",
    "\"reduce\":\"last\"",
    "\"prefetch\":0",
    "\"prefetch\":3",
    "\"bucket_size\":0.0",
    "\"bucket_size\":\"layer\"",
    "\"default_stream\"",
    "\"lanes\"",
    "\"expert_bound\"",
    "\"overflow\"",
    "\"devices\":[[",
    "\"device\":",
    "\"PASS\":\"B\"",
    "\"PASS\":\"BI\"",
    "\"PASS\":\"BW\"",
    "\"},{\"PP\":",
    "\"TOWER\"",
    "\"LAYER\"",
    "\"EP\":\"-\"",
    "\"PIECE\"",
    "[[\"PP\",",
    "\"dualpipev\"",
    "\"two-way\"",
    "\"dim\":\"sequence\"",
    "\"dim\":\"head\"",
    "\"dim\":\"ffn\"",
    "\"dim\":\"vocab\"",
    "\"dim\":\"context\"",
    "\"order\":\"zigzag\"",
    "\"order\":\"contiguous\"",
    "\"keep\":\"whole\"",
    "\"keep\":\"part\"",
    "\"exchange\":\"gather\"",
    "\"exchange\":\"all-to-all\"",
    "\"exchange\":\"ring\"",
    "\"tp\":",
    "\"cp\":",
    "\"vocab\":true",
};
enum { FEATURES = sizeof features / sizeof *features };
static uint32_t seen[FEATURES], seen_ranks[RANDOM_MOST_RANKS + 1];

static void count_features(const struct random_job *j)
{
    char *text = json_dumps(j->strategy, JSON_COMPACT);
    for (uint32_t i = 0; i < FEATURES; i++)
        seen[i] += strstr(text, features[i]) != NULL;
    seen_ranks[j->ranks]++;
    free(text);
}

static uint32_t cover(void)
{
    uint32_t missing = 0;
    for (uint32_t i = 0; i < FEATURES; i++)
        if (!seen[i]) {
            printf("# in no strategy: %s\n", features[i]);
            missing++;
        }
    printf("# strategies by number of ranks:");
    for (uint32_t i = 1; i <= RANDOM_MOST_RANKS; i++) {
        printf(" %u:%u", i, seen_ranks[i]);
        missing += !seen_ranks[i];
    }
    printf("\n%sok 2 - they have all %u features that are looked for, and 1 to %u ranks\n", missing ? "not " : "",
           FEATURES, RANDOM_MOST_RANKS);
    return missing;
}

static bool legal_one(uint64_t seed, struct err *e)
{
    struct random_job j;
    struct compiled c;
    random_job_init(&j, seed);
    count_features(&j);
    enum status st = compile(&j, 0, &c, e);
    if (st == ST_OK && c.out.ranks != j.ranks)
        st = err_set(e, ST_BUG, NULL, "found %u ranks, expected %u", c.out.ranks, j.ranks);
    if (st == ST_OK)
        st = verify(&c, e);
    compiled_release(&c);
    random_job_release(&j);
    return st == ST_OK;
}

static uint32_t legal(uint64_t first, uint32_t n)
{
    uint32_t bad = 0;
    for (uint64_t seed = first; seed < first + n; seed++) {
        struct err e = { 0 };
        snprintf(current, sizeof current, "# legal seed %llu ends the process\n", (unsigned long long)seed);
        if (!legal_one(seed, &e) && bad++ < SHOWN)
            printf("# seed %llu: %s\n", (unsigned long long)seed, e.text);
    }
    printf("%sok 1 - %u legal strategies compile, are proven and printed: %u do not\n", bad ? "not " : "", n, bad);
    return bad;
}

/* ---- illegal ----------------------------------------------------------------------------------------------------- */

/* 1 refused as it should be, 0 not applicable, -1 not refused so. */
static int illegal_one(uint64_t seed, uint32_t kind, struct random_job *j, struct random_break *b, struct err *e)
{
    struct compiled c;
    random_job_init(j, seed);
    if (!random_break(j, kind, b))
        return 0;
    enum status st = compile(j, b->ranks, &c, e);
    compiled_release(&c);
    bool named = strncmp(e->text, "strategy.json", 13) == 0;
    for (int i = 0; i < 3; i++)
        named = named && strstr(e->text, b->needles[i]);
    return st == b->status && named ? 1 : -1;
}

/* `each` jobs with the mistake, of the seeds that give the opportunity. */
static uint32_t illegal_kind(uint64_t first, uint32_t kind, uint32_t each, uint32_t test)
{
    uint32_t refused = 0, bad = 0;
    for (uint64_t seed = first; seed < first + 40u * each && refused + bad < each; seed++) {
        struct random_job j;
        struct random_break b;
        struct err e = { 0 };
        snprintf(current, sizeof current, "# illegal seed %llu kind %s ends the process\n", (unsigned long long)seed,
                 random_break_name(kind));
        int done = illegal_one(seed, kind, &j, &b, &e);
        random_job_release(&j);
        refused += done > 0;
        if (done < 0 && bad++ < 2)
            printf("# seed %llu %s: found \"%s\", expected \"%s\" \"%s\" \"%s\"\n", (unsigned long long)seed,
                   random_break_name(kind), e.text, b.needles[0], b.needles[1], b.needles[2]);
    }
    bool good = !bad && refused;
    printf("%sok %u - %s: refused by name %u times, not so %u times\n", good ? "" : "not ", test,
           random_break_name(kind), refused, bad);
    return !good;
}

static uint32_t illegal(uint64_t first, uint32_t each, uint32_t test)
{
    uint32_t wrong = 0;
    for (uint32_t k = 0; k < random_break_kinds(); k++)
        wrong += illegal_kind(first + k * 997u, k, each, test + k);
    return wrong;
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

static int write_json(const char *dir, const char *name, const json_t *v)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return json_dump_file(v, path, JSON_COMPACT);
}

static int write_job(uint64_t seed, const char *dir)
{
    struct random_job j;
    random_job_init(&j, seed);
    bool bad = write_json(dir, "model.json", j.model.json) || write_json(dir, "strategy.json", j.strategy);
    const char *type = json_string_value(json_object_get(j.model.json, "model_type"));
    printf("%u %u %u %u %s,replicas=%u,microbatches=%u,chunks=%u,directives=%zu%s\n", j.model_number, j.ranks,
           j.model.batch, j.model.seq_len, type ? type : "graph", j.replicas, j.microbatches, j.chunks.chunks.n,
           json_array_size(j.strategy), j.macros ? ",macros" : "");
    random_job_release(&j);
    return bad;
}

static int show_break(uint64_t seed, uint32_t kind)
{
    struct random_job j;
    struct random_break b;
    struct err e = { 0 };
    int done = illegal_one(seed, kind, &j, &b, &e);
    json_dumpf(j.strategy, stdout, JSON_COMPACT);
    printf("\n%s: %d: %s\nexpected \"%s\" \"%s\" \"%s\"\n", random_break_name(kind), done, e.text, b.needles[0],
           b.needles[1], b.needles[2]);
    random_job_release(&j);
    return done < 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    process_ways.log = on_fail;
    signal(SIGSEGV, on_signal);
    signal(SIGABRT, on_signal);
    if (argc == 1) {
        printf("1..%u\n", 2 + random_break_kinds());
        uint32_t bad = legal(0, LEGAL_SEEDS) + cover();
        return (bad + illegal(0, ILLEGAL_EACH, 3)) != 0;
    }
    if (argc == 4 && !strcmp(argv[1], "legal"))
        return legal(seed, (uint32_t)strtoul(argv[3], NULL, 0)) != 0;
    if (argc == 4 && !strcmp(argv[1], "illegal"))
        return illegal(seed, (uint32_t)strtoul(argv[3], NULL, 0), 1) != 0;
    if (argc == 4 && !strcmp(argv[1], "write"))
        return write_job(seed, argv[3]);
    if (argc == 4 && !strcmp(argv[1], "break"))
        for (uint32_t k = 0; k < random_break_kinds(); k++)
            if (!strcmp(random_break_name(k), argv[3]))
                return show_break(seed, k);
    fprintf(stderr, "usage: random_test [legal|illegal FIRST N | write SEED DIR | break SEED KIND]\n");
    return 2;
}
