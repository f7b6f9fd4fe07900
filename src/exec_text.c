/* Instructions in words, for messages and traces. */
#include "exec_private.h"

#include <stdio.h>

/* The longest prefix, cut at dots, that the names of all operators of the program share: its region of the model. */
static void region(const struct exec *x, const struct plan_program *program, char *text, size_t size)
{
    size_t shared = SIZE_MAX;
    const char *first = NULL;
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        uint32_t op = x->plan->kernels[i].graph_op;
        if (op == PLAN_NONE)
            continue;
        const char *name = x->graph->ops.at[op].name;
        if (!first) {
            first = name;
            shared = strlen(name);
            continue;
        }
        size_t n = 0;
        while (n < shared && first[n] == name[n])
            n++;
        if (n < shared || name[n])
            while (n && first[n] != '.')
                n--;
        shared = n < shared ? n : shared;
    }
    if (first && shared)
        snprintf(text, size, " %.*s", (int)shared, first);
    else
        snprintf(text, size, " chunk %u.%u", program->chunk, program->sub);
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
