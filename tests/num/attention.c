/* Attention where a device has a part of each sequence, and where a sequence is several documents: src/exec/compute.h, op_positions.
 * A sequence is cut by hand into members, what they compute is joined, and compared with the whole. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "num/run_op.h"
#include "base/number.h"

enum { B = 2, HEADS = 4, KV = 2, D = 8, DV = 16, MOST_T = 256, MOST = B * MOST_T * HEADS * DV };

static const struct ir_attrs plain = { .heads = HEADS, .kv_heads = KV, .head_dim = D, .scale = 0.4f };
static const struct ir_attrs full = { .heads = HEADS,
                                      .kv_heads = KV,
                                      .head_dim = D,
                                      .scale = 0.4f,
                                      .v_head_dim = DV,
                                      .window = 50,
                                      .score_cap = 3,
                                      .flags = IR_SINKS };

/* Operands of the whole, or of a member. */
struct side {
    float in[3][MOST], din[3][MOST], out[MOST], dout[MOST], lse[B * HEADS * MOST_T];
    float work[10 * MOST]; /* operands once more, on the CPU in bfloat16 */
    float sinks[HEADS], dsinks[HEADS];
};

static void width_of(const struct ir_attrs *at, size_t width[4])
{
    const size_t dv = at->v_head_dim ? at->v_head_dim : at->head_dim;
    width[0] = at->heads * at->head_dim;
    width[1] = at->kv_heads * at->head_dim;
    width[2] = at->kv_heads * dv;
    width[3] = at->heads * dv;
}

/* n numbers as the machine computes, to and from float32; in float32 they stay where they are. */
static void *narrow(float *x, size_t n)
{
    if (machine->compute == IR_F32)
        return x;
    uint16_t *y = mem_alloc(n * sizeof *y);
    for (size_t i = 0; i < n; i++)
        y[i] = number_to_bf16(x[i]);
    return y;
}

static void widen(float *x, void *from, size_t n)
{
    const uint16_t *y = from;
    if (from == x)
        return;
    for (size_t i = 0; i < n; i++)
        x[i] = number_from_bf16(y[i]);
    mem_free(from);
}

/* All passes; sinks are added to. */
static void run_side(struct side *x, const struct ir_attrs *at, uint32_t t, const struct op_positions *p,
                     const int32_t *document)
{
    struct op_args a = { .attrs = at,
                         .op = IR_OP_ATTENTION,
                         .b = B,
                         .t = t,
                         .ep = 1,
                         .compute = machine->compute,
                         .out = { narrow(x->out, MOST) },
                         .save = { x->lse },
                         .param = { narrow(x->sinks, HEADS) },
                         .dout = { narrow(x->dout, MOST) },
                         .dparam = { x->dsinks },
                         .dparam_add = 1,
                         .work = x->work,
                         .train = true,
                         .positions = p,
                         .document = document };
    for (int i = 0; i < 3; i++) {
        a.in[i] = narrow(x->in[i], MOST);
        a.din[i] = narrow(x->din[i], MOST);
    }
    for (int pass = IR_PASS_F; pass < IR_PASS_COUNT; pass++)
        if (ir_op_runs(IR_OP_ATTENTION, at, (enum ir_pass)pass))
            machine->backend->kernel(IR_OP_ATTENTION, (enum ir_pass)pass)(&a);
    for (int i = 0; i < 3; i++) {
        widen(x->in[i], a.in[i], MOST);
        widen(x->din[i], a.din[i], MOST);
    }
    widen(x->out, a.out[0], MOST);
    widen(x->dout, a.dout[0], MOST);
    widen(x->sinks, a.param[0], HEADS);
}

static size_t position_of(const struct op_positions *p, size_t i)
{
    return i < p->run[0].count ? p->run[0].first + i : p->run[1].first + i - p->run[0].count;
}

/* Rows of the whole to those of a member, or added back. keys: rows are k's and v's. */
static void move(const struct op_positions *p, uint32_t t, float *part, float *whole, size_t width, bool keys,
                 bool back)
{
    const size_t n = keys ? p->keys : t;
    for (size_t s = 0; s < B; s++)
        for (size_t i = 0; i < n; i++) {
            float *x = part + (keys ? s * p->key_s + i * p->key_i : s * p->row_s + i * p->row_i) * width;
            float *y = whole + (s * p->t_all + (keys ? i : position_of(p, i))) * width;
            for (size_t e = 0; e < width; e++)
                if (back)
                    y[e] += x[e];
                else
                    x[e] = y[e];
        }
}

static void join_member(struct side *joined, struct side *member, struct side *whole, const struct ir_attrs *at,
                        uint32_t t, const struct op_positions *p, const int32_t *document)
{
    size_t width[4];
    width_of(at, width);
    memset(member->din, 0xff, sizeof member->din); /* NaN: all of it has to be written */
    memset(member->out, 0xff, sizeof member->out);
    memcpy(member->sinks, whole->sinks, sizeof member->sinks);
    memset(member->dsinks, 0, sizeof member->dsinks);
    for (int i = 0; i < 3; i++)
        move(p, t, member->in[i], whole->in[i], width[i], i > 0, false);
    move(p, t, member->dout, whole->dout, width[3], false, false);
    run_side(member, at, t, p, document);
    for (int i = 0; i < 3; i++)
        move(p, t, member->din[i], joined->din[i], width[i], i > 0, true);
    move(p, t, member->out, joined->out, width[3], false, true);
    for (size_t h = 0; h < HEADS; h++)
        joined->dsinks[h] += member->dsinks[h];
}

static void close_to(const char *what, const float *got, const float *want, size_t n, double most)
{
    double *x = mem_alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (double)want[i];
    const double error = worst_error(got, x, n, 0.05);
    mem_free(x);
    ck_assert_msg(error <= most, "%s: error %.3g", what, error);
}

/* T cut among n members: runs by zigzag (member m has parts m and 2n-1-m of 2n) or in a row; sequences before tokens or tokens
 * before sequences. Keys as far as the last token of a member. */
static void cut(const struct ir_attrs *at, uint32_t T, uint32_t n, bool zigzag, bool token_major,
                const int32_t *document)
{
    struct side *whole = mem_alloc(3 * sizeof *whole), *joined = whole + 1, *member = whole + 2;
    struct rng r = { T * 31 + n * 7 + zigzag * 2u + token_major };
    size_t width[4];
    width_of(at, width);
    memset(whole, 0, 3 * sizeof *whole);
    for (int i = 0; i < 3; i++)
        for (size_t e = 0; e < MOST; e++)
            whole->in[i][e] = (float)rng_normal(&r);
    for (size_t e = 0; e < MOST; e++)
        whole->dout[e] = (float)rng_normal(&r);
    for (size_t h = 0; h < HEADS; h++)
        whole->sinks[h] = (float)rng_normal(&r);
    run_side(whole, at, T, NULL, document);
    for (uint32_t m = 0; m < n; m++) {
        const uint32_t t = T / n, half = t / 2;
        struct op_positions p = { .t_all = T, .run = { { m * t, t } }, .part = 0, .parts = 1 };
        if (zigzag) {
            p.run[0].first = m * half;
            p.run[0].count = half;
            p.run[1].first = (2 * n - 1 - m) * half;
            p.run[1].count = half;
        }
        p.keys = (uint32_t)position_of(&p, t - 1) + 1;
        p.row_s = token_major ? 1 : t;
        p.row_i = token_major ? B : 1;
        p.key_s = token_major ? 1 : p.keys;
        p.key_i = token_major ? B : 1;
        join_member(joined, member, whole, at, t, &p, document);
    }
    /* runs of whole blocks have the sums of the whole */
    const bool narrow = machine->compute == IR_BF16, blocks = (T / n / (zigzag ? 2 : 1)) % 64 == 0;
    if (blocks)
        ck_assert(memcmp(whole->out, joined->out, B * T * width[3] * sizeof(float)) == 0);
    close_to("out", joined->out, whole->out, B * T * width[3], narrow ? 0.01 : 2e-6);
    for (int i = 0; i < 3; i++)
        close_to("din", joined->din[i], whole->din[i], B * T * width[i], narrow ? 0.03 : 2e-5);
    if (at->flags & IR_SINKS)
        close_to("dsinks", joined->dsinks, whole->dsinks, HEADS, narrow ? 0.03 : 2e-5);
    mem_free(whole);
}

static const int32_t *documents(uint32_t t)
{
    static int32_t at[B * MOST_T];
    struct rng r = { t };
    for (uint32_t s = 0; s < B; s++)
        for (uint32_t i = 0, first = 0; i < t; i++) {
            if (rng_below(&r, 20) == 0)
                first = i;
            at[s * t + i] = (int32_t)first;
        }
    return at;
}

START_TEST(attention_members)
{
    static const uint32_t shapes[][2] = { { 6, 1 }, { 24, 2 }, { 36, 3 }, { 140, 2 }, { 256, 2 }, { 256, 1 } };
    if (!machine->positions)
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (unsigned way = 0; way < 8; way++)
            cut(way & 4 ? &full : &plain, shapes[i][0], shapes[i][1], way & 1, way & 2,
                i % 2 ? documents(shapes[i][0]) : NULL);
}
END_TEST

START_TEST(attention_documents)
{
    static const uint32_t lengths[] = { 1, 33, 130, 193 };
    double worst = 0;
    if (!machine->positions)
        return;
    for (size_t i = 0; i < 2 * sizeof lengths / sizeof *lengths; i++) {
        const uint32_t t = lengths[i / 2];
        const struct op_case c = {
            .op = IR_OP_ATTENTION, .b = B, .t = t, .ep = 1, .a = i % 2 ? full : plain, .document = documents(t)
        };
        const char *wrong = machine == machines[0] ? check_oracle(&c, i) : NULL;
        ck_assert_msg(!wrong, "%s", wrong);
        wrong = run_op_case(machine, &c, i, machine->compute == IR_BF16 ? 0.06 : 3e-5, &worst);
        ck_assert_msg(!wrong, "t=%u: %s", t, wrong);
    }
}
END_TEST

void add_attention(struct TCase *t)
{
    tcase_add_test(t, attention_members);
    tcase_add_test(t, attention_documents);
}
