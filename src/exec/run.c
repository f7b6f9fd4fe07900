/* Running a list: what all machines have in common, and the loop of those whose instructions the calling thread carries out. */
#include <stdio.h>
#include <stdlib.h>

#include "exec/private.h"

void exec__where(const struct exec *x, const struct plan_instr *in, char where[EXEC__WHERE])
{
    struct exec_instruction what;
    exec_describe(x, (uint32_t)(x->list - x->plan->lists), (uint32_t)(in - (x->plan->instrs + x->list->first_instr)),
                  &what);
    snprintf(where, EXEC__WHERE, "rank %u, step %llu, %s", x->rank, (unsigned long long)x->step->step, what.name);
}

_Noreturn void exec__fail(const struct exec *x, const struct plan_instr *in, const struct err *e)
{
    char where[EXEC__WHERE], text[sizeof where + 2 + sizeof e->text];
    exec__where(x, in, where);
    snprintf(text, sizeof text, "%s: %s", where, e->text);
    process_fail(e->status, text);
}

/* ---- what is loaded -------------------------------------------------------------------------------------------- */

/* Which samples. With R replicas of M microbatches of b sequences, a step takes R*M*b of them, replica r the
 * r-th part, microbatch mb its mb-th. Ranks that share sequences are one replica. */
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

void exec__load(const struct exec *x, const struct plan_instr *in, int32_t *to)
{
    const struct exec_data *data = x->step->data;
    uint64_t b = x->list->microbatch_size, t = x->graph->seq_len;
    uint64_t first = x->step->sample + first_place(x, x->list, in);
    enum exec_input which = EXEC_TOKENS;
    struct err e = { 0 };
    while (x->inputs[which] != in->tensor)
        which++;
    for (uint64_t i = 0; i < b; i++) {
        int32_t *row = in->count ? x->row : to + i * t;
        if (data->read(data->self, first + i, which, row, &e) != ST_OK)
            exec__fail(x, in, &e);
        if (in->count)
            exec__load_part(x, in, (uint32_t)i, to);
    }
}

/* ---- kernels --------------------------------------------------------------------------------------------------- */

void *exec__operand(const struct exec *x, const struct plan_base *bases, const struct plan_operand *o)
{
    const struct plan_base *b = &bases[o->slot];
    return x->arena[b->arena] + b->offset + o->offset;
}

/* Pointers of one run of a kernel: operands stand in the order of the mask's bits. */
static void resolve(const struct exec *x, const struct plan_base *bases, const struct plan_kernel *k, struct op_args *a)
{
    const struct plan_operand *o = &x->plan->operands[k->first_operand];
    uint64_t mask = k->mask;
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

struct op_args exec__args(const struct exec *x, const struct plan_list *l, const struct plan_instr *in, uint32_t kernel,
                          void *stream)
{
    struct op_args a = x->kernels[kernel].args;
    a.b = l->microbatch_size;
    a.loss_scale = x->loss_scale;
    a.weight = x->weight;
    if (in->count) { /* a later piece of the program begins with phase 1 of a kernel */
        uint32_t first, end;
        exec__piece(x, in, &first, &end);
        if (kernel == first)
            a.phase = 1;
    }
    if (x->kernels[kernel].ring) {
        a.phase = (uint32_t)in->count;
        a.positions += in->count;
    }
    a.stream = stream;
    resolve(x, &x->plan->bases[in->first_base], &x->plan->kernels[kernel], &a);
    if (a.attrs && a.attrs->flags & IR_DOCUMENTS)
        a.document = a.in[ir_op_inputs((enum ir_op)a.op, a.attrs) - 1];
    return a;
}

void exec__clear_gaps(const struct exec *x, const struct plan_instr *in,
                      void (*clear)(void *p, uint64_t bytes, void *stream), void *stream)
{
    const struct plan_program *program = &x->plan->programs[in->program];
    const struct plan_base *bases = &x->plan->bases[in->first_base];
    for (uint32_t i = 0; i < program->n_slots; i++) {
        const struct exec__gaps *g = &x->gaps[program->first_slot + i];
        if (!bases[i].first || bases[i].arena != ARENA_WORK)
            continue;
        for (uint32_t k = 0; k < g->n; k++)
            clear(x->arena[ARENA_WORK] + bases[i].offset + g->at[k].first, g->at[k].bytes, stream);
    }
}

void exec__overflow(void *self, uint32_t event, uint64_t rows)
{
    const struct exec *x = self;
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + event];
    const struct comm_call *c = &x->calls[in - x->plan->instrs];
    struct err e = { 0 };
    uint64_t balanced = plan_expert_rows(x->plan, x->graph, in->tensor) * x->list->microbatch_size;
    uint64_t bound = (100 * rows + balanced - 1) / balanced; /* in hundredths */
    err_set(&e, ST_INPUT, NULL,
            "%llu rows arrive for the experts of this rank, but the plan has room for %llu; set \"expert_bound\": "
            "%llu.%02llu in the shard directive, or omit it to plan for the worst case",
            (unsigned long long)rows, (unsigned long long)c->max_rows, (unsigned long long)bound / 100,
            (unsigned long long)bound % 100);
    exec__fail(x, in, &e);
}

/* ---- what the time is spent on ---------------------------------------------------------------------------------- */

static enum exec_spent kind_of(struct exec *x, const struct plan_instr *in)
{
    switch ((enum plan_op)in->op) {
    case PLAN_LOAD:
        return EXEC_LOADS;
    case PLAN_ROUNDS:
    case PLAN_RUN: /* a program that only turns a tensor round has no pass: it counts as what ran before it */
        if (in->pass != IR_PASS_NONE)
            x->runs_forward = in->pass == IR_PASS_F;
        return x->runs_forward ? EXEC_FORWARD : EXEC_BACKWARD;
    case PLAN_SUMSQ:
    case PLAN_UPDATE:
        return EXEC_UPDATE;
    case PLAN_ALL_REDUCE:
    case PLAN_REDUCE_SCATTER:
    case PLAN_ADD:
        return EXEC_REDUCTIONS;
    case PLAN_ALL_GATHER:
        return EXEC_GATHERS;
    case PLAN_ALL_TO_ALL:
    case PLAN_ALL_TO_ALL_V:
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
        return EXEC_ALL_TO_ALL;
    case PLAN_SCALARS:
        return EXEC_SCALARS;
    default:
        return EXEC_MESSAGES;
    }
}

void exec__spend(struct exec *x, const struct plan_instr *in)
{
    double now = clock_now();
    x->spent[(size_t)(x->list - x->plan->lists) * EXEC_SPENT + kind_of(x, in)] += now - x->spent_until;
    x->spent_until = now;
}

const double *exec_spent(const struct exec *x, uint32_t list)
{
    return x->spent ? x->spent + (size_t)list * EXEC_SPENT : NULL;
}

/* ---- the loop ------------------------------------------------------------------------------------------------- */

/* Until instruction i of the list, a communication, is done. */
static void wait_until(struct exec *x, uint32_t i)
{
    if (atomic_load_explicit(&x->events[i], memory_order_acquire) == x->epoch)
        return;
    x->comm_backend->wait(x->comm, i);
    exec__spend(x, &x->plan->instrs[x->list->first_instr + i]);
}

void exec__wait(struct exec *x, const struct plan_instr *in)
{
    const uint32_t *waits = &x->plan->waits[in->first_wait];
    for (uint32_t w = 0; w < in->n_waits; w++)
        wait_until(x, waits[w]);
}

/* What a ROUNDS repeats is done with it; returns how many instructions that are. */
static uint32_t end_rounds(struct exec *x, uint32_t i)
{
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + i];
    const uint32_t n = in->op == PLAN_ROUNDS ? (uint32_t)in->count : 0;
    for (uint32_t k = i + 1; k <= i + n; k++) {
        if (x->times)
            x->times[2 * (size_t)k] = x->times[2 * (size_t)k + 1] = x->times[2 * (size_t)i + 1];
        atomic_store_explicit(&x->events[k], x->epoch, memory_order_release);
    }
    if (n)
        x->comm_backend->notify(x->comm);
    return n;
}

static void compute(struct exec *x, uint32_t i, uint32_t before, exec__carry_out carry_out)
{
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr + i];
    exec__wait(x, in);
    carry_out(x, in, i, before);
    exec__spend(x, in);
    atomic_store_explicit(&x->events[i], x->epoch, memory_order_release);
    if (x->wakes[in - x->plan->instrs])
        x->comm_backend->notify(x->comm);
}

/* A communication on the stream of compute is in order with compute: it is waited for. */
static void communicate(struct exec *x, const struct plan_instr *in, uint32_t i)
{
    const uint32_t gathered = exec__sums_gathered(x, in);
    if (gathered) {
        x->compute->checksum(&x->buckets[in->bucket].update, gathered, true);
        exec__sums_judge(x, in);
        exec__spend(x, in);
    }
    x->comm_backend->launch(x->comm, &x->calls[in - x->plan->instrs]);
    if (in->stream == PLAN_COMPUTE_STREAM)
        wait_until(x, i);
}

/* Compute holds this thread up. So that it does not hold up what comes behind it, the communications between it and the next
 * computation are launched before it begins; what they wait for is in their calls. Further ones need not: they stand where
 * they are expected to start. Returns the first instruction that is not launched. */
static uint32_t launch_ahead(struct exec *x, uint32_t i)
{
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr];
    for (i++; i < x->list->n_instr && exec__is_communication(&in[i]) && in[i].stream != PLAN_COMPUTE_STREAM; i++)
        communicate(x, &in[i], i);
    return i;
}

void exec__loop(struct exec *x, exec__carry_out carry_out, double *scalars)
{
    const struct plan_instr *in = &x->plan->instrs[x->list->first_instr];
    uint32_t launched = 0, before = PLAN_NONE;
    exec__first_scalars(x, x->scalars);
    x->spent_until = clock_now();
    x->comm_backend->begin(x->comm, x->epoch);
    for (uint32_t i = 0; i < x->list->n_instr; i++, in++) {
        bool computes = !exec__is_communication(in);
        if (computes && x->comm_backend->queues)
            launched = launch_ahead(x, i);
        if (computes)
            compute(x, i, before, carry_out);
        else if (i >= launched)
            communicate(x, in, i);
        const uint32_t extra = end_rounds(x, i);
        i += extra;
        in += extra;
        if (computes || in->stream == PLAN_COMPUTE_STREAM)
            before = i;
    }
    in = &x->plan->instrs[x->list->first_instr];
    for (uint32_t i = 0; i < x->list->n_instr; i++)
        if (exec__is_communication(&in[i]))
            wait_until(x, i);
    x->comm_backend->drain(x->comm);
    memcpy(scalars, x->scalars, SCALAR_COUNT * sizeof *scalars);
}

/* ---- a step ---------------------------------------------------------------------------------------------------- */

struct step_inputs exec__first_inputs(const struct exec *x)
{
    const double targets = x->step->targets;
    return (struct step_inputs){ .lr = x->step->lr,
                                 .grad_scale = 1,
                                 .update = x->step->update,
                                 .skip = x->step->skip,
                                 .epoch = x->epoch,
                                 .weight = targets > 0 ? x->tokens / targets : 1 };
}

void exec__first_scalars(const struct exec *x, double *scalars)
{
    memset(scalars, 0, x->plan->h->arena_bytes[ARENA_SCALARS]);
    scalars[SCALAR_STOP] = x->step->stop;
    scalars[SCALAR_SAVE] = x->step->save;
    scalars[SCALAR_WRITTEN] = x->step->written;
    scalars[SCALAR_COUNTED] = x->step->counted;
}

void exec_run(struct exec *x, const struct exec_step *step, double *scalars)
{
    const struct plan_list *l = &x->plan->lists[step->list];
    x->list = l;
    x->step = step;
    x->tokens = (double)l->replicas * l->microbatches * l->microbatch_size * x->graph->seq_len;
    x->loss_scale = 1 / x->tokens;
    x->epoch++;
    atomic_store(&x->running_step, step->step);
    atomic_store(&x->running, EXEC__RUNS | (uint64_t)step->list << 32 | x->epoch);
    const bool updates = x->sums && x->sums->updates[step->list];
    if (updates)
        exec__sums_frozen(x);
    x->machine->run(x, scalars);
    exec__sums_judge(x, NULL);
    if (updates)
        x->sums->step = step->step;
    atomic_fetch_and(&x->running, ~EXEC__RUNS);
}

const double *exec_loads(const struct exec *x)
{
    return x->loads;
}

const double *exec_times(const struct exec *x)
{
    return x->times;
}
