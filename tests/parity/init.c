/* parity --init: mean and deviation of every tensor as training begins with it, and whether weight decay acts on it, beside
 * what transformers initializes (init.json): all numbers the same and just those, or both within 5 standard errors. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "ir/family/files.h"
#include "model.h"
#include "train/init_params.h"

enum { INIT_MEAN, INIT_DEVIATION, INIT_COUNT, INIT_DECAYS }; /* of a tensor's row: describe() in make_init.py */
enum { SEEDS = 2000, ENOUGH = 4000, NAME = 256 };            /* ENOUGH: numbers of a tensor that are not all the same */
static const double errors = 5;

struct tensor { /* of init.json */
    const json_t *want;
    double n, sum, squares, least, most;
};

struct tensors {
    VEC(struct tensor);
};

static uint32_t models, compared;

/* "layers.3.mlp" is "layers.*.mlp". */
static void without_numbers(const char *name, char *to)
{
    size_t n = 0;
    for (const char *c = name; *c && n < NAME - 1; c++) {
        const bool first = c > name && c[-1] == '.' && isdigit((unsigned char)*c);
        const size_t digits = first ? strspn(c, "0123456789") : 0;
        to[n++] = digits && c[digits] == '.' ? '*' : *c;
        c += digits && c[digits] == '.' ? digits - 1 : 0;
    }
    to[n] = '\0';
}

/* The row of the tensor that a parameter lies in; NULL: it said that there is none. */
static struct tensor *tensor_of(const struct model *m, uint32_t param, struct tensors *all)
{
    struct arena a;
    char name[NAME];
    arena_init(&a);
    const struct ir_place place = ir_file_place(&m->g, param, &a);
    without_numbers(ir_place_name(&place, 0, &a), name);
    arena_release(&a);
    const json_t *want = json_object_get(json_object_get(m->row, "tensors"), name);
    for (uint32_t i = 0; i < all->n; i++)
        if (all->at[i].want == want)
            return &all->at[i];
    model_fail(m, name, "is no tensor of transformers' file");
    return NULL;
}

static void add(struct tensor *t, const float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const double v = (double)x[i];
        t->least = fmin(t->least, v);
        t->most = fmax(t->most, v);
        t->sum += v;
        t->squares += v * v;
    }
    t->n += (double)n;
}

static bool enough(const struct tensors *all)
{
    for (uint32_t i = 0; i < all->n; i++) {
        const struct tensor *t = &all->at[i];
        if (t->n == 0 || (t->most > t->least && t->n < ENOUGH))
            return false;
    }
    return true;
}

static void initialize(struct model *m, struct exec *x, struct tensors *all)
{
    for (uint64_t seed = 1; seed <= SEEDS && !enough(all); seed++) {
        init_params(&m->g, &m->plan, 0, exec_arenas(x), seed);
        model_gather(m, x);
        for (uint32_t i = 0; i < m->g.params.n; i++) {
            struct tensor *t = tensor_of(m, i, all);
            if (!t)
                return;
            add(t, m->param[i], ir_shape_elements(&m->g.params.at[i].shape));
        }
    }
}

static void compare(const struct model *m, const char *name, const struct tensor *t)
{
    const double mean = weights_number(t->want, INIT_MEAN), deviation = weights_number(t->want, INIT_DEVIATION),
                 count = weights_number(t->want, INIT_COUNT);
    const double is = t->sum / t->n, spread = sqrt(fmax(t->squares / t->n - is * is, 0)),
                 error = sqrt(1 / t->n + 1 / count);
    const bool good = deviation > 0 ? fabs(is - mean) <= errors * deviation * error &&
                                          fabs(spread / deviation - 1) <= errors * error * sqrt(0.5)
                                    : t->least == mean && t->most == mean;
    char text[160];
    snprintf(text, sizeof text, "begins with mean %.4g and deviation %.4g, with transformers %.4g and %.4g", is, spread,
             mean, deviation);
    if (!good)
        model_fail(m, name, text);
    compared++;
}

static void compare_all(const struct model *m, const struct tensors *all)
{
    uint32_t i = 0;
    const char *name;
    json_t *want;
    json_object_foreach(json_object_get(m->row, "tensors"), name, want)
    {
        if (all->at[i].n == 0)
            model_fail(m, name, "is in transformers' file, and no parameter lies in it");
        else
            compare(m, name, &all->at[i]);
        i++;
    }
}

static void compare_decay(const struct model *m, struct tensors *all)
{
    for (uint32_t i = 0; i < m->g.params.n; i++) {
        const struct tensor *t = tensor_of(m, i, all);
        const bool decays = m->g.params.at[i].decays;
        if (t && decays != (weights_number(t->want, INIT_DECAYS) > 0))
            model_fail(m, m->g.params.at[i].name, decays ? "decays, and should not" : "does not decay, and should");
    }
}

static void run(struct model *m, struct exec *x)
{
    struct tensors all = { 0 };
    const char *name;
    json_t *want;
    json_object_foreach(json_object_get(m->row, "tensors"), name, want)
    {
        vec_add(&all, ((struct tensor){ .want = want, .least = INFINITY, .most = -INFINITY }));
    }
    initialize(m, x, &all);
    compare_all(m, &all);
    compare_decay(m, &all);
    vec_free(&all);
}

void init_run(const json_t *row)
{
    struct model m = { .row = row, .name = json_string_value(json_object_get(row, "name")) };
    const struct model_job job = { .seq_len = 8, .batch = 1, .optimizer = OPT_ADAMW, .compute = IR_F32 };
    struct err e = { 0 };
    struct exec *x;
    enum status st = model_compile(&m, &job, &e);
    if (st == ST_OK)
        st = model_open(&m, &job, &x, &e);
    if (st == ST_OK) {
        run(&m, x);
        exec_close(x);
    } else {
        model_fail(&m, "open", e.text);
    }
    models++;
    model_release(&m);
}

void init_foot(void)
{
    printf("%u models, %u tensors: means and deviations of the first weights\n", models, compared);
}
