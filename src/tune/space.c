#include "tune/space.h"

#include <stdio.h>

enum { MOST_FAMILIES = 2000000, MOST_CANDIDATES = 1000000000, LEAST_TOKENS = 4096 };

struct walk {
    struct tune_space *space;
    double chosen[TUNE_KEYS];
    struct tune_variants variants; /* of the family that is walked through */
    uint64_t refused;
    char why[BOUND_TEXT]; /* the last that was refused */
    bool full;
};

static uint32_t at(const struct walk *w, enum tune_key k)
{
    return (uint32_t)w->chosen[k];
}

/* ---- what "?" stands for ---------------------------------------------------------------------------------------------- */

static void powers(struct tune_values *v, uint32_t most)
{
    for (uint32_t n = 1; n <= most && n; n *= 2)
        vec_add(v, n);
}

static void divisors(struct tune_values *v, uint32_t n, uint32_t most)
{
    for (uint32_t i = 1; i <= n && i <= most; i++)
        if (n % i == 0)
            vec_add(v, i);
}

static bool dropless(const struct ir_graph *g)
{
    for (uint32_t o = 0; o < g->ops.n; o++)
        if (g->ops.at[o].op == IR_OP_EXPERTS && !g->ops.at[o].attrs.capacity)
            return true;
    return false;
}

static bool has_op(const struct ir_graph *g, uint32_t op)
{
    for (uint32_t o = 0; o < g->ops.n; o++)
        if (g->ops.at[o].op == op)
            return true;
    return false;
}

/* Ranks that are left for data replicas. */
static uint32_t rest_of_ranks(const struct walk *w)
{
    const uint32_t others = at(w, TUNE_TP) * at(w, TUNE_CP) * at(w, TUNE_PP), ranks = w->space->job->ranks;
    return others && ranks % others == 0 ? ranks / others : 0;
}

static void open_kinds(const struct walk *w, struct tune_values *v)
{
    for (uint32_t k = 0; bound_kind_name(k); k++) {
        const bool only = !strcmp(bound_kind_name(k), "1f1b");
        if (at(w, TUNE_PP) > 1 || only)
            vec_add(v, k);
    }
}

static void open_chunks(const struct walk *w, struct tune_values *v)
{
    const uint32_t chunks = bound_kind_chunks(at(w, TUNE_KIND));
    if (chunks) {
        vec_add(v, chunks);
        return;
    }
    vec_add(v, 2);
    vec_add(v, 4);
}

static void open_microbatches(const struct walk *w, struct tune_values *v)
{
    const uint32_t dp = at(w, TUNE_DP), each = dp ? w->space->job->batch_size / dp : 0;
    for (uint32_t size = 1; size <= 16 && size <= each; size *= 2)
        if (each % size == 0)
            vec_add(v, each / size);
    if (each > 16)
        vec_add(v, 1);
}

static void open_zero_group(const struct walk *w, struct tune_values *v)
{
    const uint32_t per_node = w->space->job->machine->ranks_per_node, tp = at(w, TUNE_TP);
    const uint32_t holders = at(w, TUNE_DP) * at(w, TUNE_CP);
    vec_add(v, 0);
    if (at(w, TUNE_ZERO) && per_node > tp && per_node % tp == 0 && holders > per_node / tp)
        vec_add(v, per_node / tp);
}

static void two(struct tune_values *v, bool both)
{
    vec_add(v, 0);
    if (both)
        vec_add(v, 1);
}

static void open_values(const struct walk *w, enum tune_key k, struct tune_values *v)
{
    const struct bound_job *job = w->space->job;
    const uint32_t holders = at(w, TUNE_DP) * at(w, TUNE_CP) * at(w, TUNE_TP);
    switch (k) {
    case TUNE_TP:
        powers(v, job->machine->ranks_per_node < job->ranks ? job->machine->ranks_per_node : job->ranks);
        break;
    case TUNE_CP:
        powers(v, job->graph->seq_len / LEAST_TOKENS ? job->graph->seq_len / LEAST_TOKENS : 1);
        break;
    case TUNE_PP:
        divisors(v, job->ranks, job->graph->ops.n); /* a stage has an operator */
        break;
    case TUNE_EP:
        powers(v, has_op(job->graph, IR_OP_EXPERTS) ? rest_of_ranks(w) * at(w, TUNE_TP) * at(w, TUNE_CP) : 1);
        break;
    case TUNE_DP:
        vec_add(v, rest_of_ranks(w));
        break;
    case TUNE_KIND:
        open_kinds(w, v);
        break;
    case TUNE_CHUNKS:
        open_chunks(w, v);
        break;
    case TUNE_MICROBATCHES:
        open_microbatches(w, v);
        break;
    case TUNE_BACKWARD:
        two(v, bound_kind_splits(at(w, TUNE_KIND)));
        break;
    case TUNE_ZERO:
        for (int z = 0; z < (holders > 1 ? 4 : 1); z++)
            vec_add(v, z);
        break;
    case TUNE_ZERO_GROUP:
        open_zero_group(w, v);
        break;
    case TUNE_BUCKET:
        vec_add(v, 0);
        for (int mib = 16; mib <= 256 && holders > 1; mib *= 4)
            vec_add(v, mib);
        break;
    case TUNE_VOCAB:
        two(v, at(w, TUNE_TP) > 1);
        break;
    case TUNE_RECOMPUTE:
        two(v, true);
        break;
    default: /* placement follows from the kind; expert_bound is tried in turn */
        vec_add(v, 0);
    }
}

/* ---- the walk ------------------------------------------------------------------------------------------------------------ */

static struct bound_shape shape_of(const struct walk *w)
{
    return (struct bound_shape){ .pp = at(w, TUNE_PP),
                                 .dp = at(w, TUNE_DP),
                                 .ep = at(w, TUNE_EP),
                                 .tp = at(w, TUNE_TP),
                                 .cp = at(w, TUNE_CP),
                                 .chunks = at(w, TUNE_CHUNKS),
                                 .kind = at(w, TUNE_KIND),
                                 .microbatches = at(w, TUNE_MICROBATCHES),
                                 .backward = at(w, TUNE_BACKWARD),
                                 .recompute = at(w, TUNE_RECOMPUTE) };
}

static void set_variant(struct bound_shape *s, const struct tune_variant *v)
{
    s->zero = v->zero;
    s->zero_group = v->zero_group;
    s->vocab = v->vocab;
    s->bucket_mib = v->bucket_mib;
    s->expert_bound = v->expert_bound;
}

struct bound_shape tune_family_shape(const struct tune_space *s, const struct tune_family *f, uint32_t variant)
{
    struct bound_shape shape = f->shape;
    set_variant(&shape, &tune_family_variants(s, f)->at[variant]);
    return shape;
}

struct bound_shape tune_space_shape(const struct tune_space *s, uint32_t candidate)
{
    uint32_t first = 0, end = s->families.n;
    while (end - first > 1) {
        const uint32_t middle = first + (end - first) / 2;
        if (s->families.at[middle].first <= candidate)
            first = middle;
        else
            end = middle;
    }
    return tune_family_shape(s, &s->families.at[first], candidate - s->families.at[first].first);
}

/* False: it is refused. */
static bool try(struct walk *w, const struct bound_shape *s)
{
    char text[BOUND_TEXT];
    const char *why = s->pp && s->dp && s->ep && s->tp && s->cp && s->chunks && s->microbatches
                          ? bound_refuse(w->space->bound, s, text)
                          : "a value of 0, or sizes that do not divide the ranks";
    if (!why)
        return true;
    snprintf(w->why, sizeof w->why, "%s", why);
    w->refused++;
    return false;
}

static void leaf(struct walk *w)
{
    const struct tune_variant v = { .zero = at(w, TUNE_ZERO),
                                    .zero_group = at(w, TUNE_ZERO_GROUP),
                                    .bucket_mib = at(w, TUNE_BUCKET),
                                    .vocab = at(w, TUNE_VOCAB),
                                    .expert_bound = w->chosen[TUNE_EXPERT_BOUND] };
    struct bound_shape s = shape_of(w);
    set_variant(&s, &v);
    if (try(w, &s))
        vec_add(&w->variants, v);
}

static bool same_variants(const struct tune_variants *a, const struct tune_variants *b)
{
    bool same = a->n == b->n;
    for (uint32_t i = 0; same && i < a->n; i++)
        same = a->at[i].zero == b->at[i].zero && a->at[i].zero_group == b->at[i].zero_group &&
               a->at[i].bucket_mib == b->at[i].bucket_mib && a->at[i].vocab == b->at[i].vocab &&
               a->at[i].expert_bound == b->at[i].expert_bound;
    return same;
}

/* The number of this list; the space takes it where it has none like it. */
static uint32_t list_of(struct tune_space *s, struct tune_variants *v)
{
    for (uint32_t i = s->variants.n; i-- > 0;)
        if (same_variants(&s->variants.at[i], v))
            return i;
    vec_add(&s->variants, *v);
    *v = (struct tune_variants){ .n = 0 };
    return s->variants.n - 1;
}

static void walk(struct walk *w, enum tune_key k);

/* With all keys chosen that precede the variants. */
static void walk_family(struct walk *w)
{
    struct tune_space *space = w->space;
    const struct bound_shape s = shape_of(w);
    if (!try(w, &s))
        return;
    w->variants.n = 0;
    walk(w, TUNE_FIRST_VARIANT);
    if (!w->variants.n)
        return;
    const uint32_t n = w->variants.n;
    vec_add(&space->families, ((struct tune_family){ s, list_of(space, &w->variants), space->candidates }));
    space->candidates += n;
    w->full = space->families.n >= MOST_FAMILIES || space->candidates >= MOST_CANDIDATES;
}

/* Can what is chosen so far not lead to a shape, whatever follows? Big branches end early. */
static bool hopeless(const struct walk *w, enum tune_key k)
{
    if (k == TUNE_PP) {
        const uint64_t others = (uint64_t)at(w, TUNE_TP) * at(w, TUNE_CP) * at(w, TUNE_PP);
        return !others || w->space->job->ranks % others || at(w, TUNE_PP) > w->space->job->graph->ops.n;
    }
    if (k == TUNE_DP)
        return !at(w, TUNE_DP) || w->space->job->batch_size % at(w, TUNE_DP);
    return false;
}

static void walk_values(struct walk *w, enum tune_key k)
{
    struct tune_values open = { 0 };
    const struct tune_values *v = &w->space->start->keys[k];
    if (v->open) {
        open_values(w, k, &open);
        v = &open;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        w->chosen[k] = v->at[i];
        if (k == TUNE_PLACEMENT && !w->space->start->keys[k].open && bound_kind_placement(at(w, TUNE_KIND)) != at(w, k))
            continue; /* the kind needs another one */
        if (hopeless(w, k) || w->full)
            w->refused++;
        else if (k + 1 == TUNE_FIRST_VARIANT)
            walk_family(w);
        else
            walk(w, (enum tune_key)(k + 1));
    }
    vec_free(&open);
}

static void walk(struct walk *w, enum tune_key k)
{
    if (k == TUNE_KEYS)
        leaf(w);
    else
        walk_values(w, k);
}

enum status tune_space_make(const struct tune_start *start, const struct bound_job *job, const struct bound *bound,
                            struct tune_space *out, struct err *e)
{
    static const double usual[TUNE_BOUNDS] = { 0, 2, 1.5, 1.25 };
    *out = (struct tune_space){ .start = start, .job = job, .bound = bound, .n_expert_bounds = 1 };
    struct walk w = { .space = out };
    if (start->keys[TUNE_EXPERT_BOUND].open && dropless(job->graph)) {
        memcpy(out->expert_bounds, usual, sizeof usual);
        out->n_expert_bounds = TUNE_BOUNDS;
    }
    walk(&w, (enum tune_key)0);
    vec_free(&w.variants);
    if (w.full) {
        const uint32_t candidates = out->candidates, families = out->families.n;
        tune_space_release(out);
        return err_set(
            e, ST_INPUT, NULL,
            "the open keys give %u strategies of %u schedules and more; give values for some of them in a starting "
            "strategy (-s)",
            candidates, families);
    }
    if (!out->candidates)
        return err_set(
            e, ST_INPUT, NULL,
            "no strategy divides the model and the batch over %u ranks (%llu were tried; the last one: %s); change "
            "-n, or batch_size in the training settings",
            job->ranks, (unsigned long long)w.refused, *w.why ? w.why : "a batch that the replicas do not divide");
    return ST_OK;
}

void tune_space_release(struct tune_space *s)
{
    for (uint32_t i = 0; i < s->variants.n; i++)
        vec_free(&s->variants.at[i]);
    vec_free(&s->variants);
    vec_free(&s->families);
}
