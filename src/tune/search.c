#include "tune/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "job/need.h"
#include "tune/guess.h"

const char *tune_rule_name(enum tune_rule r)
{
    static const char *const names[TUNE_RULES] = {
        [TUNE_OPEN] = "open",       [TUNE_COMPILED] = "compiled", [TUNE_MEMORY] = "memory", [TUNE_COMPUTE] = "compute",
        [TUNE_ORDER] = "order",     [TUNE_LINKS] = "links",       [TUNE_SAVES] = "saves",   [TUNE_PLANNED] = "planned",
        [TUNE_REFUSED] = "refused", [TUNE_LIMIT] = "limit",
    };
    return names[r];
}

/* ---- one candidate ---------------------------------------------------------------------------------------------------- */

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

bool tune_evaluate(const struct tune_search *s, const struct bound_shape *shape, struct tune_result *out, struct err *e)
{
    struct ir_graph g;
    struct sched_input in = s->in;
    struct sched_output compiled = { 0 };
    *out = (struct tune_result){ .shape = *shape };
    copy_graph(s->in.graph, &g);
    in.graph = &g;
    in.strategy = tune_strategy(s->space->start, shape);
    enum status st = sched_compile(&in, &compiled, e);
    struct plan *plans = mem_alloc((compiled.n_classes + 1) * sizeof *plans);
    for (uint32_t c = 0; c < compiled.n_classes && st == ST_OK; c++)
        st = plan_open(compiled.classes[c].blob, compiled.classes[c].bytes, g.ops.n, g.params.n, g.tensors.n, &plans[c],
                       e);
    if (st == ST_OK)
        look_at_plans(&in, plans, compiled.n_classes, out);
    mem_free(plans);
    sched_output_release(&compiled);
    json_decref(in.strategy);
    ir_graph_release(&g);
    return st == ST_OK;
}

static bool fits(const struct tune_search *s, double bytes)
{
    return s->memory <= 0 || bytes <= s->memory;
}

static double memory_of(struct tune_search *s, const struct bound_shape *shape, double by_kind[MEM_KINDS])
{
    struct bound_shape least = *shape;
    least.recompute |= s->space->start->recomputes; /* of whatever its filter says */
    return bound_memory(s->bound, &least, by_kind);
}

static void remember_least(struct tune_search *s, const struct bound_shape *shape, double bytes,
                           const double by_kind[MEM_KINDS])
{
    if (s->least > 0 && s->least <= bytes)
        return;
    s->least = bytes;
    s->least_shape = *shape;
    memcpy(s->least_by_kind, by_kind, sizeof s->least_by_kind);
}

/* The values of expert_bound that a shape tries: its own, or those of the space, as far as memory is short. */
static double expert_bound_of(const struct tune_search *s, const struct bound_shape *shape, uint32_t i)
{
    return s->space->n_expert_bounds > 1 ? s->space->expert_bounds[i] : shape->expert_bound;
}

static uint32_t expert_bounds_of(const struct tune_search *s, const struct bound_shape *shape)
{
    return shape->ep > 1 && s->memory > 0 ? s->space->n_expert_bounds : 1;
}

/* ---- the best ------------------------------------------------------------------------------------------------------------ */

/* Whether result a is before b: shorter, of equal steps the one that needs less, then the earlier candidate. */
static bool before(const struct tune_search *s, uint32_t a, uint32_t b)
{
    const struct tune_result *x = &s->results.at[a], *y = &s->results.at[b];
    if (x->step != y->step)
        return x->step < y->step;
    return x->need != y->need ? x->need < y->need : x->candidate < y->candidate;
}

static void insert(struct tune_search *s, uint32_t result)
{
    uint32_t i = s->n_order++;
    s->order = mem_realloc(s->order, s->n_order * sizeof *s->order);
    for (; i > 0 && before(s, result, s->order[i - 1]); i--)
        s->order[i] = s->order[i - 1];
    s->order[i] = result;
}

/* What a candidate has to be below. */
static double to_beat(const struct tune_search *s)
{
    return s->n_order < s->best ? INFINITY : s->results.at[s->order[s->best - 1]].step;
}

/* One value of expert_bound, within the bound of memory; again: with received rows sent again. TUNE_COMPILED where it fits, TUNE_PLANNED,
 * TUNE_REFUSED. */
static enum tune_rule try(struct tune_search *s, uint32_t candidate, double expert_bound, bool again,
                          struct tune_result *out)
{
    struct bound_shape shape = s->space->shapes.at[s->candidates.at[candidate].shape];
    struct err e = { 0 };
    shape.expert_bound = expert_bound;
    shape.again = again;
    s->compiled++;
    const bool good = tune_evaluate(s, &shape, out, &e);
    if (s->progress)
        s->progress(s->arg, s);
    if (!good && !*s->refusal)
        snprintf(s->refusal, sizeof s->refusal, "%.255s", e.text);
    out->candidate = candidate;
    return !good ? TUNE_REFUSED : fits(s, out->need) ? TUNE_COMPILED : TUNE_PLANNED;
}

static bool may_fit(struct tune_search *s, const struct bound_shape *shape, double expert_bound)
{
    struct bound_shape with = *shape;
    double by_kind[MEM_KINDS];
    with.expert_bound = expert_bound;
    return fits(s, memory_of(s, &with, by_kind));
}

/* Compiles a candidate with the tightest expert_bound; where that does not fit and it recomputes, with received rows sent again; and if
 * that fits, with the loosest bound that does. */
static enum tune_rule compile(struct tune_search *s, uint32_t candidate)
{
    const struct bound_shape *shape = &s->space->shapes.at[s->candidates.at[candidate].shape];
    const uint32_t n = expert_bounds_of(s, shape);
    const double tightest = expert_bound_of(s, shape, n - 1);
    struct tune_result r, looser;
    enum tune_rule rule = try(s, candidate, tightest, false, &r);
    const bool again = rule == TUNE_PLANNED && shape->ep > 1 && shape->recompute && s->compiled < s->limit;
    if (again) {
        remember_least(s, &r.shape, r.need, r.by_kind);
        rule = try(s, candidate, tightest, true, &r);
    }
    if (rule == TUNE_REFUSED)
        return rule;
    if (rule == TUNE_PLANNED)
        remember_least(s, &r.shape, r.need, r.by_kind);
    for (uint32_t i = 0; rule == TUNE_COMPILED && i + 1 < n && s->compiled < s->limit; i++)
        if (may_fit(s, shape, expert_bound_of(s, shape, i)) &&
            try(s, candidate, expert_bound_of(s, shape, i), again, &looser) == TUNE_COMPILED) {
            r = looser;
            break;
        }
    s->candidates.at[candidate].result = s->results.n;
    vec_add(&s->results, r);
    if (rule == TUNE_COMPILED)
        insert(s, s->results.n - 1);
    return rule;
}

/* ---- the order ------------------------------------------------------------------------------------------------------------ */

/* A heap by guess, then by number. */
struct heap {
    const struct tune_search *s;
    struct tune_guess g;
    VEC(uint32_t);
};

static bool sooner(const struct heap *h, uint32_t a, uint32_t b)
{
    const struct tune_candidate *x = &h->s->candidates.at[a], *y = &h->s->candidates.at[b];
    return x->guess != y->guess ? x->guess < y->guess : a < b;
}

static void sink(struct heap *h, uint32_t i)
{
    for (uint32_t k; (k = 2 * i + 1) < h->n; i = k) {
        if (k + 1 < h->n && sooner(h, h->at[k + 1], h->at[k]))
            k++;
        if (!sooner(h, h->at[k], h->at[i]))
            return;
        const uint32_t up = h->at[k];
        h->at[k] = h->at[i];
        h->at[i] = up;
    }
}

static void heap_pop(struct heap *h)
{
    h->at[0] = h->at[--h->n];
    sink(h, 0);
}

static void raise(struct tune_search *s, struct heap *h, enum tune_rule rule, double bound)
{
    struct tune_candidate *c = &s->candidates.at[h->at[0]];
    if (bound <= c->bound)
        return;
    c->guess *= bound / c->bound;
    c->bound_rule = (uint8_t)rule;
    c->bound = bound;
    sink(h, 0);
}

/* All guesses anew. */
static void heap_order(struct tune_search *s, struct heap *h)
{
    for (uint32_t i = 0; i < h->n; i++) {
        struct tune_candidate *c = &s->candidates.at[h->at[i]];
        c->guess = c->bound * exp(tune_guess_log(&h->g, c->shape));
    }
    for (uint32_t i = h->n / 2 + 1; i-- > 0;)
        sink(h, i);
}

static bool same_schedule(const struct bound_shape *a, const struct bound_shape *b)
{
    return a->tp == b->tp && a->cp == b->cp && a->pp == b->pp && a->ep == b->ep && a->dp == b->dp &&
           a->kind == b->kind && a->chunks == b->chunks && a->microbatches == b->microbatches &&
           a->backward == b->backward;
}

/* Whether they differ at most in recompute and zero. */
static bool alike(const struct bound_shape *a, const struct bound_shape *b)
{
    return same_schedule(a, b) && a->zero_group == b->zero_group && a->vocab == b->vocab &&
           a->bucket_mib == b->bucket_mib;
}

/* The candidate without recompute, or with less of zero, that is else as i; it is not far before i. UINT32_MAX: there is none. */
static uint32_t like_without(const struct tune_search *s, uint32_t i, bool recompute)
{
    struct bound_shape like = s->space->shapes.at[s->candidates.at[i].shape];
    if (recompute ? !like.recompute : like.zero < 2)
        return UINT32_MAX;
    if (recompute)
        like.recompute = false;
    else
        like.zero--;
    for (uint32_t k = i; k-- > 0;) {
        const struct bound_shape *at = &s->space->shapes.at[s->candidates.at[k].shape];
        if (!same_schedule(at, &like))
            break;
        if (alike(at, &like) && at->recompute == like.recompute && at->zero == like.zero)
            return k;
    }
    return UINT32_MAX;
}

/* Whether the candidate at the top has nothing to wait for: else it is dropped, or goes behind its like that fits or that is not looked at. */
static bool may_be_compiled(struct tune_search *s, struct heap *h)
{
    struct tune_candidate *c = &s->candidates.at[h->at[0]];
    for (int recompute = 0; recompute < 2; recompute++) {
        const uint32_t k = like_without(s, h->at[0], recompute);
        const struct tune_candidate *like = k == UINT32_MAX ? NULL : &s->candidates.at[k];
        if (like && like->rule == TUNE_OPEN) {
            c->guess = like->guess;
            sink(h, 0);
            return false;
        }
        if (like && (like->rule == TUNE_COMPILED || like->rule == TUNE_SAVES)) {
            c->rule = TUNE_SAVES;
            heap_pop(h);
            return false;
        }
    }
    return true;
}

/* The candidate at the top is looked at closer, a bound at a time, the quick ones first. True: it is ready to be compiled. */
static bool refine(struct tune_search *s, struct heap *h)
{
    struct tune_candidate *c = &s->candidates.at[h->at[0]];
    struct bound_shape shape = s->space->shapes.at[c->shape];
    double by_kind[MEM_KINDS];
    shape.expert_bound = expert_bound_of(s, &shape, expert_bounds_of(s, &shape) - 1);
    if (c->seen == 0) {
        c->seen++;
        raise(s, h, TUNE_LINKS, bound_links(s->bound, &shape));
    } else if (c->seen == 1) {
        const double bytes = memory_of(s, &shape, by_kind);
        c->seen++;
        if (fits(s, bytes))
            return false;
        remember_least(s, &shape, bytes, by_kind);
        c->rule = TUNE_MEMORY;
        c->bound = bytes;
        heap_pop(h);
    } else if (c->seen == 2) {
        c->seen++;
        raise(s, h, TUNE_ORDER, bound_order(s->bound, &shape));
    } else {
        return may_be_compiled(s, h);
    }
    return false;
}

static void search(struct tune_search *s, struct heap *h)
{
    while (h->n) {
        const uint32_t i = h->at[0];
        struct tune_candidate *c = &s->candidates.at[i];
        if (c->bound >= to_beat(s)) {
            c->rule = c->bound_rule;
            heap_pop(h);
            continue;
        }
        if (!refine(s, h))
            continue;
        if (s->compiled >= s->limit)
            break;
        c->rule = compile(s, i);
        heap_pop(h);
        if (c->result != UINT32_MAX) {
            tune_guess_learn(&h->g, c->shape, c->bound, s->results.at[c->result].step);
            heap_order(s, h);
        }
    }
    for (uint32_t i = 0; i < h->n; i++) {
        struct tune_candidate *c = &s->candidates.at[h->at[i]];
        c->rule = c->bound >= to_beat(s) ? c->bound_rule : TUNE_LIMIT;
    }
}

/* What saves memory where the best one does not, for the frontier. */
static void save_at_best(struct tune_search *s)
{
    if (!s->n_order)
        return;
    const struct bound_shape best = s->results.at[s->order[0]].shape;
    for (uint32_t i = 0; i < s->candidates.n && s->compiled < s->limit; i++) {
        struct tune_candidate *c = &s->candidates.at[i];
        if (c->rule == TUNE_SAVES && alike(&s->space->shapes.at[c->shape], &best))
            c->rule = compile(s, i);
    }
}

void tune_search_run(struct tune_search *s)
{
    struct heap h = { .s = s };
    for (uint32_t i = 0; i < s->space->shapes.n; i++) {
        vec_add(&s->candidates, ((struct tune_candidate){ .shape = i,
                                                          .bound_rule = TUNE_COMPUTE,
                                                          .result = UINT32_MAX,
                                                          .bound = bound_compute(s->bound, &s->space->shapes.at[i]) }));
        vec_add(&h, i);
    }
    tune_guess_init(&h.g, s->space);
    heap_order(s, &h);
    search(s, &h);
    tune_guess_release(&h.g);
    vec_free(&h);
    save_at_best(s);
    for (uint32_t i = 0; i < s->candidates.n; i++)
        s->counts[s->candidates.at[i].rule]++;
}

void tune_search_release(struct tune_search *s)
{
    vec_free(&s->candidates);
    vec_free(&s->results);
    mem_free(s->order);
}

/* ---- a second look ----------------------------------------------------------------------------------------------------- */

static bool dropped_by_bound(const struct tune_candidate *c)
{
    return c->rule == TUNE_MEMORY || c->rule == TUNE_COMPUTE || c->rule == TUNE_ORDER || c->rule == TUNE_LINKS ||
           c->rule == TUNE_SAVES;
}

struct tune_audit tune_search_audit(struct tune_search *s, uint32_t n)
{
    struct tune_audit a = { 0 };
    uint32_t dropped = 0, seen = 0;
    for (uint32_t i = 0; i < s->candidates.n; i++)
        dropped += dropped_by_bound(&s->candidates.at[i]);
    n = n < dropped ? n : dropped;
    for (uint32_t i = 0; i < s->candidates.n && a.looked < n; i++) {
        struct bound_shape shape = s->space->shapes.at[s->candidates.at[i].shape];
        struct tune_result r;
        struct err e = { 0 };
        if (!dropped_by_bound(&s->candidates.at[i]) || (uint64_t)seen++ * n / dropped < a.looked)
            continue;
        a.looked++;
        shape.expert_bound = expert_bound_of(s, &shape, expert_bounds_of(s, &shape) - 1);
        if (!tune_evaluate(s, &shape, &r, &e)) {
            a.refused++;
        } else if (!fits(s, r.need)) {
            a.beyond++;
        } else {
            a.best = a.best > 0 ? fmin(a.best, r.step) : r.step;
            a.better += s->n_order && r.step < s->results.at[s->order[0]].step;
        }
    }
    return a;
}
