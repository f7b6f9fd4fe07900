/* See evaluate.h. */
#include "num/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static struct tensor zeros(const struct ir_shape *s, uint32_t times)
{
    struct tensor x = { .n = ir_shape_elements(s) * times };
    if (s->dtype == IR_I32)
        x.i = mem_alloc(x.n * sizeof *x.i);
    else
        x.x = mem_alloc(x.n * sizeof *x.x);
    return x;
}

static void drop(struct tensor *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mem_free(x[i].x);
        mem_free(x[i].i);
    }
    mem_free(x);
}

static void clear(struct tensor *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (x[i].x)
            memset(x[i].x, 0, x[i].n * sizeof *x[i].x);
}

void evaluation_init(struct evaluation *v, const struct ir_graph *g, uint32_t b)
{
    *v = (struct evaluation){ .g = g, .b = b };
    v->value = mem_alloc(g->tensors.n * sizeof *v->value);
    v->grad = mem_alloc(g->tensors.n * sizeof *v->grad);
    v->param = mem_alloc(g->params.n * sizeof *v->param);
    v->dparam = mem_alloc(g->params.n * sizeof *v->dparam);
    for (uint32_t i = 0; i < g->tensors.n; i++) {
        v->value[i] = zeros(&g->tensors.at[i].shape, b);
        v->grad[i] = g->tensors.at[i].shape.dtype == IR_I32 ? (struct tensor){ 0 } : zeros(&g->tensors.at[i].shape, b);
    }
    for (uint32_t i = 0; i < g->params.n; i++) {
        v->param[i] = zeros(&g->params.at[i].shape, 1);
        v->dparam[i] = zeros(&g->params.at[i].shape, 1);
    }
}

void evaluation_release(struct evaluation *v)
{
    drop(v->value, v->g->tensors.n);
    drop(v->grad, v->g->tensors.n);
    drop(v->param, v->g->params.n);
    drop(v->dparam, v->g->params.n);
}

/* The operator as the oracle's problem; operands are the graph's. */
static struct problem problem_of(const struct evaluation *v, const struct ir_node_op *o)
{
    struct problem p = { .op = (enum ir_op)o->op,
                         .a = o->attrs,
                         .b = v->b,
                         .t = v->g->seq_len,
                         .ep = 1,
                         .loss_scale = 1.0 / ((double)v->b * v->g->seq_len) };
    for (uint32_t k = 0; k < ir_op_inputs(p.op, &p.a); k++)
        p.in[k] = v->value[o->in[k]];
    for (uint32_t k = 0; k < ir_op_params(p.op, &p.a); k++)
        p.param[k] = v->param[o->param[k]];
    for (uint32_t k = 0; k < ir_op_info[p.op].n_out; k++) {
        p.out[k] = v->value[o->out[k]];
        p.dout[k] = v->grad[o->out[k]];
    }
    return p;
}

void evaluation_forward(struct evaluation *v, const int32_t *tokens, const int32_t *targets)
{
    v->loss = v->aux = v->dropped = 0;
    for (uint32_t i = 0; i < v->g->tensors.n; i++) {
        const struct ir_tensor *t = &v->g->tensors.at[i];
        if (t->producer == IR_NONE)
            memcpy(v->value[i].i, strcmp(t->name, "tokens") == 0 ? tokens : targets,
                   v->value[i].n * sizeof *v->value[i].i);
    }
    for (uint32_t i = 0; i < v->g->ops.n; i++) {
        struct problem p = problem_of(v, &v->g->ops.at[i]);
        oracle_forward(&p);
        v->loss += p.loss;
        v->aux += p.aux;
        v->dropped += p.dropped;
    }
}

static struct tensor like(const struct tensor *x)
{
    return (struct tensor){ .n = x->n, .x = mem_alloc(x->n * sizeof *x->x) };
}

static void add_and_free(struct tensor *to, struct tensor *x)
{
    for (size_t i = 0; i < x->n; i++)
        to->x[i] += x->x[i];
    mem_free(x->x);
}

void evaluation_backward(struct evaluation *v)
{
    clear(v->grad, v->g->tensors.n);
    clear(v->dparam, v->g->params.n);
    for (uint32_t i = v->g->ops.n; i-- > 0;) {
        const struct ir_node_op *o = &v->g->ops.at[i];
        struct problem p = problem_of(v, o);
        const uint32_t inputs = ir_op_inputs(p.op, &p.a), params = ir_op_params(p.op, &p.a);
        const uint32_t gradients = ir_op_info[p.op].grad_in;
        for (uint32_t k = 0; k < inputs; k++)
            if (gradients >> k & 1)
                p.din[k] = like(&p.in[k]);
        for (uint32_t k = 0; k < params; k++)
            p.dparam[k] = like(&p.param[k]);
        oracle_backward(&p);
        for (uint32_t k = 0; k < inputs; k++)
            if (gradients >> k & 1)
                add_and_free(&v->grad[o->in[k]], &p.din[k]);
        for (uint32_t k = 0; k < params; k++)
            add_and_free(&v->dparam[o->param[k]], &p.dparam[k]);
    }
}

double evaluation_loss(const struct evaluation *v)
{
    return (v->loss + v->aux * v->g->seq_len) / ((double)v->b * v->g->seq_len);
}

static double loss_at(struct evaluation *v, const int32_t *tokens, const int32_t *targets, double *const *direction,
                      double h)
{
    for (uint32_t i = 0; i < v->g->params.n; i++)
        for (size_t j = 0; j < v->param[i].n; j++)
            v->param[i].x[j] += h * direction[i][j];
    evaluation_forward(v, tokens, targets);
    for (uint32_t i = 0; i < v->g->params.n; i++)
        for (size_t j = 0; j < v->param[i].n; j++)
            v->param[i].x[j] -= h * direction[i][j];
    return evaluation_loss(v);
}

const char *evaluation_check(struct evaluation *v, const int32_t *tokens, const int32_t *targets, struct rng *r)
{
    static char text[128];
    double **direction = mem_alloc(v->g->params.n * sizeof *direction), inner = 0, size = 0, found = 0;
    bool agrees = false;
    for (uint32_t i = 0; i < v->g->params.n; i++) {
        direction[i] = mem_alloc(v->param[i].n * sizeof *direction[i]);
        for (size_t j = 0; j < v->param[i].n; j++) {
            direction[i][j] = rng_normal(r);
            inner += direction[i][j] * v->dparam[i].x[j];
            size += v->dparam[i].x[j] * v->dparam[i].x[j];
        }
    }
    /* a step over a jump of the router's choice is made shorter */
    for (double h = 1e-5; h > 5e-9 && !agrees; h /= 10) {
        found = (loss_at(v, tokens, targets, direction, h) - loss_at(v, tokens, targets, direction, -h)) / (2 * h);
        agrees = fabs(found - inner) <= 1e-5 * sqrt(size) + 1e-14 / h;
    }
    snprintf(text, sizeof text, "the gradient along a direction is %.9g, differences say %.9g", inner, found);
    for (uint32_t i = 0; i < v->g->params.n; i++)
        mem_free(direction[i]);
    mem_free(direction);
    return agrees ? NULL : text;
}
