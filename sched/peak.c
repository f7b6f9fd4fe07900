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
enum { FIRST, WHOLE = sizeof variants / sizeof *variants - 1 };

/* What a rank may allocate. */
struct limit {
    uint64_t bytes;
    bool exact;        /* else what this class takes with every B whole: another may take what it takes itself then */
    uint32_t class_id; /* the one that most likely takes most */
    struct list_plan train, eval; /* with every B whole, */
    struct lowering *lowering;    /* what classes share then, */
    struct sched_output whole;    /* and the plans of some classes */
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

/* What a rank allocates: of a class, 0 where it has no plan yet; at most. */
static uint64_t bytes_of(const struct sched_output *out, uint32_t class_id)
{
    const struct plan_header *h = out->classes[class_id].blob;
    return h ? h->total_bytes : 0;
}

static uint64_t peak_of(const struct sched_output *out)
{
    uint64_t peak = 0;
    for (uint32_t c = 0; c < out->n_classes; c++)
        peak = bytes_of(out, c) > peak ? bytes_of(out, c) : peak;
    return peak;
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

/* The class that most likely takes most. Needs list.order. */
static uint32_t largest_class(const struct sched *s)
{
    double *estimates = estimate(s);
    uint32_t largest = 0;
    for (uint32_t c = 1; c < s->classes.n; c++)
        largest = estimates[c] > estimates[largest] ? c : largest;
    mem_free(estimates);
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

/* Bytes of a class with every B whole. */
static uint64_t whole_bytes(struct sched *s, struct limit *limit, uint32_t class_id)
{
    exchange(s, limit);
    const uint64_t bytes = lower_class_bytes(s, class_id, &limit->whole);
    exchange(s, limit);
    return bytes;
}

/* Plans of all classes with every B whole. */
static enum status lower_whole(struct sched *s, struct limit *limit, struct err *e)
{
    exchange(s, limit);
    const enum status st = pass_lower(s, &limit->whole, e);
    exchange(s, limit);
    return st;
}

/* If no strategy says how much: what a rank takes with every B whole, so that what fits that way fits this way too. */
static enum status begin_limit(struct sched *s, struct limit *limit, struct err *e)
{
    *limit = (struct limit){ .bytes = s->peak, .exact = s->peak };
    if (s->peak)
        return ST_OK;
    TRY(order_variant(s, WHOLE, e));
    limit->class_id = largest_class(s);
    exchange(s, limit);
    limit->bytes = whole_bytes(s, limit, limit->class_id);
    return ST_OK;
}

/* Are the plans within the limit that are there? Which of them came first makes no difference. */
static bool keep_within(struct sched *s, struct limit *limit, const struct sched_output *out)
{
    for (uint32_t c = 0; c < s->classes.n; c++) {
        const uint64_t takes = bytes_of(out, c);
        if (takes > limit->bytes && (limit->exact || takes > whole_bytes(s, limit, c)))
            return false;
    }
    return true;
}

/* Plans of a variant that cuts B, if they keep within the limit; else out stays empty. The first class that does not ends it, so that most
 * classes need not be lowered; but of the last variant it is asked what a rank takes at most with every B whole, on any class. */
static enum status try_variant(struct sched *s, uint32_t v, struct limit *limit, struct sched_output *out,
                               struct err *e)
{
    bool all = false;
    TRY(order_variant(s, v, e));
    lower_class_bytes(s, limit->class_id, out);
    enum status st = ST_OK;
    while (st == ST_OK && !all) {
        if (keep_within(s, limit, out)) {
            st = lower_within(s, limit->bytes, out, &all, e);
        } else if (v + 1 == WHOLE && !limit->exact) {
            st = lower_whole(s, limit, e);
            limit->bytes = st == ST_OK ? peak_of(&limit->whole) : 0;
            limit->exact = true;
        } else {
            break;
        }
    }
    if (!all)
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

/* Bytes of the class of the limit in this variant, whose plan out has then. */
static enum status weigh_variant(struct sched *s, uint32_t v, const struct limit *limit, struct sched_output *out,
                                 uint64_t *bytes, struct err *e)
{
    sched_output_release(out);
    TRY(order_variant(s, v, e));
    *bytes = lower_class_bytes(s, limit->class_id, out);
    return ST_OK;
}

/* The variant that is fastest where memory is no matter. In pairs BW may wait in the next group. */
static uint32_t fastest(const struct sched *s)
{
    return s->pairs ? FIRST : FIRST + 1;
}

/* The variant to begin with. Where no strategy says how much memory there is BW wait in the next group only if it takes none. */
static enum status first_variant(struct sched *s, struct limit *limit, struct sched_output *out, uint32_t *v,
                                 struct err *e)
{
    uint64_t with, without;
    *v = fastest(s);
    if (s->peak) {
        TRY(order_variant(s, *v, e));
        limit->class_id = largest_class(s);
    }
    if (s->peak || !s->pairs)
        return ST_OK;
    TRY(weigh_variant(s, FIRST, limit, out, &with, e));
    TRY(weigh_variant(s, FIRST + 1, limit, out, &without, e));
    if (with > without)
        *v = FIRST + 1;
    else
        sched_output_release(out);
    return ST_OK;
}

/* The first variant that keeps within the limit. */
static enum status first_within(struct sched *s, struct limit *limit, struct sched_output *out, struct err *e)
{
    uint32_t first = WHOLE;
    if (s->overlaps)
        TRY(first_variant(s, limit, out, &first, e));
    for (uint32_t v = first; v < WHOLE; v++) {
        if (variants[v].carries && first != FIRST)
            continue;
        TRY(try_variant(s, v, limit, out, e));
        if (out->classes)
            return ST_OK;
    }
    if (!s->peak) { /* of some classes they are there */
        use_variant(s, WHOLE);
        const enum status st = lower_whole(s, limit, e);
        *out = limit->whole;
        limit->whole = (struct sched_output){ 0 };
        return st;
    }
    TRY(lower_variant(s, WHOLE, out, e));
    if (peak_of(out) <= s->peak)
        return ST_OK;
    sched_output_release(out);
    return refuse_peak(s, e);
}

/* ---- as far as the caller knows of memory ------------------------------------------------------------------------------------- */

static bool has_room(const struct sched *s, const struct sched_output *out)
{
    uint64_t most = 0;
    for (uint32_t c = 0; c < s->classes.n; c++) {
        const struct plan_header *h = out->classes[c].blob;
        uint64_t bytes = 0;
        for (uint32_t a = 0; h && a < ARENA_COUNT; a++)
            bytes += s->in->target->device && plan_arena_on_host(a) ? 0 : h->arena_bytes[a];
        most = bytes > most ? bytes : most;
    }
    return most <= s->in->room;
}

/* The fastest variant, if there is room for it; else out stays empty. */
static enum status fill_room(struct sched *s, struct sched_output *out, struct err *e)
{
    TRY(order_variant(s, fastest(s), e));
    lower_class_bytes(s, largest_class(s), out);
    const enum status st = has_room(s, out) ? pass_lower(s, out, e) : ST_OK;
    if (st == ST_OK && has_room(s, out))
        out->peak = peak_of(out);
    else
        sched_output_release(out);
    return st;
}

enum status peak_lower(struct sched *s, struct sched_output *out, struct err *e)
{
    struct limit limit;
    if (!s->overlaps && !s->peak)
        return lower_variant(s, WHOLE, out, e);
    const bool fills = s->in->room && !s->peak;
    if (fills) {
        TRY(fill_room(s, out, e));
        if (out->classes)
            return ST_OK;
    }
    TRY(begin_limit(s, &limit, e));
    const enum status st = first_within(s, &limit, out, e);
    out->short_of_room = fills;
    sched_output_release(&limit.whole);
    exchange(s, &limit);
    compile_forget(s);
    exchange(s, &limit);
    return st;
}
