/* mpirun -n RANKS test_nccl [all|lost]: what comm/nccl*.c calls for compiled strategies, on a stand-in for NCCL. Each strategy is
 * compiled, opened, trained and evaluated by an executor whose device does nothing. On every rank the calls have to be those of
 * the plan, in its order; on rank 0 those of all ranks have to meet (judge.c). At the end calls are spoilt on purpose, and the
 * judge has to see it. Prints what fails, and how much was looked at. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cells.h"
#include "comm/nccl_private.h"
#include "exec/exec.h"
#include "ir/family/family.h"
#include "ir/target.h"
#include "sched/sched.h"
#include "standin.h"

struct job {
    struct ir_graph g;
    struct sched_output out;
    struct plan plan; /* of this rank */
};

static uint32_t bad, cells, calls, rounds;

static void fail(const char *cell, const char *what, const char *why)
{
    printf("rank %u: %s: %s: %s\n", world_rank(), cell, what, why);
    bad++;
}

static enum status compile(struct job *j, const struct cell *cell, struct err *e)
{
    struct notices notices;
    json_t *model = NULL, *strategy = NULL;
    ir_graph_init(&j->g);
    notices_init(&notices);
    TRY(js_load_text(cell->model, "model.json", &model, e));
    TRY(ir_family_build(model, "model.json", 8, &j->g, &notices, e));
    notices_release(&notices);
    json_decref(model);
    TRY(js_load_text(cell->strategy, "strategy.json", &strategy, e));
    const struct sched_input in = {
        .graph = &j->g,
        .strategy = strategy,
        .strategy_name = "strategy.json",
        .batch_size = 16,
        .compute = IR_BF16,
        .clip = true,
        .eval = true,
        .snapshot = true,
        .target = &ir_target_cuda,
    };
    TRY(sched_compile(&in, &j->out, e));
    json_decref(strategy);
    if (j->out.ranks != world_size())
        return err_set(e, ST_INPUT, cell->name, "a strategy for %u ranks", j->out.ranks);
    const struct sched_class *mine = &j->out.classes[j->out.class_of[world_rank()]];
    return plan_open(mine->blob, mine->bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &j->plan, e);
}

/* ---- what the plan says ---------------------------------------------------------------------------------------- */

struct expected {
    const struct plan *p;
    const struct cell *cell;
    uint32_t at; /* next record */
    bool wrong;
};

static const struct standin_comm *comm_of(uint32_t id)
{
    for (uint32_t i = 0; i < standin_comms.n; i++)
        if (standin_comms.at[i].id == id)
            return &standin_comms.at[i];
    return NULL;
}

static void complain(struct expected *x, const struct plan_instr *in, const char *why)
{
    if (!x->wrong)
        fail(x->cell->name, plan_op_name((enum plan_op)in->op), why);
    x->wrong = true;
}

static void expect(struct expected *x, const struct plan_instr *in, enum standin_op op, uint64_t count, uint32_t peer)
{
    if (x->wrong || x->at == standin_calls.n) {
        complain(x, in, "no call was made for it");
        return;
    }
    const struct standin_record *r = &standin_calls.at[x->at++];
    const struct standin_comm *c = comm_of(r->comm);
    if (r->op != op || r->count != count || r->peer != peer || r->stream != in->stream)
        complain(x, in, "another call was made for it");
    uint32_t asked = x->p->streams[in->stream].max_ctas;
    if (!c->max_ctas || (asked && c->max_ctas > asked))
        complain(x, in, "its communicator may take more thread blocks than its stream");
}

/* The communicator is the plan's group, in its order. */
static void expect_group(struct expected *x, const struct plan_instr *in, uint32_t first)
{
    const struct plan_channel *ch = &x->p->channels[in->channel];
    uint32_t n = plan_group_size(x->p, ch->group, world_rank());
    const struct standin_comm *c = x->wrong ? NULL : comm_of(standin_calls.at[first].comm);
    for (uint32_t i = 0; c && i < n; i++)
        if (c->n != n || c->members[i] != plan_group_at(x->p, ch->group, world_rank(), i))
            complain(x, in, "its communicator has other members than its group");
}

static void expect_blocks(struct expected *x, const struct plan_instr *in, uint64_t count)
{
    const struct plan_channel *ch = &x->p->channels[in->channel];
    uint32_t n = plan_group_size(x->p, ch->group, world_rank()), first = x->at;
    for (uint32_t i = 0; i < n && count; i++) {
        uint32_t peer = plan_group_at(x->p, ch->group, world_rank(), i);
        if (peer == world_rank())
            continue;
        expect(x, in, REC_SEND, count, peer);
        expect(x, in, REC_RECV, count, peer);
    }
    for (uint32_t i = first + 1; i < x->at && !x->wrong; i++)
        if (standin_calls.at[i].group != standin_calls.at[first].group)
            complain(x, in, "it is not one group");
    expect_group(x, in, first);
}

/* The device answers with 1 for every count of rows. */
static uint64_t uneven(const struct plan *p, const struct plan_instr *in)
{
    uint32_t n = plan_group_size(p, p->channels[in->channel].group, world_rank());
    return p->buffers[p->bases[in->first_base + 2].buffer].bytes / sizeof(int32_t) / n * in->count;
}

/* The same, where they are those of all members. */
static uint64_t of_round(const struct plan *p, const struct plan_instr *in)
{
    uint64_t n = plan_group_size(p, p->channels[in->channel].group, world_rank());
    return p->buffers[p->bases[in->first_base + 2].buffer].bytes / sizeof(int32_t) / (n * n) * in->count;
}

/* To the next member, and from the one before, in one group. */
static void expect_shift(struct expected *x, const struct plan_instr *in)
{
    const uint32_t group = x->p->channels[in->channel].group, n = plan_group_size(x->p, group, world_rank());
    const uint32_t me = plan_group_index(x->p, group, world_rank()), first = x->at;
    expect(x, in, REC_SEND, in->count, plan_group_at(x->p, group, world_rank(), (me + 1) % n));
    expect(x, in, REC_RECV, in->count, plan_group_at(x->p, group, world_rank(), (me + n - 1) % n));
    if (!x->wrong && standin_calls.at[first].group != standin_calls.at[x->at - 1].group)
        complain(x, in, "it is not one group");
}

static void expect_collective(struct expected *x, const struct plan_instr *in)
{
    uint32_t first = x->at;
    switch ((enum plan_op)in->op) {
    case PLAN_ALL_TO_ALL:
        expect_blocks(x, in, in->count);
        return;
    case PLAN_ALL_TO_ALL_V:
        expect_blocks(x, in, uneven(x->p, in));
        return;
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
        expect_blocks(x, in, of_round(x->p, in));
        return;
    case PLAN_SHIFT:
        expect_shift(x, in);
        return;
    case PLAN_SCALARS:
        expect(x, in, REC_ALL_REDUCE, x->p->h->arena_bytes[ARENA_SCALARS] / sizeof(double), UINT32_MAX);
        break;
    default:
        expect(x, in,
               in->op == PLAN_ALL_REDUCE       ? REC_ALL_REDUCE
               : in->op == PLAN_REDUCE_SCATTER ? REC_REDUCE_SCATTER
                                               : REC_ALL_GATHER,
               in->count, UINT32_MAX);
    }
    expect_group(x, in, first);
}

static void expect_message(struct expected *x, const struct plan_instr *in)
{
    uint32_t to = plan_set_at(x->p, in->peer_set, plan_set_index(x->p, in->my_set, world_rank()));
    uint32_t first = x->at;
    if (in->op != PLAN_RECV)
        expect(x, in, REC_SEND, in->count, to);
    if (in->op == PLAN_RECV)
        expect(x, in, REC_RECV, in->count, to);
    if (in->op != PLAN_EXCHANGE)
        return;
    expect(x, in, REC_RECV, in->count, plan_set_at(x->p, in->my_set, plan_set_index(x->p, in->peer_set, world_rank())));
    if (!x->wrong && standin_calls.at[first].group != standin_calls.at[x->at - 1].group)
        complain(x, in, "it is not one group");
}

static void compare(const struct cell *cell, const struct plan *p, const struct plan_list *l)
{
    struct expected x = { .p = p, .cell = cell };
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++) {
        const struct plan_instr *in = &p->instrs[i];
        if (in->op == PLAN_SEND || in->op == PLAN_RECV || in->op == PLAN_EXCHANGE)
            expect_message(&x, in);
        else if (in->op != PLAN_ROUNDS && !plan_is_extra(in) && in->channel != PLAN_NONE &&
                 plan_group_size(p, p->channels[in->channel].group, world_rank()) > 1)
            expect_collective(&x, in);
    }
    if (!x.wrong && x.at != standin_calls.n)
        fail(cell->name, "calls", "more than the plan has");
}

/* ---- spoilt on purpose ----------------------------------------------------------------------------------------- */

/* Two calls of one communicator, one behind the other, that cannot stand for each other. */
static bool swap(struct standin_calls *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        for (uint32_t k = i + 1; k < c->n; k++) {
            struct standin_record *a = &c->at[i], *b = &c->at[k], was = *a;
            if (a->comm != b->comm || a->peer != UINT32_MAX || b->peer != UINT32_MAX)
                continue;
            if (a->op == b->op && a->count == b->count)
                break;
            a->op = b->op;
            a->count = b->count;
            a->type = b->type;
            b->op = was.op;
            b->count = was.count;
            b->type = was.type;
            return true;
        }
    return false;
}

static bool miscount(struct standin_calls *c)
{
    if (c->n)
        c->at[c->n / 2].count++;
    return c->n > 0;
}

static bool drop(struct standin_calls *c)
{
    if (!c->n)
        return false;
    uint32_t i = c->n / 3;
    memmove(&c->at[i], &c->at[i + 1], (c->n - i - 1) * sizeof *c->at);
    c->n--;
    return true;
}

static bool twice(struct standin_calls *c)
{
    struct standin_record last = c->at[c->n - 1];
    vec_add(c, last);
    c->at[c->n - 1].group++;
    return true;
}

static bool elsewhere(struct standin_calls *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (c->at[i].op == REC_SEND) {
            c->at[i].comm ^= 1u << 30;
            return true;
        }
    return false;
}

static const struct {
    const char *name;
    bool (*spoil)(struct standin_calls *c);
} spoilers[] = {
    { "an order that is swapped", swap },
    { "a wrong count", miscount },
    { "a missing call", drop },
    { "a call too many", twice },
    { "a send on another communicator", elsewhere },
};
static bool was_spoilt[sizeof spoilers / sizeof *spoilers];

static void spoil(const struct cell *cell)
{
    for (size_t i = 0; i < sizeof spoilers / sizeof *spoilers; i++) {
        struct standin_job job;
        standin_gather(&job);
        if (spoilers[i].spoil(&job.calls[job.ranks - 1])) {
            was_spoilt[i] = true;
            if (world_rank() == 0 && !standin_judge(&job))
                fail(cell->name, spoilers[i].name, "the judge did not see it");
        }
        standin_job_release(&job);
    }
}

/* Two reductions of two communicators, each in its own order on both ranks, but not in one of both. */
static void cross(void)
{
    struct standin_job job = { .ranks = 2 };
    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t k = 0; k < 2; k++) {
            struct standin_comm c = { .id = k, .n = 2, .members = { 0, 1 } };
            vec_add(&job.comms[r], c);
            vec_add(&job.calls[r],
                    ((struct standin_record){
                        .comm = k ^ r, .op = REC_ALL_REDUCE, .peer = UINT32_MAX, .group = k, .count = 1 }));
        }
    if (!standin_judge(&job))
        fail("two communicators", "crossed", "the judge did not see it");
    standin_job_release(&job);
}

/* ---- cells ----------------------------------------------------------------------------------------------------- */

static enum status read_tokens(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    (void)sample, (void)which, (void)e;
    memset(to, 0, ((const struct ir_graph *)self)->seq_len * sizeof *to);
    return ST_OK;
}

static void run_list(struct exec *x, struct job *j, const struct cell *cell, uint32_t list)
{
    struct exec_data data = { read_tokens, &j->g };
    struct exec_step step = { .list = list, .step = 1, .update = 1, .lr = 1, .data = &data };
    struct standin_job all;
    double scalars[SCALAR_COUNT];
    standin_reset();
    exec_run(x, &step, scalars);
    compare(cell, &j->plan, &j->plan.lists[list]);
    standin_gather(&all);
    const char *why = world_rank() ? NULL : standin_judge(&all);
    if (why)
        fail(cell->name, "calls do not meet", why);
    calls += standin_calls.n;
    standin_job_release(&all);
}

static bool losing;

/* Rank 1 is told that its peers are lost, while nobody waits for them: the job ends with 76, and does not come back here. */
static _Noreturn void lose(void)
{
    if (world_rank() == 1)
        atomic_store(&standin_lost, 1);
    sleep(20);
    exit(99);
}

/* Where the host enqueues calls between captured parts they are recorded after those that are captured. */
static bool in_order(const struct plan *p)
{
    for (uint32_t i = 0; i < p->h->count[PLAN_S_INSTRS]; i++)
        if (p->instrs[i].op == PLAN_ALL_TO_ALL_V || p->instrs[i].op == PLAN_ROUNDS)
            return false;
    return true;
}

static void run_cell(const struct cell *cell, bool spoilt)
{
    struct job j = { .out = { 0 } };
    struct err e = { 0 };
    struct exec *x;
    struct exec_setup setup = { .plan = &j.plan,
                                .graph = &j.g,
                                .machine = &exec_device,
                                .compute = &standin_compute,
                                .comm = &comm_nccl,
                                .local_ranks = world_size(),
                                .local_rank = world_rank(),
                                .clip_norm = 1 };
    enum status st = world_agree(compile(&j, cell, &e), &e);
    if (st == ST_OK) {
        setup.graphs = in_order(&j.plan);
        st = exec_open(&setup, &x, &e);
    }
    if (st != ST_OK) {
        fail(cell->name, "open", e.text);
    } else {
        for (uint32_t l = 0; l < j.plan.h->count[PLAN_S_LISTS]; l++)
            run_list(x, &j, cell, l);
        run_list(x, &j, cell, 0); /* a second step is as the first, also where it is captured */
        if (spoilt)
            spoil(cell);
        rounds = standin_splits > rounds ? standin_splits : rounds;
        if (losing)
            lose();
        exec_close(x);
        if (standin_left())
            fail(cell->name, "at the end", standin_left());
    }
    if (standin_wrong())
        fail(cell->name, "arguments", standin_wrong());
    standin_forget();
    sched_output_release(&j.out);
    ir_graph_release(&j.g);
    cells++;
}

static uint32_t naps; /* of this process */

int nanosleep(const struct timespec *wish, struct timespec *left)
{
    naps++;
    return clock_nanosleep(CLOCK_MONOTONIC, 0, wish, left);
}

/* Naps made while a call is waited for that takes so many seconds. */
static uint32_t naps_in(struct comm *c, double seconds)
{
    naps = 0;
    standin_through = clock_now() + seconds;
    comm__nccl_settle(c, c->world, ncclInProgress, 0);
    standin_through = 0;
    return naps;
}

/* A call takes NCCL's thread some tens of microseconds, less than a nap; one that takes long is not worth a core. */
static void settle(void)
{
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    struct comm c = { .n_channels = 0 };
    config.blocking = config.splitShare = 0;
    ncclGetUniqueId(&id);
    ncclCommInitRankConfig(&c.world, (int)world_size(), id, (int)world_rank(), &config);
    if (naps_in(&c, 200e-6))
        fail("all", "settle", "it naps while a call of 200 microseconds is under way");
    uint32_t often = 0; /* on a busy machine another process may have the core for so long */
    for (int i = 0; i < 100 && !often; i++)
        often = naps_in(&c, 10e-3);
    if (!often)
        fail("all", "settle", "it never naps in 5 milliseconds");
    comm__nccl_settle(&c, c.world, ncclCommFinalize(c.world), 0);
    ncclCommDestroy(c.world);
    standin_forget();
}

/* One rank has no library: no rank calls it, and all say why. */
static void missing(void)
{
    const struct comm_setup setup = { .n_streams = 0 };
    struct comm *c = NULL;
    struct err e = { 0 };
    standin_missing = world_rank() == world_size() - 1;
    if (comm_nccl.open(&setup, &c, &e) != ST_DEVICE || !strstr(e.text, "libnccl.so.2 cannot be loaded"))
        fail("all", "a rank without the library", e.text);
    if (standin_comms.n || standin_left())
        fail("all", "a rank without the library", "the library was called");
    standin_missing = false;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    bool all = argc > 1 && !strcmp(argv[1], "all");
    if (world_init(&argc, &argv, &e) != ST_OK || world_size() > STANDIN_RANKS) {
        fprintf(stderr, "test_nccl: %s\n", e.text);
        return 99;
    }
    losing = argc > 1 && !strcmp(argv[1], "lost");
    struct cell cell;
    missing();
    for (uint32_t i = 0; cell_at(world_size(), all, i, &cell); i++)
        run_cell(&cell, i < 4 || i % 8 == 0);
    cross();
    settle();
    for (size_t i = 0; i < sizeof spoilers / sizeof *spoilers; i++)
        if (!was_spoilt[i])
            fail("all", spoilers[i].name, "was never tried");
    uint64_t failed = bad;
    world_max_u64(&failed, 1);
    if (world_rank() == 0)
        printf("%u strategies, %u calls of rank 0, at most %u splits, %s\n", cells, calls, rounds,
               failed ? "some FAILED" : "all met");
    world_finalize();
    return failed || !cells;
}
