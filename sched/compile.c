/* The compiler as a straight line. */
#include "sched/passes.h"

#include <stdio.h>

#include "base/clock.h"
#include "ir/dag_print.h"
#include "sched/cost/cost.h"
#include "sched/directives/csv.h"
#include "sched/weights.h"

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

void compile_forget(struct sched *s)
{
    ir_dag_release(&s->train.dag);
    ir_dag_release(&s->eval.dag);
    lower_forget(s);
    if (s->train.weights)
        weights_release(s->train.weights);
    mem_free(s->train.weights);
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
    compile_forget(s);
    arena_release(&s->arena);
}

enum status pass_chunks_build(struct sched *s, struct err *e)
{
    (void)e;
    ir_chunks_build(&s->chunks, s->g);
    filter_index_chunks(s);
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

/* Sizes are 64-bit numbers: what lowering adds up, a few times the values of a step, stays far below 2^64 bytes. */
static enum status check_step(const struct sched *s, struct err *e)
{
    double elements = 0;
    for (uint32_t t = 0; t < s->g->tensors.n; t++)
        elements += (double)ir_shape_elements(&s->g->tensors.at[t].shape) * s->in->batch_size;
    if (elements > 0x1p56)
        return err_set(e, ST_INPUT, NULL,
                       "a step of %u sequences of %u tokens computes %.3g values, expected at most 2^56; use fewer or "
                       "shorter sequences",
                       s->in->batch_size, s->g->seq_len, elements);
    return ST_OK;
}

static enum status check_memory(const struct sched_output *out, struct err *e)
{
    for (uint32_t c = 0; c < out->n_classes; c++) {
        const uint64_t bytes = ((const struct plan_header *)out->classes[c].blob)->total_bytes;
        if (bytes > PLAN_MOST)
            return err_set(e, ST_INPUT, NULL,
                           "a rank of rank class %u needs %.4g TiB of memory, expected at most %.0f; use more ranks or "
                           "a smaller job",
                           c, (double)bytes * 0x1p-40, (double)PLAN_MOST * 0x1p-40);
    }
    return ST_OK;
}

static void say(const struct sched *s, const char *what)
{
    if (s->in->progress)
        s->in->progress(what);
}

enum { PASSES = sizeof passes / sizeof *passes };

/* Those that precede the DAG, or those that make it, from number `first` on. */
static enum status run_passes(struct sched *s, size_t first, bool dag, struct err *e)
{
    for (size_t i = first; i < PASSES; i++) {
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
        if (!cost_fill(s->in->machine, s->g, &plans[c], out->classes[c].blob))
            st = err_set(e, ST_INPUT, s->in->machine->name,
                         "a part of a step would take more than %.0e s; use a machine file with other speeds",
                         (double)PLAN_SECONDS_MOST);
    mem_free(plans);
    return st;
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

enum status compile_dag(struct sched *s, struct err *e)
{
    compile_forget(s);
    TRY(run_passes(s, 0, true, e));
    say(s, "plans and their memory");
    return ST_OK;
}

/* As it was before it had an order; false: passes behind that have changed it. */
static bool forget_order(struct list_plan *list)
{
    if (list->dag.nodes.n != list->nodes)
        return false;
    if (list->dag.edges.n != list->edges) { /* streams that take turns */
        list->dag.edges.n = list->edges;
        ir_dag_link(&list->dag);
    }
    mem_free(list->order);
    list->order = NULL;
    return true;
}

enum status compile_order(struct sched *s, struct err *e)
{
    size_t first = 0;
    lower_forget(s);
    while (passes[first].run != pass_sequence)
        first++;
    if (!forget_order(&s->train) || (s->in->eval && !forget_order(&s->eval)))
        return compile_dag(s, e);
    TRY(run_passes(s, first, true, e));
    say(s, "plans and their memory");
    return ST_OK;
}

/* Until it is known how B runs, nothing is dumped; then the DAG is made once more. */
static enum status lower_quietly(struct sched *s, struct sched_output *out, struct err *e)
{
    const struct sched_input *in = s->in;
    struct sched_input quiet = *in;
    quiet.dump = NULL;
    s->in = &quiet;
    const enum status st = peak_lower(s, out, e);
    s->in = in;
    return st;
}

static enum status lower(struct sched *s, struct sched_output *out, struct err *e)
{
    TRY(check_target(s, e));
    TRY(check_step(s, e));
    TRY(run_passes(s, 0, false, e));
    if (!s->in->dump || (!s->overlaps && !s->peak))
        return peak_lower(s, out, e);
    TRY(lower_quietly(s, out, e));
    return compile_dag(s, e);
}

/* The DAG of the plan that sched_compile() makes. */
static enum status make_dag(struct sched *s, struct err *e)
{
    struct sched_output out = { 0 };
    TRY(check_target(s, e));
    TRY(check_step(s, e));
    TRY(run_passes(s, 0, false, e));
    const enum status st = s->overlaps ? lower_quietly(s, &out, e) : ST_OK;
    sched_output_release(&out);
    TRY(st);
    return compile_dag(s, e);
}

enum status sched_compile(const struct sched_input *in, struct sched_output *out, struct err *e)
{
    struct sched s;
    double start = clock_now();
    *out = (struct sched_output){ 0 };
    mem_hold(true);
    init(&s, in);
    enum status st = lower(&s, out, e);
    if (st == ST_OK)
        st = check_memory(out, e);
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
