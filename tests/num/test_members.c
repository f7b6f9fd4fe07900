/* The splits of ir/split.h, each operator on the members of a sequence group, joined, against the whole. */
#include <check.h>
#include <stdlib.h>

#include "num/members.h"

/* n, p: the whole group is one tensor group; context parts of one, of two. */
static const uint32_t groups[][2] = { { 2, 2 }, { 4, 2 }, { 2, 1 }, { 4, 4 }, { 8, 2 } };
enum { GROUPS = sizeof groups / sizeof *groups };

static double tolerance(enum ir_op op)
{
    if (machine->compute == IR_BF16)
        return 0.06;
    return op == IR_OP_ROPE ? 1e-5 : 3e-5;
}

static void run(struct member_case c)
{
    static uint64_t seed;
    if (machine->takes && !machine->takes(c.op.op, &c.op.a))
        return;
    if (!ir_op_splits(c.op.op, &c.op.a, c.split, c.p))
        return;
    if (c.op.op == IR_OP_ATTENTION && !machine->positions && !machine->alloc)
        return;
    if (machine->partial && !has_kernels(machine, c.op.op, &c.op.a))
        return;
    c.op.ep = 1;
    run_members(&c, ++seed, tolerance(c.op.op));
}

/* Another number of threads: how work is cut up, not what is computed. */
static bool brief(void)
{
    return machine != machines[0] && machine->compute == IR_F32;
}

/* Where a kernel's threads are run one after the other. */
static bool slow(void)
{
    return machine->order != NULL;
}

/* In groups of the kinds whose parts fit, contiguous and zigzag. */
static void run_groups(struct member_case c)
{
    for (size_t i = 0; i < GROUPS; i++)
        for (int zigzag = 0; zigzag < 2; zigzag++) {
            c.n = groups[i][0];
            c.p = groups[i][1];
            c.zigzag = zigzag != 0;
            const bool few = c.op.op == IR_OP_ATTENTION && slow();
            if ((!zigzag || c.n > c.p) && ((!brief() && !few) || (zigzag && i == 1)))
                run(c);
        }
}

/* ---- by position --------------------------------------------------------------------------------------------------- */

static const int32_t *documents(uint32_t b, uint32_t t)
{
    static int32_t at[1024];
    struct rng r = { t };
    for (uint32_t s = 0; s < b; s++)
        for (uint32_t i = 0, first = 0; i < t; i++) {
            first = rng_below(&r, 9) == 0 ? i : first;
            at[s * t + i] = (int32_t)first;
        }
    return at;
}

static const struct ir_attrs plain = { .heads = 8, .kv_heads = 2, .head_dim = 8, .scale = 0.4f };
static const struct ir_attrs full = { .heads = 8,
                                      .kv_heads = 8,
                                      .head_dim = 8,
                                      .scale = 0.4f,
                                      .v_head_dim = 16,
                                      .window = 11,
                                      .score_cap = 3,
                                      .flags = IR_SINKS };

/* The gradient of tokens by position: rows of sequences before tokens too, where nothing is joined over a tensor group. */
START_TEST(by_position)
{
    struct member_case c = { .op = { .b = 2, .t = 16 } };
    for (int major = 0; major < 2; major++) {
        c.batch_major = major != 0;
        for (uint32_t n = 1; n <= 4; n *= 2)
            for (int zigzag = 0; zigzag < 2; zigzag++) {
                c.n = n;
                c.p = 1;
                c.zigzag = zigzag != 0;
                c.op.op = IR_OP_ROPE;
                c.op.a = (struct ir_attrs){ .heads = 3, .head_dim = 8, .theta = 1e4f };
                run(c);
                c.op.op = IR_OP_POS_EMBED;
                c.op.a = (struct ir_attrs){ .positions = 19, .features = 24 };
                run(c);
                c.op.op = IR_OP_ATTENTION;
                c.op.a = plain;
                if (slow() && (n != 2 || !zigzag))
                    continue;
                run(c);
                c.op.a = full;
                c.op.document = documents(2, 16);
                run(c);
                c.op.document = NULL;
            }
    }
}
END_TEST

/* Runs that end within a block of 64, tokens of two runs in a member, one sequence, T = members. */
START_TEST(lengths)
{
    static const struct {
        uint32_t b, t, n, p;
    } sizes[] = {
        { 2, 280, 2, 1 }, { 1, 264, 2, 2 }, { 1, 12, 2, 1 }, { 3, 4, 4, 1 }, { 2, 24, 6, 3 }, { 1, 4, 4, 2 }
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int zigzag = 0; zigzag < 2; zigzag++) {
            struct member_case c = { .op = { .op = IR_OP_ROPE, .b = sizes[i].b, .t = sizes[i].t },
                                     .n = sizes[i].n,
                                     .p = sizes[i].p,
                                     .zigzag = zigzag != 0 };
            if (zigzag && (c.n == c.p || c.op.t % (2 * c.n / c.p) != 0))
                continue;
            c.op.a = (struct ir_attrs){ .heads = 1, .head_dim = 8, .theta = 1e4f };
            run(c);
            c.op.op = IR_OP_ATTENTION;
            if (slow() && c.op.t > 24)
                continue;
            c.op.a = (struct ir_attrs){ .heads = 6, .kv_heads = 3, .head_dim = 8, .scale = 0.4f };
            run(c);
            c.split = IR_HEADS;
            run(c);
        }
}
END_TEST

/* ---- blocks of parameters ------------------------------------------------------------------------------------------ */

START_TEST(heads)
{
    struct member_case c = { .op = { .op = IR_OP_ATTENTION, .b = 2, .t = 16 }, .split = IR_HEADS };
    c.op.a = plain;
    run_groups(c);
    c.op.a = full;
    c.op.document = documents(2, 16);
    run_groups(c);
    c.op.document = NULL;
    c.op.a = (struct ir_attrs){ .heads = 4, .kv_heads = 1, .head_dim = 8, .scale = 0.4f }; /* one for all, or for two */
    run_groups(c);
    c.split = IR_WHOLE;
    run_groups(c);
    c.split = IR_HEADS;
    c.op.op = IR_OP_ROPE;
    c.op.a = (struct ir_attrs){ .heads = 4, .head_dim = 8, .theta = 1e4f, .rotary_dim = 4 };
    run_groups(c);
    c.op.op = IR_OP_RMSNORM;
    c.op.a = (struct ir_attrs){ .heads = 4, .features = 8, .eps = 1e-5f, .flags = IR_ONE_PLUS };
    run_groups(c);
    c.op.op = IR_OP_LAYERNORM;
    c.op.a = (struct ir_attrs){ .heads = 4, .features = 8, .eps = 1e-5f };
    run_groups(c);
    c.op.a.flags = IR_PER_HEAD | IR_NO_BIAS;
    run_groups(c);
    c.op.op = IR_OP_JOIN_HEADS;
    c.op.a = (struct ir_attrs){ .heads = 4, .head_dim = 8, .rotary_dim = 3 };
    run_groups(c);
}
END_TEST

START_TEST(products)
{
    struct member_case c = { .op = { .op = IR_OP_LINEAR, .b = 2, .t = 16 } };
    for (uint32_t flags = 0; flags < 4; flags++)
        for (int split = IR_ROWS_OF_W; split <= IR_COLUMNS_OF_W; split++) {
            c.split = (enum ir_split)split;
            c.op.a = (struct ir_attrs){ .in_features = 24, .out_features = 32 };
            c.op.a.flags = (flags & 1 ? IR_BIAS : 0) | (flags & 2 ? IR_TRANSPOSED : 0);
            run_groups(c);
        }
}
END_TEST

START_TEST(width)
{
    static const struct op_case cases[] = {
        { .op = IR_OP_GELU, .a = { .features = 32 } },
        { .op = IR_OP_ACT, .a = { .features = 32, .act = IR_ACT_RELU2 } },
        { .op = IR_OP_SWIGLU, .a = { .features = 32 } },
        { .op = IR_OP_SCALE, .a = { .features = 32, .scale = 3 } },
        { .op = IR_OP_CLAMP, .a = { .features = 32, .clamp = 0.5f } },
        { .op = IR_OP_RMSNORM, .a = { .features = 32, .eps = 1e-5f } },
        { .op = IR_OP_RMSNORM, .a = { .features = 32, .eps = 1e-5f, .flags = IR_ONE_PLUS | IR_ROUND_FIRST } },
        { .op = IR_OP_RMSNORM, .a = { .features = 2080, .eps = 1e-5f } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct member_case c = { .op = cases[i], .split = IR_WIDTH };
        c.op.b = 2;
        c.op.t = 16;
        run_groups(c);
    }
}
END_TEST

START_TEST(words)
{
    static const uint32_t vocabs[] = { 16, 13, 1030, 5003 };
    static const struct ir_attrs kinds[] = { { 0 },
                                             { .flags = IR_BIAS, .scale = 0.5f, .score_cap = 2 },
                                             { .score_cap = 3 } };
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++) {
        struct member_case c = { .op = { .op = IR_OP_EMBED, .b = 2, .t = 16 }, .split = IR_WORDS };
        c.op.a = (struct ir_attrs){ .features = 8, .vocab = vocabs[i] };
        run_groups(c);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            c.op.op = IR_OP_HEAD_LOSS;
            c.op.a = kinds[k];
            c.op.a.features = 8;
            c.op.a.vocab = vocabs[i];
            run_groups(c);
        }
    }
}
END_TEST

/* ---- counts, ring -------------------------------------------------------------------------------------------------- */

START_TEST(counts)
{
    static const uint32_t flags[] = { 0, IR_NORM_TOPK };
    for (size_t i = 0; i < 4; i++) {
        struct member_case c = { .op = { .op = IR_OP_ROUTER, .b = 2, .t = 16 }, .split = IR_COUNTS };
        c.op.a = (struct ir_attrs){ .experts = 5, .top_k = 2, .features = 24, .flags = flags[i % 2] };
        c.op.a.aux_coef = i < 2 ? 0.3f : 0;
        run_groups(c);
    }
}
END_TEST

/* Losses of other kinds: of logits, which needs no counts; of sequences, of the best by score alone. */
START_TEST(router_losses)
{
    static const struct ir_attrs kinds[] = {
        { .z_coef = 0.2f },
        { .aux_coef = 0.3f, .z_coef = 0.2f },
        { .flags = IR_SIGMOID | IR_SEQUENCE_LOSS, .aux_coef = 0.7f },
        { .flags = IR_SIGMOID | IR_SEQUENCE_LOSS | IR_SELECT_BIAS, .groups = 3, .top_groups = 2, .aux_coef = 0.7f },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct member_case c = { .op = { .op = IR_OP_ROUTER, .b = 2, .t = 16, .a = kinds[i] } };
        c.op.a.experts = 6;
        c.op.a.top_k = 2;
        c.op.a.features = 24;
        c.split = c.op.a.aux_coef > 0 ? IR_COUNTS : IR_WHOLE;
        run_groups(c);
        c.sets = 2; /* a capacity reads the other one */
        if (ir_op_counts_apart(&c.op.a))
            run_groups(c);
    }
}
END_TEST

START_TEST(ring)
{
    static const uint32_t lengths[] = { 16, 264 }, rings[][2] = { { 2, 1 }, { 4, 2 }, { 4, 1 } };
    for (size_t i = 0; i < (brief() || slow() ? 1 : 2); i++)
        for (int kind = 0; kind < 4; kind++) {
            struct member_case c = { .op = { .op = IR_OP_ATTENTION, .b = 2, .t = lengths[i] }, .ring = true };
            c.op.a = kind & 1 ? full : plain;
            c.op.document = kind & 1 && i == 0 ? documents(2, 16) : NULL;
            c.split = kind & 2 ? IR_HEADS : IR_WHOLE;
            for (size_t g = 0; g < sizeof rings / sizeof *rings; g++)
                for (int zigzag = 0; zigzag < 2; zigzag++) {
                    c.n = rings[g][0];
                    c.p = rings[g][1];
                    c.zigzag = zigzag != 0;
                    if ((i && g > 0) || (slow() && (g > 1 || kind == 1 || kind == 2)))
                        continue;
                    if ((c.p == 1 || c.split == IR_HEADS) && (i == 0 || kind < 2))
                        run(c);
                }
        }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("members");
    TCase *t = tcase_create(machine->name);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, by_position);
    tcase_add_test(t, lengths);
    tcase_add_test(t, heads);
    tcase_add_test(t, products);
    tcase_add_test(t, width);
    tcase_add_test(t, words);
    tcase_add_test(t, counts);
    tcase_add_test(t, router_losses);
    tcase_add_test(t, ring);
    add_routes(t);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return run_machines(suite);
}
