#include "ir/freeze.h"

#include <fnmatch.h>

uint32_t ir_freeze(struct ir_graph *g, const char *pattern)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->params.n; i++)
        if (fnmatch(pattern, g->params.at[i].name, 0) == 0) {
            g->params.at[i].frozen = true;
            n++;
        }
    return n;
}

/* The first parameter of the operator that has a gradient unless it is frozen, and is frozen or not; NULL: there is none. */
static const struct ir_param *first(const struct ir_graph *g, const struct ir_node_op *o, bool frozen)
{
    for (uint32_t i = 0; i < ir_op_params((enum ir_op)o->op, &o->attrs); i++) {
        const struct ir_param *p = &g->params.at[o->param[i]];
        if (!p->state && p->frozen == frozen)
            return p;
    }
    return NULL;
}

bool ir_op_trains(const struct ir_graph *g, const struct ir_node_op *o)
{
    return first(g, o, false) != NULL;
}

uint8_t *ir_freeze_wanted(const struct ir_graph *g)
{
    uint8_t *wanted = mem_alloc(g->tensors.n + 1);
    for (uint32_t o = 0; o < g->ops.n; o++) {
        const struct ir_node_op *op = &g->ops.at[o];
        bool any = ir_op_trains(g, op);
        for (int i = 0; i < IR_MAX_IN; i++)
            any = any || (op->in[i] != IR_NONE && (ir_op_info[op->op].grad_in >> i & 1) && wanted[op->in[i]]);
        for (int i = 0; i < IR_MAX_OUT; i++)
            if (op->out[i] != IR_NONE)
                wanted[op->out[i]] = any;
    }
    return wanted;
}

uint64_t ir_freeze_count(const struct ir_graph *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < g->params.n; i++)
        n += g->params.at[i].frozen ? ir_shape_elements(&g->params.at[i].shape) : 0;
    return n;
}

enum status ir_freeze_check(const struct ir_graph *g, const char *where, struct err *e)
{
    bool trains = false;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_node_op *o = &g->ops.at[i];
        const struct ir_param *frozen = first(g, o, true), *trained = first(g, o, false);
        trains = trains || trained;
        if (frozen && trained)
            return err_set(e, ST_INPUT, where,
                           "$.freeze: %s is frozen and %s is not, but both are of %s, which computes their gradients "
                           "together: match both or neither",
                           frozen->name, trained->name, o->name);
    }
    return trains ? ST_OK
                  : err_set(e, ST_INPUT, where, "$.freeze: all parameters are frozen: there is nothing to train");
}
