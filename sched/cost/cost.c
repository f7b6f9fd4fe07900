/* Kernels and programs: interpolation between the machine's points, else the roofline (Williams and others 2009). */
#include "sched/cost/cost.h"

#include <math.h>

static double min3(double a, double b, double c)
{
    return fmin(a, fmin(b, c));
}

static double expert_rows(const struct cost_kernel *k)
{
    const struct ir_attrs *a = k->attrs;
    return k->b * (a->capacity ? (double)a->experts * a->capacity : (double)k->t * a->top_k);
}

static double narrowest(const struct cost_kernel *k)
{
    const struct ir_attrs *a = k->attrs;
    double rows = (double)k->b * k->t;
    switch (k->op) {
    case IR_OP_LINEAR:
        return min3(rows, a->in_features, a->out_features);
    case IR_OP_HEAD_LOSS:
        return min3(rows, a->features, a->vocab);
    case IR_OP_ROUTER:
        return min3(rows, a->features, a->experts);
    case IR_OP_EXPERTS:
        return min3(expert_rows(k) * k->ep / a->experts, a->features, a->ffn);
    case IR_OP_ATTENTION:
        return fmin(k->t, a->head_dim);
    default:
        return 0;
    }
}

static struct ir_kernel part_of(const struct cost_kernel *k)
{
    return (struct ir_kernel){ .op = (enum ir_op)k->op,
                               .pass = (enum ir_pass)k->pass,
                               .attrs = k->attrs,
                               .b = k->b,
                               .t = k->t,
                               .ep = k->ep,
                               .compute = (enum ir_dtype)k->compute,
                               .share = *k->share };
}

static double whole_flops(const struct cost_kernel *k)
{
    if (k->share) {
        const struct ir_kernel part = part_of(k);
        return ir_kernel_flops(&part, k->run);
    }
    return k->attrs ? ir_op_info[k->op].flops(k->attrs, (enum ir_pass)k->pass, k->b, k->t) : 0;
}

static double whole_bytes(const struct cost_kernel *k)
{
    if (!k->attrs)
        return (double)k->n * (k->op == IR_OP_SUM ? 3 : 2) * ir_dtype_size(IR_COMPUTE, (enum ir_dtype)k->compute);
    if (k->share) {
        const struct ir_kernel part = part_of(k);
        return ir_kernel_bytes(&part);
    }
    double bytes = ir_op_bytes((enum ir_op)k->op, k->attrs, (enum ir_pass)k->pass, k->b, k->t,
                               (enum ir_dtype)k->compute);
    if (k->op == IR_OP_EXPERTS) { /* a part of the parameters, rows as many as there were */
        uint32_t size = k->pass == IR_PASS_BW ? 4 : ir_dtype_size(IR_COMPUTE, (enum ir_dtype)k->compute);
        const double ffn = k->attrs->ffn, features = k->attrs->features;
        const double bias = k->attrs->flags & IR_BIAS && k->pass != IR_PASS_BI ? 2 * ffn + features : 0;
        bytes -= (3 * ffn * features + bias) * k->attrs->experts * size * (1 - 1.0 / k->ep);
    }
    return bytes;
}

static double portion(const struct cost_kernel *k)
{
    return k->portion > 0 ? k->portion : 1;
}

static double kernel_flops(const struct cost_kernel *k)
{
    return whole_flops(k) * portion(k);
}

/* What several parts read is counted once for all of them. */
static double kernel_bytes(const struct cost_kernel *k)
{
    return whole_bytes(k) * portion(k);
}

void cost_kernel_size(const struct cost_kernel *k, double *work, double *width)
{
    *work = machine_by_flops(k->op) ? kernel_flops(k) : kernel_bytes(k);
    *width = narrowest(k);
}

/* ---- points -------------------------------------------------------------------------------------------------------- */

/* How far x is from lo to hi in logarithms, from 0 to 1. */
static double between(double x, double lo, double hi)
{
    if (x <= lo || hi <= lo)
        return 0;
    return x >= hi ? 1 : log(x / lo) / log(hi / lo);
}

/* Seconds on the points [first, end) of one width: speeds are interpolated, and hold beyond the ends. */
static double along_work(const struct machine_point *first, const struct machine_point *end, double work)
{
    const struct machine_point *hi = first;
    while (hi + 1 < end && hi->work < work)
        hi++;
    const struct machine_point *lo = hi > first ? hi - 1 : hi;
    double s = between(work, lo->work, hi->work);
    double speed = exp((1 - s) * log(lo->work / lo->seconds) + s * log(hi->work / hi->seconds));
    return work / speed;
}

static const struct machine_point *same_width(const struct machine_point *p, const struct machine_point *end)
{
    const struct machine_point *q = p;
    while (q < end && q->width == p->width)
        q++;
    return q;
}

static bool same_kernel(const struct machine_point *p, const struct machine_point *q)
{
    return p->kind == q->kind && p->pass == q->pass && p->dtype == q->dtype;
}

/* Sets at->seconds. False: the machine has no points of this kernel. */
static bool from_points(const struct machine *m, struct machine_point *at)
{
    double work = at->work, width = at->width;
    if (!m->points.n)
        return false;
    const struct machine_point *p = m->points.at, *end = p + m->points.n;
    while (p < end && !same_kernel(p, at))
        p++;
    const struct machine_point *last = p;
    while (last < end && same_kernel(last, at))
        last++;
    if (p == last || work <= 0)
        return false;
    const struct machine_point *lo = p, *hi = p;
    while (hi->width < width && same_width(hi, last) < last) {
        lo = hi;
        hi = same_width(hi, last);
    }
    if (hi->width < width)
        lo = hi;
    double s = between(width, lo->width, hi->width);
    at->seconds = exp((1 - s) * log(along_work(lo, same_width(lo, last), work)) +
                      s * log(along_work(hi, same_width(hi, last), work)));
    return true;
}

double cost_kernel(const struct machine *m, const struct cost_kernel *k)
{
    bool plain = k->op >= IR_OP_GRAPH_COUNT; /* as an addition, byte for byte */
    struct machine_point at = { .kind = plain ? IR_OP_ADD : k->op,
                                .pass = plain ? IR_PASS_F : k->pass,
                                .dtype = k->compute };
    cost_kernel_size(k, &at.work, &at.width);
    if (from_points(m, &at))
        return at.seconds;
    return m->launch + fmax(kernel_flops(k) / m->flops[k->compute == IR_BF16], kernel_bytes(k) / m->bandwidth);
}

/* An update reads and writes master and moments and reads the gradient. A bfloat16 copy of the master is written too. */
double cost_element_bytes(uint32_t kind, uint32_t compute)
{
    double copy = compute == IR_BF16 ? 2 : 0;
    if (kind == MACHINE_SUMSQ)
        return 4;
    return 12 + 8.0 * optimizer_info[kind - MACHINE_UPDATE].moments + copy;
}

double cost_elements(const struct machine *m, uint32_t kind, double n, uint32_t compute)
{
    struct machine_point at = { .kind = kind,
                                .pass = IR_PASS_NONE,
                                .dtype = kind == MACHINE_SUMSQ ? IR_F32 : compute,
                                .work = n * cost_element_bytes(kind, compute) };
    return from_points(m, &at) ? at.seconds : m->launch + at.work / m->bandwidth;
}

/* Where the tokens of the last member stand, which has most keys before it: of a slice of a context part, or of all of one. */
static void last_runs(const struct plan_header *h, uint32_t seq_len, uint32_t tokens, struct ir_run run[2])
{
    const bool whole = tokens == seq_len / h->context;
    if (tokens == seq_len) {
        run[0] = (struct ir_run){ 0, seq_len };
        run[1] = (struct ir_run){ 0, 0 };
        return;
    }
    const struct ir_rows rows = { seq_len, whole ? h->context : h->share, h->context, h->zigzag };
    ir_rows_of(&rows, rows.n - 1, run);
}

double cost_program(const struct machine *m, const struct plan *p, uint32_t program, uint32_t b,
                    const struct ir_graph *g)
{
    const struct plan_program *q = &p->programs[program];
    double seconds = 0;
    for (uint32_t i = q->first_kernel; i < q->first_kernel + q->n_kernels; i++) {
        const struct plan_kernel *k = &p->kernels[i];
        struct cost_kernel kernel = { .op = k->op,
                                      .pass = k->pass,
                                      .attrs = k->graph_op == PLAN_NONE ? NULL : &g->ops.at[k->graph_op].attrs,
                                      .b = b,
                                      .t = g->seq_len,
                                      .ep = q->ep,
                                      .compute = k->type == IR_COMPUTE ? p->h->compute : k->type,
                                      .n = k->n };
        struct ir_attrs local;
        struct ir_share share;
        if (q->tokens && kernel.attrs) {
            local = ir_op_local((enum ir_op)k->op, kernel.attrs, (enum ir_split)k->split, k->parts ? k->parts : 1);
            kernel.attrs = &local;
        }
        if (q->tokens && kernel.attrs && !(q->ep > 1 && k->op == IR_OP_EXPERTS)) {
            share = plan_kernel_share(p, g, k);
            kernel.share = &share;
            last_runs(p->h, g->seq_len, q->tokens, kernel.run);
        }
        if (q->tokens)
            kernel.t = q->tokens;
        kernel.portion = kernel.attrs ? plan_portion(k, kernel.attrs) : 1;
        seconds += cost_kernel(m, &kernel);
    }
    return seconds;
}
