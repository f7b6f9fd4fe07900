/* How B runs in groups that overlap: cut, so that its BW fills what communication leaves open, as far as memory permits. What a plan
 * takes is known when its buffers have places: when it is lowered. One class is lowered first, the one that most likely takes most: if that
 * is too much already, the others need not be.
 *
 * Needs: what precedes the DAG. Gives: plans, and s->uncut and s->waiting, by which their DAG can be made again. */
#include "sched/passes.h"

#include <math.h>

/* The fastest first: as BI and BW, of which any number may wait on a class, or one, in the next group too or not, or none while it could run;
 * whole. */
struct variant {
    bool uncut, carries;
    uint32_t waiting;
};
static const struct variant variants[] = { { false, true, UINT32_MAX }, { false, false, UINT32_MAX },
                                           { false, true, 1 },          { false, false, 1 },
                                           { false, false, 0 },         { true, false, 0 } };
enum { VARIANTS = sizeof variants / sizeof *variants, WHOLE = VARIANTS - 1 };

/* What may be allocated, as far as that is known. */
struct limit {
    uint64_t bytes;
    bool exact;        /* else it is what a rank of some classes takes with every B whole, of others maybe more */
    uint32_t class_id; /* the one that most likely takes most */
    double *estimates; /* by class */
    struct list_plan train, eval; /* with every B whole, */
    struct lowering *lowering;    /* what classes share then, */
    struct sched_output whole;    /* and the plans of these classes */
};

/* Is it the one that was made last? */
static bool is_made(const struct sched *s, uint32_t v)
{
    return s->train.order && s->uncut == variants[v].uncut && s->carries == variants[v].carries &&
           s->waiting == variants[v].waiting;
}

static void use_variant(struct sched *s, uint32_t v)
{
    s->uncut = variants[v].uncut;
    s->carries = variants[v].carries;
    s->waiting = variants[v].waiting;
}

/* The DAG and its order, whatever is there. */
static enum status order_variant(struct sched *s, uint32_t v, struct err *e)
{
    const bool same = s->train.order && s->uncut == variants[v].uncut;
    if (is_made(s, v))
        return ST_OK;
    use_variant(s, v);
    return same ? compile_order(s, e) : compile_dag(s, e);
}

static enum status lower_variant(struct sched *s, uint32_t v, struct sched_output *out, struct err *e)
{
    TRY(order_variant(s, v, e));
    return pass_lower(s, out, e);
}

/* What a rank allocates: of a class, 0 where it has no plan yet; at most, and on which class. */
static uint64_t bytes_of(const struct sched_output *out, uint32_t class_id)
{
    const struct plan_header *h = out->classes[class_id].blob;
    return h ? h->total_bytes : 0;
}

static uint32_t class_of_peak(const struct sched_output *out)
{
    uint32_t peak = 0;
    for (uint32_t c = 1; c < out->n_classes; c++)
        peak = bytes_of(out, c) > bytes_of(out, peak) ? c : peak;
    return peak;
}

static uint64_t peak_of(const struct sched_output *out)
{
    return bytes_of(out, class_of_peak(out));
}

/* ---- the class that takes most, by estimate ----------------------------------------------------------------------------------- */

/* By sub-chunk: what its operators make of a microbatch. Owned by the caller. */
static double *weigh_results(const struct sched *s)
{
    double *bytes = mem_alloc((s->chunks.subs.n + 1) * sizeof *bytes);
    for (uint32_t i = 0; i < s->chunks.subs.n; i++) {
        const struct ir_sub *sub = &s->chunks.subs.at[i];
        for (uint32_t k = 0; k < sub->n_ops; k++) {
            const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[sub->first_op + k]];
            for (int o = 0; o < IR_MAX_OUT; o++)
                if (op->out[o] != IR_NONE)
                    bytes[i] += (double)ir_shape_elements(&s->g->tensors.at[op->out[o]].shape);
        }
        if (expert_shard(s, sub->chunk) != IR_NONE) {
            const struct ratio rows = expert_row_factor(s, sub->chunk);
            bytes[i] *= (double)rows.num / (double)rows.den;
        }
        bytes[i] *= s->microbatch_size * (double)ir_dtype_size(s->in->compute, s->in->compute);
    }
    return bytes;
}

/* By class: parameters, gradients, two moments. Owned by the caller. */
static double *weigh_buckets(const struct sched *s)
{
    double *bytes = mem_alloc(s->classes.n * sizeof *bytes);
    for (uint32_t i = 0; i < s->buckets.n; i++) {
        const struct bucket *b = &s->buckets.at[i];
        for (uint32_t k = 0; k < b->n_classes; k++)
            bytes[s->bucket_classes.at[b->first_class + k]] += 6.0 * (double)b->elements +
                                                               8.0 * (double)bucket_state(b);
    }
    return bytes;
}

/* By class, at most: parameters, and results of forwards whose backward is to come. Needs list.order. Owned by the caller. */
static double *estimate(const struct sched *s)
{
    double *results = weigh_results(s), *most = weigh_buckets(s), *now = mem_alloc(s->classes.n * sizeof *now);
    memcpy(now, most, s->classes.n * sizeof *now);
    for (uint32_t i = 0; i < s->train.dag.nodes.n; i++) {
        const struct ir_node *n = &s->train.dag.nodes.at[s->train.order[i]];
        if (n->kind != IR_NODE_RUN || n->pass == IR_PASS_BI || n->part > 1)
            continue;
        const uint32_t c = s->sets.at[n->set].class_id;
        now[c] += n->pass == IR_PASS_F ? results[n->what] : -results[n->what];
        most[c] = now[c] > most[c] ? now[c] : most[c];
    }
    mem_free(results);
    mem_free(now);
    return most;
}

/* The class with the largest estimate of those without a plan in out; IR_NONE: all have one. */
static uint32_t largest_class(const struct sched *s, const double *estimates, const struct sched_output *out)
{
    uint32_t largest = IR_NONE;
    for (uint32_t c = 0; c < s->classes.n; c++)
        if (!(out->classes && out->classes[c].blob) && (largest == IR_NONE || estimates[c] > estimates[largest]))
            largest = c;
    return largest;
}

/* ---- the choice ----------------------------------------------------------------------------------------------------------------- */

/* The lists of the limit change places with those of the variant that is tried. */
static void exchange(struct sched *s, struct limit *limit)
{
    const struct list_plan train = s->train, eval = s->eval;
    struct lowering *lowering = s->lowering;
    s->train = limit->train;
    s->eval = limit->eval;
    s->lowering = limit->lowering;
    limit->train = train;
    limit->eval = eval;
    limit->lowering = lowering;
}

/* By one class more, which has no plan with every B whole yet; false: nothing more is allowed. */
static bool widen(struct sched *s, struct limit *limit, uint32_t class_id)
{
    if (limit->exact || class_id == IR_NONE)
        return false;
    exchange(s, limit);
    const uint64_t bytes = lower_class_bytes(s, class_id, &limit->whole);
    exchange(s, limit);
    limit->bytes = bytes > limit->bytes ? bytes : limit->bytes;
    limit->class_id = class_id;
    return true;
}

/* Until so much is allowed, or it is known that it is not: one class more that most likely takes most, then all. */
static enum status widen_to(struct sched *s, struct limit *limit, uint64_t bytes, struct err *e)
{
    if (bytes <= limit->bytes || !widen(s, limit, largest_class(s, limit->estimates, &limit->whole)))
        return ST_OK;
    if (bytes <= limit->bytes)
        return ST_OK;
    exchange(s, limit);
    const enum status st = pass_lower(s, &limit->whole, e);
    exchange(s, limit);
    limit->bytes = st == ST_OK ? peak_of(&limit->whole) : 0;
    limit->exact = true;
    return st;
}

/* If no strategy says how much: what a rank takes with every B whole, so that what fits that way fits this way too. */
static enum status begin_limit(struct sched *s, struct limit *limit, struct err *e)
{
    *limit = (struct limit){ .bytes = s->peak, .exact = s->peak };
    if (s->peak)
        return ST_OK;
    TRY(order_variant(s, WHOLE, e));
    limit->estimates = estimate(s);
    exchange(s, limit);
    widen(s, limit, largest_class(s, limit->estimates, &limit->whole));
    return ST_OK;
}

/* Plans of a variant that cuts B, if they keep within the limit; else out stays empty. What of several variants takes too much where the limit was
 * taken is given up; the last one is held against all classes, as far as a class takes more than those of the limit. */
static enum status try_variant(struct sched *s, uint32_t v, struct limit *limit, struct sched_output *out,
                               struct err *e)
{
    const bool last = v + 1 == WHOLE;
    TRY(order_variant(s, v, e));
    if (v == 0 && s->peak) {
        limit->estimates = estimate(s);
        limit->class_id = largest_class(s, limit->estimates, out);
    }
    uint64_t takes = lower_class_bytes(s, limit->class_id, out);
    enum status st = last ? widen_to(s, limit, takes, e) : ST_OK;
    for (uint64_t most = 0; st == ST_OK && takes <= limit->bytes && takes > most;) {
        most = last || limit->exact ? limit->bytes : UINT64_MAX;
        st = lower_within(s, most, out, e);
        takes = peak_of(out);
        if (st == ST_OK && last)
            st = widen_to(s, limit, takes, e);
        else if (st == ST_OK && takes > limit->bytes && !limit->exact && !limit->whole.classes[class_of_peak(out)].blob)
            widen(s, limit, class_of_peak(out));
    }
    if (st != ST_OK || takes > limit->bytes)
        sched_output_release(out);
    return st;
}

static enum status refuse_peak(struct sched *s, struct err *e)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t v = s->overlaps ? 0 : WHOLE; v <= WHOLE; v++) {
        struct sched_output out = { 0 };
        const enum status st = lower_variant(s, v, &out, e);
        const uint64_t takes = st == ST_OK ? peak_of(&out) : 0;
        sched_output_release(&out);
        TRY(st);
        least = takes < least ? takes : least;
    }
    return js_wrong(
        &s->peak_js, e,
        "found %.4g GiB, but a rank takes at least %.2f GiB in this order; allow that much, or use fewer microbatches "
        "in flight, recompute, or more ranks",
        (double)s->peak / GIB, ceil((double)least / GIB * 100) / 100);
}

/* Bytes of the class of the limit in this variant. */
static enum status weigh_variant(struct sched *s, uint32_t v, const struct limit *limit, uint64_t *bytes, struct err *e)
{
    struct sched_output out = { 0 };
    TRY(order_variant(s, v, e));
    *bytes = lower_class_bytes(s, limit->class_id, &out);
    sched_output_release(&out);
    return ST_OK;
}

/* May BW wait in the next group? Those of pairs do; where no strategy says how much memory there is only if it takes none. */
static enum status find_carries(struct sched *s, const struct limit *limit, bool *carries, struct err *e)
{
    uint64_t with, without;
    *carries = s->pairs;
    if (s->peak || !s->pairs)
        return ST_OK;
    TRY(weigh_variant(s, 1, limit, &without, e));
    TRY(weigh_variant(s, 0, limit, &with, e));
    *carries = with <= without;
    return ST_OK;
}

/* The first variant that keeps within the limit. */
static enum status first_within(struct sched *s, struct limit *limit, struct sched_output *out, struct err *e)
{
    bool carries;
    TRY(find_carries(s, limit, &carries, e));
    for (uint32_t v = 0; v < WHOLE && s->overlaps; v++) {
        if (variants[v].carries && !carries)
            continue;
        TRY(try_variant(s, v, limit, out, e));
        if (out->classes)
            return ST_OK;
    }
    if (!s->peak) { /* of some classes they are there */
        use_variant(s, WHOLE);
        *out = limit->whole;
        limit->whole = (struct sched_output){ 0 };
        exchange(s, limit);
        const enum status st = pass_lower(s, out, e);
        exchange(s, limit);
        return st;
    }
    TRY(lower_variant(s, WHOLE, out, e));
    if (peak_of(out) <= s->peak)
        return ST_OK;
    sched_output_release(out);
    return refuse_peak(s, e);
}

enum status peak_lower(struct sched *s, struct sched_output *out, struct err *e)
{
    struct limit limit;
    if (!s->overlaps && !s->peak)
        return lower_variant(s, WHOLE, out, e);
    TRY(begin_limit(s, &limit, e));
    const enum status st = first_within(s, &limit, out, e);
    sched_output_release(&limit.whole);
    mem_free(limit.estimates);
    exchange(s, &limit);
    compile_forget(s);
    exchange(s, &limit);
    return st;
}
