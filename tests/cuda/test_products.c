/* cuda_matmul() and cuda_sdpa() by themselves, beside the operators that use them: float64 on the host says what comes out. Odd
 * sizes, rows longer than they need be, batches, epilogues; what a call does not own stays as it was. The same cases run on
 * stand-ins of the libraries (tests/cuda/libs) and on a device (tests/gpu). */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cuda/matmul.h"
#include "cuda/sdpa.h"
#include "ir/target_cuda.h"
#include "num/machine.h"

enum { WORK = 4 << 20, ENGINE = 16 << 20 };

/* Workspace on the machine, and where it begins at a multiple of 256 bytes. */
static struct guarded workspace(size_t bytes, void **at)
{
    struct guarded g = machine_buffer(machine, bytes + CUDA_ALIGNMENT);
    *at = (char *)g.device + (CUDA_ALIGNMENT - (uintptr_t)g.device % CUDA_ALIGNMENT) % CUDA_ALIGNMENT;
    return g;
}

static void drop(struct guarded *g)
{
    if (g->base)
        machine_free(machine, g);
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

enum start { FROM_NOTHING, IN_PLACE, FROM_ANOTHER };
struct product {
    uint32_t m, n, k, batch;
    bool turned_a, turned_b, bias, wide; /* wide: the output is float32 */
    enum start start;
    enum cuda_epilogue epilogue;
};
static const struct product products[] = {
    { 1, 1, 1, 1, .wide = true },
    { 5, 7, 3, 1, .wide = true },
    { 6, 16, 5, 1, .bias = true },
    { 33, 40, 129, 1, .turned_a = true },
    { 64, 72, 31, 1, .turned_b = true },
    { 40, 24, 64, 1, .turned_a = true, .turned_b = true, .wide = true, .start = IN_PLACE },
    { 257, 136, 65, 1, .turned_a = true, .wide = true, .start = IN_PLACE },
    { 17, 8, 200, 1, .start = FROM_ANOTHER },
    { 12, 16, 20, 3, .bias = false },
    { 12, 16, 20, 3, .turned_b = true, .wide = true, .start = IN_PLACE },
    { 6, 16, 5, 1, .bias = true, .epilogue = CUDA_GELU },
    { 130, 264, 96, 1, .bias = true, .epilogue = CUDA_GELU },
    { 6, 16, 5, 1, .epilogue = CUDA_GELU_GRAD },
    { 130, 264, 96, 1, .epilogue = CUDA_GELU_GRAD },
};

/* Operands, on the host (float64) and on the machine. Rows are `pad` longer than they need be, a product of a batch a row. */
struct operands {
    double *a, *b, *bias, *aux, *start, *want, *before; /* before: what the epilogue was given, (m,n) */
    struct guarded ga, gb, gc, gbias, gaux, gstart, work;
    size_t lda, ldb, ldc, step_a, step_b, step_c; /* step: to the next product */
    enum ir_dtype out;
    struct cuda_matmul call;
};
enum { PAD = 8 };

static double gelu(double x, double *slope)
{
    const double c = 0.7978845608028654, th = tanh(c * (x + 0.044715 * x * x * x));
    *slope = 0.5 * (1 + th) + 0.5 * x * (1 - th * th) * c * (1 + 3 * 0.044715 * x * x);
    return 0.5 * x * (1 + th);
}

static void open_operands(struct operands *o, const struct product *p)
{
    struct rng r = { p->m * 7919 + p->n * 31 + p->k };
    const enum ir_dtype type = machine->compute;
    *o = (struct operands){ .out = p->wide ? IR_F32 : type };
    o->lda = (p->turned_a ? p->m : p->k) + PAD;
    o->ldb = (p->turned_b ? p->k : p->n) + PAD;
    o->ldc = p->n + PAD;
    o->step_a = ((p->turned_a ? p->k : p->m) + 1) * o->lda;
    o->step_b = ((p->turned_b ? p->n : p->k) + 1) * o->ldb;
    o->step_c = (p->m + 1) * o->ldc;
    const size_t na = p->batch * o->step_a, nb = p->batch * o->step_b, nc = p->batch * o->step_c;
    o->a = mem_alloc(na * sizeof(double));
    o->b = mem_alloc(nb * sizeof(double));
    o->bias = mem_alloc(p->n * sizeof(double));
    o->aux = mem_alloc(nc * sizeof(double));
    o->start = mem_alloc(nc * sizeof(double));
    o->want = mem_alloc(nc * sizeof(double));
    o->before = mem_alloc(nc * sizeof(double));
    o->ga = machine_random(na, type, &r, o->a);
    o->gb = machine_random(nb, type, &r, o->b);
    o->gc = p->start == IN_PLACE ? machine_random(nc, o->out, &r, o->start) : machine_elements(nc, o->out);
    machine_put(machine, &o->gc);
    if (p->bias)
        o->gbias = machine_random(p->n, type, &r, o->bias);
    if (p->epilogue == CUDA_GELU_GRAD)
        o->gaux = machine_random(nc, type, &r, o->aux);
    else if (p->epilogue == CUDA_GELU)
        o->gaux = machine_elements(nc, type);
    if (o->gaux.base)
        machine_put(machine, &o->gaux);
    if (p->start == FROM_ANOTHER)
        o->gstart = machine_random(nc, o->out, &r, o->start);
    o->call = (struct cuda_matmul){ .m = p->m,
                                    .n = p->n,
                                    .k = p->k,
                                    .batch = p->batch,
                                    .a = { o->ga.device, o->lda, p->turned_a, o->step_a },
                                    .b = { o->gb.device, o->ldb, p->turned_b, o->step_b },
                                    .c = o->gc.device,
                                    .ldc = o->ldc,
                                    .stride_c = o->step_c,
                                    .start = p->start == IN_PLACE ? o->gc.device : o->gstart.device,
                                    .bias = o->gbias.device,
                                    .aux = o->gaux.device,
                                    .epilogue = p->epilogue,
                                    .alpha = 0.5f,
                                    .type = type,
                                    .out = o->out,
                                    .work_bytes = WORK,
                                    .stream = machine->stream };
    o->work = workspace(WORK, &o->call.work);
}

static void close_operands(struct operands *o)
{
    struct guarded *const all[] = { &o->ga, &o->gb, &o->gc, &o->gbias, &o->gaux, &o->gstart, &o->work };
    double *const host[] = { o->a, o->b, o->bias, o->aux, o->start, o->want, o->before };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->base)
            ck_assert(guarded_intact(all[i]));
        drop(all[i]);
    }
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        mem_free(host[i]);
}

/* What product `batch` should be: element (i,j) of want and before. */
static void expected(struct operands *o, const struct product *p, size_t batch, size_t i, size_t j)
{
    const double *a = o->a + batch * o->step_a, *b = o->b + batch * o->step_b;
    const size_t at = batch * o->step_c + i * o->ldc + j;
    double x = 0, slope;
    for (size_t k = 0; k < p->k; k++)
        x += a[p->turned_a ? k * o->lda + i : i * o->lda + k] * b[p->turned_b ? j * o->ldb + k : k * o->ldb + j];
    x = 0.5 * x + o->start[at] + o->bias[j];
    o->before[at] = x;
    if (p->epilogue == CUDA_GELU) {
        x = gelu(x, &slope);
    } else if (p->epilogue == CUDA_GELU_GRAD) {
        gelu(o->aux[at], &slope);
        x *= slope;
    }
    o->want[at] = x;
}

/* The m x n elements of a result against what they should be, and all between rows against `kept`: a random operand that was
 * there before, NULL: poison. */
static void compare(const char *what, const struct operands *o, const struct product *p, const struct guarded *g,
                    enum ir_dtype type, const double *want, const double *kept)
{
    const double limit = type == IR_BF16 ? 0.01 : p->epilogue ? 1e-3 : 3e-5;
    float *got = mem_alloc((size_t)p->m * p->n * sizeof *got);
    double *dense = mem_alloc((size_t)p->m * p->n * sizeof *dense);
    for (size_t batch = 0; batch < p->batch; batch++) {
        size_t n = 0;
        for (size_t i = 0; i <= p->m; i++)
            for (size_t j = 0; j < o->ldc; j++) {
                const size_t at = batch * o->step_c + i * o->ldc + j;
                const double x = element(g, type, at);
                if (i < p->m && j < p->n) {
                    got[n] = (float)x;
                    dense[n++] = want[at];
                } else {
                    ck_assert_msg(kept ? x == kept[at] : isnan(x), "%s: %s %ux%ux%u: element (%zu,%zu) beside it",
                                  machine->name, what, p->m, p->n, p->k, i, j);
                }
            }
        const double error = worst_error(got, dense, n, 1e-3);
        ck_assert_msg(error <= limit, "%s: %s %ux%ux%u, product %zu: error %.3g", machine->name, what, p->m, p->n, p->k,
                      batch, error);
    }
    mem_free(got);
    mem_free(dense);
}

START_TEST(matrix_product)
{
    const struct product *p = &products[_i];
    struct err e = { 0 };
    struct operands o;
    open_operands(&o, p);
    for (size_t batch = 0; batch < p->batch; batch++)
        for (size_t i = 0; i < p->m; i++)
            for (size_t j = 0; j < p->n; j++)
                expected(&o, p, batch, i, j);
    ck_assert_msg(cuda_matmul_prepare(&o.call, false, &e) == ST_OK, "%s", e.text);
    cuda_matmul(&o.call);
    machine_get(machine, &o.gc);
    compare("product", &o, p, &o.gc, o.out, o.want, p->start == IN_PLACE ? o.start : NULL);
    if (p->epilogue == CUDA_GELU) {
        machine_get(machine, &o.gaux);
        compare("before GELU", &o, p, &o.gaux, machine->compute, o.before, NULL);
    }
    if (p->start == FROM_ANOTHER)
        machine_get(machine, &o.gstart);
    machine_get(machine, &o.work);
    close_operands(&o);
}
END_TEST

/* Algorithms that were timed and stored give the same bits in the process that reads them. */
START_TEST(stored_choice)
{
    static const struct product p = { 130, 264, 96, 1, .wide = true };
    struct err e = { 0 };
    struct operands o;
    char path[] = "products.XXXXXX";
    unsigned char *first = NULL;
    close(mkstemp(path));
    unlink(path);
    open_operands(&o, &p);
    for (int reads = 0; reads < 3; reads++) { /* 0: chooses and stores; 1: reads; 2: once more */
        if (reads < 2) {
            cuda__matmul_close();
            ck_assert_msg(cuda__matmul_open(path, "a device", machine->stream, &e) == ST_OK, "%s", e.text);
            cuda__matmul_choose(reads == 0);
            ck_assert_msg(cuda_matmul_prepare(&o.call, true, &e) == ST_OK, "%s", e.text);
        }
        guarded_poison(&o.gc);
        machine_put(machine, &o.gc);
        cuda_matmul(&o.call);
        machine_get(machine, &o.gc);
        if (reads == 0) {
            ck_assert_msg(cuda__matmul_store(path, "a device", &e) == ST_OK, "%s", e.text);
            ck_assert_int_eq(access(path, R_OK), 0);
            first = mem_alloc(o.gc.bytes);
            memcpy(first, o.gc.at, o.gc.bytes);
        }
        ck_assert(memcmp(first, o.gc.at, o.gc.bytes) == 0);
    }
    mem_free(first);
    close_operands(&o);
    unlink(path);
    cuda__matmul_close();
    ck_assert_msg(cuda__matmul_open(NULL, "a device", machine->stream, &e) == ST_OK, "%s", e.text);
}
END_TEST

/* ---- attention ---------------------------------------------------------------------------------------------------- */

static const struct {
    uint32_t b, heads, kv_heads, t, d;
    bool packed;
} attentions[] = {
    { 1, 1, 1, 3, 64, false },   { 2, 2, 2, 65, 64, true },  { 1, 4, 2, 130, 64, true },
    { 2, 4, 1, 33, 128, false }, { 1, 2, 2, 64, 128, true },
};

/* The operands of one case: the oracle's problem, and q, k, v (or all three packed) with their gradients on the machine. */
struct attention {
    struct problem oracle;
    struct cuda_sdpa call;
    struct guarded x[3], dx[3], o, stats, dout, sums, work;
    int n; /* of x */
};

static struct tensor tensor(size_t n)
{
    return (struct tensor){ .x = mem_alloc(n * sizeof(double)), .n = n };
}

static void open_attention(struct attention *a, int i)
{
    const int64_t b = attentions[i].b, heads = attentions[i].heads, kv = attentions[i].kv_heads, t = attentions[i].t;
    const int64_t d = attentions[i].d, all = (heads + 2 * kv) * d, rows = b * t;
    const bool packed = attentions[i].packed;
    const int64_t width[3] = { packed ? all : heads * d, kv * d, kv * d };
    struct rng r = { (uint64_t)(t + d) };
    *a = (struct attention){ .n = packed ? 1 : 3 };
    a->oracle = (struct problem){ .op = IR_OP_ATTENTION,
                                  .a = { .heads = attentions[i].heads,
                                         .kv_heads = attentions[i].kv_heads,
                                         .head_dim = attentions[i].d,
                                         .scale = 1 / sqrtf((float)d),
                                         .flags = packed ? IR_PACKED : 0 },
                                  .b = attentions[i].b,
                                  .t = attentions[i].t,
                                  .ep = 1 };
    for (int k = 0; k < a->n; k++) {
        const size_t n = (size_t)(rows * width[k]);
        a->oracle.in[k] = tensor(n);
        a->oracle.din[k] = tensor(n);
        a->x[k] = machine_random(n, IR_BF16, &r, a->oracle.in[k].x);
        a->dx[k] = machine_elements(n, IR_BF16);
        machine_put(machine, &a->dx[k]);
    }
    const size_t n = (size_t)(rows * heads * d);
    a->oracle.out[0] = tensor(n);
    a->oracle.dout[0] = tensor(n);
    a->o = machine_elements(n, IR_BF16);
    a->dout = machine_random(n, IR_BF16, &r, a->oracle.dout[0].x);
    a->stats = machine_elements((size_t)(rows * heads), IR_F32);
    a->sums = machine_elements((size_t)(rows * heads), IR_F32);
    machine_put(machine, &a->o);
    machine_put(machine, &a->stats);
    a->call = (struct cuda_sdpa){ .shape = { b, heads, kv, t, d, width[0], packed ? all : kv * d, packed ? all : kv * d,
                                             heads * d, t * width[0], t * (packed ? all : kv * d),
                                             t * (packed ? all : kv * d), t * heads * d, heads * t, 0 },
                                  .o = a->o.device,
                                  .stats = a->stats.device,
                                  .dout = a->dout.device,
                                  .sums = a->sums.device,
                                  .scale = a->oracle.a.scale,
                                  .stream = machine->stream };
    const int64_t first[3] = { 0, packed ? heads * d : 0, packed ? (heads + kv) * d : 0 };
    const void **const from[3] = { &a->call.q, &a->call.k, &a->call.v };
    void **const to[3] = { &a->call.dq, &a->call.dk, &a->call.dv };
    for (int k = 0; k < 3; k++) {
        *from[k] = (uint16_t *)a->x[packed ? 0 : k].device + first[k];
        *to[k] = (uint16_t *)a->dx[packed ? 0 : k].device + first[k];
    }
    a->work = workspace(ENGINE, &a->call.work);
}

static void close_attention(struct attention *a)
{
    struct guarded *const all[] = { &a->x[0], &a->x[1],  &a->x[2], &a->dx[0], &a->dx[1], &a->dx[2],
                                    &a->o,    &a->stats, &a->dout, &a->sums,  &a->work };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->base) {
            machine_get(machine, all[i]);
            ck_assert(guarded_intact(all[i]));
        }
        drop(all[i]);
    }
    for (int k = 0; k < a->n; k++) {
        mem_free(a->oracle.in[k].x);
        mem_free(a->oracle.din[k].x);
    }
    mem_free(a->oracle.out[0].x);
    mem_free(a->oracle.dout[0].x);
}

static void close_to(const char *what, const struct attention *a, const struct guarded *g, const struct tensor *want)
{
    float *x = mem_alloc(want->n * sizeof *x);
    machine_get(machine, g);
    for (size_t i = 0; i < want->n; i++)
        x[i] = (float)element(g, IR_BF16, i);
    /* bfloat16 probabilities, and gradients that cancel */
    const double error = worst_error(x, want->x, want->n, 0.02);
    ck_assert_msg(error <= 0.05, "%s: %s of %u heads, %u tokens of %u: error %.3g", machine->name, what,
                  a->oracle.a.heads, a->oracle.t, a->oracle.a.head_dim, error);
    mem_free(x);
}

START_TEST(attention)
{
    struct err e = { 0 };
    struct attention a;
    open_attention(&a, _i);
    oracle_forward(&a.oracle);
    oracle_backward(&a.oracle);
    ck_assert_msg(cuda_sdpa_prepare(&a.call.shape, ENGINE, &e) == ST_OK, "%s", e.text);
    cuda_sdpa(&a.call);
    close_to("output", &a, &a.o, &a.oracle.out[0]);
    a.call.shape.backward = 1;
    ck_assert_msg(cuda_sdpa_prepare(&a.call.shape, ENGINE, &e) == ST_OK, "%s", e.text);
    unsigned char *first[3] = { 0 };
    for (int twice = 0; twice < 2; twice++) {
        cuda_sdpa(&a.call);
        for (int k = 0; k < a.n; k++) {
            close_to("gradient", &a, &a.dx[k], &a.oracle.din[k]);
            if (twice == 0)
                first[k] = memcpy(mem_alloc(a.dx[k].bytes), a.dx[k].at, a.dx[k].bytes);
            else
                ck_assert_msg(memcmp(first[k], a.dx[k].at, a.dx[k].bytes) == 0, "not the same bits the second time");
            guarded_poison(&a.dx[k]);
            machine_put(machine, &a.dx[k]);
        }
    }
    for (int k = 0; k < a.n; k++)
        mem_free(first[k]);
    close_attention(&a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("products");
    TCase *t = tcase_create(machine->name);
    tcase_set_timeout(t, 100);
    tcase_add_loop_test(t, matrix_product, 0, (int)(sizeof products / sizeof *products));
    tcase_add_test(t, stored_choice);
    if (machine->compute == IR_BF16)
        tcase_add_loop_test(t, attention, 0, (int)(sizeof attentions / sizeof *attentions));
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return run_machines(suite);
}
