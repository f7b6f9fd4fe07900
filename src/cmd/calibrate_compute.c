/* Which kernels are measured, at which sizes. */
#include "cmd/calibrate.h"
#include "sched/cost/cost.h"

#include <math.h>

/* Sizes of a problem: the operator's attributes follow from them. */
struct problem {
    enum ir_op op;
    uint32_t b, t, c, n; /* sequences, their length, features, and the other side of a product, heads, or experts */
};

static const struct problem problems[] = {
    { IR_OP_LINEAR, 1, 64, 64, 64 },        { IR_OP_LINEAR, 1, 64, 512, 512 },
    { IR_OP_LINEAR, 1, 128, 128, 128 },     { IR_OP_LINEAR, 1, 512, 128, 512 },
    { IR_OP_LINEAR, 1, 256, 256, 256 },     { IR_OP_LINEAR, 1, 512, 256, 1024 },
    { IR_OP_LINEAR, 1, 512, 512, 512 },     { IR_OP_LINEAR, 1, 512, 512, 2048 },
    { IR_OP_LINEAR, 1, 1024, 1024, 1024 },  { IR_OP_HEAD_LOSS, 1, 128, 128, 1024 },
    { IR_OP_HEAD_LOSS, 1, 512, 256, 2048 }, { IR_OP_HEAD_LOSS, 1, 256, 256, 8192 },
    { IR_OP_HEAD_LOSS, 1, 512, 512, 4096 }, { IR_OP_ATTENTION, 2, 64, 32, 4 },
    { IR_OP_ATTENTION, 2, 256, 32, 4 },     { IR_OP_ATTENTION, 1, 64, 64, 4 },
    { IR_OP_ATTENTION, 1, 256, 64, 8 },     { IR_OP_ATTENTION, 1, 1024, 64, 4 },
    { IR_OP_ATTENTION, 1, 256, 128, 4 },    { IR_OP_ROUTER, 1, 256, 256, 8 },
    { IR_OP_ROUTER, 1, 512, 512, 8 },       { IR_OP_ROUTER, 1, 512, 512, 64 },
    { IR_OP_EXPERTS, 1, 64, 128, 4 },       { IR_OP_EXPERTS, 1, 256, 128, 4 },
    { IR_OP_EXPERTS, 1, 128, 256, 4 },      { IR_OP_EXPERTS, 1, 512, 256, 8 },
    { IR_OP_EXPERTS, 1, 1024, 512, 4 },     { IR_OP_EXPERTS, 1, 32, 256, 8 },
    { IR_OP_EXPERTS, 1, 128, 256, 8 },      { IR_OP_EXPERTS, 1, 256, 512, 8 },
    { IR_OP_EXPERTS, 1, 512, 256, 4 },      { IR_OP_EMBED, 1, 128, 128, 0 },
    { IR_OP_EMBED, 1, 1024, 512, 0 },       { IR_OP_POS_EMBED, 1, 128, 128, 0 },
    { IR_OP_POS_EMBED, 2, 512, 512, 0 },    { IR_OP_LAYERNORM, 1, 128, 128, 0 },
    { IR_OP_LAYERNORM, 1, 512, 512, 0 },    { IR_OP_LAYERNORM, 1, 2048, 1024, 0 },
    { IR_OP_RMSNORM, 1, 128, 128, 0 },      { IR_OP_RMSNORM, 1, 512, 512, 0 },
    { IR_OP_RMSNORM, 1, 2048, 1024, 0 },    { IR_OP_ROPE, 1, 128, 32, 4 },
    { IR_OP_ROPE, 1, 512, 64, 8 },          { IR_OP_ROPE, 1, 2048, 64, 16 },
    { IR_OP_GELU, 1, 128, 128, 0 },         { IR_OP_GELU, 1, 512, 1024, 0 },
    { IR_OP_GELU, 1, 1024, 2048, 0 },       { IR_OP_SWIGLU, 1, 128, 128, 0 },
    { IR_OP_SWIGLU, 1, 512, 1024, 0 },      { IR_OP_SWIGLU, 1, 1024, 2048, 0 },
    { IR_OP_ADD, 1, 128, 128, 0 },          { IR_OP_ADD, 1, 512, 512, 0 },
    { IR_OP_ADD, 1, 2048, 1024, 0 },        { IR_OP_DISPATCH, 1, 128, 128, 4 },
    { IR_OP_DISPATCH, 1, 512, 512, 8 },     { IR_OP_DISPATCH, 1, 1024, 1024, 8 },
    { IR_OP_COMBINE, 1, 128, 128, 4 },      { IR_OP_COMBINE, 1, 512, 512, 8 },
    { IR_OP_COMBINE, 1, 1024, 1024, 8 },
};

static struct ir_attrs attrs_of(const struct problem *p)
{
    switch (p->op) {
    case IR_OP_LINEAR:
        return (struct ir_attrs){ .in_features = p->c, .out_features = p->n };
    case IR_OP_HEAD_LOSS:
        return (struct ir_attrs){ .features = p->c, .vocab = p->n };
    case IR_OP_EMBED:
        return (struct ir_attrs){ .features = p->c, .vocab = 4096 };
    case IR_OP_POS_EMBED:
        return (struct ir_attrs){ .features = p->c, .positions = p->t };
    case IR_OP_ATTENTION:
        return (struct ir_attrs){ .heads = p->n, .kv_heads = p->n, .head_dim = p->c, .scale = 0.125f };
    case IR_OP_ROPE:
        return (struct ir_attrs){ .heads = p->n, .head_dim = p->c, .theta = 1e4f };
    case IR_OP_LAYERNORM:
    case IR_OP_RMSNORM:
        return (struct ir_attrs){ .features = p->c, .eps = 1e-5f };
    case IR_OP_ROUTER:
        return (struct ir_attrs){ .features = p->c, .experts = p->n, .top_k = 2, .flags = IR_NORM_TOPK };
    case IR_OP_DISPATCH:
    case IR_OP_COMBINE:
        return (struct ir_attrs){ .features = p->c, .experts = p->n, .top_k = 2 };
    case IR_OP_EXPERTS:
        return (struct ir_attrs){ .features = p->c, .experts = p->n, .top_k = 2, .ffn = 2 * p->c };
    default:
        return (struct ir_attrs){ .features = p->c };
    }
}

static void measure_kernel(const struct compute_backend *back, const struct ir_target *target, const struct problem *p,
                           enum ir_dtype compute, struct machine *m, struct calibrate_runs *all)
{
    struct ir_attrs attrs = attrs_of(p);
    if (target->unsupported(p->op, &attrs, p->t, compute))
        return;
    struct cost_kernel what = { .op = p->op, .attrs = &attrs, .b = p->b, .t = p->t, .ep = 1, .compute = compute };
    struct calibrate_kernel *k = calibrate_kernel_new(back, target, &what);
    for (what.pass = 0; what.pass < IR_PASS_NONE; what.pass++) {
        if (what.pass == IR_PASS_B || !ir_op_runs(p->op, &attrs, (enum ir_pass)what.pass))
            continue;
        struct machine_point point = { .kind = p->op, .pass = what.pass, .dtype = compute };
        cost_kernel_size(&what, &point.work, &point.width);
        point.seconds = calibrate_kernel_time(k, (enum ir_pass)what.pass, all);
        vec_add(&m->points, point);
    }
    calibrate_kernel_free(k);
}

/* ---- updates ---------------------------------------------------------------------------------------------------------- */

/* In a step an update finds its arrays in memory, not where the last one left them: each run has arrays of its own, out of
 * what is larger than the caches. */
enum { UPDATE_RUNS = 9, UPDATE_LARGEST = 1 << 22, UPDATE_FLOATS = 5 };

struct update {
    const struct compute_backend *back;
    uint32_t kind;
    enum ir_dtype compute;
    float *x; /* [UPDATE_FLOATS * UPDATE_LARGEST] */
    uint64_t n, at;
};

/* The next arrays of n, `each` of them side by side. */
static float *next_arrays(struct update *u, uint32_t each)
{
    const uint64_t size = each * u->n;
    if (u->at + size > (uint64_t)UPDATE_FLOATS * UPDATE_LARGEST)
        u->at = 0;
    u->at += size;
    return u->x + u->at - size;
}

static double run_update(struct update *u)
{
    const bool updates = u->kind != MACHINE_SUMSQ;
    const struct optimizer_args opt = { updates ? u->kind - MACHINE_UPDATE : 0, 0.9f, 0.95f, 1e-8f, 0.1f };
    const uint32_t moments = updates ? optimizer_info[opt.kind].moments : 0;
    const struct step_inputs step = { .lr = 1e-6, .grad_scale = 1, .update = 2 };
    const uint64_t n = u->n;
    float *x = next_arrays(u, updates ? UPDATE_FLOATS : 1);
    struct update_args a = { .opt = &opt,
                             .n = n,
                             .n_decay = n,
                             .master = x,
                             .grad = x + n,
                             .m = moments > 0 ? x + 2 * n : NULL,
                             .v = moments > 1 ? x + 3 * n : NULL,
                             .param = u->compute == IR_F32 ? x : x + 4 * n,
                             .compute = u->compute };
    double sum = 0, bad = 0, start = calibrate_clock();
    if (updates)
        u->back->update(&a, &step);
    else
        u->back->sumsq(x, n, &sum, &bad, NULL);
    return calibrate_clock() - start;
}

static uint32_t take_updates(void *self, double *seconds)
{
    for (int i = 0; i < UPDATE_RUNS; i++)
        seconds[i] = run_update(self);
    return UPDATE_RUNS;
}

static void measure_update(struct update *u, struct machine *m, struct calibrate_runs *all)
{
    vec_add(&m->points,
            ((struct machine_point){ .kind = u->kind,
                                     .pass = IR_PASS_NONE,
                                     .dtype = u->compute,
                                     .work = (double)u->n * cost_element_bytes(u->kind, u->compute),
                                     .seconds = calibrate_settle(all, machine_kind_name(u->kind), take_updates, u) }));
}

static void measure_updates(const struct compute_backend *back, enum ir_dtype compute, struct machine *m,
                            struct calibrate_runs *all)
{
    const uint64_t floats = (uint64_t)UPDATE_FLOATS * UPDATE_LARGEST;
    struct update u = { .back = back, .compute = compute, .x = mem_alloc(floats * sizeof *u.x) };
    for (uint64_t i = 0; i < floats; i++)
        u.x[i] = 1e-3f;
    for (u.n = 1 << 14; u.n <= UPDATE_LARGEST; u.n <<= 4) {
        for (uint32_t kind = 0; kind < OPTIMIZERS; kind++) {
            u.kind = MACHINE_UPDATE + kind;
            measure_update(&u, m, all);
        }
        u.kind = MACHINE_SUMSQ;
        if (compute == IR_F32)
            measure_update(&u, m, all);
    }
    mem_free(u.x);
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

/* Figures for kernels without points: the best product, the largest addition, the smallest. */
static void summarise(struct machine *m)
{
    m->launch = 1;
    for (uint32_t i = 0; i < m->points.n; i++) {
        const struct machine_point *p = &m->points.at[i];
        double speed = p->work / p->seconds, *flops = &m->flops[p->dtype == IR_BF16];
        if (p->kind == IR_OP_LINEAR)
            *flops = fmax(*flops, speed);
        if (p->kind == IR_OP_ADD && p->dtype == IR_F32) {
            m->bandwidth = speed; /* points of a kernel come from small to large */
            m->launch = fmin(m->launch, p->seconds);
        }
    }
    if (m->flops[1] <= 0)
        m->flops[1] = m->flops[0];
    m->launch = fmin(m->launch, 1e-6);
    m->sum = 1 / m->bandwidth;
}

void calibrate_compute(const struct compute_backend *back, const struct ir_target *target, struct machine *m,
                       struct calibrate_runs *all)
{
    static const enum ir_dtype dtypes[] = { IR_F32, IR_BF16 };
    world_barrier();
    for (int d = 0; d < 2; d++) {
        for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
            measure_kernel(back, target, &problems[i], dtypes[d], m, all);
        measure_updates(back, dtypes[d], m, all);
    }
    summarise(m);
}
