/* What a simulated step says: where time goes, what it waited for, what would help. */
#include "sched/cost/simulate.h"

#include <stdio.h>
#include <stdlib.h>

static const struct plan_list *list_of(const struct simulate_input *in, uint32_t cls)
{
    const struct plan *p = &in->plans[cls];
    return &p->lists[plan_find_list(p, in->list)];
}

static const struct plan_instr *instr_of(const struct simulate_input *in, struct timeline_end at)
{
    return &in->plans[at.cls].instrs[list_of(in, at.cls)->first_instr + at.instr];
}

/* ---- where time goes ------------------------------------------------------------------------------------------------ */

enum { STEADY = SIMULATE_KINDS }; /* a kind beside the others */
struct turn {                     /* something begins (+1) or ends (-1) */
    double at;
    int32_t kind, step;
};

static int by_time(const void *a, const void *b)
{
    double x = ((const struct turn *)a)->at, y = ((const struct turn *)b)->at;
    return (x > y) - (x < y);
}

static void account(const struct simulate_input *in, const struct timeline *t, uint32_t cls, struct simulate_class *out)
{
    const struct timeline_class *k = &t->classes[cls];
    struct simulate_windows steady = { 0 };
    simulate_steady(in, t, cls, &steady);
    struct turn *turns = mem_alloc((2 * ((size_t)k->n + steady.n) + 1) * sizeof *turns);
    int32_t running[SIMULATE_KINDS + 1] = { 0 };
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->n; i++) {
        enum simulate_kind kind = simulate_kind_of(&in->plans[cls], instr_of(in, (struct timeline_end){ cls, i }));
        if (k->spans[i].end <= k->spans[i].start)
            continue;
        turns[n++] = (struct turn){ k->spans[i].start, (int32_t)kind, 1 };
        turns[n++] = (struct turn){ k->spans[i].end, (int32_t)kind, -1 };
    }
    for (uint32_t i = 0; i < steady.n; i++) {
        turns[n++] = (struct turn){ steady.at[i].start, STEADY, 1 };
        turns[n++] = (struct turn){ steady.at[i].end, STEADY, -1 };
    }
    qsort(turns, n, sizeof *turns, by_time);
    double now = 0;
    *out = (struct simulate_class){ 0 };
    for (uint32_t i = 0; i <= n; i++) {
        double next = i < n ? turns[i].at : t->step, *to = &out->idle;
        for (int kind = SIMULATE_KINDS - 1; kind >= 0; kind--)
            if (running[kind]) {
                out->total[kind] += next - now;
                out->steady_total[kind] += running[STEADY] ? next - now : 0;
                to = kind == SIMULATE_COMPUTE ? &out->compute : &out->exposed[kind];
            }
        *to += next - now;
        if (running[STEADY] && to >= out->exposed && to < out->exposed + SIMULATE_KINDS)
            out->steady_exposed[to - out->exposed] += next - now;
        now = next;
        if (i < n)
            running[turns[i].kind] += turns[i].step;
    }
    mem_free(turns);
    vec_free(&steady);
}

void simulate_account(const struct simulate_input *in, const struct timeline *t, struct simulate_class *classes)
{
    for (uint32_t c = 0; c < in->n_classes; c++)
        account(in, t, c, &classes[c]);
}

double simulate_exposed(const struct simulate_class *c)
{
    double sum = 0;
    for (int k = SIMULATE_COMPUTE + 1; k < SIMULATE_KINDS; k++)
        sum += c->exposed[k];
    return sum;
}

struct simulate_class simulate_mean(const struct simulate_input *in, const struct simulate_class *classes)
{
    struct simulate_class mean = { 0 };
    double ranks = in->plans[0].h->world;
    for (uint32_t c = 0; c < in->n_classes; c++) {
        double share = in->plans[c].sets[in->plans[c].h->devices].size / ranks;
        mean.compute += share * classes[c].compute;
        mean.idle += share * classes[c].idle;
        for (int k = 0; k < SIMULATE_KINDS; k++) {
            mean.exposed[k] += share * classes[c].exposed[k];
            mean.total[k] += share * classes[c].total[k];
            mean.steady_exposed[k] += share * classes[c].steady_exposed[k];
            mean.steady_total[k] += share * classes[c].steady_total[k];
        }
    }
    return mean;
}

/* ---- the critical path ------------------------------------------------------------------------------------------------- */

/* " of stage 3"; nothing where the model has one stage. */
static void stage_text(const struct ir_graph *g, uint32_t op, char text[32])
{
    uint32_t pp = ir_graph_find_tag(g, "PP");
    bool several = false;
    for (uint32_t i = 0; pp != IR_NONE && i < g->ops.n; i++)
        several = several || g->ops.at[i].tag[pp] > 0;
    text[0] = '\0';
    if (several && op != IR_NONE)
        snprintf(text, 32, " of stage %d", g->ops.at[op].tag[pp]);
}

static uint32_t op_of_program(const struct plan *p, uint32_t program)
{
    const struct plan_program *q = &p->programs[program];
    for (uint32_t k = 0; k < q->n_kernels; k++)
        if (p->kernels[q->first_kernel + k].graph_op != PLAN_NONE)
            return p->kernels[q->first_kernel + k].graph_op;
    return IR_NONE;
}

static uint32_t op_of_param(const struct ir_graph *g, uint32_t param)
{
    for (uint32_t i = 0; i < g->ops.n; i++)
        for (int k = 0; k < IR_MAX_PARAM; k++)
            if (g->ops.at[i].param[k] == param)
                return i;
    return IR_NONE;
}

static uint32_t op_of_bucket(const struct simulate_input *in, const struct plan *p, uint32_t bucket)
{
    const struct plan_bucket *b = &p->buckets[bucket];
    return b->n_pieces ? op_of_param(in->graph, p->pieces[b->first_piece].param) : IR_NONE;
}

static void name_of(const struct simulate_input *in, struct timeline_end at, char text[64])
{
    static const char *const passes[] = { "forward", "backward", "BI (dgrad)", "BW (wgrad)", "sums" };
    const struct plan *p = &in->plans[at.cls];
    const struct plan_instr *i = instr_of(in, at);
    const char *what;
    uint32_t op = IR_NONE;
    char stage[32];
    switch ((enum plan_op)i->op) {
    case PLAN_RUN:
        what = passes[p->programs[i->program].pass];
        op = op_of_program(p, i->program);
        break;
    case PLAN_LOAD:
        what = "loading tokens";
        break;
    case PLAN_SCALARS:
        what = "norm over all ranks";
        break;
    case PLAN_SUMSQ:
    case PLAN_UPDATE:
        what = i->op == PLAN_SUMSQ ? "norm" : "update";
        op = op_of_bucket(in, p, i->bucket);
        break;
    case PLAN_ALL_TO_ALL:
    case PLAN_ALL_TO_ALL_V:
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
    case PLAN_ROUNDS:
    case PLAN_SHIFT:
    case PLAN_SEND:
    case PLAN_RECV:
    case PLAN_EXCHANGE:
        what = simulate_kind_name(simulate_kind_of(p, i));
        op = in->graph->tensors.at[i->tensor].producer;
        break;
    default:
        what = simulate_kind_name(simulate_kind_of(p, i));
        if (plan_moves_tensor(p, i)) {
            what = i->op == PLAN_ALL_GATHER ? "gathers of activations" : "sums of activations";
            op = in->graph->tensors.at[i->tensor].producer;
        } else {
            op = op_of_bucket(in, p, i->bucket);
        }
        break;
    }
    stage_text(in->graph, op, stage);
    snprintf(text, 64, "%s%s", what, stage);
}

static int by_seconds(const void *a, const void *b)
{
    const struct simulate_part *x = a, *y = b;
    return x->seconds != y->seconds ? (x->seconds < y->seconds) - (x->seconds > y->seconds) : strcmp(x->name, y->name);
}

void simulate_critical(const struct simulate_input *in, const struct timeline *t, struct simulate_path *path)
{
    struct timeline_end at = { 0, 0 };
    double last = -1;
    for (uint32_t c = 0; c < t->n_classes; c++)
        for (uint32_t i = 0; i < t->classes[c].n; i++)
            if (t->classes[c].spans[i].end > last) {
                last = t->classes[c].spans[i].end;
                at = (struct timeline_end){ c, i };
            }
    for (; last >= 0 && at.cls != PLAN_NONE; at = t->classes[at.cls].after[at.instr]) {
        const struct timeline_span *s = &t->classes[at.cls].spans[at.instr];
        struct simulate_part part = { .seconds = s->end - s->start };
        uint32_t k = 0;
        if (part.seconds <= 0)
            continue;
        name_of(in, at, part.name);
        while (k < path->n && strcmp(path->at[k].name, part.name))
            k++;
        if (k == path->n)
            vec_add(path, part);
        else
            path->at[k].seconds += part.seconds;
    }
    if (path->n)
        qsort(path->at, path->n, sizeof *path->at, by_seconds);
}

/* ---- what would help ---------------------------------------------------------------------------------------------------- */

static double step_with(const struct simulate_input *in, const struct simulate_change *change)
{
    struct timeline t;
    simulate_run(in, change, &t);
    double step = t.step;
    timeline_release(&t);
    return step;
}

/* Every rank computes as long as the mean of them. */
static double step_when_balanced(const struct simulate_input *in, const struct timeline *t)
{
    struct simulate_change change = { .scale = { 1, 1, 1, 1, 1, 1 } };
    double *factor = mem_alloc(in->n_classes * sizeof *factor), busy = 0, ranks = 0;
    for (uint32_t c = 0; c < in->n_classes; c++) {
        double members = in->plans[c].sets[in->plans[c].h->devices].size;
        busy += members * t->classes[c].busy;
        ranks += members;
    }
    for (uint32_t c = 0; c < in->n_classes; c++)
        factor[c] = t->classes[c].busy > 0 ? busy / ranks / t->classes[c].busy : 1;
    change.compute = factor;
    double step = step_with(in, &change);
    mem_free(factor);
    return step;
}

static int by_step(const void *a, const void *b)
{
    double x = ((const struct simulate_hint *)a)->step, y = ((const struct simulate_hint *)b)->step;
    return (x > y) - (x < y);
}

uint32_t simulate_hints(const struct simulate_input *in, const struct timeline *t, struct simulate_hint *hints)
{
    static const struct {
        const char *what;
        double scale[SIMULATE_KINDS];
    } changes[] = {
        { "computation twice as fast", { 0.5, 1, 1, 1, 1, 1 } },
        { "links twice as fast", { 1, 0.5, 0.5, 0.5, 0.5, 0.5 } },
        { "free sends between stages", { 1, 0, 1, 1, 1, 1 } },
        { "free or fully overlapped all-to-all", { 1, 1, 0, 1, 1, 1 } },
        { "free or fully overlapped reductions", { 1, 1, 1, 0, 1, 1 } },
        { "free or fully overlapped gathers", { 1, 1, 1, 1, 0, 1 } },
        { "free or fully overlapped communication of regions", { 1, 1, 1, 1, 1, 0 } },
    };
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct simulate_change change = { 0 };
        memcpy(change.scale, changes[i].scale, sizeof change.scale);
        hints[n++] = (struct simulate_hint){ changes[i].what, step_with(in, &change) };
    }
    if (in->n_classes > 1)
        hints[n++] = (struct simulate_hint){ "perfectly balanced stages", step_when_balanced(in, t) };
    qsort(hints, n, sizeof *hints, by_step);
    while (n && hints[n - 1].step > 0.99 * t->step)
        n--;
    return n;
}
