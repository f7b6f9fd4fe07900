/* Interprets an operation graph in float64, operation by operation. A tensor is rounded to its type where it is written; virtual
 * ones are kept by memory offset, so that a reshape is a copy. Fewer heads, in products and sums, stand for groups. */
#include <math.h>
#include <stdlib.h>

#include "fake_cudnn.h"
#include "base/number.h"

struct tensor {
    struct fake_desc *d;
    int64_t dim[4], stride[4];
    int type;
    void *memory; /* NULL: virtual */
};

static struct tensor open_tensor(struct fake_desc *d, const struct fake_desc *pack)
{
    struct tensor t = { .d = d, .type = fake_enum(d, CUDNN_ATTR_TENSOR_DATA_TYPE) };
    int64_t extent = 1;
    for (int i = 0; i < 4; i++) {
        t.dim[i] = fake_int(d, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        t.stride[i] = fake_int(d, CUDNN_ATTR_TENSOR_STRIDES, i);
        extent += (t.dim[i] - 1) * t.stride[i];
    }
    if (!fake_bool(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL))
        t.memory = fake_bound(pack, fake_int(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0));
    else if (!d->values)
        d->values = calloc((size_t)extent, sizeof *d->values);
    return t;
}

static double load(const struct tensor *t, int64_t offset)
{
    return t->memory ? fake_load(t->memory, offset, t->type == CUDNN_DATA_BFLOAT16) : t->d->values[offset];
}

static void store(const struct tensor *t, int64_t offset, double x)
{
    if (t->memory)
        fake_store(t->memory, offset, t->type == CUDNN_DATA_BFLOAT16, x);
    else
        t->d->values[offset] = t->type == CUDNN_DATA_BFLOAT16 ? (double)number_from_bf16(number_to_bf16((float)x)) : x;
}

/* Offset of index i of a tensor of size `of`: a dimension that is smaller here is shared by neighbours. */
static int64_t offset(const struct tensor *t, const int64_t i[4], const int64_t of[4])
{
    int64_t at = 0;
    for (int k = 0; k < 4; k++)
        at += (t->dim[k] == of[k] ? i[k] : i[k] * t->dim[k] / of[k]) * t->stride[k];
    return at;
}

static bool next(int64_t i[4], const int64_t dim[4])
{
    for (int k = 3; k >= 0; k--) {
        if (++i[k] < dim[k])
            return true;
        i[k] = 0;
    }
    return false;
}

static double pointwise(int mode, double x, double b, double t)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        return x + b;
    case CUDNN_POINTWISE_SUB:
        return x - b;
    case CUDNN_POINTWISE_MUL:
        return x * b;
    case CUDNN_POINTWISE_DIV:
        return x / b;
    case CUDNN_POINTWISE_EXP:
        return exp(x);
    case CUDNN_POINTWISE_LOG:
        return log(x);
    case CUDNN_POINTWISE_CMP_GE:
        return x >= b;
    case CUDNN_POINTWISE_BINARY_SELECT:
        return t != 0 ? x : b;
    default:
        fake_complain("cuDNN: a pointwise mode that is not known");
        return NAN;
    }
}

static void run_pointwise(const struct fake_desc *op, const struct tensor *t, int n)
{
    const struct fake_desc *how = fake_points(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 0);
    const int mode = fake_enum(how, CUDNN_ATTR_POINTWISE_MODE);
    const struct tensor *y = &t[n - 1];
    int64_t i[4] = { 0 };
    do {
        double in[3] = { 0 };
        for (int k = 0; k + 1 < n; k++)
            in[k] = load(&t[k], offset(&t[k], i, y->dim));
        store(y, offset(y, i, y->dim),
              mode == CUDNN_POINTWISE_GEN_INDEX ? (double)i[fake_int(how, CUDNN_ATTR_POINTWISE_AXIS, 0)]
                                                : pointwise(mode, in[0], in[1], in[2]));
    } while (next(i, y->dim));
}

static void run_product(const struct tensor *a, const struct tensor *b, const struct tensor *c)
{
    int64_t i[4] = { 0 };
    do {
        const int64_t k = a->dim[3];
        int64_t ia[4] = { i[0], i[1], i[2], 0 }, ib[4] = { i[0], i[1], 0, i[3] };
        const int64_t of_a[4] = { c->dim[0], c->dim[1], a->dim[2], k },
                      of_b[4] = { c->dim[0], c->dim[1], k, b->dim[3] };
        double sum = 0;
        for (int64_t l = 0; l < k; l++) {
            ia[3] = ib[2] = l;
            sum += load(a, offset(a, ia, of_a)) * load(b, offset(b, ib, of_b));
        }
        store(c, offset(c, i, c->dim), sum);
    } while (next(i, c->dim));
}

static void run_reduction(const struct fake_desc *op, const struct tensor *x, const struct tensor *y)
{
    const struct fake_desc *how = fake_points(op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, 0);
    const bool most = fake_enum(how, CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_MAX;
    const size_t n = (size_t)(y->dim[0] * y->dim[1] * y->dim[2] * y->dim[3]);
    double *sums = malloc(n * sizeof *sums);
    const struct tensor dense = { .dim = { y->dim[0], y->dim[1], y->dim[2], y->dim[3] },
                                  .stride = { y->dim[1] * y->dim[2] * y->dim[3], y->dim[2] * y->dim[3], y->dim[3],
                                              1 } };
    int64_t i[4] = { 0 };
    for (size_t k = 0; k < n; k++)
        sums[k] = most ? -INFINITY : 0;
    do {
        const double value = load(x, offset(x, i, x->dim));
        double *sum = &sums[offset(&dense, i, x->dim)];
        *sum = most ? fmax(*sum, value) : *sum + value;
    } while (next(i, x->dim));
    do
        store(y, offset(y, i, y->dim), sums[offset(&dense, i, y->dim)]);
    while (next(i, y->dim));
    free(sums);
}

void fake_run(const struct fake_desc *graph, const struct fake_desc *pack)
{
    struct fake_desc *d[FAKE_OPERANDS];
    struct tensor t[FAKE_OPERANDS];
    const int64_t n_ops = graph->at[CUDNN_ATTR_OPERATIONGRAPH_OPS].n;
    for (int64_t o = 0; o < n_ops; o++) {
        const struct fake_desc *op = fake_points(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, o);
        const int n = fake_operands(op, d);
        for (int i = 0; i < n; i++)
            t[i] = open_tensor(d[i], pack);
        if (op->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
            run_pointwise(op, t, n);
        else if (op->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
            run_product(&t[0], &t[1], &t[2]);
        else if (op->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
            run_reduction(op, &t[0], &t[1]);
        else { /* a reshape: the same memory, seen otherwise */
            int64_t i[4] = { 0 };
            do
                store(&t[1], offset(&t[1], i, t[1].dim), load(&t[0], offset(&t[1], i, t[1].dim)));
            while (next(i, t[1].dim));
        }
    }
    for (int64_t o = 0; o < n_ops; o++) {
        const int n = fake_operands(fake_points(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, o), d);
        for (int i = 0; i < n; i++) {
            free(d[i]->values);
            d[i]->values = NULL;
        }
    }
}
