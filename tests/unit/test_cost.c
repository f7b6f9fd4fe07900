/* The cost model and the contention of links, against values computed by hand. */
#include <math.h>

#include "sched/cost/simulate.h"
#include "compiled.h"
#include "tests/unit/suite.h"

/* A machine of round numbers: a byte takes a nanosecond everywhere, an operation too. */
static struct machine round_machine(void)
{
    struct machine m;
    machine_generic(&m);
    m.flops[0] = m.flops[1] = m.bandwidth = 1e9;
    m.launch = m.sum = 0;
    m.ring = 0;
    for (int l = 0; l < LINK_COUNT; l++)
        m.links[l] = (struct machine_links){ 0, 1e9, 0 };
    return m;
}

static const struct ir_attrs linear = { .in_features = 8, .out_features = 16 };

static double linear_time(const struct machine *m, uint32_t t)
{
    return cost_kernel(
        m, &(struct cost_kernel){
               .op = IR_OP_LINEAR, .pass = IR_PASS_F, .attrs = &linear, .b = 1, .t = t, .ep = 1, .compute = IR_F32 });
}

START_TEST(roofline)
{
    struct machine m = round_machine();
    ck_assert_double_eq_tol(linear_time(&m, 4), 2 * 4 * 8 * 16 * 1e-9, 1e-15);
    m.launch = 1e-6;
    m.bandwidth = 1e8; /* now bytes count: (4*8 + 8*16 + 4*16) float32 */
    ck_assert_double_eq_tol(linear_time(&m, 4), 1e-6 + 4 * (4 * 8 + 8 * 16 + 4 * 16) * 1e-8, 1e-12);
    ck_assert_double_eq_tol(cost_elements(&m, MACHINE_UPDATE + OPT_ADAMW, 100, IR_BF16), 1e-6 + 3000 * 1e-8, 1e-12);
}
END_TEST

START_TEST(points)
{
    struct machine m = round_machine();
    /* width 4: 1 and 4 Gflop/s; width 16: 16 Gflop/s */
    vec_add(&m.points, ((struct machine_point){ IR_OP_LINEAR, IR_PASS_F, IR_F32, 16, 1e6, 1e6 / 16e9 }));
    vec_add(&m.points, ((struct machine_point){ IR_OP_LINEAR, IR_PASS_F, IR_F32, 4, 16e3, 16e3 / 4e9 }));
    vec_add(&m.points, ((struct machine_point){ IR_OP_LINEAR, IR_PASS_F, IR_F32, 4, 1e3, 1e3 / 1e9 }));
    machine_sort(&m);
    ck_assert_double_eq_tol(linear_time(&m, 4) * 1e9, 1024 / pow(4, log(1.024) / log(16)), 1e-6);
    ck_assert_double_eq_tol(linear_time(&m, 2) * 1e9, 512, 1e-6); /* narrower and smaller than all */
    double wide = 2 * 8 * 8 * 16.0, at4 = wide / pow(4, log(wide / 1e3) / log(16)), at16 = wide / 16;
    ck_assert_double_eq_tol(linear_time(&m, 8) * 1e9, sqrt(at4 * at16), 1e-6); /* width 8: half way */
    machine_release(&m);
}
END_TEST

START_TEST(topology)
{
    struct machine m = round_machine();
    m.ranks_per_node = 4;
    m.nodes_per_island = 2;
    ck_assert_int_eq(machine_link_between(&m, 0, 3), LINK_NODE);
    ck_assert_int_eq(machine_link_between(&m, 3, 4), LINK_NETWORK);
    ck_assert_int_eq(machine_link_between(&m, 7, 8), LINK_ISLANDS);
    m.nodes_per_island = 0;
    ck_assert_int_eq(machine_link_between(&m, 7, 8), LINK_NETWORK);
}
END_TEST

/* The first instruction of a kind on a class; NULL. */
static const struct plan_instr *first(const struct plan *p, enum plan_op op)
{
    const struct plan_list *l = &p->lists[0];
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++)
        if (p->instrs[i].op == op)
            return &p->instrs[i];
    return NULL;
}

static struct cost_transfer transfer_of(const struct compiled *c, const struct machine *m, enum plan_op op)
{
    struct cost_class k;
    struct cost_transfer t;
    const struct plan_instr *in = first(&c->plans[0], op);
    ck_assert_ptr_nonnull(in);
    cost_class_init(&k, m, &c->plans[0], &c->g);
    ck_assert(cost_transfer(&k, &c->plans[0].lists[0], in, &t));
    cost_class_release(&k);
    return t;
}

START_TEST(transfers)
{
    struct compiled c;
    struct machine m = round_machine();
    compiled_init(&c, MODEL_LLAMA,
                  "[{\"op\":\"layout\",\"pp\":2,\"dp\":4},{\"op\":\"schedule\",\"kind\":\"1f1b\","
                  "\"microbatches\":2}]",
                  false);
    double send = 4.0 * (double)first(&c.plans[0], PLAN_SEND)->count;
    double n = 4.0 * (double)first(&c.plans[0], PLAN_ALL_REDUCE)->count;
    m.links[LINK_NODE].latency = 1e-3;
    m.sum = 1e-12;
    ck_assert_double_eq_tol(transfer_of(&c, &m, PLAN_SEND).seconds, 1e-3 + send * 1e-9, 1e-12);
    /* rank = i + 2 r: of 4 members every one sends a quarter to each other, twice; or all at once where it is small */
    double small = 4 * n <= 16384, bytes = small ? 3 * n : 1.5 * n, rounds = small ? 1 : 2, sums = small ? 4 * n : n;
    ck_assert_double_eq_tol(transfer_of(&c, &m, PLAN_ALL_REDUCE).seconds, rounds * 1e-3 + bytes * 1e-9 + sums * 1e-12,
                            1e-12);
    /* two nodes: of three peers two are behind the network, and its port is the busy one */
    m.ranks_per_node = 4;
    m.links[LINK_NETWORK] = (struct machine_links){ 2e-3, 1e8, 0 };
    struct cost_transfer t = transfer_of(&c, &m, PLAN_ALL_REDUCE);
    ck_assert_double_eq_tol(t.seconds, rounds * 2e-3 + bytes * 2 / 3 * 1e-8 + sums * 1e-12, 1e-12);
    ck_assert_double_eq_tol(t.port[LINK_NETWORK], bytes * 2 / 3 * 1e-8 / t.seconds, 1e-9);
    ck_assert_double_eq_tol(t.port[LINK_NODE], bytes / 3 * 1e-9 / t.seconds, 1e-9);
    /* what a node has together is half of what its two members could send */
    m.links[LINK_NETWORK].shared = 1e8;
    ck_assert_double_eq_tol(transfer_of(&c, &m, PLAN_ALL_REDUCE).seconds,
                            rounds * 2e-3 + 2 * bytes * 2 / 3 * 1e-8 + sums * 1e-12, 1e-12);
    compiled_release(&c);
}
END_TEST

/* Replicas on one node send at the same time: what the node has together is divided by those of them that are there. */
START_TEST(pairs_of_a_node)
{
    struct compiled c;
    compiled_init(&c, MODEL_LLAMA,
                  "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"outer\":\"pp\"},{\"op\":\"schedule\",\"kind\":\"1f1b\","
                  "\"microbatches\":2}]",
                  false);
    const double bytes = 4.0 * (double)first(&c.plans[0], PLAN_SEND)->count;
    for (uint32_t per_node = 1; per_node <= 4; per_node *= 2) {
        struct machine m = round_machine();
        m.ranks_per_node = per_node;
        m.links[LINK_NETWORK] = (struct machine_links){ 0, 1e9, 1e9 };
        ck_assert_double_eq_tol(transfer_of(&c, &m, PLAN_SEND).seconds, per_node * bytes * 1e-9, 1e-12);
    }
    compiled_release(&c);
}
END_TEST

/* A shift goes to one member: over the farthest link of the group, and as long as a message there; a gather goes to all. */
START_TEST(shifts)
{
    static const uint32_t ranks[] = { 0, 1, 2, 3 };
    struct machine m = round_machine();
    m.links[LINK_NETWORK] = (struct machine_links){ 0, 1e8, 0 };
    for (uint32_t per_node = 2; per_node <= 4; per_node += 2) {
        m.ranks_per_node = per_node;
        const double slow = per_node < 4 ? 1e-8 : 1e-9;
        ck_assert_double_eq_tol(cost_alone(&m, PLAN_SHIFT, ranks, 4, 0, 1000).seconds, 1000 * slow, 1e-12);
        ck_assert_double_eq_tol(cost_alone(&m, PLAN_ALL_GATHER, ranks, 4, 0, 1000).seconds,
                                (per_node < 4 ? 2 : 3) * 1000 * slow, 1e-12);
    }
}
END_TEST

/* Groups of neighbours on one node each: within them the fast link, over copies the network, for a shard alone. */
START_TEST(groups_on_a_node)
{
    struct compiled c;
    struct machine m = round_machine();
    compiled_init(&c, MODEL_LLAMA, "[{\"op\":\"layout\",\"dp\":4,\"zero\":3,\"zero_group\":2}]", false);
    m.ranks_per_node = 2;
    m.links[LINK_NETWORK] = (struct machine_links){ 0, 1e8, 0 };
    const double shard = 4.0 * (double)first(&c.plans[0], PLAN_REDUCE_SCATTER)->count;
    ck_assert_uint_eq(first(&c.plans[0], PLAN_ALL_REDUCE)->count, first(&c.plans[0], PLAN_REDUCE_SCATTER)->count);
    ck_assert_double_eq_tol(transfer_of(&c, &m, PLAN_REDUCE_SCATTER).seconds, shard * 1e-9, 1e-12);
    ck_assert_double_eq_tol(transfer_of(&c, &m, PLAN_ALL_REDUCE).seconds, shard * 1e-8, 1e-12);
    ck_assert_double_eq_tol(transfer_of(&c, &m, PLAN_ALL_REDUCE).port[LINK_NETWORK], 1, 1e-9);
    compiled_release(&c);
}
END_TEST

/* Rows travel for the experts of a device's own tokens: as long with half of the tokens of twice the sequences, and with a capacity that is
 * counted over whole sequences. */
START_TEST(rows_of_experts)
{
    static const struct {
        enum compiled_model model;
        const char *strategy;
    } jobs[] = { { MODEL_DROPLESS, "[{\"op\":\"layout\",\"dp\":4,\"ep\":2}]" },
                 { MODEL_DROPLESS, "[{\"op\":\"layout\",\"cp\":2,\"dp\":2,\"ep\":2}]" },
                 { MODEL_MOE, "[{\"op\":\"layout\",\"cp\":2,\"dp\":2,\"ep\":2}]" } };
    struct machine m = round_machine();
    for (int i = 0; i < 3; i++) {
        struct compiled c;
        compiled_init(&c, jobs[i].model, jobs[i].strategy, false);
        /* 4 sequences of 8 tokens, 2 choices each, half of them with the other: rows of 32 float32 */
        const double bytes = 4 * 8 * 2 / 2 * 32 * 4;
        const struct cost_transfer t = transfer_of(&c, &m, PLAN_ALL_TO_ALL_V);
        ck_assert_double_eq_tol(t.seconds, m.links[LINK_NODE].latency + bytes / m.links[LINK_NODE].bandwidth, 1e-12);
        compiled_release(&c);
    }
}
END_TEST

/* Two reductions on streams of their own begin when a backward ends, one after the other; computing is free. */
static double step_of(struct compiled *c, const struct machine *m, double compute, double *reductions)
{
    struct simulate_input in = { m, c->plans, c->out.n_classes, &c->g, "train" };
    struct simulate_change change = { .scale = { compute, 1, 1, 1, 1, 1 } };
    struct timeline t;
    for (uint32_t i = 0; i < c->out.n_classes; i++)
        cost_fill(m, &c->g, &c->plans[i], c->out.classes[i].blob);
    simulate_run(&in, &change, &t);
    struct cost_class k;
    cost_class_init(&k, m, &c->plans[0], &c->g);
    *reductions = 0;
    for (uint32_t i = 0; i < t.classes[0].n; i++)
        if (simulate_kind_of(&c->plans[0], &c->plans[0].instrs[i]) == SIMULATE_REDUCE)
            *reductions += cost_instr(&k, &c->plans[0].lists[0], &c->plans[0].instrs[i]);
    cost_class_release(&k);
    double step = t.step;
    timeline_release(&t);
    return step;
}

START_TEST(contention)
{
    static const char strategy[] =
        "[{\"op\":\"replicate\",\"filter\":{\"PP\":0},\"devices\":[0,1],\"reduce_stream\":\"a\"},"
        "{\"op\":\"replicate\",\"filter\":{\"PP\":1},\"devices\":[0,1],\"reduce_stream\":\"b\"}]";
    struct compiled c;
    struct machine m = round_machine();
    double all, step;
    compiled_init(&c, MODEL_LLAMA, strategy, false);
    step = step_of(&c, &m, 0, &all);
    ck_assert_double_eq_tol(step, all, 1e-12); /* they share one port: together as long as one after the other */
    m.links[LINK_NODE].latency = 1;            /* the port is idle nearly all the time: no contention */
    step = step_of(&c, &m, 0, &all);
    ck_assert(step < 0.75 * all);
    m = round_machine();
    m.transfer_beside = 0.5; /* nothing computes beside them but at the end of the backward */
    double slow = step_of(&c, &m, 1, &all), full;
    m.transfer_beside = 1;
    full = step_of(&c, &m, 1, &all);
    ck_assert(slow >= full);
    m.compute_beside = 0.5;
    ck_assert(step_of(&c, &m, 1, &all) > full);
    compiled_release(&c);
}
END_TEST

/* How long class 0 computes while instruction i of it is under way. */
static double computes_under(const struct timeline *t, const struct plan *p, uint32_t i)
{
    const struct timeline_span *s = t->classes[0].spans;
    double sum = 0;
    for (uint32_t r = 0; r < t->classes[0].n; r++) {
        const enum plan_op op = (enum plan_op)p->instrs[r].op;
        if (op == PLAN_RUN || op == PLAN_SUMSQ || op == PLAN_UPDATE)
            sum += fmax(0, fmin(s[r].end, s[i].end) - fmax(s[r].start, s[i].start));
    }
    return sum;
}

/* Time that class 0 computes. moved: seconds alone, latency apart, of what its collectives move meanwhile; added: how long additions are
 * under way meanwhile. */
struct busy {
    double seconds, moved, added;
};
static struct busy busy_of(struct compiled *c, const struct machine *m)
{
    const struct plan *p = &c->plans[0];
    struct simulate_input in = { m, c->plans, c->out.n_classes, &c->g, "train" };
    struct timeline t;
    struct cost_class k;
    for (uint32_t i = 0; i < c->out.n_classes; i++)
        cost_fill(m, &c->g, &c->plans[i], c->out.classes[i].blob);
    simulate_run(&in, NULL, &t);
    cost_class_init(&k, m, p, &c->g);
    struct busy busy = { .seconds = t.classes[0].busy };
    for (uint32_t i = 0; i < t.classes[0].n; i++) {
        struct cost_transfer x;
        const double length = t.classes[0].spans[i].end - t.classes[0].spans[i].start;
        if (p->instrs[i].op == PLAN_ADD)
            busy.added += computes_under(&t, p, i);
        else if (cost_transfer(&k, &p->lists[0], &p->instrs[i], &x) && length > 0)
            busy.moved += computes_under(&t, p, i) * (x.seconds - x.latency) / length;
    }
    cost_class_release(&k);
    timeline_release(&t);
    return busy;
}

/* What computing and transfers cost each other on a machine without processors for them: what moves costs those that move it, as much
 * as is moved; what only waits for a message costs nothing. */
START_TEST(beside)
{
    static const char replicas[] =
        "[{\"op\":\"replicate\",\"filter\":{\"PP\":0},\"devices\":[0,1],\"reduce_stream\":\"a\"},"
        "{\"op\":\"replicate\",\"filter\":{\"PP\":1},\"devices\":[0,1],\"reduce_stream\":\"a\"}]";
    struct compiled c;
    struct machine m = round_machine();
    compiled_init(&c, MODEL_LLAMA, replicas, false);
    for (int l = 0; l < LINK_COUNT; l++)
        m.links[l] = (struct machine_links){ 1e-6, 1e10, 0 };
    m.transfer_beside = 0.5;
    const double free = busy_of(&c, &m).seconds;
    m.compute_beside = 0.6;
    const struct busy slow = busy_of(&c, &m);
    ck_assert(slow.moved > 0);
    ck_assert_double_eq_tol(slow.seconds - free, (1 - 0.6) / 0.5 * slow.moved, 1e-6 * free);
    for (int l = 0; l < LINK_COUNT; l++)
        m.links[l] = (struct machine_links){ 1e-5, 1e18, 0 };
    ck_assert_double_eq_tol(busy_of(&c, &m).seconds, free, 1e-6 * free); /* nothing but latency */
    compiled_release(&c);
}
END_TEST

/* Gradients that are reduced after each microbatch are added by the processor that computes: each takes half of its time. */
START_TEST(additions_beside)
{
    static const char each[] = "[{\"op\":\"layout\",\"dp\":2,\"zero\":2,\"reduce\":\"each\"},"
                               "{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]";
    struct compiled c;
    struct machine m = round_machine();
    compiled_init(&c, MODEL_LLAMA, each, false);
    const double free = busy_of(&c, &m).seconds;
    m.compute_beside = 0.6;
    const struct busy slow = busy_of(&c, &m);
    ck_assert(slow.added > 0);
    ck_assert_double_eq_tol(slow.seconds - free, (1 - 0.6) * slow.moved + 0.5 * slow.added, 1e-6 * free);
    compiled_release(&c);
}
END_TEST

/* A message that one end sends while it computes on: the other one waits for it longer, here for the first of a forward and the last
 * of a backward. Bytes move no slower, as the other end does not compute. */
START_TEST(latency_beside)
{
    static const char stages[] = "[{\"op\":\"layout\",\"pp\":2,\"dp\":1},"
                                 "{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]";
    struct compiled c;
    struct machine m = round_machine();
    double all;
    compiled_init(&c, MODEL_LLAMA, stages, false);
    const double step = step_of(&c, &m, 1, &all);
    m.transfer_beside = 0.5;
    ck_assert_double_eq_tol(step_of(&c, &m, 1, &all), step, 1e-9);
    m.latency_beside = 1e-5;
    ck_assert_double_eq_tol(step_of(&c, &m, 1, &all) - step, 2e-5, 1e-9);
    compiled_release(&c);
}
END_TEST

/* What stands in the way of computation in a job, and is in its critical path. */
static const struct {
    enum compiled_model model;
    const char *layout;
    enum simulate_kind kind;
    const char *name;
} accounted[] = {
    { MODEL_MOE, "\"ep\":2", SIMULATE_ALL_TO_ALL, "all-to-all of stage 1" },
    { MODEL_LLAMA, "\"tp\":2,\"cp\":2", SIMULATE_REGION, "gathers of activations of stage 1" },
};

START_TEST(accounts)
{
    struct compiled c;
    struct machine m = round_machine();
    char strategy[256];
    bool named = false;
    snprintf(strategy, sizeof strategy,
             "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,%s},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4}]",
             accounted[_i].layout);
    compiled_init(&c, accounted[_i].model, strategy, false);
    for (uint32_t i = 0; i < c.out.n_classes; i++)
        cost_fill(&m, &c.g, &c.plans[i], c.out.classes[i].blob);
    struct simulate_input in = { &m, c.plans, c.out.n_classes, &c.g, "train" };
    struct timeline t;
    struct simulate_class k[8];
    struct simulate_path path = { 0 };
    ck_assert_uint_le(c.out.n_classes, 8);
    simulate_run(&in, NULL, &t);
    simulate_account(&in, &t, k);
    for (uint32_t i = 0; i < c.out.n_classes; i++) {
        double sum = k[i].compute + k[i].idle;
        for (int j = 0; j < SIMULATE_KINDS; j++) {
            sum += k[i].exposed[j];
            ck_assert(k[i].exposed[j] <= k[i].total[j] * (1 + 1e-9));
        }
        ck_assert_double_eq_tol(sum, t.step, 1e-9 * t.step);
        ck_assert(k[i].exposed[accounted[_i].kind] > 0);
    }
    simulate_critical(&in, &t, &path);
    double sum = 0;
    for (uint32_t i = 0; i < path.n; i++) {
        sum += path.at[i].seconds;
        named = named || strcmp(path.at[i].name, accounted[_i].name) == 0;
    }
    ck_assert(named);
    ck_assert_double_eq_tol(sum, t.step, 1e-9 * t.step); /* a chain without gaps from the start to the end */
    vec_free(&path);
    timeline_release(&t);
    compiled_release(&c);
}
END_TEST

/* How much of the transfers of tensors of this kind, in this pass, runs under runs of pass `under`; -1: there are none. */
static double hidden_under(const struct compiled *c, const struct timeline *t, enum plan_op op, enum ir_pass pass,
                           enum ir_pass under)
{
    double all = 0, hidden = 0;
    for (uint32_t k = 0; k < t->n_classes; k++) {
        const struct plan *p = &c->plans[k];
        const struct timeline_class *x = &t->classes[k];
        const struct plan_instr *in = &p->instrs[p->lists[x->list].first_instr];
        for (uint32_t i = 0; i < x->n; i++) {
            if (in[i].op != op || in[i].pass != pass || !plan_moves_tensor(p, &in[i]))
                continue;
            all += x->spans[i].end - x->spans[i].start;
            for (uint32_t r = 0; r < x->n; r++) {
                double lo = fmax(x->spans[r].start, x->spans[i].start), hi = fmin(x->spans[r].end, x->spans[i].end);
                if (in[r].op == PLAN_RUN && in[r].pass == under && hi > lo)
                    hidden += hi - lo;
            }
        }
    }
    return all > 0 ? hidden / all : -1;
}

/* Tensor parallelism: on a stream of its own the sum of a region's gradients travels under the gradients of its weights, and what is
 * gathered again for these under those of its inputs; the step is shorter than with all on one stream. */
START_TEST(regions_overlap)
{
    static const char *const streams[] = { "default_stream", "tp" };
    double step[2];
    for (int i = 0; i < 2; i++) {
        struct compiled c;
        struct machine m = round_machine();
        struct timeline t;
        char strategy[200];
        snprintf(strategy, sizeof strategy,
                 "[{\"op\":\"layout\",\"tp\":4,\"dp\":1,\"tp_stream\":\"%s\"},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                 "\"microbatches\":2}]",
                 streams[i]);
        compiled_init(&c, MODEL_LLAMA, strategy, false);
        for (uint32_t k = 0; k < c.out.n_classes; k++)
            cost_fill(&m, &c.g, &c.plans[k], c.out.classes[k].blob);
        struct simulate_input in = { &m, c.plans, c.out.n_classes, &c.g, "train" };
        simulate_run(&in, NULL, &t);
        step[i] = t.step;
        struct simulate_path path = { 0 };
        simulate_critical(&in, &t, &path);
        bool named = false;
        for (uint32_t k = 0; k < path.n; k++)
            named = named || !strncmp(path.at[k].name, "gathers of activations", 22);
        ck_assert_msg(named, "no gathers of activations are critical");
        vec_free(&path);
        const double sums = hidden_under(&c, &t, PLAN_REDUCE_SCATTER, IR_PASS_B, IR_PASS_BW);
        const double again = hidden_under(&c, &t, PLAN_ALL_GATHER, IR_PASS_BW, IR_PASS_BI);
        if (i)
            ck_assert_msg(sums > 0.99 && again > 0.99, "%g of the sums, %g of the gathers are hidden", sums, again);
        else
            ck_assert_msg(sums <= 0 && again < 0, "%g of the sums, %g of the gathers are hidden", sums, again);
        timeline_release(&t);
        compiled_release(&c);
    }
    ck_assert_msg(step[1] < step[0], "%g seconds, on one stream %g", step[1], step[0]);
}
END_TEST

/* What is remembered of pairs of sets does not grow with the sets of a plan, of which zero groups make one for every few ranks. */
START_TEST(many_sets)
{
    struct machine m = round_machine();
    struct sched_input in = compiled_settings();
    struct compiled c;
    struct cost_class cost;
    struct cost_transfer t;
    uint32_t sends = 0;
    in.batch_size = 512;
    compiled_as(&c, MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":512,\"zero\":3,\"zero_group\":2}]", false, in);
    const struct plan *p = &c.plans[0];
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    const uint64_t before = mem_stats().live_bytes;
    ck_assert_uint_ge(p->h->count[PLAN_S_SETS], 256);
    cost_class_init(&cost, &m, p, &c.g);
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++)
        sends += cost_transfer(&cost, l, &p->instrs[i], &t) && p->instrs[i].op == PLAN_SEND;
    ck_assert_uint_gt(sends, 0);
    ck_assert_uint_lt(mem_stats().live_bytes - before, 64 * p->h->count[PLAN_S_SETS]);
    cost_class_release(&cost);
    compiled_release(&c);
    machine_release(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cost");
    TCase *tc = tcase_create("cost");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, roofline);
    tcase_add_test(tc, points);
    tcase_add_test(tc, topology);
    tcase_add_test(tc, transfers);
    tcase_add_test(tc, pairs_of_a_node);
    tcase_add_test(tc, shifts);
    tcase_add_test(tc, groups_on_a_node);
    tcase_add_test(tc, rows_of_experts);
    tcase_add_test(tc, many_sets);
    tcase_add_test(tc, contention);
    tcase_add_test(tc, beside);
    tcase_add_test(tc, additions_beside);
    tcase_add_test(tc, latency_beside);
    tcase_add_loop_test(tc, accounts, 0, sizeof accounted / sizeof *accounted);
    tcase_add_test(tc, regions_overlap);
    suite_add_tcase(s, tc);
    return suite_run(s);
}
