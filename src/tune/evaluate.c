/* One shape by itself: compiled, verified, simulated; and a second look at those that bounds dropped. */
#include "tune/search.h"

#include <math.h>

#include "job/need.h"

static void look_at_plans(const struct sched_input *in, const struct plan *plans, uint32_t n, struct tune_result *out)
{
    const struct simulate_input input = { in->machine, plans, n, in->graph, "train" };
    struct simulate_class *classes = mem_alloc(n * sizeof *classes);
    struct timeline t;
    for (uint32_t c = 0; c < n; c++) {
        const double need = need_bytes(&plans[c], in->target);
        if (need <= out->need)
            continue;
        out->need = need;
        for (int k = 0; k < MEM_KINDS; k++)
            out->by_kind[k] = (double)plans[c].h->peak_bytes[k];
    }
    simulate_run(&input, NULL, &t);
    simulate_account(&input, &t, classes);
    out->mean = simulate_mean(&input, classes);
    out->step = t.step;
    out->bubble = t.bubble;
    timeline_release(&t);
    mem_free(classes);
}

/* The compiler changes a graph: it is compiled from a copy. */
static void copy_graph(const struct ir_graph *g, struct ir_graph *to)
{
    ir_graph_borrow(g, to);
    if (ir_graph_find_input(g, "documents") != IR_NONE)
        ir_graph_separate(to);
}

/* With this much room for an order that takes more memory than another. */
static bool evaluate(const struct tune_search *s, const struct bound_shape *shape, uint64_t room,
                     struct tune_result *out, struct err *e)
{
    struct ir_graph g;
    struct sched_input in = s->in;
    struct sched_output compiled = { 0 };
    *out = (struct tune_result){ .shape = *shape };
    out->short_of_room = compiled.short_of_room;
    out->shape.peak = 0;
    copy_graph(s->in.graph, &g);
    in.graph = &g;
    in.strategy = tune_strategy(s->space->start, &out->shape);
    in.room = room;
    enum status st = sched_compile(&in, &compiled, e);
    struct plan *plans = mem_alloc((compiled.n_classes + 1) * sizeof *plans);
    for (uint32_t c = 0; c < compiled.n_classes && st == ST_OK; c++)
        st = plan_open(compiled.classes[c].blob, compiled.classes[c].bytes, g.ops.n, g.params.n, g.tensors.n, &plans[c],
                       e);
    if (st == ST_OK)
        look_at_plans(&in, plans, compiled.n_classes, out);
    out->short_of_room = compiled.short_of_room;
    out->shape.peak = ceil((double)compiled.peak * 0x1p-27) / 8;
    mem_free(plans);
    sched_output_release(&compiled);
    json_decref(in.strategy);
    ir_graph_release(&g);
    return st == ST_OK;
}

bool tune_evaluate(const struct tune_search *s, const struct bound_shape *shape, bool fills, struct tune_result *out,
                   struct err *e)
{
    const double outside = (double)s->in.target->outside(0, 0);
    const uint64_t room = fills && s->memory > outside ? (uint64_t)(s->memory - outside) : 0;
    if (!evaluate(s, shape, room, out, e))
        return false;
    if (out->shape.peak <= 0 || tune_fits(s, out->need))
        return true;
    const bool good = evaluate(s, shape, 0, out, e); /* libraries take more than was known */
    out->short_of_room = true;
    return good;
}

bool tune_fits(const struct tune_search *s, double bytes)
{
    return s->memory <= 0 || bytes <= s->memory;
}

uint32_t tune_expert_bounds(const struct tune_search *s, const struct bound_shape *shape)
{
    return shape->ep > 1 && s->memory > 0 ? s->space->n_expert_bounds : 1;
}

double tune_expert_bound(const struct tune_search *s, const struct bound_shape *shape, uint32_t i)
{
    return s->space->n_expert_bounds > 1 ? s->space->expert_bounds[i] : shape->expert_bound;
}

static bool dropped_by_bound(const struct tune_candidate *c)
{
    return c->rule == TUNE_MEMORY || c->rule == TUNE_COMPUTE || c->rule == TUNE_ORDER || c->rule == TUNE_LINKS ||
           c->rule == TUNE_SAVES;
}

static void audit_one(struct tune_search *s, struct bound_shape shape, struct tune_audit *a)
{
    struct tune_result r;
    struct err e = { 0 };
    a->looked++;
    shape.expert_bound = tune_expert_bound(s, &shape, tune_expert_bounds(s, &shape) - 1);
    shape.again = shape.recompute && shape.ep > 1;
    if (!tune_evaluate(s, &shape, true, &r, &e)) {
        a->refused++;
    } else if (!tune_fits(s, r.need)) {
        a->beyond++;
    } else {
        a->best = a->best > 0 ? fmin(a->best, r.step) : r.step;
        a->better += s->n_order && r.step < s->results.at[s->order[0]].step;
    }
}

struct tune_audit tune_search_audit(struct tune_search *s, uint32_t n)
{
    struct tune_audit a = { 0 };
    uint32_t dropped = 0, seen = 0;
    for (int looks = 0; looks < 2; looks++) { /* first they are counted */
        n = looks && n > dropped ? dropped : n;
        for (uint32_t f = 0; f < s->space->families.n; f++) {
            const struct tune_family *family = &s->space->families.at[f];
            for (uint32_t v = 0; v < tune_family_variants(s->space, family)->n; v++) {
                if (!dropped_by_bound(tune_search_at(s, f, v)))
                    continue;
                if (!looks)
                    dropped++;
                else if (a.looked < n && (uint64_t)seen++ * n / dropped >= a.looked)
                    audit_one(s, tune_family_shape(s->space, family, v), &a);
            }
        }
    }
    return a;
}
