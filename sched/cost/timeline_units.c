/* Unit times: what a step takes where nothing is known of the machine. */
#include "sched/cost/timeline.h"

enum { KERNELS = 3 }; /* F, BI, BW */

static uint32_t kernel_index(uint32_t pass)
{
    return pass == IR_PASS_F ? 0 : pass == IR_PASS_BW ? 2 : 1;
}

static uint32_t stage_of_op(const struct ir_graph *g, uint32_t pp, uint32_t op)
{
    int32_t stage = pp == IR_NONE ? 0 : g->ops.at[op].tag[pp];
    return stage < 0 ? 0 : (uint32_t)stage;
}

uint32_t timeline_stage(const struct plan *p, uint32_t program, const struct ir_graph *g)
{
    uint32_t pp = ir_graph_find_tag(g, "PP"), chunk = p->programs[program].chunk;
    for (uint32_t i = 0; i <= p->h->count[PLAN_S_PROGRAMS];
         i++) { /* itself; a sum of gradients: another of its chunk */
        const struct plan_program *q = &p->programs[i ? i - 1 : program];
        for (uint32_t k = 0; k < q->n_kernels && q->chunk == chunk; k++)
            if (p->kernels[q->first_kernel + k].graph_op != PLAN_NONE)
                return stage_of_op(g, pp, p->kernels[q->first_kernel + k].graph_op);
    }
    return 0;
}

/* Weight of a kernel within its stage. The one beside the operations is for stages of which none are counted. */
static double weight(const struct ir_graph *g, const struct plan_kernel *k)
{
    if (k->graph_op == PLAN_NONE)
        return 0;
    const struct ir_node_op *op = &g->ops.at[k->graph_op];
    return 1 + ir_op_info[op->op].flops(&op->attrs, (enum ir_pass)k->pass, 1, g->seq_len);
}

/* total[stage * KERNELS + kernel]: weights of the stage's kernels, each of the model's operators once. */
static double *stage_weights(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g)
{
    uint32_t pp = ir_graph_find_tag(g, "PP"), stages = 1;
    for (uint32_t i = 0; i < g->ops.n; i++)
        stages = stage_of_op(g, pp, i) >= stages ? stage_of_op(g, pp, i) + 1 : stages;
    double *total = mem_alloc((size_t)stages * KERNELS * sizeof *total);
    uint8_t *seen = mem_alloc((size_t)g->ops.n * KERNELS);
    for (uint32_t c = 0; c < n_classes; c++)
        for (uint32_t i = 0; i < plans[c].h->count[PLAN_S_KERNELS]; i++) {
            const struct plan_kernel *k = &plans[c].kernels[i];
            uint32_t kernel = kernel_index(k->pass);
            if (k->graph_op == PLAN_NONE || k->again || seen[k->graph_op * KERNELS + kernel]++)
                continue;
            total[stage_of_op(g, pp, k->graph_op) * KERNELS + kernel] += weight(g, k);
        }
    mem_free(seen);
    return total;
}

/* All-to-alls, gathers and sums of a forward pass of a stage, on average over the stages of the class; at least 1. */
static double transfers_of_pass(const struct plan *p, const struct ir_graph *g)
{
    struct {
        VEC(uint32_t);
    } stages = { 0 };
    for (uint32_t i = 0; i < p->h->count[PLAN_S_PROGRAMS]; i++) {
        uint32_t stage = timeline_stage(p, i, g), k = 0;
        while (k < stages.n && stages.at[k] != stage)
            k++;
        if (k == stages.n)
            vec_add(&stages, stage);
    }
    const struct plan_list *l = &p->lists[0];
    uint32_t n = 0;
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++)
        n += p->instrs[i].pass == IR_PASS_F && p->instrs[i].op >= PLAN_REDUCE_SCATTER &&
             plan_moves_tensor(p, &p->instrs[i]) && !plan_is_extra(&p->instrs[i]);
    double passes = (double)stages.n * l->microbatches;
    vec_free(&stages);
    return n > passes ? n / passes : 1;
}

void timeline_units_init(struct timeline_units *u, const struct plan *plans, uint32_t n_classes,
                         const struct ir_graph *g)
{
    double *total = stage_weights(plans, n_classes, g);
    uint32_t pp = ir_graph_find_tag(g, "PP");
    u->n_classes = n_classes;
    u->program = mem_alloc(n_classes * sizeof *u->program);
    u->elements = mem_alloc(n_classes * sizeof *u->elements);
    u->transfers = mem_alloc(n_classes * sizeof *u->transfers);
    for (uint32_t c = 0; c < n_classes; c++) {
        const struct plan *p = &plans[c];
        u->program[c] = mem_alloc(p->h->count[PLAN_S_PROGRAMS] * sizeof **u->program);
        for (uint32_t i = 0; i < p->h->count[PLAN_S_PROGRAMS]; i++)
            for (uint32_t k = 0; k < p->programs[i].n_kernels; k++) {
                const struct plan_kernel *kernel = &p->kernels[p->programs[i].first_kernel + k];
                if (kernel->graph_op != PLAN_NONE)
                    u->program[c][i] +=
                        plan_portion(kernel, &g->ops.at[kernel->graph_op].attrs) * weight(g, kernel) /
                        total[stage_of_op(g, pp, kernel->graph_op) * KERNELS + kernel_index(kernel->pass)];
            }
        for (uint32_t i = 0; i < p->h->count[PLAN_S_BUCKETS]; i++)
            u->elements[c] += (double)p->buckets[i].elements;
        u->transfers[c] = transfers_of_pass(p, g);
    }
    u->plans = plans;
    mem_free(total);
}

void timeline_units_release(struct timeline_units *u)
{
    for (uint32_t c = 0; c < u->n_classes; c++)
        mem_free(u->program[c]);
    mem_free(u->program);
    mem_free(u->elements);
    mem_free(u->transfers);
    u->n_classes = 0;
}

double timeline_units_time(void *self, uint32_t cls, const struct plan_instr *in, double start)
{
    const struct timeline_units *u = self;
    (void)start;
    if (plan_is_extra(in))
        return 0;
    switch ((enum plan_op)in->op) {
    case PLAN_RUN: /* a program in pieces has in each an equal part */
        return u->program[cls][in->program] / (u->plans[cls].programs[in->program].phases + 1);
    case PLAN_SEND:
    case PLAN_RECV:
    case PLAN_EXCHANGE:
        return u->move;
    case PLAN_ALL_TO_ALL:
    case PLAN_ALL_TO_ALL_V:
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
    case PLAN_SHIFT:
        return u->all_to_all / u->transfers[cls];
    case PLAN_ALL_REDUCE:
    case PLAN_REDUCE_SCATTER:
    case PLAN_ALL_GATHER:
        if (plan_moves_tensor(&u->plans[cls], in))
            return u->all_to_all / u->transfers[cls];
        return u->collective * (double)u->plans[cls].buckets[in->bucket].elements / u->elements[cls];
    case PLAN_UPDATE:
        return u->update * (double)u->plans[cls].buckets[in->bucket].elements / u->elements[cls];
    default:
        return 0;
    }
}
