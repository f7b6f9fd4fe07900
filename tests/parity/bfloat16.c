/* parity --bfloat16: how far losses and gradients in bfloat16 are from those in float32, beside how far PyTorch's are (bfloat16.json).
 *
 * The weights are numbers that bfloat16 has, and float32 means float32 with these, so that all of the distance is rounding inside
 * the step. Losses: the root mean square of the difference over single sequences. Gradients of single sequences, all parameters
 * as one vector: the root of the summed squares of the differences, divided by that of the gradients. A distance is no larger than
 * `limit` times PyTorch's. A sequence in which rounding sends a token to another expert is left out, there and here: it says nothing of
 * how finely the rest is computed. Those are counted, and are not many more than PyTorch's. */
#include <math.h>
#include <stdio.h>

#include "model.h"

static const double limit = 1.2, mean_limit = 1.1; /* of a model; of many, which hides less */
enum { MANY = 8 };
static const double step_size = 4096; /* of SGD: the weights move by the gradient, far beyond their own last bit */

struct settings {               /* of bfloat16.json */
    uint32_t losses, gradients; /* sequences: of all the loss, of the first ones the gradient too */
    uint32_t seq_len, seed;
};

struct side { /* a model in one type */
    const struct settings *s;
    const json_t *order; /* sequences of the text, clearly routed ones; NULL: in their order */
    struct model m;
    struct exec *x;
    float *start, *grad; /* [elements]: the weights; step_size times a gradient */
};

struct sums {
    double loss, grad, grad_all; /* squares */
    uint32_t losses, moved;      /* sequences: that count; in which a token goes to another expert */
};

struct distance {
    double of[2]; /* losses, gradients */
    uint32_t moved;
};

static double log_sum[2];
static uint32_t rows;

/* ---- a side --------------------------------------------------------------------------------------------------------- */

static enum status read_tokens(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    const struct side *d = self;
    const uint64_t at = d->order ? (uint64_t)json_integer_value(json_array_get(d->order, sample)) : sample;
    (void)e;
    model_tokens(&d->m, d->s->seed, at * (d->s->seq_len + 1) + (which == EXEC_TARGETS), d->s->seq_len, to);
    return ST_OK;
}

/* Sequence k through a list of the plan: its loss. */
static double run_list(struct side *d, const char *list, uint32_t k)
{
    const struct exec_data data = { read_tokens, d };
    double sums[SCALAR_COUNT];
    const struct exec_step step = { .list = plan_find_list(&d->m.plan, list),
                                    .step = k + 1,
                                    .update = k + 1,
                                    .sample = k,
                                    .lr = step_size,
                                    .data = &data };
    exec_run(d->x, &step, sums);
    return sums[SCALAR_LOSS] / d->s->seq_len;
}

/* The model's parameters one after the other: to `all`, or from there. */
static void copy_params(const struct model *m, float *all, bool back)
{
    for (uint32_t i = 0; i < m->g.params.n; i++) {
        const uint64_t n = ir_shape_elements(&m->g.params.at[i].shape);
        memcpy(back ? m->param[i] : all, back ? all : m->param[i], n * sizeof *all);
        all += n;
    }
}

static void run_gradient(struct side *d, uint32_t k)
{
    copy_params(&d->m, d->start, true);
    model_put(&d->m, d->x);
    run_list(d, "train", k);
    model_gather(&d->m, d->x);
    copy_params(&d->m, d->grad, false);
    for (uint64_t i = 0; i < ir_graph_param_count(&d->m.g); i++)
        d->grad[i] = d->start[i] - d->grad[i];
}

static enum status open_side(struct side *d, enum ir_dtype type, struct err *e)
{
    const struct model_job job = {
        .seq_len = d->s->seq_len, .batch = 1, .optimizer = OPT_SGD, .compute = type, .eval = true
    };
    TRY(model_compile(&d->m, &job, e));
    TRY(model_open(&d->m, &job, &d->x, e));
    d->start = mem_alloc(ir_graph_param_count(&d->m.g) * sizeof *d->start);
    d->grad = mem_alloc(ir_graph_param_count(&d->m.g) * sizeof *d->grad);
    model_weights(&d->m, true);
    copy_params(&d->m, d->start, false);
    model_put(&d->m, d->x);
    return ST_OK;
}

static void close_side(struct side *d)
{
    if (d->x)
        exec_close(d->x);
    mem_free(d->start);
    mem_free(d->grad);
    model_release(&d->m);
}

/* ---- both ----------------------------------------------------------------------------------------------------------- */

static void add_gradient(const struct side *half, const struct side *full, struct sums *to)
{
    for (uint64_t i = 0; i < ir_graph_param_count(&full->m.g); i++) {
        to->grad += pow((double)half->grad[i] - (double)full->grad[i], 2);
        to->grad_all += pow((double)full->grad[i], 2);
    }
}

static struct distance compare_sides(struct side *half, struct side *full)
{
    const struct settings *s = full->s;
    const size_t loads = ir_graph_loads(&full->m.g, NULL) * sizeof(double);
    bool *moved = mem_alloc(s->losses * sizeof *moved);
    struct sums all = { 0 };
    for (uint32_t k = 0; k < s->losses; k++) { /* all of them first: then the weights move */
        const double off = run_list(half, "eval", k) - run_list(full, "eval", k);
        moved[k] = loads && memcmp(exec_loads(half->x), exec_loads(full->x), loads) != 0;
        all.moved += moved[k];
        all.losses += !moved[k];
        all.loss += moved[k] ? 0 : off * off;
    }
    for (uint32_t k = 0; k < s->gradients; k++) {
        if (moved[k])
            continue;
        run_gradient(half, k);
        run_gradient(full, k);
        add_gradient(half, full, &all);
    }
    mem_free(moved);
    return (struct distance){ { sqrt(all.loss / all.losses), sqrt(all.grad / all.grad_all) }, all.moved };
}

static double number(const json_t *of, const char *key)
{
    return json_number_value(json_object_get(of, key));
}

static void judge(const struct model *m, const json_t *torch, const struct distance *ours)
{
    static const char *const what[2] = { "loss", "gradient" };
    const double theirs = number(torch, "moved");
    double ratio[2];
    char text[128];
    printf("%-26s", m->name);
    for (int i = 0; i < 2; i++) {
        const json_t *light = json_array_get(json_object_get(torch, "autocast"), (size_t)i);
        ratio[i] = ours->of[i] / number(torch, what[i]);
        log_sum[i] += log(ratio[i]);
        char other[16] = "        -"; /* some classes do not run so */
        if (light)
            snprintf(other, sizeof other, "%9.3e", json_number_value(light));
        printf("  %9.3e %s %9.3e %5.2f", number(torch, what[i]), other, ours->of[i], ratio[i]);
    }
    printf("  %3.0f %3u\n", theirs, ours->moved);
    rows++;
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, "bfloat16 is %.2f times as far from float32 as PyTorch's, more than %g", ratio[i],
                 limit);
        if (!(ratio[i] <= limit))
            model_fail(m, what[i], text);
    }
    snprintf(text, sizeof text, "bfloat16 moves tokens of %u sequences to other experts, PyTorch of %.0f", ours->moved,
             theirs);
    if (ours->moved > theirs + 3 * sqrt(theirs) + 3)
        model_fail(m, "experts", text);
}

void bfloat16_head(void)
{
    printf("Distance of bfloat16 from float32: PyTorch in bfloat16, PyTorch under autocast, Piper, Piper / PyTorch in "
           "bfloat16;\n"
           "sequences in which a token goes to another expert: PyTorch in bfloat16, Piper\n"
           "%-26s  %-35s  %-35s  experts\n",
           "", "losses", "gradients");
}

void bfloat16_run(const json_t *row, const json_t *all)
{
    const struct settings s = { .losses = (uint32_t)number(all, "losses"),
                                .gradients = (uint32_t)number(all, "gradients"),
                                .seq_len = (uint32_t)number(all, "seq_len"),
                                .seed = (uint32_t)number(all, "seed") };
    const struct model m = { .row = row, .name = json_string_value(json_object_get(row, "name")) };
    const json_t *torch = json_object_get(json_object_get(all, "models"), m.name);
    struct side full = { .s = &s, .order = json_object_get(torch, "sequences"), .m = m }, half = full;
    struct err e = { 0 };
    if (!torch) {
        model_fail(&m, "bfloat16.json", "has no numbers of this model: make_bfloat16.py");
        return;
    }
    enum status st = open_side(&full, IR_F32, &e);
    if (st == ST_OK)
        st = open_side(&half, IR_BF16, &e);
    if (st == ST_OK) {
        const struct distance ours = compare_sides(&half, &full);
        judge(&m, torch, &ours);
    } else {
        model_fail(&m, "open", e.text);
    }
    close_side(&full);
    close_side(&half);
}

void bfloat16_foot(void)
{
    const struct model all = { .name = "all models" };
    const double mean[2] = { exp(log_sum[0] / rows), exp(log_sum[1] / rows) };
    printf("%u models; geometric mean of the ratios: losses %.2f, gradients %.2f\n", rows, mean[0], mean[1]);
    if (rows >= MANY && !(mean[0] <= mean_limit && mean[1] <= mean_limit))
        model_fail(&all, "mean", "is more than 1.1");
}
