/* The loop over the instructions, on a device: nothing here waits for what it enqueues, but at the end of a step. A list
 * that the host need not look into runs once as it is, so that everything is loaded, then is captured, and from then on a
 * step is one launch. Where the host must read numbers of the device (sizes of products, rows to send) the captured list
 * is cut: graph, what the host does itself, graph. */
#include "exec/device.h"

#include <stdio.h>

enum { ORIGIN = PLAN_COMPUTE_STREAM }; /* where a step begins and ends */

void exec__device_check(const struct exec *x, const struct plan_instr *in)
{
    const struct exec__device *d = x->own;
    const char *text = d->ops->error();
    if (!text)
        return;
    struct err e = { 0 };
    err_set(&e, ST_DEVICE, NULL, "%s%s", text,
            in ? "" : "; --check-numbers synchronizes after every kernel and names the instruction");
    if (in)
        exec__fail(x, in, &e);
    char where[sizeof e.text + 64];
    snprintf(where, sizeof where, "rank %u, step %llu: %s", x->rank, (unsigned long long)x->step->step, e.text);
    process_fail(ST_DEVICE, where);
}

void exec__device_failed(void *self)
{
    const struct exec *x = self;
    const struct exec__device *d = x->own;
    if (x->step)
        exec__device_check(x, d->now);
}

/* ---- segments: what lies between a fork of all streams and their join ------------------------------------------ */

static void fork_streams(struct exec *x)
{
    struct exec__device *d = x->own;
    d->segment++;
    d->ops->record(x->n_events, d->streams[ORIGIN]);
    for (uint32_t s = 0; s < d->n_streams; s++)
        if (s != ORIGIN)
            d->ops->wait(d->streams[s], x->n_events);
}

static void join_streams(struct exec *x)
{
    struct exec__device *d = x->own;
    for (uint32_t s = 0; s < d->n_streams; s++)
        if (s != ORIGIN) {
            d->ops->record(x->n_events + 1 + s, d->streams[s]);
            d->ops->wait(d->streams[ORIGIN], x->n_events + 1 + s);
        }
}

static void end_capture(struct exec *x, uint32_t instr, uint32_t kernel)
{
    struct exec__device *d = x->own;
    void *graph = d->ops->capture_end(d->streams[ORIGIN]);
    exec__device_check(x, NULL);
    CHECK(d->tape->n < d->tape->room);
    d->tape->at[d->tape->n++] = (struct exec__segment){ graph, instr, kernel };
}

/* Ends a captured part before something that the host does itself, and begins the next behind it. */
static void cut(struct exec *x, uint32_t instr, uint32_t kernel)
{
    const struct exec__device *d = x->own;
    join_streams(x);
    end_capture(x, instr, kernel);
    d->ops->capture_begin(d->streams[ORIGIN]);
    fork_streams(x);
}

/* ---- instructions ---------------------------------------------------------------------------------------------- */

bool exec__device_kernel_is_direct(const struct exec *x, const struct plan_kernel *k)
{
    return k->op < IR_OP_GRAPH_COUNT && x->compute->libraries &&
           x->compute->libraries->host_reads((enum ir_op)k->op, &x->graph->ops.at[k->graph_op].attrs);
}

/* --check-numbers: waits for what the instruction's stream has done so far. */
static void settle(struct exec *x, const struct plan_instr *in)
{
    const struct exec__device *d = x->own;
    d->ops->synchronize_stream(d->streams[in->stream]);
    exec__device_check(x, in);
}

static void run_kernel(struct exec *x, const struct plan_instr *in, uint32_t kernel)
{
    const struct op_args a = exec__device_args(x, x->list, in, kernel);
    x->kernels[kernel].run(&a);
    if (x->check_numbers) {
        settle(x, in);
        exec__check_kernel(x, in, &x->plan->kernels[kernel], &a);
    }
}

static void run_pair(struct exec *x, const struct plan_instr *in, uint32_t kernel)
{
    const struct exec__device *d = x->own;
    struct op_args a[2];
    exec__device_pair_args(x, x->list, in, kernel, a);
    d->fusions[kernel].pair(&a[0], &a[1]);
}

static void run_program(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    const struct exec__device *d = x->own;
    uint32_t first, end;
    exec__piece(x, in, &first, &end);
    exec__clear_gaps(x, in, d->ops->clear, d->streams[in->stream]);
    for (uint32_t k = first; k < end; k++) {
        if (d->tape && exec__device_kernel_is_direct(x, &x->plan->kernels[k]))
            cut(x, i, k);
        else if (d->fusions[k].pair)
            run_pair(x, in, k++);
        else
            run_kernel(x, in, k);
    }
}

/* Where nothing clips, no update waits for whether the step counts: the run ends when one does not. */
static void run_balance(struct exec *x, const struct exec__bucket *b, void *stream)
{
    const struct exec__device *d = x->own;
    struct update_args u = b->update;
    u.stream = stream;
    if (x->sums)
        x->compute->checksum(&u, UPDATE_ALL, true);
    for (uint32_t i = 0; i < b->n_balance; i++) {
        struct balance_args a = b->balance[i];
        a.stream = stream;
        x->compute->balance(&a, d->inputs);
    }
    if (x->sums)
        x->compute->checksum(&u, UPDATE_ALL, false);
}

static void run_update(struct exec *x, const struct plan_instr *in)
{
    const struct exec__device *d = x->own;
    struct update_args u = x->buckets[in->bucket].update;
    u.stream = d->streams[in->stream];
    exec__device_before_update(x, u.stream);
    if (x->buckets[in->bucket].n_balance) {
        run_balance(x, &x->buckets[in->bucket], u.stream);
        return;
    }
    if (x->check_numbers)
        settle(x, in);
    bool check = x->check_numbers && exec__is_finite(x, in);
    x->compute->update(&u, d->inputs);
    if (!check)
        return;
    settle(x, in);
    exec__check_bucket(x, in);
}

static void run_sumsq(struct exec *x, const struct plan_instr *in)
{
    const struct exec__device *d = x->own;
    const struct exec__bucket *b = &x->buckets[in->bucket];
    if (x->check_numbers) {
        settle(x, in);
        exec__check_bucket(x, in);
    }
    x->compute->sumsq(b->norm_grad, b->norm_count, &x->scalars[SCALAR_NORM2], &x->scalars[SCALAR_NONFINITE],
                      d->streams[in->stream]);
}

static uint64_t load_bytes(const struct exec *x, const struct plan_instr *in)
{
    return (uint64_t)x->list->microbatch_size * (in->count ? in->count : x->graph->seq_len) * sizeof(int32_t);
}

static void run_load(struct exec *x, const struct plan_instr *in)
{
    struct exec__device *d = x->own;
    d->ops->copy(exec__base(x, in, 0), d->loads + d->load_at[in - x->plan->instrs], load_bytes(x, in),
                 d->streams[in->stream]);
}

static void run_extra(struct exec *x, uint32_t i)
{
    run_program(x, &x->plan->instrs[x->list->first_instr + i], i);
}

static void run_rounds(struct exec *x, uint32_t i)
{
    const struct exec__device *d = x->own;
    if (d->tape)
        cut(x, i, PLAN_NONE);
    else
        exec__device_rounds(x, i, run_extra);
}

static void communicate(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    const struct exec__device *d = x->own;
    const uint32_t gathered = exec__sums_gathered(x, in);
    if (gathered) {
        struct update_args u = x->buckets[in->bucket].update;
        u.stream = d->streams[in->stream];
        x->compute->checksum(&u, gathered, true);
    }
    if (d->tape && exec__device_call_is_direct(x, in))
        cut(x, i, PLAN_NONE);
    else
        exec__device_communicate(x, i);
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

static void wait_for(struct exec *x, const struct plan_instr *in)
{
    struct exec__device *d = x->own;
    const uint32_t *waits = &x->plan->waits[in->first_wait];
    for (uint32_t i = 0; i < in->n_waits; i++)
        if (d->recorded[waits[i]] == d->segment)
            d->ops->wait(d->streams[in->stream], waits[i]);
}

/* What other streams wait for is recorded; that it has happened can be seen by the host, for whoever watches the job (a call
 * by host memory says so itself). */
static void happened(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    struct exec__device *d = x->own;
    const uint64_t at = (uint64_t)(in - x->plan->instrs);
    const bool call = exec__is_communication(in) && in->op != PLAN_ADD && !plan_is_extra(in); /* that was launched */
    if (d->wanted[at]) {
        d->ops->record(i, d->streams[in->stream]);
        d->recorded[i] = d->segment;
    }
    if (!call || !d->by_host)
        d->ops->mark((uint32_t *)(void *)&x->events[i], d->inputs, d->streams[in->stream]);
}

static void enqueue(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    struct exec__device *d = x->own;
    bool stamp = x->times && x->step->traced, name = d->names && !d->tape;
    d->now = in;
    wait_for(x, in);
    if (stamp)
        d->ops->stamp(2 * i, d->streams[in->stream]);
    if (name)
        d->ops->range_begin(d->names[in - x->plan->instrs]);
    switch ((enum plan_op)in->op) {
    case PLAN_LOAD:
        run_load(x, in);
        break;
    case PLAN_RUN:
        run_program(x, in, i);
        break;
    case PLAN_SUMSQ:
        run_sumsq(x, in);
        break;
    case PLAN_ROUNDS:
        run_rounds(x, i);
        break;
    case PLAN_UPDATE:
        run_update(x, in);
        break;
    default:
        communicate(x, in, i);
    }
    if (name)
        d->ops->range_end();
    if (stamp)
        d->ops->stamp(2 * i + 1, d->streams[in->stream]);
    happened(x, in, i);
    exec__device_check(x, in);
}

/* What a ROUNDS repeats is done with it; returns how many instructions that are. */
static uint32_t end_rounds(struct exec *x, uint32_t i)
{
    const struct exec__device *d = x->own;
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + i];
    const uint32_t n = in->op == PLAN_ROUNDS ? (uint32_t)in->count : 0;
    for (uint32_t k = 1; k <= n; k++) {
        for (uint32_t end = 0; end < 2 && x->times && x->step->traced; end++)
            d->ops->stamp(2 * (i + k) + end, d->streams[in->stream]);
        happened(x, &in[k], i + k);
    }
    return n;
}

/* Enqueues the list: it runs, or goes onto the tape. */
static void enqueue_list(struct exec *x)
{
    struct exec__device *d = x->own;
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr];
    void *origin = d->streams[ORIGIN];
    if (d->tape)
        d->ops->capture_begin(origin);
    d->ops->copy(x->arena[ARENA_SCALARS], d->block, exec__block_bytes(x), origin);
    d->held = false;
    fork_streams(x);
    for (uint32_t i = 0; i < x->list->n_instr; i++) {
        enqueue(x, &in[i], i);
        i += end_rounds(x, i);
    }
    join_streams(x);
    d->ops->copy(d->block->scalars, x->scalars, x->plan->h->arena_bytes[ARENA_SCALARS], origin);
    if (d->tape)
        end_capture(x, PLAN_NONE, PLAN_NONE);
}

static void play(struct exec *x, const struct exec__tape *tape)
{
    struct exec__device *d = x->own;
    for (uint32_t i = 0; i < tape->n; i++) {
        const struct exec__segment *s = &tape->at[i];
        const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + s->instr];
        d->ops->graph_launch(s->graph, d->streams[ORIGIN]);
        if (s->instr == PLAN_NONE)
            continue;
        d->now = in;
        fork_streams(x);
        if (in->op == PLAN_ROUNDS)
            exec__device_rounds(x, s->instr, run_extra);
        else if (s->kernel == PLAN_NONE)
            exec__device_communicate(x, s->instr);
        else
            run_kernel(x, in, s->kernel);
        join_streams(x);
        exec__device_check(x, in);
    }
}

static void read_stamps(struct exec *x, double zero)
{
    const struct exec__device *d = x->own;
    for (uint32_t i = 0; i < 2 * x->list->n_instr; i++)
        x->times[i] = zero + d->ops->clock_read(i);
}

/* ---- tokens ---------------------------------------------------------------------------------------------------- */

static void load(struct exec *x)
{
    const struct exec__device *d = x->own;
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr];
    for (uint32_t i = 0; i < x->list->n_instr; i++)
        if (in[i].op == PLAN_LOAD)
            exec__load(x, &in[i], (int32_t *)(void *)(d->loads + d->load_at[x->list->first_instr + i]));
}

void exec__device_run(struct exec *x, double *scalars)
{
    struct exec__device *d = x->own;
    uint32_t list = (uint32_t)(x->list - x->plan->lists);
    bool traced = x->times && x->step->traced;
    struct exec__tape *tape = &d->tapes[2 * list + traced];
    double zero = 0;
    load(x);
    exec__first_scalars(x, d->block->scalars);
    d->block->inputs = exec__first_inputs(x);
    d->block->rounds = 0;
    x->comm_backend->begin(x->comm, x->epoch);
    if (d->graphs && d->ran[list] && !tape->n) {
        d->tape = tape;
        enqueue_list(x);
        d->tape = NULL;
    }
    if (traced) {
        d->ops->clock_zero(d->streams[ORIGIN]);
        zero = clock_now();
    }
    if (tape->n)
        play(x, tape);
    else
        enqueue_list(x);
    d->now = NULL;
    d->ops->synchronize();
    exec__device_check(x, NULL);
    x->comm_backend->drain(x->comm);
    d->ran[list] = true;
    exec__device_ran(x, list);
    if (traced)
        read_stamps(x, zero);
    memcpy(scalars, d->block->scalars, SCALAR_COUNT * sizeof *scalars);
}
