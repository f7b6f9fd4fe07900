/* Grouped products of the experts and their gates, (silu(x G') * (x U')) D' or as the attributes say. Rows stand in ep parts, one per source device; counts: (ep,
 * local experts, b).
 *
 * Capacity: a part is (local experts, b, capacity) and rows beyond a count are zero, so products over all rows need no count:
 * the experts of a part are one batch. Dropless: parts follow each other and hold just the rows counted. Most layers of them are
 * grouped.cu's; here are the others, whose products' sizes are read on the host, from pinned memory, once the stream has come so
 * far.
 *
 * work: a product's, then tiles of the hidden layer (rows of cuda_expert_tile(), F). */
#include <cuda_runtime_api.h>
#include <string.h>

#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/libs.h"
#include "cuda/libs_private.h"
#include "ir/target_cuda.h"
#include "ir/target_cuda_own.h"

/* Products of `batch` experts from local expert e on: rows [row, row+n) for the first, then n more for each. */
struct run {
    uint64_t row, n;
    uint32_t e, batch;
    uint64_t like; /* dropless: n as algorithms are chosen for it; 0: n itself */
    bool first;    /* of these experts in this kernel: gradients are written if nothing says to add */
};

struct experts {
    const struct op_args *a;
    struct cuda__products *to;
    enum ir_pass pass;
    uint32_t local; /* experts here */
    uint64_t c, f;
    uint32_t size; /* bytes of an element */
    char *tile[3];
};

typedef void (*run_fn)(const struct experts *x, const struct run *r);

static struct {
    int32_t *count; /* pinned */
    uint64_t n;
} host;

static struct experts experts_of(const struct op_args *a, enum ir_pass pass, struct cuda__products *to)
{
    const struct ir_attrs *at = a->attrs;
    struct experts x = {
        .a = a, .to = to, .pass = pass, .local = at->experts / a->ep, .c = at->features, .f = at->ffn
    };
    uint32_t whole;
    x.size = ir_dtype_size(IR_COMPUTE, (enum ir_dtype)a->compute);
    const uint64_t tile = round_up(cuda_expert_tile(at, a->b, a->t, a->ep, &whole) * x.f * x.size, CUDA_ALIGNMENT);
    for (uint32_t i = 0; i < 3; i++)
        x.tile[i] = cuda__work_after(a, IR_OP_EXPERTS, pass) + i * tile;
    return x;
}

/* ---- products ------------------------------------------------------------------------------------------------------ */

/* Rows of a (rows, width) operand that belong to the run. */
static void *rows_of(const struct experts *x, const struct run *r, void *at, uint64_t width)
{
    return (char *)at + r->row * width * x->size;
}

/* Weights, or their gradients in float32, of the run's first expert. */
static void *expert_of(const struct experts *x, const struct run *r, void *at, uint32_t size)
{
    return (char *)at + r->e * x->f * x->c * size;
}

/* Parameter `which` is (rows, columns): (F,C), and (C,F) for the last. */
static uint64_t rows_in(const struct experts *x, uint32_t which)
{
    return which == 2 ? x->c : x->f;
}

static uint64_t columns_in(const struct experts *x, uint32_t which)
{
    return which == 2 ? x->f : x->c;
}

/* Forward Y (n,rows) = start + X (n,columns) W', back Y (n,columns) = start + X (n,rows) W, W: parameter `which`. */
static void rows_product(const struct experts *x, const struct run *r, uint32_t which, void *y, const void *start,
                         const void *rows)
{
    const bool turned = x->pass == IR_PASS_F;
    const uint64_t width = columns_in(x, which);
    struct cuda_matmul p = cuda__product_of(x->a, IR_OP_EXPERTS, x->pass);
    p.m = r->n;
    p.n = p.ldc = turned ? rows_in(x, which) : width;
    p.k = turned ? width : rows_in(x, which);
    p.batch = r->batch;
    p.like_m = r->like;
    p.a = (struct cuda_matrix){ .at = rows, .ld = p.k, .stride = r->n * p.k };
    p.b = (struct cuda_matrix){
        .at = expert_of(x, r, x->a->param[which], x->size), .ld = width, .turned = turned, .stride = x->f * x->c
    };
    p.c = y;
    p.stride_c = r->n * p.n;
    p.start = start;
    cuda__product(x->to, &p);
    if (turned && x->a->attrs->flags & IR_BIAS && !x->to->prepare)
        cuda_expert_bias_add(&(struct cuda_expert_bias){ .a = x->a,
                                                         .y = y,
                                                         .bias = x->a->param[3 + which],
                                                         .width = (uint32_t)p.n,
                                                         .e = r->e,
                                                         .batch = r->batch,
                                                         .n = r->n,
                                                         .row = r->row });
}

/* dW (rows,columns) = X' Y, X (n,rows), Y (n,columns). */
static void weight_product(const struct experts *x, const struct run *r, uint32_t which, const void *of_rows,
                           const void *of_columns)
{
    struct cuda_matmul p = cuda__product_of(x->a, IR_OP_EXPERTS, x->pass);
    p.m = rows_in(x, which);
    p.n = p.ldc = columns_in(x, which);
    p.k = r->n;
    p.batch = r->batch;
    p.like_k = r->like;
    p.a = (struct cuda_matrix){ .at = of_rows, .ld = p.m, .turned = true, .stride = r->n * p.m };
    p.b = (struct cuda_matrix){ .at = of_columns, .ld = p.n, .stride = r->n * p.n };
    p.c = expert_of(x, r, x->a->dparam[which], sizeof(float));
    p.stride_c = x->f * x->c;
    p.out = IR_F32;
    p.start = !r->first || x->a->dparam_add >> which & 1 ? p.c : NULL;
    cuda__product(x->to, &p);
}

/* in: gate, up. h = their gated layer, or with dh their gradients d: our elementwise kernels, on the run's rows as one matrix. */
static void swiglu(const struct experts *x, const struct run *r, void *const in[2], void *h, void *dh, void *const d[2])
{
    const struct ir_attrs *at = x->a->attrs;
    const struct ir_attrs attrs = {
        .features = at->ffn, .act = at->act, .clamp = at->clamp, .alpha = at->alpha, .flags = at->flags & IR_ONE_PLUS
    };
    struct op_args a = { .attrs = &attrs,
                         .op = IR_OP_SWIGLU,
                         .b = r->batch,
                         .t = (uint32_t)r->n,
                         .ep = 1,
                         .compute = x->a->compute,
                         .in = { in[0], in[1] },
                         .out = { h },
                         .dout = { dh },
                         .stream = x->a->stream,
                         .train = true };
    if (x->to->prepare)
        return;
    if (!dh) {
        cuda_swiglu_f(&a);
        return;
    }
    a.din[0] = d[0];
    a.din[1] = d[1];
    cuda_swiglu_bi(&a);
}

static void forward(const struct experts *x, const struct run *r)
{
    const struct op_args *a = x->a;
    void *const hidden[2] = { a->save[0] ? rows_of(x, r, a->save[0], x->f) : x->tile[1],
                              a->save[1] ? rows_of(x, r, a->save[1], x->f) : x->tile[2] };
    const void *in = rows_of(x, r, a->in[0], x->c);
    rows_product(x, r, 0, hidden[0], NULL, in);
    rows_product(x, r, 1, hidden[1], NULL, in);
    swiglu(x, r, hidden, x->tile[0], NULL, NULL);
    rows_product(x, r, 2, rows_of(x, r, a->out[0], x->c), NULL, x->tile[0]);
}

static void inputs(const struct experts *x, const struct run *r)
{
    const struct op_args *a = x->a;
    void *const hidden[2] = { rows_of(x, r, a->save[0], x->f), rows_of(x, r, a->save[1], x->f) };
    void *const d[2] = { rows_of(x, r, a->stash[0], x->f), rows_of(x, r, a->stash[1], x->f) };
    void *dx = rows_of(x, r, a->din[0], x->c);
    rows_product(x, r, 2, x->tile[0], NULL, rows_of(x, r, a->dout[0], x->c));
    swiglu(x, r, hidden, NULL, x->tile[0], d);
    rows_product(x, r, 0, dx, a->acc[0] ? rows_of(x, r, a->acc[0], x->c) : NULL, d[0]);
    rows_product(x, r, 1, dx, dx, d[1]);
}

static void weights(const struct experts *x, const struct run *r)
{
    const struct op_args *a = x->a;
    for (uint32_t i = 0; i < 2; i++)
        if (a->dparam[i])
            weight_product(x, r, i, rows_of(x, r, a->stash[i], x->f), rows_of(x, r, a->in[0], x->c));
    if (!a->dparam[2])
        return;
    void *const hidden[2] = { rows_of(x, r, a->save[0], x->f), rows_of(x, r, a->save[1], x->f) };
    swiglu(x, r, hidden, x->tile[0], NULL, NULL);
    weight_product(x, r, 2, rows_of(x, r, a->dout[0], x->c), x->tile[0]);
}

/* ---- runs ------------------------------------------------------------------------------------------------------------ */

static void capacity_runs(const struct experts *x, run_fn run)
{
    const struct ir_attrs *at = x->a->attrs;
    const uint64_t rows = (uint64_t)x->a->b * at->capacity;
    uint32_t whole;
    cuda_expert_tile(at, x->a->b, x->a->t, x->a->ep, &whole);
    for (uint32_t part = 0; part < x->a->ep; part++)
        for (uint32_t e = 0; e < x->local; e += whole)
            run(x, &(struct run){ .row = ((uint64_t)part * x->local + e) * rows,
                                  .n = rows,
                                  .e = e,
                                  .batch = x->local - e < whole ? x->local - e : whole,
                                  .first = part == 0 });
}

/* Sizes for which algorithms are chosen: an eighth of the power of two below apart, so few of them serve all. */
static uint64_t near(uint64_t n)
{
    uint64_t step = 16;
    while (step * 16 <= n)
        step *= 2;
    return round_up(n, step);
}

/* Counts as the stream has them, on the host. */
static const int32_t *counts(const struct experts *x)
{
    const uint64_t n = (uint64_t)x->a->ep * x->local * x->a->b;
    cudaStream_t stream = x->a->stream;
    CHECK(n <= host.n); /* cuda_libs_prepare() saw this kernel */
    cuda__check(cudaMemcpyAsync(host.count, x->a->in[1], n * sizeof *host.count, cudaMemcpyDeviceToHost, stream),
                "cudaMemcpyAsync");
    cuda__check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    return host.count;
}

static void dropless_runs(const struct experts *x, run_fn run)
{
    const uint32_t b = x->a->b, segments = x->a->ep * x->local;
    const int32_t *count = counts(x);
    uint32_t whole;
    const uint64_t most = cuda_expert_tile(x->a->attrs, b, x->a->t, x->a->ep, &whole);
    uint64_t row = 0;
    for (uint32_t i = 0; i < segments; i++) {
        uint64_t rows = 0;
        for (uint32_t s = 0; s < b; s++)
            rows += (uint64_t)count[(uint64_t)i * b + s];
        for (uint64_t n; rows > 0; rows -= n, row += n) {
            n = rows < most ? rows : most;
            run(x, &(struct run){ .row = row, .n = n, .e = i % x->local, .batch = 1, .like = near(n) });
        }
    }
}

/* Gradients of weights start from zero where a microbatch may bring no row. */
static void clear_weights(const struct experts *x)
{
    for (uint32_t i = 0; i < 3; i++)
        if (x->a->dparam[i] && !(x->a->dparam_add >> i & 1))
            cuda__check(cudaMemsetAsync(x->a->dparam[i], 0, x->local * x->f * x->c * sizeof(float), x->a->stream),
                        "cudaMemsetAsync");
}

/* All sizes that a step may bring: the algorithms are there before the first. */
static void dropless_prepare(const struct experts *x, run_fn run)
{
    uint32_t whole;
    const uint64_t most = cuda_expert_tile(x->a->attrs, x->a->b, x->a->t, x->a->ep, &whole);
    for (uint64_t n = near(1); x->to->status == ST_OK; n = near(n + 1)) {
        run(x, &(struct run){ .n = n < most ? n : most, .batch = 1, .like = n });
        if (n >= most)
            return;
    }
}

void cuda__experts(const struct op_args *a, enum ir_pass pass, struct cuda__products *to)
{
    if (cuda_experts_grouped(a->attrs)) {
        if (!to->prepare)
            (pass == IR_PASS_F ? cuda_grouped_f : pass == IR_PASS_BI ? cuda_grouped_bi : cuda_grouped_bw)(a);
        return;
    }
    const struct experts x = experts_of(a, pass, to);
    const run_fn run = pass == IR_PASS_F ? forward : pass == IR_PASS_BI ? inputs : weights;
    if (a->attrs->capacity) {
        capacity_runs(&x, run);
    } else if (to->prepare) {
        to->time = false; /* the sizes of a step are not known */
        dropless_prepare(&x, run);
    } else {
        if (pass == IR_PASS_BW)
            clear_weights(&x);
        dropless_runs(&x, run);
    }
    if (pass == IR_PASS_BW && a->attrs->flags & IR_BIAS && !to->prepare)
        cuda_expert_bias_sums(a);
}

enum status cuda__experts_open(const struct op_args *a, struct err *e)
{
    const uint64_t n = (uint64_t)a->attrs->experts * a->b;
    if (!cuda_host_reads(IR_OP_EXPERTS, a->attrs) || n <= host.n)
        return ST_OK;
    cuda__experts_close();
    if (cudaMallocHost((void **)&host.count, n * sizeof *host.count) != cudaSuccess)
        return err_set(e, ST_DEVICE, "CUDA",
                       "cannot allocate %llu bytes of pinned memory for the counts of the experts (ulimit -l)",
                       (unsigned long long)(n * sizeof *host.count));
    host.n = n;
    return ST_OK;
}

void cuda__experts_close(void)
{
    if (host.count)
        cuda__check(cudaFreeHost(host.count), "cudaFreeHost");
    host.count = NULL;
    host.n = 0;
}

bool cuda_host_reads(enum ir_op op, const struct ir_attrs *a)
{
    return op == IR_OP_EXPERTS && !a->capacity && !cuda_experts_grouped(a);
}

void cuda_experts_f(const struct op_args *a)
{
    cuda__experts(a, IR_PASS_F, &(struct cuda__products){ 0 });
}

void cuda_experts_bi(const struct op_args *a)
{
    cuda__experts(a, IR_PASS_BI, &(struct cuda__products){ 0 });
}

void cuda_experts_bw(const struct op_args *a)
{
    cuda__experts(a, IR_PASS_BW, &(struct cuda__products){ 0 });
}
