/* Grouped products and gated activation of the experts: expert by expert, in runs of rows that lie together, CPU_EXPERT_ROWS at
 * most.
 *
 * Rows stand in ep parts, one per source device: in capacity mode a part is (local experts, b, capacity) and rows
 * beyond a count are zero; dropless parts follow each other and hold just the rows counted. Counts: (ep, local
 * experts, b). work: dropless, the first row of each part and expert, (ep, local experts) uint64; then tiles
 * (CPU_EXPERT_ROWS, F); in bfloat16, BI, a float32 tile (CPU_EXPERT_ROWS, C), the sum of two products. */
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
    bool half;
    size_t size; /* of an element */
    void *tile[2];
    float *sum;
    size_t local, c, f; /* experts here, C, F */
    size_t segments;    /* of one expert: ep*b in capacity mode, else ep */
    size_t rows, tile_rows, gap;
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
    struct experts x = { .a = a,
                         .count = a->in[1],
                         .half = cpu_half(a),
                         .size = cpu_half(a) ? sizeof(uint16_t) : sizeof(float),
                         .local = at->experts / a->ep,
                         .c = at->features,
                         .f = at->ffn,
                         .gap = at->flags & IR_BIAS ? 0 : GAP }; /* with a bias an unused row would not stay zero */
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
    const size_t tile = round_up(x.tile_rows * x.f * x.size, 64);
    x.tile[0] = work;
    x.tile[1] = work + tile;
    x.sum = (float *)(void *)(work + tile);
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
        const size_t part = x->a->attrs->capacity ? w->segment / x->a->b : w->segment,
                     gap = part == w->part ? x->gap : 0;
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
static void zero_unused(const struct experts *x, void *rows)
{
    const size_t capacity = x->a->attrs->capacity;
    if (!capacity)
        return;
#pragma omp parallel for schedule(static) num_threads(cpu_team(x->rows, x->c))
    for (size_t e = 0; e < x->local; e++)
        for (size_t i = 0; i < x->segments; i++) {
            size_t n, row = segment(x, e, i, &n);
            memset((char *)rows + (row + n) * x->c * x->size, 0, (capacity - n) * x->c * x->size);
        }
}

enum { PIECE = 1 << 11 };

/* Element i of an operand in the compute type. */
static void *element(const struct experts *x, const void *at, size_t i)
{
    return (char *)at + i * x->size;
}

/* n elements from i on as float32, where they are or widened to `wide`. */
static const float *floats(const struct experts *x, const void *at, size_t i, size_t n, float *wide)
{
    if (!x->half)
        return (const float *)at + i;
    cpu_vec()->widen(wide, (const uint16_t *)at + i, n);
    return wide;
}

static void swiglu(const struct experts *x, void *h, const void *gate, const void *up, size_t n)
{
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        const size_t m = n - i < PIECE ? n - i : PIECE;
        float wide[2][PIECE];
        const float *g = floats(x, gate, i, m, wide[0]), *u = floats(x, up, i, m, wide[1]);
        cpu_gated(x->a->attrs, x->half ? wide[0] : (float *)h + i, g, u, m);
        if (x->half)
            v->round((uint16_t *)h + i, wide[0], m);
    }
}

static void swiglu_grad(const struct experts *x, void *const d[2], const void *gate, const void *up, const void *dh,
                        size_t n)
{
    static const float *const none[2];
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < n; i += PIECE) {
        const size_t m = n - i < PIECE ? n - i : PIECE;
        float wide[3][PIECE], out[2][PIECE];
        const float *g = floats(x, gate, i, m, wide[0]), *u = floats(x, up, i, m, wide[1]),
                    *dy = floats(x, dh, i, m, wide[2]);
        float *const at[2] = { x->half ? out[0] : (float *)d[0] + i, x->half ? out[1] : (float *)d[1] + i };
        cpu_gated_grad(x->a->attrs, at, none, g, u, dy, m);
        for (int k = 0; k < 2 && x->half; k++)
            v->round((uint16_t *)d[k] + i, out[k], m);
    }
}

/* An expert's part of a parameter, or of its gradient: (rows, columns). */
struct weight {
    void *at;
    size_t rows, columns;
    const void *bias; /* (rows); NULL: none */
};

/* Of the parameters or their gradients: G, U, D of an expert. size: bytes of an element; of matrices that are bfloat16 beside float32,
 * theirs. */
static void weights(const struct experts *x, void *const *param, size_t e, size_t size, struct weight w[3])
{
    const bool bias = x->a->attrs->flags & IR_BIAS;
    const size_t bias_size = x->a->weights == IR_BF16 ? sizeof(float) : size;
    for (int i = 0; i < 3; i++) {
        const size_t rows = i == 2 ? x->c : x->f, columns = i == 2 ? x->f : x->c;
        if (param[i])
            w[i] = (struct weight){ (char *)param[i] + e * x->f * x->c * size, rows, columns,
                                    bias && param[3 + i] ? (char *)param[3 + i] + e * rows * bias_size
                                                         : NULL }; /* BI has none */
    }
}

/* Y (n,rows) = X (n,columns) W' + bias. */
static void times_transposed(const struct experts *x, void *y, const void *in, const struct weight *w, size_t n)
{
    cpu_gemm(&(struct gemm){ .m = n,
                             .n = w->rows,
                             .k = w->columns,
                             .a = as_is(in, w->columns),
                             .b = turned(w->at, w->columns),
                             .c = y,
                             .ldc = w->rows,
                             .bias = w->bias,
                             .half = x->half,
                             .half_b = x->a->weights == IR_BF16,
                             .few = x->a->generates });
}

/* Y (n,columns) = start + X (n,rows) W; x->sum is float32. */
static void times(const struct experts *x, void *y, const void *start, const void *in, const struct weight *w, size_t n)
{
    cpu_gemm(&(struct gemm){ .m = n,
                             .n = w->columns,
                             .k = w->rows,
                             .a = as_is(in, w->rows),
                             .b = as_is(w->at, w->columns),
                             .c = y,
                             .ldc = w->columns,
                             .start = start,
                             .half = x->half,
                             .wide = y == x->sum });
}

/* dW = X' Y, X (n,rows), Y (n,columns), added to what is there if `add`. */
static void weight_grad(const struct experts *x, const struct weight *dw, bool add, const void *in, const void *y,
                        size_t n)
{
    cpu_gemm(&(struct gemm){ .m = dw->rows,
                             .n = dw->columns,
                             .k = n,
                             .a = turned(in, dw->rows),
                             .b = as_is(y, dw->columns),
                             .c = dw->at,
                             .ldc = dw->columns,
                             .start = add ? dw->at : NULL,
                             .half = x->half,
                             .wide = true,
                             .far = true });
}

void cpu_experts_f(const struct op_args *a)
{
    const struct experts x = experts(a);
    zero_unused(&x, a->out[0]);
    for (size_t e = 0; e < x.local; e++) {
        struct weight w[3];
        weights(&x, a->param, e, a->weights == IR_BF16 ? sizeof(uint16_t) : x.size, w);
        struct walk walk = { .expert = e };
        for (size_t row, n; next_run(&x, &walk, &row, &n);) {
            const void *in = element(&x, a->in[0], row * x.c);
            void *gate = a->save[0] ? element(&x, a->save[0], row * x.f) : x.tile[0];
            void *up = a->save[1] ? element(&x, a->save[1], row * x.f) : x.tile[1];
            times_transposed(&x, gate, in, &w[0], n);
            times_transposed(&x, up, in, &w[1], n);
            swiglu(&x, x.tile[0], gate, up, n * x.f);
            times_transposed(&x, element(&x, a->out[0], row * x.c), x.tile[0], &w[2], n);
        }
    }
}

/* dX of n rows from the gradients of gate and up, added to dx if `add`. */
static void input_grad(const struct experts *x, void *dx, bool add, void *const grads[2], const struct weight w[2],
                       size_t n)
{
    if (!x->half) {
        times(x, dx, add ? dx : NULL, grads[0], &w[0], n);
        times(x, dx, dx, grads[1], &w[1], n);
        return;
    }
    times(x, x->sum, NULL, grads[0], &w[0], n);
    times(x, x->sum, x->sum, grads[1], &w[1], n);
    const struct vec *v = cpu_vec();
    const size_t elements = n * x->c;
#pragma omp parallel for schedule(static) num_threads(cpu_team(elements, 1))
    for (size_t i = 0; i < elements; i += PIECE) {
        const size_t m = elements - i < PIECE ? elements - i : PIECE;
        float wide[PIECE];
        if (add)
            v->add(x->sum + i, x->sum + i, floats(x, dx, i, m, wide), m);
        v->round((uint16_t *)dx + i, x->sum + i, m);
    }
}

void cpu_experts_bi(const struct op_args *a)
{
    const struct experts x = experts(a);
    void *din = a->din[0], *dh = x.tile[0];
    if (a->acc[0])
        cpu_copy(din, a->acc[0], x.rows * x.c * x.size);
    else
        zero_unused(&x, din);
    for (size_t e = 0; e < x.local; e++) {
        struct weight w[3];
        weights(&x, a->param, e, x.size, w);
        struct walk walk = { .expert = e };
        for (size_t row, n; next_run(&x, &walk, &row, &n);) {
            void *grads[2] = { element(&x, a->stash[0], row * x.f), element(&x, a->stash[1], row * x.f) };
            const void *gate = element(&x, a->save[0], row * x.f), *up = element(&x, a->save[1], row * x.f);
            times(&x, dh, NULL, element(&x, a->dout[0], row * x.c), &w[2], n);
            swiglu_grad(&x, grads, gate, up, dh, n * x.f);
            input_grad(&x, element(&x, din, row * x.c), a->acc[0] != NULL, grads, w, n);
        }
    }
}

/* Biases of expert e, those that are asked for: sums over its rows. */
static void bias_grads(const struct experts *x, size_t e)
{
    for (int i = 0; i < 3; i++) {
        if (!x->a->dparam[3 + i])
            continue;
        const size_t width = i < 2 ? x->f : x->c;
        const void *dy = i < 2 ? x->a->stash[i] : x->a->dout[0];
        float *db = (float *)x->a->dparam[3 + i] + e * width;
        bool add = x->a->dparam_add >> (3 + i) & 1;
        for (size_t s = 0; s < x->segments; s++) {
            size_t n, row = segment(x, e, s, &n);
            if (n == 0)
                continue;
            cpu_column_sums(element(x, dy, row * width), x->half, n, width, db, add);
            add = true;
        }
        if (!add)
            cpu_zero(db, width);
    }
}

/* What run of rows `row` to row + n - 1 adds to the gradient of weight i. */
static void run_grad(const struct experts *x, int i, const struct weight *dw, bool add, size_t row, size_t n)
{
    const struct op_args *a = x->a;
    const size_t f = row * x->f, c = row * x->c;
    if (i < 2) {
        weight_grad(x, dw, add, element(x, a->stash[i], f), element(x, a->in[0], c), n);
        return;
    }
    swiglu(x, x->tile[0], element(x, a->save[0], f), element(x, a->save[1], f), n * x->f);
    weight_grad(x, dw, add, element(x, a->dout[0], c), x->tile[0], n);
}

void cpu_experts_bw(const struct op_args *a)
{
    const struct experts x = experts(a);
    for (size_t e = 0; e < x.local; e++) {
        struct weight dw[3];
        weights(&x, a->dparam, e, sizeof(float), dw);
        bool add[3] = { a->dparam_add & 1, a->dparam_add & 2, a->dparam_add & 4 };
        struct walk walk = { .expert = e };
        for (size_t row, n; next_run(&x, &walk, &row, &n);)
            for (int i = 0; i < 3; i++)
                if (a->dparam[i]) {
                    run_grad(&x, i, &dw[i], add[i], row, n);
                    add[i] = true;
                }
        for (int i = 0; i < 3; i++)
            if (a->dparam[i] && !add[i]) /* an expert without rows */
                cpu_zero(dw[i].at, x.f * x.c);
        if (a->attrs->flags & IR_BIAS)
            bias_grads(&x, e);
    }
}
