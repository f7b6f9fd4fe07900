/* Attention in tiles against attention without tensor cores, both our own, in bfloat16; on a device also its times. */
#include "cuda/parts_attention.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "cuda/cuda.h"
#include "ir/target_cuda_own.h"
#include "num/machine.h"
#include "base/number.h"

struct size {
    uint32_t b, t, heads, kv_heads, d, dv, window;
};
/* Odd lengths, grouped queries, each width of tile; the second list on a device only. */
static const struct size small[] = { { 2, 65, 4, 2, 64, 0, 0 },
                                     { 1, 133, 2, 1, 128, 0, 50 },
                                     { 1, 67, 2, 2, 192, 128, 0 } };
static const struct size large[] = { { 2, 1023, 12, 12, 64, 0, 0 },
                                     { 1, 2049, 8, 2, 128, 0, 0 },
                                     { 1, 1500, 4, 4, 256, 0, 300 } };
static const struct size timed[] = { { 8, 1024, 12, 12, 64, 0, 0 },
                                     { 1, 8192, 32, 8, 128, 0, 0 },
                                     { 1, 32768, 32, 8, 64, 0, 0 },
                                     { 1, 8192, 16, 8, 256, 0, 0 },
                                     { 1, 32768, 32, 8, 128, 0, 4096 } };

struct run {
    struct ir_attrs attrs;
    struct guarded in[3], din[3], out, dout, lse, work;
    size_t n[3], n_out;
    struct op_args args;
};

static struct guarded random_bf16(size_t n, struct rng *r)
{
    struct guarded g = machine_elements(n, IR_BF16);
    uint16_t *x = g.at;
    for (size_t i = 0; i < n; i++)
        x[i] = number_to_bf16((float)(int16_t)rng_next(r) / 16384);
    machine_put(machine, &g);
    return g;
}

static void run_open(struct run *x, const struct size *s)
{
    struct rng r = { s->t * 31 + s->d };
    *x = (struct run){ .attrs = { .heads = s->heads,
                                  .kv_heads = s->kv_heads,
                                  .head_dim = s->d,
                                  .v_head_dim = s->dv,
                                  .window = s->window,
                                  .scale = 1 / sqrtf((float)s->d) } };
    const size_t rows = (size_t)s->b * s->t, dv = ir_op_v_dim(&x->attrs), stats = rows * s->heads;
    const size_t width[3] = { s->heads * s->d, s->kv_heads * s->d, s->kv_heads * dv };
    x->n_out = rows * s->heads * dv;
    x->args = (struct op_args){ .attrs = &x->attrs, .op = IR_OP_ATTENTION, .b = s->b, .t = s->t, .ep = 1 };
    x->args.compute = IR_BF16;
    x->args.train = true;
    x->args.stream = machine->stream;
    for (int i = 0; i < 3; i++) {
        x->n[i] = rows * width[i];
        x->in[i] = random_bf16(x->n[i], &r);
        x->din[i] = machine_elements(x->n[i], IR_BF16);
        x->args.in[i] = x->in[i].device;
        x->args.din[i] = x->din[i].device;
    }
    x->out = machine_elements(x->n_out, IR_BF16);
    x->dout = random_bf16(x->n_out, &r);
    x->lse = machine_elements(stats, IR_F32);
    x->work = machine_elements(stats, IR_F32);
    x->args.out[0] = x->out.device;
    x->args.dout[0] = x->dout.device;
    x->args.save[0] = x->lse.device;
    x->args.work = x->work.device;
}

static void run_close(struct run *x)
{
    struct guarded *const all[] = { &x->in[0],  &x->in[1], &x->in[2], &x->din[0], &x->din[1],
                                    &x->din[2], &x->out,   &x->dout,  &x->lse,    &x->work };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        machine_free(machine, all[i]);
}

/* What was written, as numbers. */
static double *take(struct guarded *g, size_t n)
{
    double *x = mem_alloc(n * sizeof *x);
    machine_get(machine, g);
    ck_assert(guarded_intact(g));
    for (size_t i = 0; i < n; i++)
        x[i] = element(g, IR_BF16, i);
    return x;
}

static void same(const struct size *s, const char *what, struct guarded *g, double *want, size_t n)
{
    double *got = take(g, n);
    float *x = mem_alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)got[i];
    const double error = worst_error(x, want, n, 0.05);
    ck_assert_msg(error <= 0.06, "%s: t=%u d=%u: %s: error %.3g", machine->name, s->t, s->d, what, error);
    mem_free(got);
    mem_free(want);
    mem_free(x);
}

static void against_plain(const struct size *s)
{
    struct run x;
    run_open(&x, s);
    ck_assert(cuda_attention_tiles(&x.attrs, IR_BF16));
    cuda_attention_f32_f(&x.args);
    cuda_attention_f32_bi(&x.args);
    double *const out = take(&x.out, x.n_out), *din[3];
    for (int i = 0; i < 3; i++)
        din[i] = take(&x.din[i], x.n[i]);
    cuda_attention_tiles_f(&x.args);
    cuda_attention_tiles_bi(&x.args);
    same(s, "out", &x.out, out, x.n_out);
    for (int i = 0; i < 3; i++)
        same(s, i == 0 ? "dq" : i == 1 ? "dk" : "dv", &x.din[i], din[i], x.n[i]);
    run_close(&x);
}

START_TEST(attention_in_tiles)
{
    if (machine->compute != IR_BF16)
        return;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        against_plain(&small[i]);
    for (size_t i = 0; i < sizeof large / sizeof *large && machine->alloc; i++)
        against_plain(&large[i]);
}
END_TEST

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one of `times` calls. */
static double seconds(struct run *x, op_kernel kernel, int times)
{
    machine_get(machine, &x->lse);
    const double begin = now();
    for (int i = 0; i < times; i++)
        kernel(&x->args);
    machine_get(machine, &x->lse); /* waits */
    return (now() - begin) / times;
}

START_TEST(attention_times)
{
    if (machine->compute != IR_BF16 || !machine->alloc)
        return;
    for (size_t i = 0; i < sizeof timed / sizeof *timed; i++) {
        const struct size *s = &timed[i];
        struct run x;
        run_open(&x, s);
        for (int pass = IR_PASS_F; pass <= IR_PASS_BI; pass += IR_PASS_BI) {
            const op_kernel kernel = pass == IR_PASS_F ? cuda_attention_tiles_f : cuda_attention_tiles_bi;
            const double flops = ir_op_info[IR_OP_ATTENTION].flops(&x.attrs, (enum ir_pass)pass, s->b, s->t);
            seconds(&x, kernel, 1);
            const double one = seconds(&x, kernel, 3);
            printf("attention in tiles, %s: %u x %u tokens, %u/%u heads of %u, window %u: %.3f ms, %.0f Tflop/s\n",
                   ir_pass_name((enum ir_pass)pass), s->b, s->t, s->heads, s->kv_heads, s->d, s->window, 1e3 * one,
                   1e-12 * flops / one);
        }
        run_close(&x);
    }
}
END_TEST

void add_attention_parts(struct TCase *t)
{
    tcase_add_test(t, attention_in_tiles);
    tcase_add_test(t, attention_times);
}
