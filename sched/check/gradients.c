/* Gradients as sums: the backward's data flow is that of the model.
 *
 * The gradient of a tensor is a sum. Each place where an operator reads the tensor gives a term, made by the operator's kernel
 * BI from the whole gradient of its output; where the operator passes gradients through unchanged, the output's own gradient is the term.
 * So the model alone says of which terms every gradient consists, each as often as it is read. The plan makes them in parts: a
 * kernel adds its term to what it finds in acc, parts from several readers travel and are added. What a part holds is followed
 * through programs, frames, buffers and messages; and where a kernel takes the gradient of its output it must hold all terms, each once.
 *
 * A sum of terms stands as a number: of each term a random one, added modulo 2^64. Of two different sums these are equal with a
 * probability of 2^-64. */
#include "sched/check/values.h"

#include "base/number.h"

uint64_t gradients_term(uint32_t graph_op, uint32_t i)
{
    return number_mix((uint64_t)graph_op * IR_MAX_IN + i + 1);
}

void check_gradients(struct check *c)
{
    const struct ir_graph *g = c->g;
    c->gradient = arena_array(&c->arena, uint64_t, g->tensors.n);
    c->flows = arena_array(&c->arena, uint8_t, g->tensors.n);
    for (uint32_t o = g->ops.n; o-- > 0;) {
        const struct ir_node_op *op = &g->ops.at[o];
        const struct ir_op_info *info = &ir_op_info[op->op];
        if (!check_flows_in(c, op))
            continue;
        for (uint32_t i = 0; i < IR_MAX_IN; i++) {
            if (op->in[i] == IR_NONE || !(info->grad_in >> i & 1))
                continue;
            c->flows[op->in[i]] = 1;
            c->gradient[op->in[i]] += info->alias_in >> i & 1 ? c->gradient[op->out[0]] : gradients_term(o, i);
        }
    }
}

bool check_flows_in(const struct check *c, const struct ir_node_op *op)
{
    bool any = ir_op_has_loss((enum ir_op)op->op, &op->attrs);
    for (uint32_t i = 0; i < IR_MAX_OUT; i++)
        any = any || (op->out[i] != IR_NONE && c->flows[op->out[i]]);
    return any;
}

/* ---- a program ---- */

/* The operator whose term is missing, or is there too often; IR_NONE: it is not one term alone. */
static uint32_t term_of(const struct ir_graph *g, uint64_t sum)
{
    for (uint32_t o = 0; o < g->ops.n && sum; o++)
        for (uint32_t i = 0; i < IR_MAX_IN; i++)
            if (g->ops.at[o].in[i] != IR_NONE && gradients_term(o, i) == sum)
                return o;
    return IR_NONE;
}

static enum status wrong_sum(const struct values *v, uint32_t program, const struct gradient_step *s, uint64_t sum)
{
    const struct ir_graph *g = v->c->g;
    const struct plan_kernel *k = &v->p->kernels[s->kernel];
    uint64_t want = v->c->gradient[s->tensor];
    uint32_t lacks = term_of(g, want - sum), extra = term_of(g, sum - want);
    struct check_place at = { .cls = v->cls };
    uint32_t number = s->kernel - v->p->programs[program].first_kernel;
    const char *name = g->ops.at[k->graph_op].name, *pass = ir_pass_name((enum ir_pass)k->pass);
    if (lacks != IR_NONE || extra != IR_NONE)
        return check_wrong(v->c, RULE_GRADIENT, at,
                           "program %u, kernel %u (%s %s): takes the gradient of %s, which %s the share of %s", program,
                           number, name, pass, g->tensors.at[s->tensor].name,
                           lacks != IR_NONE ? "does not hold" : "should not hold, or not twice,",
                           g->ops.at[lacks != IR_NONE ? lacks : extra].name);
    return check_wrong(v->c, RULE_GRADIENT, at,
                       "program %u, kernel %u (%s %s): takes the gradient of %s, but %s stands there", program, number,
                       name, pass, g->tensors.at[s->tensor].name, sum ? "another sum of shares" : "nothing");
}

static uint64_t value_of(const uint64_t *made, const uint64_t *in, uint32_t from)
{
    return from == PLAN_NONE ? 0 : from & OUTSIDE ? in[from & ~(uint32_t)OUTSIDE] : made[from];
}

/* Of what comes in, what every step makes. */
static enum status run_steps(const struct values *v, uint32_t program, const struct interface *face, const uint64_t *in,
                             uint64_t *made)
{
    for (uint32_t i = 0; i < face->steps.n; i++) {
        const struct gradient_step *s = &face->steps.at[i];
        made[i] = value_of(made, in, s->from[0]) + value_of(made, in, s->from[1]) + s->own;
        if (s->whole && made[i] != v->c->gradient[s->tensor])
            return wrong_sum(v, program, s, made[i]);
    }
    return ST_OK;
}

enum status gradients_flow(const struct values *v, uint32_t program, struct interface *face, const uint64_t *takes,
                           uint32_t *flow)
{
    const size_t n = sizeof *takes * face->takes.n;
    for (*flow = 0; *flow < face->flows.n; ++*flow)
        if (n == 0 || memcmp(face->flows.at[*flow].takes, takes, n) == 0)
            return ST_OK;
    uint64_t *made = mem_alloc(sizeof *made * ((size_t)face->steps.n + 1));
    enum status st = run_steps(v, program, face, takes, made);
    if (st == ST_OK) {
        struct gradient_flow f = { mem_alloc(n + 1), mem_alloc(sizeof *f.gives * ((size_t)face->gives.n + 1)) };
        if (n)
            memcpy(f.takes, takes, n);
        for (uint32_t i = 0; i < face->gives.n; i++)
            f.gives[i] = made[face->gives.at[i].step];
        vec_add(&face->flows, f);
    }
    mem_free(made);
    return st;
}

void gradients_release(struct interface *face)
{
    for (uint32_t i = 0; i < face->flows.n; i++) {
        mem_free(face->flows.at[i].takes);
        mem_free(face->flows.at[i].gives);
    }
    vec_free(&face->flows);
    vec_free(&face->steps);
}
