/* Instructions in words, for messages and traces. */
#include "exec/private.h"

#include <stdio.h>

/* Operators of the model that the kernels of a program are of: the least and the largest; false: of none, it only adds or
 * copies. */
static bool operators(const struct exec *x, const struct plan_program *program, uint32_t *lo, uint32_t *hi)
{
    *lo = UINT32_MAX;
    *hi = 0;
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        uint32_t op = x->plan->kernels[i].graph_op;
        if (op == PLAN_NONE)
            continue;
        *lo = op < *lo ? op : *lo;
        *hi = op > *hi ? op : *hi;
    }
    return *lo <= *hi;
}

/* The same; of a program that has none those of another pass of its part of the model. */
static bool operators_near(const struct exec *x, const struct plan_program *program, uint32_t *lo, uint32_t *hi)
{
    bool found = operators(x, program, lo, hi);
    for (uint32_t i = 0; !found && i < x->plan->h->count[PLAN_S_PROGRAMS]; i++)
        found = x->plan->programs[i].sub == program->sub && operators(x, &x->plan->programs[i], lo, hi);
    return found;
}

/* The part of the model that a program works on: what the names of its first and last operator share, up to a dot, or
 * both names. */
static void region(const struct exec *x, const struct plan_program *program, char *text, size_t size)
{
    uint32_t lo, hi;
    if (!operators_near(x, program, &lo, &hi)) {
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

static void name_of(const struct exec *x, const struct plan_instr *in, char *text, size_t size)
{
    static const char *const collectives[PLAN_OP_COUNT] = {
        [PLAN_ALL_REDUCE] = "all-reduce", [PLAN_REDUCE_SCATTER] = "reduce-scatter",
        [PLAN_ALL_GATHER] = "all-gather", [PLAN_ADD] = "add",
        [PLAN_SHIFT] = "shift",           [PLAN_SUMSQ] = "norm of",
        [PLAN_UPDATE] = "update",
    };
    const struct ir_tensor *tensor = in->tensor < x->graph->tensors.n ? &x->graph->tensors.at[in->tensor] : NULL;
    const char *pass = ir_pass_name((enum ir_pass)in->pass);
    switch ((enum plan_op)in->op) {
    case PLAN_LOAD:
        snprintf(text, size, "load %s", tensor->name);
        break;
    case PLAN_RUN: {
        const struct plan_program *program = &x->plan->programs[in->program];
        const bool again = program->pass == IR_PASS_NONE && x->plan->kernels[program->first_kernel].again;
        int n = snprintf(text, size, "%s", again ? "again" : ir_pass_name((enum ir_pass)program->pass));
        region(x, program, text + n, size - (size_t)n);
        break;
    }
    case PLAN_SEND:
    case PLAN_RECV:
    case PLAN_EXCHANGE:
    case PLAN_ALL_TO_ALL:
    case PLAN_ALL_TO_ALL_V:
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
        snprintf(text, size, "%s %s %s",
                 in->op == PLAN_SEND       ? "send"
                 : in->op == PLAN_RECV     ? "receive"
                 : in->op == PLAN_EXCHANGE ? "exchange"
                                           : "all-to-all",
                 pass, tensor ? tensor->name : "");
        break;
    case PLAN_ROUNDS:
        snprintf(text, size, "rounds %s %s", pass, tensor ? tensor->name : "");
        break;
    case PLAN_SCALARS:
        snprintf(text, size, "all-reduce scalars");
        break;
    default:
        if (plan_moves_tensor(x->plan, in))
            snprintf(text, size, "%s %s %s", collectives[in->op], pass, tensor ? tensor->name : "");
        else
            snprintf(text, size, "%s bucket %u", collectives[in->op], in->bucket);
    }
}

/* The tags of a program's first operator (all have the same), then microbatch and pass. */
static void tags_of(const struct exec *x, const struct plan_instr *in, char *text, size_t size)
{
    const struct ir_graph *g = x->graph;
    size_t n = 0;
    text[0] = '\0';
    if (in->op == PLAN_RUN) {
        const struct plan_program *program = &x->plan->programs[in->program];
        uint32_t op, last;
        bool found = operators_near(x, program, &op, &last);
        for (uint32_t k = 0; found && k < g->n_tags && n < size; k++)
            if (g->ops.at[op].tag[k] >= 0)
                n += (size_t)snprintf(text + n, size - n, "%s=%d ", g->tags[k], g->ops.at[op].tag[k]);
    }
    if (in->mb != 0xffff && n < size)
        n += (size_t)snprintf(text + n, size - n, "MB=%u ", in->mb);
    if (in->pass != IR_PASS_NONE && n < size)
        snprintf(text + n, size - n, "PASS=%s ", ir_pass_name((enum ir_pass)in->pass));
    if (text[0])
        text[strlen(text) - 1] = '\0';
}

void exec_describe(const struct exec *x, uint32_t list, uint32_t i, struct exec_instruction *out)
{
    const struct plan *p = x->plan;
    const struct plan_instr *in = &p->instrs[p->lists[list].first_instr + i];
    *out = (struct exec_instruction){ .stream = in->stream, .group = -1, .peer = -1 };
    name_of(x, in, out->name, sizeof out->name);
    if (in->mb != 0xffff && strlen(out->name) + 8 < sizeof out->name)
        sprintf(out->name + strlen(out->name), " mb%u", in->mb);
    tags_of(x, in, out->tags, sizeof out->tags);
    out->predicted = plan_seconds(p->programs, in);
    if (!exec__is_communication(in))
        return;
    const struct comm_call *call = &x->calls[in - p->instrs];
    uint64_t count = in->op == PLAN_SCALARS ? call->count
                                            : in->count; /* a call may carry less, where nothing is computed */
    out->bytes = count * comm_type_size(call->type);
    out->tag = in->tag;
    if (call->peer != UINT32_MAX)
        out->peer = (int32_t)call->peer;
    else if (call->channel != UINT32_MAX)
        out->group = (int32_t)p->channels[call->channel].id;
}
