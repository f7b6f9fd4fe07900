/* Parts of operators: who has which tokens, which block, and how much work the parts are together. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "ir/split.h"
#include "tests/unit/suite.h"

enum { MOST_T = 96 };

/* Positions of a member, in the order of its rows; returns how many. */
static uint32_t positions(const struct ir_rows *r, uint32_t member, uint32_t at[MOST_T])
{
    struct ir_run run[2];
    uint32_t n = 0;
    ir_rows_of(r, member, run);
    ck_assert(run[0].count > 0);
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; i < run[k].count; i++)
            at[n++] = run[k].first + i;
    for (uint32_t i = 1; i < n; i++)
        ck_assert_uint_lt(at[i - 1], at[i]);
    return n;
}

static void share_tokens(uint32_t t, uint32_t c, uint32_t p, uint32_t zigzag)
{
    const struct ir_rows all = { t, c * p, c, zigzag }, parts = { t, c, c, zigzag };
    uint32_t seen[MOST_T] = { 0 }, at[MOST_T], part[MOST_T];
    for (uint32_t i = 0; i < c; i++) {
        uint32_t from = 0;
        ck_assert_uint_eq(positions(&parts, i, part), t / c);
        for (uint32_t j = 0; j < p; j++) {
            const uint32_t n = positions(&all, i * p + j, at);
            ck_assert_uint_eq(n, t / c / p);
            ck_assert(memcmp(at, part + from, n * sizeof *at) ==
                      0); /* joined in the order of members: those of the part */
            from += n;
            for (uint32_t k = 0; k < n; k++)
                seen[at[k]]++;
        }
    }
    for (uint32_t i = 0; i < t; i++)
        ck_assert_uint_eq(seen[i], 1);
}

START_TEST(tokens)
{
    for (uint32_t t = 1; t <= MOST_T; t++)
        for (uint32_t c = 1; c <= 8; c++)
            for (uint32_t p = 1; p <= 8; p++)
                for (uint32_t zigzag = 0; zigzag < 2; zigzag++)
                    if (t % (c * p) == 0 && (!zigzag || t % (2 * c) == 0))
                        share_tokens(t, c, p, zigzag);
    struct ir_run run[2];
    ir_rows_of(&(struct ir_rows){ 24, 6, 2, 1 }, 1, run); /* slice 1 of 3 of chunks 0 and 3, of 6 tokens each */
    ck_assert(run[0].first == 4 && run[0].count == 2 && run[1].first == 18 && run[1].count == 2);
}
END_TEST

static double part_flops(enum ir_op op, const struct ir_attrs *a, enum ir_pass pass, enum ir_split split, uint32_t p)
{
    const struct ir_attrs local = ir_op_local(op, a, split, p);
    const struct ir_kernel k = { op, pass, &local, 2, 48, 1, IR_BF16, { .split = split, .parts = p } };
    return ir_kernel_flops(&k, NULL);
}

/* All parts together do the work of the whole. */
START_TEST(work)
{
    static const struct {
        enum ir_op op;
        enum ir_split split;
        struct ir_attrs a;
    } kinds[] = {
        { IR_OP_LINEAR, IR_ROWS_OF_W, { .in_features = 24, .out_features = 32, .flags = IR_BIAS } },
        { IR_OP_LINEAR, IR_COLUMNS_OF_W, { .in_features = 24, .out_features = 32, .flags = IR_BIAS } },
        { IR_OP_ATTENTION, IR_HEADS, { .heads = 8, .kv_heads = 2, .head_dim = 8, .window = 5 } },
        { IR_OP_ROPE, IR_HEADS, { .heads = 8, .head_dim = 8 } },
        { IR_OP_RMSNORM, IR_HEADS, { .heads = 8, .features = 8 } },
        { IR_OP_RMSNORM, IR_WIDTH, { .features = 32 } },
        { IR_OP_SWIGLU, IR_WIDTH, { .features = 32 } },
        { IR_OP_HEAD_LOSS, IR_WORDS, { .features = 8, .vocab = 64, .flags = IR_BIAS } },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (uint32_t p = 2; p <= 8; p *= 2)
            for (int pass = IR_PASS_F; pass < IR_PASS_COUNT; pass++) {
                if (!ir_op_runs(kinds[i].op, &kinds[i].a, (enum ir_pass)pass))
                    continue;
                ck_assert(ir_op_splits(kinds[i].op, &kinds[i].a, kinds[i].split, p));
                const double whole = ir_op_info[kinds[i].op].flops(&kinds[i].a, (enum ir_pass)pass, 2, 48);
                ck_assert_double_eq(whole,
                                    p * part_flops(kinds[i].op, &kinds[i].a, (enum ir_pass)pass, kinds[i].split, p));
            }
}
END_TEST

/* Queries of all members see what those of the whole do; in order the last has most of it, (2c-1)/c^2; zigzag shares evenly. */
START_TEST(attention_work)
{
    static const struct ir_attrs kinds[] = { { .heads = 2, .kv_heads = 2, .head_dim = 8 },
                                             { .heads = 2, .kv_heads = 2, .head_dim = 8, .window = 7 } };
    for (size_t i = 0; i < 2; i++)
        for (uint32_t zigzag = 0; zigzag < 2; zigzag++) {
            const struct ir_rows r = { 64, 4, 4, zigzag };
            const double whole = ir_op_info[IR_OP_ATTENTION].flops(&kinds[i], IR_PASS_F, 1, 64);
            double sum = 0, last = 0;
            for (uint32_t m = 0; m < 4; m++) {
                struct ir_run run[2];
                ir_rows_of(&r, m, run);
                const struct ir_kernel k = { IR_OP_ATTENTION,           IR_PASS_F, &kinds[i], 1, 16, 1, IR_F32,
                                             { .parts = 1, .keys = 64 } };
                sum += last = ir_kernel_flops(&k, run);
                ck_assert(!zigzag || i || last == whole / 4);
            }
            ck_assert_double_eq(sum, whole);
            ck_assert(zigzag || i || last == whole * 7 / 16);
        }
}
END_TEST

START_TEST(sizes)
{
    const struct ir_attrs attention = { .heads = 8, .kv_heads = 2, .head_dim = 4, .v_head_dim = 6 };
    struct ir_attrs local = ir_op_local(IR_OP_ATTENTION, &attention, IR_HEADS, 4);
    ck_assert(local.heads == 2 && local.kv_heads == 1);
    ck_assert(!ir_op_splits(IR_OP_ATTENTION, &(struct ir_attrs){ .heads = 6, .kv_heads = 3 }, IR_HEADS, 2));
    ck_assert(ir_op_splits(IR_OP_ATTENTION, &(struct ir_attrs){ .heads = 6, .kv_heads = 1 }, IR_HEADS, 2));
    ck_assert(!ir_op_splits(IR_OP_LINEAR, &(struct ir_attrs){ .in_features = 6, .out_features = 90 }, IR_ROWS_OF_W, 4));
    ck_assert(!ir_op_splits(IR_OP_EMBED, &(struct ir_attrs){ .vocab = 8 }, IR_WORDS, 5)); /* the fifth has none */
    ck_assert(ir_op_splits(IR_OP_EMBED, &(struct ir_attrs){ .vocab = 50257 }, IR_WORDS, 8));
    ck_assert(!ir_op_splits(IR_OP_GELU, &(struct ir_attrs){ .features = 8 }, IR_HEADS, 2));
    ck_assert(!ir_op_splits(IR_OP_RMSNORM, &(struct ir_attrs){ .features = 8, .heads = 2 }, IR_WIDTH, 2));

    ck_assert(!ir_op_splits(IR_OP_ATTENTION, &attention, IR_TURNED, 4)); /* key/value heads are not repeated */
    ck_assert(ir_op_splits(IR_OP_ATTENTION, &attention, IR_TURNED, 2) &&
              ir_op_splits(IR_OP_ATTENTION, &attention, IR_RING, 4));
    ck_assert(ir_op_local(IR_OP_ATTENTION, &attention, IR_TURNED, 2).kv_heads == 1);

    struct ir_op_shapes s;
    const struct ir_attrs apart = { .heads = 8, .kv_heads = 2, .head_dim = 4, .flags = IR_DOCUMENTS };
    ir_op_part_shapes(IR_OP_ATTENTION, &apart, 8, &(struct ir_share){ .keys = 16 }, &s);
    ck_assert(s.in[0].dim[0] == 8 && s.in[1].dim[0] == 16 && s.in[3].dim[0] == 16);
    ir_op_part_shapes(IR_OP_ATTENTION, &local, 8,
                      &(struct ir_share){ .split = IR_HEADS, .parts = 4, .keys = 16, .ring = 2 }, &s);
    ck_assert(s.in[0].dim[0] == 8 && s.in[1].dim[0] == 16 && s.in[2].dim[0] == 16 && s.in[2].dim[1] == 6);
    ck_assert(s.save[1].dtype == IR_F32 && s.save[1].dim[1] == 12 && s.stash[1].dim[0] == 16 &&
              s.stash[1].dim[1] == 10);
    const struct ir_kernel k = {
        IR_OP_ATTENTION, IR_PASS_F, &local, 2, 8, 1, IR_BF16, { .split = IR_HEADS, .parts = 4, .keys = 16 }
    };
    ck_assert_double_eq(ir_kernel_bytes(&k), 2 * (2 * (8 * 8 + 16 * 4 + 16 * 6 + 8 * 12) + 4 * 2 * 8));
    ck_assert(ir_op_phases(IR_OP_ATTENTION, IR_PASS_BI, &(struct ir_share){ .ring = 3 }) == 4);
    ck_assert(ir_op_phases(IR_OP_HEAD_LOSS, IR_PASS_BI, &(struct ir_share){ .split = IR_WORDS }) == 1);
    for (int op = 0; op < IR_OP_GRAPH_COUNT; op++) { /* what is not split is as ever */
        const struct ir_attrs a = { .features = 8,
                                    .heads = 2,
                                    .kv_heads = 1,
                                    .head_dim = 4,
                                    .in_features = 8,
                                    .out_features = 8,
                                    .vocab = 8,
                                    .experts = 2,
                                    .top_k = 1,
                                    .ffn = 8,
                                    .positions = 64 };
        const struct ir_kernel whole = { (enum ir_op)op, IR_PASS_F, &a, 2, 8, 1, IR_BF16, { .split = IR_WHOLE } };
        ck_assert_double_eq(ir_kernel_bytes(&whole), ir_op_bytes((enum ir_op)op, &a, IR_PASS_F, 2, 8, IR_BF16));
        ck_assert_double_eq(ir_kernel_flops(&whole, NULL), ir_op_info[op].flops(&a, IR_PASS_F, 2, 8));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("split");
    TCase *t = tcase_create("split");
    tcase_add_test(t, tokens);
    tcase_add_test(t, work);
    tcase_add_test(t, attention_work);
    tcase_add_test(t, sizes);
    suite_add_tcase(s, t);
    return suite_run(s);
}
