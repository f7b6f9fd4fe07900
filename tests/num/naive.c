/* The naive interpreter: see naive.h. */
#include "num/naive.h"

#include "ir/target.h"

enum { ALIGN = 64 };

static void *aligned(struct naive *n, uint64_t bytes)
{
    char *p = arena_alloc(&n->memory, bytes + ALIGN);
    return (void *)(((uintptr_t)p + ALIGN - 1) / ALIGN * ALIGN);
}

static uint64_t bytes_of(const struct ir_shape *s, uint32_t b)
{
    return ir_shape_elements(s) * b * ir_dtype_size((enum ir_dtype)s->dtype, IR_F32);
}

/* NaN as float32, -1 as int32: no kernel may read what nobody has written. */
static void poison(void *p, const struct ir_shape *s, uint32_t b)
{
    memset(p, 0xff, bytes_of(s, b));
}

static void init_op(struct naive *n, uint32_t i)
{
    const struct ir_node_op *o = &n->g->ops.at[i];
    struct ir_op_shapes s;
    ir_op_shapes((enum ir_op)o->op, &o->attrs, n->g->seq_len, &s);
    for (uint32_t k = 0; k < ir_op_info[o->op].n_save; k++)
        n->ops[i].save[k] = aligned(n, bytes_of(&s.save[k], n->b));
    for (uint32_t k = 0; k < ir_op_info[o->op].n_stash; k++)
        n->ops[i].stash[k] = aligned(n, bytes_of(&s.stash[k], n->b));
}

static uint64_t largest_workspace(const struct naive *n)
{
    static const enum ir_pass kernels[] = { IR_PASS_F, IR_PASS_BI, IR_PASS_BW };
    uint64_t most = 0;
    for (uint32_t i = 0; i < 3 * n->g->ops.n; i++) {
        const struct ir_node_op *o = &n->g->ops.at[i / 3];
        uint64_t bytes = ir_target_cpu.workspace(
            &(struct ir_kernel){ (enum ir_op)o->op, kernels[i % 3], &o->attrs, n->b, n->g->seq_len, 1, IR_F32, { 0 } });
        most = bytes > most ? bytes : most;
    }
    return most;
}

void naive_init(struct naive *n, const struct compute_backend *backend, const struct ir_graph *g, uint32_t b)
{
    *n = (struct naive){ .backend = backend, .g = g, .b = b, .loss_scale = 1.0 / ((double)b * g->seq_len) };
    arena_init(&n->memory);
    n->param = arena_array(&n->memory, float *, g->params.n);
    n->dparam = arena_array(&n->memory, float *, g->params.n);
    n->has_dparam = arena_array(&n->memory, bool, g->params.n);
    for (uint32_t i = 0; i < g->params.n; i++) {
        n->param[i] = aligned(n, bytes_of(&g->params.at[i].shape, 1));
        n->dparam[i] = aligned(n, bytes_of(&g->params.at[i].shape, 1));
    }
    n->value = arena_array(&n->memory, void *, g->tensors.n);
    n->grad = arena_array(&n->memory, void *, g->tensors.n);
    n->has_grad = arena_array(&n->memory, bool, g->tensors.n);
    for (uint32_t i = 0; i < g->tensors.n; i++) {
        const struct ir_shape *s = &g->tensors.at[i].shape;
        n->value[i] = aligned(n, bytes_of(s, b));
        if (s->dtype != IR_I32)
            n->grad[i] = aligned(n, bytes_of(s, b));
    }
    n->ops = arena_array(&n->memory, struct naive_op, g->ops.n);
    for (uint32_t i = 0; i < g->ops.n; i++)
        init_op(n, i);
    n->work = aligned(n, largest_workspace(n));
}

void naive_release(struct naive *n)
{
    arena_release(&n->memory);
    *n = (struct naive){ 0 };
}

static struct op_args base_args(struct naive *n, uint32_t op, const struct ir_attrs *attrs)
{
    return (struct op_args){ .attrs = attrs,
                             .op = op,
                             .b = n->b,
                             .t = n->g->seq_len,
                             .ep = 1,
                             .compute = IR_F32,
                             .work = n->work,
                             .scalars = n->scalars,
                             .loss_scale = n->loss_scale,
                             .train = true };
}

static void reset(struct naive *n)
{
    memset(n->scalars, 0, sizeof n->scalars);
    for (uint32_t i = 0; i < n->g->tensors.n; i++) {
        poison(n->value[i], &n->g->tensors.at[i].shape, n->b);
        if (n->grad[i])
            poison(n->grad[i], &n->g->tensors.at[i].shape, n->b);
        n->has_grad[i] = false;
    }
    for (uint32_t i = 0; i < n->g->params.n; i++) {
        poison(n->dparam[i], &n->g->params.at[i].shape, 1);
        n->has_dparam[i] = false;
    }
    for (uint32_t i = 0; i < n->g->ops.n; i++) {
        const struct ir_node_op *o = &n->g->ops.at[i];
        struct ir_op_shapes s;
        ir_op_shapes((enum ir_op)o->op, &o->attrs, n->g->seq_len, &s);
        for (uint32_t k = 0; k < IR_MAX_SAVE; k++)
            if (n->ops[i].save[k])
                poison(n->ops[i].save[k], &s.save[k], n->b);
        for (uint32_t k = 0; k < IR_MAX_STASH; k++)
            if (n->ops[i].stash[k])
                poison(n->ops[i].stash[k], &s.stash[k], n->b);
    }
}

void naive_forward(struct naive *n, const int32_t *tokens, const int32_t *targets)
{
    const struct ir_graph *g = n->g;
    reset(n);
    for (uint32_t i = 0; i < g->tensors.n; i++) {
        const struct ir_tensor *t = &g->tensors.at[i];
        if (t->producer == IR_NONE)
            memcpy(n->value[i], strcmp(t->name, "tokens") == 0 ? tokens : targets, bytes_of(&t->shape, n->b));
    }
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_node_op *o = &g->ops.at[i];
        struct op_args a = base_args(n, o->op, &o->attrs);
        for (uint32_t k = 0; k < ir_op_inputs((enum ir_op)o->op, &o->attrs); k++)
            a.in[k] = n->value[o->in[k]];
        for (uint32_t k = 0; k < ir_op_params((enum ir_op)o->op, &o->attrs); k++)
            a.param[k] = n->param[o->param[k]];
        for (uint32_t k = 0; k < ir_op_info[o->op].n_out; k++)
            a.out[k] = n->value[o->out[k]];
        memcpy(a.save, n->ops[i].save, sizeof a.save);
        n->backend->kernel((enum ir_op)o->op, IR_PASS_F)(&a);
    }
}

/* Operands that a backward kernel reads by its row; gradients of outputs as the caller says. */
static struct op_args backward_args(struct naive *n, uint32_t i, uint32_t reads)
{
    const struct ir_node_op *o = &n->g->ops.at[i];
    struct op_args a = base_args(n, o->op, &o->attrs);
    for (uint32_t k = 0; k < ir_op_inputs((enum ir_op)o->op, &o->attrs); k++)
        a.in[k] = reads & IR_IN(k) ? n->value[o->in[k]] : NULL;
    for (uint32_t k = 0; k < ir_op_params((enum ir_op)o->op, &o->attrs); k++)
        a.param[k] = reads & IR_PARAM(k) ? n->param[o->param[k]] : NULL;
    for (uint32_t k = 0; k < ir_op_info[o->op].n_out; k++) {
        a.out[k] = reads & IR_OUT(k) ? n->value[o->out[k]] : NULL;
        a.dout[k] = reads & IR_DOUT(k) ? n->grad[o->out[k]] : NULL;
    }
    for (uint32_t k = 0; k < IR_MAX_SAVE; k++)
        a.save[k] = reads & IR_SAVE(k) ? n->ops[i].save[k] : NULL;
    for (uint32_t k = 0; k < IR_MAX_STASH; k++)
        a.stash[k] = reads & IR_STASH(k) ? n->ops[i].stash[k] : NULL;
    return a;
}

/* The gradient of the output is that of input k: copied, or added to what is there. */
static void backward_alias(struct naive *n, const struct ir_node_op *o, uint32_t k)
{
    struct op_args a = base_args(n, IR_OP_COPY, &o->attrs);
    void *to = n->grad[o->in[k]];
    a.op = n->has_grad[o->in[k]] ? IR_OP_SUM : IR_OP_COPY;
    a.n = ir_shape_elements(&n->g->tensors.at[o->in[k]].shape) * n->b;
    a.in[0] = n->grad[o->out[0]];
    a.in[1] = a.op == IR_OP_SUM ? to : NULL;
    a.out[0] = to;
    n->backend->kernel((enum ir_op)a.op, IR_PASS_F)(&a);
    n->has_grad[o->in[k]] = true;
}

static void backward_inputs(struct naive *n, uint32_t i)
{
    const struct ir_node_op *o = &n->g->ops.at[i];
    const struct ir_op_info *info = &ir_op_info[o->op];
    uint32_t inputs = ir_op_inputs((enum ir_op)o->op, &o->attrs);
    struct op_args a = backward_args(n, i, info->bi_reads | 7 * IR_DOUT(0));
    for (uint32_t k = 0; k < inputs; k++)
        if (info->alias_in >> k & 1)
            backward_alias(n, o, k);
    if (!ir_op_has_kernel((enum ir_op)o->op, IR_PASS_BI))
        return;
    memcpy(a.stash, n->ops[i].stash, sizeof a.stash);
    for (uint32_t k = 0; k < inputs; k++) {
        if (!((info->grad_in & ~info->alias_in) >> k & 1))
            continue;
        a.din[k] = n->grad[o->in[k]];
        a.acc[k] = n->has_grad[o->in[k]] ? a.din[k] : NULL;
        n->has_grad[o->in[k]] = true;
    }
    n->backend->kernel((enum ir_op)o->op, IR_PASS_BI)(&a);
}

static void backward_params(struct naive *n, uint32_t i)
{
    const struct ir_node_op *o = &n->g->ops.at[i];
    struct op_args a = backward_args(n, i, ir_op_info[o->op].bw_reads);
    for (uint32_t k = 0; k < ir_op_params((enum ir_op)o->op, &o->attrs); k++) {
        a.dparam[k] = n->dparam[o->param[k]];
        a.dparam_add |= (uint32_t)n->has_dparam[o->param[k]] << k;
        n->has_dparam[o->param[k]] = true;
    }
    n->backend->kernel((enum ir_op)o->op, IR_PASS_BW)(&a);
}

void naive_backward(struct naive *n)
{
    for (uint32_t i = n->g->ops.n; i-- > 0;) {
        backward_inputs(n, i);
        if (ir_op_runs((enum ir_op)n->g->ops.at[i].op, &n->g->ops.at[i].attrs, IR_PASS_BW))
            backward_params(n, i);
    }
}
