/* Shapes where sequences are shared: of a tensor's rows, and of what a kernel computes of its operator. */
#include "sched/check/check.h"

struct ir_shape check_rows_of(const struct check *c, uint32_t tensor, uint32_t tokens)
{
    const struct ir_tensor *t = &c->g->tensors.at[tensor];
    struct ir_shape shape = t->shape;
    struct ir_op_shapes s;
    if (tokens == c->g->seq_len)
        return shape;
    shape.dim[0] = tokens;
    if (t->producer == IR_NONE)
        return shape;
    const struct ir_node_op *op = &c->g->ops.at[t->producer];
    struct ir_attrs rows = op->attrs;
    rows.capacity = 0; /* those that stay lie as without one */
    ir_op_shapes((enum ir_op)op->op, &rows, tokens, &s);
    return s.out[t->output];
}

bool check_counts(const struct check *c, uint32_t graph_op)
{
    const struct ir_node_op *op = &c->g->ops.at[graph_op];
    if (ir_op_counts(&op->attrs))
        return true;
    for (uint32_t o = 0; o < c->g->ops.n && op->op == IR_OP_ROUTER; o++) {
        const struct ir_node_op *reader = &c->g->ops.at[o];
        if (reader->op == IR_OP_DISPATCH && reader->attrs.capacity && reader->in[1] == op->out[1])
            return true;
    }
    return false;
}

struct ir_kernel check_kernel_part(const struct check *c, const struct plan_program *g, const struct plan_kernel *k,
                                   struct ir_attrs *local)
{
    const struct ir_node_op *op = &c->g->ops.at[k->graph_op];
    const uint32_t parts = k->split ? k->parts : 1;
    *local = ir_op_local((enum ir_op)op->op, &op->attrs, (enum ir_split)k->split, parts);
    struct ir_kernel kernel = { .op = (enum ir_op)op->op,
                                .pass = (enum ir_pass)k->pass,
                                .attrs = local,
                                .t = g->tokens ? g->tokens : c->g->seq_len,
                                .ep = g->ep };
    if (g->tokens)
        kernel.share = plan_kernel_share(c->classes[0].p, c->g, k);
    return kernel;
}
