/* mpirun -n RANKS parity [NAME...]: every model of parity.json, trained here under the strategies for so many ranks (8: those with a
 * batch of their own), against what transformers computes in float64: the loss of the first step within 1e-6, those of ten steps of
 * AdamW within 1e-5, norms of gradients too where they are there, and samples of every tensor of the files within 1e-5 of its
 * largest element. tests/parity/README says where the numbers come from. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "comm/comm.h"
#include "comm/world.h"
#include "exec/exec.h"
#include "ir/family/family.h"
#include "ir/target.h"
#include "sched/sched.h"
#include "train/pieces.h"
#include "weights.h"

static const double first_limit = 1e-6, loss_limit = 1e-5, weight_limit = 1e-5;
enum { SHOWN = 4 };

struct settings { /* of all models, from the head of parity.json */
    uint32_t steps, batch, seq_len, warmup;
    double lr, decay, clip;
    double bias_update_rate; /* of some models, which have steps and batch of their own too */
};

struct job {
    const struct settings *s;
    const json_t *row; /* of the model */
    const char *name;
    struct ir_graph g;
    struct sched_output out;
    struct plan plan; /* of this rank */
    float **want;     /* [params]: each parameter whole */
};

static uint32_t bad, models;
static double worst_first, worst_loss, worst_weight;

/* The first few of a model are told. */
static void fail(const struct job *j, const char *what, const char *why)
{
    static const char *last;
    static uint32_t told;
    told = last == j->name ? told + 1 : 0;
    last = j->name;
    if (told < SHOWN)
        printf("rank %u: %s: %s: %s\n", world_rank(), j->name, what, why);
    bad++;
}

/* ---- parameters and the tensors of files --------------------------------------------------------------------------- */

static void walk(const struct job *j, uint32_t param, weights_visit f)
{
    const char *missing = weights_walk(&j->g, j->row, param, j->want[param], f);
    if (missing)
        fail(j, missing, "is no tensor of transformers' file");
}

static uint64_t seen; /* samples that were compared */
static double worst_here;

static void compare_sample(float *x, const json_t *of, uint64_t name, uint64_t at)
{
    const json_t *places = json_array_get(of, WEIGHTS_PLACES), *is = json_array_get(of, WEIGHTS_VALUES);
    (void)name;
    for (size_t i = 0; i < json_array_size(places); i++) {
        if ((uint64_t)json_integer_value(json_array_get(places, i)) != at)
            continue;
        const double off = fabs(*x - json_number_value(json_array_get(is, i))) / weights_number(of, WEIGHTS_LARGEST);
        worst_here = off <= worst_here ? worst_here : off; /* NaN is worst */
        seen++;
    }
}

/* Every tensor of the file is some parameter's, with the same number of elements, and the other way round. */
static void check_tensors(const struct job *j)
{
    uint64_t have = 0, want = 0;
    const char *name;
    json_t *of;
    json_object_foreach(json_object_get(j->row, "tensors"), name, of)
    {
        want += (uint64_t)weights_number(of, WEIGHTS_ELEMENTS);
    }
    for (uint32_t i = 0; i < j->g.params.n; i++)
        have += ir_shape_elements(&j->g.params.at[i].shape);
    if (have != want)
        fail(j, "parameters", "are not as many as in transformers' file");
}

/* ---- the run -------------------------------------------------------------------------------------------------------- */

/* Experts that two ranks can share are shared. */
static json_t *strategy_of(const struct ir_graph *g)
{
    uint32_t experts = 0;
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (g->ops.at[i].op == IR_OP_EXPERTS)
            experts = g->ops.at[i].attrs.experts;
    char text[256];
    if (world_size() == 1)
        snprintf(text, sizeof text, "[]");
    else if (world_size() == 8)
        snprintf(text, sizeof text,
                 "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"ep\":4,\"zero\":1,\"placement\":\"two-way\"},"
                 "{\"op\":\"schedule\",\"kind\":\"dualpipe\",\"microbatches\":4}]");
    else
        snprintf(text, sizeof text,
                 "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":1%s%s},{\"op\":\"schedule\",\"kind\":\"%s\","
                 "\"microbatches\":4}]",
                 experts ? ",\"placement\":\"v\"" : "", experts && experts % 2 == 0 ? ",\"ep\":2" : "",
                 experts ? "dualpipev" : "1f1b");
    json_t *v = json_loads(text, 0, NULL);
    CHECK(v);
    return v;
}

static enum status compile(struct job *j, struct err *e)
{
    struct notices notices;
    ir_graph_init(&j->g);
    notices_init(&notices);
    enum status st = ir_family_build(json_object_get(j->row, "config"), j->name, j->s->seq_len, &j->g, &notices, e);
    notices_release(&notices);
    TRY(st);
    json_t *strategy = strategy_of(&j->g);
    const struct sched_input in = {
        .graph = &j->g,
        .strategy = strategy,
        .strategy_name = "strategy.json",
        .ranks = world_size(),
        .batch_size = j->s->batch,
        .compute = IR_F32,
        .optimizer = OPT_ADAMW,
        .clip = true,
        .target = &ir_target_cpu,
        .comm_scratch = COMM_SCRATCH,
    };
    st = sched_compile(&in, &j->out, e);
    json_decref(strategy);
    TRY(st);
    const struct sched_class *mine = &j->out.classes[j->out.class_of[world_rank()]];
    return plan_open(mine->blob, mine->bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &j->plan, e);
}

/* Token t of sample s is at s (T+1) + t; a target is the token that follows. */
static enum status read_tokens(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    const struct job *j = self;
    char name[32];
    (void)e;
    snprintf(name, sizeof name, "tokens %d", (int)json_integer_value(json_object_get(j->row, "seed")));
    const uint64_t h = weights_hash_name(name), t = j->s->seq_len;
    for (uint64_t i = 0; i < t; i++)
        to[i] = (int32_t)(weights_hash_at(h, sample * (t + 1) + i + (which == EXEC_TARGETS)) % j->g.vocab);
    return ST_OK;
}

static void load_params(struct job *j, struct exec *x)
{
    struct pieces pieces;
    unsigned char *const *base = exec_arenas(x);
    for (uint32_t i = 0; i < j->g.params.n; i++)
        walk(j, i, weights_fill);
    pieces_to_read(&j->plan, world_rank(), base, &pieces);
    for (uint32_t i = 0; i < pieces.list.n; i++)
        memcpy(pieces.list.at[i].data, j->want[pieces.list.at[i].param] + pieces.list.at[i].first,
               pieces.list.at[i].count * sizeof(float));
    pieces_take(&j->plan, world_rank(), base, &pieces);
    pieces_release(&pieces);
    exec_upload(x);
}

/* The parameters that all ranks together keep, into j->want of rank 0. */
static void gather_params(struct job *j, struct exec *x)
{
    struct pieces pieces;
    exec_download(x);
    pieces_to_write(&j->plan, world_rank(), exec_arenas(x), &pieces);
    for (uint32_t i = 0; i < j->g.params.n; i++) {
        const uint64_t n = ir_shape_elements(&j->g.params.at[i].shape);
        float *all = mem_alloc(world_size() * n * sizeof *all);
        memset(j->want[i], 0, n * sizeof *all);
        for (uint32_t k = 0; k < pieces.list.n; k++)
            if (pieces.list.at[k].param == i)
                memcpy(j->want[i] + pieces.list.at[k].first, pieces.list.at[k].data,
                       pieces.list.at[k].count * sizeof *all);
        world_all_gather(j->want[i], n * sizeof *all, all);
        memset(j->want[i], 0, n * sizeof *all);
        for (uint64_t k = 0; k < world_size() * n; k++)
            j->want[i][k % n] += all[k]; /* one of them has it */
        mem_free(all);
    }
    pieces_release(&pieces);
}

/* Of the rows that have norms. */
static void compare_norm(const struct job *j, uint32_t step, double norm)
{
    const json_t *want = json_array_get(json_object_get(j->row, "norms"), step);
    const double off = want ? fabs(norm / json_number_value(want) - 1) : 0;
    char text[128];
    snprintf(text, sizeof text, "step %u: %.9g, off by %.1e", step + 1, norm, off);
    if (!(off <= loss_limit))
        fail(j, "norm", text);
}

static void compare_loss(const struct job *j, uint32_t step, double loss)
{
    const double want = json_number_value(json_array_get(json_object_get(j->row, "losses"), step)),
                 off = fabs(loss / want - 1);
    char text[128];
    worst_first = step == 0 ? fmax(worst_first, off) : worst_first;
    worst_loss = fmax(worst_loss, off);
    snprintf(text, sizeof text, "step %u: %.9g instead of %.9g, off by %.1e", step + 1, loss, want, off);
    if (!(off <= (step == 0 ? first_limit : loss_limit)))
        fail(j, "loss", text);
}

static void compare_params(struct job *j)
{
    char text[128];
    for (uint32_t i = 0; i < j->g.params.n; i++) {
        seen = 0;
        worst_here = 0;
        walk(j, i, compare_sample);
        worst_weight = fmax(worst_weight, worst_here);
        snprintf(text, sizeof text, "differs by %.2e of the largest element", worst_here);
        if (!(worst_here <= weight_limit))
            fail(j, j->g.params.at[i].name, text);
    }
}

static void train(struct job *j, struct exec *x)
{
    const struct settings *s = j->s;
    const struct exec_data data = { read_tokens, j };
    load_params(j, x);
    for (uint32_t k = 0; k < s->steps; k++) {
        double sums[SCALAR_COUNT];
        const struct exec_step step = { .step = k + 1,
                                        .update = k + 1,
                                        .sample = (uint64_t)k * s->batch,
                                        .lr = s->lr * fmin(1, (k + 1.0) / s->warmup),
                                        .data = &data };
        exec_run(x, &step, sums);
        if (world_rank() == 0)
            compare_norm(j, k, sqrt(sums[SCALAR_NORM2]));
        if (world_rank() == 0)
            compare_loss(j, k, sums[SCALAR_LOSS] / (s->batch * s->seq_len));
    }
    gather_params(j, x);
    if (world_rank() == 0)
        compare_params(j);
}

static uint32_t whole(const json_t *doc, const char *key)
{
    return (uint32_t)json_integer_value(json_object_get(doc, key));
}

/* With what the model's row says itself. */
static struct settings settings_of(const struct settings *all, const json_t *row)
{
    struct settings s = *all;
    if (!json_object_get(row, "batch"))
        return s;
    s.steps = whole(row, "steps");
    s.batch = whole(row, "batch");
    s.bias_update_rate = json_number_value(json_object_get(row, "bias_update_rate"));
    return s;
}

static void run(const struct settings *s, const json_t *row)
{
    struct job j = { .s = s, .row = row, .name = json_string_value(json_object_get(row, "name")) };
    struct err e = { 0 };
    struct exec *x;
    struct exec_setup setup = { .plan = &j.plan,
                                .graph = &j.g,
                                .machine = &exec_host,
                                .compute = &compute_cpu,
                                .comm = world_size() > 1 ? &comm_mpi : &comm_null,
                                .optimizer = { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, (float)s->decay },
                                .clip_norm = s->clip,
                                .balance_rate = s->bias_update_rate,
                                .local_ranks = world_size(),
                                .local_rank = world_rank() };
    enum status st = world_agree(compile(&j, &e), &e);
    models++;
    if (st == ST_OK)
        st = exec_open(&setup, &x, &e);
    if (st != ST_OK) {
        fail(&j, "open", e.text);
    } else {
        j.want = mem_alloc(j.g.params.n * sizeof *j.want);
        for (uint32_t i = 0; i < j.g.params.n; i++)
            j.want[i] = mem_alloc(ir_shape_elements(&j.g.params.at[i].shape) * sizeof(float));
        check_tensors(&j);
        train(&j, x);
        exec_close(x);
        for (uint32_t i = 0; i < j.g.params.n; i++)
            mem_free(j.want[i]);
        mem_free(j.want);
    }
    sched_output_release(&j.out);
    ir_graph_release(&j.g);
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static bool wanted(const json_t *row, int n, char **names)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    if (world_size() == 8 && !json_object_get(row, "batch"))
        return false;
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return n == 0;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    const char *top = getenv("top_srcdir");
    char path[512];
    json_t *doc, *row;
    size_t i;
    if (world_init(&argc, &argv, &e) != ST_OK) {
        fprintf(stderr, "parity: %s\n", e.text);
        return 99;
    }
    snprintf(path, sizeof path, "%s/tests/parity/parity.json", top ? top : ".");
    CHECK(js_load_file(path, &doc, &e) == ST_OK);
    const struct settings s = { .steps = whole(doc, "steps"),
                                .batch = whole(doc, "batch"),
                                .seq_len = whole(doc, "seq_len"),
                                .warmup = whole(doc, "warmup"),
                                .lr = json_number_value(json_object_get(doc, "lr")),
                                .decay = json_number_value(json_object_get(doc, "weight_decay")),
                                .clip = json_number_value(json_object_get(doc, "clip")) };
    compute_cpu.set_threads(1);
    json_array_foreach(json_object_get(doc, "models"), i, row)
    {
        const struct settings own = settings_of(&s, row);
        if (wanted(row, argc - 1, argv + 1))
            run(&own, row);
    }
    json_decref(doc);
    uint64_t failed = bad;
    world_max_u64(&failed, 1);
    if (world_rank() == 0)
        printf("%u ranks, %u models: off by %.1e in the first loss, %.1e in losses, %.1e in weights at most: %s\n",
               world_size(), models, worst_first, worst_loss, worst_weight, failed ? "FAILED" : "good");
    world_finalize();
    return failed != 0;
}
