/* The compiler as a straight line. */
#include "sched/passes.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "ir/dag_print.h"
#include "sched/cost/cost.h"
#include "sched/directives/csv.h"

struct pass {
    const char *name;
    enum status (*run)(struct sched *s, struct err *e);
    bool dumps; /* the DAG exists after it */
};
#define PASS(name, run, dumps) { name, run, dumps },
static const struct pass passes[] = { SCHED_PASSES(PASS) };

static void init(struct sched *s, const struct sched_input *in)
{
    *s = (struct sched){ .in = in, .g = in->graph, .mb_name = "MB", .waiting = UINT32_MAX };
    arena_init(&s->arena);
    stream_number(s, "default_stream");
}

static void release_lists(struct sched *s)
{
    ir_dag_release(&s->train.dag);
    ir_dag_release(&s->eval.dag);
    mem_free(s->train.group);
    mem_free(s->train.order);
    mem_free(s->eval.order);
    s->train = s->eval = (struct list_plan){ 0 };
}

static void release(struct sched *s)
{
    json_decref(s->primitives);
    for (uint32_t i = 0; i < s->rows.n; i++)
        cells_release(&s->rows.at[i]);
    vec_free(&s->rows);
    vec_free(&s->directives);
    vec_free(&s->filters);
    vec_free(&s->groups);
    vec_free(&s->sets);
    vec_free(&s->sets.pool);
    mem_free(s->sets.table);
    vec_free(&s->classes);
    vec_free(&s->class_pool);
    vec_free(&s->streams);
    vec_free(&s->listed_sets);
    vec_free(&s->buckets);
    vec_free(&s->bucket_params);
    vec_free(&s->bucket_classes);
    ir_chunks_release(&s->chunks);
    release_lists(s);
    arena_release(&s->arena);
}

enum status pass_chunks_build(struct sched *s, struct err *e)
{
    (void)e;
    ir_chunks_build(&s->chunks, s->g);
    return ST_OK;
}

/* Can the device run every operator of the model in this type? */
static enum status check_target(const struct sched *s, struct err *e)
{
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        const char *why = s->in->target->unsupported((enum ir_op)op->op, &op->attrs, s->g->seq_len, s->in->compute);
        if (why)
            return err_set(e, ST_INPUT, NULL, "the job's dtype is %s, operator %s (%s): %s",
                           ir_dtype_name(s->in->compute), op->name, ir_op_info[op->op].name, why);
    }
    return ST_OK;
}

static void say(const struct sched *s, const char *what)
{
    if (s->in->progress)
        s->in->progress(what);
}

/* Those that precede the DAG, or those that make it. */
static enum status run_passes(struct sched *s, bool dag, struct err *e)
{
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        if (passes[i].dumps != dag)
            continue;
        say(s, passes[i].name);
        TRY(passes[i].run(s, e));
        ASSERT(!dag || (ir_dag_sound(&s->train.dag) && (!s->in->eval || ir_dag_sound(&s->eval.dag))));
        if (s->in->dump && dag) {
            fprintf(s->in->dump, "after %s:\n", passes[i].name);
            ir_dag_print(&s->train.dag, &s->chunks, s->g, s->in->dump);
        }
    }
    return ST_OK;
}

static enum status verify(const struct sched *s, struct sched_output *out, struct err *e)
{
    struct plan *plans = mem_alloc(out->n_classes * sizeof *plans);
    enum status st = ST_OK;
    for (uint32_t c = 0; c < out->n_classes && st == ST_OK; c++)
        st = plan_open(out->classes[c].blob, out->classes[c].bytes, s->g->ops.n, s->g->params.n, s->g->tensors.n,
                       &plans[c], e);
    if (st == ST_OK)
        st = sched_check(plans, out->n_classes, s->g, s->in->target, e);
    for (uint32_t c = 0; c < out->n_classes && st == ST_OK && s->in->machine; c++)
        cost_fill(s->in->machine, s->g, &plans[c], out->classes[c].blob);
    mem_free(plans);
    return st;
}

/* ---- what fits -------------------------------------------------------------------------------------------------------- */

/* How B runs in groups that overlap, the fastest first: as BI and BW, of which any number may wait on a class, or none while it could run; whole. */
struct variant {
    bool uncut;
    uint32_t waiting;
};
static const struct variant variants[] = { { false, UINT32_MAX }, { false, 0 }, { true, 0 } };
enum { VARIANTS = sizeof variants / sizeof *variants, WHOLE = VARIANTS - 1 };

/* Nothing stays of another variant but its output. */
static enum status lower_variant(struct sched *s, uint32_t v, struct sched_output *out, struct err *e)
{
    release_lists(s);
    s->uncut = variants[v].uncut;
    s->waiting = variants[v].waiting;
    TRY(run_passes(s, true, e));
    say(s, "plans and their memory");
    return pass_lower(s, out, e);
}

/* What a rank allocates, at most. */
static uint64_t peak_of(const struct sched_output *out)
{
    uint64_t peak = 0;
    for (uint32_t c = 0; c < out->n_classes; c++) {
        const uint64_t bytes = ((const struct plan_header *)out->classes[c].blob)->total_bytes;
        peak = bytes > peak ? bytes : peak;
    }
    return peak;
}

static enum status refuse_peak(const struct sched *s, uint64_t least, struct err *e)
{
    return js_wrong(
        &s->peak_js, e,
        "found %.4g GiB, but a rank takes at least %.2f GiB in this order; allow that much, or use fewer microbatches "
        "in flight, recompute, or more ranks",
        (double)s->peak / GIB, ceil((double)least / GIB * 100) / 100);
}

/* The first variant that keeps within the peak: the one given, else what it takes when B is whole, so that what fits that way
 * fits this way too. What a plan takes is known when its buffers have places: each variant is lowered. The DAG that stays is that of the
 * last one. */
static enum status first_within_peak(struct sched *s, struct sched_output *out, struct err *e)
{
    struct sched_output whole = { 0 };
    uint64_t peak = s->peak, least = UINT64_MAX;
    if (!peak) {
        TRY(lower_variant(s, WHOLE, &whole, e));
        peak = peak_of(&whole);
    }
    for (uint32_t v = s->overlaps ? 0 : WHOLE; v <= WHOLE; v++) {
        enum status st = ST_OK;
        if (v == WHOLE && whole.classes) {
            *out = whole;
            whole = (struct sched_output){ 0 };
            s->uncut = variants[WHOLE].uncut;
            s->waiting = variants[WHOLE].waiting;
        } else {
            st = lower_variant(s, v, out, e);
        }
        const uint64_t takes = st == ST_OK ? peak_of(out) : 0;
        if (takes <= peak) {
            sched_output_release(&whole);
            return st;
        }
        sched_output_release(out);
        least = takes < least ? takes : least;
    }
    return refuse_peak(s, least, e);
}

/* The same, without what --dump prints. */
static enum status lower_within_peak(struct sched *s, struct sched_output *out, struct err *e)
{
    const struct sched_input *in = s->in;
    struct sched_input quiet = *in;
    quiet.dump = NULL;
    s->in = &quiet;
    const enum status st = first_within_peak(s, out, e);
    s->in = in;
    return st;
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static enum status lower(struct sched *s, struct sched_output *out, struct err *e)
{
    TRY(check_target(s, e));
    TRY(run_passes(s, false, e));
    if (!s->overlaps && !s->peak)
        return lower_variant(s, WHOLE, out, e);
    TRY(lower_within_peak(s, out, e));
    if (!s->in->dump)
        return ST_OK;
    release_lists(s);
    return run_passes(s, true, e);
}

/* The DAG of the plan that sched_compile() makes. */
static enum status make_dag(struct sched *s, struct err *e)
{
    struct sched_output out = { 0 };
    TRY(check_target(s, e));
    TRY(run_passes(s, false, e));
    const enum status st = s->overlaps ? lower_within_peak(s, &out, e) : ST_OK;
    sched_output_release(&out);
    TRY(st);
    release_lists(s);
    return run_passes(s, true, e);
}

enum status sched_compile(const struct sched_input *in, struct sched_output *out, struct err *e)
{
    struct sched s;
    double start = clock_now();
    *out = (struct sched_output){ 0 };
    mem_hold(true);
    init(&s, in);
    enum status st = lower(&s, out, e);
    out->compile_seconds = clock_now() - start;
    if (st == ST_OK) {
        start = clock_now();
        say(&s, "verification");
        st = verify(&s, out, e);
        out->verify_seconds = clock_now() - start;
    }
    release(&s);
    if (st != ST_OK)
        sched_output_release(out);
    mem_hold(false);
    return st;
}

void sched_output_release(struct sched_output *out)
{
    for (uint32_t c = 0; c < out->n_classes; c++)
        mem_free(out->classes[c].blob);
    mem_free(out->classes);
    mem_free(out->class_of);
    *out = (struct sched_output){ 0 };
}

/* The orders that stand as cells, in the list of primitives. */
static void rows_to_json(struct sched *s)
{
    for (uint32_t i = 0, row = 0; row < s->rows.n; i++)
        if (json_is_null(json_array_get(s->primitives, i))) {
            json_t *order = schedule_row_json(&s->rows.at[row++], s->stages);
            if (s->peak)
                json_object_set_new(order, "peak", json_real((double)s->peak / GIB));
            json_array_set_new(s->primitives, i, order);
        }
}

enum status sched_expand(const struct sched_input *in, json_t **primitives, uint32_t *ranks, struct err *e)
{
    struct sched s;
    init(&s, in);
    enum status st = ST_OK;
    for (int i = 0; st == ST_OK; i++) {
        st = passes[i].run(&s, e);
        if (passes[i].run == pass_place) /* the devices are known */
            break;
    }
    if (st == ST_OK) {
        rows_to_json(&s);
        *primitives = json_incref(s.primitives);
        *ranks = s.ranks;
    }
    release(&s);
    return st;
}

enum status sched_dot(const struct sched_input *in, FILE *to, struct err *e)
{
    struct sched s;
    init(&s, in);
    enum status st = make_dag(&s, e);
    if (st == ST_OK)
        ir_dag_dot(&s.train.dag, &s.chunks, s.g, to);
    release(&s);
    return st;
}

enum status sched_csv(const struct sched_input *in, FILE *to, struct err *e)
{
    struct sched s;
    init(&s, in);
    enum status st = make_dag(&s, e);
    if (st == ST_OK)
        st = csv_write(&s, to, e);
    release(&s);
    return st;
}
