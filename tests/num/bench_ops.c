/* bench_ops [THREADS [B T [bfloat16]]]: time of every operator of GPT-2 124M (12 layers, 768 wide, 12 heads, 50257 words) in
 * float32, or in bfloat16, beside its floor: operations over the measured peak of matrix products, or bytes over the measured
 * bandwidth, whichever is longer. Every layer has operands of its own, so weights come from memory as in a real step.
 * Not part of make check. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "exec/compute.h"
#include "cpu/blas.h"
#include "cpu/vec.h"
#include "ir/target.h"
#include "base/number.h"

static enum ir_dtype compute = IR_F32;

enum { LAYERS = 12, C = 768, HEADS = 12, VOCAB = 50257, POSITIONS = 1024, ROUNDS = 3 };

struct row {
    const char *name;
    enum ir_op op;
    int count; /* a step */
    struct ir_attrs a;
};

static const struct row rows[] = {
    { "embed", IR_OP_EMBED, 1, { .vocab = VOCAB, .features = C } },
    { "pos_embed", IR_OP_POS_EMBED, 1, { .positions = POSITIONS, .features = C } },
    { "layernorm", IR_OP_LAYERNORM, 2 * LAYERS + 1, { .features = C, .eps = 1e-5f } },
    { "linear qkv",
      IR_OP_LINEAR,
      LAYERS,
      { .in_features = C, .out_features = 3 * C, .flags = IR_BIAS | IR_TRANSPOSED } },
    { "attention",
      IR_OP_ATTENTION,
      LAYERS,
      { .heads = HEADS, .kv_heads = HEADS, .head_dim = C / HEADS, .scale = 0.125f, .flags = IR_PACKED } },
    { "linear proj", IR_OP_LINEAR, LAYERS, { .in_features = C, .out_features = C, .flags = IR_BIAS | IR_TRANSPOSED } },
    { "add", IR_OP_ADD, 2 * LAYERS, { .features = C } },
    { "linear fc",
      IR_OP_LINEAR,
      LAYERS,
      { .in_features = C, .out_features = 4 * C, .flags = IR_BIAS | IR_TRANSPOSED } },
    { "gelu", IR_OP_GELU, LAYERS, { .features = 4 * C } },
    { "linear out",
      IR_OP_LINEAR,
      LAYERS,
      { .in_features = 4 * C, .out_features = C, .flags = IR_BIAS | IR_TRANSPOSED } },
    { "head_loss", IR_OP_HEAD_LOSS, 1, { .features = C, .vocab = VOCAB } },
};

static int threads;

/* One thread: its own time, so that others on the machine disturb less. */
static double now(void)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* n elements, aligned, touched; owned by nobody: the process ends soon. */
static void *floats(uint64_t n, enum ir_dtype type)
{
    const size_t bytes = (n * 4 + 63) / 64 * 64;
    float *x = aligned_alloc(64, bytes + 64);
    CHECK(x != NULL);
    if (type == IR_I32)
        for (uint64_t i = 0; i < n; i++)
            ((int32_t *)(void *)x)[i] = (int32_t)(i * 7919 % VOCAB);
    else
        for (uint64_t i = 0; i < n; i++) {
            const float value = (float)(i % 17) * 0.01f - 0.08f;
            if (ir_dtype_size(type, compute) == 2)
                ((uint16_t *)(void *)x)[i] = number_to_bf16(value);
            else
                x[i] = value;
        }
    return x;
}

static void *operand(const struct ir_shape *s, uint64_t times)
{
    return s->ndim ? floats(ir_shape_elements(s) * times, (enum ir_dtype)s->dtype) : NULL;
}

static struct op_args operands(const struct row *r, uint32_t b, uint32_t t, double *scalars)
{
    struct ir_op_shapes s;
    ir_op_shapes(r->op, &r->a, t, &s);
    struct op_args a = { .attrs = &r->a,
                         .op = r->op,
                         .b = b,
                         .t = t,
                         .ep = 1,
                         .compute = compute,
                         .scalars = scalars,
                         .loss_scale = 1.0 / (b * t),
                         .train = true };
    uint64_t work = 64;
    for (int pass = IR_PASS_F; pass < IR_PASS_COUNT; pass++) {
        const uint64_t w = ir_cpu_workspace(
            &(struct ir_kernel){ r->op, (enum ir_pass)pass, &r->a, b, t, 1, compute, { 0 } });
        work = w > work ? w : work;
    }
    a.work = floats(work / 4 + 1, IR_F32);
    for (int i = 0; i < 3; i++) {
        a.in[i] = operand(&s.in[i], b);
        a.din[i] = s.in[i].dtype == IR_I32 ? NULL : operand(&s.in[i], b);
        a.out[i] = operand(&s.out[i], b);
        a.dout[i] = operand(&s.out[i], b);
        a.param[i] = operand(&s.param[i], 1);
        a.dparam[i] = s.param[i].ndim ? floats(ir_shape_elements(&s.param[i]), IR_F32) : NULL;
    }
    for (int i = 0; i < IR_MAX_SAVE; i++)
        a.save[i] = operand(&s.save[i], b);
    return a;
}

static double peak_flops(void)
{
    enum { N = 1024 };
    float *a = floats((uint64_t)N * N, IR_F32), *b = floats((uint64_t)N * N, IR_F32),
          *c = floats((uint64_t)N * N, IR_F32);
    double best = 1e9;
    for (int i = 0; i < 10; i++) {
        const double t0 = now();
        cpu_gemm(&(struct gemm){ .m = N, .n = N, .k = N, .a = as_is(a, N), .b = as_is(b, N), .c = c, .ldc = N });
        const double t = now() - t0;
        best = t < best ? t : best;
    }
    return 2.0 * N * N * N / best;
}

static double peak_bytes(void)
{
    const uint64_t n = 1 << 26;
    float *x = floats(n, IR_F32), *y = floats(n, IR_F32);
    struct op_args a = { .in = { x, y }, .out = { y }, .n = n, .compute = IR_F32 };
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        const double t0 = now();
        compute_cpu.kernel(IR_OP_SUM, IR_PASS_F)(&a);
        const double t = now() - t0;
        best = t < best ? t : best;
    }
    free(x);
    free(y);
    return 12.0 * (double)n / best;
}

static double sum_time, sum_floor;

static void report(const char *name, const char *pass, int count, double seconds, double flop, double bytes,
                   double peak, double bandwidth)
{
    const double floor = flop / peak > bytes / bandwidth ? flop / peak : bytes / bandwidth;
    sum_time += count * seconds;
    sum_floor += count * floor;
    printf("%-12s %-3s %3d %9.3f %9.3f %6.2f %8.1f %8.1f %9.1f\n", name, pass, count, seconds * 1e3, floor * 1e3,
           seconds / floor, flop / seconds / 1e9, bytes / seconds / 1e9, count * seconds * 1e3);
}

static void bench_row(const struct row *r, uint32_t b, uint32_t t, double peak, double bandwidth)
{
    double scalars[SCALAR_COUNT] = { 0 };
    struct op_args a[2 * LAYERS + 1];
    for (int i = 0; i < r->count; i++)
        a[i] = operands(r, b, t, scalars);
    for (int pass = IR_PASS_F; pass < IR_PASS_COUNT; pass++) {
        const bool nothing = pass == IR_PASS_BW && ir_op_params(r->op, &r->a) == 0;
        const op_kernel f = nothing ? NULL : compute_cpu.kernel(r->op, (enum ir_pass)pass);
        double best = 1e9;
        for (int round = 0; round < ROUNDS && f; round++) {
            const double t0 = now();
            for (int i = 0; i < r->count; i++)
                f(&a[i]);
            const double seconds = (now() - t0) / r->count;
            best = seconds < best ? seconds : best;
        }
        if (f)
            report(r->name, ir_pass_name((enum ir_pass)pass), r->count, best,
                   ir_op_info[r->op].flops(&r->a, (enum ir_pass)pass, b, t),
                   ir_op_bytes(r->op, &r->a, (enum ir_pass)pass, b, t, compute), peak, bandwidth);
    }
    for (int i = 0; i < r->count; i++)
        for (int k = 0; k < 3; k++) {
            void *const all[] = { a[i].in[k], a[i].din[k], a[i].out[k], a[i].dout[k], a[i].param[k], a[i].dparam[k] };
            for (size_t j = 0; j < sizeof all / sizeof *all; j++)
                free(all[j]);
        }
}

static void bench_update(double peak, double bandwidth)
{
    const uint64_t n = 124439808;
    const struct optimizer_args opt = { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f };
    struct update_args u = { .opt = &opt, .n = n, .n_decay = n, .compute = compute };
    u.master = floats(n, IR_F32);
    u.m = floats(n, IR_F32);
    u.v = floats(n, IR_F32);
    u.grad = floats(n, IR_F32);
    u.param = compute == IR_F32 ? u.master : floats(n, compute);
    double best = 1e9, norm = 1e9, sum = 0, bad = 0;
    for (uint64_t i = 0; i < n; i++)
        u.v[i] = 0.01f;
    for (int round = 0; round < ROUNDS; round++) {
        const struct step_inputs s = { .lr = 1e-4, .grad_scale = 1, .update = 1 + (uint64_t)round };
        double t0 = now();
        compute_cpu.update(&u, &s);
        double t = now() - t0;
        best = t < best ? t : best;
        t0 = now();
        compute_cpu.sumsq(u.grad, n, &sum, &bad, NULL);
        t = now() - t0;
        norm = t < norm ? t : norm;
    }
    report("sumsq", "", 1, norm, 0, 4.0 * (double)n, peak, bandwidth);
    report("adamw", "", 1, best, 0, (compute == IR_F32 ? 28.0 : 30.0) * (double)n, peak, bandwidth);
}

int main(int argc, char **argv)
{
    threads = argc > 1 ? atoi(argv[1]) : 2;
    const uint32_t b = argc > 2 ? (uint32_t)atoi(argv[2]) : 4, t = argc > 3 ? (uint32_t)atoi(argv[3]) : 64;
    if (argc > 4)
        compute = IR_BF16;
    compute_cpu.set_threads(threads);
    const double peak = peak_flops(), bandwidth = peak_bytes();
    printf("%s, %s loops, %d threads, batch %u x %u: products %.0f GFLOP/s, memory %.1f GB/s\n\n",
           cpu_products_name(compute == IR_BF16), cpu_vec()->name, threads, b, t, peak / 1e9, bandwidth / 1e9);
    printf("%-12s %-3s %3s %9s %9s %6s %8s %8s %9s\n", "operator", "", "n", "ms", "floor ms", "ratio", "GFLOP/s",
           "GB/s", "step ms");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        bench_row(&rows[i], b, t, peak, bandwidth);
    bench_update(peak, bandwidth);
    printf("\nstep %.1f ms, floor %.1f ms, %.0f tokens/s\n", sum_time * 1e3, sum_floor * 1e3, b * t / sum_time);
    return 0;
}
