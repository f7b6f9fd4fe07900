/* The machine that computes nothing: ranks and messages are real, programs and updates only take their predicted time. */
#include <math.h>
#include <sched.h>
#include <time.h>

#include "exec/private.h"

const struct compute_backend compute_emulate = { .name = "emulate", .target = "emulate" };

struct emulation {
    unsigned char *operands; /* of all messages: [2][bytes], what goes out and what comes in */
    uint64_t bytes;
    double begun; /* when the list that runs did, clock_now() */
};

/* No arena but that of the scalars. */
static enum status open_emulation(struct exec *x, const struct exec_setup *s, struct err *e)
{
    enum { MESSAGE = 4096 }; /* bytes that travel at most; of one element for each rank at least */
    struct emulation *m = x->own = arena_new(&x->memory, struct emulation);
    uint64_t least = x->plan->h->world * sizeof(double);
    m->bytes = least > MESSAGE ? least : MESSAGE;
    m->operands = arena_alloc(&x->memory, 2 * m->bytes);
    if (!s->times)
        x->times = arena_array(&x->memory, double, 2 * (size_t)x->n_events + 2);
    return exec__host_open(x, 1u << ARENA_SCALARS, e);
}

/* What travels instead: less, but it takes the time that it would. */
static void operands(const struct exec *x, const struct plan_instr *in, struct comm_call *c)
{
    const struct emulation *m = x->own;
    c->least = fmax((double)in->seconds, 1e-9);
    if (in->op == PLAN_SCALARS)
        return;
    uint64_t members = c->channel == UINT32_MAX ? 1 : exec__group_size(x, c->channel);
    uint64_t most = m->bytes / (members * comm_type_size(c->type));
    if (c->op == COMM_ALL_TO_ALL_V || c->op == COMM_ROWS) /* the balanced case */
        c->op = COMM_ALL_TO_ALL;
    if (c->count > most)
        c->count = most;
    c->src = m->operands;
    c->dst = c->op == COMM_ADD ? m->operands : m->operands + m->bytes;
}

static enum status connect(struct exec *x, const struct exec_setup *s, struct comm_setup *setup, struct err *e)
{
    (void)x, (void)s, (void)setup, (void)e;
    return ST_OK;
}

/* Sleeping, not spinning: ranks may outnumber cores. Only what is too short for that is waited for. */
static void sleep_until(double until)
{
    const double moment = 20e-6; /* shorter than what it takes to sleep and wake up again, seconds */
    if (until - clock_now() > moment) {
        struct timespec t = { .tv_sec = (time_t)until };
        t.tv_nsec = (long)((until - (double)t.tv_sec) * 1e9);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
            ; /* woken up by a signal */
    }
    while (clock_now() < until)
        sched_yield();
}

/* As on a device's stream: it begins when the one before it and all that it waits for have ended, however late this thread woke
 * up for it. */
static void carry_out(struct exec *x, const struct plan_instr *in, uint32_t i, uint32_t before)
{
    const struct emulation *m = x->own;
    const uint32_t *waits = &x->plan->waits[in->first_wait];
    double begin = before == PLAN_NONE ? m->begun : x->times[2 * (size_t)before + 1];
    for (uint32_t w = 0; w < in->n_waits; w++)
        begin = fmax(begin, x->times[2 * (size_t)waits[w] + 1]);
    double end = begin + plan_seconds(x->plan->programs, in);
    x->times[2 * (size_t)i] = begin;
    x->times[2 * (size_t)i + 1] = end;
    if (end > begin)
        sleep_until(end);
}

static void run(struct exec *x, double *scalars)
{
    struct emulation *m = x->own;
    m->begun = clock_now();
    exec__loop(x, carry_out, scalars);
}

/* There is no state. */
static void copy_begin(struct exec *x, const struct exec_copy *list, uint32_t n)
{
    (void)x, (void)list;
    CHECK(n == 0);
}

const struct exec_machine exec_emulation = {
    .open = open_emulation,
    .operands = operands,
    .connect = connect,
    .disconnect = exec__nothing,
    .close = exec__host_close,
    .run = run,
    .read = exec__host_read,
    .settle = exec__nothing,
    .arenas = exec__host_arenas,
    .download = exec__nothing,
    .upload = exec__nothing,
    .copy_begin = copy_begin,
    .copy_wait = exec__nothing,
    .memory = exec__host_memory,
    .notes = exec__no_notes,
};
