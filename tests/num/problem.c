/* Random problems, and the test of the oracle itself. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "num/run_op.h"

static struct tensor tensor_new(const struct ir_shape *s, size_t times)
{
    struct tensor x = { .n = ir_shape_elements(s) * times };
    if (x.n && s->dtype == IR_I32)
        x.i = mem_alloc(x.n * sizeof *x.i);
    else if (x.n)
        x.x = mem_alloc(x.n * sizeof *x.x);
    return x;
}

static void tensor_free(struct tensor *x)
{
    mem_free(x->x);
    mem_free(x->i);
    *x = (struct tensor){ 0 };
}

/* Values that float32 holds exactly, so that kernel and oracle read the same. */
static void fill(struct tensor *x, struct rng *r, double mean, double width)
{
    for (size_t i = 0; x->x && i < x->n; i++)
        x->x[i] = (float)(mean + width * rng_normal(r));
}

static uint32_t pick_expert(const struct op_case *c, struct rng *r)
{
    const uint32_t n = c->a.experts;
    return c->spread == SPREAD_ONE ? n / 2 : c->spread == SPREAD_NONE && n > 1 ? rng_below(r, n - 1) : rng_below(r, n);
}

/* Distinct experts for each token; with SPREAD_ONE the first choice is always the same. */
static void fill_index(const struct op_case *c, int32_t *index, size_t rows, struct rng *r)
{
    const uint32_t k = c->a.top_k, n = c->a.experts;
    for (size_t row = 0; row < rows; row++)
        for (uint32_t j = 0; j < k; j++) {
            uint32_t e = j == 0 ? pick_expert(c, r) : rng_below(r, n);
            for (uint32_t i = 0; i < j; i++)
                if (index[row * k + i] == (int32_t)e) {
                    e = (e + 1) % n;
                    i = UINT32_MAX; /* look again from the first */
                }
            index[row * k + j] = (int32_t)e;
        }
}

/* Counts of the experts' rows: (ep, local, b), each what one sequence of one source sends. */
static void fill_counts(const struct op_case *c, struct problem *p, struct rng *r)
{
    const uint32_t local = c->a.experts / c->ep, hot = local / 2;
    int32_t *count = p->in[1].i;
    for (uint32_t s = 0; s < c->ep * c->b; s++)
        for (uint32_t e = 0; e < local; e++) {
            const uint32_t most = c->a.capacity ? c->a.capacity : c->t * c->a.top_k / local;
            uint32_t n = rng_below(r, 4) == 0 ? most : rng_below(r, most + 1);
            if (c->spread == SPREAD_ONE)
                n = e == hot ? most : 0;
            if (c->spread == SPREAD_NONE && e + 1 == local)
                n = 0;
            count[(s / c->b * local + e) * c->b + s % c->b] = (int32_t)n;
        }
}

/* Rows that no token fills are zero in capacity mode, and not there in dropless mode: NaN. */
static void clear_unused_rows(struct problem *p, double *x)
{
    const size_t c = p->a.features, rows = p->in[0].n / c, local = p->a.experts / p->ep;
    bool *used = mem_alloc(rows * sizeof *used);
    for (size_t part = 0; part < p->ep; part++)
        for (size_t s = 0; s < p->b; s++)
            for (size_t e = 0; e < local; e++) {
                size_t n, first = oracle_expert_rows(p, part, s, e, &n);
                for (size_t i = 0; i < n; i++)
                    used[first + i] = true;
            }
    for (size_t i = 0; i < rows * c; i++)
        if (!used[i / c])
            x[i] = p->a.capacity ? 0 : NAN;
    mem_free(used);
}

/* Integer operands, and number operands that follow from them. */
static void fill_special(const struct op_case *c, struct problem *p, struct rng *r)
{
    const size_t rows = (size_t)c->b * c->t;
    if (c->op == IR_OP_EMBED)
        for (size_t i = 0; i < rows; i++)
            p->in[0].i[i] = (int32_t)rng_below(r, c->a.vocab);
    if (c->op == IR_OP_HEAD_LOSS)
        for (size_t i = 0; i < rows; i++)
            p->in[1].i[i] = rng_below(r, 5) == 0 ? -1 : (int32_t)rng_below(r, c->a.vocab);
    if (c->op == IR_OP_DISPATCH)
        fill_index(c, p->in[1].i, rows, r);
    if (c->op == IR_OP_EXPERTS) {
        fill_counts(c, p, r);
        clear_unused_rows(p, p->in[0].x);
        clear_unused_rows(p, p->dout[0].x);
    }
    if (c->op == IR_OP_COMBINE) { /* slots as the dispatch operator gives them */
        struct op_case d = *c;
        d.op = IR_OP_DISPATCH;
        struct problem dispatch = problem_new(&d, rng_next(r));
        oracle_forward(&dispatch);
        for (size_t i = 0; i < p->in[1].n; i++)
            p->in[1].i[i] = dispatch.out[1].i[i];
        problem_free(&dispatch);
    }
    if (c->op == IR_OP_ROUTER && c->spread == SPREAD_ONE) { /* ties everywhere, and one expert above them */
        for (size_t i = 0; i < p->param[0].n; i++)
            p->param[0].x[i] = 0;
    }
}

struct problem problem_new(const struct op_case *c, uint64_t seed)
{
    struct problem p = { .op = c->op, .a = c->a, .b = c->b, .t = c->t, .ep = c->ep, .loss_scale = 1.0 / (7 * c->t) };
    p.document = c->document;
    struct rng r = { seed };
    struct ir_op_shapes s;
    ir_op_shapes(c->op, &c->a, c->t, &s);
    const struct ir_op_info *info = &ir_op_info[c->op];
    const bool experts = c->op == IR_OP_EXPERTS;
    const size_t rows = experts && !c->a.capacity ? (size_t)c->b * c->ep : c->b; /* dropless: the worst case */
    for (int i = 0; i < IR_MAX_IN; i++) {
        p.in[i] = tensor_new(&s.in[i], i == 0 ? rows : c->b);
        fill(&p.in[i], &r, 0, 1);
        if (info->grad_in >> i & 1)
            p.din[i] = tensor_new(&s.in[i], i == 0 ? rows : c->b);
    }
    for (int i = 0; i < IR_MAX_OUT; i++) {
        p.out[i] = tensor_new(&s.out[i], rows);
        p.dout[i] = s.out[i].dtype == IR_I32 ? (struct tensor){ 0 } : tensor_new(&s.out[i], rows);
        fill(&p.dout[i], &r, 0, 1);
    }
    for (int i = 0; i < IR_MAX_PARAM; i++) {
        if (s.param[i].ndim && experts)
            s.param[i].dim[0] /= c->ep;
        p.param[i] = tensor_new(&s.param[i], 1);
        if (!ir_op_param_is_state(c->op, &c->a, (uint32_t)i))
            p.dparam[i] = tensor_new(&s.param[i], 1);
        fill(&p.param[i], &r, s.param[i].ndim == 1 ? 1 : 0, 0.3);
    }
    fill_special(c, &p, &r);
    return p;
}

void problem_free(struct problem *p)
{
    for (int i = 0; i < PROBLEM_TENSORS; i++) {
        tensor_free(&p->in[i]);
        tensor_free(&p->out[i]);
        tensor_free(&p->param[i]);
        tensor_free(&p->dout[i]);
        tensor_free(&p->din[i]);
        tensor_free(&p->dparam[i]);
    }
}

/* x = keep + h d; returns the objective there. */
static double objective_at(struct problem *p, struct tensor *x, const double *keep, const double *d, double h)
{
    for (size_t i = 0; i < x->n; i++)
        x->x[i] = keep[i] + h * d[i];
    return oracle_objective(p);
}

/* (f(x + h d) - f(x - h d)) / 2h against <gradient, d>, d random. A step that changes a router's choice is a step over
 * a jump: a shorter one is tried. */
static bool direction_agrees(struct problem *p, struct tensor *x, const struct tensor *grad, struct rng *r)
{
    double *keep = mem_alloc(2 * x->n * sizeof *keep), *d = keep + x->n, inner = 0, size = 0;
    bool agrees = false;
    for (size_t i = 0; i < x->n; i++) {
        keep[i] = x->x[i];
        d[i] = rng_normal(r);
        inner += grad->x[i] * d[i];
        size += grad->x[i] * grad->x[i];
    }
    for (double h = 1e-5; h > 5e-8 && !agrees; h /= 10) {
        const double above = objective_at(p, x, keep, d, h), below = objective_at(p, x, keep, d, -h);
        agrees = fabs((above - below) / (2 * h) - inner) <= 1e-6 * (sqrt(size) + 1) + 1e-13 * fabs(above) / h;
    }
    objective_at(p, x, keep, d, 0);
    mem_free(keep);
    return agrees;
}

/* Dropless rows beyond the counts are NaN on purpose; here they must not be read at all, or count as 0. */
static void drop_nan(struct tensor *x)
{
    for (size_t i = 0; x->x && i < x->n; i++)
        if (isnan(x->x[i]))
            x->x[i] = 0;
}

const char *check_oracle(const struct op_case *c, uint64_t seed)
{
    static char text[128];
    struct problem p = problem_new(c, seed);
    struct rng r = { seed ^ 0x5eed };
    for (int i = 0; i < PROBLEM_TENSORS; i++) {
        drop_nan(&p.in[i]);
        drop_nan(&p.dout[i]);
    }
    oracle_forward(&p);
    oracle_backward(&p);
    text[0] = 0;
    for (int i = 0; i < PROBLEM_TENSORS; i++) {
        if (p.din[i].x && !direction_agrees(&p, &p.in[i], &p.din[i], &r))
            snprintf(text, sizeof text, "oracle: gradient of input %d is not the derivative", i);
        if (p.dparam[i].x && !direction_agrees(&p, &p.param[i], &p.dparam[i], &r))
            snprintf(text, sizeof text, "oracle: gradient of parameter %d is not the derivative", i);
    }
    problem_free(&p);
    return text[0] ? text : NULL;
}
