/* Nothing is forgotten and nothing runs twice: for every microbatch each operator of the model has one forward
 * kernel, and in "train" one kernel per backward pass that its place in the model asks for, over all classes
 * together; BW, which may run in parts, one for each of these. */
#include "ir/freeze.h"
#include "sched/check/check.h"

#include <stdlib.h>

/* A kernel of an operator in a program that this list may run; of BW a row for each part of the parameters. */
struct cover_row {
    uint32_t op, pass, part, cls, program;
};

static int by_op(const void *a, const void *b)
{
    const struct cover_row *x = a, *y = b;
    if (x->op != y->op)
        return x->op < y->op ? -1 : 1;
    if (x->pass != y->pass)
        return x->pass < y->pass ? -1 : 1;
    return (x->part > y->part) - (x->part < y->part);
}

struct cover {
    struct check *c;
    const struct check_list *l;
    uint32_t microbatches;
    uint8_t **runs; /* by class: [program][microbatch] times, at most 2 */
    struct {
        VEC(struct cover_row);
    } rows;
    uint8_t *needs; /* by operator: bit pass */
};

/* ---- which backward kernels the model asks for ---- */

/* wanted[tensor]: some parameter that is trained lies upstream. */
static void find_needs(struct cover *cover)
{
    const struct ir_graph *g = cover->c->g;
    uint8_t *wanted = mem_alloc(g->tensors.n);
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_node_op *op = &g->ops.at[i];
        bool any = ir_op_trains(g, op);
        for (uint32_t k = 0; k < IR_MAX_IN; k++)
            any = any || (op->in[k] != IR_NONE && ir_op_info[op->op].grad_in >> k & 1 && wanted[op->in[k]]);
        for (uint32_t k = 0; k < IR_MAX_OUT; k++)
            if (op->out[k] != IR_NONE)
                wanted[op->out[k]] = any;
    }
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_node_op *op = &g->ops.at[i];
        const struct ir_op_info *info = &ir_op_info[op->op];
        cover->needs[i] = 1u << IR_PASS_F;
        if (!check_flows_in(cover->c, op))
            continue;
        if (ir_op_runs(op->op, &op->attrs, IR_PASS_BW) && ir_op_trains(g, op))
            cover->needs[i] |= 1u << IR_PASS_BW;
        for (uint32_t k = 0; k < IR_MAX_IN; k++)
            if (op->in[k] != IR_NONE && (info->grad_in & ~info->alias_in) >> k & 1 && wanted[op->in[k]])
                cover->needs[i] |= 1u << IR_PASS_BI;
    }
    mem_free(wanted);
}

/* ---- what runs ---- */

static enum status count_runs(struct cover *cover, uint32_t cls)
{
    const struct plan *p = cover->c->classes[cls].p;
    const struct plan_instr *in = check_instrs(cover->c, cover->l, cls);
    for (uint32_t i = 0; i < check_n_instrs(cover->c, cover->l, cls); i++) {
        if (in[i].op != PLAN_RUN || plan_is_extra(&in[i]) || in[i].count || /* a later piece: values.c */
            p->programs[in[i].program].pass == IR_PASS_NONE)
            continue; /* sums of gradients may run for several tensors' parts */
        uint8_t *n = &cover->runs[cls][(size_t)in[i].program * cover->microbatches + in[i].mb];
        if (++*n > 1)
            return check_wrong(cover->c, RULE_COVER, (struct check_place){ cls, cover->l, i },
                               "program %u runs a second time for this microbatch", in[i].program);
    }
    return ST_OK;
}

/* Parts of the kernel of a pass. */
static uint32_t parts_of(const struct cover *cover, uint32_t op, uint32_t pass)
{
    return pass == IR_PASS_BW ? ir_op_bw_parts((enum ir_op)cover->c->g->ops.at[op].op) : 1;
}

/* Does the kernel do this part of its pass? */
static bool does_part(const struct cover *cover, const struct plan_kernel *k, uint32_t part)
{
    const struct ir_node_op *op = &cover->c->g->ops.at[k->graph_op];
    const uint64_t gives = k->mask >> OPERAND_DPARAM;
    return k->pass != IR_PASS_BW || gives & ir_op_bw_params((enum ir_op)op->op, &op->attrs, part);
}

static void add_rows(struct cover *cover, uint32_t cls)
{
    const struct plan *p = cover->c->classes[cls].p;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_PROGRAMS]; i++) {
        const struct plan_program *g = &p->programs[i];
        for (uint32_t k = g->first_kernel; k < g->first_kernel + g->n_kernels; k++) {
            const struct plan_kernel *kernel = &p->kernels[k];
            bool counts = kernel->graph_op != PLAN_NONE && (kernel->pass == IR_PASS_F) == (g->pass == IR_PASS_F);
            for (uint32_t part = 0; counts && part < parts_of(cover, kernel->graph_op, kernel->pass); part++)
                if (does_part(cover, kernel, part))
                    vec_add(&cover->rows, ((struct cover_row){ kernel->graph_op, kernel->pass, part, cls, i }));
        }
    }
}

/* Rows r[0..n) are those of one operator, pass and part, as of says. */
static enum status check_rows(const struct cover *cover, const struct cover_row *of, const struct cover_row *r,
                              uint32_t n)
{
    const uint32_t op = of->op, pass = of->pass;
    bool needed = cover->needs[op] >> pass & 1;
    if (!cover->l->train)
        needed = pass == IR_PASS_F;
    for (uint32_t mb = 0; mb < cover->microbatches; mb++) {
        uint32_t times = 0;
        for (uint32_t i = 0; i < n; i++)
            times += cover->runs[r[i].cls][(size_t)r[i].program * cover->microbatches + mb];
        if (times == 1 || (times == 0 && !needed))
            continue;
        struct check_place at = { .cls = n ? r->cls : PLAN_NONE };
        const struct ir_node_op *o = &cover->c->g->ops.at[op];
        const bool parts = parts_of(cover, op, pass) > 1;
        return check_wrong(cover->c, RULE_COVER, at,
                           "list \"%s\": operator %s runs its kernel %s%s%s %u times in microbatch %u", cover->l->name,
                           o->name, ir_pass_name(pass), parts ? " for " : "",
                           parts ? cover->c->g->params.at[o->param[of->part]].name : "", times, mb);
    }
    return ST_OK;
}

static enum status check_all(struct cover *cover)
{
    static const uint32_t passes[] = { IR_PASS_F, IR_PASS_BI, IR_PASS_BW }; /* ascending, as the rows are */
    if (cover->rows.n)
        qsort(cover->rows.at, cover->rows.n, sizeof *cover->rows.at, by_op);
    uint32_t i = 0;
    for (uint32_t op = 0; op < cover->c->g->ops.n; op++)
        for (size_t k = 0; k < sizeof passes / sizeof *passes; k++)
            for (uint32_t part = 0; part < parts_of(cover, op, passes[k]); part++) {
                const struct cover_row of = { .op = op, .pass = passes[k], .part = part };
                uint32_t first = i;
                while (i < cover->rows.n && by_op(&cover->rows.at[i], &of) == 0)
                    i++;
                TRY(check_rows(cover, &of, cover->rows.at + first, i - first));
            }
    return ST_OK;
}

enum status check_cover(struct check *c, const struct check_list *l)
{
    struct cover cover = { .c = c, .l = l };
    cover.microbatches = c->classes[0].p->lists[l->index[0]].microbatches;
    cover.runs = mem_alloc(sizeof *cover.runs * (size_t)c->n);
    cover.needs = mem_alloc(c->g->ops.n);
    find_needs(&cover);
    enum status st = ST_OK;
    for (uint32_t cls = 0; cls < c->n; cls++) {
        cover.runs[cls] = mem_alloc((size_t)c->classes[cls].p->h->count[PLAN_S_PROGRAMS] * cover.microbatches);
        add_rows(&cover, cls);
    }
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++)
        st = count_runs(&cover, cls);
    if (st == ST_OK)
        st = check_all(&cover);
    for (uint32_t cls = 0; cls < c->n; cls++)
        mem_free(cover.runs[cls]);
    mem_free(cover.runs);
    mem_free(cover.needs);
    vec_free(&cover.rows);
    return st;
}
