/* Instructions in words, for messages and traces. */
#include "exec_private.h"

#include <stdio.h>

/* The part of the model that a program works on: what the names of its first and last operator share, up to a dot, or
 * both names. */
static void region(const struct exec *x, const struct plan_program *program, char *text, size_t size)
{
    uint32_t lo = UINT32_MAX, hi = 0;
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        uint32_t op = x->plan->kernels[i].graph_op;
        if (op == PLAN_NONE)
            continue;
        lo = op < lo ? op : lo;
        hi = op > hi ? op : hi;
    }
    if (lo > hi) {
        snprintf(text, size, " chunk %u.%u", program->chunk, program->sub);
        return;
    }
    const char *first = x->graph->ops.at[lo].name, *last = x->graph->ops.at[hi].name;
    size_t shared = 0;
    for (size_t i = 0; first[i] && first[i] == last[i]; i++)
        if (first[i] == '.')
            shared = i;
    if (lo == hi)
        snprintf(text, size, " %s", first);
    else if (shared)
        snprintf(text, size, " %.*s", (int)shared, first);
    else
        snprintf(text, size, " %s..%s", first, last);
}

static void what(const struct exec *x, const struct plan_instr *in, char *text, size_t size)
{
    const struct plan *p = x->plan;
    text[0] = '\0';
    switch ((enum plan_op)in->op) {
    case PLAN_LOAD:
        snprintf(text, size, "load %s", x->graph->tensors.at[in->what].name);
        break;
    case PLAN_RUN: {
        int n = snprintf(text, size, "%s", ir_pass_name((enum ir_pass)p->programs[in->what].pass));
        region(x, &p->programs[in->what], text + n, size - (size_t)n);
        break;
    }
    case PLAN_SEND:
    case PLAN_RECV:
        snprintf(text, size, "%s %u tag %u", in->op == PLAN_SEND ? "send to" : "receive from",
                 x->calls[in - p->instrs].peer, in->tag);
        break;
    case PLAN_SUMSQ:
    case PLAN_UPDATE:
        snprintf(text, size, "%s bucket %u", plan_op_name((enum plan_op)in->op), in->what);
        break;
    default:
        snprintf(text, size, "%s", plan_op_name((enum plan_op)in->op));
        if (in->n_bases && p->bases[in->first_base].arena == ARENA_GRADS)
            snprintf(text + strlen(text), size - strlen(text), " bucket %u", p->bases[in->first_base].buffer);
    }
}

void exec_describe(const struct exec *x, uint32_t list, uint32_t i, char *text, size_t size)
{
    const struct plan_instr *in = &x->plan->instrs[x->plan->lists[list].first_instr + i];
    what(x, in, text, size);
    if (in->mb != 0xffff)
        snprintf(text + strlen(text), size - strlen(text), " mb%u", in->mb);
}
