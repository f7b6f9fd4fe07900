/* mpirun -n RANKS parity [NAME...]: every model of parity.json, trained here under the strategies for so many ranks (8: those with a
 * batch of their own), against what transformers computes in float64: the loss of the first step within 1e-6, those of ten steps of
 * AdamW within 1e-5, norms of gradients too where they are there, and samples of every tensor of the files within 1e-5 of its
 * largest element. parity --bfloat16 [NAME...]: bfloat16.c; parity --init [NAME...]: init.c. tests/parity/README says where the
 * numbers come from. */
#include <math.h>
#include <stdio.h>

#include "comm/world.h"
#include "model.h"

static const double first_limit = 1e-6, loss_limit = 1e-5, weight_limit = 1e-5;

struct settings { /* of all models, from the head of parity.json */
    uint32_t steps, batch, seq_len, warmup;
    double lr, decay, clip;
    double bias_update_rate; /* of some models, which have steps and batch of their own too */
};

struct job {
    const struct settings *s;
    struct model m;
};

static uint32_t models;
static double worst_first, worst_loss, worst_weight;
static double worst_here; /* of a tensor's samples */

static void compare_sample(float *x, const json_t *of, uint64_t name, uint64_t at)
{
    const json_t *places = json_array_get(of, WEIGHTS_PLACES), *is = json_array_get(of, WEIGHTS_VALUES);
    (void)name;
    for (size_t i = 0; i < json_array_size(places); i++) {
        if ((uint64_t)json_integer_value(json_array_get(places, i)) != at)
            continue;
        const double off = fabs(*x - json_number_value(json_array_get(is, i))) / weights_number(of, WEIGHTS_LARGEST);
        worst_here = off > worst_here || isnan(off) ? off : worst_here; /* NaN is worst */
    }
}

/* Every tensor of the file is some parameter's, with the same number of elements, and the other way round. */
static void check_tensors(const struct job *j)
{
    uint64_t have = 0, want = 0;
    const char *name;
    json_t *of;
    json_object_foreach(json_object_get(j->m.row, "tensors"), name, of)
    {
        want += (uint64_t)weights_number(of, WEIGHTS_ELEMENTS);
    }
    for (uint32_t i = 0; i < j->m.g.params.n; i++)
        have += ir_shape_elements(&j->m.g.params.at[i].shape);
    if (have != want)
        model_fail(&j->m, "parameters", "are not as many as in transformers' file");
}

/* ---- the run -------------------------------------------------------------------------------------------------------- */

/* Experts that two ranks can share are shared; dualpipev has four stages. */
static json_t *strategy_of(const struct ir_graph *g)
{
    uint32_t experts = 0;
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (g->ops.at[i].op == IR_OP_EXPERTS)
            experts = g->ops.at[i].attrs.experts;
    const bool v = experts && g->n_blocks >= 6; /* four layers */
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
                 v ? ",\"placement\":\"v\"" : "", experts && experts % 2 == 0 ? ",\"ep\":2" : "",
                 v ? "dualpipev" : "1f1b");
    json_t *list = json_loads(text, 0, NULL);
    CHECK(list);
    return list;
}

static enum status read_tokens(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    const struct job *j = self;
    const uint32_t t = j->s->seq_len, seed = (uint32_t)json_integer_value(json_object_get(j->m.row, "seed"));
    (void)e;
    model_tokens(&j->m, seed, sample * (t + 1) + (which == EXEC_TARGETS), t, to);
    return ST_OK;
}

/* Of the rows that have norms. */
static void compare_norm(const struct job *j, uint32_t step, double norm)
{
    const json_t *want = json_array_get(json_object_get(j->m.row, "norms"), step);
    const double off = want ? fabs(norm / json_number_value(want) - 1) : 0;
    char text[128];
    snprintf(text, sizeof text, "step %u: %.9g, off by %.1e", step + 1, norm, off);
    if (!(off <= loss_limit))
        model_fail(&j->m, "norm", text);
}

static void compare_loss(const struct job *j, uint32_t step, double loss)
{
    const double want = json_number_value(json_array_get(json_object_get(j->m.row, "losses"), step)),
                 off = fabs(loss / want - 1);
    char text[128];
    worst_first = step == 0 ? fmax(worst_first, off) : worst_first;
    worst_loss = fmax(worst_loss, off);
    snprintf(text, sizeof text, "step %u: %.9g instead of %.9g, off by %.1e", step + 1, loss, want, off);
    if (!(off <= (step == 0 ? first_limit : loss_limit)))
        model_fail(&j->m, "loss", text);
}

static void compare_params(struct job *j)
{
    char text[128];
    for (uint32_t i = 0; i < j->m.g.params.n; i++) {
        worst_here = 0;
        model_walk(&j->m, i, compare_sample);
        worst_weight = fmax(worst_weight, worst_here);
        snprintf(text, sizeof text, "differs by %.2e of the largest element", worst_here);
        if (!(worst_here <= weight_limit))
            model_fail(&j->m, j->m.g.params.at[i].name, text);
    }
}

static void train(struct job *j, struct exec *x)
{
    const struct settings *s = j->s;
    const struct exec_data data = { read_tokens, j };
    model_weights(&j->m, false);
    model_put(&j->m, x);
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
    model_gather(&j->m, x);
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
    struct job j = { .s = s, .m = { .row = row, .name = json_string_value(json_object_get(row, "name")) } };
    struct err e = { 0 };
    struct exec *x;
    const struct model_job job = { .strategy = strategy_of,
                                   .seq_len = s->seq_len,
                                   .batch = s->batch,
                                   .optimizer = OPT_ADAMW,
                                   .compute = IR_F32,
                                   .clip_norm = s->clip,
                                   .decay = s->decay,
                                   .balance_rate = s->bias_update_rate };
    enum status st = world_agree(model_compile(&j.m, &job, &e), &e);
    models++;
    if (st == ST_OK)
        st = model_open(&j.m, &job, &x, &e);
    if (st != ST_OK) {
        model_fail(&j.m, "open", e.text);
    } else {
        check_tensors(&j);
        train(&j, x);
        exec_close(x);
    }
    model_release(&j.m);
}

/* ---- the files ------------------------------------------------------------------------------------------------------ */

static int taken; /* models */

static bool wanted(const json_t *row, int n, char **names)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    if (world_size() == 8 && !json_object_get(row, "batch"))
        return false;
    bool named = n == 0;
    for (int i = 0; i < n; i++)
        named |= strcmp(names[i], name) == 0;
    taken += named;
    return named;
}

static void run_all(const json_t *doc, int n, char **names)
{
    const struct settings s = { .steps = whole(doc, "steps"),
                                .batch = whole(doc, "batch"),
                                .seq_len = whole(doc, "seq_len"),
                                .warmup = whole(doc, "warmup"),
                                .lr = json_number_value(json_object_get(doc, "lr")),
                                .decay = json_number_value(json_object_get(doc, "weight_decay")),
                                .clip = json_number_value(json_object_get(doc, "clip")) };
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(doc, "models"), i, row)
    {
        const struct settings own = settings_of(&s, row);
        if (wanted(row, n, names))
            run(&own, row);
    }
    if (world_rank() == 0)
        printf("%u ranks, %u models: off by %.1e in the first loss, %.1e in losses, %.1e in weights at most\n",
               world_size(), models, worst_first, worst_loss, worst_weight);
}

static void run_bfloat16(const json_t *doc, int n, char **names)
{
    json_t *torch = model_file("bfloat16.json");
    const json_t *row;
    size_t i;
    bfloat16_head();
    json_array_foreach(json_object_get(doc, "models"), i, row)
    {
        if (wanted(row, n, names))
            bfloat16_run(row, torch);
    }
    bfloat16_foot();
    json_decref(torch);
}

static void run_init(int n, char **names)
{
    json_t *doc = model_file("init.json");
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(doc, "models"), i, row)
    {
        if (wanted(row, n, names))
            init_run(row);
    }
    init_foot();
    json_decref(doc);
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (world_init(&argc, &argv, &e) != ST_OK) {
        fprintf(stderr, "parity: %s\n", e.text);
        return 99;
    }
    json_t *doc = model_file("parity.json");
    const char *how = argc > 1 ? argv[1] : "";
    const bool half = strcmp(how, "--bfloat16") == 0, init = strcmp(how, "--init") == 0;
    const int n = argc - (half || init ? 2 : 1);
    compute_cpu.set_threads(1);
    if (half)
        run_bfloat16(doc, n, argv + 2);
    else if (init)
        run_init(n, argv + 2);
    else
        run_all(doc, n, argv + 1);
    json_decref(doc);
    if (world_rank() == 0 && (taken == 0 || taken < n))
        printf("found %d of the %d models that are named\n", taken, n);
    uint64_t failed = model_bad || taken == 0 || taken < n;
    world_max_u64(&failed, 1);
    if (world_rank() == 0)
        printf("%s\n", failed ? "FAILED" : "good");
    world_finalize();
    return failed != 0;
}
