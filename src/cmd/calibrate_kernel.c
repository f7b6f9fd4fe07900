/* One kernel with operands of its own. */
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdio.h>
#include <time.h>

#include "cmd/calibrate.h"

enum { FEWEST_COPIES = 2, MOST_COPIES = 8, RUNS = 9 };
/* Operands stand in several copies that are used in turn, together larger than a core's own caches: in a step a kernel finds
 * its parameters and what was kept in memory, not where the last run left them. So also large ones have a second copy. */
static const uint64_t all_copies = 24 << 20;
static const double long_enough = 4e-3; /* seconds of runs for one median */

struct calibrate_kernel {
    const struct compute_backend *back;
    const struct ir_target *target;
    struct ir_attrs attrs;
    struct op_args args[MOST_COPIES];
    uint32_t copies, turn;
    uint64_t work_bytes;
    struct arena memory;
    double scalars[SCALAR_COUNT];
};

/* ---- operands -------------------------------------------------------------------------------------------------------- */

static void *aligned(struct arena *a, uint64_t bytes)
{
    return (void *)round_up((uintptr_t)arena_alloc(a, bytes + 64), 64);
}

/* Small numbers of both signs; integers 0. */
static void *operand(struct calibrate_kernel *k, const struct op_args *a, const struct ir_shape *s, uint64_t times)
{
    if (!s->ndim)
        return NULL;
    uint64_t n = ir_shape_elements(s) * times;
    uint32_t size = ir_dtype_size((enum ir_dtype)s->dtype, (enum ir_dtype)a->compute);
    unsigned char *p = aligned(&k->memory, n * size + 64);
    uint32_t x = 12345;
    for (uint64_t i = 0; i < n && s->dtype != IR_I32; i++) {
        x = x * 1664525 + 1013904223;
        float f = ((float)(x >> 8) - (float)(1 << 23)) * 0x1p-26f;
        if (size == 4)
            memcpy(p + 4 * i, &f, 4);
        else /* bfloat16: the upper half */
            memcpy(p + 2 * i, (char *)&f + 2, 2);
    }
    return p;
}

/* Expert e of token i: every one equally often. */
static void fill_routes(const struct op_args *a, int32_t *index)
{
    const struct ir_attrs *attrs = a->attrs;
    for (uint64_t i = 0; i < (uint64_t)a->b * a->t; i++)
        for (uint32_t j = 0; j < attrs->top_k; j++)
            index[i * attrs->top_k + j] = (int32_t)((i * attrs->top_k + j) % attrs->experts);
}

static void fill_integers(struct calibrate_kernel *k, struct op_args *a)
{
    const struct ir_attrs *attrs = a->attrs;
    uint64_t tokens = (uint64_t)a->b * a->t;
    int32_t *tok = a->in[a->op == IR_OP_HEAD_LOSS];
    if (a->op == IR_OP_EMBED || a->op == IR_OP_HEAD_LOSS)
        for (uint64_t i = 0; i < tokens; i++)
            tok[i] = (int32_t)(i * 7919 % attrs->vocab);
    if (a->op == IR_OP_ROUTER)
        fill_routes(a, a->out[1]);
    if (a->op == IR_OP_DISPATCH) {
        fill_routes(a, a->in[1]);
        fill_routes(a, a->out[1]);
    }
    if (a->op == IR_OP_EXPERTS) /* (E,b) */
        for (uint32_t i = 0; i < attrs->experts * a->b; i++)
            ((int32_t *)a->in[1])[i] = (int32_t)(a->t * attrs->top_k / attrs->experts);
    if (a->op == IR_OP_COMBINE) /* rows by expert: of token i, its j-th */
        for (uint64_t i = 0; i < tokens * attrs->top_k; i++) {
            uint64_t each = tokens * attrs->top_k / attrs->experts;
            ((int32_t *)a->in[1])[i] = (int32_t)(i % attrs->experts * each + i / attrs->experts);
        }
    (void)k;
}

static void fill(struct calibrate_kernel *k, struct op_args *a)
{
    struct ir_op_shapes s;
    ir_op_shapes((enum ir_op)a->op, a->attrs, a->t, &s);
    for (int i = 0; i < IR_MAX_IN; i++) {
        a->in[i] = operand(k, a, &s.in[i], a->b);
        a->din[i] = ir_op_info[a->op].grad_in >> i & 1 ? operand(k, a, &s.in[i], a->b) : NULL;
    }
    for (int i = 0; i < IR_MAX_OUT; i++) {
        a->out[i] = operand(k, a, &s.out[i], a->b);
        a->dout[i] = s.out[i].dtype == IR_I32 ? NULL : operand(k, a, &s.out[i], a->b);
    }
    for (int i = 0; i < IR_MAX_SAVE; i++)
        a->save[i] = operand(k, a, &s.save[i], a->b);
    for (int i = 0; i < IR_MAX_STASH; i++)
        a->stash[i] = operand(k, a, &s.stash[i], a->b);
    for (int i = 0; i < IR_MAX_PARAM; i++) {
        struct ir_shape gradient = s.param[i];
        gradient.dtype = IR_F32;
        a->param[i] = operand(k, a, &s.param[i], 1);
        a->dparam[i] = operand(k, a, &gradient, 1);
    }
    fill_integers(k, a);
}

static uint64_t work_of(const struct calibrate_kernel *k, const struct op_args *a)
{
    uint64_t most = 0;
    for (int pass = 0; pass < IR_PASS_NONE; pass++) {
        if (!ir_op_runs((enum ir_op)a->op, a->attrs, (enum ir_pass)pass))
            continue;
        uint64_t w = k->target->workspace(&(struct ir_kernel){ .op = (enum ir_op)a->op,
                                                               .pass = (enum ir_pass)pass,
                                                               .attrs = a->attrs,
                                                               .b = a->b,
                                                               .t = a->t,
                                                               .ep = 1,
                                                               .compute = (enum ir_dtype)a->compute });
        most = w > most ? w : most;
    }
    return most;
}

struct calibrate_kernel *calibrate_kernel_new(const struct compute_backend *back, const struct ir_target *target,
                                              const struct cost_kernel *what)
{
    struct calibrate_kernel *k = mem_alloc(sizeof *k);
    CHECK(!back->device); /* operands are in host memory */
    *k = (struct calibrate_kernel){ .back = back, .target = target, .attrs = *what->attrs };
    arena_init(&k->memory);
    for (; k->copies < MOST_COPIES && (k->copies < FEWEST_COPIES || k->memory.used < all_copies); k->copies++) {
        struct op_args *a = &k->args[k->copies];
        *a = (struct op_args){ .attrs = &k->attrs,
                               .op = what->op,
                               .b = what->b,
                               .t = what->t,
                               .ep = 1,
                               .compute = what->compute,
                               .scalars = k->scalars,
                               .loss_scale = 1e-3,
                               .train = true };
        fill(k, a);
        a->work = k->copies ? k->args[0].work : aligned(&k->memory, work_of(k, a) + 64);
    }
    return k;
}

void calibrate_kernel_free(struct calibrate_kernel *k)
{
    arena_release(&k->memory);
    mem_free(k);
}

/* ---- time ------------------------------------------------------------------------------------------------------------ */

/* With one thread its own processor time: what other programs take meanwhile is no part of a kernel. */
double calibrate_clock(void)
{
    struct timespec t;
    bool alone = true;
#ifdef _OPENMP
    alone = omp_get_max_threads() == 1;
#endif
    clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void calibrate_kernel_run(struct calibrate_kernel *k, enum ir_pass pass)
{
    struct op_args a = k->args[k->turn++ % k->copies];
    op_kernel run = k->back->kernel((enum ir_op)a.op, pass);
    if (pass != IR_PASS_BI)
        memset(a.din, 0, sizeof a.din);
    if (pass == IR_PASS_BW)
        a.dparam_add = 7;
    else
        memset(a.dparam, 0, sizeof a.dparam);
    run(&a);
}

static double time_runs(struct calibrate_kernel *k, enum ir_pass pass, uint32_t n)
{
    double start = calibrate_clock();
    for (uint32_t i = 0; i < n; i++)
        calibrate_kernel_run(k, pass);
    return (calibrate_clock() - start) / n;
}

struct timing {
    struct calibrate_kernel *k;
    enum ir_pass pass;
};

static uint32_t take_runs(void *self, double *seconds)
{
    const struct timing *t = self;
    time_runs(t->k, t->pass, 1); /* touches memory */
    const double once = time_runs(t->k, t->pass, 1);
    const uint32_t each = 1 + (uint32_t)(long_enough / RUNS / (once + 1e-7)), runs = once > 10 * long_enough ? 3 : RUNS;
    for (uint32_t i = 0; i < runs; i++)
        seconds[i] = time_runs(t->k, t->pass, each);
    return runs;
}

double calibrate_kernel_time(struct calibrate_kernel *k, enum ir_pass pass, struct calibrate_runs *all)
{
    char what[CALIBRATE_WHAT];
    snprintf(what, sizeof what, "%s %s, %s", ir_pass_name(pass), machine_kind_name(k->args->op),
             ir_dtype_name((enum ir_dtype)k->args->compute));
    return calibrate_settle(all, what, take_runs, &(struct timing){ k, pass });
}
