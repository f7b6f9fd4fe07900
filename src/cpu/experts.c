/* Grouped SwiGLU products of the experts: expert by expert, in runs of rows that lie together, CPU_EXPERT_ROWS at
 * most.
 *
 * Rows stand in ep parts, one per source device: in capacity mode a part is (local experts, b, capacity) and rows
 * beyond a count are zero; dropless parts follow each other and hold just the rows counted. Counts: (ep, local
 * experts, b). work: dropless, the first row of each part and expert, (ep, local experts) uint64; then tiles
 * (CPU_EXPERT_ROWS, F). */
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"
#include "ir/target_cpu.h"

/* A gap of unused rows that is cheaper to compute (they are zero) than to cut a product at. */
enum { GAP = 16 };

struct experts {
    const struct op_args *a;
    const int32_t *count;
    uint64_t *first; /* dropless only */
    float *tile[2];
    size_t local, c, f; /* experts here, C, F */
    size_t segments;    /* of one expert: ep*b in capacity mode, else ep */
    size_t rows, tile_rows;
};

/* Rows of one expert still to be visited. */
struct walk {
    size_t expert, segment, row, end;
    size_t part; /* of the row before end */
};

static size_t count_of(const struct experts *x, size_t part, size_t sequence, size_t e)
{
    return (size_t)x->count[(part * x->local + e) * x->a->b + sequence];
}

static struct experts experts(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    struct experts x = { .a = a, .count = a->in[1], .local = at->experts / a->ep, .c = at->features, .f = at->ffn };
    char *work = a->work;
    if (at->capacity) {
        x.segments = (size_t)a->ep * a->b;
        x.rows = (size_t)at->experts * a->b * at->capacity;
    } else {
        x.segments = a->ep;
        x.first = (uint64_t *)(void *)work;
        work += round_up(at->experts * sizeof *x.first, 64);
        for (size_t p = 0; p < a->ep; p++)
            for (size_t e = 0; e < x.local; e++) {
                x.first[p * x.local + e] = x.rows;
                for (size_t s = 0; s < a->b; s++)
                    x.rows += count_of(&x, p, s, e);
            }
    }
    const size_t most = (size_t)a->ep * a->b * (at->capacity ? at->capacity : (size_t)a->t * at->top_k);
    x.tile_rows = most < CPU_EXPERT_ROWS ? most : CPU_EXPERT_ROWS;
    x.tile[0] = (float *)(void *)work;
    x.tile[1] = x.tile[0] + x.tile_rows * x.f;
    return x;
}

/* First row and number of rows of segment i of expert e. */
static size_t segment(const struct experts *x, size_t e, size_t i, size_t *n)
{
    if (x->a->attrs->capacity) {
        const size_t b = x->a->b, p = i / b, s = i % b;
        *n = count_of(x, p, s, e);
        return ((p * x->local + e) * b + s) * x->a->attrs->capacity;
    }
    const size_t at = i * x->local + e;
    *n = (size_t)((at + 1 < x->local * x->a->ep ? x->first[at + 1] : x->rows) - x->first[at]);
    return (size_t)x->first[at];
}

/* The next run of rows of the expert: true, *row and *n, or false at the end. */
static bool next_run(const struct experts *x, struct walk *w, size_t *row, size_t *n)
{
    for (; w->segment < x->segments; w->segment++) {
        size_t rows, at = segment(x, w->expert, w->segment, &rows);
        if (rows == 0)
            continue;
        /* between sequences of one part nothing but unused rows lie; elsewhere other experts */
        const size_t part = x->a->attrs->capacity ? w->segment / x->a->b : w->segment, gap = part == w->part ? GAP : 0;
        if (w->row < w->end && at > w->end + gap)
            break;
        if (w->row == w->end)
            w->row = at;
        w->end = at + rows;
        w->part = part;
    }
    *row = w->row;
    *n = w->end - w->row < x->tile_rows ? w->end - w->row : x->tile_rows;
    w->row += *n;
    return *n > 0;
}

/* Capacity mode: rows beyond the counts. */
static void zero_unused(const struct experts *x, float *rows)
{
    const size_t capacity = x->a->attrs->capacity;
    if (!capacity)
        return;
#pragma omp parallel for schedule(static) num_threads(cpu_team(x->rows, x->c))
    for (size_t e = 0; e < x->local; e++)
        for (size_t i = 0; i < x->segments; i++) {
            size_t n, row = segment(x, e, i, &n);
            memset(rows + (row + n) * x->c, 0, (capacity - n) * x->c * sizeof *rows);
        }
}

enum { PIECE = 1 << 12 };

static void swiglu(float *h, const float *gate, const float *up, size_t n)
{
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE)
        v->swiglu(h + i, gate + i, up + i, n - i < PIECE ? n - i : PIECE);
}

static void swiglu_grad(float *const d[2], const float *gate, const float *up, const float *dh, size_t n)
{
    static const float *const none[2];
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        float *const at[2] = { d[0] + i, d[1] + i };
        v->swiglu_grad(at, none, gate + i, up + i, dh + i, n - i < PIECE ? n - i : PIECE);
    }
}

/* Y (n,out) = X (n,in) W', W (out,in). */
static void times_transposed(float *y, const float *x, const float *w, size_t n, size_t out, size_t in)
{
    cpu_gemm(&(struct gemm){ .m = n, .n = out, .k = in, .a = as_is(x, in), .b = turned(w, in), .c = y, .ldc = out });
}

/* Y (n,in) = start + X (n,out) W, W (out,in). */
static void times(float *y, const float *start, const float *x, const float *w, size_t n, size_t out, size_t in)
{
    cpu_gemm(&(struct gemm){
        .m = n, .n = in, .k = out, .a = as_is(x, out), .b = as_is(w, in), .c = y, .ldc = in, .start = start });
}

/* dW (out,in) = X' Y, X (n,out), Y (n,in), added to what is there if `add`. */
static void weight_grad(float *dw, bool add, const float *x, const float *y, size_t n, size_t out, size_t in)
{
    cpu_gemm(&(struct gemm){ .m = out,
                             .n = in,
                             .k = n,
                             .a = turned(x, out),
                             .b = as_is(y, in),
                             .c = dw,
                             .ldc = in,
                             .start = add ? dw : NULL });
}

void cpu_experts_f(const struct op_args *a)
{
    const struct experts x = experts(a);
    const float *in = a->in[0], *g = a->param[0], *u = a->param[1], *d = a->param[2];
    float *out = a->out[0], *gates = a->save[0], *ups = a->save[1];
    zero_unused(&x, out);
    for (size_t e = 0; e < x.local; e++) {
        const size_t w = e * x.f * x.c;
        struct walk walk = { .expert = e };
        for (size_t row, n; next_run(&x, &walk, &row, &n);) {
            float *gate = gates ? gates + row * x.f : x.tile[0], *up = ups ? ups + row * x.f : x.tile[1];
            times_transposed(gate, in + row * x.c, g + w, n, x.f, x.c);
            times_transposed(up, in + row * x.c, u + w, n, x.f, x.c);
            swiglu(x.tile[0], gate, up, n * x.f);
            times_transposed(out + row * x.c, x.tile[0], d + w, n, x.c, x.f);
        }
    }
}

void cpu_experts_bi(const struct op_args *a)
{
    const struct experts x = experts(a);
    const float *dout = a->dout[0], *g = a->param[0], *u = a->param[1], *d = a->param[2];
    const float *gates = a->save[0], *ups = a->save[1];
    float *din = a->din[0], *dgates = a->stash[0], *dups = a->stash[1], *dh = x.tile[0];
    if (a->acc[0])
        cpu_start_from(din, a->acc[0], x.rows * x.c);
    else
        zero_unused(&x, din);
    for (size_t e = 0; e < x.local; e++) {
        const size_t w = e * x.f * x.c;
        struct walk walk = { .expert = e };
        for (size_t row, n; next_run(&x, &walk, &row, &n);) {
            float *dx = din + row * x.c, *const grads[2] = { dgates + row * x.f, dups + row * x.f };
            times(dh, NULL, dout + row * x.c, d + w, n, x.c, x.f);
            swiglu_grad(grads, gates + row * x.f, ups + row * x.f, dh, n * x.f);
            times(dx, a->acc[0] ? dx : NULL, grads[0], g + w, n, x.f, x.c);
            times(dx, dx, grads[1], u + w, n, x.f, x.c);
        }
    }
}

void cpu_experts_bw(const struct op_args *a)
{
    const struct experts x = experts(a);
    const float *in = a->in[0], *dout = a->dout[0], *gates = a->save[0], *ups = a->save[1];
    const float *dgates = a->stash[0], *dups = a->stash[1];
    float *h = x.tile[0];
    for (size_t e = 0; e < x.local; e++) {
        const size_t w = e * x.f * x.c;
        float *dg = (float *)a->dparam[0] + w, *du = (float *)a->dparam[1] + w, *dd = (float *)a->dparam[2] + w;
        bool add[3] = { a->dparam_add & 1, a->dparam_add & 2, a->dparam_add & 4 };
        struct walk walk = { .expert = e };
        for (size_t row, n; next_run(&x, &walk, &row, &n);) {
            weight_grad(dg, add[0], dgates + row * x.f, in + row * x.c, n, x.f, x.c);
            weight_grad(du, add[1], dups + row * x.f, in + row * x.c, n, x.f, x.c);
            swiglu(h, gates + row * x.f, ups + row * x.f, n * x.f);
            weight_grad(dd, add[2], dout + row * x.c, h, n, x.c, x.f);
            add[0] = add[1] = add[2] = true;
        }
        float *const grads[3] = { dg, du, dd };
        for (int i = 0; i < 3; i++)
            if (!add[i]) /* an expert without rows */
                cpu_zero(grads[i], x.f * x.c);
    }
}
