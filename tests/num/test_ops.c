/* Every operator of a back end, forward and backward, on odd shapes, against the float64 oracle; and the oracle against
 * finite differences. Which back ends: machine.h. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "num/run_op.h"

/* Sequences and their length: small, odd, one more than a block. */
static const struct size {
    uint32_t b, t;
} sizes[] = { { 1, 1 }, { 3, 7 }, { 2, 33 }, { 1, 130 } };
enum { SIZES = sizeof sizes / sizeof *sizes };

/* In attention the gradient of a score is a difference of sums over head_dim and keys that nearly cancel; summed one by one, as
 * in builds that have no vectors (sanitizers), those of 128 numbers err by 3.4e-5. */
static double tolerance_of(enum ir_op op)
{
    if (machine->compute ==
        IR_BF16) /* half a unit in the last of 8 bits, a few times; more where steps between are rounded */
        return op == IR_OP_ATTENTION ? 0.08 : op == IR_OP_EXPERTS ? 0.06 : op == IR_OP_HEAD_LOSS ? 0.03 : 0.01;
    return op == IR_OP_ATTENTION ? 5e-5 : 1e-5;
}

static void run(const struct op_case *c)
{
    static uint64_t seed = 1;
    static double worst[IR_OP_COUNT];
    char what[256];
    if ((machine->partial && !has_kernels(machine, c->op, &c->a)) || (machine->takes && !machine->takes(c->op, &c->a)))
        return;
    snprintf(what, sizeof what,
             "%s: %s b=%u t=%u ep=%u spread=%d in=%u out=%u features=%u heads=%u/%u dim=%u experts=%u k=%u "
             "capacity=%u ffn=%u flags=%u v_dim=%u window=%u cap=%g act=%u",
             machine->name, ir_op_info[c->op].name, c->b, c->t, c->ep, c->spread, c->a.in_features, c->a.out_features,
             c->a.features, c->a.heads, c->a.kv_heads, c->a.head_dim, c->a.experts, c->a.top_k, c->a.capacity, c->a.ffn,
             c->a.flags, c->a.v_head_dim, c->a.window, (double)c->a.score_cap, c->a.act);
    const char *wrong = !machine->partial && machine == machines[0] ? check_oracle(c, seed) : NULL;
    ck_assert_msg(!wrong, "%s: %s", what, wrong);
    wrong = run_op_case(machine, c, seed, tolerance_of(c->op), &worst[c->op]);
    ck_assert_msg(!wrong, "%s: %s", what, wrong);
    seed++;
}

/* All sizes of one operator with these attributes. */
static void run_sizes(enum ir_op op, struct ir_attrs a)
{
    for (size_t i = 0; i < SIZES; i++)
        run(&(struct op_case){ .op = op, .a = a, .b = sizes[i].b, .t = sizes[i].t, .ep = 1 });
}

static const uint32_t widths[] = { 1, 5, 16, 67, 130 };
enum { WIDTHS = sizeof widths / sizeof *widths };

START_TEST(embed)
{
    for (size_t i = 0; i < WIDTHS; i++) {
        run_sizes(IR_OP_EMBED, (struct ir_attrs){ .vocab = 11, .features = widths[i] });
        run_sizes(IR_OP_POS_EMBED, (struct ir_attrs){ .positions = 130, .features = widths[i] });
        run_sizes(IR_OP_POS_EMBED, (struct ir_attrs){ .positions = 135, .first_position = 3, .features = widths[i] });
    }
}
END_TEST

START_TEST(norms)
{
    for (size_t i = 0; i < WIDTHS; i++) {
        if (widths[i] == 1) /* one element has no variance: only eps would be tested */
            continue;
        run_sizes(IR_OP_RMSNORM, (struct ir_attrs){ .features = widths[i], .eps = 1e-5f });
        run_sizes(IR_OP_RMSNORM, (struct ir_attrs){ .features = widths[i], .heads = 3, .eps = 1e-6f });
        run_sizes(IR_OP_LAYERNORM, (struct ir_attrs){ .features = widths[i], .eps = 1e-5f });
        run_sizes(IR_OP_RMSNORM, (struct ir_attrs){ .features = widths[i], .eps = 1e-5f, .flags = IR_ONE_PLUS });
        run_sizes(IR_OP_RMSNORM, (struct ir_attrs){ .features = widths[i], .eps = 1e-5f, .flags = IR_ROUND_FIRST });
        for (uint32_t heads = 0; heads <= 3; heads += 3)
            for (uint32_t flags = 0; flags <= IR_PER_HEAD; flags += IR_PER_HEAD) {
                struct ir_attrs a = { .features = widths[i], .heads = heads, .eps = 1e-5f, .flags = flags };
                run_sizes(IR_OP_LAYERNORM, a);
                a.flags = flags | IR_NO_BIAS;
                run_sizes(IR_OP_LAYERNORM, a);
                a.flags = flags | IR_NO_WEIGHT;
                run_sizes(IR_OP_LAYERNORM, a);
            }
    }
}
END_TEST

/* Where rmsnorm rounds: to the bit, in bfloat16. */
START_TEST(norm_rounding)
{
    enum { N = 64 };
    for (uint32_t flags = 0; machine->compute == IR_BF16 && flags <= IR_ROUND_FIRST; flags += IR_ROUND_FIRST) {
        const struct ir_attrs at = { .features = N, .eps = 1e-5f, .flags = flags };
        if (!has_kernels(machine, IR_OP_RMSNORM, &at))
            return;
        struct guarded x[3]; /* x, w, y */
        struct op_args a = { .attrs = &at, .op = IR_OP_RMSNORM, .b = 1, .t = 1, .ep = 1, .compute = IR_BF16 };
        const uint64_t bytes = machine->workspace(
            &(struct ir_kernel){ IR_OP_RMSNORM, IR_PASS_F, &at, 1, 1, 1, IR_BF16, { 0 } });
        struct guarded work = machine_buffer(machine, bytes + 1);
        struct rng r = { 3 };
        double sum = 0;
        for (int i = 0; i < 3; i++)
            x[i] = machine_buffer(machine, N * 2);
        for (size_t i = 0; i < N; i++) {
            set_element(&x[0], IR_BF16, i, rng_normal(&r));
            set_element(&x[1], IR_BF16, i, 1 + rng_normal(&r));
            sum += pow(element(&x[0], IR_BF16, i), 2);
        }
        a.in[0] = x[0].device;
        a.param[0] = x[1].device;
        a.out[0] = x[2].device;
        a.work = work.device;
        a.stream = machine->stream;
        for (int i = 0; i < 3; i++)
            machine_put(machine, &x[i]);
        machine->backend->kernel(IR_OP_RMSNORM, IR_PASS_F)(&a);
        uint32_t others = 0;
        machine_get(machine, &x[2]);
        for (size_t i = 0; i < N; i++) {
            const double h = element(&x[0], IR_BF16, i) / sqrt(sum / N + (double)at.eps),
                         w = element(&x[1], IR_BF16, i);
            const double once = rounded(IR_BF16, h * w), first = rounded(IR_BF16, rounded(IR_BF16, h) * w);
            ck_assert(element(&x[2], IR_BF16, i) == (flags ? first : once));
            others += first != once;
        }
        ck_assert_uint_gt(others, 5);
        machine_free(machine, &work);
        for (int i = 0; i < 3; i++)
            machine_free(machine, &x[i]);
    }
}
END_TEST

START_TEST(linear)
{
    static const uint32_t shapes[][2] = { { 1, 1 }, { 5, 16 }, { 67, 3 }, { 48, 130 }, { 129, 65 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (uint32_t flags = 0; flags < 4; flags++)
            run_sizes(IR_OP_LINEAR,
                      (struct ir_attrs){ .in_features = shapes[i][0], .out_features = shapes[i][1], .flags = flags });
}
END_TEST

START_TEST(rope)
{
    static const uint32_t dims[] = { 2, 8, 20, 64, 128 };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (uint32_t heads = 1; heads <= 3; heads += 2)
            run_sizes(IR_OP_ROPE, (struct ir_attrs){ .heads = heads, .head_dim = dims[i], .theta = 10000 });
}
END_TEST

/* A part of the head, from any element on, by halves and by pairs, frequencies of a list, a factor: alone and together. */
START_TEST(rope_attributes)
{
    static const float list[] = { 1, 0.7f, 0.01f, 0, 0.3f, 2, 0.25f, 0.125f };
    static const struct ir_freqs five = { 5, list }, eight = { 8, list };
    static const struct ir_attrs kinds[] = {
        { .head_dim = 10, .inv_freq = &five },
        { .head_dim = 16, .theta = 100, .scale = 1.25f },
        { .head_dim = 16, .theta = 100, .flags = IR_PAIRS },
        { .head_dim = 24, .theta = 100, .rotary_dim = 10 },
        { .head_dim = 24, .inv_freq = &eight, .rotary_dim = 16, .rotary_offset = 8 },
        { .head_dim = 40, .inv_freq = &eight, .rotary_dim = 16, .rotary_offset = 16 },
        { .head_dim = 25, .inv_freq = &eight, .rotary_dim = 16, .rotary_offset = 3, .scale = 0.5f, .flags = IR_PAIRS },
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (uint32_t heads = 1; heads <= 3; heads += 2) {
            struct ir_attrs a = kinds[k];
            a.heads = heads;
            run_sizes(IR_OP_ROPE, a);
        }
}
END_TEST

START_TEST(attention)
{
    static const uint32_t heads[][2] = { { 1, 1 }, { 4, 2 }, { 6, 3 }, { 3, 1 } }, dims[] = { 8, 20, 64, 80, 128 };
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
            run_sizes(IR_OP_ATTENTION, (struct ir_attrs){ .heads = heads[h][0],
                                                          .kv_heads = heads[h][1],
                                                          .head_dim = dims[d],
                                                          .scale = 0.3f / (float)(d + 1),
                                                          .flags = (h + d) % 2 ? IR_PACKED : 0 });
}
END_TEST

START_TEST(attention_blocks)
{
    static const uint32_t lengths[] = { 63, 64, 65, 128, 193 };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (uint32_t packed = 0; packed <= IR_PACKED; packed += IR_PACKED)
            run(&(struct op_case){ .op = IR_OP_ATTENTION,
                                   .b = 2,
                                   .t = lengths[i],
                                   .ep = 1,
                                   .a = { .heads = 4, .kv_heads = 2, .head_dim = 8, .scale = 1, .flags = packed } });
}
END_TEST

/* Window, bound of scores, sinks, values of another width: each alone and all together, on blocks cut and whole. */
START_TEST(attention_attributes)
{
    static const struct ir_attrs kinds[] = { { .window = 2 },
                                             { .window = 5 },
                                             { .window = 64 },
                                             { .window = 100 },
                                             { .score_cap = 1.5f },
                                             { .flags = IR_SINKS },
                                             { .v_head_dim = 24 },
                                             { .v_head_dim = 4 },
                                             { .window = 37, .score_cap = 2, .flags = IR_SINKS, .v_head_dim = 16 } };
    static const uint32_t lengths[] = { 7, 65, 150 };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (uint32_t packed = 0; packed <= IR_PACKED; packed += IR_PACKED) {
                struct op_case c = { .op = IR_OP_ATTENTION, .b = 2, .t = lengths[i], .ep = 1, .a = kinds[k] };
                c.a.heads = 4;
                c.a.kv_heads = 2;
                c.a.head_dim = 8;
                c.a.scale = 0.7f;
                c.a.flags |= packed;
                if ((k + i) % 2 == packed / IR_PACKED)
                    run(&c);
            }
}
END_TEST

/* Heads whose gradients do not fit into a block's registers at once, and those of latent attention. */
START_TEST(attention_wide)
{
    static const uint32_t dims[][2] = { { 256, 256 }, { 192, 128 }, { 136, 40 }, { 40, 168 } };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        run(&(struct op_case){
            .op = IR_OP_ATTENTION,
            .b = 1,
            .t = 67,
            .ep = 1,
            .a = { .heads = 2, .kv_heads = 1, .head_dim = dims[i][0], .v_head_dim = dims[i][1], .scale = 0.05f } });
}
END_TEST

START_TEST(elementwise)
{
    for (size_t i = 0; i < WIDTHS; i++) {
        run_sizes(IR_OP_GELU, (struct ir_attrs){ .features = widths[i] });
        run_sizes(IR_OP_GELU, (struct ir_attrs){ .features = widths[i], .flags = IR_EXACT });
        run_sizes(IR_OP_SWIGLU, (struct ir_attrs){ .features = widths[i] });
        run_sizes(IR_OP_ADD, (struct ir_attrs){ .features = widths[i] });
        run_sizes(IR_OP_SCALE, (struct ir_attrs){ .features = widths[i], .scale = 0.22f });
        run_sizes(IR_OP_SCALE, (struct ir_attrs){ .features = widths[i], .scale = 55.4256f, .flags = IR_ROUND_FIRST });
        run_sizes(IR_OP_CLAMP, (struct ir_attrs){ .features = widths[i], .clamp = 0.8f });
        run_sizes(IR_OP_ROW_GATE, (struct ir_attrs){ .features = widths[i] });
        run_sizes(IR_OP_JOIN_HEADS, (struct ir_attrs){ .heads = 3, .head_dim = widths[i] + 6, .rotary_dim = 6 });
        run_sizes(IR_OP_JOIN_HEADS,
                  (struct ir_attrs){ .heads = 2, .head_dim = widths[i] + 3, .rotary_dim = widths[i] });
        for (uint32_t act = 0; act < IR_ACT_COUNT; act++) {
            run_sizes(IR_OP_ACT, (struct ir_attrs){ .features = widths[i], .act = act });
            run_sizes(IR_OP_SWIGLU, (struct ir_attrs){ .features = widths[i], .act = act });
        }
        run_sizes(IR_OP_SWIGLU, (struct ir_attrs){ .features = widths[i], .clamp = 0.7f });
        run_sizes(IR_OP_SWIGLU, (struct ir_attrs){ .features = widths[i], .alpha = 1.702f });
        run_sizes(IR_OP_SWIGLU, (struct ir_attrs){ .features = widths[i], .flags = IR_ONE_PLUS, .act = IR_ACT_RELU });
        run_sizes(IR_OP_SWIGLU,
                  (struct ir_attrs){ .features = widths[i], .flags = IR_ONE_PLUS, .clamp = 0.7f, .alpha = 1.702f });
    }
    /* more than one piece, and several threads */
    run(&(struct op_case){ .op = IR_OP_GELU, .a = { .features = 301 }, .b = 3, .t = 130, .ep = 1 });
    run(&(struct op_case){ .op = IR_OP_SWIGLU, .a = { .features = 301 }, .b = 3, .t = 130, .ep = 1 });
    run(&(struct op_case){ .op = IR_OP_ADD, .a = { .features = 301 }, .b = 3, .t = 130, .ep = 1 });
}
END_TEST

/* Experts and choices; E >= k. */
static const uint32_t choices[][2] = { { 1, 1 }, { 2, 1 }, { 4, 2 }, { 5, 3 }, { 8, 4 } };
enum { CHOICES = sizeof choices / sizeof *choices };

START_TEST(router)
{
    for (size_t i = 0; i < CHOICES; i++)
        for (uint32_t variant = 0; variant < 4; variant++) {
            const struct ir_attrs a = { .features = 21,
                                        .experts = choices[i][0],
                                        .top_k = choices[i][1],
                                        .flags = variant & 1 ? IR_NORM_TOPK : 0,
                                        .aux_coef = variant & 2 ? 0.5f : 0 };
            run_sizes(IR_OP_ROUTER, a);
        }
}
END_TEST

/* Sigmoid, bias, selection bias, groups, factor and eps: the routers of gpt-oss, DeepSeek-V2 and V3 among them. */
START_TEST(router_attributes)
{
    static const struct ir_attrs kinds[] = {
        { .flags = IR_SIGMOID },
        { .flags = IR_SIGMOID | IR_NORM_TOPK, .eps = 0.25f, .scale = 2.5f },
        { .flags = IR_BIAS | IR_NORM_TOPK },
        { .flags = IR_SELECT_BIAS, .scale = 0.5f },
        { .flags = IR_BIAS | IR_SELECT_BIAS | IR_SIGMOID },
        { .flags = IR_GROUP_BEST, .groups = 4, .top_groups = 2, .scale = 16 },
        { .flags = IR_SIGMOID | IR_SELECT_BIAS | IR_NORM_TOPK,
          .groups = 4,
          .top_groups = 2,
          .eps = 1e-20f,
          .scale = 2.5f },
        { .flags = IR_SIGMOID | IR_SELECT_BIAS, .groups = 3, .top_groups = 1 },
        /* the weights in float32, and losses: of sequences, of the logits, both */
        { .flags = IR_FLOAT32 | IR_NORM_TOPK },
        { .flags = IR_FLOAT32, .z_coef = 0.2f },
        { .flags = IR_SIGMOID | IR_SEQUENCE_LOSS, .aux_coef = 0.7f },
        { .flags = IR_SIGMOID | IR_SELECT_BIAS | IR_NORM_TOPK | IR_SEQUENCE_LOSS | IR_FLOAT32,
          .groups = 4,
          .top_groups = 2,
          .eps = 1e-20f,
          .scale = 2.5f,
          .aux_coef = 0.7f,
          .z_coef = 0.2f },
        { .flags = IR_GROUP_BEST, .groups = 4, .top_groups = 2, .aux_coef = 0.7f, .z_coef = 0.2f },
        { .flags = IR_SIGMOID | IR_BIAS, .z_coef = 0.2f },
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct ir_attrs a = kinds[k];
        a.features = 21;
        a.experts = 12;
        a.top_k = 3;
        run_sizes(IR_OP_ROUTER, a);
    }
}
END_TEST

/* All probabilities equal: the lowest indices win. Finite differences have no meaning at a tie. */
START_TEST(router_ties)
{
    if (!has_kernels(machine, IR_OP_ROUTER, &(struct ir_attrs){ 0 }))
        return;
    double worst = 0;
    const struct op_case c = { .op = IR_OP_ROUTER,
                               .b = 2,
                               .t = 7,
                               .ep = 1,
                               .spread = SPREAD_ONE,
                               .a = { .features = 9, .experts = 6, .top_k = 3, .aux_coef = 1 } };
    const char *wrong = run_op_case(machine, &c, 5, tolerance_of(c.op), &worst);
    ck_assert_msg(!wrong, "%s", wrong);
}
END_TEST

static void run_routed(enum ir_op op, enum spread spread)
{
    for (size_t i = 0; i < CHOICES; i++)
        for (size_t s = 0; s < SIZES; s++)
            for (uint32_t capacity = 0; capacity < 3; capacity++) {
                const uint32_t e = choices[i][0], k = choices[i][1], t = sizes[s].t;
                struct op_case c = { .op = op,
                                     .b = sizes[s].b,
                                     .t = t,
                                     .ep = 1,
                                     .spread = spread,
                                     .a = { .features = 21, .experts = e, .top_k = k } };
                c.a.capacity = capacity == 0 ? 0 : capacity == 1 ? (t * k + e - 1) / e : t;
                run(&c);
            }
}

START_TEST(dispatch)
{
    run_routed(IR_OP_DISPATCH, (enum spread)_i);
}
END_TEST

START_TEST(combine)
{
    run_routed(IR_OP_COMBINE, (enum spread)_i);
}
END_TEST

START_TEST(experts)
{
    for (uint32_t ep = 1; ep <= 4; ep *= 2)
        for (size_t i = 0; i < CHOICES; i++)
            for (size_t s = 0; s < SIZES; s++)
                for (uint32_t capacity = 0; capacity < 3; capacity++) {
                    const uint32_t e = choices[i][0], t = sizes[s].t;
                    if (e % ep)
                        continue;
                    struct op_case c = { .op = IR_OP_EXPERTS,
                                         .b = sizes[s].b,
                                         .t = t,
                                         .ep = ep,
                                         .spread = (enum spread)_i,
                                         .a = { .features = 13, .experts = e, .top_k = choices[i][1], .ffn = 18 } };
                    c.a.capacity = capacity == 0 ? 0 : capacity == 1 ? (t + 3) / 4 : t + 20;
                    run(&c);
                }
}
END_TEST

/* Biases and other activations, in runs and gaps; on CUDA in products of the library, and with the even widths in grouped ones. */
START_TEST(experts_attributes)
{
    static const struct ir_attrs kinds[] = { { .flags = IR_BIAS },
                                             { .act = IR_ACT_GELU_TANH },
                                             { .flags = IR_BIAS | IR_ONE_PLUS, .clamp = 0.5f, .alpha = 1.702f } };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (uint32_t ep = 1; ep <= 2; ep++)
            for (uint32_t size = 0; size < 4; size++) {
                const uint32_t capacity = size % 3;
                struct op_case c = { IR_OP_EXPERTS, kinds[k], .b = 3, .t = 7, .ep = ep, .spread = (enum spread)_i };
                c.a.features = size == 3 ? 24 : 13;
                c.a.experts = 4;
                c.a.top_k = 2;
                c.a.ffn = size == 3 ? 40 : 18;
                c.a.capacity = capacity == 0 ? 0 : capacity == 1 ? 3 : 27;
                if (machine->compute == IR_BF16) /* rounding carries a gate over its bound, where the slope jumps */
                    c.a.clamp = 0;
                run(&c);
            }
}
END_TEST

/* Runs longer than a tile, and gaps on both sides of the length that is worth closing. */
START_TEST(experts_long)
{
    for (uint32_t capacity = 0; capacity <= 300; capacity += 150)
        run(&(struct op_case){ .op = IR_OP_EXPERTS,
                               .b = 2,
                               .t = 600,
                               .ep = 1,
                               .spread = (enum spread)_i,
                               .a = { .features = 9, .experts = 2, .top_k = 1, .ffn = 7, .capacity = capacity } });
}
END_TEST

/* Widths of whole pieces of 16 bytes: dropless on CUDA these are one launch for all experts. Tiles and steps that are full, cut
 * and just begun; all rows with one expert, and none with others; more rows than have their hidden layer in memory at once; a
 * layer so wide that it is not grouped. */
START_TEST(experts_grouped)
{
    static const uint32_t shapes[][7] = { /* b, t, ep, experts, top_k, features, ffn */
                                          { 1, 1, 1, 3, 2, 8, 8 },
                                          { 3, 7, 2, 4, 2, 24, 40 },
                                          { 1, 70, 2, 2, 2, 136, 72 },
                                          { 1, 2, 1, 2, 1, 8, 8192 },
                                          { 3, 5500, 1, 1, 1, 8, 8 }
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const uint32_t *s = shapes[i];
        if (i > 2 && _i != SPREAD_ONE)
            break;
        run(&(struct op_case){ .op = IR_OP_EXPERTS,
                               .b = s[0],
                               .t = s[1],
                               .ep = s[2],
                               .spread = (enum spread)_i,
                               .a = { .experts = s[3], .top_k = s[4], .features = s[5], .ffn = s[6] } });
    }
}
END_TEST

START_TEST(head)
{
    static const uint32_t shapes[][2] = { { 1, 2 }, { 21, 5 }, { 16, 257 }, { 13, 1025 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        run_sizes(IR_OP_HEAD_LOSS, (struct ir_attrs){ .features = shapes[i][0], .vocab = shapes[i][1] });
    run(&(struct op_case){ .op = IR_OP_HEAD_LOSS, .a = { .features = 5, .vocab = 2100 }, .b = 2, .t = 150, .ep = 1 });
}
END_TEST

/* A bias, a factor, a bound of the logits: each alone and all together, in pieces cut and whole. */
START_TEST(head_attributes)
{
    static const struct ir_attrs kinds[] = { { .flags = IR_BIAS },
                                             { .scale = 0.0625f },
                                             { .score_cap = 1.5f },
                                             { .flags = IR_BIAS, .scale = 3, .score_cap = 2 } };
    static const uint32_t words[] = { 5, 1024, 1027 };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            struct ir_attrs a = kinds[k];
            a.features = 21;
            a.vocab = words[i];
            run_sizes(IR_OP_HEAD_LOSS, a);
        }
}
END_TEST

/* The factor as it is, and in the job's type: to the bit, in bfloat16. */
START_TEST(scale_rounding)
{
    const double by = 55.4256;
    for (uint32_t flags = 0; machine->compute == IR_BF16 && flags <= IR_ROUND_FIRST; flags += IR_ROUND_FIRST) {
        const struct ir_attrs at = { .features = 8, .scale = (float)by, .flags = flags };
        if (!has_kernels(machine, IR_OP_SCALE, &at))
            return;
        struct guarded x = machine_buffer(machine, 16), y = machine_buffer(machine, 16);
        struct guarded work = machine_buffer(
            machine,
            machine->workspace(&(struct ir_kernel){ IR_OP_SCALE, IR_PASS_F, &at, 1, 1, 1, IR_BF16, { 0 } }) + 1);
        for (size_t i = 0; i < 8; i++)
            set_element(&x, IR_BF16, i, 1 + (double)i / 128);
        machine_put(machine, &x);
        const struct op_args a = { .attrs = &at,
                                   .op = IR_OP_SCALE,
                                   .b = 1,
                                   .t = 1,
                                   .ep = 1,
                                   .compute = IR_BF16,
                                   .in = { x.device },
                                   .out = { y.device },
                                   .work = work.device,
                                   .stream = machine->stream };
        machine->backend->kernel(IR_OP_SCALE, IR_PASS_F)(&a);
        machine_get(machine, &y);
        ck_assert(element(&y, IR_BF16, 0) == rounded(IR_BF16, by));
        for (size_t i = 0; i < 8; i++)
            ck_assert(element(&y, IR_BF16, i) ==
                      rounded(IR_BF16, (1 + (double)i / 128) * (flags ? rounded(IR_BF16, by) : by)));
        machine_free(machine, &x);
        machine_free(machine, &y);
        machine_free(machine, &work);
    }
}
END_TEST

START_TEST(sum_and_copy)
{
    if (!has_kernels(machine, IR_OP_SUM, &(struct ir_attrs){ 0 }))
        return;
    enum { N = 100003 };
    const enum ir_dtype type = machine->compute;
    struct guarded x[3]; /* two operands, the result */
    for (int i = 0; i < 3; i++)
        x[i] = machine_buffer(machine, N * ir_dtype_size(type, type));
    for (size_t i = 0; i < N; i++) {
        set_element(&x[0], type, i, (double)(i % 128));
        set_element(&x[1], type, i, 0.5);
    }
    struct op_args a = {
        .in = { x[0].device, x[1].device }, .out = { x[2].device }, .n = N, .compute = type, .stream = machine->stream
    };
    for (enum ir_op op = IR_OP_SUM; op <= IR_OP_COPY; op++) {
        a.op = op;
        for (int i = 0; i < 3; i++)
            machine_put(machine, &x[i]);
        machine->backend->kernel(op, IR_PASS_F)(&a);
        for (int i = 0; i < 3; i++)
            machine_get(machine, &x[i]);
        for (size_t i = 0; i < N; i++)
            ck_assert(element(&x[2], type, i) == (double)(i % 128) + (op == IR_OP_SUM ? 0.5 : 0));
        ck_assert(guarded_intact(&x[0]) && guarded_intact(&x[1]) && guarded_intact(&x[2]));
    }
    for (int i = 0; i < 3; i++)
        machine_free(machine, &x[i]);
}
END_TEST

/* Element j of row r goes to its block, and comes back. */
START_TEST(blocks)
{
    enum { ROWS = 37, BLOCKS = 2, WIDTH = 12, C = BLOCKS * WIDTH, N = ROWS * C };
    static const struct ir_attrs at = { .heads = BLOCKS, .features = C };
    if (!has_kernels(machine, IR_OP_SUM, &(struct ir_attrs){ 0 }))
        return;
    const enum ir_dtype type = machine->compute;
    struct guarded x[3]; /* rows, blocks, rows again */
    for (int i = 0; i < 3; i++)
        x[i] = machine_buffer(machine, N * ir_dtype_size(type, type));
    for (uint32_t i = 0; i < N; i++)
        set_element(&x[0], type, i, (double)(i % 251));
    machine_put(machine, &x[0]);
    for (int i = 0; i < 2; i++) {
        const enum ir_op op = i ? IR_OP_FROM_BLOCKS : IR_OP_TO_BLOCKS;
        machine_put(machine, &x[i + 1]);
        const struct op_args a = { .attrs = &at,
                                   .op = op,
                                   .in = { x[i].device },
                                   .out = { x[i + 1].device },
                                   .n = N,
                                   .compute = type,
                                   .stream = machine->stream };
        machine->backend->kernel(op, IR_PASS_F)(&a);
        machine_get(machine, &x[i + 1]);
    }
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t row = i / C, column = i % C;
        const uint32_t to = (column / WIDTH * ROWS + row) * WIDTH + column % WIDTH;
        ck_assert(element(&x[1], type, to) == (double)(i % 251));
        ck_assert(element(&x[2], type, i) == (double)(i % 251));
    }
    for (int i = 0; i < 3; i++) {
        ck_assert(guarded_intact(&x[i]));
        machine_free(machine, &x[i]);
    }
}
END_TEST

/* Small, and in more than one block of attention: every subset of the inputs has another reader. */
START_TEST(readers)
{
    static const struct op_case cases[] = {
        { IR_OP_ATTENTION, { .heads = 4, .kv_heads = 2, .head_dim = 8, .scale = 0.5f }, .b = 2, .t = 7 },
        { IR_OP_ATTENTION, { .heads = 2, .kv_heads = 1, .head_dim = 8, .scale = 0.5f }, .b = 1, .t = 70 },
        { IR_OP_ATTENTION, { .heads = 3, .kv_heads = 3, .head_dim = 64, .scale = 0.1f }, .b = 1, .t = 5 },
        { IR_OP_SWIGLU, { .features = 37 }, .b = 2, .t = 7 },
        { IR_OP_SWIGLU, { .features = 64 }, .b = 1, .t = 3 },
        { IR_OP_SWIGLU, { .features = 37, .act = IR_ACT_GELU_TANH, .clamp = 1 }, .b = 2, .t = 7 },
        { IR_OP_ROW_GATE, { .features = 37 }, .b = 2, .t = 7 },
        { IR_OP_JOIN_HEADS, { .heads = 3, .head_dim = 11, .rotary_dim = 4 }, .b = 2, .t = 7 },
        { IR_OP_COMBINE, { .features = 21, .experts = 4, .top_k = 2 }, .b = 2, .t = 7 },
        { IR_OP_COMBINE, { .features = 21, .experts = 4, .top_k = 2, .capacity = 3 }, .b = 2, .t = 7 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct op_case c = cases[i];
        c.ep = 1;
        c.readers = true;
        run(&c);
    }
    /* an operator with several gradients that is not among these has been forgotten */
    for (int op = 0; op < IR_OP_GRAPH_COUNT; op++) {
        const uint32_t gradients = ir_op_info[op].grad_in & ~ir_op_info[op].alias_in;
        bool tried = !(gradients & (gradients - 1));
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            tried |= cases[i].op == (enum ir_op)op;
        ck_assert_msg(tried, "%s", ir_op_info[op].name);
    }
}
END_TEST

/* The table of kernels has a hole exactly where the operator table says so. */
START_TEST(kernels_exist)
{
    for (int op = 0; op < IR_OP_COUNT; op++)
        for (int pass = IR_PASS_F; pass < IR_PASS_COUNT; pass++) {
            const bool wanted = ir_op_has_kernel((enum ir_op)op, (enum ir_pass)pass);
            const bool there = machine->backend->kernel((enum ir_op)op, (enum ir_pass)pass) != NULL;
            ck_assert_msg(wanted == there || (wanted && machine->partial), "%s: %s %s", machine->name,
                          ir_op_info[op].name, ir_pass_name((enum ir_pass)pass));
        }
}
END_TEST

/* Rows as large as all the shared memory that a block of a GPU has without asking: 48 KiB. */
START_TEST(norm_rows)
{
    for (int op = 0; op < 2; op++)
        run(&(struct op_case){ .op = op ? IR_OP_RMSNORM : IR_OP_LAYERNORM,
                               .a = { .features = 12288, .eps = 1e-5f },
                               .b = 1,
                               .t = 2,
                               .ep = 1 });
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ops");
    TCase *t = tcase_create(machine->name);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, kernels_exist);
    tcase_add_test(t, embed);
    tcase_add_test(t, norms);
    tcase_add_test(t, norm_rounding);
    tcase_add_test(t, linear);
    tcase_add_test(t, rope);
    tcase_add_test(t, rope_attributes);
    tcase_add_test(t, attention);
    tcase_add_test(t, attention_blocks);
    tcase_add_test(t, attention_attributes);
    tcase_add_test(t, attention_wide);
    tcase_add_test(t, elementwise);
    tcase_add_test(t, router);
    tcase_add_test(t, router_attributes);
    tcase_add_test(t, router_ties);
    tcase_add_loop_test(t, dispatch, SPREAD_RANDOM, SPREAD_NONE + 1);
    tcase_add_loop_test(t, combine, SPREAD_RANDOM, SPREAD_NONE + 1);
    tcase_add_loop_test(t, experts, SPREAD_RANDOM, SPREAD_NONE + 1);
    tcase_add_loop_test(t, experts_attributes, SPREAD_RANDOM, SPREAD_NONE + 1);
    tcase_add_loop_test(t, experts_long, SPREAD_RANDOM, SPREAD_NONE + 1);
    tcase_add_loop_test(t, experts_grouped, SPREAD_RANDOM, SPREAD_NONE + 1);
    tcase_add_test(t, head);
    tcase_add_test(t, head_attributes);
    tcase_add_test(t, scale_rounding);
    tcase_add_test(t, readers);
    tcase_add_test(t, sum_and_copy);
    tcase_add_test(t, blocks);
    tcase_add_test(t, norm_rows);
    add_pairs(t);
    add_attention(t);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return run_machines(suite);
}
