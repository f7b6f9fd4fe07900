/* Whole models against the outside world: logits, loss and every gradient of five transformers models, and 20 steps of
 * torch's AdamW. The numbers and where they come from: tests/num/reference/README. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/h5.h"
#include "io/safetensors.h"
#include "io/tokens.h"
#include "ir/family/family.h"
#include "ir/target.h"
#include "num/naive.h"
#include "tests/unit/suite.h"

/* Largest deviation, relative to the largest element of the reference. */
static const double tolerance = 1e-5;

static const char *const models[] = { "gpt2", "llama", "qwen3", "qwen3_moe", "mixtral" };
enum { MODELS = sizeof models / sizeof models[0], T = 13, B = 2 };

static struct err err;
#define OK(call) ck_assert_msg((call) == ST_OK, "%s", err.text)

/* ---- a model from its folder ---------------------------------------------------------------------------------- */

struct model {
    struct arena arena;
    struct ir_graph g;
    struct naive n;
};

static const char *path_of(struct arena *a, const char *model, const char *file)
{
    const char *top = getenv("top_srcdir");
    return arena_printf(a, "%s/tests/num/reference/%s/%s", top ? top : ".", model, file);
}

/* A parameter as it stands in files: one tensor, or one per expert. */
struct parts {
    uint32_t count;
    uint64_t elements; /* of each */
    int rank;
    const uint32_t *dim;
};

static struct parts parts_of(const struct ir_param *p)
{
    bool star = strchr(p->name, '*') != NULL;
    uint32_t count = star ? p->shape.dim[0] : 1;
    return (struct parts){ count, ir_shape_elements(&p->shape) / count, p->shape.ndim - star, p->shape.dim + star };
}

/* The parameter's name with the number of the expert for the star. */
static const char *part_name(struct arena *a, const struct ir_param *p, uint32_t part)
{
    const char *star = strchr(p->name, '*');
    return star ? arena_printf(a, "%.*s%u%s", (int)(star - p->name), p->name, part, star + 1) : p->name;
}

/* Every tensor of the file is one of the model's, and the other way round. */
static void load_weights(struct model *m, const char *path)
{
    struct safetensors file;
    uint32_t tensors = 0;
    OK(safetensors_open(path, &file, &err));
    for (uint32_t i = 0; i < m->g.params.n; i++) {
        struct parts parts = parts_of(&m->g.params.at[i]);
        tensors += parts.count;
        for (uint32_t k = 0; k < parts.count; k++) {
            const char *name = part_name(&m->arena, &m->g.params.at[i], k);
            const struct safetensors_entry *t = safetensors_find(&file, name);
            ck_assert_msg(t != NULL, "%s: no tensor %s", path, name);
            ck_assert_int_eq(t->ndim, parts.rank);
            for (int j = 0; j < parts.rank; j++)
                ck_assert_uint_eq(t->dim[j], parts.dim[j]);
            OK(safetensors_read(&file, t, 0, t->elements, m->n.param[i] + k * parts.elements, &err));
        }
    }
    ck_assert_uint_eq(file.entries.n, tensors);
    safetensors_close(&file);
}

static void open_model(struct model *m, const char *name, uint32_t b)
{
    arena_init(&m->arena);
    ir_graph_init(&m->g);
    const char *file = path_of(&m->arena, name, "model.json");
    json_t *doc = NULL;
    struct notices notices;
    notices_init(&notices);
    OK(js_load_file(file, &doc, &err));
    OK(ir_family_build(doc, file, T, &m->g, &notices, &err));
    ck_assert_str_eq(m->g.family, name);
    for (uint32_t i = 0; i < notices.n; i++)
        printf("# notice: %s\n", notices.at[i]);
    notices_release(&notices);
    json_decref(doc);
    naive_init(&m->n, &compute_cpu, &m->g, b);
    load_weights(m, path_of(&m->arena, name, "weights.safetensors"));
}

static void close_model(struct model *m)
{
    naive_release(&m->n);
    ir_graph_release(&m->g);
    arena_release(&m->arena);
}

/* ---- reading and comparing ------------------------------------------------------------------------------------ */

static int32_t *get_tokens(const struct h5_at *at, const char *name, struct arena *a)
{
    struct h5_data d = { .name = name, .rank = 2, .dim = { B, T } };
    int64_t *x;
    OK(h5_get_i64(at, &d, 0, INT32_MAX, a, &x, &err));
    int32_t *out = arena_array(a, int32_t, B * T);
    for (uint32_t i = 0; i < B * T; i++)
        out[i] = (int32_t)x[i];
    return out;
}

static double deviation(const float *x, const double *reference, uint64_t n)
{
    double most = 0, off = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = fabs((double)x[i] - reference[i]);
        most = fmax(most, fabs(reference[i]));
        off = isnan(d) ? INFINITY : fmax(off, d);
    }
    return off == 0 ? 0 : off / most;
}

/* The tensors that deviate most, worst first. */
enum { SHOWN = 4 };
struct table {
    struct {
        double off;
        char name[96];
    } row[SHOWN];
    uint32_t tensors;
};

static void table_add(struct table *t, const char *name, double off)
{
    uint32_t i = t->tensors++ < SHOWN ? t->tensors - 1 : SHOWN;
    for (; i > 0 && off > t->row[i - 1].off; i--)
        if (i < SHOWN)
            t->row[i] = t->row[i - 1];
    if (i == SHOWN)
        return;
    t->row[i].off = off;
    snprintf(t->row[i].name, sizeof t->row[i].name, "%s", name);
}

static void table_print(const struct table *t, const char *model, const char *what)
{
    printf("# %-10s %u %s, the worst:\n", model, t->tensors, what);
    for (uint32_t i = 0; i < SHOWN && i < t->tensors; i++)
        printf("# %10s %.2e %s\n", "", t->row[i].off, t->row[i].name);
    fflush(stdout);
}

/* Every parameter's tensor in x against the group, tensor by tensor; the group has no other. */
static void compare_params(struct model *m, float *const *x, const struct h5_at *group, struct table *t)
{
    for (uint32_t i = 0; i < m->g.params.n; i++) {
        const struct ir_param *p = &m->g.params.at[i];
        struct parts parts = parts_of(p);
        for (uint32_t k = 0; k < parts.count; k++) {
            struct h5_data d = { .name = part_name(&m->arena, p, k), .rank = parts.rank };
            for (int j = 0; j < parts.rank; j++)
                d.dim[j] = parts.dim[j];
            double *reference;
            OK(h5_get_f64(group, &d, &m->arena, &reference, &err));
            table_add(t, d.name, deviation(x[i] + k * parts.elements, reference, parts.elements));
        }
    }
    uint64_t n;
    OK(h5_count(group, &n, &err));
    ck_assert_uint_eq(n, t->tensors);
}

/* ---- one step of every model ---------------------------------------------------------------------------------- */

/* Logits do not exist in the graph: the product of the head's input and its matrix, by the linear kernel. */
static double logits_deviation(struct model *m, const struct h5_at *root)
{
    const struct ir_node_op *head = &m->g.ops.at[m->g.ops.n - 1];
    ck_assert_uint_eq(head->op, IR_OP_HEAD_LOSS);
    struct ir_attrs attrs = { .in_features = head->attrs.features, .out_features = head->attrs.vocab };
    uint64_t work = ir_target_cpu.workspace(
        &(struct ir_kernel){ IR_OP_LINEAR, IR_PASS_F, &attrs, B, T, 1, IR_F32, { 0 } });
    uint64_t n = (uint64_t)B * T * attrs.out_features;
    float *logits = arena_array(&m->arena, float, n);
    struct op_args a = { .attrs = &attrs, .op = IR_OP_LINEAR, .b = B, .t = T, .ep = 1, .compute = IR_F32 };
    a.in[0] = m->n.value[head->in[0]];
    a.param[0] = m->n.param[head->param[0]];
    a.out[0] = logits;
    a.work = (void *)round_up((uintptr_t)arena_alloc(&m->arena, work + 64), 64);
    compute_cpu.kernel(IR_OP_LINEAR, IR_PASS_F)(&a);
    struct h5_data d = { .name = "logits", .rank = 3, .dim = { B, T, attrs.out_features } };
    double *reference;
    OK(h5_get_f64(root, &d, &m->arena, &reference, &err));
    return deviation(logits, reference, n);
}

START_TEST(one_step)
{
    struct model m;
    struct h5_at root, group;
    const char *name = models[_i];
    open_model(&m, name, B);
    OK(h5_open(path_of(&m.arena, name, "reference.h5"), "piper-reference", 1, &root, &err));
    OK(h5_group(&root, "grads", &group, &err));
    naive_forward(&m.n, get_tokens(&root, "tokens", &m.arena), get_tokens(&root, "targets", &m.arena));
    naive_backward(&m.n);

    double *loss;
    OK(h5_get_f64(&root, &(struct h5_data){ .name = "loss" }, &m.arena, &loss, &err));
    double logits_off = logits_deviation(&m, &root);
    double loss_off = fabs(m.n.scalars[SCALAR_LOSS] * m.n.loss_scale / *loss - 1);
    struct table t = { .tensors = 0 };
    compare_params(&m, m.n.dparam, &group, &t);
    printf("# %-10s loss %.7f, off by %.2e; logits off by %.2e\n", name, *loss, loss_off, logits_off);
    table_print(&t, name, "gradients");
    h5_close(&group);
    h5_close(&root);
    close_model(&m);
    ck_assert_double_le(loss_off, tolerance);
    ck_assert_double_le(logits_off, tolerance);
    ck_assert_double_le(t.row[0].off, tolerance);
}
END_TEST

/* ---- 20 steps of AdamW ---------------------------------------------------------------------------------------- */

enum { STEPS = 20, BATCH = 4 }; /* and what else reference/llama/train.json says */
static const struct optimizer_args adamw = { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f };
static const double learning_rate = 1e-3, clip = 1.0;

struct moments {
    float *m, *v;
};

/* Returns the norm of the gradients before clipping. */
static double update(struct model *m, struct moments *moments, uint64_t step)
{
    double sum = 0, nonfinite = 0;
    for (uint32_t i = 0; i < m->g.params.n; i++)
        compute_cpu.sumsq(m->n.dparam[i], ir_shape_elements(&m->g.params.at[i].shape), &sum, &nonfinite, NULL);
    ck_assert_double_eq(nonfinite, 0);
    struct step_inputs s = { .lr = learning_rate, .grad_scale = fmin(1.0, clip / sqrt(sum)), .update = step };
    for (uint32_t i = 0; i < m->g.params.n; i++) {
        uint64_t n = ir_shape_elements(&m->g.params.at[i].shape);
        struct update_args u = { .opt = &adamw, .n = n, .n_decay = m->g.params.at[i].shape.ndim >= 2 ? n : 0 };
        u.master = u.param = m->n.param[i];
        u.m = moments[i].m;
        u.v = moments[i].v;
        u.grad = m->n.dparam[i];
        u.compute = IR_F32;
        compute_cpu.update(&u, &s);
    }
    return sqrt(sum);
}

START_TEST(twenty_steps)
{
    struct model m;
    struct h5_at root, run, params;
    open_model(&m, "llama", BATCH);
    OK(h5_open(path_of(&m.arena, "llama", "adamw.h5"), "piper-reference-adamw", 1, &root, &err));
    OK(h5_group(&root, "float64", &run, &err));
    OK(h5_group(&run, "params", &params, &err));
    double *loss, *norm;
    OK(h5_get_f64(&run, &(struct h5_data){ .name = "loss", .rank = 1, .dim = { STEPS } }, &m.arena, &loss, &err));
    OK(h5_get_f64(&run, &(struct h5_data){ .name = "grad_norm", .rank = 1, .dim = { STEPS } }, &m.arena, &norm, &err));
    struct tokens text;
    OK(tokens_open(path_of(&m.arena, "llama", "tokens.h5"), T, m.g.vocab, &text, &err));
    ck_assert_uint_eq(text.n_windows, STEPS * BATCH);

    struct moments *moments = arena_array(&m.arena, struct moments, m.g.params.n);
    for (uint32_t i = 0; i < m.g.params.n; i++) {
        moments[i].m = arena_array(&m.arena, float, ir_shape_elements(&m.g.params.at[i].shape));
        moments[i].v = arena_array(&m.arena, float, ir_shape_elements(&m.g.params.at[i].shape));
    }
    double loss_off = 0, norm_off = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        int32_t in[BATCH][T], out[BATCH][T];
        for (uint32_t i = 0; i < BATCH; i++) {
            int32_t row[T + 1];
            OK(tokens_window(&text, step * BATCH + i, row, &err));
            memcpy(in[i], row, sizeof in[i]);
            memcpy(out[i], row + 1, sizeof out[i]);
        }
        naive_forward(&m.n, in[0], out[0]);
        naive_backward(&m.n);
        loss_off = fmax(loss_off, fabs(m.n.scalars[SCALAR_LOSS] * m.n.loss_scale / loss[step] - 1));
        norm_off = fmax(norm_off, fabs(update(&m, moments, step + 1) / norm[step] - 1));
    }
    struct table t = { .tensors = 0 };
    compare_params(&m, m.n.param, &params, &t);
    printf("# adamw      loss off by %.2e, gradient norm off by %.2e\n", loss_off, norm_off);
    table_print(&t, "adamw", "weights");
    tokens_close(&text);
    h5_close(&params);
    h5_close(&run);
    h5_close(&root);
    close_model(&m);
    ck_assert_double_le(loss_off, tolerance);
    ck_assert_double_le(norm_off, tolerance);
    ck_assert_double_le(t.row[0].off, tolerance);
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("reference");
    tcase_add_loop_test(c, one_step, 0, MODELS);
    tcase_add_test(c, twenty_steps);
    Suite *s = suite_create("reference");
    suite_add_tcase(s, c);
    return suite_run(s);
}
