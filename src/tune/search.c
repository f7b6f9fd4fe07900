#include "tune/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *tune_rule_name(enum tune_rule r)
{
    static const char *const names[TUNE_RULES] = {
        [TUNE_OPEN] = "open",       [TUNE_COMPILED] = "compiled", [TUNE_MEMORY] = "memory", [TUNE_COMPUTE] = "compute",
        [TUNE_ORDER] = "order",     [TUNE_LINKS] = "links",       [TUNE_SAVES] = "saves",   [TUNE_PLANNED] = "planned",
        [TUNE_REFUSED] = "refused", [TUNE_LIMIT] = "limit",
    };
    return names[r];
}

/* Where a candidate is; WHOLE: all of a family. */
enum { WHOLE = UINT32_MAX };
struct place {
    uint32_t family, variant;
};

static struct tune_candidate *state(const struct tune_search *s, const struct place *p)
{
    struct tune_part *part = &s->parts[p->family];
    return p->variant == WHOLE ? &part->whole : &part->at[p->variant];
}

static struct bound_shape shape_at(const struct tune_search *s, const struct place *p)
{
    return tune_family_shape(s->space, &s->space->families.at[p->family], p->variant);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

/* The least that a shape needs, with whatever the search may try of it. */
static double memory_of(const struct tune_search *s, struct bound_shape shape, double by_kind[MEM_KINDS])
{
    shape.expert_bound = tune_expert_bound(s, &shape, tune_expert_bounds(s, &shape) - 1);
    shape.partly = s->space->start->recomputes && !shape.recompute; /* of whatever its filter says */
    shape.recompute |= shape.partly;
    shape.again = shape.recompute;
    return bound_memory(s->bound, &shape, by_kind);
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

/* One value of expert_bound, within the bound of memory. TUNE_COMPILED where it fits, TUNE_PLANNED, TUNE_REFUSED. */
static enum tune_rule try(struct tune_search *s, uint32_t candidate, const struct bound_shape *shape, bool fills,
                          struct tune_result *out)
{
    struct err e = { 0 };
    s->compiled++;
    const bool good = tune_evaluate(s, shape, fills, out, &e);
    if (s->progress)
        s->progress(s->arg, s);
    if (!good && !*s->refusal)
        snprintf(s->refusal, sizeof s->refusal, "%.255s", e.text);
    out->candidate = candidate;
    if (good && !tune_fits(s, out->need))
        remember_least(s, &out->shape, out->need, out->by_kind);
    return !good ? TUNE_REFUSED : tune_fits(s, out->need) ? TUNE_COMPILED : TUNE_PLANNED;
}

static bool may_fit(const struct tune_search *s, const struct bound_shape *shape)
{
    double by_kind[MEM_KINDS];
    return tune_fits(s, bound_memory(s->bound, shape, by_kind));
}

/* Compiles a candidate with the tightest expert_bound; where that does not fit and it recomputes, with received rows sent again. */
static enum tune_rule compile(struct tune_search *s, const struct place *p)
{
    struct bound_shape shape = shape_at(s, p);
    const bool again = shape.ep > 1 && shape.recompute;
    const uint32_t number = s->space->families.at[p->family].first + p->variant;
    struct tune_result r;
    enum tune_rule rule = TUNE_PLANNED;
    shape.expert_bound = tune_expert_bound(s, &shape, tune_expert_bounds(s, &shape) - 1);
    const bool keeps = !again || may_fit(s, &shape);
    if (keeps)
        rule = try(s, number, &shape, true, &r);
    if (again && rule == TUNE_PLANNED && (!keeps || s->compiled < s->limit)) {
        shape.again = true;
        rule = try(s, number, &shape, true, &r);
    }
    if (rule == TUNE_REFUSED)
        return rule;
    state(s, p)->result = s->results.n;
    vec_add(&s->results, r);
    if (rule == TUNE_COMPILED)
        insert(s, s->results.n - 1);
    return rule;
}

/* Another result of the same candidate, in the place of r, if it fits and its step is no longer. */
static bool exchange(struct tune_search *s, struct tune_result *r, const struct bound_shape *shape, bool fills)
{
    struct tune_result other;
    if (!may_fit(s, shape) || try(s, r->candidate, shape, fills, &other) != TUNE_COMPILED || other.step > r->step)
        return false;
    *r = other;
    return true;
}

/* A result with the loosest expert_bound, and without a peak, as far as its step is no longer then. */
static void loosen(struct tune_search *s, struct tune_result *r)
{
    struct bound_shape shape = r->shape;
    const uint32_t n = tune_expert_bounds(s, &shape);
    for (uint32_t i = 0; i + 1 < n && s->compiled < s->limit; i++) {
        shape.expert_bound = tune_expert_bound(s, &shape, i);
        if (exchange(s, r, &shape, true))
            break;
    }
    shape = r->shape;
    if (shape.peak > 0 && s->compiled < s->limit)
        exchange(s, r, &shape, false);
}

static void loosen_best(struct tune_search *s)
{
    const uint32_t n = s->n_order;
    for (uint32_t i = 0; i < n && i < s->best; i++)
        loosen(s, &s->results.at[s->order[i]]);
    uint32_t *order = s->order;
    s->order = NULL;
    s->n_order = 0;
    for (uint32_t i = 0; i < n; i++)
        insert(s, order[i]);
    mem_free(order);
}

/* ---- the order ------------------------------------------------------------------------------------------------------------ */

static const double USUALLY_MORE = 1.1;

/* A heap by guess, then by place; a family as a whole, and candidates by themselves. */
struct heap {
    struct tune_search *s;
    struct tune_guess g;
    struct {
        double more; /* bytes of a plan by their bound: at first what is usual, then the mean */
        uint32_t plans;
    } memory[2]; /* without recompute, with it */
    VEC(struct place);
};

static bool sooner(const struct heap *h, const struct place *a, const struct place *b)
{
    const double x = state(h->s, a)->guess, y = state(h->s, b)->guess;
    return x != y ? x < y : a->family != b->family ? a->family < b->family : a->variant < b->variant;
}

static void swap(struct heap *h, uint32_t i, uint32_t k)
{
    const struct place p = h->at[i];
    h->at[i] = h->at[k];
    h->at[k] = p;
}

static void sink(struct heap *h, uint32_t i)
{
    for (uint32_t k; (k = 2 * i + 1) < h->n; i = k) {
        if (k + 1 < h->n && sooner(h, &h->at[k + 1], &h->at[k]))
            k++;
        if (!sooner(h, &h->at[k], &h->at[i]))
            return;
        swap(h, i, k);
    }
}

static void heap_push(struct heap *h, struct place p)
{
    vec_add(h, p);
    for (uint32_t i = h->n - 1; i && sooner(h, &h->at[i], &h->at[(i - 1) / 2]); i = (i - 1) / 2)
        swap(h, i, (i - 1) / 2);
}

static void heap_pop(struct heap *h)
{
    h->at[0] = h->at[--h->n];
    sink(h, 0);
}

/* What will not fit, by what others took beyond their bound, comes behind all that may be as good; of those that are nearly as good the one
 * first that is compiled soonest. */
static void guess(struct heap *h, const struct place *p)
{
    enum { BEHIND = 2 };
    const struct bound_shape *s = &h->s->space->families.at[p->family].shape;
    const double passes = (double)s->pp * s->chunks * s->microbatches;
    struct tune_candidate *c = state(h->s, p);
    const double late = pow(passes, 0.05) * (tune_fits(h->s, c->bytes * h->memory[s->recompute].more) ? 1 : BEHIND);
    if (p->variant == WHOLE) {
        c->guess = late * c->bound * exp(tune_guess_family_log(&h->g, &h->s->parts[p->family].levels));
        return;
    }
    const struct bound_shape shape = shape_at(h->s, p);
    const struct guess_levels levels = tune_guess_levels(&h->g, &shape);
    c->guess = late * c->bound * exp(tune_guess_log(&h->g, &levels));
}

static void learn(struct heap *h, const struct place *p)
{
    const struct tune_candidate *c = state(h->s, p);
    const struct tune_result *r = &h->s->results.at[c->result];
    const struct bound_shape shape = shape_at(h->s, p);
    const struct guess_levels levels = tune_guess_levels(&h->g, &shape);
    tune_guess_learn(&h->g, &levels, c->bound, r->step);
    if (c->bytes > 0)
        h->memory[shape.recompute].more += (r->need / c->bytes - h->memory[shape.recompute].more) /
                                           (++h->memory[shape.recompute].plans + 1);
}

/* All guesses anew. */
static void heap_order(struct heap *h)
{
    for (uint32_t i = 0; i < h->n; i++)
        guess(h, &h->at[i]);
    for (uint32_t i = h->n / 2 + 1; i-- > 0;)
        sink(h, i);
}

/* True: the bound is above the one that was known. */
static bool raise(struct tune_candidate *c, enum tune_rule rule, double bound)
{
    if (bound <= c->bound)
        return false;
    c->guess *= bound / c->bound;
    c->bound_rule = (uint8_t)rule;
    c->bound = bound;
    return true;
}

static void raise_top(struct heap *h, enum tune_rule rule, double bound)
{
    if (raise(state(h->s, &h->at[0]), rule, bound))
        sink(h, 0);
}

static void drop_top(struct heap *h, enum tune_rule rule)
{
    state(h->s, &h->at[0])->rule = (uint8_t)rule;
    heap_pop(h);
}

/* Behind one that it waits for. */
static void wait_for(struct heap *h, const struct tune_candidate *other)
{
    state(h->s, &h->at[0])->guess = other->guess;
    sink(h, 0);
}

/* ---- families --------------------------------------------------------------------------------------------------------------- */

static bool same_schedule(const struct bound_shape *a, const struct bound_shape *b)
{
    return a->tp == b->tp && a->cp == b->cp && a->pp == b->pp && a->ep == b->ep && a->dp == b->dp &&
           a->kind == b->kind && a->chunks == b->chunks && a->microbatches == b->microbatches &&
           a->backward == b->backward;
}

/* The family without recompute that is else as f; UINT32_MAX: there is none. */
static uint32_t family_without(const struct tune_search *s, uint32_t f)
{
    const struct tune_family *at = s->space->families.at;
    return f && at[f].shape.recompute && !at[f - 1].shape.recompute && same_schedule(&at[f].shape, &at[f - 1].shape) &&
                   at[f].variants == at[f - 1].variants
               ? f - 1
               : UINT32_MAX;
}

/* Drops the family at the top if none of its candidates fits. */
static void drop_by_memory(struct heap *h)
{
    struct tune_search *s = h->s;
    const struct tune_family *f = &s->space->families.at[h->at[0].family];
    double least = INFINITY, by_kind[MEM_KINDS], least_by_kind[MEM_KINDS];
    uint32_t which = 0;
    for (uint32_t v = 0; v < tune_family_variants(s->space, f)->n && s->memory > 0; v++) {
        const double bytes = memory_of(s, tune_family_shape(s->space, f, v), by_kind);
        if (bytes >= least)
            continue;
        least = bytes;
        which = v;
        memcpy(least_by_kind, by_kind, sizeof by_kind);
    }
    if (s->memory <= 0)
        return;
    state(s, &h->at[0])->bytes = least;
    if (tune_fits(s, least)) {
        guess(h, &h->at[0]);
        sink(h, 0);
        return;
    }
    const struct bound_shape shape = tune_family_shape(s->space, f, which);
    remember_least(s, &shape, least, least_by_kind);
    state(s, &h->at[0])->bound = least;
    drop_top(h, TUNE_MEMORY);
}

/* The least of a bound that depends on no more of a variant than its bucket size and its zero group. */
static double least_of(const struct tune_search *s, const struct tune_family *f,
                       double (*bound)(struct bound *b, const struct bound_shape *s))
{
    const struct tune_variants *list = tune_family_variants(s->space, f);
    double least = INFINITY;
    for (uint32_t v = 0, k; v < list->n; v++) {
        for (k = 0; k < v && (list->at[k].bucket_mib != list->at[v].bucket_mib ||
                              list->at[k].zero_group != list->at[v].zero_group);
             k++) {
        }
        const struct bound_shape shape = tune_family_shape(s->space, f, v);
        if (k == v)
            least = fmin(least, bound(s->bound, &shape));
    }
    return least;
}

/* From now on each candidate of the family at the top is by itself. */
static void open_top(struct heap *h)
{
    struct tune_search *s = h->s;
    const uint32_t f = h->at[0].family, n = tune_family_variants(s->space, &s->space->families.at[f])->n;
    struct tune_part *part = &s->parts[f];
    heap_pop(h);
    part->at = mem_alloc(n * sizeof *part->at);
    for (uint32_t v = 0; v < n; v++) {
        const struct place p = { f, v };
        const struct bound_shape shape = shape_at(s, &p);
        struct tune_candidate *c = &part->at[v];
        double by_kind[MEM_KINDS];
        const double bytes = s->memory > 0 ? memory_of(s, shape, by_kind) : 0;
        *c = part->whole;
        c->seen = 0;
        c->bytes = bytes;
        if (!tune_fits(s, bytes)) {
            remember_least(s, &shape, bytes, by_kind);
            c->rule = TUNE_MEMORY;
            c->bound = bytes;
            continue;
        }
        raise(c, TUNE_COMPUTE, bound_compute(s->bound, &shape));
        guess(h, &p);
        heap_push(h, p);
    }
}

/* The family at the top is looked at closer, the quick bounds first; it waits for the one without recompute. */
static void refine_family(struct heap *h)
{
    struct tune_search *s = h->s;
    const uint32_t f = h->at[0].family, without = family_without(s, f);
    struct tune_candidate *c = &s->parts[f].whole;
    if (c->seen == 0) {
        c->seen++;
        drop_by_memory(h);
    } else if (without != UINT32_MAX && !s->parts[without].at && s->parts[without].whole.rule == TUNE_OPEN) {
        wait_for(h, &s->parts[without].whole);
    } else if (c->seen == 1) {
        c->seen++;
        raise_top(h, TUNE_ORDER, least_of(s, &s->space->families.at[f], bound_passes));
    } else {
        open_top(h);
    }
}

/* ---- candidates ------------------------------------------------------------------------------------------------------------- */

/* The candidate without recompute, or with less of zero, that is else as p. False: there is none. */
static bool like_without(const struct tune_search *s, const struct place *p, bool recompute, struct place *like)
{
    const struct tune_variants *list = tune_family_variants(s->space, &s->space->families.at[p->family]);
    const struct tune_variant *v = &list->at[p->variant];
    *like = *p;
    if (recompute)
        return (like->family = family_without(s, p->family)) != UINT32_MAX;
    for (uint32_t i = p->variant; i-- > 0 && v->zero >= 2;) {
        const struct tune_variant *k = &list->at[i];
        like->variant = i;
        if (k->zero == v->zero - 1 && k->zero_group == v->zero_group && k->vocab == v->vocab &&
            k->bucket_mib == v->bucket_mib && k->expert_bound == v->expert_bound)
            return true;
    }
    return false;
}

/* Is a candidate as fast as it would be with any memory? */
static bool needs_no_more(const struct tune_search *s, const struct tune_candidate *c)
{
    return c->rule == TUNE_SAVES || (c->rule == TUNE_COMPILED && !s->results.at[c->result].short_of_room);
}

/* Whether the candidate at the top has nothing to wait for: else it is dropped, or goes behind its like that fits or that is not looked at. */
static bool may_be_compiled(struct heap *h)
{
    for (int recompute = 0; recompute < 2; recompute++) {
        struct place p;
        if (!like_without(h->s, &h->at[0], recompute, &p))
            continue;
        const struct tune_candidate *like = tune_search_at(h->s, p.family, p.variant);
        if (like->rule == TUNE_OPEN) {
            wait_for(h, like);
            return false;
        }
        if (needs_no_more(h->s, like)) {
            drop_top(h, TUNE_SAVES);
            return false;
        }
    }
    return true;
}

/* The candidate at the top is looked at closer, a bound at a time. True: it is ready to be compiled. */
static bool refine(struct heap *h)
{
    struct tune_search *s = h->s;
    struct tune_candidate *c = state(s, &h->at[0]);
    const struct bound_shape shape = shape_at(s, &h->at[0]);
    if (c->seen == 0) {
        c->seen++;
        raise_top(h, TUNE_LINKS, bound_links(s->bound, &shape));
    } else if (c->seen == 1) {
        c->seen++;
        raise_top(h, TUNE_ORDER, bound_order(s->bound, &shape));
    } else {
        return may_be_compiled(h);
    }
    return false;
}

static void compile_top(struct heap *h)
{
    struct tune_search *s = h->s;
    const struct place p = h->at[0];
    struct tune_candidate *c = state(s, &p);
    c->rule = (uint8_t)compile(s, &p);
    heap_pop(h);
    if (c->result == UINT32_MAX)
        return;
    learn(h, &p);
    heap_order(h);
}

static void search(struct heap *h)
{
    struct tune_search *s = h->s;
    while (h->n) {
        const struct tune_candidate *c = state(s, &h->at[0]);
        if (c->bound >= to_beat(s)) {
            drop_top(h, (enum tune_rule)c->bound_rule);
        } else if (h->at[0].variant == WHOLE) {
            refine_family(h);
        } else if (refine(h)) {
            if (s->compiled >= s->limit - s->limit / 8) /* the rest is for loosen_best() */
                break;
            compile_top(h);
        }
    }
    for (uint32_t i = 0; i < h->n; i++) {
        struct tune_candidate *c = state(s, &h->at[i]);
        c->rule = c->bound >= to_beat(s) ? c->bound_rule : TUNE_LIMIT;
        s->least_left = c->rule == TUNE_LIMIT ? fmin(s->least_left, c->bound) : s->least_left;
    }
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------- */

/* What saves memory where the best one does not, for the frontier. */
static void save_at_best(struct tune_search *s)
{
    if (!s->n_order)
        return;
    const struct bound_shape best = s->results.at[s->order[0]].shape;
    for (uint32_t f = 0; f < s->space->families.n && s->compiled < s->limit; f++) {
        const struct tune_family *family = &s->space->families.at[f];
        const struct tune_variants *list = tune_family_variants(s->space, family);
        for (uint32_t v = 0; v < list->n && s->parts[f].at && s->compiled < s->limit; v++) {
            const struct place p = { f, v };
            if (s->parts[f].at[v].rule == TUNE_SAVES && same_schedule(&family->shape, &best) &&
                list->at[v].zero_group == best.zero_group && list->at[v].vocab == best.vocab &&
                list->at[v].bucket_mib == best.bucket_mib)
                s->parts[f].at[v].rule = (uint8_t)compile(s, &p);
        }
    }
}

static void count_rules(struct tune_search *s)
{
    for (uint32_t f = 0; f < s->space->families.n; f++) {
        const uint32_t n = tune_family_variants(s->space, &s->space->families.at[f])->n;
        if (!s->parts[f].at)
            s->counts[s->parts[f].whole.rule] += n;
        for (uint32_t v = 0; v < n && s->parts[f].at; v++)
            s->counts[s->parts[f].at[v].rule]++;
    }
}

void tune_search_run(struct tune_search *s)
{
    struct heap h = { .s = s, .memory = { { USUALLY_MORE, 0 }, { USUALLY_MORE, 0 } } };
    s->least_left = INFINITY;
    s->parts = mem_alloc((s->space->families.n + 1) * sizeof *s->parts);
    for (uint32_t f = 0; f < s->space->families.n; f++) {
        const struct tune_family *family = &s->space->families.at[f];
        s->parts[f].whole = (struct tune_candidate){ .bound_rule = TUNE_COMPUTE,
                                                     .result = UINT32_MAX,
                                                     .bound = least_of(s, family, bound_kernels) };
        s->parts[f].levels = tune_guess_levels(&h.g, &family->shape);
        vec_add(&h, ((struct place){ f, WHOLE }));
    }
    heap_order(&h);
    search(&h);
    tune_guess_release(&h.g);
    vec_free(&h);
    loosen_best(s);
    save_at_best(s);
    count_rules(s);
}

void tune_search_release(struct tune_search *s)
{
    for (uint32_t f = 0; s->parts && f < s->space->families.n; f++)
        mem_free(s->parts[f].at);
    mem_free(s->parts);
    vec_free(&s->results);
    mem_free(s->order);
}
