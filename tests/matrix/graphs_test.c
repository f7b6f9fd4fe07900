/* mpirun -n RANKS graphs_test [SEEDS [FIRST]]: random graphs that share inputs and parameters (graphs_model.c), compiled for this many
 * ranks, each under one of the strategies for them (graphs_strategy.c) in turn, and trained for some steps by the CPU back end,
 * against float64 (num/evaluate.h), whose gradients are held against finite differences. Loss, auxiliary loss, norm of the
 * gradients, dropped tokens and all parameters of each step. Prints what differs, and the largest differences. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "exec/exec.h"
#include "graphs.h"
#include "ir/family/family.h"
#include "ir/target.h"
#include "num/evaluate.h"
#include "train/pieces.h"
#include "sched/sched.h"

/* A rate at which float32 shows a gradient's last bits in the parameter. Relative differences that float32 accounts for: norms of
 * rows that hardly vary make gradients worse than losses. */
static const double rate = 0.25, loss_limit = 1e-5, gradient_limit = 1e-3;
enum { STEPS = 3, SEEDS = 40, TOKENS = GRAPH_BATCH * GRAPH_T };

struct job {
    uint64_t seed; /* of the model, or the number of a case */
    bool fixed;    /* a case */
    struct ir_graph g;
    struct sched_output out;
    struct plan plan; /* of this rank */
    char strategy[512];
    struct evaluation want;
    int32_t *tokens, *targets; /* of the step */
};

static double worst_scalar, worst_param;
static uint32_t bad, steps, closes;

static void fail(const struct job *j, const char *what, const char *why)
{
    printf("rank %u: %s %llu, %s: %s: %s\n", world_rank(), j->fixed ? "case" : "seed", (unsigned long long)j->seed,
           j->strategy, what, why);
    bad++;
}

/* ---- the job ---------------------------------------------------------------------------------------------------- */

static enum status compile(struct job *j, uint32_t cell, struct err *e)
{
    struct notices notices;
    uint32_t stages = 1;
    json_t *strategy = graphs_strategy(world_size(), cell, &stages),
           *model = j->fixed ? graphs_case((uint32_t)j->seed) : graphs_model(j->seed, stages);
    char *text = json_dumps(strategy, JSON_COMPACT);
    snprintf(j->strategy, sizeof j->strategy, "%s", text);
    free(text);
    ir_graph_init(&j->g);
    notices_init(&notices);
    enum status st = ir_family_build(model, "model.json", GRAPH_T, &j->g, &notices, e);
    notices_release(&notices);
    json_decref(model);
    TRY(st);
    const struct sched_input in = {
        .graph = &j->g,
        .strategy = strategy,
        .strategy_name = "strategy.json",
        .ranks = world_size(),
        .batch_size = GRAPH_BATCH,
        .compute = IR_F32,
        .optimizer = OPT_SGD,
        .target = &ir_target_cpu,
        .comm_scratch = COMM_SCRATCH,
    };
    st = sched_compile(&in, &j->out, e);
    json_decref(strategy);
    TRY(st);
    const struct sched_class *mine = &j->out.classes[j->out.class_of[world_rank()]];
    return plan_open(mine->blob, mine->bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &j->plan, e);
}

/* ---- both sides ------------------------------------------------------------------------------------------------- */

static enum status read_tokens(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    const struct job *j = self;
    (void)e;
    memcpy(to, (which == EXEC_TARGETS ? j->targets : j->tokens) + sample % GRAPH_BATCH * GRAPH_T, GRAPH_T * sizeof *to);
    return ST_OK;
}

static void draw_tokens(struct job *j, struct rng *r)
{
    for (int i = 0; i < TOKENS; i++) {
        j->tokens[i] = (int32_t)rng_below(r, GRAPH_VOCAB);
        j->targets[i] = (int32_t)rng_below(r, GRAPH_VOCAB);
    }
}

/* Numbers that float32 holds. */
static void draw_params(struct job *j, struct rng *r)
{
    for (uint32_t i = 0; i < j->g.params.n; i++)
        for (size_t k = 0; k < j->want.param[i].n; k++)
            j->want.param[i].x[k] = (float)((j->g.params.at[i].init == IR_INIT_ONES) + 0.3 * rng_normal(r));
}

static void load_params(const struct job *j, struct exec *x)
{
    struct pieces pieces;
    unsigned char *const *base = exec_arenas(x);
    pieces_to_read(&j->plan, world_rank(), base, &pieces);
    for (uint32_t i = 0; i < pieces.list.n; i++) {
        const struct checkpoint_piece *p = &pieces.list.at[i];
        for (uint64_t k = 0; k < p->count; k++)
            p->data[k] = (float)j->want.param[p->param].x[p->first + k];
    }
    pieces_take(&j->plan, world_rank(), base, &pieces);
    pieces_release(&pieces);
    exec_upload(x);
}

static void compare(const struct job *j, const char *what, double got, double want, double limit)
{
    char text[96];
    const double error = fabs(got - want) / (fabs(want) + 1e-3);
    worst_scalar = fmax(worst_scalar, error);
    snprintf(text, sizeof text, "%.9g instead of %.9g", got, want);
    if (!(error <= limit))
        fail(j, what, text);
}

/* The update of one parameter, in units of its largest element. */
static void compare_param(struct job *j, uint32_t param, const float *got)
{
    struct tensor *was = &j->want.param[param], *grad = &j->want.dparam[param];
    double moved = 0, error = 0;
    char text[96];
    for (size_t k = 0; k < was->n; k++) {
        moved = fmax(moved, fabs(rate * grad->x[k]));
        error = fmax(error, fabs(was->x[k] - rate * grad->x[k] - got[k]));
        was->x[k] = got[k];
    }
    error /= moved + 1e-3;
    worst_param = fmax(worst_param, error);
    snprintf(text, sizeof text, "moved by %.3g at most, differs by %.3g of that", moved, error);
    if (!(error <= gradient_limit))
        fail(j, j->g.params.at[param].name, text);
}

/* The parameters that all ranks together keep, after an update. The evaluator goes on from them, so that every step begins with the
 * same numbers and rounding does not add up. */
static void compare_params(struct job *j, struct exec *x)
{
    struct pieces pieces;
    uint64_t n = 0, at = 0;
    for (uint32_t i = 0; i < j->g.params.n; i++)
        n += j->want.param[i].n;
    float *mine = mem_alloc(n * sizeof *mine), *all = mem_alloc(world_size() * n * sizeof *all);
    exec_download(x);
    pieces_to_write(&j->plan, world_rank(), exec_arenas(x), &pieces);
    for (uint32_t i = 0; i < j->g.params.n; at += j->want.param[i++].n)
        for (uint32_t k = 0; k < pieces.list.n; k++)
            if (pieces.list.at[k].param == i)
                memcpy(mine + at + pieces.list.at[k].first, pieces.list.at[k].data,
                       pieces.list.at[k].count * sizeof *mine);
    pieces_release(&pieces);
    world_all_gather(mine, n * sizeof *mine, all);
    for (uint32_t r = 1; r < world_size(); r++)
        for (uint64_t k = 0; k < n; k++)
            all[k] += all[r * n + k]; /* one of them has it */
    at = 0;
    for (uint32_t i = 0; i < j->g.params.n; at += j->want.param[i++].n)
        compare_param(j, i, all + at);
    mem_free(mine);
    mem_free(all);
}

/* Are two of a row's logits nearly equal? */
static bool row_is_close(const double *x, const double *w, const struct ir_attrs *a)
{
    double logit[64];
    CHECK(a->experts <= 64);
    for (uint32_t e = 0; e < a->experts; e++) {
        logit[e] = 0;
        for (uint32_t i = 0; i < a->features; i++)
            logit[e] += x[i] * w[e * a->features + i];
    }
    for (uint32_t e = 0; e < a->experts; e++)
        for (uint32_t o = 0; o < e; o++)
            if (fabs(logit[e] - logit[o]) < 1e-4)
                return true;
    return false;
}

/* A router's choice that rounding decides: then float32 may choose otherwise and be right. The same on all ranks. */
static bool is_close(const struct job *j)
{
    for (uint32_t i = 0; i < j->g.ops.n; i++) {
        const struct ir_node_op *o = &j->g.ops.at[i];
        if (o->op != IR_OP_ROUTER)
            continue;
        const double *x = j->want.value[o->in[0]].x, *w = j->want.param[o->param[0]].x;
        for (uint32_t row = 0; row < TOKENS; row++)
            if (row_is_close(x + (size_t)row * o->attrs.features, w, &o->attrs))
                return true;
    }
    return false;
}

/* False: no step was made, rounding would decide it. */
static bool step(struct job *j, struct exec *x, struct rng *r, uint64_t number)
{
    const struct exec_data data = { read_tokens, j };
    const struct exec_step step = {
        .step = number, .update = number, .sample = (number - 1) * GRAPH_BATCH, .lr = rate, .data = &data
    };
    double sums[SCALAR_COUNT], norm = 0;
    draw_tokens(j, r);
    evaluation_forward(&j->want, j->tokens, j->targets);
    if (is_close(j)) {
        closes++;
        return false;
    }
    exec_run(x, &step, sums);
    evaluation_backward(&j->want);
    for (uint32_t i = 0; i < j->g.params.n; i++)
        for (size_t k = 0; k < j->want.param[i].n; k++)
            norm += j->want.dparam[i].x[k] * j->want.dparam[i].x[k];
    compare(j, "loss", sums[SCALAR_LOSS] / TOKENS, j->want.loss / TOKENS, loss_limit);
    compare(j, "auxiliary loss", sums[SCALAR_AUX] / GRAPH_BATCH, j->want.aux / GRAPH_BATCH, loss_limit);
    compare(j, "dropped tokens", sums[SCALAR_DROPPED], j->want.dropped, 0);
    compare(j, "norm of the gradients", sqrt(sums[SCALAR_NORM2]), sqrt(norm), gradient_limit);
    compare_params(j, x);
    steps++;
    return true;
}

static void train(struct job *j, struct exec *x)
{
    struct rng r = { j->seed ^ 0x6772617068 };
    evaluation_init(&j->want, &j->g, GRAPH_BATCH);
    j->tokens = mem_alloc(2 * TOKENS * sizeof *j->tokens);
    j->targets = j->tokens + TOKENS;
    draw_params(j, &r);
    load_params(j, x);
    for (uint64_t number = 1; number <= STEPS && step(j, x, &r, number);)
        number++;
    evaluation_forward(&j->want, j->tokens, j->targets);
    evaluation_backward(&j->want);
    const char *why = world_rank() ? NULL : evaluation_check(&j->want, j->tokens, j->targets, &r);
    if (why)
        fail(j, "the evaluator", why);
    mem_free(j->tokens);
    evaluation_release(&j->want);
}

static void run(uint64_t seed, bool fixed, uint32_t cell)
{
    struct job j = { .seed = seed, .fixed = fixed };
    struct err e = { 0 };
    struct exec *x;
    struct exec_setup setup = { .plan = &j.plan,
                                .graph = &j.g,
                                .machine = &exec_host,
                                .compute = &compute_cpu,
                                .comm = world_size() > 1 ? &comm_mpi : &comm_null,
                                .optimizer = { .kind = OPT_SGD },
                                .local_ranks = world_size(),
                                .local_rank = world_rank() };
    enum status st = world_agree(compile(&j, cell, &e), &e);
    if (st == ST_OK)
        st = exec_open(&setup, &x, &e);
    if (st != ST_OK) {
        fail(&j, "open", e.text);
    } else {
        train(&j, x);
        exec_close(x);
    }
    sched_output_release(&j.out);
    ir_graph_release(&j.g);
}

static uint32_t count_cells(void)
{
    uint32_t n = 0, stages;
    for (json_t *s; (s = graphs_strategy(world_size(), n, &stages)); n++)
        json_decref(s);
    return n;
}

/* Under every strategy that keeps a model whole. */
static void run_cases(void)
{
    uint32_t stages;
    json_t *model, *strategy;
    for (uint32_t i = 0; (model = graphs_case(i)); i++) {
        json_decref(model);
        for (uint32_t cell = 0; (strategy = graphs_strategy(world_size(), cell, &stages)); cell++) {
            json_decref(strategy);
            if (stages == 1)
                run(i, true, cell);
        }
    }
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (world_init(&argc, &argv, &e) != ST_OK) {
        fprintf(stderr, "graphs_test: %s\n", e.text);
        return 99;
    }
    const uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 0) : SEEDS,
                   first = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
    const uint32_t cells = count_cells();
    compute_cpu.set_threads(1);
    run_cases();
    for (uint64_t seed = first; seed < first + seeds; seed++)
        run(seed, false, (uint32_t)(seed % cells));
    uint64_t failed = bad;
    world_max_u64(&failed, 1);
    if (world_rank() == 0)
        printf("%u ranks, %u strategies, seeds %llu to %llu, %u steps, %u jobs cut short by a close choice: largest "
               "relative "
               "differences on rank 0 %.2e of sums, %.2e of parameters: %s\n",
               world_size(), cells, (unsigned long long)first, (unsigned long long)(first + seeds - 1), steps, closes,
               worst_scalar, worst_param, failed ? "FAILED" : "good");
    world_finalize();
    return failed != 0;
}
