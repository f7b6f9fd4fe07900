/* Two neighbouring operators in one kernel: a product with GELU against the float64 oracle, a sum with a norm against the two
 * kernels of the machine, to the bit. Where a machine has the first kernel and pairs, it must have these. */
#include <check.h>
#include <string.h>

#include "base/mem.h"
#include "num/run_op.h"

static double tolerance(void)
{
    return machine->compute == IR_BF16 ? 0.01 : 1e-5;
}

static struct guarded blank(size_t n, enum ir_dtype type)
{
    return machine_buffer(machine, n * ir_dtype_size(type, machine->compute));
}

/* x is rounded to what the machine holds. */
static struct guarded filled(struct tensor *x)
{
    struct guarded g = blank(x->n, IR_COMPUTE);
    for (size_t i = 0; i < x->n; i++) {
        x->x[i] = rounded(machine->compute, x->x[i]);
        set_element(&g, machine->compute, i, x->x[i]);
    }
    return g;
}

static struct guarded work_of(const struct op_case *c, enum ir_pass pass)
{
    return machine_buffer(
        machine, machine->workspace(&(struct ir_kernel){ c->op, pass, &c->a, c->b, c->t, 1, machine->compute, { 0 } }));
}

static struct op_args args_of(const struct op_case *c, void *work)
{
    return (struct op_args){ .attrs = &c->a,
                             .op = c->op,
                             .b = c->b,
                             .t = c->t,
                             .ep = 1,
                             .compute = machine->compute,
                             .train = true,
                             .work = work,
                             .stream = machine->stream };
}

static void expect(const char *what, const struct op_case *c, const struct guarded *got, const struct tensor *want)
{
    float *x = mem_alloc(want->n * sizeof *x);
    for (size_t i = 0; i < want->n; i++)
        x[i] = (float)element(got, machine->compute, i);
    const double error = worst_error(x, want->x, want->n, 0.05);
    ck_assert_msg(error <= tolerance(), "%s: %s b=%u t=%u in=%u out=%u flags=%u: error %.3g", machine->name, what, c->b,
                  c->t, c->a.in_features, c->a.out_features, c->a.flags, error);
    mem_free(x);
}

/* Runs it on n buffers, guards and all; those from `written` on may change. */
static void run_pair(op_pair pair, const struct op_args a[2], struct guarded *const *g, size_t n, size_t written)
{
    void *before[10] = { 0 };
    for (size_t i = 0; i < n; i++) {
        machine_put(machine, g[i]);
        before[i] = memcpy(mem_alloc(g[i]->bytes + 1), g[i]->at, g[i]->bytes);
    }
    pair(&a[0], &a[1]);
    for (size_t i = 0; i < n; i++) {
        machine_get(machine, g[i]);
        ck_assert_msg(guarded_intact(g[i]), "%s: wrote outside buffer %zu", machine->name, i);
        ck_assert_msg(i >= written || memcmp(before[i], g[i]->at, g[i]->bytes) == 0, "%s: changed operand %zu",
                      machine->name, i);
        mem_free(before[i]);
    }
}

static void release(struct guarded *const *g, size_t n, struct problem *p, struct problem *q)
{
    for (size_t i = 0; i < n; i++)
        machine_free(machine, g[i]);
    problem_free(p);
    problem_free(q);
}

/* As either of its operators. */
static enum ir_op gelu_op = IR_OP_GELU;

static struct op_case gelu_of(const struct op_case *linear, uint32_t width)
{
    const uint32_t act = gelu_op == IR_OP_ACT ? IR_ACT_GELU_TANH : 0;
    return (struct op_case){
        .op = gelu_op, .a = { .features = width, .act = act }, .b = linear->b, .t = linear->t, .ep = 1
    };
}

/* without: the plan has no room for a workspace */
static void gelu_f(const struct op_case *c, bool without)
{
    const struct op_case next = gelu_of(c, c->a.out_features);
    struct problem p = problem_new(c, 1), q = problem_new(&next, 2);
    struct guarded x = filled(&p.in[0]), w = filled(&p.param[0]), bias = filled(&p.param[1]);
    struct guarded h = blank(p.out[0].n, IR_COMPUTE), y = blank(p.out[0].n, IR_COMPUTE);
    struct guarded work = work_of(c, IR_PASS_F), own = work_of(&next, IR_PASS_F);
    struct guarded *const all[] = { &x, &w, &bias, &h, &y, &work, &own };
    oracle_forward(&p);
    memcpy(q.in[0].x, p.out[0].x, p.out[0].n * sizeof(double));
    oracle_forward(&q);
    struct op_args a[2] = { args_of(c, without ? NULL : work.device), args_of(&next, own.device) };
    a[0].in[0] = x.device;
    a[0].param[0] = w.device;
    a[0].param[1] = c->a.flags & IR_BIAS ? bias.device : NULL;
    a[0].out[0] = a[1].in[0] = h.device;
    a[1].out[0] = y.device;
    const op_pair pair = machine->backend->pair(IR_PASS_F, &a[0], &a[1]);
    ck_assert_ptr_nonnull(pair);
    run_pair(pair, a, all, 7, 3);
    expect("product", c, &h, &p.out[0]);
    expect("GELU", c, &y, &q.out[0]);
    release(all, 7, &p, &q);
}

static void gelu_bi(const struct op_case *c, bool without)
{
    const struct op_case before = gelu_of(c, c->a.in_features);
    struct problem p = problem_new(c, 3), q = problem_new(&before, 4);
    struct guarded dy = filled(&p.dout[0]), w = filled(&p.param[0]), x = filled(&q.in[0]);
    struct guarded between = blank(p.din[0].n, IR_COMPUTE), dx = blank(p.din[0].n, IR_COMPUTE);
    struct guarded work = work_of(c, IR_PASS_BI), own = work_of(&before, IR_PASS_BI);
    struct guarded *const all[] = { &dy, &w, &x, &between, &dx, &work, &own };
    oracle_backward(&p);
    memcpy(q.dout[0].x, p.din[0].x, p.din[0].n * sizeof(double));
    oracle_backward(&q);
    struct op_args a[2] = { args_of(c, without ? NULL : work.device), args_of(&before, own.device) };
    a[0].dout[0] = dy.device;
    a[0].param[0] = w.device;
    a[0].din[0] = a[1].dout[0] = between.device;
    a[1].in[0] = x.device;
    a[1].din[0] = dx.device;
    const op_pair pair = machine->backend->pair(IR_PASS_BI, &a[0], &a[1]);
    ck_assert_ptr_nonnull(pair);
    run_pair(pair, a, all, 7, 3);
    expect("gradient of GELU", c, &dx, &q.din[0]);
    for (int i = 0; i < 2; i++) { /* an epilogue adds nothing behind GELU, and another reads what is added before */
        a[i].acc[0] = dx.device;
        ck_assert_ptr_null(machine->backend->pair(IR_PASS_BI, &a[0], &a[1]));
        a[i].acc[0] = NULL;
    }
    release(all, 7, &p, &q);
}

START_TEST(product_and_gelu)
{
    static const uint32_t shapes[][2] = { { 8, 8 }, { 24, 16 }, { 136, 40 } };
    if (!machine->backend->pair || !has_kernels(machine, IR_OP_LINEAR, &(struct ir_attrs){ 0 }))
        return;
    for (uint32_t i = 0; i < 3 * 4 * 2; i++) {
        const uint32_t *s = shapes[i % 3], flags = i / 3 % 4;
        struct op_case c = { .op = IR_OP_LINEAR, .b = 1 + i % 2, .t = 1 + 12 * (i % 3), .ep = 1 };
        c.a = (struct ir_attrs){ .in_features = s[0], .out_features = s[1], .flags = flags };
        gelu_op = i / 2 % 2 ? IR_OP_ACT : IR_OP_GELU;
        gelu_f(&c, i >= 12);
        gelu_bi(&c, i >= 12);
    }
    gelu_op = IR_OP_GELU;
}
END_TEST

/* What an epilogue cannot do: GELU's exact form and other activations, rows of any length. */
START_TEST(no_pair)
{
    struct op_case c = { .op = IR_OP_LINEAR, .a = { .in_features = 8, .out_features = 16 }, .b = 1, .t = 8 };
    struct op_case exact = gelu_of(&c, 16);
    struct op_args a[2] = { args_of(&c, NULL), args_of(&exact, NULL) };
    if (!machine->backend->pair)
        return;
    exact.a.flags = IR_EXACT;
    ck_assert_ptr_null(machine->backend->pair(IR_PASS_F, &a[0], &a[1]));
    exact.a.flags = 0;
    exact.op = a[1].op = IR_OP_ACT;
    for (exact.a.act = 0; exact.a.act < IR_ACT_COUNT; exact.a.act++)
        ck_assert((machine->backend->pair(IR_PASS_F, &a[0], &a[1]) != NULL) ==
                  (exact.a.act == IR_ACT_GELU_TANH && has_kernels(machine, IR_OP_LINEAR, &(struct ir_attrs){ 0 })));
    exact.a.act = IR_ACT_GELU_TANH;
    exact.a.features = c.a.out_features = 12;
    ck_assert_ptr_null(machine->backend->pair(IR_PASS_F, &a[0], &a[1]));
    ck_assert_ptr_null(machine->backend->pair(IR_PASS_F, &a[1], &a[0]));
    a[0].op = a[1].op = IR_OP_ADD;
    ck_assert_ptr_null(machine->backend->pair(IR_PASS_F, &a[0], &a[1]));
}
END_TEST

static void sum_and(enum ir_op norm, const struct ir_attrs *attrs, uint32_t b, uint32_t t)
{
    const struct op_case add = {
        .op = IR_OP_ADD, .a = { .features = attrs->features * ir_op_norm_groups(attrs) }, .b = b, .t = t, .ep = 1
    };
    const struct op_case next = { .op = norm, .a = *attrs, .b = b, .t = t, .ep = 1 };
    struct problem p = problem_new(&add, 5), q = problem_new(&next, 6);
    const size_t n = p.out[0].n, rows = n / attrs->features;
    struct guarded x = filled(&p.in[0]), more = filled(&p.in[1]), w = filled(&q.param[0]), shift = filled(&q.param[1]);
    struct guarded sum = blank(n, IR_COMPUTE), y = blank(n, IR_COMPUTE),
                   save[2] = { blank(rows, IR_F32), blank(rows, IR_F32) };
    struct guarded work[2] = { work_of(&add, IR_PASS_F), work_of(&next, IR_PASS_F) };
    struct guarded *const all[] = { &x, &more, &w, &shift, &sum, &y, &save[0], &save[1], &work[0], &work[1] };
    struct op_args a[2] = { args_of(&add, work[0].device), args_of(&next, work[1].device) };
    a[0].in[0] = x.device;
    a[0].in[1] = more.device;
    a[0].out[0] = a[1].in[0] = sum.device;
    a[1].out[0] = y.device;
    a[1].param[0] = w.device;
    a[1].param[1] = shift.bytes ? shift.device : NULL;
    a[1].save[0] = save[0].device;
    a[1].save[1] = norm == IR_OP_LAYERNORM ? save[1].device : NULL;
    const op_pair pair = machine->backend->pair(IR_PASS_F, &a[0], &a[1]);
    ck_assert_ptr_nonnull(pair);
    run_pair(pair, a, all, 10, 4);
    void *got[4];
    for (size_t i = 0; i < 4; i++) {
        got[i] = memcpy(mem_alloc(all[4 + i]->bytes), all[4 + i]->at, all[4 + i]->bytes);
        guarded_poison(all[4 + i]);
        machine_put(machine, all[4 + i]);
    }
    machine->backend->kernel(IR_OP_ADD, IR_PASS_F)(&a[0]);
    machine->backend->kernel(norm, IR_PASS_F)(&a[1]);
    for (size_t i = 0; i < 4; i++) {
        machine_get(machine, all[4 + i]);
        ck_assert_msg(memcmp(got[i], all[4 + i]->at, all[4 + i]->bytes) == 0,
                      "%s: sum and %s in one, b=%u t=%u features=%u groups=%u: output %zu has other bits",
                      machine->name, ir_op_info[norm].name, b, t, attrs->features, attrs->heads, i);
        mem_free(got[i]);
    }
    release(all, 10, &p, &q);
}

START_TEST(sum_and_norm)
{
    /* narrow, odd, rows of a warp, of a block, and too long to be kept */
    static const uint32_t widths[] = { 5, 16, 67, 768, 2200, 26000 };
    if (!machine->backend->pair || !has_kernels(machine, IR_OP_ADD, &(struct ir_attrs){ 0 }) ||
        !has_kernels(machine, IR_OP_LAYERNORM, &(struct ir_attrs){ 0 }))
        return;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const struct ir_attrs a = { .features = widths[i], .eps = 1e-5f };
        struct ir_attrs groups = a;
        groups.heads = 3;
        sum_and(IR_OP_LAYERNORM, &a, 2, widths[i] > 1000 ? 2 : 9);
        sum_and(IR_OP_RMSNORM, &a, 1, 3);
        if (widths[i] < 1000)
            sum_and(IR_OP_RMSNORM, &groups, 3, 7);
    }
}
END_TEST

void add_pairs(struct TCase *t)
{
    tcase_add_test(t, product_and_gelu);
    tcase_add_test(t, no_pair);
    tcase_add_test(t, sum_and_norm);
}
