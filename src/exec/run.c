/* The loop over the instructions. */
#include "exec/device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void exec__fail(const struct exec *x, const struct plan_instr *in, const struct err *e)
{
    struct exec_instruction what;
    exec_describe(x, (uint32_t)(x->list - x->plan->lists), (uint32_t)(in - (x->plan->instrs + x->list->first_instr)),
                  &what);
    char text[sizeof e->text + sizeof what.name + 64];
    snprintf(text, sizeof text, "rank %u, step %llu, %s: %s", x->rank, (unsigned long long)x->step->step, what.name,
             e->text);
    process_fail(e->status, text);
}

/* ---- host and compute instructions ---------------------------------------------------------------------------- */

/* Which samples. With R replicas of M microbatches of b sequences, a step takes R*M*b of them, replica r the
 * r-th part, microbatch mb its mb-th. */
static uint64_t first_place(const struct exec *x, const struct plan_list *l, const struct plan_instr *in)
{
    return ((uint64_t)x->replica[in - x->plan->instrs] * l->microbatches + in->mb) * l->microbatch_size;
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint32_t exec_samples(const struct exec *x, uint32_t list, uint64_t **places)
{
    const struct plan_list *l = &x->plan->lists[list];
    struct {
        VEC(uint64_t);
    } all = { 0 };
    uint32_t n = 0;
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++)
        for (uint32_t k = 0; x->plan->instrs[i].op == PLAN_LOAD && k < l->microbatch_size; k++)
            vec_add(&all, first_place(x, l, &x->plan->instrs[i]) + k);
    if (all.n)
        qsort(all.at, all.n, sizeof *all.at, by_place);
    for (uint32_t i = 0; i < all.n; i++)
        if (n == 0 || all.at[i] != all.at[n - 1])
            all.at[n++] = all.at[i];
    *places = all.at;
    return n;
}

enum status exec__load(const struct exec *x, const struct plan_instr *in, uint64_t sample, int32_t *to, struct err *e)
{
    const struct plan_list *l = x->list;
    uint64_t b = l->microbatch_size, t = x->graph->seq_len, first = sample + first_place(x, l, in);
    for (uint64_t i = 0; i < b; i++)
        TRY(x->step->data->read(x->step->data->self, first + i, in->what == x->targets, to + i * t, e));
    return ST_OK;
}

static void run_load(struct exec *x, const struct plan_instr *in)
{
    struct err e = { 0 };
    if (exec__load(x, in, x->step->sample, exec__base(x, in, 0), &e) != ST_OK)
        exec__fail(x, in, &e);
}

void *exec__operand(const struct exec *x, const struct plan_base *bases, const struct plan_operand *o)
{
    const struct plan_base *b = &bases[o->slot];
    return x->arena[b->arena] + b->offset + o->offset;
}

/* Pointers of one run of a kernel: operands stand in the order of the mask's bits. */
void exec__resolve(const struct exec *x, const struct plan_base *bases, const struct plan_kernel *k, struct op_args *a)
{
    const struct plan_operand *o = &x->plan->operands[k->first_operand];
    uint32_t mask = k->mask;
#define TAKE(array, first, count)          \
    for (uint32_t i = 0; i < (count); i++) \
        if (mask >> ((first) + i) & 1)     \
            (array)[i] = exec__operand(x, bases, o++);
    TAKE(a->in, OPERAND_IN, IR_MAX_IN)
    TAKE(a->out, OPERAND_OUT, IR_MAX_OUT)
    TAKE(a->save, OPERAND_SAVE, IR_MAX_SAVE)
    TAKE(a->stash, OPERAND_STASH, IR_MAX_STASH)
    TAKE(a->param, OPERAND_PARAM, IR_MAX_PARAM)
    TAKE(a->dout, OPERAND_DOUT, IR_MAX_OUT)
    TAKE(a->din, OPERAND_DIN, IR_MAX_IN)
    TAKE(a->acc, OPERAND_ACC, IR_MAX_IN)
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++)
        if (mask >> (OPERAND_DPARAM + i) & 1) {
            if (o->flags & PLAN_OPERAND_ADD || !bases[o->slot].first)
                a->dparam_add |= 1u << i;
            a->dparam[i] = exec__operand(x, bases, o++);
        }
    if (mask >> OPERAND_WORK & 1)
        a->work = exec__operand(x, bases, o++);
#undef TAKE
}

/* Whole gradients in ARENA_WORK stand in memory that held something else: what no kernel of the first program writes (padding)
 * is zeroed, so that what is reduced is a number everywhere. */
static void clear_gaps(const struct exec *x, const struct plan_program *program, const struct plan_base *bases)
{
    for (uint32_t i = 0; i < program->n_slots; i++) {
        const struct exec__gaps *g = &x->gaps[program->first_slot + i];
        if (!bases[i].first || bases[i].arena != ARENA_WORK)
            continue;
        for (uint32_t k = 0; k < g->n; k++)
            memset(x->arena[ARENA_WORK] + bases[i].offset + g->at[k].first, 0, g->at[k].bytes);
    }
}

static void run_program(struct exec *x, const struct plan_instr *in)
{
    const struct plan *p = x->plan;
    const struct plan_program *program = &p->programs[in->what];
    const struct plan_base *bases = &p->bases[in->first_base];
    clear_gaps(x, program, bases);
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        atomic_store_explicit(&x->kernel, i, memory_order_relaxed);
        struct op_args a = x->kernels[i].args;
        a.b = x->list->microbatch_size;
        a.loss_scale = x->loss_scale;
        exec__resolve(x, bases, &p->kernels[i], &a);
        x->kernels[i].run(&a);
        if (x->check_numbers)
            exec__check_kernel(x, in, &p->kernels[i], &a);
    }
}

static void run_sumsq(struct exec *x, const struct plan_instr *in)
{
    const struct exec__bucket *b = &x->buckets[in->what];
    if (x->check_numbers)
        exec__check_bucket(x, in);
    x->compute->sumsq(b->norm_grad, b->norm_count, &x->scalars[SCALAR_NORM2], &x->scalars[SCALAR_NONFINITE], NULL);
}

/* Where updates wait for the norm, a norm or a loss that is no number leaves the parameters as they were. */
static void run_update(struct exec *x, const struct plan_instr *in)
{
    exec__before_update(x);
    if (x->plan->h->clip)
        x->compute->clip(x->inputs, x->scalars, x->clip_norm, NULL);
    bool check = x->check_numbers && exec__is_finite(x, in);
    x->compute->update(&x->buckets[in->what].update, x->inputs);
    if (check)
        exec__check_bucket(x, in);
}

typedef void (*run_fn)(struct exec *x, const struct plan_instr *in);
static const run_fn run[PLAN_OP_COUNT] = {
    [PLAN_LOAD] = run_load, [PLAN_RUN] = run_program, [PLAN_SUMSQ] = run_sumsq, [PLAN_UPDATE] = run_update
};

void exec__overflow(void *self, uint32_t event, uint64_t rows)
{
    const struct exec *x = self;
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + event];
    const struct comm_call *c = &x->calls[in - x->plan->instrs];
    struct err e = { 0 };
    const struct ir_shape *shape = &x->graph->tensors.at[in->what].shape;
    uint64_t balanced = (uint64_t)shape->dim[0] * x->list->microbatch_size;
    uint64_t bound = (100 * rows + balanced - 1) / balanced; /* in hundredths */
    err_set(&e, ST_INPUT, NULL,
            "%llu rows arrive for the experts of this rank, but the plan has room for %llu; set \"expert_bound\": "
            "%llu.%02llu in the shard directive, or omit it to plan for the worst case",
            (unsigned long long)rows, (unsigned long long)c->max_rows, (unsigned long long)bound / 100,
            (unsigned long long)bound % 100);
    exec__fail(x, in, &e);
}

/* ---- the loop ------------------------------------------------------------------------------------------------- */

static void wait_for(struct exec *x, const struct plan_instr *in)
{
    const uint32_t *waits = &x->plan->waits[in->first_wait];
    for (uint32_t i = 0; i < in->n_waits; i++)
        if (atomic_load_explicit(&x->events[waits[i]], memory_order_acquire) != x->epoch)
            x->comm_backend->wait(x->comm, waits[i]);
}

/* Nothing is computed, only time passes, as on a device's stream: an instruction begins when the one before it and all that
 * it waits for have ended, however late this thread woke up for it. */
static void pretend(struct exec *x, const struct plan_instr *in, double *times)
{
    const uint32_t *waits = &x->plan->waits[in->first_wait];
    times[0] = x->free_at;
    for (uint32_t i = 0; i < in->n_waits; i++)
        times[0] = fmax(times[0], x->times[2 * (size_t)waits[i] + 1]);
    times[1] = times[0] + (double)(in->op == PLAN_RUN ? x->plan->programs[in->what].seconds : in->seconds);
    x->free_at = times[1];
    if (times[1] > times[0])
        x->compute->pretend(times[1]);
}

static void carry_out(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    if (x->times)
        x->times[2 * (size_t)i] = clock_now();
    run[in->op](x, in);
    if (x->times)
        x->times[2 * (size_t)i + 1] = clock_now();
}

static void compute(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    wait_for(x, in);
    if (x->window)
        pretend(x, in, &x->times[2 * (size_t)i]);
    else
        carry_out(x, in, i);
    atomic_store_explicit(&x->events[i], x->epoch, memory_order_release);
    if (x->wakes[in - x->plan->instrs])
        x->comm_backend->notify(x->comm);
}

/* A communication on the stream of compute is in order with compute: it is waited for. */
static void communicate(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    x->comm_backend->launch(x->comm, &x->calls[in - x->plan->instrs]);
    if (in->stream != PLAN_COMPUTE_STREAM)
        return;
    x->comm_backend->wait(x->comm, i);
    if (x->window)
        x->free_at = x->times[2 * (size_t)i + 1];
}

/* Compute holds this thread up. So that it does not hold up what comes behind it, the communications between it and the next
 * computation are launched before it begins; what they wait for is in their calls. Further ones need not: they stand where
 * they are expected to start. Returns the first instruction that is not launched. */
static uint32_t launch_ahead(struct exec *x, uint32_t i)
{
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr];
    for (i++; i < x->list->n_instr && !run[in[i].op] && in[i].stream != PLAN_COMPUTE_STREAM; i++)
        communicate(x, &in[i], i);
    return i;
}

void exec__first_values(const struct exec *x, double *scalars, struct step_inputs *inputs)
{
    *inputs = (struct step_inputs){ .lr = x->step->lr, .grad_scale = 1, .update = x->step->update, .epoch = x->epoch };
    memset(scalars, 0, SCALAR_COUNT * sizeof *scalars);
    scalars[SCALAR_STOP] = x->step->stop;
    scalars[SCALAR_SAVE] = x->step->save;
    scalars[SCALAR_WRITTEN] = x->step->written;
}

static void run_list(struct exec *x, double *scalars)
{
    const struct plan_list *l = x->list;
    exec__first_values(x, x->scalars, x->inputs);
    x->comm_backend->begin(x->comm, x->epoch);
    bool ahead = x->comm_backend->queues;
    uint32_t launched = 0;
    x->free_at = clock_now();
    const struct plan_instr *in = &x->plan->instrs[l->first_instr];
    for (uint32_t i = 0; i < l->n_instr; i++, in++) {
        if (run[in->op] && ahead)
            launched = launch_ahead(x, i);
        if (run[in->op])
            compute(x, in, i);
        else if (i >= launched)
            communicate(x, in, i);
    }
    x->comm_backend->drain(x->comm);
    memcpy(scalars, x->scalars, SCALAR_COUNT * sizeof *scalars);
}

void exec_run(struct exec *x, const struct exec_step *step, double *scalars)
{
    const struct plan_list *l = &x->plan->lists[step->list];
    x->list = l;
    x->step = step;
    x->loss_scale = 1 / ((double)l->replicas * l->microbatches * l->microbatch_size * x->graph->seq_len);
    x->epoch++;
    atomic_store(&x->running_step, step->step);
    atomic_store(&x->running, EXEC__RUNS | (uint64_t)step->list << 32 | x->epoch);
    if (x->device)
        exec__device_run(x, scalars);
    else
        run_list(x, scalars);
    atomic_fetch_and(&x->running, ~EXEC__RUNS);
    if (!x->device && step->beside)
        step->beside(step->beside_self);
}

const double *exec_times(const struct exec *x)
{
    return x->times;
}
