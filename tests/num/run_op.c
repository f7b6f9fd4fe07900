/* See run_op.h. A kernel gets what its row of the operator table says, nothing else; what it may not touch is guarded,
 * what it must write held NaN before. */
#include "num/run_op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { SLOTS = PROBLEM_TENSORS };

/* Every operand of one operator, in guarded buffers. */
struct bench {
    const struct machine *m;
    const struct op_case *c;
    struct problem p;
    struct { /* of the operator, with room for the slots of the longest kind */
        struct ir_shape in[SLOTS], out[SLOTS], param[SLOTS];
    } shapes;
    struct guarded in[SLOTS], out[SLOTS], param[SLOTS], dout[SLOTS], din[SLOTS], acc[SLOTS], dparam[SLOTS];
    struct guarded save[IR_MAX_SAVE], stash[IR_MAX_STASH], scalars, load;
    double tolerance, *worst;
    char text[160]; /* what went wrong first */
};

static void complain(struct bench *k, const char *what, int which, double error)
{
    if (!k->text[0])
        snprintf(k->text, sizeof k->text, "%s %d: error %.3g", what, which, error);
}

/* ---- operands ------------------------------------------------------------------------------------------------- */

static enum ir_dtype type_of(const struct bench *k, const struct ir_shape *s)
{
    return s->dtype == IR_COMPUTE ? k->m->compute : (enum ir_dtype)s->dtype;
}

static struct guarded blank(const struct bench *k, size_t n, const struct ir_shape *s)
{
    return n ? machine_buffer(k->m, n * ir_dtype_size((enum ir_dtype)s->dtype, k->m->compute)) : (struct guarded){ 0 };
}

static void fill_buffer(const struct bench *k, struct guarded *g, const struct tensor *x, const struct ir_shape *s)
{
    for (size_t i = 0; i < x->n; i++)
        if (x->i)
            ((int32_t *)g->at)[i] = x->i[i];
        else
            set_element(g, type_of(k, s), i, x->x[i]);
}

static struct guarded filled(const struct bench *k, const struct tensor *x, const struct ir_shape *s)
{
    struct guarded g = blank(k, x->n, s);
    fill_buffer(k, &g, x, s);
    return g;
}

/* The oracle reads what the kernel reads. */
static void round_problem(struct problem *p, enum ir_dtype type)
{
    for (int i = 0; i < SLOTS; i++) {
        struct tensor *const all[] = { &p->in[i], &p->param[i], &p->dout[i] };
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            for (size_t e = 0; all[j]->x && e < all[j]->n; e++)
                all[j]->x[e] = rounded(type, all[j]->x[e]);
    }
}

static const struct ir_shape gradient = { IR_F32, 1, { 0, 0, 0 } }; /* of a parameter, whatever the compute type */

static void open_bench(struct bench *k, const struct machine *m, const struct op_case *c, uint64_t seed)
{
    struct rng r = { seed ^ 0xacc };
    *k = (struct bench){ .m = m, .c = c, .p = problem_new(c, seed) };
    round_problem(&k->p, m->compute);
    struct ir_op_shapes of, *const s = &of;
    ir_op_shapes(c->op, &c->a, c->t, s);
    memcpy(k->shapes.in, s->in, sizeof s->in);
    memcpy(k->shapes.out, s->out, sizeof s->out);
    memcpy(k->shapes.param, s->param, sizeof s->param);
    const size_t rows = c->op == IR_OP_EXPERTS && !c->a.capacity ? (size_t)c->b * c->ep : c->b;
    for (int i = 0; i < SLOTS; i++) {
        k->in[i] = filled(k, &k->p.in[i], &k->shapes.in[i]);
        k->param[i] = filled(k, &k->p.param[i], &k->shapes.param[i]);
        k->dout[i] = filled(k, &k->p.dout[i], &k->shapes.out[i]);
        k->out[i] = blank(k, k->p.out[i].n, &k->shapes.out[i]);
        k->din[i] = blank(k, k->p.din[i].n, &k->shapes.in[i]);
        k->acc[i] = blank(k, k->p.din[i].n, &k->shapes.in[i]);
        k->dparam[i] = blank(k, k->p.dparam[i].n, &gradient);
        for (size_t j = 0; j < k->p.din[i].n; j++)
            set_element(&k->acc[i], type_of(k, &k->shapes.in[i]), j, rng_normal(&r));
    }
    for (int i = 0; i < IR_MAX_SAVE; i++) {
        k->save[i] = blank(k, ir_shape_elements(&s->save[i]) * rows, &s->save[i]);
        k->stash[i] = blank(k, ir_shape_elements(&s->stash[i]) * rows, &s->stash[i]);
    }
    k->scalars = machine_buffer(m, SCALAR_COUNT * sizeof(double));
    if (c->op == IR_OP_ROUTER)
        k->load = machine_buffer(m, c->a.experts * sizeof(double));
}

static struct guarded *all_buffers(struct bench *k, size_t i)
{
    struct guarded *const groups[] = { k->in, k->out, k->param, k->dout, k->din, k->acc, k->dparam };
    const size_t n = sizeof groups / sizeof *groups * SLOTS;
    if (i < n)
        return &groups[i / SLOTS][i % SLOTS];
    i -= n;
    if (i < IR_MAX_SAVE)
        return &k->save[i];
    i -= IR_MAX_SAVE;
    return i < IR_MAX_STASH ? &k->stash[i] : i == IR_MAX_STASH ? &k->scalars : i == IR_MAX_STASH + 1 ? &k->load : NULL;
}

static void close_bench(struct bench *k)
{
    for (size_t i = 0; all_buffers(k, i); i++)
        machine_free(k->m, all_buffers(k, i));
    problem_free(&k->p);
}

static void input_unchanged(struct bench *k, const char *what, int i, const struct guarded *g, const struct tensor *x,
                            const struct ir_shape *s)
{
    if (x->n == 0)
        return;
    struct guarded fresh = guarded_new(g->bytes);
    fill_buffer(k, &fresh, x, s);
    if (memcmp(fresh.at, g->at, g->bytes) != 0)
        complain(k, what, i, INFINITY);
    guarded_free(&fresh);
}

static void look_at_buffers(struct bench *k)
{
    for (size_t i = 0; all_buffers(k, i); i++)
        if (all_buffers(k, i)->base && !guarded_intact(all_buffers(k, i)))
            complain(k, "wrote outside buffer", (int)i, INFINITY);
    for (int i = 0; i < SLOTS; i++) {
        input_unchanged(k, "changed input", i, &k->in[i], &k->p.in[i], &k->shapes.in[i]);
        input_unchanged(k, "changed parameter", i, &k->param[i], &k->p.param[i], &k->shapes.param[i]);
        input_unchanged(k, "changed output gradient", i, &k->dout[i], &k->p.dout[i], &k->shapes.out[i]);
    }
}

/* Runs a kernel in a workspace of exactly the planned size, and looks at all guards and at what only may be read. */
static void launch(struct bench *k, enum ir_pass pass, struct op_args *a)
{
    const struct op_case *c = k->c;
    const uint64_t bytes = k->m->workspace(
        &(struct ir_kernel){ c->op, pass, &c->a, c->b, c->t, c->ep, k->m->compute, { 0 } });
    struct guarded work = machine_buffer(k->m, bytes);
    a->attrs = &c->a;
    a->op = c->op;
    a->b = c->b;
    a->t = c->t;
    a->ep = c->ep;
    a->document = c->document;
    a->compute = k->m->compute;
    a->work = bytes ? work.device : NULL;
    a->scalars = k->scalars.device;
    a->loss_scale = k->p.loss_scale;
    a->stream = k->m->stream;
    for (int i = 0; i < SCALAR_COUNT; i++)
        ((double *)k->scalars.at)[i] = 3;
    for (uint32_t i = 0; k->load.at && i < c->a.experts; i++)
        ((double *)k->load.at)[i] = i;
    machine_put(k->m, &work);
    for (size_t i = 0; all_buffers(k, i); i++)
        machine_put(k->m, all_buffers(k, i));
    k->m->backend->kernel(c->op, pass)(a);
    machine_get(k->m, &work);
    for (size_t i = 0; all_buffers(k, i); i++)
        machine_get(k->m, all_buffers(k, i));
    if (!guarded_intact(&work))
        complain(k, "wrote outside its workspace", 0, INFINITY);
    look_at_buffers(k);
    machine_free(k->m, &work);
}

static void copy_pointers(void **to, const struct guarded *from, uint32_t bits, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = bits >> i & 1 ? from[i].device : NULL;
}

/* What a backward kernel reads. */
static struct op_args reading(struct bench *k, uint32_t reads)
{
    struct op_args a = { .train = true };
    copy_pointers(a.in, k->in, reads & 0xf, IR_MAX_IN);
    copy_pointers(a.out, k->out, reads >> 4 & 0xf, IR_MAX_OUT);
    copy_pointers(a.save, k->save, reads >> 8 & 0xf, IR_MAX_SAVE);
    copy_pointers(a.dout, k->dout, reads >> 12 & 0xf, IR_MAX_OUT);
    copy_pointers(a.stash, k->stash, reads >> 16 & 0xf, IR_MAX_STASH);
    copy_pointers(a.param, k->param, reads >> 20 & 0x3f, IR_MAX_PARAM);
    return a;
}

/* ---- comparison ----------------------------------------------------------------------------------------------- */

/* Elements that mean anything: of rows by expert without capacity, those of the counts. */
static size_t meaningful(const struct bench *k, const struct tensor *x)
{
    const struct problem *p = &k->p;
    if (k->c->op != IR_OP_EXPERTS || k->c->a.capacity || (x != &p->out[0] && x != &p->din[0]))
        return x->n;
    size_t rows = 0;
    for (size_t i = 0; i < p->in[1].n; i++)
        rows += (size_t)p->in[1].i[i];
    return rows * k->c->a.features;
}

static void compare(struct bench *k, const char *what, int i, const struct guarded *got, const struct tensor *want,
                    const struct ir_shape *s)
{
    if (want->i) {
        if (memcmp(got->at, want->i, got->bytes) != 0)
            complain(k, what, i, INFINITY);
        return;
    }
    const double floor = 0.05 * (k->c->op == IR_OP_HEAD_LOSS ? k->p.loss_scale : 1);
    const size_t n = meaningful(k, want);
    float *x = mem_alloc(n * sizeof *x);
    for (size_t e = 0; e < n; e++)
        x[e] = (float)element(got, type_of(k, s), e);
    const double error = worst_error(x, want->x, n, floor);
    mem_free(x);
    if (error > *k->worst)
        *k->worst = error;
    if (!(error <= k->tolerance))
        complain(k, what, i, error);
}

static void compare_scalars(struct bench *k, const char *what)
{
    const double want[3] = { k->p.loss, k->p.aux, k->p.dropped }, *scalars = k->scalars.at;
    for (int i = 0; i < 3; i++) {
        const double got = scalars[i] - 3;
        if (!(fabs(got - want[i]) <= k->tolerance * (1 + fabs(want[i]))))
            complain(k, what, i, got - want[i]);
    }
    if (scalars[SCALAR_NORM2] != 3)
        complain(k, "scalar of another kernel", SCALAR_NORM2, scalars[SCALAR_NORM2]);
}

/* Each token counts once for each of its k experts. */
static void compare_load(struct bench *k, const char *what)
{
    const double *load = k->load.at;
    for (uint32_t e = 0; load && e < k->c->a.experts; e++) {
        double want = e;
        for (size_t i = 0; i < k->p.out[1].n; i++)
            want += k->p.out[1].i[i] == (int32_t)e;
        if (load[e] != want)
            complain(k, what, (int)e, load[e] - want);
    }
}

static void *remember(const struct guarded *g, size_t bytes)
{
    void *copy = mem_alloc(bytes);
    memcpy(copy, g->at, bytes);
    return copy;
}

/* Runs again over poison, in another order where the machine has one: the same bits. x, s: what is written. */
static void repeat(struct bench *k, enum ir_pass pass, struct op_args *a, struct guarded *written,
                   const struct tensor *x, const struct ir_shape *s)
{
    void *before[SLOTS] = { 0 };
    for (int i = 0; i < SLOTS; i++)
        if (written[i].at) {
            before[i] = remember(&written[i], written[i].bytes);
            guarded_poison(&written[i]);
        }
    if (k->m->order)
        k->m->order(1);
    launch(k, pass, a);
    if (k->m->order)
        k->m->order(0);
    for (int i = 0; i < SLOTS; i++) {
        const uint32_t size = s ? ir_dtype_size(type_of(k, &s[i]), k->m->compute) : sizeof(float);
        if (before[i] && memcmp(before[i], written[i].at, meaningful(k, &x[i]) * size) != 0)
            complain(k, "other bits the second time, operand", i, 0);
        mem_free(before[i]);
    }
}

/* ---- the passes ----------------------------------------------------------------------------------------------- */

static void run_forward(struct bench *k)
{
    struct op_args a = { .train = false }; /* evaluation keeps nothing */
    copy_pointers(a.in, k->in, 0xf, IR_MAX_IN);
    copy_pointers(a.param, k->param, 0x3f, IR_MAX_PARAM);
    copy_pointers(a.out, k->out, 0xf, IR_MAX_OUT);
    launch(k, IR_PASS_F, &a);
    compare_scalars(k, "scalar in evaluation");
    for (int i = 0; i < SLOTS; i++)
        if (k->p.out[i].n)
            compare(k, "output in evaluation", i, &k->out[i], &k->p.out[i], &k->shapes.out[i]);
    a.train = true;
    copy_pointers(a.save, k->save, 0xf, IR_MAX_SAVE);
    for (int i = 0; i < SLOTS; i++)
        if (k->out[i].at)
            guarded_poison(&k->out[i]);
    a.load = k->load.device;
    launch(k, IR_PASS_F, &a);
    a.load = NULL;
    compare_scalars(k, "scalar");
    compare_load(k, "load of expert");
    for (int i = 0; i < SLOTS; i++)
        if (k->p.out[i].n)
            compare(k, "output", i, &k->out[i], &k->p.out[i], &k->shapes.out[i]);
    repeat(k, IR_PASS_F, &a, k->out, k->p.out, k->shapes.out);
}

/* Where the addend of an input's gradient stands: nowhere (nobody else reads the input), in din itself, in another buffer. */
enum addend { ADDEND_NONE, ADDEND_IN_PLACE, ADDEND_BESIDE, ADDENDS };

/* din = acc + gradient, what was wanted in *want (to be freed). */
static void want_gradient(const struct bench *k, int i, enum addend addend, struct tensor *want)
{
    const struct tensor *grad = &k->p.din[i];
    *want = (struct tensor){ .n = grad->n, .x = mem_alloc(grad->n * sizeof *want->x) };
    for (size_t j = 0; j < grad->n; j++)
        want->x[j] = grad->x[j] + (addend == ADDEND_NONE ? 0 : element(&k->acc[i], type_of(k, &k->shapes.in[i]), j));
}

static void compare_gradient(struct bench *k, int i, enum addend addend)
{
    static const char *const names[ADDENDS] = { "din", "din in place", "din beside" };
    struct tensor want;
    want_gradient(k, i, addend, &want);
    want.n = meaningful(k, &k->p.din[i]);
    compare(k, names[addend], i, &k->din[i], &want, &k->shapes.in[i]);
    mem_free(want.x);
}

/* One launch; addend: of each input. */
static struct op_args bi_with(struct bench *k, const enum addend addend[SLOTS])
{
    const struct ir_op_info *info = &ir_op_info[k->c->op];
    struct op_args a = reading(k, info->bi_reads | IR_DOUT(0) * 7u);
    void *before[SLOTS] = { 0 };
    copy_pointers(a.stash, k->stash, 0xf, IR_MAX_STASH);
    copy_pointers(a.din, k->din, info->grad_in & ~info->alias_in, IR_MAX_IN);
    for (int i = 0; i < IR_MAX_STASH; i++)
        if (k->stash[i].at)
            guarded_poison(&k->stash[i]);
    for (int i = 0; i < IR_MAX_IN; i++) {
        if (!a.din[i])
            continue;
        guarded_poison(&k->din[i]);
        if (addend[i] == ADDEND_IN_PLACE)
            memcpy(k->din[i].at, k->acc[i].at, k->din[i].bytes);
        a.acc[i] = addend[i] == ADDEND_NONE ? NULL : addend[i] == ADDEND_IN_PLACE ? a.din[i] : k->acc[i].device;
        before[i] = remember(&k->acc[i], k->acc[i].bytes);
    }
    launch(k, IR_PASS_BI, &a);
    for (int i = 0; i < IR_MAX_IN; i++) {
        if (!a.din[i])
            continue;
        compare_gradient(k, i, addend[i]);
        if (memcmp(before[i], k->acc[i].at, k->acc[i].bytes) != 0)
            complain(k, "changed addend", i, INFINITY);
        mem_free(before[i]);
    }
    return a;
}

/* All inputs alike; with c->readers every input apart. */
static void run_bi(struct bench *k)
{
    const struct ir_op_info *info = &ir_op_info[k->c->op];
    const uint32_t gradients = info->grad_in & ~info->alias_in;
    uint32_t ways = 1;
    for (uint32_t i = 0; i < ADDENDS; i++) {
        struct op_args a = bi_with(k, (const enum addend[SLOTS]){ i, i, i });
        if (i == ADDEND_NONE)
            repeat(k, IR_PASS_BI, &a, k->din, k->p.din, k->shapes.in);
    }
    for (int i = 0; i < IR_MAX_IN; i++)
        ways *= gradients >> i & 1 ? ADDENDS : 1;
    for (uint32_t way = 0; way < ways && k->c->readers; way++) {
        enum addend addend[SLOTS] = { 0 };
        for (uint32_t i = 0, left = way; i < IR_MAX_IN; i++)
            if (gradients >> i & 1) {
                addend[i] = left % ADDENDS;
                left /= ADDENDS;
            }
        bi_with(k, addend);
    }
}

/* dparam of these parameters written, then added to, then one of them added to. */
static void run_bw_of(struct bench *k, uint32_t params)
{
    for (uint32_t mode = 0; mode < 3; mode++) {
        struct op_args a = reading(k, ir_op_bw_reads(k->c->op, params));
        copy_pointers(a.dparam, k->dparam, params, IR_MAX_PARAM);
        a.dparam_add = mode == 0 ? 0 : mode == 1 ? 0x3f : 0x12;
        for (int i = 0; i < SLOTS; i++) {
            if (!a.dparam[i])
                continue;
            if (a.dparam_add >> i & 1)
                for (size_t j = 0; j < k->p.dparam[i].n; j++)
                    ((float *)k->dparam[i].at)[j] = (float)(k->p.param[i].x[j]);
            else
                guarded_poison(&k->dparam[i]);
        }
        launch(k, IR_PASS_BW, &a);
        for (int i = 0; i < SLOTS; i++) {
            if (!a.dparam[i])
                continue;
            for (size_t j = 0; j < k->p.dparam[i].n && a.dparam_add >> i & 1; j++)
                k->p.dparam[i].x[j] += k->p.param[i].x[j];
            compare(k, a.dparam_add >> i & 1 ? "dparam added" : "dparam", i, &k->dparam[i], &k->p.dparam[i], &gradient);
            for (size_t j = 0; j < k->p.dparam[i].n && a.dparam_add >> i & 1; j++)
                k->p.dparam[i].x[j] -= k->p.param[i].x[j];
        }
        if (mode == 0 && params == 0x3f)
            repeat(k, IR_PASS_BW, &a, k->dparam, k->p.dparam, NULL);
    }
}

/* All at once, and each part alone. */
static void run_bw(struct bench *k)
{
    const uint32_t parts = ir_op_bw_parts(k->c->op);
    run_bw_of(k, 0x3f);
    for (uint32_t i = 0; i < parts && parts > 1; i++)
        run_bw_of(k, ir_op_bw_params(k->c->op, &k->c->a, i));
}

bool has_kernels(const struct machine *m, enum ir_op op, const struct ir_attrs *a)
{
    for (int pass = IR_PASS_F; pass < IR_PASS_COUNT; pass++)
        if (ir_op_runs(op, a, (enum ir_pass)pass) && !m->backend->kernel(op, (enum ir_pass)pass))
            return false;
    return true;
}

const char *run_op_case(const struct machine *m, const struct op_case *c, uint64_t seed, double tolerance,
                        double *worst)
{
    static char text[160];
    struct bench k;
    open_bench(&k, m, c, seed);
    k.tolerance = tolerance;
    k.worst = worst;
    oracle_forward(&k.p);
    run_forward(&k);
    oracle_backward(&k.p);
    if (ir_op_has_kernel(c->op, IR_PASS_BI))
        run_bi(&k);
    if (ir_op_runs(c->op, &c->a, IR_PASS_BW))
        run_bw(&k);
    memcpy(text, k.text, sizeof text);
    close_bench(&k);
    return text[0] ? text : NULL;
}
