/* The oracle's front: which half knows the operator, and the objective that both passes belong to. */
#include "num/num.h"

static bool routed(enum ir_op op)
{
    return op == IR_OP_ROUTER || op == IR_OP_DISPATCH || op == IR_OP_EXPERTS || op == IR_OP_COMBINE;
}

void oracle_forward(struct problem *p)
{
    p->loss = p->aux = p->dropped = 0;
    if (routed(p->op))
        oracle_moe_forward(p);
    else
        oracle_dense_forward(p);
}

void oracle_backward(struct problem *p)
{
    for (int i = 0; i < IR_MAX_IN; i++)
        for (size_t k = 0; p->din[i].x && k < p->din[i].n; k++)
            p->din[i].x[k] = 0;
    for (int i = 0; i < IR_MAX_PARAM; i++)
        for (size_t k = 0; p->dparam[i].x && k < p->dparam[i].n; k++)
            p->dparam[i].x[k] = 0;
    if (routed(p->op))
        oracle_moe_backward(p);
    else
        oracle_dense_backward(p);
}

double oracle_objective(struct problem *p)
{
    oracle_forward(p);
    double sum = p->loss_scale * (p->loss + p->aux * p->t);
    for (int i = 0; i < IR_MAX_OUT; i++)
        for (size_t k = 0; p->dout[i].x && k < p->dout[i].n; k++)
            sum += p->out[i].x[k] * p->dout[i].x[k];
    return sum;
}
